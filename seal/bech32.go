package seal

import (
	"errors"
	"strings"
)

const bech32Digits = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

// bech32 decodes lower-case Bech32 (BIP-173 without its length limit, as age
// uses it). Each data and prefix has one encoding only, so that keys compare
// as texts; upper case, which BIP-173 allows, is refused for that reason.
func bech32(text string) (prefix string, data []byte, err error) {
	i := strings.LastIndexByte(text, '1')
	if i < 1 {
		return "", nil, errors.New("it has no separator 1")
	}
	prefix = text[:i]
	for _, c := range []byte(prefix) {
		if c < 33 || c > 126 || c >= 'A' && c <= 'Z' {
			return "", nil, errors.New("its prefix has a character that is not printable lower-case ASCII")
		}
	}
	digits := make([]byte, 0, len(text)-i-1)
	for _, c := range []byte(text[i+1:]) {
		d := strings.IndexByte(bech32Digits, c)
		if d < 0 {
			return "", nil, errors.New("it has a character that Bech32 has not")
		}
		digits = append(digits, byte(d))
	}
	if len(digits) < 6 {
		return "", nil, errors.New("it is too short")
	}

	sum := uint32(1)
	feed := func(v byte) {
		top := sum >> 25
		sum = sum&0x1ffffff<<5 ^ uint32(v)
		for bit, g := range [...]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			if top>>bit&1 == 1 {
				sum ^= g
			}
		}
	}
	for _, c := range []byte(prefix) {
		feed(c >> 5)
	}
	feed(0)
	for _, c := range []byte(prefix) {
		feed(c & 31)
	}
	for _, d := range digits {
		feed(d)
	}
	if sum != 1 {
		return "", nil, errors.New("its checksum is wrong: a character is missing or mistyped")
	}

	digits = digits[:len(digits)-6]
	var acc, bits uint32
	for _, d := range digits {
		acc, bits = acc<<5|uint32(d), bits+5
		if bits >= 8 {
			bits -= 8
			data = append(data, byte(acc>>bits))
			acc &= 1<<bits - 1
		}
	}
	if bits >= 5 || acc != 0 {
		return "", nil, errors.New("its last digit carries bits that belong to no byte")
	}
	return prefix, data, nil
}
