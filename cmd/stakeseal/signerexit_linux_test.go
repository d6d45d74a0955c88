package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/slashing"
)

// TestExitSign: only with a grant; what is written is what beacon nodes take.
func TestExitSign(t *testing.T) {
	s := newSignerTest(t, 2)
	s.must("signer", "init", "signer-a")
	signers, out := filepath.Join(s.dir, "h", "signers"), filepath.Join(s.dir, "exits")
	word := strings.Repeat("0123456789abcdef", 3)
	for name, text := range map[string]string{"vc.token": word + "1", "exit.token": word + "2",
		"signer-a.yaml": "version: 1\nclients:\n  - {name: vc, token: vc.token}\n  - {name: leaver, token: exit.token, operations: [VOLUNTARY_EXIT]}\n"} {
		if err := os.WriteFile(filepath.Join(signers, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(out, 0o700); err != nil {
		t.Fatal(err)
	}
	p := s.serve("signer-a")
	first, second := s.keys[0].String()+"=12345", s.keys[1].String()+"=12346"
	with := func(token string, more ...string) []string {
		return append([]string{"exit", "sign", "--signer-url", p.url, "--token", filepath.Join(signers, token), "--out", out, "--epoch", "7"}, more...)
	}
	s.refused(6, "was not granted", with("vc.token", first, "--yes")...)
	s.refused(6, "not known", "exit", "sign", "--signer-url", p.url, "--out", out, first, "--yes")
	s.refused(2, "no index", with("exit.token", s.keys[0].String(), "--yes")...)
	s.refused(2, "twice", with("exit.token", first, s.keys[1].String()+"=12345", "--yes")...)
	s.refused(2, "confirmation", with("exit.token", first)...)
	s.refused(2, "in the clear", "exit", "sign", "--signer-url", "http://signer.example:9000", "--token", filepath.Join(signers, "vc.token"), "--out", out, first, "--yes")
	s.must(with("exit.token", first, second, "--yes")...)
	s.refused(5, "nothing is overwritten", with("exit.token", first, "--yes")...)
	data, err := os.ReadFile(filepath.Join(out, "exit-12345-"+s.keys[0].Hex()[:12]+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var exit struct {
		Message struct {
			Epoch string `json:"epoch"`
			Index string `json:"validator_index"`
		} `json:"message"`
		Signature eth.Signature `json:"signature"`
	}
	if err := json.Unmarshal(data, &exit); err != nil || exit.Message.Epoch != "7" || exit.Message.Index != "12345" {
		t.Errorf("%s %v", data, err)
	}
	// The root by hand: two numbers, under Capella's version for ever.
	hoodi, _ := eth.LookupNetwork("hoodi")
	domain, _ := hoodi.ExitDomain()
	var both [64]byte
	binary.LittleEndian.PutUint64(both[:], 7)
	binary.LittleEndian.PutUint64(both[32:], 12345)
	if !bls.Verify(bls.Claim{Pubkey: s.keys[0], Root: eth.SigningRoot(sha256.Sum256(both[:]), domain), Signature: exit.Signature}) {
		t.Error("not the exit's signature")
	}
	if code, _ := p.attest(s.keys[0], 1, 2, 1); code != 401 {
		t.Errorf("without a token: %d", code)
	}
	if strings.Contains(p.words.String(), word) {
		t.Error("the log shows a token")
	}
}

// TestSignersAtOnce: of twenty started for one name at one moment, one
// serves, and the others say why not.
func TestSignersAtOnce(t *testing.T) {
	s := newSignerTest(t, 1)
	s.must("signer", "init", "signer-a")
	type started struct {
		cmd   *exec.Cmd
		words *signerWords
		ended chan int
	}
	var all []*started
	for range 20 {
		p := &started{s.command("signer", "serve", "signer-a", "--identity", filepath.Join(s.dir, "ids", "signer-a.identity"), "--listen", "127.0.0.1:0", "--metrics", "none"), &signerWords{new: make(chan struct{}, 1)}, make(chan int, 1)}
		p.cmd.Stderr = p.words
		if err := p.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.cmd.Process.Kill() })
		go func() { _ = p.cmd.Wait(); p.ended <- p.cmd.ProcessState.ExitCode() }()
		all = append(all, p)
	}
	var left []*started
	serves := 0
	for deadline := time.After(2 * time.Minute); len(all) > 0; all, left = left, nil {
		for _, p := range all {
			select {
			case code := <-p.ended:
				if code != exitConflict || !strings.Contains(p.words.String(), "one process signs under a name") {
					t.Errorf("one ended with %d:\n%s", code, p.words)
				}
			case <-deadline:
				t.Fatal("they neither serve nor end")
			default:
				if servesOn.MatchString(p.words.String()) {
					serves++
				} else {
					left = append(left, p)
				}
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	if serves != 1 {
		t.Errorf("%d serve", serves)
	}
}

// TestHandoverCarriesMarks: what a signer signed goes with its keys to other
// software, and not while it still signs.
func TestHandoverCarriesMarks(t *testing.T) {
	s := newSignerTest(t, 2)
	s.must("signer", "init", "signer-a")
	p := s.serve("signer-a")
	if code, _ := p.attest(s.keys[0], 100, 101, 1); code != 200 {
		t.Fatal(code)
	}
	export := []string{"keystore", "export", "--signer", "signer-a", "--identity", filepath.Join(s.dir, "ids", "signer-a.identity"), "--for", "web3signer", "--out", filepath.Join(s.dir, "out"), "--yes"}
	s.refused(5, "running already", export...)
	p.end(syscall.SIGTERM)
	s.must(export...)
	data, err := os.ReadFile(filepath.Join(s.dir, "out", "slashing-protection.json"))
	if err != nil {
		t.Fatal(err)
	}
	hoodi, _ := eth.LookupNetwork("hoodi")
	marks, err := slashing.Read(bytes.NewReader(data), hoodi.GenesisValidatorsRoot)
	if err != nil || len(marks) != 2 {
		t.Fatalf("%v, %v", marks, err)
	}
	for _, m := range marks {
		if want := m.Pubkey == s.keys[0]; m.Attestation != want || want && (m.Source != 100 || m.Target != 101) || m.Block {
			t.Errorf("%+v", m)
		}
	}
}

// TestTakenBackHasFloor: keys that other software refused, and that are served
// here again, sign nothing that it could have signed, had it lied.
func TestTakenBackHasFloor(t *testing.T) {
	s := newSignerTest(t, 1)
	s.must("signer", "init", "signer-a")
	p := s.serve("signer-a")
	if code, _ := p.attest(s.keys[0], 100, 101, 1); code != 200 {
		t.Fatal(code)
	}
	p.end(syscall.SIGTERM)
	k := newKeymanagers(t, false)
	k.refuse = map[eth.Pubkey]string{s.keys[0]: "no"}
	token := filepath.Join(s.dir, "token")
	writeFile(t, token, k.token)
	s.refused(4, "1 it does not have, and are assigned to signer-a again", "keystore", "export", "--signer", "signer-a",
		"--identity", filepath.Join(s.dir, "ids", "signer-a.identity"), "--into", k.URL, "--token", token, "--yes")
	if m := k.marks[s.keys[0]]; m.Source != 100 || m.Target != 101 {
		t.Errorf("sent with %+v", m)
	}
	p = s.serve("signer-a")
	if code, said := p.attest(s.keys[0], 101, 102, 2); code != 412 {
		t.Errorf("below the floor: %d %s", code, said)
	}
}

// TestHandIntoOurs: a running signer of another home takes the keys, and what
// was signed for them.
func TestHandIntoOurs(t *testing.T) {
	from, to := newSignerTest(t, 2), newManagedTest(t, 1)
	from.must("signer", "init", "signer-a")
	p := from.serve("signer-a")
	if code, _ := p.attest(from.keys[0], 100, 101, 1); code != 200 {
		t.Fatal(code)
	}
	p.end(syscall.SIGTERM)
	taker := to.serve("signer-a")
	token := filepath.Join(from.dir, "token")
	export := func(client string, more ...string) []string {
		if err := os.WriteFile(token, []byte(tokenOf(client)), 0o600); err != nil {
			t.Fatal(err)
		}
		return append([]string{"keystore", "export", "--signer", "signer-a", "--identity", filepath.Join(from.dir, "ids", "signer-a.identity"),
			"--into", taker.url, "--token", token, "--yes"}, more...)
	}
	from.refused(6, "the keymanager API answers 403", export("vc")...)
	said := from.must(export("manager", "--json")...)
	if strings.Count(said, `"delivery":"imported"`) != 2 {
		t.Errorf("%s", said)
	}
	if code := taker.vote(from.keys[0], 100, 101, 2); code != 412 {
		t.Errorf("another vote for what was signed before: %d", code)
	}
	if said := from.must(export("manager", "--again", "--json")...); strings.Count(said, `"delivery":"duplicate"`) != 2 {
		t.Errorf("once more: %s", said)
	}
}
