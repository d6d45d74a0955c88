package signer

import (
	"sync/atomic"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
)

// messages are what was signed last, hashed to the curve: since Electra all
// validators of a slot attest to the same data, and a sync committee signs one
// block root, so that many keys sign one message at one moment, and hashing it
// is half of a signature. Each message has one place, by its first byte; what
// comes there next takes it. Which messages are there is no secret, and neither
// is how fast one is answered.
type messages [16]atomic.Pointer[bls.Message]

// of is the message of a root: one that is there, if it is of this very root,
// else a new one.
func (l *messages) of(root eth.Root) *bls.Message {
	place := &l[int(root[0])%len(l)]
	if m := place.Load(); m != nil && m.Root() == root {
		return m
	}
	m := bls.NewMessage(root)
	place.Store(m)
	return m
}
