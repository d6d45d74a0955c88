package release

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/certificate"
)

// limited is a package with another limit in its settings.
func limited(t testing.TB, p *Package, limit string) *Package {
	t.Helper()
	out, err := Open(repacked(t, p, true, func(files map[string][]byte) {
		files["generator.yaml"] = bytes.Replace(files["generator.yaml"], []byte("max_validators_per_order: 100"), []byte("max_validators_per_order: "+limit), 1)
	}))
	must(t, err)
	if out.Digest == p.Digest {
		t.Fatal("the settings are the same")
	}
	return out
}

// signedAfter takes a package to its signature, reviewed against a base.
func signedAfter(t testing.TB, d Depot, trust *certificate.Trust, p *Package, base certificate.Hash) *Signed {
	t.Helper()
	ctx := context.Background()
	must(t, Submit(ctx, d, trust, dora, p, "a change", noon))
	s, err := LoadSubmitted(ctx, d, trust, p.Digest)
	must(t, err)
	must(t, Decide(ctx, d, trust, rita, s, reportAfter(t, s, base), true, "", noon))
	r, err := LoadReviewed(ctx, d, trust, p.Digest)
	must(t, err)
	must(t, Sign(ctx, d, rita, r, Terms{Name: "v-" + p.Digest.String()[:8]}, noon))
	out, err := LoadSigned(ctx, d, trust, p.Digest)
	must(t, err)
	if out.Statement.Supersedes != base {
		t.Fatalf("it supersedes %s", out.Statement.Supersedes)
	}
	return out
}

// TestNoDowngrade: a release whose statement somebody kept, one of two that were
// reviewed at the same time, and one of another installation do not come into
// force as if they were new.
func TestNoDowngrade(t *testing.T) {
	p, q := packages(t)
	ctx, trust, d := t.Context(), testTrust(1), newDepot(t)
	first := signedAfter(t, d, trust, p, certificate.Hash{})
	second := signedAfter(t, d, trust, q, p.Digest)
	beside := signedAfter(t, d, trust, limited(t, p, "7"), p.Digest) // by another manager, at the same time
	third := signedAfter(t, d, trust, limited(t, p, "8"), q.Digest)
	unlinked := signedAfter(t, d, trust, limited(t, p, "9"), certificate.Hash{})

	// listed are the releases in the home's trust file, the first listed first.
	type state struct {
		inForce []*Signed
		listed  []*Signed
		next    *Signed
		why     string // "": it may
	}
	for what, c := range map[string]state{
		"the first":                           {nil, nil, first, ""},
		"again":                               {[]*Signed{first}, []*Signed{first}, first, ""},
		"the next":                            {[]*Signed{first}, []*Signed{first}, second, ""},
		"an older one":                        {[]*Signed{first, second}, []*Signed{first, second}, first, "superseded by"},
		"an older one, not listed":            {[]*Signed{first, second}, nil, first, "follows nothing"},
		"the other of two":                    {[]*Signed{first, second}, []*Signed{first, second}, beside, "is in force"},
		"one reviewed against nothing":        {[]*Signed{first}, []*Signed{first}, unlinked, "follows nothing"},
		"one that skips a listed one":         {[]*Signed{first}, []*Signed{first, second}, third, ""},
		"one that skips an unknown one":       {[]*Signed{first}, []*Signed{first}, third, "is in force"},
		"a lost home: the last":               {nil, []*Signed{first, second}, second, ""},
		"a lost home: an older one":           {nil, []*Signed{first, second}, first, "superseded by"},
		"a lost home: the next":               {nil, []*Signed{first, second}, third, ""},
		"another installation's":              {nil, nil, second, "does not list"},
		"another installation's, into a used": {[]*Signed{first}, []*Signed{first}, third, "is in force"},
	} {
		home := Home{Dir: t.TempDir(), Trust: testTrust(1)}
		for _, s := range c.inForce {
			must(t, home.Install(ctx, s, noon))
		}
		for _, s := range c.listed {
			home.Trust.Releases = append(home.Trust.Releases, s.Release)
		}
		before, _ := os.ReadFile(home.Dir + "/" + PointerFile)
		err := home.Install(ctx, c.next, noon)
		if c.why == "" && err != nil || c.why != "" && (!errors.Is(err, ErrOrder) || !strings.Contains(err.Error(), c.why)) {
			t.Errorf("%s: %v", what, err)
		}
		if after, _ := os.ReadFile(home.Dir + "/" + PointerFile); c.why != "" && !bytes.Equal(before, after) {
			t.Errorf("%s: refused, and the pointer moved", what)
		}
		if c.why == "" {
			continue
		}
		// Meant all the same, it can be.
		home.OutOfOrder = true
		must(t, home.Install(ctx, c.next, noon))
		if in, err := home.InForce(ctx, noon); err != nil || in.Package().Digest != c.next.Package().Digest {
			t.Errorf("%s, out of order: %v", what, err)
		}
	}

	// What nobody released, and a pointer names, is nothing to follow: it keeps
	// no release out, and lets no superseded one in.
	forged := Home{Dir: t.TempDir(), Trust: testTrust(1)}
	must(t, forged.Install(ctx, first, noon))
	must(t, forged.point(pointer{Schema: pointerSchema, Package: limited(t, p, "6").Digest, Since: noon}))
	if pkg, err := forged.Named(ctx); err != nil || !pkg.IsZero() {
		t.Errorf("a forged pointer names %s, %v", pkg, err)
	}
	forged.Trust.Releases = []certificate.Release{first.Release, second.Release}
	if err := forged.Install(ctx, first, noon); !errors.Is(err, ErrOrder) {
		t.Errorf("a superseded release over what nobody released: %v", err)
	}
	must(t, forged.Install(ctx, second, noon))

	// A rollback needs nothing, is noted, and does not stop the next release.
	home := Home{Dir: t.TempDir(), Trust: trust}
	must(t, home.Install(ctx, first, noon))
	must(t, home.Install(ctx, second, noon))
	trust.Releases = []certificate.Release{first.Release, second.Release}
	in, err := home.Rollback(ctx, certificate.Hash{}, noon)
	must(t, err)
	if in.RolledBack != q.Digest || !slices.Equal(SupersededBy(trust, p.Digest), []string{second.Release.Name}) || SupersededBy(trust, q.Digest) != nil {
		t.Errorf("rolled back from %s, superseded by %v", in.RolledBack, SupersededBy(trust, p.Digest))
	}
	must(t, home.Install(ctx, third, noon))
	if in, err := home.InForce(ctx, noon); err != nil || !in.RolledBack.IsZero() || in.Previous != p.Digest {
		t.Errorf("after the next release: %+v, %v", in, err)
	}
	// A manager's key that was revoked since does not make the memory shorter.
	trust.Managers[0].Revoked = true
	if got := SupersededBy(trust, p.Digest); !slices.Equal(got, []string{second.Release.Name}) {
		t.Errorf("with a revoked key, superseded by %v", got)
	}
}

// TestReviewsAgreeOnTheBase: a release supersedes what its reviewers compared
// with, and nothing else.
func TestReviewsAgreeOnTheBase(t *testing.T) {
	p, q := packages(t)
	ctx, trust, d := t.Context(), testTrust(2), newDepot(t)
	must(t, Submit(ctx, d, trust, dora, q, "a change", noon))
	s, err := LoadSubmitted(ctx, d, trust, q.Digest)
	must(t, err)
	if err := Decide(ctx, d, trust, rita, s, reportAfter(t, s, q.Digest), true, "", noon); !errors.Is(err, ErrNotReviewed) {
		t.Errorf("compared with itself: %v", err)
	}
	must(t, Decide(ctx, d, trust, rita, s, reportAfter(t, s, p.Digest), true, "", noon))
	must(t, Decide(ctx, d, trust, mona, s, reportOn(t, s), true, "", noon))
	r, err := LoadReviewed(ctx, d, trust, q.Digest)
	must(t, err)
	if err := Sign(ctx, d, rita, r, Terms{Name: "v1"}, noon); !errors.Is(err, ErrNotReviewed) || !strings.Contains(err.Error(), "different releases") {
		t.Errorf("reviewed against different releases: %v", err)
	}
	// One is enough with a threshold of one: the later review's.
	r.trust = testTrust(1)
	r.Approvals[1].Time = r.Approvals[1].Time.Add(time.Second)
	base, reviews, err := r.sameBase()
	if err != nil || base != r.Approvals[1].Base || len(reviews) != 1 {
		t.Errorf("%s, %v, %v", base, reviews, err)
	}
	// A statement that says another base than its reviews is of nobody's review.
	st := certificate.ReleaseStatement{Name: "v1", Network: "hoodi", Binaries: []certificate.Hash{q.Binary}, Settings: q.Provenance.Settings,
		Commit: q.Provenance.Commit, Submission: s.Digest, Reviews: []certificate.Hash{r.Approvals[0].Digest}, Supersedes: certificate.Hash{9}, NotBefore: noon, Time: noon}
	envelope, err := certificate.SignRelease(ctx, rita, q.Digest, st)
	must(t, err)
	must(t, d.Reviews.Put(ctx, name(q.Digest, "release-"+rita.public().ID()+".json"), envelope))
	if _, err := LoadSigned(ctx, d, testTrust(1), q.Digest); !errors.Is(err, ErrMixed) {
		t.Errorf("a release of another base than its reviews: %v", err)
	}
	if _, err := certificate.SignRelease(ctx, rita, q.Digest, func() certificate.ReleaseStatement { st.Supersedes = q.Digest; return st }()); err == nil {
		t.Error("signed a release that supersedes itself")
	}
}

// TestReviewNamedTwice: one approval that a statement names twice is no two, and
// two people's approvals of the same words and second, which have one digest, are.
func TestReviewNamedTwice(t *testing.T) {
	p, q := packages(t)
	for name, c := range map[string]struct {
		monas certificate.Hash // what mona compared with
		want  error
	}{"one person": {certificate.Hash{}, ErrMixed}, "two people": {p.Digest, nil}} {
		ctx, trust, d := t.Context(), testTrust(2), newDepot(t)
		must(t, Submit(ctx, d, trust, dora, q, "a change", noon))
		s, err := LoadSubmitted(ctx, d, trust, q.Digest)
		must(t, err)
		must(t, Decide(ctx, d, trust, rita, s, reportAfter(t, s, p.Digest), true, "", noon))
		must(t, Decide(ctx, d, trust, mona, s, reportAfter(t, s, c.monas), true, "", noon))
		r, err := LoadReviewed(ctx, d, trust, q.Digest)
		must(t, err)
		ritas := r.Approvals[0].Digest
		st := certificate.ReleaseStatement{Name: "v1", Network: "hoodi", Binaries: []certificate.Hash{q.Binary}, Settings: q.Provenance.Settings, Commit: q.Provenance.Commit,
			Submission: s.Digest, Reviews: []certificate.Hash{ritas, ritas}, Supersedes: p.Digest, NotBefore: noon, Time: noon}
		for _, k := range []person{rita, mona} {
			envelope, err := certificate.SignRelease(ctx, k, q.Digest, st)
			must(t, err)
			must(t, put(ctx, d.Reviews, q.Digest.String()+"/release-"+k.public().ID()+".json", envelope))
		}
		if _, err := LoadSigned(ctx, d, trust, q.Digest); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if c.want == nil {
			who := Reviewers(ctx, d.Reviews, trust, q.Digest, st.Reviews)
			if len(who) != 2 || who[0].By == who[1].By || who[0].By == "" || who[1].By == "" {
				t.Errorf("its reviewers are %+v", who)
			}
		}
	}
}

// TestSubmittedBefore: a second developer submits the same package under an earlier
// time, after it was reviewed. The review is approved as it was read, and the words
// beside the signatures stay those that the reviewer saw.
func TestSubmittedBefore(t *testing.T) {
	p, _ := packages(t)
	ctx, trust, d := t.Context(), testTrust(1), newDepot(t)
	must(t, Submit(ctx, d, trust, dora, p, "what dora says", noon))
	s, err := LoadSubmitted(ctx, d, trust, p.Digest)
	must(t, err)
	report, doras := reportOn(t, s), s.Digest
	words := s.Submission
	words.Description, words.Time = "what dave says", noon.Add(-time.Hour)
	envelope, err := certificate.SignStatement(ctx, dave, SubmissionType, certificate.PackageSubject, p.Digest, words)
	must(t, err)
	must(t, d.Submissions.Put(ctx, p.Digest.String()+"/"+submissionFile(trusted(dave)), envelope))
	if s, err = LoadSubmitted(ctx, d, trust, p.Digest); err != nil || s.By.Name != "dave" {
		t.Fatalf("the earlier one does not count: %v", err)
	}
	must(t, Decide(ctx, d, trust, rita, s, report, true, "", noon))
	r, err := LoadReviewed(ctx, d, trust, p.Digest)
	must(t, err)
	must(t, Sign(ctx, d, rita, r, Terms{Name: "v1"}, noon))
	signed, err := LoadSigned(ctx, d, trust, p.Digest)
	must(t, err)
	if got := signed.Reviewed.Submitted; signed.Statement.Submission != doras || got.By.Name != "dora" || got.Submission.Description != "what dora says" {
		t.Errorf("signed is the submission by %q: %s", got.By.Name, got.Submission.Description)
	}
}

// TestAnotherDeveloperSubmits: a developer whose key was revoked, or who left
// something else in their place, keeps nobody from submitting the same package;
// what was reviewed and signed of it stands, since it judges the same bytes.
func TestAnotherDeveloperSubmits(t *testing.T) {
	p, q := packages(t)
	ctx, trust, d := t.Context(), testTrust(1), newDepot(t)
	advance(t, d, trust, p, "signed")
	s, err := LoadSigned(ctx, d, trust, p.Digest)
	must(t, err)
	home := Home{Dir: t.TempDir(), Trust: trust}
	must(t, home.Install(ctx, s, noon))

	trust.Developers[0].Revoked = true
	for what, load := range map[string]func() error{
		"submitted": func() error { _, err := LoadSubmitted(ctx, d, trust, p.Digest); return err },
		"signed":    func() error { _, err := LoadSigned(ctx, d, trust, p.Digest); return err },
		"in force":  func() error { _, err := home.InForce(ctx, noon); return err },
	} {
		if err := load(); !errors.Is(err, certificate.ErrUntrusted) || !strings.Contains(err.Error(), "dora") {
			t.Errorf("%s by a key that was revoked: %v", what, err)
		}
	}
	if err := Submit(ctx, d, trust, dora, p, "a change", noon); !errors.Is(err, ErrRole) {
		t.Errorf("submitted by a key that was revoked: %v", err)
	}
	must(t, Submit(ctx, d, trust, dave, p, "the same package, by me", noon.Add(time.Hour)))
	again, err := LoadSigned(ctx, d, trust, p.Digest)
	must(t, err)
	if by := again.Reviewed.Submitted; by.By.Name != "dave" || by.Submission.Description != "the same package, by me" || len(again.Reviewed.Approvals) != 1 {
		t.Errorf("submitted by %q: %q", by.By.Name, by.Submission.Description)
	}
	must(t, home.Install(ctx, again, noon.Add(time.Hour)))
	in, err := home.InForce(ctx, noon.Add(time.Hour))
	must(t, err)
	if in.Reviewed.Submitted.By.Name != "dave" {
		t.Errorf("in force: submitted by %q", in.Reviewed.Submitted.By.Name)
	}
	// The words beside a signature are those that its signer saw.
	trust.Developers[0].Revoked = false
	if again, err = LoadSigned(ctx, d, trust, p.Digest); err != nil || again.Reviewed.Submitted.By.Name != "dora" {
		t.Errorf("%v", err)
	}

	// What is no submission in dave's place does not block dora's package.
	must(t, d.Submissions.Put(ctx, name(q.Digest, submissionFile(trusted(dave))), []byte("nonsense")))
	must(t, Submit(ctx, d, trust, dora, q, "another change", noon))
	if got, err := LoadSubmitted(ctx, d, trust, q.Digest); err != nil || got.By.Name != "dora" {
		t.Errorf("beside nonsense: %v", err)
	}
	// And dora's statement in dave's place is nobody's.
	e := newDepot(t)
	data, err := d.Submissions.Get(ctx, name(p.Digest, submissionFile(trusted(dora))))
	must(t, err)
	must(t, e.Submissions.Put(ctx, name(p.Digest, submissionFile(trusted(dave))), data))
	must(t, e.Submissions.Put(ctx, name(p.Digest, "package.zip"), p.Data))
	if _, err := LoadSubmitted(ctx, e, trust, p.Digest); !errors.Is(err, certificate.ErrSignature) {
		t.Errorf("in another's place: %v", err)
	}
	// A developer's own approval counts for nothing, whoever else submitted.
	both := testTrust(1)
	both.Developers = append(both.Developers, trusted(rita))
	if _, err := LoadReviewed(ctx, d, both, p.Digest); err != nil {
		t.Fatalf("rita did not submit it: %v", err)
	}
	sub, err := LoadSubmitted(ctx, d, both, p.Digest)
	must(t, err)
	if !sub.by(dora.public()) || sub.by(rita.public()) {
		t.Error("who submitted is not known")
	}
}

// TestThresholdRaised: when a second manager has to sign, the release that one
// signed makes no keys any more, a release of both follows it, and by its own
// entry the former one goes on standing for what it made.
func TestThresholdRaised(t *testing.T) {
	p, q := packages(t)
	ctx, d := t.Context(), newDepot(t)
	home := Home{Dir: t.TempDir(), Trust: testTrust(1)}
	first := signedAfter(t, d, home.Trust, p, certificate.Hash{})
	must(t, home.Install(ctx, first, noon))

	home.Trust = testTrust(2)
	home.Trust.Releases = []certificate.Release{first.Release}
	home.Trust.Releases[0].Threshold = 1
	must(t, home.Trust.Check())
	if err := home.Trust.Stands(home.Trust.Releases[0]); err != nil {
		t.Errorf("what it made stands no more: %v", err)
	}
	if _, err := home.InForce(ctx, noon); !errors.Is(err, ErrNotReviewed) && !errors.Is(err, ErrNotSigned) {
		t.Errorf("it may still make keys: %v", err)
	}
	if _, err := LoadSigned(ctx, d, home.Trust, p.Digest); err == nil {
		t.Error("it may be deployed")
	}

	must(t, Submit(ctx, d, home.Trust, dora, q, "a change", noon))
	s, err := LoadSubmitted(ctx, d, home.Trust, q.Digest)
	must(t, err)
	for _, manager := range []person{rita, mona} {
		must(t, Decide(ctx, d, home.Trust, manager, s, reportAfter(t, s, p.Digest), true, "", noon))
	}
	r, err := LoadReviewed(ctx, d, home.Trust, q.Digest)
	must(t, err)
	for _, manager := range []person{rita, mona} {
		must(t, Sign(ctx, d, manager, r, Terms{Name: "two"}, noon))
	}
	second, err := LoadSigned(ctx, d, home.Trust, q.Digest)
	must(t, err)
	must(t, home.Install(ctx, second, noon))
	in, err := home.InForce(ctx, noon)
	if err != nil || in.Package().Digest != q.Digest || !in.Previous.IsZero() {
		t.Errorf("%v, %+v", err, in)
	}
}
