// Package onaws tests a release's way on AWS: the roles of the real templates,
// the bucket of packages, AWS Signer and the function, as package world has
// them.
package onaws

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/infra/stack"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
	"github.com/stakeseal/stakeseal/internal/aws/ops"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/release"
)

func TestMain(m *testing.M) { os.Exit(world.Main(m)) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type person struct{ key ed25519.PrivateKey }

func (p person) Sign(_ context.Context, data []byte) ([]byte, error) {
	return ed25519.Sign(p.key, data), nil
}
func (p person) KeyID() (string, error) { return p.trusted("x").Key.ID(), nil }
func (p person) trusted(name string) certificate.TrustedKey {
	k, err := certificate.NewPublicKey(p.key.Public())
	if err != nil {
		panic(err)
	}
	return certificate.TrustedKey{Name: name, Key: k}
}

func newPerson(name string) person {
	seed := sha256.Sum256([]byte("onaws: " + name))
	return person{ed25519.NewKeyFromSeed(seed[:])}
}

var dora, rita, maker = newPerson("dora"), newPerson("rita"), newPerson("maker")

const address = "0x388C818CA8B9251b393131C08a736A67ccB19297"

func testTrust(t testing.TB) *certificate.Trust {
	network, _ := eth.LookupNetwork("hoodi")
	a, err := eth.ParseAddress(address)
	must(t, err)
	trust := &certificate.Trust{Network: network, Addresses: map[string]eth.Address{"cold": a}, Keys: []certificate.TrustedKey{maker.trusted("maker")},
		Developers: []certificate.TrustedKey{dora.trusted("dora")}, Managers: []certificate.TrustedKey{rita.trusted("rita")}}
	must(t, trust.Check())
	return trust
}

// built are packages of a tiny program under the generator's name: one for
// each of three settings.
var built struct {
	sync.Once
	packages []*release.Package
	err      error
}

func packages(t testing.TB) []*release.Package {
	t.Helper()
	if _, err := exec.LookPath("x86_64-linux-gnu-gcc"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("x86_64-linux-gnu-gcc is not installed, and CI must have it")
		}
		t.Skip("SKIPPED: x86_64-linux-gnu-gcc is not installed")
	}
	built.Do(func() { built.packages, built.err = build() })
	must(t, built.err)
	return built.packages
}

func build() (out []*release.Package, err error) {
	dir, err := os.MkdirTemp("", "onaws-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	settings := filepath.Join(dir, "settings")
	source := filepath.Join(dir, "source")
	write := func(name, text string) {
		full := filepath.Join(dir, name)
		if err == nil {
			if err = os.MkdirAll(filepath.Dir(full), 0o700); err == nil {
				err = os.WriteFile(full, []byte(text), 0o600)
			}
		}
	}
	write("source/go.mod", "module github.com/stakeseal/stakeseal\n\ngo 1.26\n")
	write("source/cmd/stakeseal-generator/main.go", "package main\n\n// #include <stdlib.h>\nimport \"C\"\n\nfunc main() { println(C.abs(-1)) }\n")
	for _, name := range []string{"anna", "signer-a"} {
		id, e := age.GenerateHybridIdentity()
		if e != nil {
			return nil, e
		}
		write("settings/recipients/"+name+".txt", id.Recipient().String()+"\n")
	}
	repo := release.Repository{Dir: source}
	for _, args := range [][]string{{"init", "--quiet"}, {"add", "-A"}, {"-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "--quiet", "-m", "x"}} {
		if words, e := exec.Command("git", append([]string{"-C", source}, args...)...).CombinedOutput(); e != nil && err == nil {
			err = errors.New(string(words))
		}
	}
	if err != nil {
		return nil, err
	}
	commit, err := repo.Resolve(context.Background(), "HEAD")
	for _, limit := range []string{"10", "11", "12"} {
		write("settings/generator.yaml", "version: 1\nnetwork: hoodi\nwithdrawal_addresses: {cold: \""+address+"\"}\nmax_validators_per_order: "+limit+
			"\nseal_to: {signing: [signer-a], recovery: [anna]}\ncertifier: file:certifier.key\nstore: sqlite:records.db\narchive: dir:bundles/\n")
		if err != nil {
			return nil, err
		}
		p, e := release.Build(context.Background(), release.Recipe{Repository: repo, Commit: commit, Settings: os.DirFS(settings), Arch: "amd64"})
		if e != nil {
			return nil, e
		}
		out = append(out, p)
	}
	return out, nil
}

// site is an installation, and the releases of it as each role sees them.
type site struct {
	*testing.T
	*world.World
	inst  *stack.Installation
	trust *certificate.Trust
	now   time.Time
	last  certificate.Hash // the package that was approved last: the next one follows it

	template bool   // hold the function to its template
	between  func() // runs once, before a call that failed is made again
}

func newSite(t *testing.T) *site {
	t.Helper()
	packages(t)
	s := &site{T: t, World: world.New(t, t.TempDir()), trust: testTrust(t), now: time.Now().UTC().Truncate(time.Second)}
	var err error
	s.inst, err = s.Deploy(stack.Options{Name: "stakeseal-hoodi", Account: world.Account, Region: world.Region,
		Parameters: map[string]map[string]string{"function": {"Architecture": "x86_64"}}})
	must(t, err)
	return s
}

// as are the releases with a role's credentials.
func (s *site) as(role string) *ops.Releases {
	s.Helper()
	for _, v := range s.Environ(role) {
		name, value, _ := strings.Cut(v, "=")
		s.Setenv(name, value)
	}
	a, err := ops.Open(s.Context(), ops.Place{Region: world.Region, Account: world.Account},
		ops.Options{Session: session.Options{Backoff: func(int) time.Duration {
			if f := s.between; f != nil {
				s.between = nil
				f()
			}
			return 0
		}}})
	must(s.T, err)
	var properties map[string]any
	if s.template {
		var why string
		properties, why, err = a.FunctionProperties(s.Context(), "stakeseal-hoodi")
		must(s.T, err)
		if properties == nil {
			s.Fatal("no template: " + why)
		}
	}
	r, err := a.Releases(ops.ReleaseAt{Bucket: s.inst.Outputs["foundation"]["PackageBucketArn"], Profile: s.inst.Outputs["foundation"]["SigningProfileVersionArn"],
		Alias: s.inst.Outputs["function"]["FunctionAliasArn"], Properties: properties}, s.trust)
	must(s.T, err)
	r.Pause = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	return r
}

// approved takes a package to its release statement. It follows the one that
// was approved before.
func (s *site) approved(p *release.Package, name string) *release.Signed {
	s.Helper()
	ctx := s.Context()
	must(s.T, release.Submit(ctx, s.as("developer").Depot(), s.trust, dora, p, "a change", s.now))
	d := s.as("release-manager").Depot()
	submitted, err := release.LoadSubmitted(ctx, d, s.trust, p.Digest)
	must(s.T, err)
	report := &release.Report{Schema: release.ReportSchema, Time: s.now, Package: p.Digest, Submission: submitted.Digest, Commit: p.Provenance.Commit, Binary: p.Binary,
		SettingsDigest: p.Provenance.Settings, Attention: []release.Finding{}, Rebuild: release.Rebuild{Verdict: release.Equal}}
	if !s.last.IsZero() {
		report.Base = &release.Base{Package: s.last}
	}
	s.last = p.Digest
	data, err := report.Encode()
	must(s.T, err)
	must(s.T, release.Decide(ctx, d, s.trust, rita, submitted, data, true, "", s.now))
	reviewed, err := release.LoadReviewed(ctx, d, s.trust, p.Digest)
	must(s.T, err)
	must(s.T, release.Sign(ctx, d, rita, reviewed, release.Terms{Name: name}, s.now))
	signed, err := release.LoadSigned(ctx, d, s.trust, p.Digest)
	must(s.T, err)
	return signed
}

func (s *site) inForce(r *ops.Releases, want *release.Package, previous *release.Package) {
	s.Helper()
	in, err := r.InForce(s.Context(), s.now)
	must(s.T, err)
	if in.Package().Digest != want.Digest {
		s.Fatalf("in force is %s", in.Package().Digest)
	}
	if previous != nil && in.Previous != previous.Digest || previous == nil && !in.Previous.IsZero() {
		s.Fatalf("the one before is %s", in.Previous)
	}
}

// TestReleasesOnAWS is the life of three releases: signed, deployed, rolled
// back, superseded, revoked.
func TestReleasesOnAWS(t *testing.T) {
	s := newSite(t)
	p, ctx := packages(t), t.Context()
	first := s.approved(p[0], "v1")
	r := s.as("release-manager")
	if _, err := r.InForce(ctx, s.now); !errors.Is(err, release.ErrNoRelease) {
		t.Fatalf("before any: %v", err)
	}
	if _, err := r.Rollback(ctx, certificate.Hash{}, s.now); !errors.Is(err, release.ErrNoRelease) {
		t.Errorf("rolled back from nothing: %v", err)
	}
	object, err := r.Stamp(ctx, first)
	must(t, err)
	if again, err := r.Stamp(ctx, first); err != nil || again != object || len(s.Calls("signer", "StartSigningJob")) != 1 {
		t.Errorf("signed twice: %v, %v", again, err)
	}
	for range 2 {
		must(t, r.Install(ctx, first, s.now))
		s.inForce(r, p[0], nil)
	}
	if n := len(s.Calls("lambda", "PublishVersion")); n != 1 {
		t.Errorf("%d versions published for one release", n)
	}
	second := s.approved(p[1], "v2")
	r = s.as("release-manager")
	must(t, r.Install(ctx, second, s.now))
	s.inForce(r, p[1], p[0])
	_, err = r.Rollback(ctx, certificate.Hash{}, s.now)
	must(t, err)
	s.inForce(r, p[0], p[1])
	must(t, r.Install(ctx, second, s.now))
	s.inForce(r, p[1], p[0])
	third := s.approved(p[2], "v3")
	r = s.as("release-manager")
	must(t, r.Install(ctx, third, s.now))
	s.inForce(r, p[2], p[1])
	if deleted := s.Calls("lambda", "DeleteFunction"); len(deleted) != 1 {
		t.Errorf("%d superseded versions were removed", len(deleted))
	}
	// The auditor sees the same and changes nothing.
	auditor := s.as("auditor")
	s.inForce(auditor, p[2], p[1])
	auditor.OutOfOrder = true
	if err := auditor.Install(ctx, second, s.now); !errors.Is(err, session.ErrDenied) {
		t.Errorf("the auditor deploys: %v", err)
	}
	s.inForce(auditor, p[2], p[1])
	r = s.as("release-manager")
	if err := r.Install(ctx, second, s.now); !errors.Is(err, release.ErrOrder) {
		t.Errorf("a superseded release is deployed again: %v", err)
	}
	s.inForce(r, p[2], p[1])
	must(t, release.Revoke(ctx, r.Depot().Reviews, s.trust, rita, p[1].Digest, "found to be bad", s.now))
	if _, err := r.Rollback(ctx, certificate.Hash{}, s.now); !errors.Is(err, release.ErrRevoked) {
		t.Errorf("rolled back to a revoked release: %v", err)
	}
	s.inForce(r, p[2], nil) // nothing to go back to that may run
}

// TestEachRolesStep: on AWS each role may do exactly its step, whatever keys
// its holder has.
func TestEachRolesStep(t *testing.T) {
	s := newSite(t)
	p, ctx := packages(t), t.Context()
	signed := s.approved(p[0], "v1")
	must(t, s.as("release-manager").Install(ctx, signed, s.now))
	steps := map[string]struct {
		may string
		do  func(*ops.Releases) error
	}{
		"submit": {"developer", func(r *ops.Releases) error {
			return r.Depot().Submissions.Put(ctx, p[1].Digest.String()+"/"+time.Now().Format("150405.000000000"), []byte("x"))
		}},
		"write a statement": {"release-manager", func(r *ops.Releases) error {
			return r.Depot().Reviews.Put(ctx, p[1].Digest.String()+"/"+time.Now().Format("150405.000000000"), []byte("x"))
		}},
		"move the alias": {"release-manager", func(r *ops.Releases) error {
			_, err := r.Rollback(ctx, certificate.Hash{}, s.now)
			if errors.Is(err, release.ErrNoRelease) { // allowed, and nothing to roll back to
				return nil
			}
			return err
		}},
	}
	for step, c := range steps {
		for _, role := range []string{"developer", "release-manager", "requester", "depositor", "signer", "recovery"} {
			err := c.do(s.as(role))
			switch {
			case role == c.may && err != nil:
				t.Errorf("%s cannot %s: %v", role, step, err)
			case role != c.may && !errors.Is(err, session.ErrDenied):
				t.Errorf("%s tries to %s: %v", role, step, err)
			}
		}
	}
	// A submission is written once.
	if err := release.Submit(ctx, s.as("developer").Depot(), s.trust, dora, p[0], "another word", s.now); err == nil {
		t.Error("a submission was replaced")
	}
}

// TestWhatIsDeployedIsCompared: a signed object that changed, code that came
// another way, and configuration beside the code are refused.
func TestWhatIsDeployedIsCompared(t *testing.T) {
	s := newSite(t)
	p, ctx := packages(t), t.Context()
	first := s.approved(p[0], "v1")
	second := s.approved(p[1], "v2")
	r := s.as("release-manager")
	object, err := r.Stamp(ctx, first)
	must(t, err)
	bucket := strings.TrimPrefix(s.inst.Outputs["foundation"]["PackageBucketArn"], "arn:aws:s3:::")
	good, ok := s.Buckets.Get(bucket, object.Key)
	if !ok {
		t.Fatal("no signed object")
	}
	for name, data := range map[string][]byte{
		"another package": p[1].Data, "one byte": append(slices.Clone(good[:len(good)-1]), good[len(good)-1]^1), "unsigned": p[0].Data,
	} {
		must(t, s.Buckets.Put(bucket, object.Key, data))
		if err := r.Install(ctx, first, s.now); !errors.Is(err, release.ErrMixed) {
			t.Errorf("deployed a signed object that is %s: %v", name, err)
		}
	}
	must(t, s.Buckets.Put(bucket, object.Key, good))
	must(t, r.Install(ctx, first, s.now))
	s.inForce(r, p[0], nil)
	must(t, s.Buckets.Put(bucket, object.Key, p[1].Data))
	if _, err := r.InForce(ctx, s.now); !errors.Is(err, release.ErrMixed) {
		t.Errorf("verified against a signed object that changed: %v", err)
	}
	must(t, s.Buckets.Put(bucket, object.Key, good))

	// Somebody configures the function: an environment that could redirect it.
	must(t, s.Configure(map[string]string{"AWS_ENDPOINT_URL_KMS": "https://evil.example"}, 1769, 900*time.Second, -1))
	if err := r.Install(ctx, second, s.now); !errors.Is(err, ops.ErrDeployed) || !strings.Contains(err.Error(), "environment") {
		t.Errorf("deployed beside an environment: %v", err)
	}
	s.inForce(r, p[0], nil)
	must(t, s.Configure(nil, 1769, 900*time.Second, -1))
	must(t, r.Install(ctx, second, s.now))
	s.inForce(r, p[1], p[0])

	// A version that no release made.
	number, err := s.Publish()
	must(t, err)
	if number == "" {
		t.Fatal("no version")
	}
	s.inForce(r, p[1], p[0])
	// The signing profile is revoked: what is unsigned cannot become signed.
	s.RevokeSigning(strings.Split(s.inst.Outputs["foundation"]["SigningProfileVersionArn"], "/")[2])
	third := s.approved(p[2], "v3")
	if _, err := s.as("release-manager").Stamp(ctx, third); err == nil {
		t.Error("signed with a revoked profile")
	}
}

// TestStopsBetweenSteps: whichever call fails for good, applied or not, the
// alias stands for a whole release, and deploying again ends well.
func TestStopsBetweenSteps(t *testing.T) {
	s := newSite(t)
	p, ctx := packages(t), t.Context()
	first, second := s.approved(p[0], "v1"), s.approved(p[1], "v2")
	r := s.as("release-manager")
	r.OutOfOrder = true // to and fro
	must(t, r.Install(ctx, first, s.now))
	stopped := 0
	releases := []*release.Signed{first, second}
	turn := 0
	for _, at := range []struct{ service, action string }{
		{"signer", "StartSigningJob"}, {"signer", "DescribeSigningJob"}, {"s3", "PutObject"}, {"lambda", "UpdateFunctionCode"}, {"lambda", "PublishVersion"},
		{"lambda", "UpdateAlias"}, {"lambda", "GetAlias"}, {"lambda", "ListVersionsByFunction"}, {"lambda", "GetCodeSigningConfig"},
	} {
		for _, kind := range []world.Kind{world.Broken, world.Lost} {
			next, before := releases[(turn+1)%2], releases[turn%2]
			turn++
			s.Fail(at.service, at.action, -1, world.Fault{Kind: kind})
			err := r.Install(ctx, next, s.now)
			s.Heal()
			if err != nil {
				stopped++
			}
			in, err := r.InForce(ctx, s.now)
			if err != nil {
				t.Fatalf("%s %s: nothing whole is in force: %v", at.service, at.action, err)
			}
			if d := in.Package().Digest; d != next.Package().Digest && d != before.Package().Digest {
				t.Fatalf("%s %s: in force is %s", at.service, at.action, d)
			}
			if err := r.Install(ctx, next, s.now); err != nil {
				t.Errorf("%s %s: again: %v", at.service, at.action, err)
			}
			s.inForce(r, next.Package(), before.Package())
		}
	}
	if stopped < 6 {
		t.Errorf("only %d runs were stopped", stopped)
	}
}

// TestRevokedInForce: the release in force is revoked. It is refused, a rollback
// goes to the one before, and the revoked one's version is not kept.
func TestRevokedInForce(t *testing.T) {
	s := newSite(t)
	p, ctx := packages(t), t.Context()
	first, second, third := s.approved(p[0], "v1"), s.approved(p[1], "v2"), s.approved(p[2], "v3")
	r := s.as("release-manager")
	must(t, r.Install(ctx, first, s.now))
	must(t, r.Install(ctx, second, s.now))
	in, err := r.Rollback(ctx, certificate.Hash{}, s.now)
	must(t, err)
	if in.Package().Digest != p[0].Digest || in.RolledBack != p[1].Digest || in.Previous != p[1].Digest {
		t.Errorf("rolled back: %s in force, from %s, before it %s", in.Package().Digest, in.RolledBack, in.Previous)
	}
	must(t, r.Install(ctx, second, s.now))
	must(t, release.Revoke(ctx, r.Depot().Reviews, s.trust, rita, p[1].Digest, "found to be bad", s.now))
	if _, err := r.InForce(ctx, s.now); !errors.Is(err, release.ErrRevoked) {
		t.Errorf("revoked, and in force: %v", err)
	}
	if pkg, err := r.Named(ctx); err != nil || pkg != p[1].Digest {
		t.Errorf("what is in force, unverified: %s, %v", pkg, err)
	}
	if _, err := r.Rollback(ctx, p[2].Digest, s.now); !errors.Is(err, release.ErrNotBefore) {
		t.Errorf("rolled back to what is not before it: %v", err)
	}
	if pkg, err := r.Named(ctx); err != nil || pkg != p[1].Digest {
		t.Errorf("the alias moved: %s, %v", pkg, err)
	}
	if in, err = r.Rollback(ctx, p[0].Digest, s.now); err != nil || in.Package().Digest != p[0].Digest || !in.Previous.IsZero() {
		t.Fatalf("rolled back from a revoked release: %v", err)
	}
	if n := len(s.Calls("lambda", "DeleteFunction")); n != 1 {
		t.Errorf("%d versions were removed, the revoked one is one", n)
	}
	// Deployed over a revoked one, the one before that is kept.
	s.trust.Releases = []certificate.Release{second.Release}
	must(t, r.Install(ctx, third, s.now))
	s.inForce(r, p[2], p[0])
}

// TestTwoAtOnce: two managers deploy two releases that follow the same one. The
// second to move the alias looked before the first had moved it.
func TestTwoAtOnce(t *testing.T) {
	s := newSite(t)
	p, ctx := packages(t), t.Context()
	first, second := s.approved(p[0], "v1"), s.approved(p[1], "v2")
	s.last = p[0].Digest
	beside := s.approved(p[2], "v2-beside")
	r, other := s.as("release-manager"), s.as("release-manager")
	must(t, r.Install(ctx, first, s.now))
	met := false
	s.between = func() {
		met = true
		must(t, other.Install(ctx, beside, s.now))
	}
	s.Fail("lambda", "GetCodeSigningConfig", 1, world.Fault{Kind: world.Broken}) // after the look at the alias
	err := r.Install(ctx, second, s.now)
	if !met {
		t.Fatal("nobody came between")
	}
	if !errors.Is(err, ops.ErrMeanwhile) {
		t.Errorf("the other's release was replaced: %v", err)
	}
	s.inForce(other, p[2], p[0])
	if err := r.Install(ctx, second, s.now); !errors.Is(err, release.ErrOrder) {
		t.Errorf("again, over the other's: %v", err)
	}
	s.inForce(other, p[2], p[0])
}

// TestBesideTheCode: what stands beside the code is held to the stack's template
// with its parameters, and what nothing says how it should be is stated.
func TestBesideTheCode(t *testing.T) {
	s := newSite(t)
	p, ctx := packages(t), t.Context()
	first := s.approved(p[0], "v1")
	r := s.as("release-manager")
	must(t, r.Install(ctx, first, s.now))
	in, err := r.InForce(ctx, s.now)
	must(t, err)
	if len(in.Unjudged) != 1 || !strings.Contains(in.Unjudged[0], "MemorySize 1769 and Timeout 900") {
		t.Errorf("without a template is stated: %q", in.Unjudged)
	}
	s.template = true
	for _, role := range []string{"release-manager", "auditor"} {
		in, err := s.as(role).InForce(ctx, s.now)
		must(t, err)
		if len(in.Unjudged) != 0 {
			t.Errorf("with its template is stated: %q", in.Unjudged)
		}
	}
	r = s.as("release-manager")
	second := s.approved(p[1], "v2")
	for what, change := range map[string]func() error{
		"MemorySize 128": func() error { return s.Configure(nil, 128, 900*time.Second, -1) },
		"Timeout 30":     func() error { return s.Configure(nil, 1769, 30*time.Second, -1) },
		"HTTPS_PROXY":    func() error { return s.Configure(map[string]string{"HTTPS_PROXY": "x"}, 1769, 900*time.Second, -1) },
		"AWS_LAMBDA_EXEC_WRA": func() error {
			return s.Configure(map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": "/x"}, 1769, 900*time.Second, -1)
		},
	} {
		must(t, change())
		if err := r.Install(ctx, second, s.now); !errors.Is(err, ops.ErrDeployed) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
		s.inForce(r, p[0], nil)
	}
	must(t, s.Configure(nil, 1769, 900*time.Second, -1))
	must(t, r.Install(ctx, second, s.now))
	s.inForce(r, p[1], p[0])
}
