package signer

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
)

// Clients says who asks: by a bearer token, by a client certificate, or, where
// only this machine can ask, by nothing.
type Clients struct {
	anyone       *Client
	tokens       map[[32]byte]*Client // by the token's sha256: looking one up tells no time
	certificates map[[32]byte]*Client // by the certificate's sha256
}

// NewClients makes an empty list: nobody may ask.
func NewClients() *Clients {
	return &Clients{tokens: map[[32]byte]*Client{}, certificates: map[[32]byte]*Client{}}
}

// Anyone lets everybody who can connect be c. See Exposed. Whatever c was
// granted, the keymanager API is for those who are known: see managed.
func (l *Clients) Anyone(c *Client) { l.anyone = c }

// MinToken is the least length of a token, bytes: 128 bits in hex.
const MinToken = 32

// Token lets whoever sends a token be c. The token stays the caller's, to
// wipe; only its hash is kept.
func (l *Clients) Token(token []byte, c *Client) error {
	if len(token) < MinToken {
		return fmt.Errorf("the token of client %q has %d bytes, not at least %d", c.Name, len(token), MinToken)
	}
	for _, b := range token {
		if b <= ' ' || b > '~' {
			return fmt.Errorf("the token of client %q is not one word of printable ASCII", c.Name)
		}
	}
	sum := sha256.Sum256(token)
	if l.tokens[sum] != nil {
		return fmt.Errorf("clients %q and %q have the same token", l.tokens[sum].Name, c.Name)
	}
	l.tokens[sum] = c
	return nil
}

// Certificate lets whoever proves to hold this certificate's key be c.
func (l *Clients) Certificate(cert *x509.Certificate, c *Client) error {
	sum := sha256.Sum256(cert.Raw)
	if l.certificates[sum] != nil {
		return fmt.Errorf("clients %q and %q have the same certificate", l.certificates[sum].Name, c.Name)
	}
	l.certificates[sum] = c
	return nil
}

// who is the client of a request.
func (l *Clients) who(r *http.Request) (*Client, bool) {
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		if c := l.certificates[sha256.Sum256(r.TLS.PeerCertificates[0].Raw)]; c != nil {
			return c, true
		}
	}
	if kind, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(kind, "Bearer") {
		if c := l.tokens[sha256.Sum256([]byte(strings.TrimSpace(token)))]; c != nil {
			return c, true
		}
		return nil, false // a wrong token is never taken for none
	}
	return l.anyone, l.anyone != nil
}

// ErrExposed: others than this machine could ask without saying who they are.
var ErrExposed = errors.New("off loopback, clients must be known and the connection encrypted")

// Exposed refuses to listen where more than this machine can connect, unless
// every client is known by a token or certificate and the connection is TLS:
// a token in the clear is everybody's.
func (l *Clients) Exposed(listen string, encrypted bool) error {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("the address to listen on, %q: %w", listen, err)
	}
	switch {
	case loopback(host):
		return nil
	case l.anyone != nil || len(l.tokens)+len(l.certificates) == 0:
		return fmt.Errorf("%w: %s needs clients with tokens or certificates", ErrExposed, listen)
	case !encrypted:
		return fmt.Errorf("%w: %s needs a TLS certificate", ErrExposed, listen)
	}
	return nil
}

// loopback says whether only this machine can be meant by a host.
func loopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// TLS is the server's side: TLS 1.3, and where clients have certificates it
// asks for one. Which certificates count is the list's to say, each by
// itself: no authority signs clients in.
func (l *Clients) TLS(cert tls.Certificate) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}}
	if len(l.certificates) == 0 {
		return config
	}
	config.ClientAuth = tls.RequestClientCert
	if len(l.tokens) == 0 {
		config.ClientAuth = tls.RequireAnyClientCert
	}
	config.VerifyPeerCertificate = func(raw [][]byte, _ [][]*x509.Certificate) error {
		if len(raw) > 0 && l.certificates[sha256.Sum256(raw[0])] == nil {
			return errors.New("a client certificate that is not known here")
		}
		return nil
	}
	return config
}
