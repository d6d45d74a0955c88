// Package sqlite keeps records in one SQLite database: births, what is read
// about them, imports, assignments and events. The leases of a home's signers
// and each signer's slashing ledger are databases of their own.
//
// It promises what packages record and slashing ask of a store. A write is on the disk
// when it returns (WAL with synchronous=FULL), several processes may use one
// database at once (of a ledger only one, which the others are told), and every
// record is read with its checksum, so that a
// flipped bit is an error and never another record. Triggers abort every
// change of what is written once; they guard against accidents, not against
// whoever can write the file: for that there are the certificate and the
// archive.
//
// It trusts the file system to keep what fsync acknowledged and to lock
// files between processes, so not a network file system.
package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/mattn/go-sqlite3"
	"golang.org/x/sys/unix"

	"github.com/stakeseal/stakeseal/record"
)

var (
	_ record.Births      = (*Store)(nil)
	_ record.Reader      = (*Store)(nil)
	_ record.Catalog     = (*Store)(nil)
	_ record.Assignments = (*Store)(nil)
	_ record.Events      = (*Store)(nil)
)

// readers is how many connections read at once; each holds up to 2 MiB of
// pages.
const readers = 4

// Store is an open database. Its methods are safe for concurrent use.
type Store struct {
	path   string
	reader *sql.DB // several connections that cannot write
	writer *sql.DB // of one connection, which only run uses
	conn   *sql.Conn
	stmts  map[string]*sql.Stmt // prepared on conn; only run uses it
	reads  sync.Map             // string to *sql.Stmt, prepared on reader

	sealedTo atomic.Pointer[recipientList] // what was read last

	changes chan *change
	closing chan struct{} // closed by Close: no further change is taken
	stopped chan struct{} // closed by run when the last change is done
	once    sync.Once
	closed  error
}

// Create makes a new, empty database at path with mode 0600 and opens it.
// Anything that is at path already is left alone and ErrExists. The file
// appears whole or not at all: it is built under another name, synced and
// linked.
func Create(path string) (_ *Store, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("couldn't create store %q: %w", path, err)
		}
	}()
	if err := createDatabase(path, recordsFormat, nil); err != nil {
		return nil, err
	}
	return Open(path)
}

// Open opens the database that Create made at path. It never creates one: a
// wrong path is fs.ErrNotExist, a file that is something else ErrNotAStore,
// one of a later stakeseal ErrNewer, one that cannot be written ErrReadOnly.
func Open(path string) (*Store, error) {
	s, err := open(path)
	var failure sqlite3.Error
	if errors.As(err, &failure) && failure.Code == sqlite3.ErrError {
		// The statements are always the same, so it is the file: its header
		// names a format that there is none of.
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't open store %q: %w", path, classify(err))
	}
	return s, nil
}

func open(path string) (*Store, error) {
	// Stat and access, not open: see sync1.
	if err := isFile(path); err != nil {
		return nil, err
	}
	if err := unix.Access(path, unix.R_OK|unix.W_OK); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	real, err := filepath.EvalSymlinks(path) // the log is made beside the real file
	if err != nil {
		return nil, err
	}
	if err := unix.Access(filepath.Dir(real), unix.W_OK|unix.X_OK); err != nil {
		return nil, fmt.Errorf("%w: its folder: %w", ErrReadOnly, err)
	}
	uri, err := address(path)
	if err != nil {
		return nil, err
	}
	return start(path, &connector{uri: uri}, &connector{uri: uri, queryOnly: true}, identify)
}

// Close waits for the writes that were taken, then closes the database.
// Later calls fail with ErrClosed. It may be called twice.
func (s *Store) Close() error {
	s.once.Do(func() {
		close(s.closing)
		<-s.stopped
		for _, stmt := range s.stmts {
			s.closed = errors.Join(s.closed, stmt.Close())
		}
		s.reads.Range(func(_, stmt any) bool {
			s.closed = errors.Join(s.closed, stmt.(*sql.Stmt).Close())
			return true
		})
		// The readers first: the last connection to go folds the log in.
		s.closed = errors.Join(s.closed, s.reader.Close(), s.conn.Close(), s.writer.Close())
		if s.closed != nil {
			s.closed = fmt.Errorf("couldn't close store %q: %w", s.path, classify(s.closed))
		}
	})
	return s.closed
}

// address is path as an SQLite URI that never creates the file, with every
// character that means something in a URI escaped.
func address(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return "file://" + (&url.URL{Path: abs}).EscapedPath() + fmt.Sprintf("?mode=rw&_busy_timeout=%d", busyMillis), nil
}

// busyMillis is how long a write waits for the writes of other processes.
const busyMillis = 30_000

// connector opens connections that are set up, or fails.
type connector struct {
	uri       string
	queryOnly bool
}

func (c *connector) Driver() driver.Driver { return &sqlite3.SQLiteDriver{} }

func (c *connector) Connect(context.Context) (driver.Conn, error) {
	conn, err := (&sqlite3.SQLiteDriver{}).Open(c.uri)
	if err != nil {
		return nil, err
	}
	if err := c.prepare(conn.(*sqlite3.SQLiteConn)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// prepare sets the connection up and reads each setting back: SQLite ignores
// a pragma that it does not know or cannot grant.
func (c *connector) prepare(conn *sqlite3.SQLiteConn) error {
	queryOnly := int64(0)
	if c.queryOnly {
		queryOnly = 1
	}
	for _, p := range []struct {
		name string
		want int64
	}{
		{"synchronous", 2}, // FULL: a commit is on the disk when it returns
		{"fullfsync", 1},   // where fsync alone does not reach the disk (macOS)
		{"checkpoint_fullfsync", 1},
		{"foreign_keys", 1},
		{"trusted_schema", 0}, // a hostile schema calls no function with effects
		{"cell_size_check", 1},
		{"mmap_size", 0}, // a failing disk is an error, not a SIGBUS
		{"cache_size", -2048},
		{"query_only", queryOnly},
	} {
		if _, err := conn.Exec(fmt.Sprintf("PRAGMA %s = %d", p.name, p.want), nil); err != nil {
			return err
		}
		got, err := one(conn, "PRAGMA "+p.name)
		if err != nil {
			return err
		}
		if got != p.want && !(p.name == "mmap_size" && got == nil) { // built without mmap
			return fmt.Errorf("SQLite would not set %s to %d: it is %v", p.name, p.want, got)
		}
	}
	return nil
}

// one returns the only column of the first row, nil if there is no row.
func one(conn *sqlite3.SQLiteConn, query string) (driver.Value, error) {
	rows, err := conn.Query(query, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	row := make([]driver.Value, 1)
	if err := rows.Next(row); err != nil {
		return nil, ignoreEOF(err)
	}
	return row[0], nil
}
