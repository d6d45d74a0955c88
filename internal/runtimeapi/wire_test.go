package runtimeapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestBytesOnTheWire holds our client's requests against the public page
// "Using the Lambda runtime API for custom runtimes", read by a server that
// knows nothing of this package.
func TestBytesOnTheWire(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	type request struct{ method, path, body, errorType string }
	got := make(chan request, 8)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		in := bufio.NewReader(conn)
		for n := 0; ; n++ {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			body, _ := io.ReadAll(r.Body)
			got <- request{r.Method, r.RequestURI, string(body), r.Header.Get("Lambda-Runtime-Function-Error-Type")}
			switch {
			case r.Method == "POST":
				fmt.Fprint(conn, "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"status\":\"OK\"}\n")
			case n < 4:
				fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: 8476a536-e9f4-11e8-9739-2dfe598c3fcd\r\n"+
					"Lambda-Runtime-Deadline-Ms: 4102444800000\r\nLambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-2:123456789012:function:custom-runtime\r\n"+
					"Lambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700\r\nContent-Length: 7\r\n\r\n{\"n\":1}")
			default:
				fmt.Fprint(conn, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
			}
		}
	}()
	c := &Client{HTTP: &http.Client{Transport: &http.Transport{}}, Base: "http://" + l.Addr().String()}
	n := 0
	err = c.Serve(t.Context(), func(_ context.Context, inv Invocation) ([]byte, error) {
		if string(inv.Event) != `{"n":1}` || inv.Function != "arn:aws:lambda:us-east-2:123456789012:function:custom-runtime" ||
			!inv.Deadline.Equal(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)) {
			t.Errorf("took %+v", inv)
		}
		if n++; n == 1 {
			return []byte(`{"a":1}`), nil
		}
		return nil, &Failure{"refused", "no"}
	})
	if err == nil || !strings.Contains(err.Error(), "500") {
		t.Errorf("a runtime in trouble: %v", err)
	}
	const id = "/2018-06-01/runtime/invocation/8476a536-e9f4-11e8-9739-2dfe598c3fcd/"
	next := request{"GET", "/2018-06-01/runtime/invocation/next", "", ""}
	for _, want := range []request{
		next, {"POST", id + "response", `{"a":1}`, ""},
		next, {"POST", id + "error", `{"errorType":"refused","errorMessage":"no"}`, "refused"},
		next,
	} {
		if r := <-got; r != want {
			t.Errorf("sent %+v, want %+v", r, want)
		}
	}
}

// TestServerOnTheWire: the same for our server, asked in plain text.
func TestServerOnTheWire(t *testing.T) {
	s := NewServer()
	base := ways["lambda"](t, s).Base
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	ask := func(method, path, body string) (*http.Response, string) {
		t.Helper()
		fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: 127.0.0.1:9001\r\nContent-Length: %d\r\n\r\n%s", method, path, len(body), body)
		r, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r, string(answer)
	}
	answers := make(chan string)
	for range 2 {
		go func() {
			answer, err := s.Invoke(t.Context(), Invocation{Event: []byte(`{"n":1}`), Deadline: time.UnixMilli(1542409706888), Function: "arn:x:7"})
			answers <- fmt.Sprintf("%s %v", answer, err)
		}()
	}
	const api = "/2018-06-01/runtime"
	for _, step := range []struct{ path, body, want string }{
		{"/response", `{"a":1}`, `{"a":1} <nil>`},
		{"/error", `{"errorMessage":"m","errorType":"t","stackTrace":[]}`, " m"},
	} {
		r, event := ask("GET", api+"/invocation/next", "")
		if r.StatusCode != 200 || event != `{"n":1}` || r.Header.Get("Lambda-Runtime-Deadline-Ms") != "1542409706888" ||
			r.Header.Get("Lambda-Runtime-Invoked-Function-Arn") != "arn:x:7" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("next: %d %q %v", r.StatusCode, event, r.Header)
		}
		r, said := ask("POST", api+"/invocation/"+r.Header.Get("Lambda-Runtime-Aws-Request-Id")+step.path, step.body)
		if r.StatusCode != 202 || said != "{\"status\":\"OK\"}\n" {
			t.Errorf("%s: %d %q", step.path, r.StatusCode, said)
		}
		if got := <-answers; got != step.want {
			t.Errorf("%s: Invoke returned %q", step.path, got)
		}
	}
	if r, said := ask("POST", api+"/init/error", `{"errorMessage":"m","errorType":"t"}`); r.StatusCode != 202 || said != "{\"status\":\"OK\"}\n" {
		t.Errorf("init error: %d %q", r.StatusCode, said)
	}
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"POST", "/invocation/00000009/response", 400}, {"POST", "/invocation/next", 405}, {"GET", "/init/error", 405},
		{"GET", "/invocation/00000001/response", 405}, {"POST", "/invocation/1/2/response", 404}, {"GET", "/", 404},
		{"POST", "/restore/error", 404},
	} {
		if r, said := ask(c.method, api+c.path, ""); r.StatusCode != c.want {
			t.Errorf("%s %s: %d %q, want %d", c.method, c.path, r.StatusCode, said, c.want)
		}
	}
	if r, _ := ask("GET", "/2015-01-01/runtime/invocation/next", ""); r.StatusCode != 404 {
		t.Errorf("another version: %d", r.StatusCode)
	}
}

// TestNextOfTheDead: an event is not lost in the hands of a function that has
// gone while it asked.
func TestNextOfTheDead(t *testing.T) {
	s := NewServer()
	s.waiting = make(chan *call, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dead, err := http.NewRequestWithContext(ctx, "GET", version+"/invocation/next", nil)
	if err != nil {
		t.Fatal(err)
	}
	taken := 0
	for range 100 {
		c := &call{done: make(chan struct{})}
		s.waiting <- c
		s.next(discard{}, dead)
		select {
		case <-s.waiting:
			continue // it saw first that the function is dead
		default:
		}
		taken++
		select {
		case <-c.done:
		default:
			t.Fatal("the event is lost: its caller waits for ever")
		}
		if !errors.Is(c.err, ErrGone) || len(s.open) != 0 {
			t.Fatalf("got %v, %d open", c.err, len(s.open))
		}
	}
	if taken == 0 {
		t.Error("no event was ever taken")
	}
}

type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}
