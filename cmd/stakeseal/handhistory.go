package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/build"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/signer"
	"github.com/stakeseal/stakeseal/slashing"
)

// elders tells what was signed for keys under earlier assignments, where that
// leaves a signer of ours, or comes to one by hand. The ledger of the signer that
// has a key now has it only if that signer served the key: then it was taken in
// with all that went before. Of a key that was moved to it and not served yet, or
// came back from other software, the ledger says too little, and others would
// sign what one of our signers signed.
type elders struct {
	app      *app
	home     *home
	signer   string                // that has the keys now; its ledger is held
	admitted map[eth.Pubkey]uint64 // by its ledger
	ended    map[eth.Pubkey]bool   // by its ledger: let go of
	made     map[string]bool       // signers, by whether they ever had a ledger here
	looked   map[string]bool       // signers whose notes are all written

	table func(context.Context) error // on AWS: whether it is what was signed by last
}

func newElders(a *app, h *home, signer string, admitted map[eth.Pubkey]uint64) *elders {
	var once sync.Once
	var broken error
	table := func(ctx context.Context) error {
		once.Do(func() { broken = (&tableSigners{h}).whole(ctx) })
		return broken
	}
	return &elders{app: a, home: h, signer: signer, admitted: admitted, made: map[string]bool{}, looked: map[string]bool{}, table: table}
}

// carry raises a key's mark to all that was signed before, or says that it needs
// a floor, as nobody knows that.
func (e *elders) carry(ctx context.Context, k *handed) error {
	pubkey := k.validator.Pubkey
	last := k.assigned.Epoch // of ours
	if k.assigned.Signer != e.signer {
		last--
	}
	if e.admitted[pubkey] != 0 && e.admitted[pubkey] == last {
		// What it let go of, and has by the store, others had since.
		k.floor = e.ended[pubkey] && k.assigned.Signer == e.signer
		return nil
	}
	mark, whole, err := e.before(ctx, pubkey, last, last, false)
	if err != nil {
		return err
	}
	mark.Pubkey = pubkey
	k.mark, k.floor = mark.Raise(k.mark), !whole
	return nil
}

// before is what was noted of what our signers signed with a key under its
// assignments up to last, and whether that is all but for what is in the ledger.
// own is the assignment to the signer itself, which has not served under it.
// told says that a file tells what other software signed.
func (e *elders) before(ctx context.Context, pubkey eth.Pubkey, last, own uint64, told bool) (mark slashing.Mark, whole bool, err error) {
	had, err := e.had(ctx, pubkey)
	if err != nil {
		return mark, false, err
	}
	// Those that are stopped and have not written their notes do it first.
	for epoch := uint64(1); epoch <= last; epoch++ {
		if name := had[epoch]; name != "" && name != e.signer && !strings.HasPrefix(name, external) {
			if err := e.look(ctx, pubkey, name, epoch); err != nil {
				return mark, false, err
			}
		}
	}
	noted := map[string]bool{}
	for event, err := range e.home.records.Events(ctx, record.EventQuery{Pubkey: pubkey, Kind: eventReleased}) {
		if err != nil {
			return mark, false, err
		}
		one, err := released(event)
		if err != nil {
			return mark, false, err
		}
		mark = mark.Raise(one)
		noted[event.Detail["assignment"]+" "+event.Detail["signer"]] = true
	}
	whole = true
	for epoch := uint64(1); epoch <= last; epoch++ {
		name := had[epoch]
		switch {
		case noted[fmt.Sprint(epoch)+" "+name]:
		case name == e.signer && (epoch == own || e.admitted[pubkey] >= epoch): // nothing, or in its ledger
		case strings.HasPrefix(name, external) && told:
		case name != "" && !strings.HasPrefix(name, external) && !e.made[name]: // it never signed here
		default:
			whole = false
		}
	}
	return mark, whole, nil
}

// with is what a file tells of a key that is the signer's, with what our signers
// signed, and whether that is all. On AWS that is in the table already, and the
// signer takes the key over by taking its mark, unless the table is older than
// what was signed by it.
func (e *elders) with(ctx context.Context, m slashing.Mark, assignment uint64) (slashing.Mark, bool, error) {
	if e.home.remote() {
		err := e.table(ctx)
		if errors.Is(err, signer.ErrLedger) {
			return m, false, nil
		}
		return m, true, err
	}
	if e.admitted[m.Pubkey] == assignment {
		return m, true, nil
	}
	noted, whole, err := e.before(ctx, m.Pubkey, assignment-1, assignment, true)
	return m.Raise(noted), whole, err
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
		if _, asked := e.made[name]; !asked && !strings.HasPrefix(name, external) {
			if e.made[name], err = e.home.everInitialised(ctx, name); err != nil {
				return nil, err
			}
		}
	}
	return had, nil
}

// look has a former signer's notes written, if it is stopped. One that runs
// writes them itself, and may sign until it has.
func (e *elders) look(ctx context.Context, pubkey eth.Pubkey, name string, epoch uint64) error {
	if e.looked[name] || !e.made[name] {
		return nil
	}
	if noted, err := e.home.letGo(ctx, pubkey, epoch, name); err != nil || noted {
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
			return fail(exitConflict, "wait until it has, or stop it; its log says more", "%v was assigned to %s before, which runs and has not let go of it", pubkey, name)
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

// signedBefore reads what the signer signed, and others of ours before it,
// where it must have stopped for that: what it signs after this is in no file.
// On AWS it may run until its keys are fenced.
func (a *app) signedBefore(ctx context.Context, h *home, f handoverFlags, list []*handed) (done func(), err error) {
	if h.remote() {
		return func() {}, nil
	}
	marks, admitted, ended, done, err := h.signedBy(ctx, a, f.signer)
	if err != nil {
		return nil, err
	}
	e := newElders(a, h, f.signer, admitted)
	e.ended = ended
	for _, k := range list {
		k.mark = marks[k.chosen.Pubkey]
		if err := e.carry(ctx, k); err != nil {
			done()
			return nil, err
		}
	}
	if !f.whole {
		err = a.mayBeRestored(ctx, h, f.signer, admitted, list)
	}
	if err == nil {
		err = a.raiseFloors(h, f, list)
	}
	if err != nil {
		done()
		return nil, err
	}
	return done, nil
}

// mayBeRestored wants floors where this home may be a copy from a backup or
// snapshot, of which the one that signed on knows more: of keys of a signer that
// did not hold its lease for long, and of keys that could have been active by now
// and were never served here. signer serve judges alike.
func (a *app) mayBeRestored(ctx context.Context, h *home, name string, admitted map[eth.Pubkey]uint64, list []*handed) error {
	long := false
	if admitted != nil { // it was a signer here
		leases, done, err := h.signers().leases()
		if err != nil {
			return err
		}
		defer done()
		lease, err := leases.Lease(ctx, name)
		if err != nil {
			return err
		}
		_, long = h.absent(a, lease)
	}
	count := 0
	for _, k := range list {
		served := admitted[k.validator.Pubkey] != 0
		if !k.floor && !k.unknown && (served && long || !served && k.mark == (slashing.Mark{Pubkey: k.mark.Pubkey}) && !h.newborn(a, k.validator.Created)) {
			k.floor = true
			count++
		}
	}
	if count > 0 {
		a.say("warning: this home may be a restored copy, and the one that it was made of may have signed with %d of these keys since (if it is none: --not-restored)", count)
	}
	return nil
}

// fenced takes keys that are assigned away from signers that may still run,
// and reads what they signed to the end. On one machine the ledger is held
// by this process, and has been read.
func (a *app) fenced(ctx context.Context, h *home, f handoverFlags, list []*handed, root eth.Root) error {
	if !h.remote() {
		return nil
	}
	if err := h.untold(ctx, f, list); err != nil {
		return err
	}
	if err := a.raiseFloors(h, f, list); err != nil {
		return err
	}
	epochs, floors := map[eth.Pubkey]uint64{}, map[eth.Pubkey]slashing.Mark{}
	for _, k := range list {
		epochs[k.validator.Pubkey] = k.assigned.Epoch
		if k.assigned.Signer == f.signer {
			epochs[k.validator.Pubkey]++ // this run moved it
		}
		if k.floor {
			floors[k.validator.Pubkey] = k.mark
		}
	}
	marks, err := h.fence(ctx, external+f.signer, root, epochs, floors)
	if err != nil {
		return err
	}
	for _, k := range list {
		k.mark = marks[k.validator.Pubkey]
	}
	return nil
}
