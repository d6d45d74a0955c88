package recordtest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// ImportStore is what the suite of imports asks of a store beside Store.
type ImportStore interface {
	Store
	record.Imports
	record.ImportReader
}

// Imports tests record.Imports and record.ImportReader, and what they change
// about Births and Assignments. What is opened must be an ImportStore.
func Imports(t *testing.T, want string, open func(testing.TB) Opened) {
	ctx := context.Background()
	suite := suite{t, want, open}
	must := func(name string, f func(t *testing.T, s, again ImportStore)) {
		suite.must(name, func(t *testing.T, o Opened) { f(t, importing(t, o.Store), importing(t, o.Again(t))) })
	}
	m := ImportedMnemonic("m")

	must("PutImportedMnemonic of the same mnemonic again succeeds", func(t *testing.T, s, again ImportStore) {
		ok(t, s.PutImportedMnemonic(ctx, m))
		ok(t, s.PutImportedMnemonic(ctx, m))
		ok(t, again.PutImportedMnemonic(ctx, m))
		same(t, "stored", all(t, again.ImportedMnemonics(ctx)), []record.ImportedMnemonic{m})
	})
	must("PutImportedMnemonic of another under the id fails and changes nothing", func(t *testing.T, s, again ImportStore) {
		ok(t, s.PutImportedMnemonic(ctx, m))
		for _, change := range []func(*record.ImportedMnemonic){
			func(m *record.ImportedMnemonic) { m.Created = m.Created.Add(time.Second) },
			func(m *record.ImportedMnemonic) { m.Sealing = Sealing(record.Recovery, "other") },
			func(m *record.ImportedMnemonic) { m.Importer = "mallory" },
		} {
			other := m
			change(&other)
			is(t, again.PutImportedMnemonic(ctx, other), record.ErrConflict)
		}
		same(t, "stored", all(t, s.ImportedMnemonics(ctx)), []record.ImportedMnemonic{m})
	})
	must("PutImportedMnemonic refuses what is not well-formed", func(t *testing.T, s, again ImportStore) {
		for _, change := range []func(*record.ImportedMnemonic){
			func(m *record.ImportedMnemonic) { m.ID = ImportedMnemonic("other").ID },
			func(m *record.ImportedMnemonic) { m.Sealing = Sealing(record.Signing, "x") },
			func(m *record.ImportedMnemonic) { m.Sealing.Digest[0]++ },
		} {
			other := m
			change(&other)
			is(t, s.PutImportedMnemonic(ctx, other), record.ErrFormat)
		}
		same(t, "stored", all(t, again.ImportedMnemonics(ctx)), []record.ImportedMnemonic(nil))
	})

	must("PutImport stores the whole record", func(t *testing.T, s, again ImportStore) {
		ok(t, s.PutImportedMnemonic(ctx, m))
		for _, i := range []record.Import{Import(m, 0, ""), Import(m, 1, ""), BareImport("bare")} {
			ok(t, s.PutImport(ctx, i))
			ok(t, again.PutImport(ctx, i)) // the same again
			got, err := again.Import(ctx, i.Pubkey)
			ok(t, err)
			same(t, "stored", got, i)
		}
		same(t, "count", len(all(t, again.Imported(ctx, ""))), 3)
		same(t, "births", all(t, s.Validators(ctx, record.Query{})), []record.Validator(nil))
	})
	must("PutImport of another import of the pubkey fails and changes nothing", func(t *testing.T, s, again ImportStore) {
		ok(t, s.PutImportedMnemonic(ctx, m))
		i := Import(m, 0, "")
		ok(t, s.PutImport(ctx, i))
		for what, change := range map[string]func(*record.Import){
			"a later time":      func(i *record.Import) { i.Created = i.Created.Add(time.Second) },
			"sealed anew":       func(i *record.Import) { i.Sealing = Sealing(record.Signing, "anew") },
			"other credentials": func(i *record.Import) { i.Credentials[31]++ },
			"no deposits":       func(i *record.Import) { i.Deposits = nil },
			"no mnemonic":       func(i *record.Import) { i.Mnemonic = "" },
			"another source":    func(i *record.Import) { i.Source.Place = "elsewhere" },
		} {
			other := i
			change(&other)
			if err := again.PutImport(ctx, other); !errors.Is(err, record.ErrConflict) {
				t.Errorf("%s: got %v, want ErrConflict", what, err)
			}
		}
		same(t, "stored", all(t, s.Imported(ctx, "")), []record.Imported{i.Imported})
	})
	must("PutImport of a pubkey that was born fails and changes nothing", func(t *testing.T, s, again ImportStore) {
		b := fill(t, s, Order("o1", 1))["o1"][0]
		i := BareImport("x")
		i.Pubkey = b.Pubkey
		is(t, s.PutImport(ctx, i), record.ErrExists)
		is(t, again.PutImport(ctx, i), record.ErrExists)
		_, err := s.Import(ctx, b.Pubkey)
		is(t, err, record.ErrNotFound)
		same(t, "imported", all(t, again.Imported(ctx, "")), []record.Imported(nil))
		same(t, "birth", lagging(t, func() (record.Birth, error) { return again.Birth(ctx, b.Pubkey) }), b)
	})
	must("PutBirth of a pubkey that was imported fails and changes nothing", func(t *testing.T, s, again ImportStore) {
		o := Order("o1", 2)
		words := Mnemonic(o, "m1")
		placed(t, s, o, words)
		i := BareImport("x")
		ok(t, s.PutImport(ctx, i))
		b := Birth(o, words, 0, "")
		b.Pubkey = i.Pubkey
		for _, s := range []ImportStore{s, again} {
			_, err := s.PutBirth(ctx, b)
			is(t, err, record.ErrConflict)
		}
		_, err := s.Birth(ctx, i.Pubkey)
		is(t, err, record.ErrNotFound)
		same(t, "births", all(t, again.Validators(ctx, record.Query{})), []record.Validator(nil))
		same(t, "births of a prefix", all(t, again.Validators(ctx, record.Query{Prefix: i.Pubkey.Hex()})), []record.Validator(nil))
		same(t, "imported", all(t, again.Imported(ctx, "")), []record.Imported{i.Imported})
		good := Birth(o, words, 0, "") // the index is still open
		got, err := s.PutBirth(ctx, good)
		ok(t, err)
		same(t, "owner", got, good)
	})
	must("PutImport fails for a mnemonic that was not stored before", func(t *testing.T, s, again ImportStore) {
		is(t, s.PutImport(ctx, Import(m, 0, "")), record.ErrNotFound)
		_, err := again.Import(ctx, Import(m, 0, "").Pubkey)
		is(t, err, record.ErrNotFound)
	})
	must("PutImport refuses what is not well-formed or not its mnemonic's", func(t *testing.T, s, again ImportStore) {
		ok(t, s.PutImportedMnemonic(ctx, m))
		for what, change := range map[string]func(*record.Import){
			"another network":          func(i *record.Import) { i.Network = "mainnet" },
			"no pubkey":                func(i *record.Import) { i.Pubkey = eth.Pubkey{} },
			"no source":                func(i *record.Import) { i.Source = record.Source{} },
			"no importer":              func(i *record.Import) { i.Importer = "" },
			"a changed sealed file":    func(i *record.Import) { i.Sealing.File[40] ^= 1 },
			"a sealing for recovery":   func(i *record.Import) { i.Sealing = Sealing(record.Recovery, "x") },
			"deposits to nobody":       func(i *record.Import) { i.Credentials = eth.Credentials{} },
			"a mnemonic and no path":   func(i *record.Import) { i.Path = "" },
			"a path that is none":      func(i *record.Import) { i.Path = "m/12381'/0" },
			"a mnemonic of an order's": func(i *record.Import) { i.Mnemonic = "m1" },
		} {
			i := Import(m, 0, "")
			change(&i)
			if err := s.PutImport(ctx, i); !errors.Is(err, record.ErrFormat) {
				t.Errorf("%s: got %v, want ErrFormat", what, err)
			}
		}
		same(t, "stored", all(t, again.Imported(ctx, "")), []record.Imported(nil))
	})
	must("no order is placed under the name of imports", func(t *testing.T, s, again ImportStore) {
		_, err := s.Place(ctx, Order(record.ImportedOrder, 1))
		is(t, err, record.ErrFormat)
		same(t, "orders", all(t, again.Orders(ctx)), []record.Order(nil))
	})
	must("Assign takes an imported pubkey", func(t *testing.T, s, again ImportStore) {
		i := BareImport("x")
		a := record.Assignment{Pubkey: i.Pubkey, Signer: "signer-a", Epoch: 1, Time: Start}
		is(t, s.Assign(ctx, a), record.ErrNotFound)
		ok(t, s.PutImport(ctx, i))
		ok(t, s.Assign(ctx, a))
		next := a
		next.Epoch, next.Signer = 2, "external:signer-a"
		ok(t, again.Assign(ctx, next))
		is(t, s.Assign(ctx, a), record.ErrStale)
		got, err := s.Assignment(ctx, i.Pubkey)
		ok(t, err)
		same(t, "assignment", got, next)
		same(t, "assigned", all(t, again.Assigned(ctx, "")), []record.Assignment{next})
	})
	must("of many that PutImport one pubkey one wins", func(t *testing.T, s, again ImportStore) {
		for n := range 5 {
			pubkey := BareImport(fmt.Sprint(n)).Pubkey
			of := func(i int) record.Import {
				x := BareImport(fmt.Sprintf("%d by %d", n, i))
				x.Pubkey = pubkey
				return x
			}
			_, errs := race(crowd, func(i int) (struct{}, error) {
				return struct{}{}, []ImportStore{s, again}[i%2].PutImport(ctx, of(i))
			})
			got, err := s.Import(ctx, pubkey)
			ok(t, err)
			won := 0
			for i, err := range errs {
				if err == nil {
					won++
					same(t, "stored", got, of(i))
				} else {
					is(t, err, record.ErrConflict)
				}
			}
			same(t, "winners", won, 1)
		}
	})
	must("of PutImport and PutBirth of one pubkey at once one wins", func(t *testing.T, s, again ImportStore) {
		o := Order("o1", crowd)
		words := Mnemonic(o, "m1")
		placed(t, s, o, words)
		for index := range uint32(crowd) {
			b := Birth(o, words, index, "")
			i := BareImport(fmt.Sprint(index))
			i.Pubkey = b.Pubkey
			_, errs := race(2, func(n int) (struct{}, error) {
				if n == 0 {
					return struct{}{}, s.PutImport(ctx, i)
				}
				_, err := again.PutBirth(ctx, b)
				return struct{}{}, err
			})
			_, imported := s.Import(ctx, b.Pubkey)
			switch {
			case errs[0] == nil:
				is(t, errs[1], record.ErrConflict)
				ok(t, imported)
			default:
				is(t, errs[0], record.ErrExists)
				ok(t, errs[1])
				is(t, imported, record.ErrNotFound)
			}
		}
	})
	must("Imported comes by pubkey", func(t *testing.T, s, again ImportStore) {
		ok(t, s.PutImportedMnemonic(ctx, m))
		var want []record.Imported
		byPubkey := map[eth.Pubkey]record.Import{}
		for i := range uint32(rows) {
			one := Import(m, i, "")
			want, byPubkey[one.Pubkey] = append(want, one.Imported), one
		}
		slices.SortFunc(want, func(a, b record.Imported) int { return slices.Compare(a.Pubkey[:], b.Pubkey[:]) })
		_, errs := race(crowd, func(worker int) (struct{}, error) {
			for i := worker; i < rows; i += crowd {
				if err := s.PutImport(ctx, byPubkey[want[i].Pubkey]); err != nil {
					return struct{}{}, err
				}
			}
			return struct{}{}, nil
		})
		ok(t, errors.Join(errs...))
		one := want[17].Pubkey.Hex()
		for _, prefix := range []string{"", one[:1], one[:2], one[:3], one[:95], one, "f", "ff", strings.Repeat("f", 96)} {
			var selected []record.Imported
			for _, v := range want {
				if strings.HasPrefix(v.Pubkey.Hex(), prefix) {
					selected = append(selected, v)
				}
			}
			same(t, "prefix "+prefix, all(t, again.Imported(ctx, prefix)), selected)
		}
		short(t, rows, func(ctx context.Context) iter.Seq2[record.Imported, error] { return s.Imported(ctx, "") })
	})
	must("Imported refuses what is no prefix", func(t *testing.T, s, _ ImportStore) {
		ok(t, s.PutImport(ctx, BareImport("x")))
		for _, prefix := range []string{"0x", "AB", "g", " ", "%", strings.Repeat("a", 97)} {
			n := 0
			for _, err := range s.Imported(ctx, prefix) {
				if n++; err == nil || n > 1 {
					t.Fatalf("prefix %q: got row or error %d: %v", prefix, n, err)
				}
			}
			same(t, "errors for "+prefix, n, 1)
		}
	})
	must("ImportedMnemonics come by id", func(t *testing.T, s, again ImportStore) {
		var want []record.ImportedMnemonic
		for i := range rows {
			want = append(want, ImportedMnemonic(fmt.Sprint(i)))
		}
		_, errs := race(crowd, func(worker int) (struct{}, error) {
			for i := worker; i < rows; i += crowd {
				if err := s.PutImportedMnemonic(ctx, want[i]); err != nil {
					return struct{}{}, err
				}
			}
			return struct{}{}, nil
		})
		ok(t, errors.Join(errs...))
		slices.SortFunc(want, func(a, b record.ImportedMnemonic) int { return strings.Compare(a.ID, b.ID) })
		same(t, "mnemonics", all(t, again.ImportedMnemonics(ctx)), want)
		short(t, rows, s.ImportedMnemonics)
	})
	must("an import whose context has ended may be repeated", func(t *testing.T, s, _ ImportStore) {
		ended, cancel := context.WithCancel(ctx)
		cancel()
		i := Import(m, 0, "")
		if s.PutImportedMnemonic(ended, m) == nil || s.PutImport(ended, i) == nil {
			t.Fatal("a write with an ended context succeeded")
		}
		ok(t, s.PutImportedMnemonic(ctx, m))
		if s.PutImport(ended, i) == nil {
			t.Fatal("a write with an ended context succeeded")
		}
		ok(t, s.PutImport(ctx, i))
	})
}

func importing(t testing.TB, s Store) ImportStore {
	t.Helper()
	i, ok := s.(ImportStore)
	if !ok {
		t.Fatalf("%T takes no imports", s)
	}
	return i
}
