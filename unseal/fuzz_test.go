package unseal

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
)

const (
	headSigning  = "stakeseal sealed signing v1\nnetwork: hoodi\norder: order-1\nindex: 3\npubkey: "
	headRecovery = "stakeseal sealed recovery v1\nnetwork: hoodi\norder: order-1\nmnemonic-id: m-0123456789abcdef\n\n"
)

// What parses as a header is, byte for byte, what its binding writes.
func FuzzHeader(f *testing.F) {
	f.Add([]byte(headSigning + strings.Repeat("a9", 48) + "\n\nbody"))
	f.Add([]byte(headRecovery + "body"))
	f.Add([]byte(headRecovery))
	f.Add([]byte("stakeseal sealed signing v2\n"))
	f.Fuzz(func(t *testing.T, plain []byte) {
		before := bytes.Clone(plain)
		b, body, err := parseHeader(plain)
		if !bytes.Equal(before, plain) {
			t.Fatal("parsing changed its input")
		}
		if err != nil {
			if !errors.Is(err, ErrBinding) || len(err.Error()) > 100 {
				t.Fatalf("%v", err)
			}
			return
		}
		head, err := b.Header()
		if err != nil || head+string(body) != string(plain) {
			t.Fatalf("%q reads as %+v and writes as %q (%v)", plain, b, head, err)
		}
	})
}

// What a binding writes parses back to it, and what Check refuses is not
// written.
func FuzzBinding(f *testing.F) {
	f.Add("signing", "hoodi", "order-1", "3", strings.Repeat("a9", 48))
	f.Add("recovery", "hoodi", "order-1", "", "m-0123456789abcdef")
	f.Add("signing", "hoodi\norder: x", "order-1", "3", "")
	f.Fuzz(func(t *testing.T, purpose, network, order, index, subject string) {
		b := seal.Binding{Purpose: seal.Purpose(purpose), Network: network, Order: order, Index: index, Subject: subject}
		head, err := b.Header()
		if (err == nil) != (b.Check() == nil) {
			t.Fatal("Check and Header disagree")
		}
		if err != nil {
			return
		}
		again, body, err := parseHeader([]byte(head + "body"))
		if err != nil || again != b || string(body) != "body" {
			t.Fatalf("%+v reads back as %+v, %q, %v", b, again, body, err)
		}
	})
}

func FuzzSigningBody(f *testing.F) {
	key := strings.Repeat("25", 32)
	f.Add([]byte("path: m/12381/3600/3/0/0\nsecret-key: 0x" + key + "\n"))
	f.Add([]byte("path: m/12381/3600/3/0/0\nsecret-key: 0x" + key + "\nkeystore-password: " + key + "\nkeystore: {\"version\":4}\n"))
	f.Add([]byte("path: m/0\nsecret-key: 0x"))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := parseSigning(body)
		if err != nil {
			if !errors.Is(err, ErrBody) || len(err.Error()) > 60 || p.key != nil || p.password != nil || p.keystore != nil {
				t.Fatalf("%v", err)
			}
			return
		}
		if again := seal.SigningBody(p.path, p.key, p.password, p.keystore); !bytes.Equal(again.Expose(), body) {
			t.Fatalf("%q writes as %q", body, again.Expose())
		}
	})
}

func FuzzRecoveryBody(f *testing.F) {
	f.Add(seal.RecoveryBody([]seal.Fact{{Name: "indexes", Value: "0-9"}, {Name: "language", Value: "english"}}, secret.Copy([]byte("legal winner"))).Expose())
	f.Add([]byte("mnemonic: か\u3099いこく あいさつ\n"))
	f.Add([]byte("plan: 32\nplan: 32\nmnemonic: a\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		facts, words, help, err := parseRecovery(body)
		if err != nil {
			if !errors.Is(err, ErrBody) || len(err.Error()) > 60 || words != nil {
				t.Fatalf("%v", err)
			}
			return
		}
		again := seal.RecoveryBody(facts, words)
		if again == nil {
			t.Fatalf("%q parses, but would not be built", body)
		}
		// The help text is free; all before it is exact.
		n := len(body) - len(help)
		if !bytes.HasPrefix(again.Expose(), body[:n]) || n > 0 && again.Expose()[n] != '\n' {
			t.Fatalf("%q writes as %q", body, again.Expose())
		}
	})
}

// No file makes Open panic, return a body without being right, or fail outside
// its classes.
func FuzzOpen(f *testing.F) {
	id, err := age.ParseX25519Identity("AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX")
	if err != nil {
		f.Fatal(err)
	}
	b := seal.RecoveryBinding("hoodi", "order-1", "m-0123456789abcdef")
	r, err := seal.ParseRecipient(id.Recipient().String())
	if err != nil {
		f.Fatal(err)
	}
	list, err := seal.NewRecipients(seal.Recovery, seal.Named{Name: "anna", Recipient: r})
	if err != nil {
		f.Fatal(err)
	}
	file, err := list.Seal(f.Context(), b, secret.Copy([]byte("body")))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file)
	f.Add(file[:100])
	f.Add([]byte("age-encryption.org/v1\n-> X25519 a\n\n---"))
	f.Fuzz(func(t *testing.T, file []byte) {
		body, err := NewOpener(Age(id, "anna")).Open(t.Context(), file, b)
		if err == nil {
			if string(body.Expose()) != "body" {
				t.Fatal("another body")
			}
			return
		}
		if body != nil || !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNoIdentity) && !errors.Is(err, ErrBinding) {
			t.Fatalf("%v", err)
		}
	})
}
