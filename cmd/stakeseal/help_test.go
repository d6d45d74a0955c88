package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newApp is a run without a terminal that reads nothing.
func newApp(now time.Time) (a *app, out, words *bytes.Buffer) {
	out, words = new(bytes.Buffer), new(bytes.Buffer)
	return &app{in: strings.NewReader(""), out: out, err: words, now: func() time.Time { return now }}, out, words
}

// inward are words that mean something to whoever wrote a thing, and nothing
// to whoever runs it.
var inward = regexp.MustCompile(`(?i)\b(todo|fixme|tbd|xxx|stub|placeholder|helper|util|struct|nil|goroutine|context canceled|/tmp/)\b`)

// goTypes are what pflag shows where a flag's value has no name.
var goTypes = regexp.MustCompile(`^(string|stringArray|strings|int|int32|int64|uint|uint32|uint64|duration)$`)

// TestHelp looks at every verb's help as a newcomer does.
func TestHelp(t *testing.T) {
	a, _, _ := newApp(time.Now())
	root := a.root()
	root.InitDefaultHelpCmd()
	verbs := 0
	walk(root, func(cmd *cobra.Command) {
		if cmd.Hidden || cmd.Name() == "completion" || cmd.Parent() != nil && cmd.Parent().Name() == "completion" || cmd.Name() == "help" {
			return // cobra's own
		}
		verbs++
		path := cmd.CommandPath()
		a, out, words := newApp(time.Now())
		if code := a.run(t.Context(), append(strings.Fields(path)[1:], "--help")); code != 0 || words.Len() > 0 {
			t.Errorf("%s --help ends with %d and says %q", path, code, words)
		}
		text := out.String()
		if found := inward.FindAllString(text, -1); found != nil {
			t.Errorf("%s --help speaks of %q", path, found)
		}
		for line := range strings.Lines(cmd.Long) {
			if len(strings.TrimRight(line, "\n")) > 84 {
				t.Errorf("%s --help has a line of %d characters: %q", path, len(line), line)
			}
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") || len(cmd.Short) > 80 || cmd.Short[0] < 'A' || cmd.Short[0] > 'Z' {
			t.Errorf("%s: its short text is %q", path, cmd.Short)
		}
		if !cmd.HasSubCommands() && !strings.Contains(text, "Usage:\n  "+path) {
			t.Errorf("%s --help does not say how to call it:\n%s", path, text)
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			name, usage := pflag.UnquoteUsage(f)
			switch {
			case f.Hidden:
				t.Errorf("%s --%s is hidden", path, f.Name)
			case len(usage) < 10:
				t.Errorf("%s --%s: its usage is %q", path, f.Name, usage)
			case goTypes.MatchString(name):
				t.Errorf("%s --%s %s: name its value, as `NAME` in its usage", path, f.Name, name)
			case usage[0] >= 'A' && usage[0] <= 'Z' && f.Name != "help" && !strings.HasPrefix(usage, name):
				t.Errorf("%s --%s: its usage begins with a capital: %q", path, f.Name, usage)
			}
			if strings.HasPrefix(f.Name, "allow-") || strings.HasPrefix(f.Name, "without-") || strings.HasPrefix(f.Name, "one-") || strings.HasPrefix(f.Name, "any-") {
				if !strings.Contains(usage, ": ") && !strings.Contains(usage, "although") {
					t.Errorf("%s --%s does not say what is given up: %q", path, f.Name, usage)
				}
			}
		})
	})
	if verbs < 25 {
		t.Errorf("only %d verbs were looked at", verbs)
	}
}

// TestUnknownWords: a mistyped verb, a verb that needs another, a flag that is
// none: usage, with a hint, and nothing on stdout.
func TestUnknownWords(t *testing.T) {
	for _, line := range []string{
		"nosuch", "generat", "recovery nosuch", "deposit nosuch", "bundle nosuch", "config nosuch", "identity nosuch", "keystore nosuch", "certificate nosuch",
		"--nosuch", "list --nosuch", "generate -z", "show", "show a b", "doctor now", "orders all", "version 1", "bundle verify", "certificate verify",
	} {
		a, out, words := newApp(time.Now())
		if code := a.run(t.Context(), strings.Fields(line)); code != exitUsage || out.Len() > 0 ||
			!strings.HasPrefix(words.String(), "stakeseal: error: ") || !strings.Contains(words.String(), "\nstakeseal: hint: ") {
			t.Errorf("stakeseal %s: exit code %d, stdout %q, stderr %q", line, code, out, words)
		}
	}
}
