package signer_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/signer"
	"github.com/stakeseal/stakeseal/slashing"
)

// secondFails is a ledger whose second write fails, and is not made.
type secondFails struct {
	slashing.Ledger
	writes []int
}

func (l *secondFails) Sign(ctx context.Context, epoch uint64, claims []slashing.Claim) []error {
	l.writes = append(l.writes, len(claims))
	if len(l.writes) != 2 {
		return l.Ledger.Sign(ctx, epoch, claims)
	}
	errs := make([]error, len(claims))
	for i := range errs {
		errs[i] = errors.New("the disk failed")
	}
	return errs
}

// TestBatchInParts: a large batch is stored in parts; what of it was not
// stored is not signed, the rest is, each outcome at its place, and what needs
// no ledger does not wait for one.
func TestBatchInParts(t *testing.T) {
	const keys = 300
	ledger := &secondFails{}
	b := newBench(t, keys, func(c *signer.Config) { ledger.Ledger, c.Ledger, c.Log = c.Ledger, ledger, nil })
	client := &signer.Client{Name: "vc", Operations: signer.Duties()}
	vote, sync := request(t, attestation(1, 2, 1)), request(t, syncMessage(epochNow*32))
	var orders []signer.Order
	for _, key := range b.keys {
		orders = append(orders, signer.Order{Pubkey: key, Request: vote})
	}
	orders = append(orders, signer.Order{Pubkey: b.keys[0], Request: sync})
	signatures, errs := b.SignAll(ctx, client, orders)
	for i, err := range errs {
		if failed := i >= 128 && i < 256; failed != (err != nil) {
			t.Errorf("%d: %v", i, err)
			continue
		}
		root, e := orders[i].Request.SigningRoot(hoodi)
		if e != nil {
			t.Fatal(e)
		}
		if good := bls.Verify(bls.Claim{Pubkey: orders[i].Pubkey, Root: root, Signature: signatures[i]}); good != (err == nil) {
			t.Errorf("%d: its signature is good: %t", i, good)
		}
	}
	if len(ledger.writes) != 3 {
		t.Errorf("%d writes: %v", len(ledger.writes), ledger.writes)
	}
}

func syncMessage(slot uint64) map[string]any {
	return map[string]any{"type": "SYNC_COMMITTEE_MESSAGE", "fork_info": forkInfo(), "sync_committee_message": map[string]any{
		"beacon_block_root": hexOf(32, 3), "slot": fmt.Sprint(slot)}}
}
