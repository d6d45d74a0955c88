package signer

import (
	"fmt"
	"slices"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/duty"
)

// Policy is what the operator allows beyond what every key's certificate does.
type Policy struct {
	// FeeRecipients may stand in registrations and proposer preferences,
	// besides the address that the key's own withdrawals go to.
	FeeRecipients []eth.Address
}

// Client is one who may ask, and for what.
type Client struct {
	Name string
	// Operations are the kinds that it may ask for.
	Operations []duty.Kind
	// Rights are what it may do with the keys themselves; nil: nothing.
	Rights []Right
	// Keys are those that it may use and see; nil: all.
	Keys map[eth.Pubkey]bool
}

// Sees says whether the client may know of a key.
func (c *Client) Sees(pubkey eth.Pubkey) bool { return c.Keys == nil || c.Keys[pubkey] }

// Duties are the kinds that a validator client needs day by day. Not among
// them: exits, which end a validator; deposits, which were signed at birth;
// and bids, which are a builder's.
func Duties() []duty.Kind {
	return slices.DeleteFunc(duty.Kinds(), func(k duty.Kind) bool {
		return k == duty.VoluntaryExit || k == duty.Deposit || k == duty.PayloadBid
	})
}

// ahead is how many epochs before its time a duty may be asked for. A block or
// target far ahead would not be slashable: it would raise the key's mark so
// far that the key never signs again.
const ahead = 1

// allow judges an order by all that needs no ledger.
func (s *Signer) allow(c *Client, k Key, r *duty.Request) error {
	no := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
	}
	if !slices.Contains(c.Operations, r.Kind) {
		return no("client %q was not granted %s", c.Name, r.Kind)
	}
	if r.Kind.ForkBound() && r.Fork.GenesisValidatorsRoot != s.Network.GenesisValidatorsRoot {
		return no("it is for the network with genesis validators root %v, and this key is for %s, %v", r.Fork.GenesisValidatorsRoot, s.Network.Name, s.Network.GenesisValidatorsRoot)
	}
	switch r.Kind {
	case duty.Attestation:
		if err := s.notAhead("its target", r.Target); err != nil {
			return err
		}
		return s.notAhead("its slot's epoch", r.SlotEpoch(s.Network))
	case duty.Block:
		return s.notAhead("its epoch", r.DutyEpoch(s.Network))
	case duty.Deposit:
		switch {
		case r.Pubkey != k.Pubkey:
			return no("the deposit is of another key, %v", r.Pubkey)
		case r.Genesis != s.Network.GenesisForkVersion:
			return no("the deposit is for fork version %v, and this key is for %s, %v", r.Genesis, s.Network.Name, s.Network.GenesisForkVersion)
		case r.Credentials != k.Credentials:
			return no("the deposit's withdrawal credentials are %v, and the certificate's %v", r.Credentials, k.Credentials)
		case !slices.Contains(k.Plan, r.Amount):
			return no("a deposit of %d gwei is not in the certificate's plan %v", r.Amount, k.Plan)
		}
	case duty.Registration:
		if r.Pubkey != k.Pubkey {
			return no("the registration is of another key, %v", r.Pubkey)
		}
		return s.pays(k, r.FeeRecipient)
	case duty.ProposerPreferences:
		return s.pays(k, r.FeeRecipient)
	}
	return nil
}

// pays allows fees to go where the stake goes, and where the operator says.
func (s *Signer) pays(k Key, to eth.Address) error {
	if own, ok := k.Credentials.Address(); ok && own == to || slices.Contains(s.Policy.FeeRecipients, to) {
		return nil
	}
	return fmt.Errorf("%w: fee recipient %s is neither the validator's own withdrawal address nor one that this signer was told", ErrRefused, to)
}

func (s *Signer) notAhead(what string, epoch uint64) error {
	now, ok := s.Epoch()
	if ok && (epoch > now+ahead) {
		return fmt.Errorf("%w: %s %d lies ahead of this machine's clock, epoch %d", ErrRefused, what, epoch, now)
	}
	return nil
}

// Epoch is the network's epoch by this machine's clock; false if the
// network's genesis time is not known.
func (s *Signer) Epoch() (uint64, bool) { return EpochAt(s.Network, s.Now().Unix()) }

// EpochAt is the epoch of a network at a time (unix seconds).
func EpochAt(n eth.Network, unix int64) (uint64, bool) {
	if n.GenesisTime == 0 || n.SecondsPerSlot == 0 || n.SlotsPerEpoch == 0 {
		return 0, false
	}
	if unix < n.GenesisTime {
		return 0, true
	}
	return uint64(unix-n.GenesisTime) / n.SecondsPerSlot / n.SlotsPerEpoch, true
}
