// Package keystore writes and opens EIP-2335 keystores, version 4: one 32-byte
// signing key under a password, by PBKDF2 or scrypt, AES-128-CTR and a sha256
// checksum.
//
// It promises that every keystore gets its own salt, IV and uuid from
// crypto/rand (equal ones under equal passwords would let two ciphertexts be
// xored into two keys' difference); that nothing leaves Encrypt unless all
// lanes succeeded; that a hostile file cannot make Open take more than about
// 1 GiB or a few seconds; and that no error carries a password, a key or a
// piece of a file that isn't a keystore.
//
// The checksum is the only authentication of the format, and it covers the
// ciphertext alone: pubkey, path and description of a file are unproven text.
// Whoever opens a keystore re-derives the pubkey from the key.
//
// Every buffer that this package makes is wiped. The standard library's own
// copies are not: crypto/pbkdf2 copies the password to the heap, it and
// x/crypto/scrypt put it into HMAC's pads, crypto/aes keeps its round keys,
// x/text reorders marks in a buffer of its own. They last until the memory is
// used again.
package keystore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/secret"
)

// KDF names a key derivation function, as the format does.
type KDF string

const (
	// PBKDF2 with HMAC-SHA-256, c=262144. For passwords of full entropy.
	PBKDF2 KDF = "pbkdf2"
	// Scrypt with n=262144, r=8, p=1: 256 MiB and half a second each. For
	// passwords chosen by people.
	Scrypt KDF = "scrypt"
)

var (
	// ErrPassword says that the checksum fails: the password is wrong or the
	// ciphertext was changed; the format can't tell which.
	ErrPassword = errors.New("wrong password, or a changed keystore")
	// ErrFormat says that a file is no keystore this package opens.
	ErrFormat = errors.New("not a usable EIP-2335 keystore")
	// ErrMismatch says that a keystore doesn't hold what it should.
	ErrMismatch = errors.New("keystore doesn't hold the expected key")
	// ErrInput says that a lane or a password can't be used.
	ErrInput = errors.New("not usable for a keystore")
)

const (
	secretSize  = 32 // a BLS12-381 secret key
	saltSize    = 32
	ivSize      = 16
	derivedSize = 32 // dklen: 16 bytes of AES key, then 16 for the checksum

	maxText = 1024 // bytes of a description that we write
)

// Lane is one keystore to make. All stays the caller's.
type Lane struct {
	Secret      *secret.Bytes // 32 bytes, big endian
	Password    *secret.Bytes // UTF-8, normalised here; not empty
	Pubkey      eth.Pubkey    // of Secret; the caller vouches for it
	Path        string        // EIP-2334, or "" for a key that wasn't derived
	Description string        // public text, up to 1024 bytes
}

// Made is a finished keystore.
type Made struct {
	// JSON is the file, one line, fields in the order of the deposit CLI:
	// crypto, description, pubkey, path, uuid, version.
	JSON []byte
	// Key is the derived key, 32 bytes, so that a checker opens the keystore
	// again without running the KDF. Whoever has it has the secret.
	Key *secret.Bytes
}

// Wipe overwrites the derived key and forgets the file. It may be called
// twice and on nil.
func (m *Made) Wipe() {
	if m == nil {
		return
	}
	m.Key.Wipe()
	m.JSON = nil
}

// Encrypt makes one keystore for each lane, in their order, one after the
// other (callers run several batches at once; see derive for the memory).
// ctx is looked at between lanes, since a running KDF cannot be stopped. On
// any error all that was made is wiped and nothing returned.
func Encrypt(ctx context.Context, kdf KDF, lanes []Lane) ([]*Made, error) {
	if kdf != PBKDF2 && kdf != Scrypt {
		return nil, fmt.Errorf("unknown kdf %q: %w", clip(string(kdf)), ErrInput)
	}
	for i := range lanes { // before the first half second is spent
		if err := lanes[i].check(); err != nil {
			return nil, fmt.Errorf("lane %d: %w", i, err)
		}
	}
	made := make([]*Made, 0, len(lanes))
	for i := range lanes {
		m, err := encryptFresh(ctx, kdf, &lanes[i])
		if err != nil {
			for _, m := range made {
				m.Wipe()
			}
			return nil, fmt.Errorf("couldn't make keystore of lane %d: %w", i, err)
		}
		made = append(made, m)
	}
	return made, nil
}

func (l *Lane) check() error {
	switch {
	case l.Secret.Len() != secretSize:
		return fmt.Errorf("secret has %d bytes, not %d: %w", l.Secret.Len(), secretSize, ErrInput)
	case l.Password.Len() == 0:
		return fmt.Errorf("password is empty: %w", ErrInput)
	case l.Pubkey == eth.Pubkey{}:
		return fmt.Errorf("pubkey is missing: %w", ErrInput)
	case len(l.Description) > maxText || !utf8.ValidString(l.Description):
		return fmt.Errorf("description of %d bytes: not UTF-8 of at most %d: %w", len(l.Description), maxText, ErrInput)
	}
	if l.Path == "" {
		return nil
	}
	if _, err := eth.ParsePath(l.Path); err != nil {
		return fmt.Errorf("%w: %w", ErrInput, err)
	}
	return nil
}

// fresh is the randomness of one keystore. Only tests with a standard's
// vectors make one by hand.
type fresh struct {
	salt []byte // 32 bytes
	iv   [ivSize]byte
	uuid [16]byte
}

func encryptFresh(ctx context.Context, kdf KDF, l *Lane) (*Made, error) {
	f := fresh{salt: make([]byte, saltSize)}
	_, _ = rand.Read(f.salt) // never fails since Go 1.24
	_, _ = rand.Read(f.iv[:])
	_, _ = rand.Read(f.uuid[:])
	f.uuid[6] = f.uuid[6]&0x0f | 0x40 // version 4
	f.uuid[8] = f.uuid[8]&0x3f | 0x80 // variant of RFC 9562
	return encrypt(ctx, kdf, l, f)
}

// The file's shape. The order of the fields is the order in the file.
type (
	file struct {
		Crypto      crypto `json:"crypto"`
		Description string `json:"description"`
		Pubkey      string `json:"pubkey"`
		Path        string `json:"path"`
		UUID        string `json:"uuid"`
		Version     int    `json:"version"`
	}
	crypto struct {
		KDF      module `json:"kdf"`
		Checksum module `json:"checksum"`
		Cipher   module `json:"cipher"`
	}
	module struct {
		Function string `json:"function"`
		Params   any    `json:"params"`
		Message  string `json:"message"`
	}
	scryptParams struct {
		DKLen int    `json:"dklen"`
		N     int    `json:"n"`
		R     int    `json:"r"`
		P     int    `json:"p"`
		Salt  string `json:"salt"`
	}
	pbkdf2Params struct {
		DKLen int    `json:"dklen"`
		C     int    `json:"c"`
		PRF   string `json:"prf"`
		Salt  string `json:"salt"`
	}
	cipherParams struct {
		IV string `json:"iv"`
	}
)

func encrypt(ctx context.Context, kdf KDF, l *Lane, f fresh) (*Made, error) {
	password, err := NormalizePassword(l.Password)
	if err != nil {
		return nil, err
	}
	defer password.Wipe()
	if password.Len() == 0 {
		return nil, fmt.Errorf("password has nothing but control characters: %w", ErrInput)
	}
	how := cost{kdf: kdf, salt: f.salt}
	var params any
	salt := hex.EncodeToString(f.salt)
	if kdf == Scrypt {
		how.n, how.r, how.p = 1<<18, 8, 1
		params = scryptParams{derivedSize, how.n, how.r, how.p, salt}
	} else {
		how.c = 1 << 18
		params = pbkdf2Params{derivedSize, how.c, prf, salt}
	}
	key, err := derive(ctx, how, password)
	if err != nil {
		return nil, err
	}
	ciphertext, err := ctr(key, f.iv, l.Secret.Expose())
	if err != nil {
		key.Wipe()
		return nil, err
	}
	sum := checksum(key, ciphertext)
	out, err := json.Marshal(file{
		Crypto: crypto{
			KDF:      module{string(kdf), params, ""},
			Checksum: module{checksumFunction, struct{}{}, hex.EncodeToString(sum[:])},
			Cipher:   module{cipherFunction, cipherParams{hex.EncodeToString(f.iv[:])}, hex.EncodeToString(ciphertext)},
		},
		Description: l.Description,
		Pubkey:      l.Pubkey.Hex(),
		Path:        l.Path,
		UUID:        uuidText(f.uuid),
		Version:     version,
	})
	if err != nil {
		key.Wipe()
		return nil, fmt.Errorf("couldn't encode keystore: %w", err)
	}
	return &Made{JSON: out, Key: key}, nil
}

func uuidText(u [16]byte) string {
	h := hex.EncodeToString(u[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// FileName is the deposit CLI's name of a keystore file:
// keystore-m_12381_3600_0_0_0-1700000000.json. Whatever isn't a letter or a
// digit becomes an underscore, so that a path out of a foreign keystore
// cannot climb out of a folder; it is cut at 128 bytes.
func FileName(path string, unix int64) string {
	name := []byte(path)
	if len(name) > 128 {
		name = name[:128]
	}
	for i, c := range name {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			name[i] = '_'
		}
	}
	return "keystore-" + string(name) + "-" + strconv.FormatInt(unix, 10) + ".json"
}

// clip keeps a hostile value from filling a terminal.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}
