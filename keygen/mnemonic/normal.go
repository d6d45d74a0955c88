package mnemonic

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// maxWord bounds a normalised word in bytes. The longest of any list has 33
// (Korean, eleven jamo of three bytes); what does not fit is in no list.
const maxWord = 64

// typed is one word as it was typed, in form NFKD and lower case.
type typed struct {
	word, base []byte // parts of the buffers below; base is without marks
	letters    int    // base characters
	form       [maxWord]byte
	wordBuf    [maxWord]byte
	baseBuf    [maxWord]byte
}

// read normalises one word of valid UTF-8. A word too long for any list
// becomes an empty one, which no list holds.
func (t *typed) read(raw []byte) {
	t.word, t.base, t.letters = t.wordBuf[:0], t.baseBuf[:0], 0
	form, ok := decompose(t.form[:0], raw)
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

// decompose appends the NFKD form of src, which is valid UTF-8, to dst within
// dst's capacity, and reports whether it fitted. It follows Unicode chapter
// 3.11: decompose every character fully, then sort each run of marks by
// combining class, keeping the order of equal ones.
//
// norm.Append would do the same with a scratch buffer that we could not wipe,
// and puts U+034F into long runs of marks (UAX #15, stream-safe text), which
// is not NFKD: the seed of such a passphrase would be ours alone.
func decompose(dst, src []byte) ([]byte, bool) {
	var hangul [maxHangul]byte
	for len(src) > 0 {
		_, size := utf8.DecodeRune(src)
		part := decomposed(&hangul, src[:size])
		src = src[size:]
		if len(dst)+len(part) > cap(dst) {
			clear(hangul[:])
			return dst, false
		}
		for len(part) > 0 {
			_, size := utf8.DecodeRune(part)
			dst = insert(dst, part[:size])
			part = part[size:]
		}
	}
	clear(hangul[:])
	return dst, true
}

// decomposedLen returns the length of the NFKD form of src in bytes.
func decomposedLen(src []byte) int {
	var hangul [maxHangul]byte
	n := 0
	for len(src) > 0 {
		_, size := utf8.DecodeRune(src)
		n += len(decomposed(&hangul, src[:size]))
		src = src[size:]
	}
	clear(hangul[:])
	return n
}

// Hangul syllables decompose by arithmetic, not by table (Unicode, 3.12).
const (
	syllableBase, syllables = 0xAC00, 11172
	leadBase                = 0x1100
	vowelBase, vowels       = 0x1161, 21
	tailBase, tails         = 0x11A7, 28
	maxHangul               = 9 // three jamo of three bytes
)

// decomposed returns the full compatibility decomposition of one encoded
// rune: a part of buf, of the public tables, or the rune itself.
func decomposed(buf *[maxHangul]byte, encoded []byte) []byte {
	r, _ := utf8.DecodeRune(encoded)
	if s := r - syllableBase; s >= 0 && s < syllables {
		out := utf8.AppendRune(buf[:0], leadBase+s/(vowels*tails))
		out = utf8.AppendRune(out, vowelBase+s%(vowels*tails)/tails)
		if tail := s % tails; tail != 0 {
			out = utf8.AppendRune(out, tailBase+tail)
		}
		return out
	}
	if d := norm.NFKD.Properties(encoded).Decomposition(); d != nil {
		return d
	}
	return encoded
}

// insert appends one encoded rune behind the marks whose combining class is
// not greater than its own. There is room for it.
func insert(dst, encoded []byte) []byte {
	at := len(dst)
	if class := norm.NFKD.Properties(encoded).CCC(); class > 0 {
		for at > 0 {
			_, size := utf8.DecodeLastRune(dst[:at])
			if norm.NFKD.Properties(dst[at-size:at]).CCC() <= class {
				break
			}
			at -= size
		}
	}
	dst = dst[:len(dst)+len(encoded)]
	copy(dst[at+len(encoded):], dst[at:])
	copy(dst[at:], encoded)
	return dst
}
