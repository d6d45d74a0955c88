package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
)

var ctx = context.Background()

var suites = map[string]func(*testing.T, string, func(testing.TB) recordtest.Opened){
	"Births":      recordtest.Births,
	"Reader":      recordtest.Reader,
	"Catalog":     recordtest.Catalog,
	"Assignments": recordtest.Assignments,
	"Events":      recordtest.Events,
	"Imports":     recordtest.Imports,
}

// TestConformance runs the suites over the fake, which is stricter than
// DynamoDB in what it takes; TestEmulators runs them over programs that others
// wrote.
func TestConformance(t *testing.T) {
	for port, suite := range suites {
		t.Run(port, func(t *testing.T) {
			t.Parallel()
			suite(t, "*dynamodb.Store on *dynamodb.fake", func(t testing.TB) recordtest.Opened {
				f := newFake()
				t.Cleanup(func() { onlyConditional(t, f.taken()) })
				s := f.store(t)
				return recordtest.Opened{Store: s, Name: fmt.Sprintf("%T on %T", s, f), Again: func(t testing.TB) recordtest.Store { return f.store(t) }}
			})
		})
	}
}

// onlyConditional fails unless every attempt is one of the three actions and
// every PutItem has a condition, and one that fits its table.
func onlyConditional(t testing.TB, calls []wireCall) {
	t.Helper()
	for _, c := range calls {
		switch {
		case c.Operation == "GetItem" || c.Operation == "Query":
		case c.Operation != "PutItem":
			t.Errorf("called %s", c.Operation)
		case c.Condition == "attribute_not_exists(#pk)":
		case c.Condition == "#epoch = :before" && c.Table == tables.Assignments:
		case c.Condition == "#sum = :before" && (c.Table == tables.Ledger || c.Table == tables.Leases):
		default:
			t.Errorf("PutItem into %s with the condition %q", c.Table, c.Condition)
		}
	}
}

func TestNew(t *testing.T) {
	client := newFake().client()
	for name, bad := range map[string]Tables{
		"nothing":        {},
		"a name":         {Records: "stakeseal-records"},
		"an index":       {Records: tables.Records + "/index/x"},
		"another region": {Records: tables.Records, Events: strings.Replace(tables.Events, "eu-central-1", "eu-west-1", 1)},
		"another account": {Records: tables.Records, Assignments: strings.Replace(tables.Assignments,
			"111122223333", "444455556666", 1)},
		"one table for two": {Records: tables.Records, Assignments: tables.Records},
		"one table again":   {Records: tables.Records, Assignments: tables.Events, Events: tables.Events},
		"not an ARN":        {Records: tables.Records, Events: "events"},
	} {
		if s, err := New(client, bad); err == nil || s != nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := New(nil, tables); err == nil {
		t.Error("no client: accepted")
	}
}

// TestWithoutTables: a role that was given the records alone can do what the
// generator does and is told what it cannot.
func TestWithoutTables(t *testing.T) {
	f := newFake()
	s, err := New(f.client(), Tables{Records: tables.Records})
	must(t, err)
	b := someBirths(t, s, 1)[0]
	f.taken()
	for what, err := range map[string]error{
		"Assign":     s.Assign(ctx, recordtest.Assignment(b, "signer-a", 1)),
		"Append":     s.Append(ctx, note),
		"Assignment": second(s.Assignment(ctx, b.Pubkey)),
		"Assigned":   end(s.Assigned(ctx, "")),
		"Events":     end(s.Events(ctx, record.EventQuery{})),
	} {
		if !errors.Is(err, errNoTable) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if calls := f.taken(); len(calls) != 0 {
		t.Errorf("calls %v", calls)
	}
	must(t, s.Verify(ctx))
}

func second[T any](_ T, err error) error { return err }

var note = record.Event{Time: recordtest.Start, Kind: "exported", Actor: "anna"}

// someBirths places order o1 with n births of the mnemonic m1.
func someBirths(t testing.TB, s *Store, n uint32) (out []record.Birth) {
	t.Helper()
	o := recordtest.Order("o1", n)
	m := recordtest.Mnemonic(o, "m1")
	_, err := s.Place(ctx, o)
	must(t, err)
	must(t, s.PutMnemonic(ctx, m))
	for i := range n {
		b, err := s.PutBirth(ctx, recordtest.Birth(o, m, i, ""))
		must(t, err)
		out = append(out, b)
	}
	return out
}

var sentinels = []error{record.ErrNotFound, record.ErrExists, record.ErrConflict, record.ErrStale, record.ErrCorrupt, record.ErrFormat}

func noSentinel(t testing.TB, what string, err error) {
	t.Helper()
	for _, s := range sentinels {
		if errors.Is(err, s) {
			t.Errorf("%s: an unknown outcome is %q: %v", what, s, err)
		}
	}
}

// TestOtherFailures: a table that is missing is not a record that is, a
// refusal is told apart, and a table that throttles for ever ends in an error.
func TestOtherFailures(t *testing.T) {
	for what, c := range map[string]struct {
		fate  fate
		class error
		tries int
	}{
		"missing":   {missing, session.ErrRemote, 1},
		"denied":    {denied, session.ErrDenied, 1},
		"throttled": {throttled, session.ErrRemote, session.MaxAttempts},
		"unsent":    {unsent, session.ErrRemote, session.MaxAttempts},
	} {
		f := newFake()
		b := someBirths(t, f.store(t), 1)[0]
		stored := f.dump()
		f.fault = func(int) fate { return c.fate }
		o := recordtest.Order("o1", 1)
		for name, call := range map[string]func(s *Store) error{
			"Place":       func(s *Store) error { return second(s.Place(ctx, o)) },
			"PutMnemonic": func(s *Store) error { return s.PutMnemonic(ctx, recordtest.Mnemonic(o, "m1")) },
			"PutBirth":    func(s *Store) error { return second(s.PutBirth(ctx, b)) },
			"Order":       func(s *Store) error { return second(s.Order(ctx, "o1")) },
			"Birth":       func(s *Store) error { return second(s.Birth(ctx, b.Pubkey)) },
			"Validators":  func(s *Store) error { return end(s.Validators(ctx, record.Query{})) },
			"of an order": func(s *Store) error { return end(s.Validators(ctx, record.Query{Order: "o1"})) },
			"of a prefix": func(s *Store) error { return end(s.Validators(ctx, record.Query{Prefix: b.Pubkey.Hex()[:3]})) },
			"Orders":      func(s *Store) error { return end(s.Orders(ctx)) },
			"Mnemonics":   func(s *Store) error { return end(s.Mnemonics(ctx, "o1")) },
			"Assignment":  func(s *Store) error { return second(s.Assignment(ctx, b.Pubkey)) },
			"Assign":      func(s *Store) error { return s.Assign(ctx, recordtest.Assignment(b, "signer-a", 1)) },
			"Assigned":    func(s *Store) error { return end(s.Assigned(ctx, "")) },
			"Append":      func(s *Store) error { return s.Append(ctx, note) },
			"Events":      func(s *Store) error { return end(s.Events(ctx, record.EventQuery{})) },
			"Verify":      func(s *Store) error { return s.Verify(ctx) },
			"Unborn":      func(s *Store) error { return end(s.Unborn(ctx)) },
		} {
			s := f.store(t) // that remembers nothing
			f.taken()
			err := call(s)
			if !errors.Is(err, c.class) {
				t.Errorf("%s %s: %v", what, name, err)
			}
			noSentinel(t, what+" "+name, err)
			if n := len(f.taken()); n != c.tries {
				t.Errorf("%s %s: %d attempts, want %d", what, name, n, c.tries)
			}
		}
		if f.dump() != stored {
			t.Errorf("%s: something was stored", what)
		}
	}
}

// TestThrottledOnce: what is refused for the moment is tried again.
func TestThrottledOnce(t *testing.T) {
	f := newFake()
	f.fault = func(n int) fate {
		if n%3 != 0 {
			return throttled
		}
		return answered
	}
	s := f.store(t)
	births := someBirths(t, s, 3)
	must(t, s.Assign(ctx, recordtest.Assignment(births[0], "signer-a", 1)))
	must(t, s.Append(ctx, note))
	f.fault = nil // Verify asks for several items at once: one of them could have no luck
	must(t, s.Verify(ctx))
}

// TestRemembers: an order and a mnemonic are read once for all births, and
// what is remembered stays bounded.
func TestRemembers(t *testing.T) {
	f := newFake()
	s := f.store(t)
	someBirths(t, s, 4)
	reads := map[key]int{}
	for _, c := range f.taken() {
		if c.Operation == "GetItem" {
			reads[c.Key]++
		}
	}
	if reads[orderKey("o1")] != 1 || reads[mnemonicKey("o1", "m1")] != 1 {
		t.Errorf("reads %v", reads)
	}
	for i := range maxKnown + 10 {
		o := recordtest.Order(fmt.Sprintf("p%d", i), 1)
		m := recordtest.Mnemonic(o, "m1")
		_, err := s.Place(ctx, o)
		must(t, err)
		must(t, s.PutMnemonic(ctx, m))
		_, err = s.PutBirth(ctx, recordtest.Birth(o, m, 0, ""))
		must(t, err)
	}
	if len(s.orders) > maxKnown || len(s.mnemonics) > maxKnown {
		t.Errorf("remembers %d orders and %d mnemonics", len(s.orders), len(s.mnemonics))
	}
}

// TestLargest: the largest record of each kind fits into an item.
func TestLargest(t *testing.T) {
	f := newFake()
	s := f.store(t)
	o := recordtest.Order("o1", 1)
	o.Plan = make([]eth.Gwei, 32)
	for i := range o.Plan {
		o.Plan[i] = 1<<64 - 1
	}
	m := recordtest.Mnemonic(o, "m1")
	m.Sealing.File = append(m.Sealing.File, make([]byte, 192<<10-len(m.Sealing.File))...)
	m.Sealing.Digest = record.DigestOf(m.Sealing.File)
	_, err := s.Place(ctx, o)
	must(t, err)
	must(t, s.PutMnemonic(ctx, m))
	b := recordtest.Birth(o, m, 0, "")
	b.Sealing.File, b.Sealing.Digest = m.Sealing.File, m.Sealing.Digest
	whole, err := record.EncodeBirth(b)
	must(t, err)
	pad := func(n int) { b.Certificate = []byte(`{"payload":"` + strings.Repeat("x", n) + `"}`) }
	pad(record.MaxRecord - len(whole) + len(b.Certificate) - len(`{"payload":""}`))
	whole, err = record.EncodeBirth(b)
	if err != nil || len(whole) != record.MaxRecord {
		t.Fatalf("a birth of %d bytes: %v", len(whole), err)
	}
	got, err := s.PutBirth(ctx, b)
	must(t, err)
	if string(got.Certificate) != string(b.Certificate) {
		t.Error("it reads back otherwise")
	}
	pad(len(b.Certificate)) // a few bytes more
	if _, err := s.PutBirth(ctx, b); !errors.Is(err, record.ErrFormat) {
		t.Errorf("too large: %v", err)
	}
	it := orderKey("o2").item()
	it["x"] = str(strings.Repeat("x", maxItem))
	if _, err := s.put(ctx, tables.Records, it, absent); !errors.Is(err, record.ErrFormat) {
		t.Errorf("an item above the bound: %v", err)
	}
}
