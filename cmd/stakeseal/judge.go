package main

import (
	"context"
	"errors"
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
	v, err := h.verify(b)
	if err == nil {
		err = agrees(b, v)
	}
	if err != nil {
		return b, nil, fmt.Errorf("the record of %v: %w", pubkey, err)
	}
	return b, v, nil
}

// madeBy is a run of the generator: what its certificates say beyond the records
// is the same in all of them.
type madeBy struct{ order, mnemonic string }

// verify judges the certificate of a record as the trust file's VerifyBirth
// does. Most of what it reads is the ten-thousandth of its kind, so it guesses
// what the certificate says.
func (h *home) verify(b record.Birth) (*certificate.Verified, error) {
	run := madeBy{b.Order, b.Mnemonic}
	if like, ok := h.verified.Load(run); ok {
		return h.trust.VerifyBirthAs(b.Certificate, birth.Guess(b, *like.(*certificate.Birth)))
	}
	v, err := h.trust.VerifyBirth(b.Certificate)
	if err == nil {
		first := v.Birth
		h.verified.LoadOrStore(run, &first)
	}
	return v, err
}

// errCutShort says that a run ended between a birth's commit and its archive.
var errCutShort = errors.New("its making was cut short")

// unarchived explains a birth that the archive lacks: a run that was killed
// leaves one. Where the order has its receipt, somebody took the object away.
func (h *home) unarchived(ctx context.Context, order string, index uint32, missing error) error {
	o, err := h.records.Order(ctx, order)
	if err != nil {
		return err
	}
	_, err = h.archive.Get(ctx, birth.ReceiptObject(order, 0, o.Count))
	switch {
	case errors.Is(err, record.ErrNotFound):
		return fail(exitRefused, "stakeseal generate --resume "+order+" finishes it, if it was interrupted; else somebody changed the archive",
			"index %d of order %s is not archived: %w", index, order, errCutShort)
	case err != nil:
		return err
	}
	return fmt.Errorf("%w: couldn't read index %d from the archive, which had order %s whole: %w", birth.ErrTampered, index, order, missing)
}
