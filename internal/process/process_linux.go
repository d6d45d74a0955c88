package process

import (
	"fmt"

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
	return nil
}

func dup(from, to int) error { return unix.Dup3(from, to, 0) }
