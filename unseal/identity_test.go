package unseal_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/unseal"
)

// asked is an identity that notes what it was bound to.
type asked struct {
	age.Identity
	order *[]string
	name  string
	got   []seal.Binding
}

func (a *asked) String() string { return a.name }
func (a *asked) Bind(_ context.Context, b seal.Binding) age.Identity {
	a.got = append(a.got, b)
	return askedCall{a}
}

type askedCall struct{ a *asked }

func (c askedCall) Unwrap(s []*age.Stanza) ([]byte, error) {
	*c.a.order = append(*c.a.order, c.a.name)
	return c.a.Identity.Unwrap(s)
}

type failing struct {
	key []byte
	err error
}

func (f failing) Unwrap([]*age.Stanza) ([]byte, error) { return f.key, f.err }

// wiping is an identity out of a service: it keeps what it handed out until it
// is told to wipe it.
type wiping struct {
	age.Identity
	handed []byte
	wiped  int
}

func (w *wiping) String() string                                  { return "wiping" }
func (w *wiping) Bind(context.Context, seal.Binding) age.Identity { return (*wipingCall)(w) }

type wipingCall wiping

func (w *wipingCall) Unwrap(s []*age.Stanza) (key []byte, err error) {
	w.handed, err = w.Identity.Unwrap(s)
	return w.handed, err
}

func (w *wipingCall) Wipe() {
	w.wiped++
	clear(w.handed)
}

// The file key that a service handed out is wiped when it has no more use:
// after an opening, and after one that failed behind it.
func TestIdentityIsWiped(t *testing.T) {
	d := newDesk(t)
	file := d.seal(t, d.signing, signingBody(t))
	for name, want := range map[string]seal.Binding{"opened": d.signing, "sealed as something else": d.recovery} {
		w := &wiping{Identity: d.x}
		_, err := unseal.NewOpener(w).Open(t.Context(), file, want)
		if (err == nil) != (name == "opened") {
			t.Errorf("%s: %v", name, err)
		}
		if w.wiped != 1 || len(w.handed) != 16 || !bytes.Equal(w.handed, make([]byte, 16)) {
			t.Errorf("%s: wiped %d times, left %d bytes", name, w.wiped, len(w.handed))
		}
	}
	broken := bytes.Clone(file)
	broken[len(broken)-1] ^= 1
	w := &wiping{Identity: d.x}
	if _, err := unseal.NewOpener(w).Open(t.Context(), broken, d.signing); !errors.Is(err, unseal.ErrDamaged) || w.wiped != 1 {
		t.Errorf("damaged: %v, wiped %d times", err, w.wiped)
	}
}

type unbound struct{}

func (unbound) String() string                                  { return "unbound" }
func (unbound) Bind(context.Context, seal.Binding) age.Identity { return nil }

func TestIdentities(t *testing.T) {
	d := newDesk(t)
	file := d.seal(t, d.signing, signingBody(t))

	// What is wanted reaches the identity, and one that does not fit is passed.
	var order []string
	first := &asked{Identity: d.stranger, order: &order, name: "first"}
	second := &asked{Identity: d.x, order: &order, name: "second"}
	third := &asked{Identity: d.x, order: &order, name: "third"}
	if _, err := unseal.NewOpener(first, second, third).Open(t.Context(), file, d.signing); err != nil {
		t.Fatal(err)
	}
	if strings.Join(order, " ") != "first second" || len(second.got) != 1 || second.got[0] != d.signing {
		t.Errorf("asked %v, bound to %v", order, second.got)
	}

	// A native key is tried before one that may ask a person.
	order = nil
	if _, err := unseal.NewOpener(first, unseal.Age(d.x, "anna")).Open(t.Context(), file, d.signing); err != nil || len(order) != 0 {
		t.Errorf("asked %v, %v", order, err)
	}

	// One that fails is named, with its own error and no class.
	denied := errors.New("access denied")
	for name, id := range map[string]age.Identity{
		"its own error":   failing{nil, denied},
		"a short key":     failing{make([]byte, 15), nil},
		"an empty answer": failing{nil, nil},
	} {
		_, err := unseal.NewOpener(unseal.Age(id, "vault")).Open(t.Context(), file, d.signing)
		if err == nil || !strings.Contains(err.Error(), "vault") {
			t.Fatalf("%s: %v", name, err)
		}
		for _, class := range []error{unseal.ErrNoIdentity, unseal.ErrDamaged, unseal.ErrBinding, unseal.ErrBody} {
			if errors.Is(err, class) {
				t.Errorf("%s: %v is %v", name, err, class)
			}
		}
		if name == "its own error" && !errors.Is(err, denied) {
			t.Errorf("the cause is lost: %v", err)
		}
	}
	if _, err := unseal.NewOpener(unbound{}).Open(t.Context(), file, d.signing); err == nil || !strings.Contains(err.Error(), "unbound") {
		t.Errorf("unbound: %v", err)
	}

	// A wrong file key is found by the header's MAC.
	if _, err := unseal.NewOpener(unseal.Age(failing{make([]byte, 16), nil}, "liar")).Open(t.Context(), file, d.signing); !errors.Is(err, unseal.ErrDamaged) {
		t.Errorf("a wrong file key: %v", err)
	}

	// An identity's own buffer is not ours to wipe.
	kept := bytes.Repeat([]byte{9}, 16)
	_, _ = unseal.NewOpener(unseal.Age(age.NewInjectedFileKeyIdentity(kept), "kept")).Open(t.Context(), file, d.signing)
	if !bytes.Equal(kept, bytes.Repeat([]byte{9}, 16)) {
		t.Error("the identity's buffer was wiped")
	}

	// Who was tried, and what would have been needed.
	_, err := unseal.NewOpener(unseal.Age(d.stranger, "ben"), unseal.Age(d.pq, "carla")).Open(t.Context(), file, d.signing)
	for _, s := range []string{"ben", "carla", "X25519"} {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("the error does not say %s: %v", s, err)
		}
	}
}
