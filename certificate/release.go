package certificate

import (
	"bytes"
	"context"
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
	Submission Hash      `json:"submission"` // Digest of the submission
	Reviews    []Hash    `json:"reviews"`    // Digests of the approvals, at least one
	NotBefore  time.Time `json:"not_before"`
	NotAfter   time.Time `json:"not_after,omitzero"` // absent: open
	Time       time.Time `json:"time"`               // when it was signed first
}

// packageSubject names the subject of every statement about a package.
const packageSubject = "package"

var commitID = regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`)

func (s ReleaseStatement) check() error {
	if err := plain("release name", s.Name, maxText, false); err != nil {
		return err
	}
	if err := plain("network", s.Network, maxText, false); err != nil {
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
	if !commitID.MatchString(s.Commit) {
		return fmt.Errorf("%w: commit %q is no whole commit id", ErrFormat, clip(s.Commit))
	}
	for _, at := range []time.Time{s.NotBefore, s.Time} {
		if err := checkTime(at); err != nil {
			return err
		}
	}
	if !s.NotAfter.IsZero() {
		if err := checkTime(s.NotAfter); err != nil {
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
	return SignStatement(ctx, signer, ReleaseType, packageSubject, pkg, s)
}

// VerifyRelease judges a release statement: signed by as many release managers
// as the trust file demands, each valid at its time, and for its network. The
// release it returns is what Releases may hold. The error is of class
// ErrFormat, ErrSignature, ErrMismatch or ErrUntrusted.
func (t *Trust) VerifyRelease(envelope []byte) (Release, ReleaseStatement, error) {
	st, err := VerifyStatement[ReleaseStatement](envelope, ReleaseType, t.Managers)
	if err != nil {
		return Release{}, ReleaseStatement{}, err
	}
	s := st.Predicate
	fail := func(err error) (Release, ReleaseStatement, error) { return Release{}, ReleaseStatement{}, err }
	if err := s.check(); err != nil {
		return fail(err)
	}
	if st.Name != packageSubject || st.Subject.IsZero() {
		return fail(fmt.Errorf("%w: the statement's subject is no package", ErrMismatch))
	}
	if s.Network != t.Network.Name {
		return fail(fmt.Errorf("%w: release %q is for network %q, the trust file for %q", ErrMismatch, s.Name, clip(s.Network), t.Network.Name))
	}
	valid := 0
	for _, k := range st.By {
		if err := k.ValidAt(s.Time); err != nil {
			return fail(fmt.Errorf("release manager %q: %w", k.Name, err))
		}
		valid++
	}
	if need := max(1, t.Threshold); valid < need {
		return fail(fmt.Errorf("%w: release %q is signed by %d release managers, %d are needed", ErrUntrusted, s.Name, valid, need))
	}
	return Release{Name: s.Name, Binaries: s.Binaries, Settings: s.Settings, Validity: Validity{NotBefore: s.NotBefore, NotAfter: s.NotAfter},
		Package: st.Subject, Review: s.Reviews[0], Commit: s.Commit, Statement: bytes.TrimSpace(envelope)}, s, nil
}

// checkStatement holds an entry of the trust file to what its managers signed.
// The entry may say less (a shorter validity, revoked), never more. A revoked
// one needs no signature: that of a manager whose key is revoked itself could
// not be had any more.
func (t *Trust) checkStatement(r Release) error {
	if r.Commit != "" && !commitID.MatchString(r.Commit) {
		return fmt.Errorf("release %q: commit %q is no whole commit id", r.Name, clip(r.Commit))
	}
	if text := string(r.Statement); plain("statement", text, maxStated, true) != nil || strings.Contains(text, "'") {
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
	signed, _, err := t.VerifyRelease(r.Statement)
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
