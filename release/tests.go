package release

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
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
	defer os.RemoveAll(dir)
	if err := in.Repository.Export(ctx, p.Provenance.Commit, dir); err != nil {
		return notRun(err.Error())
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-json", in.Tests)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off", "GOTOOLCHAIN=local", "CGO_ENABLED=1", "CGO_CFLAGS=-O2 -D__BLST_PORTABLE__")
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	t.Packages = testResults(out)
	if len(t.Packages) == 0 {
		text := "go test ran nothing"
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			text = tailText(exit.Stderr)
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
