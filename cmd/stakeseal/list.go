package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

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

func toJSON(c chosen) validatorJSON {
	v := validatorJSON{"stakeseal/validator/v1", c.Validator, nil, c.Labels}
	if c.Signer != "" {
		v.AssignedTo = &c.Signer
	}
	return v
}

func (a *app) ordersVerb() *cobra.Command {
	return &cobra.Command{
		Use:   "orders",
		Short: "List the orders",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := a.openHome()
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
			h, err := a.openHome()
			if err != nil {
				return err
			}
			defer h.close()
			return a.list(cmd, h, &s)
		},
	}
	s.selectors(cmd)
	return cmd
}

// list streams: rows have fixed widths, so that a hundred thousand of them
// are printed as they are read.
func (a *app) list(cmd *cobra.Command, h *home, s *selection) error {
	out := bufio.NewWriterSize(a.out, 1<<16)
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	first := true
	for c, err := range h.validators(cmd.Context(), s) {
		if err != nil {
			return errors.Join(err, out.Flush())
		}
		if a.json {
			if err := encoder.Encode(toJSON(c)); err != nil {
				return unprinted(err)
			}
			continue
		}
		if first {
			fmt.Fprintf(out, "%-20s %6s  %-98s %-16s %s\n", "ORDER", "INDEX", "PUBKEY", "SIGNER", "MADE")
			first = false
		}
		signer := c.Signer
		if signer == "" {
			signer = "-"
		}
		if _, err := fmt.Fprintf(out, "%-20s %6d  %-98s %-16s %s\n", c.Order, c.Index, c.Pubkey, signer, c.Created.Format(time.RFC3339)); err != nil {
			return unprinted(err)
		}
	}
	if err := out.Flush(); err != nil {
		return unprinted(err)
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
			h, err := a.openHome()
			if err != nil {
				return err
			}
			defer h.close()
			return a.show(cmd, h, args[0])
		},
	}
}

func (a *app) show(cmd *cobra.Command, h *home, word string) error {
	ctx := cmd.Context()
	s := &selection{words: []string{word}}
	var c chosen
	for found, err := range h.validators(ctx, s) {
		if err != nil {
			return err
		}
		c = found
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
	var history []record.Event
	for e, err := range h.records.Events(ctx, record.EventQuery{Order: c.Order}) {
		if err != nil {
			return err
		}
		if e.Pubkey == c.Pubkey || e.Pubkey == (eth.Pubkey{}) { // its own, and those of the whole order
			history = append(history, e)
		}
	}
	if a.json {
		err := a.object(struct {
			validatorJSON
			Sealing     record.Sealing `json:"sealing"`
			Certificate jsonRaw        `json:"certificate"`
			Verdict     string         `json:"certificate_verdict"`
			Events      []record.Event `json:"events"`
		}{toJSON(c), b.Sealing, b.Certificate, verdict, history})
		if err != nil {
			return err
		}
	} else {
		t := newTable(a.out)
		t.row("pubkey", c.Pubkey.String())
		t.row("order, index", fmt.Sprintf("%s, %d (%s)", c.Order, c.Index, c.Path))
		address, _ := c.Credentials.Address()
		name, _ := h.generator.AddressName(address)
		t.row("withdrawals to", fmt.Sprintf("%v (%s)", address, name))
		t.row("credentials", c.Credentials.String())
		for i, d := range c.Deposits {
			t.row(fmt.Sprintf("deposit %d", i+1), fmt.Sprintf("%s %s, data root %v", d.Amount.Ether(h.generator.Network), h.generator.Network.Unit(), d.DataRoot))
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
		}
		signer := c.Signer
		if signer == "" {
			signer = "-"
		}
		t.row("signer", signer)
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
