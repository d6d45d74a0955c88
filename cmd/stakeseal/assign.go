package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/record"
)

func (a *app) assignVerb() *cobra.Command {
	var s selection
	var to string
	var move, back bool
	cmd := &cobra.Command{
		Use:   "assign --to SIGNER (PUBKEY | @FILE | --order ID | --unassigned)...",
		Short: "Say which one signer may sign for validators",
		Long: `Say which one signer may sign for the selected validators. A validator has one
signer at a time: each change raises its assignment's epoch, and of two changes
at once one wins. A validator that has a signer already is left alone unless
--move is given: make sure that the former one has stopped, or it may be slashed.
--back takes validators back that were handed to other software: make sure that it
has not got them, or has deleted them and will never sign again.

On one machine an assignment prevents mistakes; it is not a lock.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			s.words = args
			if to == "" {
				return usage("name it: --to signer-a", "--to is missing")
			}
			if s.empty() {
				return usage("for example --unassigned, --order ID or a PUBKEY", "say which validators")
			}
			h, err := a.openHome(cmd.Context())
			if err != nil {
				return err
			}
			defer h.close()
			if err := h.knownSigner(to); err != nil {
				return err
			}
			return a.assignFrom(cmd.Context(), h, &s, to, taking{move, back})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the `SIGNER`, one of those in home.yaml")
	cmd.Flags().BoolVar(&move, "move", false, "also take validators from the signer that has them")
	cmd.Flags().BoolVar(&back, "back", false, "also take validators back from other software (external:NAME), which must not have them any more")
	s.selectors(cmd)
	return cmd
}

// knownSigner refuses a signer that home.yaml does not name: a mistyped name
// would leave keys that no machine serves.
func (h *home) knownSigner(name string) error {
	if !slices.Contains(h.operator.Signers, name) {
		return usage("home.yaml names "+strings.Join(h.operator.Signers, ", "), "signer %q does not exist", name)
	}
	return nil
}

// taking says from whom validators are taken, beside those that nobody has.
type taking struct {
	signers  bool // other signers of stakeseal
	software bool // other software
}

func (a *app) assign(ctx context.Context, h *home, s *selection, to string, move bool) error {
	return a.assignFrom(ctx, h, s, to, taking{signers: move})
}

func (a *app) assignFrom(ctx context.Context, h *home, s *selection, to string, from taking) error {
	var list []assigned
	away := 0
	s.foreign = true
	for c, err := range h.validators(ctx, s) {
		if err != nil {
			return err
		}
		held, err := h.records.Assignment(ctx, c.Pubkey)
		if err != nil && !errors.Is(err, record.ErrNotFound) {
			return err
		}
		switch {
		case held.Signer == to:
			continue
		case held.Signer == "":
		case strings.HasPrefix(held.Signer, external) && from.software:
			away++
		case strings.HasPrefix(held.Signer, external):
			return fail(exitConflict, "its slashing history is with that software: leave it there; --back takes it back from software that has not got it, or has deleted it", "%v was handed to %s", c.Pubkey, held.Signer)
		case !from.signers:
			return fail(exitConflict, "stop it there first, then add --move", "%v is assigned to %s already", c.Pubkey, held.Signer)
		}
		list = append(list, assigned{c, held.Epoch})
	}
	orders := make([]string, len(list))
	for i, c := range list {
		orders[i] = c.Order
	}
	outside, why, err := h.outside(ctx, orders)
	if err != nil {
		return err
	}
	for _, order := range outside {
		if order == record.ImportedOrder {
			a.say("warning: %s: stop whatever signed with them before, or they are slashed", why[order])
			continue
		}
		a.say("warning: order %s: %s: where its keys are assigned elsewhere, or were handed to other software, is not known here; a key that signs in two places is slashed", order, why[order])
	}
	if away > 0 {
		a.say("warning: %d are with other software. If that signs once more, they are slashed; bring its history with stakeseal signer import %s FILE before they are served", away, to)
	}
	if (from.signers || away > 0) && len(list) > 0 {
		if err := a.confirm(fmt.Sprintf("Take %d validators to %s? Their former signer must have stopped.", len(list), to)); err != nil {
			return err
		}
	}
	for _, c := range list {
		if err := h.sound(ctx, c.chosen); err != nil {
			return err
		}
		if err := a.assignOne(ctx, h, c, to); err != nil {
			return err
		}
		if a.json {
			c.Signer = to
			if err := a.object(toJSON(c.chosen)); err != nil {
				return err
			}
		}
	}
	a.say("%d validators assigned to %s", len(list), to)
	return nil
}

// assigned is a validator with the epoch of the assignment that was looked
// at: what is decided upon that may only replace that.
type assigned struct {
	chosen
	epoch uint64
}

// assignOne moves an assignment on by one epoch, if it is still the one that
// was looked at. An interruption does not part it from its note.
func (a *app) assignOne(ctx context.Context, h *home, c assigned, to string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	next := record.Assignment{Pubkey: c.Pubkey, Signer: to, Epoch: c.epoch + 1, Time: record.Time(a.now())}
	if err := h.records.Assign(ctx, next); err != nil {
		return err
	}
	return h.note(ctx, record.Event{Time: next.Time, Kind: "assigned", Order: c.Order, Pubkey: c.Pubkey,
		Detail: map[string]string{"signer": to, "epoch": fmt.Sprint(next.Epoch)}})
}

// assignAll assigns a new order's validators; those that have the signer
// already stay as they are, so that a repeated generate changes nothing.
func (a *app) assignAll(ctx context.Context, h *home, receipt certificate.Receipt, to string) error {
	return a.assign(ctx, h, &selection{order: receipt.Order}, to, false)
}
