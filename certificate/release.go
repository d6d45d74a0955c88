package certificate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// ReleaseType is the predicate type of a release statement.
const ReleaseType = "https://stakeseal.dev/release/v1"

// ReleaseStatement is what release managers sign of a package: that its program
// with its settings may make keys, from when to when, and what that rests on.
// The order of the fields is the order of the JSON. Its subject is the package.
type ReleaseStatement struct {
	Name       string    `json:"name"`
	Network    string    `json:"network"`
	Binaries   []Hash    `json:"binary_sha256"`
	Settings   Hash      `json:"settings_sha256"`
	Commit     string    `json:"commit"`
	Submission Hash      `json:"submission"`          // Digest of the submission
	Reviews    []Hash    `json:"reviews"`             // Digests of the approvals, at least one
	Supersedes Hash      `json:"supersedes,omitzero"` // the package that the reviewers compared with: in force before it; absent: none
	NotBefore  time.Time `json:"not_before"`
	NotAfter   time.Time `json:"not_after,omitzero"` // absent: open
	Time       time.Time `json:"time"`               // when it was signed first
}

// ErrTooFew says, beside ErrUntrusted, that nothing is wrong with a release
// statement but that more release managers have to sign it.
var ErrTooFew = errors.New("too few signatures")

// PackageSubject names the subject of every statement about a package.
const PackageSubject = "package"

var commitRule = regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`)

// IsCommit reports whether text is the whole id of a git commit, of SHA-1 or
// SHA-256.
func IsCommit(text string) bool { return commitRule.MatchString(text) }

func (s ReleaseStatement) check() error {
	if err := CheckText("release name", s.Name, maxText, false); err != nil {
		return err
	}
	if err := CheckText("network", s.Network, maxText, false); err != nil {
		return err
	}
	if len(s.Binaries) == 0 || len(s.Binaries) > maxListed || len(s.Reviews) == 0 || len(s.Reviews) > maxListed {
		return fmt.Errorf("%w: a release has at least one binary and one review", ErrFormat)
	}
	for _, h := range append(append([]Hash{s.Settings, s.Submission}, s.Binaries...), s.Reviews...) {
		if h.IsZero() {
			return fmt.Errorf("%w: a digest of the release is zero", ErrFormat)
		}
	}
	if !IsCommit(s.Commit) {
		return fmt.Errorf("%w: commit %q is no whole commit id", ErrFormat, clip(s.Commit))
	}
	for _, at := range []time.Time{s.NotBefore, s.Time} {
		if err := CheckTime(at); err != nil {
			return err
		}
	}
	if !s.NotAfter.IsZero() {
		if err := CheckTime(s.NotAfter); err != nil {
			return err
		}
		if s.NotAfter.Before(s.NotBefore) {
			return fmt.Errorf("%w: the release ends before it begins", ErrFormat)
		}
	}
	return nil
}

// SignRelease returns a release statement with one signature. Those of further
// managers are of the same statement, and Join puts them together.
func SignRelease(ctx context.Context, signer Signer, pkg Hash, s ReleaseStatement) ([]byte, error) {
	if pkg.IsZero() {
		return nil, fmt.Errorf("couldn't sign release: %w: no package", ErrFormat)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("couldn't sign release: %w", err)
	}
	if s.Supersedes == pkg {
		return nil, fmt.Errorf("couldn't sign release: %w: package %s cannot supersede itself", ErrFormat, pkg)
	}
	return SignStatement(ctx, signer, ReleaseType, PackageSubject, pkg, s)
}

// Unrevoked are the keys of a list that are not revoked.
func Unrevoked(keys []TrustedKey) []TrustedKey {
	return slices.DeleteFunc(slices.Clone(keys), func(k TrustedKey) bool { return k.Revoked })
}

// VerifyRelease judges a release statement: signed by as many release managers
// as the trust file demands, each valid at its time, and for its network. The
// signature of a revoked manager counts as none: the others' are of the same
// statement, and one stolen key of several must not take their releases from
// them. The release it returns is what Releases may hold. The error is of class
// ErrFormat, ErrSignature, ErrMismatch or ErrUntrusted.
func (t *Trust) VerifyRelease(envelope []byte) (Release, ReleaseStatement, error) {
	st, err := VerifyStatement[ReleaseStatement](envelope, ReleaseType, Unrevoked(t.Managers))
	if err != nil {
		// Where it is the revocation that took the last signature, say that.
		if errors.Is(err, ErrSignature) {
			if _, _, why := authenticate(envelope, maxStated, t.Managers); errors.Is(why, ErrUntrusted) {
				err = why
			}
		}
		return Release{}, ReleaseStatement{}, err
	}
	s := st.Predicate
	fail := func(err error) (Release, ReleaseStatement, error) { return Release{}, ReleaseStatement{}, err }
	if err := s.check(); err != nil {
		return fail(err)
	}
	if st.Name != PackageSubject || st.Subject.IsZero() {
		return fail(fmt.Errorf("%w: the statement's subject is no package", ErrMismatch))
	}
	if s.Supersedes == st.Subject {
		return fail(fmt.Errorf("%w: release %q supersedes itself", ErrMismatch, s.Name))
	}
	if s.Network != t.Network.Name {
		return fail(fmt.Errorf("%w: release %q is for network %q, the trust file for %q", ErrMismatch, s.Name, clip(s.Network), t.Network.Name))
	}
	valid := 0
	var why []error
	for _, k := range st.By {
		if err := k.ValidAt(s.Time); err != nil {
			why = append(why, fmt.Errorf("release manager %q: %w", k.Name, err))
			continue
		}
		valid++
	}
	if need := max(1, t.Threshold); valid < need {
		why = append([]error{fmt.Errorf("%w: %w: release %q is signed by %d release managers, %d are needed", ErrUntrusted, ErrTooFew, s.Name, valid, need)}, why...)
		return fail(errors.Join(why...))
	}
	return Release{Name: s.Name, Binaries: s.Binaries, Settings: s.Settings, Validity: Validity{NotBefore: s.NotBefore, NotAfter: s.NotAfter},
		Package: st.Subject, Review: s.Reviews[0], Commit: s.Commit, Statement: bytes.TrimSpace(envelope)}, s, nil
}

// checkStatement holds an entry of the trust file to what its managers signed.
// The entry may say less (a shorter validity, revoked), never more. A revoked
// one needs no signature. One whose signatures were enough until a manager's
// key was revoked may stay in the file, which reads on with all its other
// entries; Stands refuses it wherever it would count.
func (t *Trust) checkStatement(r Release) error {
	if r.Threshold < 0 || r.Threshold > max(1, t.Threshold) || r.Threshold > 0 && len(r.Statement) == 0 {
		return fmt.Errorf("release %q: threshold is %d, and release_threshold %d", r.Name, r.Threshold, t.Threshold)
	}
	if r.Commit != "" && !IsCommit(r.Commit) {
		return fmt.Errorf("release %q: commit %q is no whole commit id", r.Name, clip(r.Commit))
	}
	if text := string(r.Statement); CheckText("statement", text, maxStated, true) != nil || strings.Contains(text, "'") {
		return fmt.Errorf("release %q: its statement is not the one line that release sign writes", r.Name)
	}
	if len(t.Managers) == 0 {
		if len(r.Statement) > 0 {
			return fmt.Errorf("release %q has a statement, and there are no release_managers to have signed it", r.Name)
		}
		return nil
	}
	if r.Revoked {
		return nil
	}
	if len(r.Statement) == 0 {
		return fmt.Errorf("release %q has no statement of the release managers", r.Name)
	}
	signed, _, err := t.asSigned().needing(r).VerifyRelease(r.Statement)
	if err != nil {
		return fmt.Errorf("release %q: statement: %w", r.Name, err)
	}
	if r.Name != signed.Name || r.Settings != signed.Settings || r.Package != signed.Package || r.Review != signed.Review ||
		r.Commit != signed.Commit || !slices.Equal(r.Binaries, signed.Binaries) {
		return fmt.Errorf("release %q is not what its statement says", r.Name)
	}
	if r.NotBefore.Before(signed.NotBefore) || !signed.NotAfter.IsZero() && (r.NotAfter.IsZero() || r.NotAfter.After(signed.NotAfter)) {
		return fmt.Errorf("release %q: its validity is longer than its statement says", r.Name)
	}
	return nil
}

// asSigned is the trust file as it was before any manager's key was revoked.
func (t *Trust) asSigned() *Trust {
	before := *t
	before.Managers = slices.Clone(t.Managers)
	for i := range before.Managers {
		before.Managers[i].Revoked = false
	}
	return &before
}

// needing is the trust file as it judges a listed release: one that was signed
// before release_threshold was raised says how many it needed then. That counts
// for what it made; to be deployed, or to make keys, a release needs as many as
// any other.
func (t *Trust) needing(r Release) *Trust {
	if r.Threshold == 0 {
		return t
	}
	then := *t
	then.Threshold = r.Threshold
	return &then
}

// StatementOf is what the release managers signed of a listed release, whether
// it still stands or not; known is false where there is no statement, or none
// that ever verified (a revoked entry needs none).
func (t *Trust) StatementOf(r Release) (st ReleaseStatement, known bool) {
	if len(r.Statement) == 0 || len(t.Managers) == 0 {
		return st, false
	}
	signed, st, err := t.asSigned().needing(r).VerifyRelease(r.Statement)
	return st, err == nil && signed.Package == r.Package
}

// SignedBy names the release managers, with keys that are not revoked, who
// signed a listed release.
func (t *Trust) SignedBy(r Release) (names []string) {
	st, err := VerifyStatement[ReleaseStatement](r.Statement, ReleaseType, Unrevoked(t.Managers))
	if err != nil {
		return nil
	}
	for _, k := range st.By {
		names = append(names, k.Name)
	}
	return names
}

// Stands refuses (ErrUntrusted) a release that too few release managers have
// signed whose keys are not revoked. Check has seen to all else.
func (t *Trust) Stands(r Release) error {
	if len(Unrevoked(t.Managers)) == len(t.Managers) {
		return nil
	}
	if _, _, err := t.needing(r).VerifyRelease(r.Statement); err != nil {
		return fmt.Errorf("%w: release %q stands no more, and has to be signed again: %w", ErrUntrusted, r.Name, err)
	}
	return nil
}
