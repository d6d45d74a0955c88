package awstest

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/signature"
)

// ServeHTTP answers one call.
func (k *KMS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return
	}
	e := Event{RequestID: call.UUID()}
	w.Header().Set("X-Amzn-Requestid", e.RequestID)
	w.Header().Set("Content-Type", call.JSON11.ContentType())

	if len(k.faults) > 0 {
		f := k.faults[0]
		k.faults = k.faults[1:]
		e.Action, e.Error = strings.TrimPrefix(r.Header.Get("X-Amz-Target"), service), "fault"
		k.trail = append(k.trail, e)
		k.answerFault(w, f)
		return
	}

	out, refused := k.handle(r, body, &e)
	if refused != nil {
		e.Error = refused.Code
	}
	k.trail = append(k.trail, e)
	if refused != nil {
		call.JSON11.Write(w, refused, e.RequestID)
		return
	}
	if k.tamper != nil {
		var fields map[string]any
		if err := json.Unmarshal(out.Body, &fields); err != nil {
			panic(err)
		}
		k.tamper(e.Action, fields)
		out.Body, _ = json.Marshal(fields)
	}
	_, _ = w.Write(out.Body)
}

func (k *KMS) answerFault(w http.ResponseWriter, f Fault) {
	if f.Status == 0 {
		panic(http.ErrAbortHandler) // closes the connection, the deferred unlock runs
	}
	maps.Copy(w.Header(), f.Header)
	if f.Code == "" {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(f.Status)
		_, _ = io.WriteString(w, "<html>"+f.Message+"</html>")
		return
	}
	call.JSON11.Write(w, call.Fail(f.Status, f.Code, "%s", f.Message), "")
}

func (k *KMS) handle(r *http.Request, body []byte, e *Event) (*call.Answer, *call.Failure) {
	e.Action = strings.TrimPrefix(r.Header.Get("X-Amz-Target"), service)
	if len(body) > maxBody {
		return nil, call.Refuse("ValidationException", "request too large")
	}
	caller, refused := k.authenticate(r, body)
	if refused != nil {
		return nil, refused
	}
	e.Role = caller.role
	// What was asked for is in the trail, whether it was understood or not.
	var asked struct {
		KeyID             string `json:"KeyId"`
		EncryptionContext map[string]string
	}
	if json.Unmarshal(body, &asked) == nil {
		e.Key, e.Context = asked.KeyID, asked.EncryptionContext
	}
	c, refused := k.Understand(call.Request{HTTP: r, Body: body, Region: k.region, ID: e.RequestID})
	if refused != nil {
		return nil, refused
	}
	for _, need := range c.Needs {
		decides := k.policies[need.Resource]
		if decides == nil {
			return nil, call.Refuse("AccessDeniedException", "this fake has no policies but those of keys")
		}
		if ok, why := allows(decides, need, caller.role); !ok {
			return nil, call.Refuse("AccessDeniedException", "User: %s is not authorized to perform: %s on resource: %s %s", caller.role, need.Action, need.Resource, why)
		}
	}
	return c.Do(r.Context())
}

// mustSign is what a signature has to cover; without the target, somebody in
// between could turn an Encrypt into another call.
var mustSign = []string{"content-type", "host", "x-amz-date", "x-amz-security-token", "x-amz-target"}

// authenticate returns who signed the request, or AWS's error for one that is
// not signed as it must be.
func (k *KMS) authenticate(r *http.Request, body []byte) (*principal, *call.Failure) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return nil, call.Refuse("MissingAuthenticationTokenException", "Missing Authentication Token")
	}
	claim, ok := signature.Parse(header)
	if !ok || r.URL.RawQuery != "" {
		return nil, call.Refuse("IncompleteSignatureException", "the Authorization header is not of Signature Version 4")
	}
	for _, name := range mustSign {
		if !claim.Covers(name) {
			return nil, call.Refuse("IncompleteSignatureException", "the signature does not cover %s", name)
		}
	}
	p := k.principals[claim.AccessKey]
	if p == nil || r.Header.Get(signature.TokenHeader) != p.token {
		return nil, call.Refuse("UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	if _, now := claim.Time(r, time.Now()); !now {
		return nil, call.Refuse("InvalidSignatureException", "Signature expired: %q is not now", r.Header.Get(signature.DateHeader))
	}
	if claim.Region != k.region || claim.Service != "kms" {
		return nil, call.Refuse("InvalidSignatureException", "Credential should be scoped to region %s and service kms, not %q and %q", k.region, claim.Region, claim.Service)
	}
	if !claim.Matches(r, signature.Hash(body), p.secretKey) {
		return nil, call.Refuse("InvalidSignatureException", "The request signature we calculated does not match the signature you provided.")
	}
	return p, nil
}
