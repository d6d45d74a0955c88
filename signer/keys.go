package signer

import (
	"bytes"
	"fmt"
	"slices"
	"sync"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
)

// Key is an opened key with what its certificate says about it.
type Key struct {
	Pubkey      eth.Pubkey
	Secret      *bls.Key // the Signer's from Put on: it wipes it
	Credentials eth.Credentials
	Plan        []eth.Gwei // what deposits were signed for at birth
	Path        string     // EIP-2334; "": not known
}

// Keys are the keys of a signer. Its methods are safe for concurrent use.
type Keys struct {
	mu   sync.RWMutex
	keys map[eth.Pubkey]*heldKey
}

// heldKey is a key that signatures are being made with (readers), or that is
// taken away (the writer).
type heldKey struct {
	Key
	use sync.RWMutex
}

func newKeys() *Keys { return &Keys{keys: map[eth.Pubkey]*heldKey{}} }

// Put adds a key. Its secret must be that of its pubkey: whoever opened it has
// compared them, and it derived the pubkey that is looked at here.
func (k *Keys) Put(key Key) error {
	if got := key.Secret.Pubkey(); got != key.Pubkey {
		key.Secret.Wipe()
		return fmt.Errorf("the key of %v is that of %v", key.Pubkey, got)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys[key.Pubkey] != nil {
		key.Secret.Wipe()
		return fmt.Errorf("%v is here already", key.Pubkey)
	}
	k.keys[key.Pubkey] = &heldKey{Key: key}
	return nil
}

// Remove takes a key away and wipes it. When it returns, nothing is signed
// with it any more: it waits for what is under way. False: there was none.
func (k *Keys) Remove(pubkey eth.Pubkey) bool {
	k.mu.Lock()
	held := k.keys[pubkey]
	delete(k.keys, pubkey)
	k.mu.Unlock()
	if held == nil {
		return false
	}
	held.use.Lock()
	defer held.use.Unlock()
	held.Secret.Wipe()
	held.Secret = nil
	return true
}

// RemoveAll takes every key away.
func (k *Keys) RemoveAll() {
	for _, pubkey := range k.Pubkeys(nil) {
		k.Remove(pubkey)
	}
}

// hold returns a key that stays until release, if the client may see it.
func (k *Keys) hold(pubkey eth.Pubkey, c *Client) (*heldKey, error) {
	k.mu.RLock()
	held := k.keys[pubkey]
	k.mu.RUnlock()
	if held == nil || !c.Sees(pubkey) || !held.hold() {
		return nil, fmt.Errorf("%w: %v", ErrUnknownKey, pubkey)
	}
	return held, nil
}

// hold is false for a key that was found just before it was taken away. It
// never waits, as only a removal locks a key: whoever holds one key and waited
// for another, or for the same again, could wait for a removal that waits for
// him.
func (h *heldKey) hold() bool {
	if !h.use.TryRLock() {
		return false
	}
	if h.Secret == nil {
		h.release()
		return false
	}
	return true
}

func (h *heldKey) release() { h.use.RUnlock() }

// Has says whether a key is here.
func (k *Keys) Has(pubkey eth.Pubkey) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.keys[pubkey] != nil
}

// Path is a key's, "" of one that is not here or whose is not known.
func (k *Keys) Path(pubkey eth.Pubkey) string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if held := k.keys[pubkey]; held != nil {
		return held.Key.Path
	}
	return ""
}

// Len is how many there are.
func (k *Keys) Len() int {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return len(k.keys)
}

// Pubkeys lists those that a client may see (nil: all), in their order.
func (k *Keys) Pubkeys(c *Client) []eth.Pubkey {
	k.mu.RLock()
	list := make([]eth.Pubkey, 0, len(k.keys))
	for pubkey := range k.keys {
		if c == nil || c.Sees(pubkey) {
			list = append(list, pubkey)
		}
	}
	k.mu.RUnlock()
	slices.SortFunc(list, func(a, b eth.Pubkey) int { return bytes.Compare(a[:], b[:]) })
	return list
}
