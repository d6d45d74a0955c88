package mnemonic

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Sentinels, compared with errors.Is. No error of this package holds any part
// of a mnemonic: only positions, counts and names of languages.
var (
	// ErrLanguage: no such language.
	ErrLanguage = errors.New("unknown mnemonic language")
	// ErrEncoding: the text is not valid UTF-8.
	ErrEncoding = errors.New("text is not valid UTF-8")
	// ErrLength: not 12, 15, 18, 21 or 24 words, or an impossibly long text.
	ErrLength = errors.New("wrong number of words")
	// ErrWord: words that are not in the list; the error is a *WordError.
	ErrWord = errors.New("words are not in the list")
	// ErrChecksum: every word is in the list, but the mnemonic is not one.
	ErrChecksum = errors.New("checksum does not match: a word is wrong or out of place")
	// ErrAmbiguous: several languages fit; the error is an *AmbiguousError.
	ErrAmbiguous = errors.New("several languages fit")
)

// shownPositions is how many positions a WordError carries: enough to correct
// a slip, while a text of another kind does not become a list of numbers.
const shownPositions = 3

// WordError says which words of a mnemonic are not in a list, by position.
type WordError struct {
	Language  Language // "" if no word is in any of the ten lists
	Detected  bool     // the language was not named: this list fits best
	Positions []int    // the first three wrong words, counted from 1
	Wrong     int      // how many words are wrong
	Words     int      // how many words there are
	Short     bool     // all wrong words are abbreviations that leave a choice
}

// Error names positions and the list, never a word.
func (e *WordError) Error() string {
	if e.Language == "" {
		return fmt.Sprintf("none of the %d words is in any of the %d lists", e.Words, len(lists))
	}
	var b strings.Builder
	for i, p := range e.Positions {
		switch {
		case i == 0 && e.Wrong == 1:
			b.WriteString("word ")
		case i == 0:
			b.WriteString("words ")
		case i == e.Wrong-1:
			b.WriteString(" and ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(strconv.Itoa(p))
	}
	if more := e.Wrong - len(e.Positions); more > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	verb := " is"
	if e.Wrong != 1 {
		verb = " are"
	}
	b.WriteString(verb)
	if e.Short {
		fmt.Fprintf(&b, " too short to tell words of the %s list apart: give four letters or whole words", e.Language)
	} else {
		fmt.Fprintf(&b, " not in the %s list", e.Language)
	}
	if e.Detected {
		b.WriteString(", which fits best")
	}
	return b.String()
}

// Unwrap returns ErrWord.
func (e *WordError) Unwrap() error { return ErrWord }

// AmbiguousError names the languages in which a text is a valid mnemonic.
// Where the words are spelled alike (the two Chinese lists share 1275, each
// with the same number) the seed is the same in each; else it is not, and
// only the owner can tell.
type AmbiguousError struct{ Languages []Language }

// Error names the languages.
func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%v (%s): name the language", ErrAmbiguous, names(e.Languages, " and "))
}

// Unwrap returns ErrAmbiguous.
func (e *AmbiguousError) Unwrap() error { return ErrAmbiguous }

func names(languages []Language, join string) string {
	s := make([]string, len(languages))
	for i, l := range languages {
		s[i] = string(l)
	}
	return strings.Join(s, join)
}
