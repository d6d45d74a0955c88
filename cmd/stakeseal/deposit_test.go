package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/record"
)

// run runs a real program and returns its exit code and output.
func runProgram(t *testing.T, name string, args ...string) (code int, out string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(programs, name), args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	text, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(text)
}

// stagedHome makes a home with an order of three validators and two stages.
func stagedHome(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "home")
	for _, args := range [][]string{
		{"init", "--home", dir, "--network", "hoodi", "--withdrawal-address", "0x388C818CA8B9251b393131C08a736A67ccB19297"},
		{"generate", "--home", dir, "--count", "3", "--order", "staged", "--plan", "1,31", "--keystore", "none", "--yes"},
	} {
		if code, out := runProgram(t, "stakeseal", args...); code != 0 {
			t.Fatalf("%v: exit code %d\n%s", args, code, out)
		}
	}
	return dir
}

// watched is a home's records with a hook at each note.
type watched struct {
	records
	append func(n int, e record.Event, apply func() error) error

	mu sync.Mutex
	n  int
}

func (w *watched) Append(ctx context.Context, e record.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n++
	return w.append(w.n, e, func() error { return w.records.Append(ctx, e) })
}

// exportWatched exports the staged order within this process.
func exportWatched(t *testing.T, home, out string, again bool, hook func(n int, e record.Event, apply func() error) error) error {
	t.Helper()
	a := &app{in: strings.NewReader(""), out: io.Discard, err: io.Discard, now: time.Now, homeFlag: home, yes: true}
	h, err := a.openHome(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	if hook != nil {
		h.records = &watched{records: h.records, append: hook}
	}
	f := exportFlags{out: out, target: "launchpad", again: again}
	s := selection{order: "staged"}
	if err := f.check(&s); err != nil {
		t.Fatal(err)
	}
	return a.depositExport(context.Background(), h, &s, f)
}

func exitCode(err error) int {
	var f *failure
	if errors.As(err, &f) {
		return f.code
	}
	if err == nil {
		return 0
	}
	code, _ := classify(err)
	return code
}

// visible are the files that a person or a script would take for an export.
func visible(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "[^.]*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func hidden(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// Every deposit is noted before any file has its name, and the files are
// whole by then: whatever dies in between, no deposit is out unnoted.
func TestDepositsAreNotedBeforeFilesAppear(t *testing.T) {
	home, out := stagedHome(t), filepath.Join(t.TempDir(), "out")
	noted := map[string]bool{}
	err := exportWatched(t, home, out, false, func(n int, e record.Event, apply func() error) error {
		if got := visible(t, out); len(got) != 0 {
			t.Errorf("at note %d there is %v", n, got)
		}
		parts := hidden(t, out)
		if len(parts) != 2 {
			t.Fatalf("at note %d the files %v are written, want 2", n, parts)
		}
		for _, path := range parts {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if entries, err := deposit.ParseFile(path, data); err != nil || len(entries) != 3 {
				t.Errorf("at note %d %s has %d entries, %v", n, path, len(entries), err)
			}
		}
		if e.Kind != "exported" || e.Once != "exported/"+e.Detail["deposit_data_root"] || e.Order != "staged" {
			t.Errorf("noted %+v", e)
		}
		noted[e.Once] = true
		return apply()
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(noted) != 6 || len(visible(t, out)) != 2 || len(hidden(t, out)) != 0 {
		t.Errorf("%d notes, files %v, left over %v", len(noted), visible(t, out), hidden(t, out))
	}
	for _, path := range visible(t, out) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		entries, err := deposit.ParseFile(path, data)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !noted["exported/"+e.DataRoot.Hex()] {
				t.Errorf("%s gives out %s, which was not noted", path, e.DataRoot)
			}
		}
	}
}

// A note that fails, whether or not it was applied, leaves no file; and
// nothing leaves later without --again.
func TestFailedNoteLeavesNoFile(t *testing.T) {
	for _, at := range []int{1, 2, 6} {
		for _, applied := range []bool{false, true} {
			home, out := stagedHome(t), filepath.Join(t.TempDir(), "out")
			first, tried := "", 0
			err := exportWatched(t, home, out, false, func(n int, e record.Event, apply func() error) error {
				tried = n
				if n == 1 {
					first = e.Once // the smallest: two exports at once begin with the same
				} else if e.Once < first {
					t.Errorf("%s was noted after %s", e.Once, first)
				}
				if n < at {
					return apply()
				}
				if applied {
					if err := apply(); err != nil {
						t.Fatal(err)
					}
				}
				return errors.New("the disk went away")
			})
			if at == 1 && tried != 1 {
				t.Errorf("the first note failed, and %d were tried", tried)
			}
			if exitCode(err) != exitInternal {
				t.Errorf("note %d failed (applied: %v), and the export says %v", at, applied, err)
			}
			if len(visible(t, out)) != 0 || len(hidden(t, out)) != 0 {
				t.Errorf("note %d failed (applied: %v), and there are %v and %v", at, applied, visible(t, out), hidden(t, out))
			}
			err = exportWatched(t, home, out, false, nil)
			if none := at == 1 && !applied; none != (err == nil) || !none && exitCode(err) != exitConflict {
				t.Errorf("after note %d failed (applied: %v) the next export says %v", at, applied, err)
			}
			if err == nil {
				continue
			}
			if err := exportWatched(t, home, out, true, nil); err != nil || len(visible(t, out)) != 2 {
				t.Errorf("after note %d failed (applied: %v), --again says %v and gives %v", at, applied, err, visible(t, out))
			}
		}
	}
}

// A name that a stranger takes at the last moment is not overwritten, and
// nothing of the export stays.
func TestTakenNameIsNotOverwritten(t *testing.T) {
	home, out := stagedHome(t), filepath.Join(t.TempDir(), "out")
	var taken string
	err := exportWatched(t, home, out, false, func(n int, _ record.Event, apply func() error) error {
		if n == 6 {
			parts := hidden(t, out)
			taken = filepath.Join(out, strings.TrimSuffix(strings.TrimPrefix(filepath.Base(parts[1]), "."), ".part"))
			if err := os.WriteFile(taken, []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return apply()
	})
	if exitCode(err) != exitInternal || !errors.Is(err, fs.ErrExist) {
		t.Errorf("the export says %v", err)
	}
	if data, err := os.ReadFile(taken); err != nil || string(data) != "mine" {
		t.Errorf("the stranger's file reads %q, %v", data, err)
	}
	if got := visible(t, out); len(got) != 1 || len(hidden(t, out)) != 0 {
		t.Errorf("there are %v and %v", got, hidden(t, out))
	}
	if code := exitCode(exportWatched(t, home, out, false, nil)); code != exitConflict {
		t.Errorf("the next export exits %d", code)
	}
}

// A folder that shows stale hidden files of a crash, or files of this very
// second, costs another name and nothing else.
func TestReserveSkipsTakenSeconds(t *testing.T) {
	dir := t.TempDir()
	files := []exportFile{{stage: 1, stages: 1, part: 1, parts: 1, data: []byte("[]")}}
	for _, name := range []string{"deposit_data-100.json", ".deposit_data-101.json.part"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := reserve(dir, files, 100)
	if err != nil {
		t.Fatal(err)
	}
	second, err := reserve(dir, files, 100)
	if err != nil {
		t.Fatal(err)
	}
	for want, r := range map[string]*reservation{"deposit_data-102.json": r, "deposit_data-103.json": second} {
		paths, err := r.publish()
		r.release()
		if err != nil || len(paths) != 1 || filepath.Base(paths[0]) != want {
			t.Errorf("published %v, %v, want %s", paths, err, want)
		}
	}
	for _, name := range []string{"deposit_data-100.json", ".deposit_data-101.json.part"} {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(data) != "old" {
			t.Errorf("%s reads %q, %v", name, data, err)
		}
	}
}

// On a medium without hard links a file still gets its name, and still
// overwrites none.
func TestPlaceWithoutLinks(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	noLinks := func(from, to string) error { return &os.LinkError{Op: "link", Old: from, New: to, Err: syscall.EPERM} }
	for _, step := range []struct {
		content string
		want    error
	}{{"first", nil}, {"second", fs.ErrExist}} {
		if err := os.WriteFile(from, []byte(step.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := place(from, to, noLinks); !errors.Is(err, step.want) {
			t.Errorf("placing %s: %v, want %v", step.content, err, step.want)
		}
		if data, err := os.ReadFile(to); err != nil || string(data) != "first" {
			t.Errorf("after placing %s it reads %q, %v", step.content, data, err)
		}
	}
	other := &os.LinkError{Op: "link", Old: from, New: to, Err: syscall.EIO}
	if err := place(from, filepath.Join(dir, "third"), func(string, string) error { return other }); !errors.Is(err, syscall.EIO) {
		t.Errorf("an error of the disk became %v", err)
	}
}

// The public files of another tool are judged by the program as they should
// be: good for their own network and address, refused for any other.
func TestVerifyVectors(t *testing.T) {
	dir := filepath.Join(vectors(), "deposit")
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the public vectors are missing: %v", err)
		}
		t.Skipf("no public vectors in %s; set STAKESEAL_VECTORS", dir)
	}
	addresses := map[string]string{
		"multiple_validators":              "0x0000000000000000000000000000000000000001",
		"regenerate_from_seed_index":       "0x0000000000000000000000000000000000000001",
		"withdrawal_credentials_execution": "0x71C7656EC7ab88b098defB751B7401B5f6d8976F",
	}
	files, err := filepath.Glob(filepath.Join(dir, "*", "*", "deposit_data-*.json"))
	if err != nil || len(files) < 8 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		network := filepath.Base(filepath.Dir(file))
		kind := filepath.Base(filepath.Dir(filepath.Dir(file)))
		t.Run(kind+"/"+network, func(t *testing.T) {
			address, execution := addresses[kind]
			if !execution {
				address = "0x388C818CA8B9251b393131C08a736A67ccB19297"
			}
			base := []string{"deposit", "verify", file, "--withdrawal-address", address}
			want := func(code int, with string, more ...string) {
				t.Helper()
				got, out := runProgram(t, "stakeseal", append(append([]string{}, base...), more...)...)
				if got != code || !strings.Contains(out, with) {
					t.Errorf("%v: exit code %d, want %d, with %q:\n%s", more, got, code, with, out)
				}
			}
			if execution {
				want(0, "GOOD: ", "--network", network)
			} else {
				want(3, "credentials-bls", "--network", network)
				want(0, "GOOD: ", "--network", network, "--allow-bls-withdrawal")
			}
			want(3, "signature-other-network", "--network", "mainnet")
			base[len(base)-1] = "0xdAC17F958D2ee523a2206206994597C13D831ec7"
			if execution {
				want(3, "address-unknown", "--network", network)
			}
		})
	}
}

// The statements of a file are its very bytes, in order, and no part of a
// file but white space is passed over in silence.
func FuzzStatements(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[]}`,
		`{"payloadType":"x"} {"payloadType":"y"}` + "\n", `{"schema":"stakeseal/birth/v1"}`, `[1]`, `{"payloadType":"x"`, `7 {}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		rest := data
		for s, err := range statements(path) {
			if err != nil || s.record != nil {
				return // told, or read by its own strict decoder
			}
			var whole bool
			if rest, whole = bytes.CutPrefix(bytes.TrimLeft(rest, " \t\r\n"), s.envelope); !whole || len(s.envelope) == 0 {
				t.Fatalf("the statement %q is not what comes next in the file: %q", s.envelope, rest)
			}
		}
		if len(rest) == len(data) || len(bytes.TrimSpace(rest)) > 0 {
			t.Errorf("no error, and %q was passed over", rest)
		}
	})
}
