// Package s3archive is an archive in an S3 bucket: one object per name.
//
// It promises what record.Archive asks: an object appears whole or not at all,
// is never replaced (every PutObject carries If-None-Match: *), and is what
// was put (S3 is given its SHA-256, keeps it, and every read is compared with
// it). It calls PutObject and GetObject and no other action: no multipart
// upload, no copy, no delete, no list.
//
// It trusts S3 to keep what it acknowledged and to honour If-None-Match. That
// other code cannot replace or delete an object is the bucket's to promise: a
// policy that denies PutObject without the condition, versioning, and object
// lock. On such a bucket a delete leaves a marker, and Get tells it from an
// object that never was.
package s3archive

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/record"
)

// MaxObject bounds an object in bytes: far above a receipt of the largest
// order, and a hostile object costs no more memory.
const MaxObject = 64 << 20

// callTimeout bounds one call with all its retries and its body.
const callTimeout = 2 * time.Minute

// API is what this package can ask of S3; the SDK's client, made from a
// configuration of package session, has it.
type API interface {
	PutObject(context.Context, *sdk.PutObjectInput, ...func(*sdk.Options)) (*sdk.PutObjectOutput, error)
	GetObject(context.Context, *sdk.GetObjectInput, ...func(*sdk.Options)) (*sdk.GetObjectOutput, error)
}

// Options are what a bucket's ARN does not say.
type Options struct {
	// Owner is the account that the bucket must belong to, 12 digits; a bucket
	// of the same name that another account made after ours was deleted is then
	// refused. "" asks for none.
	Owner string
	// Backoff replaces the wait before attempt n+1 at a conflict, in tests.
	Backoff func(n int) time.Duration
}

var _ record.Archive = (*Archive)(nil)

// Archive is a bucket, or the part of it under a prefix. Its methods are safe
// for concurrent use.
type Archive struct {
	client         API
	bucket, prefix string
	owner          *string
	backoff        func(n int) time.Duration
}

// New returns the archive in the bucket, each object's key beginning with
// prefix: "", or a name as record.CheckName takes it and a '/'. It makes no
// call.
func New(client API, bucketARN, prefix string, o Options) (*Archive, error) {
	fail := func(format string, args ...any) (*Archive, error) {
		return nil, fmt.Errorf("couldn't use the S3 archive: %w", fmt.Errorf(format, args...))
	}
	if client == nil {
		return fail("no client")
	}
	bucket, err := arn.Bucket(bucketARN)
	if err != nil {
		return fail("%w", err)
	}
	if folder, ok := strings.CutSuffix(prefix, "/"); prefix != "" && (!ok || record.CheckName(folder) != nil) {
		return fail("prefix %.250q is not of a-z, 0-9, '.', '_', '-' and '/', ending in '/'", prefix)
	}
	a := &Archive{client: client, bucket: bucket.Resource, prefix: prefix, backoff: o.Backoff}
	if o.Owner != "" {
		if len(o.Owner) != 12 || strings.Trim(o.Owner, "0123456789") != "" {
			return fail("owner %.50q is not an account of 12 digits", o.Owner)
		}
		a.owner = &o.Owner
	}
	if a.backoff == nil {
		a.backoff = wait
	}
	return a, nil
}

// wait is 0 to 100 ms before the second attempt, doubling.
func wait(n int) time.Duration {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	return time.Duration(binary.BigEndian.Uint64(random[:]) % uint64(100*time.Millisecond<<min(n-1, 5)))
}

// attempts is how often Put tries against ConditionalRequestConflict.
const attempts = 6

// Put implements record.Archive.
func (a *Archive) Put(ctx context.Context, name string, data []byte) error {
	if err := a.put(ctx, name, data); err != nil {
		return fmt.Errorf("couldn't archive %q: %w", clip(name), err)
	}
	return nil
}

func (a *Archive) put(ctx context.Context, name string, data []byte) error {
	if err := record.CheckName(name); err != nil {
		return err
	}
	if len(data) > MaxObject {
		return fmt.Errorf("%w: an object of %d bytes, more than %d", record.ErrFormat, len(data), MaxObject)
	}
	for n := 1; ; n++ {
		err := a.putOnce(ctx, name, data)
		var api smithy.APIError
		switch {
		case !errors.As(err, &api):
			return err
		case api.ErrorCode() == "PreconditionFailed":
			return record.ErrExists
		case api.ErrorCode() != "ConditionalRequestConflict":
			return err
		}
		// Another conditional write, or a delete, of this name is going on: S3
		// says to try again. A crowd may keep it going, so look at last.
		if n == attempts {
			if _, getErr := a.Get(ctx, name); getErr == nil {
				return record.ErrExists
			}
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(a.backoff(n)):
		}
	}
}

func (a *Archive) putOnce(ctx context.Context, name string, data []byte) error {
	sum := sha256.Sum256(data)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := a.client.PutObject(ctx, &sdk.PutObjectInput{
		Bucket: &a.bucket, Key: aws.String(a.prefix + name), ExpectedBucketOwner: a.owner,
		Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))), ContentType: aws.String("application/octet-stream"),
		IfNoneMatch:       aws.String("*"),
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
		ChecksumSHA256:    aws.String(base64.StdEncoding.EncodeToString(sum[:])),
	})
	return session.Classify("s3:PutObject", err)
}

// Get implements record.Archive. An object that does not match the SHA-256
// kept with it, has none, is larger than MaxObject or was deleted is
// ErrCorrupt.
func (a *Archive) Get(ctx context.Context, name string) ([]byte, error) {
	data, err := a.get(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("couldn't read %q from the archive: %w", clip(name), err)
	}
	return data, nil
}

func (a *Archive) get(ctx context.Context, name string) ([]byte, error) {
	if err := record.CheckName(name); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := a.client.GetObject(ctx, &sdk.GetObjectInput{
		Bucket: &a.bucket, Key: aws.String(a.prefix + name), ExpectedBucketOwner: a.owner,
		ChecksumMode: types.ChecksumModeEnabled,
	})
	if err != nil {
		return nil, missing(err)
	}
	defer out.Body.Close()
	size := aws.ToInt64(out.ContentLength)
	if out.ContentLength == nil || size > MaxObject {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", record.ErrCorrupt, size, MaxObject)
	}
	data := make([]byte, 0, min(size, 1<<20)) // what is said is not yet there
	into := bytes.NewBuffer(data)
	n, err := io.Copy(into, io.LimitReader(out.Body, size+1))
	sum := sha256.Sum256(into.Bytes())
	switch want := aws.ToString(out.ChecksumSHA256); {
	case n == size && want != base64.StdEncoding.EncodeToString(sum[:]):
		// Also where the SDK, which compares at the end of the body, was the
		// first to see it: its error has no type.
		return nil, fmt.Errorf("%w: its sha256 is %x, noted was %.80q", record.ErrCorrupt, sum, want)
	case err != nil:
		return nil, session.Classify("s3:GetObject", err)
	case n != size:
		return nil, session.Malformed("s3:GetObject", "", "%d bytes of %d", n, size)
	}
	return into.Bytes(), nil
}

// missing returns ErrNotFound for an object that never was. A bucket that is
// missing is no such answer, nor is one under a delete marker: nothing here
// deletes.
func missing(err error) error {
	fault := session.Classify("s3:GetObject", err)
	var none *types.NoSuchKey
	if !errors.As(err, &none) {
		return fault
	}
	var response *awshttp.ResponseError
	if errors.As(err, &response) && response.Response != nil && isDeleted(response.Response.Header) {
		return fmt.Errorf("%w: it was deleted (the bucket may keep the version)", record.ErrCorrupt)
	}
	return record.ErrNotFound
}

func isDeleted(h http.Header) bool { return h.Get("x-amz-delete-marker") == "true" }

// clip keeps a hostile name from filling a terminal.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}
