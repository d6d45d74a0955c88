package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/internal/sqlite"
	"github.com/stakeseal/stakeseal/signer"
)

// storeFiles is the home's store as it stands, with nobody writing; put puts
// it back.
func (s *signerTest) storeFiles() (put func()) {
	s.t.Helper()
	store := filepath.Join(s.dir, "h", "records.db")
	files := map[string][]byte{}
	for _, end := range []string{"", "-wal"} {
		data, err := os.ReadFile(store + end)
		if err == nil {
			files[end] = data
		} else if end == "" {
			s.t.Fatal(err)
		}
	}
	return func() {
		for _, end := range []string{"-wal", "-shm", ""} {
			_ = os.Remove(store + end)
		}
		for end, data := range files {
			if err := os.WriteFile(store+end, data, 0o600); err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

// TestStoreSetBack: a store that alone was restored to an earlier time gives a
// key back to a signer that had let go of it. That one knows what it did, and
// not what the other signed since.
func TestStoreSetBack(t *testing.T) {
	s := newSignerTest(t, 2)
	s.must("signer", "init", "signer-a")
	s.must("signer", "init", "signer-b")
	a := s.serve("signer-a")
	if code, _ := a.attest(s.keys[0], 100, 101, 1); code != 200 {
		t.Fatal(code)
	}
	a.end(syscall.SIGTERM)
	back := s.storeFiles()
	s.must("signer", "move", "--from", "signer-a", "--to", "signer-b", s.keys[0].String(), "--yes")
	b := s.serve("signer-b")
	if code, _ := b.attest(s.keys[0], 101, 102, 1); code != 200 {
		t.Fatal(code)
	}
	b.end(syscall.SIGTERM)

	back()
	a = s.serve("signer-a")
	if code, text := a.attest(s.keys[0], 101, 102, 2); code != 412 {
		t.Errorf("what the other signed since, from the former signer: %d %s", code, text)
	}
	if !strings.Contains(a.words.String(), "first attestation in epoch") {
		t.Errorf("it does not say what that costs:\n%s", a.words)
	}
	if code, _ := a.attest(s.keys[1], 101, 102, 2); code != 200 {
		t.Errorf("a key that was never moved: %d", code)
	}
	a.end(syscall.SIGTERM)

	// And on to the next, with an epoch that another signer had.
	back()
	s.must("signer", "move", "--from", "signer-a", "--to", "signer-b", s.keys[1].String(), "--yes")
	s.must("signer", "takeover", "signer-a", "--to", "signer-b", "--yes")
	b = s.serve("signer-b")
	if code, text := b.attest(s.keys[0], 101, 102, 3); code != 412 {
		t.Errorf("what was signed, from the next signer: %d %s", code, text)
	}
}

// TestImportAddsToWhatIsKnown: an older EIP-3076 file is not taken for all that
// was signed where our own signers signed since.
func TestImportAddsToWhatIsKnown(t *testing.T) {
	s := newSignerTest(t, 1)
	s.must("signer", "init", "signer-a")
	s.must("signer", "init", "signer-b")
	old := filepath.Join(s.dir, "old.json")
	for _, target := range []uint64{101, 106} {
		a := s.serve("signer-a")
		if code, text := a.attest(s.keys[0], target-1, target, 1); code != 200 {
			t.Fatal(code, text)
		}
		a.end(syscall.SIGTERM)
		if target == 101 {
			s.must("signer", "export", "signer-a", "--out", old)
		}
	}
	s.must("signer", "move", "--from", "signer-a", "--to", "signer-b", "--yes")
	s.must("signer", "import", "signer-b", old, "--yes")
	b := s.serve("signer-b")
	if code, text := b.attest(s.keys[0], 105, 106, 2); code != 412 {
		t.Errorf("a double vote, after an older file was imported: %d %s", code, text)
	}
	if code, text := b.attest(s.keys[0], 106, 107, 2); code != 200 {
		t.Errorf("the next: %d %s", code, text)
	}
}

// TestMovedBackBeforeItWasServed: a key that is moved on and back, before the
// signer between could take it, is served again: that one has nothing to note
// but this.
func TestMovedBackBeforeItWasServed(t *testing.T) {
	s := newSignerTest(t, 1)
	s.must("signer", "init", "signer-a")
	s.must("signer", "init", "signer-b")
	a, b := s.serve("signer-a"), s.serve("signer-b")
	if code, text := a.attest(s.keys[0], 100, 101, 1); code != 200 {
		t.Fatal(code, text)
	}
	if err := a.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s.must("assign", "--to", "signer-b", "--move", "--yes", s.keys[0].String())
	b.wait(regexp.MustCompile("keys are not served yet"))
	s.must("assign", "--to", "signer-a", "--move", "--yes", s.keys[0].String())
	if err := a.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	a.wait(regexp.MustCompile("not assigned here any more"))
	a.waitKeys(1)
	if code, text := a.attest(s.keys[0], 100, 101, 2); code != 412 {
		t.Errorf("a double vote: %d %s", code, text)
	}
	if code, text := a.attest(s.keys[0], 101, 102, 2); code != 200 {
		t.Errorf("the next: %d %s", code, text)
	}
}

// TestExportHasFormerSigners: what is handed over says what every signer of the
// home signed, also where the last one never served the key, or not since it
// came back.
func TestExportHasFormerSigners(t *testing.T) {
	s := newSignerTest(t, 2)
	s.must("signer", "init", "signer-a")
	s.must("signer", "init", "signer-b")
	identity := filepath.Join(s.dir, "ids", "signer-a.identity")
	a := s.serve("signer-a")
	for _, key := range s.keys {
		if code, text := a.attest(key, 100, 101, 1); code != 200 {
			t.Fatal(code, text)
		}
	}
	a.end(syscall.SIGTERM)
	s.must("assign", "--to", "signer-b", "--move", "--yes", s.keys[0].String(), s.keys[1].String())
	exported := func(signer, key, folder string) string {
		t.Helper()
		out := filepath.Join(s.dir, folder)
		s.must("keystore", "export", "--signer", signer, "--identity", identity, "--for", "lighthouse", "--out", out, "--yes", key)
		files, err := filepath.Glob(filepath.Join(out, "*slashing*.json"))
		if err != nil || len(files) != 1 {
			t.Fatalf("%v, %v", files, err)
		}
		data, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if file := exported("signer-b", s.keys[0].String(), "one"); !strings.Contains(file, `"target_epoch":"101"`) {
		t.Errorf("of a signer that never served it: %s", file)
	}
	b := s.serve("signer-b")
	if code, text := b.attest(s.keys[1], 101, 102, 1); code != 200 {
		t.Fatal(code, text)
	}
	s.must("assign", "--to", "signer-a", "--move", "--yes", s.keys[1].String())
	b.waitKeys(0)
	b.end(syscall.SIGTERM)
	if file := exported("signer-a", s.keys[1].String(), "two"); !strings.Contains(file, `"target_epoch":"102"`) {
		t.Errorf("of a signer that it came back to: %s", file)
	}
}

// TestLostLedgerAsOfNow: the floor of a new ledger is as of its making. While
// the question stood, or somebody's lease was watched, the lost one may have
// been signed by.
func TestLostLedgerAsOfNow(t *testing.T) {
	s := newSignerTest(t, 1)
	s.must("signer", "init", "signer-a")
	if err := os.Remove(filepath.Join(s.dir, "h", "signers", "signer-a.db")); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	a, _, words := newApp(now)
	a.now = func() time.Time { // the operator thinks for an hour
		if strings.Contains(words.String(), "sign no attestation") {
			return now.Add(time.Hour)
		}
		return now
	}
	if code := a.run(t.Context(), []string{"signer", "init", "signer-a", "--lost-ledger", "--yes", "--home", filepath.Join(s.dir, "h")}); code != 0 {
		t.Fatalf("exit %d\n%s", code, words)
	}
	l, err := sqlite.OpenLedger(filepath.Join(s.dir, "h", "signers", "signer-a.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for m, err := range l.Marks(t.Context()) {
		if epoch, _ := signer.EpochAt(hoodiNetwork(), now.Add(time.Hour).Unix()); err != nil || m.Target != epoch+1 {
			t.Errorf("%+v, %v, in epoch %d", m, err, epoch)
		}
	}
}
