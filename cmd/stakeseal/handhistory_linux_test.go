package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/signer"
	"github.com/stakeseal/stakeseal/slashing"
)

// handed exports keys and returns the slashing protection that goes along.
func (s *signerTest) handed(signer, out string, more ...string) map[eth.Pubkey]slashing.Mark {
	s.t.Helper()
	out = filepath.Join(s.dir, out)
	s.must(append([]string{"keystore", "export", "--signer", signer, "--identity", filepath.Join(s.dir, "ids", "signer-a.identity"), "--for", "teku", "--out", out, "--yes"}, more...)...)
	return s.told(filepath.Join(out, slashingFile))
}

func (s *signerTest) told(file string) map[eth.Pubkey]slashing.Mark {
	s.t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	hoodi, _ := eth.LookupNetwork("hoodi")
	marks, err := slashing.Read(strings.NewReader(string(data)), hoodi.GenesisValidatorsRoot)
	if err != nil {
		s.t.Fatal(err)
	}
	all := map[eth.Pubkey]slashing.Mark{}
	for _, m := range marks {
		all[m.Pubkey] = m
	}
	return all
}

// TestHandoverOfMovedKeys: a key's file says what all our signers signed with
// it, not only the last that it was assigned to; and where nobody knows that,
// it allows nothing that can have been signed.
func TestHandoverOfMovedKeys(t *testing.T) {
	s := newSignerTest(t, 6)
	s.must("signer", "init", "signer-a")
	s.must("signer", "init", "signer-b")
	a := s.serve("signer-a")
	for _, key := range s.keys {
		if code, text := a.attest(key, 100, 101, 1); code != 200 {
			t.Fatal(code, text)
		}
	}
	whole := func(all map[eth.Pubkey]slashing.Mark, n int) {
		t.Helper()
		if len(all) != n {
			t.Errorf("%d keys", len(all))
		}
		for key, m := range all {
			if !m.Attestation || m.Source != 100 || m.Target != 101 || m.Block {
				t.Errorf("%v: %+v", key, m)
			}
		}
	}
	// signer-b never served them, whether signer-a let go of them before it
	// ended or not.
	one, two, three, four := s.keys[0].String(), s.keys[1].String(), s.keys[2].String(), s.keys[3].String()
	s.must("signer", "move", "--from", "signer-a", "--to", "signer-b", one, "--yes")
	a.end(syscall.SIGTERM)
	s.must("assign", "--to", "signer-b", "--move", two, "--yes")
	whole(s.handed("signer-b", "moved", one, two), 2)
	whole(s.handed("signer-b", "again", "--again", one, two), 2)

	// One that runs and has not let go yet may sign until it has.
	a = s.serve("signer-a")
	if err := a.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s.must("assign", "--to", "signer-b", "--move", three, "--yes")
	s.refused(5, "signer-a before, which runs and has not let go", "keystore", "export", "--signer", "signer-b",
		"--identity", filepath.Join(s.dir, "ids", "signer-a.identity"), "--for", "teku", "--out", filepath.Join(s.dir, "early"), "--yes", three)
	_ = a.cmd.Process.Signal(syscall.SIGCONT)
	a.end(syscall.SIGTERM)
	whole(s.handed("signer-b", "late", three), 1)

	// Back from other software, which may have signed, and handed over before
	// one of ours served it again: its ledger knows nothing of that.
	hoodi, _ := eth.LookupNetwork("hoodi")
	epoch, _ := signer.EpochAt(hoodi, time.Now().Unix())
	floored := func(all map[eth.Pubkey]slashing.Mark) {
		t.Helper()
		if len(all) != 1 {
			t.Errorf("%d keys", len(all))
		}
		for key, m := range all {
			if m.Source < epoch || m.Target < epoch+1 || m.Slot < (epoch+2)*32-1 {
				t.Errorf("%v: %+v, in epoch %d", key, m, epoch)
			}
		}
	}
	whole(s.handed("signer-a", "out", four), 1)
	s.must("assign", "--to", "signer-a", "--back", four, "--yes")
	floored(s.handed("signer-a", "out-again", four))
	s.must("assign", "--to", "signer-b", "--back", four, "--yes")
	floored(s.handed("signer-b", "out-elsewhere", four))
	if events := s.must("show", "--json", four); !strings.Contains(events, `"history":"floor"`) {
		t.Errorf("not noted: %s", events)
	}

	// A ledger that is lost cannot write the note of what was signed by it.
	s.must("assign", "--to", "signer-b", "--move", s.keys[4].String(), "--yes")
	if err := os.Remove(filepath.Join(s.dir, "h", "signers", "signer-a.db")); err != nil {
		t.Fatal(err)
	}
	floored(s.handed("signer-b", "lost", s.keys[4].String()))
}

// TestHandoverOfDeletedKeys: what the keymanager API took away is exported with
// the history that its answer had.
func TestHandoverOfDeletedKeys(t *testing.T) {
	s := newManagedTest(t, 1)
	p := s.serve("signer-a")
	if code := p.vote(s.keys[0], 100, 101, 1); code != 200 {
		t.Fatal(code)
	}
	if _, marks := p.remove(s.keys[0]); marks[s.keys[0]].Target != 101 {
		t.Fatalf("%+v", marks)
	}
	for key, m := range s.handed("keymanager", "deleted", "--again") {
		if m.Source != 100 || m.Target != 101 || m.Block {
			t.Errorf("%v: %+v", key, m)
		}
	}
}

// TestSignerImportOfMovedKeys: a file does not stand in for what another signer
// of the home signed, nor for waiting until that has let go.
func TestSignerImportOfMovedKeys(t *testing.T) {
	s := newSignerTest(t, 3)
	s.must("signer", "init", "signer-a")
	s.must("signer", "init", "signer-b")
	a := s.serve("signer-a")
	for _, key := range s.keys {
		if code, text := a.attest(key, 100, 105, 1); code != 200 {
			t.Fatal(code, text)
		}
	}
	// Written before the last vote.
	old := filepath.Join(s.dir, "old.json")
	var marks []slashing.Mark
	for _, key := range s.keys {
		marks = append(marks, slashing.Mark{Pubkey: key, Attestation: true, Source: 99, Target: 100})
	}
	var file strings.Builder
	hoodi, _ := eth.LookupNetwork("hoodi")
	if err := slashing.Write(&file, hoodi.GenesisValidatorsRoot, marks); err != nil {
		t.Fatal(err)
	}
	writeFile(t, old, file.String())

	if err := a.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s.must("assign", "--to", "signer-b", "--move", s.keys[0].String(), "--yes")
	s.refused(5, "signer-a before, which runs and has not let go", "signer", "import", "signer-b", old, "--yes")
	_ = a.cmd.Process.Signal(syscall.SIGCONT)
	a.end(syscall.SIGTERM)
	s.must("signer", "import", "signer-b", old, "--yes")
	b := s.serve("signer-b")
	b.waitKeys(1)
	for _, c := range []struct {
		source, target uint64
		root           byte
		want           int
	}{{100, 105, 2, 412}, {101, 104, 1, 412}, {101, 106, 1, 200}} {
		if code, text := b.attest(s.keys[0], c.source, c.target, c.root); code != c.want {
			t.Errorf("%+v: %d %s", c, code, text)
		}
	}
	b.end(syscall.SIGTERM)

	// Where the other's ledger is lost, the file is not all, and a floor is raised.
	s.must("assign", "--to", "signer-b", "--move", s.keys[1].String(), "--yes")
	if err := os.Remove(filepath.Join(s.dir, "h", "signers", "signer-a.db")); err != nil {
		t.Fatal(err)
	}
	if code, _, words := s.run("signer", "import", "signer-b", old, "--yes"); code != 0 || !strings.Contains(words, "for 1 keys of signer-b the file is not taken as all") {
		t.Errorf("%d %s", code, words)
	}
	b = s.serve("signer-b")
	b.waitKeys(2)
	if code, text := b.attest(s.keys[1], 106, 107, 1); code != 412 {
		t.Errorf("below the floor: %d %s", code, text)
	}
}
