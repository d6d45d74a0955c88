package folder

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stakeseal/stakeseal/record"
)

const childVariable = "STAKESEAL_TEST_CHILD"

func TestMain(m *testing.M) {
	run := map[string]func(string) error{"puts": childPuts, "full": childFull}[os.Getenv(childVariable)]
	if run == nil {
		os.Exit(m.Run())
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func child(name, dir string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", dir)
	cmd.Env = []string{childVariable + "=" + name}
	cmd.Stderr = os.Stderr
	return cmd
}

func object(i int) (string, []byte) {
	return fmt.Sprintf("o%d/%d.json", i%3, i), []byte(strings.Repeat(fmt.Sprint(i, ";"), 3000))
}

// childPuts puts objects from several goroutines and prints each once Put
// has returned, until it is killed.
func childPuts(dir string) error {
	a, err := Open(dir)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for writer := range 8 {
		wg.Go(func() {
			for i := writer; ; i += 8 {
				name, data := object(i)
				err := a.Put(ctx, name, data)
				if errors.Is(err, record.ErrExists) {
					continue // of the round before
				}
				mu.Lock()
				fmt.Println(i, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return nil
}

// TestKill kills a process with -9 while it writes: whatever it acknowledged
// is there, and what is there is whole.
func TestKill(t *testing.T) {
	a, dir := fresh(t)
	acknowledged := map[int]bool{}
	for _, lines := range []int{1, 20, 70} {
		cmd := child("puts", dir)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		scanner := bufio.NewScanner(out)
		for n := 0; scanner.Scan(); n++ {
			if n == lines {
				must(t, cmd.Process.Kill())
			}
			var i int
			if _, err := fmt.Sscanf(scanner.Text(), "%d <nil>", &i); err == nil {
				acknowledged[i] = true
			} else if strings.Contains(scanner.Text(), "couldn't") {
				t.Fatal(scanner.Text())
			}
		}
		_ = cmd.Wait() // killed
		present := 0
		for name, mode := range files(t, dir) {
			if mode.IsDir() || name == marker || strings.HasPrefix(name, tempPrefix) {
				continue
			}
			var order, i int
			if _, err := fmt.Sscanf(name, "o%d/%d.json", &order, &i); err != nil {
				t.Fatalf("an object %q that nobody put", name)
			}
			present++
			_, want := object(i)
			if got, err := a.Get(ctx, name); err != nil || string(got) != string(want) {
				t.Errorf("%q is not whole: %d bytes, %v", name, len(got), err)
			}
		}
		for i := range acknowledged {
			name, want := object(i)
			if got, err := a.Get(ctx, name); err != nil || string(got) != string(want) {
				t.Errorf("%q was acknowledged: %d bytes, %v", name, len(got), err)
			}
		}
		if present < len(acknowledged) || len(acknowledged) < lines {
			t.Errorf("%d present, %d acknowledged", present, len(acknowledged))
		}
	}
}

var errMount = errors.New("couldn't mount")

// childFull fills a real file system, then has it mounted read-only.
func childFull(dir string) error {
	if err := errors.Join(
		syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""),
		syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"),
	); err != nil {
		return fmt.Errorf("%w: %w", errMount, err)
	}
	a, err := Create(filepath.Join(dir, "bundles"))
	if err != nil {
		return err
	}
	n := 0
	for err = nil; err == nil; n++ {
		err = a.Put(ctx, fmt.Sprintf("o1/%d", n), make([]byte, 20_000))
	}
	n--
	if !errors.Is(err, ErrFull) || n < 3 {
		return fmt.Errorf("after %d puts: %w", n, err)
	}
	var left []string
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			left = append(left, path)
		}
		return err
	}); err != nil {
		return err
	}
	if len(left) != n+1 { // and the marker
		return fmt.Errorf("%d puts left %q", n, left)
	}
	if _, err := a.Get(ctx, fmt.Sprintf("o1/%d", n)); !errors.Is(err, record.ErrNotFound) {
		return fmt.Errorf("the object that found no room: %w", err)
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=1m"); err != nil {
		return err
	}
	if err := a.Put(ctx, fmt.Sprintf("o1/%d", n), make([]byte, 20_000)); err != nil {
		return fmt.Errorf("with room again: %w", err)
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		return err
	}
	if err := a.Put(ctx, "o1/x", nil); !errors.Is(err, ErrReadOnly) {
		return fmt.Errorf("Put on a read-only disk: %w", err)
	}
	if _, err := Create(filepath.Join(dir, "second")); !errors.Is(err, ErrReadOnly) {
		return fmt.Errorf("Create on a read-only disk: %w", err)
	}
	if data, err := a.Get(ctx, "o1/0"); err != nil || len(data) != 20_000 {
		return fmt.Errorf("Get on a read-only disk: %w", err)
	}
	fmt.Println("all good")
	return nil
}

func TestFullAndReadOnlyDisk(t *testing.T) {
	cmd := child("full", t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || strings.Contains(string(out), errMount.Error()) {
		if os.Getenv("CI") == "true" {
			t.Fatalf("a file system of its own is not possible here: %v %s", err, out)
		}
		t.Skipf("a file system of its own is not possible here: %v %s", err, out)
	}
	if err != nil || !strings.HasSuffix(string(out), "all good\n") {
		t.Fatalf("%v\n%s", err, out)
	}
}
