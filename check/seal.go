package check

import (
	"context"
	"fmt"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/keygen"
	"github.com/stakeseal/stakeseal/seal"
)

// Sealed is a checked validator whose secret is sealed: public data only.
// Nothing but Seal makes one; the zero value answers Public with
// ErrUnchecked.
type Sealed struct {
	public *Public
}

// Public is what may leave the process.
type Public struct {
	Index       uint32
	Path        string
	Pubkey      eth.Pubkey
	Credentials eth.Credentials
	Deposits    []keygen.Deposit
	File        []byte // the signing secret as a binary age file
}

// Seal seals the signing secret for the order's index and wipes it, whether
// it succeeds or not. The binding is made here from what was checked, so that
// a secret cannot be sealed as another's.
func (c *Checked) Seal(ctx context.Context, to *seal.Recipients, network, order string) (*Sealed, error) {
	if c == nil || c.made == nil {
		return nil, ErrUnchecked
	}
	m := c.made
	c.made = nil
	defer m.Wipe()
	body := seal.SigningBody(m.Path, m.Secret, m.Password, m.Keystore)
	defer body.Wipe()
	file, err := to.Seal(ctx, seal.SigningBinding(network, order, m.Index, m.Pubkey), body)
	if err != nil {
		return nil, fmt.Errorf("couldn't seal index %d: %w", m.Index, err)
	}
	return &Sealed{&Public{m.Index, m.Path, m.Pubkey, m.Credentials, m.Deposits, file}}, nil
}

// Public returns the public data of a sealed validator.
func (s *Sealed) Public() (*Public, error) {
	if s == nil || s.public == nil {
		return nil, ErrUnchecked
	}
	return s.public, nil
}
