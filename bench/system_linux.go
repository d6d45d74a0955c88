package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// canPin says whether startPinned can bind a program to processors.
const canPin = true

// startPinned starts a program on the given processors. A child inherits the
// affinity of the thread that forks it.
func startPinned(cmd *exec.Cmd, pin []int) error {
	if pin == nil {
		return cmd.Start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("couldn't read the processors in use: %w", err)
	}
	for _, p := range pin {
		set.Set(p)
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("couldn't keep to the processors %v: %w", pin, err)
	}
	err := cmd.Start()
	if e := unix.SchedSetaffinity(0, &before); err == nil && e != nil {
		return fmt.Errorf("couldn't return to all processors: %w", e)
	}
	return err
}

// maxRSS is the resident peak in bytes; Linux counts KiB.
func maxRSS(r *syscall.Rusage) int64 { return r.Maxrss << 10 }

// tree watches a process and its children while they run: wait4 tells their
// sums only.
type tree struct {
	stop chan struct{}
	done sync.WaitGroup
	seen seen
}

type seen struct {
	peak, childPeak int64
	processor       time.Duration // of the children
}

func watchTree(pid int) *tree {
	t := &tree{stop: make(chan struct{})}
	t.done.Go(func() {
		for {
			t.look(pid)
			select {
			case <-t.stop:
				return
			case <-time.After(25 * time.Millisecond):
			}
		}
	})
	return t
}

func (t *tree) end() seen {
	close(t.stop)
	t.done.Wait()
	return t.seen
}

func (t *tree) look(pid int) {
	t.seen.peak = max(t.seen.peak, peakOf(pid))
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return // it has ended
	}
	for _, task := range tasks {
		list, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		for _, child := range strings.Fields(string(list)) {
			id, err := strconv.Atoi(child)
			if err != nil {
				continue
			}
			t.seen.childPeak = max(t.seen.childPeak, peakOf(id))
			t.seen.processor = max(t.seen.processor, processorOf(id))
		}
	}
}

// peakOf is the resident peak so far; 0 when the process is gone.
func peakOf(pid int) int64 { return statusOf(pid, "VmHWM") }

// statusOf reads a size from /proc.
func statusOf(pid int, name string) int64 {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, ok := bytes.Cut(status, []byte("\n"+name+":"))
	if !ok {
		return 0
	}
	fields := strings.Fields(string(rest))
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		return 0
	}
	return kib << 10
}

// tick is the unit of /proc's times: USER_HZ is 100 on every architecture
// that Go runs on.
const tick = 10 * time.Millisecond

// processorOf reads the user and system time of a process.
func processorOf(pid int) time.Duration {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, ok := bytes.Cut(stat, []byte(") ")) // the name may hold spaces
	fields := strings.Fields(string(rest))
	if !ok || len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick
}

// processorOfExact is the processor time of a running process to the
// nanosecond, 0 when it is gone: a burst is over within a few ticks.
func processorOfExact(pid int) time.Duration {
	var t unix.Timespec
	clock := int32(^pid<<3 | 2) // CPUCLOCK_SCHED of the process (clock_getcpuclockid)
	if unix.ClockGettime(clock, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// residentOf is what a process has in memory now; 0 when it is gone.
func residentOf(pid int) int64 { return statusOf(pid, "VmRSS") }

// othersTime is the processor time that the machine spent so far on all but
// this process and its children.
func othersTime() time.Duration {
	stat, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(stat), "\n")
	var busy time.Duration
	for i, field := range strings.Fields(line) {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil || i == 4 || i == 5 || i > 8 { // "cpu", idle, iowait, guests (in user already)
			continue
		}
		busy += time.Duration(n) * tick
	}
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var r syscall.Rusage
		if syscall.Getrusage(who, &r) == nil {
			busy -= time.Duration(r.Utime.Nano() + r.Stime.Nano())
		}
	}
	return busy
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}

// fileSystem names what the homes lie on: on one in memory fsync is free.
func fileSystem(dir string) string {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return "homes on an unknown file system"
	}
	kind := int64(s.Type) //nolint:unconvert // of another width on other architectures
	name := map[int64]string{
		unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs",
		unix.TMPFS_MAGIC: "tmpfs (in memory: fsync is free, nothing below counts it)",
	}[kind]
	if name == "" {
		name = fmt.Sprintf("file system %#x", kind)
	}
	return "homes on " + name
}
