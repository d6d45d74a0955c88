package dynamodb

import (
	"context"
	"fmt"
	"iter"

	"github.com/stakeseal/stakeseal/record"
)

var _ record.Leases = (*Store)(nil)

// leasesPartition holds all leases, so that one query lists them. They stand
// in a table of their own: a ledger that was restored to an earlier time does
// not agree with them.
const leasesPartition = "leases"

func leaseKey(name string) key { return key{leasesPartition, name} }

func (it item) lease() (record.Lease, error) {
	return decode(it, attrRecord, attrSum, record.DecodeLease, func(l record.Lease) key { return leaseKey(l.Name) })
}

// Lease implements record.Leases.
func (s *Store) Lease(ctx context.Context, name string) (record.Lease, error) {
	l, it, err := s.lease(ctx, name)
	if err == nil && it == nil {
		err = record.ErrNotFound
	}
	if err != nil {
		return record.Lease{}, fmt.Errorf("couldn't read the lease of %q: %w", name, err)
	}
	return l, nil
}

func (s *Store) lease(ctx context.Context, name string) (l record.Lease, it item, err error) {
	if s.tables.Leases == "" {
		return l, nil, errNoTable
	}
	if !isID(name) {
		return l, nil, nil
	}
	if it, err = s.get(ctx, s.tables.Leases, leaseKey(name)); err != nil || it == nil {
		return l, nil, err
	}
	l, err = it.lease()
	return l, it, err
}

// Take implements record.Leases: one write under the condition that the stored
// lease is the one that was read and judged.
func (s *Store) Take(ctx context.Context, next record.Lease) error {
	if err := s.take(ctx, next); err != nil {
		return fmt.Errorf("couldn't take the lease of %q: %w", next.Name, err)
	}
	return nil
}

func (s *Store) take(ctx context.Context, next record.Lease) error {
	data, err := record.EncodeLease(next)
	if err != nil {
		return err
	}
	old, before, err := s.lease(ctx, next.Name)
	for range swaps {
		if err != nil || old == next { // the call that won, repeated
			return err
		}
		if err := next.Follows(old); err != nil {
			return err
		}
		stands, err := s.swap(ctx, s.tables.Leases, withRecord(leaseKey(next.Name), data), before)
		if err != nil || stands == nil {
			return err
		}
		before = stands
		if old, err = stands.lease(); err != nil {
			return err
		}
	}
	return errContended
}

// Leases implements record.Leases.
func (s *Store) Leases(ctx context.Context) iter.Seq2[record.Lease, error] {
	pages := s.pages(ctx, query{table: s.tables.Leases, pk: leasesPartition})
	return list(ctx, "leases", pages, each(item.lease))
}
