package deposit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	. "github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
)

func TestJudgeChain(t *testing.T) {
	a := made(t, hoodi, 1, cold, 32*ether)
	a1, a31 := made(t, hoodi, 1, cold, ether), made(t, hoodi, 1, cold, 31*ether)
	a02 := made(t, hoodi, 1, cold02, 32*ether)
	a02s := made(t, hoodi, 1, cold02, 2*ether)
	unsigned02 := a02s
	unsigned02.Signature = eth.Signature{0: 0xc0}
	unsigned02 = reroot(unsigned02)
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
		{name: "compounding, sent again", entries: []Entry{a02}, state: validator(cold02, ActiveOngoing, 32*ether), refuse: sorted(AlreadyDeposited)},
		{name: "compounding, sent again, penalised", entries: []Entry{a02}, state: validator(cold02, ActiveOngoing, 32*ether-ether/4), refuse: sorted(AlreadyDeposited)},
		{name: "compounding, sent again, rewarded", entries: []Entry{a02}, state: validator(cold02, ActiveOngoing, 40*ether), refuse: sorted(AlreadyDeposited)},
		{name: "compounding, sent again, in the queue", entries: []Entry{a02}, state: queued(a02), refuse: sorted(AlreadyDeposited)},
		{name: "compounding, small, sent again, in the queue", entries: []Entry{a02s}, state: both(validator(cold02, PendingInitialized, ether), queued(a02s)), refuse: sorted(AlreadyDeposited)},
		{name: "compounding, small, unsigned, sent again, in the queue", entries: []Entry{unsigned02}, state: both(validator(cold02, PendingInitialized, ether), queued(unsigned02)), refuse: sorted(AlreadyDeposited), warn: sorted(SignatureTopUp)},
		{name: "compounding, another waits in the queue", entries: []Entry{a02s}, state: both(validator(cold02, PendingInitialized, ether), queued(unsigned02)), warn: sorted(ChainTopUp)},
		{name: "compounding top-up, planned", entries: []Entry{a02s}, state: validator(cold02, ActiveOngoing, 40*ether+5), change: func(j *Judge) { j.Plan = []eth.Gwei{40*ether + 5, 2 * ether} }, note: sorted(ChainNextStage)},
		{name: "compounding top-up without signature", entries: []Entry{unsigned02}, state: validator(cold02, ActiveOngoing, 40*ether), warn: sorted(ChainTopUp, SignatureTopUp)},
		{name: "compounding top-up of a part", entries: []Entry{a02s}, state: validator(cold02, PendingInitialized, 30*ether), warn: sorted(ChainTopUp)},
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

// A known network has the queue. A node that doesn't show it leaves the
// verdict open, whatever another node shows, unless the caller gives it up;
// what another shows against a deposit counts all the same.
func TestQueueNotSeen(t *testing.T) {
	custom := hoodi
	custom.Name, custom.GenesisForkVersion, custom.HasGenesisValidatorsRoot = "devnet", eth.Version{9, 9, 9, 9}, false
	named := hoodi
	named.Name = "mine" // its parameters are hoodi's, its name is the operator's
	stolen := made(t, hoodi, 1, thief, ether)
	for _, c := range []struct {
		name      string
		net       eth.Network
		nodes     []string
		noPending []string
		allow     bool
		stolen    bool
		want      Outcome
		said      string
	}{
		{name: "one node", net: hoodi, nodes: []string{"one"}, noPending: []string{"one"}, want: Unknown, said: "not shown by one: a foreign"},
		{name: "both", net: hoodi, nodes: []string{"one", "two"}, noPending: []string{"one", "two"}, want: Unknown, said: "not shown by one, two: a foreign"},
		{name: "one of two", net: hoodi, nodes: []string{"one", "two"}, noPending: []string{"two"}, want: Unknown, said: "not shown by two: that nothing foreign waits there is the word of the others alone"},
		{name: "one of two, foreign at the other", net: hoodi, nodes: []string{"one", "two"}, noPending: []string{"two"}, stolen: true, want: Refused},
		{name: "unsaid which", net: hoodi, nodes: []string{"one", "two"}, want: Unknown, said: "not shown by one, two"},
		{name: "given up", net: hoodi, nodes: []string{"one", "two"}, noPending: []string{"two"}, allow: true, want: Good, said: "not shown by two"},
		{name: "given up, foreign", net: hoodi, nodes: []string{"one", "two"}, noPending: []string{"two"}, allow: true, stolen: true, want: Refused},
		{name: "mainnet", net: network("mainnet"), nodes: []string{"one"}, noPending: []string{"one"}, want: Unknown},
		{name: "custom network", net: custom, nodes: []string{"one"}, noPending: []string{"one"}, want: Good, said: "not shown by one"},
		{name: "custom name", net: named, nodes: []string{"one"}, noPending: []string{"one"}, want: Unknown},
	} {
		e := made(t, c.net, 1, cold, 32*ether)
		j := good()
		j.Network, j.AllowNoQueue = c.net, c.allow
		held := chain{net: c.net, noPending: true, nodes: c.nodes, without: c.noPending, states: map[eth.Pubkey]State{}}
		if c.stolen {
			held.states[e.Pubkey] = State{Pending: []Pending{{Credentials: stolen.Credentials, Amount: stolen.Amount, Signature: stolen.Signature}}}
		}
		j.Chain = held
		v, err := j.Verdict(context.Background(), []Entry{e})
		open := c.want != Good && !c.allow
		if v.Outcome != c.want || errors.Is(err, ErrQueue) != open || errors.Is(err, ErrChain) != open || (v.NotChecked != "") != open || v.AsOf == nil {
			t.Errorf("%s: %s, %v, %q", c.name, v.Outcome, err, v.NotChecked)
		}
		if got := v.Findings[len(v.Findings)-1]; got.Code != PendingNotSeen || got.Severity != Warn || !strings.Contains(got.Message, c.said) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

// A certificate that doesn't stand refuses, and hides nothing of the rest.
func TestCertificateInvalid(t *testing.T) {
	a, b := made(t, hoodi, 1, cold, 32*ether), at(made(t, hoodi, 2, cold, 32*ether), "a.json", 2)
	j := good()
	j.Births = revoked{certified(b), a.Pubkey}
	v, err := j.Verdict(context.Background(), []Entry{a, b})
	if err != nil || v.Outcome != Refused || v.NotChecked != "" {
		t.Fatal(v.Outcome, err)
	}
	expect(t, v, sorted(CertificateInvalid), nil, nil)
	if f := v.Findings[0]; f.Row != 1 || f.Pubkey != a.Pubkey || !strings.Contains(f.Message, "its key was revoked") {
		t.Errorf("%+v", f)
	}
	j.AllowUncertified = true
	if v, _ := j.Verdict(context.Background(), []Entry{a, b}); v.Outcome != Refused {
		t.Error("allowed:", v.Outcome)
	}
}

// revoked is a Births in which one certificate doesn't stand.
type revoked struct {
	births
	pubkey eth.Pubkey
}

func (r revoked) Deposits(ctx context.Context, p eth.Pubkey) (Known, error) {
	if p == r.pubkey {
		return Known{}, fmt.Errorf("%w: its key was revoked", ErrCertificate)
	}
	return r.births.Deposits(ctx, p)
}

func TestCoins(t *testing.T) {
	for want, n := range map[string]eth.Network{"64 ETH": hoodi, "2 GNO": network("gnosis")} {
		if got := Coins(n, 64*ether); got != want {
			t.Errorf("%s: %q, want %q", n.Name, got, want)
		}
	}
	if got := Coins(network("chiado"), ether); got != "0.03125 GNO" {
		t.Error(got)
	}
}
