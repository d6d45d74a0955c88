package main

import (
	"context"
	"time"

	"filippo.io/age"

	"github.com/stakeseal/stakeseal/check"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/keygen"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
)

// batch is how many validators the generator derives and verifies at a time
// when it makes no keystores.
const batch = 64

// cryptographyAlone makes, checks and seals batches of validators in this
// process and returns the processor time for one: no record, no certificate,
// no connection, no disk.
func cryptographyAlone(ctx context.Context, batches int) (time.Duration, error) {
	id, err := age.GenerateHybridIdentity() // what init makes
	if err != nil {
		return 0, err
	}
	to, err := seal.ParseRecipient(id.Recipient().String())
	if err != nil {
		return 0, err
	}
	recipients, err := seal.NewRecipients(seal.Signing, seal.Named{Name: "signing", Recipient: to})
	if err != nil {
		return 0, err
	}
	seed := secret.Random(64)
	defer seed.Wipe()
	maker, err := keygen.NewMaker(seed)
	if err != nil {
		return 0, err
	}
	defer maker.Wipe()
	network, _ := eth.LookupNetwork("hoodi")
	address, err := eth.ParseAddress(withdrawals)
	if err != nil {
		return 0, err
	}
	spec := keygen.Spec{Network: network, Credentials: eth.ExecutionCredentials(address, false), Plan: []eth.Gwei{network.MinActivation}, KDF: keygen.None}
	checker := check.NewChecker(spec)
	before := processorTime()
	for n := range batches {
		var indexes []uint32
		for i := range batch {
			indexes = append(indexes, uint32(n*batch+i))
		}
		made, err := maker.Make(ctx, spec, indexes, nil)
		if err != nil {
			return 0, err
		}
		checked, err := checker.Validators(ctx, made)
		if err != nil {
			return 0, err
		}
		for _, c := range checked {
			if _, err := c.Seal(ctx, recipients, network.Name, "bench"); err != nil {
				return 0, err
			}
		}
	}
	return (processorTime() - before) / time.Duration(batches*batch), nil
}
