//go:build unix

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// crashes are signals on which Go's runtime prints every stack.
var crashes = []syscall.Signal{syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGILL, syscall.SIGTRAP}

// mute demands that a crashed run said nothing of its stacks, registers or
// memory, and left no core file.
func (s *site) mute(what string, o outcome) {
	s.Helper()
	for _, word := range []string{"goroutine ", "SIGQUIT", "SIGABRT", "SIGSEGV", "SIGBUS", "SIGILL", "SIGTRAP", "runtime.", "runtime stack", "PC=", "rax ", "fatal error", "panic"} {
		if strings.Contains(o.out+o.err, word) {
			s.Errorf("%s: it prints %q:\n%s%s", what, word, o.out, o.err)
		}
	}
	for _, pattern := range []string{"core*", "tmp/*", "home/core*"} {
		if found, err := filepath.Glob(s.path(pattern)); err != nil || len(found) > 0 {
			s.Errorf("%s: it leaves %q (%v)", what, found, err)
		}
	}
}

// TestCrashWithSeedOpen crashes a command at a moment at which a seed is
// certainly in its memory: derive has read the mnemonic and waits for the
// password, which comes from a pipe.
func TestCrashWithSeedOpen(t *testing.T) {
	s := emptySite(t)
	words, pipe := s.path("words"), s.path("password")
	if err := errors.Join(os.WriteFile(words, []byte(givenWords), 0o600), syscall.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, signal := range crashes {
		run := s.start("derive", "--network", "hoodi", "--count", "1", "--withdrawal-address", testAddress,
			"--mnemonic-file", words, "--password-file", pipe, "--out", s.path("out"))
		// Somebody reads the pipe when it opens for writing at once.
		var writer int
		err := error(syscall.ENXIO)
		for errors.Is(err, syscall.ENXIO) && !run.over() {
			time.Sleep(time.Millisecond)
			writer, err = syscall.Open(pipe, syscall.O_WRONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
		}
		if err != nil {
			t.Fatalf("derive does not read its password: %v: %+v", err, run.wait())
		}
		if runtime.GOOS == "linux" {
			limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", run.cmd.Process.Pid))
			if err != nil || !strings.Contains(strings.Join(strings.Fields(string(limits)), " "), "Max core file size 0 0 bytes") {
				t.Errorf("core files are allowed: %v\n%s", err, limits)
			}
			// Who may not read /proc/PID/environ may not read /proc/PID/mem.
			if _, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", run.cmd.Process.Pid)); err == nil && os.Geteuid() != 0 {
				t.Error("another process of the same user can read its memory")
			}
		}
		if err := run.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		o := run.wait()
		_ = syscall.Close(writer)
		if o.code == 0 || o.out != "" {
			t.Errorf("%v: exit code %d, stdout %q", signal, o.code, o.out)
		}
		if !strings.Contains(o.err, "the mnemonic has 12 words") {
			t.Errorf("%v: it had not read the mnemonic yet:\n%s", signal, o.err)
		}
		s.mute(signal.String(), o)
		for word := range strings.FieldsSeq(givenWords) {
			if word != "year" && strings.Contains(o.err, word) {
				t.Errorf("%v: it prints %q:\n%s", signal, word, o.err)
			}
		}
	}
}

// quiet waits until the run's standard error leads to nothing: before that it
// is still initialising packages, and has no secret yet.
func (r *running) quiet() {
	for !r.over() {
		to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/2", r.cmd.Process.Pid))
		if to == os.DevNull || errors.Is(err, os.ErrPermission) { // not ours to read any more
			return
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// TestCrashWhileDrilling crashes drills of a larger order at many points, and
// the generator while it makes keys.
func TestCrashWhileDrilling(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("finding the child process needs /proc")
	}
	s := newSite(t)
	s.must(0, "generate", "--order", "large", "--count", "100", "--keystore", "none", "--yes")
	drill := []string{"recovery", "drill", "--identity", s.identity("recovery-a"), "--workers", "1"}
	begun := time.Now()
	s.must(0, drill...)
	took := time.Since(begun)
	crashed := 0
	const rounds = 12
	for i := 0; i < rounds || i < 4*rounds && crashed < rounds/3; i++ {
		run := s.start(drill...)
		run.quiet()
		time.Sleep(took * time.Duration(i%rounds+1) / (rounds + 2))
		signal := crashes[i%len(crashes)]
		if !run.over() {
			_ = run.cmd.Process.Signal(signal)
		}
		o := run.wait()
		if o.code != 0 {
			crashed++
		} else {
			took = took * 3 / 4 // the first was slow, on a busy machine
		}
		s.mute(fmt.Sprintf("drill, %v after %v", signal, took*time.Duration(i)/rounds), o)
	}
	if crashed < rounds/3 {
		t.Errorf("only %d of %d drills crashed", crashed, rounds)
	}
	for i, signal := range crashes[:3] {
		order := fmt.Sprintf("order-%d", i)
		run := s.start("generate", "--order", order, "--count", "24", "--keystore", "pbkdf2", "--workers", "1", "--yes")
		run.archived(order, 3)
		if child := run.child(); child != 0 {
			_ = syscall.Kill(child, signal)
		}
		o := run.wait()
		s.mute(fmt.Sprintf("the generator, %v", signal), o)
		if o.code != exitInternal || o.out != "" || !strings.Contains(o.err, "hint: stakeseal generate --home "+s.home+" --resume "+order+" continues") {
			t.Errorf("the generator, %v: exit code %d, stdout %q:\n%s", signal, o.code, o.out, o.err)
		}
		s.must(0, "generate", "--resume", order)
	}
	s.sound()
}
