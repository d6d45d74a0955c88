//go:build !linux

package process

import (
	"fmt"
	"syscall"
)

// Seal makes this process write no core file. What keeps other processes of
// the same user out of its memory is up to this system's own rules.
func Seal() error {
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("couldn't turn core dumps off: %w", err)
	}
	return nil
}

func dup(from, to int) error { return syscall.Dup2(from, to) }
