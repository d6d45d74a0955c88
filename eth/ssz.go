package eth

import (
	"crypto/sha256"
	"encoding/binary"
)

// Domain types (consensus specs, "Domain types").
var (
	DomainDeposit              = [4]byte{0x03}
	DomainVoluntaryExit        = [4]byte{0x04}
	DomainBLSToExecutionChange = [4]byte{0x0a}
)

// DepositMessage is what a deposit's signature signs.
type DepositMessage struct {
	Pubkey      Pubkey
	Credentials Credentials
	Amount      Gwei // after the multiplier
}

// DepositData is what the deposit contract takes.
type DepositData struct {
	Pubkey      Pubkey
	Credentials Credentials
	Amount      Gwei // after the multiplier
	Signature   Signature
}

// Message returns the part that was signed.
func (d DepositData) Message() DepositMessage {
	return DepositMessage{Pubkey: d.Pubkey, Credentials: d.Credentials, Amount: d.Amount}
}

// Root is the SSZ hash tree root: three fields, so a fourth leaf of zeros
// (SSZ, "Merkleization").
func (m DepositMessage) Root() Root {
	return Pair(
		Pair(m.Pubkey.root(), Root(m.Credentials)),
		Pair(m.Amount.root(), Root{}))
}

// Root is the SSZ hash tree root, the one the deposit contract recomputes.
func (d DepositData) Root() Root {
	return Pair(
		Pair(d.Pubkey.root(), Root(d.Credentials)),
		Pair(d.Amount.root(), d.Signature.root()))
}

// ComputeDomain is compute_domain of the consensus specs: the type, then 28
// bytes of the ForkData root.
func ComputeDomain(domainType [4]byte, v Version, genesisValidatorsRoot Root) Domain {
	var version Root
	copy(version[:], v[:])
	fork := Pair(version, genesisValidatorsRoot)
	var d Domain
	copy(d[:4], domainType[:])
	copy(d[4:], fork[:28])
	return d
}

// SigningRoot is compute_signing_root of the consensus specs: the root of
// SigningData{object, d}, which is what a key signs.
func SigningRoot(object Root, d Domain) Root { return Pair(object, Root(d)) }

// Pair is the root of two nodes of a hash tree (SSZ, "Merkleization").
func Pair(a, b Root) Root {
	var both [64]byte
	copy(both[:32], a[:])
	copy(both[32:], b[:])
	return sha256.Sum256(both[:])
}

// root of Bytes48: two chunks, the second padded with zeros.
func (p Pubkey) root() Root {
	var second Root
	copy(second[:], p[32:])
	return Pair(Root(p[:32]), second)
}

// root of Bytes96: three chunks and one of zeros.
func (s Signature) root() Root {
	return Pair(
		Pair(Root(s[:32]), Root(s[32:64])),
		Pair(Root(s[64:]), Root{}))
}

// root of uint64: little endian in a chunk.
func (g Gwei) root() Root {
	var r Root
	binary.LittleEndian.PutUint64(r[:], uint64(g))
	return r
}
