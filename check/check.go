// Package check stands between making and sealing. It takes what keygen made,
// recomputes everything that can be recomputed by code of its own, and
// returns the only value that can be sealed. A mistake or a bit flip in the
// making so costs an order that stops, not a validator whose keystore does
// not open or whose deposit is lost.
//
// It trusts the BLS library (which it asks in the other direction: verifying
// what was signed), the standard library's hashes, and nothing in keygen: it
// knows keygen's types and calls none of its functions.
//
// What it cannot see with the key in hand is a KDF that computes something
// else than its parameters say. KnownAnswers and one keystore of each
// invocation, opened with its real password, cover that.
package check

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/keygen"
)

// ErrUnchecked is returned when a value that did not come out of a Checker is
// to be sealed or certified.
var ErrUnchecked = errors.New("this value was never checked")

// ErrRefused says that what was made is not what was asked for. Nothing of
// the batch may be used.
var ErrRefused = errors.New("the check refused what was made")

// Checker checks the batches of one invocation. It is safe for concurrent
// use.
type Checker struct {
	spec keygen.Spec

	first    sync.Once // one keystore is opened with its password
	firstErr error

	mu    sync.Mutex
	seen  map[string]struct{}   // salts, IVs and uuids must never repeat
	index map[eth.Pubkey]uint32 // nor pubkeys
}

// NewChecker returns a checker of what spec asks for.
func NewChecker(spec keygen.Spec) *Checker {
	return &Checker{spec: spec, seen: map[string]struct{}{}, index: map[eth.Pubkey]uint32{}}
}

// Checked is a validator that passed. The zero value is refused by Seal.
type Checked struct {
	made *keygen.Made
}

// Validators checks a batch: all pass or none does. On success the secrets
// belong to the Checked values; on an error they stay the caller's to wipe.
func (c *Checker) Validators(ctx context.Context, made []*keygen.Made) ([]*Checked, error) {
	claims := make([]bls.Claim, 0, len(made)*len(c.spec.Plan))
	for _, m := range made {
		batch, err := c.one(m)
		if err != nil {
			return nil, fmt.Errorf("%w: index %d: %w", ErrRefused, m.Index, err)
		}
		claims = append(claims, batch...)
	}
	if err := bls.VerifyBatch(claims); err != nil {
		return nil, fmt.Errorf("%w: a deposit signature: %w", ErrRefused, err)
	}
	if err := c.openOne(ctx, made); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	checked := make([]*Checked, len(made))
	for i, m := range made {
		checked[i] = &Checked{m}
	}
	return checked, nil
}

// one checks everything of a validator but its signatures, which it returns
// as claims for the batch.
func (c *Checker) one(m *keygen.Made) ([]bls.Claim, error) {
	if want := fmt.Sprintf("m/12381/3600/%d/0/0", m.Index); m.Path != want {
		return nil, fmt.Errorf("path %q, want %q", m.Path, want)
	}
	key, err := bls.Parse(m.Secret)
	if err != nil {
		return nil, errors.New("the secret is no BLS key")
	}
	pubkey := key.Pubkey()
	key.Wipe()
	if pubkey != m.Pubkey {
		return nil, errors.New("the secret does not belong to the pubkey")
	}
	if c.spec.BLS {
		if m.Credentials[0] != 0 {
			return nil, fmt.Errorf("withdrawal credentials %v are not 0x00", m.Credentials)
		}
	} else if m.Credentials != c.spec.Credentials {
		return nil, fmt.Errorf("withdrawal credentials %v, want %v", m.Credentials, c.spec.Credentials)
	}
	if len(m.Deposits) != len(c.spec.Plan) {
		return nil, fmt.Errorf("%d deposits, the plan has %d", len(m.Deposits), len(c.spec.Plan))
	}
	domain := depositDomain(c.spec.Network.GenesisForkVersion)
	claims := make([]bls.Claim, len(m.Deposits))
	for i, d := range m.Deposits {
		if d.Amount != c.spec.Plan[i] {
			return nil, fmt.Errorf("deposit %d is of %d gwei, the plan says %d", i, d.Amount, c.spec.Plan[i])
		}
		message := messageRoot(m.Pubkey, m.Credentials, d.Amount)
		if d.MessageRoot != message || d.DataRoot != dataRoot(m.Pubkey, m.Credentials, d.Amount, d.Signature) {
			return nil, fmt.Errorf("a root of deposit %d", i)
		}
		claims[i] = bls.Claim{Pubkey: m.Pubkey, Root: signingRoot(message, domain), Signature: d.Signature}
	}
	return claims, c.keystore(m)
}

// keystore re-opens the keystore from its own derived key: the ciphertext is
// this secret's and the checksum this key's. The KDF is not run again.
func (c *Checker) keystore(m *keygen.Made) error {
	if c.spec.KDF == keygen.None {
		if m.Keystore != nil || m.Password != nil || m.KeystoreKey != nil {
			return errors.New("a keystore where none was asked for")
		}
		return c.fresh(m)
	}
	k, err := keystore.Parse(m.Keystore)
	if err != nil {
		return fmt.Errorf("the keystore does not parse: %w", err)
	}
	if k.KDF() != c.spec.KDF {
		return fmt.Errorf("the keystore's kdf is %q, want %q", k.KDF(), c.spec.KDF)
	}
	if !k.FullCost() {
		return errors.New("the keystore's kdf has other parameters than the standard's")
	}
	if k.Pubkey() != m.Pubkey || k.Path() != m.Path {
		return errors.New("the keystore names another pubkey or path")
	}
	if err := c.fresh(m, "salt "+string(k.Salt()), "iv "+string(k.IV()), "uuid "+k.UUID()); err != nil {
		return err
	}
	return k.Check(m.KeystoreKey, m.Secret)
}

// fresh refuses a value that must be new for every validator and is not: a
// broken random generator shows here first (a reused salt and IV was a high
// finding in an audit of the deposit CLI).
func (c *Checker) fresh(m *keygen.Made, values ...string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if other, ok := c.index[m.Pubkey]; ok {
		return fmt.Errorf("index %d has the same pubkey", other)
	}
	c.index[m.Pubkey] = m.Index
	for _, v := range values {
		if _, ok := c.seen[v]; ok {
			return errors.New("a salt, IV or uuid occurs twice")
		}
		c.seen[v] = struct{}{}
	}
	return nil
}

// openOne opens the first keystore of the invocation with its password, KDF
// and all. Every other batch waits for it: nothing is sealed before the first
// keystore was seen to open.
func (c *Checker) openOne(ctx context.Context, made []*keygen.Made) error {
	if c.spec.KDF == keygen.None || len(made) == 0 {
		return nil
	}
	c.first.Do(func() { c.firstErr = opens(ctx, made[0]) })
	return c.firstErr
}

func opens(ctx context.Context, m *keygen.Made) error {
	got, err := keystore.Open(ctx, m.Keystore, m.Password)
	if err != nil {
		return fmt.Errorf("the keystore of index %d does not open: %w", m.Index, err)
	}
	defer got.Wipe()
	if !got.Equal(m.Secret) {
		return fmt.Errorf("the keystore of index %d opens to another secret", m.Index)
	}
	return nil
}
