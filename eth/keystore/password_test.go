package keystore

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

func TestNormalizePassword(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"ascii", "correct horse", "correct horse"},
		{"empty", "", ""},
		{"the standard's", eipPassword, "testpassword🔑"},
		{"newline of a file", "secret\r\n", "secret"},
		{"every C0", "a\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1fb", "ab"},
		{"DEL", "a\x7fb", "ab"},
		{"C1", "a\u0080\u0085\u0090\u009fb", "ab"},
		{"space stays", " a b ", " a b "},
		{"no-break space becomes a space", "a\u00a0b", "a b"},
		{"beside the controls", "\u0020\u007e\u00a1", "\u0020\u007e\u00a1"},
		{"composed", "\u00e9\u212b", "e\u0301A\u030a"},
		{"decomposed", "e\u0301", "e\u0301"},
		{"marks are ordered", "a\u0301\u0323", "a\u0323\u0301"},
		{"ligature and circled", "\ufb01\u2460", "fi1"},
		{"hangul", "\uac01", "\u1100\u1161\u11a8"},
		{"full width", "\uff21\uff11", "A1"},
		{"the longest expansion", strings.Repeat("\ufdfa", 100), strings.Repeat("\u0635\u0644\u0649 \u0627\u0644\u0644\u0647 \u0639\u0644\u064a\u0647 \u0648\u0633\u0644\u0645", 100)},
		{"a joiner of one's own", "a\u034fb", "a\u034fb"},
		{"30 marks", "a" + strings.Repeat("\u0301", 30), "a" + strings.Repeat("\u0301", 30)},
		{"controls go after NFKD", "e\x00\u0301", "e\u0301"},
	} {
		in := text2(c.in)
		got, err := NormalizePassword(in)
		if err != nil || string(got.Expose()) != c.want {
			t.Errorf("%s: %q, %v, want %q", c.name, got.Expose(), err, c.want)
		}
		if string(in.Expose()) != c.in {
			t.Errorf("%s: the caller's password was changed", c.name)
		}
	}
	for _, c := range []struct{ name, in string }{
		{"not UTF-8", "pass\xffword"},
		{"half a rune", "pass\xc3"},
		{"a surrogate", "\xed\xa0\x80"},
		{"31 marks", "a" + strings.Repeat("\u0301", 31)},
		{"too long", strings.Repeat("a", maxPassword+1)},
	} {
		got, err := NormalizePassword(text2(c.in))
		if !errors.Is(err, ErrInput) || got != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if strings.Contains(err.Error(), c.in) || strings.Contains(err.Error(), "pass\xff") {
			t.Errorf("%s: the error shows the password", c.name)
		}
	}
	if got, err := NormalizePassword(nil); err != nil || got.Len() != 0 {
		t.Errorf("nil: %v", err)
	}
}

// TestExpansion shows that the buffer never has to grow: no rune's NFKD is
// longer than the assumed factor.
func TestExpansion(t *testing.T) {
	var in, out [64]byte
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		n := utf8.EncodeRune(in[:], r)
		if long := len(norm.NFKD.Append(out[:0], in[:n]...)); long > expansion*n {
			t.Fatalf("%U takes %d bytes and %d in NFKD", r, n, long)
		}
	}
}

// FuzzNormalizePassword: the result is UTF-8 without control characters and
// equals NFKD, filtered the plain way.
func FuzzNormalizePassword(f *testing.F) {
	f.Add([]byte(eipPassword))
	f.Add([]byte("e\x00\u0301\u0085\x7f\n"))
	f.Add([]byte("\ufdfa\uac01"))
	f.Add([]byte("\xff"))
	f.Add([]byte("a" + strings.Repeat("\u0301", 31)))
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := NormalizePassword(text2(string(in)))
		if err != nil {
			if !errors.Is(err, ErrInput) {
				t.Fatalf("error of another class: %v", err)
			}
			if len(in) > 8 && bytes.Contains([]byte(err.Error()), in) {
				t.Fatalf("the error shows the password: %v", err)
			}
			return
		}
		want := strings.Map(func(r rune) rune {
			if unicode.Is(unicode.Cc, r) {
				return -1
			}
			return r
		}, norm.NFKD.String(string(in)))
		if string(got.Expose()) != want || !utf8.Valid(got.Expose()) {
			t.Fatalf("%q becomes %q, want %q", in, got.Expose(), want)
		}
	})
}
