package signer_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"github.com/stakeseal/stakeseal/docs/openapi"
)

// described is the served document, against which every request and answer of
// the tests is held.
type described struct{ router routers.Router }

var load = sync.OnceValues(func() (*described, error) {
	openapi3.DefineStringFormatValidator("uint64", openapi3.NewRegexpFormatValidator(`^[0-9]+$`))
	doc, err := openapi3.NewLoader().LoadFromData(openapi.Signer)
	if err != nil {
		return nil, err
	}
	doc.Servers = nil
	if err := doc.Validate(context.Background()); err != nil {
		return nil, err
	}
	openapi3filter.RegisterBodyDecoder("application/yaml", func(r io.Reader, _ http.Header, _ *openapi3.SchemaRef, _ openapi3filter.EncodingFn) (any, error) {
		b, err := io.ReadAll(r)
		return string(b), err
	})
	router, err := gorillamux.NewRouter(doc)
	return &described{router}, err
})

func document(t testing.TB) *described {
	t.Helper()
	d, err := load()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// request says whether the document takes a request; nil input: it has no such
// path.
func (d *described) request(r *http.Request, body []byte) (in struct {
	*openapi3filter.RequestValidationInput
	err error
}) {
	copied := r.Clone(context.Background())
	copied.Body = io.NopCloser(bytes.NewReader(body))
	copied.URL.Host, copied.URL.Scheme = "", ""
	route, params, err := d.router.FindRoute(copied)
	if err != nil {
		in.err = err
		return in
	}
	in.RequestValidationInput = &openapi3filter.RequestValidationInput{Request: copied, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc}}
	in.err = openapi3filter.ValidateRequest(context.Background(), in.RequestValidationInput)
	return in
}

// answer holds an answer against the document: its status and body must be
// described, and what the service took must be what the document takes. A
// signed answer to a request that the document refuses is a fault of either.
func (d *described) answer(t testing.TB, r *http.Request, response *http.Response, body []byte, in struct {
	*openapi3filter.RequestValidationInput
	err error
}) {
	t.Helper()
	if in.RequestValidationInput == nil {
		if response.StatusCode < 400 {
			t.Errorf("%s %s is not described, and answers %s", r.Method, r.URL.Path, response.Status)
		}
		return
	}
	if in.err != nil && response.StatusCode < 300 {
		t.Errorf("%s %s: answered %s to what the document refuses: %v", r.Method, r.URL.Path, response.Status, in.err)
	}
	if in.err == nil && response.StatusCode == http.StatusBadRequest && !strings.Contains(string(body), "signing root") && !strings.Contains(string(body), "a batch is of") &&
		!strings.Contains(string(body), "twice") && !strings.Contains(string(body), "2^") && !strings.Contains(string(body), "bits") &&
		!strings.Contains(string(body), " keystores and ") {
		t.Errorf("%s %s: refused what the document takes: %s", r.Method, r.URL.Path, body)
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in.RequestValidationInput, Status: response.StatusCode, Header: response.Header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true}}
	out.SetBodyBytes(body)
	if err := openapi3filter.ValidateResponse(context.Background(), out); err != nil {
		t.Errorf("%s %s: the answer %s is not as described: %v", r.Method, r.URL.Path, response.Status, err)
	}
}
