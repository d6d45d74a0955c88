package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/record"
)

// The predicate types of what people sign about a package.
const (
	SubmissionType = "https://stakeseal.dev/release-submission/v1"
	ReviewType     = "https://stakeseal.dev/release-review/v1"
)

const maxWords = 2000 // of a description or comment, bytes

// The classes of refusal of the steps; compare with errors.Is.
var (
	// ErrRole: the key is not of somebody who may do this step.
	ErrRole = errors.New("not that person's step")
	// ErrNotReviewed: not approved as the trust file demands, or rejected.
	ErrNotReviewed = errors.New("not approved")
	// ErrNotSigned: no release statement with enough signatures.
	ErrNotSigned = errors.New("not signed")
	// ErrMixed: a statement about this package that speaks of another, or a
	// package that is not what its name says.
	ErrMixed = errors.New("the parts of the release do not belong together")
)

// Review is the predicate of what a release manager signs after reviewing: a
// decision about exactly these digests.
type Review struct {
	Decision   string           `json:"decision"`      // approved or rejected
	Submission certificate.Hash `json:"submission"`    // Digest of the submission
	Report     certificate.Hash `json:"report_sha256"` // of the report that was read
	Base       certificate.Hash `json:"base,omitzero"` // the package that the report compares with; absent: none
	Rebuilt    string           `json:"rebuilt"`       // the report's verdict: equal, contents, different, not rebuilt
	Commit     string           `json:"commit"`
	Binary     certificate.Hash `json:"binary_sha256"`
	Settings   certificate.Hash `json:"settings_sha256"`
	Comment    string           `json:"comment,omitempty"`
	Time       time.Time        `json:"time"`
}

// Approval is a review by a release manager, verified.
type Approval struct {
	Review
	Digest certificate.Hash
	By     certificate.TrustedKey

	envelope []byte
}

// Reviewed is a submitted package that as many release managers approved as
// the trust file demands, and none rejected. Only LoadReviewed makes one; the
// zero value is refused by everything that takes it.
type Reviewed struct {
	Submitted *Submitted
	Approvals []Approval

	passed []Approval // by managers whose keys were revoked: they count for nothing
	trust  *certificate.Trust
}

// Signed is a reviewed package with a release statement that enough release
// managers signed. Only LoadSigned makes one; the zero value is refused by
// everything that takes it.
type Signed struct {
	Reviewed  *Reviewed
	Release   certificate.Release
	Statement certificate.ReleaseStatement

	envelope []byte
}

// Package returns the package, nil of a zero value.
func (s *Signed) Package() *Package {
	if s == nil || s.Reviewed == nil || s.Reviewed.Submitted == nil {
		return nil
	}
	return s.Reviewed.Submitted.Package
}

// SignedBy names the release managers who signed.
func (s *Signed) SignedBy() []string {
	if s.Package() == nil {
		return nil
	}
	var names []string
	for _, k := range signers(s.envelope, s.Reviewed.trust.Managers) {
		names = append(names, k.Name)
	}
	return names
}

// signers are the managers with keys that are not revoked who signed a release
// statement; none when it does not verify.
func signers(envelope []byte, managers []certificate.TrustedKey) []certificate.TrustedKey {
	st, err := certificate.VerifyStatement[certificate.ReleaseStatement](envelope, certificate.ReleaseType, certificate.Unrevoked(managers))
	if err != nil {
		return nil
	}
	return st.By
}

// mayAct finds the key among the people of one role, and refuses everybody
// else with the role they have.
func mayAct(trust *certificate.Trust, signer certificate.Signer, people []certificate.TrustedKey, role string, at time.Time) (certificate.TrustedKey, error) {
	id, err := signer.KeyID()
	if err != nil {
		return certificate.TrustedKey{}, err
	}
	for _, k := range people {
		if k.Key.ID() == id {
			if err := k.ValidAt(at); err != nil {
				return k, fmt.Errorf("%w: %s %q: %w", ErrRole, role, k.Name, err)
			}
			return k, nil
		}
	}
	for _, list := range []struct {
		role string
		keys []certificate.TrustedKey
	}{{"a developer", trust.Developers}, {"a release manager", trust.Managers}, {"a certifying key", trust.Keys}, {"an approver", trust.Approvers}} {
		for _, k := range list.keys {
			if k.Key.ID() == id {
				return k, fmt.Errorf("%w: this is the step of %s, and the key is %q, %s", ErrRole, role, k.Name, list.role)
			}
		}
	}
	return certificate.TrustedKey{}, fmt.Errorf("%w: this is the step of %s, and the trust file does not know key %s", ErrRole, role, id)
}

const (
	developer = "developer"
	manager   = "release manager"
)

// Decide signs a release manager's decision about a submitted package, on the
// report that was read. Only a package whose rebuild gave the same content can
// be approved.
func Decide(ctx context.Context, depot Depot, trust *certificate.Trust, signer certificate.Signer, s *Submitted, report []byte, approve bool, comment string, now time.Time) error {
	if s == nil || s.Package == nil || s.envelope == nil {
		return fmt.Errorf("couldn't review: %w: no submission was loaded", ErrNotReviewed)
	}
	r, err := ParseReport(report)
	if err != nil {
		return fmt.Errorf("couldn't review: %w", err)
	}
	s = s.chosen(r.Submission) // the one that was reviewed, whatever came since
	if r.Package != s.Package.Digest || r.Submission != s.Digest || r.Commit != s.Submission.Commit ||
		r.Binary != s.Submission.Binary || r.SettingsDigest != s.Submission.Settings {
		return fmt.Errorf("couldn't review: %w: the report is of another package", ErrMixed)
	}
	if approve && !r.Rebuild.Same() {
		return fmt.Errorf("couldn't approve: %w: the rebuild says %q, and only what was rebuilt to the same content can be approved", ErrNotReviewed, r.Rebuild.Verdict)
	}
	if err := certificate.CheckText("comment", comment, maxWords, true); err != nil {
		return fmt.Errorf("couldn't review: %w", err)
	}
	now = now.UTC().Truncate(time.Second)
	by, err := mayAct(trust, signer, trust.Managers, manager, now)
	if err != nil {
		return fmt.Errorf("couldn't review: %w", err)
	}
	decision := "rejected"
	if approve {
		decision = "approved"
	}
	// Again, after a kill, or another decision of the same person.
	if there, err := loadApproval(ctx, depot, s, by); err == nil {
		if there.Decision != decision {
			return fmt.Errorf("couldn't review: %w: %q has %s it already", record.ErrExists, by.Name, there.Decision)
		}
		return nil
	} else if !errors.Is(err, record.ErrNotFound) {
		return err
	}
	sum := Digest(report)
	base := certificate.Hash{}
	if r.Base != nil {
		base = r.Base.Package
	}
	if base == s.Package.Digest {
		return fmt.Errorf("couldn't review: %w: the report compares the package with itself, so that it shows no change", ErrNotReviewed)
	}
	envelope, err := certificate.SignStatement(ctx, signer, ReviewType, certificate.PackageSubject, s.Package.Digest, Review{
		Decision: decision, Submission: s.Digest, Report: sum, Base: base, Rebuilt: r.Rebuild.Verdict, Commit: s.Submission.Commit,
		Binary: s.Submission.Binary, Settings: s.Submission.Settings, Comment: comment, Time: now})
	if err != nil {
		return fmt.Errorf("couldn't review: %w", err)
	}
	if err := put(ctx, depot.Reviews, name(s.Package.Digest, "report-"+sum.String()+".json"), report); err != nil {
		return fmt.Errorf("couldn't review: %w", err)
	}
	if err := put(ctx, depot.Reviews, name(s.Package.Digest, "review-"+by.Key.ID()+".json"), envelope); err != nil {
		return fmt.Errorf("couldn't review: %w", err)
	}
	return nil
}

// loadApproval reads one manager's review of a submission.
func loadApproval(ctx context.Context, depot Depot, s *Submitted, by certificate.TrustedKey) (a Approval, err error) {
	envelope, err := depot.Reviews.Get(ctx, name(s.Package.Digest, "review-"+by.Key.ID()+".json"))
	if err != nil {
		return a, err
	}
	st, err := certificate.VerifyStatement[Review](envelope, ReviewType, []certificate.TrustedKey{by})
	if err != nil {
		return a, fmt.Errorf("the review by %q: %w", by.Name, err)
	}
	r := st.Predicate
	if st.Name != certificate.PackageSubject || st.Subject != s.Package.Digest || !s.offered(r.Submission) || r.Base == s.Package.Digest || r.Commit != s.Submission.Commit ||
		r.Binary != s.Submission.Binary || r.Settings != s.Submission.Settings || r.Report.IsZero() {
		return a, fmt.Errorf("%w: the review by %q speaks of another package", ErrMixed, by.Name)
	}
	if r.Decision != "approved" && r.Decision != "rejected" || r.Decision == "approved" && !sameVerdict(r.Rebuilt) {
		return a, fmt.Errorf("%w: the review by %q says %q of a rebuild that is %q", ErrMixed, by.Name, clip(r.Decision), clip(r.Rebuilt))
	}
	if err := errors.Join(certificate.CheckText("comment", r.Comment, maxWords, true), certificate.CheckTime(r.Time)); err != nil {
		return a, fmt.Errorf("the review by %q: %w", by.Name, err)
	}
	if err := by.ValidAt(r.Time); err != nil {
		return a, fmt.Errorf("the review by %q: %w", by.Name, err)
	}
	return Approval{r, st.Digest, by, envelope}, nil
}

// LoadReviewed reads a package with its submission and reviews and verifies
// all of them: approved by as many release managers as the trust file demands
// (at least one), none of them its submitter, and rejected by none. The
// approval of a manager whose key is revoked counts for nothing; a rejection
// does, since it gives no rights.
func LoadReviewed(ctx context.Context, depot Depot, trust *certificate.Trust, digest certificate.Hash) (*Reviewed, error) {
	s, err := LoadSubmitted(ctx, depot, trust, digest)
	if err != nil {
		return nil, err
	}
	r := &Reviewed{Submitted: s, trust: trust}
	for _, k := range trust.Managers {
		if s.by(k.Key) {
			continue // the trust file's own check forbids it too
		}
		a, err := loadApproval(ctx, depot, s, ever(k))
		if errors.Is(err, record.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if a.Decision != "approved" {
			return nil, fmt.Errorf("%w: %q rejected package %s: %s", ErrNotReviewed, k.Name, digest, a.Comment)
		}
		if k.Revoked {
			r.passed = append(r.passed, a)
			continue
		}
		r.Approvals = append(r.Approvals, a)
	}
	if need := max(1, trust.Threshold); len(r.Approvals) < need {
		return nil, fmt.Errorf("%w: package %s is approved by %d release managers, %d are needed", ErrNotReviewed, digest, len(r.Approvals), need)
	}
	return r, nil
}

// ever is a key without its revocation and the validity that went with it: for
// what only takes rights away, and to know whose a statement was.
func ever(k certificate.TrustedKey) certificate.TrustedKey {
	if k.Revoked {
		k.Validity = certificate.Validity{}
	}
	return k
}

// Terms are what a release manager adds to a reviewed package.
type Terms struct {
	Name      string
	NotBefore time.Time // zero: now
	NotAfter  time.Time // zero: open
}

// Sign signs the release statement of a reviewed package, with one release
// manager's key. The second manager signs what the first has signed: Terms
// that differ from it are refused.
func Sign(ctx context.Context, depot Depot, signer certificate.Signer, r *Reviewed, terms Terms, now time.Time) error {
	if r == nil || r.Submitted == nil || r.trust == nil || len(r.Approvals) == 0 {
		return fmt.Errorf("couldn't sign: %w: no reviewed package was loaded", ErrNotReviewed)
	}
	now = now.UTC().Truncate(time.Second)
	by, err := mayAct(r.trust, signer, r.trust.Managers, manager, now)
	if err != nil {
		return fmt.Errorf("couldn't sign: %w", err)
	}
	if r.Submitted.by(by.Key) {
		return fmt.Errorf("couldn't sign: %w: %q submitted it", ErrRole, by.Name)
	}
	p := r.Submitted.Package
	st := certificate.ReleaseStatement{Name: terms.Name, Network: p.Settings.Network.Name, Binaries: []certificate.Hash{p.Binary},
		Settings: p.Provenance.Settings, Commit: p.Provenance.Commit,
		NotBefore: terms.NotBefore.UTC().Truncate(time.Second), NotAfter: terms.NotAfter.UTC().Truncate(time.Second), Time: now}
	if terms.NotBefore.IsZero() {
		st.NotBefore = now
	}
	if terms.NotAfter.IsZero() {
		st.NotAfter = time.Time{}
	}
	if st.Supersedes, st.Reviews, err = r.sameBase(); err != nil {
		return fmt.Errorf("couldn't sign: %w", err)
	}
	st.Submission = r.Submitted.Digest
	for _, a := range r.Approvals {
		if a.Digest == st.Reviews[0] {
			st.Submission = r.Submitted.chosen(a.Submission).Digest
		}
	}
	if err := revoked(ctx, depot.Reviews, r.trust, p.Digest); err != nil {
		return fmt.Errorf("couldn't sign: %w", err)
	}
	first, found, mine, err := someSignature(ctx, depot, r, by.Key.ID())
	if err != nil {
		return err
	}
	if found {
		if terms.Name != "" && terms.Name != first.Name || !terms.NotBefore.IsZero() && !st.NotBefore.Equal(first.NotBefore) ||
			!terms.NotAfter.IsZero() && !st.NotAfter.Equal(first.NotAfter) {
			return fmt.Errorf("couldn't sign: %w: it was signed already as %q, valid from %s", record.ErrExists, first.Name, first.NotBefore.Format(time.RFC3339))
		}
		st = first
		if mine {
			return nil // again, after a kill
		}
	}
	for _, listed := range r.trust.Releases {
		switch {
		case listed.Package == p.Digest && listed.Revoked:
			return fmt.Errorf("couldn't sign: %w: %q, in the trust file", ErrRevoked, listed.Name)
		case listed.Package != p.Digest && listed.Name == st.Name: // it could never be listed there
			return fmt.Errorf("couldn't sign: %w: the trust file calls another release %q", record.ErrExists, st.Name)
		}
	}
	envelope, err := certificate.SignRelease(ctx, signer, p.Digest, st)
	if err != nil {
		return err
	}
	if err := put(ctx, depot.Reviews, name(p.Digest, "release-"+by.Key.ID()+".json"), envelope); err != nil {
		return fmt.Errorf("couldn't sign: %w", err)
	}
	return nil
}

// SignedSoFar is the release statement that other managers have signed of a
// package, where any has: what the signer would sign too.
func SignedSoFar(ctx context.Context, depot Depot, signer certificate.Signer, r *Reviewed) (st certificate.ReleaseStatement, found bool, err error) {
	if r == nil || r.Submitted == nil || r.trust == nil {
		return st, false, fmt.Errorf("%w: no reviewed package was loaded", ErrNotReviewed)
	}
	id, err := signer.KeyID()
	if err != nil {
		return st, false, err
	}
	st, found, mine, err := someSignature(ctx, depot, r, id)
	return st, found && !mine, err
}

// someSignature is the release statement that managers have signed of a
// package so far, where any has, and whether the one with this key id is among
// them.
func someSignature(ctx context.Context, depot Depot, r *Reviewed, id string) (st certificate.ReleaseStatement, found, mine bool, err error) {
	one := *r.trust
	one.Threshold = 1
	places, err := releasePlaces(ctx, depot, one.Managers, r.Submitted.Package.Digest)
	if err != nil {
		return st, false, false, err
	}
	for _, at := range places {
		rel, got, err := one.VerifyRelease(at.envelope)
		if err == nil && found {
			_, err = certificate.Join(places[0].envelope, at.envelope)
		}
		if err == nil {
			err = fits(r, rel, got)
		}
		if err != nil {
			return st, false, false, fmt.Errorf("the release statement of %q: %w", at.of.Name, err)
		}
		if !found {
			st, found = got, true
		}
		mine = mine || at.of.Key.ID() == id
	}
	return st, found, mine, nil
}

// releasePlace is a release statement in a manager's place.
type releasePlace struct {
	of       certificate.TrustedKey
	envelope []byte
}

// releasePlaces reads the release statements that lie in the managers' places,
// and judges none. One in the place of a manager whose key is revoked, signed by
// nobody else, is left out: somebody signs a new one.
func releasePlaces(ctx context.Context, depot Depot, managers []certificate.TrustedKey, pkg certificate.Hash) (places []releasePlace, err error) {
	for _, k := range managers {
		envelope, err := depot.Reviews.Get(ctx, name(pkg, "release-"+k.Key.ID()+".json"))
		if errors.Is(err, record.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !k.Revoked || len(signers(envelope, managers)) > 0 {
			places = append(places, releasePlace{k, envelope})
		}
	}
	return places, nil
}

// fits holds a release statement to the package, the submission and the
// reviews it names. Of these, some may be by managers whose keys were revoked
// later: LoadReviewed has counted that enough others approve.
func fits(r *Reviewed, rel certificate.Release, st certificate.ReleaseStatement) error {
	p := r.Submitted.Package
	if rel.Package != p.Digest || st.Settings != p.Provenance.Settings || !slices.Equal(st.Binaries, []certificate.Hash{p.Binary}) ||
		st.Commit != p.Provenance.Commit || !r.Submitted.offered(st.Submission) {
		return fmt.Errorf("%w: the release statement %q speaks of another package than %s", ErrMixed, st.Name, p.Digest)
	}
	// By person: a review named twice is one, and two people's of the same second
	// and words have one digest.
	there, people := 0, map[string]bool{}
	for _, digest := range st.Reviews {
		found := false
		for _, a := range slices.Concat(r.Approvals, r.passed) {
			if a.Digest == digest && a.Base == st.Supersedes {
				found, people[a.By.Key.ID()] = true, true
			}
		}
		if found {
			there++
		}
	}
	if there != len(st.Reviews) || len(people) < max(1, r.trust.Threshold) {
		return fmt.Errorf("%w: the release statement %q names reviews that are not there, or that compared it with another release", ErrMixed, st.Name)
	}
	return nil
}

// LoadSigned reads everything of a package up to the release statement and
// verifies all of it.
func LoadSigned(ctx context.Context, depot Depot, trust *certificate.Trust, digest certificate.Hash) (*Signed, error) {
	r, err := LoadReviewed(ctx, depot, trust, digest)
	if err != nil {
		return nil, err
	}
	if err := revoked(ctx, depot.Reviews, trust, digest); err != nil {
		return nil, err
	}
	places, err := releasePlaces(ctx, depot, trust.Managers, digest)
	if err != nil {
		return nil, err
	}
	if len(places) == 0 {
		return nil, fmt.Errorf("%w: no release manager has signed package %s", ErrNotSigned, digest)
	}
	var envelopes [][]byte
	for _, at := range places {
		envelopes = append(envelopes, bytes.TrimSpace(at.envelope))
	}
	envelope, err := certificate.Join(envelopes...)
	if err != nil {
		return nil, fmt.Errorf("the release statement of package %s: %w", digest, err)
	}
	rel, st, err := trust.VerifyRelease(envelope)
	if err != nil {
		return nil, fmt.Errorf("%w: package %s: %w", ErrNotSigned, digest, err)
	}
	if err := fits(r, rel, st); err != nil {
		return nil, err
	}
	// Of several submissions the one that the signers saw, while its developer
	// is one: nobody changes afterwards whose words stand beside the signatures.
	for _, o := range r.Submitted.all {
		if o.digest == st.Submission && !o.by.Revoked {
			r.Submitted.choose(o)
		}
	}
	return &Signed{r, rel, st, envelope}, nil
}
