package mnemonic

import (
	"crypto/pbkdf2"
	"crypto/sha512"
	"errors"
	"fmt"
	"unicode/utf8"
	"unsafe"

	"github.com/stakeseal/stakeseal/secret"
)

// BIP-39, "From mnemonic to seed".
const (
	// SeedSize is the length of a seed in bytes.
	SeedSize   = 64
	rounds     = 2048
	saltPrefix = "mnemonic"
)

// ErrPassphrase is returned by CheckPassphrase.
var ErrPassphrase = errors.New("unusable passphrase")

// CheckPassphrase tells whether a passphrase can be used. It must be valid
// UTF-8, since other tools disagree about what else would mean, and have no
// more than 30 combining marks in a row, since x/text treats longer runs as
// other tools do not; the vowel and final jamo of Hangul and some vowel signs
// count as marks there. Nil is the empty passphrase.
func CheckPassphrase(passphrase *secret.Bytes) error {
	salt, err := newSalt(passphrase)
	salt.Wipe()
	return err
}

// newSalt returns "mnemonic" and the passphrase in form NFKD, for the caller
// to wipe, or nil and ErrPassphrase.
func newSalt(passphrase *secret.Bytes) (*secret.Bytes, error) {
	in := passphrase.Expose()
	if !utf8.Valid(in) {
		return nil, fmt.Errorf("%w: it is not valid UTF-8", ErrPassphrase)
	}
	buf := secret.New(len(saltPrefix) + expansion*len(in)).Expose()
	end := copy(buf, saltPrefix)
	form, ok := normalize(buf[end:], in)
	if !ok {
		secret.Wipe(buf)
		return nil, fmt.Errorf("%w: it has more than 30 combining marks in a row", ErrPassphrase)
	}
	return secret.Take(buf[:end+len(form)]), nil
}

// Seed stretches the phrase into the 64 bytes of BIP-39: PBKDF2-HMAC-SHA512
// over the text, salted with "mnemonic" and the passphrase in form NFKD, 2048
// rounds, about a millisecond. A nil passphrase is the empty one. The caller
// wipes the seed.
//
// A phrase that was wiped or never parsed, and a passphrase that
// CheckPassphrase refuses, have no seed: the result is empty, which no
// derivation takes (EIP-2333 demands 32 bytes), and never the valid-looking
// seed of other words. The same holds where the process runs with
// GODEBUG=fips140=only, in which crypto/pbkdf2 refuses salts under 16 bytes:
// passphrases under eight.
func (p *Phrase) Seed(passphrase *secret.Bytes) *secret.Bytes {
	if p == nil || p.text.Len() == 0 {
		return secret.New(0)
	}
	salt, err := newSalt(passphrase)
	if err != nil {
		return secret.New(0)
	}
	defer salt.Wipe()
	// The string shares the secret's buffer: string(b) would leave a copy
	// that nobody can wipe, besides the library's own. It doesn't outlive the
	// call.
	b := p.text.Expose()
	seed, err := pbkdf2.Key(sha512.New, unsafe.String(unsafe.SliceData(b), len(b)), salt.Expose(), rounds, SeedSize)
	if err != nil {
		return secret.New(0)
	}
	return secret.Take(seed)
}
