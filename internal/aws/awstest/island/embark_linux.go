package island

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// arrival names the folder of an island to the program that starts on it. It
// is taken out of the environment there.
const arrival = "STAKESEAL_ISLAND_FOLDER"

// reportFD is where the new program says whether it settled: the first of
// exec.Cmd's ExtraFiles.
const reportFD = 3

func isArrival() bool { return os.Getenv(arrival) != "" }

// embark starts this program's file in new namespaces and waits for it. An
// error means that it did not settle and nothing was run.
func embark() (code int, err error) {
	dir, err := os.MkdirTemp("", "island-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(dir) // a tmpfs was mounted over it elsewhere; here it stays empty

	// Pdeathsig goes by the thread that started the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	// From before the child is there: a signal in between is not to end this
	// process alone.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)

	// As root a user namespace would only take rights away; in a container root
	// may lack the right to go without one.
	var cmd *exec.Cmd
	for _, asUser := range []bool{os.Geteuid() != 0, true} {
		if cmd, err = launch(dir, asUser); err == nil || asUser {
			break
		}
	}
	if err != nil {
		return 0, err
	}
	return wait(cmd, signals)
}

func launch(dir string, asUser bool) (*exec.Cmd, error) {
	told, tell, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer told.Close()
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: os.Args, Env: append(os.Environ(), arrival+"="+dir),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, ExtraFiles: []*os.File{tell},
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL},
	}
	what := "a network and a mount namespace"
	if asUser {
		what = "a user, a network and a mount namespace"
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	err = cmd.Start()
	_ = tell.Close()
	if err != nil {
		return nil, fmt.Errorf("this machine does not permit %s: %w", what, err)
	}
	answer, err := io.ReadAll(told)
	if err == nil && string(answer) == settled {
		return cmd, nil
	}
	_ = cmd.Wait()
	if len(answer) == 0 {
		answer = []byte("the program ended")
	}
	return nil, fmt.Errorf("in %s: %s", what, answer)
}

// wait passes signals on and returns what the program ended with.
func wait(cmd *exec.Cmd, signals <-chan os.Signal) (code int, err error) {
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case s := <-signals:
				if !fromTerminal(s) {
					_ = cmd.Process.Signal(s)
				}
			case <-done:
				return
			}
		}
	}()
	err = cmd.Wait()
	var exit *exec.ExitError
	if err == nil || errors.As(err, &exit) {
		status := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if status.Signaled() {
			return 128 + int(status.Signal()), nil
		}
		return status.ExitStatus(), nil
	}
	return 1, nil // it ran, and how it ended is not known: not a reason to run it once more
}

// fromTerminal says whether a key press could have sent the signal. A terminal
// sends it to the whole foreground group, so the child has it already.
func fromTerminal(s os.Signal) bool {
	if s != syscall.SIGINT && s != syscall.SIGQUIT {
		return false
	}
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

const settled = "settled"

// report tells the process that started this one.
func report(err error) {
	f := os.NewFile(reportFD, "report")
	text := settled
	if err != nil {
		text = err.Error()
	}
	_, _ = f.WriteString(text)
	_ = f.Close()
}

// bundleFile is where the certificate authorities are, in the island's folder.
const bundleFile = "bundle.pem"

// bundles are where distributions keep certificate authorities.
var bundles = []string{
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/ssl/ca-bundle.pem",
	"/etc/ssl/cert.pem",
}

// settle makes the new namespaces an island.
func settle() error {
	unix.CloseOnExec(reportFD)
	dir := os.Getenv(arrival)
	if err := os.Unsetenv(arrival); err != nil {
		return err
	}
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("%s is %q, not a folder", arrival, dir)
	}
	// What is mounted here stays here.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("couldn't detach the mounts: %w", err)
	}
	if err := unix.Mount("island", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("couldn't mount a tmpfs: %w", err)
	}
	for name, text := range map[string]string{
		"hosts":         "127.0.0.1 localhost\n::1 localhost\n",
		"resolv.conf":   "nameserver 127.0.0.1\noptions timeout:2 attempts:1\n",
		"nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
		bundleFile:      "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	for _, name := range []string{"hosts", "resolv.conf", "nsswitch.conf"} {
		if err := bind(filepath.Join(dir, name), "/etc/"+name); err != nil && (name != "nsswitch.conf" || !errors.Is(err, os.ErrNotExist)) {
			return fmt.Errorf("couldn't replace /etc/%s: %w", name, err)
		}
	}
	if err := bindBundles(filepath.Join(dir, bundleFile)); err != nil {
		return err
	}
	if err := raiseLoopback(); err != nil {
		return fmt.Errorf("couldn't raise lo: %w", err)
	}
	if err := routeAll(); err != nil {
		return fmt.Errorf("couldn't route all addresses to lo: %w", err)
	}
	w, err := newWatch()
	if err != nil {
		return fmt.Errorf("couldn't watch lo: %w", err)
	}
	arrived = &place{dir: dir, watching: w}
	return nil
}

// bind mounts a file over another; where a link leads is what is covered.
func bind(from, over string) error {
	at, err := filepath.EvalSymlinks(over)
	if err != nil {
		return err
	}
	return unix.Mount(from, at, "", unix.MS_BIND, "")
}

// bindBundles covers every bundle that exists. Where there is none, as in a
// bare container, one is made under a tmpfs.
func bindBundles(from string) error {
	covered := map[string]bool{}
	for _, name := range bundles {
		at, err := filepath.EvalSymlinks(name)
		if errors.Is(err, os.ErrNotExist) || covered[at] {
			continue
		}
		if err == nil {
			err = bind(from, at)
		}
		if err != nil {
			return fmt.Errorf("couldn't replace %s: %w", name, err)
		}
		covered[at] = true
	}
	if len(covered) > 0 {
		return nil
	}
	for _, name := range bundles {
		parts := strings.Split(name, "/")
		above := strings.Join(parts[:3], "/") // /etc/ssl
		if _, err := os.Stat(above); err != nil {
			continue
		}
		if err := unix.Mount("island", above, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
			return fmt.Errorf("couldn't cover %s: %w", above, err)
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			return err
		}
		return bind(from, name)
	}
	return errors.New("there is no bundle of certificate authorities, nor /etc/ssl or /etc/pki for one: install ca-certificates")
}
