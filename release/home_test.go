package release

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/certificate"
)

// TestMain lets the test program install a release into a home in a process of
// its own, that can be killed.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "install" {
		var digest certificate.Hash
		err := digest.UnmarshalText([]byte(os.Args[3]))
		trust := testTrust(1)
		dir := os.Args[2]
		if err == nil {
			var s *Signed
			depot := Depot{Folder{filepath.Join(dir, "depot", "submitted")}, Folder{filepath.Join(dir, "depot", "statements")}}
			if s, err = LoadSigned(context.Background(), depot, trust, digest); err == nil {
				os.Stdout.WriteString("begin\n")
				err = Home{Dir: filepath.Join(dir, "home"), Trust: trust}.Install(context.Background(), s, noon)
			}
		}
		if err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if smallOnce.repo.Dir != "" {
		_ = os.RemoveAll(smallOnce.repo.Dir)
	}
	os.Exit(code)
}

// both are two signed packages in one depot.
func both(t *testing.T, d Depot, trust *certificate.Trust) (a, b *Signed) {
	t.Helper()
	p, q := packages(t)
	advance(t, d, trust, p, "signed")
	advance(t, d, trust, q, "signed")
	a, err := LoadSigned(t.Context(), d, trust, p.Digest)
	must(t, err)
	b, err = LoadSigned(t.Context(), d, trust, q.Digest)
	must(t, err)
	return a, b
}

// TestDeployRollbackRevoke is the life of two releases in a home.
func TestDeployRollbackRevoke(t *testing.T) {
	ctx, trust, d := t.Context(), testTrust(1), newDepot(t)
	a, b := both(t, d, trust)
	home := Home{Dir: t.TempDir(), Trust: trust}
	inForce := func(want *Signed, previous certificate.Hash) {
		t.Helper()
		in, err := home.InForce(ctx, noon)
		must(t, err)
		if in.Package().Digest != want.Package().Digest || in.Previous != previous {
			t.Fatalf("in force is %s, before it %s", in.Package().Digest, in.Previous)
		}
		out, err := exec.Command(filepath.Join(in.Folder, Program)).CombinedOutput()
		if err != nil {
			t.Fatalf("the program does not run: %v, %s", err, out)
		}
	}
	if _, err := home.Rollback(ctx, certificate.Hash{}, noon); !errors.Is(err, ErrNoRelease) {
		t.Errorf("rolled back from nothing: %v", err)
	}
	for range 2 { // the second does nothing
		must(t, home.Install(ctx, a, noon))
		inForce(a, certificate.Hash{})
	}
	if _, err := home.Rollback(ctx, certificate.Hash{}, noon); !errors.Is(err, ErrNoRelease) {
		t.Errorf("rolled back to nothing: %v", err)
	}
	must(t, home.Install(ctx, b, noon))
	inForce(b, a.Package().Digest)
	if _, err := home.Rollback(ctx, certificate.Hash{}, noon); err != nil {
		t.Fatal(err)
	}
	inForce(a, b.Package().Digest)
	must(t, home.Install(ctx, b, noon))
	inForce(b, a.Package().Digest)

	// Settings come from the release.
	folder, pkg, err := SettingsFolder(os.DirFS(home.Dir))
	must(t, err)
	g, _, err := readSettings(folder)
	must(t, err)
	if pkg != b.Package().Digest || certificate.Hash(g.Digest) != b.Package().Provenance.Settings {
		t.Error("the settings in force are not the release's")
	}

	// A revoked one cannot be rolled back to, nor deployed.
	must(t, Revoke(ctx, home.Statements(), trust, rita, a.Package().Digest, "found to be bad", noon))
	if _, err := home.Rollback(ctx, certificate.Hash{}, noon); !errors.Is(err, ErrRevoked) || !strings.Contains(err.Error(), "found to be bad") {
		t.Errorf("rolled back to a revoked release: %v", err)
	}
	inForce(b, certificate.Hash{}) // nothing to go back to
	must(t, Revoke(ctx, d.Reviews, trust, mona, a.Package().Digest, "found to be bad", noon))
	if _, err := LoadSigned(ctx, d, trust, a.Package().Digest); !errors.Is(err, ErrRevoked) {
		t.Errorf("a revoked release loads: %v", err)
	}
	// By the trust file alone, too.
	listed := b.Release
	listed.Revoked = true
	home.Trust.Releases = []certificate.Release{listed}
	if _, err := home.InForce(ctx, noon); !errors.Is(err, ErrRevoked) {
		t.Errorf("revoked in the trust file: %v", err)
	}
	if err := home.Install(ctx, b, noon); !errors.Is(err, ErrRevoked) {
		t.Errorf("deployed what the trust file revokes: %v", err)
	}
	if home.Listed(b) {
		t.Error("a revoked release is listed")
	}
}

func TestValidityOfARelease(t *testing.T) {
	p, _ := packages(t)
	ctx, trust, d := t.Context(), testTrust(1), newDepot(t)
	advance(t, d, trust, p, "approved")
	r, err := LoadReviewed(ctx, d, trust, p.Digest)
	must(t, err)
	must(t, Sign(ctx, d, rita, r, Terms{Name: "v1", NotBefore: noon.Add(time.Hour), NotAfter: noon.Add(2 * time.Hour)}, noon))
	s, err := LoadSigned(ctx, d, trust, p.Digest)
	must(t, err)
	home := Home{Dir: t.TempDir(), Trust: trust}
	for at, ok := range map[time.Duration]bool{0: false, time.Hour: true, 2 * time.Hour: true, 2*time.Hour + time.Second: false} {
		if err := home.Install(ctx, s, noon.Add(at)); (err == nil) != ok || err != nil && !errors.Is(err, certificate.ErrUntrusted) {
			t.Errorf("%s after noon: %v", at, err)
		}
	}
	if _, err := home.InForce(ctx, noon.Add(3*time.Hour)); !errors.Is(err, certificate.ErrUntrusted) {
		t.Errorf("in force after its end: %v", err)
	}
}

// TestKillWhileDeploying kills the deploying process at many moments. Each
// time the old release or the new one is in force, whole, and deploying again
// ends well. Nothing depends on when exactly the kill comes.
func TestKillWhileDeploying(t *testing.T) {
	ctx, trust := t.Context(), testTrust(1)
	dir := t.TempDir()
	d := Depot{Folder{filepath.Join(dir, "depot", "submitted")}, Folder{filepath.Join(dir, "depot", "statements")}}
	for _, s := range []Store{d.Submissions, d.Reviews} {
		must(t, os.MkdirAll(s.(Folder).Dir, 0o755))
	}
	a, b := both(t, d, trust)
	self, err := os.Executable()
	must(t, err)
	seen := map[certificate.Hash]int{}
	for i := range 16 {
		home := Home{Dir: filepath.Join(dir, "home"), Trust: trust}
		must(t, os.RemoveAll(home.Dir))
		must(t, os.Mkdir(home.Dir, 0o700))
		must(t, home.Install(ctx, a, noon))
		cmd := exec.Command(self, "install", dir, b.Package().Digest.String())
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		begin := make([]byte, 6)
		_, _ = out.Read(begin)
		time.Sleep(time.Duration(i*i) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		in, err := home.InForce(ctx, noon)
		if err != nil {
			t.Fatalf("killed, and nothing whole is in force: %v", err)
		}
		seen[in.Package().Digest]++
		must(t, home.Install(ctx, b, noon))
		in, err = home.InForce(ctx, noon)
		must(t, err)
		if in.Package().Digest != b.Package().Digest {
			t.Fatal("deployed again, and the old one is in force")
		}
		left, err := os.ReadDir(filepath.Join(home.Dir, ReleasesFolder))
		must(t, err)
		if len(left) != 2 {
			t.Errorf("%d folders are left", len(left))
		}
	}
	t.Logf("%d with the old, %d with the new in force", seen[a.Package().Digest], seen[b.Package().Digest])
}

func TestTrustFileEdits(t *testing.T) {
	trust, d := testTrust(1), newDepot(t)
	a, b := both(t, d, trust)
	formatted, err := certificate.FormatTrust(*trust)
	must(t, err)
	path := filepath.Join(t.TempDir(), "trust.yaml")
	read := func() *certificate.Trust {
		t.Helper()
		data, err := os.ReadFile(path)
		must(t, err)
		got, err := certificate.ParseTrust(data)
		must(t, err)
		return got
	}
	for name, text := range map[string]string{
		"as written":    string(formatted),
		"with comments": strings.Replace(string(formatted), "releases: []", "# mine: do not touch\nreleases: []", 1) + "# the end\n",
		"no list":       strings.Replace(string(formatted), "releases: []\n", "", 1),
		"no end":        strings.TrimSuffix(string(formatted), "\n"),
	} {
		must(t, os.WriteFile(path, []byte(text), 0o600))
		must(t, AddToTrust(path, a.Release))
		must(t, AddToTrust(path, b.Release))
		if got := read(); len(got.Releases) != 2 || got.Releases[0].Name != b.Release.Name {
			t.Errorf("%s: %d releases", name, len(got.Releases))
		}
		must(t, RevokeInTrust(path, a.Release.Name))
		if got := read(); got.Releases[0].Revoked || !got.Releases[1].Revoked {
			t.Errorf("%s: not the one that was revoked", name)
		}
		data, err := os.ReadFile(path)
		must(t, err)
		for line := range strings.Lines(text) {
			if !strings.Contains(string(data), strings.TrimSuffix(line, "\n")) && !strings.HasPrefix(line, "releases:") {
				t.Errorf("%s: the line %q is gone", name, line)
			}
		}
		before := string(data)
		if err := AddToTrust(path, a.Release); err == nil {
			t.Errorf("%s: added twice", name)
		}
		bad := b.Release
		bad.Name = "other"
		if err := AddToTrust(path, bad); err == nil {
			t.Errorf("%s: added what was not signed so", name)
		}
		if data, err = os.ReadFile(path); err != nil || string(data) != before {
			t.Errorf("%s: a refused change changed the file", name)
		}
	}
	// Written in another way, it is left to its owner.
	inline := strings.Replace(string(formatted), "releases: []", "releases: [ ]", 1)
	must(t, os.WriteFile(path, []byte(inline), 0o600))
	if err := AddToTrust(path, a.Release); !errors.Is(err, errByHand) {
		t.Errorf("a list in another form: %v", err)
	}
}

// TestTrustFileHoldsToStatements: an entry says what its managers signed, or
// less.
func TestTrustFileHoldsToStatements(t *testing.T) {
	trust, d := testTrust(1), newDepot(t)
	a, b := both(t, d, trust)
	for name, c := range map[string]struct {
		change func(*certificate.Trust)
		ok     bool
	}{
		"as signed":      {func(*certificate.Trust) {}, true},
		"revoked":        {func(tr *certificate.Trust) { tr.Releases[0].Revoked = true }, true},
		"shorter":        {func(tr *certificate.Trust) { tr.Releases[0].NotAfter = noon.Add(time.Hour) }, true},
		"later":          {func(tr *certificate.Trust) { tr.Releases[0].NotBefore = noon.Add(time.Hour) }, true},
		"earlier":        {func(tr *certificate.Trust) { tr.Releases[0].NotBefore = noon.Add(-time.Second) }, false},
		"from the start": {func(tr *certificate.Trust) { tr.Releases[0].NotBefore = time.Time{} }, false},
		"another binary": {func(tr *certificate.Trust) { tr.Releases[0].Binaries = []certificate.Hash{{1}} }, false},
		"one more binary": {func(tr *certificate.Trust) {
			tr.Releases[0].Binaries = append(tr.Releases[0].Binaries, certificate.Hash{1})
		}, false},
		"other settings":   {func(tr *certificate.Trust) { tr.Releases[0].Settings[0] ^= 1 }, false},
		"another commit":   {func(tr *certificate.Trust) { tr.Releases[0].Commit = strings.Repeat("0", 40) }, false},
		"another name":     {func(tr *certificate.Trust) { tr.Releases[0].Name = "x" }, false},
		"another review":   {func(tr *certificate.Trust) { tr.Releases[0].Review[0] ^= 1 }, false},
		"no statement":     {func(tr *certificate.Trust) { tr.Releases[0].Statement = nil }, false},
		"another's":        {func(tr *certificate.Trust) { tr.Releases[0].Statement = b.Release.Statement }, false},
		"unknown managers": {func(tr *certificate.Trust) { tr.Managers = []certificate.TrustedKey{trusted(stranger)} }, false},
		"a revoked key":    {func(tr *certificate.Trust) { tr.Managers[0].Revoked = true }, true}, // it stands no more: TestStolenKey
		"no managers":      {func(tr *certificate.Trust) { tr.Managers, tr.Threshold = nil, 0 }, false},
		"another network":  {func(tr *certificate.Trust) { tr.Network.Name = "sepolia" }, false},
	} {
		tr := testTrust(1)
		tr.Releases = []certificate.Release{a.Release}
		tr.Releases[0].Binaries = append([]certificate.Hash{}, a.Release.Binaries...)
		c.change(tr)
		if err := tr.Check(); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if !c.ok {
			continue
		}
		text, err := certificate.FormatTrust(*tr)
		must(t, err)
		if _, err := certificate.ParseTrust(text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
