package record

import (
	"context"
	"iter"

	"github.com/stakeseal/stakeseal/eth"
)

// The ports below are what a store promises. Every "must" is a case of the
// suite in recordtest, which every implementation passes. A store offers
// single-record conditional writes and nothing larger: no caller may rely on
// two records changing together.
//
// All methods are safe for concurrent use, by goroutines and by processes.
// A write that returned nil must be durable: it survives kill -9 and loss of
// power. A write that returned an error other than a sentinel may have been
// applied; every write here may therefore be repeated as it was, and then
// must succeed (or name the same sentinel) without a second effect. (The one
// exception is Append without Once, which notes again.)
//
// A record that its Check or Fits refuses must fail with ErrFormat and change
// nothing. What is read must be the record that was written, or ErrCorrupt.

// Births is the generator's port: what it may write. Nothing in it changes
// or deletes a record.
type Births interface {
	// Place claims the order's id. The first writer wins; Place must return
	// the order as stored (whose Created is the first writer's). An order
	// with the same id whose Digest or Settings differ must fail with
	// ErrConflict and change nothing.
	Place(ctx context.Context, o Order) (Order, error)

	// PutMnemonic stores a sealed mnemonic under its order and id. The same
	// mnemonic again must succeed; another under the same id must fail with
	// ErrConflict; an unknown order with ErrNotFound; indexes that the order
	// does not have with ErrFormat.
	PutMnemonic(ctx context.Context, m Mnemonic) error

	// PutBirth puts b into its index if that is empty, and must return the
	// index's owner as read back from the store with the consistency of a
	// read after write: b itself, or the birth that came first. A pubkey that
	// another index of the store holds must fail with ErrConflict, whether or
	// not b's own index is empty; an unknown order, or a mnemonic that was not
	// stored before, with ErrNotFound (no key is kept that could not be
	// recovered); a birth that was not ordered so, or whose index its mnemonic
	// does not cover, with ErrFormat.
	PutBirth(ctx context.Context, b Birth) (Birth, error)
}

// Reader reads what was recorded about orders and births.
type Reader interface {
	// Order returns a placed order or ErrNotFound. Strongly consistent.
	Order(ctx context.Context, id string) (Order, error)

	// Birth returns the whole record of a pubkey or ErrNotFound. It may lag
	// behind PutBirth; it never returns a record other than the stored one.
	Birth(ctx context.Context, pubkey eth.Pubkey) (Birth, error)

	// Validators yields the rows that q selects: of one order by index
	// (strongly consistent), else by order and index. It must page without
	// holding a transaction open, so that a slow reader blocks no writer, and
	// must end with the error when a page fails: a short list never looks
	// whole.
	Validators(ctx context.Context, q Query) iter.Seq2[Validator, error]
}

// Query selects validators; the zero value selects all.
type Query struct {
	Order  string // only of this order
	Prefix string // only pubkeys that begin with these lower-case hex digits, no 0x; then by pubkey
}

// Catalog lists what stands above the births.
type Catalog interface {
	// Orders yields every order, oldest first.
	Orders(ctx context.Context) iter.Seq2[Order, error]

	// Mnemonics yields an order's mnemonics by From, then ID. Strongly
	// consistent.
	Mnemonics(ctx context.Context, order string) iter.Seq2[Mnemonic, error]
}

// Assignments is the operator's port: which signer may sign for a key. The
// generator does not have it.
type Assignments interface {
	// Assignment returns the current one or ErrNotFound. Strongly consistent.
	Assignment(ctx context.Context, pubkey eth.Pubkey) (Assignment, error)

	// Assign stores a if the stored epoch is a.Epoch-1 (none counts as 0) and
	// must otherwise fail with ErrStale and change nothing; so of two that
	// race one wins. An unknown pubkey must fail with ErrNotFound. Repeating
	// the winning call exactly must succeed.
	Assign(ctx context.Context, a Assignment) error

	// Assigned yields the current assignments of a signer, or of all for "",
	// by pubkey.
	Assigned(ctx context.Context, signer string) iter.Seq2[Assignment, error]
}

// Events is the port for notes: appended, never changed.
type Events interface {
	// Append stores e, durably on return. If e.Once is not empty and taken,
	// it must fail with ErrExists and store nothing, even when repeated by
	// the writer that took it: after an unknown outcome the caller must
	// assume that it is taken.
	Append(ctx context.Context, e Event) error

	// Events yields the events that q selects, oldest first.
	Events(ctx context.Context, q EventQuery) iter.Seq2[Event, error]
}

// EventQuery selects events; the zero value selects all.
type EventQuery struct {
	Order  string
	Pubkey eth.Pubkey
	Kind   string
}

// Archive is the second place that every birth is kept in, apart from the
// store, so that a changed row stands against an unchanged object.
type Archive interface {
	// Put stores data under name if there is nothing yet, durable on return,
	// and must fail with ErrExists if there is (the caller compares through
	// Get). A reader must never see a part of an object. Names are
	// slash-separated, of [a-z0-9._-] and up to 200 bytes; any other must be
	// refused.
	Put(ctx context.Context, name string, data []byte) error

	// Get returns the object or ErrNotFound.
	Get(ctx context.Context, name string) ([]byte, error)
}
