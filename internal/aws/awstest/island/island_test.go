package island

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestMain runs the tests on an island, or, under another name, one of the
// small programs of the tests.
func TestMain(m *testing.M) {
	if name := filepath.Base(os.Args[0]); name == "poor" {
		os.Exit(programs[name]())
	} else if programs[name] != nil {
		os.Exit(Run(programs[name]))
	}
	os.Exit(Run(m.Run))
}

// programs are started by the tests as islands within the island.
var programs = map[string]func() int{
	"code":  func() int { return 7 },
	"panic": func() int { panic("no") },
	"die":   func() int { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL); select {} },
	"say": func() int {
		line := make([]byte, 100)
		n, _ := os.Stdin.Read(line)
		fmt.Printf("%v %q %s", os.Args[1:], os.Getenv(arrival), line[:n])
		fmt.Fprint(os.Stderr, "words")
		return 0
	},
	// Where the kernel gives no more network namespaces: in a user namespace of
	// its own, the limit is this program's alone.
	"poor": func() int {
		if err := os.WriteFile("/proc/sys/user/max_net_namespaces", []byte("0"), 0); err != nil {
			fmt.Print(err)
			return 1
		}
		return Run(func() int { fmt.Print("ran: ", Why()); return 4 })
	},
	"signal": func() int {
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		fmt.Println("ready")
		<-c
		return 9
	},
}

func onIsland(t *testing.T) {
	t.Helper()
	if err := Why(); err != nil {
		if Needed() {
			t.Fatalf("no island: %v", err)
		}
		t.Skipf("no island, so nothing was shown: %v", err)
	}
}

// since returns the attempts that f makes.
func since(t *testing.T, f func()) []string {
	t.Helper()
	before, _ := Attempts()
	f()
	after, lost := Attempts()
	if lost != 0 {
		t.Fatalf("%d were lost", lost)
	}
	var out []string
	for _, a := range after[len(before):] {
		out = append(out, a.String())
	}
	return out
}

// TestNothingLeaves: there is no interface but lo, and what is tried is seen
// and refused.
func TestNothingLeaves(t *testing.T) {
	onIsland(t)
	interfaces, err := net.Interfaces()
	if err != nil || len(interfaces) != 1 || interfaces[0].Flags&net.FlagLoopback == 0 {
		t.Fatalf("interfaces %v %v", interfaces, err)
	}
	for _, c := range []struct{ network, address string }{
		{"tcp", "192.0.2.7:443"}, {"tcp", "169.254.169.254:80"}, {"tcp", "127.0.0.1:9"}, {"tcp", "[2001:db8::1]:443"},
	} {
		var conn net.Conn
		var err error
		seen := since(t, func() { conn, err = net.Dial(c.network, c.address) })
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %v %v", c.address, conn, err)
		}
		if !slices.Equal(seen, []string{c.network + " " + c.address}) {
			t.Errorf("%s: seen %q", c.address, seen)
		}
	}
	seen := since(t, func() {
		conn, err := net.Dial("udp", "192.0.2.8:53")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte("x"))
		_ = conn.Close()
	})
	if !slices.Equal(seen, []string{"udp 192.0.2.8:53"}) {
		t.Errorf("seen %q", seen)
	}
}

// TestOncePerConnection: what a connection carries is not an attempt.
func TestOncePerConnection(t *testing.T) {
	onIsland(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const body = 1 << 20
	seen := since(t, func() {
		go func() {
			if conn, err := l.Accept(); err == nil {
				_, _ = conn.Write(make([]byte, body))
				_ = conn.Close()
			}
		}()
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(conn)
		if err != nil || len(data) != body {
			t.Errorf("%d bytes, %v", len(data), err)
		}
		_ = conn.Close()
	})
	if !slices.Equal(seen, []string{"tcp " + l.Addr().String()}) {
		t.Errorf("seen %q", seen)
	}
	const many = 3000 // more than a queue of the kernel's usual size holds
	seen = since(t, func() {
		for range many {
			if conn, err := net.Dial("tcp", "192.0.2.9:1"); err == nil {
				t.Fatal(conn)
			}
		}
	})
	if len(seen) != many {
		t.Errorf("%d of %d seen", len(seen), many)
	}
}

func TestNoNames(t *testing.T) {
	onIsland(t)
	var addresses []string
	var err error
	seen := since(t, func() { addresses, err = net.LookupHost("kms.us-east-1.amazonaws.com") })
	if err == nil {
		t.Errorf("without a name server: %v", addresses)
	}
	for _, s := range seen {
		if s != "udp 127.0.0.1:53" && s != "tcp 127.0.0.1:53" {
			t.Errorf("asked %s", s)
		}
	}
	if len(seen) == 0 {
		t.Error("nobody was asked")
	}
}

func TestTrust(t *testing.T) {
	onIsland(t)
	if err := Trust([]byte("a bundle")); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range bundles {
		data, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if found++; err != nil || string(data) != "a bundle" {
			t.Errorf("%s: %q %v", name, data, err)
		}
	}
	if found == 0 {
		t.Error("there is no bundle")
	}
}

// program starts one of the programs in an island of its own.
func program(name string, args ...string) *exec.Cmd {
	return &exec.Cmd{Path: "/proc/self/exe", Args: append([]string{name}, args...), Env: os.Environ()}
}

// TestRun: an island's program is the program: its arguments, streams, exit
// code and signals.
func TestRun(t *testing.T) {
	onIsland(t)
	for name, want := range map[string]int{"code": 7, "panic": 2, "die": 128 + 9} {
		cmd := program(name)
		_ = cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("%s: exit code %d, want %d", name, got, want)
		}
	}
	cmd := program("say", "-a", "b c")
	cmd.Stdin = strings.NewReader("heard")
	var words strings.Builder
	cmd.Stderr = &words
	out, err := cmd.Output()
	if want := `[-a b c] "" heard`; err != nil || string(out) != want || words.String() != "words" {
		t.Errorf("said %q and %q, %v", out, words.String(), err)
	}
	cmd = program("signal")
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(pipe, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 9 {
		t.Errorf("after a signal: exit code %d", got)
	}
}

// TestWithout: where there can be no island the program runs all the same, and
// is told why.
func TestWithout(t *testing.T) {
	onIsland(t)
	cmd := program("poor")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
	out, _ := cmd.Output()
	if want := "ran: this machine does not permit a user, a network and a mount namespace:"; cmd.ProcessState.ExitCode() != 4 || !strings.HasPrefix(string(out), want) {
		t.Errorf("exit code %d: %s", cmd.ProcessState.ExitCode(), out)
	}
}

func TestPackets(t *testing.T) {
	four := append([]byte{0x46, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 192, 0, 2, 1, 1, 1, 1, 1}, 0, 1, 1, 187)
	if a, ok := parsePacket(four); !ok || a.To != netip.MustParseAddrPort("192.0.2.1:443") || a.From != netip.MustParseAddrPort("10.0.0.1:1") {
		t.Errorf("with options: %v %v", a, ok) // the header is 24 bytes long
	}
	for n := range four {
		parsePacket(four[:n])
	}
	six := make([]byte, 44)
	six[0], six[6], six[24], six[39], six[43] = 0x60, 17, 0xff, 1, 9
	if a, ok := parsePacket(six); !ok || a.String() != "udp [ff00::1]:9" {
		t.Errorf("IPv6: %v %v", a, ok)
	}
	for n := range six {
		parsePacket(six[:n])
	}
}

// TestTask: a task sees its folder and next to nothing else, and its end is
// told.
func TestTask(t *testing.T) {
	onIsland(t)
	dir := t.TempDir()
	source := `package main
import ("fmt"; "os"; "path/filepath"; "sort"; "time")
func main() {
	exe, _ := os.Executable()
	wd, _ := os.Getwd()
	fmt.Println(exe, wd, os.Args, os.Environ())
	var names []string
	for _, p := range []string{"/*", "/etc/*", "/var/*", "/var/task/*"} {
		found, _ := filepath.Glob(p)
		names = append(names, found...)
	}
	sort.Strings(names)
	fmt.Println(names)
	fmt.Println(os.WriteFile("/var/task/x", nil, 0o600) != nil, os.WriteFile("/tmp/x", nil, 0o600))
	if len(os.Args) > 1 { time.Sleep(time.Hour) }
	os.Exit(3)
}`
	must(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "out"), 0o755))
	build := exec.Command("go", "build", "-o", "out/bootstrap", "main.go")
	build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var output strings.Builder
	task := Task{Folder: filepath.Join(dir, "out"), At: "/var/task", Path: "/var/task/bootstrap", Args: []string{"bootstrap"},
		Env: []string{"A=b", "GODEBUG=inittrace=0"}, Output: &output}
	p, err := task.Start()
	must(t, err)
	<-p.Done
	want := `/var/task/bootstrap /var/task [bootstrap] [A=b GODEBUG=inittrace=0]
[/dev /etc /etc/hosts /etc/pki /etc/resolv.conf /proc /tmp /var /var/task /var/task/bootstrap]
true <nil>
`
	if output.String() != want || p.State != "exit status 3" {
		t.Errorf("%s:\n%s", p.State, output.String())
	}
	if _, err := os.Stat("/var/task"); err == nil {
		t.Error("the machine has /var/task now")
	}
	task.Args = append(task.Args, "wait")
	if p, err = task.Start(); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	<-p.Done
	if p.State != "signal: killed" {
		t.Error(p.State)
	}
	task.Path = "/var/task/missing"
	if p, err := task.Start(); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("%v %v", p, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
