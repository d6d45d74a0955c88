package mnemonic

import (
	"bytes"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

const (
	// maxWord bounds a normalised word in bytes. The longest of any list has
	// 33 (Korean, eleven jamo of three bytes); what does not fit is in no
	// list.
	maxWord = 64
	// maxRaw bounds a word as it was typed: every rune becomes a byte or
	// more, so that what is longer does not fit either.
	maxRaw = utf8.UTFMax * maxWord
	// expansion is the most that NFKD lengthens UTF-8 (U+FDFA: 3 bytes to
	// 33), so that no buffer grows and leaves a piece behind.
	expansion = 11
)

// typed is one word as it was typed, in form NFKD and lower case.
type typed struct {
	word, base []byte // parts of the buffers below; base is without marks
	letters    int    // base characters
	form       [expansion * maxRaw]byte
	wordBuf    [maxWord]byte
	baseBuf    [maxWord]byte
}

// read normalises one word of valid UTF-8. A word too long for any list, or
// with too many marks, becomes an empty one, which no list holds.
func (t *typed) read(raw []byte) {
	t.word, t.base, t.letters = t.wordBuf[:0], t.baseBuf[:0], 0
	if len(raw) > maxRaw {
		return
	}
	form, ok := normalize(t.form[:], raw)
	for rest := form; ok && len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		rest = rest[size:]
		r = unicode.ToLower(r)
		if len(t.word)+utf8.RuneLen(r) > maxWord {
			ok = false
			break
		}
		t.word = utf8.AppendRune(t.word, r)
		if !isMark(r) {
			t.base = utf8.AppendRune(t.base, r)
			t.letters++
		}
	}
	if !ok {
		t.word, t.base = t.word[:0], t.base[:0]
	}
}

// joiner is U+034F, combining grapheme joiner.
var joiner = []byte(norm.GraphemeJoiner)

// normalize writes the NFKD form of src, which is valid UTF-8, into buf, which
// has expansion times its length, and returns the part that it filled. It
// reports false for more than 30 combining marks in a row: x/text follows the
// Stream-Safe Text Format (UAX #15, section 13) and puts a joiner after 30,
// which other tools' NFKD does not. The seed would be ours alone.
func normalize(buf, src []byte) (form []byte, ok bool) {
	form = norm.NFKD.Append(buf[:0], src...)
	return form, bytes.Count(form, joiner) == bytes.Count(src, joiner)
}
