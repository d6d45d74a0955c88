package world

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/signature"
)

// session is temporary credentials of a role.
type session struct {
	call.Caller
	secret, token string
	expires       time.Time
	context       map[string][]string // condition keys that come with it
	factor        time.Time           // when a second factor was seen; zero: never
	instance      *instance           // of the function, where it is one's
}

// Session says what a session of a role is like, beside whose it is.
type Session struct {
	Name    string        // as the trail shows it; "" is "test"
	NoMFA   bool          // of a person's own session: it was opened without a second factor
	Expired bool          // its time is over
	Life    time.Duration // 0 is an hour
}

// RoleARN is the ARN of a role: "signer" is the installation's signer, a name
// that begins with "role/" any role of the account, an ARN itself.
func (w *World) RoleARN(role string) string {
	switch {
	case strings.HasPrefix(role, "arn:"):
		return role
	case strings.HasPrefix(role, "role/"):
		return "arn:aws:iam::" + Account + ":" + role
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.inst == nil {
		w.problems = append(w.problems, fmt.Sprintf("role %q before Deploy", role))
		return ""
	}
	return w.inst.RoleARN(role)
}

// Credentials opens a session of a role. A session of the generator carries
// what Lambda gives to those of the function. Sessions of the installation's
// roles carry no second factor, however they began: what AssumeRole returns does
// not say whether there was one (IAM User Guide, "Secure API access with MFA").
// Roles that are not the installation's, such as role/people-anna, stand for
// the people themselves, whose own session carries one unless NoMFA says
// otherwise; a role's trust asks for it when they take the role (AssumeRole).
func (w *World) Credentials(role string, how ...Session) aws.CredentialsProvider {
	s := w.open(role, how...)
	return credentials.NewStaticCredentialsProvider(s.AccessKey, s.secret, s.token)
}

// Environ is Credentials as the variables that the SDK looks for.
func (w *World) Environ(role string, how ...Session) []string {
	s := w.open(role, how...)
	return s.environ()
}

func (s *session) environ() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + s.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s.secret, "AWS_SESSION_TOKEN=" + s.token}
}

func (w *World) open(role string, how ...Session) *session {
	var h Session
	if len(how) > 0 {
		h = how[0]
	}
	if h.Name == "" {
		h.Name = "test"
	}
	if h.Life == 0 {
		h.Life = time.Hour
	}
	arn := w.RoleARN(role)
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || !strings.HasPrefix(parts[5], "role/") {
		w.problem("a session of %q, which is no role", role)
		parts = strings.SplitN("arn:aws:iam::"+Account+":role/none", ":", 6)
	}
	name := parts[5][strings.LastIndex(parts[5], "/")+1:]
	s := &session{
		Caller: call.Caller{
			Account: parts[4], Role: arn, Session: "arn:aws:sts::" + parts[4] + ":assumed-role/" + name + "/" + h.Name,
			ID: roleID(arn) + ":" + h.Name, AccessKey: "ASIA" + rand.Text()[:16],
		},
		secret: token(30), token: token(300), expires: time.Now().Add(h.Life), context: map[string][]string{},
	}
	if h.Expired {
		s.expires = time.Now().Add(-time.Second)
	}
	ours := w.ours(arn)
	if ours && h.NoMFA {
		w.problem("a session of %s without a second factor: no session of a role has one", arn)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.inst != nil && arn == w.inst.RoleARN("generator") {
		s.context["lambda:SourceFunctionArn"] = []string{w.inst.Outputs["function"]["FunctionArn"]}
	} else if !ours && !h.NoMFA {
		s.factor = time.Now()
	}
	w.sessions[s.AccessKey] = s
	return s
}

// ours says whether a role is one of the installation's.
func (w *World) ours(arn string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.inst != nil && strings.HasPrefix(arn, w.inst.RoleARN(""))
}

// roleID is the unique id of a role, AROA and letters; the same for the same
// role.
func roleID(arn string) string {
	return "AROA" + strings.ToUpper(signature.Hash([]byte(arn))[:17])
}

func token(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return base64.StdEncoding.EncodeToString(b)
}

// complaint is a fault of a signature; services have their own words for it.
type complaint int

const (
	unsigned complaint = iota
	incomplete
	unknownKey
	badToken
	expired
	skewed
	mismatch
	misscoped
)

type words struct {
	status int
	code   string
}

// complaints in JSON protocols, in REST ones with JSON, in queries and of S3.
var complaints = map[call.Protocol][]words{
	call.JSON11: {
		{400, "MissingAuthenticationTokenException"}, {400, "IncompleteSignatureException"}, {400, "UnrecognizedClientException"}, {400, "UnrecognizedClientException"},
		{400, "ExpiredTokenException"}, {400, "InvalidSignatureException"}, {400, "InvalidSignatureException"}, {400, "InvalidSignatureException"},
	},
	call.RestJSON: {
		{403, "MissingAuthenticationTokenException"}, {403, "IncompleteSignatureException"}, {403, "UnrecognizedClientException"}, {403, "UnrecognizedClientException"},
		{403, "ExpiredTokenException"}, {403, "InvalidSignatureException"}, {403, "InvalidSignatureException"}, {403, "InvalidSignatureException"},
	},
	call.Query: {
		{403, "MissingAuthenticationToken"}, {400, "IncompleteSignature"}, {403, "InvalidClientTokenId"}, {403, "InvalidClientTokenId"},
		{403, "ExpiredToken"}, {403, "SignatureDoesNotMatch"}, {403, "SignatureDoesNotMatch"}, {403, "SignatureDoesNotMatch"},
	},
	call.RestXML: {
		{403, "AccessDenied"}, {400, "AuthorizationHeaderMalformed"}, {403, "InvalidAccessKeyId"}, {400, "InvalidToken"},
		{400, "ExpiredToken"}, {403, "RequestTimeTooSkewed"}, {403, "SignatureDoesNotMatch"}, {400, "AuthorizationHeaderMalformed"},
	},
}

func complain(p call.Protocol, c complaint, format string, args ...any) *call.Failure {
	if p == call.JSON10 {
		p = call.JSON11
	}
	w := complaints[p][c]
	return call.Fail(w.status, w.code, format, args...)
}

// covered is what a signature has to cover, where the request has it. Without
// the target, somebody in between could turn an Encrypt into another call.
func covered(name string) bool {
	return name == "Content-Type" || strings.HasPrefix(name, "X-Amz-") && name != signature.HashHeader && name != "X-Amzn-Trace-Id" && name != "X-Amz-User-Agent"
}

// authenticate returns whose request it is.
func (w *World) authenticate(r *http.Request, body []byte, at endpoint, s service) (*session, *call.Failure) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return nil, complain(s.protocol, unsigned, "Missing Authentication Token")
	}
	claim, ok := signature.Parse(header)
	if !ok {
		return nil, complain(s.protocol, incomplete, "the Authorization header is not of Signature Version 4")
	}
	needed := []string{"Host", signature.DateHeader}
	for name := range r.Header {
		if covered(name) {
			needed = append(needed, name)
		}
	}
	if s.protocol == call.RestXML {
		needed = append(needed, signature.HashHeader)
	}
	for _, name := range needed {
		if !claim.Covers(name) {
			return nil, complain(s.protocol, incomplete, "the signature does not cover %s", name)
		}
	}
	w.mu.Lock()
	who := w.sessions[claim.AccessKey]
	w.mu.Unlock()
	if who == nil {
		return nil, complain(s.protocol, unknownKey, "The security token included in the request is invalid.")
	}
	if r.Header.Get(signature.TokenHeader) != who.token {
		return nil, complain(s.protocol, badToken, "The security token included in the request is invalid.")
	}
	if claim.Region != at.region || claim.Service != s.signed {
		return nil, complain(s.protocol, misscoped, "Credential should be scoped to region %s and service %s, not %q and %q", at.region, s.signed, claim.Region, claim.Service)
	}
	if _, now := claim.Time(r, time.Now()); !now {
		return nil, complain(s.protocol, skewed, "Signature expired: %q is not now", r.Header.Get(signature.DateHeader))
	}
	hash := signature.Hash(body)
	if sent := r.Header.Get(signature.HashHeader); sent != "" && sent != hash {
		if s.protocol != call.RestXML || sent != "UNSIGNED-PAYLOAD" && sent != streamed {
			return nil, complain(s.protocol, mismatch, "The provided 'x-amz-content-sha256' header does not match what was computed.")
		}
		hash = sent
	}
	if !claim.Matches(r, hash, who.secret) {
		return nil, complain(s.protocol, mismatch, "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method.")
	}
	// Only whoever has the secret learns that the credentials were once good.
	if !time.Now().Before(who.expires) {
		return nil, complain(s.protocol, expired, "The security token included in the request is expired")
	}
	return who, nil
}

// factor is the condition keys of a second factor that was seen so long ago.
func factor(age time.Duration) map[string][]string {
	return map[string][]string{"aws:MultiFactorAuthPresent": {"true"}, "aws:MultiFactorAuthAge": {strconv.Itoa(int(age.Seconds()))}}
}

// contextOf is the global condition keys of a session's calls.
func (s *session) contextOf(region string) map[string][]string {
	c := maps.Clone(s.context)
	if !s.factor.IsZero() {
		maps.Copy(c, factor(time.Since(s.factor)))
	}
	c["aws:SecureTransport"], c["aws:ViaAWSService"] = []string{"true"}, []string{"false"}
	c["aws:RequestedRegion"], c["aws:ResourceAccount"] = []string{region}, []string{Account}
	return c
}
