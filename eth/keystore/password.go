package keystore

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/stakeseal/stakeseal/secret"
)

// maxPassword bounds what is normalised.
const maxPassword = 4096

// expansion is the most that NFKD lengthens UTF-8 (U+FDFA: 3 bytes to 33),
// so that the buffer never grows and leaves a piece behind.
const expansion = 11

// joiner is U+034F, combining grapheme joiner.
var joiner = []byte("\u034f")

// NormalizePassword is EIP-2335's "Password requirements": NFKD, then the
// control characters C0, DEL and C1 removed (a newline at the end of a
// password file goes with them), then UTF-8. The result is the caller's to
// wipe and may be empty; p stays the caller's. It refuses what isn't UTF-8,
// is longer than 4096 bytes, or has more than 30 combining marks in a row.
func NormalizePassword(p *secret.Bytes) (*secret.Bytes, error) {
	in := p.Expose()
	if len(in) > maxPassword {
		return nil, fmt.Errorf("password has %d bytes, more than %d: %w", len(in), maxPassword, ErrInput)
	}
	if !utf8.Valid(in) {
		return nil, fmt.Errorf("password isn't UTF-8: %w", ErrInput)
	}
	buf := make([]byte, 0, expansion*len(in)+utf8.UTFMax)
	out := norm.NFKD.Append(buf, in...)
	if cap(out) != cap(buf) { // grown after all
		secret.Wipe(buf[:cap(buf)])
	}
	// x/text follows the Stream-Safe Text Format (UAX #15, section 13): it
	// puts a joiner after 30 marks, which other tools' NFKD doesn't. Such a
	// keystore would open nowhere else.
	if bytes.Count(out, joiner) != bytes.Count(in, joiner) {
		secret.Wipe(out[:cap(out)])
		return nil, fmt.Errorf("password has more than 30 combining marks in a row: %w", ErrInput)
	}
	kept := out[:0]
	for i := 0; i < len(out); {
		r, n := utf8.DecodeRune(out[i:])
		if r >= 0x20 && (r < 0x7f || r > 0x9f) {
			kept = append(kept, out[i:i+n]...)
		}
		i += n
	}
	secret.Wipe(out[len(kept):cap(out)])
	return secret.Take(kept), nil
}
