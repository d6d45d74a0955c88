package signer

import (
	"encoding/binary"
	"sync"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
)

// TestMessages: whatever was asked for before, and whoever asks at the same
// moment, the message is that of the root. Another one would be signed without
// the ledger knowing of it. All of these roots have one place.
func TestMessages(t *testing.T) {
	var l messages
	roots := make([]eth.Root, 8)
	for i := range roots {
		binary.BigEndian.PutUint64(roots[i][24:], uint64(i))
	}
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 40 {
				root := roots[(i/(g+1)+g)%len(roots)]
				if m := l.of(root); m.Root() != root {
					t.Errorf("asked for %v, got %v", root, m.Root())
				}
			}
		})
	}
	all.Wait()
	if first := l.of(roots[0]); l.of(roots[0]) != first {
		t.Error("a message is hashed again at once")
	}
	other := eth.Root{1}
	if first := l.of(roots[0]); l.of(other).Root() != other || l.of(roots[0]) != first {
		t.Error("a message in another place takes this one's")
	}
}
