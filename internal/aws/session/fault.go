package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
)

// Classes of errors; compare with errors.Is.
var (
	// ErrDenied: AWS understood the call and says that this caller may not make
	// it, or does not believe who the caller is.
	ErrDenied = errors.New("denied by AWS")
	// ErrRemote: every other failure of a call, an answer that makes no sense
	// included. Whether the call took effect is unknown.
	ErrRemote = errors.New("AWS failed")
	// ErrCredentials: the credentials given to this program are not usable.
	ErrCredentials = errors.New("unusable AWS credentials")
)

// Fault is a call that failed. It is ErrDenied, ErrRemote or, where the call
// was not made for want of them, ErrCredentials, and wraps the SDK's error, so
// errors.As finds a service's own types in it.
type Fault struct {
	Operation string // such as kms:Encrypt
	Code      string // AWS's name of the error, such as AccessDeniedException; "" when there was no answer
	Message   string // AWS's words, clipped
	RequestID string // under which AWS and its trail know the call; "" when there was no answer
	Status    int    // of HTTP; 0 when there was no answer

	class, cause error
}

// Error shows what AWS said in quotes, as it is another party's text.
func (f *Fault) Error() string {
	var s strings.Builder
	s.WriteString(f.Operation + ": " + f.class.Error())
	if f.Code != "" {
		s.WriteString(": " + printable(f.Code))
	}
	if f.Message != "" {
		fmt.Fprintf(&s, ": %q", f.Message)
	}
	if f.RequestID != "" {
		s.WriteString(" (request " + printable(f.RequestID) + ")")
	}
	return s.String()
}

// Unwrap gives the class and the SDK's error.
func (f *Fault) Unwrap() []error { return []error{f.class, f.cause} }

// denied is what services answer when it is the caller that they refuse.
var denied = map[string]bool{
	"AccessDenied": true, "AccessDeniedException": true, "AllAccessDisabled": true, "NotAuthorized": true, "OptInRequired": true,
	"InvalidAccessKeyId": true, "InvalidClientTokenId": true, "UnrecognizedClientException": true, "InvalidToken": true,
	"MissingAuthenticationToken": true, "MissingAuthenticationTokenException": true,
	"IncompleteSignature": true, "IncompleteSignatureException": true,
	"InvalidSignatureException": true, "SignatureDoesNotMatch": true,
	"ExpiredToken": true, "ExpiredTokenException": true, "RequestExpired": true,
}

// Classify turns the error of an SDK call into a *Fault. nil stays nil, and a
// call that the caller cancelled stays context.Canceled, of neither class.
func Classify(operation string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", operation, context.Canceled)
	}
	f := &Fault{Operation: operation, class: ErrRemote, cause: err}
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		f.Status, f.RequestID = response.HTTPStatusCode(), response.ServiceRequestID()
	}
	var api smithy.APIError
	var send *url.Error
	var local Refused
	switch {
	case errors.Is(err, ErrCredentials):
		f.class, f.Message = ErrCredentials, clip(err.Error())
		return f
	case errors.As(err, &local):
		f.Message = local.Error()
	case errors.As(err, &api):
		f.Code, f.Message = api.ErrorCode(), clip(api.ErrorMessage())
	case errors.As(err, &send):
		f.Message = clip(send.Err.Error())
	default:
		f.Message = clip(err.Error())
	}
	if denied[f.Code] || f.Status == http.StatusUnauthorized || f.Status == http.StatusForbidden && !throttled[f.Code] {
		f.class = ErrDenied
	}
	return f
}

// throttled is what some services send with 403, meaning not now.
var throttled = map[string]bool{"RequestThrottled": true, "RequestThrottledException": true, "Throttling": true, "ThrottlingException": true, "RequestTimeTooSkewed": true}

// RequestID is the id under which AWS and its trail know an answered call.
func RequestID(m middleware.Metadata) string {
	id, _ := awsmiddleware.GetRequestIDMetadata(m)
	return id
}

// Malformed is the fault of an answer that AWS would not give.
func Malformed(operation, requestID, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Fault{Operation: operation, Message: clip(err.Error()), RequestID: requestID, class: ErrRemote, cause: err}
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '?'
		}
		return r
	}, clip(s))
}
