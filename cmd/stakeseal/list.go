package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// validatorJSON is how a validator is printed.
type validatorJSON struct {
	Schema string `json:"schema"`
	record.Validator
	AssignedTo *string           `json:"assigned_to"` // null: nobody
	Labels     map[string]string `json:"labels"`
}

// importedJSON is how an imported one is printed: with null where a
// validator that was born here has what nobody knows of this one.
type importedJSON struct {
	Schema      string            `json:"schema"`
	Order       string            `json:"order"`
	Index       uint32            `json:"index"`
	Pubkey      eth.Pubkey        `json:"pubkey"`
	Path        string            `json:"path"`
	Mnemonic    *string           `json:"mnemonic"`
	Network     string            `json:"network"`
	Credentials *eth.Credentials  `json:"withdrawal_credentials"`
	Deposits    []record.Deposit  `json:"deposits"`
	Created     time.Time         `json:"created"`
	AssignedTo  *string           `json:"assigned_to"`
	Labels      map[string]string `json:"labels"`
	Imported    importedHow       `json:"imported"`
}

type importedHow struct {
	Source   record.Source `json:"source"`
	Importer string        `json:"importer"`
	Says     string        `json:"says"`
}

func toJSON(c chosen) any {
	if c.Imported != nil {
		return c.importedJSON()
	}
	return c.bornJSON()
}

// assignedTo is nil where nobody is.
func (c chosen) assignedTo() *string {
	if c.Signer == "" {
		return nil
	}
	return &c.Signer
}

func (c chosen) bornJSON() validatorJSON {
	return validatorJSON{"stakeseal/validator/v1", c.Validator, c.assignedTo(), c.Labels}
}

func (c chosen) importedJSON() importedJSON {
	i := c.Imported
	v := importedJSON{"stakeseal/validator/v1", c.Order, c.Index, i.Pubkey, i.Path, nil, i.Network, nil, i.Deposits, i.Created, c.assignedTo(), c.Labels,
		importedHow{i.Source, i.Importer, foreignWords}}
	if i.Mnemonic != "" {
		v.Mnemonic = &i.Mnemonic
	}
	if i.Credentials != (eth.Credentials{}) {
		v.Credentials = &i.Credentials
	}
	if v.Deposits == nil {
		v.Deposits = []record.Deposit{}
	}
	return v
}

func (a *app) ordersVerb() *cobra.Command {
	return &cobra.Command{
		Use:   "orders",
		Short: "List the orders",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := a.openHome(cmd.Context())
			if err != nil {
				return err
			}
			defer h.close()
			ctx := cmd.Context()
			filled := map[string]uint32{}
			for v, err := range h.records.Validators(ctx, record.Query{}) {
				if err != nil {
					return err
				}
				filled[v.Order]++
			}
			t := newTable(a.out, "ORDER", "VALIDATORS", "WITHDRAWALS TO", "DEPOSITS", "PLACED", "LABELS")
			any := false
			for o, err := range h.records.Orders(ctx) {
				if err != nil {
					return err
				}
				any = true
				if a.json {
					if err := a.object(struct {
						Schema string `json:"schema"`
						record.Order
						Made uint32 `json:"made"`
					}{"stakeseal/order-status/v1", o, filled[o.ID]}); err != nil {
						return err
					}
					continue
				}
				state := fmt.Sprintf("%d of %d", filled[o.ID], o.Count)
				address, _ := o.Credentials.Address()
				t.row(o.ID, state, address.String(), planText(h.generator.Network, o.Plan), o.Created.Format(time.RFC3339), sortedPairs(o.Labels))
			}
			if a.json {
				return nil
			}
			if !any {
				a.say("no orders yet; next: stakeseal generate --count 1")
				return nil
			}
			return t.flush()
		},
	}
}

func planText(n eth.Network, plan []eth.Gwei) string {
	text := ""
	for i, amount := range plan {
		if i > 0 {
			text += ","
		}
		text += amount.Ether(n)
	}
	return text
}

func (a *app) listVerb() *cobra.Command {
	var s selection
	cmd := &cobra.Command{
		Use:   "list [PUBKEY | @FILE]...",
		Short: "List validators",
		RunE: func(cmd *cobra.Command, args []string) error {
			s.words = args
			h, err := a.openHome(cmd.Context())
			if err != nil {
				return err
			}
			defer h.close()
			s.shown, s.foreign = true, true
			return a.list(cmd, h, &s)
		},
	}
	s.selectors(cmd)
	return cmd
}

// list streams: rows have fixed widths, so that a hundred thousand of them
// are printed as they are read. A row that is not what was signed is marked,
// and the list ends with exit 3 when the good ones are printed.
func (a *app) list(cmd *cobra.Command, h *home, s *selection) error {
	out := bufio.NewWriterSize(a.out, 1<<16)
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	first, imported, refused := true, 0, 0
	var why error
	for j, err := range h.judged(cmd.Context(), s) {
		if err != nil {
			return errors.Join(err, out.Flush())
		}
		if j.refused != nil {
			if refused++; why == nil {
				why = j.refused
			}
		}
		c := j.chosen
		if a.json {
			var line any = toJSON(c)
			if j.refused != nil {
				line = j.toJSON()
			}
			if err := encoder.Encode(line); err != nil {
				return unprinted(err)
			}
			continue
		}
		if first {
			fmt.Fprintf(out, "%-20s %6s  %-98s %-16s %s\n", "ORDER", "INDEX", "PUBKEY", "SIGNER", "MADE")
			first = false
		}
		if j.refused != nil {
			if _, err := fmt.Fprintf(out, "%-20s %6d  REFUSED: %s\n", c.Order, c.Index, j.why()); err != nil {
				return unprinted(err)
			}
			continue
		}
		made := c.Created.Format(time.RFC3339)
		if c.Imported != nil {
			imported++
			made = "imported " + made
		}
		if _, err := fmt.Fprintf(out, "%-20s %6d  %-98s %-16s %s\n", c.Order, c.Index, c.Pubkey, orDash(c.Signer), made); err != nil {
			return unprinted(err)
		}
	}
	if err := out.Flush(); err != nil {
		return unprinted(err)
	}
	if imported > 0 {
		a.say("%d of them %s", imported, foreignWords)
	}
	if refused > 0 {
		return a.errRefusedRows(h, why, refused)
	}
	if first && !a.json {
		a.say("no validators yet; next: stakeseal generate --count 1")
	}
	return nil
}

func (a *app) showVerb() *cobra.Command {
	return &cobra.Command{
		Use:   "show PUBKEY",
		Short: "Show everything recorded about a validator",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := a.openHome(cmd.Context())
			if err != nil {
				return err
			}
			defer h.close()
			return a.show(cmd, h, args[0])
		},
	}
}

// history is what was noted of a validator, and of all of its order.
func (h *home) history(ctx context.Context, c chosen) (history []record.Event, err error) {
	for e, err := range h.records.Events(ctx, record.EventQuery{Order: c.Order}) {
		if err != nil {
			return nil, err
		}
		if e.Pubkey == c.Pubkey || e.Pubkey == (eth.Pubkey{}) {
			history = append(history, e)
		}
	}
	return history, nil
}

func (a *app) show(cmd *cobra.Command, h *home, word string) error {
	ctx := cmd.Context()
	s := &selection{words: []string{word}, shown: true, foreign: true}
	var c chosen
	for found, err := range h.validators(ctx, s) {
		if err != nil {
			return err
		}
		c = found
	}
	if c.Imported != nil {
		return a.showImported(ctx, h, c)
	}
	b, err := h.records.Birth(ctx, c.Pubkey)
	if err != nil {
		return err
	}
	verdict, release, key := "verified", "", ""
	v, certificateErr := h.trust.VerifyBirth(b.Certificate)
	if certificateErr == nil {
		release, key = v.Release, v.Key
		certificateErr = agrees(b, v)
	}
	if certificateErr != nil {
		verdict = "REFUSED: " + certificateErr.Error()
	}
	history, err := h.history(ctx, c)
	if err != nil {
		return err
	}
	if a.json {
		err := a.object(struct {
			validatorJSON
			Sealing     record.Sealing `json:"sealing"`
			Certificate jsonRaw        `json:"certificate"`
			Verdict     string         `json:"certificate_verdict"`
			Events      []record.Event `json:"events"`
		}{c.bornJSON(), b.Sealing, b.Certificate, verdict, history})
		if err != nil {
			return err
		}
	} else {
		t := newTable(a.out)
		t.row("pubkey", c.Pubkey.String())
		t.row("order, index", fmt.Sprintf("%s, %d (%s)", c.Order, c.Index, c.Path))
		address, _ := c.Credentials.Address()
		name, named := h.generator.AddressName(address)
		if !named && certificateErr == nil && v.Approver != "" {
			name = addressWords(v.AddressName, v.Approver)
		}
		t.row("withdrawals to", fmt.Sprintf("%v (%s)", address, name))
		t.row("credentials", c.Credentials.String())
		for i, d := range c.Deposits {
			t.row(fmt.Sprintf("deposit %d", i+1), fmt.Sprintf("%s, data root %v", deposit.Coins(h.generator.Network, d.Amount), d.DataRoot))
		}
		t.row("mnemonic", c.Mnemonic)
		for _, r := range b.Sealing.Recipients {
			t.row("sealed to", r.Name+"  "+keyText(r.Key))
		}
		t.row("made", c.Created.Format(time.RFC3339))
		t.row("certificate", verdict)
		if certificateErr == nil {
			if release == "" {
				release = "not judged: trust.yaml names no release"
			}
			t.row("  signed by", key)
			t.row("  release", release)
			if b.SignRequest != "" {
				t.row("  AWS request", b.SignRequest)
			}
		}
		t.row("signer", orDash(c.Signer))
		if len(c.Labels) > 0 {
			t.row("labels", sortedPairs(c.Labels))
		}
		for _, e := range history {
			t.row("event", fmt.Sprintf("%s  %s by %s  %s", e.Time.Format(time.RFC3339), e.Kind, e.Actor, sortedPairs(e.Detail)))
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	if certificateErr != nil {
		return fmt.Errorf("the certificate of %v does not verify: %w", c.Pubkey, certificateErr)
	}
	return nil
}
