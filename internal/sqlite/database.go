package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mattn/go-sqlite3"

	"github.com/stakeseal/stakeseal/record"
)

// format is what a database says that it is, as application_id and
// user_version in its header, and every statement that makes it, word for word
// as SQLite keeps it.
type format struct {
	application, latest int64
	schema              []string
}

// createDatabase builds a database under another name, syncs it and links it
// to path, so that it appears whole or not at all. Anything that is at path
// already is left alone and record.ErrExists.
func createDatabase(path string, f format, fill func(*sqlite3.SQLiteConn) error) error {
	// A log left of a former database would be played into the new one:
	// SQLite ties it to the file by nothing but its name.
	for _, end := range []string{"", "-wal", "-shm", "-journal"} {
		if _, err := os.Lstat(path + end); err == nil {
			return fmt.Errorf("%q: %w", path+end, record.ErrExists)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return classify(err)
		}
	}
	dir, base := filepath.Split(path)
	made := filepath.Join(dir, "."+base+".new-"+rand.Text())
	defer func() {
		for _, end := range []string{"", "-wal", "-shm", "-journal"} {
			_ = os.Remove(made + end)
		}
	}()
	if err := buildDatabase(made, f, fill); err != nil {
		return classify(err)
	}
	if err := os.Link(made, path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return record.ErrExists
		}
		return classify(err)
	}
	return classify(sync1(filepath.Dir(path)))
}

func buildDatabase(path string, f format, fill func(*sqlite3.SQLiteConn) error) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	uri, err := address(path)
	if err != nil {
		return err
	}
	conn, err := (&sqlite3.SQLiteDriver{}).Open(uri)
	if err != nil {
		return err
	}
	db := conn.(*sqlite3.SQLiteConn)
	script := strings.Join(f.schema, ";\n") + fmt.Sprintf(";\nPRAGMA application_id = %d; PRAGMA user_version = %d; PRAGMA journal_mode = WAL", f.application, f.latest)
	_, err = db.Exec(script, nil)
	if err == nil && fill != nil {
		err = fill(db)
	}
	if err := errors.Join(err, db.Close()); err != nil { // Close also folds the log into the file and removes it
		return err
	}
	if _, err := os.Lstat(path + "-wal"); err == nil {
		return errors.New("the log of the new database was not folded into it")
	}
	return sync1(path)
}

// sync1 syncs a file or a directory. It must not be used on a database that
// is open: closing any descriptor of a file drops the process's locks on it.
func sync1(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// openDatabase opens a database that createDatabase made, with the group
// commit of Store behind a single connection.
func openDatabase(path string, f format, alone bool) (*Store, error) {
	if err := isFile(path); err != nil {
		return nil, err
	}
	uri, err := address(path)
	if err != nil {
		return nil, err
	}
	var c driver.Connector = &connector{uri: uri}
	if alone {
		// From the driver's first statement on, which reads already: the log's
		// index is then never in a file. And whoever has it open keeps it for
		// as long as it runs: waiting is in vain.
		base, _, _ := strings.Cut(uri, "?")
		c = &exclusive{connector{uri: base + "?mode=rw&_busy_timeout=0&_locking_mode=EXCLUSIVE"}}
	}
	// The reader is never used, so it never connects.
	return start(path, c, c, f.identify)
}

// isFile refuses what is missing or no regular file.
func isFile(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%w: not a regular file", ErrNotAStore)
	}
	return err
}

// start opens a store on these connections, unless identify refuses what they
// lead to.
func start(path string, writer, reader driver.Connector, identify func(*sql.Conn) error) (_ *Store, err error) {
	s := &Store{
		path:    path,
		writer:  sql.OpenDB(writer),
		reader:  sql.OpenDB(reader),
		stmts:   map[string]*sql.Stmt{},
		changes: make(chan *change, maxBatch),
		closing: make(chan struct{}),
		stopped: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.reader.Close(), s.writer.Close())
		}
	}()
	s.writer.SetMaxOpenConns(1)
	s.reader.SetMaxOpenConns(readers)
	s.reader.SetMaxIdleConns(readers)
	if s.conn, err = s.writer.Conn(context.Background()); err != nil {
		return nil, err
	}
	if err := identify(s.conn); err != nil {
		return nil, errors.Join(err, s.conn.Close())
	}
	go s.run()
	return s, nil
}

// exclusive opens the one connection that a database allows.
type exclusive struct{ connector }

func (c *exclusive) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	db := conn.(*sqlite3.SQLiteConn)
	mode, err := one(db, "PRAGMA locking_mode")
	if err == nil && mode != "exclusive" {
		err = fmt.Errorf("SQLite would not lock it alone: locking_mode is %v", mode)
	}
	if err == nil { // takes the lock, which then stays
		_, err = db.Exec("BEGIN EXCLUSIVE; COMMIT", nil)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// identify refuses a database that is not the one that is expected, with all
// its guards.
func (f format) identify(conn *sql.Conn) error {
	ctx := context.Background()
	if _, err := f.version(ctx, conn); err != nil {
		return err
	}
	var mode string
	if err := conn.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("%w: its journal mode is %q", ErrDamaged, mode)
	}
	return holds(ctx, conn, f.schema)
}

// version refuses a database that is of another kind, or of a later version
// than is known, and returns its version.
func (f format) version(ctx context.Context, conn *sql.Conn) (version int64, err error) {
	var application int64
	if err := conn.QueryRowContext(ctx, "PRAGMA application_id").Scan(&application); err != nil {
		return 0, err
	}
	if err := conn.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return 0, err
	}
	switch {
	case application != f.application:
		return 0, fmt.Errorf("%w: application_id is %#x, not %#x", ErrNotAStore, application, f.application)
	case version > f.latest:
		return 0, fmt.Errorf("%w: its schema is %d, this version knows %d", ErrNewer, version, f.latest)
	case version < 1:
		return 0, fmt.Errorf("%w: its schema is %d", ErrNotAStore, version)
	}
	return version, nil
}

// holds refuses a database whose objects are not these, word for word.
func holds(ctx context.Context, conn *sql.Conn, statements []string) error {
	rows, err := conn.QueryContext(ctx, "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
	if err != nil {
		return err
	}
	defer rows.Close()
	var found []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return err
		}
		found = append(found, text)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, want := range statements {
		if !slices.Contains(found, want) {
			return fmt.Errorf("%w: it lacks %.60q", ErrDamaged, want)
		}
	}
	if len(found) != len(statements) {
		return fmt.Errorf("%w: it holds %d objects, not %d", ErrDamaged, len(found), len(statements))
	}
	return nil
}
