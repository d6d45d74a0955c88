package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// freePort is an address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// selfSigned writes a certificate and its key.
func selfSigned(t *testing.T, cert, key string) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"signer.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &secret.PublicKey, secret)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// states are what status --json prints, by signer.
func (s *signerTest) states(args ...string) map[string]signerState {
	s.t.Helper()
	states := map[string]signerState{}
	for line := range strings.Lines(s.must(append([]string{"signer", "status", "--json"}, args...)...)) {
		var state signerState
		if err := json.Unmarshal([]byte(line), &state); err != nil {
			s.t.Fatalf("%v: %s", err, line)
		}
		states[state.Signer] = state
	}
	return states
}

// TestSignerStatusLive: the status asks the signers that run, on the addresses
// that their settings name, and takes no other signer for them.
func TestSignerStatusLive(t *testing.T) {
	s := newSignerTest(t, 2)
	s.must("signer", "init", "signer-a")
	s.must("signer", "init", "signer-b")
	listen, metrics := freePort(t), freePort(t)
	folder := filepath.Join(s.dir, "h", signersFolder)
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	plain := fmt.Sprintf("version: 1\nlisten: %s\nmetrics: %s\n", listen, metrics)
	write("signer-a.yaml", plain)
	write("signer-b.yaml", plain) // wrong: those are a's
	a := s.serve("signer-a", "--listen", listen, "--metrics", metrics)
	s.serve("signer-b")
	if code, _ := a.attest(s.keys[0], 100, 101, 1); code != 200 {
		t.Fatal(code)
	}
	if code, _ := a.attest(s.keys[0], 100, 101, 2); code != 412 {
		t.Fatal(code)
	}
	states := s.states("--live")
	live := states["signer-a"].Live
	if live == nil || live.Health != "UP" || live.Keys != 2 || live.Signed != 1 || live.Refused != 1 || live.Epoch != states["signer-a"].Epoch || live.P50 == nil || *live.P50 <= 0 || live.Trouble != "" {
		t.Errorf("signer-a: %+v", live)
	}
	if live := states["signer-b"].Live; live == nil || live.Health != "" || live.Keys != 0 || !strings.Contains(live.Trouble, "another signer's") {
		t.Errorf("signer-a's numbers are shown as signer-b's: %+v", live)
	}
	if states := s.states(); states["signer-a"].Live != nil || states["signer-a"].Assigned != 2 {
		t.Errorf("without --live: %+v", states["signer-a"])
	}
	s.refused(2, "none", "signer", "status", "--watch")

	// On a terminal it is drawn until it is interrupted.
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminal: ", err)
	}
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := s.command("signer", "status", "--watch")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	twice := regexp.MustCompile(`(?s)signer-a +held +2 .* UP.*\x1b\[H.*signer-a +held +2 .* UP`)
	var screen bytes.Buffer
	part := make([]byte, 4096)
	for interrupted := false; ; {
		n, err := master.Read(part)
		screen.Write(part[:n])
		if err != nil {
			break
		}
		if !interrupted && twice.Match(screen.Bytes()) {
			interrupted = true
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil || !twice.Match(screen.Bytes()) {
		t.Errorf("%v\n%q", err, screen.String())
	}

	// Where clients must be known, a client's token goes with it, and only to
	// whoever has the settings' own certificate.
	a.end(syscall.SIGTERM)
	const token = "0123456789abcdef0123456789abcdef0123"
	write("vc.token", token)
	selfSigned(t, filepath.Join(folder, "server.pem"), filepath.Join(folder, "server.key"))
	selfSigned(t, filepath.Join(folder, "other.pem"), filepath.Join(folder, "other.key"))
	_, port, _ := net.SplitHostPort(metrics)
	known := fmt.Sprintf("version: 1\nlisten: %s\nmetrics: localhost:%s\nhosts: [signer.example]\nclients: [{name: vc, token: vc.token}]\n", listen, port)
	write("signer-a.yaml", known+"tls: {certificate: server.pem, key: server.key}\n")
	s.serve("signer-a", "--listen", listen, "--metrics", "localhost:"+port)
	if live := s.states("--live")["signer-a"].Live; live == nil || live.Health != "UP" || live.Keys != 2 {
		t.Errorf("over TLS: %+v", live)
	}
	write("signer-a.yaml", known+"tls: {certificate: other.pem, key: other.key}\n")
	if live := s.states("--live")["signer-a"].Live; live == nil || live.Health != "" || !strings.Contains(live.Trouble, "certificate is not that") {
		t.Errorf("another certificate: %+v", live)
	}
	// In the clear the token goes nowhere, whoever listens.
	heard := make(chan string, 8)
	thief, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer thief.Close()
	go func() {
		for {
			conn, err := thief.Accept()
			if err != nil {
				return
			}
			part := make([]byte, 4096)
			n, _ := conn.Read(part)
			heard <- string(part[:n])
			conn.Close()
		}
	}()
	write("signer-a.yaml", fmt.Sprintf("version: 1\nlisten: %[1]s\nmetrics: %[1]s\nclients: [{name: vc, token: vc.token}]\n", thief.Addr()))
	if live := s.states("--live")["signer-a"].Live; live == nil || live.Trouble == "" {
		t.Errorf("a port that answers nothing: %+v", live)
	}
	select {
	case text := <-heard:
		if !strings.Contains(text, "GET /metrics") || strings.Contains(text, token) {
			t.Errorf("it was sent in the clear: %q", text)
		}
	default:
		t.Error("the port was not asked: nothing is shown")
	}
}
