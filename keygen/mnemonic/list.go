package mnemonic

import (
	"bytes"
	"embed"
	"fmt"
	"slices"
	"sort"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Language is the name of a BIP-39 word list.
type Language string

// The ten lists of the standard.
const (
	English            Language = "english"
	Japanese           Language = "japanese"
	Korean             Language = "korean"
	Spanish            Language = "spanish"
	ChineseSimplified  Language = "chinese_simplified"
	ChineseTraditional Language = "chinese_traditional"
	French             Language = "french"
	Italian            Language = "italian"
	Czech              Language = "czech"
	Portuguese         Language = "portuguese"
)

//go:embed wordlists/*.txt
var files embed.FS

const (
	listWords = 2048 // 11 bits a word
	// abbreviation is the least number of letters that stand for a word:
	// BIP-39 asks lists to tell words apart by four. Fewer, even where they
	// would do, are more often a slip than a habit.
	abbreviation = 4
)

// A list is one language's words, loaded when first used. The words are
// public; what is looked up in them is not.
type list struct {
	language       Language
	abbreviates    bool // four letters tell all words apart
	accentsAreFree bool // the standard lets accents be left out
	once           sync.Once
	words, bases   column   // as in the file; without their marks
	order          []uint16 // word numbers, sorted by bases
}

// lists is in the order in which BIP-39 names them, and never written to but
// for the loading.
var lists = [...]*list{
	{language: English, abbreviates: true},
	{language: Japanese, abbreviates: true},
	{language: Korean},
	{language: Spanish, abbreviates: true, accentsAreFree: true},
	{language: ChineseSimplified},
	{language: ChineseTraditional},
	{language: French, abbreviates: true, accentsAreFree: true},
	{language: Italian, abbreviates: true},
	{language: Czech, abbreviates: true},
	{language: Portuguese, abbreviates: true},
}

// Languages returns the ten languages in the order of the standard.
func Languages() []Language {
	all := make([]Language, len(lists))
	for i, l := range lists {
		all[i] = l.language
	}
	return all
}

// lookup returns the loaded list of a language, or ErrLanguage.
func lookup(language Language) (*list, error) {
	for _, l := range lists {
		if l.language == language {
			l.load()
			return l, nil
		}
	}
	// A name of a language is public, but somebody may have put the words
	// into the wrong argument: it is not echoed.
	return nil, fmt.Errorf("%w: it is one of %s", ErrLanguage, names(Languages(), ", "))
}

// column is a list of lines in one buffer.
type column struct {
	text  []byte
	start []uint16 // of every line, and of the end
}

func columnOf(text []byte) column {
	c := column{text: text, start: make([]uint16, 0, listWords+1)}
	for i, begin := 0, true; i <= len(text); i++ {
		if begin {
			c.start = append(c.start, uint16(i))
		}
		begin = i < len(text) && text[i] == '\n'
	}
	return c
}

// at returns line i without its line feed: a part of the buffer.
func (c column) at(i int) []byte { return c.text[c.start[i] : c.start[i+1]-1] }

func (l *list) load() {
	l.once.Do(func() {
		text, err := files.ReadFile("wordlists/" + string(l.language) + ".txt")
		if err != nil || len(text) > 1<<16-1 || bytes.Count(text, []byte{'\n'}) != listWords {
			panic("mnemonic: the embedded list " + string(l.language) + " is damaged")
		}
		l.words = columnOf(text)
		l.bases = columnOf(bytes.Map(func(r rune) rune {
			if isMark(r) {
				return -1
			}
			return r
		}, text))
		l.order = make([]uint16, listWords)
		for i := range l.order {
			l.order[i] = uint16(i)
		}
		slices.SortFunc(l.order, func(a, b uint16) int {
			return bytes.Compare(l.bases.at(int(a)), l.bases.at(int(b)))
		})
	})
}

// isMark tells the marks that NFKD puts after a letter: accents, the tilde of
// ñ, the voicing marks of kana.
func isMark(r rune) bool { return unicode.Is(unicode.Mn, r) }

// What find returns instead of a word number.
const (
	unknown = -1 // no word is or begins like this
	short   = -2 // an abbreviation that leaves a choice, or of under four letters
)

// find returns the number of the word that was typed, 0..2047, or unknown or
// short.
func (l *list) find(typed *typed) int {
	if len(typed.base) == 0 {
		return unknown
	}
	at := func(i int) []byte { return l.bases.at(int(l.order[i])) }
	first := sort.Search(listWords, func(i int) bool { return bytes.Compare(at(i), typed.base) >= 0 })
	begin, count := unknown, 0
	for i := first; i < listWords && bytes.HasPrefix(at(i), typed.base); i++ {
		fits, rest := l.fit(typed.word, l.words.at(int(l.order[i])))
		switch {
		case !fits:
		case rest == 0:
			return int(l.order[i]) // the whole word wins over longer ones
		default:
			begin = int(l.order[i])
			count++
		}
	}
	switch {
	case !l.abbreviates || count == 0:
		return unknown
	case count > 1 || typed.letters < abbreviation:
		return short
	default:
		return begin
	}
}

// fit compares letter by letter and tells whether word begins with typed, and
// how many bytes of it are left over. A letter's marks must be the same, or
// be missing where the list allows it.
func (l *list) fit(typed, word []byte) (fits bool, rest int) {
	for len(typed) > 0 {
		if len(word) == 0 {
			return false, 0
		}
		a, b := letter(typed), letter(word)
		x, n := utf8.DecodeRune(a)
		y, m := utf8.DecodeRune(b)
		if x != y {
			return false, 0
		}
		if !bytes.Equal(a[n:], b[m:]) && (!l.accentsAreFree || len(a) > n) {
			return false, 0
		}
		typed, word = typed[len(a):], word[len(b):]
	}
	return true, len(word)
}

// letter returns the first rune of b and the marks behind it.
func letter(b []byte) []byte {
	_, n := utf8.DecodeRune(b)
	for n < len(b) {
		r, size := utf8.DecodeRune(b[n:])
		if !isMark(r) {
			break
		}
		n += size
	}
	return b[:n]
}
