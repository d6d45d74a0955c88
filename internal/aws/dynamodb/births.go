package dynamodb

import (
	"context"
	"fmt"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// Place implements record.Births. One item is the claim on the id, the order
// and its place in the list of orders.
func (s *Store) Place(ctx context.Context, o record.Order) (record.Order, error) {
	stored, err := s.place(ctx, o)
	if err != nil {
		return record.Order{}, fmt.Errorf("couldn't place order %q: %w", o.ID, err)
	}
	return stored, nil
}

func (s *Store) place(ctx context.Context, o record.Order) (record.Order, error) {
	data, err := record.EncodeOrder(o)
	if err != nil {
		return record.Order{}, err
	}
	applied, err := s.put(ctx, s.tables.Records, withRecord(orderKey(o.ID), data), absent)
	if err != nil {
		return record.Order{}, err
	}
	if applied {
		return record.DecodeOrder(data) // a copy: o's maps and lists stay the caller's
	}
	first, found, err := s.order(ctx, o.ID)
	switch {
	case err != nil:
		return record.Order{}, err
	case !found:
		return record.Order{}, errVanished
	case first.Digest() != o.Digest() || first.Settings != o.Settings:
		return record.Order{}, record.ErrConflict
	}
	return first, nil
}

func (s *Store) order(ctx context.Context, id string) (o record.Order, found bool, err error) {
	if !isID(id) {
		return record.Order{}, false, nil
	}
	it, err := s.get(ctx, s.tables.Records, orderKey(id))
	if err != nil || it == nil {
		return record.Order{}, false, err
	}
	o, err = it.order()
	return o, err == nil, err
}

// knownOrder returns the order that a write names. It is asked for once.
func (s *Store) knownOrder(ctx context.Context, id string) (record.Order, error) {
	s.mu.Lock()
	o, known := s.orders[id]
	s.mu.Unlock()
	if known {
		return o, nil
	}
	o, found, err := s.order(ctx, id)
	if err == nil && !found {
		err = record.ErrNotFound
	}
	if err != nil {
		return record.Order{}, fmt.Errorf("order %q: %w", id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.orders) >= maxKnown {
		clear(s.orders)
	}
	s.orders[id] = o
	return o, nil
}

// PutMnemonic implements record.Births.
func (s *Store) PutMnemonic(ctx context.Context, m record.Mnemonic) error {
	if err := s.putMnemonic(ctx, m); err != nil {
		return fmt.Errorf("couldn't store mnemonic %q of order %q: %w", m.ID, m.Order, err)
	}
	return nil
}

func (s *Store) putMnemonic(ctx context.Context, m record.Mnemonic) error {
	data, err := record.EncodeMnemonic(m)
	if err != nil {
		return err
	}
	o, err := s.knownOrder(ctx, m.Order)
	if err != nil {
		return err
	}
	if err := m.Fits(o); err != nil {
		return err
	}
	it := withRecord(mnemonicKey(m.Order, m.ID), data)
	return s.putOnce(ctx, it, func(stored item) error { return discard(stored.mnemonic()) })
}

// knownMnemonic returns the mnemonic that a birth names, without its sealing.
func (s *Store) knownMnemonic(ctx context.Context, order, id string) (record.Mnemonic, error) {
	name := [2]string{order, id}
	s.mu.Lock()
	m, known := s.mnemonics[name]
	s.mu.Unlock()
	if known {
		return m, nil
	}
	it, err := s.get(ctx, s.tables.Records, mnemonicKey(order, id))
	switch {
	case err != nil:
	case it == nil: // its keys could not be recovered
		err = record.ErrNotFound
	default:
		m, err = it.mnemonic()
	}
	if err != nil {
		return record.Mnemonic{}, fmt.Errorf("mnemonic %q: %w", id, err)
	}
	m.Sealing = record.Sealing{}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mnemonics) >= maxKnown {
		clear(s.mnemonics)
	}
	s.mnemonics[name] = m
	return m, nil
}

// PutBirth implements record.Births in two writes: the claim of the pubkey,
// which says for which index it is, and the birth. A crash between them leaves
// a claim that no birth followed. It means nothing to a reader, the same call
// repeated finds it its own, and Unborn lists it; a birth without a claim,
// which could be put a second time elsewhere, never exists.
func (s *Store) PutBirth(ctx context.Context, b record.Birth) (record.Birth, error) {
	if err := s.putBirth(ctx, b); err != nil {
		return record.Birth{}, fmt.Errorf("couldn't store index %d of order %q: %w", b.Index, b.Order, err)
	}
	it, err := s.get(ctx, s.tables.Records, birthKey(b.Order, b.Index))
	if err == nil && it == nil {
		err = errVanished
	}
	var owner record.Birth
	if err == nil {
		owner, err = it.birth()
	}
	if err != nil {
		return record.Birth{}, fmt.Errorf("couldn't read back index %d of order %q: %w", b.Index, b.Order, err)
	}
	return owner, nil
}

func (s *Store) putBirth(ctx context.Context, b record.Birth) error {
	it, err := birthItem(b)
	if err != nil {
		return err
	}
	o, err := s.knownOrder(ctx, b.Order)
	if err != nil {
		return err
	}
	if err := b.Fits(o); err != nil {
		return err
	}
	m, err := s.knownMnemonic(ctx, b.Order, b.Mnemonic)
	if err != nil {
		return err
	}
	if err := m.Covers(b.Validator); err != nil {
		return err
	}
	// Looking first keeps a birth that comes late from leaving a claim.
	owner, found, err := s.validatorAt(ctx, b.Order, b.Index)
	if err != nil {
		return err
	}
	if found {
		if owner.Pubkey == b.Pubkey {
			return nil
		}
		held, err := s.claim(ctx, b.Pubkey)
		if err != nil || held == nil {
			return err
		}
		return held.must(b)
	}
	held, err := s.claimFor(ctx, Claim{b.Pubkey, b.Order, b.Index})
	if err != nil {
		return err
	}
	if err := held.must(b); err != nil {
		return err
	}
	_, err = s.put(ctx, s.tables.Records, it, absent) // not applied: another was faster
	return err
}

// Claim is a pubkey's one index. It is made before the birth and stands for
// good, even where another birth then took the index.
type Claim struct {
	Pubkey eth.Pubkey
	Order  string
	Index  uint32
}

func (c Claim) item() item {
	it := pubkeyKey(c.Pubkey).item()
	it[attrOrder], it[attrIndex] = str(c.Order), number(uint64(c.Index))
	return it
}

func (it item) claim() (Claim, error) {
	var c Claim
	index, ok := it.number(attrIndex)
	if !ok || index >= 1<<31 || c.Pubkey.UnmarshalText([]byte("0x"+it.text(attrSK))) != nil {
		return Claim{}, corrupt(it, fmt.Errorf("it is not the claim of a pubkey"))
	}
	c.Order, c.Index = it.text(attrOrder), uint32(index)
	if err := record.CheckID(c.Order); err != nil {
		return Claim{}, corrupt(it, plain(err))
	}
	if c.imported() && c.Index != 0 {
		return Claim{}, corrupt(it, fmt.Errorf("it claims index %d of what has none", c.Index))
	}
	if pubkeyKey(c.Pubkey) != it.key() {
		return Claim{}, corrupt(it, fmt.Errorf("it claims %s", c.Pubkey))
	}
	return c, nil
}

// must refuses a birth at another index than the claimed one.
func (c Claim) must(b record.Birth) error {
	if c.Order != b.Order || c.Index != b.Index {
		return fmt.Errorf("pubkey %s is index %d of order %q: %w", b.Pubkey, c.Index, c.Order, record.ErrConflict)
	}
	return nil
}

// claim reads the claim of a pubkey, or nil.
func (s *Store) claim(ctx context.Context, pubkey eth.Pubkey) (*Claim, error) {
	it, err := s.get(ctx, s.tables.Records, pubkeyKey(pubkey))
	if err != nil || it == nil {
		return nil, err
	}
	c, err := it.claim()
	return &c, err
}

// claimFor makes a claim and returns the one that the pubkey then has: this
// one, or one that was there.
func (s *Store) claimFor(ctx context.Context, c Claim) (Claim, error) {
	applied, err := s.put(ctx, s.tables.Records, c.item(), absent)
	if err != nil || applied {
		return c, err
	}
	held, err := s.claim(ctx, c.Pubkey)
	if err != nil {
		return Claim{}, err
	}
	if held == nil {
		return Claim{}, errVanished
	}
	return *held, nil
}

// validatorAt reads the public part of the birth at an index.
func (s *Store) validatorAt(ctx context.Context, order string, index uint32) (v record.Validator, found bool, err error) {
	it, err := s.get(ctx, s.tables.Records, birthKey(order, index), validatorAttributes...)
	if err != nil || it == nil {
		return record.Validator{}, false, err
	}
	v, err = it.validator()
	return v, err == nil, err
}

// born returns the public part of the birth that a claim was made for, or nil
// if none followed it.
func (s *Store) born(ctx context.Context, c Claim) (*record.Validator, error) {
	if c.imported() {
		return nil, nil
	}
	v, found, err := s.validatorAt(ctx, c.Order, c.Index)
	if err != nil || !found || v.Pubkey != c.Pubkey {
		return nil, err
	}
	return &v, nil
}
