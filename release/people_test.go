package release

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/record"
)

// TestEachPersonsStep: everybody attempts every step; only those whose step it
// is may, and nothing is left behind by the others.
func TestEachPersonsStep(t *testing.T) {
	p, _ := packages(t)
	trust := testTrust(1)
	must(t, trust.Check())
	ctx := t.Context()
	may := map[string][]string{"submit": {"dora", "dave"}, "approve": {"rita", "mona"}, "sign": {"rita", "mona"}, "revoke": {"rita", "mona"}}
	steps := map[string]func(d Depot, who person) error{
		"submit": func(d Depot, who person) error {
			return Submit(ctx, d, trust, who, p, "a change", noon)
		},
		"approve": func(d Depot, who person) error {
			advance(t, d, trust, p, "submitted")
			s, err := LoadSubmitted(ctx, d, trust, p.Digest)
			must(t, err)
			return Decide(ctx, d, trust, who, s, reportOn(t, s), true, "", noon)
		},
		"sign": func(d Depot, who person) error {
			advance(t, d, trust, p, "approved")
			r, err := LoadReviewed(ctx, d, trust, p.Digest)
			must(t, err)
			return Sign(ctx, d, who, r, Terms{Name: "v1"}, noon)
		},
		"revoke": func(d Depot, who person) error {
			advance(t, d, trust, p, "signed")
			return Revoke(ctx, d.Reviews, trust, who, p.Digest, "a test", noon)
		},
	}
	tried := 0
	for step, do := range steps {
		for _, who := range everybody {
			tried++
			d := newDepot(t)
			err := do(d, who)
			allowed := strings.Contains(strings.Join(may[step], " "), who.name)
			if allowed && err != nil {
				t.Errorf("%s cannot %s: %v", who.name, step, err)
			}
			if !allowed && (!errors.Is(err, ErrRole) || !strings.Contains(err.Error(), map[bool]string{true: who.name, false: who.public().ID()}[who.name != "stranger"])) {
				t.Errorf("%s tries to %s: %v", who.name, step, err)
			}
			id := who.public().ID()
			for _, file := range []string{"review-" + id, "release-" + id, "revocation-" + id} {
				if _, err := d.Reviews.Get(ctx, name(p.Digest, file+".json")); !allowed && err == nil {
					t.Errorf("%s was refused and left %s", who.name, file)
				}
			}
			if _, err := LoadSubmitted(ctx, d, trust, p.Digest); step == "submit" && (err == nil) != allowed {
				t.Errorf("submitted by %s: %v", who.name, err)
			}
		}
	}
	if tried != len(steps)*len(everybody) {
		t.Errorf("%d of %d tried", tried, len(steps)*len(everybody))
	}
}

// TestKeysOutOfTime: a person whose key is revoked or out of its validity can
// do nothing, and what they signed within it stays good.
func TestKeysOutOfTime(t *testing.T) {
	p, _ := packages(t)
	ctx := t.Context()
	for name, v := range map[string]certificate.Validity{
		"revoked": {Revoked: true}, "retired": {NotAfter: noon.Add(-time.Second)}, "not yet": {NotBefore: noon.Add(time.Second)},
	} {
		trust := testTrust(1)
		trust.Developers[0].Validity = v
		if err := Submit(ctx, newDepot(t), trust, dora, p, "a change", noon); !errors.Is(err, ErrRole) {
			t.Errorf("%s developer: %v", name, err)
		}
		d := newDepot(t)
		good := testTrust(1)
		advance(t, d, good, p, "signed")
		trust = testTrust(1)
		trust.Managers[0].Validity = v
		want := certificate.ErrUntrusted
		if v.Revoked { // what they said counts for nothing, and is no error
			want = ErrNotReviewed
		}
		if _, err := LoadSigned(ctx, d, trust, p.Digest); !errors.Is(err, want) {
			t.Errorf("signed by a %s manager: %v", name, err)
		}
	}
	d := newDepot(t)
	trust := testTrust(1)
	advance(t, d, trust, p, "signed")
	trust.Managers[0].NotAfter = noon
	if _, err := LoadSigned(ctx, d, trust, p.Digest); err != nil {
		t.Errorf("retired after signing: %v", err)
	}
}

// TestProofByType: zero values, and values put together by hand from outside
// what verified them, are refused by every step.
func TestProofByType(t *testing.T) {
	p, _ := packages(t)
	ctx, trust, d := t.Context(), testTrust(1), newDepot(t)
	home := Home{Dir: t.TempDir(), Trust: trust}
	forged := &Submitted{Package: p, Submission: Submission{Commit: p.Provenance.Commit}}
	for name, c := range map[string]struct {
		err  error
		want error
	}{
		"no package":           {Submit(ctx, d, trust, dora, nil, "x", noon), ErrPackage},
		"an empty package":     {Submit(ctx, d, trust, dora, &Package{}, "x", noon), ErrPackage},
		"another's digest":     {Submit(ctx, d, trust, dora, &Package{Data: p.Data}, "x", noon), ErrPackage},
		"nothing to review":    {Decide(ctx, d, trust, rita, nil, nil, true, "", noon), ErrNotReviewed},
		"a zero submission":    {Decide(ctx, d, trust, rita, &Submitted{}, nil, true, "", noon), ErrNotReviewed},
		"a forged submission":  {Decide(ctx, d, trust, rita, forged, nil, true, "", noon), ErrNotReviewed},
		"nothing to sign":      {Sign(ctx, d, rita, nil, Terms{Name: "v1"}, noon), ErrNotReviewed},
		"a zero review":        {Sign(ctx, d, rita, &Reviewed{}, Terms{Name: "v1"}, noon), ErrNotReviewed},
		"a forged review":      {Sign(ctx, d, rita, &Reviewed{Submitted: forged, Approvals: []Approval{{}}}, Terms{Name: "v1"}, noon), ErrNotReviewed},
		"nothing to deploy":    {home.Install(ctx, nil, noon), ErrNotSigned},
		"a zero release":       {home.Install(ctx, &Signed{}, noon), ErrNotSigned},
		"a forged release":     {home.Install(ctx, &Signed{Reviewed: &Reviewed{Submitted: forged}}, noon), ErrNotSigned},
		"a report on nothing":  {second(Inspect(ctx, &Submitted{}, Inspection{})), ErrNotReviewed},
		"a report on a forged": {second(Inspect(ctx, forged, Inspection{})), ErrNotReviewed},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v", name, c.err)
		}
	}
	if _, err := home.InForce(ctx, noon); !errors.Is(err, ErrNoRelease) {
		t.Errorf("something is in force: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// TestOrderOfSteps: no step without the one before.
func TestOrderOfSteps(t *testing.T) {
	p, _ := packages(t)
	ctx, trust := t.Context(), testTrust(1)
	d := newDepot(t)
	if _, err := LoadSubmitted(ctx, d, trust, p.Digest); !errors.Is(err, record.ErrNotFound) {
		t.Errorf("not submitted: %v", err)
	}
	advance(t, d, trust, p, "submitted")
	if _, err := LoadReviewed(ctx, d, trust, p.Digest); !errors.Is(err, ErrNotReviewed) {
		t.Errorf("not reviewed: %v", err)
	}
	advance(t, d, trust, p, "approved")
	if _, err := LoadSigned(ctx, d, trust, p.Digest); !errors.Is(err, ErrNotSigned) {
		t.Errorf("not signed: %v", err)
	}
	advance(t, d, trust, p, "signed")
	s, err := LoadSigned(ctx, d, trust, p.Digest)
	must(t, err)
	if got := s.SignedBy(); len(got) != 1 || got[0] != "rita" {
		t.Errorf("signed by %v", got)
	}
	// A statement alone, without the review it names, signs nothing.
	must(t, os.Remove(filepath.Join(d.Reviews.(Folder).Dir, p.Digest.String(), "review-"+rita.public().ID()+".json")))
	if _, err := LoadSigned(ctx, d, trust, p.Digest); !errors.Is(err, ErrNotReviewed) {
		t.Errorf("the review is gone: %v", err)
	}
}

func TestRejected(t *testing.T) {
	p, _ := packages(t)
	ctx, trust, d := t.Context(), testTrust(1), newDepot(t)
	advance(t, d, trust, p, "approved")
	s, err := LoadSubmitted(ctx, d, trust, p.Digest)
	must(t, err)
	if err := Decide(ctx, d, trust, rita, s, reportOn(t, s), false, "", noon); !errors.Is(err, record.ErrExists) {
		t.Errorf("a second decision: %v", err)
	}
	must(t, Decide(ctx, d, trust, mona, s, reportOn(t, s), false, "it sends keys away", noon))
	if _, err := LoadReviewed(ctx, d, trust, p.Digest); !errors.Is(err, ErrNotReviewed) || !strings.Contains(err.Error(), "it sends keys away") {
		t.Errorf("approved by one and rejected by another: %v", err)
	}
}

func TestOnlyWhatWasRebuiltIsApproved(t *testing.T) {
	p, other := packages(t)
	ctx, trust, d := t.Context(), testTrust(1), newDepot(t)
	advance(t, d, trust, p, "submitted")
	s, err := LoadSubmitted(ctx, d, trust, p.Digest)
	must(t, err)
	for _, verdict := range []string{Different, NotRebuilt, "", "EQUAL"} {
		r, err := ParseReport(reportOn(t, s))
		must(t, err)
		r.Rebuild.Verdict = verdict
		data, err := r.Encode()
		must(t, err)
		if err := Decide(ctx, d, trust, rita, s, data, true, "", noon); !errors.Is(err, ErrNotReviewed) {
			t.Errorf("approved a rebuild that is %q: %v", verdict, err)
		}
	}
	// A report on another package approves nothing.
	e := newDepot(t)
	advance(t, e, trust, other, "submitted")
	another, err := LoadSubmitted(ctx, e, trust, other.Digest)
	must(t, err)
	if err := Decide(ctx, d, trust, rita, s, reportOn(t, another), true, "", noon); !errors.Is(err, ErrMixed) {
		t.Errorf("approved on another's report: %v", err)
	}
}

// TestThreshold: with two needed, neither one approval nor one signature is
// enough, nor one person twice.
func TestThreshold(t *testing.T) {
	p, _ := packages(t)
	ctx, trust, d := t.Context(), testTrust(2), newDepot(t)
	must(t, trust.Check())
	must(t, Submit(ctx, d, trust, dora, p, "a change", noon))
	s, err := LoadSubmitted(ctx, d, trust, p.Digest)
	must(t, err)
	for range 2 {
		must(t, Decide(ctx, d, trust, rita, s, reportOn(t, s), true, "", noon))
	}
	if _, err := LoadReviewed(ctx, d, trust, p.Digest); !errors.Is(err, ErrNotReviewed) {
		t.Fatalf("one approval: %v", err)
	}
	must(t, Decide(ctx, d, trust, mona, s, reportOn(t, s), true, "", noon))
	r, err := LoadReviewed(ctx, d, trust, p.Digest)
	must(t, err)
	for range 2 {
		must(t, Sign(ctx, d, rita, r, Terms{Name: "v1"}, noon))
	}
	if _, err := LoadSigned(ctx, d, trust, p.Digest); !errors.Is(err, ErrNotSigned) {
		t.Fatalf("one signature: %v", err)
	}
	if err := Sign(ctx, d, mona, r, Terms{Name: "v2"}, noon.Add(time.Hour)); !errors.Is(err, record.ErrExists) {
		t.Errorf("other terms than the first signed: %v", err)
	}
	must(t, Sign(ctx, d, mona, r, Terms{}, noon.Add(time.Hour)))
	signed, err := LoadSigned(ctx, d, trust, p.Digest)
	must(t, err)
	if got := signed.SignedBy(); len(got) != 2 || signed.Release.Name != "v1" {
		t.Errorf("signed by %v as %q", got, signed.Release.Name)
	}
	trust.Releases = []certificate.Release{signed.Release}
	must(t, trust.Check())
	trust.Managers = append(trust.Managers, trusted(newPerson("otto")))
	trust.Threshold = 3
	if err := trust.Check(); err == nil {
		t.Error("a trust file that demands three takes a release of two")
	}
}

// TestStatementsOfAnother: every statement of one package under another's name.
func TestStatementsOfAnother(t *testing.T) {
	a, b := packages(t)
	ctx, trust := t.Context(), testTrust(1)
	source := newDepot(t)
	advance(t, source, trust, a, "signed")
	advance(t, source, trust, b, "signed")
	id := rita.public().ID()
	for _, file := range []string{"package.zip", submissionFile(trusted(dora)), "review-" + id + ".json", "release-" + id + ".json"} {
		d := newDepot(t)
		advance(t, d, trust, b, "signed")
		from, to := source.Reviews, d.Reviews
		if file == "package.zip" || file == submissionFile(trusted(dora)) {
			from, to = source.Submissions, d.Submissions
		}
		data, err := from.Get(ctx, name(a.Digest, file))
		must(t, err)
		full := filepath.Join(to.(Folder).Dir, b.Digest.String(), file)
		must(t, os.Remove(full))
		must(t, os.WriteFile(full, data, 0o600))
		if _, err := LoadSigned(ctx, d, trust, b.Digest); !errors.Is(err, ErrMixed) {
			t.Errorf("%s of another package: %v", file, err)
		}
	}
}

// faulty fails at one call, before or after doing it, as a kill there would.
type faulty struct {
	Store
	left  *int
	after bool
}

var errFault = errors.New("killed here")

func (f faulty) Put(ctx context.Context, name string, data []byte) error {
	*f.left--
	if *f.left == 0 && !f.after {
		return errFault
	}
	err := f.Store.Put(ctx, name, data)
	if *f.left == 0 {
		return errFault
	}
	return err
}

// TestStepsAgain: a step that ended at any write, applied or not, is done
// again and gives a release that verifies.
func TestStepsAgain(t *testing.T) {
	p, _ := packages(t)
	ctx, trust := t.Context(), testTrust(2)
	faults := 0
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			d := newDepot(t)
			left := at
			broken := Depot{faulty{d.Submissions, &left, after}, faulty{d.Reviews, &left, after}}
			story := func(d Depot) error {
				if err := Submit(ctx, d, trust, dora, p, "a change", noon); err != nil {
					return err
				}
				s, err := LoadSubmitted(ctx, d, trust, p.Digest)
				if err != nil {
					return err
				}
				for _, who := range []person{rita, mona} {
					if err := Decide(ctx, d, trust, who, s, reportOn(t, s), true, "", noon); err != nil {
						return err
					}
				}
				r, err := LoadReviewed(ctx, d, trust, p.Digest)
				if err != nil {
					return err
				}
				for i, who := range []person{rita, mona} {
					if err := Sign(ctx, d, who, r, Terms{Name: "v1"}, noon.Add(time.Duration(i)*time.Minute)); err != nil {
						return err
					}
				}
				return nil
			}
			err := story(broken)
			if left > 0 {
				must(t, err)
				break // no more calls to fail at
			}
			faults++
			if !errors.Is(err, errFault) {
				t.Fatalf("call %d: %v", at, err)
			}
			if err := story(d); err != nil {
				t.Errorf("again after call %d (applied: %t): %v", at, after, err)
			}
			if _, err := LoadSigned(ctx, d, trust, p.Digest); err != nil {
				t.Errorf("after call %d (applied: %t): %v", at, after, err)
			}
		}
	}
	if faults < 16 {
		t.Errorf("only %d faults", faults)
	}
}

func TestSubmitRefuses(t *testing.T) {
	p, _ := packages(t)
	ctx, trust := t.Context(), testTrust(1)
	tree, err := Build(ctx, Recipe{Repository: smallRepo(t).repo, Settings: os.DirFS(testSettings(t)), Arch: "amd64"})
	must(t, err)
	if err := Submit(ctx, newDepot(t), trust, dora, tree, "x", noon); !errors.Is(err, ErrPackage) {
		t.Errorf("a package of a working tree: %v", err)
	}
	for _, words := range []string{"", " ", "two\nlines", "\x1b[2J", strings.Repeat("x", 3000)} {
		if err := Submit(ctx, newDepot(t), trust, dora, p, words, noon); !errors.Is(err, certificate.ErrFormat) {
			t.Errorf("description %q: %v", words, err)
		}
	}
	elsewhere := testTrust(1)
	elsewhere.Network.Name = "sepolia"
	if err := Submit(ctx, newDepot(t), elsewhere, dora, p, "x", noon); !errors.Is(err, ErrMixed) {
		t.Errorf("for another network: %v", err)
	}
	d := newDepot(t)
	must(t, Submit(ctx, d, trust, dora, p, "x", noon))
	if err := Submit(ctx, d, trust, dave, p, "mine", noon); !errors.Is(err, record.ErrExists) {
		t.Errorf("submitted by another: %v", err)
	}
}

// One person in two roles is no second person.
func TestRolesAreApart(t *testing.T) {
	for i, change := range []func(*certificate.Trust){
		func(tr *certificate.Trust) { tr.Managers = append(tr.Managers, trusted(dora)) },
		func(tr *certificate.Trust) { tr.Developers = append(tr.Developers, trusted(maker)) },
		func(tr *certificate.Trust) { tr.Managers = append(tr.Managers, trusted(maker)) },
		func(tr *certificate.Trust) {
			tr.Managers = append(tr.Managers, certificate.TrustedKey{Name: "other", Key: rita.public()})
		},
		func(tr *certificate.Trust) { tr.Threshold = 3 },
		func(tr *certificate.Trust) { tr.Threshold = -1 },
		func(tr *certificate.Trust) { tr.Managers, tr.Threshold = nil, 1 },
	} {
		trust := testTrust(1)
		change(trust)
		if err := trust.Check(); !errors.Is(err, certificate.ErrFormat) {
			t.Errorf("change %d: %v", i, err)
		}
	}
}
