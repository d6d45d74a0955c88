//go:build !linux

package main

import (
	"errors"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

const canPin = false

func startPinned(cmd *exec.Cmd, pin []int) error {
	if pin != nil {
		return errors.New("this system binds no program to processors")
	}
	return cmd.Start()
}

// maxRSS is the resident peak in bytes; macOS counts bytes, the others KiB.
func maxRSS(r *syscall.Rusage) int64 {
	if runtime.GOOS == "darwin" || runtime.GOOS == "ios" {
		return int64(r.Maxrss)
	}
	return int64(r.Maxrss) << 10
}

// tree sees nothing here: wait4's sums are all there is.
type tree struct{}

type seen struct {
	peak, childPeak int64
	processor       time.Duration
}

func watchTree(int) *tree { return &tree{} }

func (t *tree) end() seen { return seen{} }

func processorOfExact(int) time.Duration { return 0 }

func residentOf(int) int64 { return 0 }

func othersTime() time.Duration { return 0 }

func loadAverage() string { return "unknown" }

func fileSystem(string) string { return "homes on an unknown file system" }
