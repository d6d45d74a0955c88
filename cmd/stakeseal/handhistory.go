package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/build"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/signer"
	"github.com/stakeseal/stakeseal/slashing"
)

// elders tells what was signed for keys under assignments before the one that
// ends with a hand-over. The ledger of the signer that has a key now has it only
// if that signer served the key: then it was taken in with all that went before.
// Of a key that was moved to it and not served yet, or came back from other
// software, the ledger says too little, and the file that goes along would have
// the other software sign what one of our signers signed.
type elders struct {
	app      *app
	home     *home
	signer   string                // whose keys are handed over; its ledger is held
	admitted map[eth.Pubkey]uint64 // by its ledger
	made     map[string]bool       // signers, by whether they ever had a ledger here
	looked   map[string]bool       // signers whose notes are all written
}

// carry raises a key's mark to all that was signed before, or to a floor where
// nobody knows that.
func (e *elders) carry(ctx context.Context, k *handed) error {
	pubkey := k.validator.Pubkey
	last := k.assigned.Epoch // of ours
	if k.assigned.Signer != e.signer {
		last--
	}
	if e.admitted[pubkey] != 0 && e.admitted[pubkey] == last {
		return nil
	}
	had, err := e.had(ctx, pubkey)
	if err != nil {
		return err
	}
	// Those that are stopped and have not written their notes do it first.
	for epoch := uint64(1); epoch <= last; epoch++ {
		if name := had[epoch]; name != "" && name != e.signer && !strings.HasPrefix(name, external) {
			if err := e.look(ctx, k, name, epoch); err != nil {
				return err
			}
		}
	}
	noted := map[string]bool{}
	for event, err := range e.home.records.Events(ctx, record.EventQuery{Pubkey: pubkey, Kind: eventReleased}) {
		if err != nil {
			return err
		}
		mark, err := released(event)
		if err != nil {
			return err
		}
		k.mark = k.mark.Raise(mark)
		noted[event.Detail["assignment"]] = true
	}
	for epoch := uint64(1); epoch <= last; epoch++ {
		name := had[epoch]
		switch {
		case noted[fmt.Sprint(epoch)]:
		case name == e.signer && (epoch == last || e.admitted[pubkey] >= epoch): // nothing, or in its ledger
		case name != "" && !strings.HasPrefix(name, external) && !e.made[name]: // it never signed here
		default:
			k.floor = true
		}
	}
	return nil
}

// had is who had a key under each of its assignments, as far as it was noted.
func (e *elders) had(ctx context.Context, pubkey eth.Pubkey) (map[uint64]string, error) {
	had := map[uint64]string{}
	for event, err := range e.home.records.Events(ctx, record.EventQuery{Pubkey: pubkey}) {
		if err != nil {
			return nil, err
		}
		var epoch uint64
		name := event.Detail["signer"]
		if event.Kind == "exported-keystore" {
			name = external + name
		} else if event.Kind != "assigned" {
			continue
		}
		if _, err := fmt.Sscan(event.Detail["epoch"], &epoch); err != nil {
			continue // as if it had not been noted
		}
		had[epoch] = name
		if !strings.HasPrefix(name, external) && !e.made[name] {
			if e.made[name], err = e.home.everInitialised(ctx, name); err != nil {
				return nil, err
			}
		}
	}
	return had, nil
}

// look has a former signer's notes written, if it is stopped. One that runs
// writes them itself, and may sign until it has.
func (e *elders) look(ctx context.Context, k *handed, name string, epoch uint64) error {
	if e.looked[name] || !e.made[name] {
		return nil
	}
	if _, noted, err := e.home.releaseNote(ctx, k.validator.Pubkey, epoch); err != nil || noted {
		return err
	}
	leases, done, err := e.home.signers().leases()
	if err != nil {
		return err
	}
	defer done()
	lease, err := leases.Lease(ctx, name)
	if err != nil && !errors.Is(err, record.ErrNotFound) {
		return err
	}
	if err == nil {
		if err = e.home.releaseStopped(ctx, e.app, lease); errors.Is(err, errBusy) {
			return fail(exitConflict, "wait until it has, or stop it; its log says more", "%v was assigned to %s before, which runs and has not let go of it", k.validator.Pubkey, name)
		}
		// A ledger that is not to be had says nothing: a floor is raised.
	}
	e.looked[name] = true
	return nil
}

// raiseFloors gives those keys a floor of which nobody knows what they signed.
func (a *app) raiseFloors(h *home, f handoverFlags, list []*handed) error {
	count, n := 0, h.generator.Network
	epoch, known := signer.EpochAt(n, a.now().Unix())
	for _, k := range list {
		if !k.floor {
			continue
		}
		if !known && !f.unknown {
			return fail(exitConflict, "bring its history, and import it into the other software; then add --no-history-known",
				"what was signed with %v before is not known here, and neither is the current epoch of %s", k.validator.Pubkey, n.Name)
		}
		if !known {
			k.floor, k.unknown = false, true
			continue
		}
		count++
		k.mark = k.mark.Raise(slashing.Floor(k.validator.Pubkey, epoch, h.slotsPerEpoch()))
	}
	if count == 0 {
		return nil
	}
	if err := build.CheckClock(a.now()); err != nil {
		return err
	}
	a.say("warning: of %d keys nobody here knows all that was signed before: their slashing protection allows no attestation before epoch %d, and no block before that (13 minutes)", count, epoch+2)
	return nil
}
