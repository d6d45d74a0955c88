// Package slashingtest is what every slashing.Ledger must pass: Ledger for
// each, and Shared for one that several signers write at once.
package slashingtest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/slashing"
)

// Store is a ledger as a signer has it: with what says who holds it, how far
// it has come, and which keys it is complete for.
type Store interface {
	slashing.Ledger
	Info() slashing.Info

	// Hold puts it under an epoch of the lease. It must refuse one below with
	// ErrHolder.
	Hold(ctx context.Context, epoch uint64) error
	Epoch(ctx context.Context) (uint64, error)

	// Watermark must be higher than at any call before the last mark was
	// written, and must not move by what writes nothing.
	Watermark(ctx context.Context) (uint64, error)

	// Admit is Add, and notes the assignment under which each mark is complete.
	// It must refuse one below the stored, and change nothing then.
	Admit(ctx context.Context, epoch uint64, list []slashing.Admission) error
	// Admitted is the assignment of every key that is admitted here.
	Admitted(ctx context.Context) (map[eth.Pubkey]uint64, error)
	// Complete is that of the given keys, wherever in the store they are
	// admitted; those that are with other software must not be in it.
	Complete(ctx context.Context, pubkeys []eth.Pubkey) (map[eth.Pubkey]uint64, error)
	Close() error
}

// Opened is an empty ledger, held under epoch 1.
type Opened struct {
	Store
	// Name is what was opened, taken from it, not from what was asked for.
	Name string
	// Again closes it and opens it anew, as after a crash, still under its epoch.
	Again func(t testing.TB) Store
}

type suite struct {
	t    *testing.T
	want string
	open func(testing.TB) Opened
}

// Ledger runs the suite. open opens a ledger of its own each time, named want.
func Ledger(t *testing.T, want string, open func(testing.TB) Opened) {
	s := suite{t, want, open}
	s.must("refuse a key that it does not know", unknown)
	s.must("keep what was signed", keeps)
	s.must("refuse what conflicts", conflicts)
	s.must("judge claims in their order", ordered)
	s.must("let one of two that race win", races)
	s.must("commit many at once", crowd)
	s.must("never lower a mark by adding", adds)
	s.must("sign for its holder only", holder)
	s.must("hold all of a number", numbers)
	s.must("yield every mark by pubkey", lists)
	s.must("be held under rising epochs", held)
	s.must("admit under rising assignments", admits)
	s.must("refuse an admission whole", refusesWhole)
	s.must("move its watermark with every mark", watermarks)
	t.Run("interchange scenarios", func(t *testing.T) { Scenarios(t, func(t *testing.T) Stage { return onLedger(t, open(t)) }) })
}

func (s suite) must(name string, f func(*testing.T, Opened)) {
	s.t.Run(name, func(t *testing.T) {
		o := s.open(t)
		if o.Name != s.want || o.Name == "" {
			t.Fatalf("opened %q, not %q", o.Name, s.want)
		}
		f(t, o)
	})
}

// Key is a pubkey of the suite's.
func Key(n int) (p eth.Pubkey) {
	p[0], p[1], p[47] = byte(n), byte(n>>8), 7
	return p
}

// Attestation is a claim.
func Attestation(key int, source, target uint64, root byte) slashing.Claim {
	return slashing.Claim{Pubkey: Key(key), Source: source, Target: target, Root: eth.Root{root}}
}

// Block is a claim.
func Block(key int, slot uint64, root byte) slashing.Claim {
	return slashing.Claim{Pubkey: Key(key), Block: true, Slot: slot, Root: eth.Root{root}}
}

var ctx = context.Background()

func add(t testing.TB, l slashing.Ledger, marks ...slashing.Mark) {
	t.Helper()
	if err := l.Add(ctx, 1, marks); err != nil {
		t.Fatal(err)
	}
}

func hold(t testing.TB, l Store, epoch uint64) {
	t.Helper()
	if err := l.Hold(ctx, epoch); err != nil {
		t.Fatal(err)
	}
}

// want brings claims one by one and compares each outcome (nil: allowed).
func want(t testing.TB, l slashing.Ledger, epoch uint64, outcome error, claims ...slashing.Claim) {
	t.Helper()
	for _, c := range claims {
		if err := l.Sign(ctx, epoch, []slashing.Claim{c})[0]; !errors.Is(err, outcome) || (err == nil) != (outcome == nil) {
			t.Errorf("%+v: %v, want %v", c, err, outcome)
		}
	}
}

func all(t testing.TB, l slashing.Ledger) (marks []slashing.Mark) {
	t.Helper()
	for m, err := range l.Marks(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		marks = append(marks, m)
	}
	return marks
}

func unknown(t *testing.T, o Opened) {
	want(t, o, 1, slashing.ErrUnknownKey, Attestation(1, 1, 2, 1), Block(1, 3, 1))
	if got := all(t, o); len(got) != 0 {
		t.Errorf("a refusal left %v", got)
	}
}

func keeps(t *testing.T, o Opened) {
	add(t, o, slashing.Mark{Pubkey: Key(1)})
	want(t, o, 1, nil, Attestation(1, 3, 4, 1), Block(1, 99, 2))
	l := o.Again(t)
	marks := all(t, l)
	if len(marks) != 1 || marks[0] != (slashing.Mark{Pubkey: Key(1), Block: true, Slot: 99, BlockRoot: eth.Root{2}, Attestation: true, Source: 3, Target: 4, Root: eth.Root{1}}) {
		t.Fatalf("read back %+v", marks)
	}
	want(t, l, 1, slashing.ErrSlashable, Attestation(1, 3, 4, 9), Block(1, 99, 9), Block(1, 98, 2))
	want(t, l, 1, nil, Attestation(1, 3, 4, 1), Block(1, 99, 2)) // the very same
}

func conflicts(t *testing.T, o Opened) {
	add(t, o, slashing.Mark{Pubkey: Key(1)}, slashing.Mark{Pubkey: Key(2)})
	want(t, o, 1, nil, Attestation(1, 5, 6, 1))
	want(t, o, 1, slashing.ErrSlashable,
		Attestation(1, 5, 6, 2),                              // double vote
		Attestation(1, 4, 7, 1),                              // surrounds
		Attestation(1, 6, 6, 1),                              // target not above
		Attestation(1, 8, 7, 1),                              // source after target
		slashing.Claim{Pubkey: Key(1), Source: 5, Target: 6}) // without a root
	want(t, o, 1, nil, Attestation(2, 5, 6, 2), Attestation(1, 5, 7, 3)) // another key; further on
	want(t, o, 1, nil, Block(1, 7, 1))
	want(t, o, 1, slashing.ErrSlashable, Block(1, 7, 2), Block(1, 6, 1))
	want(t, o, 1, nil, Block(1, 8, 2))
}

func ordered(t *testing.T, o Opened) {
	add(t, o, slashing.Mark{Pubkey: Key(1)}, slashing.Mark{Pubkey: Key(2)})
	errs := o.Sign(ctx, 1, []slashing.Claim{
		Attestation(1, 1, 2, 1), Attestation(1, 1, 2, 2), Attestation(3, 1, 2, 1), Attestation(1, 1, 2, 1), Attestation(2, 1, 2, 2), Block(1, 2, 1), Block(1, 2, 2),
	})
	for i, outcome := range []error{nil, slashing.ErrSlashable, slashing.ErrUnknownKey, nil, nil, nil, slashing.ErrSlashable} {
		if !errors.Is(errs[i], outcome) || (errs[i] == nil) != (outcome == nil) {
			t.Errorf("claim %d: %v, want %v", i, errs[i], outcome)
		}
	}
	if got := o.Sign(ctx, 1, nil); len(got) != 0 {
		t.Errorf("no claims: %v", got)
	}
}

func races(t *testing.T, o Opened) {
	add(t, o, slashing.Mark{Pubkey: Key(1)})
	for target := uint64(1); target <= 20; target++ {
		var mu sync.Mutex
		var group sync.WaitGroup
		var won []byte
		for root := byte(1); root <= 8; root++ {
			group.Go(func() {
				if o.Sign(ctx, 1, []slashing.Claim{Attestation(1, 0, target, root)})[0] == nil {
					mu.Lock()
					won = append(won, root)
					mu.Unlock()
				}
			})
		}
		group.Wait()
		if len(won) != 1 {
			t.Fatalf("target %d: signed with roots %v", target, won)
		}
	}
}

func crowd(t *testing.T, o Opened) {
	const keys = 300
	marks := make([]slashing.Mark, keys)
	for i := range marks {
		marks[i].Pubkey = Key(i)
	}
	add(t, o, marks...)
	var group sync.WaitGroup
	for i := range keys {
		group.Go(func() {
			if err := o.Sign(ctx, 1, []slashing.Claim{Attestation(i, 1, 2, byte(i))})[0]; err != nil {
				t.Errorf("key %d: %v", i, err)
			}
		})
	}
	group.Wait()
	for i, m := range all(t, o.Again(t)) {
		if !m.Attestation || m.Target != 2 {
			t.Fatalf("mark %d: %+v", i, m)
		}
	}
}

func adds(t *testing.T, o Opened) {
	high := slashing.Mark{Pubkey: Key(1), Block: true, Slot: 9, Attestation: true, Source: 7, Target: 8}
	add(t, o, high)
	add(t, o, slashing.Mark{Pubkey: Key(1)}, slashing.Mark{Pubkey: Key(1), Block: true, Slot: 3, Attestation: true, Source: 9, Target: 5}, slashing.Mark{Pubkey: Key(2)})
	marks := all(t, o.Again(t))
	if len(marks) != 2 || marks[0] != (slashing.Mark{Pubkey: Key(1), Block: true, Slot: 9, Attestation: true, Source: 9, Target: 8}) {
		t.Errorf("after adding lower ones: %+v", marks)
	}
}

func holder(t *testing.T, o Opened) {
	add(t, o, slashing.Mark{Pubkey: Key(1)})
	want(t, o, 2, slashing.ErrHolder, Attestation(1, 1, 2, 1))
	hold(t, o, 2)
	want(t, o, 1, slashing.ErrHolder, Attestation(1, 1, 2, 1), Block(1, 5, 1))
	if err := o.Add(ctx, 1, []slashing.Mark{{Pubkey: Key(2)}}); !errors.Is(err, slashing.ErrHolder) {
		t.Errorf("adding under a former epoch: %v", err)
	}
	want(t, o, 2, nil, Attestation(1, 1, 2, 1))
	want(t, o.Again(t), 1, slashing.ErrHolder, Attestation(1, 1, 3, 1))
}

func numbers(t *testing.T, o Opened) {
	const most = ^uint64(0)
	add(t, o, slashing.Mark{Pubkey: Key(1)})
	want(t, o, 1, nil, Attestation(1, 0, 0, 1), Block(1, 0, 1))
	want(t, o, 1, nil, Attestation(1, 1<<63-1, 1<<63, 1), Block(1, 1<<63, 1))
	want(t, o, 1, slashing.ErrSlashable, Attestation(1, 1, 255, 1), Block(1, 255, 1))
	want(t, o, 1, nil, Attestation(1, most, most, 1), Block(1, most, 1))
	want(t, o.Again(t), 1, slashing.ErrSlashable, Attestation(1, most, most, 2), Block(1, most, 2))
}

func lists(t *testing.T, o Opened) {
	for _, n := range []int{5, 1, 260, 3} {
		add(t, o, slashing.Mark{Pubkey: Key(n)})
	}
	marks := all(t, o)
	if len(marks) != 4 || !slices.IsSortedFunc(marks, func(a, b slashing.Mark) int { return bytes.Compare(a.Pubkey[:], b.Pubkey[:]) }) {
		t.Errorf("%v", marks)
	}
	for _, m := range marks {
		if m != (slashing.Mark{Pubkey: m.Pubkey}) {
			t.Errorf("a key that signed nothing has %+v", m)
		}
	}
}

// onLedger plays scenarios on a ledger, which is reopened after each step.
func onLedger(t *testing.T, o Opened) Stage {
	var l slashing.Ledger = o
	return Stage{
		Raise: func(marks []slashing.Mark) { add(t, l, marks...) },
		Sign:  func(c slashing.Claim) error { return l.Sign(ctx, 1, []slashing.Claim{c})[0] },
		After: func(root eth.Root) {
			// What is exported and imported again changes nothing: an import
			// takes maxima.
			before := all(t, l)
			var file bytes.Buffer
			if err := slashing.Write(&file, root, before); err != nil {
				t.Fatal(err)
			}
			again, err := slashing.Read(&file, root)
			if err != nil {
				t.Fatal(err)
			}
			if len(again) != len(before) {
				t.Fatalf("%d marks are exported as %d", len(before), len(again))
			}
			for i := range again {
				kept := before[i]
				if kept.BlockRoot, kept.Root = (eth.Root{}), (eth.Root{}); again[i] != kept {
					t.Errorf("%+v is exported as %+v", before[i], again[i])
				}
				if got := before[i].Raise(again[i]); got.Slot != before[i].Slot || got.Source != before[i].Source || got.Target != before[i].Target {
					t.Errorf("importing its own export makes %+v of %+v", got, before[i])
				}
			}
			l = o.Again(t)
		},
	}
}
