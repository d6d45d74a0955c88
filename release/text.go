package release

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// The marks around a character that an editor would not show.
const (
	hiddenMark = "⟦"
	hiddenEnd  = "⟧"
)

// visible spells out control characters, marks that turn or hide text, what shows
// as nothing, and bytes that are no UTF-8: a source may look harmless on a screen and be none.
func visible(text string) string {
	var b strings.Builder
	for i, c := range text {
		switch {
		case c == '\n' || c == '\t' || c == ' ':
			b.WriteRune(c)
		case c == '\r' && strings.HasPrefix(text[i+1:], "\n"):
		case c == unicode.ReplacementChar && !strings.HasPrefix(text[i:], "\ufffd"):
			fmt.Fprintf(&b, "%sbyte %02x%s", hiddenMark, text[i], hiddenEnd)
		case !unicode.IsPrint(c) || unseen(c):
			fmt.Fprintf(&b, "%sU+%04X%s", hiddenMark, c, hiddenEnd)
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

// unseen reports whether a letter, mark or symbol, which IsPrint calls printable,
// shows as nothing or as a gap. Some may stand in a name of Go or C (Hangul
// fillers), others carry any text within a string (variation selectors).
func unseen(c rune) bool {
	return c > unicode.MaxASCII && (unicode.In(c, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) || c == '\u2800')
}

// oneLine is visible text that cannot begin a line or a column of its own: for
// names, which git lets hold any byte but zero.
func oneLine(text string) string {
	return strings.NewReplacer("\n", hiddenMark+"U+000A"+hiddenEnd, "\t", hiddenMark+"U+0009"+hiddenEnd).Replace(visible(text))
}

// tailText is the end of what a program printed, where the reason stands, with
// nothing that a terminal obeys: a compiler quotes the source.
func tailText(words []byte) string {
	text := strings.TrimSpace(string(words))
	if len(text) > 2000 {
		text = "..." + text[len(text)-2000:]
	}
	return visible(text)
}

// quoting is an error with what a compiler, or go, printed. A commit can name any
// file of the machine that it is built on, in an include or as a link: the reviewer's
// key file too, whose lines the compiler then quotes as wrong C.
type quoting struct {
	err   error
	words string
}

func (q *quoting) Error() string { return q.err.Error() + ": " + q.words }
func (q *quoting) Unwrap() error { return q.err }

// unquoted is an error as a report may hold it, which goes to the depot with a
// rejection, where its submitter reads it. The words go to say alone, where
// somebody listens: they are for whoever sits at this machine.
func unquoted(err error, say func(words string)) error {
	var q *quoting
	if !errors.As(err, &q) {
		return err
	}
	if say != nil {
		say(q.words)
	}
	return fmt.Errorf("%w (what was printed is not kept in a report: it can quote any file of the machine)", q.err)
}

// clip keeps an error short that quotes what somebody else wrote.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}
