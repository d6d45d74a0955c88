package bls

import (
	"bytes"
	"math/big"
	"sync"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/secret"
)

// TestSignMessage: signing a message that was hashed before gives what Sign
// gives, for keys at both ends of the group, of all lengths between, and for
// random ones; and the message is the same after it.
func TestSignMessage(t *testing.T) {
	var keys []*Key
	for _, n := range []*big.Int{big.NewInt(1), big.NewInt(2), new(big.Int).Sub(order, big.NewInt(1)), new(big.Int).Sub(order, big.NewInt(2))} {
		keys = append(keys, keyOf(t, n))
	}
	for bits := uint(8); bits < 255; bits += 16 {
		keys = append(keys, keyOf(t, new(big.Int).Lsh(big.NewInt(1), bits)))
	}
	for range 16 {
		n := new(big.Int).SetBytes(secret.Random(32).Expose())
		keys = append(keys, keyOf(t, n.Add(n.Mod(n, new(big.Int).Sub(order, big.NewInt(1))), big.NewInt(1))))
	}
	for _, root := range []eth.Root{{}, {1}, {31: 1}, eth.Root(bytes.Repeat([]byte{0xff}, 32)), eth.Root(secret.Random(32).Expose())} {
		m := NewMessage(root)
		if m.Root() != root {
			t.Fatalf("a message of %v says that it is of %v", root, m.Root())
		}
		var all sync.WaitGroup
		for i, k := range keys {
			all.Go(func() {
				for range 2 {
					if got, want := k.SignMessage(m), k.Sign(root); got != want {
						t.Errorf("key %d signs %v as %x, and its message as %x", i, root, want, got)
					}
				}
			})
		}
		all.Wait()
		if !Verify(Claim{keys[0].Pubkey(), root, keys[0].SignMessage(m)}) {
			t.Errorf("a signature of the message of %v does not verify", root)
		}
	}
}

func keyOf(t *testing.T, n *big.Int) *Key {
	t.Helper()
	raw := secret.Take(n.FillBytes(make([]byte, 32)))
	defer raw.Wipe()
	k, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

func TestSignMessageRefuses(t *testing.T) {
	k := keyOf(t, big.NewInt(5))
	wiped := keyOf(t, big.NewInt(5))
	wiped.Wipe()
	for name, sign := range map[string]func(){
		"no message":   func() { k.SignMessage(nil) },
		"zero message": func() { k.SignMessage(new(Message)) },
		"wiped key":    func() { wiped.SignMessage(NewMessage(eth.Root{1})) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: it signs", name)
				}
			}()
			sign()
		}()
	}
}
