package process

import (
	"fmt"
	"math"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Seal makes this process write no core file and lets no other process of
// the same user read its memory or attach to it (PR_SET_DUMPABLE). Root
// still can.
func Seal() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("couldn't turn core dumps off: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("couldn't make the process undumpable: %w", err)
	}
	return keepDescriptors()
}

// keepDescriptors marks every descriptor but the standard three to be closed
// when a program is started. Go does so with its own; those that this process
// inherited, a shell's redirection of an identity file say, would go on to
// the generator.
func keepDescriptors() error {
	if unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return nil
	}
	// Before Linux 5.11, one by one.
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("couldn't list open descriptors: %w", err)
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

func dup(from, to int) error { return unix.Dup3(from, to, 0) }
