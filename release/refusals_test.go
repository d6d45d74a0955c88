package release

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/record"
)

// TestRevokeKnowsThePackage: a digest that names nothing revokes nothing, and
// one of the program or the settings is answered with the package's.
func TestRevokeKnowsThePackage(t *testing.T) {
	p, q := packages(t)
	ctx, trust, d := t.Context(), testTrust(1), newDepot(t)
	advance(t, d, trust, p, "signed")
	s, err := LoadSigned(ctx, d, trust, p.Digest)
	must(t, err)
	home := Home{Dir: t.TempDir(), Trust: trust} // without releases/
	places := []Store{home.Statements(), d.Submissions}
	must(t, Known(ctx, trust, p.Digest, places...))
	if err := Known(ctx, trust, q.Digest, places...); !errors.Is(err, record.ErrNotFound) {
		t.Errorf("a package of nowhere: %v", err)
	}
	if err := Known(ctx, trust, p.Digest, home.Statements()); !errors.Is(err, record.ErrNotFound) {
		t.Errorf("not in the home: %v", err)
	}
	must(t, home.Install(ctx, s, noon))
	must(t, Known(ctx, trust, p.Digest, home.Statements()))
	trust.Releases = []certificate.Release{s.Release}
	must(t, Known(ctx, trust, p.Digest))
	for what, digest := range map[string]certificate.Hash{"program": p.Binary, "settings": p.Provenance.Settings} {
		if err := Known(ctx, trust, digest, places...); !errors.Is(err, record.ErrNotFound) || !strings.Contains(err.Error(), p.Digest.String()) {
			t.Errorf("the %s: %v", what, err)
		}
	}
}

// TestSignRefuses: what is revoked, and a name that the trust file has given.
func TestSignRefuses(t *testing.T) {
	p, q := packages(t)
	ctx, trust, d := t.Context(), testTrust(1), newDepot(t)
	advance(t, d, trust, q, "signed")
	other, err := LoadSigned(ctx, d, trust, q.Digest)
	must(t, err)
	advance(t, d, trust, p, "approved")
	trust.Releases = []certificate.Release{other.Release}
	r, err := LoadReviewed(ctx, d, trust, p.Digest)
	must(t, err)
	if err := Sign(ctx, d, rita, r, Terms{Name: other.Release.Name}, noon); !errors.Is(err, record.ErrExists) {
		t.Errorf("signed under another release's name: %v", err)
	}
	must(t, Revoke(ctx, d.Reviews, trust, mona, p.Digest, "a fault", noon))
	if err := Sign(ctx, d, rita, r, Terms{Name: "v1"}, noon); !errors.Is(err, ErrRevoked) {
		t.Errorf("signed what is revoked: %v", err)
	}
	if _, err := d.Reviews.Get(ctx, name(p.Digest, "release-"+rita.public().ID()+".json")); !errors.Is(err, record.ErrNotFound) {
		t.Errorf("a signature is left: %v", err)
	}
}

// TestTooFewIsNotWrong: that signatures are missing is told apart from all that
// may be wrong with those that are there, and the next signer sees the terms.
func TestTooFewIsNotWrong(t *testing.T) {
	p, _ := packages(t)
	ctx, trust, d := t.Context(), testTrust(2), newDepot(t)
	advance(t, d, trust, p, "approved")
	r, err := LoadReviewed(ctx, d, trust, p.Digest)
	must(t, err)
	if _, found, err := SignedSoFar(ctx, d, mona, r); err != nil || found {
		t.Errorf("signed by nobody: %t, %v", found, err)
	}
	must(t, Sign(ctx, d, rita, r, Terms{Name: "v1", NotAfter: noon.Add(time.Hour)}, noon))
	if st, found, err := SignedSoFar(ctx, d, mona, r); err != nil || !found || st.Name != "v1" || !st.NotAfter.Equal(noon.Add(time.Hour)) {
		t.Errorf("signed by rita: %+v, %t, %v", st, found, err)
	}
	if _, found, err := SignedSoFar(ctx, d, rita, r); err != nil || found {
		t.Errorf("rita's own: %t, %v", found, err)
	}
	if _, err := LoadSigned(ctx, d, trust, p.Digest); !errors.Is(err, certificate.ErrTooFew) || !errors.Is(err, ErrNotSigned) {
		t.Errorf("one of two: %v", err)
	}
	must(t, Revoke(ctx, d.Reviews, trust, mona, p.Digest, "a fault", noon))
	if _, err := LoadSigned(ctx, d, trust, p.Digest); errors.Is(err, certificate.ErrTooFew) || !errors.Is(err, ErrRevoked) {
		t.Errorf("one of two, and revoked: %v", err)
	}
}

// TestRollbackToWhatMayRun: deployed over a revoked release, the one before that
// is what a rollback brings back, and is not removed.
func TestRollbackToWhatMayRun(t *testing.T) {
	ctx, trust, d := t.Context(), testTrust(1), newDepot(t)
	a, b := both(t, d, trust)
	home := Home{Dir: t.TempDir(), Trust: trust}
	must(t, home.Install(ctx, a, noon))
	must(t, home.Install(ctx, b, noon))
	at, err := home.pointer()
	must(t, err)
	next := certificate.Hash{1} // of a third
	if got := home.goodBefore(ctx, at, next, noon); got != b.Package().Digest {
		t.Errorf("before the third: %s", got)
	}
	must(t, Revoke(ctx, home.Statements(), trust, rita, b.Package().Digest, "a fault", noon))
	if got := home.goodBefore(ctx, at, next, noon); got != a.Package().Digest {
		t.Errorf("before the third, with the second revoked: %s", got)
	}
	if got := home.goodBefore(ctx, at, a.Package().Digest, noon); !got.IsZero() {
		t.Errorf("before the first again, a revoked one: %s", got)
	}
	// Rolled back from a revoked release, which then is not kept to go to; its
	// revocation is, and refuses it when it comes again.
	in, err := home.Rollback(ctx, certificate.Hash{}, noon)
	must(t, err)
	if in.Package().Digest != a.Package().Digest || !in.Previous.IsZero() || in.RolledBack != b.Package().Digest {
		t.Errorf("after the rollback: %s in force, %s before it, rolled back from %s", in.Package().Digest, in.Previous, in.RolledBack)
	}
	left, err := os.ReadDir(home.folder(b.Package().Digest))
	must(t, err)
	if len(left) != 1 || !strings.HasPrefix(left[0].Name(), "revocation-") {
		t.Errorf("of the revoked release is left: %v", left)
	}
	if err := home.Install(ctx, b, noon); !errors.Is(err, ErrRevoked) {
		t.Errorf("a revoked release comes again: %v", err)
	}
	if _, err := home.Rollback(ctx, certificate.Hash{}, noon); !errors.Is(err, ErrNoRelease) {
		t.Errorf("rolled back to a revoked release: %v", err)
	}
}

// TestRollbackToAnother: what a rollback is asked for and is not before the
// release in force changes nothing, also where that may run no more.
func TestRollbackToAnother(t *testing.T) {
	ctx, trust, d := t.Context(), testTrust(1), newDepot(t)
	a, b := both(t, d, trust)
	home := Home{Dir: t.TempDir(), Trust: trust}
	must(t, home.Install(ctx, a, noon))
	must(t, home.Install(ctx, b, noon))
	must(t, Revoke(ctx, home.Statements(), trust, rita, b.Package().Digest, "a fault", noon))
	was, err := home.pointer()
	must(t, err)
	for _, goal := range []certificate.Hash{{1}, b.Package().Digest} {
		if _, err := home.Rollback(ctx, goal, noon); !errors.Is(err, ErrNotBefore) {
			t.Errorf("rolled back to %s: %v", goal, err)
		}
		if at, err := home.pointer(); err != nil || at != was {
			t.Errorf("the pointer moved to %s: %v", at.Package, err)
		}
	}
	in, err := home.Rollback(ctx, a.Package().Digest, noon)
	must(t, err)
	if in.Package().Digest != a.Package().Digest {
		t.Errorf("in force is %s", in.Package().Digest)
	}
}

// TestOneAtATime: while one process puts a release in force, another does not.
func TestOneAtATime(t *testing.T) {
	ctx, trust, d := t.Context(), testTrust(1), newDepot(t)
	a, b := both(t, d, trust)
	home := Home{Dir: t.TempDir(), Trust: trust}
	must(t, home.Install(ctx, a, noon))
	must(t, home.Install(ctx, b, noon))
	was, err := home.pointer()
	must(t, err)
	unlock, err := home.lock()
	must(t, err)
	home.OutOfOrder = true
	if err := home.Install(ctx, a, noon); !errors.Is(err, ErrBusy) {
		t.Errorf("deployed beside another: %v", err)
	}
	if _, err := home.Rollback(ctx, certificate.Hash{}, noon); !errors.Is(err, ErrBusy) {
		t.Errorf("rolled back beside another: %v", err)
	}
	if at, err := home.pointer(); err != nil || at != was {
		t.Errorf("the pointer moved to %s: %v", at.Package, err)
	}
	unlock()
	must(t, home.Install(ctx, a, noon))
}

// TestFits: what Install would refuse whatever is in force is refused before.
func TestFits(t *testing.T) {
	ctx, trust, d := t.Context(), testTrust(1), newDepot(t)
	a, _ := both(t, d, trust)
	home := Home{Dir: t.TempDir(), Trust: trust}
	must(t, home.Fits(ctx, a, noon))
	if err := home.Fits(ctx, a, noon.AddDate(-1, 0, 0)); !errors.Is(err, certificate.ErrUntrusted) {
		t.Errorf("before its time: %v", err)
	}
	if err := home.Fits(ctx, &Signed{}, noon); !errors.Is(err, ErrNotSigned) {
		t.Errorf("nothing signed: %v", err)
	}
	must(t, os.Mkdir(filepath.Join(home.Dir, ReleasesFolder), 0o700))
	must(t, Revoke(ctx, home.Statements(), trust, rita, a.Package().Digest, "a fault", noon))
	if err := home.Fits(ctx, a, noon); !errors.Is(err, ErrRevoked) {
		t.Errorf("revoked: %v", err)
	}
}
