// Package slashing holds the rules that keep a validator from signing two
// conflicting messages, and the interchange file in which its history moves
// from one signer to another (EIP-3076).
//
// The protection is the minimal one of the standard: for each pubkey a Mark
// of the highest slot and epochs signed. It refuses some messages that would
// be safe, and never allows one that conflicts with what the mark has seen.
// The rules are pure; whoever keeps marks must store the raised mark durably
// before a signature leaves, and must refuse to sign when a mark is missing or
// does not read back.
package slashing

import (
	"errors"
	"fmt"

	"github.com/stakeseal/stakeseal/eth"
)

// ErrSlashable says that signing could be slashed, as far as the mark tells.
// Nothing may be signed.
var ErrSlashable = errors.New("signing it could be slashed")

// Mark is what a pubkey has signed, as two watermarks. The zero value of
// either half is "nothing": a key that was born here. A mark only rises.
type Mark struct {
	Pubkey eth.Pubkey

	Block       bool // a block was signed, at Slot or below
	Slot        uint64
	BlockRoot   eth.Root // its signing root; zero when unknown: then nothing at Slot is signed again
	Attestation bool     // an attestation was signed, of Source and Target or below
	Source      uint64   // epoch
	Target      uint64   // epoch
	Root        eth.Root // the signing root of the attestation at Source and Target; zero when unknown
}

// Propose returns the mark after signing a block of a slot with a signing
// root, or ErrSlashable. The very block that was signed last may be signed
// again: that makes no second message. (EIP-3076, conditions for signing a
// block, minimal.)
func (m Mark) Propose(slot uint64, root eth.Root) (Mark, error) {
	if m.Block && slot <= m.Slot {
		if slot == m.Slot && root == m.BlockRoot && root != (eth.Root{}) {
			return m, nil
		}
		return m, fmt.Errorf("%w: a block of slot %d, and slot %d was signed", ErrSlashable, slot, m.Slot)
	}
	m.Block, m.Slot, m.BlockRoot = true, slot, root
	return m, nil
}

// Attest returns the mark after signing an attestation with the epochs of its
// source and target checkpoints, or ErrSlashable. A source behind the highest
// could surround, a target not above the highest could be surrounded or
// double-voted. (EIP-3076, conditions for signing an attestation, minimal.)
func (m Mark) Attest(source, target uint64, root eth.Root) (Mark, error) {
	refuse := func(format string, args ...any) (Mark, error) {
		return m, fmt.Errorf("%w: an attestation of source %d and target %d: %s", ErrSlashable, source, target, fmt.Sprintf(format, args...))
	}
	if source > target {
		return refuse("its source is after its target")
	}
	if m.Attestation {
		switch {
		case source == m.Source && target == m.Target && root == m.Root && root != (eth.Root{}):
			return m, nil
		case source < m.Source:
			return refuse("source %d was signed", m.Source)
		case target <= m.Target:
			return refuse("target %d was signed", m.Target)
		}
	}
	m.Attestation, m.Source, m.Target, m.Root = true, source, target, root
	return m, nil
}

// Raise returns the higher of two marks of one pubkey, each number by itself.
// It never lowers; where a number rises, the root that belonged to the lower
// one is forgotten, so that nothing is taken for signed that was not.
func (m Mark) Raise(o Mark) Mark {
	if o.Block && (!m.Block || o.Slot > m.Slot) {
		m.Block, m.Slot, m.BlockRoot = true, o.Slot, o.BlockRoot
	} else if o.Block && o.Slot == m.Slot && o.BlockRoot != m.BlockRoot {
		m.BlockRoot = eth.Root{}
	}
	if !o.Attestation {
		return m
	}
	if !m.Attestation {
		m.Attestation, m.Source, m.Target, m.Root = true, o.Source, o.Target, o.Root
		return m
	}
	source, target := max(m.Source, o.Source), max(m.Target, o.Target)
	switch {
	case m.Source == o.Source && m.Target == o.Target && m.Root == o.Root:
	case o.Source == source && o.Target == target && m.Target < target:
		m.Root = o.Root
	case m.Source == source && m.Target == target && o.Target < target:
	default: // neither was signed after the other
		m.Root = eth.Root{}
	}
	m.Source, m.Target = source, target
	return m
}
