package ops

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/stakeseal/stakeseal/internal/aws/session"
)

const (
	region  = "us-east-1"
	account = "111122223333"
	role    = "arn:aws:sts::" + account + ":assumed-role/stakeseal-hoodi-requester/anna"
)

var here = Place{region, account}

// clean takes every variable away that says something of AWS, and gives the
// credentials of a role's session.
func clean(t *testing.T) {
	t.Helper()
	for _, line := range os.Environ() {
		if name, _, _ := strings.Cut(line, "="); strings.HasPrefix(name, "AWS_") || strings.HasSuffix(strings.ToUpper(name), "_PROXY") {
			t.Setenv(name, "") // so that it comes back
			os.Unsetenv(name)
		}
	}
	none := filepath.Join(t.TempDir(), "none")
	t.Setenv("AWS_CONFIG_FILE", none)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", none)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_ACCESS_KEY_ID", "ASIAEXAMPLEEXAMPLE12")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secretsecretsecret")
	t.Setenv("AWS_SESSION_TOKEN", "token")
}

// answer writes a service's answer in the query protocol.
func answer(w http.ResponseWriter, operation, inside string) {
	w.Header().Set("Content-Type", "text/xml")
	fmt.Fprintf(w, `<%[1]sResponse><%[1]sResult>%[2]s</%[1]sResult><ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata></%[1]sResponse>`, operation, inside)
}

func identity(account, arn string) string {
	return fmt.Sprintf("<Account>%s</Account><Arn>%s</Arn><UserId>AROAEXAMPLE:anna</UserId>", account, arn)
}

// fakeSTS answers GetCallerIdentity and counts.
func fakeSTS(t *testing.T, account, arn string) (Options, *atomic.Int32) {
	t.Helper()
	var calls atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		body, err := io.ReadAll(r.Body)
		if err != nil || !strings.Contains(string(body), "Action=GetCallerIdentity") {
			t.Errorf("asked for %q, %v", body, err)
		}
		if scope := r.Header.Get("Authorization"); !strings.Contains(scope, "/us-east-1/sts/") {
			t.Errorf("signed as %q", scope)
		}
		answer(w, "GetCallerIdentity", identity(account, arn))
	}))
	t.Cleanup(s.Close)
	return Options{Session: session.Options{Endpoint: s.URL, Backoff: func(int) time.Duration { return 0 }}}, &calls
}

func TestOpen(t *testing.T) {
	clean(t)
	o, calls := fakeSTS(t, account, role)
	var warned []string
	o.Warn = func(format string, args ...any) { warned = append(warned, fmt.Sprintf(format, args...)) }
	a, err := Open(t.Context(), here, o)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Caller{account, role, "stakeseal-hoodi-requester", "anna"}); a.Caller != want || a.Place != here {
		t.Errorf("got %+v", a)
	}
	if len(warned) > 0 {
		t.Errorf("warned: %q", warned)
	}
	// The rest makes no call.
	if cfg := a.Config("eu-west-1"); cfg.Region != "eu-west-1" || a.Config("").Region != region || a.GlobalConfig().Region != region {
		t.Error("configurations of other regions")
	}
	if n := calls.Load(); n != 1 {
		t.Errorf("%d calls, not 1", n)
	}
	if shown := fmt.Sprintf("%v %+v %#v", a.Credentials(), a.Credentials(), a.Credentials()); strings.Contains(shown, "secret") {
		t.Errorf("credentials print as %s", shown)
	}
}

func TestOtherAccount(t *testing.T) {
	clean(t)
	const other = "444455556666"
	o, _ := fakeSTS(t, other, strings.Replace(role, account, other, 1))
	_, err := Open(t.Context(), here, o)
	if !errors.Is(err, ErrAccount) || !strings.Contains(err.Error(), account) || !strings.Contains(err.Error(), other) {
		t.Errorf("got %v", err)
	}
	// Who names no account takes the caller's.
	a, err := Open(t.Context(), Place{Region: region}, o)
	if err != nil || a.Place.Account != other {
		t.Errorf("got %+v, %v", a, err)
	}
}

func TestMalformedCaller(t *testing.T) {
	clean(t)
	for name, c := range map[string][2]string{
		"two accounts": {account, strings.Replace(role, account, "444455556666", 1)},
		"no ARN":       {account, "anna"},
		"nothing":      {"", ""},
		"a key":        {account, "arn:aws:kms:us-east-1:111122223333:key/x"},
	} {
		o, _ := fakeSTS(t, c[0], c[1])
		if _, err := Open(t.Context(), here, o); !errors.Is(err, session.ErrRemote) {
			t.Errorf("%s: %v", name, err)
		}
	}
	o, _ := fakeSTS(t, account, role)
	for _, p := range []Place{{}, {region, "x"}, {"evil.example", account}, {region, "11112222333a"}} {
		if _, err := Open(t.Context(), p, o); err == nil {
			t.Errorf("%+v was taken", p)
		}
	}
}

// Long-lived keys and the root user work, and are told of.
func TestWarnings(t *testing.T) {
	clean(t)
	t.Setenv("AWS_SESSION_TOKEN", "")
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLEEXAMPLE12")
	for arn, want := range map[string]string{
		"arn:aws:iam::111122223333:user/anna": "long-lived access key",
		"arn:aws:iam::111122223333:root":      "root user",
	} {
		o, _ := fakeSTS(t, account, arn)
		var warned []string
		o.Warn = func(format string, args ...any) { warned = append(warned, fmt.Sprintf(format, args...)) }
		a, err := Open(t.Context(), here, o)
		if err != nil || a.Caller.Role != "" || len(warned) != 1 || !strings.Contains(warned[0], want) || strings.Contains(warned[0], "secret") {
			t.Errorf("%s: %q, %v", arn, warned, err)
		}
	}
}

// No credentials at all are the caller's to mend, and nobody is asked.
func TestNoCredentials(t *testing.T) {
	clean(t)
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
		t.Setenv(name, "")
	}
	o, calls := fakeSTS(t, account, role)
	if _, err := Open(t.Context(), here, o); !errors.Is(err, session.ErrCredentials) || errors.Is(err, session.ErrRemote) {
		t.Errorf("got %v", err)
	}
	t.Setenv("AWS_PROFILE", "nosuch")
	if _, err := Open(t.Context(), here, o); !errors.Is(err, session.ErrCredentials) || !strings.Contains(err.Error(), "nosuch") {
		t.Errorf("a profile that is not there: %v", err)
	}
	if calls.Load() != 0 {
		t.Error("AWS was asked")
	}
}

// trap is a server that must not be called, and a certificate file.
func trap(t *testing.T) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the trap was called: %s %s", r.Method, r.URL)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}

// The operator's configuration gives credentials and moves nothing: neither
// endpoints, nor authorities, nor proxies, nor the region.
func TestHostileConfiguration(t *testing.T) {
	clean(t)
	hostile(t, "[default]\n"+astray+"aws_access_key_id = ASIAOFTHEPROFILE1234\naws_secret_access_key = secretsecretsecret\naws_session_token = token\n")
	o, calls := fakeSTS(t, account, role) // signed for us-east-1, or it complains
	a, err := Open(t.Context(), here, o)
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.Credentials().Retrieve(t.Context())
	if err != nil || c.AccessKeyID != "ASIAOFTHEPROFILE1234" {
		t.Errorf("got the credentials of %q, %v", c.Source, err)
	}
	cfg := a.Config("")
	if cfg.BaseEndpoint == nil || *cfg.BaseEndpoint != o.Session.Endpoint || cfg.Region != region || len(cfg.ConfigSources) > 0 || len(cfg.ServiceOptions) > 0 {
		t.Errorf("a client would be made of %+v", cfg)
	}
	if calls.Load() != 1 {
		t.Errorf("%d calls", calls.Load())
	}
}

// asked is AWS's side of finding credentials: a server with certificates for
// sts and the SSO portal, to which the network leads, and nothing else.
type asked struct {
	network
	pem   []byte   // its certificate
	meant []string // addresses dialled
	forms []url.Values
}

func newAsked(t *testing.T, answers func(w http.ResponseWriter, form url.Values, r *http.Request)) *asked {
	t.Helper()
	a := &asked{}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		a.forms = append(a.forms, r.Form)
		answers(w, r.Form, r)
	}))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		DNSNames: []string{"sts.us-east-1.amazonaws.com", "portal.sso.eu-west-1.amazonaws.com"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	own, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	a.roots = x509.NewCertPool()
	a.roots.AddCert(own)
	a.dial = func(ctx context.Context, kind, address string) (net.Conn, error) {
		a.meant = append(a.meant, address)
		return new(net.Dialer).DialContext(ctx, kind, s.Listener.Addr().String())
	}
	return a
}

const session1 = "<Credentials><AccessKeyId>ASIAOFTHESESSION1234</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>"

// hostile gives every variable and setting that could lead a call astray.
func hostile(t *testing.T, profile string) {
	t.Helper()
	evil := trap(t)
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
		t.Setenv(name, "")
	}
	file := filepath.Join(t.TempDir(), "config")
	text := strings.ReplaceAll(profile+`
[services evil]
sts =
  endpoint_url = EVIL
sso =
  endpoint_url = EVIL
`, "EVIL", evil)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONFIG_FILE", file)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	for _, name := range []string{"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL_SSO", "AWS_ENDPOINT_URL_LAMBDA", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"} {
		t.Setenv(name, evil)
	}
	t.Setenv("NO_PROXY", "")
	t.Setenv("AWS_USE_FIPS_ENDPOINT", "true")
	t.Setenv("AWS_CA_BUNDLE", "/does/not/exist.pem")
	t.Setenv("AWS_REGION", "eu-west-1")
	t.Setenv("AWS_DEFAULT_REGION", "eu-west-1")
}

const astray = `region = eu-west-1
ca_bundle = /does/not/exist.pem
endpoint_url = EVIL
services = evil
use_fips_endpoint = true
use_dualstack_endpoint = true
ec2_metadata_service_endpoint = EVIL
`

// Where credentials have to be asked for, that too goes to AWS and to nobody
// else, whatever the profile says: the token of a web identity and that of an
// SSO session are worth as much as what they buy.
func TestCredentialsAreAskedOfAWSOnly(t *testing.T) {
	t.Run("web identity", func(t *testing.T) {
		clean(t)
		hostile(t, "[default]\n"+astray)
		token := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(token, []byte("a.web.identity"), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", token)
		t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/stakeseal-hoodi-requester")
		a := newAsked(t, func(w http.ResponseWriter, form url.Values, _ *http.Request) {
			answer(w, form.Get("Action"), session1)
		})
		a.finds(t, nil, "sts.us-east-1.amazonaws.com:443")
		if len(a.forms) != 1 || a.forms[0].Get("Action") != "AssumeRoleWithWebIdentity" || a.forms[0].Get("WebIdentityToken") != "a.web.identity" {
			t.Errorf("asked %v", a.forms)
		}
	})
	t.Run("SSO", func(t *testing.T) {
		clean(t)
		hostile(t, "[default]\n"+astray+"sso_start_url = https://x.awsapps.com/start\nsso_region = eu-west-1\nsso_account_id = 111122223333\nsso_role_name = requester\n")
		home := t.TempDir()
		t.Setenv("HOME", home)
		cache := filepath.Join(home, ".aws", "sso", "cache")
		if err := os.MkdirAll(cache, 0o700); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("%x.json", sha1.Sum([]byte("https://x.awsapps.com/start")))
		if err := os.WriteFile(filepath.Join(cache, name), []byte(`{"accessToken":"the.sso.token","expiresAt":"2099-01-01T00:00:00Z"}`), 0o600); err != nil {
			t.Fatal(err)
		}
		a := newAsked(t, func(w http.ResponseWriter, _ url.Values, r *http.Request) {
			if r.Header.Get("x-amz-sso_bearer_token") != "the.sso.token" {
				t.Error("without the token")
			}
			fmt.Fprint(w, `{"roleCredentials":{"accessKeyId":"ASIAOFTHESESSION1234","secretAccessKey":"s","sessionToken":"t","expiration":4070908800000}}`)
		})
		a.finds(t, nil, "portal.sso.eu-west-1.amazonaws.com:443")
	})
	t.Run("SSO that expired", func(t *testing.T) {
		clean(t)
		hostile(t, "[default]\n"+astray+"sso_start_url = https://x.awsapps.com/start\nsso_region = eu-west-1\nsso_account_id = 111122223333\nsso_role_name = requester\n")
		t.Setenv("HOME", t.TempDir())
		a := newAsked(t, func(http.ResponseWriter, url.Values, *http.Request) { t.Error("it was asked") })
		c, err := find(t.Context(), region, a.network, nil)
		if err == nil {
			_, err = c.Retrieve(t.Context())
		}
		if !errors.Is(err, session.ErrCredentials) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("assumed with MFA", func(t *testing.T) {
		clean(t)
		const device = "arn:aws:iam::111122223333:mfa/anna"
		hostile(t, "[profile recovery]\n"+astray+"role_arn = arn:aws:iam::111122223333:role/stakeseal-hoodi-recovery\nsource_profile = anna\nmfa_serial = "+device+"\n"+
			"[profile anna]\n"+astray+"aws_access_key_id = AKIAEXAMPLEEXAMPLE12\naws_secret_access_key = s\n")
		t.Setenv("AWS_PROFILE", "recovery")
		a := newAsked(t, func(w http.ResponseWriter, form url.Values, _ *http.Request) { answer(w, form.Get("Action"), session1) })
		a.finds(t, func(d string) (string, error) {
			if d != device {
				t.Errorf("asked for the code of %q", d)
			}
			return "123456", nil
		}, "sts.us-east-1.amazonaws.com:443")
		if len(a.forms) != 1 || a.forms[0].Get("SerialNumber") != device || a.forms[0].Get("TokenCode") != "123456" {
			t.Errorf("asked %v", a.forms)
		}
		// Nobody to ask, or who gives no answer.
		if _, err := find(t.Context(), region, a.network, nil); !errors.Is(err, session.ErrCredentials) {
			t.Errorf("nobody to ask: %v", err)
		}
		refusal := errors.New("nobody there")
		c, err := find(t.Context(), region, a.network, func(string) (string, error) { return "", refusal })
		if err == nil {
			_, err = c.Retrieve(t.Context())
		}
		if !errors.Is(err, refusal) || !errors.Is(err, session.ErrCredentials) {
			t.Errorf("a refused question: %v", err)
		}
	})
	t.Run("an authority of the profile", func(t *testing.T) {
		clean(t)
		a := newAsked(t, func(http.ResponseWriter, url.Values, *http.Request) { t.Error("it was asked") })
		// The server's own certificate, as ca_bundle and SSL_CERT_FILE, is not
		// believed by a network whose authorities are others.
		bundle := filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(bundle, a.pem, 0o600); err != nil {
			t.Fatal(err)
		}
		hostile(t, "[default]\nca_bundle = "+bundle+"\n")
		t.Setenv("AWS_CA_BUNDLE", bundle)
		t.Setenv("SSL_CERT_FILE", bundle)
		token := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(token, []byte("a.web.identity"), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", token)
		t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/x")
		n := a.network
		n.roots = x509.NewCertPool()
		c, err := find(t.Context(), region, n, nil)
		if err == nil {
			_, err = c.Retrieve(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), "unknown authority") {
			t.Errorf("got %v", err)
		}
	})
}

// finds demands that the session is found, and asked for at one address only.
func (a *asked) finds(t *testing.T, mfa func(string) (string, error), address string) {
	t.Helper()
	c, err := find(t.Context(), region, a.network, mfa)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Retrieve(t.Context())
	if err != nil || got.AccessKeyID != "ASIAOFTHESESSION1234" {
		t.Fatalf("got %q, %v", got.AccessKeyID, err)
	}
	for _, to := range a.meant {
		if to != address {
			t.Errorf("it went to %s", to)
		}
	}
	if len(a.meant) == 0 {
		t.Error("it went nowhere")
	}
}

func TestDoors(t *testing.T) {
	for address, want := range map[string]bool{
		"sts.us-east-1.amazonaws.com:443":                  true,
		"portal.sso.eu-west-1.amazonaws.com:443":           true,
		"oidc.eu-west-1.amazonaws.com:443":                 true,
		"us-east-1.signin.aws.amazon.com:443":              true,
		"sts.cn-north-1.amazonaws.com.cn:443":              true,
		"sts.us-east-1.amazonaws.com:80":                   false,
		"sts.us-east-1.amazonaws.com":                      false,
		"sts.us-east-1.amazonaws.com.evil.example:443":     false,
		"sts.cn-north-1.amazonaws.com:443":                 false,
		"evil.us-east-1.amazonaws.com:443":                 false,
		"us-east-1.signin.aws.amazon.com.evil.example:443": false,
		"x.signin.aws.amazon.com:443":                      false,
		"169.254.169.254:443":                              false,
		"evil.example:443":                                 false,
	} {
		if got := awsAddress(address); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	n := network{dial: func(context.Context, string, string) (net.Conn, error) { t.Error("it was dialled"); return nil, nil }, roots: x509.NewCertPool()}
	c, err := n.client()
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodPost, "https://evil.example/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if response, err := c.Do(r); err == nil || !strings.Contains(err.Error(), "no such place of AWS") {
		t.Errorf("%v, %v", response, err)
	}
	for address, want := range map[string]bool{
		"http://169.254.169.254/latest": true, "http://[fd00:ec2::254]/latest": true, "http://169.254.170.2/v2": true,
		"http://127.0.0.1:9911/x": true, "http://[::1]:9911/x": true, "http://localhost:1/": true,
		"http://10.0.0.1/": false, "https://evil.example/": false, "http://169.254.169.254.evil.example/": false, "file://localhost/": false,
	} {
		reached := errors.New("reached")
		d := &door{&http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, reached })}}
		r, err := http.NewRequest(http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := d.Do(r)
		if err == nil {
			response.Body.Close()
		}
		if errors.Is(err, reached) != want {
			t.Errorf("%s: %v", address, err)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Credentials that end in the middle of a run are still no failure of the
// service that was to be called.
func TestEndedSession(t *testing.T) {
	ended := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{}, errors.New("the SSO session has expired")
	})
	err := session.Classify("sts:GetCallerIdentity", whose(t, &found{ended}))
	if !errors.Is(err, session.ErrCredentials) || errors.Is(err, session.ErrRemote) || !strings.Contains(err.Error(), "SSO session has expired") {
		t.Errorf("got %v", err)
	}
	_, err = (&found{aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, nil })}).Retrieve(t.Context())
	if !errors.Is(err, session.ErrCredentials) {
		t.Errorf("empty ones: %v", err)
	}
}

func whose(t *testing.T, c aws.CredentialsProvider) error {
	t.Helper()
	cfg := session.New(region, c, session.Options{Endpoint: trap(t), Backoff: func(int) time.Duration { return 0 }})
	_, err := sts.NewFromConfig(cfg).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	return err
}
