package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/release"
)

var _ release.Target = (*Releases)(nil)

// version is a published version of the function, as Lambda describes it.
type version struct {
	number  string
	config  types.FunctionConfiguration
	pkg     certificate.Hash // by its description; zero: none of ours
	release string
}

// Install implements release.Target: the code from the signed object, a
// version, the alias moved to it, and superseded versions removed. Each step
// looks first whether it is done, and what AWS then says is compared with the
// package; the alias moves last, so that it always stands for a whole release.
func (r *Releases) Install(ctx context.Context, s *release.Signed, now time.Time) error {
	if err := r.Fits(ctx, s, now); err != nil {
		return err
	}
	p := s.Package()
	seen, inForce, err := r.named(ctx)
	if err != nil && !errors.Is(err, release.ErrNoRelease) {
		return fmt.Errorf("couldn't deploy: %w", err)
	}
	if !r.OutOfOrder {
		if err := release.MayFollow(r.Trust, s, inForce); err != nil {
			return fmt.Errorf("couldn't deploy: %w", err)
		}
	}
	object, err := r.Stamp(ctx, s)
	if err != nil {
		return err
	}
	if err := r.enforced(ctx); err != nil {
		return fmt.Errorf("couldn't deploy: %w", err)
	}
	latest, err := r.upload(ctx, p, object)
	if err != nil {
		return fmt.Errorf("couldn't deploy: %w", err)
	}
	number, made, err := r.publish(ctx, s, object, latest)
	if err != nil {
		return fmt.Errorf("couldn't deploy: %w", err)
	}
	if err := r.point(ctx, number, seen); err != nil {
		if made && errors.Is(err, ErrMeanwhile) { // never in force: nothing to roll back to, or to call
			_, e := r.lambda.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: &r.name, Qualifier: &number})
			if e != nil {
				err = errors.Join(err, session.Classify("lambda:DeleteFunction", e))
			}
		}
		return fmt.Errorf("couldn't deploy: %w", err)
	}
	if err := r.tidy(ctx, number, seen, now); err != nil {
		return fmt.Errorf("the release is in force, and a superseded version is still there: %w", err)
	}
	return nil
}

// Fits implements release.Target.
func (r *Releases) Fits(_ context.Context, s *release.Signed, now time.Time) error {
	p := s.Package()
	if p == nil || s.Release.Package != p.Digest {
		return fmt.Errorf("couldn't deploy: %w: no signed package was loaded", release.ErrNotSigned)
	}
	if err := r.mayRun(s, now); err != nil {
		return fmt.Errorf("couldn't deploy: %w", err)
	}
	if err := r.belongs(p); err != nil {
		return fmt.Errorf("couldn't deploy: %w", err)
	}
	return nil
}

// belongs refuses a package whose settings name the stores or the certifying key
// of another installation: the people who signed it may have signed it for that
// one.
func (r *Releases) belongs(p *release.Package) error {
	if r.home == nil {
		return nil
	}
	for _, place := range []struct {
		what string
		is   config.Ref
		want string
	}{{"store", p.Settings.Store, r.home.Records}, {"archive", p.Settings.Archive, r.home.Archive}, {"certifier", p.Settings.Certifier, r.home.Certifying}} {
		if place.is.Rest != place.want {
			return fmt.Errorf("%w: its settings name the %s %q, and that of %s is %s", ErrElsewhere, place.what, clip(place.is.String()), r.home.Name, place.want)
		}
	}
	return nil
}

// Named implements release.Target.
func (r *Releases) Named(ctx context.Context) (certificate.Hash, error) {
	_, pkg, err := r.named(ctx)
	return pkg, err
}

// named is the version behind the alias and the package that it says it is:
// zero where no release put it there. Whoever may publish can write any
// description: what nobody released is nothing to follow.
func (r *Releases) named(ctx context.Context) (number string, pkg certificate.Hash, err error) {
	number, err = r.standing(ctx)
	if err != nil {
		return "", pkg, err
	}
	c, err := r.settled(ctx, number)
	if err != nil {
		return "", pkg, err
	}
	_, pkg = readDescription(aws.ToString(c.Description))
	pkg, err = release.Standing(ctx, r.depot, r.Trust, pkg)
	return number, pkg, err
}

// mayRun is Home's: valid now, and not revoked in the trust file.
func (r *Releases) mayRun(s *release.Signed, now time.Time) error {
	return release.Home{Trust: r.Trust}.MayRun(s, now)
}

// enforced refuses a function that would take unsigned code.
func (r *Releases) enforced(ctx context.Context) error {
	f, err := r.lambda.GetFunctionCodeSigningConfig(ctx, &lambda.GetFunctionCodeSigningConfigInput{FunctionName: &r.name})
	if err != nil {
		return session.Classify("lambda:GetFunctionCodeSigningConfig", err)
	}
	c, err := r.lambda.GetCodeSigningConfig(ctx, &lambda.GetCodeSigningConfigInput{CodeSigningConfigArn: f.CodeSigningConfigArn})
	if err != nil {
		return session.Classify("lambda:GetCodeSigningConfig", err)
	}
	config := c.CodeSigningConfig
	if config == nil || config.CodeSigningPolicies == nil || config.CodeSigningPolicies.UntrustedArtifactOnDeployment != types.CodeSigningPolicyEnforce {
		return fmt.Errorf("%w: the function's code-signing configuration does not enforce signatures", ErrDeployed)
	}
	if config.AllowedPublishers == nil || !slices.Equal(config.AllowedPublishers.SigningProfileVersionArns, []string{r.profile}) {
		return fmt.Errorf("%w: the function takes code of other signing profiles than %s", ErrDeployed, r.profile)
	}
	return nil
}

// upload makes the signed object the function's unpublished code.
func (r *Releases) upload(ctx context.Context, p *release.Package, object SignedObject) (types.FunctionConfiguration, error) {
	now, err := r.settled(ctx, "")
	if err != nil {
		return now, err
	}
	if aws.ToString(now.CodeSha256) != codeSHA256(object.SHA256) {
		_, err := r.lambda.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: &r.name, S3Bucket: &r.bucket, S3Key: &object.Key,
			RevisionId: now.RevisionId, Architectures: []types.Architecture{architecture(p)}})
		if err != nil {
			return now, session.Classify("lambda:UpdateFunctionCode", err)
		}
		if now, err = r.settled(ctx, ""); err != nil {
			return now, err
		}
	}
	return now, r.compare(now, p, object)
}

func architecture(p *release.Package) types.Architecture {
	if p.Provenance.Platform == "linux/arm64" {
		return types.ArchitectureArm64
	}
	return types.ArchitectureX8664
}

// settled reads a version's configuration, "" for the unpublished one, once
// no update of it is under way.
func (r *Releases) settled(ctx context.Context, number string) (types.FunctionConfiguration, error) {
	const tries = 120
	for try := range tries {
		in := &lambda.GetFunctionInput{FunctionName: &r.name}
		if number != "" {
			in.Qualifier = &number
		}
		out, err := r.lambda.GetFunction(ctx, in)
		if err != nil {
			return types.FunctionConfiguration{}, session.Classify("lambda:GetFunction", err)
		}
		if out.Configuration == nil {
			return types.FunctionConfiguration{}, session.Malformed("lambda:GetFunction", "", "no configuration")
		}
		c := *out.Configuration
		switch {
		case c.LastUpdateStatus == types.LastUpdateStatusFailed || c.State == types.StateFailed:
			return c, fmt.Errorf("%w: Lambda says %q", ErrDeployed, aws.ToString(c.LastUpdateStatusReason)+aws.ToString(c.StateReason))
		case c.LastUpdateStatus != types.LastUpdateStatusInProgress && c.State != types.StatePending:
			return c, nil
		}
		if err := r.Pause(ctx, min(time.Duration(try+1)*250*time.Millisecond, 2*time.Second)); err != nil {
			return c, err
		}
	}
	return types.FunctionConfiguration{}, fmt.Errorf("%w: the function's update did not end", ErrDeployed)
}

// compare holds what Lambda says of a version to the package: its code by the
// digest of the signed object, by its signing job and profile, and what beside
// the code decides what runs.
func (r *Releases) compare(c types.FunctionConfiguration, p *release.Package, object SignedObject) error {
	bad := func(what, is, want string) error {
		return fmt.Errorf("%w: %s of %s is %q, not %q", ErrDeployed, what, aws.ToString(c.FunctionArn), is, want)
	}
	switch {
	case aws.ToString(c.CodeSha256) != codeSHA256(object.SHA256):
		return bad("the code's sha256", aws.ToString(c.CodeSha256), codeSHA256(object.SHA256))
	case aws.ToString(c.SigningJobArn) != object.Job:
		return bad("the signing job", aws.ToString(c.SigningJobArn), object.Job)
	case aws.ToString(c.SigningProfileVersionArn) != r.profile:
		return bad("the signing profile", aws.ToString(c.SigningProfileVersionArn), r.profile)
	case !slices.Equal(c.Architectures, []types.Architecture{architecture(p)}):
		return bad("the architecture", fmt.Sprint(c.Architectures), string(architecture(p)))
	}
	if wrong, _ := besides(c, r.reference); len(wrong) > 0 {
		return fmt.Errorf("%w: %s %s", ErrDeployed, aws.ToString(c.FunctionArn), strings.Join(wrong, "; it "))
	}
	return nil
}

// stated is what of a version could not be compared with anything, as it is.
func (r *Releases) stated(c types.FunctionConfiguration) []string {
	_, unjudged := besides(c, r.reference)
	if r.unjudged != "" && len(unjudged) > 0 {
		unjudged = append(unjudged, "is not compared with a template: "+r.unjudged)
	}
	return unjudged
}

// described is what a version's description says, and reads it back.
func described(s *release.Signed) string {
	return "stakeseal release " + s.Release.Name + " package " + s.Release.Package.String()
}

func readDescription(text string) (name string, pkg certificate.Hash) {
	rest, ours := strings.CutPrefix(text, "stakeseal release ")
	at := strings.LastIndex(rest, " package ")
	if !ours || at < 0 || pkg.UnmarshalText([]byte(rest[at+len(" package "):])) != nil {
		return "", certificate.Hash{}
	}
	return rest[:at], pkg
}

// publish makes the unpublished code a version, or finds the one that a run
// before made. made: it is new.
func (r *Releases) publish(ctx context.Context, s *release.Signed, object SignedObject, latest types.FunctionConfiguration) (number string, made bool, err error) {
	list, err := r.versions(ctx)
	if err != nil {
		return "", false, err
	}
	for _, v := range slices.Backward(list) {
		if v.pkg == s.Release.Package && aws.ToString(v.config.CodeSha256) == codeSHA256(object.SHA256) && r.compare(v.config, s.Package(), object) == nil {
			return v.number, false, nil
		}
	}
	out, err := r.lambda.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: &r.name, CodeSha256: latest.CodeSha256, RevisionId: latest.RevisionId, Description: aws.String(described(s))})
	if err != nil {
		return "", false, session.Classify("lambda:PublishVersion", err)
	}
	number = aws.ToString(out.Version)
	if _, err := strconv.ParseUint(number, 10, 63); err != nil {
		return "", false, session.Malformed("lambda:PublishVersion", "", "the version is %q", number)
	}
	c, err := r.settled(ctx, number)
	if err != nil {
		return "", false, err
	}
	if _, pkg := readDescription(aws.ToString(c.Description)); pkg != s.Release.Package {
		return "", false, fmt.Errorf("%w: version %s says it is %q", ErrDeployed, number, aws.ToString(c.Description))
	}
	return number, true, r.compare(c, s.Package(), object)
}

// versions lists the published versions, oldest first.
func (r *Releases) versions(ctx context.Context) ([]version, error) {
	published, err := publishedVersions(ctx, r.lambda, r.name)
	if err != nil {
		return nil, session.Classify("lambda:ListVersionsByFunction", err)
	}
	list := make([]version, len(published))
	for i, c := range published {
		name, pkg := readDescription(aws.ToString(c.Description))
		list[i] = version{aws.ToString(c.Version), c, pkg, name}
	}
	return list, nil
}

// point moves the alias to a version, if it still stands for the version that
// was seen ("" for none): what was judged to follow that may not follow another.
// Lambda's revision id keeps the answer true until the alias moves.
func (r *Releases) point(ctx context.Context, number, seen string) error {
	now, err := r.pointed(ctx)
	switch {
	case errors.Is(err, release.ErrNoRelease):
		if seen != "" {
			return fmt.Errorf("%w: the alias %s is gone", ErrMeanwhile, r.alias)
		}
		if _, err := r.lambda.CreateAlias(ctx, &lambda.CreateAliasInput{FunctionName: &r.name, Name: &r.alias, FunctionVersion: &number}); err != nil {
			return session.Classify("lambda:CreateAlias", err)
		}
	case err != nil:
		return err
	default:
		was := aws.ToString(now.FunctionVersion)
		weighted := now.RoutingConfig != nil && len(now.RoutingConfig.AdditionalVersionWeights) > 0
		if was == number && !weighted {
			break
		}
		if was != seen && was != number {
			return fmt.Errorf("%w: the alias %s stands for version %s now", ErrMeanwhile, r.alias, was)
		}
		in := &lambda.UpdateAliasInput{FunctionName: &r.name, Name: &r.alias, FunctionVersion: &number, RevisionId: now.RevisionId}
		if weighted { // orders would go to another version too
			in.RoutingConfig = &types.AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{}}
		}
		if _, err := r.lambda.UpdateAlias(ctx, in); err != nil {
			return session.Classify("lambda:UpdateAlias", err)
		}
	}
	at, err := r.inForce(ctx)
	if err != nil {
		return err
	}
	if at != number {
		return fmt.Errorf("%w: the alias %s stands for version %s, not %s", ErrDeployed, r.alias, at, number)
	}
	return nil
}

// pointed is the alias as it is; release.ErrNoRelease where there is none.
func (r *Releases) pointed(ctx context.Context) (*lambda.GetAliasOutput, error) {
	now, err := r.lambda.GetAlias(ctx, &lambda.GetAliasInput{FunctionName: &r.name, Name: &r.alias})
	var missing *types.ResourceNotFoundException
	if errors.As(err, &missing) {
		return nil, release.ErrNoRelease
	}
	if err != nil {
		return nil, session.Classify("lambda:GetAlias", err)
	}
	return now, nil
}

// standing is the version that the alias stands for, whatever weights it has.
func (r *Releases) standing(ctx context.Context) (string, error) {
	now, err := r.pointed(ctx)
	if err != nil {
		return "", err
	}
	return aws.ToString(now.FunctionVersion), nil
}

// inForce is the version that the alias stands for, alone.
func (r *Releases) inForce(ctx context.Context) (string, error) {
	now, err := r.pointed(ctx)
	if err != nil {
		return "", err
	}
	if now.RoutingConfig != nil && len(now.RoutingConfig.AdditionalVersionWeights) > 0 {
		return "", fmt.Errorf("%w: the alias %s stands for two versions at once", ErrDeployed, r.alias)
	}
	return aws.ToString(now.FunctionVersion), nil
}

// tidy removes the versions that are neither in force nor to be rolled back
// to: each published version stays callable by whoever may call versions. Kept
// is the one that was in force before, or where that may run no more, or this
// run comes after one that was killed, the newest other release that may.
func (r *Releases) tidy(ctx context.Context, number, was string, now time.Time) error {
	list, err := r.versions(ctx)
	if err != nil {
		return err
	}
	slices.SortStableFunc(list, func(a, b version) int { // before() asks the last first
		return rankOf(a.number == was) - rankOf(b.number == was)
	})
	kept, _, err := r.before(ctx, list, number, now)
	if err != nil {
		return err
	}
	for _, v := range list {
		if v.number == number || v.number == kept.number {
			continue
		}
		if _, err := r.lambda.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: &r.name, Qualifier: &v.number}); err != nil {
			return session.Classify("lambda:DeleteFunction", err)
		}
	}
	return nil
}

func rankOf(last bool) int {
	if last {
		return 1
	}
	return 0
}

// InForce implements release.Target: the version behind the alias, its code
// and configuration as Lambda states them, the signed object, the package in
// it, and every statement about that.
func (r *Releases) InForce(ctx context.Context, now time.Time) (*release.Installed, error) {
	number, err := r.inForce(ctx)
	if err != nil {
		return nil, err
	}
	s, err := r.verify(ctx, number, now)
	if err != nil {
		return nil, err
	}
	in := &release.Installed{Signed: s}
	c, err := r.settled(ctx, number)
	if err != nil {
		return nil, err
	}
	in.Unjudged = r.stated(c)
	list, err := r.versions(ctx)
	if err != nil {
		return nil, err
	}
	before, _, err := r.before(ctx, list, number, now)
	if err != nil {
		return nil, err
	}
	in.Previous = before.pkg
	// Each deployment publishes: a newer version that is not in force was rolled
	// back from.
	at := slices.IndexFunc(list, func(v version) bool { return v.number == number })
	for _, v := range list[at+1:] {
		if at >= 0 && !v.pkg.IsZero() && v.pkg != s.Release.Package {
			in.RolledBack = v.pkg
		}
	}
	return in, nil
}

// verify holds a published version to its release, from the code's digest to
// the last signature.
func (r *Releases) verify(ctx context.Context, number string, now time.Time) (*release.Signed, error) {
	c, err := r.settled(ctx, number)
	if err != nil {
		return nil, err
	}
	_, pkg := readDescription(aws.ToString(c.Description))
	if pkg.IsZero() {
		return nil, fmt.Errorf("%w: version %s names no package: it was not put there by a release", ErrDeployed, number)
	}
	s, err := release.LoadSigned(ctx, r.depot, r.Trust, pkg)
	if err != nil {
		return nil, err
	}
	object, err := r.signed(ctx, s.Package())
	if err != nil {
		return nil, err
	}
	if err := r.compare(c, s.Package(), object); err != nil {
		return nil, err
	}
	if err := r.belongs(s.Package()); err != nil {
		return nil, err
	}
	return s, r.mayRun(s, now)
}

// before is the version that a rollback brings back, the last of a list that may
// run: verified, and not revoked. Zero where there is none; why then says what
// spoke against those that there are.
func (r *Releases) before(ctx context.Context, list []version, number string, now time.Time) (found version, why, err error) {
	for _, v := range slices.Backward(list) {
		if v.number == number || v.pkg.IsZero() {
			continue
		}
		_, err := r.verify(ctx, v.number, now)
		switch {
		case err == nil:
			return v, nil, nil
		case release.Unfit(err) || errors.Is(err, ErrDeployed) || errors.Is(err, ErrElsewhere):
			why = errors.Join(why, fmt.Errorf("version %s: %w", v.number, err))
		default: // AWS did not answer: that says nothing about the version
			return version{}, nil, err
		}
	}
	return version{}, why, nil
}

// Rollback implements release.Target: it moves the alias back to the release
// before, which is verified first. The versions stay as they are, but for those
// that may run no more.
func (r *Releases) Rollback(ctx context.Context, goal certificate.Hash, now time.Time) (*release.Installed, error) {
	number, err := r.standing(ctx)
	if err != nil {
		return nil, err
	}
	list, err := r.versions(ctx)
	if err != nil {
		return nil, err
	}
	before, why, err := r.before(ctx, list, number, now)
	if err != nil {
		return nil, fmt.Errorf("couldn't roll back: %w", err)
	}
	if before.number == "" {
		return nil, errors.Join(fmt.Errorf("couldn't roll back: %w before this one that may run", release.ErrNoRelease), why)
	}
	if !goal.IsZero() && goal != before.pkg {
		return nil, fmt.Errorf("couldn't roll back: %w: package %s, not %s", release.ErrNotBefore, before.pkg, goal)
	}
	if err := r.point(ctx, before.number, number); err != nil {
		return nil, fmt.Errorf("couldn't roll back: %w", err)
	}
	if err := r.tidy(ctx, before.number, number, now); err != nil {
		return nil, fmt.Errorf("rolled back, and a version that may run no more is still there: %w", err)
	}
	return r.InForce(ctx, now)
}
