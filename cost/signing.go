package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/stakeseal/stakeseal/eth"
	store "github.com/stakeseal/stakeseal/internal/aws/dynamodb"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/signer"
	"github.com/stakeseal/stakeseal/slashing"
)

// An attestation is due in every epoch, of 32 slots of 12 seconds.
const attestationsYear = 365.0 * 24 * 3600 / (32 * 12)

// signing is what a signer asks of DynamoDB, in units.
type signing struct {
	alone   [2]int // writes and reads for an attestation asked for by itself
	batch   [2]int // for a batch of attestations
	batched int    // so many
	renewal [2]int // for a renewal of the lease, while it signs
}

// signing has the signer's role sign attestations by the slashing ledger.
func (a *account) signing() (s signing, err error) {
	ctx := context.Background()
	tables, err := store.Beside(a.Stacks.Outputs["foundation"]["RecordsTableArn"])
	if err != nil {
		return s, err
	}
	records, err := store.New(dynamodb.NewFromConfig(a.Config("signer")), tables)
	if err != nil {
		return s, err
	}
	info, err := records.CreateLedger(ctx, "cost", eth.Root{1})
	if err != nil {
		return s, err
	}
	ledger, err := records.OpenLedger(ctx, "cost")
	if err != nil {
		return s, err
	}
	s.batched = 100
	list := make([]slashing.Admission, s.batched)
	for i := range list {
		list[i] = slashing.Admission{Mark: slashing.Mark{Pubkey: eth.Pubkey{byte(i * 2), 1}, Block: true, Slot: 1 << 40}, Assignment: 1}
	}
	lease := record.Lease{Name: "cost", Epoch: 1, Beat: 1, Holder: "h-1", Ledger: info.ID, Where: "anna@here:/signers/a.db", Time: record.Time(time.Now())}
	if err := errors.Join(ledger.Hold(ctx, 1), ledger.Admit(ctx, 1, list), records.Take(ctx, lease)); err != nil {
		return s, err
	}
	sign := func(epoch uint64, keys int) error {
		claims := make([]slashing.Claim, keys)
		for i := range claims {
			claims[i] = slashing.Claim{Pubkey: list[i].Mark.Pubkey, Source: epoch, Target: epoch + 1, Root: eth.Root{1}}
		}
		return errors.Join(ledger.Sign(ctx, 1, claims)...)
	}
	for _, part := range []struct {
		into *[2]int
		do   func() error
	}{
		{&s.alone, func() error { return sign(1<<40, 1) }},
		{&s.batch, func() error { return sign(1<<40+1, s.batched) }},
		{&s.renewal, func() error {
			lease.Beat++
			if lease.Watermark, err = ledger.Watermark(ctx); err != nil {
				return err
			}
			return records.Take(ctx, lease)
		}},
	} {
		before := len(a.World.Trail())
		if err := part.do(); err != nil {
			return s, fmt.Errorf("couldn't sign: %w", err)
		}
		for _, e := range a.World.Trail()[before:] {
			switch e.Service + " " + e.Action {
			case "dynamodb PutItem":
				part.into[0] += units(e.Bytes, 1<<10)
			case "dynamodb GetItem":
				part.into[1] += units(e.Bytes, 4<<10)
			default:
				return s, fmt.Errorf("signing calls %s:%s", e.Service, e.Action)
			}
		}
	}
	return s, nil
}

func price(units [2]int) float64 { return float64(units[0])*tableWrite + float64(units[1])*tableRead }

func (s signing) report() {
	renewals := 365.0 / 12 * 24 * float64(time.Hour/signer.RenewEvery)
	each := price(s.batch) / float64(s.batched)
	fmt.Printf("signing: an attestation alone is %d write and %d read units, a batch of %d is %d and %d, a renewal of the lease %d and %d\n",
		s.alone[0], s.alone[1], s.batched, s.batch[0], s.batch[1], s.renewal[0], s.renewal[1])
	fmt.Printf("a validator's year of attestations: $%.4f in batches, $%.4f alone\n\n", each*attestationsYear, price(s.alone)*attestationsYear)
	fmt.Printf("cost: usd_per_1000_attestations %.6f\n", each*1000)
	fmt.Printf("cost: usd_per_1000_attestations_alone %.6f\n", price(s.alone)*1000)
	fmt.Printf("cost: usd_signer_month %.2f\n", price(s.renewal)*renewals)
}
