package mnemonic

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha512"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// parseSeeds start FuzzParse; TestFuzzSeeds looks at what they are.
var parseSeeds = []struct{ text, language string }{
	{legal, ""},
	{legal, "english"},
	{strings.ToUpper(legal), "english"},
	{"lega winn than year wave saus wort usef lega winn than yell", ""},
	{strings.Repeat("あいこくしん\u3000", 11) + "あおぞら", "japanese"},
	{strings.Repeat("가격 ", 11) + "가능", "korean"},
	{strings.Repeat("abaisser ", 11) + "abeille", "french"},
	{strings.Repeat("ÁBACO ", 11) + "abierto", "spanish"},
	{strings.Repeat("的 ", 11) + "在", ""},
	{strings.Repeat("abaco ", 12), "italian"},
	{strings.Repeat("abdikace ", 24), "czech"},
	{strings.Repeat("abacate ", 15), "portuguese"},
	{"\ufeff" + legal, ""},
	{legal + "\xff", ""},
	{strings.Repeat("a\u0301\u0323 ", 12), ""},
	{strings.Repeat("\ufdfa ", 12), ""},
	{strings.Repeat(strings.Repeat("\u0301", 31)+" ", 12), ""},
	{strings.Repeat("canary ", 12), ""},
	{"", ""},
	{legal, "klingon"},
}

// said is every text that an error of Parse can have: fixed words, positions,
// counts and names of languages. What matches it holds nothing of the input.
var said = func() *regexp.Regexp {
	language := "(?:" + names(Languages(), "|") + ")"
	list := `(?:word \d+ is|words \d+ and \d+ are|words \d+, \d+(?:,| and) \d+(?: and \d+ more)? are)`
	return regexp.MustCompile(`^(?:` + strings.Join([]string{
		`unknown mnemonic language: it is one of ` + names(Languages(), ", "),
		`text is not valid UTF-8`,
		`wrong number of words: (?:more than 4096 bytes of text|\d+; a mnemonic has 12, 15, 18, 21 or 24)`,
		list + ` (?:not in the ` + language + ` list|too short to tell words of the ` + language + ` list apart: give four letters or whole words)(?:, which fits best)?`,
		`none of the \d+ words is in any of the 10 lists`,
		`checksum does not match: a word is wrong or out of place \(` + language + `(?: or ` + language + `)*\)`,
		`several languages fit \(` + language + `(?: and ` + language + `)+\): name the language`,
	}, "|") + `)$`)
}()

// TestFuzzSeeds fails when the seeds are gone or stop reaching one of the
// outcomes, since a fuzz target without seeds starts empty and says nothing.
func TestFuzzSeeds(t *testing.T) {
	read := map[Language]bool{}
	missing := map[error]bool{ErrLanguage: true, ErrEncoding: true, ErrLength: true, ErrWord: true, ErrChecksum: true}
	for _, s := range parseSeeds {
		p, err := Parse(text(s.text), Language(s.language))
		if err == nil {
			read[p.Language()] = true
		}
		for is := range missing {
			if errors.Is(err, is) {
				delete(missing, is)
			}
		}
	}
	if len(read) < 2 || len(missing) != 0 {
		t.Errorf("the seeds of FuzzParse read %d languages and miss %v", len(read), missing)
	}
	if len(normalizeSeeds) == 0 || len(entropySeeds) == 0 {
		t.Error("a fuzz target has no seeds")
	}
}

// What Parse accepts, it accepts again as it gave it out, as the same words
// in the same language; what it refuses, it refuses without a word of it.
func FuzzParse(f *testing.F) {
	for _, s := range parseSeeds {
		f.Add(s.text, s.language)
	}
	f.Fuzz(func(t *testing.T, s, language string) {
		in := text(s)
		p, err := Parse(in, Language(language))
		if string(in.Expose()) != s {
			t.Fatal("Parse changed its input")
		}
		if err != nil {
			if p != nil || !said.MatchString(err.Error()) {
				t.Fatalf("the error says %q", err)
			}
			return
		}
		out := p.Text()
		if !utf8.Valid(out.Expose()) || !norm.NFKD.IsNormal(out.Expose()) || len(bytes.Split(out.Expose(), []byte(" "))) != p.Words() {
			t.Fatal("Text is not words in NFKD")
		}
		again, err := Parse(out, p.Language())
		if err != nil || !again.Text().Equal(out) || again.Language() != p.Language() {
			t.Fatalf("Text is not read back: %v", err)
		}
	})
}

var entropySeeds = [][]byte{
	make([]byte, 16), bytes.Repeat([]byte{0x7f}, 20), bytes.Repeat([]byte{0x80}, 24),
	bytes.Repeat([]byte{0xff}, 28), []byte("0123456789abcdef0123456789abcdef"),
}

// Every entropy becomes words that are read back, in every language, and
// whose seed is PBKDF2 of the text as a string, if it has one.
func FuzzCompose(f *testing.F) {
	for i, s := range entropySeeds {
		f.Add(s, uint8(i), "TREZOR")
	}
	f.Fuzz(func(t *testing.T, entropy []byte, which uint8, passphrase string) {
		if len(entropy) < 16 || len(entropy) > 32 || len(entropy)%4 != 0 {
			return
		}
		l := lists[int(which)%len(lists)]
		l.load()
		m := l.compose(entropy)
		p, err := Parse(m, l.language)
		if err != nil || !p.Text().Equal(m) {
			t.Fatalf("not read back: %v", err)
		}
		seed := p.Seed(text(passphrase))
		if CheckPassphrase(text(passphrase)) != nil {
			if seed.Len() != 0 {
				t.Fatal("a refused passphrase has a seed")
			}
			return
		}
		want, err := pbkdf2.Key(sha512.New, string(m.Expose()), []byte("mnemonic"+norm.NFKD.String(passphrase)), rounds, SeedSize)
		if err != nil || !bytes.Equal(seed.Expose(), want) {
			t.Fatalf("the seed differs from crypto/pbkdf2 over x/text: %v", err)
		}
	})
}

var normalizeSeeds = []string{
	"", "é", "e\u0323\u0301", "e\u0301\u0323", "각", "\ufdfa", "ǅ", "\u1e9b\u0323", "ﾊﾟ", "\U0001d160", "\u0f73\u0f71",
	"a" + strings.Repeat("\u0301", 30), "a" + strings.Repeat("\u0301", 31), "a\u034f" + strings.Repeat("\u0323\u0301", 16),
}

// What is accepted has the bytes of its runes' own forms and no others, in
// the buffer that was given, and is normalised already; what is refused has a
// joiner more, and more than 30 marks.
func FuzzNormalize(f *testing.F) {
	for _, s := range normalizeSeeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) || len(s) > 1000 {
			return
		}
		var alone []byte
		for _, r := range s {
			alone = append(alone, norm.NFKD.String(string(r))...)
		}
		buf := make([]byte, expansion*len(s))
		form, ok := normalize(buf, []byte(s))
		if len(form) > 0 && &form[0] != &buf[0] {
			t.Fatalf("%+q: the buffer grew", s)
		}
		if !ok {
			if len(form) <= len(alone) || utf8.RuneCount(alone) <= 30 {
				t.Fatalf("%+q was refused", s)
			}
			return
		}
		// Marks are sorted; the bytes stay.
		got := slices.Clone(form)
		slices.Sort(got)
		slices.Sort(alone)
		if !bytes.Equal(got, alone) {
			t.Fatalf("%+q became %+q, not the forms of its runes", s, form)
		}
		again, ok := normalize(make([]byte, expansion*len(form)), form)
		if !ok || !bytes.Equal(again, form) {
			t.Fatalf("%+q is not stable", form)
		}
	})
}
