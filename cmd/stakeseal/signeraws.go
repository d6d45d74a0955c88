package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"

	awsdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/aws/dynamodb"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/signer"
	"github.com/stakeseal/stakeseal/slashing"
)

// tableSigners keeps marks and leases in the tables beside the records. There
// is one mark of a key for all signers, and every signature swaps it, so two
// processes never sign two conflicting messages, whatever each believes about
// its lease. In the home stands a file for each signer that is only locked:
// it tells a signer that its former process on this machine is dead.
type tableSigners struct{ h *home }

var _ signerStore = (*tableSigners)(nil)

// errNoLedger: the table has none of the signer's name.
var errNoLedger = errors.New("there is no slashing ledger of the signer")

const toSign = "use the slashing ledger"

// signersOnly are the roles that may.
var signersOnly = []string{"signer"}

// store is the tables, asked as a duty needs it. A home that is not on AWS has
// none.
func (t *tableSigners) store() (*dynamodb.Store, *rights, error) {
	if t.h.cloud == nil {
		return nil, nil, errors.New("the home's store is not in tables")
	}
	tables, err := dynamodb.Beside(t.h.generator.Store.Rest)
	if err != nil {
		return nil, nil, err
	}
	store, err := dynamodb.New(awsdynamodb.NewFromConfig(t.h.cloud.DutyConfig()), tables)
	return store, t.h.rights, err
}

func (t *tableSigners) lockPath(name string) string { return t.h.signerPath(name, ".lock") }

func (t *tableSigners) place(string) string {
	return "the table " + t.h.rights.installation + "-ledger"
}

// where has the caller's session too, which on a machine of EC2 is named for
// that machine: disks that were copied have the same files and host names.
func (t *tableSigners) where(name string) string {
	sum := sha256.Sum256([]byte(t.h.who()))
	return fmt.Sprintf("%s:%x", t.h.whereIs(t.lockPath(name)), sum[:6])
}

func (t *tableSigners) prepare() error { return t.h.signersDir() }

func (t *tableSigners) leases() (record.Leases, func(), error) {
	store, rights, err := t.store()
	if err != nil {
		return nil, nil, err
	}
	return &guardedLeases{store, rights}, func() {}, nil
}

func (t *tableSigners) create(ctx context.Context, name string, root eth.Root) (slashing.Info, error) {
	store, rights, err := t.store()
	if err != nil {
		return slashing.Info{}, err
	}
	info, err := store.CreateLedger(ctx, name, root)
	return info, rights.explain(err, toSign, signersOnly)
}

// look opens a ledger to read of it.
func (t *tableSigners) look(ctx context.Context, name string) (*dynamodb.Ledger, error) {
	store, rights, err := t.store()
	if err != nil {
		return nil, err
	}
	ledger, err := store.OpenLedger(ctx, name)
	return ledger, rights.explain(err, toSign, signersOnly)
}

func (t *tableSigners) open(ctx context.Context, name string) (signerLedger, error) {
	if err := t.h.signersDir(); err != nil { // init may have run on another machine
		return nil, err
	}
	lock, err := lockFile(t.lockPath(name))
	if err != nil {
		return nil, fmt.Errorf("couldn't open the ledger of %s: %w", name, err)
	}
	ledger, err := t.look(ctx, name)
	if errors.Is(err, record.ErrNotFound) {
		err = fmt.Errorf("%w: %w", errNoLedger, err)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &lockedLedger{ledger, lock}, nil
}

func (t *tableSigners) replace(ctx context.Context, name string, root eth.Root, _ string) (slashing.Info, error) {
	store, rights, err := t.store()
	if err != nil {
		return slashing.Info{}, err
	}
	var info slashing.Info
	ledger, err := store.OpenLedger(ctx, name)
	switch {
	case err == nil:
		info, err = store.ReplaceLedger(ctx, ledger.Info(), root)
		err = errors.Join(err, ledger.Close())
	case errors.Is(err, record.ErrNotFound):
		info, err = store.CreateLedger(ctx, name, root)
	}
	return info, rights.explain(err, toSign, signersOnly)
}

// whole says whether the table is the one that was signed by last: of no
// signer has the lease, which is in a table of its own, seen more than the
// table holds now. A table that was restored to an earlier time would let what
// was signed since be signed again, by whoever takes a key over. The lease is
// read first: while a signer runs, its head is always ahead.
func (t *tableSigners) whole(ctx context.Context) error {
	leases, done, err := t.leases()
	if err != nil {
		return err
	}
	defer done()
	for lease, err := range leases.Leases(ctx) {
		if err != nil {
			return err
		}
		if err := t.wholeFor(ctx, lease); err != nil {
			return err
		}
	}
	return nil
}

func (t *tableSigners) wholeFor(ctx context.Context, lease record.Lease) error {
	ledger, err := t.look(ctx, lease.Name)
	if errors.Is(err, record.ErrNotFound) {
		return fmt.Errorf("%w: there is none of %s", signer.ErrLedger, lease.Name)
	}
	if err != nil {
		return err
	}
	mark, err := ledger.Watermark(ctx)
	switch {
	case err != nil:
		return err
	case ledger.Info().ID != lease.Ledger:
		return fmt.Errorf("%w: the lease of %s names %s, the table has %s", signer.ErrLedger, lease.Name, lease.Ledger, ledger.Info().ID)
	case mark < lease.Watermark:
		return fmt.Errorf("%w: the lease of %s saw watermark %d, the table has %d", signer.ErrLedger, lease.Name, lease.Watermark, mark)
	}
	return nil
}

// afterRestore raises the floors of a signer that starts where the table is
// older than what any signer signed by it: with the records restored to the
// same time, keys that another has had since are this one's again, and nothing
// of its own tells.
func (h *home) afterRestore(ctx context.Context, a *app, ledger signerLedger, held uint64, log *slog.Logger) error {
	broken := (&tableSigners{h}).whole(ctx)
	if !errors.Is(broken, signer.ErrLedger) {
		return broken
	}
	epoch, known := signer.EpochAt(h.generator.Network, a.now().Unix())
	if !known {
		return broken
	}
	log.Warn("no duties until nothing that may have been signed can conflict: the ledger's table is older than what was signed by it", "why", broken.Error(), "epoch", epoch)
	return h.floorAll(ctx, ledger, held, epoch)
}

// floorOthers raises the marks of all other signers' keys where the ledger of
// one was lost: a table loses one only with all, and once the lost one is
// replaced no lease tells of it any more.
func (t *tableSigners) floorOthers(ctx context.Context, name string, epoch uint64) error {
	leases, done, err := t.leases()
	if err != nil {
		return err
	}
	defer done()
	for lease, err := range leases.Leases(ctx) {
		if err != nil {
			return err
		}
		if lease.Name == name {
			continue
		}
		ledger, err := t.look(ctx, lease.Name)
		if errors.Is(err, record.ErrNotFound) {
			continue // lost too: it is refused until it is replaced
		}
		if err != nil {
			return err
		}
		held, err := ledger.Epoch(ctx)
		if err != nil {
			return err
		}
		if err := t.h.floorAll(ctx, ledger, held, epoch); err != nil {
			return fmt.Errorf("couldn't raise the floors of %s's keys: %w", lease.Name, t.h.rights.explain(err, toSign, signersOnly))
		}
	}
	return nil
}

// fence takes keys away from all signers of a home on AWS, for other software
// (external:NAME), under the assignments that it has of them by now, and
// returns all that was signed for them here. From its return on no process of
// ours signs for them, also one that runs and knows of nothing: their marks
// are another's, and every signature swaps the mark. Called again it does the
// same again. One that was assigned on meanwhile is slashing.ErrHolder. floors
// are the least that the marks of some keys are raised to.
func (h *home) fence(ctx context.Context, to string, root eth.Root, assignments map[eth.Pubkey]uint64, floors map[eth.Pubkey]slashing.Mark) (map[eth.Pubkey]slashing.Mark, error) {
	if !strings.HasPrefix(to, external) {
		return nil, fmt.Errorf("couldn't take the keys away: %q is not other software", to)
	}
	t := &tableSigners{h}
	_, err := t.create(ctx, to, root)
	if err != nil && !errors.Is(err, record.ErrExists) {
		return nil, err
	}
	ledger, err := t.look(ctx, to)
	if err != nil {
		return nil, err
	}
	epoch, err := ledger.Epoch(ctx)
	if err != nil {
		return nil, err
	}
	var list []slashing.Admission
	for pubkey, assignment := range assignments {
		mark := floors[pubkey]
		mark.Pubkey = pubkey
		list = append(list, slashing.Admission{Mark: mark, Assignment: assignment})
	}
	if err := ledger.Admit(ctx, epoch, list); err != nil {
		return nil, fmt.Errorf("couldn't take the keys away from our signers: %w", h.rights.explain(err, toSign, signersOnly))
	}
	marks := map[eth.Pubkey]slashing.Mark{}
	for m, err := range ledger.Marks(ctx) {
		if err != nil {
			return nil, err
		}
		if _, ok := assignments[m.Pubkey]; ok {
			marks[m.Pubkey] = m
		}
	}
	if len(marks) != len(assignments) {
		return nil, fmt.Errorf("%w: the ledger has %d marks of %d keys that were taken away", record.ErrCorrupt, len(marks), len(assignments))
	}
	return marks, nil
}

// untold finds those keys of a hand-over of whose history the table has too
// little: they were with other software and no signer of ours served them
// since, or the table is older than what was signed by it. Keys that an earlier
// run of the hand-over fenced have in the table what was known then.
func (h *home) untold(ctx context.Context, f handoverFlags, list []*handed) error {
	t := &tableSigners{h}
	broken := t.whole(ctx)
	if broken != nil && !errors.Is(broken, signer.ErrLedger) {
		return broken
	}
	ledger, err := t.look(ctx, external+f.signer)
	if err != nil {
		return err
	}
	fenced, err := ledger.Admitted(ctx)
	if err != nil {
		return err
	}
	pubkeys := make([]eth.Pubkey, len(list))
	for i, k := range list {
		pubkeys[i] = k.validator.Pubkey
	}
	complete, err := ledger.Complete(ctx, pubkeys)
	if err != nil {
		return err
	}
	for _, k := range list {
		pubkey, last := k.validator.Pubkey, k.assigned.Epoch
		if k.assigned.Signer != f.signer {
			last--
		}
		again := k.assigned.Signer != f.signer && fenced[pubkey] == k.assigned.Epoch
		k.floor = broken != nil || !again && last > 1 && complete[pubkey] == 0
	}
	return nil
}

// lockedLedger is a ledger whose name this process has on this machine.
type lockedLedger struct {
	*dynamodb.Ledger
	lock *os.File
}

// End has nothing to do: a key that went has another signer in its mark.
func (l *lockedLedger) End(context.Context, map[eth.Pubkey]uint64) error { return nil }

// Ended are none: such a key is not admitted to this signer any more.
func (l *lockedLedger) Ended(context.Context) (map[eth.Pubkey]bool, error) { return nil, nil }

// Close lets go of the name.
func (l *lockedLedger) Close() error { return errors.Join(l.Ledger.Close(), l.lock.Close()) }

// lockFile locks a file, which is made if it is not there, until it is closed
// or the process ends, however that happens.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("%s: %w", path, errBusy)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// guardedLeases are the leases with denials explained.
type guardedLeases struct {
	*dynamodb.Store
	rights *rights
}

var _ record.Leases = (*guardedLeases)(nil)

// Lease implements record.Leases.
func (g *guardedLeases) Lease(ctx context.Context, name string) (record.Lease, error) {
	lease, err := g.Store.Lease(ctx, name)
	return lease, g.rights.explain(err, toSign, signersOnly)
}

// Take implements record.Leases.
func (g *guardedLeases) Take(ctx context.Context, l record.Lease) error {
	return g.rights.explain(g.Store.Take(ctx, l), toSign, signersOnly)
}

// histories is what tells of each key all that was signed for it before its
// assignment, as far as it must be known.
func (l *loader) histories(ctx context.Context, fresh []record.Assignment) (func(context.Context, record.Assignment) (slashing.Mark, error), error) {
	tables, ok := l.home.signers().(*tableSigners)
	if !ok || len(fresh) == 0 {
		return l.history, nil
	}
	pubkeys := make([]eth.Pubkey, len(fresh))
	for i, a := range fresh {
		pubkeys[i] = a.Pubkey
	}
	complete, err := l.ledger.Complete(ctx, pubkeys)
	if err != nil {
		return nil, err
	}
	broken := tables.whole(ctx)
	if broken != nil && !errors.Is(broken, signer.ErrLedger) {
		return nil, broken
	}
	return func(ctx context.Context, a record.Assignment) (slashing.Mark, error) {
		return l.carriedOver(ctx, a, complete[a.Pubkey], broken)
	}, nil
}

// carriedOver is history where all our signers share one table of marks: what
// the table says of the assignment before is all that was signed under it, and
// is there already. Notes of former signers are not believed: more roles may
// write events than may sign.
func (l *loader) carriedOver(ctx context.Context, a record.Assignment, complete uint64, broken error) (slashing.Mark, error) {
	if complete > 0 && complete == a.Epoch-1 {
		if broken != nil {
			return l.floor(ctx, a, "the ledger's table is older than what was signed by it: "+broken.Error())
		}
		return slashing.Mark{Pubkey: a.Pubkey}, nil
	}
	if mark, settled, err := l.outset(ctx, a); settled || err != nil {
		return mark, err
	}
	return l.floor(ctx, a, formerUnknown)
}
