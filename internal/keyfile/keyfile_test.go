package keyfile

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stakeseal/stakeseal/certificate"
)

func TestCreateAndOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "certifier.key")
	created, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Wipe()
	if !s.Public().Equal(created) || created.ID() == "" {
		t.Fatalf("created %s, opened %s", created, s.Public())
	}
	if id, err := s.KeyID(); err != nil || id != created.ID() {
		t.Fatalf("key id %q, %v", id, err)
	}
	sig, err := s.Sign(context.Background(), []byte("message"))
	if err != nil {
		t.Fatal(err)
	}
	if !created.Verify([]byte("message"), sig) || created.Verify([]byte("other"), sig) {
		t.Fatal("the signature is wrong")
	}
	if other, err := Create(path + "2"); err != nil || other.Equal(created) {
		t.Fatalf("a second key is the first: %v", err)
	}
}

// A key made here certifies a birth that a trust file with its text accepts:
// the two ends of the format meet.
func TestSignsForTrust(t *testing.T) {
	path := filepath.Join(t.TempDir(), "certifier.key")
	if _, err := Create(path); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Wipe()
	for _, text := range []string{s.Public().String(), s.Public().PEM()} {
		k, err := certificate.ParsePublicKey(text)
		if err != nil || !k.Equal(s.Public()) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestFileOnDisk(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o077, 0o777} {
		t.Run(fmt.Sprintf("umask %04o", umask), func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "certifier.key")
			old := syscall.Umask(umask)
			_, err := Create(path)
			syscall.Umask(old)
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode() != 0o400 {
				t.Errorf("mode %s", info.Mode())
			}
			wantOnly(t, dir, "certifier.key")
		})
	}
}

// wantOnly fails if a temporary file was left behind.
func wantOnly(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, names) {
		t.Errorf("the folder holds %q, want %q", got, names)
	}
}

func TestCreateRefusesWhatExists(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"file":          func(p string) error { return os.WriteFile(p, []byte("precious"), 0o600) },
		"empty file":    func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"folder":        func(p string) error { return os.Mkdir(p, 0o700) },
		"dangling link": func(p string) error { return os.Symlink("/nowhere", p) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "certifier.key")
			if err := make(path); err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadFile(path)
			if _, err := Create(path); !errors.Is(err, fs.ErrExist) {
				t.Fatalf("got %v", err)
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Error("the file changed")
			}
			wantOnly(t, dir, "certifier.key")
		})
	}
	if _, err := Create(filepath.Join(t.TempDir(), "no", "such", "folder")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a folder: %v", err)
	}
}

// Of several that create one path at once exactly one wins, and the file is
// the winner's.
func TestCreateRace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "certifier.key")
	var wg sync.WaitGroup
	won := make(chan certificate.PublicKey, 16)
	for range cap(won) {
		wg.Go(func() {
			k, err := Create(path)
			switch {
			case err == nil:
				won <- k
			case !errors.Is(err, fs.ErrExist):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	close(won)
	if len(won) != 1 {
		t.Fatalf("%d winners", len(won))
	}
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if k := <-won; !s.Public().Equal(k) {
		t.Error("the file is not the winner's")
	}
	wantOnly(t, dir, "certifier.key")
}

// fixed is a key whose every encoding the tests below search errors for.
func fixed() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte("0123456789abcdefghijklmnopqrstuv"))
}

func pemOf(t *testing.T, kind string, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func TestOpenRefuses(t *testing.T) {
	good := pemOf(t, pemType, fixed())
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	file := func(data []byte, perm os.FileMode) func(string) error {
		return func(p string) error {
			if err := os.WriteFile(p, data, 0o600); err != nil {
				return err
			}
			return os.Chmod(p, perm)
		}
	}
	broken := bytes.Clone(good)
	broken[len(broken)/2] = '!'
	for _, c := range []struct {
		name string
		make func(path string) error
		want error // nil: it opens
	}{
		{"0400", file(good, 0o400), nil},
		{"0600", file(good, 0o600), nil},
		{"0440", file(good, 0o440), ErrUnsafe},
		{"0404", file(good, 0o404), ErrUnsafe},
		{"0620", file(good, 0o620), ErrUnsafe},
		{"0602", file(good, 0o602), ErrUnsafe},
		{"0410", file(good, 0o410), ErrUnsafe},
		{"nothing", func(string) error { return nil }, fs.ErrNotExist},
		{"symbolic link", func(p string) error {
			return errors.Join(file(good, 0o400)(p+".real"), os.Symlink(p+".real", p))
		}, ErrUnsafe},
		{"hard link", func(p string) error {
			return errors.Join(file(good, 0o400)(p), os.Link(p, p+".copy"))
		}, ErrUnsafe},
		{"folder", func(p string) error { return os.Mkdir(p, 0o700) }, ErrUnsafe},
		{"pipe without a writer", func(p string) error { return syscall.Mkfifo(p, 0o600) }, ErrUnsafe},
		{"empty", file(nil, 0o400), certificate.ErrFormat},
		{"huge", file(bytes.Repeat(good, 40), 0o400), certificate.ErrFormat},
		{"not PEM", file([]byte(hex.EncodeToString(fixed().Seed())), 0o400), certificate.ErrFormat},
		{"two keys", file(append(bytes.Clone(good), good...), 0o400), certificate.ErrFormat},
		{"text before", file(append([]byte("x\n"), good...), 0o400), certificate.ErrFormat},
		{"text after", file(append(bytes.Clone(good), 'x'), 0o400), certificate.ErrFormat},
		{"broken base64", file(broken, 0o400), certificate.ErrFormat},
		{"cut", file(good[:len(good)-10], 0o400), certificate.ErrFormat},
		{"with a header", file([]byte(strings.Replace(string(good), "KEY-----\n", "KEY-----\nA: b\n\n", 1)), 0o400), certificate.ErrFormat},
		{"encrypted", file(pemOf(t, "ENCRYPTED PRIVATE KEY", fixed()), 0o400), certificate.ErrFormat},
		{"OpenSSH label", file(pemOf(t, "OPENSSH PRIVATE KEY", fixed()), 0o400), certificate.ErrFormat},
		{"P-256", file(pemOf(t, pemType, p256), 0o400), certificate.ErrFormat},
		{"not PKCS#8", file(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: fixed()}), 0o400), certificate.ErrFormat},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "certifier.key")
			if err := c.make(path); err != nil {
				t.Fatal(err)
			}
			s, err := Open(path)
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || (err == nil) != (s != nil) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err != nil {
				wantNoSecret(t, err.Error())
			}
		})
	}
}

// wantNoSecret fails if text holds the fixed key in a usual encoding.
func wantNoSecret(t *testing.T, text string) {
	t.Helper()
	key := fixed().Seed()
	decimal := strings.Trim(fmt.Sprint(key), "[]")
	for _, whole := range []string{decimal, strings.ReplaceAll(decimal, " ", ", ")} {
		if strings.Contains(text, whole) {
			t.Fatalf("%q holds the key as %q", text, whole)
		}
	}
	// PKCS#8 of Ed25519 is 16 bytes that are the same for every key, then it:
	// from the 22nd base64 digit on they are the key's own.
	body := strings.Split(string(pemOf(t, pemType, fixed())), "\n")[1][22:]
	for _, form := range []string{string(key), hex.EncodeToString(key), base64.StdEncoding.EncodeToString(key), body} {
		for i := 0; i+8 <= len(form); i++ { // a part of eight characters is a part too many
			if strings.Contains(strings.ToLower(text), strings.ToLower(form[i:i+8])) {
				t.Fatalf("%q holds %q of the key", text, form[i:i+8])
			}
		}
	}
}

func TestSignerShowsNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "certifier.key")
	if err := os.WriteFile(path, pemOf(t, pemType, fixed()), 0o400); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		wantNoSecret(t, fmt.Sprintf(verb, s))
		wantNoSecret(t, fmt.Sprintf(verb, *s))
	}
	if got, want := s.String(), s.Public().String(); got != want {
		t.Errorf("prints %q, want %q", got, want)
	}
	buffer := s.private.Expose()
	s.Wipe()
	if !bytes.Equal(buffer, make([]byte, ed25519.PrivateKeySize)) {
		t.Error("Wipe leaves the key")
	}
	if sig, err := s.Sign(context.Background(), nil); err == nil || sig != nil {
		t.Error("a wiped key signs")
	}
	s.Wipe()
}

func TestSignerFailures(t *testing.T) {
	var zero Signer
	if _, err := zero.Sign(context.Background(), nil); err == nil {
		t.Error("the zero value signs")
	}
	if id, err := zero.KeyID(); err == nil || id != "" {
		t.Error("the zero value has a key id")
	}
	path := filepath.Join(t.TempDir(), "certifier.key")
	if _, err := Create(path); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Sign(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of its context: %v", err)
	}
}

// openssl reads the file, and verifies with the PEM what Sign signed.
func TestOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no openssl")
		}
		t.Skip("no openssl")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "certifier.key")
	k, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(openssl, "pkey", "-in", path, "-pubout").CombinedOutput()
	if err != nil || string(out) != k.PEM() {
		t.Fatalf("openssl says %q, %v", out, err)
	}
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	message, sig, pub := filepath.Join(dir, "message"), filepath.Join(dir, "sig"), filepath.Join(dir, "pub")
	signature, err := s.Sign(context.Background(), []byte("message"))
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{message: []byte("message"), sig: signature, pub: []byte(k.PEM())} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err = exec.Command(openssl, "pkeyutl", "-verify", "-pubin", "-inkey", pub, "-rawin", "-in", message, "-sigfile", sig).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl says %q, %v", out, err)
	}
}

// A key that openssl made opens.
func TestOpensOpenSSLKeys(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl")
	}
	path := filepath.Join(t.TempDir(), "certifier.key")
	if out, err := exec.Command(openssl, "genpkey", "-algorithm", "ed25519", "-out", path).CombinedOutput(); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err != nil {
		t.Fatal(err)
	}
}

// The generator links this package: nothing that opens secrets or runs
// programs may come along (ARCHITECTURE.md, "The generator").
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, "github.com/stakeseal/stakeseal/certificate") {
		t.Fatalf("go list says nothing of certificate: %q", deps)
	}
	const ours = "github.com/stakeseal/stakeseal/"
	allowed := []string{ours + "certificate", ours + "eth", ours + "secret", ours + "internal/keyfile"}
	for _, dep := range deps {
		switch {
		case slices.Contains([]string{"os/exec", "net/rpc", "net/http", "text/template", "html/template", "plugin"}, dep):
			t.Errorf("imports %s", dep)
		case strings.HasPrefix(dep, ours) && !slices.Contains(allowed, dep):
			t.Errorf("imports %s", dep)
		}
	}
}

// FuzzParse: what parses signs under its own public key; errors hold nothing
// of a key.
func FuzzParse(f *testing.F) {
	der, err := x509.MarshalPKCS8PrivateKey(fixed())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "k")
		if len(data) > maxSize {
			return
		}
		if err := os.WriteFile(path, data, 0o400); err != nil {
			t.Fatal(err)
		}
		s, err := Open(path)
		if err != nil {
			if s != nil || len(err.Error()) > 600 {
				t.Fatalf("signer %v, error %q", s, err)
			}
			return
		}
		sig, err := s.Sign(context.Background(), data)
		if err != nil || !s.Public().Verify(data, sig) {
			t.Fatalf("does not sign: %v", err)
		}
	})
}

func TestFuzzTargetsHaveSeeds(t *testing.T) {
	seeds, err := filepath.Glob(filepath.Join("testdata", "fuzz", "FuzzParse", "*"))
	if err != nil || len(seeds) == 0 {
		t.Errorf("FuzzParse has no seed in testdata/fuzz: %v", err)
	}
}
