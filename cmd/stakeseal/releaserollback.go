package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/release"
)

func (a *app) releaseRollbackVerb() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "rollback [--to DIGEST]",
		Short: "Bring back the release that was in force before",
		Long: `Bring back the release that was in force before, after verifying it to the last
signature. What it was rolled back from stays installed and is then the one before.

Without --to the command again, say after an interruption, goes forth again.
--to names the package that shall be in force in the end: when it is already,
nothing is done; when it is not the one before, nothing either.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.releaseRollback(cmd.Context(), to) },
	}
	cmd.Flags().StringVar(&to, "to", "", "the `DIGEST` of the package to go back to; nothing is done where that is in force")
	return cmd
}

func (a *app) releaseRollback(ctx context.Context, name string) error {
	var goal certificate.Hash
	if name != "" {
		var err error
		if goal, err = packageDigest(name); err != nil {
			return err
		}
		if goal.IsZero() {
			return usage("stakeseal release verify shows what a rollback brings back", "--to %s is no package", name)
		}
	}
	dir, trust, err := a.releaseHome()
	if err != nil {
		return err
	}
	to, err := a.releaseTarget(ctx, dir, trust)
	if err != nil {
		return err
	}
	was, err := to.Named(ctx)
	if err != nil {
		return err
	}
	question := "Bring back the release before in " + dir + "?"
	in, err := to.InForce(ctx, a.now())
	switch {
	case errors.Is(err, session.ErrDenied) || err != nil && was == goal && !goal.IsZero():
		return err
	case err != nil:
		// That is what one rolls back from: it is revoked, or not whole.
		a.say("warning: what is in force does not verify: %v", err)
		if !goal.IsZero() {
			question = fmt.Sprintf("Bring back package %s in %s, if that is the one before?", goal, dir)
		}
	case !goal.IsZero() && in.Package().Digest == goal:
		a.say("release %q is in force already", in.Release.Name)
		return a.reportRelease(dir, trust, in)
	case in.Previous.IsZero():
		// Rollback says why: none is there, or it is revoked.
		a.say("warning: nothing that may run is before release %q", in.Release.Name)
	case !goal.IsZero() && in.Previous != goal:
		return fmt.Errorf("couldn't roll back: %w: before %q it is package %s, not %s", release.ErrNotBefore, in.Release.Name, in.Previous, goal)
	default:
		question = fmt.Sprintf("Bring back package %s, in place of release %q, package %s?", in.Previous, in.Release.Name, in.Package().Digest)
		goal = in.Previous // what is agreed to, and nothing that came between
	}
	if err := a.confirm(question); err != nil {
		return err
	}
	if in, err = to.Rollback(ctx, goal, a.now()); err != nil {
		return err
	}
	a.say("rolled back from package %s", was)
	return a.reportRelease(dir, trust, in)
}
