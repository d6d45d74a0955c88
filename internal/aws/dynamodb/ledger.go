package dynamodb

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/slashing"
)

var _ slashing.Ledger = (*Ledger)(nil)

// Ledger is a signer's part of the slashing ledger in the table of that name.
// The table is one for the installation and has one mark for each key (and
// genesis validators root), whoever signs for it: so a key's history moves with it, and two signers, or two
// processes of one, cannot sign two conflicting messages for a key whatever
// either believes of its lease. Every signature is a swap of that one item,
// under the condition that nothing in it has changed since it was seen.
//
// Marks that were seen are kept in memory to judge by, but no answer comes
// from there alone: what is allowed was written, and what is refused, or was
// signed already, was read in the same call. A mark that goes back while it is
// watched allows nothing any more.
type Ledger struct {
	s      *Store
	info   slashing.Info
	signed atomic.Bool // something was, or may have been, written since the last Watermark

	mu   sync.Mutex
	seen map[eth.Pubkey]*seen
}

// seen is the item of a key as this process saw it last. One swap of it goes
// on at a time.
type seen struct {
	mu  sync.Mutex
	now *standing
}

// atOnceKeys is how many keys one call reads or writes at once.
const atOnceKeys = 64

// CreateLedger makes the ledger of a signer's name, once: a second time is
// record.ErrExists. Its keys come by Admit.
func (s *Store) CreateLedger(ctx context.Context, signer string, genesisValidatorsRoot eth.Root) (slashing.Info, error) {
	info, err := s.makeLedger(ctx, slashing.Info{Signer: signer, Root: genesisValidatorsRoot}, func(old *head) error {
		if old != nil {
			return record.ErrExists
		}
		return nil
	})
	if err != nil {
		return slashing.Info{}, fmt.Errorf("couldn't create the ledger of %q: %w", signer, err)
	}
	return info, nil
}

// ReplaceLedger puts a new ledger, of a new id and held under no epoch yet, in
// the place of the one that old names, or of none. Whoever still has the old
// one open signs nothing any more. The marks stay: no key signs again what it
// signed. If another ledger is there it fails with record.ErrStale.
func (s *Store) ReplaceLedger(ctx context.Context, old slashing.Info, genesisValidatorsRoot eth.Root) (slashing.Info, error) {
	info, err := s.makeLedger(ctx, slashing.Info{Signer: old.Signer, Root: genesisValidatorsRoot}, func(stands *head) error {
		if stands != nil && stands.ID != old.ID {
			return fmt.Errorf("it is %q, not %q: %w", stands.ID, old.ID, record.ErrStale)
		}
		return nil
	})
	if err != nil {
		return slashing.Info{}, fmt.Errorf("couldn't replace the ledger of %q: %w", old.Signer, err)
	}
	return info, nil
}

// makeLedger writes a new head where may allows it for the one that is there.
func (s *Store) makeLedger(ctx context.Context, info slashing.Info, may func(*head) error) (slashing.Info, error) {
	if err := record.CheckSigner(info.Signer); err != nil {
		return info, err
	}
	info.ID = "ledger-" + strings.ToLower(rand.Text())
	h := head{Info: info}
	var before item
	for range swaps {
		stands, err := s.swap(ctx, s.tables.Ledger, h.item(s.tables.Ledger), before)
		if err != nil {
			return info, err
		}
		if stands == nil {
			return info, nil
		}
		old, err := stands.head(s.tables.Ledger)
		if err == nil {
			err = may(&old)
		}
		if err != nil {
			return info, err
		}
		before, h.beat = stands, old.beat+1
	}
	return info, errContended
}

// OpenLedger opens the ledger of a signer's name, or fails with
// record.ErrNotFound. Any number of processes may have it open; who of them
// signs is what Hold says.
func (s *Store) OpenLedger(ctx context.Context, signer string) (*Ledger, error) {
	h, err := s.head(ctx, signer)
	if err != nil {
		return nil, fmt.Errorf("couldn't open the ledger of %q: %w", signer, err)
	}
	return &Ledger{s: s, info: h.Info, seen: map[eth.Pubkey]*seen{}}, nil
}

func (s *Store) head(ctx context.Context, signer string) (head, error) {
	if s.tables.Ledger == "" {
		return head{}, errNoTable
	}
	if record.CheckSigner(signer) != nil {
		return head{}, record.ErrNotFound
	}
	it, err := s.get(ctx, s.tables.Ledger, headKey(signer))
	if err != nil {
		return head{}, err
	}
	if it == nil {
		return head{}, record.ErrNotFound
	}
	return it.head(s.tables.Ledger)
}

// Info says whose ledger it is.
func (l *Ledger) Info() slashing.Info { return l.info }

// Close forgets what was seen. Nothing waits to be written.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.seen)
	return nil
}

// head reads the ledger's own item. One that is not this ledger's any more was
// replaced: slashing.ErrHolder.
func (l *Ledger) head(ctx context.Context) (head, error) {
	h, err := l.s.head(ctx, l.info.Signer)
	if err != nil {
		return h, err
	}
	return h, l.own(h)
}

func (l *Ledger) own(h head) error {
	if h.Info != l.info {
		return fmt.Errorf("%w: %q was replaced by %q", slashing.ErrHolder, l.info.ID, h.ID)
	}
	return nil
}

// turn changes the ledger's own item. change leaves it as it is by returning
// it.
func (l *Ledger) turn(ctx context.Context, change func(head) (head, error)) (head, error) {
	h, err := l.head(ctx)
	for range swaps {
		if err != nil {
			return h, err
		}
		next, err := change(h)
		if err != nil || next == h {
			return h, err
		}
		next.beat = h.beat + 1
		table := l.s.tables.Ledger
		stands, err := l.s.swap(ctx, table, next.item(table), h.item(table))
		if err != nil {
			return h, err
		}
		if stands == nil {
			return next, nil
		}
		if h, err = stands.head(table); err == nil {
			err = l.own(h)
		}
		if err != nil {
			return h, err
		}
	}
	return h, errContended
}

// Hold puts the ledger under an epoch of the lease, from which on only that
// epoch may sign. An epoch below the one that it is held under is
// slashing.ErrHolder; the same one again succeeds.
func (l *Ledger) Hold(ctx context.Context, epoch uint64) error {
	_, err := l.turn(ctx, func(h head) (head, error) {
		if epoch < h.epoch {
			return h, fmt.Errorf("%w: under epoch %d, not %d", slashing.ErrHolder, h.epoch, epoch)
		}
		h.epoch = epoch
		return h, nil
	})
	if err != nil {
		return fmt.Errorf("couldn't hold the slashing ledger: %w", err)
	}
	return nil
}

// Epoch is the epoch of the lease that it is held under.
func (l *Ledger) Epoch(ctx context.Context) (uint64, error) {
	h, err := l.head(ctx)
	if err != nil {
		return 0, fmt.Errorf("couldn't read the slashing ledger: %w", err)
	}
	return h.epoch, nil
}

// Watermark is a number that has risen whenever a mark was written since the
// last call: a table that was restored to a time before has a lower one. It
// costs a read, and a write if something was signed.
func (l *Ledger) Watermark(ctx context.Context) (uint64, error) {
	signed := l.signed.Swap(false)
	rise := signed
	h, err := l.turn(ctx, func(h head) (head, error) {
		if rise {
			h.beat++ // makes it another; turn counts by one
		}
		return h, nil
	})
	if err != nil {
		if signed {
			l.signed.Store(true) // it must rise yet
		}
		return 0, fmt.Errorf("couldn't read the slashing ledger: %w", err)
	}
	return h.beat, nil
}
