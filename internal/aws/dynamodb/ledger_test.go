package dynamodb

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
	"github.com/stakeseal/stakeseal/slashing"
	"github.com/stakeseal/stakeseal/slashing/slashingtest"
)

var genesis = eth.Root{1}

// opener opens the one store of a test anew, as another process does, with
// what it is.
type opener func(testing.TB) (open func(testing.TB) *Store, name string)

// signerSuites are what a signer asks of the store, over a backend.
func signerSuites(t *testing.T, backend string, fresh opener) {
	t.Run("Leases", func(t *testing.T) {
		recordtest.Leases(t, "*dynamodb.Store on "+backend, func(t testing.TB) recordtest.OpenedLeases {
			open, name := fresh(t)
			return recordtest.OpenedLeases{Store: open(t), Name: name, Again: func(t testing.TB) record.Leases { return open(t) }}
		})
	})
	t.Run("Ledger", func(t *testing.T) {
		slashingtest.Ledger(t, "*dynamodb.Store on "+backend, func(t testing.TB) slashingtest.Opened {
			open, name := fresh(t)
			l := openLedger(t, open(t), "signer-a")
			must(t, l.Hold(ctx, 1))
			return slashingtest.Opened{Store: l, Name: name, Again: func(t testing.TB) slashingtest.Store { return openLedger(t, open(t), "signer-a") }}
		})
	})
	t.Run("Shared", func(t *testing.T) {
		slashingtest.Shared(t, "*dynamodb.Store on "+backend, func(t testing.TB) slashingtest.Installation {
			open, name := fresh(t)
			return slashingtest.Installation{Name: name, Open: func(t testing.TB, signer string) slashingtest.Store { return openLedger(t, open(t), signer) }}
		})
	})
}

// openLedger opens a signer's ledger, and makes it first if there is none.
func openLedger(t testing.TB, s *Store, signer string) *Ledger {
	t.Helper()
	if _, err := s.CreateLedger(ctx, signer, genesis); err != nil && !errors.Is(err, record.ErrExists) {
		t.Fatal(err)
	}
	l, err := s.OpenLedger(ctx, signer)
	must(t, err)
	return l
}

// held is a ledger of signer-a under epoch 1 with keys 1 to n.
func held(t testing.TB, s *Store, n int) *Ledger {
	t.Helper()
	l := openLedger(t, s, "signer-a")
	must(t, l.Hold(ctx, 1))
	for i := range n {
		must(t, l.Admit(ctx, 1, []slashing.Admission{{Mark: slashing.Mark{Pubkey: slashingtest.Key(i + 1)}, Assignment: 1}}))
	}
	return l
}

func sign(l *Ledger, c slashing.Claim) error { return l.Sign(ctx, 1, []slashing.Claim{c})[0] }

func TestSignerConformance(t *testing.T) {
	for name, terse := range map[string]bool{"tells what stands": false, "does not": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			signerSuites(t, "*dynamodb.fake", func(t testing.TB) (func(testing.TB) *Store, string) {
				f := newFake()
				f.terse = terse
				t.Cleanup(func() { onlyConditional(t, f.taken()) })
				return f.store, fmt.Sprintf("%T on %T", f.store(t), f)
			})
		})
	}
}

func TestLedgerIsMadeOnce(t *testing.T) {
	f := newFake()
	s := f.store(t)
	if _, err := s.OpenLedger(ctx, "signer-a"); !errors.Is(err, record.ErrNotFound) {
		t.Errorf("opening none: %v", err)
	}
	info, err := s.CreateLedger(ctx, "signer-a", genesis)
	must(t, err)
	if info.Signer != "signer-a" || info.Root != genesis || !strings.HasPrefix(info.ID, "ledger-") {
		t.Errorf("made %+v", info)
	}
	if _, err := s.CreateLedger(ctx, "signer-a", genesis); !errors.Is(err, record.ErrExists) {
		t.Errorf("a second time: %v", err)
	}
	for _, bad := range []string{"", "a\nb", strings.Repeat("x", 257)} {
		if _, err := s.CreateLedger(ctx, bad, genesis); !errors.Is(err, record.ErrFormat) {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := s.OpenLedger(ctx, bad); !errors.Is(err, record.ErrNotFound) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	l, err := s.OpenLedger(ctx, "signer-a")
	must(t, err)
	if l.Info() != info {
		t.Errorf("opened %+v", l.Info())
	}
	if mark, err := l.Watermark(ctx); err != nil || mark != 0 {
		t.Errorf("one that was never held has watermark %d, %v", mark, err)
	}
}

// TestReplacedLedger: who has the former one open signs nothing more, the marks
// stay, and the epochs of a lease that begins anew count.
func TestReplacedLedger(t *testing.T) {
	f := newFake()
	old := held(t, f.store(t), 2)
	must(t, old.Hold(ctx, 9))
	must(t, old.Sign(ctx, 9, []slashing.Claim{slashingtest.Attestation(1, 3, 4, 1)})[0])
	mark, err := old.Watermark(ctx)
	must(t, err)
	s := f.store(t)
	if _, err := s.ReplaceLedger(ctx, slashing.Info{ID: "ledger-other", Signer: "signer-a"}, genesis); !errors.Is(err, record.ErrStale) {
		t.Errorf("another than the one that is there: %v", err)
	}
	info, err := s.ReplaceLedger(ctx, old.Info(), genesis)
	must(t, err)
	if info.ID == old.Info().ID {
		t.Error("it has the former's id")
	}
	next, err := s.OpenLedger(ctx, "signer-a")
	must(t, err)
	if epoch, err := next.Epoch(ctx); epoch != 0 || err != nil {
		t.Errorf("held under %d, %v", epoch, err)
	}
	if now, err := next.Watermark(ctx); err != nil || now <= mark {
		t.Errorf("watermark %d after %d, %v", now, mark, err)
	}
	must(t, next.Admit(ctx, 0, []slashing.Admission{{Mark: slashing.Floor(slashingtest.Key(2), 20, 32), Assignment: 1}}))
	must(t, next.Hold(ctx, 1))
	for what, err := range map[string]error{
		"Sign": old.Sign(ctx, 9, []slashing.Claim{slashingtest.Attestation(1, 4, 5, 1)})[0], "Hold": old.Hold(ctx, 10),
		"Add": old.Add(ctx, 9, nil), "Watermark": second(old.Watermark(ctx)), "Epoch": second(old.Epoch(ctx)),
	} {
		if !errors.Is(err, slashing.ErrHolder) {
			t.Errorf("the replaced one's %s: %v", what, err)
		}
	}
	if err := sign(next, slashingtest.Attestation(1, 3, 4, 2)); !errors.Is(err, slashing.ErrSlashable) {
		t.Errorf("what the former signed: %v", err)
	}
	must(t, sign(next, slashingtest.Attestation(1, 4, 5, 2)))
	if err := sign(next, slashingtest.Attestation(2, 20, 21, 2)); !errors.Is(err, slashing.ErrSlashable) {
		t.Errorf("below the floor: %v", err)
	}
	must(t, s.Verify(ctx))
	_, err = s.ReplaceLedger(ctx, slashing.Info{ID: "ledger-gone", Signer: "signer-b"}, genesis) // its item is lost
	must(t, err)
}

// TestOneSwapPerKey: what a batch costs is what docs/aws.md says: one read,
// and one write for each key, whatever it signs.
func TestOneSwapPerKey(t *testing.T) {
	f := newFake()
	l := held(t, f.store(t), 3)
	f.taken()
	errs := l.Sign(ctx, 1, []slashing.Claim{
		slashingtest.Attestation(1, 1, 2, 1), slashingtest.Attestation(2, 1, 2, 1), slashingtest.Block(1, 9, 1), slashingtest.Attestation(3, 1, 2, 1), slashingtest.Attestation(1, 2, 3, 1),
	})
	for i, err := range errs {
		if err != nil {
			t.Errorf("claim %d: %v", i, err)
		}
	}
	calls := map[string]int{}
	for _, c := range f.taken() {
		calls[c.Operation]++
	}
	if calls["GetItem"] != 1 || calls["PutItem"] != 3 || len(calls) != 2 {
		t.Errorf("%v", calls)
	}
	for k, it := range f.tables[tables.Ledger] {
		size := 0
		for name, v := range it {
			for _, value := range v {
				size += len(name) + len(value)
			}
		}
		if size > 1<<10 { // a write unit
			t.Errorf("the item of %q is %d bytes", k.sk, size)
		}
	}
}

// TestManyKeysAtOnce: keys do not wait for each other.
func TestManyKeysAtOnce(t *testing.T) {
	f := newFake()
	l := held(t, f.store(t), 0)
	var list []slashing.Admission
	var claims []slashing.Claim
	for n := range 200 {
		list = append(list, slashing.Admission{Mark: slashing.Mark{Pubkey: slashingtest.Key(n)}, Assignment: 1})
		claims = append(claims, slashingtest.Attestation(n, 1, 2, 1))
	}
	must(t, l.Admit(ctx, 1, list))
	f.gate, f.gated = make(chan struct{}), atOnceKeys // no write is answered before so many are there
	for i, err := range l.Sign(ctx, 1, claims) {
		if err != nil {
			t.Fatalf("claim %d: %v", i, err)
		}
	}
}

// TestHeldMark: a process that looked who holds the ledger just before another
// took it finds the other's epoch in the mark, and signs nothing by it.
func TestHeldMark(t *testing.T) {
	f := newFake()
	l, next := held(t, f.store(t), 2), openLedger(t, f.store(t), "signer-a")
	must(t, sign(l, slashingtest.Attestation(1, 1, 2, 1)))
	head := clone(f.tables[tables.Ledger][headKey("signer-a")])
	must(t, next.Hold(ctx, 2))
	must(t, next.Sign(ctx, 2, []slashing.Claim{slashingtest.Attestation(1, 2, 3, 1)})[0])
	f.tables[tables.Ledger][headKey("signer-a")] = head // as it was when the former looked
	for _, c := range []slashing.Claim{slashingtest.Attestation(1, 3, 4, 1), slashingtest.Attestation(1, 2, 3, 1), slashingtest.Block(1, 9, 1)} {
		if err := sign(l, c); !errors.Is(err, slashing.ErrHolder) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if err := l.Admit(ctx, 1, []slashing.Admission{{Mark: slashing.Mark{Pubkey: slashingtest.Key(1)}, Assignment: 2}}); !errors.Is(err, slashing.ErrHolder) {
		t.Errorf("Admit: %v", err)
	}
	must(t, sign(l, slashingtest.Attestation(2, 1, 2, 1))) // whose mark the next has not written: it is bound by this
	if err := next.Sign(ctx, 1, []slashing.Claim{slashingtest.Attestation(2, 1, 2, 2)})[0]; !errors.Is(err, slashing.ErrSlashable) {
		t.Errorf("the next: %v", err)
	}
}
