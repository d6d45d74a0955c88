package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/check"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/awskms"
	"github.com/stakeseal/stakeseal/internal/aws/ops"
	"github.com/stakeseal/stakeseal/keygen/mnemonic"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
)

func (a *app) importVerb() *cobra.Command {
	cmd := &cobra.Command{Use: "import", Short: "Take in keys that were made elsewhere, sealed anew and marked", Args: cobra.NoArgs,
		Long: `Take in keys that were made elsewhere: each is opened, checked, sealed anew to this
home's recipients, and recorded as imported. An imported key has no birth
certificate, and nobody can say who saw it before; every command that shows it
says so.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(a.importKeystoresVerb(), a.importSampleVerb())
	return cmd
}

// foreignWords are what is said of an imported key, everywhere.
const foreignWords = "imported: nobody can say who saw this key before"

// importer seals foreign keys and mnemonics to the home's recipients and
// records them. It is safe for concurrent use.
type importer struct {
	home     *home
	signing  *seal.Recipients
	recovery *seal.Recipients
	who      string
	now      func() time.Time

	mu    sync.Mutex
	known map[string]record.ImportedMnemonic // as the store has them; nil: not read yet
	kept  map[string]bool                    // those that were held against the archive
}

func (a *app) newImporter(ctx context.Context, h *home) (*importer, error) {
	signing, recovery, err := a.sealTo(ctx, h)
	if err != nil {
		return nil, err
	}
	return &importer{home: h, signing: signing, recovery: recovery, who: h.who(), now: a.now}, nil
}

// network is the name of the home's, the only one that keys are taken for.
func (i *importer) network() string { return i.home.generator.Network.Name }

// sealTo is the home's recipients, with clients for those that are KMS keys:
// importing is the one thing that this program itself seals.
func (a *app) sealTo(ctx context.Context, h *home) (signing, recovery *seal.Recipients, err error) {
	var failed error
	dial := func(k arn.ARN) awskms.Client {
		account, err := a.account(ctx, ops.PlaceOf(k))
		if err != nil {
			failed = err
			return nil
		}
		return kms.NewFromConfig(account.Config(k.Region))
	}
	signing, recovery, err = h.generator.SealTo(func(file []byte) (seal.Recipient, error) { return awskms.ParseRecipientFile(file, dial) })
	if failed != nil {
		return nil, nil, failed
	}
	return signing, recovery, err
}

// firstPubkey is what a mnemonic is known by; its seed is the caller's.
func firstPubkey(seed *secret.Bytes) (eth.Pubkey, error) {
	key, err := bls.FromSeed(seed, "m/12381/3600/0/0/0")
	if err != nil {
		return eth.Pubkey{}, errors.New("the mnemonic gives no key")
	}
	defer key.Wipe()
	return key.Pubkey(), nil
}

// words seals a mnemonic once, whoever asks for it, and returns its id: it is
// archived and stored before any key names it. highest is the greatest index
// known to be derived from it.
func (i *importer) words(ctx context.Context, phrase *mnemonic.Phrase, first eth.Pubkey, highest uint32, source record.Source) (string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.known == nil {
		known := map[string]record.ImportedMnemonic{}
		for m, err := range i.home.records.ImportedMnemonics(ctx) {
			if err != nil {
				return "", err
			}
			known[m.ID] = m
		}
		i.known, i.kept = known, map[string]bool{}
	}
	id := record.ImportedMnemonicID(first)
	m, stored := i.known[id]
	if !i.kept[id] {
		var err error
		if stored {
			err = i.home.sameInArchive(ctx, record.ImportedMnemonicObject(id), func() ([]byte, error) { return record.EncodeImportedMnemonic(m) })
		} else if m, err = i.archiveWords(ctx, phrase, first, highest, source); err == nil {
			err = i.home.records.PutImportedMnemonic(ctx, m)
		}
		if err != nil {
			return "", err
		}
		i.known[id], i.kept[id] = m, true
	}
	if m.First != first || m.Network != i.network() {
		return "", fmt.Errorf("%w: mnemonic %s is recorded as another's", record.ErrConflict, id)
	}
	return id, nil
}

// has says whether words was done for a mnemonic already.
func (i *importer) has(id string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.kept[id]
}

// archiveWords seals a mnemonic into the archive, or returns what was sealed
// of it by a run that did not come to store it.
func (i *importer) archiveWords(ctx context.Context, phrase *mnemonic.Phrase, first eth.Pubkey, highest uint32, source record.Source) (record.ImportedMnemonic, error) {
	id := record.ImportedMnemonicID(first)
	return once(ctx, i.home.archive, record.ImportedMnemonicObject(id), record.DecodeImportedMnemonic, record.EncodeImportedMnemonic, func() (record.ImportedMnemonic, error) {
		text := phrase.Text()
		defer text.Wipe()
		created := record.Time(i.now())
		body := seal.RecoveryBody([]seal.Fact{
			{Name: "indexes", Value: fmt.Sprintf("0-%d", highest)},
			{Name: "path", Value: "m/12381/3600/<index>/0/0"},
			{Name: "first-pubkey", Value: first.String()},
			{Name: "withdrawal-address", Value: "each validator's own, see the records"},
			{Name: "language", Value: string(phrase.Language())},
			{Name: "source", Value: source.Kind},
			{Name: "imported", Value: created.Format(time.RFC3339)},
		}, text)
		defer body.Wipe()
		file, err := i.recovery.Seal(ctx, seal.RecoveryBinding(i.network(), record.ImportedOrder, id), body)
		if err != nil {
			return record.ImportedMnemonic{}, fmt.Errorf("couldn't seal a mnemonic: %w", err)
		}
		return record.ImportedMnemonic{ID: id, First: first, Network: i.network(), Source: source, Importer: i.who, Created: created,
			Sealing: sealingTo(i.recovery, file)}, nil
	})
}

func sealingTo(to *seal.Recipients, file []byte) record.Sealing {
	s := record.Sealing{Purpose: string(to.Purpose()), File: file, Digest: record.DigestOf(file)}
	for _, n := range to.Names() {
		s.Recipients = append(s.Recipients, record.Recipient{Name: n.Name, Key: n.Recipient.String()})
	}
	return s
}

// errDiffers says that a pubkey is recorded already, as something else.
var errDiffers = fmt.Errorf("it is recorded here already, and not as this: %w", record.ErrConflict)

// there looks whether the store knows a pubkey: the import of it, if that says
// nothing else than what is found now, or errDiffers.
func (i *importer) there(ctx context.Context, now record.Imported) (*record.Import, error) {
	stored, err := i.home.records.Import(ctx, now.Pubkey)
	switch {
	case err == nil:
		return &stored, agreesWith(stored.Imported, now)
	case !errors.Is(err, record.ErrNotFound):
		return nil, err
	}
	b, err := i.home.records.Birth(ctx, now.Pubkey)
	switch {
	case err == nil:
		return nil, fmt.Errorf("%w: it was born here, as index %d of order %s", errDiffers, b.Index, b.Order)
	case !errors.Is(err, record.ErrNotFound):
		return nil, err
	}
	return nil, nil
}

// agreesWith refuses a record that contradicts what is found now. What only
// one of the two knows is no contradiction.
func agreesWith(stored, now record.Imported) error {
	for _, x := range []struct {
		what     string
		differ   bool
		recorded string
	}{
		{"network", stored.Network != now.Network, stored.Network},
		{"path", stored.Path != now.Path && stored.Path != "" && now.Path != "", stored.Path},
		{"mnemonic", stored.Mnemonic != now.Mnemonic && stored.Mnemonic != "" && now.Mnemonic != "", stored.Mnemonic},
		{"withdrawal credentials", stored.Credentials != now.Credentials && stored.Credentials != eth.Credentials{} && now.Credentials != eth.Credentials{}, stored.Credentials.String()},
		{"deposits", !slices.Equal(stored.Deposits, now.Deposits) && len(stored.Deposits) > 0 && len(now.Deposits) > 0, "others"},
	} {
		if x.differ {
			return fmt.Errorf("%w: its %s: recorded is %s", errDiffers, x.what, x.recorded)
		}
	}
	return nil
}

// key seals and records a key, if it is not there yet, and takes k over. The
// archive comes first: it takes the first writer and keeps it, so that of two
// imports at once one is sealed, a run that was cut short is finished by the
// next, and a row that the archive does not know was put there by somebody
// else. fresh is false if the key was there.
func (i *importer) key(ctx context.Context, k *check.Importable, now record.Imported) (fresh bool, err error) {
	defer k.Wipe()
	stored, err := i.there(ctx, now)
	if err != nil {
		return false, err
	}
	name := record.ImportObject(now.Pubkey)
	if stored != nil {
		return false, i.home.sameInArchive(ctx, name, func() ([]byte, error) { return record.EncodeImport(*stored) })
	}
	sealed, err := once(ctx, i.home.archive, name, record.DecodeImport, record.EncodeImport, func() (record.Import, error) {
		now.Importer, now.Created = i.who, record.Time(i.now())
		file, err := k.Seal(ctx, i.signing, i.network(), record.ImportedOrder, now.Index())
		return record.Import{Imported: now, Sealing: sealingTo(i.signing, file)}, err
	})
	if err == nil && sealed.Pubkey != now.Pubkey {
		err = fmt.Errorf("%w: the archive's %s is of %v", birth.ErrTampered, name, sealed.Pubkey)
	}
	if err == nil {
		err = agreesWith(sealed.Imported, now)
	}
	if err != nil {
		return false, err
	}
	err = i.home.records.PutImport(ctx, sealed)
	if errors.Is(err, record.ErrConflict) || errors.Is(err, record.ErrExists) {
		return false, fmt.Errorf("%w: %w", errDiffers, err) // put by somebody who does not ask the archive
	}
	return err == nil, err
}

// once is the record that stands in the archive under name: made, put and read
// back if there is none.
func once[T any](ctx context.Context, archive record.Archive, name string, decode func([]byte) (T, error), encode func(T) ([]byte, error), make func() (T, error)) (T, error) {
	var zero T
	_, err := archive.Get(ctx, name)
	if errors.Is(err, record.ErrNotFound) {
		made, err := make()
		if err != nil {
			return zero, err
		}
		object, err := encode(made)
		if err != nil {
			return zero, err
		}
		if err := archive.Put(ctx, name, object); err != nil && !errors.Is(err, record.ErrExists) {
			return zero, fmt.Errorf("couldn't archive %s: %w", name, err)
		}
	} else if err != nil {
		return zero, fmt.Errorf("couldn't look into the archive: %w", err)
	}
	object, err := archive.Get(ctx, name)
	if err != nil {
		return zero, fmt.Errorf("couldn't read %s back from the archive: %w", name, err)
	}
	kept, err := decode(object)
	if err != nil {
		return zero, fmt.Errorf("%w: the archive's %s: %w", birth.ErrTampered, name, err)
	}
	return kept, nil
}

// foreign reads an imported key's record, and refuses it unless the archive
// holds the same: every later step of an imported key begins here, as born is
// for a key that was born here.
func (h *home) foreign(ctx context.Context, pubkey eth.Pubkey) (record.Import, error) {
	i, err := h.records.Import(ctx, pubkey)
	if err != nil {
		return i, err
	}
	if i.Network != h.generator.Network.Name {
		return i, fmt.Errorf("%w: the import of %v is for network %q", birth.ErrTampered, pubkey, i.Network)
	}
	return i, h.sameInArchive(ctx, record.ImportObject(pubkey), func() ([]byte, error) { return record.EncodeImport(i) })
}

// foreignMnemonics are the home's imported mnemonics, each as the archive has
// it.
func (h *home) foreignMnemonics(ctx context.Context) (map[string]record.ImportedMnemonic, error) {
	all := map[string]record.ImportedMnemonic{}
	for m, err := range h.records.ImportedMnemonics(ctx) {
		if err != nil {
			return nil, err
		}
		if err := h.sameInArchive(ctx, record.ImportedMnemonicObject(m.ID), func() ([]byte, error) { return record.EncodeImportedMnemonic(m) }); err != nil {
			return nil, err
		}
		all[m.ID] = m
	}
	return all, nil
}

// hasImports says whether the home has any imported key.
func (h *home) hasImports(ctx context.Context) (bool, error) {
	for _, err := range h.records.Imported(ctx, "") {
		return err == nil, err
	}
	return false, nil
}

// foreignNote notes that a key was imported, once.
func (h *home) foreignNote(ctx context.Context, at time.Time, i record.Imported) error {
	err := h.note(ctx, record.Event{Time: record.Time(at), Kind: "key-imported", Order: record.ImportedOrder, Pubkey: i.Pubkey,
		Detail: map[string]string{"source": i.Source.Kind, "place": i.Source.Place}, Once: "key-imported/" + i.Pubkey.String()})
	if errors.Is(err, record.ErrExists) {
		return nil
	}
	return err
}

// foreignValidator is an imported key in a validator's form, for what handles
// both. What is not known is zero there.
func foreignValidator(i record.Imported) record.Validator {
	return record.Validator{Order: record.ImportedOrder, Index: i.Index(), Pubkey: i.Pubkey, Path: i.Path, Mnemonic: i.Mnemonic,
		Network: i.Network, Credentials: i.Credentials, Deposits: i.Deposits, Created: i.Created}
}

// errForeign is what a command says that needs a certificate and was given an
// imported key.
func errForeign(pubkey eth.Pubkey) error {
	return fail(exitRefused, "stakeseal show prints what is known of it", "%v is %s; it has no birth certificate, and this needs one", pubkey, foreignWords)
}

func errForeignOrder() error {
	return fail(exitRefused, "stakeseal list --order "+record.ImportedOrder+" shows them", "imported keys have no birth certificates, and this needs them")
}

// sound refuses a validator whose record does not stand: one that was born
// here unless its certificate verifies, an imported one unless the archive
// holds the same.
func (h *home) sound(ctx context.Context, c chosen) error {
	_, _, err := h.signing(ctx, c)
	return err
}

// signing is a validator as its record has it, and its sealed signing secret,
// if the record is sound.
func (h *home) signing(ctx context.Context, c chosen) (record.Validator, record.Sealing, error) {
	if c.Imported != nil {
		i, err := h.foreign(ctx, c.Pubkey)
		if err == nil && !reflect.DeepEqual(i.Imported, *c.Imported) {
			err = fmt.Errorf("%w: the import of %v is listed as another", birth.ErrTampered, c.Pubkey)
		}
		return foreignValidator(i.Imported), i.Sealing, err
	}
	b, _, err := h.born(ctx, c.Pubkey)
	return b.Validator, b.Sealing, err
}
