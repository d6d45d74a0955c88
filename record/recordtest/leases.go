package recordtest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stakeseal/stakeseal/record"
)

// OpenedLeases is Opened for leases.
type OpenedLeases struct {
	Store record.Leases
	Name  string
	Again func(t testing.TB) record.Leases
}

// Lease is the first of a signer's name.
func Lease(name string) record.Lease {
	return record.Lease{Name: name, Epoch: 1, Beat: 1, Holder: "h-1", Ledger: "ledger-1", Watermark: 5, Where: "anna@here:/signers/a.db", Time: Start}
}

// Leases tests record.Leases.
func Leases(t *testing.T, want string, open func(testing.TB) OpenedLeases) {
	ctx := context.Background()
	must := func(name string, f func(t *testing.T, s OpenedLeases)) {
		t.Run(name, func(t *testing.T) {
			o := open(t)
			if o.Name != want || o.Name == "" {
				t.Fatalf("the opener opened %q, the test is for %q", o.Name, want)
			}
			f(t, o)
		})
	}
	stored := func(t testing.TB, s OpenedLeases, want record.Lease) {
		t.Helper()
		got, err := s.Again(t).Lease(ctx, want.Name)
		ok(t, err)
		same(t, "lease", got, want)
	}

	must("Lease fails where there is none", func(t *testing.T, s OpenedLeases) {
		ok(t, s.Store.Take(ctx, Lease("signer-b")))
		for _, name := range []string{"signer-a", "signer-", "signer-bb", "", "Signer-B", "a b", string(make([]byte, 2000))} {
			_, err := s.Store.Lease(ctx, name)
			is(t, err, record.ErrNotFound)
		}
	})
	must("Take stores what Lease returns", func(t *testing.T, s OpenedLeases) {
		first := Lease("signer-a")
		first.Watermark, first.Where = 1<<62, "änna@hier:/signers/a.db"
		ok(t, s.Store.Take(ctx, first))
		stored(t, s, first)
		ok(t, s.Store.Take(ctx, Lease("signer-b"))) // another name's is another lease
		stored(t, s, first)
	})
	must("Take takes the next beat only", func(t *testing.T, s OpenedLeases) {
		l := Lease("signer-a")
		for _, beat := range []uint64{2, 3, 1 << 62} {
			l.Beat = beat
			is(t, s.Store.Take(ctx, l), record.ErrStale)
		}
		_, err := s.Again(t).Lease(ctx, l.Name)
		is(t, err, record.ErrNotFound)
		l.Beat = 1
		ok(t, s.Store.Take(ctx, l))
		for _, beat := range []uint64{1, 3, 4, 1 << 62} {
			next := l
			next.Beat, next.Watermark = beat, 9
			is(t, s.Store.Take(ctx, next), record.ErrStale)
			stored(t, s, l)
		}
		next := l
		next.Beat, next.Watermark = 2, 9
		ok(t, s.Store.Take(ctx, next))
		stored(t, s, next)
		is(t, s.Store.Take(ctx, l), record.ErrStale) // the one before, late
		stored(t, s, next)
	})
	must("Take refuses what no holder does", func(t *testing.T, s OpenedLeases) {
		is(t, s.Store.Take(ctx, func() record.Lease { l := Lease("signer-a"); l.Epoch = 0; return l }()), record.ErrFormat)
		is(t, s.Store.Take(ctx, Lease("Signer A")), record.ErrFormat)
		l := Lease("signer-a")
		ok(t, s.Store.Take(ctx, l))
		l.Beat, l.Epoch, l.Holder = 2, 2, "h-2"
		ok(t, s.Store.Take(ctx, l))
		for what, change := range map[string]func(*record.Lease){
			"an epoch below":         func(n *record.Lease) { n.Epoch = 1 },
			"an epoch left out":      func(n *record.Lease) { n.Epoch, n.Beat = 4, 3 },
			"a watermark below":      func(n *record.Lease) { n.Watermark = 4 },
			"another holder":         func(n *record.Lease) { n.Holder = "h-3" },
			"another ledger":         func(n *record.Lease) { n.Ledger = "ledger-2" },
			"a watermark below, new": func(n *record.Lease) { n.Epoch, n.Watermark = 3, 4 },
			"no place":               func(n *record.Lease) { n.Where = "" },
		} {
			next := l
			next.Beat = 3
			change(&next)
			if err := s.Store.Take(ctx, next); !errors.Is(err, record.ErrFormat) {
				t.Errorf("%s: %v", what, err)
			}
			stored(t, s, l)
		}
		l.Beat, l.Epoch, l.Holder, l.Ledger, l.Watermark = 3, 3, "h-3", "ledger-2", 0 // a new ledger begins anew
		ok(t, s.Store.Take(ctx, l))
		l.Beat, l.Holder = 4, ""
		ok(t, s.Store.Take(ctx, l)) // released
		stored(t, s, l)
	})
	must("Take repeated exactly succeeds", func(t *testing.T, s OpenedLeases) {
		l := Lease("signer-a")
		for range 3 {
			for range 2 {
				ok(t, s.Store.Take(ctx, l))
				ok(t, s.Again(t).Take(ctx, l))
			}
			other := l
			other.Where = "somebody else's"
			is(t, s.Store.Take(ctx, other), record.ErrStale)
			l.Beat++
		}
	})
	must("of those that race one wins", func(t *testing.T, s OpenedLeases) {
		l := Lease("signer-a")
		ok(t, s.Store.Take(ctx, l))
		stores := []record.Leases{s.Store, s.Again(t), s.Again(t)}
		for round := range uint64(5) {
			next := func(i int) record.Lease {
				n := l
				n.Epoch, n.Beat, n.Holder = round+2, round+2, fmt.Sprintf("h-%d-%d", round, i)
				return n
			}
			won, errs := race(crowd, func(i int) (int, error) { return i, stores[i%len(stores)].Take(ctx, next(i)) })
			winners := 0
			for i, err := range errs {
				if err == nil {
					winners++
					l = next(won[i])
					continue
				}
				is(t, err, record.ErrStale)
			}
			if winners != 1 {
				t.Fatalf("round %d: %d winners", round, winners)
			}
			stored(t, s, l)
		}
	})
	must("Leases yields every lease by name", func(t *testing.T, s OpenedLeases) {
		same(t, "leases of none", len(all(t, s.Store.Leases(ctx))), 0)
		var want []record.Lease
		for n := range 90 {
			want = append(want, Lease(fmt.Sprintf("signer-%03d", n)))
		}
		for i := range want {
			ok(t, s.Store.Take(ctx, want[len(want)-1-i]))
		}
		want[7].Beat = 2
		ok(t, s.Store.Take(ctx, want[7]))
		same(t, "leases", all(t, s.Again(t).Leases(ctx)), want)
		for range s.Store.Leases(ctx) { // stops where it is told to
			break
		}
	})
}
