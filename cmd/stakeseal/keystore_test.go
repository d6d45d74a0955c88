package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/internal/sqlite"
	"github.com/stakeseal/stakeseal/record"
)

var errPulled = errors.New("the plug was pulled")

// failing is a store that fails one of its writes, before or after it was
// carried out, and every one after it.
type failing struct {
	records
	at      int // which write, from 1
	applied bool
	writes  int
}

func (f *failing) write(do func() error) error {
	f.writes++
	if f.writes < f.at {
		return do()
	}
	if f.writes == f.at && f.applied {
		_ = do()
	}
	return errPulled
}

func (f *failing) Assign(ctx context.Context, a record.Assignment) error {
	return f.write(func() error { return f.records.Assign(ctx, a) })
}

func (f *failing) Append(ctx context.Context, e record.Event) error {
	return f.write(func() error { return f.records.Append(ctx, e) })
}

// runHome runs the real program in a home of its own.
func runHome(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(filepath.Join(programs, "stakeseal"), args...)
	cmd.Dir = dir
	cmd.Env = []string{"HOME=" + dir}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Wherever a hand-over is cut off, no file stands, what was assigned away
// stays so, and --again writes the files of all.
func TestHandOverCutOff(t *testing.T) {
	const keys = 2
	for at := 1; at <= 2*keys; at++ { // an assignment and a note for each
		for _, applied := range []bool{false, true} {
			dir := t.TempDir()
			must := func(args ...string) {
				t.Helper()
				if out, err := runHome(t, dir, args...); err != nil {
					t.Fatalf("%v: %v\n%s", args, err, out)
				}
			}
			must("init", "--network", "hoodi", "--withdrawal-address", "0x388C818CA8B9251b393131C08a736A67ccB19297")
			must("generate", "--count", "2", "--keystore", "none", "--assign", "signer-a", "--yes")
			where := filepath.Join(dir, ".local", "share", "stakeseal", "hoodi")

			store, err := sqlite.Open(filepath.Join(where, "records.db"))
			if err != nil {
				t.Fatal(err)
			}
			broken := &failing{records: store, at: at, applied: applied}
			a := &app{in: strings.NewReader(""), out: io.Discard, err: io.Discard, now: time.Now}
			h := &home{records: broken}
			f := handoverFlags{client: "teku", out: filepath.Join(dir, "keys")}
			f.signer = "signer-a"
			list, err := h.handover(context.Background(), f)
			if err != nil || len(list) != keys {
				t.Fatalf("%d keys, %v", len(list), err)
			}
			if err := a.handOver(context.Background(), h, f, list); !errors.Is(err, errPulled) {
				t.Fatalf("write %d: %v", at, err)
			}
			if err := store.Close(); err != nil {
				t.Fatal(err)
			}

			identity := filepath.Join(where+"-identities", "signer-a.identity")
			must("keystore", "export", "--signer", "signer-a", "--identity", identity, "--for", "teku", "--out", "keys", "--again", "--yes")
			if n := len(theFiles(t, filepath.Join(dir, "keys", keysFolder), "*.json")); n != keys {
				t.Errorf("write %d: %d keystores", at, n)
			}
			out, err := runHome(t, dir, "list", "--signer", "external:signer-a", "--json")
			if err != nil || strings.Count(out, `"assigned_to":"external:signer-a"`) != keys {
				t.Errorf("write %d: %v\n%s", at, err, out)
			}
		}
	}
}

// The first error ends the work, and is the one that is returned; no call
// runs any more when it is.
func TestInParallel(t *testing.T) {
	bad := errors.New("bad")
	var running, calls atomic.Int32
	items := func(yield func(int, error) bool) {
		for i := range 1000 {
			if !yield(i, nil) {
				return
			}
		}
	}
	err := inParallel(context.Background(), 4, items, func(ctx context.Context, i int) error {
		running.Add(1)
		defer running.Add(-1)
		calls.Add(1)
		if i == 10 {
			return bad
		}
		return nil
	})
	if !errors.Is(err, bad) || running.Load() != 0 || calls.Load() == 1000 {
		t.Errorf("%v after %d calls, %d running", err, calls.Load(), running.Load())
	}

	calls.Store(0)
	if err := inParallel(context.Background(), 4, items, func(context.Context, int) error { calls.Add(1); return nil }); err != nil || calls.Load() != 1000 {
		t.Errorf("%v after %d calls", err, calls.Load())
	}

	ctx, cancel := context.WithCancel(context.Background())
	err = inParallel(ctx, 4, items, func(ctx context.Context, i int) error {
		if i == 10 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}

	broken := func(yield func(int, error) bool) { _ = yield(1, nil) && yield(0, bad) && yield(2, nil) }
	calls.Store(0)
	err = inParallel(context.Background(), 1, broken, func(_ context.Context, i int) error { calls.Add(int32(i)); return nil })
	if !errors.Is(err, bad) || calls.Load() > 1 {
		t.Errorf("a list that breaks off: %v, %d", err, calls.Load())
	}
}

// A secret file is read to its last byte and no further, and a second line is
// refused without a word of it.
func TestReadLine(t *testing.T) {
	dir := t.TempDir()
	var said strings.Builder
	a := &app{in: strings.NewReader("from the pipe\n"), err: &said}
	for text, want := range map[string]string{
		"one line":       "one line",
		"one line\n":     "one line",
		"one line\r\n":   "one line",
		" spaces stay ":  " spaces stay ",
		"\n":             "",
		"":               "",
		"canary\nsecond": "",
		"canary\n\n":     "",
		"can\rary":       "",
		strings.Repeat("canary", maxSecretFile/6+1): "",
		strings.Repeat("c", maxSecretFile):          strings.Repeat("c", maxSecretFile),
	} {
		path := filepath.Join(dir, "file")
		writeFile(t, path, text)
		got, err := a.readLine(path, "password")
		if string(got.Expose()) != want || (err == nil) != (want != "") {
			t.Errorf("%.20q: %q, %v", text, got.Expose(), err)
		}
		if err != nil && (strings.Contains(err.Error(), "canary") || verdictOf(err) != exitUsage) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	if said.Len() > 0 {
		t.Errorf("about a file of mode 600: %s", said.String())
	}
	if got, err := a.readLine("-", "password"); err != nil || string(got.Expose()) != "from the pipe" {
		t.Errorf("- gives %q, %v", got.Expose(), err)
	}
	path := filepath.Join(dir, "open")
	writeFile(t, path, "eight chars")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := a.readLine(path, "password"); err != nil || !strings.Contains(said.String(), "chmod 600") {
		t.Errorf("no warning of a file that others read: %q, %v", said.String(), err)
	}
}
