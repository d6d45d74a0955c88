package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/sqlite"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/signer"
	"github.com/stakeseal/stakeseal/slashing"
)

// signerLedger is one signer's slashing ledger, in a file or in AWS's table.
type signerLedger interface {
	slashing.Ledger
	Info() slashing.Info
	// Watermark rises with what is signed: an older copy has a lower one.
	Watermark(ctx context.Context) (uint64, error)
	// Hold puts the ledger under an epoch of the lease, Epoch says which.
	Hold(ctx context.Context, epoch uint64) error
	Epoch(ctx context.Context) (uint64, error)
	// Admit takes keys in under their assignments; Admitted are this signer's.
	Admit(ctx context.Context, epoch uint64, list []slashing.Admission) error
	Admitted(ctx context.Context) (map[eth.Pubkey]uint64, error)
	// End notes that what was signed for keys under their assignments was noted
	// for the next signer: this ledger does not know what came after. Ended are
	// the keys of which that is so, until they are admitted again.
	End(ctx context.Context, keys map[eth.Pubkey]uint64) error
	Ended(ctx context.Context) (map[eth.Pubkey]bool, error)
	// Complete is, of those keys that the ledger knows, the assignment under
	// which its mark is all that was ever signed.
	Complete(ctx context.Context, pubkeys []eth.Pubkey) (map[eth.Pubkey]uint64, error)
	Close() error
}

// signerStore is where a home keeps what must outlive its signers.
type signerStore interface {
	// prepare makes what is there once for all signers.
	prepare() error
	// leases opens the leases; fs.ErrNotExist where nobody prepared. done ends
	// their use.
	leases() (all record.Leases, done func(), err error)
	// create makes the ledger of a name; record.ErrExists if there is one.
	create(ctx context.Context, name string, root eth.Root) (slashing.Info, error)
	// open opens it for this process, alone on this machine (errBusy). One that
	// is missing is fs.ErrNotExist or record.ErrNotFound.
	open(ctx context.Context, name string) (signerLedger, error)
	// replace puts a new one in the place of one that is lost; of files what is
	// left stays under a name with this ending.
	replace(ctx context.Context, name string, root eth.Root, ending string) (slashing.Info, error)
	// place says where the ledger of a name is, for people.
	place(name string) string
	// where is what a lease names: this user, this machine, and the number of
	// the file that open locks. No other process has the same while we have it
	// open.
	where(name string) string
}

// errBusy: another process of this machine signs under the name.
var errBusy = sqlite.ErrBusy

// remote says that marks and leases are outside of this machine.
func (h *home) remote() bool { return h.generator.Store.Scheme == "dynamodb" }

// signers is where this home's signers keep what they must not forget.
func (h *home) signers() signerStore {
	if h.remote() {
		return &tableSigners{h}
	}
	return &fileSigners{h}
}

// fileSigners keeps a file for each ledger, and one for the leases of all.
type fileSigners struct{ h *home }

var _ signerStore = (*fileSigners)(nil)

func (f *fileSigners) leasesPath() string {
	return filepath.Join(f.h.dir, signersFolder, "leases.db")
}

func (f *fileSigners) path(name string) string { return f.h.signerPath(name, ".db") }

func (f *fileSigners) place(name string) string { return f.path(name) }

func (f *fileSigners) where(name string) string { return f.h.whereIs(f.path(name)) }

func (f *fileSigners) prepare() error {
	if err := f.h.signersDir(); err != nil {
		return err
	}
	if err := sqlite.CreateLeases(f.leasesPath()); !errors.Is(err, record.ErrExists) {
		return err
	}
	return nil
}

func (f *fileSigners) leases() (record.Leases, func(), error) {
	leases, err := sqlite.OpenLeases(f.leasesPath())
	if err != nil {
		return nil, nil, err
	}
	return leases, func() { _ = leases.Close() }, nil // its writes are durable already
}

func (f *fileSigners) create(_ context.Context, name string, root eth.Root) (slashing.Info, error) {
	return sqlite.CreateLedger(f.path(name), name, root)
}

func (f *fileSigners) open(_ context.Context, name string) (signerLedger, error) {
	ledger, err := sqlite.OpenLedger(f.path(name))
	if err != nil {
		return nil, err // no typed nil
	}
	return ledger, nil
}

func (f *fileSigners) replace(_ context.Context, name string, root eth.Root, ending string) (slashing.Info, error) {
	path := f.path(name)
	for _, end := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.Rename(path+end, path+ending+end); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return slashing.Info{}, err
		}
	}
	return sqlite.CreateLedger(path, name, root)
}

// signersDir makes the folder of the signers' own files.
func (h *home) signersDir() error {
	if err := os.Mkdir(filepath.Join(h.dir, signersFolder), 0o700); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// whereIs is this user and machine, a file and its number.
func (h *home) whereIs(path string) string {
	text := actor() + ":" + path
	number := "#?"
	if info, err := os.Stat(path); err == nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			number = fmt.Sprintf("#%d:%d", stat.Dev, stat.Ino)
		}
	}
	return text[:min(len(text), 200)] + number
}

// stoppedLedger opens the ledger of a signer that does not run, if it is the
// one that was signed by last.
func (h *home) stoppedLedger(ctx context.Context, name string) (signerLedger, error) {
	store := h.signers()
	ledger, err := store.open(ctx, name)
	if err != nil {
		return nil, err
	}
	leases, done, err := store.leases()
	if err != nil {
		return nil, errors.Join(err, ledger.Close())
	}
	defer done()
	lease, err := leases.Lease(ctx, name)
	mark, markErr := ledger.Watermark(ctx)
	if err := errors.Join(err, markErr); err != nil {
		return nil, errors.Join(err, ledger.Close())
	}
	if lease.Ledger != ledger.Info().ID || mark < lease.Watermark {
		return nil, errors.Join(fmt.Errorf("%w: the lease names %s at watermark %d, this one is %s at %d", signer.ErrLedger, lease.Ledger, lease.Watermark, ledger.Info().ID, mark), ledger.Close())
	}
	// A file is this process's alone. A table is not: its signer may run on
	// another machine.
	if h.remote() && lease.Holder != "" && lease.Where != store.where(name) {
		return nil, errors.Join(fmt.Errorf("%w: %s, %s", signer.ErrHeld, name, lease.Where), ledger.Close())
	}
	return ledger, nil
}

// signedBy is what the signer of a home has signed for its keys, by its
// ledger, which is held until done is called: nobody signs by it meanwhile.
// admitted are the assignments under which it has all that was signed before,
// ended those of which it let go. Nothing where it was never a signer of this
// home. A signer that runs, or whose ledger is not to be had, is an error: then
// nobody can tell.
func (h *home) signedBy(ctx context.Context, a *app, name string) (marks map[eth.Pubkey]slashing.Mark, admitted map[eth.Pubkey]uint64, ended map[eth.Pubkey]bool, done func(), err error) {
	done = func() {}
	known, err := h.everInitialised(ctx, name)
	if err != nil || !known {
		return nil, nil, nil, done, err
	}
	ledger, err := h.stoppedLedger(ctx, name)
	if err != nil {
		return nil, nil, nil, done, signerFailure(name, err)
	}
	marks = map[eth.Pubkey]slashing.Mark{}
	for m, err := range ledger.Marks(ctx) {
		if err != nil {
			return nil, nil, nil, done, errors.Join(err, ledger.Close())
		}
		marks[m.Pubkey] = m
	}
	if admitted, err = ledger.Admitted(ctx); err == nil {
		ended, err = ledger.Ended(ctx)
	}
	if err != nil {
		return nil, nil, nil, done, errors.Join(err, ledger.Close())
	}
	return marks, admitted, ended, func() {
		// What was handed over meanwhile has ended for this ledger too. Where
		// that cannot be noted now, the signer's next start does it.
		_ = h.releaseOthers(context.WithoutCancel(ctx), a, ledger)
		_ = ledger.Close()
	}, nil
}
