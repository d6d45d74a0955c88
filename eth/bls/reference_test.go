package bls

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"math/big"
)

// A plain transcription of EIP-2333 over the standard library, for numbers
// only: nothing here is wiped or constant-time.

// referenceModR is hkdf_mod_r.
func referenceModR(ikm []byte) *big.Int {
	salt := []byte("BLS-SIG-KEYGEN-SALT-")
	for {
		sum := sha256.Sum256(salt)
		salt = sum[:]
		prk := must(hkdf.Extract(sha256.New, append(append([]byte(nil), ikm...), 0), salt))
		okm := must(hkdf.Expand(sha256.New, prk, "\x00\x30", 48))
		if sk := new(big.Int).Mod(new(big.Int).SetBytes(okm), order); sk.Sign() != 0 {
			return sk
		}
	}
}

func referenceMaster(seed []byte) *big.Int { return referenceModR(seed) }

func referenceChild(parent *big.Int, index uint32) *big.Int {
	_, _, compressed := referenceLamport(parent, index)
	return referenceModR(compressed)
}

// referenceLamport is parent_SK_to_lamport_PK with what it computes between.
func referenceLamport(parent *big.Int, index uint32) (lamport0, lamport1 [][]byte, compressed []byte) {
	salt := binary.BigEndian.AppendUint32(nil, index)
	ikm := parent.FillBytes(make([]byte, 32))
	not := make([]byte, 32)
	for i := range ikm {
		not[i] = ^ikm[i]
	}
	lamport0, lamport1 = referenceLamportSK(ikm, salt), referenceLamportSK(not, salt)
	h := sha256.New()
	for _, chunks := range [][][]byte{lamport0, lamport1} {
		for _, chunk := range chunks {
			sum := sha256.Sum256(chunk)
			h.Write(sum[:])
		}
	}
	return lamport0, lamport1, h.Sum(nil)
}

// referenceLamportSK is IKM_to_lamport_SK.
func referenceLamportSK(ikm, salt []byte) [][]byte {
	prk := must(hkdf.Extract(sha256.New, ikm, salt))
	okm := must(hkdf.Expand(sha256.New, prk, "", 255*32))
	chunks := make([][]byte, 255)
	for i := range chunks {
		chunks[i] = okm[32*i : 32*i+32]
	}
	return chunks
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
