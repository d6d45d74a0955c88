package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// releaseSite is a home, a depot and a source with a tiny program under the
// generator's name, for stories of the steps and not of keys.
type releaseSite struct {
	*site
	source, depot string
}

// The people's key files; rex's is revoked, mallory's in no list, and the home's
// own certifying key is of nobody.
var releasePeople = map[string][]string{"developers": {"dora", "dave"}, "release_managers": {"rita", "mona", "rex"}, "approvers": {"otto"}, "nobody": {"mallory"}}

func newReleaseSite(t *testing.T, threshold int) *releaseSite {
	t.Helper()
	if testing.Short() {
		t.Skip("it builds packages")
	}
	if _, err := exec.LookPath("x86_64-linux-gnu-gcc"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("x86_64-linux-gnu-gcc is not installed, and CI must have it")
		}
		t.Skip("SKIPPED: x86_64-linux-gnu-gcc is not installed")
	}
	s := &releaseSite{site: newSite(t)}
	s.source, s.depot = s.path("source"), s.path("depot")
	trust := ""
	for _, list := range []string{"developers", "release_managers", "approvers", "nobody"} {
		if list != "nobody" {
			trust += list + ":\n"
		}
		for _, name := range releasePeople[list] {
			lines := strings.Replace(s.must(0, "release", "key", "--out", s.key(name)).out, "YOUR-NAME", name, 1)
			if name == "rex" {
				lines += "    revoked: true\n"
			}
			if list != "nobody" {
				trust += lines
			}
		}
	}
	trust += fmt.Sprintf("release_threshold: %d\nreleases: []", threshold)
	path := filepath.Join(s.home, trustFile)
	data, err := os.ReadFile(path)
	if err != nil || strings.Count(string(data), "releases: []") != 1 {
		t.Fatalf("%v: %s", err, data)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(data), "releases: []", trust, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	s.commit("one")
	return s
}

func (s *releaseSite) key(name string) string {
	if name == "certifier" {
		return filepath.Join(s.home, "certifier.key")
	}
	return s.path(name + ".key")
}

// commit makes a tiny program the source's newest commit.
func (s *releaseSite) commit(release string) {
	s.Helper()
	for name, text := range map[string]string{"go.mod": "module github.com/stakeseal/stakeseal\n\ngo 1.26.0\n",
		"cmd/stakeseal-generator/main.go": "package main\n\n// #include <stdlib.h>\nimport \"C\"\n\nimport \"os\"\n\nfunc main() {\n\tprintln(\"tiny " + release + "\", C.abs(-1))\n\tos.Exit(1)\n}\n"} {
		full := filepath.Join(s.source, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o700), os.WriteFile(full, []byte(text), 0o600)); err != nil {
			s.Fatal(err)
		}
	}
	for _, args := range [][]string{{"init", "--quiet"}, {"add", "-A"}, {"-c", "user.name=dora", "-c", "user.email=dora@example.com", "commit", "--quiet", "-m", release}} {
		if out, err := exec.Command("git", append([]string{"-C", s.source}, args...)...).CombinedOutput(); err != nil {
			s.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
}

// do runs a command in the source, as somebody who has Go.
func (s *releaseSite) do(args ...string) outcome {
	s.Helper()
	cmd := s.command(args...)
	cmd.Dir = s.source
	cmd.Env = append(os.Environ(), "PATH="+programs+":"+os.Getenv("PATH"))
	var out, words strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &words
	_ = cmd.Run()
	return outcome{cmd.ProcessState.ExitCode(), out.String(), words.String()}
}

func (s *releaseSite) does(args ...string) outcome {
	s.Helper()
	o := s.do(args...)
	if o.code != 0 {
		s.Fatalf("stakeseal %s: exit %d\n%s%s", strings.Join(args, " "), o.code, o.out, o.err)
	}
	return o
}

func (s *releaseSite) built(name string) (zip, digest string) {
	s.Helper()
	zip = s.path(name + ".zip")
	s.does("release", "build", "--settings", s.home, "--arch", "x86_64", "--out", zip)
	data, err := os.ReadFile(zip)
	if err != nil {
		s.Fatal(err)
	}
	return zip, fmt.Sprintf("%x", sha256.Sum256(data))
}

func (s *releaseSite) steps(name, zip, digest string) map[string][]string {
	report := s.path(name + ".json")
	return map[string][]string{
		"submit":  {"release", "submit", zip, "--depot", s.depot, "--description", "release " + name},
		"review":  {"release", "review", digest, "--depot", s.depot, "--offline", "--report", report},
		"approve": {"release", "approve", digest, "--depot", s.depot, "--report", report, "--yes"},
		"reject":  {"release", "reject", digest, "--depot", s.depot, "--report", report},
		"sign":    {"release", "sign", digest, "--depot", s.depot, "--name", name, "--yes"},
		"deploy":  {"release", "deploy", digest, "--depot", s.depot, "--yes"},
		"revoke":  {"release", "revoke", digest, "--depot", s.depot, "--reason", "a fault", "--yes"},
	}
}

func (s *releaseSite) keyed(step []string, name string) []string {
	return append(slices.Clone(step), "--key", s.key(name))
}

// state is every file of home and depot with its mode and content.
func (s *releaseSite) state() string {
	s.Helper()
	var out strings.Builder
	for _, dir := range []string{s.home, s.depot} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) && path == s.depot {
				return nil
			}
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			fmt.Fprintf(&out, "%s %v %x\n", path, d.Type(), sha256.Sum256(data))
			return err
		})
		if err != nil {
			s.Fatal(err)
		}
	}
	return out.String()
}

// no is a step that is refused with the code of a denial and a hint, and changes
// nothing.
func (s *releaseSite) no(what string, args []string) {
	s.Helper()
	before := s.state()
	o := s.do(args...)
	if o.code != exitDenied || !strings.Contains(o.err, "stakeseal: error: ") || !strings.Contains(o.err, "stakeseal: hint: ") {
		s.Errorf("%s: exit %d\n%s%s", what, o.code, o.out, o.err)
	}
	if after := s.state(); after != before {
		s.Errorf("%s changed something:\n%s\nwas\n%s", what, after, before)
	}
}

// but has everybody except some try a step with their own key.
func (s *releaseSite) but(may []string, what string, step []string) {
	s.Helper()
	for _, name := range []string{"dora", "dave", "rita", "mona", "rex", "otto", "mallory", "certifier"} {
		if !slices.Contains(may, name) {
			s.no(what+" with the key of "+name, s.keyed(step, name))
		}
	}
}

// TestEveryKeyTriesEveryStep: on one machine each step is done with the key of
// the person whose step it is, and with no other: not the submitter's own, not
// one that is revoked, not one of two who must agree.
func TestEveryKeyTriesEveryStep(t *testing.T) {
	s := newReleaseSite(t, 2)
	zip, digest := s.built("one")
	step := s.steps("one", zip, digest)
	managers := []string{"rita", "mona"}
	if err := os.MkdirAll(filepath.Join(s.depot, "submitted"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(s.depot, "statements"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.but([]string{"dora", "dave"}, "submit", step["submit"])
	s.does(s.keyed(step["submit"], "dora")...)
	s.does(step["review"]...)
	s.but(managers, "approve", step["approve"])
	s.but(managers, "reject", step["reject"])
	s.but(nil, "sign before anybody approved", step["sign"])
	s.does(s.keyed(step["approve"], "rita")...)
	s.does(s.keyed(step["approve"], "rita")...)
	s.but(nil, "sign with one approval of two", step["sign"])
	s.no("deploy with one approval of two", step["deploy"])
	s.does(s.keyed(step["approve"], "mona")...)
	s.but(managers, "sign", step["sign"])
	s.no("deploy before anybody signed", step["deploy"])
	s.does(s.keyed(step["sign"], "mona")...)
	s.does(s.keyed(step["sign"], "mona")...)
	s.no("deploy with one signature of two", step["deploy"])
	s.no("generate before anything is deployed", []string{"generate", "--count", "1", "--yes"})
	s.does(s.keyed(step["sign"], "rita")...)
	s.does(step["deploy"]...)
	s.does("release", "verify")
	if o := s.do("generate", "--count", "1", "--order", "first", "--yes"); o.code == exitDenied || !strings.Contains(o.err, "tiny one") {
		t.Errorf("the release's program is not what generate runs: exit %d\n%s", o.code, o.err)
	}
	s.but(managers, "revoke", step["revoke"])
	s.does(s.keyed(step["revoke"], "mona")...)
	for _, args := range [][]string{{"release", "verify"}, {"generate", "--count", "1", "--yes"}, step["deploy"]} {
		if o := s.do(args...); o.code != exitRefused || !strings.Contains(o.err, "revoked") {
			t.Errorf("%v after it was revoked: exit %d\n%s", args, o.code, o.err)
		}
	}
}

// TestReleaseDocument runs the commands of docs/release.md, section by section,
// as they stand there: only the names in capitals are filled in.
func TestReleaseDocument(t *testing.T) {
	data, err := os.ReadFile("../../docs/release.md")
	if err != nil {
		t.Fatal(err)
	}
	s := newReleaseSite(t, 1)
	for _, name := range []string{"dora", "rita", "otto"} { // each person has their own where they are
		if err := os.Rename(s.key(name), filepath.Join(s.source, name+".key")); err != nil {
			t.Fatal(err)
		}
	}
	digest := "none yet"
	names := strings.NewReplacer("--arch arm64", "--arch x86_64", "DEPOT", s.depot, "--settings DIR", "--settings "+s.home)
	// What a command must end with beside 0: the document says why.
	ends := map[string]int{"key --out": 5, "reject": 5, "rollback": 2, "generate": 1}
	ran := map[string]int{}
	section := ""
	for line := range strings.Lines(string(data)) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			section = strings.TrimSpace(title)
		}
		command, ok := strings.CutPrefix(line, "    stakeseal ")
		if !ok || !slices.Contains([]string{"Once", "Developer", "Release manager", "Operator", "When a release was bad"}, section) {
			continue
		}
		command, _, _ = strings.Cut(command, "#")
		command = regexp.MustCompile(`\[[^]]*\]`).ReplaceAllString(command, "") // what may be left out
		command = regexp.MustCompile(`"[^"]*"`).ReplaceAllStringFunc(command, func(text string) string { return strings.ReplaceAll(strings.Trim(text, `"`), " ", "_") })
		args := strings.Fields(strings.ReplaceAll(names.Replace(command), "DIGEST", digest))
		switch args[1] {
		case "review":
			args = append(args, "--offline")
		case "approve", "sign", "deploy", "revoke", "rollback":
			args = append(args, "--yes")
		}
		if args[0] == "generate" {
			args = append(args, "--yes")
		}
		if slices.Contains(args, "TEXT") {
			args[slices.Index(args, "TEXT")] = "a_fault"
		}
		o, want := s.do(args...), 0
		for words, code := range ends {
			if strings.Contains(command, words) {
				want = code
			}
		}
		if o.code != want {
			t.Errorf("%s: %q ended with %d, not %d:\n%s%s", section, args, o.code, want, o.out, o.err)
		}
		ran[section]++
		if len(args) > 1 && args[1] == "build" {
			data, err := os.ReadFile(filepath.Join(s.source, "package.zip"))
			if err != nil {
				t.Fatal(err)
			}
			digest = fmt.Sprintf("%x", sha256.Sum256(data))
		}
	}
	if fmt.Sprint(ran) != "map[Developer:2 Once:2 Operator:4 Release manager:4 When a release was bad:1]" {
		t.Errorf("commands: %v", ran)
	}
}
