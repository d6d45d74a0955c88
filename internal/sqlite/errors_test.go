package sqlite

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/mattn/go-sqlite3"

	"github.com/stakeseal/stakeseal/record"
)

func TestClassify(t *testing.T) {
	other := errors.New("something else")
	for _, c := range []struct{ err, want error }{
		{sqlite3.Error{Code: sqlite3.ErrNotADB}, ErrNotAStore},
		{sqlite3.Error{Code: sqlite3.ErrCorrupt}, ErrDamaged},
		{sqlite3.Error{Code: sqlite3.ErrIoErr, ExtendedCode: sqlite3.ErrIoErrShortRead}, ErrDamaged},
		{sqlite3.Error{Code: sqlite3.ErrReadonly}, ErrReadOnly},
		{sqlite3.Error{Code: sqlite3.ErrCantOpen, SystemErrno: syscall.EACCES}, ErrReadOnly},
		{sqlite3.Error{Code: sqlite3.ErrFull}, ErrFull},
		{sqlite3.Error{Code: sqlite3.ErrIoErr, SystemErrno: syscall.ENOSPC}, ErrFull},
		{sqlite3.Error{Code: sqlite3.ErrBusy}, ErrBusy},
		{sqlite3.Error{Code: sqlite3.ErrLocked}, ErrBusy},
		{&os.PathError{Op: "open", Err: syscall.EROFS}, ErrReadOnly},
		{&os.LinkError{Op: "link", Err: syscall.EDQUOT}, ErrFull},
		{fmt.Errorf("%w: x", ErrClosed), ErrClosed},
		{record.ErrConflict, record.ErrConflict},
		{sqlite3.Error{Code: sqlite3.ErrConstraint}, sqlite3.Error{Code: sqlite3.ErrConstraint}},
		{other, other},
	} {
		err := classify(fmt.Errorf("wrapped: %w", c.err))
		if !errors.Is(err, c.want) || !errors.Is(err, c.err) {
			t.Errorf("%#v became %v, want %v", c.err, err, c.want)
		}
		for _, kind := range []error{ErrNotAStore, ErrNewer, ErrDamaged, ErrReadOnly, ErrFull, ErrBusy, ErrClosed} {
			if kind != c.want && errors.Is(err, kind) {
				t.Errorf("%#v is also %v", c.err, kind)
			}
		}
	}
	if classify(nil) != nil {
		t.Error("nil became an error")
	}
}
