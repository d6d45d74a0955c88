package release

import (
	"fmt"
	"strings"
	"unicode"
)

// The marks around a character that an editor would not show.
const (
	hiddenMark = "⟦"
	hiddenEnd  = "⟧"
)

// visible spells out control characters, marks that turn or hide text, and
// bytes that are no UTF-8: a source may look harmless on a screen and be none.
func visible(text string) string {
	var b strings.Builder
	for i, c := range text {
		switch {
		case c == '\n' || c == '\t' || c == ' ':
			b.WriteRune(c)
		case c == '\r' && strings.HasPrefix(text[i+1:], "\n"):
		case c == unicode.ReplacementChar && !strings.HasPrefix(text[i:], "\ufffd"):
			fmt.Fprintf(&b, "%sbyte %02x%s", hiddenMark, text[i], hiddenEnd)
		case !unicode.IsPrint(c):
			fmt.Fprintf(&b, "%sU+%04X%s", hiddenMark, c, hiddenEnd)
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
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

// clip keeps an error short that quotes what somebody else wrote.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}
