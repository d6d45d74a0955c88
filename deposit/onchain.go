package deposit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
)

// askChain compares every pubkey with what the chain holds.
func (c *trial) askChain(ctx context.Context) (*At, error) {
	var ask []eth.Pubkey
	for _, g := range c.groups {
		// A pubkey that is no point is refused anyway, and nodes differ in
		// what they answer to it.
		if !c.signatures[g.rows[0]].pubkey {
			ask = append(ask, g.pubkey)
		}
	}
	if len(ask) == 0 {
		return nil, nil
	}
	states, at, err := c.Chain.Known(ctx, ask)
	if err != nil {
		if !errors.Is(err, ErrChain) {
			err = fmt.Errorf("%w: %w", ErrChain, err)
		}
		return nil, err
	}
	// The port was made for a network; that it is ours is checked here too,
	// because a pubkey is new on every network but its own.
	if at.ForkVersion != c.Network.GenesisForkVersion ||
		c.Network.HasGenesisValidatorsRoot && at.GenesisValidatorsRoot != c.Network.GenesisValidatorsRoot {
		return nil, fmt.Errorf("%w: the nodes %v are of genesis fork version %s and validators root %s, not of %s",
			ErrChain, at.Nodes, at.ForkVersion, at.GenesisValidatorsRoot, c.Network.Name)
	}
	if len(at.Nodes) == 0 {
		return nil, fmt.Errorf("%w: no node answered", ErrChain)
	}
	for _, pubkey := range ask {
		state, ok := states[pubkey]
		if !ok {
			return nil, fmt.Errorf("%w: the answer leaves out %s", ErrChain, pubkey)
		}
		c.judgeState(c.byKey[pubkey], state)
	}
	if at.Pending {
		return &at, nil
	}
	blind := at.NoPending
	if len(blind) == 0 {
		blind = at.Nodes
	}
	missing := fmt.Sprintf("the queue of pending deposits is not shown by %s: a foreign deposit that waits there is not noticed", strings.Join(blind, ", "))
	if len(blind) < len(at.Nodes) {
		missing = fmt.Sprintf("the queue of pending deposits is not shown by %s: that nothing foreign waits there is the word of the others alone", strings.Join(blind, ", "))
	}
	c.overall = append(c.overall, Finding{Code: PendingNotSeen, Severity: Warn, Message: missing,
		Hint: "ask a node that has /eth/v1/beacon/states/{state}/pending_deposits (since Electra)"})
	// Every known network is past Electra and has the queue: there, a node
	// without it is old, restricted, or hides it. Of a custom network nothing
	// is known.
	if _, known := eth.NetworkByForkVersion(c.Network.GenesisForkVersion); known && !c.AllowNoQueue {
		return &at, fmt.Errorf("%w: %w: not shown by %s", ErrChain, ErrQueue, strings.Join(blind, ", "))
	}
	return &at, nil
}

// judgeState holds a pubkey's entries against the chain. The first validly
// signed deposit of a pubkey fixes its withdrawal credentials; what is sent
// later only adds to its balance, whatever it says (consensus specs,
// apply_deposit and apply_pending_deposit).
func (c *trial) judgeState(g *group, s State) {
	ours := c.entries[g.rows[0]].Credentials
	var deposited eth.Gwei
	if v := s.Validator; v != nil {
		if !sameOwner(v.Credentials, ours) {
			c.each(g, Refuse, ChainForeign, "whoever deposited first owns the validator and all that is sent to it; never deposit to this pubkey",
				"validator %d has this pubkey already, with withdrawal credentials %s: the stake would be theirs", v.Index, v.Credentials)
			return
		}
		g.onward = true
		deposited = v.Balance
		if v.Credentials != ours {
			c.each(g, Warn, CredentialsChanged, "", "validator %d has the same address under another prefix: %s", v.Index, v.Credentials)
		}
		if v.Status.leaving() {
			c.each(g, Refuse, ChainExited, "", "validator %d has this pubkey already and is %s: it will never be active again", v.Index, v.Status)
			return
		}
	}
	if !c.judgePending(g, s, ours, &deposited) {
		return
	}
	if g.onward {
		c.judgeRepeat(g, s, deposited)
	}
}

// judgePending looks through the queue, where a front-run sits for days
// before the registry shows it. Anyone can queue anything for any pubkey, so
// a deposit counts only if the pubkey signed it: else a stranger could block
// deposits for one ether each.
func (c *trial) judgePending(g *group, s State, ours eth.Credentials, deposited *eth.Gwei) bool {
	for _, p := range s.Pending {
		same := sameOwner(p.Credentials, ours)
		if s.Validator != nil {
			if same {
				*deposited = add(*deposited, p.Amount)
			}
			continue // anybody's top-up of what is ours
		}
		m := eth.DepositMessage{Pubkey: g.pubkey, Credentials: p.Credentials, Amount: p.Amount}
		signed := bls.Verify(bls.Claim{Pubkey: g.pubkey, Root: eth.SigningRoot(m.Root(), c.Network.DepositDomain()), Signature: p.Signature})
		switch {
		case !signed:
			c.each(g, Warn, PendingUnsigned, "the chain will drop it; somebody knows the pubkey and spent money on it",
				"a deposit of %s with withdrawal credentials %s waits in the queue (slot %d), without a valid signature", c.ether(p.Amount), p.Credentials, p.Slot)
		case same:
			g.onward = true
			*deposited = add(*deposited, p.Amount)
		default:
			c.each(g, Refuse, PendingForeign, "whoever signed it holds the key; never deposit to this pubkey",
				"a validly signed deposit of %s with withdrawal credentials %s waits in the queue (slot %d): once it is processed the stake would be theirs", c.ether(p.Amount), p.Credentials, p.Slot)
			return false
		}
	}
	return true
}

// judgeRepeat tells the next stage of a plan from a deposit that was made
// before.
func (c *trial) judgeRepeat(g *group, s State, deposited eth.Gwei) {
	v := s.Validator
	credentials := c.entries[g.rows[0]].Credentials
	var slack eth.Gwei
	if v != nil {
		credentials = v.Credentials
		if !v.Status.waiting() {
			// An active validator that was offline has lost a little of what
			// was deposited.
			slack = c.Network.MinDeposit / 2
		}
	}
	holds := add(deposited, slack)
	if len(g.plan) > 0 {
		left := remaining(g.plan, holds)
		for _, i := range g.rows {
			if at := slices.Index(left, c.entries[i].Amount); at >= 0 {
				left = slices.Delete(left, at, at+1)
				c.found(i, Note, ChainNextStage, "", "", "adds to the %s that this validator holds, as planned", c.ether(deposited))
			} else {
				c.already(i, deposited)
			}
		}
		return
	}
	whole := holds >= c.Network.MinActivation
	for _, i := range g.rows {
		e := &c.entries[i]
		over := eth.CheckAmount(c.Network, credentials, add(deposited, e.Amount))
		switch {
		case s.queued(e):
			c.found(i, Refuse, AlreadyDeposited, "", "sent again, the stake is paid twice",
				"was deposited already: this very deposit, signature and all, waits in the queue")
		case credentials.Kind() != eth.KindCompounding && holds >= c.Network.MinActivation:
			c.already(i, deposited)
		case over != nil:
			c.found(i, Refuse, SumOverCap, fieldAmount, "", "the chain holds %s for this pubkey already; with this deposit: %v", c.ether(deposited), over)
		case whole && c.signatures[i].ok:
			// 0x02 credentials hold more than one deposit, so that the cap
			// does not stop a file that is sent twice. The chain remembers no
			// signatures; but only a first deposit needs one.
			c.found(i, Refuse, AlreadyDeposited, "", fmt.Sprintf("sent again, the stake is paid twice; for a top-up on purpose judge it with a plan of what is there and what is added: --plan %s,%s",
				max(deposited, c.Network.MinDeposit).Ether(c.Network), e.Amount.Ether(c.Network)),
				"carries the signature of a first deposit, and the chain holds %s for this pubkey already", c.ether(deposited))
		default:
			c.found(i, Warn, ChainTopUp, "", "right for a top-up, wrong for a new validator", "the chain holds %s for this pubkey already, and this deposit adds to it", c.ether(deposited))
		}
		deposited = add(deposited, e.Amount)
		holds = add(holds, e.Amount)
	}
}

// queued says whether the queue holds this very deposit.
func (s State) queued(e *Entry) bool {
	return slices.ContainsFunc(s.Pending, func(p Pending) bool {
		return p.Credentials == e.Credentials && p.Amount == e.Amount && p.Signature == e.Signature
	})
}

func (c *trial) already(i int, deposited eth.Gwei) {
	c.found(i, Refuse, AlreadyDeposited, "", "sent again, the stake is paid twice",
		"was deposited already: the chain holds %s for this pubkey", c.ether(deposited))
}

func (c *trial) each(g *group, s Severity, code Code, hint, format string, args ...any) {
	for _, i := range g.rows {
		c.found(i, s, code, "", hint, format, args...)
	}
}

// sameOwner: equal credentials, or the same address as 0x01 and 0x02 (an
// owner may switch to compounding, EIP-7251).
func sameOwner(a, b eth.Credentials) bool {
	if a == b {
		return true
	}
	x, okX := a.Address()
	y, okY := b.Address()
	return okX && okY && x == y
}

// remaining returns the stages of the plan that holds does not cover: of all
// ways to have deposited at most holds, the one that explains most of it, so
// that stages may have been sent in any order. Among equals the earlier
// stages count as sent.
func remaining(plan []eth.Gwei, holds eth.Gwei) []eth.Gwei {
	const most = 12 // 4096 ways
	if len(plan) > most {
		var sent eth.Gwei
		for i, a := range plan {
			if sent = add(sent, a); sent > holds {
				return slices.Clone(plan[i:])
			}
		}
		return nil
	}
	best, bestSum := 0, eth.Gwei(0)
	for way := 1; way < 1<<len(plan); way++ {
		var sent eth.Gwei
		for i, a := range plan {
			if way&(1<<i) != 0 {
				sent = add(sent, a)
			}
		}
		if sent <= holds && sent > bestSum {
			best, bestSum = way, sent
		}
	}
	var left []eth.Gwei
	for i, a := range plan {
		if best&(1<<i) == 0 {
			left = append(left, a)
		}
	}
	return left
}
