// Package bls is BLS12-381 as Ethereum's validators use it: keys derived by
// EIP-2333 and EIP-2334, pubkeys in G1, signatures in G2, hash to curve by
// RFC 9380, proof-of-possession ciphersuite. It is the only importer of blst.
//
// It promises that every point it accepts is canonically encoded, on the
// curve, in the right subgroup and not infinity; that a key never prints and
// is overwritten by Wipe, with every intermediate key of its path; and that
// all functions are safe for concurrent use (Wipe needs to be the key's only
// user). It trusts blst to be constant-time and to scrub its own stack.
//
// Verification stays on the calling goroutine's thread. blst's own batch
// functions spread over all processors, which gains nothing when several
// workers verify at once and starves whoever shares the machine; so this
// package drives blst's pairing context itself, where no thread is started.
// (blst.SetMaxProcs would do nearly the same, but it is a global of the
// process and still hops goroutines.) A caller with one large batch and idle
// cores splits it.
package bls

import (
	"errors"
	"fmt"
	"sync/atomic"

	blst "github.com/supranational/blst/bindings/go"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/secret"
)

// ErrInvalid is what bad keys, paths, seeds, points and signatures wrap.
var ErrInvalid = errors.New("not valid")

// KeySize is a secret key's length in bytes.
const KeySize = blst.BLST_SCALAR_BYTES

// minSeed is EIP-2333's least seed: 256 bits.
const minSeed = 32

// dst is the domain separation tag of the proof-of-possession ciphersuite
// (draft-irtf-cfrg-bls-signature, section 4.2.3), the one of the consensus
// specs.
var dst = []byte("BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_")

// Key is a secret key: a number from 1 to r-1. It is used by pointer, prints
// as [secret] and is wiped by whoever made it. Using a wiped or zero Key is a
// programming error and panics: a zero scalar would sign with the point at
// infinity, which looks like a signature.
type Key struct {
	sk     *blst.SecretKey
	pubkey *atomic.Pointer[eth.Pubkey] // empty until it was asked for
}

func newKey(sk *blst.SecretKey) *Key { return &Key{sk, new(atomic.Pointer[eth.Pubkey])} }

// FromSeed derives the key at path (EIP-2334, "m/12381/3600/0/0/0") from a
// seed of at least 32 bytes, and wipes every key between. The seed stays the
// caller's.
func FromSeed(seed *secret.Bytes, path string) (*Key, error) {
	indexes, err := eth.ParsePath(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if seed.Len() < minSeed {
		return nil, fmt.Errorf("seed has %d bytes, not at least %d (EIP-2333): %w", seed.Len(), minSeed, ErrInvalid)
	}
	sk := blst.DeriveMasterEip2333(seed.Expose())
	if sk == nil {
		return nil, fmt.Errorf("couldn't derive a master key: %w", ErrInvalid)
	}
	for _, index := range indexes {
		child := sk.DeriveChildEip2333(index)
		sk.Zeroize()
		sk = child
	}
	return newKey(sk), nil
}

// Parse reads a key of 32 bytes, big endian, from 1 to r-1. raw stays the
// caller's.
func Parse(raw *secret.Bytes) (*Key, error) {
	if raw.Len() != KeySize {
		return nil, fmt.Errorf("secret key has %d bytes, not %d: %w", raw.Len(), KeySize, ErrInvalid)
	}
	sk := new(blst.SecretKey)
	if sk.Deserialize(raw.Expose()) == nil {
		sk.Zeroize()
		return nil, fmt.Errorf("secret key is zero or not below the group's order: %w", ErrInvalid)
	}
	return newKey(sk), nil
}

// Child derives the child at index (EIP-2333, derive_child_SK). The parent
// stays as it is; each is wiped on its own.
func (k *Key) Child(index uint32) *Key { return newKey(k.scalar().DeriveChildEip2333(index)) }

// Pubkey computes the public key, 48 bytes compressed. Computed once, it is
// remembered: whoever is handed a key derives its pubkey again, and it takes a
// tenth of a millisecond.
func (k *Key) Pubkey() eth.Pubkey {
	sk := k.scalar()
	if known := k.pubkey.Load(); known != nil {
		return *known
	}
	pubkey := eth.Pubkey(new(blst.P1Affine).From(sk).Compress())
	k.pubkey.Store(&pubkey)
	return pubkey
}

// Sign signs a signing root (eth.SigningRoot). The signature is a function of
// key and root alone.
func (k *Key) Sign(root eth.Root) eth.Signature {
	return eth.Signature(new(blst.P2Affine).Sign(k.scalar(), root[:], dst).Compress())
}

// Raw returns the key's 32 bytes, big endian, for the caller to wipe.
func (k *Key) Raw() *secret.Bytes { return secret.Take(k.scalar().Serialize()) }

// Wipe overwrites the key. It may be called twice and on nil.
func (k *Key) Wipe() {
	if k == nil || k.sk == nil {
		return
	}
	k.sk.Zeroize()
	k.sk = nil
}

func (k *Key) scalar() *blst.SecretKey {
	if k == nil || k.sk == nil {
		panic("bls: use of a key that was wiped or never made")
	}
	return k.sk
}

// Format implements fmt.Formatter, so that every verb prints [secret].
func (k *Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[secret]")) }

// String returns "[secret]".
func (k *Key) String() string { return "[secret]" }

// GoString returns "[secret]".
func (k *Key) GoString() string { return "[secret]" }

// MarshalJSON refuses.
func (k *Key) MarshalJSON() ([]byte, error) { return nil, secret.ErrMarshal }

// MarshalText refuses.
func (k *Key) MarshalText() ([]byte, error) { return nil, secret.ErrMarshal }

// MarshalBinary refuses.
func (k *Key) MarshalBinary() ([]byte, error) { return nil, secret.ErrMarshal }
