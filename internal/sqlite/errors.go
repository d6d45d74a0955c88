package sqlite

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"

	"github.com/mattn/go-sqlite3"

	"github.com/stakeseal/stakeseal/record"
)

// What can be wrong with a store itself, beside the sentinels of record. A
// store that is missing is fs.ErrNotExist.
var (
	ErrNotAStore = errors.New("not a stakeseal store")
	ErrNewer     = errors.New("made by a later version of stakeseal")
	ErrReadOnly  = errors.New("store cannot be written")
	ErrFull      = errors.New("no room left for the store")
	ErrBusy      = errors.New("store is held by another process")
	ErrClosed    = errors.New("store is closed")

	// ErrDamaged is also record.ErrCorrupt.
	ErrDamaged = fmt.Errorf("store is damaged: %w", record.ErrCorrupt)
)

// classify adds the sentinel that an error of SQLite or of the file system
// stands for. Codes: https://www.sqlite.org/rescode.html
func classify(err error) error {
	if err == nil {
		return nil
	}
	for _, known := range []error{ErrNotAStore, ErrNewer, ErrReadOnly, ErrFull, ErrBusy, ErrClosed, record.ErrCorrupt} {
		if errors.Is(err, known) {
			return err
		}
	}
	if kind := kindOf(err); kind != nil {
		return fmt.Errorf("%w: %w", kind, err)
	}
	return err
}

func kindOf(err error) error {
	var s sqlite3.Error
	if errors.As(err, &s) {
		switch s.Code {
		case sqlite3.ErrNotADB:
			return ErrNotAStore
		case sqlite3.ErrCorrupt:
			return ErrDamaged
		case sqlite3.ErrReadonly:
			return ErrReadOnly
		case sqlite3.ErrFull:
			return ErrFull
		case sqlite3.ErrBusy, sqlite3.ErrLocked:
			return ErrBusy
		}
		if s.ExtendedCode == sqlite3.ErrIoErrShortRead {
			return ErrDamaged // the file ends inside a page
		}
	}
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		errno = s.SystemErrno
	}
	switch {
	case errno == syscall.ENOSPC, errno == syscall.EDQUOT, errno == syscall.EFBIG:
		return ErrFull
	case errno == syscall.EROFS, errno == syscall.EACCES, errno == syscall.EPERM, errors.Is(err, fs.ErrPermission):
		return ErrReadOnly
	// A value that is not one of its column, which the schema's checks let
	// nobody write. database/sql has no type for it.
	case strings.Contains(err.Error(), "sql: Scan error on column"):
		return ErrDamaged
	}
	return nil
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
