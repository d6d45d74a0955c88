package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/exit"
	"github.com/stakeseal/stakeseal/internal/beacon"
	"github.com/stakeseal/stakeseal/record"
)

func (a *app) exitStatusVerb() *cobra.Command {
	var s selection
	var f chainFlags
	cmd := &cobra.Command{
		Use:   "status [PUBKEY | @FILE]...",
		Short: "Show which exits were signed and submitted, and who leaves when",
		Long: `Show for each selected validator (default: all) what was noted of its exit here, and
what the chain has: its status, the epochs and times at which it exits and its
balance can be withdrawn, and the balance.

A validator that leaves though nobody here submitted an exit is pointed out: whoever
has the withdrawal address may end it (EIP-7002), and so may whoever has a signed
exit or the key. The beacon nodes are those of --beacon, or of home.yaml.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			s.words, s.foreign = args, true
			h, err := a.openHome(cmd.Context())
			if err != nil {
				return err
			}
			defer h.close()
			return a.exitStatus(cmd.Context(), h, &s, f)
		},
	}
	s.selectors(cmd)
	f.add(cmd)
	return cmd
}

// leaving is what is known of one validator's exit.
type leaving struct {
	chosen
	signed, submitted *record.Event
	life              *beacon.Life // nil: not in the registry, or not asked
}

func (a *app) exitStatus(ctx context.Context, h *home, s *selection, f chainFlags) error {
	nodes, err := a.nodes(h.generator.Network, h, f)
	if err != nil {
		return err
	}
	var list []leaving
	var pubkeys []eth.Pubkey
	noted := map[string]map[eth.Pubkey]*record.Event{eventExitSigned: {}, eventExitSubmitted: {}}
	orders := map[string]bool{}
	for c, err := range h.validators(ctx, s) {
		if err != nil {
			return err
		}
		if !orders[c.Order] {
			orders[c.Order] = true
			if err := h.exitsNoted(ctx, c.Order, noted); err != nil {
				return err
			}
		}
		list = append(list, leaving{chosen: c, signed: noted[eventExitSigned][c.Pubkey], submitted: noted[eventExitSubmitted][c.Pubkey]})
		pubkeys = append(pubkeys, c.Pubkey)
	}
	if len(list) == 0 {
		a.say("no validators yet; next: stakeseal generate --count 1")
		return nil
	}
	var moment *beacon.Moment
	if nodes == nil {
		a.say("no beacon node is asked: name one with --beacon URL, or in home.yaml")
	} else {
		lives, m, err := nodes.Lives(ctx, pubkeys)
		if err != nil {
			return fmt.Errorf("couldn't tell what is on the chain: %w", err)
		}
		moment = &m
		for i := range list {
			if life, ok := lives[list[i].Pubkey]; ok {
				list[i].life = &life
			}
		}
	}
	if err := a.reportExits(h.generator.Network, list, moment); err != nil {
		return err
	}
	a.sayExits(list, moment)
	return nil
}

// exitsNoted reads the last event of each kind for an order's validators. One
// that no node took is not submitted.
func (h *home) exitsNoted(ctx context.Context, order string, into map[string]map[eth.Pubkey]*record.Event) error {
	for e, err := range h.records.Events(ctx, record.EventQuery{Order: order}) { // oldest first
		switch {
		case err != nil:
			return err
		case e.Kind == eventExitNotTaken:
			delete(into[eventExitSubmitted], e.Pubkey)
		case into[e.Kind] != nil:
			into[e.Kind][e.Pubkey] = &e
		}
	}
	return nil
}

// exitStatusJSON is a validator's exit as it is printed.
type exitStatusJSON struct {
	Schema    string         `json:"schema"`
	Order     string         `json:"order"`
	Index     uint32         `json:"index"`
	Pubkey    eth.Pubkey     `json:"pubkey"`
	Signed    *exitNotedJSON `json:"signed"`    // null: not noted here
	Submitted *exitNotedJSON `json:"submitted"` // null: not noted here
	Chain     *exitChainJSON `json:"chain"`     // null: not asked
}

type exitNotedJSON struct {
	Time     time.Time `json:"time"`
	Actor    string    `json:"actor"`
	Epoch    string    `json:"epoch"`
	Index    string    `json:"validator_index"`
	SealedTo string    `json:"sealed_to,omitempty"`
}

type exitChainJSON struct {
	Slot           uint64         `json:"slot"`
	Index          *uint64        `json:"validator_index"` // null: no such validator; all that follows is empty
	Status         deposit.Status `json:"status,omitempty"`
	Balance        eth.Gwei       `json:"balance_gwei"`
	Activation     *uint64        `json:"activation_epoch"`
	Exit           *uint64        `json:"exit_epoch"` // null: none is set
	ExitTime       *time.Time     `json:"exit_time"`
	Withdrawable   *uint64        `json:"withdrawable_epoch"`
	WithdrawalTime *time.Time     `json:"withdrawable_time"`
}

func notedJSON(e *record.Event) *exitNotedJSON {
	if e == nil {
		return nil
	}
	return &exitNotedJSON{e.Time, e.Actor, e.Detail["epoch"], e.Detail["validator_index"], e.Detail["sealed_to"]}
}

func (l *leaving) json(m *beacon.Moment) exitStatusJSON {
	out := exitStatusJSON{"stakeseal/exit-status/v1", l.Order, l.Index, l.Pubkey, notedJSON(l.signed), notedJSON(l.submitted), nil}
	if m == nil {
		return out
	}
	out.Chain = &exitChainJSON{Slot: m.Slot}
	if l.life == nil {
		return out
	}
	epoch := func(e uint64) (*uint64, *time.Time) {
		if e == exit.FarFuture {
			return nil, nil
		}
		if at, ok := m.Time(e); ok {
			return &e, &at
		}
		return &e, nil
	}
	c := out.Chain
	c.Index, c.Status, c.Balance = &l.life.Index, l.life.Status, l.life.Balance
	c.Activation, _ = epoch(l.life.Activation)
	c.Exit, c.ExitTime = epoch(l.life.Exit)
	c.Withdrawable, c.WithdrawalTime = epoch(l.life.Withdrawable)
	return out
}

func (a *app) reportExits(n eth.Network, list []leaving, m *beacon.Moment) error {
	if a.json {
		for i := range list {
			if err := a.object(list[i].json(m)); err != nil {
				return err
			}
		}
		return nil
	}
	noted := func(e *record.Event) string {
		if e == nil {
			return "-"
		}
		return e.Time.Format(time.RFC3339)
	}
	at := func(epoch uint64) string {
		if m == nil || epoch == exit.FarFuture {
			return "-"
		}
		if when, ok := m.Time(epoch); ok {
			return fmt.Sprintf("%d %s", epoch, when.Format(time.RFC3339))
		}
		return fmt.Sprint(epoch)
	}
	t := newTable(a.out, "ORDER", "INDEX", "PUBKEY", "SIGNED", "SUBMITTED", "VALIDATOR", "STATUS", "EXIT", "WITHDRAWABLE", "BALANCE")
	for i := range list {
		l := &list[i]
		cells := []string{l.Order, fmt.Sprint(l.Index), short(l.Pubkey.String()), noted(l.signed), noted(l.submitted), "-", "-", "-", "-", "-"}
		if l.life != nil {
			copy(cells[5:], []string{fmt.Sprint(l.life.Index), string(l.life.Status), at(l.life.Exit), at(l.life.Withdrawable), l.life.Balance.Ether(n)})
		} else if m != nil {
			cells[6] = "not on chain"
		}
		t.row(cells...)
	}
	return t.flush()
}

// sayExits points out what somebody should look at.
func (a *app) sayExits(list []leaving, m *beacon.Moment) {
	waiting, lost, strange, slashed := 0, 0, 0, 0
	for i := range list {
		l := &list[i]
		gone := l.life != nil && leaves(*l.life)
		switch {
		case l.life != nil && (l.life.Status == deposit.ActiveSlashed || l.life.Status == deposit.ExitedSlashed):
			slashed++
		case gone && l.submitted == nil:
			strange++
		case !gone && l.submitted != nil && m != nil:
			lost++
		case !gone && l.signed != nil:
			waiting++
		}
	}
	if waiting > 0 {
		a.say("%d exits are signed and not submitted: whoever has the files can end the validators", waiting)
	}
	if lost > 0 {
		a.say("warning: %d exits were submitted and are not in the chain: give it some minutes, then submit them again", lost)
	}
	if strange > 0 {
		a.say("warning: %d validators leave or have left, and no exit of theirs was submitted from this home", strange)
	}
	if slashed > 0 {
		a.say("warning: %d validators were SLASHED", slashed)
	}
	if m != nil {
		a.say("as of slot %d, epoch %d, at %s; times are the chain's, from its genesis on", m.Slot, m.Epoch, strings.Join(m.Nodes, ", "))
	}
}
