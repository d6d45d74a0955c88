package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/internal/sqlite"
	"github.com/stakeseal/stakeseal/record"
)

func (a *app) rebuildVerb() *cobra.Command {
	return &cobra.Command{
		Use:   "store",
		Short: "Rebuild a lost or damaged store from the archive",
		Long: `Make the home's store anew from its archive, for when records.db is lost or
damaged. Move a damaged file away first; nothing is overwritten. Every birth is
verified against trust.yaml on the way, and the new store is put into place only
when all of it is there.

The archive holds orders, mnemonics and births. What was done with them since is
lost: which deposits were exported, who was assigned, what was handed over. Each
order is therefore marked as imported: exporting its deposits or keys again asks
for a flag.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.rebuild(cmd.Context()) },
	}
}

func (a *app) rebuild(ctx context.Context) (err error) {
	h, err := a.openSettings()
	if err != nil {
		return err
	}
	if _, cloud := h.place(); cloud {
		return usage("restore the table to a point in time (aws dynamodb restore-table-to-point-in-time), or take bundles into a new installation: stakeseal bundle import; docs/aws.md says how",
			"only a store on this machine is rebuilt from its archive, and this home's is a DynamoDB table")
	}
	if h.generator.Store.Scheme != "sqlite" || h.generator.Archive.Scheme != "dir" {
		return usage("", "%s: only a store sqlite:FILE is rebuilt, from an archive dir:FOLDER", config.GeneratorFile)
	}
	path, bundles := h.path(h.generator.Store.Rest), h.path(h.generator.Archive.Rest)
	if err := mustNotExist(path, "if it is damaged, move it away and keep it; if it is not, nothing needs to be rebuilt"); err != nil {
		return err
	}
	building, err := os.MkdirTemp(filepath.Dir(path), newPrefix)
	if err != nil {
		return fmt.Errorf("couldn't rebuild the store: %w", err)
	}
	defer os.RemoveAll(building)
	fresh := filepath.Join(building, "records.db")
	store, err := sqlite.Create(fresh)
	if err != nil {
		return err
	}
	h.records, h.closer = store, store.Close
	if h.archive, err = openArchive(bundles); err != nil {
		h.close()
		return err
	}
	orders, births, err := a.refill(ctx, h, bundles)
	imported := 0
	if err == nil {
		imported, err = a.refillImports(ctx, h, bundles)
	}
	if err := errors.Join(err, store.Close()); err != nil {
		return err
	}
	// One file: closing has put everything into it.
	if _, err := os.Stat(fresh + "-wal"); err == nil {
		return errors.New("couldn't put the store into place: it did not close whole")
	}
	if err := os.Link(fresh, path); err != nil {
		return fmt.Errorf("couldn't put the store into place: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("couldn't make sure of the new store: %w", err)
	}
	if a.json {
		return a.object(struct {
			Schema     string `json:"schema"`
			Orders     int    `json:"orders"`
			Validators int    `json:"validators"`
			Imported   int    `json:"imported"`
		}{"stakeseal/rebuilt/v1", orders, births, imported})
	}
	a.say("%d orders with %d validators are back, every certificate verified", orders, births)
	if imported > 0 {
		a.say("%d imported keys are back; they have no certificate", imported)
	}
	a.say("assignments and notes are not: assign the validators again, and look at the chain before any deposit is exported again")
	return nil
}

// refill takes every order of the archive into the store.
func (a *app) refill(ctx context.Context, h *home, bundles string) (orders, births int, err error) {
	entries, err := os.ReadDir(bundles)
	if err != nil {
		return 0, 0, fmt.Errorf("couldn't list the archive: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || record.CheckID(e.Name()) != nil {
			continue
		}
		n, err := h.refillOrder(ctx, e.Name())
		if err != nil {
			return orders, births, fmt.Errorf("order %s: %w", e.Name(), err)
		}
		if err := h.note(ctx, record.Event{Time: record.Time(a.now()), Kind: "imported", Order: e.Name(), Detail: map[string]string{"from": "archive"}}); err != nil {
			return orders, births, err
		}
		orders, births = orders+1, births+n
	}
	return orders, births, nil
}

func (h *home) refillOrder(ctx context.Context, id string) (births int, err error) {
	object, err := h.archive.Get(ctx, birth.OrderObject(id))
	if err != nil {
		return 0, fmt.Errorf("couldn't read it from the archive: %w", err)
	}
	order, err := record.DecodeOrder(object)
	if err != nil {
		return 0, err
	}
	if order.ID != id {
		return 0, fmt.Errorf("%w: the archive's order stands under another name", birth.ErrTampered)
	}
	if _, err := h.records.Place(ctx, order); err != nil {
		return 0, err
	}
	known := map[string]bool{}
	for index := range order.Count {
		object, err := h.archive.Get(ctx, birth.BirthObject(id, index))
		if errors.Is(err, record.ErrNotFound) {
			continue // not made yet; the receipt, if there is one, says otherwise below
		}
		if err != nil {
			return births, err
		}
		if err := h.refillBirth(ctx, order, index, object, known); err != nil {
			return births, fmt.Errorf("index %d: %w", index, err)
		}
		births++
	}
	if _, err := h.archive.Get(ctx, birth.ReceiptObject(id, 0, order.Count)); errors.Is(err, record.ErrNotFound) {
		return births, nil
	}
	if _, _, _, err := h.receipt(ctx, id); err != nil {
		return births, err
	}
	if births < int(order.Count) {
		return births, fmt.Errorf("%w: its receipt lists %d validators, and the archive has %d", birth.ErrTampered, order.Count, births)
	}
	return births, nil
}

func (h *home) refillBirth(ctx context.Context, order record.Order, index uint32, object []byte, known map[string]bool) error {
	b, err := record.DecodeBirth(object)
	if err != nil {
		return err
	}
	v, err := h.trust.VerifyBirth(b.Certificate)
	if err != nil {
		return err
	}
	if err := agrees(b, v); err != nil {
		return err
	}
	if err := birth.Fills(v.Birth, order); err != nil {
		return err
	}
	if b.Index != index {
		return fmt.Errorf("%w: the archive has index %d in its place", birth.ErrTampered, b.Index)
	}
	if !known[b.Mnemonic] {
		object, err := h.archive.Get(ctx, birth.MnemonicObject(order.ID, b.Mnemonic))
		if err != nil {
			return fmt.Errorf("mnemonic %s: %w", b.Mnemonic, err)
		}
		m, err := record.DecodeMnemonic(object)
		if err != nil {
			return err
		}
		if err := birth.Descends(m, order.ID, v.Mnemonic); err != nil {
			return err
		}
		if err := h.records.PutMnemonic(ctx, m); err != nil {
			return err
		}
		known[b.Mnemonic] = true
	}
	owner, err := h.records.PutBirth(ctx, b)
	if err == nil && owner.Pubkey != b.Pubkey {
		err = fmt.Errorf("%w: the index is taken", birth.ErrTampered)
	}
	return err
}
