// Package birth is the one flow in which a validator comes to be: an order is
// claimed, a mnemonic sealed and stored, and for each empty index a key is
// derived, checked, sealed, certified, put into the index if that is empty,
// archived, read back, and wiped.
//
// It promises that what it yields is committed, archived and read back, with
// a certificate that verifies; that a mnemonic is stored before anything is
// derived from it; and that an order run twice, by two at once, or again
// after a crash at any point ends with one set of validators. Where its time
// is limited it stops between batches, so that what it did can still be
// answered for, and meets throttling with patience while there is time. It
// trusts its settings and the certifying key that it was given, and of the
// store only what the certificates bear out.
package birth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
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

// ErrIncomplete says that the time ran out first. What was yielded before
// stands, and the same range again continues it.
var ErrIncomplete = errors.New("the time ran out before the range was complete; the same request continues it")

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
	Addresses   map[string]eth.Address   // the withdrawal addresses allowed
	Approvers   []certificate.TrustedKey // who may approve further ones
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
	// one fsync. 0 and 1: a worker writes its births itself, one by one.
	Writers int
	// Calls is how many births of a batch are sealed and certified at once:
	// with keys in a service these are two round trips each. 0 and 1: one
	// after the other.
	Calls int
	// Passing says of an error of the store, the archive, the signer or the
	// recovery recipients whether it passes by itself, throttling above all:
	// the call is then made again, see patience.go. nil: none does.
	Passing func(error) bool
	// Backoff replaces the function of that name, in tests.
	Backoff func(n int) time.Duration
	// Took is told how long each step took (see Steps), by several goroutines
	// at once. It may be nil.
	Took func(step string, d time.Duration)
}

// Steps are what Took names: keys (derivation and KDF), check, seal, certify,
// store, archive. A step's time includes its repetitions.
var Steps = []string{"keys", "check", "seal", "certify", "store", "archive"}

// step returns a function that tells Took how long it was until then.
func (f *Flow) step(name string) func() {
	if f.Took == nil {
		return func() {}
	}
	start := f.Now()
	return func() { f.Took(name, f.Now().Sub(start)) }
}

// Range is the part of an order that one invocation runs: its indexes
// [From, To).
type Range struct {
	// Order is what to make. Created is the flow's to set; Settings, where it
	// is not zero, must be the digest of the flow's own settings.
	Order    record.Order
	From, To uint32
	// Approval is of an address that the settings do not name
	// (certificate.SignAddressApproval), as one line; "" otherwise.
	Approval string
	// Until is when its answer must be out, by the flow's clock. Zero: when it
	// is done.
	Until time.Time
	// Scheduled says that nobody waits for the answer: its order's id is of
	// the time it was scheduled for, see Request.
	Scheduled bool
}

// Run runs a range of an order and yields its validators as they are done,
// roughly by index: those that it made, and those that were there already,
// verified. It ends with the first error; what was yielded before stands.
// Running the same range again continues it.
//
// With ErrIncomplete it ends before Until, leaving time for a Receipt of what
// was yielded.
func (f *Flow) Run(ctx context.Context, r Range) iter.Seq2[Born, error] {
	return func(yield func(Born, error) bool) {
		limit := f.allow(r)
		ctx, cancel := limit.cut(ctx)
		defer cancel()
		run, err := f.begin(ctx, r, limit)
		if err != nil {
			yield(Born{}, late(ctx, err))
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
	Made   bool                    // by this run; else it was there, or another run was faster
	words  certificate.MnemonicRef // as certified
	digest certificate.Hash        // of the certificate
}

// run is one invocation's state.
type run struct {
	*Flow
	order    record.Order
	approved string // the approval that certificates carry; "": none is needed
	words    *words // nil when no index was empty, or there is no time to fill one
	checker  *check.Checker
	spec     keygen.Spec
	limit    allowance
	work     *work

	mu       sync.Mutex
	archived map[string]certificate.MnemonicRef // whose archive objects were read back
}

func (f *Flow) begin(ctx context.Context, r Range, limit allowance) (_ *run, err error) {
	approved, err := f.check(r)
	if err != nil {
		return nil, err
	}
	o := r.Order
	settings := record.Digest(f.Maker.SettingsDigest)
	if !o.Settings.IsZero() && o.Settings != settings {
		return nil, fmt.Errorf("%w: it was asked for under the settings %s, and these are %s: they were changed meanwhile", ErrOrder, o.Settings, settings)
	}
	if limit.left() <= 0 {
		return nil, ErrIncomplete
	}
	o.Settings = settings
	o.Created = record.Time(f.Now())
	placed, err := again(ctx, f, limit, func() (record.Order, error) { return f.Store.Place(ctx, o) })
	if err != nil {
		return nil, fmt.Errorf("couldn't place order %s: %w", o.ID, err)
	}
	// The time is the first writer's word, which nothing else bears out but
	// that it has passed; clocks may differ by some minutes.
	if placed.Digest() != o.Digest() || placed.Settings != o.Settings || placed.Created.After(o.Created.Add(clockSkew)) {
		return nil, fmt.Errorf("%w: the store returned another order as %s", ErrTampered, o.ID)
	}
	// With the order beside what it led to, the archive alone is enough to
	// start again from.
	object, err := record.EncodeOrder(placed)
	if err != nil {
		return nil, err
	}
	if err := f.archive(ctx, limit, OrderObject(o.ID), object); err != nil {
		return nil, err
	}
	filled, err := again(ctx, f, limit, func() ([]record.Validator, error) { return f.filled(ctx, r) })
	if err != nil {
		return nil, fmt.Errorf("couldn't read what order %s has already: %w", o.ID, err)
	}
	run := &run{Flow: f, order: placed, approved: approved, limit: limit, archived: map[string]certificate.MnemonicRef{}}
	run.spec = keygen.Spec{Network: f.Network, Credentials: o.Credentials, Plan: o.Plan, KDF: keystore.KDF(o.Keystore)}
	run.checker = check.NewChecker(run.spec)
	run.work = newWork(o.Keystore, r, filled, f.Workers, f.Writers, limit)
	if run.work.begin() {
		if run.words, err = run.newWords(ctx); err != nil {
			return nil, err
		}
	}
	return run, nil
}

// clockSkew is how far the clocks of two generators may be apart.
const clockSkew = 10 * time.Minute

// filled lists the indexes of the range that have an owner, by index.
func (f *Flow) filled(ctx context.Context, r Range) (filled []record.Validator, err error) {
	there := make(map[uint32]bool)
	for v, err := range f.Store.Validators(ctx, record.Query{Order: r.Order.ID}) {
		if err != nil {
			return nil, err
		}
		if v.Index >= r.From && v.Index < r.To && !there[v.Index] {
			there[v.Index] = true
			filled = append(filled, v)
		}
	}
	slices.SortFunc(filled, func(a, b record.Validator) int { return cmp.Compare(a.Index, b.Index) })
	return filled, nil
}

// check holds the order against the settings before anything is stored.
func (f *Flow) check(r Range) (approved string, err error) {
	o := r.Order
	refuse := func(format string, args ...any) (string, error) {
		return "", fmt.Errorf("%w: %s", ErrOrder, fmt.Sprintf(format, args...))
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
	if approved, err = f.approve(address, r.Approval); err != nil {
		return "", err
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
	return approved, nil
}

func (r *run) wipe() {
	if r.words != nil {
		r.words.maker.Wipe()
	}
}
