package awsstory

import (
	"archive/zip"
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/signer"
	signertypes "github.com/aws/aws-sdk-go-v2/service/signer/types"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
	"github.com/stakeseal/stakeseal/internal/aws/session"
)

// TestTamperedOnAWS changes a byte in every region of everything that lies in
// the bucket, between any two steps: whoever could do that, the next step does
// not go on from it.
func TestTamperedOnAWS(t *testing.T) {
	p := newPipeline(t, 1)
	bucket := strings.TrimPrefix(p.output("PackageBucketArn"), "arn:aws:s3:::")
	file, one := p.built("one")
	step := p.steps("one", file, one)
	tried := map[string]int{}
	next := func(what string, args []string) {
		t.Helper()
		if slices.Contains(args, "--report") && args[1] == "review" { // it would be written where it is, so that it is not made
			args = slices.Clip(args[:slices.Index(args, "--report")])
		}
		live := p.standsFor()
		for _, key := range p.Buckets.Keys(bucket) {
			data, _ := p.Buckets.Get(bucket, key)
			// The report is evidence for people: the review names its digest.
			if strings.Contains(key, "/report-") || strings.HasPrefix(key, "signed/") && what == "sign" {
				continue
			}
			for region, at := range regions(t, key, data) {
				back := p.Mark()
				bad := bytes.Clone(data)
				bad[at] ^= 1
				if err := p.Buckets.Put(bucket, key, bad); err != nil {
					t.Fatal(err)
				}
				r := p.result(p.as("rita", args...))
				if r.code != 2 && r.code != 3 && r.code != 6 || !strings.Contains(r.stderr, "hint: ") {
					t.Errorf("%s: %s of %s changed: exit %d\n%s%s", what, region, key, r.code, r.stdout, r.stderr)
				}
				if got := p.standsFor(); got != live {
					t.Errorf("%s: %s of %s changed: the alias leads to %q", what, region, key, got)
				}
				tried[what]++
				back()
			}
		}
	}
	p.does("dora", p.keyed(step["submit"], "dora")...)
	next("review", step["review"])
	p.does("rita", step["review"]...)
	next("approve", p.keyed(step["approve"], "rita"))
	p.does("rita", p.keyed(step["approve"], "rita")...)
	next("sign", p.keyed(step["sign"], "rita"))
	p.does("rita", p.keyed(step["sign"], "rita")...)
	next("deploy", step["deploy"])
	p.does("rita", step["deploy"]...)
	next("verify", []string{"release", "verify"})
	p.does("rita", "release", "verify")
	for what, n := range tried {
		if n < 11 {
			t.Errorf("%s: only %d places", what, n)
		}
	}
	t.Logf("places: %v", tried)
}

// regions are places in each part of an object, by name.
func regions(t *testing.T, key string, data []byte) map[string]int {
	t.Helper()
	if !strings.HasSuffix(key, ".zip") {
		return map[string]int{"the beginning": 1, "the middle": len(data) / 2, "the end": len(data) - 3}
	}
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{"the first head": 10, "the directory": bytes.LastIndex(data, []byte("PK\x01\x02")) + 20, "the end of the directory": len(data) - 1}
	for _, f := range z.File {
		at, err := f.DataOffset()
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(f.Name, "recipients/") && f.Name != "recipients/anna.txt" {
			continue
		}
		out[f.Name] = int(at) + int(f.CompressedSize64/2)
	}
	return out
}

// TestBesideTheReleases is somebody with a release manager's role on AWS and no
// key file, who goes around the program. Code that this installation's profile
// did not sign is refused by AWS. Code that a developer submitted and nobody
// reviewed is not: AWS knows no reviews. Then verify says so, to everybody who
// may look, whatever the version says of itself; nothing goes back to it, and a
// deployment puts the release in force again.
func TestBesideTheReleases(t *testing.T) {
	p := newPipeline(t, 1)
	one := p.signed("one")
	step := p.steps("one", "", one)
	p.does("rita", step["deploy"]...)
	p.commit("two")
	file, two := p.built("two")
	p.does("dora", p.keyed(p.steps("two", file, two)["submit"], "dora")...)

	ctx, manager := t.Context(), session.New(world.Region, p.Credentials("release-manager", world.Session{Name: "mallory"}), session.Options{})
	objects, functions := s3.NewFromConfig(manager), lambda.NewFromConfig(manager)
	bucket := strings.TrimPrefix(p.output("PackageBucketArn"), "arn:aws:s3:::")
	function, _, _ := strings.Cut(p.inst.Outputs["function"]["FunctionAliasArn"], ":live")
	put := func(key string, data []byte) error {
		_, err := objects.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(data)})
		return err
	}
	update := func(key string) error {
		_, err := functions.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: &function, S3Bucket: &bucket, S3Key: &key})
		return err
	}
	bare, err := os.ReadFile(file)
	must(t, err)
	foreign, err := p.SignElsewhere(bare)
	must(t, err)
	var signedOne []byte
	for _, key := range p.Buckets.Keys(bucket) {
		if strings.HasPrefix(key, "signed/") {
			signedOne, _ = p.Buckets.Get(bucket, key)
		}
	}
	flipped := bytes.Clone(signedOne)
	flipped[len(flipped)/2] ^= 1
	for what, data := range map[string][]byte{"unsigned": bare, "signed for another installation": foreign, "signed, and changed": flipped} {
		before := p.Standing()
		must(t, put("signed/mine.zip", data))
		if err := update("signed/mine.zip"); err == nil || !strings.Contains(err.Error(), "CodeVerificationFailed") {
			t.Errorf("the function takes a package that is %s: %v", what, err)
		}
		if p.Standing() != before {
			t.Errorf("a package that is %s changed something", what)
		}
	}
	// What a manager wrote cannot be signed, nor what lies outside submitted/.
	sign := func(key string) (string, error) {
		_, version, _ := p.Buckets.Version(bucket, key, "")
		profile := strings.Split(p.output("SigningProfileVersionArn"), "/")[2]
		out, err := signer.NewFromConfig(manager).StartSigningJob(ctx, &signer.StartSigningJobInput{ClientRequestToken: aws.String("token"), ProfileName: &profile,
			Source:      &signertypes.Source{S3: &signertypes.S3Source{BucketName: &bucket, Key: &key, Version: &version}},
			Destination: &signertypes.Destination{S3: &signertypes.S3Destination{BucketName: &bucket, Prefix: aws.String("signed/")}}})
		if err != nil {
			return "", err
		}
		return "signed/" + *out.JobId + ".zip", nil
	}
	if err := put("submitted/mine.zip", bare); err == nil || !strings.Contains(err.Error(), "AccessDenied") {
		t.Errorf("a release manager submits: %v", err)
	}
	must(t, put("signed/mine.zip", bare))
	if _, err := sign("signed/mine.zip"); err == nil || !strings.Contains(err.Error(), "AccessDenied") {
		t.Errorf("a release manager signs what no developer submitted: %v", err)
	}

	// What a developer submitted can be.
	stolen, err := sign("submitted/" + two + "/package.zip")
	must(t, err)
	must(t, update(stolen))
	publish := func(words string) string {
		out, err := functions.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: &function, Description: &words})
		must(t, err)
		return *out.Version
	}
	point := func(number string, weights map[string]float64) {
		_, err := functions.UpdateAlias(ctx, &lambda.UpdateAliasInput{FunctionName: &function, Name: aws.String("live"), FunctionVersion: &number,
			RoutingConfig: &types.AliasRoutingConfiguration{AdditionalVersionWeights: weights}})
		must(t, err)
	}
	unpublished := p.Mark()
	for _, words := range []string{"stakeseal release one package " + one, "stakeseal release two package " + two, "", "stakeseal release two package " + strings.Repeat("0", 64)} {
		for _, weights := range []map[string]float64{nil, {"1": 0.5}} {
			unpublished()
			number := publish(words)
			point(number, weights)
			answers := map[string]int{}
			for range 4 {
				got, err := p.order("requester", "live")
				must(t, err)
				answers[got.Program]++
			}
			if answers["two"] == 0 || weights != nil && answers["one"] == 0 {
				t.Fatalf("orders are answered by %v: nothing is shown", answers)
			}
			for _, who := range []string{"rita", "auditor"} {
				if r := p.result(p.as(who, "release", "verify")); r.code != 3 || !strings.Contains(r.stderr, "hint: ") {
					t.Errorf("%q, weights %v: %s verifies: exit %d\n%s%s", words, weights, who, r.code, r.stdout, r.stderr)
				}
			}
			// A version that says it is another package's is one that this release
			// does not follow: that is said, and asked.
			r := p.result(p.as("rita", step["deploy"]...))
			if r.code != 0 && strings.Contains(r.stderr, "--out-of-order") {
				r = p.result(p.as("rita", append(slices.Clone(step["deploy"]), "--out-of-order")...))
			}
			if r.code != 0 {
				t.Errorf("%q, weights %v: deploying again: exit %d\n%s%s", words, weights, r.code, r.stdout, r.stderr)
				continue
			}
			if p.standsFor() != one {
				t.Errorf("%q, weights %v: the alias leads to %s", words, weights, p.standsFor())
			}
			if got, err := p.order("requester", "live"); err != nil || got != p.whole("one") {
				t.Errorf("an order is answered by %+v, %v", got, err)
			}
			if r := p.result(p.as("rita", "release", "rollback", "--yes")); r.code == 0 || !strings.Contains(r.stderr, "hint: ") || p.standsFor() != one {
				t.Errorf("%q: rolled back to what was put there beside the releases: exit %d\n%s%s", words, r.code, r.stdout, r.stderr)
			}
			if strings.Contains(p.Standing(), "generator:"+number+" ") {
				t.Errorf("%q, weights %v: version %s can still be called", words, weights, number)
			}
		}
	}
	// Half of the calls go to the version before, which is a whole release too:
	// still it is not what stands in force.
	p.does("rita", step["deploy"]...)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
