// Command demo tells stakeseal's story in about a minute, on a home that is
// thrown away: it runs the real programs, attacks what they made, and prints
// only what it saw. It is run by make demo and needs nothing but the build
// folder it stands in.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

func main() {
	if err := tell(); err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: error: %v\n", err)
		os.Exit(1)
	}
}

// story is one run: its folders and everything that the programs printed.
type story struct {
	programs   string // where stakeseal, stakeseal-generator and age are
	dir        string
	home       string
	identities string // elsewhere, not in the home
	said       strings.Builder
	chapter    int
	started    time.Time
}

const address = "0x388C818CA8B9251b393131C08a736A67ccB19297"

func tell() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "stakeseal-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s := &story{programs: filepath.Dir(self), dir: dir, home: filepath.Join(dir, "home"),
		identities: filepath.Join(dir, "elsewhere"), started: time.Now()}
	if err := os.Mkdir(s.identities, 0o700); err != nil {
		return err
	}
	fmt.Println("stakeseal: validator keys, sealed at birth. Network hoodi; everything here is thrown away at the end.")
	for _, chapter := range []func() error{
		s.recipients, s.birth, s.generatorCannotOpen, s.killedAndResumed, s.drill, s.deposits,
		s.exportedTwice, s.swapped, s.anotherSigner, s.searched, s.ageOpens,
	} {
		if err := chapter(); err != nil {
			return err
		}
	}
	fmt.Printf("\nAll of it as promised, in %.0f seconds. Now yours, with an address that you control:\n\n    %s init --network hoodi --withdrawal-address 0xYOUR_ADDRESS\n",
		time.Since(s.started).Seconds(), relative(filepath.Join(s.programs, "stakeseal")))
	return nil
}

// relative shortens a path below the working directory.
func relative(path string) string {
	if cwd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(cwd, path); err == nil && !strings.HasPrefix(rel, "..") {
			return rel
		}
	}
	return path
}

// heading begins a chapter.
func (s *story) heading(format string, args ...any) {
	s.chapter++
	fmt.Printf("\n%2d  %s\n", s.chapter, fmt.Sprintf(format, args...))
}

// line tells one fact.
func (s *story) line(format string, args ...any) {
	fmt.Printf("      %s\n", fmt.Sprintf(format, args...))
}

// result is what a program printed and how it ended.
type result struct {
	out, err string
	code     int
}

// quote is the first line of the error, cut to a terminal's width.
func (r result) quote() string {
	for line := range strings.Lines(r.err) {
		if _, text, ok := strings.Cut(line, "error: "); ok {
			text = pubkeyRule.ReplaceAllStringFunc(strings.TrimSpace(text), func(p string) string { return p[:12] + ".." })
			if len(text) > 160 {
				text = text[:157] + "..."
			}
			return text
		}
	}
	return strings.TrimSpace(r.err)
}

// run runs a program of the build folder. What it prints is kept, to be
// searched for secrets at the end.
func (s *story) run(program string, args ...string) (result, error) {
	var out, words strings.Builder
	cmd := exec.Command(filepath.Join(s.programs, program), args...)
	cmd.Stdout, cmd.Stderr = &out, &words
	err := cmd.Run()
	s.said.WriteString(out.String() + words.String())
	r := result{out.String(), words.String(), 0}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.code = exit.ExitCode()
		err = nil
	}
	if err != nil {
		return r, fmt.Errorf("couldn't run %s: %w", program, err)
	}
	return r, nil
}

// stakeseal runs the command on the story's home and expects an exit code.
func (s *story) stakeseal(want int, args ...string) (result, error) {
	r, err := s.run("stakeseal", append([]string{"--home", s.home}, args...)...)
	if err != nil {
		return r, err
	}
	if r.code != want {
		return r, fmt.Errorf("stakeseal %s ended with %d, want %d:\n%s", strings.Join(args, " "), r.code, want, r.err)
	}
	return r, nil
}

func (s *story) identity(name string) string { return filepath.Join(s.identities, name+".identity") }

func (s *story) recipients() error {
	s.heading("Identities are made where they will live; only their public halves travel.")
	for _, name := range []string{"anna", "vault", "signer-a", "signer-b"} {
		r, err := s.run("stakeseal", "identity", "new", "--out", s.identity(name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(s.dir, name+".txt"), []byte(r.out), 0o600); err != nil {
			return err
		}
		s.line("%-9s %s...", name, strings.TrimSpace(r.out)[:40])
	}
	arg := func(name string) string { return name + "=" + filepath.Join(s.dir, name+".txt") }
	_, err := s.stakeseal(0, "init", "--network", "hoodi", "--withdrawal-address", "cold="+address,
		"--recovery", arg("anna"), "--recovery", arg("vault"), "--signing", arg("signer-a"))
	if err != nil {
		return err
	}
	s.line("home made: mnemonics are sealed to anna and vault, signing keys to signer-a")
	return nil
}

var pubkeyRule = regexp.MustCompile(`0x[0-9a-f]{96}`)

// keys lists an order's validators by index.
func (s *story) keys(order string) ([]string, error) {
	r, err := s.run("stakeseal", "--home", s.home, "list", "--order", order)
	if err != nil {
		return nil, err
	}
	return pubkeyRule.FindAllString(r.out, -1), nil
}

func (s *story) birth() error {
	s.heading("An order for 6 validators. Nobody sees a key: they are made in a child process and sealed at once.")
	begun := time.Now()
	if _, err := s.stakeseal(0, "generate", "--count", "6", "--order", "first", "--assign", "signer-a", "--yes"); err != nil {
		return err
	}
	keys, err := s.keys("first")
	if err != nil {
		return err
	}
	s.line("%d keys made, checked, sealed, certified and archived in %.1f s; the first is %s...", len(keys), time.Since(begun).Seconds(), keys[0][:20])
	return nil
}

func (s *story) drill() error {
	s.heading("Recovery is drilled before any deposit: each holder opens every mnemonic and re-derives every key.")
	for _, name := range []string{"anna", "vault"} {
		r, err := s.stakeseal(0, "recovery", "drill", "--identity", s.identity(name))
		if err != nil {
			return err
		}
		s.line("%s: %d orders opened and re-derived, nothing shown", name, strings.Count(r.out, "\n")-1)
	}
	return nil
}
