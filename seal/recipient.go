package seal

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"filippo.io/age"
)

// plain is an age key that ignores what it is bound to.
type plain struct {
	text string
	key  age.Recipient
}

var _ Recipient = (*plain)(nil)

func (p *plain) Bind(context.Context, Binding) age.Recipient { return p.key }
func (p *plain) String() string                              { return p.text }

// ParseRecipient reads age1... (X25519), age1pq1... (ML-KEM-768 with X25519),
// age1tag1... (P-256) and age1tagpq1... (ML-KEM-768 with P-256), the last two
// for hardware keys. All else is refused with the reason (ErrRecipient), above
// all what would run a program to seal. A text that could be a secret pasted
// into the wrong place is not echoed.
func ParseRecipient(text string) (Recipient, error) {
	lower := strings.ToLower(text)
	switch {
	case text == "":
		return nil, fmt.Errorf("%w: it is empty", ErrRecipient)
	case strings.Contains(lower, "age-secret-key-") || strings.Contains(lower, "age-plugin-"):
		return nil, fmt.Errorf("%w: this is an identity, the secret half; give the recipient that belongs to it (age-keygen -y prints it), and look who could read this file", ErrRecipient)
	case strings.HasPrefix(text, "ssh-") || strings.HasPrefix(text, "ecdsa-sha2-") || strings.HasPrefix(text, "sk-"):
		return nil, fmt.Errorf("%w: ssh keys are made for logging in, lie on many machines and show in the file; make an age key instead", ErrRecipient)
	case strings.HasPrefix(text, "awskms:"):
		return nil, fmt.Errorf("%w: awskms recipients are not in this build", ErrRecipient)
	case !strings.HasPrefix(text, "age1"):
		return nil, fmt.Errorf("%w: it does not begin with age1 (not shown here: it may be a secret)", ErrRecipient)
	}

	prefix, data, err := bech32(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %q: %w", ErrRecipient, clip(text), err)
	}
	var key age.Recipient
	switch prefix {
	case "age":
		if len(data) != 32 || !canonicalX25519(data) {
			return nil, fmt.Errorf("%w: %q is not an X25519 key", ErrRecipient, clip(text))
		}
		key, err = age.ParseX25519Recipient(text)
	case "age1pq":
		if len(data) != mlkemKey+32 || !canonicalX25519(data[mlkemKey:]) {
			return nil, fmt.Errorf("%w: %q is not an ML-KEM-768 and X25519 key", ErrRecipient, clip(text))
		}
		key, err = age.ParseHybridRecipient(text)
	case "age1tag", "age1tagpq":
		key, err = newTagged(data, prefix == "age1tagpq")
	default:
		return nil, fmt.Errorf("%w: %q needs a plugin, a program that would be given the key while sealing; the makers of hardware plugins offer age1tag1 or age1tagpq1 recipients for the same key", ErrRecipient, clip(text))
	}
	if err != nil {
		// age's own message repeats the whole key.
		return nil, fmt.Errorf("%w: %q is not a valid key", ErrRecipient, clip(text))
	}
	return &plain{text, key}, nil
}

// mlkemKey is the length of an ML-KEM-768 encapsulation key, FIPS 203.
const mlkemKey = 1184

// canonicalX25519 says whether u, little endian, is below 2^255-19. X25519
// takes other encodings of the same point (RFC 7748, section 5), but age mixes
// the recipient's bytes into the wrapping key, and an identity mixes in the
// canonical ones: what is sealed to another encoding nobody can open.
func canonicalX25519(u []byte) bool {
	if u[31] < 0x7f {
		return true
	}
	if u[31] > 0x7f {
		return false
	}
	for _, c := range u[1:31] {
		if c != 0xff {
			return true
		}
	}
	return u[0] < 0xed
}

// ParseRecipientFile reads a file of exactly one recipient; blank lines and
// those that begin with # are ignored. One, because the file's name is the
// recipient's name.
func ParseRecipientFile(data []byte) (Recipient, error) {
	const limit = 64 << 10
	if len(data) > limit {
		return nil, fmt.Errorf("%w: a file of %d bytes, at most %d", ErrRecipient, len(data), limit)
	}
	var found Recipient
	for i, line := range bytes.Split(data, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("%w: line %d is a second one; a file has exactly one", ErrRecipient, i+1)
		}
		r, err := ParseRecipient(string(line))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		found = r
	}
	if found == nil {
		return nil, fmt.Errorf("%w: the file has none", ErrRecipient)
	}
	return found, nil
}
