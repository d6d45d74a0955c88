package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// TestKilledAtEveryChange ends the real program without warning before each
// single call to the kernel with which a step of a release changes a folder: a
// file made, linked, renamed or removed. A whole release is in force at every
// such point, or none; and the step again ends as if nothing had been.
func TestKilledAtEveryChange(t *testing.T) {
	k := &releaseKilling{releaseSite: newReleaseSite(t, 1)}
	zip, one := k.built("one")
	step := k.steps("one", zip, one)
	k.each("submit", k.keyed(step["submit"], "dora"), "", "")
	k.does(step["review"]...)
	k.each("approve", k.keyed(step["approve"], "rita"), "", "")
	k.each("sign", k.keyed(step["sign"], "rita"), "", "")
	k.each("deploy", step["deploy"], "", one)
	k.commit("two")
	zip, two := k.built("two")
	step = k.steps("two", zip, two)
	k.does(k.keyed(step["submit"], "dora")...)
	k.does(step["review"]...)
	k.does(k.keyed(step["approve"], "rita")...)
	k.does(k.keyed(step["sign"], "rita")...)
	k.each("deploy over another", step["deploy"], one, two)
	k.each("rollback", []string{"release", "rollback", "--to", one, "--yes"}, two, one)
	k.each("revoke", k.keyed(step["revoke"], "rita"), one, one)
	if k.killed < 60 || k.again < 25 {
		t.Errorf("%d kills, %d of them went on: that shows too little", k.killed, k.again)
	}
	t.Logf("%d kills, %d of them went on", k.killed, k.again)
}

type releaseKilling struct {
	*releaseSite
	killed, again int
}

// each kills a command at each of its changes, and runs it to its end at last.
func (k *releaseKilling) each(what string, args []string, before, after string) {
	k.Helper()
	kept := k.path("kept")
	k.copy(k.path(), kept)
	defer os.RemoveAll(kept)
	begin := k.shape()
	seen := map[string]bool{begin: true}
	back := func() {
		for _, dir := range []string{k.home, k.depot} {
			if err := os.RemoveAll(dir); err != nil {
				k.Fatal(err)
			}
		}
		k.copy(kept, k.path())
	}
	for n := 0; ; n++ {
		if code := k.kill(n, args); code >= 0 {
			if code != 0 {
				k.Fatalf("%s: exit %d", what, code)
			}
			break // it ended before its nth change: all were killed
		}
		k.killed++
		shape := k.shape()
		if seen[shape] { // as after a kill before
			if shape != begin {
				back()
			}
			continue
		}
		seen[shape] = true
		o := k.do("release", "verify", "--json")
		switch {
		case o.code == 0 && (before != "" && strings.Contains(o.out, `"package_sha256":"`+before) || after != "" && strings.Contains(o.out, `"package_sha256":"`+after)):
		case before == "" && o.code == exitUsage && strings.Contains(o.err, "no release is in force"):
		default:
			k.Errorf("%s, killed at change %d: release verify: exit %d\n%s%s", what, n, o.code, o.out, o.err)
		}
		k.again++
		k.does(args...)
		if after != "" {
			if o := k.does("release", "verify", "--json"); !strings.Contains(o.out, `"package_sha256":"`+after) {
				k.Errorf("%s, killed at change %d and run again: %s", what, n, o.out)
			}
		}
		if names := k.shape(); strings.Contains(names, "releases/.stakeseal-new") {
			k.Errorf("%s, killed at change %d and run again, leaves\n%s", what, n, names)
		}
		back()
	}
	if after != "" {
		if o := k.does("release", "verify", "--json"); !strings.Contains(o.out, `"package_sha256":"`+after) {
			k.Errorf("%s: %s", what, o.out)
		}
	}
}

var temporary = regexp.MustCompile(`\.stakeseal-new-[0-9]+|trust\.yaml[^ ]+`)

// shape is the names and sizes of what lies in home and depot. A folder that is
// not in its place yet is one thing, however much is in it: nothing reads it.
func (k *releaseKilling) shape() string {
	k.Helper()
	var out strings.Builder
	for _, dir := range []string{k.home, k.depot} {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil
			}
			if d.IsDir() && temporary.MatchString(d.Name()) {
				fmt.Fprintln(&out, temporary.ReplaceAllString(path, ".stakeseal-new"))
				return fs.SkipDir
			}
			if info, err := d.Info(); err == nil && !d.IsDir() {
				fmt.Fprintf(&out, "%s %d\n", temporary.ReplaceAllString(path, ".stakeseal-new"), info.Size())
			}
			return nil
		})
	}
	return out.String()
}

// copy copies home and depot from one folder to another.
func (k *releaseKilling) copy(from, to string) {
	k.Helper()
	for _, name := range []string{"home", "depot"} {
		err := filepath.WalkDir(filepath.Join(from, name), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				if errors.Is(err, fs.ErrNotExist) && d == nil {
					return nil // no depot yet
				}
				return err
			}
			rel, err := filepath.Rel(from, path)
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			if d.IsDir() {
				return os.MkdirAll(filepath.Join(to, rel), info.Mode().Perm())
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return errors.Join(os.WriteFile(filepath.Join(to, rel), data, 0o600), os.Chmod(filepath.Join(to, rel), info.Mode().Perm()))
		})
		if err != nil {
			k.Fatal(err)
		}
	}
}

// changes says whether a call to the kernel changes a folder.
func changes(regs *syscall.PtraceRegs) bool {
	const renameat2 = 316
	switch regs.Orig_rax {
	case syscall.SYS_MKDIRAT, syscall.SYS_LINKAT, syscall.SYS_RENAMEAT, renameat2, syscall.SYS_UNLINKAT, syscall.SYS_RENAME, syscall.SYS_MKDIR, syscall.SYS_LINK, syscall.SYS_UNLINK:
		return true
	case syscall.SYS_OPENAT:
		return regs.Rdx&syscall.O_CREAT != 0
	}
	return false
}

// kill runs a command that is killed before its nth change. It returns the exit
// code of one that ended before that, -1 else.
func (k *releaseKilling) kill(n int, args []string) int {
	k.Helper()
	runtime.LockOSThread() // who traces is a thread
	defer runtime.UnlockOSThread()
	cmd := k.command(args...)
	cmd.Dir = k.source
	words, err := os.Create(k.path("tmp", "words"))
	if err != nil {
		k.Fatal(err)
	}
	defer words.Close()
	cmd.Stdout, cmd.Stderr = words, words
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Setpgid: true}
	if err := cmd.Start(); err != nil {
		if errors.Is(err, syscall.EPERM) && os.Getenv("CI") != "true" {
			k.Skip("SKIPPED: this machine lets nobody trace a program")
		}
		k.Fatal(err)
	}
	pid := cmd.Process.Pid
	defer func() { _ = cmd.Process.Release() }()
	const wall, exitKill, sysGood = 0x40000000, 0x100000, 0x1
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, wall, nil); err != nil {
		k.Fatal(err)
	}
	if err := syscall.PtraceSetOptions(pid, syscall.PTRACE_O_TRACECLONE|exitKill|sysGood); err != nil {
		k.Fatal(err)
	}
	inside := map[int]bool{}
	who, signal := pid, 0
	for {
		if err := syscall.PtraceSyscall(who, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			k.Fatal(err)
		}
		who, err = syscall.Wait4(-pid, &status, wall, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			k.Fatal(err)
		}
		signal = 0
		switch {
		case who == pid && status.Exited():
			return status.ExitStatus()
		case who == pid && status.Signaled():
			return -1
		case !status.Stopped():
			continue // a thread ended; the loop's call to it finds nobody
		case status.StopSignal() == syscall.SIGTRAP|0x80:
			inside[who] = !inside[who]
			var regs syscall.PtraceRegs
			if !inside[who] || syscall.PtraceGetRegs(who, &regs) != nil || !changes(&regs) {
				continue
			}
			if n--; n < 0 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		case status.StopSignal() == syscall.SIGTRAP || status.StopSignal() == syscall.SIGSTOP:
		default:
			signal = int(status.StopSignal())
		}
	}
}
