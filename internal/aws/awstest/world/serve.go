package world

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/infra/policy"
	"github.com/stakeseal/stakeseal/infra/stack"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/buckets"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
)

const (
	maxBody  = 128 << 20
	streamed = buckets.Streamed
)

// service is how a host's requests are taken.
type service struct {
	signed   string // its name in signatures, and of its actions
	protocol call.Protocol
	throttle words
	broken   words
	of       func(*World) call.Service
}

// services by the first label of their host.
var services = map[string]service{
	"kms": {"kms", call.JSON11, words{400, "ThrottlingException"}, words{500, "KMSInternalException"}, func(w *World) call.Service { return w.Keys }},
	"dynamodb": {"dynamodb", call.JSON10, words{400, "ProvisionedThroughputExceededException"}, words{500, "InternalServerError"},
		func(w *World) call.Service { return w.Tables }},
	"s3":     {"s3", call.RestXML, words{503, "SlowDown"}, words{500, "InternalError"}, func(w *World) call.Service { return w.Buckets }},
	"lambda": {"lambda", call.RestJSON, words{429, "TooManyRequestsException"}, words{500, "ServiceException"}, func(w *World) call.Service { return w.functions }},
	"sts":    {"sts", call.Query, words{400, "Throttling"}, words{500, "InternalFailure"}, func(w *World) call.Service { return tokens{w} }},
	"iam":    {"iam", call.Query, words{400, "Throttling"}, words{500, "ServiceFailure"}, func(w *World) call.Service { return people{w} }},
	"cloudformation": {"cloudformation", call.Query, words{400, "Throttling"}, words{500, "InternalFailure"},
		func(w *World) call.Service { return stacks{w} }},
	"cloudtrail": {"cloudtrail", call.JSON11, words{400, "ThrottlingException"}, words{500, "InternalFailure"}, func(w *World) call.Service { return trails{w} }},
	"events":     {"events", call.JSON11, words{400, "ThrottlingException"}, words{500, "InternalException"}, func(w *World) call.Service { return rules{w} }},
	"signer":     {"signer", call.RestJSON, words{429, "ThrottlingException"}, words{500, "InternalServiceErrorException"}, func(w *World) call.Service { return signer{w} }},
	"logs":       {"logs", call.JSON11, words{400, "ThrottlingException"}, words{500, "ServiceUnavailableException"}, func(w *World) call.Service { return none{"logs"} }},
	"config":     {"config", call.JSON11, words{400, "ThrottlingException"}, words{500, "InternalFailure"}, func(w *World) call.Service { return none{"config"} }},
}

// none is a service that is reached and knows nothing yet.
type none struct{ name string }

func (n none) Understand(r call.Request) (*call.Call, *call.Failure) {
	return nil, unknown("%s: %s %s %s", n.name, r.HTTP.Method, r.HTTP.URL, r.HTTP.Header.Get("X-Amz-Target"))
}

func unknown(format string, args ...any) *call.Failure {
	return call.Refuse("UnknownOperationException", "this world does not know "+format, args...)
}

// notUnderstood are failures that mean the world is too small, or somebody
// calls what nothing of ours should call: the test is to know.
var notUnderstood = map[string]bool{"UnknownOperationException": true, "SerializationException": true, "NotImplemented": true}

// ServeHTTP takes one request of any service.
func (w *World) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	at, ok := host(r.Host)
	if !ok || r.TLS == nil || r.TLS.ServerName != r.Host {
		w.problem("a request for host %q on a connection to %q", r.Host, r.TLS.ServerName)
		http.Error(out, "no such host", http.StatusMisdirectedRequest)
		return
	}
	if at.bucket == downloadBucket {
		w.download(out, r)
		return
	}
	s := services[at.service]
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil || len(body) > maxBody {
		return // the client went away, or nothing of ours sent it
	}
	e := Event{Time: time.Now(), ID: call.UUID(), Service: s.signed, Region: at.region}
	out.Header().Set("X-Amzn-Requestid", e.ID)
	out.Header().Set("X-Amz-Request-Id", e.ID)

	answer, failure, what := w.handle(r, body, at, s, &e)
	if what == Dropped || what == Killed {
		panic(http.ErrAbortHandler) // it never arrived, so that no trail has it
	}
	if failure != nil {
		e.Error, e.Message = failure.Code, failure.Message
		if notUnderstood[failure.Code] {
			w.problem("%s by %s: %v", s.signed, e.Session, failure)
		}
	} else {
		e.Bytes = answer.Bytes
	}
	w.note(e)
	switch {
	case what.aborts():
		panic(http.ErrAbortHandler) // closes the connection
	case failure != nil:
		s.protocol.Write(out, failure, e.ID)
	default:
		answer.Write(out, s.protocol, e.ID)
	}
}

// handle finds out who asks, for what, whether they may, and does it.
func (w *World) handle(r *http.Request, body []byte, at endpoint, s service, e *Event) (*call.Answer, *call.Failure, Kind) {
	who, failure := w.authenticate(r, body, at, s)
	if failure != nil {
		return nil, failure, 0
	}
	e.Role, e.Session, e.AccessKey = who.Role, who.Session, who.AccessKey
	e.agent, e.factor = r.UserAgent(), !who.factor.IsZero()
	request := call.Request{HTTP: r, Body: body, Region: at.region, Bucket: at.bucket, ID: e.ID, Caller: who.Caller}
	request.May = func(n call.Need) bool {
		allowed, _ := w.may(who, at.region, n)
		return allowed
	}
	c, failure := s.of(w).Understand(request)
	if failure != nil {
		return nil, failure, 0
	}
	e.Action, e.Params, e.ReadOnly, e.Data = c.Operation, c.Params, c.ReadOnly, c.Data
	if len(c.Needs) > 0 {
		e.Resource = c.Needs[0].Resource
	}
	fault := w.fault(who, s.signed, c.Operation, e.Resource)
	e.Fault = fault.Kind
	if failure := fault.before(s, who); failure != nil || fault.Kind == Dropped || fault.Kind == Killed {
		return nil, failure, fault.Kind
	}
	end := w.killed(who)
	if end != nil && !end.After {
		end.Kill()
		return nil, nil, Killed
	}
	for _, need := range c.Needs {
		if allowed, why := w.may(who, at.region, need); !allowed {
			return nil, denied(s.protocol, who, need, why), 0
		}
	}
	ctx := context.WithValue(r.Context(), callerKey{}, who)
	ctx = context.WithValue(ctx, doubledKey{}, fault.Kind == Doubled)
	answer, failure := c.Do(ctx)
	fault.after(who)
	if end != nil && end.After {
		end.Kill()
		return answer, failure, KilledAfter
	}
	return answer, failure, fault.Kind
}

// callerKey is where Do finds the session that called.
type callerKey struct{}

// may asks the policies of the installation.
func (w *World) may(who *session, region string, need call.Need) (bool, string) {
	w.mu.Lock()
	inst := w.inst
	w.mu.Unlock()
	if inst == nil {
		return false, "because nothing is deployed"
	}
	request := stack.Request{Principal: who.Role, Action: need.Action, Resource: need.Resource, Context: who.contextOf(region)}
	maps.Copy(request.Context, need.Context)
	maps.DeleteFunc(request.Context, func(key string, _ []string) bool {
		// A key that the judge does not know is in none of its policies: it
		// refuses those.
		return policy.Request{Action: need.Action, Context: map[string][]string{key: nil}}.Check() != nil && !strings.HasPrefix(key, "kms:EncryptionContext:")
	})
	d, err := inst.Authorize(request)
	if err != nil {
		w.problem("nobody can say whether %s may %s %s: %v", who.Role, need.Action, need.Resource, err)
		return false, "because the policies could not be judged"
	}
	return d.Allowed, d.Why
}

func denied(p call.Protocol, who *session, need call.Need, why string) *call.Failure {
	message := fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s (%s)", who.Session, need.Action, need.Resource, why)
	switch p {
	case call.RestXML, call.Query:
		return call.Fail(http.StatusForbidden, "AccessDenied", "%s", message)
	case call.RestJSON:
		return call.Fail(http.StatusForbidden, "AccessDeniedException", "%s", message)
	}
	return call.Refuse("AccessDeniedException", "%s", message)
}
