package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/record"
)

func (a *app) signerMoveVerb() *cobra.Command {
	var s selection
	var from, to string
	cmd := &cobra.Command{
		Use:   "move --from A --to B [PUBKEY | @FILE]...",
		Short: "Move keys from one signer to another without a gap or a double",
		Long: `Assign the keys of the signer A (all, or the selected ones) to the signer B. A stops
signing for them within a moment, and notes what it signed last; B begins where A
ended, and not before it has that note. Both may run meanwhile; of a signer that is
stopped the note is written out of its ledger, which is on this machine.

In a home on AWS there is one mark for each key, which B takes over as it is: from
then on A cannot sign for it, whether it knows or not.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			s.words = args
			if from == "" || to == "" {
				return usage("for example --from signer-a --to signer-b", "--from and --to name the signers")
			}
			return signerFailure(from, a.signerMove(cmd.Context(), &s, from, to, false))
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "the `SIGNER` that has them")
	cmd.Flags().StringVar(&to, "to", "", "the `SIGNER` that shall have them")
	return cmd
}

func (a *app) signerTakeoverVerb() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "takeover A --to B",
		Short: "Give all keys of a signer that is dead to another",
		Long: `Assign all keys of the signer A, which is dead and will not come back as it was, to
the signer B. B waits until A cannot sign any more: until A's lease was let go of,
or has stood still for two minutes. Then it carries on from A's ledger, if that is
on this machine and whole; else it signs nothing that A could have signed, and its
log says from which epoch on.

In a home on AWS B waits for nothing: it takes the keys' marks over in the table,
and A, should it live after all, cannot sign for them from then on.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return usage("for example --to signer-b", "--to is missing")
			}
			return signerFailure(args[0], a.signerMove(cmd.Context(), &selection{}, args[0], to, true))
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the `SIGNER` that shall have them")
	return cmd
}

func (a *app) signerMove(ctx context.Context, s *selection, from, to string, dead bool) error {
	if from == to {
		return usage("", "--from and --to are both %s", to)
	}
	if err := a.canConfirm(); err != nil {
		return err
	}
	h, err := a.signerHome(ctx, to)
	if err != nil {
		return err
	}
	defer h.close()
	if err := h.knownSigner(from); err != nil {
		return err
	}
	leases, done, err := h.signers().leases()
	if err != nil {
		return err
	}
	defer done()
	if _, err := leases.Lease(ctx, to); errors.Is(err, record.ErrNotFound) {
		return fail(exitUsage, "stakeseal signer init "+to, "signer %s was not initialised: nobody would sign", to)
	} else if err != nil {
		return err
	}
	list, err := h.ofSigner(ctx, s, from)
	if err != nil {
		return err
	}
	question := fmt.Sprintf("Move %d validators from %s to %s?", len(list), from, to)
	if dead {
		question = fmt.Sprintf("Give all %d validators of %s to %s? %s must be dead.", len(list), from, to, from)
	}
	if err := a.confirm(question); err != nil {
		return err
	}
	for _, c := range list {
		if err := a.assignOne(ctx, h, c, to); err != nil {
			return err
		}
	}
	a.say("%d validators are assigned to %s", len(list), to)
	if h.remote() {
		a.say("%s signs for them from its next look at the assignments on, within %s (at once: POST /reload), and from then on nobody else can", to, readEvery)
		return nil
	}
	return a.awaitRelease(ctx, h, leases, from, list, dead)
}

// ofSigner are the selected keys of a signer; without a selection all.
func (h *home) ofSigner(ctx context.Context, s *selection, from string) ([]assigned, error) {
	all := selection{words: s.words}
	var list []assigned
	for c, err := range h.validators(ctx, &all) {
		if err != nil {
			return nil, err
		}
		held, err := h.records.Assignment(ctx, c.Pubkey)
		if err != nil && !errors.Is(err, record.ErrNotFound) {
			return nil, err
		}
		if held.Signer == from {
			list = append(list, assigned{c, held.Epoch})
		} else if len(s.words) > 0 {
			return nil, fail(exitConflict, "stakeseal list shows who has it", "%v is not assigned to %s", c.Pubkey, from)
		}
	}
	if len(list) == 0 {
		return nil, fail(exitConflict, "stakeseal list shows who has which", "no validator is assigned to %s", from)
	}
	return list, nil
}

// awaitRelease waits until the former signer has noted what it signed, or
// writes the note out of its ledger where it is stopped.
func (a *app) awaitRelease(ctx context.Context, h *home, leases record.Leases, from string, list []assigned, dead bool) error {
	lease, err := leases.Lease(ctx, from)
	if errors.Is(err, record.ErrNotFound) {
		a.say("%s was never a signer on this machine: what it signed is not known, and its keys pause until that cannot conflict", from)
		return nil
	}
	if err != nil {
		return err
	}
	end := bootTime() + 10*time.Second
	for {
		err := h.releaseStopped(ctx, a, lease)
		if err != nil && !errors.Is(err, errBusy) {
			if dead {
				a.say("the ledger of %s is not to be had (%v): its keys pause until nothing that it may have signed can conflict", from, err)
				return nil
			}
			return fail(exitConflict, "if "+from+" is dead: stakeseal signer takeover does the rest; the keys wait until then", "the ledger of %s is not to be had: %w", from, err)
		}
		left := 0
		for _, c := range list {
			n, err2 := h.notes(ctx, c.Pubkey, c.epoch+1)
			if err2 != nil {
				return err2
			}
			if !n.whole {
				left++
			}
		}
		// A key that a stopped signer never had in its ledger has no note.
		if left == 0 || err == nil {
			a.say("%s has let go of all of them, and left its marks", from)
			return nil
		}
		if bootTime() > end {
			return fail(exitConflict, "look at its log; the keys are served as soon as it lets go", "%s runs and has not let go of %d keys yet", from, left)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookEvery):
		}
	}
}
