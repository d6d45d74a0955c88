package mnemonic

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha512"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

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
	thirty := "a" + strings.Repeat("\u0301", 30)
	for s, normal := range map[string]string{
		"é": "e\u0301", "ﬁ": "fi", "각": "\u1100\u1161\u11a8", "ガ\u3000": "\u30ab\u3099 ", "Ａ": "A",
		"q\u0307\u0323": "q\u0323\u0307", "\u0301a": "\u0301a", thirty: thirty,
	} {
		want, err := pbkdf2.Key(sha512.New, legal, []byte("mnemonic"+normal), rounds, SeedSize)
		if err != nil {
			t.Fatal(err)
		}
		in := text(s)
		if got := p.Seed(in); !bytes.Equal(got.Expose(), want) {
			t.Errorf("%q: differs from PBKDF2 over %q", s, normal)
		}
		if string(in.Expose()) != s {
			t.Errorf("%q: Seed changed the passphrase", s)
		}
	}
	for s, says := range map[string]string{
		"\xff": "it is not valid UTF-8", "a\xed\xa0\x80": "it is not valid UTF-8", "\xc3": "it is not valid UTF-8",
		"a" + strings.Repeat("\u0301", 31): "it has more than 30 combining marks in a row",
	} {
		if err := CheckPassphrase(text(s)); !errors.Is(err, ErrPassphrase) || err.Error() != "unusable passphrase: "+says {
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

// Where crypto/pbkdf2 refuses, there is no seed, and none of other words.
func TestSeedUnderFIPSOnly(t *testing.T) {
	if os.Getenv("STAKESEAL_TEST_FIPS") == "" {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		child := exec.Command(self, "-test.run=^TestSeedUnderFIPSOnly$", "-test.v")
		child.Env = append(os.Environ(), "STAKESEAL_TEST_FIPS=1", "GODEBUG=fips140=only")
		if out, err := child.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS")) {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	p, err := Parse(text(legal), English)
	if err != nil {
		t.Fatal(err)
	}
	for passphrase, want := range map[string]int{"": 0, "7 bytes": 0, "8 bytes.": SeedSize} {
		if got := p.Seed(text(passphrase)).Len(); got != want {
			t.Errorf("%q: a seed of %d bytes, want %d", passphrase, got, want)
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
