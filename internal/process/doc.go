// Package process hardens a process that handles secrets, as far as the
// operating system lets a program harden itself: no core files, no readable
// memory for other processes of the same user, and nothing of a crash on
// standard output or error.
//
// The last is needed because Go prints the words of every stack when it
// crashes, and those can be secrets. GOTRACEBACK=none stops that for panics
// only: a fatal signal or a fatal error of the runtime prints all stacks and
// registers whatever that variable says.
package process

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// Where describes the innermost frames of a panic as function, file and line,
// without any value: call it from the deferred function that recovered.
func Where() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	var where []string
	panicked := false
	for {
		frame, more := frames.Next()
		switch {
		case frame.Function == "runtime.gopanic":
			panicked = true
		case panicked && !strings.HasPrefix(frame.Function, "runtime.") && len(where) < 3:
			file := frame.File[strings.LastIndexByte(frame.File, '/')+1:]
			where = append(where, fmt.Sprintf("%s (%s:%d)", frame.Function, file, frame.Line))
		}
		if !more {
			return strings.Join(where, " in ")
		}
	}
}

// Quiet points standard output and error at /dev/null, so that a crash of the
// runtime prints into nothing, and returns what they were: the program's own
// words go there. It is called once, before any secret exists.
func Quiet() (stdout, stderr *os.File, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("couldn't silence crashes: %w", err)
	}
	defer null.Close()
	if stdout, err = swap(1, null); err != nil {
		return nil, nil, err
	}
	if stderr, err = swap(2, null); err != nil {
		return nil, nil, err
	}
	return stdout, stderr, nil
}
