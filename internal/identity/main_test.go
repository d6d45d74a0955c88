package identity

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"filippo.io/age"
	ageplugin "filippo.io/age/plugin"

	"github.com/stakeseal/stakeseal/secret"
)

// The test binary is also the plugins that the tests run, each under its own
// name, and the child that writes under a limit.
func TestMain(m *testing.M) {
	name := filepath.Base(os.Args[0])
	switch {
	case len(os.Args) == 2 && os.Args[1] == "--age-plugin=identity-v1":
		os.Exit(runPlugin(strings.TrimPrefix(name, "age-plugin-")))
	case len(os.Args) == 3 && os.Args[1] == "write-under-limit":
		writeUnderLimit(os.Args[2])
		os.Exit(0)
	}
	code := m.Run()
	if tools.dir != "" {
		_ = os.RemoveAll(tools.dir)
	}
	os.Exit(code)
}

// runPlugin is the plugin side, with age's own framework where it behaves.
func runPlugin(kind string) int {
	if kind == "raw" {
		return runRaw()
	}
	p, err := ageplugin.New(kind)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	p.HandleIdentity(func(data []byte) (age.Identity, error) {
		switch kind {
		case "none":
			return answer{nil, age.ErrIncorrectIdentity}, nil
		case "sulk":
			return answer{nil, errors.New("the card\x1b[2J is locked\n")}, nil
		case "env":
			return answer{nil, errors.New(strings.Join(os.Environ(), " "))}, nil
		case "hang":
			if err := p.DisplayMessage("hanging now"); err != nil {
				return nil, err
			}
			select {}
		}
		id, err := age.ParseX25519Identity(string(data))
		if err != nil {
			return nil, err
		}
		if kind == "ask" {
			pin, err := p.RequestValue("PIN\x1b[1m, please", true)
			if err != nil {
				return nil, err
			}
			if pin != "1234" {
				return answer{nil, errors.New("wrong PIN")}, nil
			}
			if yes, err := p.Confirm("touch it?", "Touched", "Leave"); err != nil || !yes {
				return answer{nil, errors.New("not touched")}, nil
			}
			if err := p.DisplayMessage("thank you"); err != nil {
				return nil, err
			}
		}
		return id, nil
	})
	return p.IdentityV1()
}

type answer struct {
	key []byte
	err error
}

func (a answer) Unwrap([]*age.Stanza) ([]byte, error) { return a.key, a.err }

// runRaw says exactly what its identity carries, whatever it is asked.
func runRaw() int {
	in, err := io.ReadAll(io.LimitReader(os.Stdin, int64(len("-> add-identity "))))
	if err != nil || string(in) != "-> add-identity " {
		return 1
	}
	var text []byte
	for b := []byte{0}; ; {
		if _, err := os.Stdin.Read(b); err != nil || b[0] == '\n' {
			break
		}
		text = append(text, b[0])
	}
	_, data, err := ageplugin.ParseIdentity(string(text))
	if err != nil {
		return 1
	}
	// Only the context ends a plugin that waits (for a finger on the card), so
	// this one ends its own side after it has spoken.
	_, _ = os.Stdout.Write(data)
	_ = os.Stdout.Close()
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// writeUnderLimit makes the disk look full after ten bytes of a file.
func writeUnderLimit(path string) {
	signal.Ignore(syscall.SIGXFSZ)
	limit := syscall.Rlimit{Cur: 10, Max: 10}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		fmt.Println("no limit:", err)
		return
	}
	_, file := New(Classic)
	fmt.Println(WriteNew(path, file, nil))
}

// tools are the programs of the age module, built once.
var tools struct {
	sync.Once
	dir string
	err error
}

// tool runs one of age's own programs and returns what it printed.
func tool(t *testing.T, env []string, name string, args ...string) []byte {
	t.Helper()
	tools.Do(func() {
		if tools.dir, tools.err = os.MkdirTemp("", "age"); tools.err != nil {
			return
		}
		out, err := exec.Command("go", "build", "-o", tools.dir+"/", "filippo.io/age/cmd/age", "filippo.io/age/cmd/age-keygen", "filippo.io/age/cmd/age-plugin-batchpass").CombinedOutput()
		if err != nil {
			tools.err = fmt.Errorf("couldn't build age: %w: %s", err, out)
		}
	})
	if tools.err != nil {
		t.Fatal(tools.err)
	}
	cmd := exec.Command(filepath.Join(tools.dir, name), args...)
	cmd.Env = append(os.Environ(), append(env, "PATH="+tools.dir)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, stderr.String())
	}
	return out
}

func fast(t *testing.T) {
	t.Helper()
	old := workFactor
	workFactor = 4
	t.Cleanup(func() { workFactor = old })
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func say(text string) func(string) (*secret.Bytes, error) {
	return func(string) (*secret.Bytes, error) { return secret.Copy([]byte(text)), nil }
}

func entries(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}
