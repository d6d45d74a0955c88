package ops

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/smithy-go/logging"

	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/session"
)

// network is how this package reaches the services that hand out credentials.
type network struct {
	dial  func(ctx context.Context, kind, address string) (net.Conn, error)
	roots *x509.CertPool // nil: those of a system that heeds no variable
}

// outside is the real one.
func outside() network {
	t := session.Transport()
	return network{t.DialContext, t.TLSClientConfig.RootCAs}
}

// find finds credentials where the AWS tools look: environment, profile, SSO,
// web identity, container, instance role. Nothing else of that configuration
// is used: the services that are asked on the way (an SSO portal, STS) are
// asked at their own addresses, over TLS that believes the system's
// authorities only, through no proxy. What is sent there, such as the token of
// a web identity, is worth as much as what it buys.
func find(ctx context.Context, region string, n network, mfa func(device string) (string, error), more ...func(*config.LoadOptions) error) (aws.CredentialsProvider, error) {
	remote, err := n.client()
	if err != nil {
		return nil, err
	}
	believed, err := nobody()
	if err != nil {
		return nil, err
	}
	local := &door{client: &http.Client{
		Transport:     &http.Transport{DialContext: (&net.Dialer{Timeout: time.Second}).DialContext},
		Timeout:       5 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	// The SDK's own switch: without it endpoint_url of a profile and
	// AWS_ENDPOINT_URL would say where sessions are asked for.
	if err := os.Setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"); err != nil {
		return nil, err
	}
	cfg, err := config.LoadDefaultConfig(ctx, append(more,
		config.WithRegion(region),
		config.WithLogger(logging.Nop{}),
		config.WithHTTPClient(remote),
		config.WithCustomCABundle(believed),
		config.WithUseFIPSEndpoint(aws.FIPSEndpointStateDisabled),
		config.WithUseDualStackEndpoint(aws.DualStackEndpointStateDisabled),
		config.WithEC2RoleCredentialOptions(func(r *ec2rolecreds.Options) {
			r.Client = imds.New(imds.Options{HTTPClient: local, EnableFallback: aws.FalseTernary})
		}),
		config.WithEndpointCredentialOptions(func(e *endpointcreds.Options) { e.HTTPClient = local }),
		config.WithAssumeRoleCredentialOptions(func(r *stscreds.AssumeRoleOptions) {
			if device := aws.ToString(r.SerialNumber); mfa != nil {
				r.TokenProvider = func() (string, error) { return mfa(device) }
			}
		}),
	)...)
	if err != nil {
		return nil, unusable(err)
	}
	return &found{cfg.Credentials}, nil
}

// client reaches the services that hand out credentials, and nothing else. It
// is of the SDK's own type: to another one it adds no authorities, and fails
// where a profile names some.
func (n network) client() (*awshttp.BuildableClient, error) {
	roots := n.roots
	if roots == nil {
		var err error
		if roots, err = x509.SystemCertPool(); err != nil {
			return nil, fmt.Errorf("couldn't read the system's certificate authorities: %w", err)
		}
	}
	roots = roots.Clone() // the SDK adds to it
	return awshttp.NewBuildableClient().WithTimeout(15 * time.Second).WithTransportOptions(func(t *http.Transport) {
		t.Proxy = nil
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
		t.DialContext = func(ctx context.Context, kind, address string) (net.Conn, error) {
			if !awsAddress(address) {
				return nil, session.Refused(fmt.Sprintf("asking for credentials would go to %q, which is no such place of AWS", clip(address)))
			}
			return n.dial(ctx, kind, address)
		}
	}), nil
}

// found are the credentials that were found, asked again when they expire.
type found struct{ aws.CredentialsProvider }

// Retrieve marks failures, so that they are not taken for those of the
// service that was to be called.
func (f *found) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c, err := f.CredentialsProvider.Retrieve(ctx)
	if err == nil && !c.HasKeys() {
		err = errors.New("there are none")
	}
	if err != nil {
		return aws.Credentials{}, unusable(err)
	}
	return c, nil
}

// Format prints no field under any verb.
func (*found) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[credentials]")) }

// unusable is session.ErrCredentials, saying why. What a file held is not in
// the SDK's errors; a cancelled search stays one.
func unusable(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %w", session.ErrCredentials, err)
}

// door lets requests out to the metadata services of instances and
// containers, and to this machine.
type door struct{ client *http.Client }

var _ aws.HTTPClient = (*door)(nil)

// Do refuses a request to anywhere else.
func (d *door) Do(r *http.Request) (*http.Response, error) {
	if !localHost(r.URL.Scheme, r.URL.Hostname()) {
		return nil, session.Refused(fmt.Sprintf("asking for credentials would go to %q, which is not on this machine", clip(r.URL.Host)))
	}
	return d.client.Do(r)
}

var (
	serviceHost = regexp.MustCompile(`^(?:sts|oidc|portal\.sso)\.([a-z0-9-]+)\.([a-z.]+)$`)
	signinHost  = regexp.MustCompile(`^([a-z0-9-]+)\.signin\.(aws\.amazon\.com|amazonaws\.cn|amazonaws-us-gov\.com|amazonaws-eusc\.eu)$`)
)

// awsAddress: the services that hand out credentials, in any region, because an
// SSO portal stands where its organisation put it.
func awsAddress(address string) bool {
	host, ok := strings.CutSuffix(address, ":443")
	if !ok {
		return false
	}
	if m := serviceHost.FindStringSubmatch(host); m != nil {
		return arn.GoodRegion(m[1]) && m[2] == arn.Suffix(arn.Partition(m[1]))
	}
	m := signinHost.FindStringSubmatch(host)
	return m != nil && arn.GoodRegion(m[1])
}

// localHost: the metadata services of instances and containers, and this
// machine.
func localHost(scheme, host string) bool {
	if scheme != "http" && scheme != "https" {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	switch ip.Unmap().String() {
	case "169.254.169.254", "fd00:ec2::254", "169.254.170.2", "169.254.170.23", "fd00:ec2::23":
		return true
	}
	return ip.IsLoopback()
}

// nobody is a certificate authority whose key no longer exists. The SDK takes
// the first bundle of authorities that it is given: this one stands before
// AWS_CA_BUNDLE and a profile's ca_bundle.
func nobody() (io.Reader, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{SerialNumber: big.NewInt(1)}, public, private)
	if err != nil {
		return nil, fmt.Errorf("couldn't make a certificate: %w", err)
	}
	return bytes.NewReader(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), nil
}
