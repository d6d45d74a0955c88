// Package birth is the one flow in which a validator comes to be: an order is
// claimed, a mnemonic sealed and stored, and for each empty index a key is
// derived, checked, sealed, certified, put into the index if that is empty,
// archived, read back, and wiped.
//
// It promises that what it yields is committed, archived and read back, with
// a certificate that verifies; that a mnemonic is stored before anything is
// derived from it; and that an order run twice, by two at once, or again
// after a crash at any point ends with one set of validators. It trusts its
// settings and the certifying key that it was given, and of the store only
// what the certificates bear out.
package birth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/check"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/keygen"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
)

// ErrOrder says that an order asks for what the settings do not allow. Its
// message says what.
var ErrOrder = errors.New("order refused")

// ErrTampered says that what the store or the archive returned is not what
// was written there.
var ErrTampered = errors.New("a record was changed")

// Verifier judges a birth certificate and a receipt: the trust in the
// certifying key that the flow itself signs with.
type Verifier interface {
	VerifyBirth(envelope []byte) (*certificate.Verified, error)
	VerifyReceipt(envelope []byte) (*certificate.VerifiedReceipt, error)
}

// Store is what the flow needs of the records: to add, and to read back.
type Store interface {
	record.Births
	record.Reader
}

// Flow makes births. Its fields are set before the first Run and not changed.
type Flow struct {
	Network     eth.Network
	Addresses   map[string]eth.Address // the withdrawal addresses allowed
	MaxPerOrder uint32
	Signing     *seal.Recipients
	Recovery    *seal.Recipients
	Signer      certificate.Signer
	Verifier    Verifier
	Maker       certificate.Maker // what certificates say of the program
	Store       Store
	Archive     record.Archive
	Now         func() time.Time
	Workers     int // indexes are made by this many at once; memory is this times the KDF's
	// Writers is how many finished births may wait for the store and the
	// archive while the workers go on: both take many at once for the price of
	// one fsync. 0 and 1 write each birth before the next is sealed.
	Writers int
}

// Range is the part of an order that one invocation runs: its indexes
// [From, To).
type Range struct {
	// Order is what to make. Created is the flow's to set; Settings, where it
	// is not zero, must be the digest of the flow's own settings.
	Order    record.Order
	From, To uint32
}

// batchSize is how many indexes a worker makes at a time, at least (towards
// the end of an order) and at most: enough for batched signature verification
// to pay, few enough that a crash wastes little and a deadline is met.
func batchSize(kdf string) (least, most int) {
	switch kdf {
	case string(keystore.Scrypt):
		return 1, 4
	case string(keystore.PBKDF2):
		return 1, 16
	}
	return 8, 64
}

// Run runs a range of an order and yields its validators as they are done,
// in no particular order: those that it made, and those that were there
// already, verified. It ends with the first error; what was yielded before
// stands. Running the same range again continues it.
func (f *Flow) Run(ctx context.Context, r Range) iter.Seq2[Born, error] {
	return func(yield func(Born, error) bool) {
		run, err := f.begin(ctx, r)
		if err != nil {
			yield(Born{}, err)
			return
		}
		defer run.wipe()
		for b, err := range run.all(ctx) {
			if !yield(b, err) || err != nil {
				return
			}
		}
	}
}

// Born is a birth that is committed, archived and read back, and whose
// certificate verified.
type Born struct {
	record.Birth
	words  certificate.MnemonicRef // as certified
	digest certificate.Hash        // of the certificate
}

// run is one invocation's state.
type run struct {
	*Flow
	order   record.Order
	words   *words // nil when no index was empty
	checker *check.Checker
	spec    keygen.Spec
	empty   []uint32
	filled  []record.Validator

	mu       sync.Mutex
	archived map[string]certificate.MnemonicRef // whose archive objects were read back
}

func (f *Flow) begin(ctx context.Context, r Range) (_ *run, err error) {
	if err := f.check(r); err != nil {
		return nil, err
	}
	o := r.Order
	settings := record.Digest(f.Maker.SettingsDigest)
	if !o.Settings.IsZero() && o.Settings != settings {
		return nil, fmt.Errorf("%w: it was asked for under the settings %s, and these are %s: they were changed meanwhile", ErrOrder, o.Settings, settings)
	}
	o.Settings = settings
	o.Created = record.Time(f.Now())
	placed, err := f.Store.Place(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("couldn't place order %s: %w", o.ID, err)
	}
	// The time is the first writer's word, which nothing else bears out but
	// that it has passed; clocks may differ by some minutes.
	if placed.Digest() != o.Digest() || placed.Settings != o.Settings || placed.Created.After(o.Created.Add(10*time.Minute)) {
		return nil, fmt.Errorf("%w: the store returned another order as %s", ErrTampered, o.ID)
	}
	// With the order beside what it led to, the archive alone is enough to
	// start again from.
	object, err := record.EncodeOrder(placed)
	if err != nil {
		return nil, err
	}
	if err := f.archive(ctx, OrderObject(o.ID), object); err != nil {
		return nil, err
	}
	run := &run{Flow: f, order: placed, archived: map[string]certificate.MnemonicRef{}}
	run.spec = keygen.Spec{Network: f.Network, Credentials: o.Credentials, Plan: o.Plan, KDF: keystore.KDF(o.Keystore)}
	run.checker = check.NewChecker(run.spec)
	there := make(map[uint32]bool)
	for v, err := range f.Store.Validators(ctx, record.Query{Order: o.ID}) {
		if err != nil {
			return nil, fmt.Errorf("couldn't read what order %s has already: %w", o.ID, err)
		}
		if v.Index >= r.From && v.Index < r.To && !there[v.Index] {
			there[v.Index] = true
			run.filled = append(run.filled, v)
		}
	}
	for index := r.From; index < r.To; index++ {
		if !there[index] {
			run.empty = append(run.empty, index)
		}
	}
	if len(run.empty) > 0 {
		if run.words, err = run.newWords(ctx); err != nil {
			return nil, err
		}
	}
	return run, nil
}

// check holds the order against the settings before anything is stored.
func (f *Flow) check(r Range) error {
	o := r.Order
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrOrder, fmt.Sprintf(format, args...))
	}
	if o.Network != f.Network.Name {
		return refuse("it is for network %q, the settings are for %q", o.Network, f.Network.Name)
	}
	if o.Count == 0 || o.Count > f.MaxPerOrder {
		return refuse("it asks for %d validators, the settings allow 1 to %d", o.Count, f.MaxPerOrder)
	}
	if r.From >= r.To || r.To > o.Count {
		return refuse("indexes %d to %d are not within its %d validators", r.From, r.To, o.Count)
	}
	address, ok := o.Credentials.Address()
	if !ok {
		return refuse("withdrawal credentials %v name no address", o.Credentials)
	}
	allowed := false
	for _, a := range f.Addresses {
		allowed = allowed || a == address
	}
	if !allowed {
		return refuse("the withdrawal address %v is not among those that the settings allow", address)
	}
	if len(o.Plan) == 0 || len(o.Plan) > 8 {
		return refuse("its deposit plan has %d amounts, use 1 to 8", len(o.Plan))
	}
	var sum eth.Gwei
	for _, amount := range o.Plan {
		if err := eth.CheckAmount(f.Network, o.Credentials, amount); err != nil {
			return refuse("its deposit plan: %v", err)
		}
		sum += amount
	}
	if err := eth.CheckAmount(f.Network, o.Credentials, sum); err != nil {
		return refuse("its deposit plan, summed: %v", err)
	}
	switch o.Keystore {
	case string(keystore.PBKDF2), string(keystore.Scrypt), string(keygen.None):
	default:
		return refuse("its keystore kind %q is none of pbkdf2, scrypt, none", o.Keystore)
	}
	return nil
}

func (r *run) wipe() {
	if r.words != nil {
		r.words.maker.Wipe()
	}
}

// job is a batch of indexes to fill or to verify.
type job func(context.Context, *writers) error

// all yields the filled indexes, verified, and then makes the empty ones.
// Work goes to r.Workers goroutines in batches; the first error stops all.
func (r *run) all(ctx context.Context) iter.Seq2[Born, error] {
	return func(yield func(Born, error) bool) {
		ctx, cancel := context.WithCancelCause(ctx)
		jobs := r.jobs()
		done := make(chan Born)
		writing := &writers{slots: make(chan struct{}, max(r.Writers, 1)), fail: cancel, done: func(b Born) {
			select {
			case done <- b:
			case <-ctx.Done():
			}
		}}
		var workers sync.WaitGroup
		for range min(max(r.Workers, 1), len(jobs)) {
			workers.Go(func() {
				for job := range jobs {
					if err := job(ctx, writing); err != nil {
						cancel(err)
						return
					}
				}
			})
		}
		go func() { workers.Wait(); writing.all.Wait(); close(done) }()
		// Whichever way the loop ends, no worker outlives it: a worker may
		// hold secrets, which it wipes on its way out.
		defer func() {
			cancel(context.Canceled)
			for range done {
			}
		}()
		for b := range done {
			if !yield(b, nil) {
				return
			}
		}
		if ctx.Err() != nil {
			yield(Born{}, context.Cause(ctx))
		}
	}
}

// writers carry finished births to the store and the archive. What they hold
// is sealed: public data only.
type writers struct {
	slots chan struct{} // bounds how many wait for the disk
	fail  func(error)
	done  func(Born)
	all   sync.WaitGroup
}

// write runs f, and hands on the birth that it returns. With one slot it
// waits for f; with more it waits for a free slot only, and an error of f
// ends the run.
func (w *writers) write(ctx context.Context, f func() (Born, error)) error {
	one := func() error {
		b, err := f()
		if err == nil {
			w.done(b)
		}
		return err
	}
	if cap(w.slots) == 1 {
		return one()
	}
	select {
	case w.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	w.all.Go(func() {
		defer func() { <-w.slots }()
		if err := one(); err != nil {
			w.fail(err)
		}
	})
	return nil
}

// jobs cuts the work into batches, all queued. Towards the end they become
// smaller, so that all workers end at about the same time.
func (r *run) jobs() chan job {
	var list []job
	for rest := r.filled; len(rest) > 0; {
		n := min(64, len(rest))
		part := rest[:n]
		rest = rest[n:]
		list = append(list, func(ctx context.Context, w *writers) error { return r.confirm(ctx, w, part) })
	}
	least, most := batchSize(r.order.Keystore)
	for rest := r.empty; len(rest) > 0; {
		share := len(rest) / (2 * max(r.Workers, 1))
		n := min(max(share, least), most, len(rest))
		part := rest[:n]
		rest = rest[n:]
		list = append(list, func(ctx context.Context, w *writers) error { return r.make(ctx, w, part) })
	}
	jobs := make(chan job, len(list))
	for _, j := range list {
		jobs <- j
	}
	close(jobs)
	return jobs
}

// make fills a batch of indexes.
func (r *run) make(ctx context.Context, w *writers, indexes []uint32) error {
	made, err := r.words.maker.Make(ctx, r.spec, indexes, nil)
	if err != nil {
		return err
	}
	defer func() {
		for _, m := range made {
			m.Wipe()
		}
	}()
	checked, err := r.checker.Validators(ctx, made)
	if err != nil {
		return err
	}
	for _, c := range checked {
		sealed, err := c.Seal(ctx, r.Signing, r.Network.Name, r.order.ID)
		if err != nil {
			return err
		}
		b, err := r.certify(ctx, sealed)
		if err != nil {
			return err
		}
		err = w.write(ctx, func() (Born, error) {
			owner, err := r.Store.PutBirth(ctx, b)
			if err != nil {
				return Born{}, fmt.Errorf("couldn't store index %d: %w", b.Index, err)
			}
			return r.settle(ctx, b.Index, owner)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// confirm verifies indexes that were filled before.
func (r *run) confirm(ctx context.Context, w *writers, rows []record.Validator) error {
	for _, row := range rows {
		err := w.write(ctx, func() (Born, error) {
			b, err := r.Store.Birth(ctx, row.Pubkey)
			if err != nil {
				return Born{}, fmt.Errorf("couldn't read index %d of order %s back: %w", row.Index, r.order.ID, err)
			}
			return r.settle(ctx, row.Index, b)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// settle takes the owner of an index as the store returned it, ours or
// another's, and makes sure of it: its certificate verifies and says what the
// record says, and the archive holds the same. A winner that crashed before
// archiving is archived here.
func (r *run) settle(ctx context.Context, index uint32, owner record.Birth) (Born, error) {
	verified, err := r.verify(index, owner)
	if err != nil {
		return Born{}, err
	}
	if err := r.mnemonicArchived(ctx, owner, verified.Mnemonic); err != nil {
		return Born{}, err
	}
	object, err := record.EncodeBirth(owner)
	if err != nil {
		return Born{}, err
	}
	if err := r.archive(ctx, BirthObject(owner.Order, owner.Index), object); err != nil {
		return Born{}, err
	}
	return Born{owner, verified.Mnemonic, verified.Digest}, nil
}

// archive puts an object if its name is free and in any case reads it back.
func (f *Flow) archive(ctx context.Context, name string, object []byte) error {
	if err := f.Archive.Put(ctx, name, object); err != nil && !errors.Is(err, record.ErrExists) {
		return fmt.Errorf("couldn't archive %s: %w", name, err)
	}
	back, err := f.Archive.Get(ctx, name)
	if err != nil {
		return fmt.Errorf("couldn't read %s back from the archive: %w", name, err)
	}
	if !bytes.Equal(back, object) {
		return fmt.Errorf("%w: the archive's %s differs from the store's record", ErrTampered, name)
	}
	return nil
}
