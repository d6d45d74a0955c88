package bls

import (
	"testing"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/secret"
)

// BenchmarkChild is one EIP-2333 level.
func BenchmarkChild(b *testing.B) {
	k := key(b, 12345)
	for b.Loop() {
		k.Child(0).Wipe()
	}
}

// BenchmarkFromSeed is a signing key: a master and five levels.
func BenchmarkFromSeed(b *testing.B) {
	seed := secret.Random(64)
	for b.Loop() {
		k, err := FromSeed(seed, "m/12381/3600/0/0/0")
		if err != nil {
			b.Fatal(err)
		}
		k.Wipe()
	}
}

func BenchmarkPubkey(b *testing.B) {
	k := key(b, 12345)
	for b.Loop() {
		k.Pubkey()
	}
}

func BenchmarkSign(b *testing.B) {
	k := key(b, 12345)
	for b.Loop() {
		k.Sign(eth.Root{})
	}
}

// BenchmarkSignMessage is a signature of what was hashed before.
func BenchmarkSignMessage(b *testing.B) {
	k, m := key(b, 12345), NewMessage(eth.Root{})
	for b.Loop() {
		k.SignMessage(m)
	}
}

func BenchmarkVerify(b *testing.B) {
	c := batch(b, 1)[0]
	for b.Loop() {
		if !Verify(c) {
			b.Fatal("doesn't verify")
		}
	}
}

// BenchmarkVerifyBatch is 100 claims; ms/claim is the figure to compare.
func BenchmarkVerifyBatch(b *testing.B) {
	claims := batch(b, 100)
	for b.Loop() {
		if err := VerifyBatch(claims); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N*len(claims)), "ms/claim")
}
