package ops

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/signer"
	signertypes "github.com/aws/aws-sdk-go-v2/service/signer/types"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/s3archive"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/release"
)

// The parts of the bucket of packages (infra/foundation.yaml): what developers
// write, what AWS Signer writes for release managers, what these write.
const (
	submittedPrefix  = "submitted/"
	signedPrefix     = "signed/"
	statementsPrefix = "statements/"
)

// maxSigned bounds a signed package in bytes.
const maxSigned = 64 << 20

// Errors of a release on AWS.
var (
	// ErrSigning: AWS Signer did not sign what it was asked to sign.
	ErrSigning = errors.New("AWS Signer did not sign the package")
	// ErrDeployed: what stands in the account is not what was released.
	ErrDeployed = errors.New("what is deployed is not the release")
	// ErrElsewhere: a package whose settings are another installation's.
	ErrElsewhere = errors.New("the package is another installation's")
	// ErrMeanwhile: somebody else moved the alias while this run worked.
	ErrMeanwhile = errors.New("another release came into force meanwhile")
)

// Releases are the releases of an installation: its bucket of packages, its
// signing profile and its function. Each call is made as the account's caller,
// whose role says which of the steps AWS lets them do.
type Releases struct {
	Trust *certificate.Trust
	// Pause replaces the wait between two looks at a job, in tests.
	Pause func(ctx context.Context, d time.Duration) error
	// OutOfOrder lets Install take a release that does not follow the one in
	// force too.
	OutOfOrder bool

	home      *Installation
	reference reference
	unjudged  string // why nothing says what the function's memory, time and network should be
	depot     release.Depot
	bucket    string
	owner     string
	profile   string // ARN of the signing profile's version
	name      string // of the function
	alias     string

	s3     *s3.Client
	signer *signer.Client
	lambda *lambda.Client
}

// ReleaseAt is where an installation's releases stand, from its settings and
// its stacks' outputs.
type ReleaseAt struct {
	Bucket  string // ARN of the bucket of packages
	Profile string // ARN of the signing profile's version; "" where nothing is signed or deployed
	Alias   string // ARN of the function's alias; "" likewise

	Installation *Installation  // whose stores the settings must name; nil: not compared
	Properties   map[string]any // of the function, by its template; nil: memory, time and network are not compared
	Unjudged     string         // why there are none
}

// Releases returns the releases of an installation. It makes no call.
func (a *Account) Releases(at ReleaseAt, trust *certificate.Trust) (*Releases, error) {
	bucket, err := arn.Bucket(at.Bucket)
	if err != nil {
		return nil, err
	}
	cfg := a.Config("")
	r := &Releases{Trust: trust, Pause: trailPause, bucket: bucket.Resource, owner: a.Account, profile: at.Profile, home: at.Installation, unjudged: at.Unjudged,
		s3: s3.NewFromConfig(cfg), signer: signer.NewFromConfig(cfg), lambda: lambda.NewFromConfig(cfg)}
	for prefix, into := range map[string]*release.Store{submittedPrefix: &r.depot.Submissions, statementsPrefix: &r.depot.Reviews} {
		store, err := s3archive.New(r.s3, at.Bucket, prefix, s3archive.Options{Owner: a.Account})
		if err != nil {
			return nil, err
		}
		*into = store
	}
	if at.Alias != "" {
		alias, err := arn.Alias(at.Alias)
		if err != nil {
			return nil, err
		}
		if alias.Account != a.Account || alias.Region != a.Region {
			return nil, fmt.Errorf("%w: the function's alias %s is elsewhere", ErrAccount, alias)
		}
		r.name, r.alias = alias.Function()
		name := strings.TrimSuffix(r.name, "-generator")
		r.reference = reference{function: r.name, properties: at.Properties,
			role: arn.ARN{Partition: arn.Partition(a.Region), Service: "iam", Account: a.Account, Resource: "role/" + name + "-generator"}.String()}
	}
	if at.Profile != "" {
		head := "arn:" + arn.Partition(a.Region) + ":signer:" + a.Region + ":" + a.Account + ":/signing-profiles/"
		name, version, ok := strings.Cut(strings.TrimPrefix(at.Profile, head), "/")
		if !strings.HasPrefix(at.Profile, head) || !ok || name == "" || version == "" || strings.Contains(version, "/") {
			return nil, fmt.Errorf("%w: %q is no version of a signing profile of this account and region", arn.ErrARN, clip(at.Profile))
		}
	}
	return r, nil
}

// Depot is the bucket as a depot.
func (r *Releases) Depot() release.Depot { return r.depot }

// SignedObject is where AWS Signer put a signed package. It is a note, signed
// by nobody: each use reads the object and holds it to the package.
type SignedObject struct {
	Schema  string           `json:"schema"`
	Package certificate.Hash `json:"package_sha256"`
	Key     string           `json:"key"`
	SHA256  certificate.Hash `json:"object_sha256"` // Lambda's CodeSha256, in hex
	Job     string           `json:"signing_job"`   // ARN
	Profile string           `json:"signing_profile_version"`
}

const signedSchema = "stakeseal/signed-object/v1"

// Stamp has AWS Signer sign a package that release managers signed: only that
// type is taken, whose one maker verified their statement. It signs the very
// version of the object whose bytes it has compared, waits for the job, and
// holds the result to the package. A package that has its signature keeps it.
func (r *Releases) Stamp(ctx context.Context, s *release.Signed) (SignedObject, error) {
	p := s.Package()
	if p == nil || s.Release.Package != p.Digest {
		return SignedObject{}, fmt.Errorf("couldn't sign: %w: no signed package was loaded", release.ErrNotSigned)
	}
	if err := r.belongs(p); err != nil {
		return SignedObject{}, fmt.Errorf("couldn't sign: %w", err)
	}
	if r.profile == "" {
		return SignedObject{}, fmt.Errorf("couldn't sign: %w: no signing profile is named", ErrSigning)
	}
	if there, err := r.signed(ctx, p); err == nil {
		return there, nil
	} else if !errors.Is(err, record.ErrNotFound) {
		return SignedObject{}, err
	}
	key := submittedPrefix + p.Digest.String() + "/package.zip"
	data, version, err := r.read(ctx, key)
	if err != nil {
		return SignedObject{}, err
	}
	if sha256.Sum256(data) != p.Digest || version == "" {
		return SignedObject{}, fmt.Errorf("couldn't sign: %w: the object %s is not the package, or the bucket keeps no versions", release.ErrMixed, key)
	}
	job, err := r.run(ctx, key, version)
	if err != nil {
		return SignedObject{}, err
	}
	made := SignedObject{Schema: signedSchema, Package: p.Digest, Key: job.key, Job: job.arn, Profile: r.profile}
	signed, _, err := r.read(ctx, made.Key)
	if err != nil {
		return SignedObject{}, err
	}
	if err := p.VerifySigned(signed); err != nil {
		return SignedObject{}, err
	}
	made.SHA256 = sha256.Sum256(signed)
	note, err := json.Marshal(made)
	if err != nil {
		return SignedObject{}, err
	}
	err = r.depot.Reviews.Put(ctx, p.Digest.String()+"/signed.json", note)
	if errors.Is(err, record.ErrExists) { // somebody else's job was first
		return r.signed(ctx, p)
	}
	if err != nil {
		return SignedObject{}, fmt.Errorf("couldn't note the signed object: %w", err)
	}
	return made, nil
}

type finishedJob struct{ key, arn string }

// run runs one signing job to its end and holds its result to what was asked.
func (r *Releases) run(ctx context.Context, key, version string) (job finishedJob, err error) {
	parts := strings.Split(r.profile, "/")
	name, profileVersion := parts[len(parts)-2], parts[len(parts)-1]
	var token [16]byte
	_, _ = rand.Read(token[:]) // never fails
	started, err := r.signer.StartSigningJob(ctx, &signer.StartSigningJobInput{
		ClientRequestToken: aws.String(hex.EncodeToString(token[:])),
		ProfileName:        &name,
		Source:             &signertypes.Source{S3: &signertypes.S3Source{BucketName: &r.bucket, Key: &key, Version: &version}},
		Destination:        &signertypes.Destination{S3: &signertypes.S3Destination{BucketName: &r.bucket, Prefix: aws.String(signedPrefix)}},
	})
	if err != nil {
		return job, session.Classify("signer:StartSigningJob", err)
	}
	id := aws.ToString(started.JobId)
	if id == "" || strings.ContainsAny(id, "/: ") {
		return job, session.Malformed("signer:StartSigningJob", "", "the job's id is %q", id)
	}
	const tries = 120 // four minutes at the longest
	for try := range tries {
		at, err := r.signer.DescribeSigningJob(ctx, &signer.DescribeSigningJobInput{JobId: &id})
		if err != nil {
			return job, session.Classify("signer:DescribeSigningJob", err)
		}
		switch at.Status {
		case signertypes.SigningStatusInProgress:
			if err := r.Pause(ctx, min(time.Duration(try+1)*250*time.Millisecond, 2*time.Second)); err != nil {
				return job, err
			}
			continue
		case signertypes.SigningStatusSucceeded:
		default:
			return job, fmt.Errorf("%w: job %s: %s: %q", ErrSigning, id, at.Status, aws.ToString(at.StatusReason))
		}
		source, object := at.Source, at.SignedObject
		switch {
		case source == nil || source.S3 == nil || aws.ToString(source.S3.BucketName) != r.bucket || aws.ToString(source.S3.Key) != key || aws.ToString(source.S3.Version) != version:
			return job, fmt.Errorf("%w: job %s signed another object", ErrSigning, id)
		case aws.ToString(at.ProfileName) != name || aws.ToString(at.ProfileVersion) != profileVersion || at.RevocationRecord != nil:
			return job, fmt.Errorf("%w: job %s signed with profile %q, version %q, or is revoked; the installation's is %s", ErrSigning, id, aws.ToString(at.ProfileName), aws.ToString(at.ProfileVersion), r.profile)
		case object == nil || object.S3 == nil || aws.ToString(object.S3.BucketName) != r.bucket || !strings.HasPrefix(aws.ToString(object.S3.Key), signedPrefix):
			return job, fmt.Errorf("%w: job %s put its result elsewhere", ErrSigning, id)
		case at.SignatureExpiresAt != nil && at.SignatureExpiresAt.Before(time.Now()):
			return job, fmt.Errorf("%w: the signature of job %s has expired already", ErrSigning, id)
		}
		head, _, _ := strings.Cut(r.profile, ":/signing-profiles/")
		return finishedJob{*object.S3.Key, head + ":/signing-jobs/" + id}, nil
	}
	return job, fmt.Errorf("%w: job %s did not end", ErrSigning, id)
}

// signed reads where a package's signed object is and holds the object to the
// package and to the note.
func (r *Releases) signed(ctx context.Context, p *release.Package) (SignedObject, error) {
	var at SignedObject
	data, err := r.depot.Reviews.Get(ctx, p.Digest.String()+"/signed.json")
	if err != nil {
		return at, err
	}
	again := []byte(nil)
	if err = json.Unmarshal(data, &at); err == nil {
		again, err = json.Marshal(at)
	}
	if err != nil || string(again) != string(data) || at.Schema != signedSchema || at.Package != p.Digest || !strings.HasPrefix(at.Key, signedPrefix) {
		return at, fmt.Errorf("%w: signed.json of package %s does not read", release.ErrMixed, p.Digest)
	}
	object, _, err := r.read(ctx, at.Key)
	if err != nil {
		return at, err
	}
	if sha256.Sum256(object) != at.SHA256 {
		return at, fmt.Errorf("%w: the signed object %s changed", release.ErrMixed, at.Key)
	}
	if err := p.VerifySigned(object); err != nil {
		return at, err
	}
	if r.profile != "" && at.Profile != r.profile {
		return at, fmt.Errorf("%w: it was signed with %s, and the installation's profile is %s", ErrSigning, at.Profile, r.profile)
	}
	return at, nil
}

// read reads an object of the bucket and says which version it read.
func (r *Releases) read(ctx context.Context, key string) (data []byte, version string, err error) {
	out, err := r.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &r.bucket, Key: &key, ExpectedBucketOwner: &r.owner})
	if err != nil {
		return nil, "", session.Classify("s3:GetObject", err)
	}
	defer out.Body.Close()
	data, err = io.ReadAll(io.LimitReader(out.Body, maxSigned+1))
	if err != nil {
		return nil, "", session.Classify("s3:GetObject", err)
	}
	if len(data) > maxSigned {
		return nil, "", fmt.Errorf("%w: the object %s is larger than %d bytes", release.ErrMixed, key, maxSigned)
	}
	return data, aws.ToString(out.VersionId), nil
}

// codeSHA256 is how Lambda writes the digest of its code.
func codeSHA256(h certificate.Hash) string { return base64.StdEncoding.EncodeToString(h[:]) }
