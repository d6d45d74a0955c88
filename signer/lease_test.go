package signer_test

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/internal/sqlite"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
	"github.com/stakeseal/stakeseal/signer"
)

// world is a store of leases and a time that only tests move.
type world struct {
	store record.Leases
	mu    sync.Mutex
	now   time.Duration
	away  error // the store cannot be reached
	lost  bool  // it is reached, and its answer is lost
	slept int
	each  func() // at every sleep
}

func (w *world) clock() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now += d
}

func (w *world) Take(ctx context.Context, l record.Lease) error {
	if w.away != nil {
		return w.away
	}
	err := w.store.Take(ctx, l)
	if w.lost {
		return errors.New("the answer was lost")
	}
	return err
}

func (w *world) Lease(ctx context.Context, name string) (record.Lease, error) {
	if w.away != nil {
		return record.Lease{}, w.away
	}
	return w.store.Lease(ctx, name)
}

func (w *world) Leases(ctx context.Context) iter.Seq2[record.Lease, error] {
	return w.store.Leases(ctx)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	path := filepath.Join(t.TempDir(), "leases.db")
	if err := sqlite.CreateLeases(path); err != nil {
		t.Fatal(err)
	}
	leases, err := sqlite.OpenLeases(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = leases.Close() })
	w := &world{store: leases}
	first := record.Lease{Name: "signer-a", Epoch: 1, Beat: 1, Ledger: "ledger-1", Where: "me@here:/ledger.db", Time: recordtest.Start}
	if err := w.Take(ctx, first); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) terms(watermark uint64) signer.Terms {
	return signer.Terms{
		Leases: w, Name: "signer-a", Ledger: "ledger-1", Where: "me@here:/ledger.db",
		Watermark: func(context.Context) (uint64, error) { return watermark, nil },
		Clock:     w.clock, Now: func() time.Time { return recordtest.Start },
		Sleep: func(ctx context.Context, d time.Duration) error {
			w.pass(d)
			w.slept++
			if w.each != nil {
				w.each()
			}
			return ctx.Err()
		},
	}
}

func take(t *testing.T, terms signer.Terms) *signer.Lease {
	t.Helper()
	l, err := signer.TakeLease(ctx, terms)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLeaseTaking(t *testing.T) {
	w := newWorld(t)
	none := w.terms(0)
	none.Name = "signer-b"
	if _, err := signer.TakeLease(ctx, none); !errors.Is(err, signer.ErrNotInitialised) {
		t.Errorf("a name without a lease: %v", err)
	}
	a := take(t, w.terms(10))
	if epoch, err := a.Epoch(); epoch != 2 || err != nil {
		t.Errorf("%d, %v", epoch, err)
	}
	if err := a.Renew(ctx); err != nil {
		t.Error(err)
	}
	other := w.terms(10)
	other.Ledger = "ledger-2"
	if _, err := signer.TakeLease(ctx, other); !errors.Is(err, signer.ErrLedger) {
		t.Errorf("with another ledger: %v", err)
	}
	if _, err := signer.TakeLease(ctx, w.terms(9)); !errors.Is(err, signer.ErrLedger) {
		t.Errorf("with an older copy of it: %v", err)
	}
	// The same machine with the same ledger, which it could open: at once.
	b := take(t, w.terms(10))
	if epoch, err := b.Epoch(); epoch != 3 || err != nil || w.slept != 0 {
		t.Errorf("restarted: %d, %v, after %d naps", epoch, err, w.slept)
	}
	if err := a.Renew(ctx); !errors.Is(err, signer.ErrStopped) {
		t.Errorf("the former holder renews: %v", err)
	}
	if _, err := a.Epoch(); !errors.Is(err, signer.ErrStopped) {
		t.Errorf("the former holder signs: %v", err)
	}
}

// TestLeaseElsewhere: a copy of the ledger on another machine waits until the
// holder has been still for longer than it may sign.
func TestLeaseElsewhere(t *testing.T) {
	w := newWorld(t)
	a := take(t, w.terms(10))
	elsewhere := w.terms(10)
	elsewhere.Where = "me@there:/ledger.db"
	w.each = func() { _ = a.Renew(ctx) }
	if _, err := signer.TakeLease(ctx, elsewhere); !errors.Is(err, signer.ErrHeld) {
		t.Errorf("while it is renewed: %v", err)
	}
	// Cut off from the store, it ends signing before the other begins.
	var ended time.Duration
	w.each = func() {
		if _, err := a.Epoch(); err != nil && ended == 0 {
			ended = w.now
		}
	}
	b := take(t, elsewhere)
	if ended == 0 || w.clock()-ended < signer.Term/2 {
		t.Errorf("the one ended at %s, the other began at %s", ended, w.clock())
	}
	if epoch, err := b.Epoch(); err != nil || epoch != 3 {
		t.Errorf("%d, %v", epoch, err)
	}
	// Let go of, it is taken at once.
	if err := b.Release(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Epoch(); !errors.Is(err, signer.ErrStopped) {
		t.Errorf("after its release: %v", err)
	}
	w.slept = 0
	if take(t, w.terms(10)); w.slept != 0 {
		t.Errorf("%d naps after a release", w.slept)
	}
}

// TestLeaseLetGoWhileWatched: a holder elsewhere signs on while it is watched,
// by the same table, and lets go: the lease is to be had as it left it. By a
// copy that does not have the last of it, it is not.
func TestLeaseLetGoWhileWatched(t *testing.T) {
	for name, c := range map[string]struct {
		after uint64
		want  error
	}{"one table": {9, nil}, "a copy": {5, signer.ErrLedger}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			watermark := uint64(5)
			holder := w.terms(0)
			holder.Watermark = func(context.Context) (uint64, error) { return watermark, nil }
			l := take(t, holder)
			elsewhere := w.terms(0)
			elsewhere.Where = "me@there:/ledger.db"
			seen := uint64(5)
			elsewhere.Watermark = func(context.Context) (uint64, error) { return seen, nil }
			w.each = func() {
				watermark, seen = 9, c.after
				if err := l.Release(ctx); err != nil {
					t.Error(err)
				}
				w.each = func() {}
			}
			if _, err := signer.TakeLease(ctx, elsewhere); !errors.Is(err, c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestLeaseOutage: a store that cannot be reached ends signing after Term and
// not before, a suspended machine counts, and back in reach it goes on.
func TestLeaseOutage(t *testing.T) {
	w := newWorld(t)
	a := take(t, w.terms(10))
	w.away = errors.New("unreachable")
	w.pass(signer.Term - time.Second)
	if err := a.Renew(ctx); err == nil || errors.Is(err, signer.ErrStopped) {
		t.Errorf("renewing: %v", err)
	}
	if _, err := a.Epoch(); err != nil {
		t.Errorf("within its term: %v", err)
	}
	w.pass(time.Second)
	if _, err := a.Epoch(); !errors.Is(err, signer.ErrStopped) {
		t.Errorf("after its term: %v", err)
	}
	w.away = nil
	if err := a.Renew(ctx); err != nil {
		t.Error(err)
	}
	if _, err := a.Epoch(); err != nil {
		t.Errorf("renewed again: %v", err)
	}
	// An answer that was lost: the change was made, and is known as ours.
	w.lost = true
	if err := a.Renew(ctx); err == nil {
		t.Error("a lost answer was taken for one")
	}
	w.lost = false
	if err := a.Renew(ctx); err != nil {
		t.Errorf("after a lost answer: %v", err)
	}
	if err := a.Renew(ctx); err != nil {
		t.Errorf("once more: %v", err)
	}
}

func TestLeaseRuns(t *testing.T) {
	w := newWorld(t)
	log := &safeBuffer{}
	terms := w.terms(10)
	terms.Log = slog.New(slog.NewTextHandler(log, nil))
	a := take(t, terms)
	// It renews by itself, through an outage, until it is taken from it.
	w.each = func() {
		switch w.slept {
		case 5:
			w.away = errors.New("unreachable")
		case 15:
			w.away = nil
		case 30:
			if _, err := a.Epoch(); err != nil {
				t.Errorf("after 30 naps: %v", err)
			}
			take(t, w.terms(11))
		}
	}
	if err := a.Run(ctx); !errors.Is(err, signer.ErrStopped) || w.slept < 30 || w.slept > 32 {
		t.Errorf("it ended after %d naps: %v", w.slept, err)
	}
	if text := log.String(); strings.Count(text, "cannot be renewed") != 1 || strings.Count(text, "renewed again") != 1 {
		t.Errorf("that the store was away, and came back, is not said once each: %s", text)
	}
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	if err := take(t, w.terms(11)).Run(stopped); err != nil {
		t.Errorf("asked to end: %v", err)
	}
}
