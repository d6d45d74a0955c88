package island

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A task is this program's file started once more under this name. It makes
// the view and becomes the task's program.
const taskName = "island-task"

func isTask() bool { return len(os.Args) == 1 && os.Args[0] == taskName }

// What a task finds open until it becomes its program: how to do that, and
// where to say why it could not.
const (
	orderFD  = 3
	reasonFD = 4
)

// order is what a task is told.
type order struct {
	Folder, At, Path string
	Args, Env        []string
	Island           string
}

// Start starts the task.
func (t Task) Start() (*Process, error) {
	if err := Why(); err != nil {
		return nil, err
	}
	orders, give, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer orders.Close()
	defer give.Close()
	told, tell, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer told.Close()
	defer tell.Close()
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{taskName}, Env: []string{},
		Stdout: t.Output, Stderr: t.Output, ExtraFiles: []*os.File{orders, tell},
		// Its own session: a key press that ends the test is not the task's.
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL, Setsid: true},
		// Output is read to its end, but not for a grandchild that lives on.
		WaitDelay: time.Second,
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("couldn't start a task: %w", err)
	}
	_, _ = orders.Close(), tell.Close()
	if err = json.NewEncoder(give).Encode(order{t.Folder, t.At, t.Path, t.Args, t.Env, arrived.dir}); err == nil {
		err = give.Close()
	}
	reason := []byte("it got no orders")
	var loaded time.Time
	if err == nil {
		// Both ends close when the program is loaded.
		reason, err = io.ReadAll(told)
	}
	if err == nil {
		loaded, reason, err = readMoment(reason)
	}
	if err != nil || len(reason) > 0 {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, fmt.Errorf("couldn't start %s: %s %w", t.Path, reason, errors.Join(err, errTask))
	}
	p := &Process{PID: cmd.Process.Pid, Started: loaded, Done: make(chan struct{}), kill: func() { _ = cmd.Process.Kill() }}
	go func() {
		_ = cmd.Wait()
		p.State = cmd.ProcessState.String()
		close(p.Done)
	}()
	return p, nil
}

// moment is now on the clock that all processes of a machine share, in
// nanoseconds.
func moment() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // every Linux has it
	}
	return t.Nano()
}

// readMoment takes the moment off the front of what a task said.
func readMoment(said []byte) (at time.Time, rest []byte, err error) {
	if len(said) < 8 {
		return at, said, errTask
	}
	ago := moment() - int64(binary.NativeEndian.Uint64(said))
	return time.Now().Add(-time.Duration(ago)), said[8:], nil
}

var errTask = errors.New("the task was not started")

// runTask is what the task's file runs first.
func runTask() int {
	unix.CloseOnExec(orderFD)
	unix.CloseOnExec(reasonFD)
	var o order
	err := json.NewDecoder(os.NewFile(orderFD, "orders")).Decode(&o)
	if err == nil {
		err = o.become()
	}
	_, _ = os.NewFile(reasonFD, "reason").WriteString(err.Error())
	return 1
}

// become does not return unless it fails.
func (o order) become() error {
	const root = "/"
	view := o.Island // its files are needed until they are bound
	if err := unix.Mount("", root, "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("couldn't detach the mounts: %w", err)
	}
	keep, err := unix.Open(view, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	from := fmt.Sprintf("/proc/self/fd/%d/", keep)
	if err := unix.Mount("task", view, "tmpfs", unix.MS_NOSUID, "mode=0755"); err != nil {
		return fmt.Errorf("couldn't mount a tmpfs: %w", err)
	}
	for _, m := range []struct {
		from, at string
		flags    uintptr
	}{
		{o.Folder, o.At, unix.MS_RDONLY},
		{"/proc", "/proc", unix.MS_REC},
		{"/dev/null", "/dev/null", 0},
		{"/dev/urandom", "/dev/urandom", 0},
		{from + "hosts", "/etc/hosts", unix.MS_RDONLY},
		{from + "resolv.conf", "/etc/resolv.conf", unix.MS_RDONLY},
		{from + bundleFile, bundles[0], unix.MS_RDONLY},
	} {
		if err := show(m.from, filepath.Join(view, m.at), m.flags); err != nil {
			return fmt.Errorf("couldn't show %s: %w", m.at, err)
		}
	}
	if err := os.Mkdir(filepath.Join(view, "tmp"), 0o777|os.ModeSticky); err != nil {
		return err
	}
	if err := unix.Chroot(view); err != nil {
		return err
	}
	if err := unix.Chdir(o.At); err != nil {
		return err
	}
	if _, err := unix.Write(reasonFD, binary.NativeEndian.AppendUint64(nil, uint64(moment()))); err != nil {
		return err
	}
	return fmt.Errorf("exec: %w", unix.Exec(o.Path, o.Args, o.Env))
}

// show binds a file or folder into the view. A bind mount takes its read-only
// flag only when it is mounted again.
func show(from, at string, flags uintptr) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.MkdirAll(at, 0o755)
	} else {
		if err = os.MkdirAll(filepath.Dir(at), 0o755); err == nil {
			err = os.WriteFile(at, nil, 0o644)
		}
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(from, at, "", unix.MS_BIND|flags&unix.MS_REC, ""); err != nil {
		return err
	}
	if flags&unix.MS_RDONLY == 0 {
		return nil
	}
	return unix.Mount("", at, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, "")
}
