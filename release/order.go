package release

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/record"
)

// ErrOrder says that a release does not follow the one in force: it is an older
// one, or was reviewed against another.
var ErrOrder = errors.New("the release does not follow the one in force")

// sameBase is the package that enough of the approvals compared with, and these
// approvals. A release supersedes exactly that package: what changed since
// another one, nobody was shown.
func (r *Reviewed) sameBase() (base certificate.Hash, reviews []certificate.Hash, err error) {
	need, found := max(1, r.trust.Threshold), false
	var latest Approval
	var said []string
	for _, a := range r.Approvals {
		var same []certificate.Hash
		for _, b := range r.Approvals {
			if b.Base == a.Base {
				same = append(same, b.Digest)
			}
		}
		said = append(said, fmt.Sprintf("%q with %s", a.By.Name, orNothing(a.Base)))
		if len(same) >= need && (!found || a.Time.After(latest.Time)) {
			base, reviews, found, latest = a.Base, same, true, a
		}
	}
	if !found {
		return base, nil, fmt.Errorf("%w: its reviewers compared it with different releases (%s), and %d must agree: build it from a new commit and review it against one", ErrNotReviewed, strings.Join(said, ", "), need)
	}
	return base, reviews, nil
}

func orNothing(pkg certificate.Hash) string {
	if pkg.IsZero() {
		return "nothing"
	}
	return "package " + pkg.String()
}

// chain says which package each listed release of a trust file supersedes. The
// releases that were ever deployed to a home are listed in its trust file, so
// that this is its memory: it outlives a lost home.
type chain map[certificate.Hash]certificate.Hash

func chainOf(trust *certificate.Trust) chain {
	c := chain{}
	for _, r := range trust.Releases {
		if st, known := trust.StatementOf(r); known {
			c[r.Package] = st.Supersedes
		}
	}
	return c
}

// reaches reports whether a release follows another: supersedes it, or one that
// does. Nobody can sign a circle, since each names the digest of what was there
// before; the count ends one all the same.
func (c chain) reaches(from, to certificate.Hash) bool {
	for range len(c) + 1 {
		if from.IsZero() {
			return false
		}
		if from == to {
			return true
		}
		from = c[from]
	}
	return false
}

// SupersededBy names the listed releases that follow a package: where one in
// force has any, it was rolled back to, or put there out of order.
func SupersededBy(trust *certificate.Trust, pkg certificate.Hash) (names []string) {
	c := chainOf(trust)
	for _, r := range trust.Releases {
		if r.Package != pkg && c.reaches(c[r.Package], pkg) {
			names = append(names, r.Name)
		}
	}
	return names
}

// MayFollow refuses (ErrOrder) a release that does not follow the package in
// force (zero: none is): one that was superseded, whose statement somebody kept;
// one of two that were reviewed against the same release, once the other is in
// force, since its review showed nothing of that; and one that follows a package
// which this trust file does not know, since its review compared it with another
// installation. To go back there is a rollback.
func MayFollow(trust *certificate.Trust, s *Signed, inForce certificate.Hash) error {
	pkg, supersedes := s.Release.Package, s.Statement.Supersedes
	c := chainOf(trust)
	switch {
	case pkg == inForce:
		return nil
	case !inForce.IsZero() && c.reaches(supersedes, inForce):
		return nil
	}
	if later := SupersededBy(trust, pkg); len(later) > 0 {
		return fmt.Errorf("%w: %q was superseded by %q", ErrOrder, s.Release.Name, later[0])
	}
	if !inForce.IsZero() {
		return fmt.Errorf("%w: %q was reviewed as what follows %s, and package %s is in force", ErrOrder, s.Release.Name, orNothing(supersedes), inForce)
	}
	if !supersedes.IsZero() && !slices.ContainsFunc(trust.Releases, func(r certificate.Release) bool { return r.Package == supersedes }) {
		return fmt.Errorf("%w: %q was reviewed as what follows package %s, which the trust file does not list: it may be another installation's", ErrOrder, s.Release.Name, supersedes)
	}
	return nil
}

// Standing is the package that a target names as in force, or zero where no
// release managers ever signed it: anybody who may write there can write a name
// (a pointer, a version's description), and what nobody released keeps no release
// out and is nothing to follow. One that was revoked, or whose people's keys
// were, stands: the next release follows it.
func Standing(ctx context.Context, depot Depot, trust *certificate.Trust, pkg certificate.Hash) (certificate.Hash, error) {
	if pkg.IsZero() || slices.ContainsFunc(trust.Releases, func(r certificate.Release) bool { return r.Package == pkg }) {
		return pkg, nil
	}
	_, err := LoadSigned(ctx, depot, trust, pkg)
	switch {
	case err == nil || errors.Is(err, ErrRevoked) || errors.Is(err, certificate.ErrUntrusted):
		return pkg, nil
	case Unfit(err):
		return certificate.Hash{}, nil
	}
	return certificate.Hash{}, err
}

// Unfit reports whether an error is a judgment about a package, its statements
// or what is deployed, and not a store that could not be read: only the first
// says that a release may not run.
func Unfit(err error) bool {
	return slices.ContainsFunc([]error{ErrPackage, ErrMixed, ErrNotReviewed, ErrNotSigned, ErrRevoked, ErrPlatform, record.ErrNotFound,
		certificate.ErrFormat, certificate.ErrSignature, certificate.ErrMismatch, certificate.ErrUntrusted}, func(class error) bool { return errors.Is(err, class) })
}
