package eth

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/sha3"
)

// ErrChecksum says that an address is not written with its EIP-55 checksum.
var ErrChecksum = errors.New("address without a valid EIP-55 checksum")

// ChecksumError is the error of an address whose letters' case is not its
// EIP-55 checksum; errors.Is(err, ErrChecksum).
type ChecksumError struct {
	Input string
	// Checksummed is the form to compare with a trusted source, given only
	// when the input carried no checksum (one case throughout). For a mixed
	// case that is wrong it stays empty: there a digit was mistyped, and
	// offering the mistyped address with a good checksum would send the
	// stake to it.
	Checksummed string
}

func (e *ChecksumError) Error() string {
	if e.Checksummed == "" {
		return fmt.Sprintf("address %q: its EIP-55 checksum is wrong: at least one character was changed", e.Input)
	}
	return fmt.Sprintf("address %q has no EIP-55 checksum: compare every digit with its source, then write it %s", e.Input, e.Checksummed)
}

func (e *ChecksumError) Unwrap() error { return ErrChecksum }

// ParseAddress reads 0x and 40 hex digits and demands the EIP-55 checksum. An
// address in one case is refused too: withdrawal credentials cannot be
// changed, so a single wrong digit loses the stake. (An address without any
// letter has only one form, and passes.)
func ParseAddress(s string) (Address, error) {
	var a Address
	if !strings.HasPrefix(s, "0x") {
		return a, fmt.Errorf("address %q: doesn't begin with 0x", clip(s))
	}
	if err := decodeHex("address", a[:], s); err != nil {
		return Address{}, err
	}
	want := a.String()
	if s == want {
		return a, nil
	}
	e := &ChecksumError{Input: s}
	if digits := s[2:]; digits == strings.ToLower(digits) || digits == strings.ToUpper(digits) {
		e.Checksummed = want
	}
	return Address{}, e
}

// String prints the address with its EIP-55 checksum: a letter is a capital
// if the nibble of keccak256(lower-case digits) at its place is 8 or more.
func (a Address) String() string {
	digits := []byte(hex.EncodeToString(a[:]))
	h := sha3.NewLegacyKeccak256()
	_, _ = h.Write(digits)
	sum := h.Sum(nil)
	for i, c := range digits {
		nibble := sum[i/2] >> 4
		if i%2 == 1 {
			nibble = sum[i/2] & 0x0f
		}
		if c >= 'a' && nibble >= 8 {
			digits[i] = c - 'a' + 'A'
		}
	}
	return "0x" + string(digits)
}

// MarshalText writes the checksummed form.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText is ParseAddress: a file must carry the checksum as well.
func (a *Address) UnmarshalText(b []byte) error {
	v, err := ParseAddress(string(b))
	if err != nil {
		return err
	}
	*a = v
	return nil
}
