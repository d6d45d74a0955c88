package main

import (
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// bootTime goes on while the machine sleeps, and never back.
func bootTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic("no CLOCK_BOOTTIME: " + err.Error()) // Linux has it since 2.6.39
	}
	return time.Duration(t.Nano())
}

// lockMemory keeps all of the process out of swap, where its limit allows
// that: with a limit that is reached later, memory would fail then.
func lockMemory() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return err
	}
	if limit.Cur < math.MaxUint64 {
		return fmt.Errorf("its limit is %d KiB (ulimit -l, LimitMEMLOCK=infinity)", limit.Cur>>10)
	}
	return unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
}
