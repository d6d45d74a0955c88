package signer

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stakeseal/stakeseal/docs/openapi"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/duty"
	"github.com/stakeseal/stakeseal/slashing"
)

// maxBody bounds a request: the largest is an execution payload envelope in
// hex. Bodies over smallBody take turns, and of small ones so many are read at
// once, so that many at once hold no memory: over HTTP/2 one connection brings a
// thousand.
const (
	maxBody   = 32 << 20
	smallBody = 64 << 10
	largeOnes = 4
	smallOnes = 2048
	tinyBody  = 4 << 10 // an attestation has 700 bytes
)

// Service is what the API serves.
type Service struct {
	Signer *Signer
	// Clients says who asks; see Clients.
	Clients *Clients
	// Hosts are the names under which the service may be asked for: a page in
	// somebody's browser that resolves its own name to this address has
	// another one. Nil: localhost and loopback addresses.
	Hosts []string
	// Reload looks for new and removed keys, at once; nil: nothing to do.
	Reload func() error
	// Checks are asked by /healthcheck, besides the service's own.
	Checks []Check
	// Keymanager brings and takes away keys for the keymanager API; nil: they
	// come and go by their assignments only.
	Keymanager Keymanager
	// Exits knows what an exit needs besides a key; nil: the keymanager API
	// signs none.
	Exits Exits
	// Failed is how many assigned keys could not be opened; nil: none.
	Failed func() int
}

// Check is one thing that must be well for duties to be signed.
type Check struct {
	ID string
	OK func() error
}

// Handler is the API over HTTP.
func (s *Service) Handler() http.Handler {
	a := &api{Service: s, large: make(chan struct{}, largeOnes), small: make(chan struct{}, smallOnes), reloading: make(chan struct{}, 1), managing: make(chan struct{}, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /upcheck", func(w http.ResponseWriter, _ *http.Request) { plainText(w, http.StatusOK, "OK") })
	mux.HandleFunc("GET /healthcheck", a.health)
	mux.HandleFunc("GET /openapi.yaml", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write(openapi.Signer)
	})
	for pattern, handle := range map[string]func(http.ResponseWriter, *http.Request, *Client){
		"POST /api/v1/eth2/sign/{identifier}": a.sign,
		"POST /stakeseal/v1/sign":             a.batch,
		"GET /api/v1/eth2/publicKeys":         a.publicKeys,
		"GET /api/v1/eth2/highWatermark":      a.highWatermark,
		"POST /reload":                        a.reload,
		"GET /reload":                         a.reloaded,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if client, ok := s.known(w, r); ok {
				handle(w, r, client)
			}
		})
	}
	a.keymanager(mux)
	return a.guarded(mux)
}

type api struct {
	*Service
	large     chan struct{}
	small     chan struct{}
	reloading chan struct{}
	managing  chan struct{} // whoever changes keys: one at a time
	last      atomic.Pointer[lastRequest]
}

// guarded looks at what every request must have, and survives a bug in one.
func (a *api) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if v := recover(); v != nil {
				if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
					panic(v)
				}
				// Its value may hold anything: it is neither logged nor sent.
				a.Signer.Log.Error("a bug: a request ended in a panic", "path", r.URL.Path)
				plainText(w, http.StatusInternalServerError, "internal error")
			}
		}()
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		if !a.hostAllowed(r.Host) {
			plainText(w, http.StatusForbidden, "not under this host name")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (a *api) hostAllowed(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if a.Hosts != nil {
		return slices.Contains(a.Hosts, host) || slices.Contains(a.Hosts, "*")
	}
	return loopback(host)
}

func plainText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

// signed answers with a signature. Plain hex unless JSON is asked for by name:
// Prysm sends no Accept and takes text, Lodestar takes nothing but JSON. It is
// written out in one piece with its length: of a thousand requests at one
// moment, what encoding/json and chunks cost is a signature in thirty.
func signed(w http.ResponseWriter, signature eth.Signature, asJSON bool) {
	const head, tail = `{"signature":"0x`, "\"}\n"
	media := "text/plain; charset=utf-8"
	text := make([]byte, 0, len(head)+2*len(signature)+len(tail))
	if asJSON {
		media = "application/json"
		text = append(hex.AppendEncode(append(text, head...), signature[:]), tail...)
	} else {
		text = hex.AppendEncode(append(text, "0x"...), signature[:])
	}
	w.Header().Set("Content-Type", media)
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(text) // whoever left is not told
}

func asJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // whoever left is not told
}

// body reads a request's body. So many are in memory at once, of large ones a
// few: done says that it was taken apart.
func (a *api) body(w http.ResponseWriter, r *http.Request) (data []byte, done func(), ok bool) {
	done = func() {}
	if !isJSON(r.Header.Get("Content-Type")) {
		plainText(w, http.StatusUnsupportedMediaType, "the body must be application/json")
		return nil, done, false
	}
	limit, places := int64(smallBody), a.small
	if r.ContentLength < 0 || r.ContentLength > smallBody {
		limit, places = maxBody, a.large
	}
	select {
	case places <- struct{}{}:
		done = func() { <-places }
	default:
		refuse(w, ErrBusy)
		return nil, done, false
	}
	data, err := readAll(http.MaxBytesReader(w, r.Body, limit), r.ContentLength)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		a.Signer.Metrics.malformed.Inc()
		plainText(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("a body has at most %d bytes", maxBody))
	case err != nil:
		plainText(w, http.StatusBadRequest, "the body could not be read")
	default:
		return data, done, true
	}
	done()
	return nil, func() {}, false
}

// readAll reads a body to its end, into memory of its length where that was
// said and is small. Elsewhere memory grows with what has really come.
func readAll(r io.Reader, length int64) ([]byte, error) {
	if length < 0 || length > tinyBody {
		return io.ReadAll(r)
	}
	data := make([]byte, length)
	_, err := io.ReadFull(r, data)
	return data, err
}

func isJSON(contentType string) bool {
	if contentType == "application/json" { // as nearly everybody writes it
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && media == "application/json"
}

// refuse answers that nothing was signed, and why.
func refuse(w http.ResponseWriter, err error) {
	status := statusOf(err)
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	plainText(w, status, wordsOf(err))
}

func (a *api) sign(w http.ResponseWriter, r *http.Request, c *Client) {
	pubkey, err := eth.ParsePubkey(r.PathValue("identifier"))
	if err != nil {
		a.Signer.Metrics.malformed.Inc()
		plainText(w, http.StatusBadRequest, "the identifier is not a BLS public key: 96 hex digits, with or without 0x")
		return
	}
	data, done, ok := a.body(w, r)
	if !ok {
		return
	}
	request, err := a.parse(data)
	done()
	if err != nil {
		a.Signer.Metrics.malformed.Inc()
		plainText(w, http.StatusBadRequest, err.Error())
		return
	}
	signature, err := a.Signer.Sign(r.Context(), c, Order{pubkey, request})
	if err != nil {
		refuse(w, err)
		return
	}
	signed(w, signature, wantsJSON(r.Header.Values("Accept")))
}

// lastRequest is the body that was read last and what it says.
type lastRequest struct {
	body    []byte
	request *duty.Request
}

// parse reads a request. Since Electra all validators of a slot attest to the
// same data, so a client with a thousand keys sends the same bytes a thousand
// times: the very same bytes say the same, and are read once. A Request is not
// changed by anybody.
func (a *api) parse(body []byte) (*duty.Request, error) {
	if last := a.last.Load(); last != nil && bytes.Equal(last.body, body) {
		return last.request, nil
	}
	request, err := duty.Parse(body)
	if err == nil && len(body) <= smallBody {
		a.last.Store(&lastRequest{body, request})
	}
	return request, err
}

// wantsJSON says whether an Accept header names JSON, or anything.
func wantsJSON(accept []string) bool {
	for _, line := range accept {
		if line == "application/json" {
			return true
		}
		for part := range strings.SplitSeq(line, ",") {
			media, params, err := mime.ParseMediaType(strings.TrimSpace(part))
			if err != nil || media != "application/json" && media != "application/*" && media != "*/*" {
				continue
			}
			if q, err := strconv.ParseFloat(params["q"], 64); err == nil && q == 0 {
				continue
			}
			return true
		}
	}
	return false
}

// statusOf is an error's status, as Web3Signer's clients know them; 403 is
// ours, for what no other answer fits.
func statusOf(err error) int {
	switch {
	case errors.Is(err, ErrUnknownKey):
		return http.StatusNotFound
	case errors.Is(err, slashing.ErrSlashable), errors.Is(err, slashing.ErrUnknownKey):
		return http.StatusPreconditionFailed
	case errors.Is(err, duty.ErrRoot), errors.Is(err, duty.ErrMalformed):
		return http.StatusBadRequest
	case errors.Is(err, ErrRefused):
		return http.StatusForbidden
	case errors.Is(err, ErrBusy), errors.Is(err, ErrStopped):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// wordsOf keeps what went wrong inside (paths, a database's words) from a
// client; the log has it.
func wordsOf(err error) string {
	switch statusOf(err) {
	case http.StatusInternalServerError:
		return "not signed: internal error, see the signer's log"
	case http.StatusServiceUnavailable: // what stands behind is a store's words
		if errors.Is(err, ErrStopped) {
			return ErrStopped.Error()
		}
		return ErrBusy.Error()
	}
	return err.Error()
}

func (a *api) publicKeys(w http.ResponseWriter, _ *http.Request, c *Client) {
	asJSON(w, http.StatusOK, a.Signer.Keys.Pubkeys(c))
}

// highWatermark is empty: no slot is set from which on nothing is signed.
func (a *api) highWatermark(w http.ResponseWriter, _ *http.Request, _ *Client) {
	asJSON(w, http.StatusOK, struct{}{})
}

// reload looks for new and removed keys now; they are also found without it.
func (a *api) reload(w http.ResponseWriter, _ *http.Request, _ *Client) {
	select {
	case a.reloading <- struct{}{}:
	default:
		plainText(w, http.StatusConflict, "a reload is under way")
		return
	}
	go func() {
		defer func() { <-a.reloading }()
		if a.Reload == nil {
			return
		}
		if err := a.Reload(); err != nil {
			a.Signer.Log.Error("reload", "why", err.Error())
		}
	}()
	w.WriteHeader(http.StatusAccepted)
}

func (a *api) reloaded(w http.ResponseWriter, _ *http.Request, _ *Client) {
	status := "idle"
	if len(a.reloading) > 0 {
		status = "running"
	}
	asJSON(w, http.StatusOK, map[string]string{"status": status})
}

// health answers 200 only when duties would be signed.
func (a *api) health(w http.ResponseWriter, _ *http.Request) {
	type check struct {
		ID     string         `json:"id"`
		Status string         `json:"status"`
		Data   map[string]any `json:"data,omitempty"`
	}
	outcome := "UP"
	named := func(id string, err error, data map[string]any) check {
		if err == nil {
			return check{id, "UP", data}
		}
		outcome = "DOWN"
		return check{id, "DOWN", data}
	}
	_, lease := a.Signer.Fence()
	checks := []check{
		named("default-check", nil, nil),
		named("lease", lease, nil),
		named("keys-check", nil, map[string]any{"keys-loaded": a.Signer.Keys.Len(), "error-count": a.failed()}),
	}
	for _, c := range a.Checks {
		checks = append(checks, named(c.ID, c.OK(), nil))
	}
	status := http.StatusOK
	if outcome != "UP" {
		status = http.StatusServiceUnavailable
	}
	asJSON(w, status, struct {
		Status  string  `json:"status"`
		Checks  []check `json:"checks"`
		Outcome string  `json:"outcome"`
	}{outcome, checks, outcome})
}

func (a *api) failed() int {
	if a.Failed == nil {
		return 0
	}
	return a.Failed()
}

// Known lets only known clients through to h: for what is served beside the
// API where others can connect.
func (s *Service) Known(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := s.known(w, r); ok {
			h.ServeHTTP(w, r)
		}
	})
}

// known is who asks; where nobody knows, it has been answered.
func (s *Service) known(w http.ResponseWriter, r *http.Request) (*Client, bool) {
	client, ok := s.Clients.who(r)
	if !ok {
		w.Header().Set("WWW-Authenticate", "Bearer")
		plainText(w, http.StatusUnauthorized, "who asks is not known here")
	}
	return client, ok
}

// Server is an HTTP/1.1 and 2 server with bounds on what a client may take:
// time for its headers and body, connections, headers.
func (s *Service) Server() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           s.Handler(),
		Protocols:         protocols,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       20 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.Signer.Log.Handler(), slog.LevelDebug), // what clients do wrong below HTTP
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 1024},
	}
}
