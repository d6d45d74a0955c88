// Package telling is how the demonstrations speak: chapters and facts on
// standard output, the real programs run beside them, and all that those
// printed kept, to be searched for secrets at the end.
package telling

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

// Teller tells one story.
type Teller struct {
	Programs string // the folder of the programs
	Home     string // the stakeseal home of the story

	chapter int
	mu      sync.Mutex
	said    strings.Builder
}

// Heading begins a chapter.
func (t *Teller) Heading(format string, args ...any) {
	t.chapter++
	fmt.Printf("\n%2d  %s\n", t.chapter, fmt.Sprintf(format, args...))
}

// Line tells one fact.
func (t *Teller) Line(format string, args ...any) {
	fmt.Printf("      %s\n", fmt.Sprintf(format, args...))
}

// Said is everything that the programs printed so far.
func (t *Teller) Said() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return []byte(t.said.String())
}

// Result is what a program printed and how it ended.
type Result struct {
	Out, Err string
	Code     int
}

// Pubkey matches a pubkey in what a program printed.
var Pubkey = regexp.MustCompile(`0x[0-9a-f]{96}`)

// Quote is the first line of the error, cut to a terminal's width.
func (r Result) Quote() string {
	for line := range strings.Lines(r.Err) {
		if _, text, ok := strings.Cut(line, "error: "); ok {
			text = Pubkey.ReplaceAllStringFunc(strings.TrimSpace(text), func(p string) string { return p[:12] + ".." })
			if len(text) > 160 {
				text = text[:157] + "..."
			}
			return text
		}
	}
	return strings.TrimSpace(r.Err)
}

// Run runs a program of the folder. A nil environ is this process's own.
func (t *Teller) Run(environ []string, program string, args ...string) (Result, error) {
	var out, words bytes.Buffer
	cmd := exec.Command(filepath.Join(t.Programs, program), args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = environ, &out, &words
	err := cmd.Run()
	t.mu.Lock()
	t.said.Write(out.Bytes())
	t.said.Write(words.Bytes())
	t.mu.Unlock()
	r := Result{out.String(), words.String(), 0}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.Code = exit.ExitCode()
		err = nil
	}
	if err != nil {
		return r, fmt.Errorf("couldn't run %s: %w", program, err)
	}
	return r, nil
}

// Stakeseal runs the command on the story's home and expects an exit code.
func (t *Teller) Stakeseal(environ []string, want int, args ...string) (Result, error) {
	r, err := t.Run(environ, "stakeseal", append([]string{"--home", t.Home}, args...)...)
	if err != nil {
		return r, err
	}
	if r.Code != want {
		return r, fmt.Errorf("stakeseal %s ended with %d, want %d:\n%s%s", strings.Join(args, " "), r.Code, want, r.Out, r.Err)
	}
	return r, nil
}
