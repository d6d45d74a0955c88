package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/signer"
	"github.com/stakeseal/stakeseal/slashing"
)

// timeGuard notices that the time of day went on while the machine did not: a
// virtual machine that was set back to a snapshot with its memory goes on where
// it was, with ledger, lease and store as of then, and nothing but the clock,
// once that is right again, tells how long ago that is. So does a clock that was
// wrong when the signer started, by which it judged how long it was away. A
// machine that sleeps is another thing: its CLOCK_BOOTTIME goes on.
type timeGuard struct {
	now   func() time.Time
	boot  signer.Clock
	limit time.Duration

	mu    sync.Mutex
	least time.Duration // by which the time of day was ahead of boot
}

func newTimeGuard(n eth.Network, now func() time.Time, boot signer.Clock) *timeGuard {
	g := &timeGuard{now: now, boot: boot, limit: absence(n)}
	g.settle()
	return g
}

// absence is how long a signer may be away without floors.
func absence(n eth.Network) time.Duration {
	return 2 * time.Duration(n.SecondsPerSlot*n.SlotsPerEpoch) * time.Second
}

func (g *timeGuard) ahead() time.Duration { return time.Duration(g.now().UnixNano()) - g.boot() }

// settle takes the time for right.
func (g *timeGuard) settle() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.least = g.ahead()
}

// jumped is true from a jump on until settle. Small steps add up.
func (g *timeGuard) jumped() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	ahead := g.ahead()
	g.least = min(g.least, ahead)
	return ahead-g.least >= g.limit
}

// fence is a lease's, closed from a jump on until floors were raised.
func (g *timeGuard) fence(lease signer.Fence) signer.Fence {
	return func() (uint64, error) {
		if g.jumped() {
			return 0, fmt.Errorf("%w under a time that it knows: the clock jumped", signer.ErrStopped)
		}
		return lease()
	}
}

// afterJump raises the floors of all keys, as after an absence, if the clock
// jumped.
func (g *timeGuard) afterJump(ctx context.Context, a *app, h *home, ledger slashing.Ledger, lease signer.Fence, log *slog.Logger) error {
	if !g.jumped() {
		return nil
	}
	epoch, known := signer.EpochAt(h.generator.Network, a.now().Unix())
	if !known {
		return nil // then there is no guard
	}
	held, err := lease()
	if err != nil {
		return err
	}
	if err := h.floorAll(ctx, ledger, held, epoch); err != nil {
		return err
	}
	floor := slashing.Floor(eth.Pubkey{}, epoch, h.slotsPerEpoch())
	log.Warn("no duties until nothing that may have been signed meanwhile can conflict: the clock jumped, and this machine may have been set back to a snapshot",
		"first attestation in epoch", floor.Target+1, "first block in slot", floor.Slot+1)
	g.settle()
	return nil
}

// floorAll raises the marks of all keys of a ledger.
func (h *home) floorAll(ctx context.Context, ledger slashing.Ledger, held, epoch uint64) error {
	var floors []slashing.Mark
	for m, err := range ledger.Marks(ctx) {
		if err != nil {
			return err
		}
		floors = append(floors, slashing.Floor(m.Pubkey, epoch, h.slotsPerEpoch()))
	}
	return ledger.Add(ctx, held, floors)
}
