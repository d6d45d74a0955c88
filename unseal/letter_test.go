package unseal_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/unseal"
)

func recipients(t *testing.T, texts ...string) *seal.Recipients {
	t.Helper()
	var list []seal.Named
	for i, text := range texts {
		r, err := seal.ParseRecipient(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, seal.Named{Name: string(rune('a' + i)), Recipient: r})
	}
	to, err := seal.NewRecipients(seal.Recovery, list...)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// TestLetter: what is sealed comes out as it was, with any age program.
func TestLetter(t *testing.T) {
	d := newDesk(t)
	text := []byte(`{"message":{}}`)
	for name, to := range map[string]*seal.Recipients{"x25519": recipients(t, d.x.Recipient().String(), d.stranger.Recipient().String())} {
		file, err := to.Letter(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if bytes.Contains(file, text) {
			t.Fatal("in the clear")
		}
		got, err := d.opener().Letter(t.Context(), file)
		if err != nil || !bytes.Equal(got.Expose(), text) {
			t.Errorf("%s: %v", name, err)
		}
		r, err := age.Decrypt(bytes.NewReader(file), d.stranger)
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := io.ReadAll(r); err != nil || !bytes.Equal(plain, text) {
			t.Errorf("age: %q, %v", plain, err)
		}
		if _, err := d.opener().Letter(t.Context(), file[:len(file)-1]); !errors.Is(err, unseal.ErrDamaged) {
			t.Errorf("cut: %v", err)
		}
	}
	pq, err := recipients(t, d.pq.Recipient().String()).Letter(text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.opener().Letter(t.Context(), pq); !errors.Is(err, unseal.ErrNoIdentity) {
		t.Errorf("another's: %v", err)
	}
	if _, err := unseal.NewOpener(unseal.Age(d.pq, "pq")).Letter(t.Context(), pq); err != nil {
		t.Error(err)
	}
}

// TestLetterIsNoSealing: the door without a binding opens no sealed key, and
// no letter is taken for one.
func TestLetterIsNoSealing(t *testing.T) {
	d := newDesk(t)
	body := seal.SigningBody(path, raw(t, keyHex), nil, nil)
	sealing := sealTo(t, d.x.Recipient().String(), d.signing, body.Expose())
	if _, err := d.opener().Open(t.Context(), sealing, d.signing); err != nil {
		t.Fatal(err)
	}
	if text, err := d.opener().Letter(t.Context(), sealing); !errors.Is(err, unseal.ErrBinding) || text != nil {
		t.Errorf("a sealed key came out: %v", err)
	}
	to := recipients(t, d.x.Recipient().String())
	header, err := d.signing.Header()
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{header, header + string(body.Expose()), "", strings.Repeat("x", seal.MaxLetter+1)} {
		if _, err := to.Letter([]byte(bad)); err == nil {
			t.Errorf("sealed %.40q", bad)
		}
	}
	file, err := to.Letter([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.opener().Open(t.Context(), file, d.signing); !errors.Is(err, unseal.ErrBinding) {
		t.Errorf("a letter is taken for a sealing: %v", err)
	}
	var none *seal.Recipients
	if _, err := none.Letter([]byte("x")); !errors.Is(err, seal.ErrRecipient) {
		t.Errorf("to nobody: %v", err)
	}
}
