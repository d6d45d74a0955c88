package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/duty"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/signer"
)

// signerSettings are what one signer obeys: signers/NAME.yaml in the home. A
// signer without the file listens on loopback, to everybody there.
type signerSettings struct {
	Version       int           `yaml:"version"`
	Listen        string        `yaml:"listen"`
	Metrics       string        `yaml:"metrics"`
	Hosts         []string      `yaml:"hosts"`
	TLS           *signerTLS    `yaml:"tls"`
	FeeRecipients []string      `yaml:"fee_recipients"`
	Clients       []clientEntry `yaml:"clients"`

	dir  string // that files in it are relative to
	fees []eth.Address
}

type signerTLS struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

type clientEntry struct {
	Name        string   `yaml:"name"`
	Token       string   `yaml:"token"`       // a file
	Certificate string   `yaml:"certificate"` // a file, PEM
	Operations  []string `yaml:"operations"`
	Keys        []string `yaml:"keys"`
}

const (
	signersFolder  = "signers"
	defaultListen  = "127.0.0.1:9000"
	defaultMetrics = "127.0.0.1:9001"
)

// signerPath is a file of a signer's in the home.
func (h *home) signerPath(name, end string) string {
	return filepath.Join(h.dir, signersFolder, name+end)
}

func (h *home) signerSettings(name string) (*signerSettings, error) {
	path := h.signerPath(name, ".yaml")
	s := &signerSettings{Version: 1, dir: filepath.Dir(path)}
	data, err := readBounded(path, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		data, err = nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't read the signer's settings: %w", err)
	}
	bad := func(format string, args ...any) (*signerSettings, error) {
		return nil, fmt.Errorf("%w: %s: %w", config.ErrSettings, path, fmt.Errorf(format, args...))
	}
	if data != nil {
		s.Version = 0
		if err := certificate.DecodeYAML(data, s); err != nil {
			return bad("%w", err)
		}
	}
	if s.Version != 1 {
		return bad("version is %d, this program reads 1", s.Version)
	}
	if s.Listen == "" {
		s.Listen = defaultListen
	}
	if s.Metrics == "" {
		s.Metrics = defaultMetrics
	}
	if s.TLS != nil && (s.TLS.Certificate == "" || s.TLS.Key == "") {
		return bad("tls needs a certificate and a key, both files")
	}
	for i, host := range s.Hosts {
		s.Hosts[i] = strings.ToLower(host)
	}
	for _, text := range s.FeeRecipients {
		address, err := eth.ParseAddress(text)
		if err != nil {
			return bad("fee_recipients: %w", err)
		}
		s.fees = append(s.fees, address)
	}
	return s, nil
}

// at resolves a file that the settings name.
func (s *signerSettings) at(file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(s.dir, file)
}

// clients are those that the settings name; with none, everybody who can
// connect to loopback may ask for duties.
func (s *signerSettings) clients() (*signer.Clients, error) {
	list := signer.NewClients()
	if len(s.Clients) == 0 {
		list.Anyone(&signer.Client{Name: "loopback", Operations: signer.Duties()})
		return list, nil
	}
	var names []string
	for i, e := range s.Clients {
		bad := func(format string, args ...any) (*signer.Clients, error) {
			return nil, fmt.Errorf("%w: clients: %q: %w", config.ErrSettings, e.Name, fmt.Errorf(format, args...))
		}
		if err := config.CheckName("client", e.Name); err != nil {
			return bad("entry %d: %w", i+1, err)
		}
		if slices.Contains(names, e.Name) {
			return bad("it is named twice")
		}
		names = append(names, e.Name)
		client, err := e.client()
		if err != nil {
			return bad("%w", err)
		}
		if (e.Token == "") == (e.Certificate == "") {
			return bad("give it a token or a certificate, a file each")
		}
		if e.Token != "" {
			if err := addToken(list, s.at(e.Token), client); err != nil {
				return bad("%w", err)
			}
			continue
		}
		cert, err := readCertificate(s.at(e.Certificate))
		if err == nil {
			err = list.Certificate(cert, client)
		}
		if err != nil {
			return bad("%w", err)
		}
	}
	return list, nil
}

// client is an entry's grants. "duties" stands for what a validator client
// needs day by day.
func (e clientEntry) client() (*signer.Client, error) {
	c := &signer.Client{Name: e.Name}
	if len(e.Operations) == 0 {
		c.Operations = signer.Duties()
	}
	for _, name := range e.Operations {
		switch {
		case name == "duties":
			c.Operations = append(c.Operations, signer.Duties()...)
		case name == "KEYMANAGER":
			c.Rights = append(c.Rights, signer.Rights()...)
		case slices.Contains(signer.Rights(), signer.Right(name)):
			c.Rights = append(c.Rights, signer.Right(name))
		case slices.Contains(duty.Kinds(), duty.Kind(name)):
			c.Operations = append(c.Operations, duty.Kind(name))
		default:
			return nil, fmt.Errorf("operations: %q is neither duties nor a type of request, and no right of the keymanager API", name)
		}
	}
	if e.Keys == nil {
		return c, nil
	}
	c.Keys = map[eth.Pubkey]bool{}
	for _, text := range e.Keys {
		pubkey, err := eth.ParsePubkey(text)
		if err != nil {
			return nil, fmt.Errorf("keys: %w", err)
		}
		c.Keys[pubkey] = true
	}
	return c, nil
}

// addToken takes a client's token from its file, which nobody else may read.
func addToken(list *signer.Clients, path string, c *signer.Client) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("token %s: others may read it: chmod 600", path)
	}
	token, err := readToken(path)
	if err != nil {
		return err
	}
	defer token.Wipe()
	return list.Token(token.Expose(), c)
}

func readCertificate(path string) (*x509.Certificate, error) {
	data, err := readBounded(path, 1<<20)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s holds no certificate (PEM)", path)
	}
	return x509.ParseCertificate(block.Bytes)
}

// serverTLS is the server's own certificate; nil: none.
func (s *signerSettings) serverTLS(clients *signer.Clients) (*tls.Config, error) {
	if s.TLS == nil {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(s.at(s.TLS.Certificate), s.at(s.TLS.Key))
	if err != nil {
		return nil, fmt.Errorf("couldn't use the TLS certificate: %w", err)
	}
	return clients.TLS(cert), nil
}
