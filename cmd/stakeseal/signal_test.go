//go:build unix

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// waitsAt starts stakeseal and waits until it reads a new pipe at path. The
// writer is the test's to close.
func (s *site) waitsAt(path string, prepare func(*exec.Cmd), args ...string) (*running, *os.File) {
	s.Helper()
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		s.Fatal(err)
	}
	r := &running{site: s, args: args, cmd: s.command(args...), ended: make(chan error, 1)}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.words
	if prepare != nil {
		prepare(r.cmd)
	}
	if err := r.cmd.Start(); err != nil {
		s.Fatal(err)
	}
	go func() { r.ended <- r.cmd.Wait() }()
	for !r.over() {
		// Opening for writing at once works when somebody reads.
		writer, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err == nil {
			return r, writer
		}
		if !errors.Is(err, syscall.ENXIO) {
			s.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	s.Fatalf("%q ended before it read the pipe: %+v", args, r.wait())
	return nil, nil
}

// derives is a command that waits for a password while it holds a seed.
func (s *site) derives(password, out string) []string {
	s.Helper()
	words := s.path("words")
	writeFile(s, words, givenWords)
	return []string{"derive", "--network", "hoodi", "--count", "1", "--withdrawal-address", testAddress,
		"--mnemonic-file", words, "--password-file", password, "--kdf", "pbkdf2", "--out", out}
}

// Every signal that asks a command to stop lets it clean up, also when it
// waits for input.
func TestSignalsWhileWaiting(t *testing.T) {
	s := emptySite(t)
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		pipe := s.path("pipe-" + signal.String())
		run, writer := s.waitsAt(pipe, nil, s.derives(pipe, s.path("out"))...)
		if err := run.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		o := run.wait()
		if err := writer.Close(); err != nil {
			t.Error(err)
		}
		if o.code != exitInterrupted || o.out != "" || !strings.HasSuffix(o.err, "stakeseal: error: interrupted\n") {
			t.Errorf("%v: exit code %d, stdout %q:\n%s", signal, o.code, o.out, o.err)
		}
		if left, err := filepath.Glob(s.path(".stakeseal*")); err != nil || len(left) > 0 {
			t.Errorf("%v leaves %q (%v)", signal, left, err)
		}
	}
}

// Where nothing looks for the end, the second signal is the end.
func TestSecondSignal(t *testing.T) {
	s := newSite(t)
	run, writer := s.waitsAt(s.path("pipe"), nil, "bundle", "verify", s.path("pipe"))
	defer writer.Close()
	for range 6000 {
		if run.over() {
			break
		}
		_ = run.cmd.Process.Signal(syscall.SIGTERM)
		time.Sleep(5 * time.Millisecond)
	}
	if o := run.wait(); o.code != 128+int(syscall.SIGTERM) {
		t.Errorf("exit code %d:\n%s", o.code, o.err)
	}
}

// With nohup a terminal that closes ends nothing.
func TestNohup(t *testing.T) {
	s := emptySite(t)
	pipe := s.path("pipe")
	run, writer := s.waitsAt(pipe, func(cmd *exec.Cmd) {
		cmd.Args = append([]string{"sh", "-c", `trap "" HUP; exec "$0" "$@"`}, cmd.Args...)
		cmd.Path = "/bin/sh"
	}, s.derives(pipe, s.path("out"))...)
	if err := run.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	_, err := writer.WriteString("long enough\n")
	if err := errors.Join(err, writer.Close()); err != nil {
		t.Fatal(err)
	}
	if o := run.wait(); o.code != 0 {
		t.Errorf("exit code %d:\n%s", o.code, o.err)
	}
}
