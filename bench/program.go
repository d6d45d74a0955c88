package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// build builds the two programs as `make build` does.
func (b *bench) build(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", b.dir+string(os.PathSeparator), "./cmd/stakeseal", "./cmd/stakeseal-generator")
	cmd.Env = os.Environ()
	if os.Getenv("CGO_CFLAGS") == "" {
		cmd.Env = append(cmd.Env, "CGO_CFLAGS=-O2 -D__BLST_PORTABLE__")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("couldn't build the programs (run this in the repository's root): %w\n%s", err, out)
	}
	return nil
}

// usage is what a run of the command line took, with its child's share.
type usage struct {
	wall      time.Duration
	processor time.Duration // user and system, of both programs
	generator time.Duration // the child's part of it, to a hundredth of a second
	peak      int64         // bytes resident at most, of the program
	childPeak int64         // and of the generator
	lines     int           // on standard output
	head      string        // its beginning
}

// stakeseal runs the command line to its end. pin, if not nil, are the only
// processors that it and its child may run on.
func (b *bench) stakeseal(ctx context.Context, pin []int, args ...string) (usage, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(b.dir, "stakeseal"), args...)
	var words bytes.Buffer
	out := &counter{}
	cmd.Stdout, cmd.Stderr = out, &words
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it ends its child
	began := time.Now()
	if err := startPinned(cmd, pin); err != nil {
		return usage{}, err
	}
	watch := watchTree(cmd.Process.Pid)
	err := cmd.Wait()
	u := usage{wall: time.Since(began)}
	seen := watch.end()
	if err != nil {
		return u, fmt.Errorf("stakeseal %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(words.Bytes()))
	}
	u.lines, u.head = out.lines, string(out.head)
	// The command line waits for its child, so wait4 accounts for both.
	r := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	u.processor = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	u.generator, u.peak, u.childPeak = seen.processor, seen.peak, seen.childPeak
	if u.peak == 0 { // nothing watches here; on Linux Maxrss would hold this program's own peak too
		u.peak = maxRSS(r)
	}
	return u, nil
}

// counter counts lines and keeps the beginning.
type counter struct {
	lines int
	head  []byte
}

var _ io.Writer = (*counter)(nil)

func (c *counter) Write(p []byte) (int, error) {
	c.lines += bytes.Count(p, []byte{'\n'})
	if room := 256 - len(c.head); room > 0 {
		c.head = append(c.head, p[:min(room, len(p))]...)
	}
	return len(p), nil
}
