package mnemonic

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"

	"github.com/stakeseal/stakeseal/secret"
)

// The standard library's PBKDF2 is the oracle for ours, around the block size
// (where HMAC starts to hash its key) above all.
func TestStretch(t *testing.T) {
	for _, size := range []int{0, 1, 63, 64, 111, 112, 127, 128, 129, 255, 256, 257, 815} {
		for _, salt := range []int{8, 100, 116, 117, 500} {
			password, salt := secret.Random(size).Expose(), secret.Random(salt).Expose()
			want, err := pbkdf2.Key(sha512.New, string(password), salt, rounds, SeedSize)
			if err != nil {
				t.Fatal(err)
			}
			var got [SeedSize]byte
			stretch(got[:], password, append(bytes.Clone(salt), 0, 0, 0, 1))
			if !bytes.Equal(got[:], want) {
				t.Fatalf("password of %d bytes, salt of %d: differs from crypto/pbkdf2", size, len(salt))
			}
		}
	}
}

func TestPassphrase(t *testing.T) {
	p, err := Parse(text(legal), English)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Seed(nil).Equal(p.Seed(text(""))) {
		t.Error("no passphrase and an empty one differ")
	}
	if p.Seed(nil).Len() != SeedSize || p.Seed(nil).Equal(p.Seed(text(" "))) {
		t.Error("the passphrase does not count")
	}
	for _, s := range []string{"é", "ﬁ", "한국어", "ガ\u3000ガ", "Ａ", "q\u0307\u0323"} {
		want, err := pbkdf2.Key(sha512.New, legal, []byte("mnemonic"+norm.NFKD.String(s)), rounds, SeedSize)
		if err != nil {
			t.Fatal(err)
		}
		in := text(s)
		if got := p.Seed(in); !bytes.Equal(got.Expose(), want) {
			t.Errorf("%q: differs from crypto/pbkdf2 over x/text", s)
		}
		if string(in.Expose()) != s {
			t.Errorf("%q: Seed changed the passphrase", s)
		}
	}
	for _, s := range []string{"\xff", "a\xed\xa0\x80", "\xc3"} {
		if err := CheckPassphrase(text(s)); !errors.Is(err, ErrPassphrase) {
			t.Errorf("%q: %v", s, err)
		}
		if p.Seed(text(s)).Len() != 0 {
			t.Errorf("%q: a refused passphrase has a seed", s)
		}
	}
	if CheckPassphrase(nil) != nil || CheckPassphrase(text("é")) != nil {
		t.Error("a good passphrase is refused")
	}
}

// digest and flush empty the block buffer that Reset leaves full.
func TestHashIsWiped(t *testing.T) {
	const canary, printed = "canary-canary", "99 97 110 97 114 121"
	for _, h := range []hash.Hash{sha256.New(), sha512.New()} {
		h.Write([]byte(canary))
		h.Reset()
		if !strings.Contains(fmt.Sprintf("%+v", h), printed) {
			t.Errorf("%T: Reset empties the buffer, or it is not seen: this test shows nothing", h)
		}
		flush(h)
		if strings.Contains(fmt.Sprintf("%+v", h), printed) {
			t.Errorf("%T: holds its input after flush", h)
		}
		digest(h, make([]byte, 0, h.Size()), []byte(canary))
		if strings.Contains(fmt.Sprintf("%+v", h), printed) {
			t.Errorf("%T: holds its input after digest", h)
		}
	}
}

func BenchmarkSeed(b *testing.B) {
	m, err := New(English)
	if err != nil {
		b.Fatal(err)
	}
	p, err := Parse(m, English)
	if err != nil {
		b.Fatal(err)
	}
	passphrase := text("TREZOR")
	b.ReportAllocs()
	for b.Loop() {
		p.Seed(passphrase).Wipe()
	}
}

func BenchmarkParse(b *testing.B) {
	m, err := New(English)
	if err != nil {
		b.Fatal(err)
	}
	for _, language := range []Language{English, ""} {
		name := string(language)
		if name == "" {
			name = "detect"
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p, err := Parse(m, language)
				if err != nil {
					b.Fatal(err)
				}
				p.Wipe()
			}
		})
	}
}
