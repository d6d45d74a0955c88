package folder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/record"
)

var ctx = context.Background()

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func fresh(t testing.TB) (*Archive, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "bundles")
	a, err := Create(dir)
	must(t, err)
	closing(t, a)
	return a, dir
}

// files lists every file and folder below dir with its mode.
func files(t testing.TB, dir string) map[string]fs.FileMode {
	t.Helper()
	out := map[string]fs.FileMode{}
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err == nil {
			out[strings.TrimPrefix(path, dir+"/")] = info.Mode()
		}
		return err
	}))
	return out
}

func TestModesAndLeftovers(t *testing.T) {
	a, dir := fresh(t)
	must(t, a.Put(ctx, "o1/part/0.json", []byte("x")))
	if err := a.Put(ctx, "o1/part/0.json", []byte("y")); !errors.Is(err, record.ErrExists) {
		t.Error(err)
	}
	want := map[string]fs.FileMode{marker: 0o400, "o1": fs.ModeDir | 0o700, "o1/part": fs.ModeDir | 0o700, "o1/part/0.json": 0o400}
	if got := files(t, dir); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	info, err := os.Stat(dir)
	must(t, err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("mode of the archive %v", info.Mode())
	}
}

func TestCreateAndOpen(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.Mkdir(at("empty"), 0o700))
	must(t, os.Mkdir(at("used"), 0o700))
	must(t, os.WriteFile(at("used/mine"), []byte("mine"), 0o600))
	must(t, os.WriteFile(at("file"), []byte("mine"), 0o600))
	must(t, os.Mkdir(at("other"), 0o700))
	must(t, os.WriteFile(filepath.Join(at("other"), marker), []byte("stakeseal archive v2\n"), 0o600))
	for name, want := range map[string]error{
		"none": fs.ErrNotExist, "empty": ErrNotAnArchive, "used": ErrNotAnArchive, "file": ErrNotAnArchive, "other": ErrNotAnArchive,
	} {
		a, err := Open(at(name))
		if err == nil {
			must(t, a.Close())
		}
		if !errors.Is(err, want) {
			t.Errorf("Open %s: got %v, want %v", name, err, want)
		}
	}
	if _, err := os.Stat(at("none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("Open made a folder")
	}
	for name, want := range map[string]error{"used": record.ErrExists, "file": record.ErrExists, "other": record.ErrExists, "no/where": fs.ErrNotExist} {
		if _, err := Create(at(name)); !errors.Is(err, want) {
			t.Errorf("Create %s: got %v, want %v", name, err, want)
		}
	}
	if data, err := os.ReadFile(at("used/mine")); err != nil || string(data) != "mine" {
		t.Errorf("Create touched what was there: %q %v", data, err)
	}
	for _, name := range []string{"empty", "new", "slash/"} {
		a, err := Create(at(name))
		must(t, err)
		must(t, errors.Join(a.Put(ctx, "a", nil), a.Close()))
		if _, err := Create(at(name)); !errors.Is(err, record.ErrExists) {
			t.Errorf("Create %s twice: %v", name, err)
		}
		reopen(t, at(name))
	}
	var made atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			a, err := Create(at("race"))
			if err == nil {
				made.Add(1)
				err = a.Close()
			}
			if err != nil && !errors.Is(err, record.ErrExists) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 {
		t.Errorf("%d of 8 created it", made.Load())
	}
}

// TestLinks: links that somebody laid in the archive lead nowhere outside it,
// and what is no file is no object.
func TestLinks(t *testing.T) {
	a, dir := fresh(t)
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600))
	must(t, os.Symlink(outside, filepath.Join(dir, "out")))
	must(t, os.Symlink(filepath.Join(outside, "secret"), filepath.Join(dir, "file")))
	must(t, os.Symlink(filepath.Join(outside, "new"), filepath.Join(dir, "dangling")))
	must(t, os.Symlink("../../..", filepath.Join(dir, "up")))
	must(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	for _, name := range []string{"out/secret", "out/new", "file", "dangling", "up/new", "pipe"} {
		if data, err := a.Get(ctx, name); err == nil {
			t.Errorf("Get %q: %q", name, data)
		}
		if err := a.Put(ctx, name, []byte("x")); err == nil || errors.Is(err, record.ErrExists) {
			t.Errorf("Put %q: %v", name, err)
		}
	}
	entries, err := os.ReadDir(outside)
	must(t, err)
	if len(entries) != 1 {
		t.Errorf("written outside: %v", entries)
	}
}

// TestFolderIsNoObject: a name cannot be both, as it can in S3. Neither side
// is taken for the other.
func TestFolderIsNoObject(t *testing.T) {
	a, _ := fresh(t)
	must(t, a.Put(ctx, "a", []byte("x")))
	must(t, a.Put(ctx, "b/c", []byte("x")))
	for _, name := range []string{"a/b", "b"} {
		if err := a.Put(ctx, name, []byte("x")); err == nil || errors.Is(err, record.ErrExists) {
			t.Errorf("Put %q: %v", name, err)
		}
		if _, err := a.Get(ctx, name); !errors.Is(err, record.ErrNotFound) {
			t.Errorf("Get %q: %v", name, err)
		}
	}
}

// TestTidy: what a dead process left is ignored, and removed once it is old.
func TestTidy(t *testing.T) {
	_, dir := fresh(t)
	young, old, folder := filepath.Join(dir, "~YOUNG"), filepath.Join(dir, "~OLD"), filepath.Join(dir, "~FOLDER")
	must(t, os.WriteFile(young, []byte("half"), 0o400))
	must(t, os.WriteFile(old, []byte("half"), 0o400))
	must(t, os.Mkdir(folder, 0o700))
	past := time.Now().Add(-2 * stale)
	must(t, errors.Join(os.Chtimes(old, past, past), os.Chtimes(folder, past, past), os.Chtimes(filepath.Join(dir, marker), past, past)))
	a := reopen(t, dir)
	must(t, a.Put(ctx, "a", []byte("x")))
	got := files(t, dir)
	if len(got) != 4 || got["~YOUNG"] == 0 || got["~OLD"] != 0 || got[marker] == 0 || got["a"] == 0 {
		t.Errorf("left: %v", got)
	}
}

// TestSync: a sync begins after the call that it serves, however many share
// it, and all that share it learn its error.
func TestSync(t *testing.T) {
	var s syncer
	var begun, shared atomic.Int64
	failing := errors.New("disk")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				before := begun.Load()
				var mine int64
				err := s.sync(func() error {
					mine = begun.Add(1)
					for range 20 { // let others ask meanwhile
						runtime.Gosched()
					}
					if mine%2 == 0 {
						return failing
					}
					return nil
				})
				if mine == 0 { // served by another's
					shared.Add(1)
					mine = begun.Load()
				} else if (mine%2 == 0) != (err != nil) {
					t.Errorf("pass %d returned %v", mine, err)
				}
				if mine <= before {
					t.Error("served by a sync that had begun before the call")
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d syncs for 1600 calls, %d shared", begun.Load(), shared.Load())

	// One that runs already does not serve a later call.
	running, release := make(chan struct{}), make(chan struct{})
	var order []string
	wg.Go(func() {
		_ = s.sync(func() error { close(running); <-release; order = append(order, "first"); return nil })
	})
	<-running
	second := make(chan error)
	go func() {
		second <- s.sync(func() error { order = append(order, "second"); return failing })
	}()
	for waiting := false; !waiting; runtime.Gosched() {
		s.mu.Lock()
		waiting = s.next != nil
		s.mu.Unlock()
	}
	close(release)
	if err := <-second; !errors.Is(err, failing) || fmt.Sprint(order) != "[first second]" {
		t.Errorf("%v %v", err, order)
	}
	wg.Wait()
}

// TestWhatIsSynced: when Put returns, the object's entry and that of every
// folder above it are on the disk, by whomever they were made.
func TestWhatIsSynced(t *testing.T) {
	a, dir := fresh(t)
	var synced []string
	var failing error
	watch := func(a *Archive) *Archive {
		fsync := a.fsync
		a.fsync = func(dir string) error {
			synced = append(synced, dir)
			if failing != nil {
				return failing
			}
			return fsync(dir)
		}
		return a
	}
	expect := func(a *Archive, name string, wantErr error, want string) {
		t.Helper()
		synced = nil
		if err := a.Put(ctx, name, []byte("x")); !errors.Is(err, wantErr) {
			t.Errorf("%s: %v", name, err)
		}
		if got := strings.Join(synced, " "); got != want {
			t.Errorf("%s: synced %q, want %q", name, got, want)
		}
	}
	watch(a)
	expect(a, "a/b/1", nil, ". a a/b")
	expect(a, "a/b/2", nil, "a/b")
	expect(a, "a/3", nil, "a")
	expect(a, "4", nil, ".")
	expect(a, "a/b/1", record.ErrExists, "a/b") // another may have just linked it
	other := watch(reopen(t, dir))
	expect(other, "a/b/5", nil, ". a a/b") // or just made the folders
	expect(other, "a/b/5", record.ErrExists, "a/b")

	failing = syscall.EIO
	expect(a, "c/d/6", failing, ".")
	expect(a, "c/d/6", failing, ".") // the folder is there, not yet on the disk
	expect(a, "a/b/7", failing, "a/b")
	expect(a, "a/b/1", failing, "a/b") // not ErrExists: it may yet be lost
	failing = nil
	expect(a, "c/d/6", nil, ". c c/d")
	expect(a, "a/b/7", record.ErrExists, "a/b")
}

func BenchmarkPut(b *testing.B) {
	data := make([]byte, 5_000)
	for _, writers := range []int{1, 2, 4, 16, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			a, _ := fresh(b)
			var next atomic.Int64
			var wg sync.WaitGroup
			for range writers {
				wg.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						if err := a.Put(ctx, fmt.Sprintf("o1/%d.json", i), data); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
		})
	}
}
