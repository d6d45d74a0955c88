package mnemonic

import (
	"bytes"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

func nfkd(t *testing.T, s []byte) []byte {
	t.Helper()
	size := decomposedLen(s)
	out, ok := decompose(make([]byte, 0, size), s)
	if !ok || len(out) != size {
		t.Fatalf("%q: measured %d bytes, wrote %d, ok %v", s, size, len(out), ok)
	}
	if size > 0 {
		if _, ok := decompose(make([]byte, 0, size-1), s); ok {
			t.Fatalf("%q fits a byte less", s)
		}
	}
	return out
}

// Every rune alone, and between a letter and marks of other classes, so that
// the sorting is seen too.
func TestEveryRuneDecomposes(t *testing.T) {
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		for _, frame := range [][2]string{{"", ""}, {"a\u0301", "\u0323\u0301"}} {
			in := append(utf8.AppendRune([]byte(frame[0]), r), frame[1]...)
			if got, want := nfkd(t, in), norm.NFKD.Bytes(in); !bytes.Equal(got, want) {
				t.Fatalf("%+q became %+q, want %+q", in, got, want)
			}
		}
	}
}

// More than 30 marks: x/text puts a joiner in, the standard does not.
func TestLongRunOfMarks(t *testing.T) {
	in := append([]byte("a"), bytes.Repeat([]byte("\u0301\u0323"), 40)...)
	want := append(append([]byte("a"), bytes.Repeat([]byte("\u0323"), 40)...), bytes.Repeat([]byte("\u0301"), 40)...)
	if got := nfkd(t, in); !bytes.Equal(got, want) {
		t.Errorf("became %+q, want %+q", got, want)
	}
	if !bytes.Contains(norm.NFKD.Bytes(in), []byte(norm.GraphemeJoiner)) {
		t.Error("x/text puts no joiner in any more: say so in decompose")
	}
}

// A word beyond any list is an empty one, and leaves no half of itself.
func TestReadTooLong(t *testing.T) {
	var w typed
	for _, long := range []string{
		string(bytes.Repeat([]byte("a"), maxWord+1)),
		"\ufdfa\ufdfa",                        // 33 bytes each
		string(bytes.Repeat([]byte("Ⱥ"), 30)), // lower case is a byte longer
	} {
		w.read([]byte(long))
		if len(w.word) != 0 || len(w.base) != 0 {
			t.Errorf("%+q was read as %+q", long, w.word)
		}
	}
	w.read(bytes.Repeat([]byte("a"), maxWord))
	if len(w.word) != maxWord || w.letters != maxWord {
		t.Errorf("read %d bytes, %d letters, want %d", len(w.word), w.letters, maxWord)
	}
}
