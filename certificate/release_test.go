package certificate

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func exampleRelease() ReleaseStatement {
	return ReleaseStatement{Name: "v0-1-0", Network: "hoodi", Binaries: []Hash{hashOf("binary"), hashOf("binary arm64")}, Settings: hashOf("settings"),
		Commit: exampleBirth(0).Maker.Commit, Submission: hashOf("submission"), Reviews: []Hash{hashOf("review"), hashOf("review 2")}, Supersedes: hashOf("package before"),
		NotBefore: at("2026-11-01T00:00:01Z"), NotAfter: at("2027-10-31T23:59:59Z"), Time: at("2026-11-01T00:00:00Z")}
}

// managedTrust is the example with two release managers, both of whom signed
// its release.
func managedTrust(t testing.TB) *Trust {
	t.Helper()
	a, b := newEdSigner(0x70), newEdSigner(0x71)
	trust := exampleTrust()
	trust.Managers = []TrustedKey{{"rita", a.public(), Validity{}}, {"mona", b.public(), Validity{}}}
	trust.Threshold = 2
	ctx := context.Background()
	joined := must(Join(must(SignRelease(ctx, a, hashOf("package"), exampleRelease())), must(SignRelease(ctx, b, hashOf("package"), exampleRelease()))))
	r, _, err := trust.VerifyRelease(joined)
	if err != nil {
		t.Fatal(err)
	}
	trust.Releases = []Release{r}
	if err := trust.Check(); err != nil {
		t.Fatal(err)
	}
	return trust
}

// raised is managedTrust with its release signed by one manager only, as it was
// before the threshold rose from 1 to 2.
func raised(t testing.TB) *Trust {
	t.Helper()
	trust := managedTrust(t)
	trust.Threshold = 1
	r, _, err := trust.VerifyRelease(must(SignRelease(context.Background(), newEdSigner(0x70), hashOf("package"), exampleRelease())))
	if err != nil {
		t.Fatal(err)
	}
	r.Threshold = 1
	trust.Threshold, trust.Releases = 2, []Release{r}
	return trust
}

// TestRaisedThreshold: a release that one manager signed when one was enough
// goes on standing for what it made, by its own entry, and only so.
func TestRaisedThreshold(t *testing.T) {
	trust := raised(t)
	back, err := ParseTrust(must(FormatTrust(*trust)))
	if err != nil || back.Releases[0].Threshold != 1 {
		t.Fatalf("%v, %+v", err, back)
	}
	if v, err := back.VerifyBirth(mustSign(exampleBirth(0))); err != nil || v.Release != "v0-1-0" {
		t.Errorf("%v, %+v", err, v)
	}
	if _, known := back.StatementOf(back.Releases[0]); !known {
		t.Error("what was signed is not known")
	}
	if _, _, err := back.VerifyRelease(back.Releases[0].Statement); !errors.Is(err, ErrTooFew) {
		t.Errorf("as a release to deploy: %v", err)
	}
	for _, threshold := range []int{-1, 0, 2, 3} {
		trust.Releases[0].Threshold = threshold
		if err := trust.Check(); err == nil {
			t.Errorf("with threshold %d it stands", threshold)
		}
	}
	for _, text := range []string{"0", "3", "-1", "one"} {
		trust.Releases[0].Threshold = 1
		if _, err := ParseTrust(bytes.Replace(must(FormatTrust(*trust)), []byte("    threshold: 1"), []byte("    threshold: "+text), 1)); err == nil {
			t.Errorf("threshold: %s is read", text)
		}
	}
	trust.Releases[0].Threshold, trust.Managers[0].Revoked = 1, true // it has no signature left
	if err := trust.Stands(trust.Releases[0]); !errors.Is(err, ErrUntrusted) {
		t.Errorf("its one manager revoked: %v", err)
	}
	unsigned := exampleTrust()
	unsigned.Releases[0].Threshold = 1
	if err := unsigned.Check(); err == nil {
		t.Error("a threshold of no statement")
	}
}

// A birth names its release, the review and the commit that this rests on, and
// is refused out of the release's validity or of another commit.
func TestBirthOfASignedRelease(t *testing.T) {
	trust := managedTrust(t)
	v, err := trust.VerifyBirth(mustSign(exampleBirth(0)))
	if err != nil {
		t.Fatal(err)
	}
	if v.Release != "v0-1-0" || v.Review != hashOf("review") || v.Commit != exampleBirth(0).Maker.Commit {
		t.Errorf("%+v", v)
	}
	for name, c := range map[string]struct {
		change func(*Birth)
		want   error
	}{
		"before":         {func(b *Birth) { b.Time = at("2026-11-01T00:00:00Z") }, ErrUntrusted},
		"after":          {func(b *Birth) { b.Time = at("2027-11-01T00:00:00Z") }, ErrUntrusted},
		"another commit": {func(b *Birth) { b.Maker.Commit = strings.Repeat("1", 40) }, ErrMismatch},
		"dirty":          {func(b *Birth) { b.Maker.Commit += "-dirty" }, ErrMismatch},
		"another binary": {func(b *Birth) { b.Maker.BinaryDigest = hashOf("x") }, ErrUntrusted},
	} {
		b := exampleBirth(0)
		c.change(&b)
		if _, err := trust.VerifyBirth(mustSign(b)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestVerifyRelease(t *testing.T) {
	ctx := context.Background()
	rita, mona, otto := newEdSigner(0x70), newEdSigner(0x71), newEdSigner(0x72)
	sign := func(s Signer, change func(*ReleaseStatement)) []byte {
		st := exampleRelease()
		if change != nil {
			change(&st)
		}
		return must(SignRelease(ctx, s, hashOf("package"), st))
	}
	good := must(Join(sign(rita, nil), sign(mona, nil)))
	for name, c := range map[string]struct {
		envelope []byte
		change   func(*Trust)
		want     error
	}{
		"good":                  {good, nil, nil},
		"one of two":            {sign(rita, nil), nil, ErrUntrusted},
		"one of one":            {sign(rita, nil), func(tr *Trust) { tr.Threshold = 1 }, nil},
		"threshold not written": {sign(rita, nil), func(tr *Trust) { tr.Threshold = 0 }, nil},
		"one and a stranger":    {must(Join(sign(rita, nil), sign(otto, nil))), nil, ErrUntrusted},
		"strangers":             {must(Join(sign(otto, nil))), nil, ErrSignature},
		"one twice":             {must(Join(sign(rita, nil), sign(rita, nil))), nil, ErrUntrusted},
		"a revoked one":         {good, func(tr *Trust) { tr.Managers[0].Revoked = true }, ErrUntrusted},
		"all revoked":           {good, func(tr *Trust) { tr.Managers[0].Revoked, tr.Managers[1].Revoked = true, true }, ErrUntrusted},
		"a retired one":         {good, func(tr *Trust) { tr.Managers[0].NotAfter = at("2026-10-31T00:00:00Z") }, ErrUntrusted},
		"another network":       {good, func(tr *Trust) { tr.Network.Name = "sepolia" }, ErrMismatch},
		"changed":               {[]byte(strings.Replace(string(good), `"sig":"`, `"sig":"AAAA`, 1)), nil, ErrSignature},
		"a birth":               {must(SignStatement(ctx, rita, BirthType, "package", hashOf("package"), exampleRelease())), nil, ErrFormat},
		"of another subject":    {must(SignStatement(ctx, rita, ReleaseType, "pubkey", hashOf("package"), exampleRelease())), nil, ErrMismatch},
		"of nothing":            {must(SignStatement(ctx, rita, ReleaseType, "package", Hash{}, exampleRelease())), nil, ErrMismatch},
	} {
		trust := managedTrust(t)
		if c.change != nil {
			c.change(trust)
		}
		_, _, err := trust.VerifyRelease(c.envelope)
		if c.want == nil && err != nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*ReleaseStatement){
		"no name":     func(s *ReleaseStatement) { s.Name = "" },
		"escapes":     func(s *ReleaseStatement) { s.Name = "\x1b[2J" },
		"no binary":   func(s *ReleaseStatement) { s.Binaries = nil },
		"zero binary": func(s *ReleaseStatement) { s.Binaries = []Hash{{}} },
		"no settings": func(s *ReleaseStatement) { s.Settings = Hash{} },
		"no review":   func(s *ReleaseStatement) { s.Reviews = nil },
		"short id":    func(s *ReleaseStatement) { s.Commit = "abc" },
		"backwards":   func(s *ReleaseStatement) { s.NotAfter = s.NotBefore.Add(-time.Second) },
		"no begin":    func(s *ReleaseStatement) { s.NotBefore = time.Time{} },
		"local time":  func(s *ReleaseStatement) { s.Time = s.Time.In(time.FixedZone("x", 3600)) },
	} {
		st := exampleRelease()
		change(&st)
		if _, err := SignRelease(ctx, rita, hashOf("package"), st); !errors.Is(err, ErrFormat) {
			t.Errorf("signed a release with %s: %v", name, err)
		}
	}
	other := exampleRelease()
	other.Name = "v0-1-1"
	if _, err := Join(sign(rita, nil), must(SignRelease(ctx, mona, hashOf("package"), other))); !errors.Is(err, ErrMismatch) {
		t.Errorf("joined two statements: %v", err)
	}
	if _, err := Join(); err == nil {
		t.Error("joined nothing")
	}
}

// A trust file of before has no release managers, reads as it did, and is
// written as it was.
func TestTrustFileBefore(t *testing.T) {
	text := must(FormatTrust(*exampleTrust()))
	for _, word := range []string{"developers", "release_managers", "release_threshold", "statement", "package_sha256"} {
		if strings.Contains(string(text), word+":") {
			t.Errorf("a trust file without release managers is written with %s", word)
		}
	}
	managed := must(FormatTrust(*managedTrust(t)))
	back, err := ParseTrust(managed)
	if err != nil {
		t.Fatal(err)
	}
	wantSameTrust(t, back, managedTrust(t))
	if back.Threshold != 2 || len(back.Managers) != 2 || string(back.Releases[0].Statement) != string(managedTrust(t).Releases[0].Statement) {
		t.Errorf("%+v", back)
	}
}
