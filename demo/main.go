// Command demo tells stakeseal's story in about a minute, on a home that is
// thrown away: it runs the real programs, attacks what they made, and prints
// only what it saw. It is run by make demo and needs nothing but the build
// folder it stands in.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/internal/telling"
)

func main() {
	if err := tell(); err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: error: %v\n", err)
		os.Exit(1)
	}
}

// story is one run and its folders.
type story struct {
	telling.Teller
	dir        string
	identities string // elsewhere, not in the home
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
	s := &story{Teller: telling.Teller{Programs: filepath.Dir(self), Home: filepath.Join(dir, "home")}, dir: dir,
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
		time.Since(s.started).Seconds(), relative(filepath.Join(s.Programs, "stakeseal")))
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

// stakeseal runs the command on the story's home and expects an exit code.
func (s *story) stakeseal(want int, args ...string) (telling.Result, error) {
	return s.Stakeseal(nil, want, args...)
}

func (s *story) identity(name string) string { return filepath.Join(s.identities, name+".identity") }

func (s *story) recipients() error {
	s.Heading("Identities are made where they will live; only their public halves travel.")
	for _, name := range []string{"anna", "vault", "signer-a", "signer-b"} {
		r, err := s.Run(nil, "stakeseal", "identity", "new", "--out", s.identity(name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(s.dir, name+".txt"), []byte(r.Out), 0o600); err != nil {
			return err
		}
		s.Line("%-9s %s...", name, strings.TrimSpace(r.Out)[:40])
	}
	arg := func(name string) string { return name + "=" + filepath.Join(s.dir, name+".txt") }
	_, err := s.stakeseal(0, "init", "--network", "hoodi", "--withdrawal-address", "cold="+address,
		"--recovery", arg("anna"), "--recovery", arg("vault"), "--signing", arg("signer-a"))
	if err != nil {
		return err
	}
	s.Line("home made: mnemonics are sealed to anna and vault, signing keys to signer-a")
	return nil
}

// keys lists an order's validators by index.
func (s *story) keys(order string) ([]string, error) {
	r, err := s.Run(nil, "stakeseal", "--home", s.Home, "list", "--order", order)
	if err != nil {
		return nil, err
	}
	return telling.Pubkey.FindAllString(r.Out, -1), nil
}

func (s *story) birth() error {
	s.Heading("An order for 6 validators. Nobody sees a key: they are made in a child process and sealed at once.")
	begun := time.Now()
	if _, err := s.stakeseal(0, "generate", "--count", "6", "--order", "first", "--assign", "signer-a", "--yes"); err != nil {
		return err
	}
	keys, err := s.keys("first")
	if err != nil {
		return err
	}
	s.Line("%d keys made, checked, sealed, certified and archived in %.1f s; the first is %s...", len(keys), time.Since(begun).Seconds(), keys[0][:20])
	return nil
}

func (s *story) drill() error {
	s.Heading("Recovery is drilled before any deposit: each holder opens every mnemonic and re-derives every key.")
	for _, name := range []string{"anna", "vault"} {
		r, err := s.stakeseal(0, "recovery", "drill", "--identity", s.identity(name))
		if err != nil {
			return err
		}
		s.Line("%s: %d orders opened and re-derived, nothing shown", name, strings.Count(r.Out, "\n")-1)
	}
	return nil
}
