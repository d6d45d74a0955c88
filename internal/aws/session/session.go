// Package session builds the configuration of AWS clients by hand.
//
// It promises that where a call goes is decided by the region it is given (out
// of an ARN of the signed settings) and by nothing else: no shared
// configuration file, no proxy, no endpoint, no certificate authority and no
// region from the environment, no instance metadata, no redirect. Whoever may
// change a function's environment can point the SDK's usual configuration at a
// server of their own, and that server would be handed every key that is
// sealed. Calls use TLS 1.2 or later, end, and are repeated a bounded number of
// times.
//
// It trusts the certificate authorities in the system's files and, for what an
// answer says, AWS. The SDK still puts AWS_EXECUTION_ENV and Lambda's trace id
// into request headers, and AWS_NEW_RETRIES_2026 changes what a repeated call
// costs of its budget: neither moves a call.
//
// It is linked into the generator; aws-sdk-go-v2/config is not.
package session

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go/logging"

	"github.com/stakeseal/stakeseal/internal/aws/arn"
)

// Limits of a call.
const (
	MaxAttempts    = 5                // the first one included
	maxBackoff     = 5 * time.Second  // between attempts; random, doubling up to it
	attemptTimeout = 15 * time.Second // from dialling to the last byte
	dialTimeout    = 5 * time.Second
	maxHeader      = 64 << 10
)

// Options; the zero value is the real thing.
type Options struct {
	// Attempt bounds one attempt, from dialling to the last byte, where 15 s
	// do not fit: a synchronous invocation of a function answers when it is
	// done. The connection is kept alive meanwhile.
	Attempt time.Duration
	// Global lets calls go to the one address that IAM has in a partition,
	// beside those of the region.
	Global bool

	// What follows is for tests.

	// Endpoint is http://127.0.0.1:PORT of a fake. Another host is refused
	// with every call, so that this is no way to redirect one.
	Endpoint string
	// Backoff replaces the wait before attempt n+1.
	Backoff func(n int) time.Duration
}

// New returns the configuration for the services of one region. A malformed
// region, missing credentials or an endpoint that is not on 127.0.0.1 give a
// configuration whose every call fails and says so.
func New(region string, c aws.CredentialsProvider, o Options) aws.Config {
	client, err := newClient(region, o)
	switch {
	case err != nil:
	case c == nil:
		// The SDK would send the call unsigned.
		err = Refused("no credentials were given")
	}
	if err != nil {
		client = &doer{err: err}
		c = aws.AnonymousCredentials{}
	}
	cfg := aws.Config{
		Region:      region,
		Credentials: c,
		HTTPClient:  client,
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(s *retry.StandardOptions) {
				s.MaxAttempts = MaxAttempts
				s.MaxBackoff = maxBackoff
				s.Backoff = retry.NewExponentialJitterBackoff(maxBackoff)
				if o.Backoff != nil {
					s.Backoff = retry.BackoffDelayerFunc(func(n int, _ error) (time.Duration, error) { return o.Backoff(n), nil })
				}
			})
		},
		Logger:                     logging.Nop{},
		DisableRequestCompression:  true,
		AccountIDEndpointMode:      aws.AccountIDEndpointModeDisabled,
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenSupported,
	}
	if err == nil && o.Endpoint != "" {
		cfg.BaseEndpoint = &o.Endpoint
	}
	return cfg
}

// EachRegion returns a function that gives the client of a region, made once,
// with these credentials. It makes no call, and is safe for concurrent use.
func EachRegion[C any](c aws.CredentialsProvider, o Options, client func(aws.Config) C) func(region string) C {
	var mu sync.Mutex
	clients := map[string]C{}
	return func(region string) C {
		mu.Lock()
		defer mu.Unlock()
		there, ok := clients[region]
		if !ok {
			there = client(New(region, c, o))
			clients[region] = there
		}
		return there
	}
}

// Bound is how long one attempt of a call may take under a configuration of
// New, 0 for another's.
func Bound(cfg aws.Config) time.Duration {
	if d, ok := cfg.HTTPClient.(*doer); ok && d.http != nil {
		return min(d.http.Timeout, d.http.Transport.(*http.Transport).ResponseHeaderTimeout)
	}
	return 0
}

// Refused is an error that no repetition helps against. The SDK takes every
// other error of an HTTP client for a broken connection.
type Refused string

// Error is what it says.
func (r Refused) Error() string { return string(r) }

// RetryableError tells the SDK to give up.
func (Refused) RetryableError() bool { return false }

// doer sends requests to the one place they may go to.
type doer struct {
	http *http.Client
	host string // what a host ends in, or for a fake what it is
	iam  string // one more host, whole; "" for none
	tls  bool
	err  error
}

var _ aws.HTTPClient = (*doer)(nil)

func newClient(region string, o Options) (*doer, error) {
	if !arn.GoodRegion(region) {
		return nil, Refused(fmt.Sprintf("%q is not a region", clip(region)))
	}
	d := &doer{tls: true, host: "." + region + "." + arn.Suffix(arn.Partition(region))}
	if o.Endpoint != "" {
		u, err := url.Parse(o.Endpoint)
		if err != nil || u.Scheme != "http" || u.Hostname() != "127.0.0.1" || u.Port() == "" || o.Endpoint != "http://"+u.Host {
			return nil, Refused(fmt.Sprintf("endpoint %q is not http://127.0.0.1:PORT", clip(o.Endpoint)))
		}
		d.tls, d.host = false, u.Host
	}
	if o.Global {
		d.iam = globalIAM[arn.Partition(region)]
	}
	t := Transport()
	d.http = &http.Client{
		Timeout: attemptTimeout,
		// A redirect is handed to the SDK as an answer: an error.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     t,
	}
	if o.Attempt > 0 {
		d.http.Timeout, t.ResponseHeaderTimeout = o.Attempt, o.Attempt
	}
	return d, nil
}

// globalIAM is IAM's address in each partition.
var globalIAM = map[string]string{
	"aws":        "iam.amazonaws.com",
	"aws-cn":     "iam.cn-north-1.amazonaws.com.cn",
	"aws-us-gov": "iam.us-gov.amazonaws.com",
	"aws-eusc":   "iam.eusc-de-east-1.amazonaws.eu",
}

// Transport speaks TLS 1.2 or later to whom the system's certificate files
// bear out. It has no Proxy: the default one asks the environment.
func Transport() *http.Transport {
	return &http.Transport{
		DialContext:            (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots()},
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  attemptTimeout,
		IdleConnTimeout:        30 * time.Second, // AWS closes earlier than most
		MaxIdleConnsPerHost:    64,               // as many as write at once: one that is not kept costs a handshake
		MaxResponseHeaderBytes: maxHeader,
	}
}

// Do checks the address once more, behind everything that the SDK may have
// made of it.
func (d *doer) Do(r *http.Request) (*http.Response, error) {
	if d.err != nil {
		return nil, d.err
	}
	switch {
	case d.tls && (r.URL.Scheme != "https" || r.URL.Port() != "" || !d.may(r.URL.Hostname())):
		return nil, Refused(fmt.Sprintf("the call would go to %q, which is not under https://*%s", clip(r.URL.Host), d.host))
	case !d.tls && (r.URL.Scheme != "http" || r.URL.Host != d.host):
		return nil, Refused(fmt.Sprintf("the call would go to %q, not to %s", clip(r.URL.Host), d.host))
	}
	return d.http.Do(r)
}

func (d *doer) may(host string) bool {
	return strings.HasSuffix(host, d.host) || d.iam != "" && host == d.iam
}

// rootFiles is where Linux distributions keep the bundle; the first is that of
// Lambda's Amazon Linux.
var rootFiles = []string{
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/ssl/ca-bundle.pem",
	"/etc/ssl/cert.pem",
}

// roots reads the certificate authorities from their files, because on Linux
// crypto/x509 lets SSL_CERT_FILE and SSL_CERT_DIR replace them. Without any
// file the pool is empty, and every connection fails. Other systems have
// verifiers of their own that heed no variable.
var roots = sync.OnceValue(func() *x509.CertPool {
	if runtime.GOOS != "linux" {
		return nil
	}
	return readRoots(rootFiles)
})

// readRoots takes the first file that holds certificates.
func readRoots(names []string) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, name := range names {
		if data, err := os.ReadFile(name); err == nil && pool.AppendCertsFromPEM(data) {
			break
		}
	}
	return pool
}

// clip keeps a hostile value from filling a terminal.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}

// environment is the credentials of a function, which stay the same while it
// lives: Lambda ends it before they expire.
type environment struct{ c aws.Credentials }

var _ aws.CredentialsProvider = (*environment)(nil)

// Retrieve returns the same credentials each time.
func (e *environment) Retrieve(context.Context) (aws.Credentials, error) { return e.c, nil }

// Format prints no field under any verb.
func (*environment) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[credentials]")) }

// EnvironmentCredentials takes AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
// AWS_SESSION_TOKEN out of environ (os.Environ()), each of them exactly once.
// The session token is demanded: credentials without one are long-lived ones
// of a person, and what carries such a key in its environment is not the
// function that the settings were reviewed for. No error repeats a value.
func EnvironmentCredentials(environ []string) (aws.CredentialsProvider, error) {
	var c aws.Credentials
	for _, v := range []struct {
		name string
		into *string
	}{{"AWS_ACCESS_KEY_ID", &c.AccessKeyID}, {"AWS_SECRET_ACCESS_KEY", &c.SecretAccessKey}, {"AWS_SESSION_TOKEN", &c.SessionToken}} {
		found := 0
		for _, line := range environ {
			if value, ok := strings.CutPrefix(line, v.name+"="); ok {
				*v.into, found = value, found+1
			}
		}
		switch {
		case found == 0 || *v.into == "":
			return nil, fmt.Errorf("%w: %s is not set", ErrCredentials, v.name)
		case found > 1:
			return nil, fmt.Errorf("%w: %s is set twice", ErrCredentials, v.name)
		case !plain(*v.into):
			// A line break would end a header.
			return nil, fmt.Errorf("%w: %s has characters that no credential has, or too many", ErrCredentials, v.name)
		}
	}
	c.Source = "environment"
	return &environment{c}, nil
}

func plain(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return len(s) <= 16<<10
}
