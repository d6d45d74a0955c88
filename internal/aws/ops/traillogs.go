package ops

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/stakeseal/stakeseal/internal/aws/session"
)

// logAPI is what is asked of S3 about a trail's files.
type logAPI interface {
	ListObjectsV2(context.Context, *s3.ListObjectsV2Input, ...func(*s3.Options)) (*s3.ListObjectsV2Output, error)
	GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)
}

// maxLog bounds one file of a trail, unpacked.
const maxLog = 512 << 20

// Logs reads the files that a trail wrote into its bucket: they go back as far
// as the bucket keeps them, and hold data events where the trail has them. What
// somebody with power over the bucket took out of it is not noticed here: the
// files' signatures tell (aws cloudtrail validate-logs).
type Logs struct {
	client  logAPI
	bucket  string
	account string
	step    func(events int)
}

// NewLogs makes the reader of a bucket of the account.
func NewLogs(a *Account, bucket string, step func(events int)) *Logs {
	return &Logs{s3.NewFromConfig(a.Config("")), bucket, a.Account, step}
}

// Read returns the calls of a region from a time to another, oldest first; keep
// says which.
func (l *Logs) Read(ctx context.Context, region string, from, to time.Time, keep func(*Call) bool) ([]Call, error) {
	var calls []Call
	seen := map[string]bool{}
	take := func(c *Call) {
		if !seen[c.EventID] && !c.Time.Before(from) && !c.Time.After(to) && keep(c) {
			calls = append(calls, *c)
		}
		seen[c.EventID] = true
	}
	// A file has the day of its writing, which may be the day after.
	last := to.UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
	for day := from.UTC().Truncate(24 * time.Hour); !day.After(last); day = day.Add(24 * time.Hour) {
		prefix := fmt.Sprintf("AWSLogs/%s/CloudTrail/%s/%s/", l.account, region, day.Format("2006/01/02"))
		err := pages(func(next *string) (*string, error) {
			out, err := l.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &l.bucket, Prefix: &prefix, ExpectedBucketOwner: &l.account, ContinuationToken: next})
			if err != nil {
				return nil, session.Classify("s3:ListBucket", err)
			}
			for _, o := range out.Contents {
				if strings.HasSuffix(aws.ToString(o.Key), ".json.gz") {
					if err := l.file(ctx, *o.Key, take); err != nil {
						return nil, err
					}
				}
			}
			return out.NextContinuationToken, nil
		})
		if err != nil {
			return nil, err
		}
	}
	sortCalls(calls)
	return calls, nil
}

func (l *Logs) file(ctx context.Context, key string, take func(*Call)) error {
	out, err := l.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &l.bucket, Key: &key, ExpectedBucketOwner: &l.account})
	if err != nil {
		return session.Classify("s3:GetObject", err)
	}
	defer out.Body.Close()
	n, err := readLog(out.Body, take)
	if err != nil {
		return session.Malformed("s3:GetObject", "", "the trail's file %q: %w", clip(key), err)
	}
	if l.step != nil {
		l.step(n)
	}
	return nil
}

// readLog reads {"Records": [event, ...]}, compressed, and returns how many
// there were. A file that is cut short is an error.
func readLog(r io.Reader, take func(*Call)) (int, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return 0, badEvent("%w", err)
	}
	dec := json.NewDecoder(io.LimitReader(z, maxLog))
	expect := func(want json.Token) error {
		got, err := dec.Token()
		if err != nil {
			return badEvent("%w", err)
		}
		if got != want {
			return badEvent("%v stands where %v should", got, want)
		}
		return nil
	}
	for _, want := range []json.Token{json.Delim('{'), "Records", json.Delim('[')} {
		if err := expect(want); err != nil {
			return 0, err
		}
	}
	n := 0
	for dec.More() {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return n, badEvent("%w", err)
		}
		c, err := parseCall(raw)
		if err != nil {
			return n, err
		}
		take(c)
		n++
	}
	if err := errors.Join(expect(json.Delim(']')), expect(json.Delim('}'))); err != nil {
		return n, err
	}
	// The end of the stream carries its checksum.
	if _, err := io.Copy(io.Discard, io.LimitReader(z, maxLog)); err != nil {
		return n, badEvent("%w", err)
	}
	return n, nil
}
