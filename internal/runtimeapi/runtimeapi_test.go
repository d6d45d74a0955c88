package runtimeapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/internal/parent"
)

// ways are the two connections that the API is spoken over: HTTP/1.1 to
// 127.0.0.1, as on Lambda, and HTTP/2 over an inherited socket, as locally.
var ways = map[string]func(testing.TB, http.Handler) *Client{
	"lambda": func(t testing.TB, h http.Handler) *Client {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
		s.Start()
		t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
		return &Client{HTTP: &http.Client{Transport: &http.Transport{}}, Base: s.URL}
	},
	"child": func(t testing.TB, h http.Handler) *Client {
		ours, file, err := parent.Pair()
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := net.FileConn(file)
		if err != nil {
			t.Fatal(err)
		}
		file.Close()
		var serving sync.WaitGroup
		serving.Go(func() { _ = parent.Serve(ours, h) })
		t.Cleanup(func() { theirs.Close(); ours.Close(); serving.Wait() })
		return &Client{HTTP: parent.Client(theirs), Base: parent.Base}
	},
}

func overBoth(t *testing.T, f func(t *testing.T, s *Server, c *Client)) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			s := NewServer()
			f(t, s, way(t, s))
		})
	}
}

// serve runs the loop until the test ends, and returns its end.
func serve(t *testing.T, c *Client, handle func(context.Context, Invocation) ([]byte, error)) <-chan error {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	stopped := make(chan struct{})
	go func() { ended <- c.Serve(ctx, handle); close(stopped) }()
	t.Cleanup(func() { cancel(); <-stopped })
	return ended
}

func TestServe(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *Client) {
		deadline := time.UnixMilli(time.Now().Add(time.Hour).UnixMilli())
		seen := map[string]bool{}
		serve(t, c, func(ctx context.Context, inv Invocation) ([]byte, error) {
			if seen[inv.ID] || inv.ID == "" {
				t.Errorf("request id %q, again", inv.ID)
			}
			seen[inv.ID] = true
			d, ok := ctx.Deadline()
			switch string(inv.Event) {
			case "plain":
				if ok || !inv.Deadline.IsZero() || inv.Function != "" {
					t.Errorf("a deadline or function out of nowhere: %+v", inv)
				}
			case "timed":
				if !ok || !d.Equal(deadline) || !inv.Deadline.Equal(deadline) || inv.Function != "arn:aws:lambda:eu-central-1:1:function:g:7" {
					t.Errorf("%v %+v", d, inv)
				}
			case "refuse":
				return nil, fmt.Errorf("wrapped: %w", &Failure{"refused", "no such address"})
			case "break":
				return nil, errors.New("disk full")
			case "empty":
				return nil, nil
			}
			return append([]byte("echo "), inv.Event...), nil
		})
		for range 2 { // one loop takes many invocations
			for _, c := range []struct {
				in      Invocation
				want    string
				class   string
				message string
			}{
				{Invocation{Event: []byte("plain")}, "echo plain", "", ""},
				{Invocation{Event: []byte("timed"), Deadline: deadline, Function: "arn:aws:lambda:eu-central-1:1:function:g:7", ID: "ignored"}, "echo timed", "", ""},
				{Invocation{}, "echo ", "", ""},
				{Invocation{Event: []byte("empty")}, "", "", ""},
				{Invocation{Event: []byte("refuse")}, "", "refused", "no such address"},
				{Invocation{Event: []byte("break")}, "", "error", "disk full"},
				{Invocation{Event: bytes.Repeat([]byte{0, 0xff}, maxEvent/2)}, "echo " + strings.Repeat("\x00\xff", maxEvent/2), "", ""},
			} {
				answer, err := s.Invoke(t.Context(), c.in)
				var f *Failure
				if string(answer) != c.want || errors.As(err, &f) != (c.class != "") || c.class == "" && err != nil ||
					f != nil && (f.Class != c.class || f.Message != c.message) {
					t.Errorf("%.20q: answer %.40q, error %v", c.in.Event, answer, err)
				}
			}
		}
	})
}

// TestDeadline: work past its deadline sees its context end, and its error
// still goes out.
func TestDeadline(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *Client) {
		serve(t, c, func(ctx context.Context, inv Invocation) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		_, err := s.Invoke(t.Context(), Invocation{Deadline: time.Now().Add(-time.Second)})
		if err == nil || err.Error() != context.DeadlineExceeded.Error() {
			t.Errorf("got %v", err)
		}
	})
}

// TestGone: a function that ends without an answer is told apart from one
// that failed, whenever that is.
func TestGone(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *Client) {
		took := make(chan struct{})
		go func() {
			if _, err := c.Next(context.Background()); err != nil {
				t.Error(err)
			}
			close(took)
		}()
		go func() { <-took; s.Gone() }()
		if _, err := s.Invoke(t.Context(), Invocation{}); !errors.Is(err, ErrGone) {
			t.Errorf("while it worked: %v", err)
		}
		s.Gone() // twice does no harm
		if _, err := s.Invoke(t.Context(), Invocation{}); !errors.Is(err, ErrGone) {
			t.Errorf("before it took anything: %v", err)
		}
	})
}

// TestAnsweredAndGone: an answer counts, also of a function that ends at once
// after it.
func TestAnsweredAndGone(t *testing.T) {
	overBoth(t, func(t *testing.T, _ *Server, c *Client) {
		for range 50 { // the two events race in Invoke's select
			s := NewServer()
			call := make(chan string)
			rec := func(method, path, body string) *httptest.ResponseRecorder {
				w := httptest.NewRecorder()
				s.ServeHTTP(w, httptest.NewRequest(method, version+path, strings.NewReader(body)))
				return w
			}
			go func() {
				id := rec("GET", "/invocation/next", "").Header().Get(requestID)
				rec("POST", "/invocation/"+id+"/response", "done")
				s.Gone()
				call <- id
			}()
			if answer, err := s.Invoke(t.Context(), Invocation{}); err != nil || string(answer) != "done" {
				t.Fatalf("%q, %v", answer, err)
			}
			<-call
		}
	})
}

func TestInitError(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *Client) {
		if err := c.FailInit(t.Context(), &Failure{"init", "generator.yaml is missing"}); err != nil {
			t.Fatal(err)
		}
		s.Gone()
		_, err := s.Invoke(t.Context(), Invocation{})
		var f *Failure
		if !errors.As(err, &f) || *f != (Failure{"init", "generator.yaml is missing"}) {
			t.Errorf("got %v", err)
		}
	})
}

// TestOneAnswerEach: an unknown invocation, a second answer and an answer
// after an error are refused with 400 and change nothing.
func TestOneAnswerEach(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *Client) {
		ctx := t.Context()
		refused := func(what string, err error) {
			t.Helper()
			if err == nil || !strings.Contains(err.Error(), "400") {
				t.Errorf("%s: %v", what, err)
			}
		}
		refused("an answer to nothing", c.Respond(ctx, "00000001", nil))
		refused("an error to nothing", c.Fail(ctx, "00000001", &Failure{"a", "b"}))
		answers := make(chan string, 1)
		go func() {
			answer, err := s.Invoke(ctx, Invocation{})
			answers <- fmt.Sprintf("%s %v", answer, err)
		}()
		inv, err := c.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		refused("an answer to another", c.Respond(ctx, inv.ID+"0", []byte("other")))
		refused("an id that is a path", c.Respond(ctx, "../"+inv.ID, []byte("other")))
		refused("an id that is a query", c.Respond(ctx, inv.ID+"?", []byte("other")))
		// Many at once: one is taken.
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			wg.Go(func() { errs[i] = c.Respond(ctx, inv.ID, fmt.Append(nil, i)) })
		}
		wg.Wait()
		got, taken := <-answers, 0
		for i, err := range errs {
			if err != nil {
				refused("a second answer", err)
				continue
			}
			taken++
			if got != fmt.Sprint(i, " <nil>") {
				t.Errorf("answer %d was taken, Invoke returned %q", i, got)
			}
		}
		if taken != 1 {
			t.Errorf("%d of 8 answers were taken", taken)
		}
		refused("an error after the answer", c.Fail(ctx, inv.ID, &Failure{"a", "b"}))
	})
}

// TestInvocationsWait: one function works on one event at a time, and events
// wait for it; two functions share them, each event going to one.
func TestInvocationsWait(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *Client) {
		var mu sync.Mutex
		inside, most, handled := 0, 0, map[string]int{}
		entered, first := make(chan struct{}), make(chan struct{})
		handle := func(_ context.Context, inv Invocation) ([]byte, error) {
			mu.Lock()
			inside++
			most = max(most, inside)
			handled[string(inv.Event)]++
			n := len(handled)
			mu.Unlock()
			if n == 1 {
				close(entered)
				<-first
			}
			mu.Lock()
			inside--
			mu.Unlock()
			return inv.Event, nil
		}
		serve(t, c, handle)
		var wg sync.WaitGroup
		invoke := func(n int) {
			for i := range n {
				wg.Go(func() {
					event := fmt.Sprint(n, "/", i)
					if answer, err := s.Invoke(t.Context(), Invocation{Event: []byte(event)}); err != nil || string(answer) != event {
						t.Errorf("%s: %q, %v", event, answer, err)
					}
				})
			}
		}
		invoke(20)
		<-entered
		// An Invoke that is given up while it waits is never handed out.
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("given up")
		cancel(gone)
		if _, err := s.Invoke(ctx, Invocation{Event: []byte("given up")}); !errors.Is(err, gone) {
			t.Errorf("given up: %v", err)
		}
		close(first)
		wg.Wait()
		if most != 1 {
			t.Errorf("%d events at once in one function", most)
		}
		serve(t, c, handle) // a second function
		invoke(50)
		wg.Wait()
		for event, n := range handled {
			if n != 1 {
				t.Errorf("event %s was handled %d times", event, n)
			}
		}
		if len(handled) != 70 {
			t.Errorf("%d events were handled", len(handled))
		}
	})
}

// TestInvokeGivenUp: an answer that comes after its caller has given up is
// taken, and the function goes on to the next event.
func TestInvokeGivenUp(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *Client) {
		ctx, cancel := context.WithCancel(t.Context())
		returned := make(chan struct{})
		serve(t, c, func(_ context.Context, inv Invocation) ([]byte, error) {
			if string(inv.Event) == "slow" {
				cancel()
				<-returned
			}
			return inv.Event, nil
		})
		if _, err := s.Invoke(ctx, Invocation{Event: []byte("slow")}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		close(returned)
		if answer, err := s.Invoke(t.Context(), Invocation{Event: []byte("next")}); err != nil || string(answer) != "next" {
			t.Errorf("%q, %v", answer, err)
		}
	})
}

// TestHugeAnswer: what the runtime does not take comes back as an error, and
// the loop goes on.
func TestHugeAnswer(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *Client) {
		ended := serve(t, c, func(_ context.Context, inv Invocation) ([]byte, error) {
			if string(inv.Event) == "huge" {
				return make([]byte, maxAnswer+1), nil
			}
			return inv.Event, nil
		})
		_, err := s.Invoke(t.Context(), Invocation{Event: []byte("huge")})
		if err == nil || !strings.Contains(err.Error(), "larger than the runtime takes") {
			t.Errorf("got %v", err)
		}
		if _, err := s.Invoke(t.Context(), Invocation{Event: []byte("small")}); err != nil {
			t.Errorf("afterwards: %v", err)
		}
		select {
		case err := <-ended:
			t.Errorf("the loop ended: %v", err)
		default:
		}
	})
}

// TestMaxAnswer: an answer above the function's own bound is not sent; its
// caller learns why, and the loop goes on.
func TestMaxAnswer(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *Client) {
		c.MaxAnswer = 5
		serve(t, c, func(_ context.Context, inv Invocation) ([]byte, error) { return inv.Event, nil })
		for text, want := range map[string]bool{"12345": true, "123456": false, "1": true} {
			answer, err := s.Invoke(t.Context(), Invocation{Event: []byte(text)})
			var f *Failure
			if string(answer) != map[bool]string{true: text}[want] || errors.As(err, &f) == want || f != nil && f.Message != errTooLarge.Error() {
				t.Errorf("%s: %q, %v", text, answer, err)
			}
		}
	})
}

// TestRuntimeSaysTooLarge: Lambda's own limit is lower and comes as 413.
func TestRuntimeSaysTooLarge(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			s := NewServer()
			c := way(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/response") {
					body, _ := io.ReadAll(r.Body)
					if len(body) > 100 {
						reply(w, 413, &Failure{"RequestEntityTooLarge", "Exceeded maximum allowed payload size"})
						return
					}
					r.Body = io.NopCloser(bytes.NewReader(body))
				}
				s.ServeHTTP(w, r)
			}))
			serve(t, c, func(_ context.Context, inv Invocation) ([]byte, error) { return inv.Event, nil })
			if _, err := s.Invoke(t.Context(), Invocation{Event: make([]byte, 101)}); err == nil || !strings.Contains(err.Error(), "larger than the runtime takes") {
				t.Errorf("got %v", err)
			}
			if answer, err := s.Invoke(t.Context(), Invocation{Event: make([]byte, 100)}); err != nil || len(answer) != 100 {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// TestServerRefusesTooLarge: as Lambda, with 413, and the invocation stays
// open for the error that follows.
func TestServerRefusesTooLarge(t *testing.T) {
	s := NewServer()
	errs := make(chan error, 1)
	go func() { _, err := s.Invoke(context.Background(), Invocation{}); errs <- err }()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", version+"/invocation/next", nil))
	path := version + "/invocation/" + w.Header().Get(requestID)
	for _, step := range []struct {
		path string
		body io.Reader
		want int
	}{
		{"/response", io.LimitReader(zeros{}, maxAnswer+1), 413},
		{"/response", io.MultiReader(strings.NewReader("half"), failing{}), 400},
		{"/error", strings.NewReader(`{"errorType":"error","errorMessage":"too large"}`), 202},
	} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("POST", path+step.path, step.body))
		var said map[string]string
		if w.Code != step.want || json.Unmarshal(w.Body.Bytes(), &said) != nil || (said["errorMessage"] == "") != (step.want == 202) {
			t.Errorf("%s: %d %s, want %d", step.path, w.Code, w.Body, step.want)
		}
	}
	if err := <-errs; err == nil || err.Error() != "too large" {
		t.Errorf("got %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestPanic in the handler passes through the loop: nothing recovers it, and
// no answer is sent for it.
func TestPanic(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *Client) {
		recovered := make(chan any)
		go func() {
			defer func() { recovered <- recover(); s.Gone() }()
			_ = c.Serve(context.Background(), func(context.Context, Invocation) ([]byte, error) { panic("a secret") })
		}()
		errs := make(chan error)
		go func() { _, err := s.Invoke(context.Background(), Invocation{}); errs <- err }()
		if got := <-recovered; got != "a secret" {
			t.Errorf("the panic arrived as %v", got)
		}
		if err := <-errs; !errors.Is(err, ErrGone) {
			t.Errorf("the runtime saw %v", err)
		}
	})
}

// TestWhatIsNoInvocation: the loop ends with an error, and handles nothing.
func TestWhatIsNoInvocation(t *testing.T) {
	for what, answer := range map[string]func(http.ResponseWriter){
		"no request id":  func(w http.ResponseWriter) { w.Write([]byte("{}")) },
		"deadline words": func(w http.ResponseWriter) { w.Header().Set(requestID, "1"); w.Header().Set(deadlineMS, "soon") },
		"403":            func(w http.ResponseWriter) { w.Header().Set(requestID, "1"); w.WriteHeader(403) },
		"500":            func(w http.ResponseWriter) { w.Header().Set(requestID, "1"); w.WriteHeader(500) },
		"202":            func(w http.ResponseWriter) { w.Header().Set(requestID, "1"); w.WriteHeader(202) },
		"huge": func(w http.ResponseWriter) {
			w.Header().Set(requestID, "1")
			_, _ = io.Copy(w, io.LimitReader(zeros{}, maxEvent+1))
		},
		"cut short": func(w http.ResponseWriter) {
			w.Header().Set(requestID, "1")
			w.Header().Set("Content-Length", "10")
			_, _ = w.Write([]byte("half"))
			panic(http.ErrAbortHandler)
		},
	} {
		for name, way := range ways {
			t.Run(what+" from "+name, func(t *testing.T) {
				c := way(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodGet {
						answer(w)
						return
					}
					w.WriteHeader(202)
				}))
				err := c.Serve(t.Context(), func(context.Context, Invocation) ([]byte, error) {
					t.Error("it was handled")
					return nil, nil
				})
				if err == nil {
					t.Error("no error")
				}
			})
		}
	}
}

// TestServeEnds when its context does, and when the runtime goes.
func TestServeEnds(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *Client) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Serve(ctx, nil) }()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	base := "http://" + s.Listener.Addr().String()
	s.Listener.Close()
	if err := (&Client{HTTP: &http.Client{Transport: &http.Transport{}}, Base: base}).Serve(t.Context(), nil); err == nil {
		t.Error("a runtime that is not there: no error")
	}
}

// TestErrorsThatCannotBeRead: whatever a function sends as its error, Invoke
// returns one, of bounded length.
func TestErrorsThatCannotBeRead(t *testing.T) {
	for _, body := range []string{"", "null", "{}", "[]", `{"errorType":"x"}`, `{"errorMessage":7}`, "<html>", "{\"errorMessage\":\"a", strings.Repeat("[", 100_000)} {
		var f *Failure
		if err := parseFailure([]byte(body)); err == nil || errors.As(err, &f) {
			t.Errorf("%.30q: %v", body, err)
		}
	}
	long, _ := json.Marshal(Failure{"error", strings.Repeat("x", 1<<20)})
	if err := parseFailure(long); len(err.Error()) > maxMessage+10 {
		t.Errorf("a message of %d bytes", len(err.Error()))
	}
	// What Lambda's own runtimes send has a stack trace too; it is not kept.
	if err := parseFailure([]byte(`{"errorMessage":"m","errorType":"t","stackTrace":["a"]}`)); *err.(*Failure) != (Failure{"t", "m"}) {
		t.Errorf("got %#v", err)
	}
}

// FuzzParseFailure: an error always, that can be encoded again.
func FuzzParseFailure(f *testing.F) {
	for _, seed := range failureSeeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		err := parseFailure(body)
		if err == nil || err.Error() == "" {
			t.Fatalf("%q: no error", body)
		}
		var one *Failure
		if errors.As(err, &one) {
			again, err := json.Marshal(one)
			var two *Failure
			if err != nil || !errors.As(parseFailure(again), &two) || *one != *two {
				t.Fatalf("%q: %+v and %+v", body, one, two)
			}
		}
	})
}

var failureSeeds = []string{`{"errorType":"refused","errorMessage":"no"}`, `{"errormessage":"x"}`, "{}", "", "\xff", `{"errorMessage":"\ud800"}`}

func TestSeeds(t *testing.T) {
	if len(failureSeeds) == 0 {
		t.Fatal("FuzzParseFailure starts from nothing")
	}
}
