package release

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/certificate"
)

// TestStolenKey is the paragraph of docs/release.md: rita's key is marked as
// revoked, and what she signed is refused, until mona has looked at it and
// signed it again. The trust file reads all the time, and one entry is what
// changes in it.
func TestStolenKey(t *testing.T) {
	ctx, d := t.Context(), newDepot(t)
	honest := testTrust(1)
	a, b := both(t, d, honest)
	path := filepath.Join(t.TempDir(), "trust.yaml")
	text, err := certificate.FormatTrust(*honest)
	must(t, err)
	must(t, os.WriteFile(path, append([]byte("# mine\n"), text...), 0o600))
	must(t, AddToTrust(path, a.Release))
	must(t, AddToTrust(path, b.Release))
	home := Home{Dir: t.TempDir(), Trust: honest}
	must(t, home.Install(ctx, a, noon))
	must(t, home.Install(ctx, b, noon))

	// By hand, as docs/release.md says.
	data, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, []byte(strings.Replace(string(data), "- name: \"rita\"\n", "- name: \"rita\"\n    revoked: true\n", 1)), 0o600))
	read := func() *certificate.Trust {
		t.Helper()
		data, err := os.ReadFile(path)
		must(t, err)
		trust, err := certificate.ParseTrust(data)
		must(t, err)
		return trust
	}
	trust := read()
	if !trust.Managers[0].Revoked || len(trust.Releases) != 2 {
		t.Fatalf("%+v", trust.Managers)
	}
	home.Trust = trust
	if home.Listed(b) {
		t.Error("a release that a stolen key alone signed is listed")
	}
	for _, r := range trust.Releases {
		if err := trust.Stands(r); !errors.Is(err, certificate.ErrUntrusted) || !strings.Contains(err.Error(), "rita") {
			t.Errorf("it stands: %v", err)
		}
	}
	pkg := b.Package().Digest
	if _, err := home.InForce(ctx, noon); !errors.Is(err, ErrNotReviewed) {
		t.Errorf("it is in force: %v", err)
	}
	if _, err := LoadSigned(ctx, d, trust, pkg); !errors.Is(err, ErrNotReviewed) {
		t.Errorf("it loads: %v", err)
	}

	// Mona reviews and signs anew, in the same depot, with terms of her own.
	later := noon.Add(time.Hour)
	s, err := LoadSubmitted(ctx, d, trust, pkg)
	must(t, err)
	must(t, Decide(ctx, d, trust, mona, s, reportOn(t, s), true, "looked again", later))
	if _, err := LoadSigned(ctx, d, trust, pkg); !errors.Is(err, ErrNotSigned) {
		t.Errorf("approved by mona, signed by rita alone: %v", err)
	}
	r, err := LoadReviewed(ctx, d, trust, pkg)
	must(t, err)
	must(t, Sign(ctx, d, mona, r, Terms{Name: "again"}, later))
	again, err := LoadSigned(ctx, d, trust, pkg)
	must(t, err)
	if by := again.SignedBy(); len(by) != 1 || by[0] != "mona" || again.Release.Name != "again" {
		t.Errorf("signed by %v as %q", by, again.Release.Name)
	}
	must(t, AddToTrust(path, again.Release))
	trust = read()
	home.Trust = trust
	if len(trust.Releases) != 2 || trust.Releases[0].Name != "again" || !home.Listed(again) || home.Listed(a) {
		t.Errorf("%d releases are listed, the first as %q", len(trust.Releases), trust.Releases[0].Name)
	}
	must(t, home.Install(ctx, again, later))
	if in, err := home.InForce(ctx, later); err != nil || in.Package().Digest != pkg {
		t.Errorf("signed again, and not in force: %v", err)
	}
	if _, err := home.Rollback(ctx, certificate.Hash{}, later); !errors.Is(err, ErrNotReviewed) {
		t.Errorf("rolled back to what the stolen key alone signed: %v", err)
	}
}

// TestStolenKeyOfSeveral: what enough others signed is not taken from them by
// one stolen key, and what that key rejected or revoked stays so.
func TestStolenKeyOfSeveral(t *testing.T) {
	p, _ := packages(t)
	ctx := t.Context()
	otto := newPerson("otto")
	three := func(threshold int) *certificate.Trust {
		trust := testTrust(threshold)
		trust.Managers = append(trust.Managers, trusted(otto))
		return trust
	}
	d := newDepot(t)
	trust := three(2)
	advance(t, d, trust, p, "signed")
	s, err := LoadSigned(ctx, d, trust, p.Digest)
	must(t, err)
	home := Home{Dir: t.TempDir(), Trust: trust}
	must(t, home.Install(ctx, s, noon))
	trust.Releases = []certificate.Release{s.Release}

	// Of two with one needed, the other is enough, in depot, home and trust file.
	one := three(1)
	one.Managers[0].Revoked, one.Releases = true, trust.Releases
	must(t, one.Check())
	must(t, one.Stands(one.Releases[0]))
	home.Trust = one
	if _, err := home.InForce(ctx, noon); err != nil {
		t.Errorf("one signature counts, one is needed: %v", err)
	}
	left, err := LoadSigned(ctx, d, one, p.Digest)
	must(t, err)
	if by := left.SignedBy(); len(by) != 1 || by[0] != "mona" {
		t.Errorf("signed by %v", by)
	}
	// With two needed, a third signs what the second has signed.
	two := three(2)
	two.Managers[0].Revoked = true
	if _, err := LoadSigned(ctx, d, two, p.Digest); !errors.Is(err, ErrNotReviewed) {
		t.Errorf("one approval counts, two are needed: %v", err)
	}
	sub, err := LoadSubmitted(ctx, d, two, p.Digest)
	must(t, err)
	must(t, Decide(ctx, d, two, otto, sub, reportOn(t, sub), true, "", noon))
	if _, err := LoadSigned(ctx, d, two, p.Digest); !errors.Is(err, ErrNotSigned) {
		t.Errorf("one signature counts, two are needed: %v", err)
	}
	r, err := LoadReviewed(ctx, d, two, p.Digest)
	must(t, err)
	must(t, Sign(ctx, d, otto, r, Terms{}, noon.Add(time.Hour)))
	s, err = LoadSigned(ctx, d, two, p.Digest)
	must(t, err)
	home.Trust = two
	must(t, home.Install(ctx, s, noon.Add(time.Hour)))
	if in, err := home.InForce(ctx, noon.Add(time.Hour)); err != nil || len(in.SignedBy()) != 2 {
		t.Errorf("signed by a third: %v", err)
	}

	// What only takes rights away, counts.
	d = newDepot(t)
	trust = three(1)
	advance(t, d, trust, p, "signed")
	must(t, Revoke(ctx, d.Reviews, trust, mona, p.Digest, "a fault", noon))
	trust.Managers[1].Revoked = true
	if _, err := LoadSigned(ctx, d, trust, p.Digest); !errors.Is(err, ErrRevoked) {
		t.Errorf("revoked by a key that was revoked later: %v", err)
	}
	d = newDepot(t)
	trust = three(1)
	advance(t, d, trust, p, "submitted")
	sub, err = LoadSubmitted(ctx, d, trust, p.Digest)
	must(t, err)
	must(t, Decide(ctx, d, trust, rita, sub, reportOn(t, sub), true, "", noon))
	must(t, Decide(ctx, d, trust, mona, sub, reportOn(t, sub), false, "it is bad", noon))
	trust.Managers[1].Revoked = true
	if _, err := LoadReviewed(ctx, d, trust, p.Digest); !errors.Is(err, ErrNotReviewed) || !strings.Contains(err.Error(), "it is bad") {
		t.Errorf("rejected by a key that was revoked later: %v", err)
	}
}
