package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// maxBatch is how many changes share one commit at most.
const maxBatch = 256

// change is a write that waits for its commit.
type change struct {
	do   func(*tx) error
	done chan error
}

// tx is the transaction that a change runs in. A change first decides by
// reading, under the database's write lock, and then writes; a refusal has
// written nothing. A statement that failed leaves broken behind, and nothing
// of the transaction is kept.
type tx struct {
	s      *Store
	wrote  bool
	broken bool
}

// write runs do in a transaction, together with changes that other goroutines
// have brought meanwhile, and returns its error once the transaction is on
// the disk. So n goroutines that write cost one fsync, not n. If ctx ends
// first the change may still be applied: what do assigns must not be read
// when write fails.
func (s *Store) write(ctx context.Context, do func(*tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.isClosed() { // first: a closed store takes nothing, even if the queue has room
		return ErrClosed
	}
	c := &change{do: do, done: make(chan error, 1)}
	select {
	case s.changes <- c:
	case <-s.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-c.done:
		return classify(err)
	case <-s.stopped: // put into the queue just as it was closed
		select {
		case err := <-c.done:
			return classify(err)
		default:
			return ErrClosed
		}
	case <-ctx.Done():
		return fmt.Errorf("it is not known whether it was written: %w", ctx.Err())
	}
}

func (s *Store) isClosed() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// run commits changes in the order they came until Close.
func (s *Store) run() {
	defer close(s.stopped)
	for {
		select {
		case c := <-s.changes:
			s.commit(s.gather(c))
		case <-s.closing:
			for {
				select {
				case c := <-s.changes:
					s.commit(s.gather(c))
				default:
					return
				}
			}
		}
	}
}

// gather adds the changes that wait already; it never waits for more.
func (s *Store) gather(c *change) []*change {
	batch := []*change{c}
	for len(batch) < maxBatch {
		select {
		case c := <-s.changes:
			batch = append(batch, c)
		default:
			return batch
		}
	}
	return batch
}

// commit runs the changes in one transaction and tells each its outcome. If a
// statement fails, the transaction is rolled back and each change runs in its
// own, so that none fails for another's fault.
func (s *Store) commit(batch []*change) {
	outcomes, alone, err := s.transact(batch)
	if alone {
		for _, c := range batch {
			s.commit([]*change{c})
		}
		return
	}
	for i, c := range batch {
		if err != nil {
			c.done <- err
		} else {
			c.done <- outcomes[i]
		}
	}
}

// transact returns what each change said, or the error that ended the
// transaction. Alone asks to run each again in its own: only after a
// statement failed, when nothing can have been kept. A COMMIT that failed may
// have been applied, and repeating an event would note it twice.
func (s *Store) transact(batch []*change) (outcomes []error, alone bool, err error) {
	ctx := context.Background() // a batch belongs to no single caller
	if _, err := s.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return nil, false, err
	}
	t := &tx{s: s}
	defer func() {
		if err != nil || !t.wrote {
			// It fails if SQLite has rolled back already; if it fails
			// otherwise, the next BEGIN fails and nothing is written.
			_, _ = s.conn.ExecContext(ctx, "ROLLBACK")
		}
	}()
	for _, c := range batch {
		err := c.do(t)
		if t.broken {
			return nil, len(batch) > 1, err
		}
		outcomes = append(outcomes, err)
	}
	if !t.wrote {
		// What they found is durable already: in WAL mode a commit is seen
		// only after its fsync, by whichever process.
		return outcomes, false, nil
	}
	if _, err := s.conn.ExecContext(ctx, "COMMIT"); err != nil {
		return nil, false, fmt.Errorf("it is not known whether it was written: %w", err)
	}
	return outcomes, false, nil
}

func (t *tx) stmt(query string) (*sql.Stmt, error) {
	stmt, ok := t.s.stmts[query]
	if !ok {
		var err error
		if stmt, err = t.s.conn.PrepareContext(context.Background(), query); err != nil {
			t.broken = true
			return nil, err
		}
		t.s.stmts[query] = stmt
	}
	return stmt, nil
}

// row reads one row; found is false if there is none.
func (t *tx) row(query string, args []any, into ...any) (found bool, err error) {
	stmt, err := t.stmt(query)
	if err != nil {
		return false, err
	}
	err = stmt.QueryRow(args...).Scan(into...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	t.broken = t.broken || err != nil
	return err == nil, err
}

func (t *tx) exec(query string, args ...any) error {
	stmt, err := t.stmt(query)
	if err != nil {
		return err
	}
	t.wrote = true
	if _, err := stmt.Exec(args...); err != nil {
		t.broken = true
		return err
	}
	return nil
}
