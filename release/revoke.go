package release

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/record"
)

// RevocationType is the predicate type of a revocation.
const RevocationType = "https://stakeseal.dev/release-revocation/v1"

// Revocation is what one release manager signs to stop a package: one is
// enough, since it takes rights away and gives none.
type Revocation struct {
	Reason string    `json:"reason"`
	Time   time.Time `json:"time"`
}

// Revoke signs a revocation and puts it where the package's other statements
// lie. From then on LoadSigned refuses the package there.
func Revoke(ctx context.Context, at Store, trust *certificate.Trust, signer certificate.Signer, pkg certificate.Hash, reason string, now time.Time) error {
	if err := certificate.CheckText("reason", reason, maxWords, false); err != nil {
		return fmt.Errorf("couldn't revoke: %w", err)
	}
	now = now.UTC().Truncate(time.Second)
	by, err := mayAct(trust, signer, trust.Managers, manager, now)
	if err != nil {
		return fmt.Errorf("couldn't revoke: %w", err)
	}
	if errors.Is(revoked(ctx, at, trust, pkg), ErrRevoked) {
		return nil // it is already
	}
	envelope, err := certificate.SignStatement(ctx, signer, RevocationType, certificate.PackageSubject, pkg, Revocation{reason, now})
	if err != nil {
		return fmt.Errorf("couldn't revoke: %w", err)
	}
	if err := put(ctx, at, name(pkg, "revocation-"+by.Key.ID()+".json"), envelope); err != nil {
		return fmt.Errorf("couldn't revoke: %w", err)
	}
	return nil
}

// Known refuses to revoke a digest that names no package of the trust file or of
// one of the places, which hold packages: a typing error would leave the bad
// release in force, and its manager at ease. A digest of a program or of settings
// is answered with the package that it is of.
func Known(ctx context.Context, trust *certificate.Trust, pkg certificate.Hash, places ...Store) error {
	for _, r := range trust.Releases {
		if r.Package == pkg {
			return nil
		}
	}
	for _, place := range places {
		_, err := place.Get(ctx, name(pkg, "package.zip"))
		if err == nil {
			return nil
		}
		if !errors.Is(err, record.ErrNotFound) && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, r := range trust.Releases {
		if r.Settings == pkg || slices.Contains(r.Binaries, pkg) {
			return fmt.Errorf("couldn't revoke: %w: %s is the digest of the program or settings of release %q, whose package is %s", record.ErrNotFound, pkg, r.Name, r.Package)
		}
	}
	return fmt.Errorf("couldn't revoke: %w: no package %s is in the depot, the home or the trust file", record.ErrNotFound, pkg)
}

// revoked is ErrRevoked when a release manager has revoked the package. What
// lies in a revocation's place and does not verify refuses the package too:
// somebody who may write there has tampered with it. That of a manager whose own
// key was revoked since counts.
func revoked(ctx context.Context, at Store, trust *certificate.Trust, pkg certificate.Hash) error {
	for _, k := range trust.Managers {
		envelope, err := at.Get(ctx, name(pkg, "revocation-"+k.Key.ID()+".json"))
		if errors.Is(err, record.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		st, err := certificate.VerifyStatement[Revocation](envelope, RevocationType, []certificate.TrustedKey{ever(k)})
		if err != nil || st.Subject != pkg || st.Name != certificate.PackageSubject {
			return fmt.Errorf("%w: what should be a revocation by %q does not verify", ErrMixed, k.Name)
		}
		return fmt.Errorf("%w by %q: %s", ErrRevoked, k.Name, clip(st.Predicate.Reason))
	}
	return nil
}
