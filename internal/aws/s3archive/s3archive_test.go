package s3archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
)

var ctx = context.Background()

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// config is what the programs use, but for the wait between attempts.
func config(endpoint string) aws.Config {
	return session.New("eu-central-1", credentials.NewStaticCredentialsProvider("AKIDTEST", "test", "test"), session.Options{
		Endpoint: endpoint, Backoff: func(int) time.Duration { return 0 },
	})
}

// opener returns one for the suite: every call opens a bucket of its own.
func opener(endpoint string, name func() string, wrap func(testing.TB, aws.HTTPClient) aws.HTTPClient) func(testing.TB) recordtest.OpenedArchive {
	var buckets atomic.Int64
	return func(t testing.TB) recordtest.OpenedArchive {
		cfg := config(endpoint)
		cfg.HTTPClient = wrap(t, cfg.HTTPClient)
		client := sdk.NewFromConfig(cfg)
		bucket := fmt.Sprintf("stakeseal-archive-%d-%d", os.Getpid(), buckets.Add(1))
		_, err := client.CreateBucket(ctx, &sdk.CreateBucketInput{
			Bucket:                    &bucket,
			CreateBucketConfiguration: &types.CreateBucketConfiguration{LocationConstraint: types.BucketLocationConstraintEuCentral1},
		})
		must(t, err)
		open := func(t testing.TB) record.Archive {
			a, err := New(client, "arn:aws:s3:::"+bucket, "births/", Options{Backoff: func(int) time.Duration { return 0 }})
			must(t, err)
			return a
		}
		a := open(t)
		if _, err := a.Get(ctx, "none"); !errors.Is(err, record.ErrNotFound) {
			t.Fatalf("an empty bucket: %v", err)
		}
		return recordtest.OpenedArchive{Archive: a, Name: fmt.Sprintf("%T on %s", a, name()), Again: open}
	}
}

// TestConformance runs the suite over gofakes3, in this process. gofakes3
// honours If-None-Match, but takes any checksum and keeps none, so strict does
// both as S3 does.
func TestConformance(t *testing.T) {
	backend := s3mem.New()
	server := httptest.NewServer(&strict{next: gofakes3.New(backend).Server(), sums: map[string]string{}})
	defer server.Close()
	name := func() string { return fmt.Sprintf("%T", backend) }
	recordtest.Archive(t, "*s3archive.Archive on *s3mem.Backend", opener(server.URL, name, func(t testing.TB, c aws.HTTPClient) aws.HTTPClient {
		r := &recorder{next: c}
		t.Cleanup(func() { r.onlyConditional(t) })
		return r
	}))
}

// TestEmulator runs the suite over moto. internal/aws/emulators.sh installs
// and starts it.
func TestEmulator(t *testing.T) {
	const variable = "STAKESEAL_MOTO"
	endpoint := os.Getenv(variable)
	if endpoint == "" {
		if os.Getenv("CI") == "true" && os.Getenv("STAKESEAL_EMULATORS") == "required" {
			t.Fatalf("%s is not set, and the emulators are required", variable)
		}
		t.Skipf("%s is not set: not run against moto (see internal/aws/emulators.sh)", variable)
	}
	var last atomic.Pointer[string]
	// moto looks at If-None-Match and then writes, with other threads in
	// between: it holds there for one request at a time only. S3 promises it.
	var oneAtATime sync.Mutex
	recordtest.Archive(t, "*s3archive.Archive on moto", opener(endpoint, func() string { return *last.Load() }, func(t testing.TB, c aws.HTTPClient) aws.HTTPClient {
		return client(func(r *http.Request) (*http.Response, error) {
			oneAtATime.Lock()
			defer oneAtATime.Unlock()
			answer, err := c.Do(r)
			if err == nil {
				name := "moto"
				if server := answer.Header.Get("Server"); !strings.HasPrefix(server, "Werkzeug/") {
					name = "another server: " + server
					t.Errorf("%s %s was answered by %q", r.Method, r.URL, server)
				}
				last.Store(&name)
			}
			return answer, err
		})
	}))
}

type client func(*http.Request) (*http.Response, error)

func (c client) Do(r *http.Request) (*http.Response, error) { return c(r) }

// strict adds to gofakes3 what S3 does and it does not: a PutObject's SHA-256
// is compared with the body and given back with the object.
type strict struct {
	next http.Handler
	mu   sync.Mutex
	sums map[string]string // by path
}

func (s *strict) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	object := strings.Contains(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case r.Method == http.MethodPut && object:
		body, err := io.ReadAll(r.Body)
		sum := sha256.Sum256(body)
		given := r.Header.Get("x-amz-checksum-sha256")
		if err != nil || given != base64.StdEncoding.EncodeToString(sum[:]) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, "<Error><Code>BadDigest</Code><Message>the SHA-256 you specified did not match</Message></Error>")
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		answer := httptest.NewRecorder()
		s.next.ServeHTTP(answer, r)
		if answer.Code == http.StatusOK {
			s.mu.Lock()
			s.sums[r.URL.Path] = given
			s.mu.Unlock()
		}
		copyAnswer(w, answer)
	case r.Method == http.MethodGet && object:
		answer := httptest.NewRecorder()
		s.next.ServeHTTP(answer, r)
		if answer.Code == http.StatusOK && r.Header.Get("x-amz-checksum-mode") == "ENABLED" {
			// The writer that won has its answer later than its object.
			sum := sha256.Sum256(answer.Body.Bytes())
			s.mu.Lock()
			kept, ok := s.sums[r.URL.Path]
			s.mu.Unlock()
			if !ok {
				kept = base64.StdEncoding.EncodeToString(sum[:])
			}
			answer.Header().Set("x-amz-checksum-sha256", kept)
		}
		copyAnswer(w, answer)
	default:
		s.next.ServeHTTP(w, r)
	}
}

func copyAnswer(w http.ResponseWriter, answer *httptest.ResponseRecorder) {
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

// recorder keeps what was asked.
type recorder struct {
	next     aws.HTTPClient
	mu       sync.Mutex
	requests []*http.Request
}

func (r *recorder) Do(q *http.Request) (*http.Response, error) {
	r.mu.Lock()
	r.requests = append(r.requests, q)
	r.mu.Unlock()
	return r.next.Do(q)
}

// onlyConditional fails unless every request for an object is a PutObject
// under the condition and with a SHA-256, or a GetObject.
func (r *recorder) onlyConditional(t testing.TB) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	puts := 0
	for _, q := range r.requests {
		_, object, _ := strings.Cut(strings.TrimPrefix(q.URL.Path, "/"), "/")
		switch {
		case object == "" && q.Method == http.MethodPut: // the test's own CreateBucket
		case q.Method == http.MethodPut && q.URL.RawQuery == "x-id=PutObject":
			if puts++; q.Header.Get("If-None-Match") != "*" || len(q.Header.Get("x-amz-checksum-sha256")) != 44 || q.Header.Get("x-amz-copy-source") != "" {
				t.Errorf("PutObject of %s with %v", q.URL.Path, q.Header)
			}
		case q.Method == http.MethodGet && q.URL.RawQuery == "x-id=GetObject":
			if q.Header.Get("x-amz-checksum-mode") != "ENABLED" {
				t.Errorf("GetObject of %s with %v", q.URL.Path, q.Header)
			}
		default:
			t.Errorf("asked %s %s", q.Method, q.URL)
		}
	}
}
