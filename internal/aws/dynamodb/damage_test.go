package dynamodb

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
	"github.com/stakeseal/stakeseal/slashing"
)

// everything is what all reads return, and the errors they end with.
type everything struct {
	Orders      []record.Order
	Mnemonics   []record.Mnemonic
	Validators  []record.Validator
	Prefixed    []record.Validator
	Births      map[eth.Pubkey]record.Birth
	Assignments map[eth.Pubkey]record.Assignment
	Assigned    []record.Assignment
	Events      []record.Event
	Words       []record.ImportedMnemonic
	Imported    []record.Imported
	Import      record.Import
	Moved       record.Assignment // of the import
	Marks       []slashing.Mark
	Admitted    map[eth.Pubkey]uint64
	Complete    map[eth.Pubkey]uint64
	Ledger      slashing.Info
	Other       slashing.Info
	Watermark   uint64
	Epoch       uint64
	Lease       record.Lease
	Leases      []record.Lease
}

func readAll(s *Store, pubkeys []eth.Pubkey) (e everything, errs []error) {
	e.Births, e.Assignments = map[eth.Pubkey]record.Birth{}, map[eth.Pubkey]record.Assignment{}
	note := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	for o, err := range s.Orders(ctx) {
		note(err)
		e.Orders = append(e.Orders, o)
	}
	for m, err := range s.Mnemonics(ctx, "o1") {
		note(err)
		e.Mnemonics = append(e.Mnemonics, m)
	}
	for v, err := range s.Validators(ctx, record.Query{Order: "o1"}) {
		note(err)
		e.Validators = append(e.Validators, v)
	}
	for _, p := range pubkeys {
		for v, err := range s.Validators(ctx, record.Query{Prefix: p.Hex()}) {
			note(err)
			e.Prefixed = append(e.Prefixed, v)
		}
		b, err := s.Birth(ctx, p)
		note(err)
		e.Births[p] = b
		a, err := s.Assignment(ctx, p)
		note(err)
		e.Assignments[p] = a
	}
	for a, err := range s.Assigned(ctx, "") {
		note(err)
		e.Assigned = append(e.Assigned, a)
	}
	for v, err := range s.Events(ctx, record.EventQuery{}) {
		note(err)
		e.Events = append(e.Events, v)
	}
	for m, err := range s.ImportedMnemonics(ctx) {
		note(err)
		e.Words = append(e.Words, m)
	}
	for i, err := range s.Imported(ctx, "") {
		note(err)
		e.Imported = append(e.Imported, i)
	}
	var err error
	e.Import, err = s.Import(ctx, storyImport.Pubkey)
	note(err)
	e.Moved, err = s.Assignment(ctx, storyImport.Pubkey)
	note(err)
	e.Lease, err = s.Lease(ctx, "signer-a")
	note(err)
	for l, err := range s.Leases(ctx) {
		note(err)
		e.Leases = append(e.Leases, l)
	}
	if l, err := s.OpenLedger(ctx, "signer-b"); err != nil {
		note(err)
	} else {
		e.Other = l.Info()
	}
	l, err := s.OpenLedger(ctx, "signer-a")
	note(err)
	if err != nil {
		return e, errs
	}
	e.Ledger = l.Info()
	e.Watermark, err = l.Watermark(ctx)
	note(err)
	e.Epoch, err = l.Epoch(ctx)
	note(err)
	e.Admitted, err = l.Admitted(ctx)
	note(err)
	e.Complete, err = l.Complete(ctx, pubkeys)
	note(err)
	for m, err := range l.Marks(ctx) {
		note(err)
		e.Marks = append(e.Marks, m)
	}
	return e, errs
}

var (
	storyWords  = recordtest.ImportedMnemonic("m")
	storyImport = recordtest.Import(storyWords, 0, "")
	bareImport  = recordtest.BareImport("x")
)

func assignImport(signer string, epoch uint64) record.Assignment {
	return record.Assignment{Pubkey: storyImport.Pubkey, Signer: signer, Epoch: epoch, Time: recordtest.Start}
}

func filled(t testing.TB) (*fake, []eth.Pubkey) {
	f := newFake()
	s := f.store(t)
	var pubkeys []eth.Pubkey
	for i, b := range someBirths(t, s, 2) {
		pubkeys = append(pubkeys, b.Pubkey)
		must(t, s.Assign(ctx, recordtest.Assignment(b, fmt.Sprintf("signer-%d", i), 1)))
		e := note
		e.Order, e.Pubkey, e.Once = "o1", b.Pubkey, []string{"", "export/o1"}[i]
		must(t, s.Append(ctx, e))
	}
	must(t, s.PutImportedMnemonic(ctx, storyWords))
	must(t, s.PutImport(ctx, storyImport))
	must(t, s.Assign(ctx, assignImport("signer-a", 1)))
	l := held(t, s, 0)
	for i, p := range pubkeys {
		n := uint64(i + 1)
		m := slashing.Mark{Pubkey: p, Block: true, Slot: 90 * n, BlockRoot: eth.Root{1}, Attestation: true, Source: 2 * n, Target: 3 * n, Root: eth.Root{2}}
		must(t, l.Admit(ctx, 1, []slashing.Admission{{Mark: m, Assignment: n}}))
	}
	openLedger(t, s, "signer-b")
	for _, name := range []string{"signer-a", "signer-b"} {
		must(t, s.Take(ctx, recordtest.Lease(name)))
	}
	return f, pubkeys
}

func clone(it rawItem) rawItem {
	out := rawItem{}
	for name, v := range it {
		out[name] = maps.Clone(v)
	}
	return out
}

// spoil changes one byte of an attribute's value to another of its kind.
func spoil(it rawItem, name string, at int) {
	for kind, value := range it[name] {
		data := []byte(value)
		if kind == "B" {
			var err error
			if data, err = base64.StdEncoding.DecodeString(value); err != nil {
				panic(err)
			}
		}
		if at %= len(data); kind == "N" {
			data[at] = '0' + (data[at]-'0'+1)%10
		} else {
			data[at] ^= 1
		}
		if value = string(data); kind == "B" {
			value = base64.StdEncoding.EncodeToString(data)
		}
		it[name] = map[string]string{kind: value}
	}
}

// TestDamage changes a byte of each attribute of each item, takes the
// attribute away, makes it another type, and puts each item's content under
// each other key of its table. A read returns what was written or an error
// that is ErrCorrupt (ErrNotFound where the claim or the birth it led to is
// another); never another record.
func TestDamage(t *testing.T) {
	f, pubkeys := filled(t)
	whole, errs := readAll(f.store(t), pubkeys)
	if len(errs) != 0 {
		t.Fatal(errs)
	}
	must(t, f.store(t).Verify(ctx))
	damages := 0
	check := func(what string) {
		t.Helper()
		damages++
		got, errs := readAll(f.store(t), pubkeys)
		for _, err := range errs {
			if !errors.Is(err, record.ErrCorrupt) && !errors.Is(err, record.ErrNotFound) {
				t.Errorf("%s: %v", what, err)
			}
			if errors.Is(err, record.ErrFormat) {
				t.Errorf("%s: reads as a refusal: %v", what, err)
			}
		}
		if len(errs) == 0 && !reflect.DeepEqual(got, whole) {
			t.Errorf("%s: read as another record", what)
		}
		if len(errs) == 0 {
			t.Errorf("%s: no error", what)
		}
		if err := f.store(t).Verify(ctx); !errors.Is(err, record.ErrCorrupt) {
			t.Errorf("%s: Verify: %v", what, err)
		}
	}
	for name, table := range f.tables {
		for k, it := range table {
			for attribute := range it {
				if attribute == "pk" || attribute == "sk" {
					continue
				}
				where := fmt.Sprintf("%s %s %s", k.pk, k.sk, attribute)
				// The tail of an event's place is the writer's clock and a
				// number: any is as good.
				for _, at := range []int{0, 40, 333} {
					if attribute == "at" && at != 0 {
						continue
					}
					table[k] = clone(it)
					spoil(table[k], attribute, at)
					check(fmt.Sprintf("%s, byte %d", where, at))
				}
				if attribute != "at" { // then it is not in the index
					table[k] = clone(it)
					delete(table[k], attribute)
					check(where + " gone")
				}
				table[k] = clone(it)
				table[k][attribute] = map[string]string{"BOOL": "true"}
				if attribute != "at" {
					for kind, value := range it[attribute] {
						table[k][attribute] = map[string]string{map[string]string{"S": "N", "N": "S", "B": "S"}[kind]: map[string]string{"S": "7", "N": value, "B": value}[kind]}
					}
					check(where + " of another type")
				}
			}
			for k2 := range table {
				if k2 == k {
					continue
				}
				moved := clone(it)
				moved["pk"], moved["sk"] = map[string]string{"S": k2.pk}, map[string]string{"S": k2.sk}
				before := table[k2]
				table[k] = it
				table[k2] = moved
				// A claim moved to another pubkey is that pubkey's claim: the
				// birth it leads to is not the other's.
				check(fmt.Sprintf("%s: %s %s under %s %s", name, k.pk, k.sk, k2.pk, k2.sk))
				table[k2] = before
			}
			table[k] = it
		}
	}
	if damages < 150 {
		t.Errorf("only %d damages", damages)
	}
	again, errs := readAll(f.store(t), pubkeys)
	if len(errs) != 0 || !reflect.DeepEqual(again, whole) {
		t.Fatalf("the test did not mend what it broke: %v", errs)
	}
}

// TestDamageStopsWrites: a write that finds a damaged item refuses, and never
// takes it for its own.
func TestDamageStopsWrites(t *testing.T) {
	f, _ := filled(t)
	o := recordtest.Order("o1", 2)
	m := recordtest.Mnemonic(o, "m1")
	b := recordtest.Birth(o, m, 0, "")
	for what, c := range map[string]struct {
		k         key
		attribute string
		call      func(s *Store) error
	}{
		"order, placed":        {orderKey("o1"), "sha256", func(s *Store) error { return second(s.Place(ctx, o)) }},
		"order, for a birth":   {orderKey("o1"), "record", func(s *Store) error { return second(s.PutBirth(ctx, b)) }},
		"mnemonic, put":        {mnemonicKey("o1", "m1"), "sha256", func(s *Store) error { return s.PutMnemonic(ctx, m) }},
		"mnemonic, for birth":  {mnemonicKey("o1", "m1"), "record", func(s *Store) error { return second(s.PutBirth(ctx, b)) }},
		"birth, looked at":     {birthKey("o1", 0), "validator", func(s *Store) error { return second(s.PutBirth(ctx, b)) }},
		"words, put":           {importedMnemonicKey(storyWords.ID), "sha256", func(s *Store) error { return s.PutImportedMnemonic(ctx, storyWords) }},
		"words, for an import": {importedMnemonicKey(storyWords.ID), "record", func(s *Store) error { return s.PutImport(ctx, storyImport) }},
		"import, put":          {importKey(storyImport.Pubkey), "sha256", func(s *Store) error { return s.PutImport(ctx, storyImport) }},
		"claim of an import":   {pubkeyKey(storyImport.Pubkey), "idx", func(s *Store) error { return s.PutImport(ctx, storyImport) }},
		"import, assigned":     {importKey(storyImport.Pubkey), "imported", func(s *Store) error { return s.Assign(ctx, assignImport("signer-a", 1)) }},
		"birth, read back":     {birthKey("o1", 0), "certificate", func(s *Store) error { return second(s.PutBirth(ctx, b)) }},
	} {
		table := f.tables[tables.Records]
		it := table[c.k]
		table[c.k] = clone(it)
		spoil(table[c.k], c.attribute, 60)
		stored := f.dump()
		if err := c.call(f.store(t)); !errors.Is(err, record.ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
		if f.dump() != stored {
			t.Errorf("%s: something was stored", what)
		}
		table[c.k] = it
		must(t, c.call(f.store(t)))
	}
}

// TestUnclaimed: a birth whose claim is gone is found by Verify.
func TestUnclaimed(t *testing.T) {
	f, pubkeys := filled(t)
	delete(f.tables[tables.Records], pubkeyKey(pubkeys[0]))
	if err := f.store(t).Verify(ctx); !errors.Is(err, record.ErrCorrupt) {
		t.Errorf("Verify: %v", err)
	}
	f, _ = filled(t)
	delete(f.tables[tables.Records], pubkeyKey(storyImport.Pubkey))
	if err := f.store(t).Verify(ctx); !errors.Is(err, record.ErrCorrupt) {
		t.Errorf("Verify of an import: %v", err)
	}
}

// TestChangedImports: an import whose mnemonic is gone, and one whose public
// part is sound but another's, are found by Verify.
func TestChangedImports(t *testing.T) {
	f, _ := filled(t)
	delete(f.tables[tables.Records], importedMnemonicKey(storyWords.ID))
	if err := f.store(t).Verify(ctx); !errors.Is(err, record.ErrCorrupt) {
		t.Errorf("without its mnemonic: %v", err)
	}
	f, _ = filled(t)
	other := storyImport
	other.Importer = "somebody-else"
	public, err := record.EncodeImported(other.Imported)
	must(t, err)
	digest := record.DigestOf(public)
	it := f.tables[tables.Records][importKey(storyImport.Pubkey)]
	it[attrImported], it[attrImportedSum] = map[string]string{"S": string(public)}, map[string]string{"B": base64.StdEncoding.EncodeToString(digest[:])}
	if err := f.store(t).Verify(ctx); !errors.Is(err, record.ErrCorrupt) || !strings.Contains(err.Error(), "listed as another") {
		t.Errorf("listed as another: %v", err)
	}
}

// TestEndlessPages: a page that leads to itself ends the list with an error.
func TestEndlessPages(t *testing.T) {
	f := newFake()
	someBirths(t, f.store(t), 2)
	f.stuck = true
	calls := 0
	f.fault = func(int) fate {
		if calls++; calls > 20 {
			return denied
		}
		return answered
	}
	if err := end(f.store(t).Validators(ctx, record.Query{Order: "o1"})); err == nil {
		t.Error("no error")
	} else {
		noSentinel(t, "endless", err)
	}
	if calls != 2 {
		t.Errorf("%d pages were read", calls)
	}
}

// FuzzItem: whatever stands in a birth's item, it reads as the birth whose key
// it has, which writes the same item again, or is ErrCorrupt.
func FuzzItem(f *testing.F) {
	for _, s := range itemSeeds(f) {
		f.Add(s[0], s[1], s[2], s[3], s[4])
	}
	f.Fuzz(func(t *testing.T, pk, sk, validator, sealing, certificate string) {
		it := key{pk, sk}.item()
		it[attrValidator], it[attrValidatorSum] = str(validator), sum([]byte(validator))
		it[attrSealing], it[attrCertificate] = str(sealing), str(certificate)
		// The digest of what the parts make, as an attacker would note it.
		var b record.Birth
		b.Validator, _ = record.DecodeValidator([]byte(validator))
		_ = json.Unmarshal([]byte(sealing), &b.Sealing)
		b.Certificate = json.RawMessage(certificate)
		whole, _ := record.EncodeBirth(b)
		it[attrRecordSum] = sum(whole)
		got, err := it.birth()
		if err != nil {
			if !errors.Is(err, record.ErrCorrupt) || errors.Is(err, record.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		if birthKey(got.Order, got.Index) != it.key() {
			t.Fatalf("read under %v", it.key())
		}
		again, err := birthItem(got)
		must(t, err)
		if !again.same(it, attrValidator) || !again.same(it, attrCertificate) || !again.same(it, attrRecordSum) {
			t.Fatal("writes another item")
		}
	})
}

// itemSeeds are births, and one that is none.
func itemSeeds(t testing.TB) (out [][5]string) {
	for i := range uint32(2) {
		o := recordtest.Order("o1", 2)
		it, err := birthItem(recordtest.Birth(o, recordtest.Mnemonic(o, "m1"), i, ""))
		must(t, err)
		out = append(out, [5]string{it.key().pk, it.key().sk, it.text(attrValidator), it.text(attrSealing), it.text(attrCertificate)})
	}
	return append(out, [5]string{"order/o1", "birth/0000000000", "{}", "null", ""})
}

// TestSeeds fails when the fuzz target starts from nothing, or from nothing
// that reads.
func TestSeeds(t *testing.T) {
	seeds := itemSeeds(t)
	if len(seeds) < 3 {
		t.Fatal("no seeds")
	}
	o := recordtest.Order("o1", 2)
	for i, b := range []record.Birth{recordtest.Birth(o, recordtest.Mnemonic(o, "m1"), 0, ""), recordtest.Birth(o, recordtest.Mnemonic(o, "m1"), 1, "")} {
		if v, err := record.DecodeValidator([]byte(seeds[i][2])); err != nil || v.Pubkey != b.Pubkey {
			t.Errorf("seed %d: %v", i, err)
		}
	}
}
