package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"strings"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// Append implements record.Events.
func (s *Store) Append(ctx context.Context, e record.Event) error {
	if err := s.append(ctx, e); err != nil {
		return fmt.Errorf("couldn't note %q: %w", e.Kind, err)
	}
	return nil
}

func (s *Store) append(ctx context.Context, e record.Event) error {
	data, err := record.EncodeEvent(e)
	if err != nil {
		return err
	}
	sum := record.DigestOf(data)
	once := sql.NullString{String: e.Once, Valid: e.Once != ""} // of NULLs UNIQUE allows many
	return s.write(ctx, func(t *tx) error {
		if once.Valid {
			var one int
			taken, err := t.row("SELECT 1 FROM events WHERE once = ?", []any{e.Once}, &one)
			if err != nil {
				return err
			}
			if taken {
				return fmt.Errorf("%q: %w", e.Once, record.ErrExists)
			}
		}
		return t.exec("INSERT INTO events (order_id, pubkey, kind, once, record, sha256) VALUES (?, ?, ?, ?, ?, ?)",
			e.Order, blob(e.Pubkey), e.Kind, once, string(data), sum[:])
	})
}

// Events implements record.Events, in the order in which they were appended.
func (s *Store) Events(ctx context.Context, q record.EventQuery) iter.Seq2[record.Event, error] {
	where, args := []string{"seq > ?"}, []any{int64(0)}
	if q.Order != "" {
		where, args = append(where, "order_id = ?"), append(args, q.Order)
	}
	if q.Pubkey != (eth.Pubkey{}) {
		where, args = append(where, "pubkey = ?"), append(args, q.Pubkey[:])
	}
	if q.Kind != "" {
		where, args = append(where, "kind = ?"), append(args, q.Kind)
	}
	query := "SELECT seq, order_id, pubkey, record, sha256 FROM events WHERE " + strings.Join(where, " AND ") + " ORDER BY seq"

	type noted struct {
		seq int64
		record.Event
	}
	rows := list(ctx, s, "events",
		func(last *noted) (string, []any) {
			args := append([]any{}, args...)
			if last != nil {
				args[0] = last.seq
			}
			return query, args
		},
		func(rows *sql.Rows) (noted, error) {
			var r row
			if err := rows.Scan(&r.seq, &r.id, &r.pubkey, &r.record, &r.sum); err != nil {
				return noted{}, err
			}
			e, err := r.event()
			if err == nil && q.Kind != "" && e.Kind != q.Kind {
				err = fmt.Errorf("event %d: %w", r.seq, record.ErrCorrupt)
			}
			return noted{r.seq, e}, err
		})
	return func(yield func(record.Event, error) bool) {
		for n, err := range rows {
			if !yield(n.Event, err) {
				return
			}
		}
	}
}
