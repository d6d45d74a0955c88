package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// sourceRepo is a git repository with one commit: the files of this working
// tree as they are, since a release is of a commit.
func sourceRepo(t *testing.T) string {
	t.Helper()
	list, err := exec.Command("git", "-C", "../..", "ls-files", "-co", "--exclude-standard", "-z").Output()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("git cannot list this repository, and CI must be able to: %v", err)
		}
		t.Skipf("SKIPPED: git cannot list this repository: %v", err)
	}
	dir := t.TempDir()
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		data, err := os.ReadFile(filepath.Join("../..", name))
		if errors.Is(err, os.ErrNotExist) {
			continue // removed, and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"init", "--quiet"}, {"add", "-A"}, {"-c", "user.name=dora", "-c", "user.email=dora@example.com", "commit", "--quiet", "-m", "the working tree"}} {
		if out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	return dir
}

// TestReleases is the whole way of two releases with the real programs: from a
// commit to keys, each step refused to whom it is not, then rolled back,
// tampered with and revoked.
func TestReleases(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the generator several times")
	}
	if _, err := exec.LookPath("x86_64-linux-gnu-gcc"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("x86_64-linux-gnu-gcc is not installed, and CI must have it")
		}
		t.Skip("SKIPPED: x86_64-linux-gnu-gcc is not installed")
	}
	s := newSite(t)
	source := sourceRepo(t)
	run := func(code int, words string, args ...string) outcome {
		t.Helper()
		cmd := exec.Command(filepath.Join(programs, "stakeseal"), append([]string{"--home", s.home}, args...)...)
		cmd.Dir = s.dir
		cmd.Env = append(os.Environ(), "PATH="+programs+":"+os.Getenv("PATH"))
		var out, words2 bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &words2
		_ = cmd.Run()
		got := outcome{cmd.ProcessState.ExitCode(), out.String(), words2.String()}
		if got.code != code || !strings.Contains(got.err+got.out, words) {
			t.Fatalf("%v: exit code %d, want %d and %q:\n%s%s", args, got.code, code, words, got.out, got.err)
		}
		return got
	}
	key := func(name string) string {
		return strings.Replace(run(0, "", "release", "key", "--out", name+".key").out, "YOUR-NAME", name, 1)
	}
	trustPath := filepath.Join(s.home, trustFile)
	read := func(path string) string {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(trustPath, strings.Replace(read(trustPath), "releases: []", "developers:\n"+key("dora")+"release_managers:\n"+key("rita")+"releases: []", 1))
	depot := []string{"--depot", "depot"}
	with := func(more []string, args ...string) []string { return append(args, more...) }

	// A home that demands releases makes nothing without one.
	run(6, "no release is in force", "generate", "--count", "1", "--yes")
	run(2, "no release is in force", "release", "verify")

	// release takes the home's draft to a signed package.
	signed := func(name string) string {
		t.Helper()
		zip := name + ".zip"
		run(0, "for equal bytes", "release", "build", "--source", source, "--arch", "x86_64", "--out", zip)
		run(6, "a release manager", with(depot, "release", "submit", zip, "--key", "rita.key", "--description", "x")...)
		digest := strings.TrimSpace(run(0, "", with(depot, "release", "submit", zip, "--key", "dora.key", "--description", "the limit of "+name)...).out)
		run(6, "approved by 0", with(depot, "release", "sign", digest, "--name", name, "--key", "rita.key")...)
		run(0, "REBUILD: EQUAL", with(depot, "release", "review", digest, "--source", source, "--offline", "--report", name+".json", "--html", name+".html")...)
		run(6, "a developer", with(depot, "release", "approve", digest, "--report", name+".json", "--key", "dora.key", "--yes")...)
		run(2, "nobody is there", with(depot, "release", "approve", digest, "--report", name+".json", "--key", "rita.key")...)
		run(0, "approved", with(depot, "release", "approve", digest, "--report", name+".json", "--key", "rita.key", "--comment", "fine", "--yes")...)
		run(6, "no release manager has signed", with(depot, "release", "deploy", digest)...)
		run(6, "a developer", with(depot, "release", "sign", digest, "--name", name, "--key", "dora.key")...)
		run(2, "--name is missing", with(depot, "release", "sign", digest, "--key", "rita.key")...)
		run(0, "statement:", with(depot, "release", "sign", digest, "--name", name, "--key", "rita.key")...)
		run(0, "gives every byte of the package", "release", "rebuild", zip, "--source", source)
		return digest
	}
	first := signed("v1")
	run(0, "is what was reviewed and signed", with(depot, "release", "deploy", first)...)
	run(0, "is what was reviewed and signed", "release", "verify")
	run(0, "2 validators made", "generate", "--count", "2", "--order", "one", "--yes")
	run(0, "", "certificate", "export", "--order", "one", "--out", "papers")
	papers, err := filepath.Glob(filepath.Join(s.dir, "papers", "*.json"))
	if err != nil || len(papers) != 2 {
		t.Fatalf("%v, %v", papers, err)
	}
	verified := run(0, "commit "+commitOf(t, source), "certificate", "verify", papers[0], "--trust", trustPath).out
	if !strings.Contains(verified, "release      v1") && !strings.Contains(verified, "v1\n") {
		t.Errorf("the verdict names no release:\n%s", verified)
	}
	// Who reviewed it the home's statements say; without them, the trust file's
	// entry names the review by its digest, and that is said.
	where := map[string]string{"reviewed by": "rita: ", "signed by": "rita"}
	for row, words := range where {
		if !regexp.MustCompile(row + ` +` + words).MatchString(verified) {
			t.Errorf("no row %q with %q in\n%s", row, words, verified)
		}
	}
	review := regexp.MustCompile(`rita: ([0-9a-f]{64})`).FindStringSubmatch(verified)
	elsewhere := run(0, "not known here (the review is in the depot)", "--home", s.dir, "certificate", "verify", papers[0], "--trust", trustPath).out
	if review == nil || !strings.Contains(elsewhere, review[1]) {
		t.Errorf("elsewhere the review is not named:\n%s", elsewhere)
	}
	if inForce := run(0, "nothing: its reviewers compared it with no release", "release", "verify").out; review == nil || !strings.Contains(inForce, review[1]) || !strings.Contains(inForce, commitOf(t, source)) {
		t.Errorf("release verify does not name review and commit:\n%s", inForce)
	}

	// The home's own settings are a draft: what is in force is the release.
	draft := filepath.Join(s.home, "generator.yaml")
	write(draft, strings.Replace(read(draft), "max_validators_per_order: 1000", "max_validators_per_order: 3", 1))
	run(0, "largest order", "config", "show")
	run(0, "4 validators made", "generate", "--count", "4", "--order", "two", "--yes")
	second := signed("v2")
	report := read(filepath.Join(s.dir, "v2.json"))
	var parsed struct {
		Attention []struct{ Weight, Text string }
	}
	if err := json.Unmarshal([]byte(report), &parsed); err != nil || !strings.Contains(report, "max_validators_per_order changed from 1000 to 3") {
		t.Errorf("the review does not name the limit: %v, %+v", err, parsed.Attention)
	}
	// Other settings than those in force are shown, and somebody has to agree.
	before := read(trustPath)
	run(2, "max_validators_per_order: 3, here 1000", with(depot, "release", "deploy", second)...)
	if read(trustPath) != before {
		t.Error("the trust file changed before anybody agreed")
	}
	run(0, "rollback to", with(depot, "release", "deploy", second, "--yes")...)
	// What was superseded does not come back as if it were new, but by a flag and
	// a word.
	run(3, "was superseded by", with(depot, "release", "deploy", first, "--yes")...)
	run(2, "nobody is there", with(depot, "release", "deploy", first, "--out-of-order")...)
	run(0, "SUPERSEDED", with(depot, "release", "deploy", first, "--out-of-order", "--yes")...)
	run(0, "supersedes", with(depot, "release", "deploy", second, "--yes")...)
	run(2, "3", "generate", "--count", "4", "--order", "three", "--yes")
	run(0, "3 validators made", "generate", "--count", "3", "--order", "three", "--yes")
	run(0, "v1", "release", "rollback", "--yes")
	run(0, "ROLLED BACK", "release", "verify")
	run(0, "4 validators made", "generate", "--count", "4", "--order", "four", "--yes")
	run(0, "v2", with(depot, "release", "deploy", second, "--yes")...)

	// A changed program does not start.
	program := filepath.Join(s.home, "releases", second, "bootstrap")
	whole := read(program)
	if err := os.Chmod(program, 0o700); err != nil {
		t.Fatal(err)
	}
	write(program, whole[:len(whole)-1]+"x")
	run(3, "somebody changed it", "generate", "--count", "1", "--yes")
	run(3, "somebody changed it", "release", "verify")
	run(3, "somebody changed it", "doctor", "--quick")
	write(program, whole)
	run(0, "is what was reviewed", "release", "verify")
	run(0, "of the release in force", "doctor", "--quick")

	// Revoked: at once, and for everything it made.
	run(6, "a developer", "release", "revoke", first, "--key", "dora.key", "--reason", "x", "--yes")
	run(2, "no package "+strings.Repeat("0", 64), "release", "revoke", strings.Repeat("0", 64), "--key", "rita.key", "--reason", "a typing error", "--yes")
	run(0, "revoked", with(depot, "release", "revoke", first, "--key", "rita.key", "--reason", "a fault", "--yes")...)
	run(3, "revoked", "certificate", "verify", papers[0], "--trust", trustPath)
	run(3, "revoked", "release", "rollback", "--yes")
	run(3, "revoked", with(depot, "release", "deploy", first)...)
	run(0, "1 validators made", "generate", "--count", "1", "--order", "five", "--yes")

	// Without the pointer, and without managers, nothing is made by accident.
	if err := os.Remove(filepath.Join(s.home, "release.json")); err != nil {
		t.Fatal(err)
	}
	run(6, "no release is in force", "generate", "--count", "1", "--yes")
	run(0, "v2", with(depot, "release", "deploy", second)...)

	// Revoked here only: a depot that knows nothing of it brings it back neither
	// into force nor, as a line to be added by hand, into the trust file.
	run(0, "revoked", "release", "revoke", second, "--key", "rita.key", "--reason", "a fault", "--yes")
	run(2, "is no package", "release", "rollback", "--to", strings.Repeat("0", 64), "--yes")
	for _, flag := range []string{"--yes", "--leave-trust-file"} {
		if got := run(3, "revoked", with(depot, "release", "deploy", second, flag)...); strings.Contains(got.out+got.err, "statement:") {
			t.Errorf("the entry of a revoked release is printed:\n%s%s", got.out, got.err)
		}
	}
}

func commitOf(t *testing.T, source string) string {
	t.Helper()
	out, err := exec.Command("git", "-C", source, "rev-parse", "HEAD").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
