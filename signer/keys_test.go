package signer

import (
	"bytes"
	"testing"

	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/secret"
)

// TestHoldNeverWaits: a key that a request found just before it was taken away
// is gone, while the removal still waits for another use of it and afterwards.
// To wait for it while holding a key could be to wait for ever.
func TestHoldNeverWaits(t *testing.T) {
	seed := secret.Copy(bytes.Repeat([]byte{7}, 32))
	defer seed.Wipe()
	key, err := bls.FromSeed(seed, "m/12381/3600/0/0/0")
	if err != nil {
		t.Fatal(err)
	}
	pubkey := key.Pubkey()
	keys := newKeys()
	if err := keys.Put(Key{Pubkey: pubkey, Secret: key}); err != nil {
		t.Fatal(err)
	}
	found, err := keys.hold(pubkey, &Client{})
	if err != nil {
		t.Fatal(err)
	}
	if !found.hold() { // twice at once, as a batch may
		t.Fatal("a key that is here is not held a second time")
	}
	found.release()
	removed := make(chan bool)
	go func() { removed <- keys.Remove(pubkey) }()
	for found.use.TryRLock() { // until the removal waits for us
		found.use.RUnlock()
		select {
		case <-removed:
			t.Fatal("it was taken away while it was held")
		default:
		}
	}
	if found.hold() {
		t.Error("held while it is being taken away")
	}
	found.release()
	if !<-removed {
		t.Error("it was not there")
	}
	if found.hold() {
		t.Error("held after it was taken away")
	}
}
