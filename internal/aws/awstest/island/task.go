package island

import (
	"io"
	"time"
)

// Task is a program that sees almost nothing: its own folder, read-only, under
// a name that this machine need not have; an empty /tmp; the island's name
// server and certificate authorities; and of the machine's files no other. It
// is how Lambda shows a function its sandbox, so that a program which needs a
// library, a time zone file or a home fails here as it would fail there.
type Task struct {
	Folder string   // absolute; what At shows
	At     string   // such as /var/task, the working directory
	Path   string   // of the program, as it sees it
	Args   []string // with the name
	Env    []string // all of it
	Output io.Writer
}

// Process is a task that was started.
type Process struct {
	PID     int
	Started time.Time     // when the kernel began to load the program itself
	Done    chan struct{} // closed when it has ended
	State   string        // how it ended, "signal: killed"; only then

	kill func()
}

// Kill ends the process at once, as kill -9 does.
func (p *Process) Kill() { p.kill() }
