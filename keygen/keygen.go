// Package keygen derives validator keys from a seed and composes what belongs
// to each: its signed deposit messages and its keystore (EIP-2333, EIP-2334,
// EIP-2335). It is pure: no clock, file, network or log, and its only
// randomness is crypto/rand.
//
// What it returns is unchecked. Package check decides whether a Made may be
// sealed, and shares no code with the composing here.
package keygen

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/secret"
)

// None makes no keystore at birth: one is made when the key is exported.
const None keystore.KDF = "none"

// Spec says what to make for every index of an order.
type Spec struct {
	Network     eth.Network
	Credentials eth.Credentials // ignored when BLS is set
	BLS         bool            // 0x00 credentials from each validator's own withdrawal key, EIP-2334 m/12381/3600/<i>/0
	Plan        []eth.Gwei      // one deposit message each
	KDF         keystore.KDF    // PBKDF2, Scrypt or None
}

// Made is one validator, made and not yet checked. Its maker's caller wipes
// it.
type Made struct {
	Index       uint32
	Path        string // m/12381/3600/<index>/0/0
	Pubkey      eth.Pubkey
	Credentials eth.Credentials
	Deposits    []Deposit
	Secret      *secret.Bytes // 32 bytes, big endian
	Keystore    []byte        // EIP-2335 JSON; nil for None
	KeystoreKey *secret.Bytes // the keystore's derived key, 32 bytes; nil for None
	Password    *secret.Bytes // 64 hex digits; nil for None
}

// Deposit is one signed deposit message of the plan.
type Deposit struct {
	Amount      eth.Gwei
	Signature   eth.Signature
	MessageRoot eth.Root
	DataRoot    eth.Root
}

// Wipe forgets the secrets; the public part stays.
func (m *Made) Wipe() {
	if m == nil {
		return
	}
	m.Secret.Wipe()
	m.KeystoreKey.Wipe()
	m.Password.Wipe()
}

// SigningPath is the EIP-2334 path of an index's signing key.
func SigningPath(index uint32) string {
	return "m/12381/3600/" + strconv.FormatUint(uint64(index), 10) + "/0/0"
}

// Maker holds the key at m/12381/3600, from which every validator of a
// mnemonic descends. It is safe for concurrent use until Wipe.
type Maker struct {
	purpose *bls.Key
}

// NewMaker derives the common part of the path from a BIP-39 seed (64 bytes,
// which stays the caller's to wipe).
func NewMaker(seed *secret.Bytes) (*Maker, error) {
	key, err := bls.FromSeed(seed, "m/12381/3600")
	if err != nil {
		return nil, fmt.Errorf("couldn't derive from the seed: %w", err)
	}
	return &Maker{key}, nil
}

// Wipe forgets the key.
func (m *Maker) Wipe() { m.purpose.Wipe() }

// Make makes the validators of indexes, in that order. On an error, and when
// ctx ends, it returns nothing and has wiped what it made.
//
// Passwords of keystores are 32 random bytes in hex unless password is given
// (for keystores that a person will open), which is then used for all of them
// and stays the caller's.
func (m *Maker) Make(ctx context.Context, spec Spec, indexes []uint32, password *secret.Bytes) (made []*Made, err error) {
	defer func() {
		if err != nil {
			for _, v := range made {
				v.Wipe()
			}
			made = nil
		}
	}()
	for _, index := range indexes {
		if err := ctx.Err(); err != nil {
			return made, err
		}
		v, err := m.derive(spec, index)
		if err != nil {
			return made, fmt.Errorf("couldn't make index %d: %w", index, err)
		}
		made = append(made, v)
	}
	if spec.KDF == None {
		return made, nil
	}
	lanes := make([]keystore.Lane, len(made))
	for i, v := range made {
		if password != nil {
			v.Password = secret.Copy(password.Expose())
		} else {
			v.Password = randomPassword()
		}
		lanes[i] = keystore.Lane{Secret: v.Secret, Password: v.Password, Pubkey: v.Pubkey, Path: v.Path}
	}
	stores, err := keystore.Encrypt(ctx, spec.KDF, lanes)
	if err != nil {
		return made, fmt.Errorf("couldn't make keystores: %w", err)
	}
	for i, v := range made {
		v.Keystore, v.KeystoreKey = stores[i].JSON, stores[i].Key
	}
	return made, nil
}

// derive makes everything but the keystore.
func (m *Maker) derive(spec Spec, index uint32) (*Made, error) {
	account := m.purpose.Child(index)
	defer account.Wipe()
	withdrawal := account.Child(0)
	defer withdrawal.Wipe()
	key := withdrawal.Child(0)
	defer key.Wipe()

	v := &Made{Index: index, Path: SigningPath(index), Pubkey: key.Pubkey(), Credentials: spec.Credentials}
	if spec.BLS {
		v.Credentials = eth.BLSCredentials(withdrawal.Pubkey())
	}
	// Credentials that nobody filled in are 0x00 with the hash of no key:
	// what is deposited to them is lost.
	if _, ok := v.Credentials.Address(); !ok && !spec.BLS && len(spec.Plan) > 0 {
		return nil, fmt.Errorf("%w: %s name no address", eth.ErrCredentials, v.Credentials)
	}
	domain := spec.Network.DepositDomain()
	for _, amount := range spec.Plan {
		if err := eth.CheckAmount(spec.Network, v.Credentials, amount); err != nil {
			return nil, err
		}
		message := eth.DepositMessage{Pubkey: v.Pubkey, Credentials: v.Credentials, Amount: amount}
		root := message.Root()
		signature := key.Sign(eth.SigningRoot(root, domain))
		data := eth.DepositData{Pubkey: v.Pubkey, Credentials: v.Credentials, Amount: amount, Signature: signature}
		v.Deposits = append(v.Deposits, Deposit{amount, signature, root, data.Root()})
	}
	v.Secret = key.Raw()
	return v, nil
}

// randomPassword returns 32 random bytes as 64 hex digits: 256 bits, of
// characters that every client reads the same.
func randomPassword() *secret.Bytes {
	raw := secret.Random(32)
	defer raw.Wipe()
	password := secret.New(64)
	hex.Encode(password.Expose(), raw.Expose())
	return password
}
