package main

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"

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
// the test suite's, put into the store of a home through its own port.
func (b *bench) list(ctx context.Context) error {
	home, err := b.home(ctx, "list", 1)
	if err != nil {
		return err
	}
	if err := fill(ctx, filepath.Join(home, "records.db")); err != nil {
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
		fmt.Sprintf("stakeseal list --json of %d records, each checked against its checksum; processor time %.1f s", listCount, u.processor.Seconds())})
	b.table.add(figure{"list_100000_peak_mib", mebibytes(u.peak), "", "memory", "its resident peak"})
	return nil
}

// fill puts records into a store, many at once: it commits those together.
func fill(ctx context.Context, path string) (err error) {
	store, err := sqlite.Open(path)
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
	for index := range uint32(listCount) {
		if ctx.Err() != nil {
			break
		}
		births <- recordtest.Birth(o, m, index, "")
	}
	close(births)
	writers.Wait()
	return context.Cause(ctx)
}
