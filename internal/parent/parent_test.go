package parent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stakeseal/stakeseal/internal/folder"
	"github.com/stakeseal/stakeseal/internal/sqlite"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
)

// link joins a child's end to a handler over a real socket pair. What it
// returns ends the parent's side.
func link(t testing.TB, handler http.Handler) (*Store, net.Conn, func()) {
	t.Helper()
	ours, file, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	// As in the child, the descriptor has no other owner.
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := Inherited(uintptr(fd))
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := Serve(ours, handler); err != nil {
			t.Errorf("the parent's end: %v", err)
		}
	})
	end := sync.OnceFunc(func() {
		_ = ours.Close()
		serving.Wait()
	})
	t.Cleanup(func() {
		_ = theirs.Close()
		end()
	})
	return &Store{HTTP: Client(theirs)}, theirs, end
}

// counted counts what really went over the connection.
func counted(h http.Handler, n *atomic.Int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		h.ServeHTTP(w, r)
	})
}

// family is a store of which the generator's ports go through the parent, and
// the operator's directly.
type family struct {
	*Store
	rest
}

type rest interface {
	record.Catalog
	record.Assignments
	record.Events
}

func open(t testing.TB) recordtest.Opened {
	t.Helper()
	path := filepath.Join(t.TempDir(), "records.db")
	made, err := sqlite.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = made.Close() })
	join := func(t testing.TB, s *sqlite.Store) (family, string) {
		var served atomic.Int64
		child, conn, _ := link(t, counted(Ports{Births: s, Reader: s}.Handler(), &served))
		if _, err := child.Order(context.Background(), "none"); !errors.Is(err, record.ErrNotFound) || served.Load() != 1 {
			t.Fatalf("a call through the parent: %v, %d were served", err, served.Load())
		}
		return family{child, s}, fmt.Sprintf("%T over %s to %T", child, conn.LocalAddr().Network(), s)
	}
	store, name := join(t, made)
	return recordtest.Opened{Store: store, Name: name, Again: func(t testing.TB) recordtest.Store {
		s, err := sqlite.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		again, _ := join(t, s)
		return again
	}}
}

const backend = "*parent.Store over unix to *sqlite.Store"

func TestBirths(t *testing.T) { recordtest.Births(t, backend, open) }
func TestReader(t *testing.T) { recordtest.Reader(t, backend, open) }

func TestArchive(t *testing.T) {
	recordtest.Archive(t, "*parent.Store over unix to *folder.Archive", func(t testing.TB) recordtest.OpenedArchive {
		dir := filepath.Join(t.TempDir(), "bundles")
		a, err := folder.Create(dir)
		if err != nil {
			t.Fatal(err)
		}
		join := func(t testing.TB, a *folder.Archive) (*Store, string) {
			var served atomic.Int64
			child, conn, _ := link(t, counted(Ports{Archive: a}.Handler(), &served))
			if _, err := child.Get(context.Background(), "none"); !errors.Is(err, record.ErrNotFound) || served.Load() != 1 {
				t.Fatalf("a call through the parent: %v, %d were served", err, served.Load())
			}
			return child, fmt.Sprintf("%T over %s to %T", child, conn.LocalAddr().Network(), a)
		}
		child, name := join(t, a)
		return recordtest.OpenedArchive{Archive: child, Name: name, Again: func(t testing.TB) record.Archive {
			b, err := folder.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			again, _ := join(t, b)
			return again
		}}
	})
}

// TestManyCallsAtOnce: the very first calls come from many goroutines, more
// than the streams that a server grants one connection, and all go through
// the one there is.
func TestManyCallsAtOnce(t *testing.T) {
	const callers = 1024 // the most workers that the generator takes
	var served atomic.Int64
	gate := make(chan struct{})
	child, _, _ := link(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if served.Add(1) == 200 {
			close(gate) // so many are in flight at once
		}
		<-gate
		w.Write([]byte(r.URL.Query().Get("name")))
	}))
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for k := range 3 {
				name := fmt.Sprintf("%d/%d", i, k)
				if got, err := child.Get(t.Context(), name); err != nil || string(got) != name {
					t.Errorf("call %s: %q, %v", name, got, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if served.Load() != 3*callers {
		t.Errorf("%d calls were served", served.Load())
	}
}
