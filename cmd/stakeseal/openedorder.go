package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/keygen/mnemonic"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
	"github.com/stakeseal/stakeseal/unseal"
)

// openedOrder holds the seeds of an order's mnemonics, and nothing else of
// them.
type openedOrder struct {
	seeds map[string]*secret.Bytes // by mnemonic id
	names []string                 // of the recipients whose identities opened all of them
}

func (o *openedOrder) wipe() {
	for _, seed := range o.seeds {
		seed.Wipe()
	}
}

// open opens every mnemonic of the order with every key, so that each key is
// proven on its own.
func (s *sealedOrder) open(ctx context.Context, keys []key) (_ *openedOrder, err error) {
	o := &openedOrder{seeds: map[string]*secret.Bytes{}}
	defer func() {
		if err != nil {
			o.wipe()
		}
	}()
	all := make([]string, len(keys)) // the name of each key that opened everything so far
	for i, m := range s.mnemonics {
		opened := 0
		for j, k := range keys {
			name, err := s.openOne(ctx, o, m, k)
			if errors.Is(err, unseal.ErrNoIdentity) {
				all[j] = ""
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("mnemonic %s of order %s: %w", m.ID, s.order.ID, err)
			}
			opened++
			if i == 0 {
				all[j] = name
			}
		}
		if opened == 0 {
			return nil, fail(exitDenied, "use the identity of one of these recipients", "order %s: mnemonic %s is sealed to %s; it is not opened by %s",
				s.order.ID, m.ID, recipientNames(m.Sealing.Recipients), keyNames(keys))
		}
	}
	for _, name := range all {
		if name != "" && !slices.Contains(o.names, name) {
			o.names = append(o.names, name)
		}
	}
	return o, nil
}

func keyNames(keys []key) string {
	if len(keys) == 1 {
		return keys[0].text
	}
	return fmt.Sprintf("any of the %d identities", len(keys))
}

// openOne opens one mnemonic with one key, and keeps its seed. It returns the
// name of the recipient that the key is.
func (s *sealedOrder) openOne(ctx context.Context, o *openedOrder, m record.Mnemonic, k key) (string, error) {
	name, listed := k.recipient(m.Sealing.Recipients)
	opened, err := k.opener.Mnemonic(ctx, m.Sealing.File, seal.RecoveryBinding(s.order.Network, s.order.ID, m.ID))
	if errors.Is(err, unseal.ErrNoIdentity) && listed {
		// The record says that it opens. Whoever wrote both lies, or a stanza
		// was changed: this holder could not recover.
		return "", fmt.Errorf("%w: it is recorded as sealed to %s, whose identity does not open it", birth.ErrTampered, name)
	}
	if err != nil {
		return "", err
	}
	defer opened.Wipe()
	if !listed {
		if k.public != "" {
			return "", fmt.Errorf("%w: %s opens it and is not among its recipients: it was sealed to somebody whom its record does not name", birth.ErrTampered, k.text)
		}
		name = k.text // a hardware key, which does not say whose it is
	}
	if err := s.facts(m, opened.Facts); err != nil {
		return "", err
	}
	if o.seeds[m.ID] != nil {
		return name, nil
	}
	phrase, err := mnemonic.Parse(opened.Words, mnemonic.Language(opened.Language))
	if err != nil {
		return "", fmt.Errorf("%w: what it holds is no mnemonic: %w", unseal.ErrBody, err)
	}
	defer phrase.Wipe()
	o.seeds[m.ID] = phrase.Seed(nil)
	return name, nil
}

// facts compares what a sealed mnemonic says of itself with the order: who
// recovers by hand, without stakeseal, has nothing else to go by.
func (s *sealedOrder) facts(m record.Mnemonic, facts map[string]string) error {
	if s.imported() {
		return s.factsOfImport(m, facts)
	}
	address, _ := s.order.Credentials.Address()
	for name, want := range map[string]string{
		"indexes":                fmt.Sprintf("%d-%d", m.From, m.To-1),
		"path":                   "m/12381/3600/<index>/0/0",
		"withdrawal-address":     address.String(),
		"withdrawal-credentials": s.order.Credentials.String(),
		"plan":                   planText(s.network, s.order.Plan),
	} {
		if got, ok := facts[name]; !ok || got != want {
			return fmt.Errorf("%w: inside, its %q is %q, and the order's is %q", birth.ErrTampered, name, got, want)
		}
	}
	return nil
}

// rederives derives a validator's pubkey from its mnemonic at the path of its
// record, step by step as any other tool would, and compares.
func (o *openedOrder) rederives(v record.Validator) error {
	key, err := bls.FromSeed(o.seeds[v.Mnemonic], v.Path)
	if err != nil {
		return fmt.Errorf("couldn't re-derive index %d of order %s: %w", v.Index, v.Order, err)
	}
	defer key.Wipe()
	if got := key.Pubkey(); got != v.Pubkey {
		return fail(exitRefused, "do not deposit to it: nobody could recover it; keep the home as it is, and compare with the bundles and another copy",
			"index %d of order %s does not come out of its mnemonic: %s gives %v, the record says %v", v.Index, v.Order, v.Mnemonic, got, v.Pubkey)
	}
	return nil
}
