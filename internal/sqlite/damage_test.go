package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
)

// sample is a closed store with some of everything, and its bytes.
func sample(t *testing.T) (path string, content []byte, births []record.Birth) {
	t.Helper()
	s := create(t)
	ctx := context.Background()
	births = generate(t, s, "o1", 24)
	for i, b := range births[:12] {
		must(t, s.Assign(ctx, recordtest.Assignment(b, "signer-a", 1)))
		must(t, s.Append(ctx, record.Event{Time: recordtest.Start, Kind: "assigned", Pubkey: b.Pubkey, Order: "o1", Actor: "anna", Once: fmt.Sprint(i)}))
	}
	for i := range uint32(6) {
		m := recordtest.ImportedMnemonic(fmt.Sprint(i % 2))
		must(t, s.PutImportedMnemonic(ctx, m))
		must(t, s.PutImport(ctx, recordtest.Import(m, i, "")))
	}
	must(t, s.Close())
	content, err := os.ReadFile(s.path)
	must(t, err)
	return s.path, content, births
}

// contents is everything that the ports read.
type contents struct {
	Orders    []record.Order
	Mnemonics []record.Mnemonic
	ByIndex   []record.Validator
	All       []record.Validator
	ByPubkey  map[eth.Pubkey]record.Validator
	Births    []record.Birth
	Assigned  []record.Assignment
	Each      []record.Assignment
	Events    []record.Event
	Words     []record.ImportedMnemonic
	Imported  []record.Imported
	Imports   []record.Import
}

// read reads all of a store; what could not be read is in errs.
func read(s *Store, births []record.Birth) (c contents, errs []error) {
	ctx := context.Background()
	c.ByPubkey = map[eth.Pubkey]record.Validator{}
	gather(s.Orders(ctx), &c.Orders, &errs)
	gather(s.Mnemonics(ctx, "o1"), &c.Mnemonics, &errs)
	gather(s.Validators(ctx, record.Query{Order: "o1"}), &c.ByIndex, &errs)
	gather(s.Validators(ctx, record.Query{}), &c.All, &errs)
	gather(s.Assigned(ctx, "signer-a"), &c.Assigned, &errs)
	gather(s.Events(ctx, record.EventQuery{}), &c.Events, &errs)
	gather(s.ImportedMnemonics(ctx), &c.Words, &errs)
	gather(s.Imported(ctx, ""), &c.Imported, &errs)
	for i := range uint32(6) {
		if got, err := s.Import(ctx, recordtest.Import(recordtest.ImportedMnemonic(fmt.Sprint(i%2)), i, "").Pubkey); err == nil {
			c.Imports = append(c.Imports, got)
		} else if !errors.Is(err, record.ErrNotFound) {
			errs = append(errs, err)
		}
	}
	for _, b := range births {
		for v, err := range s.Validators(ctx, record.Query{Prefix: b.Pubkey.Hex()[:6]}) {
			if err != nil {
				errs = append(errs, err)
				continue
			}
			c.ByPubkey[v.Pubkey] = v
		}
		if got, err := s.Birth(ctx, b.Pubkey); err == nil {
			c.Births = append(c.Births, got)
		} else if !errors.Is(err, record.ErrNotFound) {
			errs = append(errs, err)
		}
		if a, err := s.Assignment(ctx, b.Pubkey); err == nil {
			c.Each = append(c.Each, a)
		} else if !errors.Is(err, record.ErrNotFound) {
			errs = append(errs, err)
		}
	}
	return c, errs
}

func gather[T any](rows func(func(T, error) bool), into *[]T, errs *[]error) {
	for v, err := range rows {
		if err != nil {
			*errs = append(*errs, err)
			return
		}
		*into = append(*into, v)
	}
}

// foreign returns a record in got that is none of those in want.
func foreign[T any](got, want []T) error {
	for _, g := range got {
		found := false
		for _, w := range want {
			found = found || reflect.DeepEqual(g, w)
		}
		if !found {
			return fmt.Errorf("a record that nobody wrote: %+.300v", g)
		}
	}
	return nil
}

// TestDamage changes the file in some hundred ways. Whatever is changed,
// every record that is still read is one that was written, every error is a
// sentinel that the command line can tell, and if rows are missing without an
// error, Verify finds it.
func TestDamage(t *testing.T) {
	path, content, births := sample(t)
	whole := reopen(t, path)
	want, errs := read(whole, births)
	if len(errs) > 0 || len(want.Births) != 24 || len(want.Events) != 12 || len(want.ByPubkey) != 24 || len(want.Words) != 2 || len(want.Imported) != 6 || len(want.Imports) != 6 {
		t.Fatalf("%v %+v", errs, want)
	}
	must(t, whole.Verify(context.Background()))
	must(t, whole.Close())

	const page = 4096
	pages := len(content) / page
	damages := map[string]func([]byte) []byte{}
	rng := rand.New(rand.NewPCG(1, 2)) // the same damage in each run
	for range 150 {
		i, bit := rng.IntN(len(content)), rng.IntN(8)
		damages[fmt.Sprintf("bit %d of byte %d", bit, i)] = func(b []byte) []byte { b[i] ^= 1 << bit; return b }
	}
	for i := range 100 { // of the database's header
		damages[fmt.Sprintf("header byte %d", i)] = func(b []byte) []byte { b[i] ^= 0x41; return b }
	}
	for n := range pages { // pages' own headers, with the number of cells; and whole pages
		damages[fmt.Sprintf("cells of page %d", n)] = func(b []byte) []byte {
			i := n*page + 4
			if n == 0 {
				i += 100
			}
			b[i] ^= 1
			return b
		}
		if n%3 == 0 {
			damages[fmt.Sprintf("page %d zeroed", n)] = func(b []byte) []byte { clear(b[n*page : (n+1)*page]); return b }
		}
	}
	for _, keep := range []int{1, 50, 100, 512, page, page + 1, len(content) / 2, len(content) - page, len(content) - 1} {
		damages[fmt.Sprintf("cut to %d bytes", keep)] = func(b []byte) []byte { return b[:keep] }
	}

	found := map[string]int{}
	for what, damage := range damages {
		damaged := filepath.Join(t.TempDir(), "records.db")
		must(t, os.WriteFile(damaged, damage(bytes.Clone(content)), 0o600))
		s, err := Open(damaged)
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotAStore) && !errors.Is(err, ErrNewer) {
				t.Errorf("%s: Open: %v", what, err)
			}
			found["Open"]++
			continue
		}
		got, errs := read(s, births)
		for _, err := range errs {
			if !errors.Is(err, record.ErrCorrupt) {
				t.Errorf("%s: %v", what, err)
			}
		}
		var byPubkey, wantByPubkey []record.Validator
		for p, v := range got.ByPubkey {
			if v.Pubkey != p {
				t.Errorf("%s: %s under %s", what, v.Pubkey, p)
			}
			byPubkey = append(byPubkey, v)
		}
		for _, v := range want.ByPubkey {
			wantByPubkey = append(wantByPubkey, v)
		}
		if err := errors.Join(
			foreign(got.Orders, want.Orders), foreign(got.Mnemonics, want.Mnemonics),
			foreign(got.ByIndex, want.ByIndex), foreign(got.All, want.All), foreign(byPubkey, wantByPubkey),
			foreign(got.Births, want.Births), foreign(got.Assigned, want.Assigned), foreign(got.Each, want.Each),
			foreign(got.Events, want.Events), foreign(got.Words, want.Words),
			foreign(got.Imported, want.Imported), foreign(got.Imports, want.Imports),
		); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		verified := s.Verify(context.Background())
		switch {
		case verified != nil && !errors.Is(verified, record.ErrCorrupt):
			t.Errorf("%s: Verify: %v", what, verified)
		case verified == nil && len(errs) > 0:
			t.Errorf("%s: Verify finds nothing, reading fails: %v", what, errs[0])
		case verified == nil && !reflect.DeepEqual(got, want):
			t.Errorf("%s: rows are missing and Verify finds nothing", what)
		case len(errs) > 0:
			found["reading"]++
		case verified != nil && reflect.DeepEqual(got, want):
			found["Verify, nothing missing"]++
		case verified != nil:
			found["Verify only, rows missing"]++
		default:
			found["nothing changed"]++
		}
		if err := s.Close(); err != nil && !errors.Is(err, record.ErrCorrupt) {
			t.Errorf("%s: Close: %v", what, err)
		}
	}
	t.Logf("%d ways, found by: %v", len(damages), found)
	if found["Open"] < 20 || found["reading"] < 20 {
		t.Errorf("the damage does not bite: %v", found)
	}
}

// TestChangedRows: a row that is changed behind the triggers' back is not
// read, in each table and column.
func TestChangedRows(t *testing.T) {
	_, content, births := sample(t)
	ctx := context.Background()
	for _, change := range []string{
		`UPDATE orders SET record = replace(record, '"count":24', '"count":25')`,
		`UPDATE orders SET id = 'o2'`,
		`UPDATE mnemonics SET record = replace(record, '"to":24', '"to":23')`,
		`UPDATE mnemonics SET first = 1`,
		`UPDATE births SET validator = replace(validator, '"amount_gwei":1000000000', '"amount_gwei":2000000000')`,
		`UPDATE births SET certificate = '{}'`,
		`UPDATE births SET idx = idx + 1000`,
		`PRAGMA ignore_check_constraints = 1; UPDATE births SET idx = -121 WHERE idx = 3`,
		`UPDATE births SET order_id = 'o2'`,
		`UPDATE births SET pubkey = pubkey || x'00' WHERE 0; UPDATE births SET (validator, validator_sha256) = (SELECT validator, validator_sha256 FROM births WHERE idx = 1) WHERE idx = 2`,
		`UPDATE births SET record_sha256 = zeroblob(32)`,
		`UPDATE sealings SET file = (SELECT file FROM sealings ORDER BY seq DESC LIMIT 1), digest = (SELECT digest FROM sealings ORDER BY seq DESC LIMIT 1)`,
		`UPDATE sealings SET file = x'00'`,
		`UPDATE sealings SET recipients = replace(recipients, 'anna', 'eve')`,
		`UPDATE sealings SET recipients = 'x'`,
		`UPDATE sealings SET purpose = 'recovery'`,
		`DELETE FROM sealings`,
		`UPDATE assignments SET record = replace(record, 'signer-a', 'signer-b')`,
		`UPDATE assignments SET signer = 'signer-b'`,
		`UPDATE assignments SET (record, sha256) = (SELECT record, sha256 FROM assignments ORDER BY pubkey DESC LIMIT 1)`,
		`UPDATE imports SET record = replace(record, '"amount_gwei":32', '"amount_gwei":33')`,
		`UPDATE imports SET imported = replace(imported, '"amount_gwei":32', '"amount_gwei":33')`,
		`UPDATE imports SET (record, sha256) = (SELECT record, sha256 FROM imports ORDER BY seq DESC LIMIT 1)`,
		`UPDATE imports SET (imported, imported_sha256) = (SELECT imported, imported_sha256 FROM imports ORDER BY seq DESC LIMIT 1)`,
		`UPDATE imported_mnemonics SET record = replace(record, 'anna', 'eve')`,
		`UPDATE imported_mnemonics SET (record, sha256) = (SELECT record, sha256 FROM imported_mnemonics ORDER BY id DESC LIMIT 1)`,
		`UPDATE events SET record = replace(record, 'anna', 'eve')`,
		`UPDATE events SET kind = 'exported'`,
		`UPDATE events SET pubkey = x''`,
		`UPDATE events SET once = NULL WHERE 0; UPDATE events SET order_id = 'o2'`,
	} {
		path := filepath.Join(t.TempDir(), "records.db")
		must(t, os.WriteFile(path, content, 0o600))
		must(t, unguarded(t, path, change))
		s, err := Open(path)
		if err != nil {
			t.Errorf("%s: %v", change, err)
			continue
		}
		_, errs := read(s, births)
		for _, q := range []record.EventQuery{{Kind: "exported"}, {Order: "o2"}} {
			errs = append(errs, lastError(s.Events(ctx, q)))
		}
		errs = append(errs, lastError(s.Assigned(ctx, "signer-b")))
		_, err = s.Order(ctx, "o2")
		if !errors.Is(err, record.ErrNotFound) {
			errs = append(errs, err)
		}
		if err := errors.Join(errs...); !errors.Is(err, record.ErrCorrupt) {
			t.Errorf("%s: read without an error (%v)", change, err)
		}
		must(t, s.Close())
	}
}

// unguarded runs a script behind the triggers' back.
func unguarded(t *testing.T, path, script string) error {
	t.Helper()
	drop, restore := "", ""
	for _, statement := range schema {
		var name string
		if n, _ := fmt.Sscanf(statement, "CREATE TRIGGER %s", &name); n == 1 {
			drop += "DROP TRIGGER " + name + ";\n"
			restore += statement + ";\n"
		}
	}
	return raw(t, path, drop+script+";\n"+restore)
}

// TestVerifyAcrossTables: rows that are whole each, and do not go together.
func TestVerifyAcrossTables(t *testing.T) {
	i := recordtest.BareImport("x")
	row := func(i record.Import, listed record.Imported) string {
		whole, err := record.EncodeImport(i)
		must(t, err)
		part, err := record.EncodeImported(listed)
		must(t, err)
		sum, partSum := record.DigestOf(whole), record.DigestOf(part)
		return fmt.Sprintf("INSERT INTO imports (pubkey, imported, imported_sha256, record, sha256) VALUES (x'%x', '%s', x'%x', '%s', x'%x')",
			i.Pubkey[:], part, partSum[:], whole, sum[:])
	}
	other := i.Imported
	other.Importer = "eve"
	for says, change := range map[string]func(born record.Birth) string{
		"":                            func(record.Birth) string { return "SELECT 1" },
		"an assignment of an unknown": func(record.Birth) string { return "DELETE FROM imports" },
		"listed as another":           func(record.Birth) string { return "DELETE FROM imports; " + row(i, other) },
		"both born here and imported": func(b record.Birth) string {
			twin := recordtest.BareImport("twin")
			twin.Pubkey = b.Pubkey
			return row(twin, twin.Imported)
		},
	} {
		s := create(t)
		born := generate(t, s, "o1", 1)[0]
		must(t, s.PutImport(context.Background(), i))
		must(t, s.Assign(context.Background(), record.Assignment{Pubkey: i.Pubkey, Signer: "signer-a", Epoch: 1, Time: recordtest.Start}))
		must(t, s.Close())
		must(t, unguarded(t, s.path, change(born)))
		err := reopen(t, s.path).Verify(context.Background())
		if (says == "") != (err == nil) || err != nil && (!errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), says)) {
			t.Errorf("%q: %v", says, err)
		}
	}
}

// TestMemory streams a hundred thousand rows: what is held does not grow with
// their number.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("streams 100,000 rows")
	}
	const n = 100_000
	s := create(t)
	o := recordtest.Order("o1", n)
	m := recordtest.Mnemonic(o, "m1")
	place(t, s, o, m)
	ctx := context.Background()
	v := recordtest.Birth(o, m, 0, "").Validator
	for from := uint32(0); from < n; from += 10_000 { // without their sealings, which lists do not touch
		must(t, s.write(ctx, func(t *tx) error {
			for i := from; i < from+10_000; i++ {
				v.Index, v.Path = i, fmt.Sprintf("m/12381/3600/%d/0/0", i)
				v.Pubkey = eth.Pubkey(bytes.Repeat([]byte{byte(i), byte(i >> 8), byte(i >> 16), 1}, 12))
				data, err := record.EncodeValidator(v)
				if err != nil {
					return err
				}
				sum := record.DigestOf(data)
				if err := t.exec("INSERT INTO births (order_id, idx, pubkey, mnemonic, validator, validator_sha256, record_sha256, certificate) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
					"o1", i, v.Pubkey[:], "m1", string(data), sum[:], sum[:], "{}"); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	for name, q := range map[string]record.Query{"order": {Order: "o1"}, "all": {}, "prefix": {Prefix: "0"}} {
		var rows int
		first := heap()
		var most uint64
		for _, err := range s.Validators(ctx, q) {
			must(t, err)
			rows++
			if rows%2_000 == 0 {
				most = max(most, heap())
			}
		}
		if want := map[string]int{"order": n, "all": n, "prefix": n / 256 * 16}[name]; rows < want || rows > want+32*16 {
			t.Errorf("%s: %d rows, want %d", name, rows, want)
		}
		if most > first+4<<20 { // a page of 256 rows is under 1 MiB; all rows are 150
			t.Errorf("%s: the heap grew from %d to %d KiB", name, first>>10, most>>10)
		}
	}
}

// heap returns what is held, in bytes.
func heap() uint64 {
	var mem runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&mem)
	return mem.HeapAlloc
}
