//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/internal/aws/sample"
	"github.com/stakeseal/stakeseal/internal/aws/sample/sampletest"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordfault"
)

// faulty is a home's store with a plan's faults.
type faulty struct {
	records
	imports  record.Imports
	imported record.ImportReader
	reader   record.Reader
	notes    record.Events
}

func (f faulty) PutImportedMnemonic(ctx context.Context, m record.ImportedMnemonic) error {
	return f.imports.PutImportedMnemonic(ctx, m)
}
func (f faulty) PutImport(ctx context.Context, i record.Import) error {
	return f.imports.PutImport(ctx, i)
}
func (f faulty) Import(ctx context.Context, p eth.Pubkey) (record.Import, error) {
	return f.imported.Import(ctx, p)
}
func (f faulty) ImportedMnemonics(ctx context.Context) iter.Seq2[record.ImportedMnemonic, error] {
	return f.imported.ImportedMnemonics(ctx)
}
func (f faulty) Birth(ctx context.Context, p eth.Pubkey) (record.Birth, error) {
	return f.reader.Birth(ctx, p)
}
func (f faulty) Append(ctx context.Context, e record.Event) error { return f.notes.Append(ctx, e) }

// TestImportSampleCrash ends the import at every call of the store and the
// archive, carried out or not. The next run ends as an undisturbed one would:
// each key once, each mnemonic once, all of it archived and recoverable.
func TestImportSampleCrash(t *testing.T) {
	s := newSampleSite(t)
	s.invoke(2)
	template := s.path("template")
	if err := os.CopyFS(template, os.DirFS(s.home)); err != nil {
		t.Fatal(err)
	}
	fresh := func() {
		if err := os.RemoveAll(s.home); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(s.home, os.DirFS(template)); err != nil {
			t.Fatal(err)
		}
		private(t, s.home)
	}
	run := func(plan *recordfault.Plan) error {
		f := sampleFlags{workers: 1}
		_, err := s.take(f, func(h *home) {
			store := h.records
			h.records = faulty{store, plan.Imports(store), plan.ImportReader(store), plan.Reader(store), plan.Events(store)}
			h.archive = plan.Archive(h.archive)
		})
		return err
	}
	fresh()
	plan := recordfault.New()
	if err := run(plan); err != nil {
		t.Fatal(err)
	}
	points := slices.DeleteFunc(recordfault.Points(plan.Calls()), func(f recordfault.Fault) bool { return f.Down }) // the first error ends it anyway
	if len(points) < 30 {
		t.Fatalf("only %d points in %v", len(points), plan.Calls())
	}
	if testing.Short() {
		points = points[:20]
	}
	for _, fault := range points {
		fresh()
		plan := recordfault.New(fault)
		if err := run(plan); err == nil || !errors.Is(err, recordfault.ErrInjected) || !plan.Fired() {
			t.Fatalf("%v: %v", fault, err)
		}
		o := s.takes(0, sampleFlags{})
		held := s.tree()
		if len(held) != 2*(2+1) {
			t.Fatalf("%v: %d things are kept: %v\n%s", fault, len(held), held, o.err)
		}
	}
	s.must(0, "recovery", "drill", "--order", "imported", "--identity", s.identity("recovery-a"))
}

// private gives a copied home the modes that it had.
func private(t testing.TB, dir string) {
	t.Helper()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "certifier.key"), 0o400); err != nil {
		t.Fatal(err)
	}
}

// TestImportTampered: a row that the archive does not know was put into the
// store by somebody else, and a changed one differs from it: neither is used,
// nor made good by an import.
func TestImportTampered(t *testing.T) {
	s := newSampleSite(t)
	row := s.invoke(1)[0]
	s.takes(0, sampleFlags{})
	object := filepath.Join(s.home, "bundles", record.ImportObject(row.Pubkey))
	kept, err := os.ReadFile(object)
	if err != nil {
		t.Fatal(err)
	}
	pubkey := row.Pubkey.String()
	changed := bytes.Replace(kept, []byte(`"32000000000`), []byte(`"32000000000`), 1)
	changed = bytes.Replace(changed, []byte(`"amount_gwei":32000000000`), []byte(`"amount_gwei":31000000000`), 1)
	for what, content := range map[string][]byte{"changed": changed, "gone": nil} {
		if err := os.Remove(object); err != nil {
			t.Fatal(err)
		}
		if content != nil {
			if err := os.WriteFile(object, content, 0o400); err != nil {
				t.Fatal(err)
			}
		}
		for _, args := range [][]string{{"show", pubkey}, {"doctor"}, {"assign", "--to", "signer-a", pubkey}, {"recovery", "drill", "--order", "imported", "--identity", s.identity("recovery-a")}} {
			if o := s.must(exitRefused, args...); !strings.Contains(o.err+o.out, "archive") {
				t.Errorf("%s: %s: %s", what, args[0], o.err)
			}
		}
		if o, err := s.take(sampleFlags{}, nil); o.code != exitRefused || err == nil {
			t.Errorf("%s: an import ends with %d: %v", what, o.code, err)
		}
		if content == nil {
			if _, err := os.Stat(object); err == nil {
				t.Error("the import archived a row that somebody put into the store")
			}
		}
		if err := os.WriteFile(object, kept, 0o400); err != nil && content == nil {
			t.Fatal(err)
		}
	}
	_ = os.Chmod(object, 0o600)
	if err := os.WriteFile(object, kept, 0o400); err != nil {
		t.Fatal(err)
	}
	s.must(0, "show", pubkey)
	// The store can be rebuilt from the archive.
	for _, end := range []string{"", "-wal", "-shm"} {
		_ = os.Remove(filepath.Join(s.home, "records.db"+end))
	}
	s.must(0, "recovery", "store")
	s.must(0, "show", pubkey)
	s.must(0, "recovery", "drill", "--order", "imported", "--identity", s.identity("recovery-a"))
}

// TestImportScrypt takes one row exactly as the sample makes it, its KDF
// included.
func TestImportScrypt(t *testing.T) {
	if testing.Short() {
		t.Skip("scrypt")
	}
	s := newSampleSite(t)
	s.function.KDF = keystore.Scrypt
	s.invoke(1)
	s.takes(0, sampleFlags{workers: 1})
	s.takes(0, sampleFlags{dry: true})
}

// TestImportDenied: who may not decrypt is told who could let them, and
// nothing is called a defect of the rows.
func TestImportDenied(t *testing.T) {
	s := newSampleSite(t)
	s.invoke(1)
	reads, err := sample.ParseExport(sampletest.Export(s.rows...))
	if err != nil {
		t.Fatal(err)
	}
	var out, words bytes.Buffer
	a := &app{out: &out, err: &words, yes: true}
	h := s.opened(a)
	opener, err := sample.NewOpener(s.client("somebody"), s.key)
	if err != nil {
		t.Fatal(err)
	}
	err = a.takeSample(context.Background(), h, sampleFlags{key: s.key, workers: 1}, reads, sampleTable, opener)
	code, hint := verdict(err)
	if code != exitDenied || !strings.Contains(hint, s.key) || out.Len() != 0 {
		t.Errorf("%d %q %v\n%s", code, hint, err, out.String())
	}
}

// TestImportFlags: what is asked for wrongly ends before anything is opened.
func TestImportFlags(t *testing.T) {
	s := newSite(t)
	const key = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	export := s.path("table.json")
	writeFile(t, export, `{"Items": [], "Count": 0, "ScannedCount": 0, "NextToken": "x"}`)
	for _, args := range [][]string{
		{}, {"--table", sampleTable}, {"--kms-key", key}, {"--table", sampleTable, "--from-file", export, "--kms-key", key},
		{"--table", "ValidatorKeysTable", "--kms-key", key}, {"--table", sampleTable, "--kms-key", "alias/x"},
		{"--table", sampleTable, "--kms-key", key, "--workers", "0"}, {"--table", sampleTable, "--kms-key", key, "more"},
		{"--from-file", export, "--kms-key", key, "--yes"}, {"--from-file", s.path("none"), "--kms-key", key, "--yes"},
		{"--from-file", export, "--kms-key", key}, // nobody is there to answer
	} {
		o := s.must(exitUsage, append([]string{"import", "aws-sample"}, args...)...)
		if o.out != "" || !strings.Contains(o.err, "hint") {
			t.Errorf("%q: %s%s", args, o.out, o.err)
		}
	}
}
