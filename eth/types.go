// Package eth holds the public nouns of Ethereum's consensus layer: pubkeys,
// roots, amounts, networks, domains and the deposit containers. It knows no
// key and does no I/O.
package eth

import (
	"encoding/hex"
	"fmt"
	"strings"
)

type (
	// Pubkey is a compressed BLS12-381 G1 point, 48 bytes.
	Pubkey [48]byte
	// Signature is a compressed BLS12-381 G2 point, 96 bytes.
	Signature [96]byte
	// Root is an SSZ hash tree root or a block root, 32 bytes.
	Root [32]byte
	// Version is a fork version, 4 bytes.
	Version [4]byte
	// Domain is a signature domain, 32 bytes (consensus specs, compute_domain).
	Domain [32]byte
	// Address is an execution-layer address, 20 bytes. It prints with its
	// EIP-55 checksum.
	Address [20]byte
	// Credentials are withdrawal credentials: a prefix byte, then 31 bytes.
	Credentials [32]byte
)

// Each type prints as lower-case hex with 0x (Address: with its checksum),
// and decodes from hex with or without 0x of exactly its length.

func (p Pubkey) String() string      { return "0x" + p.Hex() }
func (s Signature) String() string   { return "0x" + s.Hex() }
func (r Root) String() string        { return "0x" + r.Hex() }
func (v Version) String() string     { return "0x" + v.Hex() }
func (d Domain) String() string      { return "0x" + hex.EncodeToString(d[:]) }
func (c Credentials) String() string { return "0x" + c.Hex() }

// Hex is the bare lower-case hex that launchpad files use.
func (p Pubkey) Hex() string      { return hex.EncodeToString(p[:]) }
func (s Signature) Hex() string   { return hex.EncodeToString(s[:]) }
func (r Root) Hex() string        { return hex.EncodeToString(r[:]) }
func (v Version) Hex() string     { return hex.EncodeToString(v[:]) }
func (c Credentials) Hex() string { return hex.EncodeToString(c[:]) }

func (p Pubkey) MarshalText() ([]byte, error)      { return []byte(p.String()), nil }
func (s Signature) MarshalText() ([]byte, error)   { return []byte(s.String()), nil }
func (r Root) MarshalText() ([]byte, error)        { return []byte(r.String()), nil }
func (v Version) MarshalText() ([]byte, error)     { return []byte(v.String()), nil }
func (c Credentials) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

func (p *Pubkey) UnmarshalText(b []byte) error    { return decodeHex("pubkey", p[:], string(b)) }
func (s *Signature) UnmarshalText(b []byte) error { return decodeHex("signature", s[:], string(b)) }
func (r *Root) UnmarshalText(b []byte) error      { return decodeHex("root", r[:], string(b)) }
func (v *Version) UnmarshalText(b []byte) error   { return decodeHex("fork version", v[:], string(b)) }
func (c *Credentials) UnmarshalText(b []byte) error {
	return decodeHex("withdrawal credentials", c[:], string(b))
}

// ParsePubkey reads 96 hex digits, with or without 0x.
func ParsePubkey(s string) (p Pubkey, err error) { return p, p.UnmarshalText([]byte(s)) }

func decodeHex(what string, dst []byte, s string) error {
	digits := strings.TrimPrefix(s, "0x")
	if len(digits) != 2*len(dst) {
		return fmt.Errorf("%s %q: has %d hex digits, not %d", what, clip(s), len(digits), 2*len(dst))
	}
	if _, err := hex.Decode(dst, []byte(digits)); err != nil {
		return fmt.Errorf("%s %q: not hex: %w", what, clip(s), err)
	}
	return nil
}

// clip keeps a hostile value from filling a terminal.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}
