package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// short is a run that measures less: `STAKESEAL_BENCH=short make bench`.
func short() bool { return os.Getenv("STAKESEAL_BENCH") == "short" }

// load: how long a signer takes until it can sign with all of its keys.
func (b *bench) load(ctx context.Context) error {
	count, said := 10_000, ""
	if short() {
		count, said = 1000, " (with 1,000 keys, as STAKESEAL_BENCH is short)"
	}
	home, err := b.signerHome(ctx, "load", count)
	if err != nil {
		return err
	}
	list, err := sealedKeys(ctx, home)
	if err != nil {
		return err
	}
	id, err := signerIdentity(ctx, home)
	if err != nil {
		return err
	}
	first := time.Duration(0)
	var ready, bare, readyUsed, bareUsed []time.Duration
	var ratios, processor []float64
	var resident int64
	for round := range b.rounds + 1 {
		used, began := processorTime(), time.Now()
		keys, err := openAlone(id, list, b.workers)
		alone, aloneUsed := time.Since(began), processorTime()-used
		wipeAll(keys)
		if err != nil {
			return err
		}
		s, err := b.serve(ctx, home)
		if err != nil {
			return err
		}
		memory := residentOf(s.cmd.Process.Pid)
		whole, err := s.end()
		if err != nil {
			return err
		}
		if s.keys != count {
			return fmt.Errorf("it serves %d keys, not %d", s.keys, count)
		}
		if round == 0 { // the first one admits every key to the ledger
			first = s.ready
			continue
		}
		ready, bare = append(ready, s.ready), append(bare, alone)
		readyUsed, bareUsed = append(readyUsed, whole), append(bareUsed, aloneUsed)
		ratios, processor = append(ratios, s.ready.Seconds()/alone.Seconds()), append(processor, whole.Seconds()/aloneUsed.Seconds())
		resident = max(resident, memory)
	}
	b.table.add(figure{"load_10000_of_limit", median(ratios), "at most 1.5", "clock",
		fmt.Sprintf("from the start of signer serve until it serves %d sealed keys of a home%s, all their certificates verified, over decrypting the same age files and deriving their pubkeys, in turn; median of %d pairs: %.2f s and %.2f s. The very first start, which also admits every key to the slashing ledger: %.2f s",
			count, said, len(ratios), median(ready).Seconds(), median(bare).Seconds(), first.Seconds())})
	b.table.add(figure{"load_10000_processor_of_limit", median(processor), "", "processor",
		fmt.Sprintf("the same by processor time, the signer's end included: %.2f s and %.2f s", median(readyUsed).Seconds(), median(bareUsed).Seconds())})
	if resident > 0 {
		b.table.add(figure{"bytes_per_key", float64(resident) / float64(count), "", "memory",
			fmt.Sprintf("all of the signer's resident memory, %.1f MiB with its program, over the %d keys that it serves", mebibytes(resident), count)})
	}
	return nil
}

// eachIndex does something for 0 to n-1 on goroutines.
func eachIndex(n, goroutines int, do func(int) error) error {
	var next atomic.Int64
	failed := make([]error, goroutines)
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if failed[g] = do(i); failed[g] != nil {
					return
				}
			}
		})
	}
	all.Wait()
	return errors.Join(failed...)
}

// unhex decodes digits that must fill into.
func unhex(into, digits []byte) error {
	if len(digits) != hex.EncodedLen(len(into)) {
		return errors.New("a secret key of another length")
	}
	_, err := hex.Decode(into, digits)
	return err
}
