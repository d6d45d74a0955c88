package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"iter"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

var (
	_ record.Imports      = (*Store)(nil)
	_ record.ImportReader = (*Store)(nil)
)

// PutImportedMnemonic implements record.Imports.
func (s *Store) PutImportedMnemonic(ctx context.Context, m record.ImportedMnemonic) error {
	if err := s.putImportedMnemonic(ctx, m); err != nil {
		return fmt.Errorf("couldn't store imported mnemonic %q: %w", m.ID, err)
	}
	return nil
}

func (s *Store) putImportedMnemonic(ctx context.Context, m record.ImportedMnemonic) error {
	data, err := record.EncodeImportedMnemonic(m)
	if err != nil {
		return err
	}
	sum := record.DigestOf(data)
	return s.write(ctx, func(t *tx) error {
		var stored []byte
		found, err := t.row("SELECT record FROM imported_mnemonics WHERE id = ?", []any{m.ID}, &stored)
		switch {
		case err != nil:
			return err
		case found && bytes.Equal(stored, data):
			return nil
		case found:
			return record.ErrConflict
		}
		return t.exec("INSERT INTO imported_mnemonics (id, record, sha256) VALUES (?, ?, ?)", m.ID, string(data), sum[:])
	})
}

// PutImport implements record.Imports.
func (s *Store) PutImport(ctx context.Context, i record.Import) error {
	if err := s.putImport(ctx, i); err != nil {
		return fmt.Errorf("couldn't store the import of %s: %w", i.Pubkey, err)
	}
	return nil
}

func (s *Store) putImport(ctx context.Context, i record.Import) error {
	data, err := record.EncodeImport(i)
	if err != nil {
		return err
	}
	public, err := record.EncodeImported(i.Imported)
	if err != nil {
		return err
	}
	sum, publicSum := record.DigestOf(data), record.DigestOf(public)
	mnemonic := sql.NullString{String: i.Mnemonic, Valid: i.Mnemonic != ""}
	return s.write(ctx, func(t *tx) error {
		if mnemonic.Valid {
			var r row
			found, err := t.row(selectImportedMnemonic+" WHERE id = ?", []any{i.Mnemonic}, &r.id, &r.record, &r.sum)
			if err != nil {
				return err
			}
			if !found {
				return fmt.Errorf("mnemonic %q: %w", i.Mnemonic, record.ErrNotFound)
			}
			m, err := r.importedMnemonic()
			if err != nil {
				return err
			}
			if err := i.Fits(m); err != nil {
				return err
			}
		}
		var one int
		born, err := t.row("SELECT 1 FROM births WHERE pubkey = ?", []any{i.Pubkey[:]}, &one)
		if err != nil {
			return err
		}
		if born {
			return fmt.Errorf("it was born here: %w", record.ErrExists)
		}
		var stored []byte
		found, err := t.row("SELECT record FROM imports WHERE pubkey = ?", []any{i.Pubkey[:]}, &stored)
		switch {
		case err != nil:
			return err
		case found && bytes.Equal(stored, data):
			return nil
		case found:
			return record.ErrConflict
		}
		return t.exec("INSERT INTO imports (pubkey, mnemonic, imported, imported_sha256, record, sha256) VALUES (?, ?, ?, ?, ?, ?)",
			i.Pubkey[:], mnemonic, string(public), publicSum[:], string(data), sum[:])
	})
}

// isImported says whether a pubkey was imported.
func (t *tx) isImported(pubkey eth.Pubkey) (bool, error) {
	var one int
	return t.row("SELECT 1 FROM imports WHERE pubkey = ?", []any{pubkey[:]}, &one)
}

// Import implements record.ImportReader.
func (s *Store) Import(ctx context.Context, pubkey eth.Pubkey) (record.Import, error) {
	var r row
	err := s.one(ctx, "SELECT pubkey, record, sha256 FROM imports WHERE pubkey = ?", []any{pubkey[:]}, &r.pubkey, &r.record, &r.sum)
	var i record.Import
	if err == nil {
		i, err = decode(&r, record.DecodeImport, func(i record.Import) bool { return bytes.Equal(i.Pubkey[:], r.pubkey) })
	}
	if err == nil && i.Pubkey != pubkey {
		err = fmt.Errorf("found %s: %w", i.Pubkey, record.ErrCorrupt)
	}
	if err != nil {
		return record.Import{}, fmt.Errorf("couldn't read the import of %s: %w", pubkey, err)
	}
	return i, nil
}

// Imported implements record.ImportReader.
func (s *Store) Imported(ctx context.Context, prefix string) iter.Seq2[record.Imported, error] {
	from, to, err := prefixRange(prefix)
	if err != nil {
		return failed[record.Imported](fmt.Errorf("couldn't list imports: %w", err))
	}
	return list(ctx, s, "imports",
		func(last *record.Imported) (string, []any) {
			after := from
			if last != nil {
				after = append(last.Pubkey[:], 0) // the least blob above it
			}
			return "SELECT pubkey, imported, imported_sha256 FROM imports WHERE pubkey >= ? AND pubkey < ? ORDER BY pubkey", []any{after, to}
		},
		func(rows *sql.Rows) (record.Imported, error) {
			var r row
			if err := rows.Scan(&r.pubkey, &r.record, &r.sum); err != nil {
				return record.Imported{}, err
			}
			return decode(&r, record.DecodeImported, func(i record.Imported) bool { return bytes.Equal(i.Pubkey[:], r.pubkey) })
		})
}

const selectImportedMnemonic = "SELECT id, record, sha256 FROM imported_mnemonics"

func (r *row) importedMnemonic() (record.ImportedMnemonic, error) {
	return decode(r, record.DecodeImportedMnemonic, func(m record.ImportedMnemonic) bool { return m.ID == r.id })
}

// ImportedMnemonics implements record.ImportReader.
func (s *Store) ImportedMnemonics(ctx context.Context) iter.Seq2[record.ImportedMnemonic, error] {
	return list(ctx, s, "imported mnemonics",
		func(last *record.ImportedMnemonic) (string, []any) {
			after := ""
			if last != nil {
				after = last.ID
			}
			return selectImportedMnemonic + " WHERE id > ? ORDER BY id", []any{after}
		},
		func(rows *sql.Rows) (record.ImportedMnemonic, error) {
			var r row
			if err := rows.Scan(&r.id, &r.record, &r.sum); err != nil {
				return record.ImportedMnemonic{}, err
			}
			return r.importedMnemonic()
		})
}
