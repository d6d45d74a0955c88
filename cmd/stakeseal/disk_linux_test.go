package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestFullDisk makes orders on a disk that fills up at many points, and then
// has room again: nothing is half-made, and the order is finished.
func TestFullDisk(t *testing.T) {
	s := emptySite(t)
	disk := s.path("disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("stakeseal-test", disk, "tmpfs", 0, "size=4m,mode=700"); err != nil {
		t.Skipf("no small disk can be mounted here (TestFileLimit stands in for it): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s.home = filepath.Join(disk, "home")
	filler := filepath.Join(disk, "filler")
	fill := func(leave int64) {
		t.Helper()
		var free syscall.Statfs_t
		if err := syscall.Statfs(disk, &free); err != nil {
			t.Fatal(err)
		}
		if n := int64(free.Bavail)*free.Bsize - leave; n > 0 {
			if err := os.WriteFile(filler, make([]byte, n), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	empty := func() {
		t.Helper()
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	}

	// A home comes to be whole or not at all.
	failed := 0
	for leave := int64(0); leave <= 160<<10; leave += 8 << 10 {
		fill(leave)
		o := s.run("init", "--network", "hoodi", "--withdrawal-address", testAddress, "--identities", s.identities)
		empty()
		if o.code == 0 {
			break
		}
		failed++
		s.full(fmt.Sprintf("init with %d bytes left", leave), o)
		for _, dir := range []string{disk, s.identities} {
			if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
				t.Fatalf("init with %d bytes left leaves %v in %s", leave, entries, dir)
			}
		}
	}
	if failed == 0 {
		t.Error("init never met a full disk")
	}

	failed = 0
	var orders []string
	for leave := int64(0); leave <= 320<<10; leave += 16 << 10 {
		order := fmt.Sprintf("order-%03d", leave>>10)
		fill(leave)
		place := []string{"generate", "--order", order, "--count", "6", "--keystore", "none", "--workers", "1", "--yes"}
		o := s.run(place...)
		if o.code != 0 {
			failed++
			s.full(fmt.Sprintf("generate with %d bytes left", leave), o)
		}
		empty()
		known := s.owners(order)
		s.must(0, "doctor")
		if o.code != 0 {
			o = s.run("generate", "--resume", order)
			if o.code == exitUsage && len(known) == 0 {
				o = s.must(0, place...)
			}
			if o.code != 0 {
				t.Fatalf("with room again, %s ends with %d:\n%s", order, o.code, o.err)
			}
		}
		s.kept(order, known)
		orders = append(orders, order)
		if failed > 0 && strings.Contains(o.out, "INDEX") && leave > 160<<10 {
			break
		}
	}
	if failed < 3 {
		t.Errorf("only %d orders met a full disk", failed)
	}
	seen := map[string]string{}
	for _, order := range orders {
		s.filled(order, 6, seen)
	}
	s.sound()

	// Files for others: whole or not at all.
	for _, args := range [][]string{
		{"bundle", "export", "--order", orders[0], "--out", filepath.Join(disk, "out")},
		{"certificate", "export", "--order", orders[0], "--out", filepath.Join(disk, "out")},
		{"identity", "new", "--out", filepath.Join(disk, "out")},
	} {
		fill(0)
		o := s.run(args...)
		empty()
		if o.code == 0 {
			t.Errorf("%q needs no room", args)
		}
		s.full(strings.Join(args[:2], " "), o)
		if _, err := os.Stat(filepath.Join(disk, "out")); err == nil {
			t.Errorf("%q leaves its file or folder", args)
		}
		if left, err := filepath.Glob(filepath.Join(disk, ".stakeseal*")); err != nil || len(left) > 0 {
			t.Errorf("%q leaves %q (%v)", args, left, err)
		}
	}
}

// full demands of a refusal that it speaks of room, and how to go on.
func (s *site) full(what string, o outcome) {
	s.Helper()
	if o.code != exitInternal || o.out != "" || !strings.Contains(o.err, "hint: free some space") {
		s.Errorf("%s: exit code %d, stdout %q, stderr:\n%s", what, o.code, o.out, o.err)
	}
}

// TestFileLimit is a full disk for whoever may not mount one: no file may
// grow beyond a limit (RLIMIT_FSIZE).
func TestFileLimit(t *testing.T) {
	prlimit, err := exec.LookPath("prlimit")
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal(err)
	} else if err != nil {
		t.Skipf("no prlimit here: %v", err)
	}
	s := newSite(t)
	for i, limit := range []int{0, 2 << 10, 8 << 10, 100 << 10} {
		order := fmt.Sprintf("order-%d", i)
		place := []string{"generate", "--order", order, "--count", "4", "--keystore", "none", "--yes"}
		cmd := s.command(place...)
		cmd.Args = append([]string{prlimit, fmt.Sprintf("--fsize=%d", limit), cmd.Path}, cmd.Args[1:]...)
		cmd.Path = prlimit
		var out, words strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &words
		err := cmd.Run()
		if err == nil {
			t.Fatalf("limit %d: it was made", limit)
		}
		if cmd.ProcessState.ExitCode() != exitInternal || out.Len() > 0 || !strings.Contains(words.String(), "hint: ") {
			t.Errorf("limit %d: %v, stdout %q, stderr:\n%s", limit, err, out.String(), words.String())
		}
		known := s.owners(order)
		s.must(0, "doctor")
		s.must(0, place...)
		s.kept(order, known)
	}
	s.sound()
}
