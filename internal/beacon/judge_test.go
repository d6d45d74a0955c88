package beacon

import (
	"context"
	"errors"
	"testing"

	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/secret"
)

// The 2021 front-run, over HTTP and with real signatures: the judge refuses
// whether the thief's deposit is in the registry or still in the queue, and
// does not pass when only one of two nodes shows it.
func TestFrontRun(t *testing.T) {
	raw := make([]byte, 32)
	raw[31] = 42
	key, err := bls.Parse(secret.Take(raw))
	if err != nil {
		t.Fatal(err)
	}
	sign := func(to byte, amount eth.Gwei) deposit.Entry {
		m := eth.DepositMessage{Pubkey: key.Pubkey(), Credentials: eth.ExecutionCredentials(eth.Address{to, 19: to}, false), Amount: amount}
		e := deposit.Entry{Source: "f", Row: 1, Pubkey: m.Pubkey, Credentials: m.Credentials, Amount: m.Amount, MessageRoot: m.Root(),
			ForkVersion: hoodi.GenesisForkVersion, NetworkName: hoodi.Name, CLIVersion: deposit.CLIVersion,
			Signature: key.Sign(eth.SigningRoot(m.Root(), hoodi.DepositDomain()))}
		var d eth.DepositData
		d.Pubkey, d.Credentials, d.Amount, d.Signature = e.Pubkey, e.Credentials, e.Amount, e.Signature
		e.DataRoot = d.Root()
		return e
	}
	ours, theirs := sign(0xaa, 32e9), sign(0xee, 1e9)
	judge := func(fakes ...*fake) (deposit.Verdict, error) {
		j := deposit.Judge{Network: hoodi, Addresses: map[string]eth.Address{"cold": {0xaa, 19: 0xaa}}, Chain: chainOf(t, fakes...)}
		return j.Verdict(context.Background(), []deposit.Entry{ours})
	}
	registered := func(f *fake) {
		f.validators[theirs.Pubkey] = deposit.Validator{Index: 6, Status: deposit.PendingInitialized, Credentials: theirs.Credentials, Balance: 1e9}
	}
	queued := func(f *fake) {
		f.pending = []pendingEntry{{theirs.Pubkey, deposit.Pending{Credentials: theirs.Credentials, Amount: theirs.Amount, Signature: theirs.Signature, Slot: 98}}}
	}

	if v, err := judge(newFake(t), newFake(t)); err != nil || !v.OK() || len(v.AsOf.Nodes) != 2 {
		t.Fatalf("nobody was faster: %v, %+v", err, v)
	}
	for want, happens := range map[deposit.Code]func(*fake){deposit.ChainForeign: registered, deposit.PendingForeign: queued} {
		seen, unseen := newFake(t), newFake(t)
		happens(seen)
		v, err := judge(seen)
		if err != nil || v.OK() || v.Outcome != deposit.Refused || v.Findings[0].Code != want {
			t.Errorf("%s: %v, %+v", want, err, v)
		}
		v, err = judge(seen, unseen)
		if !errors.Is(err, ErrDisagree) || !errors.Is(err, deposit.ErrChain) || v.OK() || v.Outcome != deposit.Unknown {
			t.Errorf("%s at one node only: %v, %+v", want, err, v)
		}
	}

	// One node's empty queue is no second opinion for a node that shows none.
	shows, blind := newFake(t), newFake(t)
	blind.override[pendingPath] = status(404)
	for _, fakes := range [][]*fake{{blind}, {shows, blind}, {blind, shows}} {
		v, err := judge(fakes...)
		if !errors.Is(err, deposit.ErrQueue) || !errors.Is(err, deposit.ErrChain) || v.OK() || v.Outcome != deposit.Unknown {
			t.Errorf("no queue at one of %d: %v, %s", len(fakes), err, v.Outcome)
		}
	}
	queued(shows)
	if v, _ := judge(shows, blind); v.Outcome != deposit.Refused {
		t.Errorf("foreign in the one queue that is shown: %s", v.Outcome)
	}
}
