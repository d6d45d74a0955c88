package check

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/stakeseal/stakeseal/eth"
)

// The deposit containers' hash tree roots written out as the fixed trees they
// are (SSZ, Merkleization), apart from eth's code on purpose: two ways to the
// same 32 bytes.

func pair(a, b [32]byte) [32]byte {
	var buf [64]byte
	copy(buf[:32], a[:])
	copy(buf[32:], b[:])
	return sha256.Sum256(buf[:])
}

func pubkeyRoot(p eth.Pubkey) [32]byte {
	var buf [64]byte // 48 bytes, padded to two chunks
	copy(buf[:], p[:])
	return sha256.Sum256(buf[:])
}

func amountChunk(amount eth.Gwei) (chunk [32]byte) {
	binary.LittleEndian.PutUint64(chunk[:8], uint64(amount))
	return chunk
}

// messageRoot is the root of DepositMessage{pubkey, withdrawal_credentials,
// amount}: three leaves padded to four.
func messageRoot(p eth.Pubkey, c eth.Credentials, amount eth.Gwei) eth.Root {
	return pair(pair(pubkeyRoot(p), c), pair(amountChunk(amount), [32]byte{}))
}

// dataRoot is the root of DepositData, whose fourth leaf is the signature's
// root: 96 bytes in three chunks padded to four.
func dataRoot(p eth.Pubkey, c eth.Credentials, amount eth.Gwei, s eth.Signature) eth.Root {
	left := sha256.Sum256(s[:64])
	var rest [64]byte
	copy(rest[:], s[64:])
	return pair(pair(pubkeyRoot(p), c), pair(amountChunk(amount), pair(left, sha256.Sum256(rest[:]))))
}

// depositDomain is compute_domain(DOMAIN_DEPOSIT, version, zero root): the
// domain type 03000000 and the first 28 bytes of the ForkData root.
func depositDomain(version eth.Version) (domain [32]byte) {
	var fork [64]byte
	copy(fork[:], version[:])
	root := sha256.Sum256(fork[:])
	domain[0] = 3
	copy(domain[4:], root[:28])
	return domain
}

func signingRoot(object eth.Root, domain [32]byte) eth.Root { return pair(object, domain) }
