package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// certified is what verified certificates say of deposits, by pubkey.
type certified map[eth.Pubkey]deposit.Known

var _ deposit.Births = certified{}

// Deposits implements deposit.Births.
func (c certified) Deposits(_ context.Context, pubkey eth.Pubkey) (deposit.Known, error) {
	return c[pubkey], nil
}

// knownOf is a certificate, as the trust file that judges deposits verified
// it, as the judge wants it. That trust file is what makes an approval count:
// a record, or another's verdict, would not do.
func knownOf(v *certificate.Verified) deposit.Known {
	k := deposit.Known{Ours: true, Network: v.Network, Credentials: v.Credentials}
	for _, d := range v.Deposits {
		k.Deposits = append(k.Deposits, deposit.Planned{Amount: d.Amount, Signature: d.Signature, MessageRoot: d.MessageRoot, DataRoot: d.DataRoot})
	}
	if v.Approver != "" {
		k.Approved, k.ApprovedAs, k.ApprovedBy = addressOf(v.Credentials), v.AddressName, v.Approver
	}
	return k
}

// recorded is the certificates of a home's records.
type recorded struct{ *home }

// Deposits implements deposit.Births.
func (r recorded) Deposits(ctx context.Context, pubkey eth.Pubkey) (deposit.Known, error) {
	_, v, err := r.born(ctx, pubkey)
	if errors.Is(err, record.ErrNotFound) {
		return deposit.Known{}, nil
	}
	if err != nil {
		err = unsound(pubkey, err)
		if code, _ := verdict(err); code == exitRefused {
			err = fmt.Errorf("%w: %w", deposit.ErrCertificate, err)
		}
		return deposit.Known{}, err
	}
	return knownOf(v), nil
}

// either looks in the first, then in the second.
type either struct{ first, second deposit.Births }

// Deposits implements deposit.Births.
func (e either) Deposits(ctx context.Context, pubkey eth.Pubkey) (deposit.Known, error) {
	known, err := e.first.Deposits(ctx, pubkey)
	if err != nil || known.Ours {
		return known, err
	}
	return e.second.Deposits(ctx, pubkey)
}

// narrowed lets only those approved addresses count that were asked for.
type narrowed struct {
	deposit.Births
	to []eth.Address
}

// Deposits implements deposit.Births.
func (n narrowed) Deposits(ctx context.Context, pubkey eth.Pubkey) (deposit.Known, error) {
	known, err := n.Births.Deposits(ctx, pubkey)
	if !slices.Contains(n.to, known.Approved) {
		known.Approved, known.ApprovedAs, known.ApprovedBy = eth.Address{}, "", ""
	}
	return known, err
}
