package main

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/folder"
	"github.com/stakeseal/stakeseal/internal/keyfile"
	"github.com/stakeseal/stakeseal/internal/sqlite"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
)

const (
	orderCount = 10_000
	listCount  = 100_000
)

// order: a large order ends, and neither program's memory grows with it
// beyond the receipt.
func (b *bench) order(ctx context.Context) error {
	home, err := b.home(ctx, "order", orderCount)
	if err != nil {
		return err
	}
	u, err := b.makeKeys(ctx, home, orderCount, b.workers, "none", nil)
	if err != nil {
		return err
	}
	b.table.add(figure{"order_10000_s", u.wall.Seconds(), "", "clock",
		fmt.Sprintf("one order of %d validators without keystores to its receipt, %d workers; processor time %.1f s", orderCount, b.workers, u.processor.Seconds())})
	b.table.add(figure{"order_10000_peak_mib", mebibytes(u.childPeak), "", "memory", "the generator's resident peak during it"})
	b.table.add(figure{"order_10000_parent_peak_mib", mebibytes(u.peak), "", "memory", "the command line's, with the database and the archive"})
	return nil
}

// list: a hundred thousand records pass through without being held. They are
// the test suite's, put into the store of a home through its own port, with a
// receipt that the home's own key signs.
func (b *bench) list(ctx context.Context) error {
	home, err := b.home(ctx, "list", 1)
	if err != nil {
		return err
	}
	if err := fill(ctx, home); err != nil {
		return err
	}
	u, err := b.stakeseal(ctx, nil, "list", "--home", home, "--json")
	if err != nil {
		return err
	}
	if u.lines != listCount {
		return fmt.Errorf("it listed %d records, not %d", u.lines, listCount)
	}
	b.table.add(figure{"list_100000_s", u.wall.Seconds(), "", "clock",
		fmt.Sprintf("stakeseal list --json of %d records, each checked against its checksum and the order's receipt; processor time %.1f s", listCount, u.processor.Seconds())})
	b.table.add(figure{"list_100000_peak_mib", mebibytes(u.peak), "", "memory", "its resident peak"})
	return nil
}

// fill puts records into a home's store, many at once: it commits those
// together. Their receipt goes into its archive.
func fill(ctx context.Context, home string) (err error) {
	store, err := sqlite.Open(filepath.Join(home, "records.db"))
	if err != nil {
		return err
	}
	defer func() {
		if e := store.Close(); err == nil {
			err = e
		}
	}()
	o := recordtest.Order("large", listCount)
	if _, err := store.Place(ctx, o); err != nil {
		return err
	}
	m := recordtest.Mnemonic(o, "m-large")
	if err := store.PutMnemonic(ctx, m); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	births := make(chan record.Birth, 256)
	var writers sync.WaitGroup
	for range 256 {
		writers.Go(func() {
			for b := range births {
				if _, err := store.PutBirth(ctx, b); err != nil {
					cancel(err)
				}
			}
		})
	}
	network, ok := eth.LookupNetwork(o.Network)
	if !ok {
		return fmt.Errorf("there is no network %q", o.Network)
	}
	r := certificate.Receipt{
		Network: network.Name, NetworkDigest: network.Digest(), Order: o.ID, OrderDigest: certificate.Hash(o.Digest()),
		SettingsDigest: certificate.Hash(o.Settings), Count: o.Count, To: o.Count, Time: o.Created,
		Mnemonics: []certificate.ReceiptMnemonic{{ID: m.ID, From: m.From, To: m.To, Digest: certificate.Hash(m.Sealing.Digest)}},
	}
	for index := range uint32(listCount) {
		if ctx.Err() != nil {
			break
		}
		b := recordtest.Birth(o, m, index, "")
		for i := range b.Deposits {
			d := &b.Deposits[i]
			data := eth.DepositData{Pubkey: b.Pubkey, Credentials: b.Credentials, Amount: d.Amount, Signature: d.Signature}
			d.MessageRoot, d.DataRoot = data.Message().Root(), data.Root()
		}
		births <- b
		r.Validators = append(r.Validators, certificate.ReceiptValidator{Index: b.Index, Pubkey: b.Pubkey, Mnemonic: b.Mnemonic,
			Certificate: certificate.Hash(record.DigestOf(b.Certificate))}) // no envelope: a list of a large order does not open it
	}
	close(births)
	writers.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return archiveReceipt(ctx, home, r)
}

// archiveReceipt signs a receipt with a home's key, and archives it.
func archiveReceipt(ctx context.Context, home string, r certificate.Receipt) error {
	key, err := keyfile.Open(filepath.Join(home, "certifier.key"))
	if err != nil {
		return err
	}
	defer key.Wipe()
	envelope, err := certificate.SignReceipt(ctx, key, r)
	if err != nil {
		return err
	}
	archive, err := folder.Open(filepath.Join(home, "bundles"))
	if err != nil {
		return err
	}
	return archive.Put(ctx, birth.ReceiptObject(r.Order, r.From, r.To), envelope)
}
