package seal_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
)

var (
	signing  = seal.SigningBinding("hoodi", "order-1", 3, [48]byte{0: 0xa9, 47: 0x01})
	recovery = seal.RecoveryBinding("hoodi", "order-1", "m-0123456789abcdef")
)

// service stands for a key service: it goes with any list and demands the
// facts. Its stanza carries the file key in the clear, for the test to see.
type service struct {
	name   string
	labels func(given []string) []string
	got    []seal.Binding
	bound  int // calls of the plain Bind, which must not happen
}

var _ seal.Labelled = (*service)(nil)

func (s *service) String() string { return "service:" + s.name }
func (s *service) Bind(context.Context, seal.Binding) age.Recipient {
	s.bound++
	return nil
}
func (s *service) BindLabels(_ context.Context, b seal.Binding, labels []string) age.Recipient {
	s.got = append(s.got, b)
	if s.labels != nil {
		labels = s.labels(labels)
	}
	return serviceCall{b, labels}
}

type serviceCall struct {
	b      seal.Binding
	labels []string
}

func (c serviceCall) Wrap([]byte) ([]*age.Stanza, error) {
	return nil, errors.New("age must ask for labels")
}
func (c serviceCall) WrapWithLabels(fileKey []byte) ([]*age.Stanza, []string, error) {
	args := []string{}
	for _, key := range slices.Sorted(maps.Keys(c.b.Context())) {
		args = append(args, key+"="+c.b.Context()[key])
	}
	return []*age.Stanza{{Type: "service", Args: args, Body: bytes.Clone(fileKey)}}, c.labels, nil
}

// serviceIdentity opens the stanza and demands the same facts.
type serviceIdentity struct{ want seal.Binding }

func (s serviceIdentity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	for _, st := range stanzas {
		if st.Type != "service" {
			continue
		}
		for key, value := range s.want.Context() {
			if !slices.Contains(st.Args, key+"="+value) {
				return nil, errors.New("the context differs")
			}
		}
		return st.Body, nil
	}
	return nil, age.ErrIncorrectIdentity
}

// custom is a recipient with any labels.
type custom struct {
	key     string
	labels  []string
	stanzas []*age.Stanza
	err     error
}

func (c *custom) String() string                                   { return c.key }
func (c *custom) Bind(context.Context, seal.Binding) age.Recipient { return c }
func (c *custom) Wrap([]byte) ([]*age.Stanza, error)               { return c.stanzas, c.err }
func (c *custom) WrapWithLabels([]byte) ([]*age.Stanza, []string, error) {
	return c.stanzas, c.labels, c.err
}

// unbindable binds to nothing.
type unbindable struct{}

func (unbindable) String() string                                   { return "unbindable" }
func (unbindable) Bind(context.Context, seal.Binding) age.Recipient { return nil }

// passphrase is the recipient that would let the maker open the file.
type passphrase struct{ *age.ScryptRecipient }

func (passphrase) String() string                                     { return "passphrase" }
func (p passphrase) Bind(context.Context, seal.Binding) age.Recipient { return p.ScryptRecipient }

func named(name string, r seal.Recipient) seal.Named { return seal.Named{Name: name, Recipient: r} }

func TestNewRecipients(t *testing.T) {
	k, k2 := newKeys(t), newKeys(t)
	x, x2 := parse(t, k.x25519Text), parse(t, k2.x25519Text)
	pq, pq2 := parse(t, k.hybridText), parse(t, k2.hybridText)
	tag, tagPQ := parse(t, k.tagText), parse(t, k.tagHybridText)
	one := []*age.Stanza{{Type: "custom"}}
	scrypt, err := age.NewScryptRecipient("p")
	if err != nil {
		t.Fatal(err)
	}
	scrypt.SetWorkFactor(2)
	many := make([]seal.Named, seal.MaxRecipients+1)
	for i := range many {
		many[i] = named("r"+string(rune('a'+i)), parse(t, newX25519(t)))
	}

	for _, c := range []struct {
		name    string
		purpose seal.Purpose
		list    []seal.Named
		class   error
		says    []string
	}{
		{"one", seal.Signing, []seal.Named{named("a", x)}, nil, nil},
		{"classic", seal.Signing, []seal.Named{named("a", x), named("b", x2), named("c", tag)}, nil, nil},
		{"post-quantum", seal.Recovery, []seal.Named{named("a", pq), named("b", pq2), named("c", tagPQ)}, nil, nil},
		{"as many as allowed", seal.Recovery, many[1:], nil, nil},
		{"service with classic", seal.Signing, []seal.Named{named("s", &service{}), named("a", x)}, nil, nil},
		{"service with post-quantum", seal.Signing, []seal.Named{named("a", pq), named("s", &service{})}, nil, nil},
		{"services alone", seal.Signing, []seal.Named{named("s", &service{name: "1"}), named("t", &service{name: "2"})}, nil, nil},

		{"none", seal.Signing, nil, seal.ErrRecipient, []string{"no signing recipient"}},
		{"too many", seal.Signing, many, seal.ErrRecipient, []string{"21", "20"}},
		{"unknown purpose", "backup", []seal.Named{named("a", x)}, seal.ErrBinding, []string{`"backup"`}},
		{"a name twice", seal.Signing, []seal.Named{named("a", x), named("a", x2)}, seal.ErrRecipient, []string{"a is listed twice"}},
		{"a key twice", seal.Signing, []seal.Named{named("anna", x), named("b", x2), named("vault", x)}, seal.ErrRecipient, []string{"anna and vault are the same key"}},
		{"a service twice", seal.Signing, []seal.Named{named("a", &service{}), named("b", &service{})}, seal.ErrRecipient, []string{"same key"}},
		{"a bad name", seal.Signing, []seal.Named{named("Anna Smith", x)}, seal.ErrRecipient, []string{`"Anna Smith"`}},
		{"no name", seal.Signing, []seal.Named{named("", x)}, seal.ErrRecipient, []string{`""`}},
		{"no key", seal.Signing, []seal.Named{named("a", nil)}, seal.ErrRecipient, []string{"a has no key"}},
		{"binds to nothing", seal.Signing, []seal.Named{named("a", unbindable{})}, seal.ErrRecipient, []string{"nothing"}},
		{"wrap fails", seal.Signing, []seal.Named{named("a", &custom{err: errors.New("broken pipe")})}, seal.ErrRecipient, []string{"for a", "broken pipe"}},
		{"no stanza", seal.Signing, []seal.Named{named("a", &custom{})}, seal.ErrRecipient, []string{"no stanza"}},
		{"a passphrase", seal.Signing, []seal.Named{named("a", passphrase{scrypt})}, seal.ErrRecipient, []string{"passphrase"}},

		{"hybrid and x25519", seal.Signing, []seal.Named{named("anna", pq), named("vault", x)}, seal.ErrMixed, []string{"anna (post-quantum)", "vault (classic)", "quantum computer"}},
		{"x25519 and hybrid", seal.Signing, []seal.Named{named("anna", x), named("vault", pq)}, seal.ErrMixed, []string{"vault (post-quantum)", "anna (classic)"}},
		{"several on each side", seal.Signing, []seal.Named{named("a", x), named("b", pq), named("c", tag), named("d", tagPQ)}, seal.ErrMixed, []string{"b, d (post-quantum)", "a, c (classic)"}},
		{"tag and hybrid", seal.Signing, []seal.Named{named("a", tag), named("b", pq)}, seal.ErrMixed, []string{"b (post-quantum)", "a (classic)"}},
		{"a service makes no peace", seal.Signing, []seal.Named{named("s", &service{}), named("a", x), named("b", pq)}, seal.ErrMixed, []string{"b (post-quantum)", "a (classic)"}},
		{"other labels", seal.Signing, []seal.Named{named("a", x), named("b", &custom{"k", []string{"alone"}, one, nil})}, seal.ErrMixed, []string{"a (classic)", `b (labelled ["alone"])`}},
		{"labels in another order", seal.Signing, []seal.Named{named("a", &custom{"k", []string{"x", "y"}, one, nil}), named("b", &custom{"l", []string{"y", "x"}, one, nil})}, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := seal.NewRecipients(c.purpose, c.list...)
			if c.class == nil {
				if err != nil {
					t.Fatal(err)
				}
				if r.Purpose() != c.purpose || len(r.Names()) != len(c.list) || r.Names()[0].Name != c.list[0].Name {
					t.Errorf("list %v of %s", r.Names(), r.Purpose())
				}
				return
			}
			if r != nil || !errors.Is(err, c.class) {
				t.Fatalf("got %v, %v", r, err)
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("error %q does not say %q", err, s)
				}
			}
		})
	}
}

func newX25519(t testing.TB) string {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id.Recipient().String()
}

func open(t *testing.T, file []byte, id age.Identity) string {
	t.Helper()
	r, err := age.Decrypt(bytes.NewReader(file), id)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Every recipient of a list opens the file, to exactly header and body.
func TestSeal(t *testing.T) {
	k, k2 := newKeys(t), newKeys(t)
	body := secret.Copy([]byte("canary: body\n"))
	for _, c := range []struct {
		name   string
		texts  []string
		openBy []age.Identity
		b      seal.Binding
		head   string
	}{
		{"classic", []string{k.x25519Text, k2.x25519Text, k.tagText}, []age.Identity{k.x25519, k2.x25519}, signing,
			"stakeseal sealed signing v1\nnetwork: hoodi\norder: order-1\nindex: 3\npubkey: a9" + strings.Repeat("0", 92) + "01\n\n"},
		{"post-quantum", []string{k.hybridText, k2.hybridText, k.tagHybridText}, []age.Identity{k.hybrid, k2.hybrid}, recovery,
			"stakeseal sealed recovery v1\nnetwork: hoodi\norder: order-1\nmnemonic-id: m-0123456789abcdef\n\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var list []seal.Named
			for i, text := range c.texts {
				list = append(list, named("r"+string(rune('0'+i)), parse(t, text)))
			}
			r, err := seal.NewRecipients(c.b.Purpose, list...)
			if err != nil {
				t.Fatal(err)
			}
			file, err := r.Seal(t.Context(), c.b, body)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(file, []byte("age-encryption.org/v1\n")) || bytes.Contains(file, []byte("canary")) || bytes.Contains(file, []byte("hoodi")) {
				t.Error("not an age file, or one that shows its content")
			}
			for _, id := range c.openBy {
				if got := open(t, file, id); got != c.head+"canary: body\n" {
					t.Errorf("opens to %q", got)
				}
			}
			again, err := r.Seal(t.Context(), c.b, body)
			if err != nil || bytes.Equal(again, file) {
				t.Errorf("two sealings are equal (%v)", err)
			}
		})
	}
	if string(body.Expose()) != "canary: body\n" {
		t.Error("Seal changed the caller's body")
	}
}

// A key service goes with either kind, and the facts reach it.
func TestLabelled(t *testing.T) {
	k := newKeys(t)
	for _, c := range []struct {
		name  string
		texts []string
		id    age.Identity
	}{
		{"with classic", []string{k.x25519Text, k.tagText}, k.x25519},
		{"with post-quantum", []string{k.hybridText, k.tagHybridText}, k.hybrid},
		{"alone", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, s2 := &service{name: "1"}, &service{name: "2"}
			list := []seal.Named{named("s", s)}
			for i, text := range c.texts {
				list = append(list, named("r"+string(rune('0'+i)), parse(t, text)))
			}
			list = append(list, named("s2", s2))
			r, err := seal.NewRecipients(seal.Signing, list...)
			if err != nil {
				t.Fatal(err)
			}
			if len(s.got)+s.bound != 0 {
				t.Error("a trial called the service")
			}
			file, err := r.Seal(t.Context(), signing, secret.Copy([]byte("body")))
			if err != nil {
				t.Fatal(err)
			}
			if len(s.got) != 1 || s.got[0] != signing || s.bound != 0 {
				t.Errorf("the service was bound to %+v, and %d times without labels", s.got, s.bound)
			}
			if got := open(t, file, serviceIdentity{signing}); !strings.HasSuffix(got, "\n\nbody") {
				t.Errorf("opens to %q", got)
			}
			other := signing
			other.Index = "4"
			if _, err := age.Decrypt(bytes.NewReader(file), serviceIdentity{other}); err == nil {
				t.Error("the context did not reach the stanza")
			}
			if c.id != nil {
				open(t, file, c.id)
			}
		})
	}

	// One that returns other labels than it was given spoils the file, aloud.
	for name, labels := range map[string]func([]string) []string{
		"drops them": func([]string) []string { return nil },
		"adds one":   func(l []string) []string { return append(l, "more") },
	} {
		r, err := seal.NewRecipients(seal.Signing, named("a", parse(t, k.hybridText)), named("s", &service{labels: labels}))
		if err != nil {
			t.Fatal(err)
		}
		if file, err := r.Seal(t.Context(), signing, secret.Copy([]byte("body"))); err == nil || file != nil {
			t.Errorf("%s: sealed", name)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	k := newKeys(t)
	r, err := seal.NewRecipients(seal.Signing, named("a", parse(t, k.x25519Text)))
	if err != nil {
		t.Fatal(err)
	}
	bad := signing
	bad.Order = "order 1"
	ended, end := context.WithCancel(t.Context())
	end()
	huge := &custom{key: "huge", stanzas: []*age.Stanza{{Type: "huge", Body: make([]byte, seal.MaxFile)}}}
	large, err := seal.NewRecipients(seal.Signing, named("a", huge))
	if err != nil {
		t.Fatal(err)
	}
	fickle := &custom{key: "fickle", stanzas: []*age.Stanza{{Type: "x"}}}
	broken, err := seal.NewRecipients(seal.Signing, named("a", fickle))
	if err != nil {
		t.Fatal(err)
	}
	refused := errors.New("access denied")
	fickle.err = refused
	body := secret.Copy([]byte("canary"))

	for _, c := range []struct {
		name  string
		r     *seal.Recipients
		ctx   context.Context
		b     seal.Binding
		body  *secret.Bytes
		class error
	}{
		{"no list", nil, t.Context(), signing, body, seal.ErrRecipient},
		{"zero list", &seal.Recipients{}, t.Context(), signing, body, seal.ErrRecipient},
		{"another purpose", r, t.Context(), recovery, body, seal.ErrBinding},
		{"no purpose", r, t.Context(), seal.Binding{}, body, seal.ErrBinding},
		{"a malformed binding", r, t.Context(), bad, body, seal.ErrBinding},
		{"no body", r, t.Context(), signing, nil, seal.ErrSize},
		{"an empty body", r, t.Context(), signing, secret.New(0), seal.ErrSize},
		{"a large body", r, t.Context(), signing, secret.New(seal.MaxBody + 1), seal.ErrSize},
		{"a large file", large, t.Context(), signing, body, seal.ErrSize},
		{"an ended context", r, ended, signing, body, context.Canceled},
		{"a recipient that fails", broken, t.Context(), signing, body, refused},
	} {
		t.Run(c.name, func(t *testing.T) {
			file, err := c.r.Seal(c.ctx, c.b, c.body)
			if file != nil || !errors.Is(err, c.class) {
				t.Fatalf("got %d bytes, %v", len(file), err)
			}
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("the error shows the body: %v", err)
			}
		})
	}
	if _, err := r.Seal(t.Context(), signing, secret.New(seal.MaxBody)); err != nil {
		t.Errorf("the largest body: %v", err)
	}
}

// The plaintext's buffer is wiped whether sealing worked or not.
func TestSealWipes(t *testing.T) {
	k := newKeys(t)
	var seen [][]byte
	defer seal.WatchBuffer(func(b []byte) { seen = append(seen, b) })()
	fickle := &custom{key: "fickle", stanzas: []*age.Stanza{{Type: "x"}}}
	good, err := seal.NewRecipients(seal.Signing, named("a", parse(t, k.x25519Text)))
	if err != nil {
		t.Fatal(err)
	}
	broken, err := seal.NewRecipients(seal.Signing, named("a", fickle))
	if err != nil {
		t.Fatal(err)
	}
	fickle.err = errors.New("access denied")
	body := secret.Copy([]byte("canary"))
	if _, err := good.Seal(t.Context(), signing, body); err != nil {
		t.Fatal(err)
	}
	if _, err := broken.Seal(t.Context(), signing, body); err == nil {
		t.Fatal("sealed")
	}
	if len(seen) != 2 {
		t.Fatalf("%d buffers", len(seen))
	}
	for i, b := range seen {
		if len(b) == 0 || !bytes.Equal(b, make([]byte, len(b))) {
			t.Errorf("buffer %d of %d bytes is not wiped", i, len(b))
		}
	}
}

// TestLetterToService: a recipient that judges by a binding gets no letter.
func TestLetterToService(t *testing.T) {
	to, err := seal.NewRecipients(seal.Recovery, named("kms", &service{name: "kms"}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := to.Letter([]byte("x")); !errors.Is(err, seal.ErrRecipient) {
		t.Errorf("%v", err)
	}
}
