package mnemonic

import (
	"crypto/sha512"
	"encoding"
	"errors"
	"hash"
	"unicode/utf8"

	"github.com/stakeseal/stakeseal/secret"
)

const (
	// SeedSize is the length of a seed in bytes.
	SeedSize = 64
	rounds   = 2048 // BIP-39, "From mnemonic to seed"
)

// ErrPassphrase is returned by CheckPassphrase.
var ErrPassphrase = errors.New("passphrase is not valid UTF-8")

// CheckPassphrase tells whether a passphrase can be used: it must be valid
// UTF-8, since other tools disagree about what else would mean. Nil is the
// empty passphrase.
func CheckPassphrase(passphrase *secret.Bytes) error {
	if !utf8.Valid(passphrase.Expose()) {
		return ErrPassphrase
	}
	return nil
}

// Seed stretches the phrase into the 64 bytes of BIP-39: PBKDF2-HMAC-SHA512
// over the text, salted with "mnemonic" and the passphrase in form NFKD, 2048
// rounds, about a millisecond. A nil passphrase is the empty one. The caller
// wipes the seed.
//
// A phrase that was wiped or never parsed, and a passphrase that
// CheckPassphrase refuses, have no seed: the result is empty, which no
// derivation takes (EIP-2333 demands 32 bytes), and never the valid-looking
// seed of other words.
func (p *Phrase) Seed(passphrase *secret.Bytes) *secret.Bytes {
	if p == nil || p.text.Len() == 0 || CheckPassphrase(passphrase) != nil {
		return secret.New(0)
	}
	const prefix = "mnemonic"
	salt := secret.New(len(prefix) + decomposedLen(passphrase.Expose()) + 4)
	defer salt.Wipe()
	end := copy(salt.Expose(), prefix)
	// It fits: it was measured, and sorting marks changes no length.
	normal, _ := decompose(salt.Expose()[end:end:salt.Len()-4], passphrase.Expose())
	salt.Expose()[end+len(normal)+3] = 1 // the number of the block, big endian
	seed := secret.New(SeedSize)
	stretch(seed.Expose(), p.text.Expose(), salt.Expose())
	return seed
}

// A stretcher holds the states of one PBKDF2 run, all of them secret.
type stretcher struct {
	pad          [sha512.BlockSize]byte
	inner, outer [256]byte // hash states behind the padded keys (204 bytes)
	u            [sha512.Size]byte
}

//go:noinline
func newStretcher() *stretcher { return new(stretcher) } // on the heap, as newWorkspace

// stretch fills out, 64 bytes, with the first block of PBKDF2-HMAC-SHA512
// (RFC 8018, 5.2). The salt ends with the block's number.
func stretch(out, password, salt []byte) {
	s := newStretcher()
	h := newSHA512()
	defer func() {
		h.wipe()
		*s = stretcher{}
	}()
	// RFC 2104: the key padded with zeros to a block; a longer one is hashed.
	if len(password) > len(s.pad) {
		digest(h.Hash, s.pad[:0], password)
	} else {
		copy(s.pad[:], password)
	}
	inner := h.padded(s.inner[:0], &s.pad, 0x36)
	outer := h.padded(s.outer[:0], &s.pad, 0x36^0x5c) // also takes the former off
	hmac := func(message []byte) {
		h.restore(inner)
		h.Write(message)
		h.Sum(s.u[:0])
		h.restore(outer)
		h.Write(s.u[:])
		h.Sum(s.u[:0])
	}
	hmac(salt)
	copy(out, s.u[:])
	for range rounds - 1 {
		hmac(s.u[:])
		for i := range s.u {
			out[i] ^= s.u[i]
		}
	}
}

// A sha512Hash is a SHA-512 whose state can be saved, and wiped.
type sha512Hash struct {
	hash.Hash
	state interface {
		encoding.BinaryAppender
		encoding.BinaryUnmarshaler
	}
}

func newSHA512() sha512Hash {
	h := sha512.New()
	// Documented by crypto/sha512: its hashes save and restore their state.
	return sha512Hash{h, h.(interface {
		encoding.BinaryAppender
		encoding.BinaryUnmarshaler
	})}
}

// padded flips the block with x, hashes it, and appends the state to dst,
// which has room.
func (h sha512Hash) padded(dst []byte, block *[sha512.BlockSize]byte, x byte) []byte {
	for i := range block {
		block[i] ^= x
	}
	h.Reset()
	h.Write(block[:])
	state, err := h.state.AppendBinary(dst)
	if err != nil {
		panic("mnemonic: crypto/sha512 cannot save its state")
	}
	return state
}

func (h sha512Hash) restore(state []byte) {
	if h.state.UnmarshalBinary(state) != nil {
		panic("mnemonic: crypto/sha512 refuses its own state")
	}
}

func (h sha512Hash) wipe() { flush(h.Hash) }

// digest appends the hash of data to out, which has room, and leaves h new.
//
// Sum works on a copy of the state, on the stack, and the end of data is still
// in it. So Sum is called once more over zeros, from this same frame, where
// the second copy covers the first; from another depth it would miss. Not
// inlined, so that the frame is this one.
//
//go:noinline
func digest(h hash.Hash, out, data []byte) {
	cover := make([]byte, 0, sha512.Size)
	h.Reset()
	h.Write(data)
	h.Sum(out)
	flush(h)
	h.Sum(cover)
	h.Reset()
}

var zeros [sha512.BlockSize / 2]byte

// flush overwrites the block buffer of a hash, which Reset leaves as it is:
// two halves of a block go through it, where a whole one would be hashed in
// place.
func flush(h hash.Hash) {
	half := zeros[:h.BlockSize()/2]
	h.Reset()
	h.Write(half)
	h.Write(half)
}
