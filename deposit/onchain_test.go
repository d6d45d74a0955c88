package deposit_test

import (
	"context"
	"testing"

	. "github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
)

func TestJudgeChain(t *testing.T) {
	a := made(t, hoodi, 1, cold, 32*ether)
	a1, a31 := made(t, hoodi, 1, cold, ether), made(t, hoodi, 1, cold, 31*ether)
	a02 := made(t, hoodi, 1, cold02, 32*ether)
	unsigned := a31
	unsigned.Signature = eth.Signature{0: 0xc0}
	unsigned = reroot(unsigned)
	staged := func(j *Judge) { j.Plan = []eth.Gwei{ether, 31 * ether} }
	ours := func(j *Judge) { j.Births = certified(a1, a31) }

	validator := func(c eth.Credentials, s Status, balance eth.Gwei) State {
		return State{Validator: &Validator{Index: 5, Status: s, Credentials: c, Balance: balance}}
	}
	queued := func(entries ...Entry) (s State) {
		for _, e := range entries {
			s.Pending = append(s.Pending, Pending{Credentials: e.Credentials, Amount: e.Amount, Signature: e.Signature, Slot: 3})
		}
		return s
	}
	both := func(s State, q State) State { s.Pending = q.Pending; return s }
	stolen := made(t, hoodi, 1, thief, ether) // the key's holder signed for himself
	bluff := stolen                           // a stranger did not
	bluff.Signature = made(t, hoodi, 2, thief, ether).Signature
	elsewhere := made(t, network("mainnet"), 1, thief, ether) // signed, but for another network

	for _, c := range []struct {
		name    string
		entries []Entry
		state   State
		change  func(*Judge)
		refuse  []Code
		warn    []Code
		note    []Code
	}{
		{name: "new", entries: []Entry{a}},
		{name: "front-run, in the registry", entries: []Entry{a}, state: validator(thief, PendingInitialized, ether), refuse: sorted(ChainForeign)},
		{name: "front-run, top-up without signature", entries: []Entry{unsigned}, state: validator(thief, ActiveOngoing, 32*ether), refuse: sorted(ChainForeign, SignatureInvalid), note: sorted(BelowActivation)},
		{name: "front-run, in the queue", entries: []Entry{a}, state: queued(stolen), refuse: sorted(PendingForeign)},
		{name: "front-run, in the queue behind ours", entries: []Entry{a31}, state: queued(a1, stolen), refuse: sorted(PendingForeign)},
		{name: "front-run, in the queue behind a bluff", entries: []Entry{a}, state: queued(bluff, stolen), refuse: sorted(PendingForeign), warn: sorted(PendingUnsigned)},
		{name: "a bluff in the queue", entries: []Entry{a}, state: queued(bluff), warn: sorted(PendingUnsigned)},
		{name: "signed for another network in the queue", entries: []Entry{a}, state: queued(elsewhere), warn: sorted(PendingUnsigned)},
		{name: "a stranger tops up ours", entries: []Entry{a31}, state: both(validator(cold, PendingInitialized, ether), queued(stolen)), change: staged, note: sorted(ChainNextStage)},
		{name: "same address as BLS digest is foreign", entries: []Entry{a}, state: validator(eth.BLSCredentials(a.Pubkey), ActiveOngoing, 32*ether), refuse: sorted(ChainForeign)},

		{name: "deposited before", entries: []Entry{a}, state: validator(cold, ActiveOngoing, 32*ether), refuse: sorted(AlreadyDeposited)},
		{name: "deposited before, penalised", entries: []Entry{a}, state: validator(cold, ActiveOngoing, 32*ether-ether/4), refuse: sorted(AlreadyDeposited)},
		{name: "deposited before, in the queue", entries: []Entry{a}, state: queued(a), refuse: sorted(AlreadyDeposited)},
		{name: "deposited before, half in the queue", entries: []Entry{a}, state: both(validator(cold, PendingInitialized, ether), queued(a31)), refuse: sorted(AlreadyDeposited)},
		{name: "deposited before, planned", entries: []Entry{a}, state: validator(cold, PendingQueued, 32*ether), change: func(j *Judge) { j.Plan = []eth.Gwei{32 * ether} }, refuse: sorted(AlreadyDeposited)},
		{name: "deposited before, now compounding", entries: []Entry{a}, state: validator(cold02, ActiveOngoing, 33*ether), change: func(j *Judge) { j.Plan = []eth.Gwei{32 * ether} }, refuse: sorted(AlreadyDeposited), warn: sorted(CredentialsChanged)},
		{name: "deposited before, certified", entries: []Entry{a1, a31}, state: validator(cold, ActiveOngoing, 32*ether), change: ours, refuse: sorted(AlreadyDeposited)},
		{name: "exited", entries: []Entry{a}, state: validator(cold, WithdrawalDone, 0), refuse: sorted(ChainExited)},
		{name: "exiting", entries: []Entry{a02}, state: validator(cold02, ActiveExiting, 32*ether), refuse: sorted(ChainExited)},
		{name: "slashed", entries: []Entry{a02}, state: validator(cold02, ActiveSlashed, 31*ether), refuse: sorted(ChainExited)},

		{name: "second stage", entries: []Entry{a31}, state: validator(cold, PendingInitialized, ether), change: staged, note: sorted(ChainNextStage)},
		{name: "second stage, certified", entries: []Entry{a31}, state: validator(cold, PendingInitialized, ether), change: ours, note: sorted(ChainNextStage)},
		{name: "second stage, first in the queue", entries: []Entry{a31}, state: queued(a1), change: staged, note: sorted(ChainNextStage)},
		{name: "first stage again", entries: []Entry{a1}, state: validator(cold, PendingInitialized, ether), change: staged, refuse: sorted(AlreadyDeposited)},
		{name: "both again after the first", entries: []Entry{a1, a31}, state: validator(cold, PendingInitialized, ether), change: staged, refuse: sorted(AlreadyDeposited), note: sorted(ChainNextStage)},
		{name: "second stage again", entries: []Entry{a31}, state: validator(cold, PendingInitialized, 31*ether), change: staged, refuse: sorted(AlreadyDeposited)},
		{name: "first stage after the second", entries: []Entry{a1}, state: validator(cold, PendingInitialized, 31*ether), change: staged, note: sorted(ChainNextStage)},
		{name: "second stage without signature", entries: []Entry{unsigned}, state: validator(cold, PendingInitialized, ether), change: staged, warn: sorted(SignatureTopUp), note: sorted(ChainNextStage)},
		{name: "second stage without signature, first in the queue", entries: []Entry{unsigned}, state: queued(a1), change: staged, warn: sorted(SignatureTopUp), note: sorted(ChainNextStage)},
		{name: "second stage without signature, only a bluff in the queue", entries: []Entry{unsigned}, state: queued(func() Entry { e := a1; e.Signature = bluff.Signature; return e }()), change: staged, refuse: sorted(SignatureInvalid), warn: sorted(PendingUnsigned), note: sorted(PlanIncomplete)},
		{name: "ours has a signature, always", entries: []Entry{unsigned}, state: validator(cold, PendingInitialized, ether), change: ours, refuse: sorted(CertificateDiffers), warn: sorted(SignatureTopUp), note: sorted(ChainNextStage)},

		{name: "top-up to 32 without a plan", entries: []Entry{a31}, state: validator(cold, PendingInitialized, ether), warn: sorted(ChainTopUp)},
		{name: "top-up over 32 without a plan", entries: []Entry{a}, state: validator(cold, PendingInitialized, ether), refuse: sorted(SumOverCap)},
		{name: "compounding top-up", entries: []Entry{a02}, state: validator(cold02, ActiveOngoing, 40*ether), warn: sorted(ChainTopUp)},
		{name: "compounding top-up over 2048", entries: []Entry{a02}, state: validator(cold02, ActiveOngoing, 2017*ether), refuse: sorted(SumOverCap)},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := good()
			j.Chain = chain{net: hoodi, states: map[eth.Pubkey]State{a.Pubkey: c.state}}
			if c.change != nil {
				c.change(j)
			}
			v, err := j.Verdict(context.Background(), c.entries)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, v, c.refuse, c.warn, c.note)
			if v.AsOf == nil || v.AsOf.Slot != 7 || v.AsOf.Nodes[0] != "one" {
				t.Errorf("as of %+v", v.AsOf)
			}
		})
	}
}
