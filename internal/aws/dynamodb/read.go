package dynamodb

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// Order implements record.Reader.
func (s *Store) Order(ctx context.Context, id string) (record.Order, error) {
	o, found, err := s.order(ctx, id)
	if err == nil && !found {
		err = record.ErrNotFound
	}
	if err != nil {
		return record.Order{}, fmt.Errorf("couldn't read order %q: %w", id, err)
	}
	return o, nil
}

// Birth implements record.Reader: the pubkey's claim, then the birth it was
// made for. It does not lag behind PutBirth.
func (s *Store) Birth(ctx context.Context, pubkey eth.Pubkey) (record.Birth, error) {
	b, err := s.birth(ctx, pubkey)
	if err != nil {
		return record.Birth{}, fmt.Errorf("couldn't read the birth of %s: %w", pubkey, err)
	}
	return b, nil
}

func (s *Store) birth(ctx context.Context, pubkey eth.Pubkey) (record.Birth, error) {
	c, err := s.claim(ctx, pubkey)
	if err != nil {
		return record.Birth{}, err
	}
	if c == nil || c.imported() {
		return record.Birth{}, record.ErrNotFound
	}
	it, err := s.get(ctx, s.tables.Records, birthKey(c.Order, c.Index))
	if err != nil {
		return record.Birth{}, err
	}
	if it == nil {
		return record.Birth{}, record.ErrNotFound
	}
	b, err := it.birth()
	if err != nil {
		return record.Birth{}, err
	}
	if b.Pubkey != pubkey { // the claim came second to another birth
		return record.Birth{}, record.ErrNotFound
	}
	return b, nil
}

// Validators implements record.Reader, strongly consistent for every query.
func (s *Store) Validators(ctx context.Context, q record.Query) iter.Seq2[record.Validator, error] {
	const what = "validators"
	if q.Order != "" && !isID(q.Order) {
		return func(func(record.Validator, error) bool) {}
	}
	if err := checkPrefix(what, q.Prefix); err != nil {
		return failed[record.Validator](err)
	}
	switch {
	case q.Prefix != "":
		claims := s.pages(ctx, query{table: s.tables.Records, pk: pubkeyPartition(q.Prefix[:1]), prefix: q.Prefix})
		return list(ctx, what, claims, atOnce(func(it item) (*record.Validator, error) {
			c, err := it.claim()
			if err != nil || q.Order != "" && c.Order != q.Order {
				return nil, err
			}
			return s.born(ctx, c)
		}))
	case q.Order != "":
		return list(ctx, what, s.births(ctx, q.Order, validatorAttributes), each(item.validator))
	}
	return func(yield func(record.Validator, error) bool) {
		orders := s.pages(ctx, query{table: s.tables.Records, pk: orderKey("").pk})
		for o, err := range list(ctx, what, orders, each(item.order)) { // by id
			if err != nil {
				yield(record.Validator{}, err)
				return
			}
			for v, err := range s.Validators(ctx, record.Query{Order: o.ID}) {
				if !yield(v, err) || err != nil {
					return
				}
			}
		}
	}
}

func (s *Store) births(ctx context.Context, order string, attributes []string) iter.Seq2[[]item, error] {
	return s.pages(ctx, query{table: s.tables.Records, pk: birthKey(order, 0).pk, prefix: birthPrefix, attributes: attributes})
}

// Orders implements record.Catalog. It holds all orders in memory, some 1 KB
// each, to sort them: their items stand by id.
func (s *Store) Orders(ctx context.Context) iter.Seq2[record.Order, error] {
	pages := s.pages(ctx, query{table: s.tables.Records, pk: orderKey("").pk})
	return sorted(ctx, "orders", pages, item.order, func(a, b record.Order) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
}

// Mnemonics implements record.Catalog. It holds those of the order in memory,
// some 5 KB for each invocation that ran it.
func (s *Store) Mnemonics(ctx context.Context, order string) iter.Seq2[record.Mnemonic, error] {
	if !isID(order) {
		return func(func(record.Mnemonic, error) bool) {}
	}
	pages := s.pages(ctx, query{table: s.tables.Records, pk: mnemonicKey(order, "").pk, prefix: mnemonicPrefix})
	return sorted(ctx, fmt.Sprintf("mnemonics of order %q", order), pages, item.mnemonic, func(a, b record.Mnemonic) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.ID, b.ID))
	})
}

// sorted is list in another order than that of the keys. Nothing is yielded
// before the last page was read.
func sorted[T any](ctx context.Context, what string, pages iter.Seq2[[]item, error], read func(item) (T, error), less func(a, b T) int) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		var all []T
		for v, err := range list(ctx, what, pages, each(read)) {
			if err != nil {
				yield(zero, err)
				return
			}
			all = append(all, v)
		}
		slices.SortFunc(all, less)
		for _, v := range all {
			if err := ctx.Err(); err != nil {
				yield(zero, fmt.Errorf("couldn't list %s: %w", what, err))
				return
			}
			if !yield(v, nil) {
				return
			}
		}
	}
}
