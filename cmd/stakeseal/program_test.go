package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const testAddress = "0x388C818CA8B9251b393131C08a736A67ccB19297"

// site is a folder of its own in which a test runs the real programs. What
// they say is kept, to be searched.
type site struct {
	testing.TB
	dir        string // everything: homes, outputs, temporary files
	home       string
	identities string

	mu   sync.Mutex
	said []saying
}

// saying is what one run printed.
type saying struct {
	command string
	text    []byte
}

// outcome is how a run ended.
type outcome struct {
	code     int
	out, err string
}

// newSite makes a site with a home for hoodi.
func newSite(t testing.TB) *site {
	t.Helper()
	s := emptySite(t)
	s.must(0, "init", "--network", "hoodi", "--withdrawal-address", "cold="+testAddress, "--identities", s.identities)
	return s
}

func emptySite(t testing.TB) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{TB: t, dir: dir, home: filepath.Join(dir, "home"), identities: filepath.Join(dir, "identities")}
	if err := os.Mkdir(s.path("tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

func (s *site) identity(name string) string { return filepath.Join(s.identities, name+".identity") }

// command prepares a run of stakeseal on the site's home. It inherits
// nothing: no terminal, no variable but those named here.
func (s *site) command(args ...string) *exec.Cmd {
	if !slices.Contains(args, "--home") {
		args = append([]string{"--home", s.home}, args...)
	}
	cmd := exec.Command(filepath.Join(programs, "stakeseal"), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"HOME=" + s.dir, "TMPDIR=" + s.path("tmp"), "PATH=" + programs + ":/usr/bin:/bin"}
	return cmd
}

// finish turns the end of a run into an outcome. A program that a signal
// ended has the code 128 and the signal's number, as in a shell.
func finish(cmd *exec.Cmd, out, words *bytes.Buffer, err error) (outcome, error) {
	o := outcome{out: out.String(), err: words.String()}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		o.code = exit.ExitCode()
		if signal, ok := killedBy(exit); ok {
			o.code = 128 + int(signal)
		}
		err = nil
	}
	return o, err
}

// run runs stakeseal to its end.
func (s *site) run(args ...string) outcome {
	s.Helper()
	cmd := s.command(args...)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	o, err := finish(cmd, &out, &words, cmd.Run())
	if err != nil {
		s.Fatalf("couldn't run %q: %v", args, err)
	}
	s.hear(args, o)
	return o
}

func (s *site) hear(args []string, o outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, saying{strings.Join(args, " "), []byte(o.out + o.err)})
}

// must is run with the exit code that is expected.
func (s *site) must(code int, args ...string) outcome {
	s.Helper()
	o := s.run(args...)
	if o.code != code {
		s.Fatalf("stakeseal %s ended with %d, want %d:\n%s%s", strings.Join(args, " "), o.code, code, o.out, o.err)
	}
	return o
}

// together starts runs at one moment and waits for all.
func (s *site) together(lines ...[]string) []outcome {
	s.Helper()
	all := make([]outcome, len(lines))
	failed := make([]error, len(lines))
	begin := make(chan struct{})
	var running sync.WaitGroup
	for i, args := range lines {
		cmd := s.command(args...)
		var out, words bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &words
		running.Go(func() {
			<-begin
			all[i], failed[i] = finish(cmd, &out, &words, cmd.Run())
			s.hear(args, all[i])
		})
	}
	close(begin)
	running.Wait()
	if err := errors.Join(failed...); err != nil {
		s.Fatal(err)
	}
	return all
}

// codes are the exit codes of runs, sorted.
func codes(all []outcome) []int {
	var list []int
	for _, o := range all {
		list = append(list, o.code)
	}
	slices.Sort(list)
	return list
}

// listed is one line of list --json.
type listed struct {
	Order  string `json:"order"`
	Index  uint32 `json:"index"`
	Pubkey string `json:"pubkey"`
	Signer string `json:"assigned_to"`
}

// lines decodes JSON lines.
func lines[T any](t testing.TB, text string) (all []T) {
	t.Helper()
	scanner := bufio.NewScanner(strings.NewReader(text))
	scanner.Buffer(nil, 1<<24)
	for scanner.Scan() {
		var one T
		if err := json.Unmarshal(scanner.Bytes(), &one); err != nil {
			t.Fatalf("not a JSON line: %v: %q", err, scanner.Text())
		}
		all = append(all, one)
	}
	return all
}

// owners are an order's pubkeys by index, as list tells them. An order that
// is not there yet has none.
func (s *site) owners(order string) map[uint32]string {
	s.Helper()
	o := s.run("list", "--order", order, "--json")
	switch {
	case o.code == 0:
	case o.code == 2 && (strings.Contains(o.err, "there is no order") || strings.Contains(o.err, "no validator is selected")):
		return nil
	default:
		s.Fatalf("list --order %s ended with %d:\n%s", order, o.code, o.err)
	}
	found := map[uint32]string{}
	for _, v := range lines[listed](s, o.out) {
		if _, twice := found[v.Index]; twice || v.Order != order {
			s.Fatalf("list --order %s: index %d of order %s, twice or of another order", order, v.Index, v.Order)
		}
		found[v.Index] = v.Pubkey
	}
	return found
}

// printedReceipt is what generate --json prints.
type printedReceipt struct {
	Receipt struct {
		Order      string `json:"order"`
		Count      uint32 `json:"count"`
		Validators []struct {
			Index  uint32 `json:"index"`
			Pubkey string `json:"pubkey"`
		} `json:"validators"`
		Mnemonics []struct {
			ID string `json:"id"`
		} `json:"mnemonics"`
	} `json:"receipt"`
	Signed json.RawMessage `json:"signed"`
}

func (s *site) receipt(o outcome) (r printedReceipt) {
	s.Helper()
	decode(s, o.out, &r)
	return r
}

func decode(t testing.TB, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("not JSON: %v: %q", err, text)
	}
}

// sound demands that nothing in the home is wrong: the doctor says so, every
// receipt verifies, and both recovery identities drill every order.
func (s *site) sound() {
	s.Helper()
	for _, f := range lines[finding](s, s.must(0, "doctor", "--json").out) {
		if f.State == "wrong" {
			s.Errorf("doctor: %s: %s", f.Check, f.Says)
		}
	}
	receipts, err := filepath.Glob(filepath.Join(s.home, "bundles", "*", "receipt-*.json"))
	if err != nil || len(receipts) == 0 {
		s.Fatalf("no receipt in the archive: %v", err)
	}
	s.must(0, append([]string{"certificate", "verify"}, receipts...)...)
	o := s.must(0, "recovery", "drill", "--json", "--identity", s.identity("recovery-a"), "--identity", s.identity("recovery-b"))
	for _, d := range lines[drilled](s, o.out) {
		if len(d.Undrilled) > 0 || len(d.Identities) != 2 {
			s.Errorf("drill of %s: %v drilled, %v not", d.Order, d.Identities, d.Undrilled)
		}
	}
}

// filled demands that every index of an order has one validator, and that
// none of them stands anywhere else: seen is by pubkey, and grows.
func (s *site) filled(order string, count uint32, seen map[string]string) {
	s.Helper()
	owners := s.owners(order)
	if len(owners) != int(count) {
		s.Errorf("order %s has %d validators, want %d", order, len(owners), count)
	}
	for index, pubkey := range owners {
		where := fmt.Sprintf("%s/%d", order, index)
		if index >= count || seen[pubkey] != "" {
			s.Errorf("%s: beyond the order's %d, or the validator of %s again", where, count, seen[pubkey])
		}
		seen[pubkey] = where
	}
}
