package seal

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Purpose is what a sealing is for. Different people hold the identities.
type Purpose string

const (
	Signing  Purpose = "signing"  // one validator's signing secret
	Recovery Purpose = "recovery" // the mnemonic of several
)

func (p Purpose) known() bool { return p == Signing || p == Recovery }

// Binding says what a sealed secret is. It stands at the head of the
// plaintext, and in the encryption context where there is one, so that a file
// moved to another row, order or network is recognised by whoever opens it.
// All of it is public.
type Binding struct {
	Purpose Purpose
	Network string // [a-z0-9][a-z0-9_-]{0,31}
	Order   string // [a-z0-9][a-z0-9._-]{0,63}
	Index   string // signing: decimal without leading zeros, below 2^31; recovery: empty
	Subject string // signing: pubkey, 96 lower-case hex digits, no 0x; recovery: the mnemonic's id, m-[0-9a-f]{16}
}

// SigningBinding binds one validator's signing secret. Check judges it.
func SigningBinding(network, order string, index uint32, pubkey [48]byte) Binding {
	return Binding{Signing, network, order, strconv.FormatUint(uint64(index), 10), hex.EncodeToString(pubkey[:])}
}

// RecoveryBinding binds a mnemonic. Check judges it.
func RecoveryBinding(network, order, mnemonicID string) Binding {
	return Binding{Purpose: Recovery, Network: network, Order: order, Subject: mnemonicID}
}

// Each shape is ASCII without spaces or control characters, so a value can
// neither end its line nor look like two.
var (
	networkShape  = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)
	orderShape    = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	indexShape    = regexp.MustCompile(`^(0|[1-9][0-9]{0,9})$`)
	pubkeyShape   = regexp.MustCompile(`^[0-9a-f]{96}$`)
	mnemonicShape = regexp.MustCompile(`^m-[0-9a-f]{16}$`)
)

// Check says which field is missing or malformed (ErrBinding). The subject is
// not echoed: a caller that mixed up its arguments may have put a secret
// there.
func (b Binding) Check() error {
	if !b.Purpose.known() {
		return fmt.Errorf("%w: unknown purpose %q", ErrBinding, clip(string(b.Purpose)))
	}
	if !networkShape.MatchString(b.Network) {
		return fmt.Errorf("%w: network %q is not of [a-z0-9_-], 1 to 32 characters, beginning with a letter or digit", ErrBinding, clip(b.Network))
	}
	if !orderShape.MatchString(b.Order) {
		return fmt.Errorf("%w: order %q is not of [a-z0-9._-], 1 to 64 characters, beginning with a letter or digit", ErrBinding, clip(b.Order))
	}
	if b.Purpose == Recovery {
		if b.Index != "" {
			return fmt.Errorf("%w: a mnemonic with the index %q", ErrBinding, clip(b.Index))
		}
		if !mnemonicShape.MatchString(b.Subject) {
			return fmt.Errorf("%w: a mnemonic id is m- and 16 lower-case hex digits; this one has %d characters", ErrBinding, len(b.Subject))
		}
		return nil
	}
	if !indexShape.MatchString(b.Index) {
		return fmt.Errorf("%w: index %q is not a plain decimal number", ErrBinding, clip(b.Index))
	}
	// EIP-2334 indexes are numbers below 2^31 in every tool that followed
	// BIP-32, so that none of them reads another one out of the same digits.
	if n, err := strconv.ParseUint(b.Index, 10, 64); err != nil || n >= 1<<31 {
		return fmt.Errorf("%w: index %s is not below 2^31", ErrBinding, b.Index)
	}
	if !pubkeyShape.MatchString(b.Subject) {
		return fmt.Errorf("%w: a pubkey is 96 lower-case hex digits without 0x; this one has %d characters", ErrBinding, len(b.Subject))
	}
	return nil
}

// Header is the head of the plaintext: the lines below, each ended by one line
// feed, and an empty line. It fails where Check does.
//
//	stakeseal sealed signing v1
//	network: hoodi
//	order: ORDER
//	index: 3                (signing only)
//	pubkey: 96 hex digits   (recovery: mnemonic-id: ID)
func (b Binding) Header() (string, error) {
	if err := b.Check(); err != nil {
		return "", err
	}
	var s strings.Builder
	s.WriteString(HeaderStart + string(b.Purpose) + " v1\n")
	s.WriteString("network: " + b.Network + "\n")
	s.WriteString("order: " + b.Order + "\n")
	if b.Purpose == Signing {
		s.WriteString("index: " + b.Index + "\npubkey: " + b.Subject + "\n\n")
	} else {
		s.WriteString("mnemonic-id: " + b.Subject + "\n\n")
	}
	return s.String(), nil
}

// Context is the binding as an encryption context (authenticated, and in the
// clear in the service's trail): app, v, purpose, network and order, then
// index and pubkey, or mnemonic. It presumes a binding that passes Check.
func (b Binding) Context() map[string]string {
	c := map[string]string{"app": "stakeseal", "v": "1", "purpose": string(b.Purpose), "network": b.Network, "order": b.Order}
	if b.Purpose == Signing {
		c["index"], c["pubkey"] = b.Index, b.Subject
	} else {
		c["mnemonic"] = b.Subject
	}
	return c
}
