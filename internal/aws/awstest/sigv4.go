package awstest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The verifying half of AWS Signature Version 4, written from AWS's
// documentation and tested with its vectors, so that it does not share a
// mistake with the SDK that signs.

const (
	algorithm  = "AWS4-HMAC-SHA256"
	amzTime    = "20060102T150405Z"
	clockSkew  = 5 * time.Minute
	terminator = "aws4_request"
)

// authorization is the parsed Authorization header.
type authorization struct {
	accessKey, date, region, service string
	signed                           []string // lower-case header names
	signature                        string
}

// parseAuthorization reads "AWS4-HMAC-SHA256 Credential=..., SignedHeaders=...,
// Signature=...", in that order, which is the order of every SDK.
func parseAuthorization(header string) (a authorization, ok bool) {
	rest, ok := strings.CutPrefix(header, algorithm+" ")
	if !ok {
		return a, false
	}
	fields := strings.Split(rest, ",")
	if len(fields) != 3 {
		return a, false
	}
	var values [3]string
	for i, name := range []string{"Credential=", "SignedHeaders=", "Signature="} {
		if values[i], ok = strings.CutPrefix(strings.TrimSpace(fields[i]), name); !ok {
			return a, false
		}
	}
	scope := strings.Split(values[0], "/")
	if len(scope) != 5 || scope[4] != terminator {
		return a, false
	}
	a = authorization{scope[0], scope[1], scope[2], scope[3], strings.Split(values[1], ";"), values[2]}
	return a, slices.IsSorted(a.signed) && len(slices.Compact(slices.Clone(a.signed))) == len(a.signed)
}

// signature computes what the request should have been signed with. It knows
// requests without a query only, as no service here has one.
func (a authorization) compute(r *http.Request, body []byte, secretKey string) string {
	var headers strings.Builder
	for _, name := range a.signed {
		value := r.Host
		if name != "host" {
			value = strings.Join(r.Header.Values(name), ",")
		}
		if name == "content-length" {
			value = r.Header.Get("Content-Length")
		}
		headers.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	payload := sha256.Sum256(body)
	canonical := strings.Join([]string{
		r.Method, r.URL.EscapedPath(), r.URL.RawQuery, headers.String(), strings.Join(a.signed, ";"), hex.EncodeToString(payload[:]),
	}, "\n")
	digest := sha256.Sum256([]byte(canonical))
	scope := strings.Join([]string{a.date, a.region, a.service, terminator}, "/")
	toSign := strings.Join([]string{algorithm, r.Header.Get("X-Amz-Date"), scope, hex.EncodeToString(digest[:])}, "\n")

	key := []byte("AWS4" + secretKey)
	for _, part := range []string{a.date, a.region, a.service, terminator, toSign} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	return hex.EncodeToString(key)
}

// mustSign is what a signature has to cover; without the target, somebody in
// between could turn an Encrypt into another call.
var mustSign = []string{"content-type", "host", "x-amz-date", "x-amz-security-token", "x-amz-target"}

// authenticate returns who signed the request, or AWS's error for one that is
// not signed as it must be.
func (k *KMS) authenticate(r *http.Request, body []byte) (*principal, *failure) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return nil, refuse("MissingAuthenticationTokenException", "Missing Authentication Token")
	}
	a, ok := parseAuthorization(header)
	if !ok || r.URL.RawQuery != "" {
		return nil, refuse("IncompleteSignatureException", "the Authorization header is not of Signature Version 4")
	}
	for _, name := range mustSign {
		if !slices.Contains(a.signed, name) {
			return nil, refuse("IncompleteSignatureException", "the signature does not cover %s", name)
		}
	}
	p := k.principals[a.accessKey]
	if p == nil || r.Header.Get("X-Amz-Security-Token") != p.token {
		return nil, refuse("UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	at, err := time.Parse(amzTime, r.Header.Get("X-Amz-Date"))
	if err != nil || at.Format("20060102") != a.date || time.Since(at).Abs() > clockSkew {
		return nil, refuse("InvalidSignatureException", "Signature expired: %q is not now", r.Header.Get("X-Amz-Date"))
	}
	if a.region != k.region || a.service != "kms" {
		return nil, refuse("InvalidSignatureException", "Credential should be scoped to region %s and service kms, not %q and %q", k.region, a.region, a.service)
	}
	if !hmac.Equal([]byte(a.compute(r, body, p.secretKey)), []byte(a.signature)) {
		return nil, refuse("InvalidSignatureException", "The request signature we calculated does not match the signature you provided.")
	}
	return p, nil
}
