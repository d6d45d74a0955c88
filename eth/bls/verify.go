package bls

import (
	"crypto/rand"
	"errors"
	"fmt"

	blst "github.com/supranational/blst/bindings/go"

	"github.com/stakeseal/stakeseal/eth"
)

// Claim says that Signature is Pubkey's signature of Root.
type Claim struct {
	Pubkey    eth.Pubkey
	Root      eth.Root
	Signature eth.Signature
}

// BadClaim is the error of a batch: its first claim that doesn't hold.
// errors.Is(err, ErrInvalid).
type BadClaim struct {
	Index  int
	Reason error // wraps ErrInvalid
}

func (e *BadClaim) Error() string { return fmt.Sprintf("claim %d: %v", e.Index, e.Reason) }
func (e *BadClaim) Unwrap() error { return e.Reason }

var errSignature = fmt.Errorf("signature doesn't verify: %w", ErrInvalid)

// CheckPubkey says whether p is a pubkey that anyone can hold the key of:
// KeyValidate of draft-irtf-cfrg-bls-signature.
func CheckPubkey(p eth.Pubkey) error {
	_, err := decodePubkey(p)
	return err
}

// Verify says whether the claim holds. Whatever is wrong with the pubkey or
// the signature makes it false.
func Verify(c Claim) bool { return check(c) == nil }

// VerifyBatch verifies all claims at about half the cost of one by one, by a
// random linear combination: each pair is raised to its own 128-bit
// coefficient from crypto/rand, so that claims which are wrong each but
// cancel each other in a plain sum pass with probability 2^-128 at most. If
// the combination fails, the claims are verified one by one and the error is
// a *BadClaim with the first bad one's index. An empty batch is an error: it
// proves nothing.
func VerifyBatch(claims []Claim) error {
	if len(claims) == 0 {
		return fmt.Errorf("no claims to verify: %w", ErrInvalid)
	}
	if len(claims) == 1 {
		if err := check(claims[0]); err != nil {
			return &BadClaim{0, err}
		}
		return nil
	}
	ctx := blst.PairingCtx(true, dst)
	for i := range claims {
		c := &claims[i]
		pk, sig, err := decode(c)
		if err == nil && blst.PairingMulNAggregatePkInG1(ctx, pk, false, sig, false, coefficient(), coefficientBits, c.Root[:]) != 0 {
			err = fmt.Errorf("blst refuses it: %w", ErrInvalid)
		}
		if err != nil {
			if bad := first(claims[:i]); bad != nil {
				return bad
			}
			return &BadClaim{i, err}
		}
	}
	blst.PairingCommit(ctx)
	if blst.PairingFinalVerify(ctx) {
		return nil
	}
	if bad := first(claims); bad != nil {
		return bad
	}
	// Impossible but for a fault of the machine: never pass.
	return errors.New("batch doesn't verify although each of its claims does: don't trust this machine")
}

// first finds the first claim that doesn't hold.
func first(claims []Claim) error {
	for i := range claims {
		if err := check(claims[i]); err != nil {
			return &BadClaim{i, err}
		}
	}
	return nil
}

func check(c Claim) error {
	pk, sig, err := decode(&c)
	if err != nil {
		return err
	}
	ctx := blst.PairingCtx(true, dst)
	if blst.PairingAggregatePkInG1(ctx, pk, false, sig, false, c.Root[:]) != 0 {
		return errSignature
	}
	blst.PairingCommit(ctx)
	if !blst.PairingFinalVerify(ctx) {
		return errSignature
	}
	return nil
}

func decode(c *Claim) (*blst.P1Affine, *blst.P2Affine, error) {
	pk, err := decodePubkey(c.Pubkey)
	if err != nil {
		return nil, nil, err
	}
	sig, err := decodeSignature(c.Signature)
	if err != nil {
		return nil, nil, err
	}
	return pk, sig, nil
}

// decodePubkey refuses what isn't canonical (coordinate not below p, flags),
// on the curve, in G1, or is infinity: anyone can "sign" for infinity, and the
// pairing takes a pubkey shifted out of the subgroup for the key's own.
func decodePubkey(p eth.Pubkey) (*blst.P1Affine, error) {
	pk := new(blst.P1Affine).Uncompress(p[:])
	if pk == nil {
		return nil, fmt.Errorf("pubkey %s is not a canonical point of the curve: %w", p, ErrInvalid)
	}
	if !pk.KeyValidate() {
		return nil, fmt.Errorf("pubkey %s is infinity or outside the subgroup: %w", p, ErrInvalid)
	}
	return pk, nil
}

// decodeSignature is the same for signatures. Infinity is no signature of any
// key from 1 to r-1.
func decodeSignature(s eth.Signature) (*blst.P2Affine, error) {
	sig := new(blst.P2Affine).Uncompress(s[:])
	if sig == nil {
		return nil, fmt.Errorf("signature %s is not a canonical point of the curve: %w", s, ErrInvalid)
	}
	if !sig.SigValidate(true) {
		return nil, fmt.Errorf("signature %s is infinity or outside the subgroup: %w", s, ErrInvalid)
	}
	return sig, nil
}

const coefficientBits = 128

// coefficient draws from 1 to 2^128-1. Zero would leave the claim out.
func coefficient() *blst.Scalar {
	var b [KeySize]byte // little endian: the upper half stays zero
	for {
		_, _ = rand.Read(b[:coefficientBits/8]) // never fails since Go 1.24
		if s := new(blst.Scalar).FromLEndian(b[:]); s != nil {
			return s
		}
	}
}
