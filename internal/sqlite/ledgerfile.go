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
	"strings"

	"github.com/mattn/go-sqlite3"

	"github.com/stakeseal/stakeseal/record"
)

// createDatabase builds a database under another name, syncs it and links it
// to path.
func createDatabase(path string, application int, schema []string, fill func(*sqlite3.SQLiteConn) error) error {
	for _, end := range []string{"", "-wal", "-shm", "-journal"} { // see Create
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
	if err := buildDatabase(made, application, schema, fill); err != nil {
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

func buildDatabase(path string, application int, schema []string, fill func(*sqlite3.SQLiteConn) error) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
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
	script := strings.Join(schema, ";\n") + fmt.Sprintf(";\nPRAGMA application_id = %d; PRAGMA user_version = 1; PRAGMA journal_mode = WAL", application)
	_, err = db.Exec(script, nil)
	if err == nil && fill != nil {
		err = fill(db)
	}
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if _, err := os.Lstat(path + "-wal"); err == nil {
		return errors.New("the log of the new database was not folded into it")
	}
	return sync1(path)
}

// openDatabase opens a database that createDatabase made, with the group
// commit of Store behind a single connection.
func openDatabase(path string, application int64, schema []string, alone bool) (_ *Store, err error) {
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: not a regular file", ErrNotAStore)
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
	s := &Store{
		path:    path,
		writer:  sql.OpenDB(c),
		reader:  sql.OpenDB(c), // never used, so it never connects
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
	if s.conn, err = s.writer.Conn(context.Background()); err != nil {
		return nil, err
	}
	if err := identifyAs(s.conn, application, schema); err != nil {
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

// identifyAs refuses a database that is not the one that is expected, with
// all its guards.
func identifyAs(conn *sql.Conn, application int64, schema []string) error {
	ctx := context.Background()
	var app, version int64
	var mode string
	for pragma, into := range map[string]any{"application_id": &app, "user_version": &version, "journal_mode": &mode} {
		if err := conn.QueryRowContext(ctx, "PRAGMA "+pragma).Scan(into); err != nil {
			return err
		}
	}
	switch {
	case app != application:
		return fmt.Errorf("%w: application_id is %#x, not %#x", ErrNotAStore, app, application)
	case version > 1:
		return fmt.Errorf("%w: its schema is %d, this version knows 1", ErrNewer, version)
	case version != 1:
		return fmt.Errorf("%w: its schema is %d", ErrNotAStore, version)
	case mode != "wal":
		return fmt.Errorf("%w: its journal mode is %q", ErrDamaged, mode)
	}
	rows, err := conn.QueryContext(ctx, "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
	if err != nil {
		return err
	}
	defer rows.Close()
	missing := map[string]bool{}
	for _, want := range schema {
		missing[want] = true
	}
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return err
		}
		if !missing[text] {
			return fmt.Errorf("%w: it holds %.60q", ErrDamaged, text)
		}
		delete(missing, text)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: it lacks %d of its tables and guards", ErrDamaged, len(missing))
	}
	return nil
}
