package release

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTestsRunAlone: the commit's tests see nothing of the reviewer's
// environment and, where namespaces allow it, no network but their own.
func TestTestsRunAlone(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	dir := t.TempDir()
	secret := filepath.Join(dir, "what-it-saw")
	must(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.com/x\n\ngo 1.26\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "x_test.go"), fmt.Appendf(nil, `package x

import (
	"net"
	"os"
	"strings"
	"testing"
)

func TestLook(t *testing.T) {
	_ = os.WriteFile(%q, []byte(strings.Join(os.Environ(), "\n")), 0o600)
}

func TestReach(t *testing.T) {
	if _, err := net.Dial("tcp", %q); err == nil {
		t.Error("reached")
	}
}

func TestItsOwn(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err != nil {
		t.Error(err)
	}
}

func TestHome(t *testing.T) {
	home, err := os.UserHomeDir()
	if err != nil || os.WriteFile(home+"/x", nil, 0o600) != nil || os.Mkdir(home+"/locked", 0) != nil {
		t.Error(err)
	}
}
`, secret, listener.Addr().String()), 0o600))
	for _, args := range [][]string{{"init", "--quiet"}, {"add", "-A"}, {"-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "--quiet", "-m", "x"}} {
		if out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%s", out)
		}
	}
	repo := Repository{dir}
	commit, err := repo.Resolve(t.Context(), "HEAD")
	must(t, err)
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wJalr")
	t.Setenv("GITHUB_TOKEN", "ghp")
	t.Setenv("SSH_AUTH_SOCK", "/run/agent")
	t.Setenv("HTTPS_PROXY", "http://user:password@proxy")
	t.Setenv("GOFLAGS", "-run=None")
	t.Setenv("TMPDIR", t.TempDir())
	r := &Report{Attention: []Finding{}}
	must(t, r.tests(t.Context(), &Package{Provenance: Provenance{Commit: commit}}, Inspection{Repository: repo, Tests: "./..."}))
	if !r.Tests.Ran || len(r.Tests.Packages) != 1 {
		t.Fatalf("%+v", r.Tests)
	}
	got := r.Tests.Packages[0]
	reached := strings.Contains(strings.Join(r.Tests.Open, " "), "network")
	if reached { // and then it is said
		missing(t, "this machine makes no network namespace: "+strings.Join(r.Tests.Open, "; "))
	}
	if got.Passed != 4 || len(got.Failed) > 0 {
		t.Errorf("%d passed, failed: %v", got.Passed, got.Failed)
	}
	saw, err := os.ReadFile(secret)
	must(t, err)
	home, _ := os.UserHomeDir()
	for _, never := range []string{"wJalr", "ghp", "agent", "password", "-run=None", "HOME=" + home + "\n"} {
		if strings.Contains(string(saw), never) {
			t.Errorf("the tests saw %q:\n%s", never, saw)
		}
	}
	if len(r.Attention) == 0 || r.Attention[0].Weight != Look || !strings.Contains(r.Attention[0].Text, "ran as you") {
		t.Errorf("the report does not say that the code ran here: %+v", r.Attention)
	}
	if left, err := filepath.Glob(filepath.Join(os.TempDir(), "stakeseal-tests-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
