package signature

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const vectorKey = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

// Vectors of AWS's Signature Version 4 test suite.
func TestVectors(t *testing.T) {
	for _, c := range []struct{ name, method, url, want string }{
		{"get-vanilla", "GET", "/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		{"post-vanilla", "POST", "/", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
		{"get-vanilla-query-order-key-case", "GET", "/?Param2=value2&Param1=value1", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
		{"get-unreserved", "GET", "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"},
		{"post-vanilla-query", "POST", "/?Param1=value1", "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"},
	} {
		claim, ok := Parse("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature=" + c.want)
		if !ok {
			t.Fatal("the header does not parse")
		}
		r, err := http.NewRequest(c.method, "http://example.amazonaws.com"+c.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(DateHeader, "20150830T123600Z")
		if got := claim.compute(r, Hash(nil), vectorKey); got != c.want {
			t.Errorf("%s: %s", c.name, got)
		}
		if !claim.Matches(r, Hash(nil), vectorKey) || claim.Matches(r, Hash([]byte("x")), vectorKey) || claim.Matches(r, Hash(nil), "x") {
			t.Errorf("%s: matches", c.name)
		}
	}
}

func TestParse(t *testing.T) {
	for _, bad := range []string{
		"", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request, SignedHeaders=host",
		"AWS4-HMAC-SHA256 Credential=a/b/c/aws4_request, SignedHeaders=host, Signature=x",
		"AWS4-HMAC-SHA256 Credential=a/b/c/d/aws5_request, SignedHeaders=host, Signature=x",
		"AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request, SignedHeaders=x-amz-date;host, Signature=x",
		"AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request, SignedHeaders=host;host, Signature=x",
		"AWS4-ECDSA-P256-SHA256 Credential=a/b/c/d/aws4_request, SignedHeaders=host, Signature=x",
	} {
		if _, ok := Parse(bad); ok {
			t.Errorf("%q parses", bad)
		}
	}
}

// TestSDK: what the SDK signs is accepted, with the odd characters that our
// addresses have, and nothing of it can be changed.
func TestSDK(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct{ service, url, other string }{
		{"lambda", "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A111122223333%3Afunction%3Ax%3Alive/invocations?Qualifier=live", "/2015-03-31/functions/arn:x/invocations"},
		{"s3", "/hoodi/o1/0%20%2B?list-type=2&prefix=a%2Fb&x", "/hoodi/o1/1"},
		{"kms", "/", "/x"},
		{"iam", "/?Version=2010-05-08&Action=a%20b%2Bc", "/?Action=b"},
	} {
		r, err := http.NewRequest("POST", "https://x.us-east-1.amazonaws.com"+c.url, strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Amz-Target", "A.B")
		signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = c.service == "s3" })
		if err := signer.SignHTTP(context.Background(), aws.Credentials{AccessKeyID: "A", SecretAccessKey: "s", SessionToken: "t"}, r, Hash([]byte("body")), c.service, "us-east-1", at); err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Length", "4") // as it arrives
		claim, ok := Parse(r.Header.Get("Authorization"))
		if !ok || claim.AccessKey != "A" || claim.Service != c.service || claim.Region != "us-east-1" || !claim.Covers(TokenHeader) || claim.Covers("X-Other") {
			t.Fatalf("%s: %+v", c.service, claim)
		}
		if !claim.Matches(r, Hash([]byte("body")), "s") {
			t.Errorf("%s: the SDK's signature does not match", c.service)
		}
		for name, change := range map[string]func(*http.Request){
			"a header":   func(r *http.Request) { r.Header.Set("X-Amz-Target", "A.C") },
			"the token":  func(r *http.Request) { r.Header.Set(TokenHeader, "u") },
			"the method": func(r *http.Request) { r.Method = "PUT" },
			"the host":   func(r *http.Request) { r.Host = "y.us-east-1.amazonaws.com" },
			"the path":   func(r *http.Request) { r.URL, _ = r.URL.Parse(c.other) },
			"the query":  func(r *http.Request) { r.URL.RawQuery += "&y=1" },
			"the date":   func(r *http.Request) { r.Header.Set(DateHeader, at.Add(time.Second).Format(TimeLayout)) },
		} {
			changed := r.Clone(t.Context())
			if change(changed); claim.Matches(changed, Hash([]byte("body")), "s") {
				t.Errorf("%s: %s may change", c.service, name)
			}
		}
		for _, now := range []time.Duration{-6 * time.Minute, 6 * time.Minute} {
			if _, ok := claim.Time(r, at.Add(now)); ok {
				t.Errorf("good %s later", now)
			}
		}
		if got, ok := claim.Time(r, at.Add(4*time.Minute)); !ok || !got.Equal(at) {
			t.Errorf("signed at %s, %v", got, ok)
		}
	}
}

// FuzzParse: what parses is what was written, and nothing panics.
func FuzzParse(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=A/20150830/us-east-1/kms/aws4_request, SignedHeaders=host;x-amz-date, Signature=00")
	f.Add("AWS4-HMAC-SHA256 Credential=,,")
	f.Fuzz(func(t *testing.T, header string) {
		c, ok := Parse(header)
		if !ok {
			return
		}
		again := algorithm + " Credential=" + strings.Join([]string{c.AccessKey, c.Date, c.Region, c.Service, terminator}, "/") +
			", SignedHeaders=" + strings.Join(c.Signed, ";") + ", Signature=" + c.Signature
		d, ok := Parse(again)
		if !ok || d.AccessKey != c.AccessKey || strings.TrimSpace(d.Signature) != strings.TrimSpace(c.Signature) {
			t.Errorf("%q became %q", header, again)
		}
	})
}
