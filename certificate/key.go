package certificate

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
)

const ed25519Prefix = "ed25519:"

// PublicKey is the public half of a certifying key: Ed25519, or ECDSA on
// P-256 with sha256. Its zero value verifies nothing.
type PublicKey struct {
	key  crypto.PublicKey // ed25519.PublicKey or *ecdsa.PublicKey
	spki string           // SubjectPublicKeyInfo, DER
}

// NewPublicKey takes an ed25519.PublicKey or a P-256 *ecdsa.PublicKey; any
// other key is ErrFormat.
func NewPublicKey(pub crypto.PublicKey) (PublicKey, error) {
	switch k := pub.(type) {
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return PublicKey{}, fmt.Errorf("%w: an Ed25519 key has %d bytes, not %d", ErrFormat, len(k), ed25519.PublicKeySize)
		}
		pub = ed25519.PublicKey(bytes.Clone(k))
	case *ecdsa.PublicKey:
		if k == nil || k.Curve != elliptic.P256() {
			return PublicKey{}, fmt.Errorf("%w: an ECDSA key on another curve than P-256", ErrFormat)
		}
	default:
		return PublicKey{}, fmt.Errorf("%w: a key of type %T, neither Ed25519 nor ECDSA P-256", ErrFormat, pub)
	}
	der, err := x509.MarshalPKIXPublicKey(pub) // also refuses a point off the curve
	if err != nil {
		return PublicKey{}, fmt.Errorf("%w: key: %w", ErrFormat, err)
	}
	return PublicKey{pub, string(der)}, nil
}

// ParsePublicKey reads "ed25519:" and the base64 of 32 bytes, or one PEM
// block PUBLIC KEY (a SubjectPublicKeyInfo, Ed25519 or P-256). Anything else
// is ErrFormat.
func ParsePublicKey(text string) (PublicKey, error) {
	if b64, ok := strings.CutPrefix(text, ed25519Prefix); ok {
		raw, err := base64.StdEncoding.Strict().DecodeString(b64)
		if err != nil || base64.StdEncoding.EncodeToString(raw) != b64 {
			return PublicKey{}, fmt.Errorf("%w: key %q is not %s and base64", ErrFormat, clip(text), ed25519Prefix)
		}
		return NewPublicKey(ed25519.PublicKey(raw))
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil {
		return PublicKey{}, fmt.Errorf("%w: key %q is neither %sBASE64 nor PEM", ErrFormat, clip(text), ed25519Prefix)
	}
	if block.Type != "PUBLIC KEY" || len(block.Headers) > 0 || strings.TrimSpace(string(rest)) != "" ||
		!strings.HasPrefix(strings.TrimSpace(text), "-----BEGIN") {
		return PublicKey{}, fmt.Errorf("%w: key is not exactly one PEM block PUBLIC KEY", ErrFormat)
	}
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return PublicKey{}, fmt.Errorf("%w: key: %w", ErrFormat, err)
	}
	k, err := NewPublicKey(pub)
	if err != nil {
		return PublicKey{}, err
	}
	// A second encoding of the same key would have a second id, and a
	// revocation would reach only one of them.
	if k.spki != string(block.Bytes) {
		return PublicKey{}, fmt.Errorf("%w: key %s is not in its usual DER encoding", ErrFormat, k.ID())
	}
	return k, nil
}

// ID is the sha256 of the key's SubjectPublicKeyInfo in DER, 64 lower-case
// hex digits ("" for the zero value):
//
//	openssl pkey -pubin -in key.pem -outform DER | sha256sum
func (k PublicKey) ID() string {
	if k.key == nil {
		return ""
	}
	sum := sha256.Sum256([]byte(k.spki))
	return hex.EncodeToString(sum[:])
}

// String is the text that ParsePublicKey reads: ed25519:BASE64 for Ed25519,
// PEM for P-256.
func (k PublicKey) String() string {
	if e, ok := k.key.(ed25519.PublicKey); ok {
		return ed25519Prefix + base64.StdEncoding.EncodeToString(e)
	}
	return k.PEM()
}

// PEM is the key as one PUBLIC KEY block ("" for the zero value).
func (k PublicKey) PEM() string {
	if k.key == nil {
		return ""
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte(k.spki)}))
}

// Equal reports whether both are the same key.
func (k PublicKey) Equal(other PublicKey) bool { return k.spki == other.spki }

// Verify reports whether sig is the key's signature of a DSSE PAE. ECDSA
// signatures are ASN.1 DER over the sha256 of the PAE; high and low S are
// both accepted, as KMS makes both. So whoever holds an ECDSA envelope can
// make a second one with the same payload: nothing here identifies a
// statement by its signature.
func (k PublicKey) Verify(pae, sig []byte) bool {
	switch pub := k.key.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(pub, pae, sig)
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(pae)
		return ecdsa.VerifyASN1(pub, sum[:], sig)
	}
	return false
}
