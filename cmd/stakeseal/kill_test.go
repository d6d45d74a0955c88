//go:build unix

package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func killedBy(exit *exec.ExitError) (syscall.Signal, bool) {
	status, ok := exit.Sys().(syscall.WaitStatus)
	return status.Signal(), ok && status.Signaled()
}

// running is a generate that was started and not waited for.
type running struct {
	*site
	args       []string
	cmd        *exec.Cmd
	out, words bytes.Buffer
	ended      chan error
	result     *outcome
}

func (s *site) start(args ...string) *running {
	s.Helper()
	r := &running{site: s, args: args, cmd: s.command(args...), ended: make(chan error, 1)}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.words
	if err := r.cmd.Start(); err != nil {
		s.Fatal(err)
	}
	go func() { r.ended <- r.cmd.Wait() }()
	return r
}

// over says whether the run has ended, without waiting.
func (r *running) over() bool {
	if r.result != nil {
		return true
	}
	select {
	case err := <-r.ended:
		r.end(err)
		return true
	default:
		return false
	}
}

func (r *running) end(err error) {
	o, err := finish(r.cmd, &r.out, &r.words, err)
	if err != nil {
		r.Fatal(err)
	}
	r.result = &o
	r.hear(r.args, o)
}

// wait waits for the end.
func (r *running) wait() outcome {
	r.Helper()
	if r.result == nil {
		select {
		case err := <-r.ended:
			r.end(err)
		case <-time.After(2 * time.Minute):
			_ = r.cmd.Process.Kill()
			r.Fatalf("%q did not end", r.args)
		}
	}
	return *r.result
}

// archived waits until the archive has n objects of an order, or the run is
// over.
func (r *running) archived(order string, n int) {
	for !r.over() {
		entries, _ := os.ReadDir(filepath.Join(r.home, "bundles", order))
		if len(entries) >= n {
			return
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// child is the process that the run started, 0 when there is none: the
// fourth field of /proc/PID/stat is the parent, after a name in brackets.
func (r *running) child() int {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		if _, parent, ok := processState(file); ok && parent == r.cmd.Process.Pid {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			return pid
		}
	}
	return 0
}

func processState(file string) (state string, parent int, ok bool) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", 0, false
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 2 {
		return "", 0, false
	}
	parent, err = strconv.Atoi(fields[1])
	return fields[0], parent, err == nil
}

// gone waits until a process has ended, be it that nobody collects it.
func (s *site) gone(pid int) {
	s.Helper()
	for range 3000 {
		state, _, ok := processState(fmt.Sprintf("/proc/%d/stat", pid))
		if !ok || state == "Z" || state == "X" {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.Fatalf("process %d outlives the command that started it", pid)
}

// victim says who is killed.
type victim string

const (
	theParent victim = "the parent"
	theChild  victim = "the child"
	both      victim = "both"
)

// kill kills without warning (SIGKILL) and demands that nothing of the run
// stays behind.
func (r *running) kill(who victim) {
	r.Helper()
	pid := r.child()
	// A child that is gone when the signal is sent was killed by its end.
	if pid != 0 && who != theParent {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if who != theChild {
		_ = r.cmd.Process.Kill()
	}
	o := r.wait()
	if pid != 0 {
		r.gone(pid)
	}
	switch {
	case o.code == 0: // it was done
	case who != theChild && o.code == 128+int(syscall.SIGKILL):
	case who != theParent && o.code == exitInternal:
		if !strings.Contains(o.err, "hint: ") || !strings.Contains(o.err, "--resume") {
			r.Errorf("the child was killed, and no hint says how to go on:\n%s", o.err)
		}
	default:
		r.Errorf("%s was killed: exit code %d\n%s", who, o.code, o.err)
	}
}

// TestKilled kills the real programs at many points of an order's making and
// holds what they disclosed before against what stands after the order was
// resumed (G6), and that each index was filled once (G5).
func TestKilled(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("finding the child process needs /proc")
	}
	s := newSite(t)
	kinds := []struct {
		keystore string
		count    uint32
		took     time.Duration
	}{{keystore: "none", count: 6}, {keystore: "pbkdf2", count: 3}}
	// How long a run takes that nobody disturbs, to sweep over.
	for i := range kinds {
		k := &kinds[i]
		begun := time.Now()
		s.must(0, "generate", "--order", "calm-"+k.keystore, "--count", fmt.Sprint(k.count), "--keystore", k.keystore, "--yes")
		k.took = time.Since(begun)
	}
	const rounds = 48
	orders := map[string]uint32{"calm-none": 6, "calm-pbkdf2": 3}
	states := map[string]int{}
	mnemonics := 0
	// A sweep that misses the middle would show nothing: where the machine is
	// too busy to be hit there, it is swept over again.
	missed := func(done int) bool { return states["some"] == 0 || states["none"] == 0 || mnemonics <= done }
	done := 0
	for ; done < rounds || done < 4*rounds && missed(done); done++ {
		i := done % rounds
		k := kinds[0]
		if i%3 == 2 {
			k = kinds[1]
		}
		who := []victim{theParent, theChild, both, both, theParent, theChild}[i%6]
		order := fmt.Sprintf("order-%02d", done)
		orders[order] = k.count
		place := []string{"generate", "--order", order, "--count", fmt.Sprint(k.count), "--keystore", k.keystore, "--workers", fmt.Sprint(1 + i%2), "--yes", "--json"}
		resume := []string{"generate", "--resume", order, "--yes", "--json"}

		// By turns after a part of the usual time, and after so many objects
		// have come into the archive and a little more.
		run := s.start(place...)
		if i%2 == 0 {
			time.Sleep(k.took * time.Duration(i) / rounds)
		} else {
			run.archived(order, i/2%int(k.count+4))
			time.Sleep(time.Duration(i%7) * 400 * time.Microsecond)
		}
		run.kill(who)
		made := state(s.owners(order), k.count)
		states[made]++
		if made == "some" {
			s.must(0, "doctor") // an interruption is no alarm
		}
		disclosed := s.disclosed(order, run.wait())
		if i%4 == 3 && len(disclosed) > 0 { // who resumes may be killed too
			run := s.start(resume...)
			run.archived(order, len(disclosed)+3)
			run.kill(theParent)
			maps.Copy(disclosed, s.kept(order, disclosed))
		}

		o := s.run(resume...)
		if o.code == 2 && strings.Contains(o.err, "there is no order") {
			if len(disclosed) > 0 {
				t.Fatalf("order %s was disclosed and is gone", order)
			}
			o = s.must(0, place...)
		}
		if o.code != 0 {
			t.Fatalf("resuming %s, after %s was killed, ended with %d:\n%s", order, who, o.code, o.err)
		}
		after := s.kept(order, disclosed)
		r := s.receipt(o)
		if len(r.Receipt.Validators) != int(k.count) {
			t.Errorf("the receipt of %s lists %d validators, want %d", order, len(r.Receipt.Validators), k.count)
		}
		for _, v := range r.Receipt.Validators {
			if after[v.Index] != v.Pubkey {
				t.Errorf("%s/%d: the receipt says %s, list %s", order, v.Index, v.Pubkey, after[v.Index])
			}
		}
		mnemonics += len(r.Receipt.Mnemonics)
		if again := s.must(0, resume...); again.out != o.out {
			t.Errorf("the receipt of %s is another the second time", order)
		}
	}
	seen := map[string]string{}
	for _, order := range slices.Sorted(maps.Keys(orders)) {
		s.filled(order, orders[order], seen)
	}
	s.sound()
	t.Logf("undisturbed runs: %v; orders when they were killed: %v; %d mnemonics in %d orders", kinds, states, mnemonics, done)
	if missed(done) {
		t.Errorf("the kills missed: %v, %d mnemonics", states, mnemonics)
	}
}

func state(owners map[uint32]string, count uint32) string {
	switch len(owners) {
	case 0:
		return "none"
	case int(count):
		return "all"
	}
	return "some"
}

// disclosed is all that anybody can have learnt of an order: what list shows
// and what the killed run printed.
func (s *site) disclosed(order string, o outcome) map[uint32]string {
	s.Helper()
	known := s.owners(order)
	if strings.HasSuffix(o.out, "\n") {
		for _, v := range s.receipt(o).Receipt.Validators {
			if known[v.Index] != v.Pubkey {
				s.Errorf("%s/%d: %s was printed, and %q stands", order, v.Index, v.Pubkey, known[v.Index])
			}
		}
	}
	return known
}

// kept demands that what was disclosed stands, and returns what stands now.
func (s *site) kept(order string, before map[uint32]string) map[uint32]string {
	s.Helper()
	now := s.owners(order)
	for index, pubkey := range before {
		if now[index] != pubkey {
			s.Errorf("%s/%d was %s, and is %q", order, index, pubkey, now[index])
		}
	}
	return now
}

// TestInterrupted: a run that is asked to stop says how to go on, ends with
// 130 and takes its child along; nothing is on stdout.
func TestInterrupted(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("finding the child process needs /proc")
	}
	s := newSite(t)
	for i, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		order := fmt.Sprintf("order-%d", i)
		run := s.start("generate", "--order", order, "--count", "24", "--keystore", "pbkdf2", "--workers", "1", "--yes", "--json")
		run.archived(order, 3)
		child := run.child()
		if child == 0 {
			t.Fatalf("no child runs: %+v", run.wait())
		}
		if err := run.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		o := run.wait()
		s.gone(child)
		if o.code != exitInterrupted || o.out != "" || !strings.Contains(o.err, "error: interrupted\n") ||
			!strings.Contains(o.err, "hint: stakeseal generate --home "+s.home+" --resume "+order+" continues") {
			t.Errorf("%v: exit code %d, stdout %q, stderr:\n%s", signal, o.code, o.out, o.err)
		}
		if len(s.owners(order)) == 24 {
			t.Errorf("%v came too late to interrupt", signal)
		}
	}
	// The hint is a command.
	s.must(0, "generate", "--home", s.home, "--resume", "order-0")
	s.filled("order-0", 24, map[string]string{})
}
