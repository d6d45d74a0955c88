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
	p := s.Package()
	if p == nil || s.Release.Package != p.Digest {
		return fmt.Errorf("couldn't deploy: %w: no signed package was loaded", release.ErrNotSigned)
	}
	if err := r.mayRun(s, now); err != nil {
		return fmt.Errorf("couldn't deploy: %w", err)
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
	number, err := r.publish(ctx, s, object, latest)
	if err != nil {
		return fmt.Errorf("couldn't deploy: %w", err)
	}
	was, err := r.point(ctx, number)
	if err != nil {
		return fmt.Errorf("couldn't deploy: %w", err)
	}
	if err := r.tidy(ctx, number, was); err != nil {
		return fmt.Errorf("the release is in force, and a superseded version is still there: %w", err)
	}
	return nil
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
	case c.PackageType != types.PackageTypeZip || c.Runtime != types.RuntimeProvidedal2023:
		return bad("the runtime", string(c.Runtime), string(types.RuntimeProvidedal2023))
	case len(c.Layers) > 0:
		return bad("the number of layers", strconv.Itoa(len(c.Layers)), "0")
	case c.Environment != nil && len(c.Environment.Variables) > 0:
		return bad("the number of environment variables", strconv.Itoa(len(c.Environment.Variables)), "0")
	case len(c.FileSystemConfigs) > 0:
		return bad("the number of file systems", strconv.Itoa(len(c.FileSystemConfigs)), "0")
	}
	return nil
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
// before made.
func (r *Releases) publish(ctx context.Context, s *release.Signed, object SignedObject, latest types.FunctionConfiguration) (string, error) {
	list, err := r.versions(ctx)
	if err != nil {
		return "", err
	}
	for _, v := range slices.Backward(list) {
		if v.pkg == s.Release.Package && aws.ToString(v.config.CodeSha256) == codeSHA256(object.SHA256) && r.compare(v.config, s.Package(), object) == nil {
			return v.number, nil
		}
	}
	out, err := r.lambda.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: &r.name, CodeSha256: latest.CodeSha256, RevisionId: latest.RevisionId, Description: aws.String(described(s))})
	if err != nil {
		return "", session.Classify("lambda:PublishVersion", err)
	}
	number := aws.ToString(out.Version)
	if _, err := strconv.ParseUint(number, 10, 63); err != nil {
		return "", session.Malformed("lambda:PublishVersion", "", "the version is %q", number)
	}
	c, err := r.settled(ctx, number)
	if err != nil {
		return "", err
	}
	if _, pkg := readDescription(aws.ToString(c.Description)); pkg != s.Release.Package {
		return "", fmt.Errorf("%w: version %s says it is %q", ErrDeployed, number, aws.ToString(c.Description))
	}
	return number, r.compare(c, s.Package(), object)
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

// point moves the alias to a version and returns the one it stood for, "" if
// there was no alias.
func (r *Releases) point(ctx context.Context, number string) (was string, err error) {
	now, err := r.lambda.GetAlias(ctx, &lambda.GetAliasInput{FunctionName: &r.name, Name: &r.alias})
	var missing *types.ResourceNotFoundException
	switch {
	case errors.As(err, &missing):
		if _, err := r.lambda.CreateAlias(ctx, &lambda.CreateAliasInput{FunctionName: &r.name, Name: &r.alias, FunctionVersion: &number}); err != nil {
			return "", session.Classify("lambda:CreateAlias", err)
		}
	case err != nil:
		return "", session.Classify("lambda:GetAlias", err)
	default:
		was = aws.ToString(now.FunctionVersion)
		weighted := now.RoutingConfig != nil && len(now.RoutingConfig.AdditionalVersionWeights) > 0
		if was == number && !weighted {
			break
		}
		in := &lambda.UpdateAliasInput{FunctionName: &r.name, Name: &r.alias, FunctionVersion: &number, RevisionId: now.RevisionId}
		if weighted { // orders would go to another version too
			in.RoutingConfig = &types.AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{}}
		}
		if _, err := r.lambda.UpdateAlias(ctx, in); err != nil {
			return was, session.Classify("lambda:UpdateAlias", err)
		}
	}
	at, err := r.inForce(ctx)
	if err != nil {
		return was, err
	}
	if at != number {
		return was, fmt.Errorf("%w: the alias %s stands for version %s, not %s", ErrDeployed, r.alias, at, number)
	}
	return was, nil
}

// inForce is the version that the alias stands for, alone.
func (r *Releases) inForce(ctx context.Context) (string, error) {
	now, err := r.lambda.GetAlias(ctx, &lambda.GetAliasInput{FunctionName: &r.name, Name: &r.alias})
	var missing *types.ResourceNotFoundException
	if errors.As(err, &missing) {
		return "", release.ErrNoRelease
	}
	if err != nil {
		return "", session.Classify("lambda:GetAlias", err)
	}
	if now.RoutingConfig != nil && len(now.RoutingConfig.AdditionalVersionWeights) > 0 {
		return "", fmt.Errorf("%w: the alias %s stands for two versions at once", ErrDeployed, r.alias)
	}
	return aws.ToString(now.FunctionVersion), nil
}

// tidy removes the versions that are neither in force nor to be rolled back
// to: each published version stays callable by whoever may call versions.
// After a run that was killed, the one to keep is the newest other release.
func (r *Releases) tidy(ctx context.Context, number, was string) error {
	list, err := r.versions(ctx)
	if err != nil {
		return err
	}
	keep := was
	if keep == "" || keep == number {
		keep = ""
		for _, v := range slices.Backward(list) {
			if v.number != number && !v.pkg.IsZero() {
				keep = v.number
				break
			}
		}
	}
	for _, v := range list {
		if v.number == number || v.number == keep {
			continue
		}
		if _, err := r.lambda.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: &r.name, Qualifier: &v.number}); err != nil {
			return session.Classify("lambda:DeleteFunction", err)
		}
	}
	return nil
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
	before, err := r.before(ctx, number)
	if err != nil {
		return nil, err
	}
	in.Previous = before.pkg
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
	return s, r.mayRun(s, now)
}

// before is the version that a rollback brings back; zero: none.
func (r *Releases) before(ctx context.Context, number string) (version, error) {
	list, err := r.versions(ctx)
	if err != nil {
		return version{}, err
	}
	for _, v := range slices.Backward(list) {
		if v.number != number && !v.pkg.IsZero() {
			return v, nil
		}
	}
	return version{}, nil
}

// Rollback moves the alias back to the release before, which is verified
// first. The versions stay as they are.
func (r *Releases) Rollback(ctx context.Context, now time.Time) (*release.Installed, error) {
	number, err := r.inForce(ctx)
	if err != nil {
		return nil, err
	}
	before, err := r.before(ctx, number)
	if err != nil {
		return nil, err
	}
	if before.number == "" {
		return nil, fmt.Errorf("couldn't roll back: %w before this one", release.ErrNoRelease)
	}
	if _, err := r.verify(ctx, before.number, now); err != nil {
		return nil, fmt.Errorf("couldn't roll back: %w", err)
	}
	if _, err := r.point(ctx, before.number); err != nil {
		return nil, fmt.Errorf("couldn't roll back: %w", err)
	}
	return r.InForce(ctx, now)
}
