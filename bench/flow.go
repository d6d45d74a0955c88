package main

import (
	"context"
	"fmt"
	"time"
)

// Sizes of the orders. Each invocation opens one keystore again with its
// password, which costs one KDF more: that is part of the flow, and an order
// must be as large as real ones for it to weigh what it weighs there.
const (
	noneCount    = 1000
	pbkdf2Count  = 400
	scryptCount  = 96
	scalingCount = 64
)

// start: what every command takes before it begins.
func (b *bench) start(ctx context.Context) error {
	var walls, processors []time.Duration
	for range 21 {
		u, err := b.stakeseal(ctx, nil, "version")
		if err != nil {
			return err
		}
		walls, processors = append(walls, u.wall), append(processors, u.processor)
	}
	b.table.add(figure{"start_ms", milliseconds(median(walls)), "at most 30", "clock",
		fmt.Sprintf("stakeseal version, from its start to its end: median of %d; processor time %.1f ms", len(walls), milliseconds(median(processors)))})
	return nil
}

// none: all work but the KDF, beside the cryptography in it.
func (b *bench) none(ctx context.Context) error {
	home, err := b.home(ctx, "none", noneCount)
	if err != nil {
		return err
	}
	var runs []usage
	var alone []time.Duration
	for range b.rounds {
		c, err := cryptographyAlone(ctx, 8)
		if err != nil {
			return err
		}
		alone = append(alone, c)
		u, err := b.makeKeys(ctx, home, noneCount, b.workers, "none", nil)
		if err != nil {
			return err
		}
		runs = append(runs, u)
	}
	flow, wall, generator := medians(runs, noneCount)
	b.table.add(figure{"other_ms", milliseconds(flow), "at most 2.0", "processor",
		fmt.Sprintf("all work but the KDF, for one validator: processor time of both programs (generator %.2f, command line with database and archive %.2f), starting them included, in orders of %d without keystores; median of %d. Of it %.2f is cryptography that no flow can leave out: derivation, signature, verification in batches of %d, sealing to a post-quantum key, measured alone between the orders",
			milliseconds(generator), milliseconds(flow-generator), noneCount, len(runs), milliseconds(median(alone)), batch)})
	b.table.add(figure{"none_keys_per_s_core", float64(time.Second) / float64(flow), "", "processor",
		fmt.Sprintf("the same as validators for each second of one core; by the clock it was %.0f a second with %d workers, %.0f for each",
			float64(time.Second)/float64(wall), b.workers, float64(time.Second)/float64(wall)/float64(b.workers))})
	return nil
}

// medians are a run's processor time, wall time and generator's processor
// time for one validator.
func medians(runs []usage, count int) (processor, wall, generator time.Duration) {
	var p, w, g []time.Duration
	for _, u := range runs {
		p, w, g = append(p, u.processor), append(w, u.wall), append(g, u.generator)
	}
	n := time.Duration(count)
	return median(p) / n, median(w) / n, median(g) / n
}

func (b *bench) pbkdf2(ctx context.Context) error {
	_, err := b.beside(ctx, "pbkdf2", pbkdf2Count, 64, b.rounds, "at least 0.93")
	return err
}

func (b *bench) scrypt(ctx context.Context) error {
	rounds := min(b.rounds, 2) // of a minute each on two cores
	runs, err := b.beside(ctx, "scrypt", scryptCount, 8, rounds, "at least 0.98")
	if err != nil {
		return err
	}
	var peak int64
	for _, u := range runs {
		peak = max(peak, u.peak, u.childPeak)
	}
	bound := 256*(b.workers+1) + 64
	b.table.add(figure{"scrypt_peak_mib", mebibytes(peak), fmt.Sprintf("at most %d", bound), "memory",
		fmt.Sprintf("the generator's resident peak with %d workers: 256 MiB for each worker and one more, and 64", b.workers)})
	return nil
}

// beside runs orders in turn with the KDF alone.
func (b *bench) beside(ctx context.Context, kdf string, count, keys, rounds int, aim string) ([]usage, error) {
	home, err := b.home(ctx, kdf, count)
	if err != nil {
		return nil, err
	}
	var processor, wall []time.Duration
	var runs []usage
	for round := range rounds + 1 {
		l, err := kdfAlone(ctx, kdf, b.workers, keys)
		if err != nil {
			return nil, err
		}
		processor, wall = append(processor, l.Processor), append(wall, l.Wall)
		if round == rounds {
			break
		}
		u, err := b.makeKeys(ctx, home, count, b.workers, kdf, nil)
		if err != nil {
			return nil, err
		}
		runs = append(runs, u)
	}
	flow, flowWall, _ := medians(runs, count)
	alone := median(processor)
	b.table.add(figure{kdf + "_of_limit", float64(alone) / float64(flow), aim, "processor",
		fmt.Sprintf("processor time of %s alone, %.1f ms a key (median of %d runs of %d, between the orders), over that of the whole flow, %.1f ms a validator (orders of %d, median of %d; the keystore that each order opens again is %.1f ms of it). By the clock, with %d workers: %.2f validators a second, and %.2f keys alone",
			kdf, milliseconds(alone), len(processor), keys, milliseconds(flow), count, len(runs), milliseconds(alone)/float64(count),
			b.workers, float64(time.Second)/float64(flowWall), float64(time.Second)/float64(median(wall)))})
	return runs, nil
}

// scaling compares one worker on one core with two on two. Only the clock can
// tell, so the fastest of each counts: what neighbours take only adds.
func (b *bench) scaling(ctx context.Context) error {
	const kdf = "pbkdf2"
	home, err := b.home(ctx, "scaling", scalingCount)
	if err != nil {
		return err
	}
	cores := [2][]int{{0}, {0, 1}}
	if !canPin {
		cores = [2][]int{}
	}
	var best, used [2]time.Duration
	for range b.rounds {
		for i, pin := range cores {
			u, err := b.makeKeys(ctx, home, scalingCount, i+1, kdf, pin)
			if err != nil {
				return err
			}
			if best[i] == 0 || u.wall < best[i] {
				best[i], used[i] = u.wall, u.processor
			}
		}
	}
	b.table.add(figure{"scaling_2", float64(best[0]) / float64(best[1]), "at least 1.8", "clock",
		fmt.Sprintf("both programs on two cores with two workers over one core with one: orders of %d with %s, fastest of %d each: %.2f s (%.0f%% of it on the processor) to %.2f s (%.0f%% of two)",
			scalingCount, kdf, b.rounds, best[0].Seconds(), 100*used[0].Seconds()/best[0].Seconds(),
			best[1].Seconds(), 50*used[1].Seconds()/best[1].Seconds())})
	return nil
}
