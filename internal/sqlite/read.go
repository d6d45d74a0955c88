package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// row is a stored record as it was read: its form, the checksum noted with
// it, and the columns that repeat it.
type row struct {
	seq    int64
	record []byte
	sum    []byte
	id     string // of the order
	index  uint32
	pubkey []byte
}

// check refuses a record other than the one whose checksum was noted.
func (r *row) check() error {
	if sum := record.DigestOf(r.record); !bytes.Equal(sum[:], r.sum) {
		return fmt.Errorf("%w: the sha256 of %.60q... is %s, noted was %x", record.ErrCorrupt, r.record, sum, r.sum)
	}
	return nil
}

// decode reads a row's record; same says whether the columns repeat it.
func decode[T any](r *row, read func([]byte) (T, error), same func(T) bool) (T, error) {
	var zero T
	if err := r.check(); err != nil {
		return zero, err
	}
	v, err := read(r.record)
	if err != nil {
		return zero, fmt.Errorf("%w: %w", record.ErrCorrupt, err)
	}
	if !same(v) {
		return zero, fmt.Errorf("%w: %.60q... stands under another key", record.ErrCorrupt, r.record)
	}
	return v, nil
}

func (r *row) order() (record.Order, error) {
	return decode(r, record.DecodeOrder, func(o record.Order) bool { return o.ID == r.id })
}

func (r *row) mnemonic() (record.Mnemonic, error) {
	return decode(r, record.DecodeMnemonic, func(m record.Mnemonic) bool { return m.Order == r.id && m.From == r.index })
}

func (r *row) validator() (record.Validator, error) {
	return decode(r, record.DecodeValidator, func(v record.Validator) bool {
		return v.Order == r.id && v.Index == r.index && bytes.Equal(v.Pubkey[:], r.pubkey)
	})
}

func (r *row) assignment() (record.Assignment, error) {
	return decode(r, record.DecodeAssignment, func(a record.Assignment) bool { return bytes.Equal(a.Pubkey[:], r.pubkey) })
}

func (r *row) event() (record.Event, error) {
	return decode(r, record.DecodeEvent, func(e record.Event) bool {
		return e.Order == r.id && bytes.Equal(blob(e.Pubkey), r.pubkey)
	})
}

// blob is a pubkey as a column holds it: none is empty.
func blob(p eth.Pubkey) []byte {
	if p == (eth.Pubkey{}) {
		return []byte{}
	}
	return p[:]
}

// prepared returns the query, prepared for the readers. There are some dozen
// different ones.
func (s *Store) prepared(query string) (*sql.Stmt, error) {
	if s.isClosed() {
		return nil, ErrClosed
	}
	if stmt, ok := s.reads.Load(query); ok {
		return stmt.(*sql.Stmt), nil
	}
	stmt, err := s.reader.Prepare(query)
	if err != nil {
		return nil, err
	}
	if first, raced := s.reads.LoadOrStore(query, stmt); raced {
		return first.(*sql.Stmt), stmt.Close()
	}
	return stmt, nil
}

// one reads a single row or fails with ErrNotFound. What ctx says is asked
// before: a row is read in less time than the two goroutines take that would
// watch over ctx meanwhile.
func (s *Store) one(ctx context.Context, query string, args []any, into ...any) error {
	stmt, err := s.prepared(query)
	if err != nil {
		return classify(err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	err = stmt.QueryRowContext(context.WithoutCancel(ctx), args...).Scan(into...)
	if errors.Is(err, sql.ErrNoRows) {
		return record.ErrNotFound
	}
	return classify(err)
}

// pageRows is how many rows one query of a list takes; between two no
// transaction is open.
const pageRows = 256

// list yields the rows of pages: next returns the query of the page behind
// the row last yielded (nil at first), scan reads a row. A page is read whole
// before its first row is yielded.
func list[T any](ctx context.Context, s *Store, what string, next func(last *T) (string, []any), scan func(*sql.Rows) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		var last *T
		for {
			query, args := next(last)
			page, err := readPage(ctx, s, query, args, scan)
			if err != nil {
				yield(zero, fmt.Errorf("couldn't list %s: %w", what, classify(err)))
				return
			}
			for _, v := range page {
				if err := ctx.Err(); err != nil {
					yield(zero, fmt.Errorf("couldn't list %s: %w", what, err))
					return
				}
				if !yield(v, nil) {
					return
				}
			}
			if len(page) < pageRows {
				return
			}
			last = &page[len(page)-1]
		}
	}
}

func readPage[T any](ctx context.Context, s *Store, query string, args []any, scan func(*sql.Rows) (T, error)) ([]T, error) {
	stmt, err := s.prepared(fmt.Sprintf("%s LIMIT %d", query, pageRows))
	if err != nil {
		return nil, err
	}
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var page []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		page = append(page, v)
	}
	return page, rows.Err()
}

// failed is a list that is only an error.
func failed[T any](err error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		yield(zero, err)
	}
}

// Order implements record.Reader.
func (s *Store) Order(ctx context.Context, id string) (record.Order, error) {
	var r row
	err := s.one(ctx, selectOrder+" WHERE id = ?", []any{id}, &r.id, &r.record, &r.sum)
	if err != nil {
		return record.Order{}, fmt.Errorf("couldn't read order %q: %w", id, err)
	}
	o, err := r.order()
	if err != nil {
		return record.Order{}, fmt.Errorf("couldn't read order %q: %w", id, err)
	}
	return o, nil
}

// Orders implements record.Catalog.
func (s *Store) Orders(ctx context.Context) iter.Seq2[record.Order, error] {
	return list(ctx, s, "orders",
		func(last *record.Order) (string, []any) {
			if last == nil {
				return selectOrder + " ORDER BY created, id", nil
			}
			return selectOrder + " WHERE (created, id) > (?, ?) ORDER BY created, id", []any{last.Created.Unix(), last.ID}
		},
		func(rows *sql.Rows) (record.Order, error) {
			var r row
			if err := rows.Scan(&r.id, &r.record, &r.sum); err != nil {
				return record.Order{}, err
			}
			return r.order()
		})
}

// Mnemonics implements record.Catalog.
func (s *Store) Mnemonics(ctx context.Context, order string) iter.Seq2[record.Mnemonic, error] {
	return list(ctx, s, fmt.Sprintf("mnemonics of order %q", order),
		func(last *record.Mnemonic) (string, []any) {
			from, id := int64(-1), ""
			if last != nil {
				from, id = int64(last.From), last.ID
			}
			return "SELECT order_id, first, record, sha256 FROM mnemonics WHERE order_id = ? AND (first, id) > (?, ?) ORDER BY first, id", []any{order, from, id}
		},
		func(rows *sql.Rows) (record.Mnemonic, error) {
			var r row
			if err := rows.Scan(&r.id, &r.index, &r.record, &r.sum); err != nil {
				return record.Mnemonic{}, err
			}
			return r.mnemonic()
		})
}

// Validators implements record.Reader.
func (s *Store) Validators(ctx context.Context, q record.Query) iter.Seq2[record.Validator, error] {
	next := byIndex(q.Order)
	if q.Prefix != "" {
		from, to, err := prefixRange(q.Prefix)
		if err != nil {
			return failed[record.Validator](fmt.Errorf("couldn't list validators: %w", err))
		}
		next = byPubkey(q.Order, from, to)
	}
	return list(ctx, s, "validators", next, func(rows *sql.Rows) (record.Validator, error) {
		var r row
		if err := rows.Scan(&r.id, &r.index, &r.pubkey, &r.record, &r.sum); err != nil {
			return record.Validator{}, err
		}
		return r.validator()
	})
}

const selectValidator = "SELECT order_id, idx, pubkey, validator, validator_sha256 FROM births"

func byIndex(order string) func(last *record.Validator) (string, []any) {
	return func(last *record.Validator) (string, []any) {
		after, index := order, int64(-1)
		if last != nil {
			after, index = last.Order, int64(last.Index)
		}
		if order != "" {
			return selectValidator + " WHERE order_id = ? AND idx > ? ORDER BY idx", []any{order, index}
		}
		return selectValidator + " WHERE (order_id, idx) > (?, ?) ORDER BY order_id, idx", []any{after, index}
	}
}

func byPubkey(order string, from, to []byte) func(last *record.Validator) (string, []any) {
	return func(last *record.Validator) (string, []any) {
		after := from
		if last != nil {
			after = append(last.Pubkey[:], 0) // the least blob above it
		}
		query, args := selectValidator+" WHERE pubkey >= ? AND pubkey < ?", []any{after, to}
		if order != "" {
			query += " AND +order_id = ?" // +: by the index on pubkey
			args = append(args, order)
		}
		return query + " ORDER BY pubkey", args
	}
}

// prefixRange returns the range [from, to) of pubkeys that begin with the
// lower-case hex digits.
func prefixRange(prefix string) (from, to []byte, err error) {
	if len(prefix) > 96 || strings.Trim(prefix, "0123456789abcdef") != "" {
		return nil, nil, fmt.Errorf("pubkey prefix %.100q is not up to 96 lower-case hex digits", prefix)
	}
	if from, err = hex.DecodeString(prefix + strings.Repeat("0", 96-len(prefix))); err != nil {
		return nil, nil, err
	}
	if to, err = hex.DecodeString(prefix + strings.Repeat("f", 96-len(prefix))); err != nil {
		return nil, nil, err
	}
	return from, append(to, 0), nil // the least blob above the last one
}
