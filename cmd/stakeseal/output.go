package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"golang.org/x/term"

	"github.com/stakeseal/stakeseal/secret"
)

// say prints words for people, on stderr.
func (a *app) say(format string, args ...any) {
	fmt.Fprintf(a.err, "stakeseal: "+format+"\n", args...)
}

// object prints one JSON object on stdout. v's first field is its "schema".
func (a *app) object(v any) error {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("couldn't print: %w", err)
	}
	return nil
}

// table aligns columns on stdout (or wherever to); the head, if any, is
// its first row.
type table struct{ w *tabwriter.Writer }

func newTable(to io.Writer, head ...string) *table {
	t := &table{tabwriter.NewWriter(to, 0, 8, 2, ' ', 0)}
	if len(head) > 0 {
		t.row(head...)
	}
	return t
}

func (t *table) row(cells ...string) { fmt.Fprintln(t.w, strings.Join(cells, "\t")) }

func (t *table) flush() error {
	if err := t.w.Flush(); err != nil {
		return fmt.Errorf("couldn't print: %w", err)
	}
	return nil
}

// confirm asks for a yes. Without a terminal and --yes it fails at once:
// a script must never hang at a question.
func (a *app) confirm(question string) error {
	if a.yes {
		return nil
	}
	if !a.terminal {
		return usage("nobody is there to answer: add --yes if you mean it", "this asks for a confirmation")
	}
	fmt.Fprintf(a.err, "%s [y/N] ", question)
	answer, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("couldn't read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return fail(exitInterrupted, "", "not confirmed, nothing was done")
}

// ask reads a line without echo: a passphrase. Only from a terminal.
func (a *app) ask(prompt string) (*secret.Bytes, error) {
	file, ok := a.in.(interface{ Fd() uintptr })
	if !a.terminal || !ok {
		return nil, usage("run it in a terminal", "a passphrase is needed, and it is only read from a terminal")
	}
	fmt.Fprint(a.err, prompt+": ")
	line, err := term.ReadPassword(int(file.Fd()))
	fmt.Fprintln(a.err)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the passphrase: %w", err)
	}
	return secret.Take(line), nil
}

// short shows the beginning and end of a pubkey, for tables.
func short(hex string) string {
	if len(hex) <= 22 {
		return hex
	}
	return hex[:12] + ".." + hex[len(hex)-6:]
}
