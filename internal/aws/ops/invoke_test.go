package ops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/internal/runtimeapi"
)

const aliasARN = "arn:aws:lambda:us-east-1:111122223333:function:stakeseal-hoodi-generator:live"

// fakeLambda answers invocations one after the other, the last answer again
// and again.
func fakeLambda(t *testing.T, answers ...http.HandlerFunc) (*Generator, *atomic.Int32) {
	t.Helper()
	clean(t)
	var calls atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/invocations") {
			if want := "/2015-03-31/functions/" + aliasARN + "/invocations"; r.URL.Path != want {
				t.Errorf("path %s", r.URL.Path)
			}
			if got := r.Header.Get("X-Amz-Invocation-Type"); got != "RequestResponse" || r.Header.Get("X-Amz-Log-Type") == "Tail" {
				t.Errorf("invoked as %q", got)
			}
			n := int(calls.Add(1))
			w.Header().Set("X-Amzn-Requestid", fmt.Sprintf("r-%d", n))
			answers[min(n, len(answers))-1](w, r)
			return
		}
		answer(w, "GetCallerIdentity", identity(account, role))
	}))
	t.Cleanup(s.Close)
	a, err := Open(t.Context(), here, Options{Session: session.Options{Endpoint: s.URL}})
	if err != nil {
		t.Fatal(err)
	}
	g, err := a.Generator(aliasARN)
	if err != nil {
		t.Fatal(err)
	}
	g.Backoff = func(int) time.Duration { return 0 }
	return g, &calls
}

func says(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

var (
	done      = says(200, `{"ok":true}`, "X-Amz-Executed-Version", "7")
	throttled = says(429, `{"Reason":"ConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}`, "X-Amzn-ErrorType", "TooManyRequestsException")
	broke     = says(500, `{"message":"x"}`, "X-Amzn-ErrorType", "ServiceException")
)

// lost runs and does not answer.
func lost(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

func many(n int, one http.HandlerFunc, then ...http.HandlerFunc) (list []http.HandlerFunc) {
	for range n {
		list = append(list, one)
	}
	return append(list, then...)
}

func TestInvoke(t *testing.T) {
	for name, c := range map[string]struct {
		answers []http.HandlerFunc
		calls   int32
		err     error // nil: done
	}{
		"at once":                        {many(0, nil, done), 1, nil},
		"after throttling":               {many(20, throttled, done), 21, nil},
		"after lost answers":             {many(3, lost, done), 4, nil},
		"after failures of AWS":          {many(3, broke, done), 4, nil},
		"while the function is changed":  {many(2, says(409, `{}`, "X-Amzn-ErrorType", "ResourceConflictException"), done), 3, nil},
		"after half an answer":           {many(2, says(200, `{"ok"`, "Content-Length", "100"), done), 3, nil},
		"throttled for ever":             {many(1, throttled), throttleTries, session.ErrRemote},
		"lost for ever":                  {many(1, lost), lostTries, session.ErrRemote},
		"denied":                         {many(1, says(403, `{"Message":"not authorized"}`, "X-Amzn-ErrorType", "AccessDeniedException")), 1, session.ErrDenied},
		"no alias":                       {many(1, says(404, `{"Message":"Function not found"}`, "X-Amzn-ErrorType", "ResourceNotFoundException")), 1, session.ErrRemote},
		"an event too large":             {many(1, says(413, `{}`, "X-Amzn-ErrorType", "RequestTooLargeException")), 1, session.ErrRemote},
		"taken for an asynchronous call": {many(1, says(202, ``)), 1, session.ErrRemote},
	} {
		t.Run(name, func(t *testing.T) {
			g, calls := fakeLambda(t, c.answers...)
			got, err := g.Invoke(t.Context(), []byte(`{}`))
			if !errors.Is(err, c.err) || calls.Load() != c.calls {
				t.Errorf("%d calls, %v", calls.Load(), err)
			}
			if c.err == nil && (string(got.Answer) != `{"ok":true}` || got.Version != "7" || got.RequestID == "") {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// What the function fails with comes through as its class and words, fit to be
// printed, and is not repeated here.
func TestFailures(t *testing.T) {
	for payload, want := range map[string]struct{ class, message string }{
		`{"errorType":"refused","errorMessage":"order refused: no"}`:                                                {"refused", "order refused: no"},
		`{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: x Error: Task timed out after 900.00 seconds"}`: {"Sandbox.Timedout", "RequestId: x Error: Task timed out after 900.00 seconds"},
		`{"errorType":"Runtime.ExitError"}`:                                                                         {"Runtime.ExitError", "Runtime.ExitError"},
		`{"errorType":"x\u001b[2J","errorMessage":"a\u001b[2Jb\nc"}`:                                                {"x [2J", "a [2Jb c"},
	} {
		g, calls := fakeLambda(t, says(200, payload, "X-Amz-Function-Error", "Unhandled"))
		_, err := g.Invoke(t.Context(), nil)
		f, ok := errors.AsType[*runtimeapi.Failure](err)
		if !ok || f.Class != want.class || f.Message != want.message || calls.Load() != 1 || !strings.Contains(err.Error(), "request r-1") {
			t.Errorf("%s: %d calls, %v", payload, calls.Load(), err)
		}
	}
	for _, payload := range []string{``, `null`, `{}`, `"text"`, `{"errorType":1}`} {
		g, _ := fakeLambda(t, says(200, payload, "X-Amz-Function-Error", "Unhandled"))
		if _, err := g.Invoke(t.Context(), nil); !errors.Is(err, session.ErrRemote) {
			t.Errorf("%q: %v", payload, err)
		}
	}
	g, _ := fakeLambda(t, says(200, `{"errorType":"`+strings.Repeat("x", 9999)+`","errorMessage":"`+strings.Repeat("ü", 9999)+`"}`, "X-Amz-Function-Error", "Unhandled"))
	if _, err := g.Invoke(t.Context(), nil); err == nil || len(err.Error()) > 2200 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
}

// An interruption ends the waiting, in the middle of an answer and between two
// attempts, and is no failure of AWS.
func TestInvokeInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	running := make(chan struct{})
	g, _ := fakeLambda(t, func(_ http.ResponseWriter, r *http.Request) {
		close(running)
		<-r.Context().Done()
	})
	go func() { <-running; cancel() }()
	if _, err := g.Invoke(ctx, nil); !errors.Is(err, context.Canceled) || errors.Is(err, session.ErrRemote) {
		t.Errorf("while it ran: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	g, _ = fakeLambda(t, throttled)
	g.Backoff = func(int) time.Duration { cancel(); return time.Hour }
	if _, err := g.Invoke(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("between attempts: %v", err)
	}
}

// A function runs for up to fifteen minutes before its first byte: the bound
// of other calls must not apply.
func TestInvokeIsPatient(t *testing.T) {
	clean(t)
	o, _ := fakeSTS(t, account, role)
	a, err := Open(t.Context(), here, o)
	if err != nil {
		t.Fatal(err)
	}
	if d := session.Bound(a.config(configKey{attempt: longest})); d < 15*time.Minute {
		t.Errorf("an invocation is cut off after %v", d)
	}
	if d := session.Bound(a.Config("")); d > time.Minute {
		t.Errorf("other calls are cut off after %v", d)
	}
}

func TestWait(t *testing.T) {
	for n := 1; n < 100; n++ {
		if d := wait(n); d < shortestWait/4 || d > longestWait {
			t.Errorf("before attempt %d: %v", n+1, d)
		}
	}
}

func TestGeneratorOfAnotherPlace(t *testing.T) {
	clean(t)
	o, _ := fakeSTS(t, account, role)
	a, err := Open(t.Context(), here, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		strings.Replace(aliasARN, "us-east-1", "eu-west-1", 1), strings.Replace(aliasARN, account, "444455556666", 1),
		strings.TrimSuffix(aliasARN, ":live"), "stakeseal-hoodi-generator", "",
	} {
		if g, err := a.Generator(text); !errors.Is(err, arn.ErrARN) || g != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}
