// Package unseal opens what package seal sealed, and nothing else: a file that
// opens, but was sealed as something else, stays shut to the caller. Letters,
// which hold no key and say nothing of what they are, have a door of their own
// that no sealing comes through.
//
// It promises: nothing of a plaintext is returned before every field of its
// header was compared with what the caller asked for, and a signing key not
// before its pubkey was derived again and compared; what is not returned is
// wiped; no error repeats a byte of a plaintext, except public fields that are
// well-formed. Errors fall into classes that a caller may act on differently:
// another identity, another record, another copy of the file.
//
// It trusts the identities it is given and filippo.io/age. A sealing is
// encrypted, not signed: whoever knows the recipients' public keys can make
// one that opens as anything. That a key was born here, its certificate says.
//
// What stays in memory: age's STREAM reader keeps decrypted chunks in buffers
// that cannot be reached from here, and identities keep their keys. An opener
// is a process that cannot be dumped and does not swap.
//
// The generator must never import this package.
package unseal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"filippo.io/age"

	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
)

// Classes of errors; compare with errors.Is. An identity that itself failed (a
// service said no, a plugin went away) gives an error of no class, wrapping
// what the identity returned.
var (
	// ErrNoIdentity: none of the identities opens the file. A stanza that was
	// changed in storage looks the same as one for somebody else.
	ErrNoIdentity = errors.New("none of the identities opens it")
	// ErrBinding: it opens, but was sealed as something else (a *BindingError
	// names the fields), or is no sealing of stakeseal's at all.
	ErrBinding = errors.New("sealed as something else")
	// ErrDamaged: not an age file, or one that was cut or changed.
	ErrDamaged = errors.New("damaged, or not an age file")
	// ErrBody: it opens as what was asked for, but its body is not one that
	// this version reads. Nobody without the recipients' keys could have
	// changed it: a faulty or malicious sealer made it so.
	ErrBody = errors.New("malformed body")
)

// Identity is the private half of a recipient, not yet bound to a file. Bind
// is called anew for each file with what the caller expects it to be, so that
// a key service checks the same facts as the header (an encryption context).
// String names the identity without its secret.
type Identity interface {
	Bind(ctx context.Context, want seal.Binding) age.Identity
	String() string
}

// Age wraps an age identity that ignores what it is bound to.
func Age(id age.Identity, name string) Identity { return &plain{id, name} }

type plain struct {
	id   age.Identity
	name string
}

func (p *plain) Bind(context.Context, seal.Binding) age.Identity { return p.id }
func (p *plain) String() string                                  { return p.name }

// Mismatch is one field that differs. Both values are public and well-formed.
type Mismatch struct {
	Field string // purpose, network, order, index, pubkey, mnemonic-id, secret-key
	Want  string // what the caller asked for
	Found string // what was sealed; for secret-key the pubkey derived from it
}

// BindingError lists the fields that differ. It is an ErrBinding.
type BindingError struct{ Fields []Mismatch }

func (e *BindingError) Error() string {
	parts := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		if f.Field == "secret-key" {
			parts[i] = fmt.Sprintf("its secret key belongs to pubkey %s, not to %s", f.Found, f.Want)
			continue
		}
		parts[i] = fmt.Sprintf("%s is %q, wanted %q", f.Field, f.Found, f.Want)
	}
	return ErrBinding.Error() + ": " + strings.Join(parts, "; ")
}

// Unwrap makes errors.Is(err, ErrBinding) true.
func (e *BindingError) Unwrap() error { return ErrBinding }

// Opener opens sealings with a fixed set of identities. It is safe for
// concurrent use if they are.
type Opener struct{ ids []Identity }

// NewOpener takes the identities in the order to try them; age's own native
// keys are tried before any that asks a person or a service.
func NewOpener(ids ...Identity) *Opener { return &Opener{slices.Clone(ids)} }

// Open returns the body of file, the caller's to wipe, if it was sealed as
// want in every field. want is what the caller knows from elsewhere (the
// record, the request), never what the file or its neighbours say.
func (o *Opener) Open(ctx context.Context, file []byte, want seal.Binding) (*secret.Bytes, error) {
	if err := want.Check(); err != nil {
		return nil, fmt.Errorf("couldn't open: %w", err)
	}
	plain, n, err := o.decrypt(ctx, file, want)
	if err != nil {
		return nil, fmt.Errorf("couldn't open: %w", err)
	}
	defer plain.Wipe()
	found, body, err := parseHeader(plain.Expose()[:n])
	if err != nil {
		return nil, fmt.Errorf("couldn't open: %w", err)
	}
	if err := compare(want, found); err != nil {
		return nil, fmt.Errorf("couldn't open: %w", err)
	}
	if len(body) == 0 {
		return nil, fmt.Errorf("couldn't open: %w: it is empty", ErrBody)
	}
	return secret.Copy(body), nil
}

// decrypt returns a buffer whose first n bytes are the authenticated
// plaintext. age's error texts are left out: they quote the input, which may
// be a plaintext that somebody passed by mistake.
func (o *Opener) decrypt(ctx context.Context, file []byte, want seal.Binding) (*secret.Bytes, int, error) {
	if o == nil || len(o.ids) == 0 {
		return nil, 0, fmt.Errorf("%w: no identity was given", ErrNoIdentity)
	}
	if len(file) > seal.MaxFile {
		return nil, 0, fmt.Errorf("%w: %d bytes, a sealing has at most %d", ErrDamaged, len(file), seal.MaxFile)
	}
	if !bytes.HasPrefix(file, []byte("age-encryption.org/v1\n")) {
		hint := ""
		if bytes.HasPrefix(bytes.TrimSpace(file[:min(len(file), 100)]), []byte("-----BEGIN AGE ENCRYPTED FILE-----")) {
			hint = " (it is armored; a sealing is kept binary)"
		}
		return nil, 0, fmt.Errorf("%w: it does not begin as one%s", ErrDamaged, hint)
	}

	attempts := make([]*attempt, len(o.ids))
	for i, id := range o.ids {
		bound := id.Bind(ctx, want)
		if bound == nil {
			return nil, 0, fmt.Errorf("identity %s binds to nothing", id)
		}
		attempts[i] = &attempt{id: bound, name: id.String()}
		switch bound.(type) {
		case *age.X25519Identity, *age.HybridIdentity:
			attempts[i].native = true
		}
	}
	// age sorts by type as well, but sees only our wrapper.
	slices.SortStableFunc(attempts, func(a, b *attempt) int {
		switch {
		case a.native && !b.native:
			return -1
		case b.native && !a.native:
			return 1
		}
		return 0
	})
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	bound := make([]age.Identity, len(attempts))
	for i, a := range attempts {
		bound[i] = a
	}
	r, err := age.Decrypt(bytes.NewReader(file), bound...)
	// By now the payload key is derived and the file key has no more use.
	for _, a := range attempts {
		secret.Wipe(a.fileKey)
		if w, ok := a.id.(interface{ Wipe() }); ok { // its own copy, out of a service's answer
			w.Wipe()
		}
	}
	if ctx.Err() != nil {
		return nil, 0, ctx.Err()
	}
	if err != nil {
		return nil, 0, classify(err, attempts)
	}

	// Reading into one buffer of sufficient size, as io.ReadAll leaves a copy
	// behind each time it grows.
	plain := newBuffer(len(file))
	n := 0
	for {
		k, err := r.Read(plain.Expose()[n:])
		n += k
		if err == io.EOF {
			return plain, n, nil
		}
		if err != nil || n == len(file) { // a plaintext is shorter than its file
			plain.Wipe()
			return nil, 0, fmt.Errorf("%w: its payload was cut or changed", ErrDamaged)
		}
	}
}

// newBuffer makes the plaintext's buffer; a test looks into it afterwards.
var newBuffer = secret.New

// attempt is an identity that remembers how it failed.
type attempt struct {
	id      age.Identity
	name    string
	native  bool
	failed  error
	fileKey []byte // our copy, which age works with
}

func (a *attempt) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	key, err := a.id.Unwrap(stanzas)
	if a.native {
		defer secret.Wipe(key) // fresh from its AEAD; others may hand out a buffer they keep
	}
	if err == nil && len(key) != 16 {
		err = fmt.Errorf("it returned a file key of %d bytes, not 16", len(key))
	}
	if err != nil {
		if !errors.Is(err, age.ErrIncorrectIdentity) {
			a.failed = err
		}
		return nil, err
	}
	a.fileKey = bytes.Clone(key)
	return a.fileKey, nil
}

// classify turns age's error for the header into one of ours.
func classify(err error, attempts []*attempt) error {
	for _, a := range attempts {
		if a.failed == nil {
			continue
		}
		if a.native { // these fail on malformed stanzas only
			return fmt.Errorf("%w: a recipient stanza is malformed", ErrDamaged)
		}
		return fmt.Errorf("identity %s failed: %w", a.name, a.failed)
	}
	if none, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		names := make([]string, len(attempts))
		for i, a := range attempts {
			names[i] = a.name
		}
		types := none.StanzaTypes
		if len(types) > seal.MaxRecipients {
			types = types[:seal.MaxRecipients]
		}
		kinds := strings.Join(types, ", ")
		return fmt.Errorf("%w: tried %s; the file has stanzas of type %q", ErrNoIdentity, strings.Join(names, ", "), kinds[:min(len(kinds), 200)])
	}
	return fmt.Errorf("%w: its header was cut or changed", ErrDamaged)
}

func compare(want, found seal.Binding) error {
	var e BindingError
	differ := func(field, want, found string) {
		if want != found {
			e.Fields = append(e.Fields, Mismatch{field, want, found})
		}
	}
	differ("purpose", string(want.Purpose), string(found.Purpose))
	differ("network", want.Network, found.Network)
	differ("order", want.Order, found.Order)
	differ("index", want.Index, found.Index)
	subject := "pubkey"
	if want.Purpose == seal.Recovery {
		subject = "mnemonic-id"
	}
	differ(subject, want.Subject, found.Subject)
	if len(e.Fields) > 0 {
		return &e
	}
	return nil
}

// parseHeader reads the head of a plaintext exactly as Binding.Header writes
// it and returns the rest, which shares plain's memory. A line is copied out
// as a public value only behind the right line before it and the right name.
func parseHeader(plain []byte) (b seal.Binding, body []byte, err error) {
	number := 0
	line := func(prefix string, value *string) bool {
		number++
		after, ok := bytes.CutPrefix(plain, []byte(prefix))
		end := bytes.IndexByte(after[:min(len(after), 128)], '\n')
		if !ok || end < 0 {
			return false
		}
		*value, plain = string(after[:end]), after[end+1:]
		return true
	}
	var purpose, empty string
	ok := line("stakeseal sealed ", &purpose)
	if ok {
		switch purpose {
		case "signing v1":
			b.Purpose = seal.Signing
		case "recovery v1":
			b.Purpose = seal.Recovery
		default:
			ok = false
		}
	}
	ok = ok && line("network: ", &b.Network) && line("order: ", &b.Order)
	if b.Purpose == seal.Signing {
		ok = ok && line("index: ", &b.Index) && line("pubkey: ", &b.Subject)
	} else {
		ok = ok && line("mnemonic-id: ", &b.Subject)
	}
	ok = ok && line("", &empty) && empty == ""
	if !ok {
		return seal.Binding{}, nil, fmt.Errorf("%w: line %d is not that of a stakeseal sealing v1", ErrBinding, number)
	}
	if b.Check() != nil {
		return seal.Binding{}, nil, fmt.Errorf("%w: a field of its header is malformed", ErrBinding)
	}
	return b, plain, nil
}
