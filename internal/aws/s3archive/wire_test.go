package s3archive

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/record"
)

// answer is one of a scripted S3.
type answer struct {
	status int
	code   string // of an error
	body   string
	header map[string]string
	broken bool // the connection ends instead
}

// scripted is S3 that gives these answers in turn, the last one for ever.
type scripted struct {
	answers  []answer
	requests []*http.Request
}

func (s *scripted) Do(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	s.requests = append(s.requests, r)
	a := s.answers[min(len(s.requests), len(s.answers))-1]
	if a.broken {
		return nil, errors.New("connection reset by peer")
	}
	if a.code != "" {
		a.body = "<Error><Code>" + a.code + "</Code><Message>no</Message></Error>"
	}
	h := http.Header{}
	for k, v := range a.header {
		h.Set(k, v)
	}
	length := int64(len(a.body))
	if text := h.Get("Content-Length"); text != "" {
		length, _ = strconv.ParseInt(text, 10, 64)
	} else {
		h.Set("Content-Length", strconv.Itoa(len(a.body)))
	}
	return &http.Response{
		StatusCode: a.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h, ContentLength: length,
		Body: io.NopCloser(strings.NewReader(a.body)), Request: r,
	}, nil
}

func on(t testing.TB, o Options, answers ...answer) (*Archive, *scripted) {
	t.Helper()
	s := &scripted{answers: answers}
	cfg := config("http://127.0.0.1:1")
	cfg.HTTPClient = s
	if o.Backoff == nil {
		o.Backoff = func(int) time.Duration { return 0 }
	}
	a, err := New(sdk.NewFromConfig(cfg), "arn:aws:s3:::archive", "hoodi/", o)
	must(t, err)
	return a, s
}

func sumOf(body string) map[string]string {
	sum := sha256.Sum256([]byte(body))
	return map[string]string{"x-amz-checksum-sha256": base64.StdEncoding.EncodeToString(sum[:])}
}

var (
	ok        = answer{status: 200}
	exists    = answer{status: 412, code: "PreconditionFailed"}
	conflict  = answer{status: 409, code: "ConditionalRequestConflict"}
	none      = answer{status: 404, code: "NoSuchKey"}
	lost      = answer{broken: true}
	someBody  = answer{status: 200, body: "whole", header: sumOf("whole")}
	sentinels = []error{record.ErrNotFound, record.ErrExists, record.ErrConflict, record.ErrStale, record.ErrCorrupt, record.ErrFormat}
)

// is fails unless err is exactly want, or, for an unknown outcome, no
// sentinel and the class of session.
func is(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || want == nil && err != nil {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
	for _, s := range sentinels {
		if s != want && errors.Is(err, s) {
			t.Errorf("%s: %v is %q", what, err, s)
		}
	}
}

func times(n int, a answer, then ...answer) (out []answer) {
	for range n {
		out = append(out, a)
	}
	return append(out, then...)
}

// TestPutAnswers: what S3 may answer a conditional PutObject, and what Put
// makes of it.
func TestPutAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		answers []answer
		want    error
		tries   int
	}{
		"stored":                      {[]answer{ok}, nil, 1},
		"exists":                      {[]answer{exists}, record.ErrExists, 1},
		"conflict, then stored":       {times(2, conflict, ok), nil, 3},
		"conflict, then exists":       {times(2, conflict, exists), record.ErrExists, 3},
		"conflicts, and it is there":  {times(attempts, conflict, someBody), record.ErrExists, attempts + 1},
		"conflicts, and it is not":    {times(attempts, conflict, none), session.ErrRemote, attempts + 1},
		"conflicts, and who knows":    {times(attempts, conflict, answer{status: 400, code: "Odd"}), session.ErrRemote, attempts + 1},
		"conflicts, and it is broken": {times(attempts, conflict, answer{status: 200, body: "part", header: sumOf("whole")}), session.ErrRemote, attempts + 1},
		// The first attempt was applied, for all one knows.
		"answer lost, then exists":  {[]answer{lost, exists}, record.ErrExists, 2},
		"answers lost":              {[]answer{lost}, session.ErrRemote, session.MaxAttempts},
		"slow down, then stored":    {times(2, answer{status: 503, code: "SlowDown"}, ok), nil, 3},
		"slow down for ever":        {[]answer{{status: 503, code: "SlowDown"}}, session.ErrRemote, session.MaxAttempts},
		"damaged on the way":        {[]answer{{status: 400, code: "BadDigest"}}, session.ErrRemote, 1},
		"no such bucket":            {[]answer{{status: 404, code: "NoSuchBucket"}}, session.ErrRemote, 1},
		"denied":                    {[]answer{{status: 403, code: "AccessDenied"}}, session.ErrDenied, 1},
		"another conflict":          {[]answer{{status: 409, code: "OperationAborted"}}, session.ErrRemote, 1},
		"412 of another making":     {[]answer{{status: 412, code: "Odd"}}, session.ErrRemote, 1},
		"an answer that is no XML":  {[]answer{{status: 400, body: "<<"}}, session.ErrRemote, 1},
		"moved to another region":   {[]answer{{status: 301, code: "PermanentRedirect"}}, session.ErrRemote, 1},
		"expired, so another class": {[]answer{{status: 400, code: "ExpiredToken"}}, session.ErrDenied, 1},
	} {
		a, s := on(t, Options{}, c.answers...)
		is(t, name, a.Put(ctx, "o1/0", []byte("whole")), c.want)
		if len(s.requests) != c.tries {
			t.Errorf("%s: %d requests, want %d", name, len(s.requests), c.tries)
		}
	}
}

// TestPutWaits: Put ends when its context does, also while it waits.
func TestPutWaits(t *testing.T) {
	ctx, cancel := context.WithCancel(ctx)
	a, s := on(t, Options{Backoff: func(int) time.Duration { cancel(); return time.Hour }}, conflict)
	is(t, "cancelled", a.Put(ctx, "o1/0", nil), context.Canceled)
	if len(s.requests) != 1 {
		t.Errorf("%d requests", len(s.requests))
	}
	for n := 1; n < attempts; n++ {
		if d := wait(n); d < 0 || d > 2*time.Second {
			t.Errorf("wait %d: %s", n, d)
		}
	}
}

// TestGetAnswers: what Get takes for the object, for none, and for neither.
func TestGetAnswers(t *testing.T) {
	with := func(a answer, k, v string) answer {
		h := map[string]string{k: v}
		for k, v := range a.header {
			if _, there := h[k]; !there {
				h[k] = v
			}
		}
		a.header = h
		return a
	}
	for name, c := range map[string]struct {
		answers []answer
		want    error
		tries   int
	}{
		"whole":              {[]answer{someBody}, nil, 1},
		"none":               {[]answer{none}, record.ErrNotFound, 1},
		"lost, then whole":   {[]answer{lost, someBody}, nil, 2},
		"deleted":            {[]answer{with(none, "x-amz-delete-marker", "true")}, record.ErrCorrupt, 1},
		"another content":    {[]answer{{status: 200, body: "whale", header: sumOf("whole")}}, record.ErrCorrupt, 1},
		"no checksum":        {[]answer{{status: 200, body: "whole"}}, record.ErrCorrupt, 1},
		"of several parts":   {[]answer{with(someBody, "x-amz-checksum-sha256", sumOf("whole")["x-amz-checksum-sha256"]+"-2")}, record.ErrCorrupt, 1},
		"too large":          {[]answer{with(someBody, "Content-Length", strconv.Itoa(MaxObject+1))}, record.ErrCorrupt, 1},
		"ends early":         {[]answer{with(someBody, "Content-Length", "6")}, session.ErrRemote, 1},
		"goes on":            {[]answer{with(someBody, "Content-Length", "4")}, session.ErrRemote, 1},
		"no such bucket":     {[]answer{{status: 404, code: "NoSuchBucket"}}, session.ErrRemote, 1},
		"404 of no making":   {[]answer{{status: 404, body: "<html>"}}, session.ErrRemote, 1},
		"denied":             {[]answer{{status: 403, code: "AccessDenied"}}, session.ErrDenied, 1},
		"slow down for ever": {[]answer{{status: 503, code: "SlowDown"}}, session.ErrRemote, session.MaxAttempts},
	} {
		a, s := on(t, Options{}, c.answers...)
		data, err := a.Get(ctx, "o1/0")
		is(t, name, err, c.want)
		if (err == nil) != (string(data) == "whole") || err != nil && data != nil {
			t.Errorf("%s: got %q and %v", name, data, err)
		}
		if len(s.requests) != c.tries {
			t.Errorf("%s: %d requests, want %d", name, len(s.requests), c.tries)
		}
	}
}

// TestRequests: where a call goes, and whose bucket it demands.
func TestRequests(t *testing.T) {
	const owner = "111122223333"
	a, s := on(t, Options{Owner: owner}, ok, someBody)
	must(t, a.Put(ctx, "o1/0", []byte("whole")))
	_, err := a.Get(ctx, "o1/0")
	must(t, err)
	for i, method := range []string{"PUT", "GET"} {
		r := s.requests[i]
		if r.Method != method || r.URL.Path != "/archive/hoodi/o1/0" || r.Header.Get("x-amz-expected-bucket-owner") != owner {
			t.Errorf("%s %s of %q", r.Method, r.URL, r.Header.Get("x-amz-expected-bucket-owner"))
		}
		if !strings.Contains(r.Header.Get("Authorization"), "x-amz-expected-bucket-owner") {
			t.Errorf("the owner is not signed: %s", r.Header.Get("Authorization"))
		}
	}
	put := s.requests[0]
	if got := put.Header.Get("x-amz-checksum-sha256"); put.Header.Get("If-None-Match") != "*" || got != sumOf("whole")["x-amz-checksum-sha256"] {
		t.Errorf("put with %v", put.Header)
	}
	if !strings.Contains(put.Header.Get("Authorization"), "if-none-match") {
		t.Errorf("the condition is not signed: %s", put.Header.Get("Authorization"))
	}
}

func TestTooLarge(t *testing.T) {
	a, s := on(t, Options{}, ok)
	is(t, "too large", a.Put(ctx, "a", make([]byte, MaxObject+1)), record.ErrFormat)
	if len(s.requests) != 0 {
		t.Error("it was sent")
	}
}

func TestNew(t *testing.T) {
	client := sdk.NewFromConfig(config("http://127.0.0.1:1"))
	for name, c := range map[string]struct{ bucket, prefix, owner string }{
		"a name":            {"archive", "", ""},
		"a table":           {"arn:aws:dynamodb:eu-central-1:111122223333:table/x", "", ""},
		"an object":         {"arn:aws:s3:::archive/o1", "", ""},
		"no slash":          {"arn:aws:s3:::archive", "hoodi", ""},
		"two slashes":       {"arn:aws:s3:::archive", "hoodi//", ""},
		"the root":          {"arn:aws:s3:::archive", "/", ""},
		"another's":         {"arn:aws:s3:::archive", "../x/", ""},
		"upper case":        {"arn:aws:s3:::archive", "Hoodi/", ""},
		"an owner's name":   {"arn:aws:s3:::archive", "", "acme"},
		"11 digits":         {"arn:aws:s3:::archive", "", "11112222333"},
		"digits and others": {"arn:aws:s3:::archive", "", "11112222333x"},
	} {
		if a, err := New(client, c.bucket, c.prefix, Options{Owner: c.owner}); err == nil || a != nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := New(nil, "arn:aws:s3:::archive", "", Options{}); err == nil {
		t.Error("no client: accepted")
	}
	for _, prefix := range []string{"", "hoodi/", "a/b.c/"} {
		if _, err := New(client, "arn:aws:s3:::archive", prefix, Options{Owner: fmt.Sprintf("%012d", 7)}); err != nil {
			t.Errorf("%q: %v", prefix, err)
		}
	}
}

// TestPage holds the page on the format to the bounds and headers here.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../../docs/formats/dynamodb.md")
	must(t, err)
	for _, text := range []string{
		fmt.Sprintf("at most %d MiB", MaxObject>>20), map[int]string{6: "up to six times"}[attempts],
		"`If-None-Match: *`", "`x-amz-checksum-sha256`", "`x-amz-expected-bucket-owner`", "`x-amz-checksum-mode: ENABLED`",
	} {
		if text == "" || !strings.Contains(string(page), text) {
			t.Errorf("the page does not have %q", text)
		}
	}
}
