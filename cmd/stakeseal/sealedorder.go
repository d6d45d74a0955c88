package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// sealedOrder is an order as recovery reads it, from a home or a bundle: all
// that is in it was verified against the trust file before it is used. The
// imported keys of a home are read as if they were one more order; of them all
// was held against the archive instead (importorder.go).
type sealedOrder struct {
	order     record.Order
	network   eth.Network
	mnemonics []record.Mnemonic
	count     int                    // validators
	first     func(id string) string // pubkey of an imported mnemonic

	// births yields, for each validator, what reads and judges its record.
	births iter.Seq2[func(context.Context) (record.Birth, *certificate.Verified, error), error]
}

// recipients are the names of whom the order's mnemonics are sealed to.
func (s *sealedOrder) recipients() []string {
	var names []string
	for _, m := range s.mnemonics {
		for _, r := range m.Sealing.Recipients {
			if !slices.Contains(names, r.Name) {
				names = append(names, r.Name)
			}
		}
	}
	return names
}

// keyOf is the key of a recipient of the order's mnemonics, "" if there is none.
func (s *sealedOrder) keyOf(name string) string {
	for _, m := range s.mnemonics {
		for _, r := range m.Sealing.Recipients {
			if r.Name == name {
				return r.Key
			}
		}
	}
	return ""
}

// covers refuses a validator that was certified for another order, or with
// another sealing or other recipients of its mnemonic than are recorded.
func (s *sealedOrder) covers(b record.Birth, v *certificate.Verified) error {
	if s.imported() {
		return s.coversImport(b)
	}
	changed := func(what string) error {
		return fmt.Errorf("%w: index %d of order %s: %s", birth.ErrTampered, b.Index, s.order.ID, what)
	}
	if v.NetworkDigest != s.network.Digest() {
		return changed("it was certified for another network")
	}
	if err := birth.Fills(v.Birth, s.order); err != nil {
		return err
	}
	i := slices.IndexFunc(s.mnemonics, func(m record.Mnemonic) bool { return m.ID == b.Mnemonic })
	if i < 0 {
		return changed("its mnemonic " + b.Mnemonic + " is missing")
	}
	m := s.mnemonics[i]
	if err := birth.Descends(m, s.order.ID, v.Mnemonic); err != nil {
		return err
	}
	if err := m.Covers(b.Validator); err != nil {
		return changed(err.Error())
	}
	return nil
}

// sealedOrder reads an order of the home. What the store says is compared
// with the archive's objects and, for a finished order, with its receipt.
func (h *home) sealedOrder(ctx context.Context, id string) (*sealedOrder, error) {
	if id == record.ImportedOrder {
		return h.sealedImports(ctx)
	}
	order, err := h.records.Order(ctx, id)
	if errors.Is(err, record.ErrNotFound) {
		return nil, usage("stakeseal orders lists them", "there is no order %q in this home", id)
	}
	if err != nil {
		return nil, err
	}
	if order.Network != h.generator.Network.Name {
		return nil, fmt.Errorf("%w: order %s is for network %q", birth.ErrTampered, id, order.Network)
	}
	s := &sealedOrder{order: order, network: h.generator.Network}
	archived := map[string]bool{}
	for m, err := range h.records.Mnemonics(ctx, id) {
		if err != nil {
			return nil, err
		}
		// One that is in the store only was made by a run that ended before
		// it derived anything: no validator may name it.
		err := h.sameInArchive(ctx, birth.MnemonicObject(id, m.ID), func() ([]byte, error) { return record.EncodeMnemonic(m) })
		if err != nil && !errors.Is(err, record.ErrNotFound) {
			return nil, err
		}
		archived[m.ID] = err == nil
		s.mnemonics = append(s.mnemonics, m)
	}
	var rows []record.Validator
	for v, err := range h.records.Validators(ctx, record.Query{Order: id}) {
		if err != nil {
			return nil, err
		}
		rows = append(rows, v)
	}
	s.count = len(rows)
	if s.count > 0 { // the order was archived before its first mnemonic was made
		if err := h.sameInArchive(ctx, birth.OrderObject(id), func() ([]byte, error) { return record.EncodeOrder(order) }); err != nil {
			return nil, err
		}
	}
	listed, err := h.listed(ctx, order, rows)
	if err != nil {
		return nil, err
	}
	s.births = func(yield func(func(context.Context) (record.Birth, *certificate.Verified, error), error) bool) {
		for _, row := range rows {
			job := func(ctx context.Context) (record.Birth, *certificate.Verified, error) {
				b, v, err := h.born(ctx, row.Pubkey)
				if err != nil {
					return b, v, err
				}
				if b.Index != row.Index || b.Order != id || !archived[b.Mnemonic] {
					return b, v, fmt.Errorf("%w: index %d of order %s is not what the store lists and the archive holds", birth.ErrTampered, row.Index, id)
				}
				if err := h.sameInArchive(ctx, birth.BirthObject(id, b.Index), func() ([]byte, error) { return record.EncodeBirth(b) }); errors.Is(err, record.ErrNotFound) {
					return b, v, h.unarchived(ctx, id, b.Index, err)
				} else if err != nil {
					return b, v, err
				}
				if listed == nil {
					return b, v, nil
				}
				if line, err := birth.Listed(b); err != nil || line != listed[b.Index] {
					return b, v, fmt.Errorf("%w: index %d of order %s is not the validator in the receipt", birth.ErrTampered, b.Index, id)
				}
				return b, v, nil
			}
			if !yield(job, nil) {
				return
			}
		}
	}
	return s, nil
}

// listed is what the order's receipt lists, by index, and refuses an order
// with fewer rows: one that was taken out of the store looks like one that
// was never made. Without a receipt (nil) the archive shows it.
func (h *home) listed(ctx context.Context, order record.Order, rows []record.Validator) (map[uint32]certificate.ReceiptValidator, error) {
	there := map[uint32]bool{}
	for _, row := range rows {
		there[row.Index] = true
	}
	missing := func(index uint32) error {
		return fmt.Errorf("%w: index %d of order %s was made and is missing in the store", birth.ErrTampered, index, order.ID)
	}
	envelope, err := h.archive.Get(ctx, birth.ReceiptObject(order.ID, 0, order.Count))
	if errors.Is(err, record.ErrNotFound) {
		for index := range order.Count {
			if there[index] {
				continue
			}
			if _, err := h.archive.Get(ctx, birth.BirthObject(order.ID, index)); err == nil {
				return nil, missing(index)
			} else if !errors.Is(err, record.ErrNotFound) {
				return nil, err
			}
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	receipt, err := h.verifiedReceipt(order, envelope)
	if err != nil {
		return nil, err
	}
	listed := map[uint32]certificate.ReceiptValidator{}
	for _, v := range receipt.Validators {
		if !there[v.Index] {
			return nil, missing(v.Index)
		}
		listed[v.Index] = v
	}
	return listed, nil
}

// sameInArchive compares a record with the archive's copy of it.
func (h *home) sameInArchive(ctx context.Context, name string, encode func() ([]byte, error)) error {
	object, err := encode()
	if err != nil {
		return err
	}
	there, err := h.archive.Get(ctx, name)
	if errors.Is(err, record.ErrNotFound) {
		return fmt.Errorf("%w: the archive has no %s: %w", birth.ErrTampered, name, err)
	}
	if err != nil {
		return fmt.Errorf("couldn't compare with the archive: %w", err)
	}
	if !bytes.Equal(there, object) {
		return fmt.Errorf("%w: %s differs between the store and the archive", birth.ErrTampered, name)
	}
	return nil
}

// bundledOrder reads an order out of a bundle; its caller closes it.
func bundledOrder(path string, trust *certificate.Trust) (*sealedOrder, func(), error) {
	b, close, err := openBundle(path, trust)
	if err != nil {
		return nil, nil, err
	}
	s := &sealedOrder{order: b.Order, network: trust.Network, mnemonics: b.Mnemonics, count: len(b.Receipt.Validators)}
	s.births = func(yield func(func(context.Context) (record.Birth, *certificate.Verified, error), error) bool) {
		for born, err := range b.Births() {
			job := func(context.Context) (record.Birth, *certificate.Verified, error) {
				v, err := trust.VerifyBirth(born.Certificate)
				return born, v, err
			}
			if !yield(job, err) || err != nil {
				return
			}
		}
	}
	return s, func() { _ = close() }, nil
}

// prove re-derives every validator of the order from its opened mnemonic, at
// the path in its certificate, and returns their public parts by index.
func (s *sealedOrder) prove(ctx context.Context, o *openedOrder, workers int, bar *bar) ([]record.Validator, error) {
	var mu sync.Mutex
	var rows []record.Validator
	err := inParallel(ctx, workers, s.births, func(ctx context.Context, read func(context.Context) (record.Birth, *certificate.Verified, error)) error {
		b, v, err := read(ctx)
		if err != nil {
			return err
		}
		if err := s.covers(b, v); err != nil {
			return err
		}
		if err := o.rederives(b.Validator); err != nil {
			return err
		}
		bar.step()
		mu.Lock()
		defer mu.Unlock()
		rows = append(rows, b.Validator)
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(rows, func(x, y record.Validator) int { // of imports several may share an index
		return cmp.Or(cmp.Compare(x.Index, y.Index), bytes.Compare(x.Pubkey[:], y.Pubkey[:]))
	})
	if len(rows) != s.count {
		return nil, fmt.Errorf("%w: order %s changed while it was read", birth.ErrTampered, s.order.ID)
	}
	return rows, nil
}
