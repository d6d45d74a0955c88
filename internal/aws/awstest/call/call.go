// Package call is what the parts of the test world say to one another: a
// request whose sender is known, what a service understands of it, and an
// answer or a failure as each of AWS's protocols writes it.
//
// A service understands a request before anybody decides about it, so that
// one which does not know an action, a parameter or a value can say so, and
// does nothing until the world has found the sender allowed to.
package call

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Caller is who signed a request.
type Caller struct {
	Account   string
	Role      string // ARN of the role
	Session   string // ARN of the session: arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION
	ID        string // AROA...:SESSION
	AccessKey string
}

// Need is one right that a call takes.
type Need struct {
	Action   string // as IAM names it: dynamodb:PutItem
	Resource string // ARN, or "*"
	Context  map[string][]string
}

// Request is an authenticated request.
type Request struct {
	HTTP   *http.Request // its body is read: Body
	Body   []byte
	Region string
	Bucket string // of an S3 request, from the host
	ID     string // the request id that the answer carries
	Caller Caller
	// May asks whether the caller has a further right, on which an answer
	// depends (S3 says that there is no such object only to who may list).
	May func(Need) bool
}

// Call is a request that was understood and is not yet done.
type Call struct {
	Operation string // the API's name of it, as the trail has it
	Needs     []Need // all of them, the one that the call is named after first
	Params    map[string]any
	ReadOnly  bool
	Data      bool // a data event, which trails leave out unless asked
	// Do does it, once, and at once for everybody else.
	Do func(context.Context) (*Answer, *Failure)
}

// Answer is what goes back.
type Answer struct {
	Status int // 0 is 200
	Header http.Header
	Body   []byte
	Bytes  int // of the items that were read or written, for what it costs
}

// Failure is an error as AWS answers it.
type Failure struct {
	Status        int
	Code, Message string
	Header        http.Header
	Fields        map[string]any // further ones of the error's shape, in JSON protocols
}

func (f *Failure) Error() string { return f.Code + ": " + f.Message }

// Refuse is a failure with status 400, which most are.
func Refuse(code, format string, args ...any) *Failure {
	return Fail(http.StatusBadRequest, code, format, args...)
}

// Fail is a failure with any status.
func Fail(status int, code, format string, args ...any) *Failure {
	return &Failure{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

// Strict decodes a JSON body into a struct that has every field which the
// service knows: another could mean anything.
func Strict(body []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("there is more after it")
	}
	return nil
}

// JSON is an answer of one of the JSON protocols.
func JSON(v any) (*Answer, *Failure) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, Fail(http.StatusInternalServerError, "InternalFailure", "%v", err)
	}
	return &Answer{Body: body}, nil
}

// A Protocol is how a service writes.
type Protocol int

// The protocols of the services that are here.
const (
	JSON10   Protocol = iota // application/x-amz-json-1.0, DynamoDB
	JSON11                   // application/x-amz-json-1.1, KMS, CloudTrail and others
	RestJSON                 // Lambda, Signer
	Query                    // STS, IAM, CloudFormation: forms in, XML out
	RestXML                  // S3
)

// ContentType is that of the protocol's answers.
func (p Protocol) ContentType() string {
	return map[Protocol]string{
		JSON10: "application/x-amz-json-1.0", JSON11: "application/x-amz-json-1.1", RestJSON: "application/json",
		Query: "text/xml", RestXML: "application/xml",
	}[p]
}

// Write sends a failure as the protocol has it.
func (p Protocol) Write(w http.ResponseWriter, f *Failure, requestID string) {
	for name, values := range f.Header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", p.ContentType())
	var body []byte
	switch p {
	case Query:
		body = markup(struct {
			XMLName   xml.Name `xml:"ErrorResponse"`
			Error     queryError
			RequestID string `xml:"RequestId"`
		}{Error: queryError{sender(f.Status), f.Code, f.Message}, RequestID: requestID})
	case RestXML:
		body = markup(struct {
			XMLName       xml.Name `xml:"Error"`
			Code, Message string
			RequestID     string `xml:"RequestId"`
		}{Code: f.Code, Message: f.Message, RequestID: requestID})
	case RestJSON:
		w.Header().Set("X-Amzn-Errortype", f.Code)
		body = fields(f, map[string]any{"Message": f.Message})
	case JSON10, JSON11:
		body = fields(f, map[string]any{"__type": f.Code, "message": f.Message})
	}
	w.WriteHeader(f.Status)
	_, _ = w.Write(body)
}

type queryError struct{ Type, Code, Message string }

func sender(status int) string {
	if status >= 500 {
		return "Receiver"
	}
	return "Sender"
}

func fields(f *Failure, m map[string]any) []byte {
	for name, v := range f.Fields {
		m[name] = v
	}
	body, _ := json.Marshal(m)
	return body
}

// markup encodes what is known to encode.
func markup(v any) []byte {
	body, err := xml.Marshal(v)
	if err != nil {
		panic(err)
	}
	return append([]byte(xml.Header), body...)
}

// XML is an answer of S3: v is one element.
func XML(v any) (*Answer, *Failure) { return &Answer{Body: markup(v)}, nil }

// UUID makes up an id as AWS does for requests, keys and jobs.
func UUID() string {
	b := make([]byte, 16)
	rand.Read(b)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b)
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}
