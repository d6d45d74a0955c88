package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/record"
)

// imported says that these are the imported keys, which are no order.
func (s *sealedOrder) imported() bool { return s.order.ID == record.ImportedOrder }

// sealedImports reads the imported keys that came with a mnemonic, as recovery
// reads an order. Each record is compared with the archive's object; there is
// no certificate and no receipt to compare it with.
func (h *home) sealedImports(ctx context.Context) (*sealedOrder, error) {
	mnemonics, err := h.foreignMnemonics(ctx)
	if err != nil {
		return nil, err
	}
	s := &sealedOrder{network: h.generator.Network}
	for _, id := range sortedNames(mnemonics) {
		m := mnemonics[id]
		if m.Network != h.generator.Network.Name {
			return nil, fmt.Errorf("%w: imported mnemonic %s is for network %q", birth.ErrTampered, id, m.Network)
		}
		s.mnemonics = append(s.mnemonics, record.Mnemonic{ID: m.ID, Order: record.ImportedOrder, Sealing: m.Sealing, Created: m.Created})
	}
	s.first = func(id string) string { return mnemonics[id].First.String() }
	var rows []record.Imported
	for i, err := range h.records.Imported(ctx, "") {
		if err != nil {
			return nil, err
		}
		if i.Mnemonic != "" {
			rows = append(rows, i)
		}
	}
	s.count = len(rows)
	s.order = record.Order{ID: record.ImportedOrder, Network: h.generator.Network.Name, Count: uint32(s.count)}
	s.births = func(yield func(func(context.Context) (record.Birth, *certificate.Verified, error), error) bool) {
		for _, row := range rows {
			job := func(ctx context.Context) (record.Birth, *certificate.Verified, error) {
				v, sealing, err := h.signing(ctx, chosenImport(row))
				return record.Birth{Validator: v, Sealing: sealing}, nil, err
			}
			if !yield(job, nil) {
				return
			}
		}
	}
	return s, nil
}

// coversImport refuses an imported key whose mnemonic is not there.
func (s *sealedOrder) coversImport(b record.Birth) error {
	if !slices.ContainsFunc(s.mnemonics, func(m record.Mnemonic) bool { return m.ID == b.Mnemonic }) {
		return fmt.Errorf("%w: the mnemonic %s of the import of %v is missing", birth.ErrTampered, b.Mnemonic, b.Pubkey)
	}
	return nil
}

// factsOfImport compares what an imported mnemonic says of itself with its
// record.
func (s *sealedOrder) factsOfImport(m record.Mnemonic, facts map[string]string) error {
	for name, want := range map[string]string{"path": "m/12381/3600/<index>/0/0", "first-pubkey": s.first(m.ID)} {
		if got, ok := facts[name]; !ok || got != want {
			return fmt.Errorf("%w: inside, its %q is %q, and the record's is %q", birth.ErrTampered, name, got, want)
		}
	}
	return nil
}
