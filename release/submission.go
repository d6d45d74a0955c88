package release

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/record"
)

// Submission is the predicate of what a developer signs: this package, for
// review. docs/formats/release.md gives every field.
type Submission struct {
	Description string           `json:"description"`
	Network     string           `json:"network"`
	Platform    string           `json:"platform"`
	Commit      string           `json:"commit"`
	Binary      certificate.Hash `json:"binary_sha256"`
	Settings    certificate.Hash `json:"settings_sha256"`
	Time        time.Time        `json:"time"`
}

// Submitted is a package with the submission of a developer whom the trust
// file knows. Only LoadSubmitted makes one.
type Submitted struct {
	Package    *Package
	Submission Submission
	Digest     certificate.Hash // of the submission
	By         certificate.TrustedKey

	envelope []byte
	all      []offer // every submission of the package that verifies, those of revoked developers too
}

// offer is one developer's submission of a package.
type offer struct {
	by       certificate.TrustedKey
	said     Submission
	digest   certificate.Hash
	envelope []byte
}

// choose makes one of the submissions the one that is spoken of.
func (s *Submitted) choose(o offer) {
	s.Submission, s.Digest, s.By, s.envelope = o.said, o.digest, o.by, o.envelope
}

// chosen is the submitted package with the submission of that digest, where it is
// one and its developer's key is not revoked. Another developer may submit the same
// package under an earlier time, between a review and what is signed of it: that
// neither stops the approval nor puts other words beside it.
func (s *Submitted) chosen(digest certificate.Hash) *Submitted {
	for _, o := range s.all {
		if o.digest == digest && !o.by.Revoked {
			with := *s
			with.choose(o)
			return &with
		}
	}
	return s
}

// by reports whether somebody submitted the package, under a key that may be
// revoked by now.
func (s *Submitted) by(key certificate.PublicKey) bool {
	return slices.ContainsFunc(s.all, func(o offer) bool { return o.by.Key.Equal(key) })
}

// offered reports whether a developer's submission of this package has the
// digest. Reviews and signatures name the one that their signer saw: they judge
// the package's bytes, and stand when its developer's key is revoked and
// another developer submits the same bytes.
func (s *Submitted) offered(digest certificate.Hash) bool {
	return slices.ContainsFunc(s.all, func(o offer) bool { return o.digest == digest })
}

func submissionFile(by certificate.TrustedKey) string {
	return "submission-" + by.Key.ID() + ".json"
}

// Submit signs a package as its developer and puts it into the depot, in a
// place of the developer's own: what another left there, or one whose key was
// revoked, keeps nobody from submitting the same package. A package that names
// no commit cannot be submitted: nobody could rebuild it.
func Submit(ctx context.Context, depot Depot, trust *certificate.Trust, signer certificate.Signer, p *Package, description string, now time.Time) error {
	if p == nil || p.Data == nil || Digest(p.Data) != p.Digest {
		return fmt.Errorf("couldn't submit: %w: it was not read", ErrPackage)
	}
	if p.Provenance.Commit == "" {
		return fmt.Errorf("couldn't submit: %w: it was built from a working tree, so nobody could rebuild it: commit, and build the commit", ErrPackage)
	}
	if p.Settings.Network.Digest() != trust.Network.Digest() {
		return fmt.Errorf("couldn't submit: %w: the package is for network %q, the trust file for %q", ErrMixed, p.Settings.Network.Name, trust.Network.Name)
	}
	if err := certificate.CheckText("description", description, maxWords, false); err != nil {
		return fmt.Errorf("couldn't submit: %w", err)
	}
	now = now.UTC().Truncate(time.Second)
	by, err := mayAct(trust, signer, trust.Developers, developer, now)
	if err != nil {
		return fmt.Errorf("couldn't submit: %w", err)
	}
	// Again, after a kill between the two: the statement that is there stands.
	there, err := LoadSubmitted(ctx, depot, trust, p.Digest)
	switch {
	case err == nil && there.Submission.Description != description:
		return fmt.Errorf("couldn't submit: %w: %q submitted this package as %q", record.ErrExists, there.By.Name, there.Submission.Description)
	case err == nil:
		return nil
	case !errors.Is(err, record.ErrNotFound) && !Unfit(err): // the depot could not be read
		return fmt.Errorf("couldn't submit: %w", err)
	}
	envelope, err := certificate.SignStatement(ctx, signer, SubmissionType, certificate.PackageSubject, p.Digest, Submission{
		Description: description, Network: p.Settings.Network.Name, Platform: p.Provenance.Platform, Commit: p.Provenance.Commit,
		Binary: p.Binary, Settings: p.Provenance.Settings, Time: now})
	if err != nil {
		return fmt.Errorf("couldn't submit: %w", err)
	}
	if err := put(ctx, depot.Submissions, name(p.Digest, "package.zip"), p.Data); err != nil {
		return fmt.Errorf("couldn't submit: %w", err)
	}
	if err := put(ctx, depot.Submissions, name(p.Digest, submissionFile(by)), envelope); err != nil {
		return fmt.Errorf("couldn't submit: %w", err)
	}
	return nil
}

// LoadSubmitted reads a package and its submissions and verifies them: the
// digest, the form, and that a developer of the trust file signed one of them,
// whose key is not revoked. Of several the earliest counts, and one that does
// not verify is passed over while another does: a developer may not block
// another's package.
func LoadSubmitted(ctx context.Context, depot Depot, trust *certificate.Trust, digest certificate.Hash) (*Submitted, error) {
	var places []offer
	for _, k := range trust.Developers {
		envelope, err := depot.Submissions.Get(ctx, name(digest, submissionFile(k)))
		if errors.Is(err, record.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("couldn't load the submission of package %s: %w", digest, err)
		}
		places = append(places, offer{by: k, envelope: envelope})
	}
	if len(places) == 0 {
		return nil, fmt.Errorf("couldn't load the submission of package %s: no developer of the trust file submitted it: %w", digest, record.ErrNotFound)
	}
	p, err := Load(ctx, depot, digest)
	if err != nil {
		return nil, err
	}
	if p.Settings.Network.Digest() != trust.Network.Digest() {
		return nil, fmt.Errorf("%w: the package is for network %q, the trust file for %q", ErrMixed, p.Settings.Network.Name, trust.Network.Name)
	}
	s := &Submitted{Package: p}
	var why error
	for _, o := range places {
		st, err := verifySubmission(p, o)
		if err != nil {
			why = errors.Join(why, err)
			continue
		}
		o.said, o.digest = st.Predicate, st.Digest
		s.all = append(s.all, o)
		if o.by.Revoked {
			why = errors.Join(why, fmt.Errorf("%w: developer %q of package %s: the key is revoked: another developer can submit the same package", certificate.ErrUntrusted, o.by.Name, digest))
			continue
		}
		if s.envelope == nil || st.Predicate.Time.Before(s.Submission.Time) {
			s.choose(o)
		}
	}
	if s.envelope == nil {
		return nil, why
	}
	return s, nil
}

// Load reads a package by its digest. Whose it is and whether it may run is not
// judged: it serves to compare with.
func Load(ctx context.Context, depot Depot, digest certificate.Hash) (*Package, error) {
	data, err := depot.Submissions.Get(ctx, name(digest, "package.zip"))
	if err != nil {
		return nil, fmt.Errorf("couldn't load package %s: %w", digest, err)
	}
	if got := Digest(data); got != digest {
		return nil, fmt.Errorf("%w: the package that should be %s is %s", ErrMixed, digest, got)
	}
	return Open(data)
}

// verifySubmission holds one developer's statement to the package. Whether the
// developer's key was revoked since is the caller's to judge.
func verifySubmission(p *Package, o offer) (certificate.Stated[Submission], error) {
	st, err := certificate.VerifyStatement[Submission](o.envelope, SubmissionType, []certificate.TrustedKey{ever(o.by)})
	if err != nil {
		return st, fmt.Errorf("the submission of package %s by %q: %w", p.Digest, o.by.Name, err)
	}
	s := st.Predicate
	if err := errors.Join(certificate.CheckText("description", s.Description, maxWords, false), certificate.CheckTime(s.Time), ever(o.by).ValidAt(s.Time)); err != nil {
		return st, fmt.Errorf("the submission of package %s by %q: %w", p.Digest, o.by.Name, err)
	}
	if st.Name != certificate.PackageSubject || st.Subject != p.Digest || s.Network != p.Settings.Network.Name || s.Platform != p.Provenance.Platform ||
		s.Commit != p.Provenance.Commit || s.Commit == "" || s.Binary != p.Binary || s.Settings != p.Provenance.Settings {
		return st, fmt.Errorf("%w: the submission speaks of another package than %s", ErrMixed, p.Digest)
	}
	return st, nil
}
