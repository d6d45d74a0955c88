package recordtest

import (
	"context"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// Reader tests record.Reader.
func Reader(t *testing.T, want string, open func(testing.TB) Opened) {
	s, ctx := suite{t, want, open}, context.Background()

	s.must("Order fails for an unknown id", func(t *testing.T, s Opened) {
		placed(t, s, Order("o1", 1))
		for _, id := range []string{"", "o", "o2", "O1", "o1 ", "%"} {
			_, err := s.Order(ctx, id)
			is(t, err, record.ErrNotFound)
		}
	})
	s.must("Birth returns the whole record", func(t *testing.T, s Opened) {
		births := fill(t, s, Order("o1", 3))["o1"]
		for _, b := range births {
			same(t, "birth", lagging(t, func() (record.Birth, error) { return s.Birth(ctx, b.Pubkey) }), b)
		}
	})
	s.must("Birth fails for an unknown pubkey", func(t *testing.T, s Opened) {
		_, err := s.Birth(ctx, eth.Pubkey{1})
		is(t, err, record.ErrNotFound)
	})
	s.must("Validators of an order come by index", func(t *testing.T, s Opened) {
		all3 := fill(t, s, Order("o1", 2), Order("o2", rows), Order("o3", 2))
		same(t, "o2", all(t, s.Validators(ctx, record.Query{Order: "o2"})), public(all3["o2"]))
		same(t, "unknown order", all(t, s.Validators(ctx, record.Query{Order: "o4"})), []record.Validator(nil))
	})
	s.must("Validators of an order are there when PutBirth has returned", func(t *testing.T, s Opened) {
		o := Order("o1", 20)
		m := Mnemonic(o, "m1")
		placed(t, s, o, m)
		again := s.Again(t)
		for i := range o.Count {
			_, err := s.PutBirth(ctx, Birth(o, m, i, ""))
			ok(t, err)
			same(t, "count", len(all(t, again.Validators(ctx, record.Query{Order: "o1"}))), int(i+1))
		}
	})
	s.must("Validators of all come by order and index", func(t *testing.T, s Opened) {
		got := fill(t, s, Order("o2", 300), Order("o1", 300), Order("o10", 3))
		want := slices.Concat(public(got["o1"]), public(got["o10"]), public(got["o2"]))
		list := lagging(t, func() ([]record.Validator, error) {
			vs := all(t, s.Validators(ctx, record.Query{}))
			if len(vs) < len(want) {
				return nil, record.ErrNotFound
			}
			return vs, nil
		})
		same(t, "all", list, want)
	})
	s.must("Validators of a prefix come by pubkey", func(t *testing.T, s Opened) {
		got := fill(t, s, Order("o1", rows), Order("o2", 40))
		everything := append(public(got["o1"]), public(got["o2"])...)
		one := everything[17].Pubkey.Hex()
		for _, q := range []record.Query{
			{Prefix: one[:1]}, {Prefix: one[:2]}, {Prefix: one[:3]}, {Prefix: one[:95]}, {Prefix: one},
			{Prefix: one[:1], Order: "o1"}, {Prefix: one[:1], Order: "o2"}, {Prefix: one[:1], Order: "o3"},
			{Prefix: "f"}, {Prefix: "ff"}, {Prefix: "0"}, {Prefix: strings.Repeat("f", 96)}, {Prefix: strings.Repeat("0", 96)},
		} {
			var want []record.Validator
			for _, v := range everything {
				if strings.HasPrefix(v.Pubkey.Hex(), q.Prefix) && (q.Order == "" || q.Order == v.Order) {
					want = append(want, v)
				}
			}
			list := lagging(t, func() ([]record.Validator, error) {
				vs := all(t, s.Validators(ctx, q))
				if len(vs) < len(want) {
					return nil, record.ErrNotFound
				}
				return vs, nil
			})
			same(t, q.Prefix+" in "+q.Order, pubkeys(list), pubkeys(sortedByPubkey(want)))
		}
	})
	s.must("Validators refuses what is no prefix", func(t *testing.T, s Opened) {
		fill(t, s, Order("o1", 1))
		for _, prefix := range []string{"0x", "0xab", "AB", "g", " ", "ab ", "%", strings.Repeat("a", 97)} {
			n := 0
			for _, err := range s.Validators(ctx, record.Query{Prefix: prefix}) {
				if n++; err == nil || n > 1 {
					t.Fatalf("prefix %q: got row or error %d: %v", prefix, n, err)
				}
			}
			same(t, "errors for "+prefix, n, 1)
		}
	})
	s.must("Validators never looks whole when it is short", func(t *testing.T, s Opened) {
		fill(t, s, Order("o1", rows))
		short(t, rows, func(ctx context.Context) iter.Seq2[record.Validator, error] {
			return s.Validators(ctx, record.Query{Order: "o1"})
		})
	})
	s.must("Validators blocks no writer and may be left early", func(t *testing.T, s Opened) {
		o := Order("o1", rows)
		fill(t, s, o)
		other := Order("o2", 40)
		m := Mnemonic(other, "m1")
		placed(t, s, other, m)
		list := s.Validators(ctx, record.Query{Order: "o1"})
		for range 40 { // left open all at once, they would use up any pool
			n := uint32(0)
			for v, err := range list {
				ok(t, err)
				same(t, "index", v.Index, n)
				if n++; n == 3 {
					break
				}
			}
		}
		n := uint32(0)
		for _, err := range list { // the same list, from its start
			ok(t, err)
			if n < other.Count {
				_, err := s.PutBirth(ctx, Birth(other, m, n, ""))
				ok(t, err)
			}
			n++
		}
		same(t, "count", n, uint32(rows))
		same(t, "written meanwhile", len(all(t, s.Validators(ctx, record.Query{Order: "o2"}))), 40)
	})
}

// Catalog tests record.Catalog.
func Catalog(t *testing.T, want string, open func(testing.TB) Opened) {
	s, ctx := suite{t, want, open}, context.Background()

	s.must("Orders come oldest first", func(t *testing.T, s Opened) {
		same(t, "none", all(t, s.Orders(ctx)), []record.Order(nil))
		want := make([]record.Order, rows)
		_, errs := race(crowd, func(worker int) (struct{}, error) {
			for i := worker; i < rows; i += crowd {
				// Ids fall while times rise; two orders share each second.
				o := Order("o"+strings.Repeat("z", 1+(rows-i)%20)+string(rune('a'+i%26))+Start.Add(-time.Duration(i)*time.Second).Format("150405"), 1)
				o.Created = Start.Add(time.Duration(i/2) * time.Second)
				want[i] = o
				if _, err := s.Place(ctx, o); err != nil {
					return struct{}{}, err
				}
			}
			return struct{}{}, nil
		})
		for _, err := range errs {
			ok(t, err)
		}
		got := all(t, s.Orders(ctx))
		same(t, "count", len(got), rows)
		byID := map[string]record.Order{}
		for i, o := range got {
			if i > 0 && o.Created.Before(got[i-1].Created) {
				t.Fatalf("order %d is older than the one before it", i)
			}
			byID[o.ID] = o
		}
		for _, o := range want {
			same(t, "order", byID[o.ID], o)
		}
	})
	s.must("Mnemonics come by index and id", func(t *testing.T, s Opened) {
		o, other := Order("o1", rows), Order("o2", 3)
		placed(t, s, other, Mnemonic(other, "m1"))
		same(t, "none", all(t, s.Mnemonics(ctx, "o1")), []record.Mnemonic(nil))
		placed(t, s, o)
		var want []record.Mnemonic
		for i := range uint32(rows / 2) {
			for _, id := range []string{"a", "b"} {
				m := Mnemonic(o, id+strings.Repeat("x", int(i%7))+Start.Add(-time.Duration(i)*time.Second).Format("150405"))
				m.From = i
				want = append(want, m)
			}
		}
		_, errs := race(crowd, func(worker int) (struct{}, error) {
			for i := len(want) - 1 - worker; i >= 0; i -= crowd {
				if err := s.PutMnemonic(ctx, want[i]); err != nil {
					return struct{}{}, err
				}
			}
			return struct{}{}, nil
		})
		for _, err := range errs {
			ok(t, err)
		}
		same(t, "mnemonics", all(t, s.Again(t).Mnemonics(ctx, "o1")), want)
		short(t, len(want), func(ctx context.Context) iter.Seq2[record.Mnemonic, error] { return s.Mnemonics(ctx, "o1") })
	})
	s.must("Orders never looks whole when it is short", func(t *testing.T, s Opened) {
		for _, id := range []string{"o1", "o2", "o3"} {
			placed(t, s, Order(id, 1))
		}
		short(t, 3, s.Orders)
	})
}

func public(births []record.Birth) (out []record.Validator) {
	for _, b := range births {
		out = append(out, b.Validator)
	}
	return out
}
