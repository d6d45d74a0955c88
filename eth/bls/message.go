package bls

import (
	blst "github.com/supranational/blst/bindings/go"

	"github.com/stakeseal/stakeseal/eth"
)

// Message is a signing root hashed to the curve (RFC 9380, the suite of Sign),
// which is half of the work of a signature and the same for every key: many
// keys that sign one message share it. It holds nothing secret, does not change,
// and is safe for concurrent use. Only NewMessage makes one: the zero Message
// panics, as its point is infinity and would sign as any key.
type Message struct {
	root  eth.Root
	point *blst.P2
}

// NewMessage hashes a signing root to the curve.
func NewMessage(root eth.Root) *Message { return &Message{root, blst.HashToG2(root[:], dst)} }

// Root is the signing root that it was made of.
func (m *Message) Root() eth.Root { return m.root }

// SignMessage is Sign of the message's root, byte for byte. blst's Go binding
// has no signing of a point that was hashed before, so this is its scalar
// multiplication, the one that signing does (constant-time for a key, which is
// below the group's order); the key is not copied for it.
func (k *Key) SignMessage(m *Message) eth.Signature {
	if m == nil || m.point == nil {
		panic("bls: use of a message that was never made")
	}
	return eth.Signature(m.point.Mult(k.scalar()).Compress())
}
