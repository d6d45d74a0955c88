package eth

import (
	"crypto/sha256"
	"errors"
)

// Kinds of withdrawal credentials: their first byte.
const (
	KindBLS         byte = 0x00 // sha256 of a withdrawal pubkey (phase 0)
	KindExecution   byte = 0x01 // an execution address (Capella)
	KindCompounding byte = 0x02 // an execution address, compounding (EIP-7251)
	KindBuilder     byte = 0xB0 // a builder's, never a validator's (EIP-8282)
)

// ErrCredentials is what refused withdrawal credentials wrap.
var ErrCredentials = errors.New("withdrawal credentials not usable")

// ExecutionCredentials pay to a: 0x01, or 0x02 for a compounding validator,
// then 11 zero bytes, then the address.
func ExecutionCredentials(a Address, compounding bool) Credentials {
	c := Credentials{KindExecution}
	if compounding {
		c[0] = KindCompounding
	}
	copy(c[12:], a[:])
	return c
}

// BLSCredentials commit to a withdrawal pubkey: 0x00, then the last 31 bytes
// of its sha256.
func BLSCredentials(withdrawalPubkey Pubkey) Credentials {
	c := Credentials(sha256.Sum256(withdrawalPubkey[:]))
	c[0] = KindBLS
	return c
}

// Kind is the prefix byte.
func (c Credentials) Kind() byte { return c[0] }

// Address returns the execution address of 0x01 and 0x02 credentials, and
// false for any other kind or if the 11 bytes between are not zero: the
// protocol ignores them, so a reader who skips them could be shown one
// address's text with another's meaning.
func (c Credentials) Address() (Address, bool) {
	if c[0] != KindExecution && c[0] != KindCompounding {
		return Address{}, false
	}
	if [11]byte(c[1:12]) != ([11]byte{}) {
		return Address{}, false
	}
	return Address(c[12:]), true
}
