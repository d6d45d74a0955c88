package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"github.com/stakeseal/stakeseal/secret"
)

// remote is a program with an HTTP API that is given a token: a running
// signer, or a keymanager API. It follows no redirect and asks no proxy:
// whoever could set one would receive the token and what is sent.
type remote struct {
	url   *url.URL
	token *secret.Bytes
	http  *http.Client
}

// remoteFlags name one.
type remoteFlags struct {
	flag  string // that named the URL, such as --signer-url
	url   string
	token string        // a file
	ca    string        // a file
	wait  time.Duration // for one answer

	// keys: what is sent is secret even without a token.
	keys bool
}

func newRemote(f remoteFlags) (*remote, error) {
	u, err := url.Parse(f.url)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, usage("such as http://127.0.0.1:9000", "%s is no http:// or https:// URL", f.flag)
	}
	r := &remote{url: u, http: &http.Client{
		Timeout:       f.wait,
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("it leads elsewhere") },
	}}
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	if f.keys { // other people's servers
		config.MinVersion = tls.VersionTLS12
	}
	if f.ca != "" {
		data, err := readBounded(f.ca, 1<<20)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(data) {
			return nil, usage("", "%s holds no certificate (PEM)", f.ca)
		}
	}
	transport := &http.Transport{TLSClientConfig: config, MaxResponseHeaderBytes: 64 << 10, DisableCompression: true} // and no proxy
	r.http.Transport = transport
	if u.Scheme == "http" && (f.token != "" || f.keys) {
		// Where /etc/hosts does not have localhost, a name server says where it is.
		transport.DialContext = (&net.Dialer{Control: hereOnly}).DialContext
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) && (f.token != "" || f.keys) {
		what := "a token"
		if f.keys {
			what = "keys"
		}
		return nil, usage("use https://", "%s would go to %s in the clear", what, u.Host)
	}
	if f.token == "" {
		return r, nil
	}
	if r.token, err = readToken(f.token); err != nil {
		return nil, err
	}
	return r, nil
}

// errElsewhere: a name of this machine leads to another.
var errElsewhere = errors.New("that is not on this machine, and the connection is not encrypted: use https://")

// hereOnly refuses to connect to another machine than this.
func hereOnly(_, address string, _ syscall.RawConn) error {
	if host, _, err := net.SplitHostPort(address); err != nil || !net.ParseIP(host).IsLoopback() {
		return fmt.Errorf("%s: %w", address, errElsewhere)
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// ask sends a request and returns the answer's status and body, of at most
// limit bytes. Its errors are those of the way there and back, after which
// nobody knows whether the request was heard.
func (r *remote) ask(ctx context.Context, method string, body []byte, limit int64, path ...string) (status int, data []byte, err error) {
	var sent io.Reader
	if body != nil {
		sent = bytes.NewReader(body)
	}
	q, err := http.NewRequestWithContext(ctx, method, r.url.JoinPath(path...).String(), sent)
	if err != nil {
		return 0, nil, err
	}
	if body != nil {
		q.Header.Set("Content-Type", "application/json")
	}
	if r.token != nil {
		q.Header.Set("Authorization", "Bearer "+string(r.token.Expose()))
	}
	answer, err := r.http.Do(q)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	data, err = io.ReadAll(io.LimitReader(answer.Body, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("the answer has more than %d bytes", limit)
	}
	return answer.StatusCode, data, err
}
