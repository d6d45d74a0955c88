package recordtest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// Assignments tests record.Assignments.
func Assignments(t *testing.T, want string, open func(testing.TB) Opened) {
	s, ctx := suite{t, want, open}, context.Background()

	s.must("Assignment fails where there is none", func(t *testing.T, s Opened) {
		b := fill(t, s, Order("o1", 1))["o1"][0]
		for _, p := range []eth.Pubkey{b.Pubkey, {1}} {
			_, err := s.Assignment(ctx, p)
			is(t, err, record.ErrNotFound)
		}
	})
	s.must("Assign takes the next epoch only", func(t *testing.T, s Opened) {
		b := fill(t, s, Order("o1", 1))["o1"][0]
		again := s.Again(t)
		stored := func(want record.Assignment) {
			t.Helper()
			got, err := again.Assignment(ctx, b.Pubkey)
			ok(t, err)
			same(t, "assignment", got, want)
		}
		is(t, s.Assign(ctx, Assignment(b, "signer-a", 2)), record.ErrStale)
		_, err := again.Assignment(ctx, b.Pubkey)
		is(t, err, record.ErrNotFound)
		first := Assignment(b, "signer-a", 1)
		ok(t, s.Assign(ctx, first))
		stored(first)
		for _, epoch := range []uint64{1, 3, 4, 1 << 63, 1<<64 - 1} {
			is(t, s.Assign(ctx, Assignment(b, "signer-b", epoch)), record.ErrStale)
			stored(first)
		}
		second := Assignment(b, "external:other software", 2)
		ok(t, s.Assign(ctx, second))
		stored(second)
		is(t, s.Assign(ctx, first), record.ErrStale)
		stored(second)
	})
	s.must("Assign repeated exactly succeeds", func(t *testing.T, s Opened) {
		b := fill(t, s, Order("o1", 1))["o1"][0]
		a := Assignment(b, "signer-a", 1)
		ok(t, s.Assign(ctx, a))
		ok(t, s.Assign(ctx, a))
		ok(t, s.Again(t).Assign(ctx, a))
		later := a
		later.Time = a.Time.Add(time.Second)
		is(t, s.Assign(ctx, later), record.ErrStale)
	})
	s.must("Assign fails for an unknown pubkey", func(t *testing.T, s Opened) {
		o := Order("o1", 1)
		is(t, s.Assign(ctx, Assignment(Birth(o, Mnemonic(o, "m1"), 0, ""), "signer-a", 1)), record.ErrNotFound)
	})
	s.must("Assign refuses what is not well-formed", func(t *testing.T, s Opened) {
		b := fill(t, s, Order("o1", 1))["o1"][0]
		is(t, s.Assign(ctx, Assignment(b, "signer-a", 0)), record.ErrFormat)
		is(t, s.Assign(ctx, Assignment(b, "", 1)), record.ErrFormat)
		is(t, s.Assign(ctx, Assignment(b, "a\nb", 1)), record.ErrFormat)
		_, err := s.Assignment(ctx, b.Pubkey)
		is(t, err, record.ErrNotFound)
	})
	s.must("of many that Assign one epoch one wins", func(t *testing.T, s Opened) {
		b := fill(t, s, Order("o1", 1))["o1"][0]
		again := s.Again(t)
		for epoch := uint64(1); epoch <= 5; epoch++ {
			_, errs := race(crowd, func(i int) (struct{}, error) {
				return struct{}{}, pick(i, s.Store, again).Assign(ctx, Assignment(b, fmt.Sprintf("signer-%d", i), epoch))
			})
			stored, err := s.Assignment(ctx, b.Pubkey)
			ok(t, err)
			for i, err := range errs {
				if stored.Signer == fmt.Sprintf("signer-%d", i) {
					ok(t, err)
				} else {
					is(t, err, record.ErrStale)
				}
			}
		}
	})
	s.must("of many that count up by Assign none is lost", func(t *testing.T, s Opened) {
		b := fill(t, s, Order("o1", 1))["o1"][0]
		again := s.Again(t)
		const each = 5
		_, errs := race(crowd, func(i int) (struct{}, error) {
			store := pick(i, s.Store, again)
			for won := 0; won < each; {
				var epoch uint64
				if a, err := store.Assignment(ctx, b.Pubkey); err == nil {
					epoch = a.Epoch
				} else if !errors.Is(err, record.ErrNotFound) {
					return struct{}{}, err
				}
				switch err := store.Assign(ctx, Assignment(b, fmt.Sprintf("signer-%d", i), epoch+1)); {
				case err == nil:
					won++
				case !errors.Is(err, record.ErrStale):
					return struct{}{}, err
				}
			}
			return struct{}{}, nil
		})
		ok(t, errors.Join(errs...))
		a, err := s.Assignment(ctx, b.Pubkey)
		ok(t, err)
		same(t, "epoch", a.Epoch, uint64(crowd*each))
	})
	s.must("Assigned comes by pubkey", func(t *testing.T, s Opened) {
		births := fill(t, s, Order("o1", rows))["o1"]
		want := map[string][]record.Assignment{}
		for _, v := range sortedByPubkey(public(births)) {
			b := births[v.Index]
			a := Assignment(b, fmt.Sprintf("signer-%d", v.Index%2), 1)
			if v.Index%10 == 0 { // moved from another signer
				a.Epoch, a.Signer = 2, "signer-1"
			}
			want[a.Signer], want[""] = append(want[a.Signer], a), append(want[""], a)
		}
		_, errs := race(crowd, func(worker int) (struct{}, error) {
			for i := worker; i < rows; i += crowd {
				if err := s.Assign(ctx, Assignment(births[i], fmt.Sprintf("signer-%d", i%2), 1)); err != nil {
					return struct{}{}, err
				}
				if i%10 == 0 {
					if err := s.Assign(ctx, Assignment(births[i], "signer-1", 2)); err != nil {
						return struct{}{}, err
					}
				}
			}
			return struct{}{}, nil
		})
		ok(t, errors.Join(errs...))
		for _, signer := range []string{"", "signer-0", "signer-1", "signer", "signer-2"} {
			list := lagging(t, func() ([]record.Assignment, error) {
				as := all(t, s.Assigned(ctx, signer))
				if len(as) < len(want[signer]) {
					return nil, record.ErrNotFound
				}
				return as, nil
			})
			same(t, "assigned to "+signer, list, want[signer])
		}
		short(t, rows, func(ctx context.Context) iter.Seq2[record.Assignment, error] { return s.Assigned(ctx, "") })
	})
}

// Events tests record.Events.
func Events(t *testing.T, want string, open func(testing.TB) Opened) {
	s, ctx := suite{t, want, open}, context.Background()

	event := func(i int) record.Event {
		return record.Event{
			Time: Start.Add(time.Duration(i) * time.Second), Kind: []string{"exported", "assigned", "drilled"}[i%3],
			Order: []string{"", "o1", "o2"}[i/3%3], Pubkey: []eth.Pubkey{{}, {7}, {8}}[i/9%3],
			Actor: "anna", Detail: map[string]string{"n": fmt.Sprint(i)},
		}
	}

	s.must("Events come oldest first", func(t *testing.T, s Opened) {
		var want []record.Event
		for i := range rows {
			want = append(want, event(i))
			ok(t, s.Append(ctx, want[i]))
		}
		again := s.Again(t)
		same(t, "all", all(t, again.Events(ctx, record.EventQuery{})), want)
		short(t, rows, func(ctx context.Context) iter.Seq2[record.Event, error] { return s.Events(ctx, record.EventQuery{}) })
		for _, order := range []string{"", "o1", "o2", "o3"} {
			for _, pubkey := range []eth.Pubkey{{}, {7}, {9}} {
				for _, kind := range []string{"", "drilled", "opened"} {
					var selected []record.Event
					for _, e := range want {
						if (order == "" || e.Order == order) && (pubkey == eth.Pubkey{} || e.Pubkey == pubkey) && (kind == "" || e.Kind == kind) {
							selected = append(selected, e)
						}
					}
					got := all(t, again.Events(ctx, record.EventQuery{Order: order, Pubkey: pubkey, Kind: kind}))
					same(t, fmt.Sprintf("%q %x %q", order, pubkey[0], kind), got, selected)
				}
			}
		}
	})
	s.must("Append with a Once that is taken fails and stores nothing", func(t *testing.T, s Opened) {
		e := event(1)
		e.Once = "export/o1/0"
		ok(t, s.Append(ctx, e))
		is(t, s.Append(ctx, e), record.ErrExists) // by the writer that took it
		other := event(2)
		other.Once = e.Once
		is(t, s.Again(t).Append(ctx, other), record.ErrExists)
		same(t, "stored", all(t, s.Events(ctx, record.EventQuery{})), []record.Event{e})
		other.Once = "export/o1/1"
		ok(t, s.Append(ctx, other))
		same(t, "stored", all(t, s.Events(ctx, record.EventQuery{})), []record.Event{e, other})
	})
	s.must("of many that Append one Once one wins", func(t *testing.T, s Opened) {
		again := s.Again(t)
		_, errs := race(crowd, func(i int) (struct{}, error) {
			e := event(i)
			e.Once = "export"
			return struct{}{}, pick(i, s.Store, again).Append(ctx, e)
		})
		stored := all(t, s.Events(ctx, record.EventQuery{}))
		same(t, "count", len(stored), 1)
		for i, err := range errs {
			if stored[0].Detail["n"] == fmt.Sprint(i) {
				ok(t, err)
			} else {
				is(t, err, record.ErrExists)
			}
		}
	})
	s.must("Append without Once keeps every event", func(t *testing.T, s Opened) {
		again := s.Again(t)
		_, errs := race(crowd, func(i int) (struct{}, error) {
			return struct{}{}, pick(i, s.Store, again).Append(ctx, event(0))
		})
		ok(t, errors.Join(errs...))
		same(t, "count", len(all(t, s.Events(ctx, record.EventQuery{}))), crowd)
	})
	s.must("Append refuses what is not well-formed", func(t *testing.T, s Opened) {
		for _, change := range []func(*record.Event){
			func(e *record.Event) { e.Kind = "" },
			func(e *record.Event) { e.Kind = "a b" },
			func(e *record.Event) { e.Actor = "" },
			func(e *record.Event) { e.Actor = "a\x1b[2J" },
			func(e *record.Event) { e.Detail = map[string]string{"k": "\xff"} },
			func(e *record.Event) { e.Time = e.Time.Add(time.Nanosecond) },
		} {
			e := event(0)
			change(&e)
			is(t, s.Append(ctx, e), record.ErrFormat)
		}
		same(t, "stored", all(t, s.Events(ctx, record.EventQuery{})), []record.Event(nil))
	})
}
