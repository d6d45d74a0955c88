package record

import (
	"context"
	"fmt"
	"iter"
	"time"
)

// Lease says which one process signs under a signer's name, and how far its
// slashing ledger has come. It is the witness outside the ledger: a ledger
// that is missing, another, or an older copy does not agree with it.
//
// No time in it is ever compared. Who wants the lease of a holder that does
// not answer watches Beat: when that has stood still for as long as a holder
// keeps signing without renewing, by the watcher's own clock, nobody signs
// under it any more.
type Lease struct {
	Name      string    `json:"signer"`
	Epoch     uint64    `json:"epoch"`     // 1 for the first; rises by one with each taking
	Beat      uint64    `json:"beat"`      // rises by one with each change of the lease
	Holder    string    `json:"holder"`    // a random word of the process; "" when it was released
	Ledger    string    `json:"ledger"`    // the id of the ledger that it signs by
	Watermark uint64    `json:"watermark"` // the ledger's own, at the last renewal
	Where     string    `json:"where"`     // user@host, for people
	Time      time.Time `json:"time"`      // of the last change, by the holder's clock; for people
}

// Leases is a signer's port. Nothing is ever deleted from it.
type Leases interface {
	// Lease returns the stored one or ErrNotFound. Strongly consistent.
	Lease(ctx context.Context, name string) (Lease, error)

	// Take stores l if the stored Beat is l.Beat-1 (none counts as 0), and
	// must otherwise fail with ErrStale and change nothing; so of two that
	// race one wins. An epoch below the stored one, or above it by more than
	// one, and a watermark below that of the same ledger, must be refused with
	// ErrFormat. Repeating the winning call exactly must succeed.
	Take(ctx context.Context, l Lease) error

	// Leases yields every lease by name.
	Leases(ctx context.Context) iter.Seq2[Lease, error]
}

// Check refuses a lease that nobody could hold.
func (l Lease) Check() error {
	return first(
		CheckID(l.Name),
		when(l.Epoch == 0 || l.Beat == 0, "a lease of epoch or beat 0: the first is 1"),
		when(l.Beat < l.Epoch, "a lease with fewer beats than epochs"),
		when(l.Epoch > 1<<62 || l.Beat > 1<<62 || l.Watermark > 1<<62, "a lease whose numbers are too large"),
		checkText("holder", l.Holder, 0, maxText),
		checkASCII("ledger", l.Ledger, maxText),
		checkText("where", l.Where, 1, maxText),
		checkTime("time", l.Time),
	)
}

// Follows refuses a change that no holder makes: what a signer learnt is
// never unlearnt. The zero Lease is before the first.
func (l Lease) Follows(old Lease) error {
	switch {
	case old.Epoch > 0 && l.Name != old.Name:
		return fmt.Errorf("%w: a lease of another name", ErrFormat)
	case l.Beat != old.Beat+1:
		return fmt.Errorf("stored is beat %d: %w", old.Beat, ErrStale)
	case l.Epoch != old.Epoch && l.Epoch != old.Epoch+1:
		return fmt.Errorf("%w: epoch %d after %d", ErrFormat, l.Epoch, old.Epoch)
	case l.Epoch == old.Epoch && (l.Holder != old.Holder && l.Holder != "" || l.Ledger != old.Ledger):
		return fmt.Errorf("%w: another holder or ledger in the same epoch", ErrFormat)
	case l.Ledger == old.Ledger && l.Watermark < old.Watermark:
		return fmt.Errorf("%w: watermark %d after %d", ErrFormat, l.Watermark, old.Watermark)
	}
	return nil
}

var leaseForm = form[Lease]{schema: "stakeseal/lease/v1"}

// EncodeLease and DecodeLease are the one JSON form of a lease.
func EncodeLease(l Lease) ([]byte, error)    { return leaseForm.encode(l) }
func DecodeLease(data []byte) (Lease, error) { return leaseForm.decode(data) }
