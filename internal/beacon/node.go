// Package beacon asks beacon nodes, over the standard API, what the chain
// knows of pubkeys (the Chain port of package deposit), and hands them signed
// exits.
//
// It promises that an answer is given only if every node that was named is of
// the wanted network, is synced and not optimistic, has the same block at one
// recent slot, and says the same of every pubkey in that block's state. Whatever
// else happens is an error that wraps deposit.ErrChain: a node that is down,
// slow, lying in form or cut short is never taken for "no such validator".
//
// It trusts the nodes together: one node alone can hide a front-run, all of
// them must lie to do it when several are named. What they say is not proved
// against the block root. Over http the path to a node can lie as well.
//
// A node's URL may hold credentials (user, path or query); nothing here
// prints more of it than the host. Proxies from the environment are not used,
// and redirects are refused: whoever can set HTTPS_PROXY, or answer 302,
// would choose who gives the answer, and would receive the credentials.
package beacon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/deposit"
)

// Sentinels, by what a person would do about it; compare with errors.Is. All
// of them come wrapped in deposit.ErrChain too.
var (
	ErrURL       = errors.New("not usable as a beacon node's URL")
	ErrNode      = errors.New("didn't answer as a beacon node should")
	ErrNetwork   = errors.New("is of another network")
	ErrNotSynced = errors.New("isn't synced")
	ErrDisagree  = errors.New("the beacon nodes disagree")
)

const (
	// DefaultTimeout is for one request with its answer. The queue of pending
	// deposits, some tens of megabytes, gets four times as much.
	DefaultTimeout = 30 * time.Second

	maxHeaderBytes = 64 << 10
	maxSmallBytes  = 64 << 10  // genesis, syncing, header
	maxEntryBytes  = 4 << 10   // a validator or a pending deposit: 400 to 600 bytes
	maxQueueBytes  = 128 << 20 // pending deposits: 250,000 of them
)

// Node is one beacon node.
type Node struct {
	name   string
	base   url.URL
	client *http.Client
	limit  time.Duration
}

// NewNode reads a node's base URL: http or https, a host, and optionally
// user:password, a path before /eth/v1 and a query that each request carries.
// An error does not repeat the URL, which may hold credentials.
func NewNode(rawURL string, timeout time.Duration) (*Node, error) {
	u, err := url.Parse(rawURL)
	// err would quote a part of the URL.
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Opaque != "" {
		return nil, fmt.Errorf("%w: %w: it must be http://HOST[:PORT] or https://HOST[:PORT], with a path if the provider gives one", deposit.ErrChain, ErrURL)
	}
	if u.Fragment != "" || strings.Contains(rawURL, "#") {
		return nil, fmt.Errorf("%w: %w: %s: it has a # part", deposit.ErrChain, ErrURL, u.Host)
	}
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = strings.TrimRight(u.RawPath, "/")
	return &Node{
		name: u.Host, base: *u, limit: timeout,
		client: &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				Proxy:                  nil,
				DialContext:            (&net.Dialer{Timeout: timeout}).DialContext,
				TLSHandshakeTimeout:    timeout,
				MaxResponseHeaderBytes: maxHeaderBytes,
				DisableCompression:     true, // bounds are of what is sent, and a small answer cannot unpack to a large one
				ForceAttemptHTTP2:      true,
				MaxIdleConnsPerHost:    2,
				IdleConnTimeout:        time.Minute,
			},
		},
	}, nil
}

// String names the node by its host, without credentials.
func (n Node) String() string { return n.name }

// GoString is String, so that %#v does not print the URL.
func (n Node) GoString() string { return n.name }

// same says whether both are one place, whatever the credentials.
func (n *Node) same(m *Node) bool {
	return n.base.Scheme == m.base.Scheme && strings.EqualFold(n.base.Host, m.base.Host) && n.base.Path == m.base.Path
}

// statusError is an answer other than 200.
type statusError int

func (s statusError) Error() string {
	if s >= 300 && s < 400 {
		return fmt.Sprintf("HTTP status %d: a redirect, which is refused", int(s))
	}
	return fmt.Sprintf("HTTP status %d", int(s))
}

func (n *Node) fail(what string, err error) error {
	return fmt.Errorf("%s: %w: %s: %w", n.name, ErrNode, what, err)
}

// ask sends one request and hands its body to read, which must not read on
// after an error. limit bounds the body.
func (n *Node) ask(ctx context.Context, wait time.Duration, method, path string, query url.Values, body any, limit int64, read func(io.Reader) error) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	response, err := n.send(ctx, method, path, query, body)
	if err != nil {
		return n.fail(path, err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		// The body is not shown: an error page may repeat the URL.
		return n.fail(path, statusError(response.StatusCode))
	}
	if !isJSON(response) {
		return n.fail(path, errors.New("the answer isn't application/json"))
	}
	if response.ContentLength > limit {
		return n.fail(path, fmt.Errorf("the answer has %d bytes, more than %d", response.ContentLength, limit))
	}
	bounded := &bound{r: response.Body, left: limit}
	if err := read(bounded); err != nil {
		return n.fail(path, bare(err))
	}
	return nil
}

func isJSON(r *http.Response) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == "application/json"
}

// send sends one request. Its errors don't repeat the URL.
func (n *Node) send(ctx context.Context, method, path string, query url.Values, body any) (*http.Response, error) {
	u := n.base
	u.Path += path
	if u.RawPath != "" { // the provider's path has escapes of its own
		u.RawPath += path
	}
	if len(query) > 0 {
		u.RawQuery = strings.TrimPrefix(u.RawQuery+"&"+query.Encode(), "&")
	}
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		sent = bytes.NewReader(b)
	}
	request, err := http.NewRequestWithContext(ctx, method, u.String(), sent)
	if err != nil {
		return nil, errors.New("the request couldn't be made") // err would quote the URL
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "stakeseal")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := n.client.Do(request)
	return response, bare(err)
}

// bare takes the URL off an error of net/http.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// bound is a reader that fails where io.LimitReader would pretend that the
// answer ended.
type bound struct {
	r    io.Reader
	left int64
}

var errLarge = errors.New("the answer is larger than any right one")

func (b *bound) Read(p []byte) (int, error) {
	if b.left <= 0 {
		// Only an answer that ends exactly here is whole.
		var one [1]byte
		if n, err := b.r.Read(one[:]); n == 0 && err != nil {
			return 0, err
		}
		return 0, errLarge
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	return n, err
}

// get asks for one small JSON value.
func (n *Node) get(ctx context.Context, path string, into any) error {
	return n.ask(ctx, n.limit, http.MethodGet, path, nil, nil, maxSmallBytes, func(r io.Reader) error { return decode(r, into) })
}
