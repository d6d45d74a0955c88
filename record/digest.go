package record

import (
	"encoding/hex"
	"fmt"
)

func (d Digest) String() string               { return hex.EncodeToString(d[:]) }
func (d Digest) IsZero() bool                 { return d == Digest{} }
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads exactly 64 hex digits.
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) != 64 {
		return fmt.Errorf("digest has %d hex digits, not 64", len(b))
	}
	if _, err := hex.Decode(d[:], b); err != nil {
		return fmt.Errorf("digest is not hex: %w", err)
	}
	return nil
}
