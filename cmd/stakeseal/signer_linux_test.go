package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/eth/duty"
)

// signerTest is a home with two signers and keys, used by the real programs.
type signerTest struct {
	t    *testing.T
	dir  string
	keys []eth.Pubkey
}

func newSignerTest(t *testing.T, keys int) *signerTest {
	t.Helper()
	s := &signerTest{t: t, dir: t.TempDir()}
	s.must("init", "--network", "hoodi", "--withdrawal-address", "0x388C818CA8B9251b393131C08a736A67ccB19297", "--identities", filepath.Join(s.dir, "ids"))
	home := filepath.Join(s.dir, "h", "home.yaml")
	data, err := os.ReadFile(home)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(home, bytes.Replace(data, []byte("[signer-a]"), []byte("[signer-a, signer-b]"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	s.must("generate", "--count", fmt.Sprint(keys), "--assign", "signer-a", "--yes")
	for line := range strings.Lines(s.must("list", "--json")) {
		var v struct{ Pubkey eth.Pubkey }
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		s.keys = append(s.keys, v.Pubkey)
	}
	if len(s.keys) != keys {
		t.Fatalf("%d keys", len(s.keys))
	}
	return s
}

func (s *signerTest) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(programs, "stakeseal"), append(args, "--home", filepath.Join(s.dir, "h"))...)
	cmd.Env = append(os.Environ(), "HOME="+s.dir, "XDG_DATA_HOME=")
	return cmd
}

// run runs a verb and returns its exit code, data and words.
func (s *signerTest) run(args ...string) (int, string, string) {
	s.t.Helper()
	cmd := s.command(args...)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), words.String()
}

func (s *signerTest) must(args ...string) string {
	s.t.Helper()
	code, out, words := s.run(args...)
	if code != 0 {
		s.t.Fatalf("stakeseal %s: exit %d\n%s", strings.Join(args, " "), code, words)
	}
	return out
}

func (s *signerTest) refused(want int, text string, args ...string) {
	s.t.Helper()
	if code, _, words := s.run(args...); code != want || !strings.Contains(words, text) {
		s.t.Errorf("stakeseal %s: exit %d, want %d and %q:\n%s", strings.Join(args, " "), code, want, text, words)
	}
}

// serving is a signer that runs.
type serving struct {
	s     *signerTest
	cmd   *exec.Cmd
	url   string
	words *signerWords
}

// signerWords is what a program has said so far.
type signerWords struct {
	mu   sync.Mutex
	text bytes.Buffer
	new  chan struct{}
}

func (l *signerWords) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.new <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

func (l *signerWords) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

var servesOn = regexp.MustCompile(`serves (\d+) keys on (\S+)\n`)

// serve starts a signer and waits until it serves.
func (s *signerTest) serve(name string, more ...string) *serving {
	s.t.Helper()
	args := append([]string{"signer", "serve", name, "--identity", filepath.Join(s.dir, "ids", "signer-a.identity"), "--listen", "127.0.0.1:0", "--metrics", "none"}, more...)
	p := &serving{s: s, cmd: s.command(args...), words: &signerWords{new: make(chan struct{}, 1)}}
	p.cmd.Stderr = p.words
	if err := p.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() })
	p.wait(servesOn)
	p.url = "http://" + servesOn.FindStringSubmatch(p.words.String())[2]
	return p
}

// wait waits until it says something.
func (p *serving) wait(what *regexp.Regexp) {
	p.s.t.Helper()
	deadline := time.After(2 * time.Minute)
	for !what.MatchString(p.words.String()) {
		select {
		case <-p.words.new:
		case <-deadline:
			p.s.t.Fatalf("it never said %q:\n%s", what, p.words)
		}
	}
}

// end ends it and returns its exit code.
func (p *serving) end(signal os.Signal) int {
	_ = p.cmd.Process.Signal(signal)
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

// attest asks for an attestation; root tells messages apart.
func (p *serving) attest(key eth.Pubkey, source, target uint64, root byte) (int, string) {
	body := attestationBody(source, target, root)
	r, err := http.Post(p.url+"/api/v1/eth2/sign/"+key.String(), "application/json", strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	defer r.Body.Close()
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, err.Error()
	}
	return r.StatusCode, string(data)
}

func attestationBody(source, target uint64, root byte) string {
	hoodi, _ := eth.LookupNetwork("hoodi")
	zero := strings.Repeat("00", 32)
	return fmt.Sprintf(`{"type":"ATTESTATION","fork_info":{"fork":{"previous_version":"0x60000910","current_version":"0x70000910","epoch":"50688"},"genesis_validators_root":"%v"},`+
		`"attestation":{"slot":"%d","index":"0","beacon_block_root":"0x%s","source":{"epoch":"%d","root":"0x%s"},"target":{"epoch":"%d","root":"0x%s"}}}`,
		hoodi.GenesisValidatorsRoot, target*32, strings.Repeat(fmt.Sprintf("%02x", root), 32), source, zero, target, zero)
}

// verified says whether it is the key's signature.
func verified(t *testing.T, key eth.Pubkey, source, target uint64, root byte, text string) bool {
	t.Helper()
	hoodi, _ := eth.LookupNetwork("hoodi")
	r, err := duty.Parse([]byte(attestationBody(source, target, root)))
	if err != nil {
		t.Fatal(err)
	}
	signing, err := r.SigningRoot(hoodi)
	if err != nil {
		t.Fatal(err)
	}
	var signature eth.Signature
	return signature.UnmarshalText([]byte(text)) == nil && bls.Verify(bls.Claim{Pubkey: key, Root: signing, Signature: signature})
}

func (p *serving) publicKeys() (keys []eth.Pubkey) {
	r, err := http.Get(p.url + "/api/v1/eth2/publicKeys")
	if err != nil {
		return nil
	}
	defer r.Body.Close()
	_ = json.NewDecoder(r.Body).Decode(&keys)
	return keys
}

// waitKeys waits until it serves so many.
func (p *serving) waitKeys(n int) {
	p.s.t.Helper()
	for end := time.Now().Add(2 * time.Minute); len(p.publicKeys()) != n; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			p.s.t.Fatalf("it never served %d keys, but %d:\n%s", n, len(p.publicKeys()), p.words)
		}
	}
}

// TestSignerLife: made once, served, moved to another signer and back, refused
// with another or an older ledger, and replaced when that is lost.
func TestSignerLife(t *testing.T) {
	s := newSignerTest(t, 3)
	identity := filepath.Join(s.dir, "ids", "signer-a.identity")
	s.refused(2, "stakeseal signer init signer-a", "signer", "serve", "signer-a", "--identity", identity)
	s.refused(2, "does not exist", "signer", "init", "signer-c")
	s.refused(2, "never initialised", "signer", "init", "signer-a", "--lost-ledger", "--yes")
	s.must("signer", "init", "signer-a")
	s.refused(5, "initialised already", "signer", "init", "signer-a")
	s.must("signer", "init", "signer-b")

	a := s.serve("signer-a")
	if got := a.publicKeys(); len(got) != 3 {
		t.Fatalf("it serves %v", got)
	}
	if code, text := a.attest(s.keys[0], 100, 101, 1); code != 200 || !verified(t, s.keys[0], 100, 101, 1, text) {
		t.Fatalf("%d %s", code, text)
	}
	s.refused(5, "running already", "signer", "serve", "signer-a", "--identity", identity, "--listen", "127.0.0.1:0", "--metrics", "none")
	s.refused(5, "running already", "signer", "export", "signer-a", "--out", filepath.Join(s.dir, "x.json"))
	if out := s.must("signer", "status", "--json"); !strings.Contains(out, `"state":"held"`) || !strings.Contains(out, `"state":"released"`) {
		t.Errorf("status: %s", out)
	}

	// Keys that move while both run: each is served by one, with its marks.
	b := s.serve("signer-b")
	s.must("signer", "move", "--from", "signer-a", "--to", "signer-b", s.keys[0].String(), "--yes")
	if code, _ := a.attest(s.keys[0], 101, 102, 1); code != 404 {
		t.Errorf("the former signer, after the move: %d", code)
	}
	b.waitKeys(1)
	for _, c := range []struct {
		source, target uint64
		root           byte
		want           int
	}{{100, 101, 2, 412}, {99, 103, 1, 412}, {100, 101, 1, 200}, {101, 102, 1, 200}} {
		if code, text := b.attest(s.keys[0], c.source, c.target, c.root); code != c.want {
			t.Errorf("the new signer: %+v: %d %s", c, code, text)
		}
	}
	if got := a.publicKeys(); len(got) != 2 || slices.Contains(got, s.keys[0]) {
		t.Errorf("the former signer serves %v", got)
	}
	// And back, from a signer that is stopped.
	if code := b.end(syscall.SIGTERM); code != 0 {
		t.Errorf("SIGTERM: exit %d\n%s", code, b.words)
	}
	s.must("signer", "move", "--from", "signer-b", "--to", "signer-a", "--yes")
	a.waitKeys(3)
	if code, _ := a.attest(s.keys[0], 101, 102, 9); code != 412 {
		t.Errorf("after the move back, a double vote: %d", code)
	}
	if code, _ := a.attest(s.keys[0], 102, 103, 9); code != 200 {
		t.Errorf("after the move back: %d", code)
	}

	// Killed, it starts again at once, and knows.
	a.end(syscall.SIGKILL)
	a = s.serve("signer-a")
	if code, _ := a.attest(s.keys[0], 102, 103, 8); code != 412 {
		t.Errorf("after kill -9, a double vote: %d", code)
	}
	a.end(syscall.SIGTERM)
	ledger := filepath.Join(s.dir, "h", "signers", "signer-a.db")
	copied, err := os.ReadFile(ledger)
	if err != nil {
		t.Fatal(err)
	}
	a = s.serve("signer-a")
	if code, _ := a.attest(s.keys[1], 102, 103, 8); code != 200 {
		t.Errorf("%d", code)
	}
	a.end(syscall.SIGTERM)
	s.must("signer", "export", "signer-a", "--out", filepath.Join(s.dir, "history.json"))

	// An older copy, none, and another's.
	if err := errors.Join(os.Rename(ledger, ledger+".good"), os.WriteFile(ledger, copied, 0o600)); err != nil {
		t.Fatal(err)
	}
	s.refused(3, "watermark", "signer", "serve", "signer-a", "--identity", identity, "--listen", "127.0.0.1:0", "--metrics", "none")
	s.refused(3, "watermark", "signer", "export", "signer-a", "--out", filepath.Join(s.dir, "x.json"))
	if err := os.Remove(ledger); err != nil {
		t.Fatal(err)
	}
	s.refused(2, "--lost-ledger", "signer", "serve", "signer-a", "--identity", identity, "--listen", "127.0.0.1:0", "--metrics", "none")
	s.refused(5, "initialised already", "signer", "init", "signer-a")
	other, err := os.ReadFile(filepath.Join(s.dir, "h", "signers", "signer-b.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ledger, other, 0o600); err != nil {
		t.Fatal(err)
	}
	s.refused(3, "signer-b", "signer", "serve", "signer-a", "--identity", identity, "--listen", "127.0.0.1:0", "--metrics", "none")
	s.refused(2, "confirmation", "signer", "init", "signer-a", "--lost-ledger")

	// Where the clock tells the epoch nobody is asked: a lower one would protect
	// nothing.
	s.refused(2, "known here", "signer", "init", "signer-a", "--lost-ledger", "--epoch", "100", "--yes")

	// Lost for good: a new one, which allows nothing before two epochs are over.
	if code, _, words := s.run("signer", "init", "signer-a", "--lost-ledger", "--yes"); code != 0 || !strings.Contains(words, "no attestation before epoch") {
		t.Fatalf("exit %d\n%s", code, words)
	}
	s.refused(5, "nothing is lost", "signer", "init", "signer-a", "--lost-ledger", "--yes")
	a = s.serve("signer-a")
	hoodi, _ := eth.LookupNetwork("hoodi")
	now := uint64(time.Now().Unix()-hoodi.GenesisTime) / 12 / 32
	if code, _ := a.attest(s.keys[2], now-1, now, 1); code != 412 {
		t.Errorf("an attestation of now, with a new ledger: %d", code)
	}
	a.end(syscall.SIGTERM)
	s.refused(2, "not a usable", "signer", "import", "signer-a", filepath.Join(s.dir, "h", "home.yaml"), "--yes")
	s.must("signer", "import", "signer-a", filepath.Join(s.dir, "history.json"), "--yes")
}

// TestSignerTakeover: a signer that was killed is replaced at once where its
// ledger is whole, and with floors where it is not.
func TestSignerTakeover(t *testing.T) {
	s := newSignerTest(t, 2)
	s.must("signer", "init", "signer-a")
	s.must("signer", "init", "signer-b")
	a := s.serve("signer-a")
	if code, _ := a.attest(s.keys[0], 100, 101, 1); code != 200 {
		t.Fatal(code)
	}
	a.end(syscall.SIGKILL)
	s.must("signer", "takeover", "signer-a", "--to", "signer-b", "--yes")
	b := s.serve("signer-b")
	if code, _ := b.attest(s.keys[0], 100, 101, 2); code != 412 {
		t.Errorf("a double vote: %d", code)
	}
	if code, _ := b.attest(s.keys[0], 101, 102, 2); code != 200 {
		t.Errorf("the next: %d", code)
	}
	b.end(syscall.SIGTERM)
	// Now the ledger of b is gone with its machine; its lease was let go of.
	if err := os.Remove(filepath.Join(s.dir, "h", "signers", "signer-b.db")); err != nil {
		t.Fatal(err)
	}
	s.must("signer", "takeover", "signer-b", "--to", "signer-a", "--yes")
	a = s.serve("signer-a")
	if code, _ := a.attest(s.keys[0], 102, 103, 2); code != 412 {
		t.Errorf("what b may have signed: %d", code)
	}
	if !strings.Contains(a.words.String(), "first attestation in epoch") {
		t.Errorf("it does not say what that costs:\n%s", a.words)
	}
}

// TestSignerSaysNoSecret: no secret in what a signer says or writes.
func TestSignerSaysNoSecret(t *testing.T) {
	s := newSignerTest(t, 1)
	s.must("signer", "init", "signer-a")
	p := s.serve("signer-a", "--log-signatures", "--json")
	if code, _ := p.attest(s.keys[0], 100, 101, 1); code != 200 {
		t.Fatal(code)
	}
	if code := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit %d", code)
	}
	out := filepath.Join(s.dir, "out")
	s.must("keystore", "export", "--signer", "signer-a", "--identity", filepath.Join(s.dir, "ids", "signer-a.identity"), "--for", "web3signer", "--out", out, "--yes")
	passwords, err := filepath.Glob(filepath.Join(out, "passwords", "*"))
	if err != nil || len(passwords) != 1 {
		t.Fatal(passwords, err)
	}
	password, err := os.ReadFile(passwords[0])
	if err != nil {
		t.Fatal(err)
	}
	places := []string{p.words.String()}
	files, err := filepath.Glob(filepath.Join(s.dir, "h", "signers", "*"))
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, string(data))
	}
	for i, place := range places {
		if strings.Contains(place, string(bytes.TrimSpace(password))) || strings.Contains(place, "AGE-SECRET-KEY") {
			t.Errorf("place %d shows a secret", i)
		}
	}
	if !strings.Contains(p.words.String(), `"msg":"signed"`) {
		t.Errorf("no log of signatures:\n%s", p.words)
	}
}
