package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// What was made elsewhere lies in partitions of its own, under one prefix, so
// that a policy can give the right to import without the right to record a
// birth, and the reverse (dynamodb:LeadingKeys). Only the claims of pubkeys
// are common to both: a pubkey is the one or the other.
const (
	importPrefix    = "import/"
	importedWords   = importPrefix + "mnemonics"
	attrImported    = "imported"
	attrImportedSum = "imported_sha256"
)

var (
	_ record.Imports      = (*Store)(nil)
	_ record.ImportReader = (*Store)(nil)
)

func importKey(pubkey eth.Pubkey) key {
	digits := pubkey.Hex()
	return key{importPartition(digits[:1]), digits}
}

func importPartition(digit string) string { return importPrefix + digit }

func importedMnemonicKey(id string) key { return key{importedWords, id} }

// importClaim is the claim of an imported pubkey. It has the form of a
// birth's, for an order that cannot be placed.
func importClaim(pubkey eth.Pubkey) Claim { return Claim{pubkey, record.ImportedOrder, 0} }

// imported says whether the claim is of an import.
func (c Claim) imported() bool { return c.Order == record.ImportedOrder }

func importItem(i record.Import) (item, error) {
	whole, err := record.EncodeImport(i)
	if err != nil {
		return nil, err
	}
	public, err := record.EncodeImported(i.Imported)
	if err != nil {
		return nil, err
	}
	it := withRecord(importKey(i.Pubkey), whole)
	it[attrImported], it[attrImportedSum] = str(string(public)), sum(public)
	return it, nil
}

func (it item) imports() (record.Import, error) {
	return decode(it, attrRecord, attrSum, record.DecodeImport, func(i record.Import) key { return importKey(i.Pubkey) })
}

func (it item) imported() (record.Imported, error) {
	return decode(it, attrImported, attrImportedSum, record.DecodeImported, func(i record.Imported) key { return importKey(i.Pubkey) })
}

func (it item) importedMnemonic() (record.ImportedMnemonic, error) {
	return decode(it, attrRecord, attrSum, record.DecodeImportedMnemonic, func(m record.ImportedMnemonic) key { return importedMnemonicKey(m.ID) })
}

// importedAttributes are those of an import that a list needs.
var importedAttributes = []string{attrPK, attrSK, attrImported, attrImportedSum}

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
	it := withRecord(importedMnemonicKey(m.ID), data)
	return s.putOnce(ctx, it, func(stored item) error { return discard(stored.importedMnemonic()) })
}

// PutImport implements record.Imports in two writes, as PutBirth does: the
// claim of the pubkey, then the import. A crash between them leaves a claim
// that means nothing to a reader, and the same call repeated finds it its own.
func (s *Store) PutImport(ctx context.Context, i record.Import) error {
	if err := s.putImport(ctx, i); err != nil {
		return fmt.Errorf("couldn't store the import of %s: %w", i.Pubkey, err)
	}
	return nil
}

func (s *Store) putImport(ctx context.Context, i record.Import) error {
	it, err := importItem(i)
	if err != nil {
		return err
	}
	if i.Mnemonic != "" {
		m, found, err := s.importedMnemonic(ctx, i.Mnemonic)
		if err == nil && !found { // its key could not be recovered from it
			err = record.ErrNotFound
		}
		if err != nil {
			return fmt.Errorf("mnemonic %q: %w", i.Mnemonic, err)
		}
		if err := i.Fits(m); err != nil {
			return err
		}
	}
	held, err := s.claimFor(ctx, importClaim(i.Pubkey))
	if err != nil {
		return err
	}
	if !held.imported() {
		return fmt.Errorf("it is index %d of order %q: %w", held.Index, held.Order, record.ErrExists)
	}
	return s.putOnce(ctx, it, func(stored item) error { return discard(stored.imports()) })
}

func (s *Store) importedMnemonic(ctx context.Context, id string) (m record.ImportedMnemonic, found bool, err error) {
	it, err := s.get(ctx, s.tables.Records, importedMnemonicKey(id))
	if err != nil || it == nil {
		return record.ImportedMnemonic{}, false, err
	}
	m, err = it.importedMnemonic()
	return m, err == nil, err
}

// isImported says whether an import followed its claim.
func (s *Store) isImported(ctx context.Context, pubkey eth.Pubkey) (bool, error) {
	it, err := s.get(ctx, s.tables.Records, importKey(pubkey), importedAttributes...)
	if err != nil || it == nil {
		return false, err
	}
	_, err = it.imported()
	return err == nil, err
}

// Import implements record.ImportReader: the pubkey's claim, then the import
// it was made for.
func (s *Store) Import(ctx context.Context, pubkey eth.Pubkey) (record.Import, error) {
	i, err := s.oneImport(ctx, pubkey)
	if err != nil {
		return record.Import{}, fmt.Errorf("couldn't read the import of %s: %w", pubkey, err)
	}
	return i, nil
}

func (s *Store) oneImport(ctx context.Context, pubkey eth.Pubkey) (record.Import, error) {
	c, err := s.claim(ctx, pubkey)
	if err != nil {
		return record.Import{}, err
	}
	if c == nil || !c.imported() {
		return record.Import{}, record.ErrNotFound
	}
	it, err := s.get(ctx, s.tables.Records, importKey(pubkey))
	if err != nil {
		return record.Import{}, err
	}
	if it == nil {
		return record.Import{}, record.ErrNotFound
	}
	return it.imports()
}

// Imported implements record.ImportReader, strongly consistent.
func (s *Store) Imported(ctx context.Context, prefix string) iter.Seq2[record.Imported, error] {
	const what = "imports"
	if err := checkPrefix(what, prefix); err != nil {
		return failed[record.Imported](err)
	}
	return list(ctx, what, s.importPages(ctx, prefix, importedAttributes), each(item.imported))
}

func (s *Store) importPages(ctx context.Context, prefix string, attributes []string) iter.Seq2[[]item, error] {
	digits := hexDigits
	if prefix != "" {
		digits = prefix[:1]
	}
	return s.spread(ctx, digits, importPartition, query{table: s.tables.Records, prefix: prefix, attributes: attributes})
}

// ImportedMnemonics implements record.ImportReader.
func (s *Store) ImportedMnemonics(ctx context.Context) iter.Seq2[record.ImportedMnemonic, error] {
	return list(ctx, "imported mnemonics", s.pages(ctx, query{table: s.tables.Records, pk: importedWords}), each(item.importedMnemonic))
}

// verifyImports reads every import whole: as listed, claimed, and of its
// mnemonic.
func (s *Store) verifyImports(ctx context.Context) error {
	mnemonics := map[string]record.ImportedMnemonic{}
	for m, err := range s.ImportedMnemonics(ctx) {
		if err != nil {
			return err
		}
		mnemonics[m.ID] = m
	}
	return end(list(ctx, "imports", s.importPages(ctx, "", nil), atOnce(func(it item) (*record.Import, error) {
		listed, err := it.imported()
		if err != nil {
			return nil, err
		}
		i, err := it.imports()
		if err != nil {
			return nil, err
		}
		c, err := s.claim(ctx, i.Pubkey)
		switch {
		case err != nil:
			return nil, err
		case c == nil || !c.imported():
			err = errors.New("its pubkey is not claimed for it")
		case !reflect.DeepEqual(i.Imported, listed):
			err = errors.New("it is listed as another")
		case i.Mnemonic != "":
			err = i.Fits(mnemonics[i.Mnemonic])
		}
		if err != nil {
			return nil, corrupt(it, plain(err))
		}
		return nil, nil
	})))
}
