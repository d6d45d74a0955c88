package process

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain lets the test program stand in as the process that is hardened, as
// one that looks into it, and as one that crashes.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "stand-in" {
		standIn(os.Args[2], os.Args[3:])
	}
	os.Exit(m.Run())
}

const word = 0x5ec2e75ec2e75ec2 // a "secret" on the stack, which a dump shows

func standIn(role string, args []string) {
	switch role {
	case "target": // sealed or not; waits to be looked at
		if args[0] == "sealed" {
			if err := Seal(); err != nil {
				fmt.Println("error:", err)
				os.Exit(1)
			}
		}
		var limit unix.Rlimit
		err := unix.Getrlimit(unix.RLIMIT_CORE, &limit)
		dumpable, errno := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		raised := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20})
		inherited, err3 := unix.FcntlInt(3, unix.F_GETFD, 0) // what target left there
		fmt.Printf("core %d/%d dumpable %d raised %t passed on %t errors %v %v %v\n", limit.Cur, limit.Max, dumpable, raised == nil,
			inherited&unix.FD_CLOEXEC == 0, err, errno, err3)
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "looker": // another process of the same user
		for _, name := range []string{"environ", "mem", "maps"} {
			f, err := os.Open("/proc/" + args[0] + "/" + name)
			if err == nil && name == "environ" {
				_, err = io.Copy(io.Discard, f)
			}
			fmt.Print(name, "=", err == nil, " ")
		}
		pid, _ := strconv.Atoi(args[0])
		fmt.Println("attach=", syscall.PtraceAttach(pid) == nil)
	case "crash":
		out, errs := os.Stdout, os.Stderr
		if args[0] == "quiet" {
			var err error
			if out, errs, err = Quiet(); err != nil {
				os.Exit(99)
			}
		}
		fmt.Fprintln(out, "own words")
		fmt.Fprintln(errs, "own errors")
		fmt.Println("not own words") // fmt, log and libraries print there
		fmt.Fprintln(os.Stderr, "not own errors")
		crash(args[1], word)
		select {}
	case "descriptors":
		out, errs, err := Quiet()
		ok := err == nil
		for _, f := range []*os.File{out, errs} {
			flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
			ok = ok && err == nil && flags&unix.FD_CLOEXEC != 0 && f.Fd() > 2
		}
		null, err := os.Stat(os.DevNull)
		for _, fd := range []string{"1", "2"} {
			now, err2 := os.Stat("/proc/self/fd/" + fd)
			ok = ok && err == nil && err2 == nil && os.SameFile(null, now)
		}
		fmt.Fprintln(out, "descriptors", ok)
	}
	os.Exit(0)
}

// crash crashes with a word of a secret in its arguments.
//
//go:noinline
func crash(kind string, secret uint64) {
	switch kind {
	case "nil in a goroutine":
		go func(p *int, secret uint64) { *p = int(secret) }(nil, secret)
	case "panic":
		panic(fmt.Sprintf("secret %x", secret))
	case "unlock of an unlocked mutex": // a fatal error, which GOTRACEBACK does not stop
		var mu sync.Mutex
		mu.Unlock()
	case "stack overflow":
		debug.SetMaxStack(1 << 20)
		var deeper func(uint64) uint64
		deeper = func(n uint64) uint64 { return deeper(n+secret) + 1 }
		fmt.Fprint(io.Discard, deeper(secret))
	case "out of memory":
		fmt.Fprint(io.Discard, len(make([]byte, 1<<47)))
	case "SIGQUIT":
		_ = syscall.Kill(os.Getpid(), syscall.SIGQUIT)
	case "SIGABRT":
		_ = syscall.Kill(os.Getpid(), syscall.SIGABRT)
	case "SIGSEGV":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSEGV)
	}
}

// TestQuiet: whatever way the program crashes, nothing but its own words
// comes out; without Quiet, a dump does.
func TestQuiet(t *testing.T) {
	for _, kind := range []string{"nil in a goroutine", "panic", "unlock of an unlocked mutex",
		"stack overflow", "out of memory", "SIGQUIT", "SIGABRT", "SIGSEGV"} {
		for _, mode := range []string{"quiet", "loud"} {
			t.Run(kind+", "+mode, func(t *testing.T) {
				t.Parallel()
				var out, errs bytes.Buffer
				cmd := exec.Command(self(t), "stand-in", "crash", mode, kind)
				cmd.Env = []string{} // without GOTRACEBACK: Quiet alone
				cmd.Stdout, cmd.Stderr = &out, &errs
				err := cmd.Run()
				var exit *exec.ExitError
				if !errors.As(err, &exit) || exit.ExitCode() == 99 {
					t.Fatalf("it did not crash: %v", err)
				}
				if mode == "loud" {
					if !strings.Contains(errs.String(), "goroutine ") || !strings.Contains(out.String(), "not own words") {
						t.Errorf("without Quiet it printed no stack: the test shows nothing\n%s%s", &out, &errs)
					}
					return
				}
				if out.String() != "own words\n" || errs.String() != "own errors\n" {
					t.Errorf("printed %q and %q", &out, &errs)
				}
			})
		}
	}
}

func TestQuietDescriptors(t *testing.T) {
	out, err := exec.Command(self(t), "stand-in", "descriptors").CombinedOutput()
	if err != nil || string(out) != "descriptors true\n" {
		t.Errorf("%q, %v: the kept descriptors are inherited, or 1 and 2 are not silenced", out, err)
	}
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// target is a stand-in that waits, and what it said.
func target(t *testing.T, program, mode string, user *syscall.SysProcAttr) (int, string) {
	t.Helper()
	cmd := exec.Command(program, "stand-in", "target", mode)
	cmd.SysProcAttr = user
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	cmd.ExtraFiles = []*os.File{null}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// Killed, since whoever attached to it has left it stopped.
	t.Cleanup(func() { stdin.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	said, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid, said
}

// TestSeal: no core file, not to be raised again by an ordinary user; no
// other process of that user reads its memory or attaches to it; and a
// descriptor that was inherited goes no further.
func TestSeal(t *testing.T) {
	program := self(t)
	var user *syscall.SysProcAttr
	if os.Getuid() == 0 {
		// Root reads everything; so both run as nobody, from a copy of this
		// program that nobody can run.
		dir, err := os.MkdirTemp("", "process-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		data, err := os.ReadFile(program)
		if err != nil {
			t.Fatal(err)
		}
		program = filepath.Join(dir, "stand-in")
		if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(program, data, 0o755), os.Chmod(program, 0o755)); err != nil {
			t.Fatal(err)
		}
		user = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		probe := exec.Command(program, "stand-in", "none")
		probe.SysProcAttr = user
		if err := probe.Run(); err != nil {
			t.Skipf("running as root, and no other user can be had: %v", err)
		}
	}
	look := func(pid int) string {
		cmd := exec.Command(program, "stand-in", "looker", fmt.Sprint(pid))
		cmd.SysProcAttr = user
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	sealed, said := target(t, program, "sealed", user)
	if said != "core 0/0 dumpable 0 raised false passed on false errors <nil> <nil> <nil>\n" {
		t.Errorf("the sealed process says %q", said)
	}
	if got := look(sealed); got != "environ=false mem=false maps=false attach= false" {
		t.Errorf("of the sealed process another can read: %s", got)
	}
	// The control: what is not sealed is open. (Yama may forbid mem and
	// attach, never environ.)
	open, said := target(t, program, "open", user)
	if !strings.Contains(said, "dumpable 1") || !strings.Contains(said, "passed on true") {
		t.Errorf("the open process says %q", said)
	}
	if got := look(open); !strings.HasPrefix(got, "environ=true") {
		t.Errorf("of an open process another can read: %s: the test shows nothing", got)
	} else {
		t.Log("an open process:", got)
	}
}
