package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/signer"
	"github.com/stakeseal/stakeseal/slashing"
)

// loader keeps a signer's keys those that are assigned to it: it opens new
// ones straight from the store into memory and takes away those that went.
type loader struct {
	app     *app
	home    *home
	name    string
	keys    []key // identities
	ledger  signerLedger
	leases  record.Leases
	epoch   signer.Fence
	guard   *timeGuard // nil: none is needed
	to      *signer.Signer
	log     *slog.Logger
	workers int

	one      sync.Mutex            // a pass at a time
	serving  map[eth.Pubkey]uint64 // assignment epochs
	failed   map[eth.Pubkey]unopened
	watching map[string]formerSigner // former signers, by name
	waiting  int                     // keys that wait for their former signer
	orders   map[string]string       // see unknown
	noted    map[eth.Pubkey]uint64   // assignment epochs whose end was noted
}

// unopened is a key that is not served, and why.
type unopened struct {
	assignment uint64
	why        string
	again      bool // it may become ready without a change of its assignment
}

// formerSigner is a former signer that has not let go of a key yet.
type formerSigner struct {
	beat  uint64
	since time.Duration
}

// count is how many assigned keys are not served.
func (l *loader) count() int {
	l.one.Lock()
	defer l.one.Unlock()
	return len(l.failed)
}

// waits says whether a later pass may serve more without any change of the
// store.
func (l *loader) waits() bool {
	l.one.Lock()
	defer l.one.Unlock()
	for _, u := range l.failed {
		if u.again {
			return true
		}
	}
	return false
}

// pass brings the keys up to date. retry tries those again that failed.
func (l *loader) pass(ctx context.Context, retry bool) error {
	l.one.Lock()
	defer l.one.Unlock()
	assigned := map[eth.Pubkey]record.Assignment{}
	for a, err := range l.home.records.Assigned(ctx, l.name) {
		if err != nil {
			return fmt.Errorf("couldn't read the assignments: %w", err)
		}
		assigned[a.Pubkey] = a
	}
	if err := l.letGo(ctx, assigned); err != nil {
		return err
	}
	for pubkey, u := range l.failed {
		if a, ok := assigned[pubkey]; !ok || a.Epoch != u.assignment || u.again || retry {
			delete(l.failed, pubkey)
		}
	}
	var fresh []record.Assignment
	for pubkey, a := range assigned {
		if _, ok := l.serving[pubkey]; ok {
			continue
		}
		if _, ok := l.failed[pubkey]; !ok {
			fresh = append(fresh, a)
		}
	}
	defer l.sayWaiting()
	if len(fresh) == 0 {
		return nil
	}
	// In the order of the store's index, so that its pages are read once.
	slices.SortFunc(fresh, func(a, b record.Assignment) int { return bytes.Compare(a.Pubkey[:], b.Pubkey[:]) })
	return l.open(ctx, fresh)
}

// letGo takes away what is not assigned here any more, at once, and then
// notes for the next signer what was signed.
func (l *loader) letGo(ctx context.Context, assigned map[eth.Pubkey]record.Assignment) error {
	for pubkey, epoch := range l.serving {
		if a, ok := assigned[pubkey]; !ok || a.Epoch != epoch {
			l.to.Keys.Remove(pubkey) // waits for what is under way
			delete(l.serving, pubkey)
			l.log.Info("a key is not assigned here any more", "pubkey", pubkey.String())
		}
	}
	if l.home.remote() {
		return nil // the mark stays where the next signer finds it
	}
	admitted, err := l.ledger.Admitted(ctx)
	if err != nil {
		return err
	}
	for pubkey, u := range l.failed {
		if assigned[pubkey].Epoch != u.assignment && admitted[pubkey] != u.assignment {
			if err := l.home.noteUnserved(ctx, l.app, l.name, pubkey, u.assignment); err != nil {
				return err
			}
			delete(l.failed, pubkey)
		}
	}
	for pubkey, a := range assigned {
		if admitted[pubkey] == a.Epoch {
			delete(admitted, pubkey)
		}
	}
	for pubkey, epoch := range admitted {
		if l.noted[pubkey] == epoch {
			delete(admitted, pubkey)
		}
	}
	if len(admitted) == 0 {
		return nil
	}
	if err := l.home.release(ctx, l.app, l.ledger, admitted); err != nil {
		return err
	}
	maps.Copy(l.noted, admitted)
	return nil
}

// released is the mark that a former signer noted when it let go.
func released(e record.Event) (m slashing.Mark, err error) {
	m.Pubkey = e.Pubkey
	number := func(into *uint64, name string) {
		if err == nil {
			*into, err = strconv.ParseUint(e.Detail[name], 10, 64)
		}
	}
	root := func(into *eth.Root, name string) {
		if err == nil {
			err = into.UnmarshalText([]byte(e.Detail[name]))
		}
	}
	if e.Detail["slot"] != "" {
		m.Block = true
		number(&m.Slot, "slot")
		root(&m.BlockRoot, "block_root")
	}
	if e.Detail["target"] != "" {
		m.Attestation = true
		number(&m.Source, "source")
		number(&m.Target, "target")
		root(&m.Root, "attestation_root")
	}
	return m, err
}

// open admits keys to the ledger and opens them in parallel.
func (l *loader) open(ctx context.Context, fresh []record.Assignment) (failed error) {
	epoch, err := l.epoch()
	if err != nil {
		return err
	}
	admitted, err := l.ledger.Admitted(ctx)
	if err != nil {
		return err
	}
	ended, err := l.ledger.Ended(ctx)
	if err != nil {
		return err
	}
	l.orders = map[string]string{}
	var unknown, ready []record.Assignment
	for _, a := range fresh {
		if admitted[a.Pubkey] == a.Epoch && !ended[a.Pubkey] {
			ready = append(ready, a)
		} else {
			unknown = append(unknown, a)
		}
	}
	history, err := l.histories(ctx, unknown)
	if err != nil {
		return err
	}
	var list []slashing.Admission
	for _, a := range unknown {
		var mark slashing.Mark
		var err error
		switch had := admitted[a.Pubkey]; {
		case had > a.Epoch: // and the ledger takes no earlier one
			err = fmt.Errorf("%w: its assignment is %d, and this signer had it under %d", errSetBack, a.Epoch, had)
		case had == a.Epoch: // ended: what others signed since is not known here
			mark, err = l.floor(ctx, a, "this signer had let go of it, and "+errSetBack.Error())
		default:
			mark, err = history(ctx, a)
		}
		if err != nil {
			l.unopened(a, err)
			continue
		}
		list = append(list, slashing.Admission{Mark: mark, Assignment: a.Epoch})
		ready = append(ready, a)
	}
	if ready, err = l.admit(ctx, epoch, list, ready); err != nil {
		return err
	}
	defer func() { l.app.noteOpenings(ctx, l.home, "signer serve", &failed) }()
	var mu sync.Mutex
	begun := time.Now()
	before := l.to.Keys.Len()
	defer forOpening(len(ready))()
	err = inParallel(ctx, l.home.readers(l.workers), each(ready), func(ctx context.Context, a record.Assignment) error {
		err := l.openOne(ctx, a)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			l.unopened(a, err)
			return nil // the others are served
		}
		l.serving[a.Pubkey] = a.Epoch
		return nil
	})
	if err != nil {
		return err
	}
	if len(ready) == 0 {
		return nil
	}
	l.log.Info("keys opened", "opened", l.to.Keys.Len()-before, "of", len(ready), "took", time.Since(begun).Round(time.Millisecond).String())
	return nil
}

// admit takes keys into the ledger and returns those that are ready now. A key
// that was assigned on meanwhile, and is another signer's in a table that all
// share, keeps the others from nothing.
func (l *loader) admit(ctx context.Context, epoch uint64, list []slashing.Admission, ready []record.Assignment) ([]record.Assignment, error) {
	another := func(err error) bool { return errors.Is(err, slashing.ErrHolder) || errors.Is(err, record.ErrStale) }
	err := l.ledger.Admit(ctx, epoch, list)
	if !another(err) || !l.home.remote() {
		return ready, err
	}
	for _, one := range list {
		err := l.ledger.Admit(ctx, epoch, []slashing.Admission{one})
		if err != nil && !another(err) {
			return nil, err
		}
		if err == nil {
			continue
		}
		ready = slices.DeleteFunc(ready, func(a record.Assignment) bool {
			if a.Pubkey != one.Mark.Pubkey {
				return false
			}
			l.unopened(a, err)
			return true
		})
	}
	return ready, nil
}

func (l *loader) unopened(a record.Assignment, err error) {
	u := unopened{assignment: a.Epoch, why: err.Error(), again: errors.Is(err, errNotReleased)}
	l.failed[a.Pubkey] = u
	if !u.again {
		l.log.Error("a key is not served", "pubkey", a.Pubkey.String(), "why", u.why)
	}
}

// sayWaiting logs how many keys wait for their former signer, when that
// changes.
func (l *loader) sayWaiting() {
	n, why := 0, ""
	for _, u := range l.failed {
		if u.again {
			n, why = n+1, u.why
		}
	}
	if n != l.waiting && n > 0 {
		l.log.Info("keys are not served yet", "keys", n, "why", why)
	}
	l.waiting = n
}

// openOne judges a key's record, opens it, and hands it to the signer.
func (l *loader) openOne(ctx context.Context, a record.Assignment) error {
	v, sealing, err := l.record(ctx, a.Pubkey)
	if err != nil {
		return err
	}
	opened, err := openSigning(ctx, l.keys, v, sealing)
	if err != nil {
		return err
	}
	secret := opened.Key
	opened.Key = nil // the signer's from here on
	opened.Wipe()
	plan := make([]eth.Gwei, len(v.Deposits))
	for i, d := range v.Deposits {
		plan[i] = d.Amount
	}
	return l.to.Keys.Put(signer.Key{Pubkey: v.Pubkey, Secret: secret, Credentials: v.Credentials, Plan: plan, Path: v.Path})
}

// record is what is known of a key: by its certificate, verified against the
// trust file and for the home's network; of one that was imported, by its
// import, which vouches for no deposit.
func (l *loader) record(ctx context.Context, pubkey eth.Pubkey) (record.Validator, record.Sealing, error) {
	b, v, err := l.home.born(ctx, pubkey)
	if errors.Is(err, record.ErrNotFound) {
		i, err := l.home.foreign(ctx, pubkey)
		known := foreignValidator(i.Imported)
		known.Deposits = nil
		return known, i.Sealing, err
	}
	if err == nil && v.NetworkDigest != l.home.generator.Network.Digest() {
		err = fmt.Errorf("it was certified for network %q with other parameters", b.Network)
	}
	return b.Validator, b.Sealing, err
}

// errNotReleased says that a key's former signer may still sign for it.
var errNotReleased = errors.New("its former signer has not let go of it yet")

// errSetBack says that the store is older than the ledger.
var errSetBack = errors.New("the store was set back to an earlier time")

// history is all that was signed for a key before this assignment, as far as
// it must be known: nothing for one that was born here and goes to its first
// signer; what the former signer noted when it let go; and where nobody can
// tell, everything up to now.
func (l *loader) history(ctx context.Context, a record.Assignment) (slashing.Mark, error) {
	n, err := l.home.notes(ctx, a.Pubkey, a.Epoch)
	if err != nil || n.whole {
		return n.mark, err
	}
	mark, err := l.unnoted(ctx, a, n.former)
	return mark.Raise(n.mark), err
}

// unnoted is the history of a key whose former signer noted nothing.
func (l *loader) unnoted(ctx context.Context, a record.Assignment, former string) (slashing.Mark, error) {
	mark, settled, err := l.outset(ctx, a)
	switch {
	case settled || err != nil:
		return mark, err
	case former == "" || strings.HasPrefix(former, external):
		return l.floor(ctx, a, formerUnknown)
	}
	return l.former(ctx, a, former)
}

const formerUnknown = "who signed for it before is not known here"

// outset is the history of a key with which no signer of ours can have signed,
// by where it comes from and when it was born. settled is false where one may
// have: it had an assignment before.
func (l *loader) outset(ctx context.Context, a record.Assignment) (mark slashing.Mark, settled bool, err error) {
	order, born := record.ImportedOrder, time.Time{}
	if b, err := l.home.records.Birth(ctx, a.Pubkey); err == nil {
		order, born = b.Order, b.Created
	} else if !errors.Is(err, record.ErrNotFound) {
		return mark, false, err
	}
	unknown, err := l.unknown(ctx, order)
	switch {
	case err != nil:
		return mark, false, err
	case unknown != "":
		mark, err = l.floor(ctx, a, "what it signed before is not known here: "+unknown)
	case a.Epoch == 1 && l.home.newborn(l.app, born):
		mark.Pubkey = a.Pubkey
	case a.Epoch == 1: // perhaps this home is an older copy of the one that signed
		mark, err = l.floor(ctx, a, "it was born a while ago, and nothing here tells what was signed since")
	default:
		return mark, false, nil
	}
	return mark, true, err
}

// unknown says why nothing is known of what an order's keys signed; "" if
// there is no reason. Asked once in a pass for each order.
func (l *loader) unknown(ctx context.Context, order string) (string, error) {
	if why, ok := l.orders[order]; ok {
		return why, nil
	}
	_, why, err := l.home.outside(ctx, []string{order})
	if err == nil {
		l.orders[order] = why[order]
	}
	return why[order], err
}

// newborn says that a key cannot have signed anything slashable yet: between
// a deposit and a validator's first duty lie more than five epochs
// (MAX_SEED_LOOKAHEAD and one more, consensus specs,
// compute_activation_exit_epoch). Where the network's times are not known,
// the store's word must do.
func (h *home) newborn(a *app, born time.Time) bool {
	n := h.generator.Network
	if n.SecondsPerSlot == 0 || n.SlotsPerEpoch == 0 || n.GenesisTime == 0 {
		return true
	}
	age := a.now().Sub(born)
	return age > -time.Minute && age < 5*time.Duration(n.SecondsPerSlot*n.SlotsPerEpoch)*time.Second
}

// former carries the mark from a signer that has not noted it: out of its
// ledger where that is on this machine and nobody has it open, else a floor,
// once it is certain that it does not sign any more.
func (l *loader) former(ctx context.Context, a record.Assignment, name string) (slashing.Mark, error) {
	lease, err := l.leases.Lease(ctx, name)
	if errors.Is(err, record.ErrNotFound) {
		return l.floor(ctx, a, "its former signer "+name+" is not one of this machine's")
	}
	if err != nil {
		return slashing.Mark{}, err
	}
	if err := l.home.releaseStopped(ctx, l.app, lease); errors.Is(err, errBusy) {
		return slashing.Mark{}, fmt.Errorf("%w: %s runs", errNotReleased, name) // it will: it looks at its assignments
	} else if err == nil {
		if n, err := l.home.notes(ctx, a.Pubkey, a.Epoch); err != nil || n.whole {
			return n.mark, err
		}
	}
	seen, ok := l.watching[name]
	if !ok || seen.beat != lease.Beat {
		seen = formerSigner{lease.Beat, bootTime()}
		l.watching[name] = seen
	}
	if lease.Holder != "" && bootTime()-seen.since < signer.Watch {
		return slashing.Mark{}, fmt.Errorf("%w: %s, %s", errNotReleased, name, lease.Where)
	}
	return l.floor(ctx, a, "its former signer "+name+" left no note of what it signed")
}

// releaseStopped writes the notes that a signer of this machine would have
// written, if it is stopped and its ledger is the one that its lease names.
func (h *home) releaseStopped(ctx context.Context, a *app, lease record.Lease) error {
	store := h.signers()
	ledger, err := store.open(ctx, lease.Name)
	if err != nil {
		return err
	}
	defer func() { _ = ledger.Close() }() // its writes are durable already
	if lease.Holder != "" && lease.Where != store.where(lease.Name) {
		return fmt.Errorf("%w: its lease is held by another file, %s", signer.ErrLedger, lease.Where)
	}
	mark, err := ledger.Watermark(ctx)
	if err != nil {
		return err
	}
	if ledger.Info().ID != lease.Ledger || mark < lease.Watermark {
		return signer.ErrLedger
	}
	return h.releaseOthers(ctx, a, ledger)
}

// releaseOthers notes what a signer that is stopped signed for keys that are not
// its own any more.
func (h *home) releaseOthers(ctx context.Context, a *app, ledger signerLedger) error {
	admitted, err := ledger.Admitted(ctx)
	if err != nil {
		return err
	}
	for assigned, err := range h.records.Assigned(ctx, ledger.Info().Signer) {
		if err != nil {
			return err
		}
		if admitted[assigned.Pubkey] == assigned.Epoch {
			delete(admitted, assigned.Pubkey) // still its own
		}
	}
	return h.release(ctx, a, ledger, admitted)
}

// floor is a mark that allows nothing up to now, noted with the reason.
func (l *loader) floor(ctx context.Context, a record.Assignment, why string) (slashing.Mark, error) {
	epoch, known := signer.EpochAt(l.home.generator.Network, l.app.now().Unix())
	if !known {
		return slashing.Mark{}, fmt.Errorf("%s, and neither is the current epoch of %s: import its slashing-protection file with stakeseal signer import", why, l.home.generator.Network.Name)
	}
	m := slashing.Floor(a.Pubkey, epoch, l.home.slotsPerEpoch())
	err := l.home.note(ctx, record.Event{Time: record.Time(l.app.now()), Kind: eventFloor, Pubkey: a.Pubkey,
		Detail: map[string]string{"signer": l.name, "why": why, "epoch": fmt.Sprint(epoch), "assignment": fmt.Sprint(a.Epoch)}})
	if err != nil {
		return slashing.Mark{}, err
	}
	l.log.Warn("no duties for a key until nothing it may have signed can conflict", "pubkey", a.Pubkey.String(), "why", why,
		"first attestation in epoch", m.Target+1, "first block in slot", m.Slot+1)
	return m, nil
}

// stamp changes whenever the store was written: the size and time of its
// files.
func (h *home) stamp() string {
	text := ""
	for _, end := range []string{"", "-wal"} {
		info, err := os.Stat(h.path(h.generator.Store.Rest) + end)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err.Error()
		}
		text += fmt.Sprint(info.Size(), " ", info.ModTime().UnixNano(), ";")
	}
	return text
}
