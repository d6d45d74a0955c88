package release

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stakeseal/stakeseal/certificate"
)

// TestTrustFileByTwo: one marks a release as revoked while another deployment
// adds its own. Neither takes the other's line out.
func TestTrustFileByTwo(t *testing.T) {
	trust, d := testTrust(1), newDepot(t)
	a, b := both(t, d, trust)
	trust.Releases = []certificate.Release{a.Release}
	text, err := certificate.FormatTrust(*trust)
	must(t, err)
	for range 40 {
		path := filepath.Join(t.TempDir(), "trust.yaml")
		must(t, os.WriteFile(path, text, 0o600))
		var both sync.WaitGroup
		var add, mark error
		begin := make(chan struct{})
		both.Go(func() { <-begin; add = AddToTrust(path, b.Release) })
		both.Go(func() { <-begin; mark = RevokeInTrust(path, a.Release.Name) })
		close(begin)
		both.Wait()
		must(t, add)
		must(t, mark)
		data, err := os.ReadFile(path)
		must(t, err)
		got, err := certificate.ParseTrust(data)
		must(t, err)
		if len(got.Releases) != 2 || !got.Releases[1].Revoked || got.Releases[0].Revoked {
			t.Fatalf("one change was lost:\n%s", data)
		}
	}
}

// TestTrustFileByALink: the file that others read changes, and the link stays.
func TestTrustFileByALink(t *testing.T) {
	trust, d := testTrust(1), newDepot(t)
	a, _ := both(t, d, trust)
	text, err := certificate.FormatTrust(*trust)
	must(t, err)
	dir := t.TempDir()
	shared, link := filepath.Join(dir, "shared", "ours.yaml"), filepath.Join(dir, "home", "trust.yaml")
	must(t, os.Mkdir(filepath.Dir(shared), 0o700))
	must(t, os.Mkdir(filepath.Dir(link), 0o700))
	must(t, os.WriteFile(shared, text, 0o640))
	must(t, os.Symlink("../shared/ours.yaml", link))
	must(t, AddToTrust(link, a.Release))
	if to, err := os.Readlink(link); err != nil || to != "../shared/ours.yaml" {
		t.Errorf("the link is %q, %v", to, err)
	}
	data, err := os.ReadFile(shared)
	must(t, err)
	if !bytes.Contains(data, []byte(a.Release.Package.String())) {
		t.Error("the shared file did not change")
	}
	if info, err := os.Stat(shared); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	must(t, os.Remove(shared))
	if err := RevokeInTrust(link, a.Release.Name); !os.IsNotExist(err) {
		t.Errorf("a link to nothing: %v", err)
	}
	// What an editor saved while this run worked is not overwritten.
	must(t, os.WriteFile(shared, text, 0o640))
	err = edit(shared, func(*certificate.Trust) {}, func(lines []string) ([]string, bool) {
		must(t, os.WriteFile(shared, append(bytes.Clone(text), "# mine\n"...), 0o640))
		return lines, true
	})
	if data, _ := os.ReadFile(shared); err == nil || !bytes.HasSuffix(data, []byte("# mine\n")) {
		t.Errorf("an editor's change was overwritten: %v", err)
	}
}
