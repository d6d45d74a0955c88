package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/stakeseal/stakeseal/record"
)

// Verify reads every item and fails with ErrCorrupt of record if a record is
// not as it was written, does not fit its order or its mnemonic, or is a birth
// or import without its claim. It skips tables that it was not given.
func (s *Store) Verify(ctx context.Context) error {
	if err := s.verify(ctx); err != nil {
		return fmt.Errorf("couldn't verify the DynamoDB store: %w", err)
	}
	return nil
}

func (s *Store) verify(ctx context.Context) error {
	for o, err := range s.Orders(ctx) {
		if err != nil {
			return err
		}
		mnemonics := map[string]record.Mnemonic{}
		for m, err := range s.Mnemonics(ctx, o.ID) {
			if err == nil {
				err = asCorrupt(m.Fits(o))
			}
			if err != nil {
				return err
			}
			mnemonics[m.ID] = m
		}
		births := list(ctx, "births", s.births(ctx, o.ID, nil), atOnce(func(it item) (*record.Birth, error) {
			b, err := it.birth()
			if err != nil {
				return nil, err
			}
			c, err := s.claim(ctx, b.Pubkey)
			if err == nil && (c == nil || c.must(b) != nil) {
				err = corrupt(it, errors.New("its pubkey is not claimed for it"))
			}
			return &b, err
		}))
		for b, err := range births {
			if err != nil {
				return err
			}
			if err := errors.Join(b.Fits(o), mnemonics[b.Mnemonic].Covers(b.Validator)); err != nil {
				return asCorrupt(err)
			}
		}
	}
	if err := s.verifyImports(ctx); err != nil {
		return err
	}
	if err := end(s.claims(ctx)); err != nil {
		return err
	}
	if s.tables.Assignments != "" {
		if err := end(s.Assigned(ctx, "")); err != nil {
			return err
		}
	}
	if s.tables.Events != "" {
		if err := end(s.Events(ctx, record.EventQuery{})); err != nil {
			return err
		}
	}
	if s.tables.Ledger != "" {
		if err := end(s.standings(ctx)); err != nil {
			return err
		}
		if err := end(s.heads(ctx)); err != nil {
			return err
		}
	}
	if s.tables.Leases != "" {
		return end(s.Leases(ctx))
	}
	return nil
}

// heads yields what each signer's ledger is, by name.
func (s *Store) heads(ctx context.Context) iter.Seq2[head, error] {
	pages := s.pages(ctx, query{table: s.tables.Ledger, pk: signersPartition})
	return list(ctx, "ledgers", pages, each(func(it item) (head, error) { return it.head(s.tables.Ledger) }))
}

func asCorrupt(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", record.ErrCorrupt, plain(err))
}

// end reads a list to its end.
func end[T any](rows iter.Seq2[T, error]) error {
	for _, err := range rows {
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) claims(ctx context.Context) iter.Seq2[Claim, error] {
	return list(ctx, "claims", s.claimPages(ctx), each(item.claim))
}

func (s *Store) claimPages(ctx context.Context) iter.Seq2[[]item, error] {
	return s.spread(ctx, hexDigits, pubkeyPartition, query{table: s.tables.Records})
}

// Unborn yields the claims that no birth or import followed, by pubkey: of a
// writer that died between the two, that came second to an index, or that is
// between the two now. They cost nothing but that their pubkeys cannot be put
// elsewhere.
func (s *Store) Unborn(ctx context.Context) iter.Seq2[Claim, error] {
	return list(ctx, "claims", s.claimPages(ctx), atOnce(func(it item) (*Claim, error) {
		c, err := it.claim()
		if err != nil {
			return nil, err
		}
		known, err := s.known(ctx, c)
		if err != nil || known {
			return nil, err
		}
		return &c, nil
	}))
}
