package birth

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/keygen"
	"github.com/stakeseal/stakeseal/keygen/mnemonic"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
)

// Names of an order's objects in the archive.

// OrderObject is the archive's name for an order as it was placed.
func OrderObject(order string) string { return order + "/order.json" }

// BirthObject is the archive's name for a birth.
func BirthObject(order string, index uint32) string { return fmt.Sprintf("%s/%08d.json", order, index) }

// MnemonicObject is the archive's name for a sealed mnemonic.
func MnemonicObject(order, id string) string { return fmt.Sprintf("%s/%s.json", order, id) }

// ReceiptObject is the archive's name for the receipt over [from, to).
func ReceiptObject(order string, from, to uint32) string {
	return fmt.Sprintf("%s/receipt-%08d-%08d.json", order, from, to)
}

// words is this invocation's mnemonic: sealed and stored, with the maker that
// descends from it. The words themselves are gone.
type words struct {
	id    string
	ref   certificate.MnemonicRef
	maker *keygen.Maker
}

// newWords makes a mnemonic, seals it, stores and archives the sealing, reads
// it back, and only then returns what derives from it: whatever is derived is
// recoverable already.
func (r *run) newWords(ctx context.Context) (*words, error) {
	text, err := mnemonic.New(mnemonic.English)
	if err != nil {
		return nil, fmt.Errorf("couldn't make a mnemonic: %w", err)
	}
	defer text.Wipe()
	seed, err := seedOf(text)
	if err != nil {
		return nil, err
	}
	defer seed.Wipe()

	var raw [8]byte
	rand.Read(raw[:]) // never fails since Go 1.24
	id := "m-" + hex.EncodeToString(raw[:])
	empty := r.work.empty // nothing was handed out yet
	from, to := empty[0], empty[len(empty)-1]+1
	created := record.Time(r.Now())
	body := seal.RecoveryBody(r.facts(from, to, created), text)
	defer body.Wipe()
	file, err := again(ctx, r.Flow, r.limit, func() ([]byte, error) {
		return r.Recovery.Seal(ctx, seal.RecoveryBinding(r.Network.Name, r.order.ID, id), body)
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't seal the mnemonic: %w", err)
	}
	m := record.Mnemonic{ID: id, Order: r.order.ID, From: from, To: to, Created: created,
		Sealing: sealing(r.Recovery, file)}
	_, err = again(ctx, r.Flow, r.limit, func() (struct{}, error) { return struct{}{}, r.Store.PutMnemonic(ctx, m) })
	if err != nil {
		return nil, fmt.Errorf("couldn't store the sealed mnemonic: %w", err)
	}
	object, err := record.EncodeMnemonic(m)
	if err != nil {
		return nil, err
	}
	if err := r.archive(ctx, r.limit, MnemonicObject(r.order.ID, id), object); err != nil {
		return nil, err
	}
	recipients, err := certificate.RecipientsDigest(sealingRef(m.Sealing).Recipients)
	if err != nil {
		return nil, err
	}
	ref := certificate.MnemonicRef{ID: id, Digest: certificate.Hash(m.Sealing.Digest), Recipients: recipients}
	r.archived[id] = ref
	maker, err := keygen.NewMaker(seed)
	if err != nil {
		return nil, err
	}
	return &words{id, ref, maker}, nil
}

// seedOf derives the seed from the very words that are about to be sealed,
// read as a person's input would be: had they been made wrong, recovery would
// fail, so making fails first.
func seedOf(text *secret.Bytes) (*secret.Bytes, error) {
	phrase, err := mnemonic.Parse(text, mnemonic.English)
	if err != nil {
		return nil, errors.New("the mnemonic just made does not read back")
	}
	defer phrase.Wipe()
	again := phrase.Text()
	defer again.Wipe()
	if !again.Equal(text) {
		return nil, errors.New("the mnemonic just made reads back as another")
	}
	return phrase.Seed(nil), nil
}

// facts is what a sealed mnemonic says of itself, so that it is worth
// something alone.
func (r *run) facts(from, to uint32, created time.Time) []seal.Fact {
	address, _ := r.order.Credentials.Address()
	plan := ""
	for i, amount := range r.order.Plan {
		if i > 0 {
			plan += ","
		}
		plan += amount.Ether(r.Network)
	}
	return []seal.Fact{
		{Name: "indexes", Value: fmt.Sprintf("%d-%d", from, to-1)},
		{Name: "path", Value: "m/12381/3600/<index>/0/0"},
		{Name: "withdrawal-address", Value: address.String()},
		{Name: "withdrawal-credentials", Value: r.order.Credentials.String()},
		{Name: "plan", Value: plan},
		{Name: "language", Value: string(mnemonic.English)},
		{Name: "created", Value: created.Format(time.RFC3339)},
	}
}

func sealing(to *seal.Recipients, file []byte) record.Sealing {
	s := record.Sealing{Purpose: string(to.Purpose()), File: file, Digest: record.DigestOf(file)}
	for _, n := range to.Names() {
		s.Recipients = append(s.Recipients, record.Recipient{Name: n.Name, Key: n.Recipient.String()})
	}
	return s
}

func sealingRef(s record.Sealing) certificate.SealingRef {
	ref := certificate.SealingRef{Purpose: s.Purpose, Generation: s.Generation, Digest: certificate.Hash(s.Digest)}
	for _, r := range s.Recipients {
		ref.Recipients = append(ref.Recipients, certificate.Recipient{Name: r.Name, Key: r.Key})
	}
	return ref
}

// mnemonicArchived makes sure that the mnemonic a birth descends from is in
// the archive as its certificate describes it. One read for each mnemonic of
// an invocation.
func (r *run) mnemonicArchived(ctx context.Context, b record.Birth, ref certificate.MnemonicRef) error {
	r.mu.Lock()
	seen, ok := r.archived[ref.ID]
	r.mu.Unlock()
	if !ok {
		if _, err := r.archivedMnemonic(ctx, r.limit, b.Order, ref); err != nil {
			return fmt.Errorf("index %d: %w", b.Index, err)
		}
		r.mu.Lock()
		r.archived[ref.ID] = ref
		r.mu.Unlock()
		return nil
	}
	if seen != ref {
		return fmt.Errorf("%w: index %d was certified with another sealing of mnemonic %s", ErrTampered, b.Index, ref.ID)
	}
	return nil
}

// archivedMnemonic reads a mnemonic from the archive and refuses it unless it
// is the one that a certificate names.
func (f *Flow) archivedMnemonic(ctx context.Context, limit allowance, order string, ref certificate.MnemonicRef) (record.Mnemonic, error) {
	object, err := again(ctx, f, limit, func() ([]byte, error) { return f.Archive.Get(ctx, MnemonicObject(order, ref.ID)) })
	if errors.Is(err, record.ErrNotFound) { // it was there before anything was derived from it
		return record.Mnemonic{}, fmt.Errorf("%w: mnemonic %s has gone from the archive", ErrTampered, ref.ID)
	}
	if err != nil {
		return record.Mnemonic{}, fmt.Errorf("couldn't read mnemonic %s from the archive: %w", ref.ID, err)
	}
	m, err := record.DecodeMnemonic(object)
	if err != nil {
		return record.Mnemonic{}, fmt.Errorf("couldn't read mnemonic %s from the archive: %w", ref.ID, err)
	}
	return m, Descends(m, order, ref)
}

// Descends refuses a sealed mnemonic that is not the one a certificate of the
// order names: its id, its sealing, and whom it was sealed to.
func Descends(m record.Mnemonic, order string, ref certificate.MnemonicRef) error {
	recipients, err := certificate.RecipientsDigest(sealingRef(m.Sealing).Recipients)
	if err != nil {
		return err
	}
	if m.ID != ref.ID || m.Order != order || certificate.Hash(m.Sealing.Digest) != ref.Digest || recipients != ref.Recipients {
		return fmt.Errorf("%w: mnemonic %s is not the one that was certified", ErrTampered, ref.ID)
	}
	return nil
}
