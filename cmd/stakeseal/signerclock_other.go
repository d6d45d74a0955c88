//go:build !linux

package main

import (
	"errors"
	"time"
)

var started = time.Now()

// bootTime never goes back. Where the system has no clock that also counts
// sleep, the wall clock's difference is taken if it is larger.
func bootTime() time.Duration {
	monotonic := time.Since(started)
	return max(monotonic, time.Now().Round(0).Sub(started.Round(0)))
}

func lockMemory() error { return errors.New("not done on this system") }
