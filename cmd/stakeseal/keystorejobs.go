package main

import (
	"context"
	"slices"
	"sync"

	"github.com/stakeseal/stakeseal/check"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/keygen"
	"github.com/stakeseal/stakeseal/secret"
)

// keystoreJobs makes keystores of one seed, checked, on all cores.
type keystoreJobs struct {
	maker    *keygen.Maker
	checker  *check.Checker
	spec     keygen.Spec
	password *secret.Bytes
	bar      *bar
}

func newKeystoreJobs(seed *secret.Bytes, spec keygen.Spec, password *secret.Bytes, bar *bar) (*keystoreJobs, error) {
	maker, err := keygen.NewMaker(seed)
	if err != nil {
		return nil, err
	}
	return &keystoreJobs{maker, check.NewChecker(spec), spec, password, bar}, nil
}

func (j *keystoreJobs) wipe() { j.maker.Wipe() }

// run makes the keystores of indexes and hands each to save, one at a time,
// in no particular order, once its batch passed the check.
func (j *keystoreJobs) run(ctx context.Context, workers int, indexes []uint32, save func(*check.Public, []byte) error) error {
	size := 16 // batched signature verification pays
	if j.spec.KDF == keystore.Scrypt {
		size = 2 // each takes half a second: every core gets its share
	}
	var saving sync.Mutex
	return inParallel(ctx, workers, each(slices.Collect(slices.Chunk(indexes, size))), func(ctx context.Context, batch []uint32) error {
		made, err := j.maker.Make(ctx, j.spec, batch, j.password)
		if err != nil {
			return err
		}
		defer func() {
			for _, m := range made {
				m.Wipe()
			}
		}()
		checked, err := j.checker.Validators(ctx, made)
		if err != nil {
			return err
		}
		for _, c := range checked {
			public, file, err := c.Keystore()
			if err != nil {
				return err
			}
			saving.Lock()
			err = save(public, file)
			saving.Unlock()
			if err != nil {
				return err
			}
			j.bar.step()
		}
		return nil
	})
}
