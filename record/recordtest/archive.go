package recordtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stakeseal/stakeseal/record"
)

// Archive tests record.Archive.
func Archive(t *testing.T, want string, open func(testing.TB) OpenedArchive) {
	ctx := context.Background()
	must := func(name string, f func(t *testing.T, a OpenedArchive)) {
		t.Run(name, func(t *testing.T) {
			a := open(t)
			if a.Name != want || a.Name == "" {
				t.Fatalf("the opener opened %q, the test is for %q", a.Name, want)
			}
			f(t, a)
		})
	}
	holds := func(t testing.TB, a record.Archive, name string, want []byte) {
		t.Helper()
		got, err := a.Get(ctx, name)
		ok(t, err)
		if !bytes.Equal(got, want) {
			t.Fatalf("%q holds %d bytes that are not the %d put", name, len(got), len(want))
		}
	}

	must("Get returns what was Put", func(t *testing.T, a OpenedArchive) {
		again := a.Again(t)
		for name, data := range map[string][]byte{
			"a":                               []byte("1"),
			"o1/0.json":                       []byte("{}\n\x00\xff"),
			"o1/1.json":                       {},
			"deep/er/and/deep.er/0_-9":        noise("deep", 3_000_000),
			"..a/b../...":                     []byte("dots"),
			"-rf":                             []byte("dash"),
			strings.Repeat("n", 200):          []byte("long"),
			strings.Repeat("d/", 99) + "zz":   []byte("200 bytes deep"),
			"o1/" + strings.Repeat("0", 197):  []byte("long part"),
			"birth/hoodi/o1/00000001-ab.json": []byte("x"),
		} {
			ok(t, a.Put(ctx, name, data))
			holds(t, a, name, data)
			holds(t, again, name, data)
		}
	})
	must("Get fails for an unknown name", func(t *testing.T, a OpenedArchive) {
		ok(t, a.Put(ctx, "o1/0", []byte("x")))
		for _, name := range []string{"o1/1", "o2/0", "o1", "o1/00", "o1/0/0"} {
			_, err := a.Get(ctx, name)
			is(t, err, record.ErrNotFound)
		}
	})
	must("Put onto an object fails and changes nothing", func(t *testing.T, a OpenedArchive) {
		ok(t, a.Put(ctx, "o1/0", []byte("first")))
		for _, data := range [][]byte{[]byte("other"), []byte("first"), nil} {
			is(t, a.Put(ctx, "o1/0", data), record.ErrExists)
			is(t, a.Again(t).Put(ctx, "o1/0", data), record.ErrExists)
		}
		holds(t, a, "o1/0", []byte("first"))
	})
	must("Put keeps its own copy", func(t *testing.T, a OpenedArchive) {
		data := []byte("first")
		ok(t, a.Put(ctx, "a", data))
		data[0] = 'x'
		holds(t, a, "a", []byte("first"))
	})
	must("Put and Get refuse other names", func(t *testing.T, a OpenedArchive) {
		for _, name := range []string{
			"", "/", "/a", "a/", "a//b", ".", "..", "./a", "../a", "a/..", "a/./b", "a/../b", "a/../../b",
			"A", "a/B", "a b", "a\\b", "a:b", "a~b", "a\x00b", "a\nb", "ä", "a%2fb", "\xff", strings.Repeat("n", 201),
		} {
			if err := a.Put(ctx, name, []byte("x")); !errors.Is(err, record.ErrFormat) {
				t.Errorf("Put %q: got %v, want ErrFormat", name, err)
			}
			if _, err := a.Get(ctx, name); !errors.Is(err, record.ErrFormat) {
				t.Errorf("Get %q: got %v, want ErrFormat", name, err)
			}
		}
	})
	must("of many that Put one name one wins", func(t *testing.T, a OpenedArchive) {
		again := a.Again(t)
		for n := range 5 {
			name := fmt.Sprintf("o%d/0", n)
			_, errs := race(crowd, func(i int) (struct{}, error) {
				return struct{}{}, []record.Archive{a, again}[i%2].Put(ctx, name, noise(fmt.Sprint(i), 20_000))
			})
			won := 0
			for i, err := range errs {
				if err == nil {
					won++
					holds(t, a, name, noise(fmt.Sprint(i), 20_000))
				} else {
					is(t, err, record.ErrExists)
				}
			}
			same(t, "winners", won, 1)
		}
	})
	must("many Put different names at once", func(t *testing.T, a OpenedArchive) {
		name := func(i, k int) string { return fmt.Sprintf("o%d/part%d/%d", k%3, k%2, i*100+k) }
		_, errs := race(crowd, func(i int) (struct{}, error) {
			for k := range 10 {
				if err := a.Put(ctx, name(i, k), noise(name(i, k), 100)); err != nil {
					return struct{}{}, err
				}
			}
			return struct{}{}, nil
		})
		ok(t, errors.Join(errs...))
		for i := range crowd {
			for k := range 10 {
				holds(t, a, name(i, k), noise(name(i, k), 100))
			}
		}
	})
	must("a reader never sees a part of an object", func(t *testing.T, a OpenedArchive) {
		again := a.Again(t)
		data := noise("whole", 4<<20)
		for n := range 3 {
			name := fmt.Sprintf("o/%d", n)
			reading, done := make(chan struct{}), make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				close(reading)
				for ended := false; !ended; {
					select {
					case <-done:
						ended = true // and look once more
					default:
					}
					got, err := again.Get(ctx, name)
					if errors.Is(err, record.ErrNotFound) {
						continue
					}
					if err != nil || !bytes.Equal(got, data) {
						t.Errorf("got %d of %d bytes, error %v", len(got), len(data), err)
						return
					}
				}
			})
			<-reading
			err := a.Put(ctx, name, data)
			close(done)
			wg.Wait()
			ok(t, err)
		}
	})
	must("Put with an ended context may be repeated", func(t *testing.T, a OpenedArchive) {
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if err := a.Put(ended, "a", []byte("x")); err == nil {
			t.Fatal("Put with an ended context succeeded")
		}
		if err := a.Put(ctx, "a", []byte("x")); err != nil {
			is(t, err, record.ErrExists)
		}
		holds(t, a, "a", []byte("x"))
	})
}
