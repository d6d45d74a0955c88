package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/signer"
	"github.com/stakeseal/stakeseal/slashing"
)

func (a *app) signerVerb() *cobra.Command {
	cmd := &cobra.Command{Use: "signer", Short: "Open assigned keys in memory and sign for validator clients", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(a.signerInitVerb(), a.signerServeVerb(), a.signerStatusVerb(), a.signerMoveVerb(), a.signerTakeoverVerb(),
		a.signerExportVerb(), a.signerImportVerb())
	return cmd
}

// Kinds of events that only signers write.
const (
	eventInitialised = "signer-initialised"
	eventServing     = "serving"
	eventReleased    = "released"
	eventFloor       = "floor-raised"
)

func (a *app) signerInitVerb() *cobra.Command {
	var root string
	var lost bool
	var epoch uint64
	cmd := &cobra.Command{
		Use:   "init NAME",
		Short: "Make a signer's slashing ledger and its lease, once",
		Long: `Make the slashing ledger of the signer NAME (signers/NAME.db in the home) and its
lease, once. The store notes that it was made, and the lease keeps how far it has
come: a ledger that is missing, or a copy from before, is then refused instead of
being taken for a new one. Nothing else ever makes a ledger.

With --lost-ledger it makes a new one in the place of one that is gone for good.
What the assigned keys signed is not known then, so nothing is signed for them
before an epoch in which the lost ledger cannot have signed; it says which duties
that costs.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.signerInit(cmd.Context(), args[0], root, lost, epoch)
		},
	}
	cmd.Flags().StringVar(&root, "genesis-validators-root", "", "the `ROOT` of a network whose root is not known here (ephemery, custom ones)")
	cmd.Flags().BoolVar(&lost, "lost-ledger", false, "replace a ledger that is gone for good, at the cost of the next duties")
	cmd.Flags().Uint64Var(&epoch, "epoch", 0, "with --lost-ledger, the current `EPOCH` of a network whose genesis time is not known here")
	return cmd
}

// signerHome opens a home for its signers, or one of them.
func (a *app) signerHome(ctx context.Context, name string) (*home, error) {
	h, err := a.openHome(ctx)
	if err != nil {
		return nil, err
	}
	if name != "" {
		if err := h.knownSigner(name); err != nil {
			h.close()
			return nil, err
		}
	}
	return h, nil
}

func (a *app) signerInit(ctx context.Context, name, rootText string, lost bool, epoch uint64) error {
	h, err := a.signerHome(ctx, name)
	if err != nil {
		return err
	}
	defer h.close()
	root, err := genesisRoot(h.generator.Network, rootText)
	if err != nil {
		return err
	}
	store := h.signers()
	if err := store.prepare(); err != nil {
		return err
	}
	leases, done, err := store.leases()
	if err != nil {
		return err
	}
	defer done()
	old, err := leases.Lease(ctx, name)
	if err != nil && !errors.Is(err, record.ErrNotFound) {
		return err
	}
	known := err == nil
	if !known {
		if known, err = h.everInitialised(ctx, name); err != nil {
			return err
		}
	}
	switch {
	case known && !lost:
		return fail(exitConflict, "stakeseal signer serve "+name+" starts it; if its ledger is gone for good: stakeseal signer init --lost-ledger "+name, "signer %s was initialised already", name)
	case !known && lost:
		return usage("leave --lost-ledger out", "signer %s was never initialised: it has lost nothing", name)
	case lost:
		return a.signerLost(ctx, h, leases, old, name, root, epoch)
	}
	info, err := h.freshLedger(ctx, name, root)
	if err != nil {
		return err
	}
	if err := h.witness(ctx, a, leases, old, info); err != nil {
		return err
	}
	a.say("signer %s is initialised: its ledger is in %s", name, store.place(name))
	identity := "FILE"
	if h.remote() {
		identity = "awskms:SIGNING_KEY_ARN"
	}
	a.say("next: stakeseal assign --to %s --unassigned, then stakeseal signer serve %s --identity %s", name, name, identity)
	return nil
}

// everInitialised says whether the store saw a ledger of the signer.
func (h *home) everInitialised(ctx context.Context, name string) (bool, error) {
	for e, err := range h.records.Events(ctx, record.EventQuery{Kind: eventInitialised}) {
		if err != nil {
			return false, err
		}
		if e.Detail["signer"] == name {
			return true, nil
		}
	}
	return false, nil
}

// freshLedger makes the signer's ledger, or takes one that an init which was
// cut short left: nothing was signed by it, as it has no lease.
func (h *home) freshLedger(ctx context.Context, name string, root eth.Root) (slashing.Info, error) {
	store := h.signers()
	info, err := store.create(ctx, name, root)
	if !errors.Is(err, record.ErrExists) {
		return info, err
	}
	l, err := store.open(ctx, name)
	if err != nil {
		return info, err
	}
	defer func() { _ = l.Close() }() // its writes are durable already
	mark, err := l.Watermark(ctx)
	if err != nil {
		return info, err
	}
	if info = l.Info(); mark > 0 || info.Signer != name || info.Root != root {
		return info, fail(exitConflict, "move it away: it is not from an init that was cut short", "%s holds a ledger that was used", store.place(name))
	}
	return info, nil
}

// witness notes the ledger in the store and in the lease: from then on no
// other is taken for it. The note comes first: cut short between the two, the
// signer counts as initialised, and its ledger as lost.
func (h *home) witness(ctx context.Context, a *app, leases record.Leases, old record.Lease, info slashing.Info) error {
	ctx = context.WithoutCancel(ctx)
	now := record.Time(a.now())
	next := record.Lease{Name: info.Signer, Epoch: old.Epoch + 1, Beat: old.Beat + 1, Ledger: info.ID, Where: h.signers().where(info.Signer), Time: now}
	err := h.note(ctx, record.Event{Time: now, Kind: eventInitialised, Once: fmt.Sprintf("signer %s %s", info.Signer, info.ID),
		Detail: map[string]string{"signer": info.Signer, "ledger": info.ID, "epoch": fmt.Sprint(next.Epoch)}})
	if err != nil && !errors.Is(err, record.ErrExists) { // of this very ledger: the lease decides
		return err
	}
	return leases.Take(ctx, next)
}

// signerLost makes a new ledger in the place of a lost one.
func (a *app) signerLost(ctx context.Context, h *home, leases record.Leases, old record.Lease, name string, root eth.Root, epoch uint64) error {
	store := h.signers()
	l, err := store.open(ctx, name)
	switch {
	case err == nil:
		mark, err := l.Watermark(ctx)
		info := l.Info()
		if err := errors.Join(err, l.Close()); err != nil {
			return err
		}
		if info.ID == old.Ledger && mark >= old.Watermark {
			return fail(exitConflict, "stakeseal signer serve "+name+" takes it as it is", "the ledger of %s is there and complete: nothing is lost", name)
		}
	case errors.Is(err, errBusy):
		return fail(exitConflict, "stop it first", "signer %s is running, with the ledger that you say is lost", name)
	}
	given := epoch
	clock, known := signer.EpochAt(h.generator.Network, a.now().Unix())
	switch {
	case known && given != 0: // a floor below what was signed protects nothing, one far above ends the keys' duties
		return usage("leave --epoch out", "the current epoch of %s is known here, by this machine's clock: %d", h.generator.Network.Name, clock)
	case known:
		epoch = clock
	case given == 0:
		return usage("a node of the network tells: give the current one with --epoch", "the genesis time of %s is not known here", h.generator.Network.Name)
	case given > latestEpoch:
		return usage("it counts epochs, of 32 slots mostly", "no network is in epoch %d yet", given)
	}
	count := 0
	for _, err := range h.records.Assigned(ctx, name) {
		if err != nil {
			return err
		}
		count++
	}
	a.sayFloor(h, epoch, count)
	if err := a.confirm("Make a new ledger for " + name + "? The one that is lost must never sign again."); err != nil {
		return err
	}
	if old.Holder != "" { // nobody may still sign by the lost one: an unlinked file goes on being written
		a.say("watching for %s whether somebody still holds its lease", signer.Watch)
		terms := h.terms(a, leases, name, "", nil)
		if old, err = signer.WaitOut(ctx, terms, old); err != nil {
			return err
		}
	}
	// Somebody may have signed by the lost ledger while the question stood, or
	// was watched: the floor is as of now.
	if later, known := signer.EpochAt(h.generator.Network, a.now().Unix()); known && later > epoch {
		epoch = later
		a.sayFloor(h, epoch, count)
	}
	var list []slashing.Admission
	for assigned, err := range h.records.Assigned(ctx, name) {
		if err != nil {
			return err
		}
		list = append(list, slashing.Admission{Mark: slashing.Floor(assigned.Pubkey, epoch, h.slotsPerEpoch()), Assignment: assigned.Epoch})
	}
	if tables, ok := store.(*tableSigners); ok && old.Ledger != "" { // a lease tells, which signers alone write
		a.say("the table is not the one that was signed by last: the keys of all other signers pause as well")
		if err := tables.floorOthers(ctx, name, epoch); err != nil {
			return err
		}
	}
	info, err := store.replace(ctx, name, root, fmt.Sprintf(".lost-%d", a.now().Unix()))
	if err != nil {
		return err
	}
	if l, err = store.open(ctx, name); err != nil {
		return err
	}
	held, err := l.Epoch(ctx)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	if err := errors.Join(l.Admit(ctx, held, list), l.Close()); err != nil {
		return err
	}
	if err := h.witness(ctx, a, leases, old, info); err != nil {
		return err
	}
	a.say("signer %s has a new ledger", name)
	return nil
}

// latestEpoch is in the year 2830 of mainnet: no clock is there, and nothing
// that is counted from it overflows.
const latestEpoch = 1 << 26

func (h *home) slotsPerEpoch() uint64 {
	if n := h.generator.Network.SlotsPerEpoch; n > 0 {
		return n
	}
	return 32
}

// sayFloor says which duties it costs that nothing is known of what was
// signed.
func (a *app) sayFloor(h *home, epoch uint64, keys int) {
	floor := slashing.Floor(eth.Pubkey{}, epoch, h.slotsPerEpoch())
	a.say("%d keys sign no attestation before epoch %d (%d epochs from now), and no block before slot %d; sync committee duties go on",
		keys, floor.Target+1, floor.Target+1-epoch, floor.Slot+1)
}

// terms are what a lease of this home is taken with.
func (h *home) terms(a *app, leases record.Leases, name, ledger string, watermark func(context.Context) (uint64, error)) signer.Terms {
	return signer.Terms{Leases: leases, Name: name, Ledger: ledger, Where: h.signers().where(name), Watermark: watermark, Clock: bootTime, Now: a.now}
}

// signerFailure gives errors of a signer's their exit code and hint.
func signerFailure(name string, err error) error {
	noLedger := "stakeseal signer init " + name + " makes it, once; one that is lost for good is replaced with --lost-ledger"
	err = explainedBy([]meant{
		{signer.ErrNotInitialised, exitUsage, "stakeseal signer init " + name + " does, once"},
		{signer.ErrLedger, exitRefused, "put the ledger back that was used last; if it is gone for good: stakeseal signer init --lost-ledger " + name},
		{signer.ErrHeld, exitConflict, "one process signs under a name: stop the other, or give this one a name of its own"},
		{signer.ErrStopped, exitConflict, "another process took its lease"},
		{signer.ErrExposed, exitUsage, "signers/" + name + ".yaml names clients and a TLS certificate; or listen on 127.0.0.1"},
		{errNoLedger, exitUsage, noLedger},
		{errBusy, exitConflict, "it is running already: one process signs under a name"},
		{slashing.ErrInterchange, exitUsage, "the EIP-3076 file of the same network, whole"},
		{config.ErrSettings, exitUsage, "docs/signing.md shows how it should look"},
	}, err)
	var f *failure
	if !errors.As(err, &f) && errors.Is(err, fs.ErrNotExist) && strings.Contains(err.Error(), signersFolder) {
		return fail(exitUsage, noLedger, "%w", err)
	}
	return err
}
