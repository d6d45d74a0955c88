package buckets

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
	"github.com/stakeseal/stakeseal/internal/aws/s3archive"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
)

const account, region = "111122223333", "us-east-1"

var ctx = context.Background()

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func served(t testing.TB, judge func(*call.Call) *call.Failure) (*Store, *sdk.Client) {
	t.Helper()
	s := New()
	server := httptest.NewServer(call.Open{Service: s, Protocol: call.RestXML, Region: region, Account: account, Judge: judge})
	t.Cleanup(server.Close)
	return s, sdk.NewFromConfig(session.New(region, credentials.NewStaticCredentialsProvider("A", "s", "t"), session.Options{
		Endpoint: server.URL, Backoff: func(int) time.Duration { return 0 },
	}), func(o *sdk.Options) { o.UsePathStyle = true })
}

// TestConformance runs the archive's suite; the same runs over gofakes3 and
// moto (internal/aws/s3archive).
func TestConformance(t *testing.T) {
	recordtest.Archive(t, "*s3archive.Archive on *buckets.Store", func(t testing.TB) recordtest.OpenedArchive {
		s, client := served(t, nil)
		must(t, s.Make(Bucket{Name: "archive", Region: region, Account: account, Versioned: true, ObjectLock: true, LockMode: "COMPLIANCE", LockDays: 3650}))
		open := func(t testing.TB) record.Archive {
			a, err := s3archive.New(client, "arn:aws:s3:::archive", "births/", s3archive.Options{Owner: account, Backoff: func(int) time.Duration { return 0 }})
			must(t, err)
			return a
		}
		a := open(t)
		return recordtest.OpenedArchive{Archive: a, Name: fmt.Sprintf("%T on %T", a, s), Again: open}
	})
}

func code(err error) string {
	var api smithy.APIError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &api):
		return api.ErrorCode()
	}
	return err.Error()
}

// TestObjects: checksums, conditions, versions and locks.
func TestObjects(t *testing.T) {
	var seen []call.Call
	s, client := served(t, func(c *call.Call) *call.Failure { seen = append(seen, *c); return nil })
	must(t, s.Make(Bucket{Name: "locked", Region: region, Account: account, Versioned: true, ObjectLock: true, LockMode: "GOVERNANCE", LockDays: 1}))
	must(t, s.Make(Bucket{Name: "plain", Region: region, Account: account}))
	put := func(bucket, key, body string, turn func(*sdk.PutObjectInput)) (*sdk.PutObjectOutput, error) {
		in := &sdk.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(body)}
		if turn != nil {
			turn(in)
		}
		return client.PutObject(ctx, in)
	}
	first, err := put("locked", "a/ b+ü", "one", func(in *sdk.PutObjectInput) { in.IfNoneMatch = aws.String("*") })
	must(t, err)
	if c := seen[0]; c.Operation != "PutObject" || c.Needs[0].Resource != "arn:aws:s3:::locked/a/ b+ü" || !slices.Equal(c.Needs[0].Context["s3:if-none-match"], []string{"*"}) || c.ReadOnly || !c.Data {
		t.Errorf("understood as %+v", c)
	}
	if _, err := put("locked", "a/ b+ü", "two", func(in *sdk.PutObjectInput) { in.IfNoneMatch = aws.String("*") }); code(err) != "PreconditionFailed" {
		t.Error(err)
	}
	_, err = put("locked", "a/ b+ü", "two", nil)
	must(t, err)
	if c := seen[2]; c.Needs[0].Context["s3:if-none-match"] != nil {
		t.Errorf("understood as %+v", c)
	}
	get := func(bucket, key, version string) string {
		in := &sdk.GetObjectInput{Bucket: &bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled}
		if version != "" {
			in.VersionId = &version
		}
		out, err := client.GetObject(ctx, in)
		if err != nil {
			return code(err)
		}
		defer out.Body.Close()
		body, err := io.ReadAll(out.Body) // the SDK compares the checksum
		must(t, err)
		return string(body)
	}
	if a, b := get("locked", "a/ b+ü", ""), get("locked", "a/ b+ü", *first.VersionId); a != "two" || b != "one" {
		t.Errorf("now %q, then %q", a, b)
	}
	if got := get("locked", "none", ""); got != "NoSuchKey" {
		t.Error(got)
	}
	if _, err := client.DeleteObject(ctx, &sdk.DeleteObjectInput{Bucket: aws.String("locked"), Key: aws.String("a/ b+ü"), VersionId: first.VersionId}); code(err) != "AccessDenied" {
		t.Errorf("deleted under lock: %v", err)
	}
	_, err = client.DeleteObject(ctx, &sdk.DeleteObjectInput{Bucket: aws.String("locked"), Key: aws.String("a/ b+ü")})
	must(t, err)
	if got := get("locked", "a/ b+ü", ""); got != "NoSuchKey" {
		t.Errorf("behind a marker: %s", got)
	}
	if got := get("locked", "a/ b+ü", *first.VersionId); got != "one" {
		t.Errorf("the version: %s", got)
	}
	seen = nil
	if _, err = client.DeleteObject(ctx, &sdk.DeleteObjectInput{Bucket: aws.String("locked"), Key: aws.String("a/ b+ü"), VersionId: first.VersionId, BypassGovernanceRetention: aws.Bool(true)}); err != nil {
		t.Error(err)
	}
	if len(seen) != 1 || len(seen[0].Needs) != 2 || seen[0].Needs[0].Action != "s3:DeleteObjectVersion" || seen[0].Needs[1].Action != "s3:BypassGovernanceRetention" {
		t.Errorf("needs %+v", seen)
	}
	for name, c := range map[string]struct {
		turn func(*sdk.PutObjectInput)
		want string
	}{
		"a wrong sha256": {func(in *sdk.PutObjectInput) { in.ChecksumSHA256 = aws.String(checksum("SHA256", []byte("x"))) }, "BadDigest"},
		"a right sha256": {func(in *sdk.PutObjectInput) { in.ChecksumSHA256 = aws.String(checksum("SHA256", []byte("body"))) }, ""},
		"a wrong MD5": {func(in *sdk.PutObjectInput) {
			in.ContentMD5 = aws.String(base64.StdEncoding.EncodeToString(make([]byte, 16)))
		}, "BadDigest"},
		"crc64":          {func(in *sdk.PutObjectInput) { in.ChecksumAlgorithm = types.ChecksumAlgorithmCrc64nvme }, ""},
		"crc32c":         {func(in *sdk.PutObjectInput) { in.ChecksumAlgorithm = types.ChecksumAlgorithmCrc32c }, ""},
		"an access list": {func(in *sdk.PutObjectInput) { in.ACL = "public-read" }, "NotImplemented"},
		"tags":           {func(in *sdk.PutObjectInput) { in.Tagging = aws.String("a=b") }, "NotImplemented"},
		"if match":       {func(in *sdk.PutObjectInput) { in.IfMatch = aws.String(`"x"`) }, "NotImplemented"},
		"an ETag":        {func(in *sdk.PutObjectInput) { in.IfNoneMatch = aws.String(`"x"`) }, "NotImplemented"},
		"another owner":  {func(in *sdk.PutObjectInput) { in.ExpectedBucketOwner = aws.String("444455556666") }, "AccessDenied"},
		"our owner":      {func(in *sdk.PutObjectInput) { in.ExpectedBucketOwner = aws.String(account) }, ""},
		"no bucket":      {func(in *sdk.PutObjectInput) { in.Bucket = aws.String("none") }, "NoSuchBucket"},
	} {
		if _, err := put("plain", "k", "body", c.turn); code(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"a copy": func() error {
			_, err := client.CopyObject(ctx, &sdk.CopyObjectInput{Bucket: aws.String("plain"), Key: aws.String("c"), CopySource: aws.String("plain/k")})
			return err
		}(),
		"parts": func() error {
			_, err := client.CreateMultipartUpload(ctx, &sdk.CreateMultipartUploadInput{Bucket: aws.String("plain"), Key: aws.String("c")})
			return err
		}(),
		"a range": func() error {
			_, err := client.GetObject(ctx, &sdk.GetObjectInput{Bucket: aws.String("plain"), Key: aws.String("k"), Range: aws.String("bytes=0-1")})
			return err
		}(),
		"a policy": func() error {
			_, err := client.PutBucketPolicy(ctx, &sdk.PutBucketPolicyInput{Bucket: aws.String("plain"), Policy: aws.String("{}")})
			return err
		}(),
	} {
		if code(err) != "NotImplemented" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !bytes.Contains(s.Dump(), []byte("locked a/ b+ü two\n")) {
		t.Errorf("dump: %s", s.Dump())
	}
}

// TestOneWins: of many puts only if absent exactly one is applied.
func TestOneWins(t *testing.T) {
	s, client := served(t, nil)
	must(t, s.Make(Bucket{Name: "b", Region: region, Account: account, Versioned: true}))
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			_, err := client.PutObject(ctx, &sdk.PutObjectInput{Bucket: aws.String("b"), Key: aws.String("k"), Body: strings.NewReader(fmt.Sprint(i)), IfNoneMatch: aws.String("*")})
			switch {
			case err == nil:
				won.Add(1)
			case code(err) != "PreconditionFailed":
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || len(s.buckets["b"].objects["k"]) != 1 {
		t.Errorf("%d won, %d versions", won.Load(), len(s.buckets["b"].objects["k"]))
	}
}

// TestMissing: who may not list is told that it may not, not that it is not
// there.
func TestMissing(t *testing.T) {
	s := New()
	must(t, s.Make(Bucket{Name: "b", Region: region, Account: account}))
	for may, want := range map[bool]int{true: 404, false: 403} {
		r := httptest.NewRequest("GET", "/k", nil)
		c, failure := s.Understand(call.Request{HTTP: r, Region: region, Bucket: "b", Caller: call.Caller{Account: account}, May: func(n call.Need) bool {
			if n.Action != "s3:ListBucket" || n.Resource != "arn:aws:s3:::b" {
				t.Errorf("asked for %+v", n)
			}
			return may
		}})
		if failure != nil {
			t.Fatal(failure)
		}
		if _, failure = c.Do(ctx); failure == nil || failure.Status != want {
			t.Errorf("%v: %v", may, failure)
		}
	}
}

func TestList(t *testing.T) {
	s, client := served(t, nil)
	must(t, s.Make(Bucket{Name: "b", Region: region, Account: account}))
	for _, key := range []string{"a/1", "a/2", "a/ü &<", "b", "c/1/2", "c/1/3"} {
		must(t, s.Put("b", key, []byte(key)))
	}
	for _, c := range []struct {
		prefix, delimiter string
		page              int32
		want              string
	}{
		{"", "", 1000, "a/1 a/2 a/ü &< b c/1/2 c/1/3"}, {"", "", 2, "a/1 a/2 a/ü &< b c/1/2 c/1/3"}, {"a/", "", 1, "a/1 a/2 a/ü &<"},
		{"", "/", 1000, "a/* b c/*"}, {"", "/", 1, "a/* b c/*"}, {"c/1", "", 1000, "c/1/2 c/1/3"}, {"x", "", 1000, ""},
	} {
		in := &sdk.ListObjectsV2Input{Bucket: aws.String("b"), MaxKeys: &c.page}
		if c.prefix != "" {
			in.Prefix = &c.prefix
		}
		if c.delimiter != "" {
			in.Delimiter = &c.delimiter
		}
		var got []string
		for pages := sdk.NewListObjectsV2Paginator(client, in); pages.HasMorePages(); {
			page, err := pages.NextPage(ctx)
			must(t, err)
			for _, o := range page.Contents {
				got = append(got, *o.Key)
			}
			for _, p := range page.CommonPrefixes {
				got = append(got, *p.Prefix+"*")
			}
		}
		slices.Sort(got)
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestConfigurations(t *testing.T) {
	s, client := served(t, nil)
	must(t, s.Make(Bucket{Name: "b", Region: region, Account: account, Versioned: true, ObjectLock: true, LockMode: "COMPLIANCE", LockDays: 7,
		Configurations: map[string][]byte{"policy": []byte(`{"Version":"2012-10-17"}`)}}))
	must(t, s.Make(Bucket{Name: "bare", Region: region, Account: account}))
	b, bare := aws.String("b"), aws.String("bare")
	versioning, err := client.GetBucketVersioning(ctx, &sdk.GetBucketVersioningInput{Bucket: b})
	must(t, err)
	lock, err := client.GetObjectLockConfiguration(ctx, &sdk.GetObjectLockConfigurationInput{Bucket: b})
	must(t, err)
	policy, err := client.GetBucketPolicy(ctx, &sdk.GetBucketPolicyInput{Bucket: b})
	must(t, err)
	if d := lock.ObjectLockConfiguration.Rule.DefaultRetention; versioning.Status != "Enabled" || d.Mode != "COMPLIANCE" || *d.Days != 7 || *policy.Policy != `{"Version":"2012-10-17"}` {
		t.Errorf("%v %+v %s", versioning.Status, d, *policy.Policy)
	}
	encryption, err := client.GetBucketEncryption(ctx, &sdk.GetBucketEncryptionInput{Bucket: bare})
	must(t, err)
	if encryption.ServerSideEncryptionConfiguration.Rules[0].ApplyServerSideEncryptionByDefault.SSEAlgorithm != "AES256" {
		t.Error(encryption)
	}
	acl, err := client.GetBucketAcl(ctx, &sdk.GetBucketAclInput{Bucket: bare})
	must(t, err)
	if len(acl.Grants) != 1 || acl.Grants[0].Grantee.Type != "CanonicalUser" {
		t.Errorf("%+v", acl)
	}
	for want, err := range map[string]error{
		"NoSuchBucketPolicy":                    second(client.GetBucketPolicy(ctx, &sdk.GetBucketPolicyInput{Bucket: bare})),
		"ObjectLockConfigurationNotFoundError":  second(client.GetObjectLockConfiguration(ctx, &sdk.GetObjectLockConfigurationInput{Bucket: bare})),
		"NoSuchPublicAccessBlockConfiguration":  second(client.GetPublicAccessBlock(ctx, &sdk.GetPublicAccessBlockInput{Bucket: bare})),
		"OwnershipControlsNotFoundError":        second(client.GetBucketOwnershipControls(ctx, &sdk.GetBucketOwnershipControlsInput{Bucket: bare})),
		"NoSuchLifecycleConfiguration":          second(client.GetBucketLifecycleConfiguration(ctx, &sdk.GetBucketLifecycleConfigurationInput{Bucket: bare})),
		"ReplicationConfigurationNotFoundError": second(client.GetBucketReplication(ctx, &sdk.GetBucketReplicationInput{Bucket: bare})),
		"NoSuchBucket":                          second(client.GetBucketVersioning(ctx, &sdk.GetBucketVersioningInput{Bucket: aws.String("none")})),
		"NotImplemented":                        second(client.GetBucketWebsite(ctx, &sdk.GetBucketWebsiteInput{Bucket: bare})),
	} {
		if code(err) != want {
			t.Errorf("want %s: %v", want, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestChunks: a body in chunks with its checksum behind it, as the SDK sends
// one over TLS.
func TestChunks(t *testing.T) {
	good := "3\r\nabc\r\n2\r\nde\r\n0\r\nx-amz-checksum-crc32:" + checksum("CRC32", []byte("abcde")) + "\r\n\r\n"
	data, trailer, err := unchunk([]byte(good))
	if err != nil || string(data) != "abcde" || len(trailer) != 1 {
		t.Fatalf("%q %v %v", data, trailer, err)
	}
	for i := range good {
		if _, _, err := unchunk([]byte(good[:i])); err == nil {
			t.Errorf("cut at %d", i)
		}
	}
	request := func(body, length, named string) call.Request {
		r := httptest.NewRequest(http.MethodPut, "/k", nil)
		r.Header.Set("X-Amz-Content-Sha256", Streamed)
		r.Header.Set("X-Amz-Decoded-Content-Length", length)
		r.Header.Set("X-Amz-Trailer", named)
		return call.Request{HTTP: r, Body: []byte(body)}
	}
	for name, c := range map[string]struct{ body, length, named, want string }{
		"good":           {good, "5", "x-amz-checksum-crc32", ""},
		"another length": {good, "6", "x-amz-checksum-crc32", "IncompleteBody"},
		"another name":   {good, "5", "x-amz-checksum-sha256", "MalformedTrailerError"},
		"another body":   {strings.Replace(good, "abc", "abd", 1), "5", "x-amz-checksum-crc32", "BadDigest"},
	} {
		data, _, given, failure := body(request(c.body, c.length, c.named))
		if c.want == "" && (failure != nil || !given || string(data) != "abcde") || c.want != "" && (failure == nil || failure.Code != c.want) {
			t.Errorf("%s: %q %v", name, data, failure)
		}
	}
}
