package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// Place implements record.Births.
func (s *Store) Place(ctx context.Context, o record.Order) (record.Order, error) {
	data, err := record.EncodeOrder(o)
	if err != nil {
		return record.Order{}, fmt.Errorf("couldn't place order %q: %w", o.ID, err)
	}
	var stored record.Order
	err = s.write(ctx, func(t *tx) error {
		first, found, err := t.order(o.ID)
		switch {
		case err != nil:
			return err
		case found && (first.Digest() != o.Digest() || first.Settings != o.Settings):
			return record.ErrConflict
		case found:
			stored = first
			return nil
		}
		sum := record.DigestOf(data)
		if err := t.exec("INSERT INTO orders (id, created, record, sha256) VALUES (?, ?, ?, ?)",
			o.ID, o.Created.Unix(), string(data), sum[:]); err != nil {
			return err
		}
		stored, err = record.DecodeOrder(data)
		return err
	})
	if err != nil {
		return record.Order{}, fmt.Errorf("couldn't place order %q: %w", o.ID, err)
	}
	return stored, nil
}

const selectOrder = "SELECT id, record, sha256 FROM orders"

func (t *tx) order(id string) (o record.Order, found bool, err error) {
	var r row
	found, err = t.row(selectOrder+" WHERE id = ?", []any{id}, &r.id, &r.record, &r.sum)
	if err != nil || !found {
		return record.Order{}, false, err
	}
	o, err = r.order()
	return o, err == nil, err
}

// PutMnemonic implements record.Births.
func (s *Store) PutMnemonic(ctx context.Context, m record.Mnemonic) error {
	err := s.putMnemonic(ctx, m)
	if err != nil {
		return fmt.Errorf("couldn't store mnemonic %q of order %q: %w", m.ID, m.Order, err)
	}
	return nil
}

func (s *Store) putMnemonic(ctx context.Context, m record.Mnemonic) error {
	data, err := record.EncodeMnemonic(m)
	if err != nil {
		return err
	}
	sum := record.DigestOf(data)
	return s.write(ctx, func(t *tx) error {
		o, found, err := t.order(m.Order)
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("order %q: %w", m.Order, record.ErrNotFound)
		}
		if err := m.Fits(o); err != nil {
			return err
		}
		var stored []byte
		found, err = t.row("SELECT record FROM mnemonics WHERE order_id = ? AND id = ?", []any{m.Order, m.ID}, &stored)
		switch {
		case err != nil:
			return err
		case found && string(stored) == string(data):
			return nil
		case found:
			return record.ErrConflict
		}
		return t.exec("INSERT INTO mnemonics (order_id, id, first, past, record, sha256) VALUES (?, ?, ?, ?, ?, ?)",
			m.Order, m.ID, m.From, m.To, string(data), sum[:])
	})
}

// PutBirth implements record.Births. Birth and sealing are one transaction.
func (s *Store) PutBirth(ctx context.Context, b record.Birth) (record.Birth, error) {
	err := s.putBirth(ctx, b)
	if err != nil {
		return record.Birth{}, fmt.Errorf("couldn't store index %d of order %q: %w", b.Index, b.Order, err)
	}
	// Through another connection: what a later reader will see, not what
	// this call holds.
	owner, err := s.birth(ctx, "b.order_id = ? AND b.idx = ?", b.Order, b.Index)
	if err != nil {
		return record.Birth{}, fmt.Errorf("couldn't read back index %d of order %q: %w", b.Index, b.Order, err)
	}
	return owner, nil
}

func (s *Store) putBirth(ctx context.Context, b record.Birth) error {
	whole, err := record.EncodeBirth(b)
	if err != nil {
		return err
	}
	validator, err := record.EncodeValidator(b.Validator)
	if err != nil {
		return err
	}
	recipients, err := json.Marshal(b.Sealing.Recipients)
	if err != nil {
		return err
	}
	wholeSum, validatorSum := record.DigestOf(whole), record.DigestOf(validator)
	return s.write(ctx, func(t *tx) error {
		o, found, err := t.order(b.Order)
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("order %q: %w", b.Order, record.ErrNotFound)
		}
		if err := b.Fits(o); err != nil {
			return err
		}
		m := record.Mnemonic{Order: b.Order, ID: b.Mnemonic}
		found, err = t.row("SELECT first, past FROM mnemonics WHERE order_id = ? AND id = ?", []any{m.Order, m.ID}, &m.From, &m.To)
		if err != nil {
			return err
		}
		if !found { // its key could not be recovered
			return fmt.Errorf("mnemonic %q: %w", b.Mnemonic, record.ErrNotFound)
		}
		if err := m.Covers(b.Validator); err != nil {
			return err
		}
		var order string
		var index uint32
		found, err = t.row("SELECT order_id, idx FROM births WHERE pubkey = ?", []any{b.Pubkey[:]}, &order, &index)
		if err != nil {
			return err
		}
		if found && (order != b.Order || index != b.Index) {
			return fmt.Errorf("pubkey %s is index %d of order %q: %w", b.Pubkey, index, order, record.ErrConflict)
		}
		if found {
			return nil
		}
		if imported, err := t.isImported(b.Pubkey); err != nil {
			return err
		} else if imported {
			return fmt.Errorf("pubkey %s was imported: %w", b.Pubkey, record.ErrConflict)
		}
		var one int
		taken, err := t.row("SELECT 1 FROM births WHERE order_id = ? AND idx = ?", []any{b.Order, b.Index}, &one)
		if err != nil || taken {
			return err
		}
		if err := t.exec("INSERT INTO births (order_id, idx, pubkey, mnemonic, validator, validator_sha256, record_sha256, certificate) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
			b.Order, b.Index, b.Pubkey[:], b.Mnemonic, string(validator), validatorSum[:], wholeSum[:], string(b.Certificate)); err != nil {
			return err
		}
		return t.exec("INSERT INTO sealings (pubkey, generation, purpose, previous, recipients, digest, file) VALUES (?, 0, ?, NULL, ?, ?, ?)",
			b.Pubkey[:], b.Sealing.Purpose, string(recipients), b.Sealing.Digest[:], b.Sealing.File)
	})
}

// birth reads the one birth that where selects, with its sealing of
// generation 0, and checks that it is the record that was written.
func (s *Store) birth(ctx context.Context, where string, args ...any) (record.Birth, error) {
	var (
		r                               row
		recipients, certificate, digest []byte
		whole                           []byte
		purpose                         sql.NullString
		b                               record.Birth
	)
	err := s.one(ctx, `SELECT b.order_id, b.idx, b.pubkey, b.validator, b.validator_sha256, b.record_sha256, b.certificate,
		s.purpose, s.recipients, s.digest, s.file
		FROM births b LEFT JOIN sealings s ON s.pubkey = b.pubkey AND s.generation = 0 WHERE `+where, args,
		&r.id, &r.index, &r.pubkey, &r.record, &r.sum, &whole, &certificate,
		&purpose, &recipients, &digest, &b.Sealing.File)
	if err != nil {
		return record.Birth{}, err
	}
	if b.Validator, err = r.validator(); err != nil {
		return record.Birth{}, err
	}
	corrupt := func(err error) (record.Birth, error) {
		return record.Birth{}, fmt.Errorf("birth of %s: %w: %w", b.Pubkey, record.ErrCorrupt, err)
	}
	if !purpose.Valid {
		return corrupt(errors.New("its sealing is gone"))
	}
	b.Sealing.Purpose = purpose.String
	if b.Sealing.Recipients, err = s.recipients(recipients); err != nil {
		return corrupt(err)
	}
	copy(b.Sealing.Digest[:], digest)
	b.Certificate = certificate
	data, err := record.EncodeBirth(b)
	if err != nil {
		return corrupt(err)
	}
	if sum := record.DigestOf(data); string(sum[:]) != string(whole) {
		return corrupt(fmt.Errorf("its sha256 is %s, noted was %x", sum, whole))
	}
	return b, nil
}

// recipients reads the list of a sealing. A home seals nearly everything to the
// same ones, so the text that was read last is not read again; a list is the
// caller's own.
func (s *Store) recipients(text []byte) ([]record.Recipient, error) {
	if last := s.sealedTo.Load(); last != nil && string(text) == last.text {
		return slices.Clone(last.list), nil
	}
	var list []record.Recipient
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, err
	}
	s.sealedTo.Store(&recipientList{string(text), slices.Clone(list)})
	return list, nil
}

// recipientList is a sealing's recipients, and the text that they are stored as.
type recipientList struct {
	text string
	list []record.Recipient
}

// Birth implements record.Reader.
func (s *Store) Birth(ctx context.Context, pubkey eth.Pubkey) (record.Birth, error) {
	b, err := s.birth(ctx, "b.pubkey = ?", pubkey[:])
	if err == nil && b.Pubkey != pubkey {
		err = fmt.Errorf("found %s: %w", b.Pubkey, record.ErrCorrupt)
	}
	if err != nil {
		return record.Birth{}, fmt.Errorf("couldn't read the birth of %s: %w", pubkey, err)
	}
	return b, nil
}
