package signer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/duty"
	"github.com/stakeseal/stakeseal/secret"
	"github.com/stakeseal/stakeseal/slashing"
)

// Right is something that a client may do with the keys themselves. Signing
// is no part of it, and it is no part of signing: a validator client needs
// none of them, and nobody has them by default.
type Right string

const (
	ListKeys   Right = "KEYMANAGER_LIST"
	ImportKeys Right = "KEYMANAGER_IMPORT"
	DeleteKeys Right = "KEYMANAGER_DELETE"
)

// Rights are all of them. Exits are no right of their own: whoever may have
// duty.VoluntaryExit signed may have it signed here.
func Rights() []Right { return []Right{ListKeys, ImportKeys, DeleteKeys} }

// Bounds of one request of the keymanager API.
const (
	MaxKeystores = 256 // to import; scrypt takes half a second of a core each
	MaxDeleted   = 4096
	maxManaged   = 16 << 20 // bytes of a body

	managedTime = 10 * time.Minute
)

// Keymanager changes which keys this signer has. It is asked by one request
// at a time, and must let signing go on meanwhile.
type Keymanager interface {
	// Import takes keys in, each by itself, and answers for each in their
	// order. A key must be sealed and stored, and what was signed with it
	// before must be in the ledger, before it is served: what told says; and
	// where it says nothing, all that can have been signed. It must refuse a
	// key that another signer has.
	Import(ctx context.Context, c *Client, keys []Foreign, told map[eth.Pubkey]slashing.Mark) []Outcome

	// Delete takes keys away, and answers for each in their order. When it
	// returns, nothing is signed with a key that was Deleted, by this process
	// or the next. The marks are those of the keys that were Deleted or are
	// NotActive, as of after that.
	Delete(ctx context.Context, c *Client, pubkeys []eth.Pubkey) ([]Outcome, []slashing.Mark)
}

// Exits is what an exit needs besides the key.
type Exits interface {
	// Index is the validator's index on the chain.
	Index(ctx context.Context, pubkey eth.Pubkey) (uint64, error)
	// Signed notes an exit, before its signature leaves.
	Signed(ctx context.Context, c *Client, pubkey eth.Pubkey, epoch, index uint64) error
}

// Foreign is a key that somebody brings. Its password stays the API's to wipe.
type Foreign struct {
	Keystore []byte // EIP-2335
	Password *secret.Bytes
}

// Outcome is what became of one key.
type Outcome struct {
	Status  Status `json:"status"`
	Message string `json:"message,omitempty"`
}

// Status is an outcome's word in the keymanager API.
type Status string

const (
	Imported  Status = "imported"
	Duplicate Status = "duplicate"
	Deleted   Status = "deleted"
	NotActive Status = "not_active"
	NotFound  Status = "not_found"
	Failed    Status = "error"
)

// keymanager adds the keymanager API (ethereum/keymanager-APIs, v1.1.0).
func (a *api) keymanager(mux *http.ServeMux) {
	mux.HandleFunc("GET /eth/v1/keystores", a.managed(may(ListKeys), a.listKeys))
	mux.HandleFunc("POST /eth/v1/keystores", a.managed(may(ImportKeys), a.alone(a.importKeys)))
	mux.HandleFunc("DELETE /eth/v1/keystores", a.managed(may(DeleteKeys), a.alone(a.deleteKeys)))
	mux.HandleFunc("POST /eth/v1/validator/{pubkey}/voluntary_exit", a.managed(mayExit, a.signExit))
}

func may(right Right) func(*Client) error {
	return func(c *Client) error {
		if !slices.Contains(c.Rights, right) {
			return fmt.Errorf("client %q was not granted %s", c.Name, right)
		}
		return nil
	}
}

func mayExit(c *Client) error {
	if !slices.Contains(c.Operations, duty.VoluntaryExit) {
		return fmt.Errorf("client %q was not granted %s", c.Name, duty.VoluntaryExit)
	}
	return nil
}

// failure answers as the keymanager API does when nothing was done.
func failure(w http.ResponseWriter, status int, format string, args ...any) {
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	asJSON(w, status, struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}{status, fmt.Sprintf(format, args...)})
}

// managed lets those through who may. The API tells no token (401) from one
// that is not known, or is not enough (403).
func (a *api) managed(allowed func(*Client) error, handle func(http.ResponseWriter, *http.Request, *Client)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		// A browser says where a page is from that writes, and sends the
		// user's client certificate with what a page asks for. No page has a
		// part in managing keys.
		if r.Header.Get("Origin") != "" {
			failure(w, http.StatusForbidden, "not for pages in a browser")
			return
		}
		client, ok := a.Clients.who(r)
		none := r.Header.Get("Authorization") == ""
		switch {
		case !ok && none, ok && client == a.Clients.anyone:
			w.Header().Set("WWW-Authenticate", "Bearer")
			failure(w, http.StatusUnauthorized, "this needs a token, or a client certificate")
			return
		case !ok:
			failure(w, http.StatusForbidden, "the token is not known here")
			return
		}
		if err := allowed(client); err != nil {
			a.Signer.Log.Warn("keys not managed", "client", client.Name, "why", err.Error())
			failure(w, http.StatusForbidden, "%v", err)
			return
		}
		handle(w, r, client)
	}
}

// alone lets one request change keys at a time, gives it the time that many
// passwords take, and refuses where keys only follow their assignments or
// this process does not hold the lease.
func (a *api) alone(handle func(http.ResponseWriter, *http.Request, *Client)) func(http.ResponseWriter, *http.Request, *Client) {
	return func(w http.ResponseWriter, r *http.Request, c *Client) {
		if a.Keymanager == nil {
			failure(w, http.StatusNotImplemented, "keys of this signer come and go by their assignments only: stakeseal import keystores, stakeseal assign")
			return
		}
		if _, err := a.Signer.held(0); err != nil {
			failure(w, http.StatusServiceUnavailable, "%v", ErrStopped)
			return
		}
		select {
		case a.managing <- struct{}{}:
			defer func() { <-a.managing }()
		default:
			failure(w, http.StatusServiceUnavailable, "another request is changing keys")
			return
		}
		handle(w, r, c)
	}
}

// patient ends the server's ordinary time limits for a request whose body was
// read: what comes after takes as long as it takes, up to managedTime.
func patient(w http.ResponseWriter, r *http.Request) (context.Context, context.CancelFunc) {
	end := time.Now().Add(managedTime)
	conn := http.NewResponseController(w)
	_ = errors.Join(conn.SetReadDeadline(end.Add(time.Minute)), conn.SetWriteDeadline(end.Add(time.Minute))) // else the limits stay, and end it sooner
	return context.WithDeadline(r.Context(), end)
}

// managedBody reads a body that may hold passwords into one buffer, the
// caller's to wipe.
func managedBody(w http.ResponseWriter, r *http.Request) (*secret.Bytes, bool) {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		failure(w, http.StatusUnsupportedMediaType, "the body must be application/json")
		return nil, false
	}
	size := r.ContentLength
	if size < 0 {
		size = maxManaged
	}
	if size > maxManaged {
		failure(w, http.StatusRequestEntityTooLarge, "a body has at most %d bytes", maxManaged)
		return nil, false
	}
	all := secret.New(int(size) + 1)
	n, err := io.ReadFull(r.Body, all.Expose())
	defer all.Wipe()
	switch {
	case err == nil:
		failure(w, http.StatusRequestEntityTooLarge, "a body has at most %d bytes", maxManaged)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return secret.Copy(all.Expose()[:n]), true
	default:
		failure(w, http.StatusBadRequest, "the body could not be read")
	}
	return nil, false
}

// listKeys lists the keys. What this signer has, whoever may delete keys may
// take from it, also a key that was born here: it stays in the store.
func (a *api) listKeys(w http.ResponseWriter, _ *http.Request, c *Client) {
	type keystore struct {
		Pubkey   eth.Pubkey `json:"validating_pubkey"`
		Path     string     `json:"derivation_path,omitempty"`
		ReadOnly bool       `json:"readonly"`
	}
	list := []keystore{}
	for _, pubkey := range a.Signer.Keys.Pubkeys(c) {
		list = append(list, keystore{pubkey, a.Signer.Keys.Path(pubkey), a.Keymanager == nil})
	}
	asJSON(w, http.StatusOK, struct {
		Data []keystore `json:"data"`
	}{list})
}

// passwords are the texts of a JSON list, each in a buffer of its own; no text
// of them becomes a string, which nobody can wipe.
type passwords []*secret.Bytes

func (p passwords) wipe() {
	for _, one := range p {
		one.Wipe()
	}
}

var errPasswords = errors.New("passwords is no list of texts")

// UnmarshalJSON is given a value that encoding/json has found to be one.
func (p *passwords) UnmarshalJSON(raw []byte) error {
	rest, ok := bytes.CutPrefix(bytes.TrimSpace(raw), []byte("["))
	if !ok {
		return errPasswords
	}
	for {
		rest = bytes.TrimLeft(rest, ", \t\r\n")
		if rest[0] == ']' {
			return nil
		}
		end := 1
		for ; rest[0] == '"' && rest[end] != '"'; end++ {
			if rest[end] == '\\' {
				end++
			}
		}
		var one password
		if len(*p) == MaxKeystores {
			return fmt.Errorf("more than %d passwords", MaxKeystores)
		}
		if rest[0] != '"' || json.Unmarshal(rest[:end+1], &one) != nil {
			return errPasswords
		}
		*p = append(*p, one.text)
		rest = rest[end+1:]
	}
}

type password struct{ text *secret.Bytes }

// UnmarshalText copies a text and wipes where it stood: a part of the body, or
// a buffer that encoding/json made for one with escapes.
func (p *password) UnmarshalText(text []byte) error {
	p.text = secret.Copy(text)
	secret.Wipe(text)
	return nil
}

type importRequest struct {
	Keystores []string  `json:"keystores"`
	Passwords passwords `json:"passwords"`
	Slashing  *string   `json:"slashing_protection"`
}

func parseImport(body []byte) (q importRequest, err error) {
	// Its words may repeat what stands in the body.
	if json.Unmarshal(body, &q) != nil {
		err = errors.New("the body is not as the keymanager API has it: {keystores: [..], passwords: [..], slashing_protection}")
	}
	switch {
	case err != nil:
	case len(q.Keystores) != len(q.Passwords):
		err = fmt.Errorf("there are %d keystores and %d passwords", len(q.Keystores), len(q.Passwords))
	case len(q.Keystores) > MaxKeystores:
		err = fmt.Errorf("a request has at most %d keystores", MaxKeystores)
	}
	if err != nil {
		q.Passwords.wipe()
	}
	return q, err
}

func (a *api) importKeys(w http.ResponseWriter, r *http.Request, c *Client) {
	body, ok := managedBody(w, r)
	if !ok {
		return
	}
	q, err := parseImport(body.Expose())
	body.Wipe()
	if err != nil {
		a.Signer.Metrics.malformed.Inc()
		failure(w, http.StatusBadRequest, "%v", err)
		return
	}
	defer q.Passwords.wipe()
	outcomes := make([]Outcome, len(q.Keystores))
	told, err := a.told(q.Slashing)
	if err != nil {
		// Not a key without its history: whoever sent it meant it to count.
		for i := range outcomes {
			outcomes[i] = Outcome{Failed, err.Error()}
		}
	} else if len(outcomes) > 0 {
		keys := make([]Foreign, len(q.Keystores))
		for i, text := range q.Keystores {
			keys[i] = Foreign{[]byte(text), q.Passwords[i]}
		}
		ctx, end := patient(w, r)
		defer end()
		outcomes = a.Keymanager.Import(ctx, c, keys, told)
	}
	asJSON(w, http.StatusOK, struct {
		Data []Outcome `json:"data"`
	}{outcomes})
}

// told is what a request says that keys signed before; nil: nothing.
func (a *api) told(text *string) (map[eth.Pubkey]slashing.Mark, error) {
	if text == nil || *text == "" {
		return nil, nil
	}
	marks, err := slashing.Read(strings.NewReader(*text), a.Signer.Network.GenesisValidatorsRoot)
	if err != nil {
		return nil, fmt.Errorf("slashing_protection: %w", err)
	}
	told := make(map[eth.Pubkey]slashing.Mark, len(marks))
	for _, m := range marks {
		told[m.Pubkey] = m
	}
	return told, nil
}

func (a *api) deleteKeys(w http.ResponseWriter, r *http.Request, c *Client) {
	body, ok := managedBody(w, r)
	if !ok {
		return
	}
	var q struct {
		Pubkeys []eth.Pubkey `json:"pubkeys"`
	}
	err := json.Unmarshal(body.Expose(), &q)
	body.Wipe()
	if err != nil || len(q.Pubkeys) > MaxDeleted {
		a.Signer.Metrics.malformed.Inc()
		failure(w, http.StatusBadRequest, "the body is not as the keymanager API has it: {pubkeys: [..]}, at most %d", MaxDeleted)
		return
	}
	ctx, end := patient(w, r)
	defer end()
	outcomes, marks := a.Keymanager.Delete(ctx, c, q.Pubkeys)
	var file bytes.Buffer
	if err := slashing.Write(&file, a.Signer.Network.GenesisValidatorsRoot, marks); err != nil {
		failure(w, http.StatusInternalServerError, "the keys are deleted; their history could not be written: ask again")
		return
	}
	if outcomes == nil {
		outcomes = []Outcome{}
	}
	asJSON(w, http.StatusOK, struct {
		Data     []Outcome `json:"data"`
		Slashing string    `json:"slashing_protection"`
	}{outcomes, strings.TrimSpace(file.String())})
}

// signExit signs a voluntary exit and returns it. Nothing is sent to a beacon
// node: that is the caller's to do.
func (a *api) signExit(w http.ResponseWriter, r *http.Request, c *Client) {
	pubkey, err := eth.ParsePubkey(r.PathValue("pubkey"))
	if err != nil {
		failure(w, http.StatusBadRequest, "that is no BLS public key: 96 hex digits, with or without 0x")
		return
	}
	if a.Exits == nil {
		failure(w, http.StatusNotImplemented, "this signer knows no beacon node that could tell a validator's index: name some in home.yaml, or use stakeseal exit sign")
		return
	}
	epoch, known := a.Signer.Epoch()
	if text := r.URL.Query().Get("epoch"); text != "" {
		if epoch, err = strconv.ParseUint(text, 10, 64); err != nil {
			failure(w, http.StatusBadRequest, "epoch is no number")
			return
		}
	} else if !known {
		failure(w, http.StatusBadRequest, "the current epoch of %s is not known here: give it as ?epoch=", a.Signer.Network.Name)
		return
	}
	if !c.Sees(pubkey) || !a.Signer.Keys.Has(pubkey) {
		failure(w, http.StatusNotFound, "%v", ErrUnknownKey)
		return
	}
	index, err := a.Exits.Index(r.Context(), pubkey)
	if err != nil {
		a.Signer.Log.Error("an exit was not signed", "client", c.Name, "pubkey", pubkey.String(), "why", err.Error())
		failure(w, http.StatusInternalServerError, "the validator's index could not be had from the beacon nodes, see the signer's log")
		return
	}
	signed, err := a.exit(r.Context(), c, pubkey, epoch, index)
	if err != nil {
		failure(w, statusOf(err), "%s", wordsOf(err))
		return
	}
	asJSON(w, http.StatusOK, struct {
		Data signedExit `json:"data"`
	}{signed})
}

type signedExit struct {
	Message   exitMessage   `json:"message"`
	Signature eth.Signature `json:"signature"`
}

type exitMessage struct {
	Epoch string `json:"epoch"`
	Index string `json:"validator_index"`
}

// exit has an exit signed like any other request, and noted. The fork version
// in it is Capella's for ever (EIP-7044).
func (a *api) exit(ctx context.Context, c *Client, pubkey eth.Pubkey, epoch, index uint64) (signedExit, error) {
	n := a.Signer.Network
	message := exitMessage{strconv.FormatUint(epoch, 10), strconv.FormatUint(index, 10)}
	version := n.ExitForkVersion.String()
	body, err := json.Marshal(map[string]any{
		"type": duty.VoluntaryExit, "voluntary_exit": message,
		"fork_info": map[string]any{
			"fork":                    map[string]string{"previous_version": version, "current_version": version, "epoch": "0"},
			"genesis_validators_root": n.GenesisValidatorsRoot,
		},
	})
	if err != nil {
		return signedExit{}, err
	}
	request, err := duty.Parse(body)
	if err != nil {
		return signedExit{}, err
	}
	signature, err := a.Signer.Sign(ctx, c, Order{pubkey, request})
	if err == nil {
		err = a.Exits.Signed(context.WithoutCancel(ctx), c, pubkey, epoch, index)
	}
	return signedExit{message, signature}, err
}
