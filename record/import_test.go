package record_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
)

var (
	words    = recordtest.ImportedMnemonic("m")
	imported = recordtest.Import(words, 3, "")
	foreign  = recordtest.BareImport("x") // of which little is known
)

var importForms = []form{
	formOf("import", imported, record.EncodeImport, record.DecodeImport),
	formOf("imported", imported.Imported, record.EncodeImported, record.DecodeImported),
	formOf("imported-mnemonic", words, record.EncodeImportedMnemonic, record.DecodeImportedMnemonic),
}

// So that every test of the other forms runs over these too.
func init() { forms = append(forms, importForms...) }

// TestBareImport: what is not known is left out, not written as a zero that
// reads like 0x00 credentials.
func TestBareImport(t *testing.T) {
	f := formOf("import", foreign, record.EncodeImport, record.DecodeImport)
	data := encoded(t, f)
	want, err := os.ReadFile(filepath.Join("testdata", "import-bare.json"))
	if err != nil || !bytes.Equal(data, want) {
		t.Errorf("%v\n got %s\nwant %s", err, data, want)
	}
	again, v, err := f.again(data)
	if err != nil || !bytes.Equal(again, data) || !reflect.DeepEqual(v, foreign) {
		t.Errorf("%v: %+v", err, v)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"path", "mnemonic", "withdrawal_credentials", "deposits"} {
		if _, there := fields[name]; there {
			t.Errorf("%s is written where it is not known", name)
		}
	}
}

func TestCheckImport(t *testing.T) {
	key := func(change func(*record.Import)) func() error {
		return func() error {
			i := recordtest.Import(words, 3, "")
			change(&i)
			_, err := record.EncodeImport(i)
			return err
		}
	}
	mnemonic := func(change func(*record.ImportedMnemonic)) func() error {
		return func() error {
			m := recordtest.ImportedMnemonic("m")
			change(&m)
			_, err := record.EncodeImportedMnemonic(m)
			return err
		}
	}
	for what, encode := range map[string]func() error{
		"no pubkey":                     key(func(i *record.Import) { i.Pubkey = eth.Pubkey{} }),
		"no network":                    key(func(i *record.Import) { i.Network = "" }),
		"a path hardened":               key(func(i *record.Import) { i.Path = "m/12381'/3600'/0'/0/0" }),
		"a path of nothing":             key(func(i *record.Import) { i.Path = "m" }),
		"a path of two lines":           key(func(i *record.Import) { i.Path = "m/0\nm/1" }),
		"a mnemonic without a path":     key(func(i *record.Import) { i.Path = "" }),
		"a mnemonic of another form":    key(func(i *record.Import) { i.Mnemonic = "m-1" }),
		"a mnemonic in capitals":        key(func(i *record.Import) { i.Mnemonic = "m-0123456789ABCDEF" }),
		"deposits to nobody":            key(func(i *record.Import) { i.Credentials = eth.Credentials{} }),
		"a deposit of nothing":          key(func(i *record.Import) { i.Deposits[0].Amount = 0 }),
		"too many deposits":             key(func(i *record.Import) { i.Deposits = append(i.Deposits, make([]record.Deposit, 32)...) }),
		"no source":                     key(func(i *record.Import) { i.Source = record.Source{} }),
		"a source of no kind":           key(func(i *record.Import) { i.Source.Kind = "a b" }),
		"a source nowhere":              key(func(i *record.Import) { i.Source.Place = "" }),
		"a source that rules terminals": key(func(i *record.Import) { i.Source.Place = "a\x1b[2J" }),
		"a source of no bytes":          key(func(i *record.Import) { i.Source.Digest = record.Digest{} }),
		"a detail not in UTF-8":         key(func(i *record.Import) { i.Source.Detail["a"] = "\xff" }),
		"no importer":                   key(func(i *record.Import) { i.Importer = "" }),
		"no time":                       key(func(i *record.Import) { i.Created = time.Time{} }),
		"a key sealed for recovery":     key(func(i *record.Import) { i.Sealing.Purpose = record.Recovery }),
		"a key of a later generation":   key(func(i *record.Import) { i.Sealing.Generation, i.Sealing.Previous = 1, record.Digest{1} }),
		"a file of another digest":      key(func(i *record.Import) { i.Sealing.File[3]++ }),
		"words under another id":        mnemonic(func(m *record.ImportedMnemonic) { m.ID = "m-0123456789abcdef" }),
		"words of another first key":    mnemonic(func(m *record.ImportedMnemonic) { m.First[7]++ }),
		"words of nobody":               mnemonic(func(m *record.ImportedMnemonic) { m.First = eth.Pubkey{}; m.ID = record.ImportedMnemonicID(m.First) }),
		"words sealed for signing":      mnemonic(func(m *record.ImportedMnemonic) { m.Sealing.Purpose = record.Signing }),
		"words without a source":        mnemonic(func(m *record.ImportedMnemonic) { m.Source = record.Source{} }),
		"words without an importer":     mnemonic(func(m *record.ImportedMnemonic) { m.Importer = "" }),
		"an order of that name":         func() error { return recordtest.Order(record.ImportedOrder, 1).Check() },
	} {
		if err := encode(); !errors.Is(err, record.ErrFormat) {
			t.Errorf("%s: got %v, want ErrFormat", what, err)
		} else if len(err.Error()) > 600 {
			t.Errorf("%s: an error of %d bytes", what, len(err.Error()))
		}
	}
	for _, f := range []func() error{key(func(*record.Import) {}), mnemonic(func(*record.ImportedMnemonic) {})} {
		if err := f(); err != nil {
			t.Errorf("unchanged: %v", err)
		}
	}
}

func TestImportedIndex(t *testing.T) {
	for path, want := range map[string]uint32{
		"m/12381/3600/0/0/0": 0, "m/12381/3600/7/0/0": 7, "m/12381/3600/2147483647/0/0": 1<<31 - 1,
		"m/12381/3600/2147483648/0/0": 0, "m/12381/3600/4294967296/0/0": 0, "m/12381/3600/07/0/0": 0,
		"m/12381/3600/7/0": 0, "m/12381/3600/7/0/0/0": 0, "m/12381/3600/7/0/1": 0, "": 0, "m/12381/3600/+7/0/0": 0,
	} {
		if got := (record.Imported{Path: path}).Index(); got != want {
			t.Errorf("%q: index %d, want %d", path, got, want)
		}
	}
}

// TestImportObjects: no object of an import stands where an order's could.
func TestImportObjects(t *testing.T) {
	for _, name := range []string{record.ImportObject(imported.Pubkey), record.ImportedMnemonicObject(words.ID)} {
		if err := record.CheckName(name); err != nil {
			t.Error(err)
		}
		folder, _, _ := strings.Cut(name, "/")
		if record.CheckID(folder) == nil {
			t.Errorf("an order could be called %q", folder)
		}
	}
	if record.ImportObject(imported.Pubkey) == record.ImportedMnemonicObject(words.ID) {
		t.Error("one object for two")
	}
}

func FuzzDecodeImport(f *testing.F)           { fuzz(f, importForms[0]) }
func FuzzDecodeImported(f *testing.F)         { fuzz(f, importForms[1]) }
func FuzzDecodeImportedMnemonic(f *testing.F) { fuzz(f, importForms[2]) }

func TestImportSeeds(t *testing.T) {
	source, err := os.ReadFile("import_test.go")
	if err != nil {
		t.Fatal(err)
	}
	targets := regexp.MustCompile(`(?m)^func Fuzz\w+\(f \*testing\.F\).*$`).FindAllString(string(source), -1)
	for _, target := range targets {
		if !strings.Contains(target, "{ fuzz(f, importForms[") {
			t.Errorf("unknown target, has it seeds? %s", target)
		}
	}
	if len(targets) != len(importForms) || len(seeds(t)) < 2*len(forms) {
		t.Errorf("%d targets for %d forms, %d seeds", len(targets), len(importForms), len(seeds(t)))
	}
}
