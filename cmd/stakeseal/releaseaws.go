package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/ops"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/release"
)

// target is where a home's releases are deployed.
type target = release.Target

// releaseFunction is the function that a home's generator is, zero where it is
// local.
func releaseFunction(dir string) (arn.ARN, error) {
	folder, err := os.OpenRoot(dir)
	if err != nil {
		return arn.ARN{}, fmt.Errorf("couldn't open the home: %w", err)
	}
	defer folder.Close()
	operator, err := config.LoadHome(folder.FS())
	if err != nil {
		return arn.ARN{}, err
	}
	return operator.Function, nil
}

// releaseTarget is the target of the home: itself, or its function.
func (a *app) releaseTarget(ctx context.Context, dir string, trust *certificate.Trust) (target, error) {
	return a.deployTarget(ctx, dir, trust, false)
}

// deployTarget is the same, and takes a release that does not follow the one in
// force where outOfOrder says so.
func (a *app) deployTarget(ctx context.Context, dir string, trust *certificate.Trust, outOfOrder bool) (target, error) {
	function, err := releaseFunction(dir)
	if err != nil {
		return nil, err
	}
	if function == (arn.ARN{}) {
		return release.Home{Dir: dir, Trust: trust, OutOfOrder: outOfOrder}, nil
	}
	r, err := a.releases(ctx, function, "", trust, true)
	if err != nil {
		return nil, err
	}
	r.OutOfOrder = outOfOrder
	return r, nil
}

// releases are those of the installation that a function belongs to. Bucket
// and signing profile are what its foundation stack says; the profile is held
// to the function's own code-signing configuration at each deployment.
// compared: the function is to be held to its stack's template.
func (a *app) releases(ctx context.Context, function arn.ARN, bucket string, trust *certificate.Trust, compared bool) (*ops.Releases, error) {
	account, err := a.account(ctx, ops.PlaceOf(function))
	if err != nil {
		return nil, err
	}
	name, _ := function.Function()
	installation, ok := strings.CutSuffix(name, "-generator")
	if !ok {
		return nil, usage("the function of an installation is NAME-generator", "the function %s is of no installation", name)
	}
	foundation := installation + "-foundation"
	outputs, err := account.Outputs(ctx, foundation)
	if err != nil {
		return nil, err
	}
	stands, err := ops.ReadFoundation(ops.PlaceOf(function), foundation, outputs)
	if err != nil {
		return nil, err
	}
	at := ops.ReleaseAt{Installation: &stands, Bucket: outputs["PackageBucketArn"], Profile: outputs["SigningProfileVersionArn"], Alias: function.String()}
	if bucket != "" && bucket != at.Bucket {
		return nil, usage("the bucket of packages is "+at.Bucket, "--depot s3:%s is not this installation's", bucket)
	}
	if compared {
		if at.Properties, at.Unjudged, err = account.FunctionProperties(ctx, installation); err != nil {
			return nil, err
		}
	}
	return account.Releases(at, trust)
}

// openCloud opens a depot that is a bucket.
func (s *steps) openCloud(ctx context.Context, a *app, trust *certificate.Trust) (*ops.Releases, error) {
	dir, err := a.homeDir()
	if err != nil {
		return nil, err
	}
	function, err := releaseFunction(dir)
	if err != nil {
		return nil, err
	}
	if function == (arn.ARN{}) {
		return nil, usage("--home names the home of an installation on AWS: it says in which region and account the bucket is", "the home %s is not on AWS", dir)
	}
	return a.releases(ctx, function, strings.TrimPrefix(s.depot, "s3:"), trust, false)
}

// stamp has AWS Signer sign a release whose statement is complete, in a depot
// on AWS, and says where the signed package is: the first release's key goes
// into the function stack.
func (a *app) stamp(ctx context.Context, s *steps, trust *certificate.Trust, signed *release.Signed) (string, error) {
	if !strings.HasPrefix(s.depot, "s3:") {
		return "", nil
	}
	r, err := s.openCloud(ctx, a, trust)
	if err != nil {
		return "", err
	}
	object, err := r.Stamp(ctx, signed)
	if err != nil {
		return "", err
	}
	a.say("signed by AWS Signer: %s (job %s)", object.Key, object.Job)
	return object.Key, nil
}
