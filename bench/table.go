package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// figure is one line of the result.
type figure struct {
	name  string
	value float64
	aim   string // "at least 0.93", or "" when there is none
	by    string // "processor", "clock" or "memory"
	how   string // what was measured and what is in it
}

// table gathers figures and prints them twice: for people, then, as the last
// lines, for programs.
type table struct {
	notes   []string
	figures []figure
}

func (t *table) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

func (t *table) add(f figure) { t.figures = append(t.figures, f) }

func (t *table) print(w io.Writer) error {
	var out strings.Builder
	for _, n := range t.notes {
		fmt.Fprintf(&out, "# %s\n", n)
	}
	out.WriteString("\n")
	rows := [][]string{{"FIGURE", "VALUE", "AIM", "BY"}}
	for _, f := range t.figures {
		rows = append(rows, []string{f.name, number(f.value), f.aim, f.by})
	}
	var widths [3]int
	for _, r := range rows {
		for i := range widths {
			widths[i] = max(widths[i], len(r[i]))
		}
	}
	for i, r := range rows {
		fmt.Fprintf(&out, "%-*s  %*s  %-*s  %s\n", widths[0], r[0], widths[1], r[1], widths[2], r[2], r[3])
		if i > 0 {
			fmt.Fprintf(&out, "    %s\n", strings.Join(wrap(t.figures[i-1].how, 92), "\n    "))
		}
	}
	out.WriteString("\n")
	for _, f := range t.figures {
		fmt.Fprintf(&out, "bench: %s %s\n", f.name, number(f.value))
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// wrap breaks text into lines of at most width bytes, at spaces.
func wrap(text string, width int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// number prints three significant digits, and every digit of a whole number.
func number(v float64) string {
	if v >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	digits := 3
	for limit := 1.0; digits > 0 && v >= limit; limit *= 10 {
		digits--
	}
	return strconv.FormatFloat(v, 'f', max(digits, 1), 64)
}

// median is the middle value, or the mean of the two in the middle.
func median[T ~int64 | ~float64](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

func milliseconds(d time.Duration) float64 { return float64(d) / 1e6 }

func mebibytes(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// shareOf says how many processors something took on average.
func shareOf(used, wall time.Duration) string {
	return fmt.Sprintf("%.1f cores", max(0, used.Seconds())/wall.Seconds())
}
