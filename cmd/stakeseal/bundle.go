package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/bundle"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/folder"
	"github.com/stakeseal/stakeseal/record"
)

func (a *app) bundleVerb() *cobra.Command {
	cmd := &cobra.Command{Use: "bundle", Short: "An order in one file: backup, transport, delivery", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(a.bundleExportVerb(), a.bundleVerifyVerb(), a.bundleImportVerb())
	return cmd
}

func (a *app) bundleExportVerb() *cobra.Command {
	var order, out, archive, trust string
	cmd := &cobra.Command{
		Use:   "export --order ID --out FILE",
		Short: "Write an order's sealings, certificates and receipt into one file",
		Long: `Write an order's receipt, sealed mnemonics, sealed signing keys and certificates
into one file. Everything secret in it is sealed: it can be copied anywhere, and
opens only with the identities of its recipients. Every record is compared with
the archive's copy and with its certificate on the way.

With --archive the bundle is made from an archive folder alone (a copy of a
home's bundles/), for when the store is lost.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if order == "" || out == "" {
				return usage("for example: stakeseal bundle export --order ID --out ID.bundle", "--order and --out are needed")
			}
			if archive != "" {
				return a.bundleSalvage(cmd.Context(), archive, trust, order, out)
			}
			h, err := a.openHome(cmd.Context())
			if err != nil {
				return err
			}
			defer h.close()
			return a.bundleExport(cmd.Context(), h, order, out)
		},
	}
	cmd.Flags().StringVar(&archive, "archive", "", "make it from this archive `DIR` alone, without a store")
	cmd.Flags().StringVar(&trust, "trust", "", "with --archive: the trust `FILE` to judge by (default: the home's)")
	cmd.Flags().StringVar(&order, "order", "", "the order's `ID`")
	cmd.Flags().StringVarP(&out, "out", "o", "", "the `FILE` to write; it must not exist")
	return cmd
}

// receipt reads an order's whole receipt from the archive and verifies it.
func (h *home) receipt(ctx context.Context, id string) (record.Order, *certificate.VerifiedReceipt, []byte, error) {
	order, err := h.records.Order(ctx, id)
	if errors.Is(err, record.ErrNotFound) {
		return order, nil, nil, usage("stakeseal orders lists them", "there is no order %q in this home", id)
	}
	if err != nil {
		return order, nil, nil, err
	}
	envelope, err := h.archive.Get(ctx, birth.ReceiptObject(id, 0, order.Count))
	if errors.Is(err, record.ErrNotFound) {
		return order, nil, nil, usage("stakeseal generate --resume "+id+" finishes it", "order %s has no receipt: it was not finished", id)
	}
	if err != nil {
		return order, nil, nil, err
	}
	receipt, err := h.verifiedReceipt(order, envelope)
	if err == nil {
		err = h.sameInArchive(ctx, birth.OrderObject(id), func() ([]byte, error) { return record.EncodeOrder(order) })
	}
	if err != nil {
		return order, nil, nil, err
	}
	return order, receipt, envelope, nil
}

// verifiedReceipt judges an order's receipt as the archive has it.
func (h *home) verifiedReceipt(order record.Order, envelope []byte) (*certificate.VerifiedReceipt, error) {
	receipt, err := h.trust.VerifyReceipt(envelope)
	if errors.Is(err, certificate.ErrFormat) { // it was well-formed when it was archived
		return nil, fmt.Errorf("%w: the receipt of order %s: %w", birth.ErrTampered, order.ID, err)
	}
	if err != nil {
		return nil, fmt.Errorf("the receipt of order %s: %w", order.ID, err)
	}
	return receipt, birth.Lists(receipt.Receipt, order)
}

// archived reads a validator's record from the store, and refuses it unless
// the archive holds the same.
func (h *home) archived(ctx context.Context, order string, index uint32, pubkey eth.Pubkey) (record.Birth, *certificate.Verified, error) {
	b, v, err := h.born(ctx, pubkey)
	if err != nil {
		return b, nil, err
	}
	object, err := record.EncodeBirth(b)
	if err != nil {
		return b, nil, err
	}
	copy, err := h.archive.Get(ctx, birth.BirthObject(order, index))
	if errors.Is(err, record.ErrNotFound) {
		return b, nil, h.unarchived(ctx, order, index, err)
	}
	if err != nil {
		return b, nil, fmt.Errorf("couldn't read index %d from the archive: %w", index, err)
	}
	if !bytes.Equal(copy, object) {
		return b, nil, fmt.Errorf("%w: index %d of order %s differs between the store and the archive", birth.ErrTampered, index, order)
	}
	return b, v, nil
}

func (a *app) bundleExport(ctx context.Context, h *home, id, out string) error {
	order, receipt, envelope, err := h.receipt(ctx, id)
	if err != nil {
		return err
	}
	err = a.pack(ctx, h.archive, order, receipt, envelope, out, func(v certificate.ReceiptValidator) (record.Birth, error) {
		b, _, err := h.archived(ctx, id, v.Index, v.Pubkey)
		return b, err
	})
	if err == nil {
		err = verifyPacked(out, h.trust)
	}
	if err != nil {
		return err
	}
	if err := h.note(ctx, record.Event{Time: record.Time(a.now()), Kind: "bundled", Order: id,
		Detail: map[string]string{"validators": fmt.Sprint(len(receipt.Validators))}}); err != nil {
		return err
	}
	return a.reportBundle(out, id, receipt)
}

// bundleSalvage makes a bundle of what an archive folder holds of an order.
func (a *app) bundleSalvage(ctx context.Context, dir, trustPath, id, out string) error {
	trust, err := a.trustOrHome(trustPath)
	if err != nil {
		return err
	}
	archive, err := folder.Open(dir)
	if err != nil {
		return err
	}
	object, err := archive.Get(ctx, birth.OrderObject(id))
	if errors.Is(err, record.ErrNotFound) {
		return usage("each order is a folder in the archive", "the archive %s has no order %q", dir, id)
	}
	if err != nil {
		return err
	}
	order, err := record.DecodeOrder(object)
	if err != nil {
		return fmt.Errorf("couldn't read the order from the archive: %w", err)
	}
	envelope, err := archive.Get(ctx, birth.ReceiptObject(id, 0, order.Count))
	if errors.Is(err, record.ErrNotFound) {
		return usage("the receipt lists what a bundle must hold; look for it in another copy of the archive", "the archive %s has no receipt of order %s: it was not finished", dir, id)
	}
	if err != nil {
		return fmt.Errorf("couldn't read the receipt of order %s from the archive: %w", id, err)
	}
	receipt, err := trust.VerifyReceipt(envelope)
	if err != nil {
		return fmt.Errorf("the receipt of order %s: %w", id, err)
	}
	err = a.pack(ctx, archive, order, receipt, envelope, out, func(v certificate.ReceiptValidator) (record.Birth, error) {
		object, err := archive.Get(ctx, birth.BirthObject(id, v.Index))
		if err != nil {
			return record.Birth{}, fmt.Errorf("couldn't read index %d from the archive: %w", v.Index, gone(err))
		}
		return record.DecodeBirth(object)
	})
	if err != nil {
		return err
	}
	if err := verifyPacked(out, trust); err != nil {
		return err
	}
	return a.reportBundle(out, id, receipt)
}

// gone tells that what a receipt lists is missing from what is merely unknown.
func gone(err error) error {
	if errors.Is(err, record.ErrNotFound) {
		return fmt.Errorf("%w: the receipt lists it: %w", birth.ErrTampered, err)
	}
	return err
}

// verifyPacked judges a bundle that was just written as a stranger would, from
// the file, and removes it if it does not pass.
func verifyPacked(path string, trust birth.Verifier) error {
	b, close, err := openBundle(path, trust)
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	defer func() { _ = close() }()
	for _, err := range b.Births() {
		if err != nil {
			return errors.Join(err, os.Remove(path))
		}
	}
	return nil
}

// pack writes a bundle: mnemonics from the archive, births from read.
func (a *app) pack(ctx context.Context, archive record.Archive, order record.Order, receipt *certificate.VerifiedReceipt, envelope []byte, out string,
	read func(certificate.ReceiptValidator) (record.Birth, error)) error {
	var mnemonics []record.Mnemonic
	for _, m := range receipt.Mnemonics {
		object, err := archive.Get(ctx, birth.MnemonicObject(order.ID, m.ID))
		if err != nil {
			return fmt.Errorf("couldn't read mnemonic %s from the archive: %w", m.ID, gone(err))
		}
		sealed, err := record.DecodeMnemonic(object)
		if err != nil {
			return fmt.Errorf("couldn't read mnemonic %s from the archive: %w", m.ID, err)
		}
		if certificate.Hash(sealed.Sealing.Digest) != m.Digest {
			return fmt.Errorf("%w: mnemonic %s in the archive is not the one in the receipt", birth.ErrTampered, m.ID)
		}
		mnemonics = append(mnemonics, sealed)
	}
	bar := a.progress(int64(len(receipt.Validators)), "packed")
	defer bar.done()
	return writeNewFunc(out, 0o600, func(w io.Writer) error {
		return bundle.Write(w, order, envelope, mnemonics, func(yield func(record.Birth, error) bool) {
			for _, v := range receipt.Validators {
				b, err := read(v)
				bar.step()
				if !yield(b, err) || err != nil {
					return
				}
			}
		})
	})
}

func (a *app) reportBundle(path, id string, receipt *certificate.VerifiedReceipt) error {
	if a.json {
		return a.object(struct {
			Schema     string `json:"schema"`
			File       string `json:"file"`
			Order      string `json:"order"`
			Validators int    `json:"validators"`
			Mnemonics  int    `json:"mnemonics"`
		}{"stakeseal/bundle-report/v1", path, id, len(receipt.Validators), len(receipt.Mnemonics)})
	}
	a.say("%s: order %s, %d validators and %d mnemonics, all certificates verified", path, id, len(receipt.Validators), len(receipt.Mnemonics))
	return nil
}

func (a *app) bundleVerifyVerb() *cobra.Command {
	var trust string
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Verify a bundle against a trust file, offline",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := a.trustOrHome(trust)
			if err != nil {
				return err
			}
			b, close, err := openBundle(args[0], t)
			if err != nil {
				return err
			}
			defer func() { _ = close() }()
			for _, err := range b.Births() {
				if err != nil {
					return fmt.Errorf("%s: %w", args[0], err)
				}
			}
			return a.reportBundle(args[0], b.Order.ID, b.Receipt)
		},
	}
	cmd.Flags().StringVar(&trust, "trust", "", "the trust `FILE` to judge by (default: the home's)")
	return cmd
}

// trustOrHome is the trust file that a flag names, or the home's.
func (a *app) trustOrHome(path string) (*certificate.Trust, error) {
	if path != "" {
		return loadTrust(path)
	}
	dir, err := a.homeDir()
	if err != nil {
		return nil, err
	}
	a.say("judging by %s", filepath.Join(dir, trustFile))
	return loadTrust(filepath.Join(dir, trustFile))
}

// openBundle opens a bundle file and verifies its head.
func openBundle(path string, trust birth.Verifier) (*bundle.Reader, func() error, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("couldn't open the bundle: %w", err)
	}
	b, err := bundle.Open(f, trust)
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, f.Close, nil
}

func (a *app) bundleImportVerb() *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE",
		Short: "Take an order from a bundle into this home",
		Long: `Take an order from a bundle into this home's store and archive, after verifying
all of it against the home's trust file. Importing what is there already changes
nothing. Assignments and events do not travel: they belong to a home.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := a.openHome(cmd.Context())
			if err != nil {
				return err
			}
			defer h.close()
			return a.bundleImport(cmd.Context(), h, args[0])
		},
	}
}

func (a *app) bundleImport(ctx context.Context, h *home, path string) error {
	// Once through to verify, then again to store: nothing of a bad bundle
	// is kept.
	check, close, err := openBundle(path, h.trust)
	if err != nil {
		return err
	}
	for _, err := range check.Births() {
		if err != nil {
			return errors.Join(fmt.Errorf("%s: %w", path, err), close())
		}
	}
	if err := close(); err != nil {
		return err
	}
	b, close, err := openBundle(path, h.trust)
	if err != nil {
		return err
	}
	defer func() { _ = close() }()
	placed, err := h.records.Place(ctx, b.Order)
	if err != nil {
		return fmt.Errorf("couldn't take order %s: %w", b.Order.ID, err)
	}
	if !placed.Created.Equal(b.Order.Created) {
		return fail(exitConflict, "compare the two receipts", "the home has an order %s of its own, placed at %s", placed.ID, placed.Created)
	}
	object, err := record.EncodeOrder(b.Order)
	if err != nil {
		return err
	}
	if err := h.archiveSame(ctx, birth.OrderObject(b.Order.ID), object); err != nil {
		return err
	}
	for _, m := range b.Mnemonics {
		if err := h.records.PutMnemonic(ctx, m); err != nil {
			return fmt.Errorf("couldn't take mnemonic %s: %w", m.ID, err)
		}
		object, err := record.EncodeMnemonic(m)
		if err != nil {
			return err
		}
		if err := h.archiveSame(ctx, birth.MnemonicObject(b.Order.ID, m.ID), object); err != nil {
			return err
		}
	}
	// Noted before the first key is there: that its history is unknown here
	// must not be forgotten with an import that was cut off.
	if err := h.note(ctx, record.Event{Time: record.Time(a.now()), Kind: "imported", Order: b.Order.ID}); err != nil {
		return err
	}
	if err := a.importBirths(ctx, h, b.Births()); err != nil {
		return err
	}
	if err := h.archiveSame(ctx, birth.ReceiptObject(b.Order.ID, b.Receipt.From, b.Receipt.To), b.Envelope); err != nil {
		return err
	}
	a.say("what the other home exported, assigned or handed over is not known here: deposit export and keystore export ask for a flag")
	return a.reportBundle(path, b.Order.ID, b.Receipt)
}

func (a *app) importBirths(ctx context.Context, h *home, births iter.Seq2[record.Birth, error]) error {
	for born, err := range births {
		if err != nil {
			return err
		}
		owner, err := h.records.PutBirth(ctx, born)
		if err != nil {
			return fmt.Errorf("couldn't take index %d: %w", born.Index, err)
		}
		if owner.Pubkey != born.Pubkey {
			return fail(exitConflict, "the home has its own birth there; compare the two certificates", "index %d of order %s holds another validator", born.Index, born.Order)
		}
		object, err := record.EncodeBirth(born)
		if err != nil {
			return err
		}
		if err := h.archiveSame(ctx, birth.BirthObject(born.Order, born.Index), object); err != nil {
			return err
		}
	}
	return nil
}

// archiveSame puts an object, or finds the same there.
func (h *home) archiveSame(ctx context.Context, name string, object []byte) error {
	err := h.archive.Put(ctx, name, object)
	if !errors.Is(err, record.ErrExists) {
		return err
	}
	there, err := h.archive.Get(ctx, name)
	if err != nil {
		return err
	}
	if !bytes.Equal(there, object) {
		return fmt.Errorf("%w: the archive's %s differs from the bundle's", birth.ErrTampered, name)
	}
	return nil
}
