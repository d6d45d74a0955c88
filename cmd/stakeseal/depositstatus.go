package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

func (a *app) depositStatusVerb() *cobra.Command {
	var s selection
	var f chainFlags
	cmd := &cobra.Command{
		Use:   "status [PUBKEY | @FILE]...",
		Short: "Show which deposits were exported, and which the chain has",
		Long: `Show for each deposit of the selected validators (default: all) whether it was
exported and whether the chain has it: no, queued, yes, or FOREIGN, if somebody
else deposited for the pubkey first; then the exit code is 3. It is unknown
where a beacon node doesn't show the queue of pending deposits.

The beacon nodes are those of --beacon, or of home.yaml.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			s.words = args
			h, err := a.openHome(cmd.Context())
			if err != nil {
				return err
			}
			defer h.close()
			return a.depositStatus(cmd.Context(), h, &s, f)
		},
	}
	s.selectors(cmd)
	f.add(cmd)
	return cmd
}

// What the chain has of one deposit.
const (
	chainNo       = "no"
	chainQueued   = "queued"
	chainYes      = "yes"
	chainForeign  = "foreign" // FOREIGN in the table
	chainUnknown  = "unknown" // not in the registry, and not every node shows the queue
	chainNotAsked = "-"
)

// standing is what is known of one deposit.
type standing struct {
	chosen
	stage    int // from 0
	exported *exported
	chain    string
	state    deposit.State
}

func (a *app) depositStatus(ctx context.Context, h *home, s *selection, f chainFlags) error {
	asked, err := a.chain(h.trust.Network, h, f)
	if err != nil {
		return err
	}
	var list []chosen
	past := map[eth.Root]exported{}
	known := certified{}
	orders := map[string]bool{}
	for c, err := range h.validators(ctx, s) {
		if err != nil {
			return err
		}
		if !orders[c.Order] {
			orders[c.Order] = true
			if err := h.exports(ctx, c.Order, past); err != nil {
				return err
			}
		}
		// The record, not the list's row: it is the one that is certified.
		_, v, err := h.born(ctx, c.Pubkey)
		if err != nil {
			return unsound(c.Pubkey, err)
		}
		known[c.Pubkey] = knownOf(v)
		list = append(list, c)
	}
	if len(list) == 0 {
		a.say("no validators yet; next: stakeseal generate --count 1")
		return nil
	}
	rows, entries := lay(h.trust.Network, list, known, past)
	var at *deposit.At
	var findings []deposit.Finding
	if asked == nil {
		a.say("no beacon node is asked: name one with --beacon URL, or in home.yaml")
	} else if findings, at, err = ask(ctx, h, asked, known, rows, entries); err != nil {
		return fmt.Errorf("couldn't tell what is on the chain: %w", err)
	}
	if err := a.reportStatus(h.trust.Network, rows, at); err != nil {
		return err
	}
	a.sayFindings(findings, deposit.Note)
	if at != nil {
		a.say("as of slot %d at %s", at.Slot, strings.Join(at.Nodes, ", "))
	}
	if slices.ContainsFunc(findings, func(f deposit.Finding) bool { return f.Severity == deposit.Refuse }) {
		return fail(exitRefused, "send nothing to these pubkeys", "the chain or the trust file speaks against some of these deposits")
	}
	return nil
}

// lay makes a row and an entry for each deposit, in the same order.
func lay(n eth.Network, list []chosen, known certified, past map[eth.Root]exported) (rows []standing, entries []deposit.Entry) {
	for _, c := range list {
		k := known[c.Pubkey]
		for i, d := range k.Deposits {
			row := standing{chosen: c, stage: i, chain: chainNotAsked}
			row.Credentials, row.Deposits = k.Credentials, nil
			for _, d := range k.Deposits {
				row.Deposits = append(row.Deposits, record.Deposit(d))
			}
			if e, ok := past[d.DataRoot]; ok {
				row.exported = &e
			}
			rows = append(rows, row)
			entries = append(entries, deposit.Entry{
				Row: len(rows), Pubkey: c.Pubkey, Credentials: k.Credentials, Amount: d.Amount, Signature: d.Signature,
				MessageRoot: d.MessageRoot, DataRoot: d.DataRoot, ForkVersion: n.GenesisForkVersion, NetworkName: n.Name,
				CLIVersion: deposit.CLIVersion,
			})
		}
	}
	return rows, entries
}

// ask has the deposits judged as if all were about to be sent: what the judge
// says about sending them again is what the chain has. It returns the
// findings that are no news of that kind.
func ask(ctx context.Context, h *home, chain deposit.Chain, known certified, rows []standing, entries []deposit.Entry) ([]deposit.Finding, *deposit.At, error) {
	heard := &heard{Chain: chain}
	j := deposit.Judge{Network: h.trust.Network, Addresses: h.trust.Addresses, AllowBad: true, AllowNoQueue: true, Births: known, Chain: heard}
	v, err := j.Verdict(ctx, entries)
	if err != nil {
		return nil, nil, err
	}
	for i := range rows {
		rows[i].state = heard.states[rows[i].Pubkey]
		rows[i].chain = chainNo
		if v.AsOf == nil || !v.AsOf.Pending {
			rows[i].chain = chainUnknown
		}
	}
	var rest []deposit.Finding
	for _, f := range v.Findings {
		switch f.Code {
		case deposit.AlreadyDeposited, deposit.ChainExited:
			row := &rows[f.Row-1]
			row.chain = chainYes
			if row.state.Validator == nil {
				row.chain = chainQueued
			}
		case deposit.ChainForeign, deposit.PendingForeign:
			rows[f.Row-1].chain = chainForeign
			rest = append(rest, rows[f.Row-1].tell(f))
		case deposit.ChainNextStage, deposit.PlanIncomplete:
		default:
			if f.Row > 0 {
				f = rows[f.Row-1].tell(f)
			}
			rest = append(rest, f)
		}
	}
	return rest, v.AsOf, nil
}

// tell puts the deposit in the place of the row, which nobody sees.
func (s *standing) tell(f deposit.Finding) deposit.Finding {
	whose := s.Pubkey.String()
	if len(s.Deposits) > 1 {
		whose += fmt.Sprintf(" stage %d of %d", s.stage+1, len(s.Deposits))
	}
	f.Source, f.Row, f.Message = "", 0, whose+": "+f.Message
	return f
}

// heard keeps what the chain answered.
type heard struct {
	deposit.Chain
	states map[eth.Pubkey]deposit.State
}

// Known implements deposit.Chain.
func (c *heard) Known(ctx context.Context, pubkeys []eth.Pubkey) (map[eth.Pubkey]deposit.State, deposit.At, error) {
	states, at, err := c.Chain.Known(ctx, pubkeys)
	c.states = states
	return states, at, err
}

// statusJSON is a deposit's standing as it is printed.
type statusJSON struct {
	Schema   string          `json:"schema"`
	Order    string          `json:"order"`
	Index    uint32          `json:"index"`
	Pubkey   eth.Pubkey      `json:"pubkey"`
	Stage    int             `json:"stage"`
	Stages   int             `json:"stages"`
	Amount   eth.Gwei        `json:"amount_gwei"`
	DataRoot eth.Root        `json:"deposit_data_root"`
	Exported *exportedJSON   `json:"exported"` // null: never
	Chain    *chainStateJSON `json:"chain"`    // null: not asked
}

type exportedJSON struct {
	Time  time.Time `json:"time"`
	Actor string    `json:"actor"`
	File  string    `json:"file"`
	Again int       `json:"again"`
}

type chainStateJSON struct {
	Deposit string            `json:"deposit"` // no, queued, yes, foreign or unknown
	Slot    uint64            `json:"slot"`
	Index   *uint64           `json:"validator_index"`
	Status  deposit.Status    `json:"status,omitempty"`
	Balance eth.Gwei          `json:"balance_gwei"`
	Pending eth.Gwei          `json:"pending_gwei"`
	Owners  []eth.Credentials `json:"withdrawal_credentials"` // on the chain and in the queue, each once
}

func (s *standing) json(at *deposit.At) statusJSON {
	d := s.Deposits[s.stage]
	out := statusJSON{"stakeseal/deposit-status/v1", s.Order, s.Index, s.Pubkey, s.stage + 1, len(s.Deposits), d.Amount, d.DataRoot, nil, nil}
	if e := s.exported; e != nil {
		out.Exported = &exportedJSON{e.time, e.actor, e.file, e.again}
	}
	if at == nil {
		return out
	}
	c := &chainStateJSON{Deposit: s.chain, Slot: at.Slot, Owners: []eth.Credentials{}}
	if v := s.state.Validator; v != nil {
		c.Index, c.Status, c.Balance = &v.Index, v.Status, v.Balance
		c.Owners = append(c.Owners, v.Credentials)
	}
	for _, p := range s.state.Pending {
		c.Pending += p.Amount
		if !slices.Contains(c.Owners, p.Credentials) {
			c.Owners = append(c.Owners, p.Credentials)
		}
	}
	out.Chain = c
	return out
}

// validator describes what the chain has of the pubkey, in a few words.
func (s *standing) validator(n eth.Network) string {
	text := "-"
	if v := s.state.Validator; v != nil {
		text = fmt.Sprintf("%d %s %s", v.Index, v.Status, v.Balance.Ether(n))
	}
	var pending eth.Gwei
	for _, p := range s.state.Pending {
		pending += p.Amount
	}
	if pending > 0 {
		text += " +" + pending.Ether(n) + " queued"
	}
	return text
}

func (a *app) reportStatus(n eth.Network, rows []standing, at *deposit.At) error {
	if a.json {
		for i := range rows {
			if err := a.object(rows[i].json(at)); err != nil {
				return err
			}
		}
		return nil
	}
	shown := map[string]string{chainForeign: "FOREIGN"}
	t := newTable(a.out, "ORDER", "INDEX", "PUBKEY", "STAGE", "AMOUNT", "EXPORTED", "ON CHAIN", "VALIDATOR")
	strange := 0
	for i := range rows {
		s := &rows[i]
		exported := "-"
		if e := s.exported; e != nil {
			exported = e.time.Format(time.RFC3339)
			if e.again > 0 {
				exported += fmt.Sprintf(" +%d", e.again)
			}
		} else if s.chain == chainYes || s.chain == chainQueued {
			strange++
		}
		t.row(s.Order, fmt.Sprint(s.Index), short(s.Pubkey.String()), fmt.Sprintf("%d of %d", s.stage+1, len(s.Deposits)),
			s.Deposits[s.stage].Amount.Ether(n), exported, cmp.Or(shown[s.chain], s.chain), s.validator(n))
	}
	if err := t.flush(); err != nil {
		return err
	}
	if strange > 0 {
		a.say("warning: %d deposits are on the chain that were never exported from this home", strange)
	}
	return nil
}
