package mnemonic

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// What the sizes of the buffers and the search for joiners rest on: no rune
// has a longer form than the assumed factor, or an empty one, or one with a
// joiner in it.
func TestEveryRune(t *testing.T) {
	var in, out [64]byte
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		n := utf8.EncodeRune(in[:], r)
		form := norm.NFKD.Append(out[:0], in[:n]...)
		if len(form) == 0 || len(form) > expansion*n {
			t.Fatalf("%U takes %d bytes and %d in NFKD", r, n, len(form))
		}
		if bytes.Contains(form, joiner) && !bytes.Equal(in[:n], joiner) {
			t.Fatalf("%U has a joiner in NFKD", r)
		}
	}
}

// More than 30 marks: x/text puts a joiner in, the standard does not.
func TestLongRunOfMarks(t *testing.T) {
	marks := func(n int) string { return strings.Repeat("\u0301", n) }
	for _, c := range []struct {
		in, want string // "" refused
	}{
		{"a" + marks(30), "a" + marks(30)},
		{"a" + marks(31), ""},
		{marks(31), ""},
		{"a" + marks(29) + "\u0323", "a\u0323" + marks(29)},
		{"á" + marks(30), ""}, // composed, with one of its own
		{"a" + marks(30) + "b" + marks(30), "a" + marks(30) + "b" + marks(30)},                   // not in a row
		{"a" + marks(30) + "\u034f" + marks(30), "a" + marks(30) + "\u034f" + marks(30)},         // the owner's joiner
		{"\u034f" + marks(30) + "\u034f" + marks(31), ""},                                        // and one of x/text
		{strings.Repeat("각", 31), strings.Repeat("\u1100\u1161\u11a8", 31)},                      // jamo, but whole syllables
		{strings.Repeat("\ufdfa", 40), strings.Repeat(norm.NFKD.String("\ufdfa"), 40)},           // the longest expansion
		{strings.Repeat("\U0001d160", 10), strings.Repeat("\U0001d158\U0001d165\U0001d16e", 10)}, // a letter with two marks
	} {
		form, ok := normalize(make([]byte, expansion*len(c.in)), []byte(c.in))
		if ok != (c.want != "") || ok && string(form) != c.want {
			t.Errorf("%+q became %+q, %v, want %+q", c.in, form, ok, c.want)
		}
	}
}

// A word beyond any list is an empty one, and leaves no half of itself.
func TestReadRefused(t *testing.T) {
	var w typed
	for _, refused := range []string{
		strings.Repeat("a", maxWord+1),
		"\ufdfa\ufdfa",            // 33 bytes each
		strings.Repeat("Ⱥ", 30),   // lower case is a byte longer
		strings.Repeat("𝐚", 65),   // the most runes
		strings.Repeat("a", 4096), // the longest text that Parse takes
		strings.Repeat("\ufdfa", 1365),
		strings.Repeat("\u0301", 31), // a joiner more is 64 bytes
	} {
		w.read([]byte("before"))
		w.read([]byte(refused))
		if len(w.word) != 0 || len(w.base) != 0 {
			t.Errorf("%+q was read as %+q", refused, w.word)
		}
		// Normalised, it would outgrow the buffer that is wiped.
		if len(refused) > maxRaw && !bytes.HasPrefix(w.form[:], []byte("before")) {
			t.Errorf("%d bytes were normalised", len(refused))
		}
	}
	for _, longest := range []string{strings.Repeat("a", maxWord), strings.Repeat("𝐚", maxWord)} {
		w.read([]byte(longest))
		if string(w.word) != strings.Repeat("a", maxWord) || w.letters != maxWord {
			t.Errorf("read %d bytes, %d letters, want %d", len(w.word), w.letters, maxWord)
		}
	}
}
