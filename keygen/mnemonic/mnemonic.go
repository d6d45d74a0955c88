package mnemonic

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/stakeseal/stakeseal/secret"
)

const (
	maxWords = 24
	// maxText bounds what Parse looks at, in bytes: the longest mnemonic has
	// 815 (24 Korean words), the rest is room for white space.
	maxText = 4096
)

// New makes a mnemonic of 24 words from 256 bits of crypto/rand: the words of
// the official list in form NFKD, joined by one ASCII space in every
// language. The caller wipes it. The error is ErrLanguage.
func New(language Language) (*secret.Bytes, error) {
	l, err := lookup(language)
	if err != nil {
		return nil, err
	}
	entropy := secret.Random(32)
	defer entropy.Wipe()
	return l.compose(entropy.Expose()), nil
}

// A Phrase is a mnemonic with a valid checksum. Parse is its only maker; the
// zero value has no words, and no seed. It is safe for concurrent reads, while
// Wipe needs the caller to be the only user. It prints [secret].
type Phrase struct {
	language Language
	words    int
	text     *secret.Bytes
}

// Parse reads a mnemonic of 12, 15, 18, 21 or 24 words; the package comment
// says in what spellings. With language "" it tries all ten, and the one in
// which every word is found and the checksum is right wins. The text stays
// the caller's to wipe.
//
// Errors: ErrLanguage, ErrEncoding, ErrLength, ErrWord (as a *WordError with
// positions), ErrChecksum, ErrAmbiguous (as an *AmbiguousError). None holds a
// part of the text.
func Parse(text *secret.Bytes, language Language) (*Phrase, error) {
	candidates := lists[:]
	if language != "" {
		l, err := lookup(language)
		if err != nil {
			return nil, err
		}
		candidates = []*list{l}
	}
	raw := text.Expose()
	if len(raw) > maxText {
		return nil, fmt.Errorf("%w: more than %d bytes of text", ErrLength, maxText)
	}
	if !utf8.Valid(raw) {
		return nil, ErrEncoding
	}
	w := newWorkspace()
	defer w.wipe()
	// Editors on Windows put a byte order mark in front of a saved text.
	words := w.split(bytes.TrimPrefix(raw, []byte("\uFEFF")))
	if words < 12 || words > maxWords || words%3 != 0 {
		return nil, fmt.Errorf("%w: %d; a mnemonic has 12, 15, 18, 21 or 24", ErrLength, words)
	}
	for _, l := range candidates {
		l.load()
	}
	for position := range words {
		w.typed.read(w.raw[position])
		for i, l := range candidates {
			w.number[i][position] = int16(l.find(&w.typed))
		}
	}
	i, err := w.choose(candidates, words)
	if err != nil {
		return nil, err
	}
	numbers := w.number[i][:words]
	return &Phrase{
		language: candidates[i].language,
		words:    words,
		text:     candidates[i].join(numbers),
	}, nil
}

// choose returns the index of the one candidate whose words are all known and
// whose checksum is right, or says what is wrong with the likeliest.
func (w *workspace) choose(candidates []*list, words int) (int, error) {
	var valid []int
	var spelled, fitting []Language
	var best *WordError
	for i, l := range candidates {
		wrong := w.wrong(l, i, words)
		switch {
		case wrong != nil && (best == nil || wrong.Wrong < best.Wrong):
			best = wrong
		case wrong != nil:
		case w.checks(w.number[i][:words]):
			valid = append(valid, i)
			fitting = append(fitting, l.language)
		default:
			spelled = append(spelled, l.language)
		}
	}
	detected := len(candidates) > 1
	switch {
	case len(valid) == 1:
		return valid[0], nil
	case len(valid) > 1:
		return 0, &AmbiguousError{Languages: fitting}
	case len(spelled) > 0:
		return 0, fmt.Errorf("%w (%s)", ErrChecksum, names(spelled, " or "))
	case detected && best.Wrong == words && !best.Short:
		return 0, &WordError{Wrong: words, Words: words, Positions: best.Positions, Detected: true}
	default:
		best.Detected = detected
		return 0, best
	}
}

// wrong returns what is wrong with the words in one list, or nil.
func (w *workspace) wrong(l *list, candidate, words int) *WordError {
	e := &WordError{Language: l.language, Words: words, Short: true}
	for position, number := range w.number[candidate][:words] {
		if number >= 0 {
			continue
		}
		e.Wrong++
		e.Short = e.Short && number == short
		if len(e.Positions) < shownPositions {
			e.Positions = append(e.Positions, position+1)
		}
	}
	if e.Wrong == 0 {
		return nil
	}
	return e
}

// Text returns a copy of the words as the official list spells them (NFKD),
// joined by one ASCII space. The caller wipes it.
func (p *Phrase) Text() *secret.Bytes {
	if p == nil {
		return secret.New(0)
	}
	return secret.Copy(p.text.Expose())
}

// Language returns the list that the words are from.
func (p *Phrase) Language() Language { return p.language }

// Words returns how many words there are: 12, 15, 18, 21 or 24.
func (p *Phrase) Words() int { return p.words }

// Wipe overwrites the words. It may be called twice and on nil; afterwards
// the Phrase is as the zero value.
func (p *Phrase) Wipe() {
	if p == nil {
		return
	}
	p.text.Wipe()
	*p = Phrase{}
}

// Format implements fmt.Formatter, so that every verb prints [secret].
func (p Phrase) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[secret]")) }

// MarshalText refuses; encoding/json asks it too.
func (p Phrase) MarshalText() ([]byte, error) { return nil, secret.ErrMarshal }

// split finds the words between white space and returns how many there are;
// the first 24 go to w.raw, as parts of text.
func (w *workspace) split(text []byte) (words int) {
	begin := -1
	for i := 0; i <= len(text); {
		r, size := rune(' '), 1
		if i < len(text) {
			r, size = utf8.DecodeRune(text[i:])
		}
		switch space := unicode.IsSpace(r); {
		case !space && begin < 0:
			begin = i
		case space && begin >= 0:
			if words < maxWords {
				w.raw[words] = text[begin:i]
			}
			words++
			begin = -1
		}
		i += size
	}
	return words
}

// compose returns the mnemonic of 16, 20, 24, 28 or 32 bytes of entropy.
func (l *list) compose(entropy []byte) *secret.Bytes {
	w := newWorkspace()
	defer w.wipe()
	words := len(entropy) * 3 / 4
	copy(w.bits[:], entropy)
	w.bits[len(entropy)] = sha256.Sum256(entropy)[0]
	numbers := w.number[0][:words]
	for i := range numbers {
		// Word i is the 11 bits from bit 11*i on, most significant first.
		bit := 11 * i
		window := uint32(w.bits[bit/8])<<16 | uint32(w.bits[bit/8+1])<<8 | uint32(w.bits[bit/8+2])
		numbers[i] = int16(window >> (13 - bit%8) & (listWords - 1))
	}
	return l.join(numbers)
}

// checks recomputes the entropy from the word numbers and compares the
// checksum: the first len/3 bits of SHA-256 of the entropy stand behind it.
func (w *workspace) checks(numbers []int16) bool {
	clear(w.bits[:])
	for i, number := range numbers {
		bit := 11 * i
		window := uint32(number) << (13 - bit%8)
		w.bits[bit/8] |= byte(window >> 16)
		w.bits[bit/8+1] |= byte(window >> 8)
		w.bits[bit/8+2] |= byte(window)
	}
	size := len(numbers) * 4 / 3
	unused := 8 - len(numbers)/3
	return w.bits[size]>>unused == sha256.Sum256(w.bits[:size])[0]>>unused
}

// join returns the words of the numbers with one space between them, in one
// buffer of the right size.
func (l *list) join(numbers []int16) *secret.Bytes {
	size := len(numbers) - 1
	for _, number := range numbers {
		size += len(l.words.at(int(number)))
	}
	out := secret.New(size)
	rest := out.Expose()
	for i, number := range numbers {
		if i > 0 {
			rest[0] = ' '
			rest = rest[1:]
		}
		rest = rest[copy(rest, l.words.at(int(number))):]
	}
	return out
}

// A workspace is everything secret that Parse and New write down on the way.
type workspace struct {
	raw    [maxWords][]byte // parts of the caller's text
	typed  typed
	number [len(lists)][maxWords]int16 // by candidate: word numbers, unknown or short
	bits   [35]byte                    // entropy, checksum, and room for the last window
}

// newWorkspace is not inlined so that the workspace is on the heap: a
// goroutine's stack is copied when it grows, and the old one is not wiped.
//
//go:noinline
func newWorkspace() *workspace { return new(workspace) }

// wipe clears the workspace.
func (w *workspace) wipe() { *w = workspace{} }
