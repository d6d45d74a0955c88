package eth

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrPath is what a malformed derivation path wraps.
var ErrPath = errors.New("no EIP-2334 path")

// maxPathDepth bounds a path. EIP-2334 uses 5 levels at most.
const maxPathDepth = 16

// ParsePath reads a derivation path of EIP-2334: "m", then up to 16 indexes
// from 0 to 2^32-1 in decimal ("m/12381/3600/0/0/0"). Leading zeros, signs
// and hardening marks are refused (EIP-2333 has none: every child is
// hardened), so that each path has one text.
func ParsePath(path string) ([]uint32, error) {
	parts := strings.Split(path, "/")
	if parts[0] != "m" || len(parts) > maxPathDepth+1 {
		return nil, fmt.Errorf("%w: %q isn't m and up to %d indexes", ErrPath, clip(path), maxPathDepth)
	}
	indexes := make([]uint32, 0, len(parts)-1)
	for _, part := range parts[1:] {
		v, err := strconv.ParseUint(part, 10, 32)
		if err != nil || strconv.FormatUint(v, 10) != part {
			return nil, fmt.Errorf("%w: %q: index %q", ErrPath, clip(path), clip(part))
		}
		indexes = append(indexes, uint32(v))
	}
	return indexes, nil
}
