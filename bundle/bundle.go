// Package bundle writes and reads an order as one file: its receipt, its
// sealed mnemonics, and every validator's record with sealing and
// certificate. It serves as backup, across an air gap, and as delivery.
// docs/formats/bundle.md describes it.
//
// It promises that what Reader yields was listed in a receipt and certified
// by keys that the trust file accepts, agrees with its certificate in every
// field, and is all that the receipt lists when the iteration ends without an
// error. It trusts the trust file, and nothing in the file it reads; what no
// signature covers (docs/formats/bundle.md) it passes on as it is.
package bundle

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/record"
)

// Schema is the format that this package writes and reads.
const Schema = "stakeseal/bundle/v1"

// ErrFormat says that a file is no bundle, or not a whole one.
var ErrFormat = errors.New("not a whole bundle")

// maxHead bounds the first line in bytes: a receipt has up to 64 MiB, an
// order record.MaxRecord. maxLine bounds any other.
const (
	maxHead = 64<<20 + record.MaxRecord + 1<<10
	maxLine = record.MaxRecord
)

// head is the first line. The receipt comes first so that every later line is
// held against it as it is read.
type head struct {
	Schema  string          `json:"schema"`
	Order   json.RawMessage `json:"order"`
	Receipt json.RawMessage `json:"receipt"`
}

// Write writes a bundle: the mnemonics in the order of the receipt, the
// births by index.
func Write(w io.Writer, order record.Order, receipt []byte, mnemonics []record.Mnemonic, births iter.Seq2[record.Birth, error]) error {
	out := bufio.NewWriterSize(w, 1<<16)
	line := func(b []byte) error {
		if _, err := out.Write(append(bytes.TrimSpace(b), '\n')); err != nil {
			return fmt.Errorf("couldn't write the bundle: %w", err)
		}
		return nil
	}
	encoded, err := record.EncodeOrder(order)
	if err != nil {
		return err
	}
	first, err := json.Marshal(head{Schema, bytes.TrimSpace(encoded), bytes.TrimSpace(receipt)})
	if err != nil {
		return fmt.Errorf("couldn't write the bundle: %w", err)
	}
	if err := line(first); err != nil {
		return err
	}
	for _, m := range mnemonics {
		b, err := record.EncodeMnemonic(m)
		if err == nil {
			err = line(b)
		}
		if err != nil {
			return err
		}
	}
	for birth, err := range births {
		if err != nil {
			return err
		}
		b, err := record.EncodeBirth(birth)
		if err == nil {
			err = line(b)
		}
		if err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("couldn't write the bundle: %w", err)
	}
	return nil
}

// Reader is an open bundle whose receipt and mnemonics verified.
type Reader struct {
	Order     record.Order
	Receipt   *certificate.VerifiedReceipt
	Envelope  []byte // the receipt as signed
	Mnemonics []record.Mnemonic

	lines *bufio.Reader
	trust birth.Verifier
	words map[string]certificate.MnemonicRef // what certificates must say of each mnemonic
}

// Open reads the head and the mnemonics and verifies them against trust.
func Open(r io.Reader, trust birth.Verifier) (*Reader, error) {
	b := &Reader{lines: bufio.NewReaderSize(r, 1<<16), trust: trust, words: map[string]certificate.MnemonicRef{}}
	first, err := b.line(maxHead)
	if err != nil {
		return nil, err
	}
	var h head
	decoder := json.NewDecoder(bytes.NewReader(first))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&h); err != nil || h.Schema != Schema {
		return nil, fmt.Errorf("%w: its first line is not a head of %s", ErrFormat, Schema)
	}
	// One head has one form: encoding/json alone would take keys given twice,
	// of which another reader takes the other.
	if again, err := json.Marshal(h); err != nil || !bytes.Equal(again, first) {
		return nil, fmt.Errorf("%w: its first line is not in the one form that heads are written in", ErrFormat)
	}
	if b.Order, err = record.DecodeOrder(h.Order); err != nil {
		return nil, fmt.Errorf("%w: its order: %w", ErrFormat, err)
	}
	b.Envelope = h.Receipt
	if b.Receipt, err = trust.VerifyReceipt(h.Receipt); err != nil {
		return nil, fmt.Errorf("the bundle's receipt: %w", err)
	}
	if err := birth.Lists(b.Receipt.Receipt, b.Order); err != nil {
		return nil, err
	}
	for _, want := range b.Receipt.Mnemonics {
		line, err := b.line(maxLine)
		if err != nil {
			return nil, err
		}
		m, err := record.DecodeMnemonic(line)
		if err != nil {
			return nil, fmt.Errorf("%w: mnemonic %s: %w", ErrFormat, want.ID, err)
		}
		if m.ID != want.ID || m.Order != b.Order.ID || m.From != want.From || m.To != want.To ||
			certificate.Hash(m.Sealing.Digest) != want.Digest {
			return nil, fmt.Errorf("%w: mnemonic %s is not the one in the receipt", birth.ErrTampered, want.ID)
		}
		ref, err := mnemonicRef(m)
		if err != nil {
			return nil, fmt.Errorf("%w: mnemonic %s: %w", ErrFormat, want.ID, err)
		}
		b.Mnemonics = append(b.Mnemonics, m)
		b.words[m.ID] = ref
	}
	return b, nil
}

// Births yields every validator of the receipt, verified, in the order of
// their indexes, and ends with the first error. It reads on in the file, so it
// can be ranged over once.
func (b *Reader) Births() iter.Seq2[record.Birth, error] {
	return func(yield func(record.Birth, error) bool) {
		for _, want := range b.Receipt.Validators {
			born, err := b.next(want)
			if !yield(born, err) || err != nil {
				return
			}
		}
		switch _, err := b.lines.ReadByte(); {
		case err == nil:
			yield(record.Birth{}, fmt.Errorf("%w: something follows its last validator", ErrFormat))
		case !errors.Is(err, io.EOF):
			yield(record.Birth{}, fmt.Errorf("couldn't read the bundle: %w", err))
		}
	}
}

func (b *Reader) next(want certificate.ReceiptValidator) (record.Birth, error) {
	line, err := b.line(maxLine)
	if err != nil {
		return record.Birth{}, err
	}
	born, err := record.DecodeBirth(line)
	if err != nil {
		return record.Birth{}, fmt.Errorf("%w: index %d: %w", ErrFormat, want.Index, err)
	}
	v, err := b.trust.VerifyBirth(born.Certificate)
	if err != nil {
		return record.Birth{}, fmt.Errorf("index %d: %w", want.Index, err)
	}
	if err := birth.Agrees(born, v.Birth); err != nil {
		return record.Birth{}, err
	}
	listed, err := birth.Listed(born)
	if err != nil {
		return record.Birth{}, err
	}
	if listed != want {
		return record.Birth{}, fmt.Errorf("%w: index %d is not the validator in the receipt", birth.ErrTampered, want.Index)
	}
	if v.NetworkDigest != b.Receipt.NetworkDigest {
		return record.Birth{}, fmt.Errorf("%w: index %d is of another network than the receipt", birth.ErrTampered, want.Index)
	}
	if err := birth.Fills(v.Birth, b.Order); err != nil {
		return record.Birth{}, err
	}
	// The receipt holds the mnemonic's file; for whom that was sealed, only the
	// certificates of what was derived from it say.
	if b.words[born.Mnemonic] != v.Mnemonic {
		return record.Birth{}, fmt.Errorf("%w: index %d was certified with another sealing of mnemonic %s, or for other recipients", birth.ErrTampered, want.Index, born.Mnemonic)
	}
	return born, nil
}

// mnemonicRef is what a certificate says of the mnemonic.
func mnemonicRef(m record.Mnemonic) (certificate.MnemonicRef, error) {
	var to []certificate.Recipient
	for _, r := range m.Sealing.Recipients {
		to = append(to, certificate.Recipient{Name: r.Name, Key: r.Key})
	}
	recipients, err := certificate.RecipientsDigest(to)
	return certificate.MnemonicRef{ID: m.ID, Digest: certificate.Hash(m.Sealing.Digest), Recipients: recipients}, err
}

// line reads one line of at most max bytes; a file that ends early, or within
// a line, is not whole.
func (b *Reader) line(max int) ([]byte, error) {
	var line []byte
	for {
		part, err := b.lines.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > max:
			return nil, fmt.Errorf("%w: a line is longer than %d bytes", ErrFormat, max)
		case err == nil:
			return line[:len(line)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("%w: it ends early", ErrFormat)
		default:
			return nil, fmt.Errorf("couldn't read the bundle: %w", err)
		}
	}
}
