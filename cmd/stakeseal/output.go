package main

import (
	"bufio"
	"crypto/sha256"
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

// errUnprinted says that the work is done and only its report is missing.
var errUnprinted = errors.New("couldn't print")

func unprinted(err error) error { return fmt.Errorf("%w: %w", errUnprinted, err) }

// object prints one JSON object on stdout. v's first field is its "schema".
func (a *app) object(v any) error {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return unprinted(err)
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
		return unprinted(err)
	}
	return nil
}

// confirm asks for a yes, which --yes gives beforehand.
func (a *app) confirm(question string) error {
	if a.yes {
		return nil
	}
	yes, err := a.answer(question)
	if err == nil && !yes {
		err = fail(exitInterrupted, "", "not confirmed, nothing was done")
	}
	return err
}

// answer asks a person for a yes or no. Without a terminal it fails at once:
// a script must never hang at a question.
func (a *app) answer(question string) (bool, error) {
	if !a.terminal {
		return false, usage("nobody is there to answer: add --yes if you mean it", "this asks for a confirmation")
	}
	fmt.Fprintf(a.err, "%s [y/N] ", question)
	line, err := unlessEnded(a.ended, func() (string, error) { return bufio.NewReader(a.in).ReadString('\n') })
	if errors.Is(err, errEnded) {
		fmt.Fprintln(a.err)
		return false, err
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("couldn't read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}

// ask reads a line without echo: a passphrase. Only from a terminal.
func (a *app) ask(prompt string) (*secret.Bytes, error) {
	file, ok := a.in.(interface{ Fd() uintptr })
	if !a.terminal || !ok {
		return nil, usage("run it in a terminal", "a passphrase is needed, and it is only read from a terminal")
	}
	fd := int(file.Fd())
	echoing, err := term.GetState(fd)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the passphrase: %w", err)
	}
	fmt.Fprint(a.err, prompt+": ")
	line, err := unlessEnded(a.ended, func() ([]byte, error) { return term.ReadPassword(fd) })
	fmt.Fprintln(a.err)
	if errors.Is(err, errEnded) {
		_ = term.Restore(fd, echoing) // nobody else will: the reading goes on
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't read the passphrase: %w", err)
	}
	return secret.Take(line), nil
}

// errEnded: the run was asked to end while it waited.
var errEnded = fail(exitInterrupted, "", "interrupted")

// unlessEnded is what read returns, or errEnded as soon as ended is closed.
// A read of a terminal or pipe cannot be called off: it is left, with what it
// may still get, to the end of the process, which is near.
func unlessEnded[T any](ended <-chan struct{}, read func() (T, error)) (got T, err error) {
	select {
	case <-ended:
		return got, errEnded
	default:
	}
	done := make(chan struct{})
	var late T
	var failed error
	go func() {
		defer close(done)
		late, failed = read()
	}()
	select {
	case <-done:
		return late, failed
	case <-ended:
		return got, errEnded
	}
}

// keyText shows a recipient's key so that it can be compared: whole where it
// is short, else by a fingerprint of 80 bits. The beginning and the end of a
// long key would not do: somebody who makes keys until they look alike could
// match these.
func keyText(key string) string {
	if len(key) <= 100 {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return fmt.Sprintf("%s..  (sha256 %x)", key[:8], sum[:10])
}

// short shows the beginning and end of a pubkey, for tables.
func short(hex string) string {
	if len(hex) <= 22 {
		return hex
	}
	return hex[:12] + ".." + hex[len(hex)-6:]
}
