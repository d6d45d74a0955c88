// Package signature is the verifying half of AWS Signature Version 4, written
// from AWS's documentation and tested with its vectors, so that it does not
// share a mistake with the SDK that signs. It knows the Authorization header;
// a signature in a query (a presigned address) is nothing that our programs
// make, and is not verified.
package signature

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"

	// DateHeader is when a request was signed, in the form TimeLayout.
	DateHeader = "X-Amz-Date"
	TimeLayout = "20060102T150405Z"
	// TokenHeader is the session token of temporary credentials.
	TokenHeader = "X-Amz-Security-Token"
	// HashHeader is the SHA-256 of the body, or that there is none.
	HashHeader = "X-Amz-Content-Sha256"
)

// Skew is how far a request's time may be from now.
const Skew = 5 * time.Minute

// Claim is a parsed Authorization header: who signed what, for where.
type Claim struct {
	AccessKey, Date, Region, Service string
	Signed                           []string // lower-case header names, sorted
	Signature                        string   // hex
}

// Parse reads "AWS4-HMAC-SHA256 Credential=..., SignedHeaders=...,
// Signature=...", in that order, which is the order of every SDK.
func Parse(header string) (c Claim, ok bool) {
	rest, ok := strings.CutPrefix(header, algorithm+" ")
	if !ok {
		return c, false
	}
	fields := strings.Split(rest, ",")
	if len(fields) != 3 {
		return c, false
	}
	var values [3]string
	for i, name := range []string{"Credential=", "SignedHeaders=", "Signature="} {
		if values[i], ok = strings.CutPrefix(strings.TrimSpace(fields[i]), name); !ok {
			return c, false
		}
	}
	scope := strings.Split(values[0], "/")
	if len(scope) != 5 || scope[4] != terminator {
		return c, false
	}
	c = Claim{scope[0], scope[1], scope[2], scope[3], strings.Split(values[1], ";"), values[2]}
	return c, slices.IsSorted(c.Signed) && len(slices.Compact(slices.Clone(c.Signed))) == len(c.Signed)
}

// Covers says whether the signature is over a header.
func (c Claim) Covers(name string) bool { return slices.Contains(c.Signed, strings.ToLower(name)) }

// Time returns when the request was signed, if that is now and the claim's
// day.
func (c Claim) Time(r *http.Request, now time.Time) (time.Time, bool) {
	at, err := time.Parse(TimeLayout, r.Header.Get(DateHeader))
	return at, err == nil && at.Format("20060102") == c.Date && now.Sub(at).Abs() <= Skew
}

// Hash is the SHA-256 of a body, as it is signed.
func Hash(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// Matches says whether the holder of secretKey signed the request with a body
// of that hash.
func (c Claim) Matches(r *http.Request, hash, secretKey string) bool {
	return hmac.Equal([]byte(c.compute(r, hash, secretKey)), []byte(c.Signature))
}

func (c Claim) compute(r *http.Request, hash, secretKey string) string {
	var headers strings.Builder
	for _, name := range c.Signed {
		value := r.Host
		if name != "host" {
			value = strings.Join(r.Header.Values(name), ",")
		}
		headers.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	canonical := strings.Join([]string{
		r.Method, c.path(r), query(r.URL.RawQuery), headers.String(), strings.Join(c.Signed, ";"), hash,
	}, "\n")
	scope := strings.Join([]string{c.Date, c.Region, c.Service, terminator}, "/")
	toSign := strings.Join([]string{algorithm, r.Header.Get(DateHeader), scope, Hash([]byte(canonical))}, "\n")

	key := []byte("AWS4" + secretKey)
	for _, part := range []string{c.Date, c.Region, c.Service, terminator, toSign} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	return hex.EncodeToString(key)
}

// path is signed as it was sent by S3's callers, and encoded once more by all
// others.
func (c Claim) path(r *http.Request) string {
	sent, _, _ := strings.Cut(r.RequestURI, "?")
	if sent == "" {
		sent = r.URL.EscapedPath()
	}
	if sent == "" {
		sent = "/"
	}
	if c.Service == "s3" {
		return sent
	}
	parts := strings.Split(sent, "/")
	for i := range parts {
		parts[i] = escape(parts[i])
	}
	return strings.Join(parts, "/")
}

// query is sorted by name and value, in one encoding.
func query(raw string) string {
	if raw == "" {
		return ""
	}
	var pairs []string
	for pair := range strings.SplitSeq(raw, "&") {
		name, value, _ := strings.Cut(pair, "=")
		pairs = append(pairs, again(name)+"="+again(value))
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

func again(s string) string {
	plain, err := url.QueryUnescape(s)
	if err != nil {
		return s // no client of AWS sends it, and nothing it signed matches
	}
	return escape(plain)
}

// escape is RFC 3986's: all but letters, digits and -_.~ in upper-case hex.
func escape(s string) string {
	var out strings.Builder
	for _, b := range []byte(s) {
		if b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte("-_.~", b) >= 0 {
			out.WriteByte(b)
			continue
		}
		out.WriteString("%" + strings.ToUpper(hex.EncodeToString([]byte{b})))
	}
	return out.String()
}
