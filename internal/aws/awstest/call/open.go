package call

import (
	"io"
	"net/http"
	"strings"
)

// A Service understands requests.
type Service interface {
	Understand(Request) (*Call, *Failure)
}

// Open serves one service to anybody, for tests of the service itself: no
// signature is asked for and everything is allowed. Judge, when not nil, sees
// each call first and may refuse it.
type Open struct {
	Service  Service
	Protocol Protocol
	Region   string
	Account  string
	Judge    func(*Call) *Failure
}

func (o Open) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	request := Request{
		HTTP: r, Body: body, Region: o.Region, ID: "open", May: func(Need) bool { return true },
		Caller: Caller{Account: o.Account, Role: "arn:aws:iam::" + o.Account + ":role/anybody"},
	}
	request.Bucket, _, _ = strings.Cut(r.Host, ".")
	c, failure := o.Service.Understand(request)
	if failure == nil && o.Judge != nil {
		failure = o.Judge(c)
	}
	var answer *Answer
	if failure == nil {
		answer, failure = c.Do(r.Context())
	}
	if failure != nil {
		o.Protocol.Write(w, failure, request.ID)
		return
	}
	answer.Write(w, o.Protocol, request.ID)
}

// Write sends an answer.
func (a *Answer) Write(w http.ResponseWriter, p Protocol, requestID string) {
	w.Header().Set("Content-Type", p.ContentType())
	w.Header().Set("X-Amzn-Requestid", requestID)
	for name, values := range a.Header {
		w.Header()[http.CanonicalHeaderKey(name)] = values
	}
	w.WriteHeader(max(a.Status, http.StatusOK))
	_, _ = w.Write(a.Body)
}
