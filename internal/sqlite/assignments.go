package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"iter"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

const selectAssignment = "SELECT pubkey, record, sha256 FROM assignments"

// Assignment implements record.Assignments.
func (s *Store) Assignment(ctx context.Context, pubkey eth.Pubkey) (record.Assignment, error) {
	var r row
	err := s.one(ctx, selectAssignment+" WHERE pubkey = ?", []any{pubkey[:]}, &r.pubkey, &r.record, &r.sum)
	var a record.Assignment
	if err == nil {
		a, err = r.assignment()
	}
	if err == nil && a.Pubkey != pubkey {
		err = fmt.Errorf("found %s: %w", a.Pubkey, record.ErrCorrupt)
	}
	if err != nil {
		return record.Assignment{}, fmt.Errorf("couldn't read the assignment of %s: %w", pubkey, err)
	}
	return a, nil
}

// Assign implements record.Assignments.
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
	sum := record.DigestOf(data)
	return s.write(ctx, func(t *tx) error {
		var one int
		known, err := t.row("SELECT 1 FROM births WHERE pubkey = ?", []any{a.Pubkey[:]}, &one)
		if err != nil {
			return err
		}
		if !known {
			if known, err = t.isImported(a.Pubkey); err != nil {
				return err
			}
		}
		if !known {
			return record.ErrNotFound
		}
		var r row
		var current record.Assignment // epoch 0 if there is none
		found, err := t.row(selectAssignment+" WHERE pubkey = ?", []any{a.Pubkey[:]}, &r.pubkey, &r.record, &r.sum)
		if err == nil && found {
			current, err = r.assignment()
		}
		switch {
		case err != nil:
			return err
		case current == a:
			return nil // the call that won, repeated
		case a.Epoch-1 != current.Epoch: // Check refuses epoch 0
			return fmt.Errorf("stored is epoch %d: %w", current.Epoch, record.ErrStale)
		case !found:
			return t.exec("INSERT INTO assignments (pubkey, signer, epoch, record, sha256) VALUES (?, ?, ?, ?, ?)",
				a.Pubkey[:], a.Signer, int64(a.Epoch), string(data), sum[:])
		}
		return t.exec("UPDATE assignments SET signer = ?, epoch = ?, record = ?, sha256 = ? WHERE pubkey = ?",
			a.Signer, int64(a.Epoch), string(data), sum[:], a.Pubkey[:])
	})
}

// Assigned implements record.Assignments.
func (s *Store) Assigned(ctx context.Context, signer string) iter.Seq2[record.Assignment, error] {
	return list(ctx, s, "assignments",
		func(last *record.Assignment) (string, []any) {
			after := []byte{}
			if last != nil {
				after = last.Pubkey[:]
			}
			if signer == "" {
				return selectAssignment + " WHERE pubkey > ? ORDER BY pubkey", []any{after}
			}
			return selectAssignment + " WHERE signer = ? AND pubkey > ? ORDER BY pubkey", []any{signer, after}
		},
		func(rows *sql.Rows) (record.Assignment, error) {
			var r row
			if err := rows.Scan(&r.pubkey, &r.record, &r.sum); err != nil {
				return record.Assignment{}, err
			}
			a, err := r.assignment()
			if err == nil && signer != "" && a.Signer != signer {
				err = fmt.Errorf("%s: %w", a.Pubkey, record.ErrCorrupt)
			}
			return a, err
		})
}
