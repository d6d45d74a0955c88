package signer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/stakeseal/stakeseal/record"
)

var (
	// ErrHeld: another process signs under the name.
	ErrHeld = errors.New("another process holds the signer's lease")
	// ErrNotInitialised: no lease of the name was ever made.
	ErrNotInitialised = errors.New("the signer was not initialised")
	// ErrLedger: the ledger is not the one that the lease witnesses, or an
	// older copy of it: what was signed since is not in it.
	ErrLedger = errors.New("the slashing ledger is not the one that was signed by last")
)

// Times of a lease. A holder signs for Term after it began its last successful
// renewal; who wants the lease of a holder that does not let go watches it for
// twice that, by its own clock. So a store that cannot be reached stops nobody
// at once, and two never sign: no clock is compared with another.
const (
	RenewEvery = 3 * time.Second
	Term       = 60 * time.Second
	Watch      = 2 * Term
)

// Clock is a time that never goes back and goes on while the machine sleeps
// (CLOCK_BOOTTIME): one that stands still then would let a holder that was
// suspended sign after another took over.
type Clock func() time.Duration

// Terms are what a lease is taken with.
type Terms struct {
	Leases record.Leases
	Name   string
	Ledger string // its id
	// Where is user@host:path of the ledger and the number of its file. A lease
	// that says the same was this machine's, by the very file that we have open
	// alone: its holder is dead. Of a copy that cannot be said.
	Where     string
	Watermark func(context.Context) (uint64, error)
	Clock     Clock
	Now       func() time.Time // for people
	Log       *slog.Logger
	// Sleep waits; nil: time.
	Sleep func(context.Context, time.Duration) error
}

// filled has a value where there is a default.
func (t Terms) filled() Terms {
	if t.Sleep == nil {
		t.Sleep = sleep
	}
	if t.Log == nil {
		t.Log = slog.New(slog.DiscardHandler)
	}
	return t
}

// Lease is a lease that is held.
type Lease struct {
	Terms
	Former  record.Lease // as it was found
	mu      sync.Mutex
	stored  record.Lease
	renewed time.Duration // by Clock, when the last successful renewal began
	lost    error         // for good
}

// TakeLease takes the lease of a name, or fails: ErrHeld while another process
// renews it, ErrLedger where the ledger is not the one it witnesses.
func TakeLease(ctx context.Context, t Terms) (*Lease, error) {
	t = t.filled()
	old, err := t.Leases.Lease(ctx, t.Name)
	if errors.Is(err, record.ErrNotFound) {
		return nil, fmt.Errorf("%w: signer %q has no lease", ErrNotInitialised, t.Name)
	}
	if err != nil {
		return nil, err
	}
	watermark, err := agrees(ctx, t, old)
	if err != nil {
		return nil, err
	}
	if old.Holder != "" && old.Where != t.Where {
		if old, err = watch(ctx, t, old); err != nil {
			return nil, err
		}
		if watermark, err = agrees(ctx, t, old); err != nil { // it was signed by until it was let go of
			return nil, err
		}
	}
	l := &Lease{Terms: t, Former: old, renewed: t.Clock()}
	l.stored = record.Lease{Name: t.Name, Epoch: old.Epoch + 1, Beat: old.Beat + 1, Holder: "h-" + strings.ToLower(rand.Text()),
		Ledger: t.Ledger, Watermark: watermark, Where: t.Where, Time: record.Time(t.Now())}
	if err := t.Leases.Take(ctx, l.stored); errors.Is(err, record.ErrStale) {
		return nil, fmt.Errorf("%w: it was taken meanwhile", ErrHeld)
	} else if err != nil {
		return nil, err
	}
	return l, nil
}

// agrees returns the ledger's watermark if it is the one that a lease witnesses.
func agrees(ctx context.Context, t Terms, old record.Lease) (uint64, error) {
	watermark, err := t.Watermark(ctx)
	switch {
	case err != nil:
		return 0, err
	case old.Ledger != t.Ledger:
		return 0, fmt.Errorf("%w: the lease names %s, this one is %s", ErrLedger, old.Ledger, t.Ledger)
	case watermark < old.Watermark:
		return 0, fmt.Errorf("%w: the lease saw watermark %d, and this copy has %d", ErrLedger, old.Watermark, watermark)
	}
	return watermark, nil
}

// WaitOut waits until nobody can sign under a lease any more, without taking
// it, and returns it as it stands then.
func WaitOut(ctx context.Context, t Terms, seen record.Lease) (record.Lease, error) {
	if seen.Holder == "" {
		return seen, nil
	}
	return watch(ctx, t.filled(), seen)
}

// watch waits until the lease has stood still for as long as any holder signs
// without renewing it.
func watch(ctx context.Context, t Terms, seen record.Lease) (record.Lease, error) {
	since := t.Clock()
	t.Log.Info("the lease is held elsewhere: watching whether it is still renewed", "where", seen.Where, "for", Watch)
	for t.Clock()-since < Watch {
		if err := t.Sleep(ctx, RenewEvery); err != nil {
			return seen, err
		}
		now, err := t.Leases.Lease(ctx, t.Name)
		if err != nil {
			return seen, err
		}
		if now.Holder == "" {
			return now, nil // let go of
		}
		if now.Beat != seen.Beat {
			return seen, fmt.Errorf("%w: %s, %s", ErrHeld, t.Name, now.Where)
		}
	}
	return seen, nil
}

// Epoch is the lease's Fence.
func (l *Lease) Epoch() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost != nil {
		return 0, fmt.Errorf("%w: %w", ErrStopped, l.lost)
	}
	if since := l.Clock() - l.renewed; since >= Term {
		return 0, fmt.Errorf("%w: it could not be renewed for %s", ErrStopped, since.Round(time.Second))
	}
	return l.stored.Epoch, nil
}

// Renew renews it once.
func (l *Lease) Renew(ctx context.Context) error { return l.renew(ctx, true) }

func (l *Lease) renew(ctx context.Context, keep bool) error {
	begun := l.Clock() // before: a renewal that took long counts from its beginning
	watermark, err := l.Watermark(ctx)
	if err != nil {
		return err
	}
	l.mu.Lock()
	next, lost := l.stored, l.lost
	l.mu.Unlock()
	if lost != nil {
		return fmt.Errorf("%w: %w", ErrStopped, lost)
	}
	next.Beat, next.Watermark, next.Time = next.Beat+1, watermark, record.Time(l.Now())
	if !keep {
		next.Holder = ""
	}
	err = l.Leases.Take(ctx, next)
	if errors.Is(err, record.ErrStale) || err != nil && !keep {
		// Perhaps our own last change, whose answer was lost.
		if now, e := l.Leases.Lease(ctx, l.Name); e == nil {
			if now == next {
				err = nil
			} else if now.Epoch == next.Epoch && now.Holder == l.Holder() {
				next.Beat = now.Beat + 1
				err = l.Leases.Take(ctx, next)
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case errors.Is(err, record.ErrStale), errors.Is(err, record.ErrFormat): // taken, or taken from us
		l.lost = fmt.Errorf("it was taken by another process: %w", err)
		return fmt.Errorf("%w: %w", ErrStopped, l.lost)
	case err != nil:
		return err
	}
	l.stored, l.renewed = next, begun
	return nil
}

// Holder is the random word under which this process holds it.
func (l *Lease) Holder() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stored.Holder
}

// Run renews it until ctx ends or it is lost, which is the error. That the
// store cannot be reached ends nothing: Epoch says how long that may last.
func (l *Lease) Run(ctx context.Context) error {
	failing := false // said once, not every three seconds
	for l.Sleep(ctx, RenewEvery) == nil {
		err := l.Renew(ctx)
		if errors.Is(err, ErrStopped) {
			return err
		}
		if failing != (err != nil) && ctx.Err() == nil {
			if failing = !failing; failing {
				l.Log.Error("the lease cannot be renewed", "why", err.Error(), "signing ends in", Term)
			} else {
				l.Log.Info("the lease is renewed again")
			}
		}
	}
	return nil // asked to end
}

// Release lets go of it: from then on this process signs nothing, and another
// may take it at once. The watermark of the last signature goes with it.
func (l *Lease) Release(ctx context.Context) error {
	err := l.renew(ctx, false)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == nil {
		l.lost = errors.New("it was released")
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
