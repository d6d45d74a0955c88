package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/secret"
)

// spied is a store that lets a test act in the middle of a command.
type spied struct {
	records
	listing func() // once, when assignments were read and validators are not yet
	noting  func(record.Event)

	noBirths bool
}

func (w *spied) Validators(ctx context.Context, q record.Query) iter.Seq2[record.Validator, error] {
	if act := w.listing; act != nil {
		w.listing = nil
		act()
	}
	return w.records.Validators(ctx, q)
}

func (w *spied) PutBirth(ctx context.Context, b record.Birth) (record.Birth, error) {
	if w.noBirths {
		return record.Birth{}, errPulled
	}
	return w.records.PutBirth(ctx, b)
}

func (w *spied) Append(ctx context.Context, e record.Event) error {
	if w.noting != nil {
		w.noting(e)
	}
	return w.records.Append(ctx, e)
}

// typist is somebody at the terminal who does something before he answers.
type typist struct {
	before func()
	answer string
}

func (y *typist) Read(p []byte) (int, error) {
	if y.answer == "" {
		return 0, io.EOF
	}
	if y.before != nil {
		y.before()
		y.before = nil
	}
	n := copy(p, y.answer)
	y.answer = y.answer[n:]
	return n, nil
}

// opened opens the site's home in this process.
func (s *site) opened(a *app) *home {
	s.Helper()
	a.homeFlag, a.now = s.home, time.Now
	if a.in == nil {
		a.in = strings.NewReader("")
	}
	if a.out == nil {
		a.out = io.Discard
	}
	if a.err == nil {
		a.err = io.Discard
	}
	h, err := a.openHome(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(h.close)
	return h
}

// twoSigners makes a site with two validators assigned to signer-a.
func twoSigners(t *testing.T) *site {
	t.Helper()
	s := newSite(t)
	settings := filepath.Join(s.home, "home.yaml")
	data, err := os.ReadFile(settings)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, settings, strings.Replace(string(data), "signers: [signer-a]", "signers: [signer-a, signer-b]", 1))
	s.must(0, "generate", "--order", "first", "--count", "2", "--keystore", "none", "--assign", "signer-a", "--yes")
	return s
}

// moveAll assigns all validators to a signer, as another process would.
func moveAll(t *testing.T, h *home, signer string) {
	t.Helper()
	var all []record.Assignment
	for held, err := range h.records.Assigned(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, held)
	}
	for _, held := range all {
		held.Signer, held.Epoch = signer, held.Epoch+1
		if err := h.records.Assign(t.Context(), held); err != nil {
			t.Fatal(err)
		}
	}
}

// signersOf are the signers that validators are assigned to now.
func signersOf(t *testing.T, h *home) (list []string) {
	t.Helper()
	for held, err := range h.records.Assigned(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, held.Signer)
	}
	return list
}

// Keys that another process handed over or moved while they were listed are
// not the signer's any more, whatever the list says.
func TestHandoverWhileMoved(t *testing.T) {
	for _, to := range []string{external + "signer-a", "signer-b"} {
		for _, again := range []bool{false, true} {
			for _, named := range []bool{false, true} {
				s := twoSigners(t)
				var f handoverFlags
				f.signer, f.client, f.again = "signer-a", "teku", again
				if named {
					for _, pubkey := range s.owners("first") {
						f.words = append(f.words, pubkey)
					}
				}
				a := &app{}
				h := s.opened(a)
				h.records = &spied{records: h.records, listing: func() { moveAll(t, h, to) }}
				list, err := h.handover(t.Context(), f)
				if again && to != "signer-b" {
					if err != nil || len(list) != 2 || list[0].assigned.Signer != to {
						t.Errorf("moved to %s, again: %d keys, %v", to, len(list), err)
					}
					continue
				}
				if verdictOf(err) != exitConflict || len(list) != 0 {
					t.Errorf("moved to %s, again %v, named %v: %d keys, %v", to, again, named, len(list), err)
				}
			}
		}
	}
}

// Of two exports that chose the same keys in one second, one hands them over.
// The store takes the second's assignment as the first's, repeated.
func TestHandoverTwice(t *testing.T) {
	s := twoSigners(t)
	a := &app{}
	h := s.opened(a)
	moment := time.Now()
	a.now = func() time.Time { return moment }
	var f handoverFlags
	f.signer, f.client = "signer-a", "teku"
	var lists [2][]*handed
	for i := range lists {
		var err error
		if lists[i], err = h.handover(t.Context(), f); err != nil || len(lists[i]) != 2 {
			t.Fatalf("%d keys, %v", len(lists[i]), err)
		}
	}
	if err := a.handOver(t.Context(), h, f, lists[0]); err != nil {
		t.Fatal(err)
	}
	if err := a.handOver(t.Context(), h, f, lists[1]); verdictOf(err) != exitConflict {
		t.Errorf("handed over twice: %v", err)
	}
	// What is neither the signer's nor asked for again is nobody's to write.
	again, k := f, *lists[0][0]
	again.again = true
	if k.assigned.Signer = external + "signer-a"; a.handOverOne(t.Context(), h, f, &k) == nil {
		t.Error("written again without --again")
	}
	if k.assigned.Signer = "signer-b"; a.handOverOne(t.Context(), h, again, &k) == nil {
		t.Error("another signer's key is written")
	}
	notes := 0
	for _, err := range h.records.Events(t.Context(), record.EventQuery{Kind: "exported-keystore"}) {
		if err != nil {
			t.Fatal(err)
		}
		notes++
	}
	if notes != 2 {
		t.Errorf("%d notes of 2 keys", notes)
	}
}

// filesUnder are the files of a folder, hidden ones too.
func filesUnder(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// Nothing of a key is on the disk while the question stands, nor while keys
// are handed over: a process that is killed there leaves nothing to sign with.
func TestNothingWrittenBeforeHandedOver(t *testing.T) {
	s := twoSigners(t)
	above := s.path("above")
	if err := os.Mkdir(above, 0o700); err != nil {
		t.Fatal(err)
	}
	looks := 0
	look := func() {
		looks++
		if list := filesUnder(t, above); len(list) > 0 {
			t.Errorf("on the disk there is %q", list)
		}
	}
	answer := &typist{before: look, answer: "n\n"}
	a := &app{in: answer, terminal: true}
	h := s.opened(a)
	h.records = &spied{records: h.records, noting: func(record.Event) { look() }}
	var f handoverFlags
	f.signer, f.client = "signer-a", "teku"
	list, err := h.handover(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	// deliver is given files; what opens the keys writes none either.
	out, err := newOutFolder(filepath.Join(above, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.discard()
	keys, err := a.keys(t.Context(), nil, identityFlags{files: []string{s.identity("signer-a")}})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range list {
		if err := h.openHanded(t.Context(), keys, k); err != nil {
			t.Fatal(err)
		}
	}
	nameKeystores(list, a.now().Unix())
	look()
	if err := a.deliver(t.Context(), h, f, clients["teku"], list, eth.Root{1}, out); verdictOf(err) != exitInterrupted {
		t.Fatalf("declined: %v", err)
	}
	look()
	if got := signersOf(t, h); !slices.Equal(got, []string{"signer-a", "signer-a"}) {
		t.Errorf("declined, and assigned to %q", got)
	}
	*answer = typist{before: look, answer: "y\n"}
	if err := a.deliver(t.Context(), h, f, clients["teku"], list, eth.Root{1}, out); err != nil {
		t.Fatal(err)
	}
	if got := filesUnder(t, above); len(got) != 5 || looks != 6 {
		t.Errorf("%d files, and looked %d times", len(got), looks)
	}
}

// A restore is noted before the first keystore is written.
func TestRestoreNotesFirst(t *testing.T) {
	s := twoSigners(t)
	a := &app{yes: true}
	h := s.opened(a)
	order, err := h.sealedOrder(t.Context(), "first")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := a.keys(t.Context(), nil, identityFlags{files: []string{s.identity("recovery-a")}})
	if err != nil {
		t.Fatal(err)
	}
	opened, err := order.open(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.wipe()
	rows, err := order.prove(t.Context(), opened, 1, a.progress(2, ""))
	if err != nil {
		t.Fatal(err)
	}
	out, err := newOutFolder(s.path("back"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.discard()
	notes := 0
	h.records = &spied{records: h.records, noting: func(e record.Event) {
		notes++
		if list := filesUnder(t, out.temp); e.Kind != "restored" || len(list) > 0 {
			t.Errorf("noted as %s when %q was written", e.Kind, list)
		}
	}}
	password := secret.Copy([]byte("long enough"))
	if err := a.writeRestored(t.Context(), restoreFlags{workers: 1}, keystore.PBKDF2, order, h, opened, rows, password, out); err != nil {
		t.Fatal(err)
	}
	if got := filesUnder(t, out.path); len(got) != 2 || notes != 1 {
		t.Errorf("%d files, %d notes", len(got), notes)
	}
}

// A mnemonic that no validator came out of is not shown: whoever put it into
// the store knows it.
func TestShowMnemonics(t *testing.T) {
	s := twoSigners(t)
	var shown bytes.Buffer
	a := &app{yes: true, out: &shown}
	h := s.opened(a)
	order, err := h.sealedOrder(t.Context(), "first")
	if err != nil {
		t.Fatal(err)
	}
	var rows []record.Validator
	for v, err := range h.records.Validators(t.Context(), record.Query{Order: "first"}) {
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, v)
	}
	keys, err := a.keys(t.Context(), nil, identityFlags{files: []string{s.identity("recovery-a")}})
	if err != nil {
		t.Fatal(err)
	}
	alone := order.mnemonics[0]
	alone.ID = "m-0000000000000000"
	order.mnemonics = append(order.mnemonics, alone)
	if err := a.showMnemonics(t.Context(), nil, order, rows, keys); err != nil {
		t.Fatal(err)
	}
	if text := shown.String(); strings.Count(text, "indexes") != 1 || !strings.HasPrefix(text, rows[0].Mnemonic+", ") {
		t.Error("it shows another than the one mnemonic of the validators") // not printed: it is one
	}
}

// Keys that go to other software while assign --move waits for an answer are
// not taken back.
func TestAssignWhileHandedOver(t *testing.T) {
	s := twoSigners(t)
	a := &app{terminal: true}
	h := s.opened(a)
	away := external + "signer-a"
	a.in = &typist{before: func() { moveAll(t, h, away) }, answer: "y\n"}
	err := a.assign(t.Context(), h, &selection{order: "first"}, "signer-b", true)
	if !errors.Is(err, record.ErrStale) || verdictOf(err) != exitConflict {
		t.Errorf("moved: %v", err)
	}
	if got := signersOf(t, h); !slices.Equal(got, []string{away, away}) {
		t.Errorf("handed over, and assigned to %q", got)
	}
}

// --yes answers our questions, not those of a plugin.
func TestPluginConfirm(t *testing.T) {
	for _, c := range []struct {
		terminal bool
		typed    string
		yes      bool
		code     int
	}{
		{false, "y\n", false, exitUsage},
		{true, "n\n", false, 0},
		{true, "", false, 0},
		{true, "y\n", true, 0},
	} {
		var screen bytes.Buffer
		a := &app{yes: true, terminal: c.terminal, in: strings.NewReader(c.typed), err: &screen}
		yes, err := a.plugin("/usr/bin/age-plugin-x").Confirm("erase the key?", "erase", "")
		if yes != c.yes || verdictOf(err) != c.code {
			t.Errorf("terminal %v, typed %q: %v, %v", c.terminal, c.typed, yes, err)
		}
		if c.terminal && screen.String() != "erase the key? (y: erase, n: stop) [y/N] " {
			t.Errorf("asked %q", screen.String())
		}
	}
}

// A question ends with the run, also when nobody answers it.
func TestQuestionEnds(t *testing.T) {
	in, never := io.Pipe()
	defer never.Close()
	ctx, end := context.WithCancel(t.Context())
	a := &app{terminal: true, in: in, err: io.Discard, ended: ctx.Done()}
	time.AfterFunc(time.Millisecond, end)
	if err := a.confirm("Really?"); verdictOf(err) != exitInterrupted || !errors.Is(err, errEnded) {
		t.Errorf("interrupted: %v", err)
	}
	if _, err := unlessEnded(a.ended, func() (int, error) { t.Error("read after the end"); return 0, nil }); !errors.Is(err, errEnded) {
		t.Errorf("ended before: %v", err)
	}
	if got, err := unlessEnded(nil, func() (int, error) { return 7, io.EOF }); got != 7 || err != io.EOF {
		t.Errorf("never ended: %d, %v", got, err)
	}
}

// An import that was cut off has said so before its first key was there: the
// history of what it brought stays unknown.
func TestImportCutOff(t *testing.T) {
	s := twoSigners(t)
	bundle := s.path("first.bundle")
	s.must(0, "bundle", "export", "--order", "first", "--out", bundle)
	trust, err := os.ReadFile(filepath.Join(s.home, trustFile))
	if err != nil {
		t.Fatal(err)
	}
	s.home = s.path("other")
	s.must(0, "init", "--network", "hoodi", "--withdrawal-address", testAddress)
	writeFile(t, filepath.Join(s.home, trustFile), string(trust))
	a := &app{}
	h := s.opened(a)
	store := h.records
	h.records = &spied{records: store, noBirths: true}
	if err := a.bundleImport(t.Context(), h, bundle); !errors.Is(err, errPulled) {
		t.Fatalf("imported: %v", err)
	}
	h.records = store
	if got, err := h.imported(t.Context(), []string{"first", "first"}); err != nil || !slices.Equal(got, []string{"first"}) {
		t.Errorf("imported are %q, %v", got, err)
	}
}

// Hidden folders that a killed run left are spoken of, and kept.
func TestLeftFolder(t *testing.T) {
	above := t.TempDir()
	killed, err := newOutFolder(filepath.Join(above, "first"))
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	a := &app{err: &said}
	out, err := newOutFolder(filepath.Join(above, "second"))
	if err != nil {
		t.Fatal(err)
	}
	a.sayLeft(out)
	if text := said.String(); strings.Count(text, "warning") != 1 || !strings.Contains(text, killed.temp) || strings.Contains(text, out.temp) {
		t.Errorf("it says %q", text)
	}
	if _, err := os.Stat(killed.temp); err != nil {
		t.Error(err)
	}
}
