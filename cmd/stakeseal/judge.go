package main

import (
	"context"
	"fmt"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// agrees refuses a record that says anything else than its certificate, and a
// sealed file that is not the one certified.
func agrees(b record.Birth, v *certificate.Verified) error {
	if record.DigestOf(b.Sealing.File) != b.Sealing.Digest {
		return fmt.Errorf("%w: the sealed secret of %v", birth.ErrTampered, b.Pubkey)
	}
	return birth.Agrees(b, v.Birth)
}

// born reads a validator's record and refuses it unless its certificate
// verifies against the home's trust file: every later step of a key's life
// begins here.
func (h *home) born(ctx context.Context, pubkey eth.Pubkey) (record.Birth, *certificate.Verified, error) {
	b, err := h.records.Birth(ctx, pubkey)
	if err != nil {
		return b, nil, err
	}
	v, err := h.trust.VerifyBirth(b.Certificate)
	if err == nil {
		err = agrees(b, v)
	}
	if err != nil {
		return b, nil, fmt.Errorf("the record of %v: %w", pubkey, err)
	}
	return b, v, nil
}
