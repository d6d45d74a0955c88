package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stakeseal/stakeseal/internal/config"
)

// enterMounts makes /opt empty but for one folder, in this namespace.
func enterMounts(inOpt string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("couldn't detach the mounts: %w", err)
	}
	if err := unix.Mount("tmpfs", layers, "tmpfs", 0, ""); err != nil {
		if errors.Is(err, fs.ErrNotExist) && inOpt == "" {
			return nil
		}
		return fmt.Errorf("couldn't mount %s: %w", layers, err)
	}
	if inOpt == "" {
		return nil
	}
	return os.Mkdir(filepath.Join(layers, inOpt), 0o755)
}

func execProgram(program string, environ []string) error {
	return syscall.Exec(program, []string{program}, environ)
}

// namespaces are the attributes of a process with its own mounts, or why
// there can be none.
func namespaces() (*syscall.SysProcAttr, string) {
	why := inNamespace()
	if why != "" {
		return nil, why
	}
	return namespaceAttributes(), ""
}

func namespaceAttributes() *syscall.SysProcAttr {
	if os.Getuid() == 0 {
		return &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	}
	return &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}}
}

// inNamespace tries once.
var inNamespace = sync.OnceValue(func() string {
	self, err := os.Executable()
	if err != nil {
		return err.Error()
	}
	program, err := exec.LookPath("true")
	if err != nil {
		return "no program to try a mount namespace with: " + err.Error()
	}
	cmd := exec.Command(self, "function", "", program)
	cmd.SysProcAttr = namespaceAttributes()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Sprintf("this machine gives no mount namespace, in which %s could be empty: %v %s", layers, err, out)
	}
	return ""
})

// TestStartsItselfAgainOnce traces the program: with the environment that
// Lambda gives it, it starts itself again, once, with the clean one; with the
// clean one it does not. It is then the same program file.
func TestStartsItselfAgainOnce(t *testing.T) {
	r := newRuntime(t)
	good := lambdaEnvironment(r.api)
	_, cleaned, err := clean(good)
	must(t, err)
	program := packaged(t, map[string]string{config.GeneratorFile: "version: 9\n"}) // ends before any call
	for name, c := range map[string]struct {
		environ []string
		execs   int
	}{
		"as Lambda starts it":      {good, 2},
		"with a clean environment": {cleaned, 1},
		"clean, and one more":      {with(cleaned, "PWD=/var/task"), 2},
		"clean, in another order":  {append(slices.Clone(cleaned[1:]), cleaned[0]), 2},
		"refused":                  {with(good, "GODEBUG=x=y"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := command(t, "", program, c.environ)
			var output lockedBuffer
			cmd.Stdout, cmd.Stderr = &output, &output
			cmd.SysProcAttr.Ptrace = true
			execs, environs := traced(t, cmd)
			if execs != c.execs {
				t.Errorf("the program was started %d times, want %d", execs, c.execs)
			}
			if last := environs[len(environs)-1]; c.execs == 2 && !slices.Equal(last, cleaned) {
				t.Errorf("it works with the environment %q, want %q", last, cleaned)
			}
			if said := string(output.bytes()); !strings.Contains(said, `"fact":"error"`) || strings.Count(said, "\n") != 1 {
				t.Errorf("it said %s", said)
			}
		})
	}
}

// traced starts a command under ptrace and follows it to its end. It returns
// how often a program was started after the one that enters the namespace,
// and with which environments.
func traced(t *testing.T, cmd *exec.Cmd) (execs int, environs [][]string) {
	t.Helper()
	runtime.LockOSThread() // the thread that started it is the one that may trace
	defer runtime.UnlockOSThread()
	must(t, cmd.Start())
	pid := cmd.Process.Pid
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, syscall.WALL, nil); err != nil || !status.Stopped() {
		t.Fatalf("couldn't trace: %v, status %x", err, status)
	}
	must(t, syscall.PtraceSetOptions(pid, unix.PTRACE_O_TRACEEXEC|unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_EXITKILL))
	must(t, syscall.PtraceCont(pid, 0))
	for {
		tid, err := syscall.Wait4(-1, &status, syscall.WALL, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			t.Fatalf("couldn't follow the program: %v", err)
		case tid == pid && (status.Exited() || status.Signaled()):
			if status.ExitStatus() != 1 {
				t.Errorf("it ended with %x", status)
			}
			return execs, environs
		case !status.Stopped():
			continue
		}
		signal := 0
		switch {
		case status.TrapCause() == unix.PTRACE_EVENT_EXEC:
			data, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
			must(t, err)
			execs++
			environs = append(environs, strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00"))
		case status.StopSignal() != syscall.SIGTRAP && status.StopSignal() != syscall.SIGSTOP:
			signal = int(status.StopSignal())
		}
		_ = syscall.PtraceCont(tid, signal)
	}
}

// TestSealedOnLambda looks at the function's process while it waits for the
// Runtime API: it was sealed (what that keeps away, package process tests), its
// standard output and error lead to nothing, and its environment is the clean
// one.
func TestSealedOnLambda(t *testing.T) {
	r := newRuntime(t)
	waiting, release := make(chan struct{}), make(chan struct{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(waiting); <-release })}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { close(release); _ = server.Close() })
	good := lambdaEnvironment(l.Addr().String())
	cmd := command(t, "", packaged(t, map[string]string{config.GeneratorFile: "version: 9\n"}), good)
	cmd.Stdout, cmd.Stderr = &r.output, &r.output
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	<-waiting
	proc := fmt.Sprintf("/proc/%d/", cmd.Process.Pid)
	limits, err := os.ReadFile(proc + "limits")
	must(t, err)
	if !regexp.MustCompile(`(?m)^Max core file size +0 +0 `).Match(limits) {
		t.Errorf("it may write a core file:\n%s", limits)
	}
	// Whoever made the namespace may look into it all the same.
	for _, fd := range []string{"1", "2"} {
		if target, err := os.Readlink(proc + "fd/" + fd); err != nil || target != os.DevNull {
			t.Errorf("descriptor %s leads to %q, %v", fd, target, err)
		}
	}
	data, err := os.ReadFile(proc + "environ")
	must(t, err)
	_, cleaned, err := clean(good)
	must(t, err)
	if got := strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00"); !slices.Equal(got, cleaned) {
		t.Errorf("its environment is %q, want %q", got, cleaned)
	}
}
