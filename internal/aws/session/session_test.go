package session

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// A region that does not exist: no test here may reach AWS.
const (
	region = "xx-test-1"
	host   = "kms.xx-test-1.amazonaws.com"
)

var fixed = credentials.NewStaticCredentialsProvider("ASIAEXAMPLE", "example", "token")

func describe(t *testing.T, cfg aws.Config) error {
	t.Helper()
	_, err := kms.NewFromConfig(cfg).GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: aws.String("x")})
	if err == nil {
		t.Fatal("the call succeeded")
	}
	return err
}

func once(int) time.Duration { return 0 }

// redial sends a client's connections to address, and tells where they were
// meant to go.
func redial(cfg aws.Config, address string, meant *[]string) {
	cfg.HTTPClient.(*doer).http.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, to string) (net.Conn, error) {
		*meant = append(*meant, to)
		return new(net.Dialer).DialContext(ctx, network, address)
	}
}

// Nothing in the environment moves a call.
func TestEnvironmentMovesNothing(t *testing.T) {
	trap := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the trap was called") }))
	defer trap.Close()
	folder := t.TempDir()
	file := filepath.Join(folder, "config")
	if err := os.WriteFile(file, []byte("[default]\nregion = us-east-1\nendpoint_url = "+trap.URL+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy",
		"AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
	} {
		t.Setenv(name, trap.URL)
	}
	t.Setenv("NO_PROXY", "")
	t.Setenv("AWS_REGION", "us-east-1")
	t.Setenv("AWS_DEFAULT_REGION", "us-east-1")
	t.Setenv("AWS_CONFIG_FILE", file)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	t.Setenv("AWS_PROFILE", "default")
	t.Setenv("AWS_USE_FIPS_ENDPOINT", "true")
	t.Setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")

	cfg := New(region, fixed, Options{Backoff: once})
	var meant []string
	redial(cfg, "127.0.0.1:1", &meant)
	err := describe(t, cfg)
	if len(meant) != MaxAttempts {
		t.Fatalf("%d attempts, not %d: %v", len(meant), MaxAttempts, err)
	}
	for _, to := range meant {
		if to != host+":443" {
			t.Errorf("a call went to %s", to)
		}
	}
	if !errors.Is(Classify("kms:GetPublicKey", err), ErrRemote) {
		t.Errorf("got %v", err)
	}
}

// Only the system's own files say whom TLS believes, and only TLS 1.2 or later
// is spoken.
func TestTLS(t *testing.T) {
	authority, leaf := certificates(t)
	serve := func(limit uint16) *httptest.Server {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-amz-json-1.1")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"__type":"NotFoundException"}`))
		}))
		s.TLS = &tls.Config{Certificates: []tls.Certificate{leaf}, MinVersion: tls.VersionTLS10, MaxVersion: limit}
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, authority, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", bundle)
	t.Setenv("SSL_CERT_DIR", filepath.Dir(bundle))
	t.Setenv("AWS_CA_BUNDLE", bundle)

	call := func(server *httptest.Server, believe *x509.CertPool) error {
		cfg := New(region, fixed, Options{Backoff: once})
		var meant []string
		redial(cfg, server.Listener.Addr().String(), &meant)
		if believe != nil {
			cfg.HTTPClient.(*doer).http.Transport.(*http.Transport).TLSClientConfig.RootCAs = believe
		}
		return describe(t, cfg)
	}
	modern, old := serve(tls.VersionTLS13), serve(tls.VersionTLS11)
	// The server is sound: who believes its authority gets an answer.
	if err := call(modern, readRoots([]string{"/does/not/exist", bundle})); !strings.Contains(err.Error(), "NotFoundException") {
		t.Errorf("the control failed: %v", err)
	}
	if runtime.GOOS == "linux" {
		if err := call(modern, nil); !strings.Contains(err.Error(), "unknown authority") {
			t.Errorf("an authority out of the environment was believed: %v", err)
		}
	}
	if err := call(modern, readRoots(nil)); !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("without any file: %v", err)
	}
	if err := call(old, readRoots([]string{bundle})); !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.1: %v", err)
	}
}

// certificates makes an authority (PEM) and its certificate for host.
func certificates(t *testing.T) ([]byte, tls.Certificate) {
	t.Helper()
	fatal := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fatal(err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "trap"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	fatal(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fatal(err)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{host}, NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	fatal(err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// A configuration that is wrong makes no call, once, and says why.
func TestRefusedConfigurations(t *testing.T) {
	hit := false
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hit = true }))
	defer server.Close()
	port := server.URL[strings.LastIndex(server.URL, ":"):]
	for _, c := range []struct {
		name, region, endpoint, says string
		provider                     aws.CredentialsProvider
	}{
		{"no region", "", server.URL, "is not a region", fixed},
		{"a host as region", "evil.example/", "", "is not a region", fixed},
		{"a name", region, "http://localhost" + port, "not http://127.0.0.1", fixed},
		{"another host", region, "https://kms.evil.example", "not http://127.0.0.1", fixed},
		{"https", region, "https://127.0.0.1" + port, "not http://127.0.0.1", fixed},
		{"user", region, "http://127.0.0.1:80@evil.example" + port, "not http://127.0.0.1", fixed},
		{"path", region, server.URL + "/x", "not http://127.0.0.1", fixed},
		{"no port", region, "http://127.0.0.1", "not http://127.0.0.1", fixed},
		{"no credentials", region, server.URL, "no credentials", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			waits := 0
			cfg := New(c.region, c.provider, Options{Endpoint: c.endpoint, Backoff: func(int) time.Duration { waits++; return 0 }})
			cfg.Region = region // the SDK has a check of its own, in front of ours
			err := Classify("kms:GetPublicKey", describe(t, cfg))
			if !strings.Contains(err.Error(), c.says) || !errors.Is(err, ErrRemote) {
				t.Errorf("got %v", err)
			}
			if waits > 0 || hit {
				t.Errorf("%d repetitions, called %v", waits, hit)
			}
		})
	}
}

// Whatever the SDK makes of an address, a request goes nowhere else.
func TestAddresses(t *testing.T) {
	reached := errors.New("reached")
	for _, c := range []struct {
		endpoint, url string
		goes          bool
	}{
		{"", "https://kms.xx-test-1.amazonaws.com/", true},
		{"", "https://bucket.s3.xx-test-1.amazonaws.com/key", true},
		{"", "http://kms.xx-test-1.amazonaws.com/", false},
		{"", "https://kms.xx-test-1.amazonaws.com:8443/", false},
		{"", "https://kms.us-east-1.amazonaws.com/", false},
		{"", "https://kms.xx-test-1.amazonaws.com.evil.example/", false},
		{"", "https://evil-xx-test-1.amazonaws.com/", false},
		{"", "https://169.254.169.254/", false},
		{"http://127.0.0.1:4566", "http://127.0.0.1:4566/", true},
		{"http://127.0.0.1:4566", "http://127.0.0.1:4567/", false},
		{"http://127.0.0.1:4566", "https://127.0.0.1:4566/", false},
		{"http://127.0.0.1:4566", "https://kms.xx-test-1.amazonaws.com/", false},
	} {
		d := New(region, fixed, Options{Endpoint: c.endpoint}).HTTPClient.(*doer)
		d.http.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, reached }
		r, err := http.NewRequest(http.MethodPost, c.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := d.Do(r)
		if err == nil {
			_ = response.Body.Close()
		}
		if errors.Is(err, reached) != c.goes {
			t.Errorf("endpoint %q, %s: %v", c.endpoint, c.url, err)
		}
		if r, ok := errors.AsType[Refused](err); !c.goes && (!ok || r.RetryableError()) {
			t.Errorf("%s: the refusal would be repeated: %v", c.url, err)
		}
	}
}

func TestEnvironmentCredentials(t *testing.T) {
	good := []string{"AWS_ACCESS_KEY_ID=ASIAEXAMPLE", "HOME=/", "AWS_SECRET_ACCESS_KEY=sEcReT+/=", "AWS_SESSION_TOKEN=tOkEn=="}
	p, err := EnvironmentCredentials(good)
	if err != nil {
		t.Fatal(err)
	}
	c, err := p.Retrieve(t.Context())
	if err != nil || c.AccessKeyID != "ASIAEXAMPLE" || c.SecretAccessKey != "sEcReT+/=" || c.SessionToken != "tOkEn==" || c.CanExpire {
		t.Errorf("got %v", err)
	}
	shown := fmt.Sprintf("%v %+v %#v %s %x %d", p, p, p, p, p, p)
	asJSON, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if shown += string(asJSON); strings.Contains(shown, "sEcReT") || strings.Contains(shown, "tOkEn") || strings.Contains(shown, fmt.Sprintf("%x", "sEcReT")) {
		t.Errorf("it prints as %s", shown)
	}
	for name, environ := range map[string][]string{
		"nothing":        nil,
		"no access key":  good[1:],
		"no secret":      {good[0], good[3]},
		"no token":       good[:3],
		"an empty token": {good[0], good[2], "AWS_SESSION_TOKEN="},
		"twice":          append([]string{"AWS_SESSION_TOKEN=tOkEn2"}, good...),
		"the same twice": append([]string{good[3]}, good...),
		"lower case":     {good[0], good[2], "aws_session_token=tOkEn"},
		"a line break":   {good[0], good[2], "AWS_SESSION_TOKEN=tOkEn\r\nHost: evil.example"},
		"a space":        {good[0], good[2] + " ", good[3]},
		"endless":        {good[0], good[2], "AWS_SESSION_TOKEN=" + strings.Repeat("tOkEn", 1<<14)},
	} {
		p, err := EnvironmentCredentials(environ)
		if !errors.Is(err, ErrCredentials) || p != nil {
			t.Errorf("%s: got %v", name, err)
			continue
		}
		for _, value := range []string{"ASIAEXAMPLE", "sEcReT", "tOkEn"} {
			if strings.Contains(err.Error(), value) {
				t.Errorf("%s: the error repeats a value: %v", name, err)
			}
		}
	}
}

// What a service answers decides the class; nothing has none.
func TestClassify(t *testing.T) {
	if Classify("kms:Encrypt", nil) != nil {
		t.Error("nil became an error")
	}
	cancelled := Classify("kms:Encrypt", &aws.RequestCanceledError{Err: context.Canceled})
	if !errors.Is(cancelled, context.Canceled) || errors.Is(cancelled, ErrRemote) || errors.Is(cancelled, ErrDenied) {
		t.Errorf("cancelled: %v", cancelled)
	}
	for _, c := range []struct {
		status int
		body   string
		class  error
		code   string
	}{
		{400, `{"__type":"AccessDeniedException","message":"User: x is not authorized"}`, ErrDenied, "AccessDeniedException"},
		{400, `{"__type":"com.amazonaws.kms#AccessDeniedException"}`, ErrDenied, "AccessDeniedException"},
		{400, `{"__type":"ExpiredTokenException"}`, ErrDenied, "ExpiredTokenException"},
		{400, `{"__type":"InvalidSignatureException"}`, ErrDenied, "InvalidSignatureException"},
		{400, `{"__type":"UnrecognizedClientException"}`, ErrDenied, "UnrecognizedClientException"},
		{403, `{"__type":"SomethingNew"}`, ErrDenied, "SomethingNew"},
		{403, `{"__type":"RequestThrottled"}`, ErrRemote, "RequestThrottled"},
		{400, `{"__type":"NotFoundException"}`, ErrRemote, "NotFoundException"},
		{400, `{"__type":"ThrottlingException"}`, ErrRemote, "ThrottlingException"},
		{500, `{"__type":"KMSInternalException"}`, ErrRemote, "KMSInternalException"},
		{503, ``, ErrRemote, ""},
		{200, `nonsense`, ErrRemote, ""},
		{400, `{"__type":"X","message":"\u001b[2Jgone` + strings.Repeat("x", 9999) + `"}`, ErrRemote, "X"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Amzn-Requestid", "request-1")
			w.Header().Set("Content-Type", "application/x-amz-json-1.1")
			w.WriteHeader(c.status)
			_, _ = w.Write([]byte(c.body))
		}))
		err := Classify("kms:GetPublicKey", describe(t, New(region, fixed, Options{Endpoint: server.URL, Backoff: once})))
		server.Close()
		f, ok := errors.AsType[*Fault](err)
		if !ok || !errors.Is(err, c.class) || errors.Is(err, ErrDenied) == errors.Is(err, ErrRemote) {
			t.Errorf("%d %.80s: %v", c.status, c.body, err)
			continue
		}
		if c.code != "" && f.Code != c.code || f.RequestID != "request-1" || f.Status != c.status || f.Operation != "kms:GetPublicKey" {
			t.Errorf("%d %.80s: %+v", c.status, c.body, *f)
		}
		if text := err.Error(); !strings.Contains(text, "request-1") || strings.ContainsAny(text, "\x1b\n") || len(text) > 600 {
			t.Errorf("%d %.80s: %q", c.status, c.body, text)
		}
	}
	made := Malformed("kms:Sign", "request-2", "a key %q", "k")
	if !errors.Is(made, ErrRemote) || !strings.Contains(made.Error(), "request-2") || !strings.Contains(made.Error(), `k`) {
		t.Errorf("got %v", made)
	}
}

// The package that reads files and variables must not come back.
func TestImports(t *testing.T) {
	for _, name := range []string{"session.go", "fault.go"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"aws-sdk-go-v2/config", "os.Getenv", "os.LookupEnv", "os.Environ(", "ProxyFromEnvironment", "DefaultTransport", "SystemCertPool"} {
			for i, line := range strings.Split(string(text), "\n") {
				code, _, _ := strings.Cut(line, "//")
				if strings.Contains(code, bad) {
					t.Errorf("%s:%d has %s", name, i+1, bad)
				}
			}
		}
	}
}
