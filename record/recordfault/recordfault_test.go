package recordfault_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/stakeseal/stakeseal/internal/folder"
	"github.com/stakeseal/stakeseal/internal/sqlite"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordfault"
	"github.com/stakeseal/stakeseal/record/recordtest"
)

type backend struct {
	*sqlite.Store
	*folder.Archive
}

func open(t *testing.T) backend {
	t.Helper()
	dir := t.TempDir()
	s, err := sqlite.Create(filepath.Join(dir, "records.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	a, err := folder.Create(filepath.Join(dir, "bundles"))
	if err != nil {
		t.Fatal(err)
	}
	return backend{s, a}
}

var ctx = context.Background()

// step is one call through the plan: what it is, what it does, and whether
// the store shows that it was applied (nil: a read).
type step struct {
	name    string
	run     func(*recordfault.Plan, backend) error
	applied func(backend) bool
}

var (
	order    = recordtest.Order("o1", 2)
	mnemonic = recordtest.Mnemonic(order, "m1")
	birth    = recordtest.Birth(order, mnemonic, 0, "")
	second   = recordtest.Birth(order, mnemonic, 1, "")
	assigned = recordtest.Assignment(birth, "signer-a", 1)
	words    = recordtest.ImportedMnemonic("m")
	imported = recordtest.Import(words, 0, "")
	event    = record.Event{Time: recordtest.Start, Kind: "exported", Actor: "anna", Once: "o1"}
)

var steps = []step{
	{"Births.Place", func(p *recordfault.Plan, b backend) error {
		_, err := p.Births(b).Place(ctx, order)
		return err
	}, func(b backend) bool { _, err := b.Order(ctx, "o1"); return err == nil }},
	{"Births.PutMnemonic", func(p *recordfault.Plan, b backend) error {
		return p.Births(b).PutMnemonic(ctx, mnemonic)
	}, func(b backend) bool { n, _ := count(b.Mnemonics(ctx, "o1")); return n == 1 }},
	{"Births.PutBirth", func(p *recordfault.Plan, b backend) error {
		_, err := p.Births(b).PutBirth(ctx, birth)
		return err
	}, func(b backend) bool { _, err := b.Birth(ctx, birth.Pubkey); return err == nil }},
	{"Births.PutBirth", func(p *recordfault.Plan, b backend) error {
		_, err := p.Births(b).PutBirth(ctx, second)
		return err
	}, func(b backend) bool { _, err := b.Birth(ctx, second.Pubkey); return err == nil }},
	{"Archive.Put", func(p *recordfault.Plan, b backend) error {
		if err := p.Archive(b).Put(ctx, "a", []byte("x")); !errors.Is(err, record.ErrExists) {
			return err
		}
		return nil
	}, func(b backend) bool { _, err := b.Get(ctx, "a"); return err == nil }},
	{"Archive.Get", func(p *recordfault.Plan, b backend) error { _, err := p.Archive(b).Get(ctx, "a"); return err }, nil},
	{"Reader.Order", func(p *recordfault.Plan, b backend) error { _, err := p.Reader(b).Order(ctx, "o1"); return err }, nil},
	{"Reader.Birth", func(p *recordfault.Plan, b backend) error {
		_, err := p.Reader(b).Birth(ctx, birth.Pubkey)
		return err
	}, nil},
	{"Reader.Validators", func(p *recordfault.Plan, b backend) error {
		return want(2)(count(p.Reader(b).Validators(ctx, record.Query{})))
	}, nil},
	{"Catalog.Orders", func(p *recordfault.Plan, b backend) error { return want(1)(count(p.Catalog(b).Orders(ctx))) }, nil},
	{"Catalog.Mnemonics", func(p *recordfault.Plan, b backend) error {
		return want(1)(count(p.Catalog(b).Mnemonics(ctx, "o1")))
	}, nil},
	{"Assignments.Assign", func(p *recordfault.Plan, b backend) error { return p.Assignments(b).Assign(ctx, assigned) },
		func(b backend) bool { _, err := b.Assignment(ctx, birth.Pubkey); return err == nil }},
	{"Assignments.Assignment", func(p *recordfault.Plan, b backend) error {
		_, err := p.Assignments(b).Assignment(ctx, birth.Pubkey)
		return err
	}, nil},
	{"Assignments.Assigned", func(p *recordfault.Plan, b backend) error {
		return want(1)(count(p.Assignments(b).Assigned(ctx, "")))
	}, nil},
	{"Imports.PutImportedMnemonic", func(p *recordfault.Plan, b backend) error {
		return p.Imports(b).PutImportedMnemonic(ctx, words)
	}, func(b backend) bool { n, _ := count(b.ImportedMnemonics(ctx)); return n == 1 }},
	{"Imports.PutImport", func(p *recordfault.Plan, b backend) error { return p.Imports(b).PutImport(ctx, imported) },
		func(b backend) bool { _, err := b.Import(ctx, imported.Pubkey); return err == nil }},
	{"ImportReader.Import", func(p *recordfault.Plan, b backend) error {
		_, err := p.ImportReader(b).Import(ctx, imported.Pubkey)
		return err
	}, nil},
	{"ImportReader.Imported", func(p *recordfault.Plan, b backend) error {
		return want(1)(count(p.ImportReader(b).Imported(ctx, "")))
	}, nil},
	{"ImportReader.ImportedMnemonics", func(p *recordfault.Plan, b backend) error {
		return want(1)(count(p.ImportReader(b).ImportedMnemonics(ctx)))
	}, nil},
	{"Events.Append", func(p *recordfault.Plan, b backend) error {
		if err := p.Events(b).Append(ctx, event); !errors.Is(err, record.ErrExists) {
			return err
		}
		return nil
	}, func(b backend) bool { n, _ := count(b.Events(ctx, record.EventQuery{})); return n == 1 }},
	{"Events.Events", func(p *recordfault.Plan, b backend) error {
		return want(1)(count(p.Events(b).Events(ctx, record.EventQuery{})))
	}, nil},
}

func count[T any](rows func(func(T, error) bool)) (n int, err error) {
	for _, e := range rows {
		if e != nil {
			err = e
			continue
		}
		n++
	}
	return n, err
}

func want(n int) func(int, error) error {
	return func(got int, err error) error {
		if err == nil && got != n {
			err = fmt.Errorf("%d rows, not %d", got, n)
		}
		return err
	}
}

func run(p *recordfault.Plan, b backend) (done int, err error) {
	for i, s := range steps {
		if err := s.run(p, b); err != nil {
			return i, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return len(steps), nil
}

// TestEveryPoint fails each call of each port in each mode, looks whether it
// was applied, and runs again to the end.
func TestEveryPoint(t *testing.T) {
	plan := recordfault.New()
	if _, err := run(plan, open(t)); err != nil {
		t.Fatal(err)
	}
	calls := plan.Calls()
	var names []string
	ports := map[string]int{}
	for i, c := range calls {
		if c.N != i+1 {
			t.Errorf("call %d is numbered %d", i+1, c.N)
		}
		names = append(names, c.Port+"."+c.Method)
		ports[c.Port]++
	}
	var wanted []string
	for _, s := range steps {
		wanted = append(wanted, s.name)
	}
	if !reflect.DeepEqual(names, wanted) || len(ports) != 8 {
		t.Fatalf("calls:\n got %v\nwant %v", names, wanted)
	}
	points := recordfault.Points(calls)
	// 14 calls twice, 7 lists of 2+1+1+1+1+1+1 rows and their starts; all but
	// those of the last call (a list) also staying down.
	if want := 2*(14*2+15) - 2; len(points) != want {
		t.Fatalf("%d points, want %d", len(points), want)
	}
	for _, fault := range points {
		t.Run(fault.String(), func(t *testing.T) {
			t.Parallel()
			b, step := open(t), steps[fault.Call-1]
			plan := recordfault.New(fault)
			done, err := run(plan, b)
			if done != fault.Call-1 || !errors.Is(err, recordfault.ErrInjected) || !plan.Fired() {
				t.Fatalf("after %d steps, fired %v: %v", done, plan.Fired(), err)
			}
			for _, sentinel := range []error{record.ErrNotFound, record.ErrExists, record.ErrConflict, record.ErrStale, record.ErrCorrupt, record.ErrFormat} {
				if errors.Is(err, sentinel) {
					t.Errorf("an unknown outcome is %v", sentinel)
				}
			}
			if step.applied != nil {
				if got, want := step.applied(b), fault.Mode == recordfault.Applied; got != want {
					t.Errorf("applied: %v, want %v", got, want)
				}
			}
			if list := calls[fault.Call-1].List; list && plan.Calls()[fault.Call-1].Rows != fault.Row {
				t.Errorf("yielded %d rows, want %d", plan.Calls()[fault.Call-1].Rows, fault.Row)
			}
			_, err = run(plan, b) // the plan has fired: only Down still fails
			if fault.Down != errors.Is(err, recordfault.ErrInjected) || !fault.Down && err != nil {
				t.Errorf("run again, down %v: %v", fault.Down, err)
			}
			if _, err := run(recordfault.New(), b); err != nil {
				t.Errorf("run without a fault: %v", err)
			}
		})
	}
}

func TestHookAndError(t *testing.T) {
	b := open(t)
	full := errors.New("disk full")
	var seen []string
	hook := func(c recordfault.Call) {
		_, err := b.Order(ctx, "o1")
		seen = append(seen, fmt.Sprintf("%s placed=%v", c, err == nil))
	}
	plan := recordfault.New(
		recordfault.Fault{Call: 1, Mode: recordfault.Pass, Hook: hook},
		recordfault.Fault{Call: 2, Mode: recordfault.NotApplied, Hook: hook, Err: full},
		recordfault.Fault{Call: 3, Mode: recordfault.Applied, Hook: hook},
	)
	other := order
	other.ID = "o2"
	if _, err := plan.Births(b).Place(ctx, order); err != nil {
		t.Fatal(err)
	}
	if _, err := plan.Births(b).Place(ctx, other); !errors.Is(err, full) || !errors.Is(err, recordfault.ErrInjected) {
		t.Fatal(err)
	}
	if plan.Fired() {
		t.Fatal("fired before the last fault")
	}
	if _, err := plan.Births(b).Place(ctx, other); !errors.Is(err, recordfault.ErrInjected) || !strings.Contains(err.Error(), "call 3: Births.Place, applied") {
		t.Fatal(err)
	}
	want := []string{"call 1: Births.Place placed=false", "call 2: Births.Place placed=true", "call 3: Births.Place placed=true"}
	if !reflect.DeepEqual(seen, want) || !plan.Fired() {
		t.Fatalf("got %q, fired %v", seen, plan.Fired())
	}
}

// TestConcurrent counts calls from many goroutines and fails exactly one.
func TestConcurrent(t *testing.T) {
	b := open(t)
	plan := recordfault.New(recordfault.Fault{Call: 50, Mode: recordfault.NotApplied})
	reader := plan.Reader(b)
	var wg sync.WaitGroup
	var mu sync.Mutex
	failed := 0
	for range 10 {
		wg.Go(func() {
			for range 10 {
				if _, err := reader.Order(ctx, "none"); errors.Is(err, recordfault.ErrInjected) {
					mu.Lock()
					failed++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if failed != 1 || len(plan.Calls()) != 100 || !plan.Fired() {
		t.Fatalf("%d failed of %d", failed, len(plan.Calls()))
	}
}

// TestConforms runs the suites through an empty plan: wrapping changes
// nothing.
func TestConforms(t *testing.T) {
	plan := recordfault.New()
	wrap := func(s *sqlite.Store) recordtest.Store { return plan.Store(s) }
	recordtest.Assignments(t, "wrapped", func(t testing.TB) recordtest.Opened {
		path := filepath.Join(t.TempDir(), "records.db")
		s, err := sqlite.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		again, err := sqlite.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := errors.Join(again.Close(), s.Close()); err != nil {
				t.Error(err)
			}
		})
		return recordtest.Opened{Store: wrap(s), Name: "wrapped", Again: func(testing.TB) recordtest.Store { return wrap(again) }}
	})
	if len(plan.Calls()) == 0 {
		t.Fatal("the suite did not go through the plan")
	}
}
