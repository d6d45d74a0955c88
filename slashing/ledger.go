package slashing

import (
	"context"
	"errors"
	"iter"

	"github.com/stakeseal/stakeseal/eth"
)

var (
	// ErrUnknownKey says that the ledger has no mark of a pubkey. Nothing is
	// signed for it: a mark that is missing looks like one that was lost.
	ErrUnknownKey = errors.New("the slashing ledger does not know the key")
	// ErrHolder says that the ledger is held under another epoch of the lease:
	// somebody else signs now.
	ErrHolder = errors.New("the slashing ledger is held by another signer")
)

// Claim is one message that a key shall sign, as far as it can be slashed for
// it: a block of a slot, or an attestation of two epochs.
type Claim struct {
	Pubkey eth.Pubkey
	Block  bool   // else an attestation
	Slot   uint64 // of a block
	Source uint64 // of an attestation, epoch
	Target uint64 // of an attestation, epoch
	Root   eth.Root
}

// Take returns the mark after signing what c says, or ErrSlashable.
func (m Mark) Take(c Claim) (Mark, error) {
	if c.Block {
		return m.Propose(c.Slot, c.Root)
	}
	return m.Attest(c.Source, c.Target, c.Root)
}

// Ledger keeps marks where they survive. It is the only thing that stands
// between two conflicting signatures across crashes and restarts, so whoever
// signs asks it first, every time, and signs only what it was allowed.
//
// All methods are safe for concurrent use. Every "must" is a case of the
// suite in slashingtest.
type Ledger interface {
	// Sign asks to sign what each claim says, and returns as many errors: nil
	// only when the raised mark is durable (it must survive kill -9 and loss
	// of power from then on), and then nothing else decides any more whether
	// it may be signed. A claim that the rules refuse must fail with
	// ErrSlashable, one of a key without a mark with ErrUnknownKey, all with
	// ErrHolder if epoch is not the one that the ledger is held under. Claims
	// are judged in their order, the ones before already taken. Any other
	// error leaves the outcome unknown: nothing may be signed, and the same
	// claim may be brought again.
	Sign(ctx context.Context, epoch uint64, claims []Claim) []error

	// Add makes the marks of keys that the ledger does not know, and raises
	// those of keys that it does (Mark.Raise): it must never lower one.
	// Durable on return. A list of which one mark is refused changes nothing;
	// what was cut short may leave some marks raised, which is safe, and is
	// brought again whole. ErrHolder as for Sign.
	Add(ctx context.Context, epoch uint64, marks []Mark) error

	// Marks yields every mark by pubkey, as it is durable. A mark that does
	// not read back as it was written must end it with an error.
	Marks(ctx context.Context) iter.Seq2[Mark, error]
}

// Info says whose ledger it is. It is written once.
type Info struct {
	ID     string   // random, of its making; names this ledger and its copies
	Signer string   // whose it is
	Root   eth.Root // genesis validators root of its network
}

// Admission is a key that may be signed for under an assignment.
type Admission struct {
	Mark       Mark   // all that was signed for it so far, elsewhere too; raises what is there
	Assignment uint64 // its epoch, from 1
}

// Floor is the mark of a key of which it is not known what it signed, at an
// epoch (by the clock) of a network with so many slots an epoch: whatever a
// signer that kept to the time could have signed lies below it. A signer may
// be one epoch ahead (that is what ours allows, for clocks that differ), and
// a source is always before its target.
func Floor(pubkey eth.Pubkey, epoch, slotsPerEpoch uint64) Mark {
	return Mark{
		Pubkey: pubkey,
		Block:  true, Slot: (epoch+2)*slotsPerEpoch - 1,
		Attestation: true, Source: epoch, Target: epoch + 1,
	}
}
