package awstest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
)

// Keys is what a KMS keeps, without the door: it understands calls and does
// them, and who may make them is asked elsewhere (by KMS of the keys' policies
// alone, by the world of everything). Its methods are safe for concurrent use.
type Keys struct {
	region, account string

	mu   sync.Mutex
	keys map[string]*key // by ARN
}

// Key is a key to be made. The zero value of every field but Spec will do.
type Key struct {
	ID           string // after "key/"; "" makes one up
	Spec         Spec
	Policy       string // JSON, as GetKeyPolicy gives it back
	Description  string
	Aliases      []string // alias/NAME
	Rotation     bool
	RotationDays int // 0 is 365
}

type key struct {
	Key
	arn      string
	created  time.Time
	disabled bool
	aead     cipher.AEAD
	private  *ecdsa.PrivateKey
	public   []byte // SubjectPublicKeyInfo
}

// NewKeys returns the keys of one region of an account: none.
func NewKeys(region, account string) *Keys {
	return &Keys{region: region, account: account, keys: map[string]*key{}}
}

// Make makes a key and returns its ARN. There is no call for it, as there is
// none for PutKeyPolicy or CreateGrant: who may do these is the account's
// business, and nothing of ours does.
func (k *Keys) Make(want Key) (string, error) {
	if want.ID == "" {
		want.ID = call.UUID()
	}
	if want.RotationDays == 0 {
		want.RotationDays = 365
	}
	made := &key{Key: want, created: time.Now()}
	made.arn = "arn:aws:kms:" + k.region + ":" + k.account + ":key/" + want.ID
	switch want.Spec {
	case Symmetric:
		block, err := aes.NewCipher(random(32))
		if err != nil {
			return "", err
		}
		if made.aead, err = cipher.NewGCM(block); err != nil {
			return "", err
		}
	case P256, P384, RSA2048:
		if err := made.generate(); err != nil {
			return "", err
		}
	default:
		return "", fmt.Errorf("key spec %q: this fake does not know it", want.Spec)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys[made.arn] != nil {
		return "", fmt.Errorf("key %s is there already", made.arn)
	}
	for _, alias := range want.Aliases {
		if !strings.HasPrefix(alias, "alias/") || k.aliased(alias) != nil {
			return "", fmt.Errorf("alias %q is not one, or is taken", alias)
		}
	}
	k.keys[made.arn] = made
	return made.arn, nil
}

func (made *key) generate() (err error) {
	curve := elliptic.P256()
	switch made.Spec {
	case P384:
		curve = elliptic.P384()
	case RSA2048:
		made.public, err = rsaPublicKey()
		return err
	}
	if made.private, err = ecdsa.GenerateKey(curve, rand.Reader); err != nil {
		return err
	}
	made.public, err = spki(made.private.Public())
	return err
}

// Disable makes a key answer nothing, like one that waits for its deletion.
func (k *Keys) Disable(keyARN string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys[keyARN] == nil {
		return errors.New("no such key")
	}
	k.keys[keyARN].disabled = true
	return nil
}

// PutPolicy changes what GetKeyPolicy gives back.
func (k *Keys) PutPolicy(keyARN, policy string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys[keyARN] == nil {
		return errors.New("no such key")
	}
	k.keys[keyARN].Policy = policy
	return nil
}

func (k *Keys) aliased(alias string) *key {
	for _, one := range k.keys {
		if slices.Contains(one.Aliases, alias) {
			return one
		}
	}
	return nil
}

// named finds a key by its ARN; a copy, so that what is asked of it is of one
// moment.
func (k *Keys) named(id string) (key, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	found := k.keys[id]
	if found == nil {
		return key{}, false
	}
	return *found, true
}
