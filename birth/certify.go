package birth

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/check"
	"github.com/stakeseal/stakeseal/keygen"
	"github.com/stakeseal/stakeseal/record"
)

// certify makes the record of a sealed validator and signs its certificate.
// Only what came through check has a Public part to certify.
func (r *run) certify(ctx context.Context, sealed *check.Sealed) (record.Birth, error) {
	p, err := sealed.Public()
	if err != nil {
		return record.Birth{}, err
	}
	b := record.Birth{
		Validator: record.Validator{
			Order: r.order.ID, Index: p.Index, Pubkey: p.Pubkey, Path: p.Path, Mnemonic: r.words.id,
			Network: r.Network.Name, Credentials: p.Credentials, Created: record.Time(r.Now()),
		},
		Sealing: sealing(r.Signing, p.File),
	}
	for _, d := range p.Deposits {
		b.Deposits = append(b.Deposits, record.Deposit(d))
	}
	signer := &noting{Signer: r.Signer}
	b.Certificate, err = again(ctx, r.Flow, r.limit, func() ([]byte, error) {
		return certificate.SignBirth(ctx, signer, r.statement(b, r.words.ref))
	})
	if err != nil {
		return record.Birth{}, fmt.Errorf("couldn't certify index %d: %w", b.Index, err)
	}
	b.SignRequest = signer.request
	return b, nil
}

// requester is a certifying key in a service, which has an id for each
// request to sign.
type requester interface {
	SignRequest(ctx context.Context, data []byte) (signature []byte, request string, err error)
}

// noting is a signer for one signature, of which it keeps the request's id
// where there is one.
type noting struct {
	certificate.Signer
	request string
}

// Sign implements certificate.Signer.
func (n *noting) Sign(ctx context.Context, data []byte) (signature []byte, err error) {
	r, ok := n.Signer.(requester)
	if !ok {
		return n.Signer.Sign(ctx, data)
	}
	signature, n.request, err = r.SignRequest(ctx, data)
	return signature, err
}

// statement is what a certificate says of a record.
func (r *run) statement(b record.Birth, words certificate.MnemonicRef) certificate.Birth {
	s := certificate.Birth{
		Network: b.Network, NetworkDigest: r.Network.Digest(), Pubkey: b.Pubkey, Credentials: b.Credentials,
		Order: b.Order, OrderDigest: certificate.Hash(r.order.Digest()), Index: b.Index, Path: b.Path,
		Mnemonic: words, Sealing: sealingRef(b.Sealing), Maker: r.Maker, Approval: r.approved, Time: b.Created,
	}
	for _, d := range b.Deposits {
		s.Deposits = append(s.Deposits, depositOf(d))
	}
	return s
}

// verify refuses a record whose certificate does not verify, or says anything
// else than the record and the order say. A changed row, a row moved to
// another index and a row of another order all end here.
func (r *run) verify(index uint32, b record.Birth) (*certificate.Verified, error) {
	v, err := r.Verifier.VerifyBirth(b.Certificate)
	if err != nil {
		return nil, fmt.Errorf("%w: index %d of order %s: %w", ErrTampered, index, r.order.ID, err)
	}
	if b.Index != index || b.Order != r.order.ID {
		return nil, fmt.Errorf("%w: index %d of order %s reads back as index %d of order %s", ErrTampered, index, r.order.ID, b.Index, b.Order)
	}
	if record.DigestOf(b.Sealing.File) != b.Sealing.Digest {
		return nil, fmt.Errorf("%w: the sealed secret of index %d", ErrTampered, index)
	}
	if err := Agrees(b, v.Birth); err != nil {
		return nil, err
	}
	if v.NetworkDigest != r.Network.Digest() {
		return nil, fmt.Errorf("%w: index %d was certified for another network", ErrTampered, index)
	}
	if err := Fills(v.Birth, r.order); err != nil {
		return nil, err
	}
	return v, nil
}

// Fills refuses a certificate that is not of an order as it was placed: other
// content, or other settings of the maker.
func Fills(c certificate.Birth, o record.Order) error {
	var field string
	switch {
	case c.Order != o.ID || c.OrderDigest != certificate.Hash(o.Digest()):
		field = "order"
	case c.Maker.SettingsDigest != certificate.Hash(o.Settings):
		field = "settings"
	case c.Index >= o.Count:
		field = "count"
	default:
		return nil
	}
	return fmt.Errorf("%w: index %d was certified under another %s than order %s says", ErrTampered, c.Index, field, o.ID)
}

// Lists refuses a receipt that is not of an order as it was placed.
func Lists(c certificate.Receipt, o record.Order) error {
	if c.Order != o.ID || c.OrderDigest != certificate.Hash(o.Digest()) || c.SettingsDigest != certificate.Hash(o.Settings) ||
		c.Count != o.Count || !c.Time.Equal(o.Created) {
		return fmt.Errorf("%w: the receipt is not of order %s as it was placed", ErrTampered, o.ID)
	}
	return nil
}

func depositOf(d record.Deposit) certificate.Deposit {
	return certificate.Deposit{Amount: d.Amount, Signature: d.Signature, MessageRoot: d.MessageRoot, DataRoot: d.DataRoot}
}

// Guess is what the certificate of a record should say, if all that the record
// does not tell (the maker, the order's digest, the mnemonic's) is as in another
// certificate of the same mnemonic. It shares no memory with either that anybody
// changes, and proves nothing: see certificate.Trust.VerifyBirthAs.
func Guess(b record.Birth, like certificate.Birth) certificate.Birth {
	c := like
	c.Pubkey, c.Network, c.Order, c.Index, c.Path, c.Mnemonic.ID = b.Pubkey, b.Network, b.Order, b.Index, b.Path, b.Mnemonic
	c.Credentials, c.Time = b.Credentials, b.Created
	c.Sealing = certificate.SealingRef{Purpose: b.Sealing.Purpose, Generation: b.Sealing.Generation, Digest: certificate.Hash(b.Sealing.Digest)}
	for _, r := range b.Sealing.Recipients {
		c.Sealing.Recipients = append(c.Sealing.Recipients, certificate.Recipient(r))
	}
	c.Deposits = make([]certificate.Deposit, len(b.Deposits))
	for i, d := range b.Deposits {
		c.Deposits[i] = depositOf(d)
	}
	return c
}

// Agrees compares a record with what its certificate says, field by field.
func Agrees(b record.Birth, c certificate.Birth) error {
	var field string
	switch {
	case b.Pubkey != c.Pubkey:
		field = "pubkey"
	case b.Network != c.Network:
		field = "network"
	case b.Order != c.Order:
		field = "order"
	case b.Index != c.Index:
		field = "index"
	case b.Path != c.Path || c.Path != keygen.SigningPath(c.Index):
		field = "path"
	case b.Mnemonic != c.Mnemonic.ID:
		field = "mnemonic"
	case b.Credentials != c.Credentials:
		field = "withdrawal credentials"
	case !b.Created.Equal(c.Time):
		field = "time"
	case b.Sealing.Purpose != c.Sealing.Purpose || b.Sealing.Generation != c.Sealing.Generation ||
		b.Sealing.Digest != record.Digest(c.Sealing.Digest):
		field = "sealing"
	case !slices.EqualFunc(b.Sealing.Recipients, c.Sealing.Recipients, func(x record.Recipient, y certificate.Recipient) bool {
		return x.Name == y.Name && x.Key == y.Key
	}):
		field = "recipients"
	case !slices.EqualFunc(b.Deposits, c.Deposits, func(x record.Deposit, y certificate.Deposit) bool {
		return depositOf(x) == y
	}):
		field = "deposits"
	default:
		return nil
	}
	return fmt.Errorf("%w: the %s of %v is not what its certificate says", ErrTampered, field, b.Pubkey)
}

// Line is what a receipt keeps of a birth: a large order's births need not
// stay in memory for it.
type Line struct {
	certificate.ReceiptValidator
	words certificate.MnemonicRef
}

// Line returns the birth's line of a receipt.
func (b Born) Line() Line { return Line{line(b.Birth, b.digest), b.words} }

// Listed is how a receipt lists a birth.
func Listed(b record.Birth) (certificate.ReceiptValidator, error) {
	digest, err := certificate.Digest(b.Certificate)
	return line(b, digest), err
}

func line(b record.Birth, digest certificate.Hash) certificate.ReceiptValidator {
	return certificate.ReceiptValidator{Index: b.Index, Pubkey: b.Pubkey, Mnemonic: b.Mnemonic, Certificate: digest}
}

// Receipt signs the list of a range's validators, which Run must have
// yielded, all of them; see Range.Done. The first receipt of a range is
// archived, and every later call returns that one: the same order gives the
// same receipt.
func (f *Flow) Receipt(ctx context.Context, r Range, lines []Line) ([]byte, error) {
	limit := allowance{now: f.Now, until: r.Until}
	if limit.limited() {
		limit.until = r.Until.Add(-answerTime)
	}
	ctx, cancel := limit.cut(ctx)
	defer cancel()
	envelope, err := f.receipt(ctx, limit, r, lines)
	if err != nil {
		return nil, late(ctx, err)
	}
	return envelope, nil
}

func (f *Flow) receipt(ctx context.Context, limit allowance, r Range, lines []Line) ([]byte, error) {
	order, err := again(ctx, f, limit, func() (record.Order, error) { return f.Store.Order(ctx, r.Order.ID) })
	if err != nil {
		return nil, fmt.Errorf("couldn't read order %s back: %w", r.Order.ID, err)
	}
	// What is signed is what was asked for, not what the store says by now.
	object, err := record.EncodeOrder(order)
	if err != nil {
		return nil, err
	}
	if order.Digest() != r.Order.Digest() || order.Settings != record.Digest(f.Maker.SettingsDigest) {
		return nil, fmt.Errorf("%w: the store returned another order as %s", ErrTampered, r.Order.ID)
	}
	if err := f.archivedBefore(ctx, limit, OrderObject(order.ID), object); err != nil {
		return nil, err
	}
	receipt, err := f.list(ctx, limit, order, r, lines)
	if err != nil {
		return nil, err
	}
	name := ReceiptObject(order.ID, r.From, r.To)
	get := func() ([]byte, error) { return f.Archive.Get(ctx, name) }
	if envelope, err := again(ctx, f, limit, get); err == nil {
		return f.sameReceipt(envelope, receipt)
	} else if !errors.Is(err, record.ErrNotFound) {
		return nil, fmt.Errorf("couldn't read the receipt of order %s: %w", order.ID, err)
	}
	envelope, err := again(ctx, f, limit, func() ([]byte, error) { return certificate.SignReceipt(ctx, f.Signer, receipt) })
	if err != nil {
		return nil, fmt.Errorf("couldn't sign the receipt: %w", err)
	}
	_, err = again(ctx, f, limit, func() (struct{}, error) { return struct{}{}, f.Archive.Put(ctx, name, envelope) })
	if err != nil && !errors.Is(err, record.ErrExists) {
		return nil, fmt.Errorf("couldn't archive the receipt: %w", err)
	}
	if envelope, err = again(ctx, f, limit, get); err != nil {
		return nil, fmt.Errorf("couldn't read the receipt back from the archive: %w", err)
	}
	return f.sameReceipt(envelope, receipt)
}

// list writes the receipt's statement: every index once, in order, and the
// mnemonics that their certificates name, as the archive has them.
func (f *Flow) list(ctx context.Context, limit allowance, order record.Order, r Range, lines []Line) (certificate.Receipt, error) {
	lines = slices.Clone(lines)
	slices.SortFunc(lines, func(a, b Line) int { return cmp.Compare(a.Index, b.Index) })
	if len(lines) != int(r.To-r.From) {
		return certificate.Receipt{}, fmt.Errorf("couldn't make a receipt: %d of %d indexes are there", len(lines), r.To-r.From)
	}
	receipt := certificate.Receipt{
		Network: f.Network.Name, NetworkDigest: f.Network.Digest(), Order: order.ID, OrderDigest: certificate.Hash(order.Digest()),
		SettingsDigest: certificate.Hash(order.Settings), Count: order.Count, From: r.From, To: r.To, Time: order.Created,
	}
	seen := map[string]certificate.MnemonicRef{}
	for i, line := range lines {
		if line.Index != r.From+uint32(i) {
			return certificate.Receipt{}, fmt.Errorf("couldn't make a receipt: index %d is missing", r.From+uint32(i))
		}
		receipt.Validators = append(receipt.Validators, line.ReceiptValidator)
		if ref, ok := seen[line.Mnemonic]; ok {
			if ref != line.words {
				return certificate.Receipt{}, fmt.Errorf("%w: index %d was certified with another sealing of mnemonic %s", ErrTampered, line.Index, line.Mnemonic)
			}
			continue
		}
		seen[line.Mnemonic] = line.words
		m, err := f.archivedMnemonic(ctx, limit, order.ID, line.words)
		if err != nil {
			return certificate.Receipt{}, err
		}
		receipt.Mnemonics = append(receipt.Mnemonics, certificate.ReceiptMnemonic{ID: m.ID, From: m.From, To: m.To, Digest: line.words.Digest})
	}
	slices.SortFunc(receipt.Mnemonics, func(a, b certificate.ReceiptMnemonic) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.ID, b.ID))
	})
	return receipt, nil
}

// sameReceipt accepts an archived receipt only if its signature verifies and
// it lists the very validators that were just read back.
func (f *Flow) sameReceipt(envelope []byte, want certificate.Receipt) ([]byte, error) {
	got, err := f.Verifier.VerifyReceipt(envelope)
	if err != nil {
		return nil, fmt.Errorf("%w: the archived receipt: %w", ErrTampered, err)
	}
	a, errA := json.Marshal(got.Receipt)
	b, errB := json.Marshal(want)
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		return nil, fmt.Errorf("%w: the archived receipt of order %s lists other validators", ErrTampered, want.Order)
	}
	return envelope, nil
}
