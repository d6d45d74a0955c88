package recordtest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// Births tests record.Births.
func Births(t *testing.T, want string, open func(testing.TB) Opened) {
	s, ctx := suite{t, want, open}, context.Background()

	s.must("Place returns the order as stored", func(t *testing.T, s Opened) {
		o := Order("o1", 3)
		got, err := s.Place(ctx, o)
		ok(t, err)
		same(t, "placed", got, o)
		got, err = s.Order(ctx, "o1")
		ok(t, err)
		same(t, "stored", got, o)
	})
	s.must("Place again returns the first writer's order", func(t *testing.T, s Opened) {
		o := Order("o1", 3)
		placed(t, s, o)
		later := o
		later.Created = o.Created.Add(time.Hour)
		got, err := s.Place(ctx, later)
		ok(t, err)
		same(t, "placed again", got, o)
	})
	s.must("Place of another order under the id fails and changes nothing", func(t *testing.T, s Opened) {
		o := Order("o1", 3)
		placed(t, s, o)
		for what, change := range map[string]func(*record.Order){
			"count":       func(o *record.Order) { o.Count++ },
			"network":     func(o *record.Order) { o.Network = "mainnet" },
			"credentials": func(o *record.Order) { o.Credentials[31]++ },
			"plan":        func(o *record.Order) { o.Plan = []eth.Gwei{32e9} },
			"keystore":    func(o *record.Order) { o.Keystore = "scrypt" },
			"labels":      func(o *record.Order) { o.Labels = nil },
			"settings":    func(o *record.Order) { o.Settings[0]++ },
		} {
			other := o
			change(&other)
			got, err := s.Place(ctx, other)
			if !errors.Is(err, record.ErrConflict) {
				t.Errorf("other %s: got %v, want ErrConflict", what, err)
			}
			same(t, "returned", got, record.Order{})
		}
		got, err := s.Order(ctx, "o1")
		ok(t, err)
		same(t, "stored", got, o)
	})
	s.must("Place refuses an order that is not well-formed", func(t *testing.T, s Opened) {
		o := Order("o1", 3)
		o.Plan = nil
		_, err := s.Place(ctx, o)
		is(t, err, record.ErrFormat)
		_, err = s.Order(ctx, "o1")
		is(t, err, record.ErrNotFound)
	})
	s.must("of many that Place one order the first wins", func(t *testing.T, s Opened) {
		again := s.Again(t)
		got, errs := race(crowd, func(i int) (record.Order, error) {
			o := Order("o1", 3)
			o.Created = o.Created.Add(time.Duration(i) * time.Second)
			return pick(i, s.Store, again).Place(ctx, o)
		})
		ok(t, errors.Join(errs...))
		for _, o := range got {
			same(t, "placed", o, got[0])
		}
	})
	s.must("of many that Place different orders under one id one wins", func(t *testing.T, s Opened) {
		again := s.Again(t)
		_, errs := race(crowd, func(i int) (record.Order, error) {
			return pick(i, s.Store, again).Place(ctx, Order("o1", uint32(i+1)))
		})
		stored, err := s.Order(ctx, "o1")
		ok(t, err)
		for i, err := range errs {
			if uint32(i+1) == stored.Count {
				ok(t, err)
			} else {
				is(t, err, record.ErrConflict)
			}
		}
	})

	s.must("PutMnemonic of the same mnemonic again succeeds", func(t *testing.T, s Opened) {
		o := Order("o1", 3)
		m := Mnemonic(o, "m1")
		placed(t, s, o, m, m)
		same(t, "stored", all(t, s.Mnemonics(ctx, "o1")), []record.Mnemonic{m})
	})
	s.must("PutMnemonic of another under the id fails and changes nothing", func(t *testing.T, s Opened) {
		o := Order("o1", 3)
		m := Mnemonic(o, "m1")
		placed(t, s, o, m)
		for _, change := range []func(*record.Mnemonic){
			func(m *record.Mnemonic) { m.To-- },
			func(m *record.Mnemonic) { m.Created = m.Created.Add(time.Second) },
			func(m *record.Mnemonic) { m.Sealing = Sealing(record.Recovery, "other") },
		} {
			other := m
			change(&other)
			is(t, s.PutMnemonic(ctx, other), record.ErrConflict)
		}
		same(t, "stored", all(t, s.Mnemonics(ctx, "o1")), []record.Mnemonic{m})
	})
	s.must("PutMnemonic keeps an id apart in each order", func(t *testing.T, s Opened) {
		o1, o2 := Order("o1", 3), Order("o2", 4)
		placed(t, s, o1, Mnemonic(o1, "m1"))
		placed(t, s, o2, Mnemonic(o2, "m1"))
		same(t, "stored", all(t, s.Mnemonics(ctx, "o2")), []record.Mnemonic{Mnemonic(o2, "m1")})
	})
	s.must("PutMnemonic fails for an unknown order", func(t *testing.T, s Opened) {
		is(t, s.PutMnemonic(ctx, Mnemonic(Order("o1", 3), "m1")), record.ErrNotFound)
	})
	s.must("PutMnemonic refuses indexes that the order does not have", func(t *testing.T, s Opened) {
		o := Order("o1", 3)
		placed(t, s, o)
		m := Mnemonic(o, "m1")
		m.To++
		is(t, s.PutMnemonic(ctx, m), record.ErrFormat)
		same(t, "stored", all(t, s.Mnemonics(ctx, "o1")), []record.Mnemonic(nil))
	})
	s.must("PutMnemonic refuses a file that its digest does not name", func(t *testing.T, s Opened) {
		o := Order("o1", 3)
		placed(t, s, o)
		m := Mnemonic(o, "m1")
		m.Sealing.Digest[0]++
		is(t, s.PutMnemonic(ctx, m), record.ErrFormat)
		same(t, "stored", all(t, s.Mnemonics(ctx, "o1")), []record.Mnemonic(nil))
	})

	s.must("PutBirth returns the birth as stored", func(t *testing.T, s Opened) {
		o, m := Order("o1", 3), Mnemonic(Order("o1", 3), "m1")
		placed(t, s, o, m)
		for range 2 { // and again when it is repeated
			for i := range uint32(3) {
				b := Birth(o, m, i, "")
				got, err := s.PutBirth(ctx, b)
				ok(t, err)
				same(t, "owner", got, b)
			}
		}
		same(t, "count", len(all(t, s.Validators(ctx, record.Query{}))), 3)
	})
	s.must("PutBirth keeps the id of the request that signed the certificate", func(t *testing.T, s Opened) {
		o, m := Order("o1", 3), Mnemonic(Order("o1", 3), "m1")
		placed(t, s, o, m)
		b := Birth(o, m, 1, "")
		b.SignRequest = "7d1f5b4e-3c2a-4f61-9e80-0a1b2c3d4e5f"
		got, err := s.PutBirth(ctx, b)
		ok(t, err)
		same(t, "owner", got, b)
		got = lagging(t, func() (record.Birth, error) { return s.Birth(ctx, b.Pubkey) })
		same(t, "read", got, b)
		same(t, "list", all(t, s.Validators(ctx, record.Query{Order: "o1"})), []record.Validator{b.Validator})
	})
	s.must("PutBirth is seen through another handle when it returns", func(t *testing.T, s Opened) {
		o, m := Order("o1", 3), Mnemonic(Order("o1", 3), "m1")
		placed(t, s, o, m)
		b := Birth(o, m, 0, "")
		_, err := s.PutBirth(ctx, b)
		ok(t, err)
		again := s.Again(t)
		same(t, "list", all(t, again.Validators(ctx, record.Query{Order: "o1"})), []record.Validator{b.Validator})
		got, err := again.PutBirth(ctx, Birth(o, m, 0, "other"))
		ok(t, err)
		same(t, "owner", got, b)
	})
	s.must("PutBirth into a taken index returns the first and changes nothing", func(t *testing.T, s Opened) {
		o, m1, m2 := Order("o1", 3), Mnemonic(Order("o1", 3), "m1"), Mnemonic(Order("o1", 3), "m2")
		placed(t, s, o, m1, m2)
		b := Birth(o, m1, 1, "")
		_, err := s.PutBirth(ctx, b)
		ok(t, err)
		recertified := b // the same key, certified anew by a repeated run
		recertified.Certificate = Birth(o, m1, 1, "other").Certificate
		for _, loser := range []record.Birth{Birth(o, m2, 1, "loser"), recertified} {
			got, err := s.PutBirth(ctx, loser)
			ok(t, err)
			same(t, "owner", got, b)
		}
		got := lagging(t, func() (record.Birth, error) { return s.Birth(ctx, b.Pubkey) })
		same(t, "stored", got, b)
		_, err = s.Birth(ctx, Birth(o, m2, 1, "loser").Pubkey)
		is(t, err, record.ErrNotFound)
	})
	s.must("PutBirth of a pubkey that another index holds fails", func(t *testing.T, s Opened) {
		o1, o2 := Order("o1", 3), Order("o2", 3)
		m1, m2 := Mnemonic(o1, "m1"), Mnemonic(o2, "m1")
		placed(t, s, o1, m1)
		placed(t, s, o2, m2)
		holder, taken := Birth(o1, m1, 0, ""), Birth(o1, m1, 1, "")
		for _, b := range []record.Birth{holder, taken} {
			_, err := s.PutBirth(ctx, b)
			ok(t, err)
		}
		for what, b := range map[string]record.Birth{
			"an empty index":         Birth(o1, m1, 2, ""),
			"an index that is taken": Birth(o1, m1, 1, "other"),
			"another order":          Birth(o2, m2, 0, ""),
		} {
			b.Pubkey = holder.Pubkey
			if _, err := s.PutBirth(ctx, b); !errors.Is(err, record.ErrConflict) {
				t.Errorf("%s: got %v, want ErrConflict", what, err)
			}
		}
		same(t, "stored", all(t, s.Validators(ctx, record.Query{})), []record.Validator{holder.Validator, taken.Validator})
	})
	s.must("PutBirth fails for an unknown order", func(t *testing.T, s Opened) {
		o := Order("o1", 3)
		_, err := s.PutBirth(ctx, Birth(o, Mnemonic(o, "m1"), 0, ""))
		is(t, err, record.ErrNotFound)
	})
	s.must("PutBirth fails for a mnemonic that was not stored before", func(t *testing.T, s Opened) {
		o := Order("o1", 3)
		placed(t, s, o, Mnemonic(o, "m1"))
		_, err := s.PutBirth(ctx, Birth(o, Mnemonic(o, "m2"), 0, ""))
		is(t, err, record.ErrNotFound)
		same(t, "stored", all(t, s.Validators(ctx, record.Query{})), []record.Validator(nil))
	})
	s.must("PutBirth refuses a birth that was not ordered so", func(t *testing.T, s Opened) {
		o := Order("o1", 3)
		m := Mnemonic(o, "m1")
		half := Mnemonic(o, "m2")
		half.To = 1
		placed(t, s, o, m, half)
		beyond := o
		beyond.Count++
		for what, b := range map[string]record.Birth{
			"index beyond the count":       Birth(beyond, m, 3, ""),
			"index beyond the mnemonic":    Birth(o, half, 1, ""),
			"another network":              changed(Birth(o, m, 0, ""), func(b *record.Birth) { b.Network = "mainnet" }),
			"other withdrawal credentials": changed(Birth(o, m, 0, ""), func(b *record.Birth) { b.Credentials[31]++ }),
			"a deposit less":               changed(Birth(o, m, 0, ""), func(b *record.Birth) { b.Deposits = b.Deposits[:1] }),
			"another amount":               changed(Birth(o, m, 0, ""), func(b *record.Birth) { b.Deposits[1].Amount++ }),
			"another path":                 changed(Birth(o, m, 0, ""), func(b *record.Birth) { b.Path = "m/12381/3600/1/0/0" }),
			"a changed sealed file":        changed(Birth(o, m, 0, ""), func(b *record.Birth) { b.Sealing.File[40] ^= 1 }),
			"a sealing for recovery":       changed(Birth(o, m, 0, ""), func(b *record.Birth) { b.Sealing = Sealing(record.Recovery, "x") }),
			"no certificate":               changed(Birth(o, m, 0, ""), func(b *record.Birth) { b.Certificate = nil }),
		} {
			if _, err := s.PutBirth(ctx, b); !errors.Is(err, record.ErrFormat) {
				t.Errorf("%s: got %v, want ErrFormat", what, err)
			}
		}
		same(t, "stored", all(t, s.Validators(ctx, record.Query{})), []record.Validator(nil))
	})
	s.must("of many that PutBirth into one index the first wins", func(t *testing.T, s Opened) {
		o := Order("o1", 4)
		m := Mnemonic(o, "m1")
		placed(t, s, o, m)
		again := s.Again(t)
		for index := range o.Count {
			owners, errs := race(crowd, func(i int) (record.Birth, error) {
				return pick(i, s.Store, again).PutBirth(ctx, Birth(o, m, index, fmt.Sprint(i)))
			})
			ok(t, errors.Join(errs...))
			winner := -1
			for i, owner := range owners {
				same(t, "owner", owner, owners[0])
				if reflect.DeepEqual(owner, Birth(o, m, index, fmt.Sprint(i))) {
					winner = i
				}
			}
			if winner < 0 {
				t.Fatal("the owner is none of those that were put")
			}
		}
		same(t, "count", len(all(t, s.Validators(ctx, record.Query{}))), 4)
	})
	s.must("of many that PutBirth one pubkey into different indexes one wins", func(t *testing.T, s Opened) {
		o := Order("o1", crowd)
		m := Mnemonic(o, "m1")
		placed(t, s, o, m)
		again := s.Again(t)
		_, errs := race(crowd, func(i int) (record.Birth, error) {
			b := Birth(o, m, uint32(i), "")
			b.Pubkey = Birth(o, m, 0, "").Pubkey
			return pick(i, s.Store, again).PutBirth(ctx, b)
		})
		stored := all(t, s.Validators(ctx, record.Query{}))
		same(t, "count", len(stored), 1)
		for i, err := range errs {
			if uint32(i) == stored[0].Index {
				ok(t, err)
			} else {
				is(t, err, record.ErrConflict)
			}
		}
	})
	s.must("a write whose context has ended may be repeated", func(t *testing.T, s Opened) {
		o := Order("o1", 3)
		m := Mnemonic(o, "m1")
		ended, cancel := context.WithCancel(ctx)
		cancel()
		_, err := s.Place(ended, o)
		if err == nil {
			t.Fatal("Place with an ended context succeeded")
		}
		placed(t, s, o, m)
		if _, err := s.PutBirth(ended, Birth(o, m, 0, "")); err == nil {
			t.Fatal("PutBirth with an ended context succeeded")
		}
		got, err := s.PutBirth(ctx, Birth(o, m, 0, ""))
		ok(t, err)
		same(t, "owner", got, Birth(o, m, 0, ""))
	})
}

func pick(i int, stores ...Store) Store { return stores[i%len(stores)] }

func changed(b record.Birth, change func(*record.Birth)) record.Birth {
	change(&b)
	return b
}
