package dynamodb

import (
	"context"
	"fmt"
	"iter"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

func (it item) assignment() (record.Assignment, error) {
	a, err := decode(it, attrRecord, attrSum, record.DecodeAssignment, func(a record.Assignment) key { return pubkeyKey(a.Pubkey) })
	if err != nil {
		return record.Assignment{}, err
	}
	// The condition of the next Assign looks at this attribute alone.
	if epoch, ok := it.number(attrEpoch); !ok || epoch != a.Epoch {
		return record.Assignment{}, corrupt(it, fmt.Errorf("its epoch is not the record's %d", a.Epoch))
	}
	return a, nil
}

// Assignment implements record.Assignments.
func (s *Store) Assignment(ctx context.Context, pubkey eth.Pubkey) (record.Assignment, error) {
	a, found, err := s.assignment(ctx, pubkey)
	if err == nil && !found {
		err = record.ErrNotFound
	}
	if err != nil {
		return record.Assignment{}, fmt.Errorf("couldn't read the assignment of %s: %w", pubkey, err)
	}
	return a, nil
}

func (s *Store) assignment(ctx context.Context, pubkey eth.Pubkey) (a record.Assignment, found bool, err error) {
	if s.tables.Assignments == "" {
		return record.Assignment{}, false, errNoTable
	}
	it, err := s.get(ctx, s.tables.Assignments, pubkeyKey(pubkey))
	if err != nil || it == nil {
		return record.Assignment{}, false, err
	}
	a, err = it.assignment()
	return a, err == nil, err
}

// Assign implements record.Assignments: one write under the condition that
// the stored epoch is the one before.
func (s *Store) Assign(ctx context.Context, a record.Assignment) error {
	if err := s.assign(ctx, a); err != nil {
		return fmt.Errorf("couldn't assign %s: %w", a.Pubkey, err)
	}
	return nil
}

func (s *Store) assign(ctx context.Context, a record.Assignment) error {
	data, err := record.EncodeAssignment(a)
	if err != nil {
		return err
	}
	if s.tables.Assignments == "" {
		return errNoTable
	}
	// A birth or import that exists never ceases to: that this is another
	// table, and another call, opens no race.
	c, err := s.claim(ctx, a.Pubkey)
	if err != nil {
		return err
	}
	if c == nil {
		return record.ErrNotFound
	}
	known, err := s.known(ctx, *c)
	if err != nil {
		return err
	}
	if !known {
		return record.ErrNotFound
	}
	it := withRecord(pubkeyKey(a.Pubkey), data)
	it[attrEpoch] = number(a.Epoch)
	next := absent
	if a.Epoch > 1 {
		next = condition{"#epoch = :before", map[string]string{"#epoch": attrEpoch}, item{":before": number(a.Epoch - 1)}}
	}
	applied, err := s.put(ctx, s.tables.Assignments, it, next)
	if err != nil || applied {
		return err
	}
	current, found, err := s.assignment(ctx, a.Pubkey)
	switch {
	case err != nil:
		return err
	case !found && a.Epoch == 1:
		return errVanished
	case current == a:
		return nil // this call, or one like it, had won
	}
	return fmt.Errorf("stored is epoch %d: %w", current.Epoch, record.ErrStale)
}

// known says whether a birth or an import followed a claim.
func (s *Store) known(ctx context.Context, c Claim) (bool, error) {
	if c.imported() {
		return s.isImported(ctx, c.Pubkey)
	}
	v, err := s.born(ctx, c)
	return v != nil, err
}

// Assigned implements record.Assignments, strongly consistent. It reads all
// assignments, some 500 bytes each, for one signer too: an index by signer
// would have to lag behind.
func (s *Store) Assigned(ctx context.Context, signer string) iter.Seq2[record.Assignment, error] {
	pages := s.spread(ctx, hexDigits, pubkeyPartition, query{table: s.tables.Assignments})
	return list(ctx, "assignments", pages, func(page []item) (out []record.Assignment, err error) {
		for _, it := range page {
			a, err := it.assignment()
			if err != nil {
				return nil, err
			}
			if signer == "" || a.Signer == signer {
				out = append(out, a)
			}
		}
		return out, nil
	})
}
