package release

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// tests runs the commit's own tests, in an export of it.
func (r *Report) tests(ctx context.Context, p *Package, in Inspection) error {
	t := &r.Tests
	t.Pattern = in.Tests
	notRun := func(why string) error {
		t.Why = why
		r.attend(Look, "Tests: NOT RUN here: %s.", why)
		return nil
	}
	if in.Tests == "" {
		return notRun("none were asked for")
	}
	if strings.HasPrefix(in.Tests, "-") {
		return notRun("the pattern is a flag")
	}
	dir, err := os.MkdirTemp("", "stakeseal-tests-")
	if err != nil {
		return err
	}
	defer removeAll(dir)
	source := filepath.Join(dir, "source")
	for _, d := range []string{source, filepath.Join(dir, "home"), filepath.Join(dir, "tmp"), filepath.Join(dir, "cache")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	if err := in.Repository.Export(ctx, p.Provenance.Commit, source); err != nil {
		return notRun(err.Error())
	}
	env, err := testEnvironment(ctx, source, dir)
	if err != nil {
		return notRun(err.Error())
	}
	cmd, why := alone(ctx, "go", "test", "-json", in.Tests)
	cmd.Dir, cmd.Env = source, env
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // and the tests it started
	cmd.WaitDelay = 5 * time.Second
	t.Open = []string{"it ran as you: it could read and change your files, and what else on this machine you may"}
	if why != "" {
		t.Open = append(t.Open, "it could reach the network: "+why)
	}
	r.attend(Look, "The submitter's code ran on this machine to test it, without your environment: %s. If that was not a throw-away machine, think of what it could reach.", strings.Join(t.Open, "; "))
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	t.Packages = testResults(out)
	if len(t.Packages) == 0 {
		text := "go test ran nothing"
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			text = unquoted(&quoting{errors.New(text), tailText(exit.Stderr)}, in.Words).Error()
		}
		return notRun(visible(text))
	}
	t.Ran = true
	for _, p := range t.Packages {
		if p.Result == "fail" {
			r.attend(Danger, "Tests of %s fail: %s.", p.Path, strings.Join(p.Failed, ", "))
		}
	}
	if err != nil && !slices.ContainsFunc(t.Packages, func(p TestPackage) bool { return p.Result == "fail" }) {
		r.attend(Danger, "go test failed: %s.", err)
	}
	return nil
}

// testEnvironment is all that the commit's tests see: no credential, token or
// agent of the reviewer, and homes and caches of their own. Their modules are
// fetched before, by go alone, and read from where go keeps them.
func testEnvironment(ctx context.Context, source, dir string) ([]string, error) {
	env, err := goEnvironment(ctx, source)
	if err != nil {
		return nil, err
	}
	fetch := exec.CommandContext(ctx, "go", "mod", "download")
	fetch.Dir = source
	fetch.Env = inherited("GOFLAGS=-mod=readonly", "GOWORK=off", "GOENV=off", "GOTOOLCHAIN=local")
	for _, name := range []string{"GOMODCACHE", "GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOPROXY", "GOPRIVATE"} {
		fetch.Env = append(fetch.Env, name+"="+env[name])
	}
	// What is missing then, go test says.
	_ = fetch.Run()
	out := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(dir, "home"), "TMPDIR=" + filepath.Join(dir, "tmp"), "LC_ALL=C",
		"GOCACHE=" + filepath.Join(dir, "cache"), "GOMODCACHE=" + env["GOMODCACHE"], "GOPATH=" + filepath.Join(dir, "home", "go"),
		"GOPROXY=off", "GOSUMDB=off", "GOFLAGS=-mod=readonly", "GOENV=off", "GOWORK=off", "GOTOOLCHAIN=local", "GOTELEMETRY=off",
		"CGO_ENABLED=1", "CGO_CFLAGS=-O2 -D__BLST_PORTABLE__"}
	return append(out, plainGit()...), nil
}

// capNetAdmin is CAP_NET_ADMIN (capabilities(7)).
const capNetAdmin = 12

// alone is a command in a network of its own, where only its own processes are,
// as far as this machine's namespaces allow it: user_namespaces(7),
// network_namespaces(7). why says why it is not.
func alone(ctx context.Context, program string, args ...string) (cmd *exec.Cmd, why string) {
	apart := func(words ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, words[0], words[1:]...)
		one := func(id int) []syscall.SysProcIDMap {
			return []syscall.SysProcIDMap{{ContainerID: id, HostID: id, Size: 1}}
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: one(os.Getuid()), GidMappings: one(os.Getgid()), AmbientCaps: []uintptr{capNetAdmin}}
		return cmd
	}
	// Tests listen on 127.0.0.1, which has to be switched on there.
	const up = "ip link set lo up"
	trial := apart("sh", "-c", up)
	trial.Env = inherited()
	if words, err := trial.CombinedOutput(); err != nil {
		cmd = exec.CommandContext(ctx, program, args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		return cmd, "this machine makes no network namespace for it (" + strings.TrimSpace(visible(clip(err.Error()+" "+string(words)))) + ")"
	}
	return apart(append([]string{"sh", "-c", up + ` && exec "$@"`, "sh", program}, args...)...), ""
}

// removeAll removes a folder in which code of others ran, that may have taken
// its own rights away.
func removeAll(dir string) {
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	_ = os.RemoveAll(dir)
}

// testResults reads the events of go test -json (go doc test2json).
func testResults(events []byte) []TestPackage {
	packages := map[string]*TestPackage{}
	lines := bufio.NewScanner(bytes.NewReader(events))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e struct{ Action, Package, Test string }
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Package == "" {
			continue
		}
		p := packages[e.Package]
		if p == nil {
			p = &TestPackage{Path: e.Package}
			packages[e.Package] = p
		}
		switch {
		case e.Test == "" && (e.Action == "pass" || e.Action == "fail" || e.Action == "skip"):
			p.Result = e.Action
		case e.Test == "":
		case e.Action == "pass":
			p.Passed++
		case e.Action == "fail":
			p.Failed = append(p.Failed, e.Test)
		case e.Action == "skip":
			p.Skipped = append(p.Skipped, e.Test)
		}
	}
	var out []TestPackage
	for _, path := range sortedKeys(packages) {
		out = append(out, *packages[path])
	}
	return out
}
