package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"iter"

	"github.com/stakeseal/stakeseal/record"
)

var _ record.Leases = (*Leases)(nil)

// Leases keeps the leases of a home's signers in a database of their own,
// which several processes use at once. It is apart from the ledgers, which it
// is a witness of, and from the records, which signers do not write.
type Leases struct{ s *Store }

// leasesFormat has "StSL" in the header.
var leasesFormat = format{0x5374534c, 1, leasesSchema}

var leasesSchema = []string{
	`CREATE TABLE leases (
  name   TEXT NOT NULL PRIMARY KEY,
  epoch  INTEGER NOT NULL CHECK (epoch > 0),
  beat   INTEGER NOT NULL CHECK (beat > 0),
  record TEXT NOT NULL,
  sha256 BLOB NOT NULL CHECK (length(sha256) = 32)
) STRICT, WITHOUT ROWID`,
	`CREATE TRIGGER leases_insert BEFORE INSERT ON leases
WHEN NEW.beat <> 1 OR EXISTS (SELECT 1 FROM leases WHERE name = NEW.name)
BEGIN SELECT RAISE(ABORT, 'the first lease of a name has beat 1'); END`,
	`CREATE TRIGGER leases_update BEFORE UPDATE ON leases
WHEN NEW.name <> OLD.name OR NEW.beat <> OLD.beat + 1 OR NEW.epoch < OLD.epoch
BEGIN SELECT RAISE(ABORT, 'a lease changes only with the next beat'); END`,
	`CREATE TRIGGER leases_delete BEFORE DELETE ON leases
BEGIN SELECT RAISE(ABORT, 'a lease is never deleted'); END`,
}

// CreateLeases makes a new, empty database at path with mode 0600. Anything
// that is at path already is left alone and record.ErrExists.
func CreateLeases(path string) error {
	if err := createDatabase(path, leasesFormat, nil); err != nil {
		return fmt.Errorf("couldn't create the leases %q: %w", path, err)
	}
	return nil
}

// OpenLeases opens the database that CreateLeases made. It never creates one.
func OpenLeases(path string) (*Leases, error) {
	s, err := openDatabase(path, leasesFormat, false)
	if err != nil {
		return nil, fmt.Errorf("couldn't open the leases %q: %w", path, classify(err))
	}
	return &Leases{s}, nil
}

// Close closes the database.
func (l *Leases) Close() error { return l.s.Close() }

const selectLease = "SELECT name, epoch, beat, record, sha256 FROM leases"

type leaseRow struct {
	name        string
	epoch, beat uint64
	record      string
	sum         []byte
}

func (r *leaseRow) into() []any { return []any{&r.name, &r.epoch, &r.beat, &r.record, &r.sum} }

func (r *leaseRow) lease() (record.Lease, error) {
	sum := record.DigestOf([]byte(r.record))
	if !bytes.Equal(sum[:], r.sum) {
		return record.Lease{}, fmt.Errorf("the lease of %q: %w", r.name, record.ErrCorrupt)
	}
	l, err := record.DecodeLease([]byte(r.record))
	if err != nil || l.Name != r.name || l.Epoch != r.epoch || l.Beat != r.beat {
		return record.Lease{}, fmt.Errorf("the lease of %q: %w", r.name, record.ErrCorrupt)
	}
	return l, nil
}

// Lease implements record.Leases.
func (l *Leases) Lease(ctx context.Context, name string) (lease record.Lease, err error) {
	err = l.s.write(ctx, func(t *tx) error {
		var found bool
		if lease, found, err = leaseOf(t, name); err == nil && !found {
			err = record.ErrNotFound
		}
		return err
	})
	if err != nil {
		return record.Lease{}, fmt.Errorf("couldn't read the lease of %q: %w", name, err)
	}
	return lease, nil
}

func leaseOf(t *tx, name string) (lease record.Lease, found bool, err error) {
	var r leaseRow
	found, err = t.row(selectLease+" WHERE name = ?", []any{name}, r.into()...)
	if err == nil && found {
		lease, err = r.lease()
	}
	return lease, found, err
}

// Take implements record.Leases.
func (l *Leases) Take(ctx context.Context, next record.Lease) error {
	data, err := record.EncodeLease(next)
	if err != nil {
		return err
	}
	sum := record.DigestOf(data)
	err = l.s.write(ctx, func(t *tx) error {
		old, found, err := leaseOf(t, next.Name)
		if err != nil || old == next { // the call that won, repeated
			return err
		}
		if err := next.Follows(old); err != nil {
			return err
		}
		if !found {
			return t.exec("INSERT INTO leases (name, epoch, beat, record, sha256) VALUES (?, ?, ?, ?, ?)",
				next.Name, int64(next.Epoch), int64(next.Beat), string(data), sum[:])
		}
		return t.exec("UPDATE leases SET epoch = ?, beat = ?, record = ?, sha256 = ? WHERE name = ?",
			int64(next.Epoch), int64(next.Beat), string(data), sum[:], next.Name)
	})
	if err != nil {
		return fmt.Errorf("couldn't take the lease of %q: %w", next.Name, err)
	}
	return nil
}

// Leases implements record.Leases.
func (l *Leases) Leases(ctx context.Context) iter.Seq2[record.Lease, error] {
	return func(yield func(record.Lease, error) bool) {
		var all []record.Lease
		err := l.s.write(ctx, func(t *tx) error {
			var err error
			all, err = allLeases(t)
			return err
		})
		if err != nil {
			yield(record.Lease{}, fmt.Errorf("couldn't read the leases: %w", err))
			return
		}
		for _, lease := range all {
			if !yield(lease, nil) {
				return
			}
		}
	}
}

func allLeases(t *tx) (all []record.Lease, err error) {
	var rows *sql.Rows
	if rows, err = t.s.conn.QueryContext(context.Background(), selectLease+" ORDER BY name"); err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r leaseRow
		if err := rows.Scan(r.into()...); err != nil {
			return nil, err
		}
		lease, err := r.lease()
		if err != nil {
			return nil, err
		}
		all = append(all, lease)
	}
	return all, rows.Err()
}
