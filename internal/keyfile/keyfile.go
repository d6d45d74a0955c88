// Package keyfile keeps a certifying key in a file: an Ed25519 private key as
// PKCS#8 PEM, which "openssl pkey -in certifier.key -text" reads.
//
// It promises that a key file is created whole or not at all, over nothing
// that exists, readable by its owner only, and that Open refuses a file that
// others could have read or that is reached through a link. It trusts the
// file system to keep the owner's files from other users: root, and whoever
// runs as the owner, can read the key. A key that must not be readable on the
// machine that uses it belongs into KMS.
//
// It is linked into the generator.
package keyfile

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/secret"
)

// ErrUnsafe is what a file wraps that others could have read or replaced:
// wrong mode, not a plain file, or more than one name.
var ErrUnsafe = errors.New("unsafe key file")

const (
	pemType = "PRIVATE KEY" // PKCS#8, RFC 5958
	mode    = 0o400
	maxSize = 4096
)

// Create makes a new key and writes it to path, which must not exist (an
// error that is fs.ErrExist). When it returns nil the file is complete and
// durable; when it returns an error it has left no file at path, or, if only
// tidying up after it or the last sync of the directory failed, a complete
// one, never a part.
func Create(path string) (certificate.PublicKey, error) {
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return certificate.PublicKey{}, fmt.Errorf("couldn't create key: %w", err)
	}
	defer secret.Wipe(private)
	public, err := certificate.NewPublicKey(pub)
	if err != nil {
		return certificate.PublicKey{}, fmt.Errorf("couldn't create key: %w", err)
	}
	text, err := encode(private)
	if err != nil {
		return certificate.PublicKey{}, fmt.Errorf("couldn't create key: %w", err)
	}
	defer text.Wipe()
	if err := writeNew(path, text); err != nil {
		return certificate.PublicKey{}, fmt.Errorf("couldn't create key file: %w", err)
	}
	return public, nil
}

func encode(private ed25519.PrivateKey) (*secret.Bytes, error) {
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe(der)
	return secret.Take(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})), nil
}

// writeNew writes beside path and links the finished file to its name: link
// fails if the name is taken, so nothing is overwritten, and a crash leaves
// either no file at path or the whole one.
func writeNew(path string, text *secret.Bytes) (err error) {
	dir := filepath.Dir(path)
	var random [8]byte
	rand.Read(random[:])
	temp := filepath.Join(dir, ".new-"+hex.EncodeToString(random[:]))
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, mode)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, os.Remove(temp))
		if err == nil {
			err = syncDir(dir)
		}
	}()
	if _, err := f.Write(text.Expose()); err != nil {
		return errors.Join(err, f.Close())
	}
	// The umask may have taken bits away, never added any; the mode is set
	// again so that the file is the same under every umask.
	if err := errors.Join(f.Chmod(mode), f.Sync()); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Link(temp, path)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Signer is an opened certifying key. It is safe for concurrent use until
// Wipe, and prints its public half only.
type Signer struct {
	private *secret.Bytes // ed25519.PrivateKey
	public  certificate.PublicKey
}

var _ certificate.Signer = (*Signer)(nil)

// Open reads the key file once, from the descriptor whose mode it has
// checked. It refuses (ErrUnsafe) a symbolic link, a second hard link, a
// file that group or others may touch and anything but a plain file, and
// (certificate.ErrFormat) anything but one unencrypted Ed25519 PKCS#8 PEM
// block. No error holds a byte of the file.
func Open(path string) (*Signer, error) {
	text, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("couldn't open key file %q: %w", path, err)
	}
	defer text.Wipe()
	s, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("couldn't open key file %q: %w", path, err)
	}
	return s, nil
}

func read(path string) (*secret.Bytes, error) {
	// O_NONBLOCK: a pipe in the file's place must not hang the generator.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%w: it is a symbolic link", ErrUnsafe)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := safe(info); err != nil {
		return nil, err
	}
	// One byte more than the file has, so that one that grew is seen.
	text := secret.New(int(info.Size()) + 1)
	n, err := io.ReadFull(f, text.Expose())
	if !errors.Is(err, io.ErrUnexpectedEOF) || int64(n) != info.Size() {
		text.Wipe()
		return nil, errors.Join(errors.New("the file changed while it was read"), err)
	}
	whole := secret.Copy(text.Expose()[:n])
	text.Wipe()
	return whole, nil
}

func safe(info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: it is not a plain file (%s)", ErrUnsafe, info.Mode().Type())
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return fmt.Errorf("%w: its mode is %04o; others may touch it (chmod 0400, and replace the key if they have)", ErrUnsafe, perm)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Nlink != 1 {
		return fmt.Errorf("%w: it has %d names; remove the other hard links", ErrUnsafe, stat.Nlink)
	}
	if info.Size() == 0 || info.Size() > maxSize {
		return fmt.Errorf("%w: key file has %d bytes, not 1 to %d", certificate.ErrFormat, info.Size(), maxSize)
	}
	return nil
}

func parse(text *secret.Bytes) (*Signer, error) {
	block, rest := pem.Decode(text.Expose())
	if block == nil {
		return nil, fmt.Errorf("%w: it is not PEM", certificate.ErrFormat)
	}
	defer secret.Wipe(block.Bytes)
	if block.Type != pemType || len(block.Headers) > 0 || len(rest) > 0 || !bytes.HasPrefix(text.Expose(), []byte("-----BEGIN")) {
		return nil, fmt.Errorf("%w: it is not exactly one PEM block %s", certificate.ErrFormat, pemType)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil { // its text names types and lengths, but not ours to vouch for
		return nil, fmt.Errorf("%w: it is not a PKCS#8 key", certificate.ErrFormat)
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: it is a %T, not an Ed25519 key", certificate.ErrFormat, key)
	}
	s := &Signer{private: secret.Take(private)}
	s.public, err = certificate.NewPublicKey(private.Public())
	if err != nil {
		s.Wipe()
		return nil, err
	}
	return s, nil
}

// Sign returns the 64 bytes of the Ed25519 signature of data.
func (s *Signer) Sign(ctx context.Context, data []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.private.Len() != ed25519.PrivateKeySize {
		return nil, errors.New("couldn't sign: the key is wiped or was never opened")
	}
	return ed25519.Sign(s.private.Expose(), data), nil
}

// KeyID returns the public half's ID.
func (s *Signer) KeyID() (string, error) {
	id := s.public.ID()
	if id == "" {
		return "", errors.New("the key was never opened")
	}
	return id, nil
}

// Public returns the public half; its String is the "ed25519:BASE64" of a
// trust file, its PEM what openssl reads.
func (s *Signer) Public() certificate.PublicKey { return s.public }

// String names the key by its public half.
func (s Signer) String() string { return s.public.String() }

// Format prints String for every verb, of a Signer and of a copy of one: with
// a verb that does not fit, such as %s, fmt looks behind the pointers of
// unexported fields, where no Formatter is asked.
func (s Signer) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// Wipe overwrites the private half; Sign fails from then on.
func (s *Signer) Wipe() { s.private.Wipe() }
