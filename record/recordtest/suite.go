package recordtest

import (
	"context"
	"errors"
	"iter"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// Store is every port over records.
type Store interface {
	record.Births
	record.Reader
	record.Catalog
	record.Assignments
	record.Events
}

// Opened is what an opener returns: an empty store of its own for each call.
type Opened struct {
	Store
	// Name is the backend that was opened, taken from what was opened (its
	// type, its address), not from what was asked for.
	Name string
	// Again opens the same store once more, as another process would.
	Again func(t testing.TB) Store
}

// OpenedArchive is Opened for an archive.
type OpenedArchive struct {
	record.Archive
	Name  string
	Again func(t testing.TB) record.Archive
}

// crowd is how many writers race.
const crowd = 12

// rows is how many rows a list must page through: more than one page of any
// backend that is configured sensibly.
const rows = 600

type suite struct {
	t    *testing.T
	want string
	open func(testing.TB) Opened
}

// must runs one case on a store of its own.
func (s suite) must(name string, f func(t *testing.T, o Opened)) {
	s.t.Run(name, func(t *testing.T) {
		o := s.open(t)
		if o.Name != s.want || o.Name == "" {
			t.Fatalf("the opener opened %q, the test is for %q", o.Name, s.want)
		}
		f(t, o)
	})
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// is fails unless err is the sentinel and no other one.
func is(t testing.TB, err, sentinel error) {
	t.Helper()
	if !errors.Is(err, sentinel) {
		t.Fatalf("got error %v, want %v", err, sentinel)
	}
	for _, other := range []error{record.ErrNotFound, record.ErrExists, record.ErrConflict, record.ErrStale, record.ErrCorrupt, record.ErrFormat} {
		if !errors.Is(sentinel, other) && errors.Is(err, other) {
			t.Fatalf("error %v is both %v and %v", err, sentinel, other)
		}
	}
}

func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// all reads a list to its end.
func all[T any](t testing.TB, list iter.Seq2[T, error]) []T {
	t.Helper()
	var out []T
	for v, err := range list {
		ok(t, err)
		out = append(out, v)
	}
	return out
}

// lagging retries a read that may lag behind a write: only where a port says
// so, and only while it reports that nothing is there.
func lagging[T any](t testing.TB, read func() (T, error)) T {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		v, err := read()
		if !errors.Is(err, record.ErrNotFound) || time.Now().After(deadline) {
			ok(t, err)
			return v
		}
	}
}

// race runs f(0) to f(n-1) at once and returns what each returned.
func race[T any](n int, f func(i int) (T, error)) (values []T, errs []error) {
	values, errs = make([]T, n), make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			values[i], errs[i] = f(i)
		})
	}
	close(start)
	wg.Wait()
	return values, errs
}

// fill puts the births of whole orders, several at once, in no order.
func fill(t testing.TB, s Store, orders ...record.Order) map[string][]record.Birth {
	t.Helper()
	out := map[string][]record.Birth{}
	for _, o := range orders {
		m := Mnemonic(o, "m0")
		births := make([]record.Birth, o.Count)
		placed(t, s, o, m)
		_, errs := race(crowd, func(worker int) (struct{}, error) {
			for i := worker; i < len(births); i += crowd {
				index := uint32(len(births) - 1 - i)
				births[index] = Birth(o, m, index, "")
				if _, err := s.PutBirth(context.Background(), births[index]); err != nil {
					return struct{}{}, err
				}
			}
			return struct{}{}, nil
		})
		ok(t, errors.Join(errs...))
		out[o.ID] = births
	}
	return out
}

// placed places an order and its mnemonics.
func placed(t testing.TB, s Store, o record.Order, mnemonics ...record.Mnemonic) {
	t.Helper()
	_, err := s.Place(context.Background(), o)
	ok(t, err)
	for _, m := range mnemonics {
		ok(t, s.PutMnemonic(context.Background(), m))
	}
}

// short fails unless a list whose context ends in the middle ends with an
// error: a short list never looks whole.
func short[T any](t testing.TB, whole int, list func(context.Context) iter.Seq2[T, error]) {
	t.Helper()
	for _, after := range []int{0, 1, whole - 1} {
		ctx, cancel := context.WithCancel(context.Background())
		if after == 0 {
			cancel()
		}
		n, failed := 0, false
		for _, err := range list(ctx) {
			if failed {
				t.Fatal("the list went on after its error")
			}
			if err != nil {
				failed = true
				if !errors.Is(err, context.Canceled) {
					t.Fatalf("got %v, want the context's error", err)
				}
				continue
			}
			if n++; n == after {
				cancel()
			}
		}
		cancel()
		if !failed || n >= whole {
			t.Fatalf("cancelled after %d of %d rows: got %d rows, error %v", after, whole, n, failed)
		}
	}
}

func pubkeys(vs []record.Validator) (out []eth.Pubkey) {
	for _, v := range vs {
		out = append(out, v.Pubkey)
	}
	return out
}

func sortedByPubkey(vs []record.Validator) []record.Validator {
	return slices.SortedFunc(slices.Values(vs), func(a, b record.Validator) int {
		return slices.Compare(a.Pubkey[:], b.Pubkey[:])
	})
}
