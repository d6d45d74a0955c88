package bls

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/big"
	"slices"
	"testing"

	blst "github.com/supranational/blst/bindings/go"

	"github.com/stakeseal/stakeseal/eth"
)

// outsideG1 finds a compressed point that is on the curve but not in G1:
// nearly every point is.
func outsideG1(t testing.TB) eth.Pubkey {
	t.Helper()
	for x := range 1000 {
		var p eth.Pubkey
		p[0] = 0x80
		binary.BigEndian.PutUint16(p[46:], uint16(x))
		if a := new(blst.P1Affine).Uncompress(p[:]); a != nil && !a.InG1() {
			return p
		}
	}
	t.Fatal("no point outside G1 found")
	return eth.Pubkey{}
}

func outsideG2(t testing.TB) eth.Signature {
	t.Helper()
	for x := range 1000 {
		var s eth.Signature
		s[0] = 0x80
		binary.BigEndian.PutUint16(s[94:], uint16(x))
		if a := new(blst.P2Affine).Uncompress(s[:]); a != nil && !a.InG2() {
			return s
		}
	}
	t.Fatal("no point outside G2 found")
	return eth.Signature{}
}

// The next two add a point of the cofactor's torsion: [r]X for an X outside
// the subgroup. (The scalar has 33 bytes because blst takes a short cut for up
// to 32 that holds only inside the subgroup.)

func torsionScalar() []byte {
	b := order.FillBytes(make([]byte, 33))
	slices.Reverse(b)
	return b
}

func shiftedPubkey(t testing.TB, p eth.Pubkey) eth.Pubkey {
	t.Helper()
	outside := outsideG1(t)
	x := new(blst.P1)
	x.FromAffine(new(blst.P1Affine).Uncompress(outside[:]))
	good := new(blst.P1)
	good.FromAffine(new(blst.P1Affine).Uncompress(p[:]))
	return eth.Pubkey(good.Add(x.Mult(torsionScalar(), 264)).Compress())
}

func shiftedSignature(t testing.TB, s eth.Signature) eth.Signature {
	t.Helper()
	outside := outsideG2(t)
	x := new(blst.P2)
	x.FromAffine(new(blst.P2Affine).Uncompress(outside[:]))
	good := new(blst.P2)
	good.FromAffine(new(blst.P2Affine).Uncompress(s[:]))
	return eth.Signature(good.Add(x.Mult(torsionScalar(), 264)).Compress())
}

// p is the field's modulus: a coordinate of p or more has a smaller twin.
var fieldModulus, _ = new(big.Int).SetString("1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab", 16)

func TestBadPoints(t *testing.T) {
	k := key(t, 5)
	root := eth.Root{9}
	good := Claim{k.Pubkey(), root, k.Sign(root)}
	pubkey := func(f func(p *eth.Pubkey)) Claim { c := good; f(&c.Pubkey); return c }
	signature := func(f func(s *eth.Signature)) Claim { c := good; f(&c.Signature); return c }
	for _, c := range []struct {
		name  string
		claim Claim
	}{
		{"infinity pubkey", pubkey(func(p *eth.Pubkey) { *p = eth.Pubkey{0xc0} })},
		{"infinity both", Claim{eth.Pubkey{0xc0}, root, eth.Signature{0xc0}}},
		{"infinity pubkey with sign", pubkey(func(p *eth.Pubkey) { *p = eth.Pubkey{0xe0} })},
		{"infinity pubkey with rest", pubkey(func(p *eth.Pubkey) { *p = eth.Pubkey{0: 0xc0, 47: 1} })},
		{"pubkey with infinity flag", pubkey(func(p *eth.Pubkey) { p[0] |= 0x40 })},
		{"pubkey without compression flag", pubkey(func(p *eth.Pubkey) { p[0] &^= 0x80 })},
		{"zero pubkey", pubkey(func(p *eth.Pubkey) { *p = eth.Pubkey{} })},
		{"pubkey of ones", pubkey(func(p *eth.Pubkey) { copy(p[:], bytes.Repeat([]byte{0xff}, 48)) })},
		{"pubkey outside G1", pubkey(func(p *eth.Pubkey) { *p = outsideG1(t) })},
		{"pubkey shifted by torsion", pubkey(func(p *eth.Pubkey) { *p = shiftedPubkey(t, *p) })},
		{"pubkey with x = p", pubkey(func(p *eth.Pubkey) { fieldModulus.FillBytes(p[:]); p[0] |= 0x80 })},
		{"infinity signature", signature(func(s *eth.Signature) { *s = eth.Signature{0xc0} })},
		{"infinity signature with rest", signature(func(s *eth.Signature) { *s = eth.Signature{0: 0xc0, 95: 1} })},
		{"signature with infinity flag", signature(func(s *eth.Signature) { s[0] |= 0x40 })},
		{"signature without compression flag", signature(func(s *eth.Signature) { s[0] &^= 0x80 })},
		{"zero signature", signature(func(s *eth.Signature) { *s = eth.Signature{} })},
		{"signature outside G2", signature(func(s *eth.Signature) { *s = outsideG2(t) })},
		{"signature shifted by torsion", signature(func(s *eth.Signature) { *s = shiftedSignature(t, *s) })},
		{"signature with x = p", signature(func(s *eth.Signature) { fieldModulus.FillBytes(s[48:]) })},
	} {
		if Verify(c.claim) {
			t.Errorf("%s: verifies", c.name)
		}
		if _, err := decodeSignature(c.claim.Signature); (err != nil) != (c.claim.Signature != good.Signature) {
			t.Errorf("%s: decodeSignature says %v", c.name, err)
		}
		if err := CheckPubkey(c.claim.Pubkey); (err != nil) != (c.claim.Pubkey != good.Pubkey) {
			t.Errorf("%s: CheckPubkey says %v", c.name, err)
		}
		for _, at := range []int{0, 1, 2} {
			claims := []Claim{good, good, good}
			claims[at] = c.claim
			err := VerifyBatch(claims)
			var bad *BadClaim
			if !errors.As(err, &bad) || bad.Index != at || !errors.Is(err, ErrInvalid) {
				t.Errorf("%s at %d: %v", c.name, at, err)
			}
		}
	}
}

// TestTorsionIsReal shows why the subgroup is checked: the pairing doesn't see
// torsion in G1, so without the check one key's signature verifies under
// other pubkeys too, which nobody has a key of.
func TestTorsionIsReal(t *testing.T) {
	k := key(t, 5)
	root := eth.Root{9}
	p, s := shiftedPubkey(t, k.Pubkey()), k.Sign(root)
	if p == k.Pubkey() {
		t.Fatal("the shift is zero")
	}
	pk, sig := new(blst.P1Affine).Uncompress(p[:]), new(blst.P2Affine).Uncompress(s[:])
	if !plainSum(root, pk, sig) {
		t.Error("the shifted pubkey doesn't verify even unchecked: TestBadPoints tests less than it says")
	}
	if Verify(Claim{p, root, s}) {
		t.Error("the shifted pubkey verifies")
	}
}

// plainSum is a pairing without any check.
func plainSum(root eth.Root, pk *blst.P1Affine, sig *blst.P2Affine) bool {
	ctx := blst.PairingCtx(true, dst)
	blst.PairingAggregatePkInG1(ctx, pk, false, sig, false, root[:])
	blst.PairingCommit(ctx)
	return blst.PairingFinalVerify(ctx)
}
