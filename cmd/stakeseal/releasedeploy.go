package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/release"
)

func (a *app) releaseDeployVerb() *cobra.Command {
	var s steps
	var noTrust, outOfOrder bool
	cmd := &cobra.Command{
		Use:   "deploy DIGEST --depot DIR",
		Short: "Put a signed release in force in a home",
		Long: `Install a signed release into the home and put it in force: from then on generate
runs its program with its settings, and verifies its signatures before every
start. The home's own trust file judges it; its entry is added there, and every
other line stays as it is. The home's generator.yaml stays as the draft of the
next release.

Settings that differ from those in force, or for the first release from the
home's own generator.yaml, are shown and asked about: the signatures do not say
for which installation a release was meant.

A release supersedes the one that its reviewers compared it with. One that does
not follow the release in force is refused: an older one that somebody kept, one
of two that were reviewed at the same time, one of another installation. To go
back there is release rollback; --out-of-order takes it all the same, and asks.

After an interruption, run it again: a release is in force whole or not at all.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.releaseDeploy(cmd.Context(), s, args[0], noTrust, outOfOrder)
		},
	}
	s.flags(cmd, "depot")
	cmd.Flags().BoolVar(&outOfOrder, "out-of-order", false, "take a release that does not follow the one in force too, after asking")
	cmd.Flags().BoolVar(&noTrust, "leave-trust-file", false, "leave trust.yaml alone, and print the entry to add by hand")
	return cmd
}

func (a *app) releaseDeploy(ctx context.Context, s steps, name string, leave, outOfOrder bool) error {
	digest, err := packageDigest(name)
	if err != nil {
		return err
	}
	dir, trust, err := a.releaseHome()
	if err != nil {
		return err
	}
	if len(trust.Managers) == 0 {
		return usage("add release_managers: with the lines that stakeseal release key prints", "%s names no release managers: nobody's signature would count", filepath.Join(dir, trustFile))
	}
	depot, err := s.openDepot(ctx, a, trust, false)
	if err != nil {
		return err
	}
	signed, err := release.LoadSigned(ctx, depot, trust, digest)
	if err != nil {
		return err
	}
	to, err := a.deployTarget(ctx, dir, trust, outOfOrder)
	if err != nil {
		return err
	}
	// Before anything is written or anybody is told to write it: a release that is
	// revoked, or another installation's, is no line for the trust file.
	if err := to.Fits(ctx, signed, a.now()); err != nil {
		return err
	}
	if err := a.confirmOrderOf(ctx, to, trust, signed, outOfOrder); err != nil {
		return err
	}
	if err := a.confirmSettings(ctx, dir, to, signed.Package()); err != nil {
		return err
	}
	// The entry first: a release that is listed and not in force harms nobody,
	// one that is in force and not listed would make keys that do not verify.
	if !(release.Home{Trust: trust}).Listed(signed) {
		if leave {
			if _, err := a.out.Write(certificate.FormatRelease(signed.Release)); err != nil {
				return unprinted(err)
			}
			return usage("add the lines above under releases: of "+trustFile+", then deploy again", "%s does not list release %q", trustFile, signed.Release.Name)
		}
		if err := release.AddToTrust(filepath.Join(dir, trustFile), signed.Release); err != nil {
			return fail(exitUsage, "add it by hand:\n"+string(certificate.FormatRelease(signed.Release)), "couldn't add the release to %s: %w", trustFile, err)
		}
		a.say("added release %q, signed by its release managers, to %s", signed.Release.Name, trustFile)
		if trust, err = loadTrust(filepath.Join(dir, trustFile)); err != nil {
			return err
		}
		if to, err = a.deployTarget(ctx, dir, trust, outOfOrder); err != nil {
			return err
		}
	}
	if err := to.Install(ctx, signed, a.now()); err != nil {
		return err
	}
	in, err := to.InForce(ctx, a.now())
	if err != nil {
		return err
	}
	return a.reportRelease(dir, trust, in)
}

// confirmOrderOf refuses a release that does not follow the one in force, before
// anything is asked or written; or asks, where --out-of-order was given.
func (a *app) confirmOrderOf(ctx context.Context, to target, trust *certificate.Trust, s *release.Signed, outOfOrder bool) error {
	inForce, err := to.Named(ctx)
	if err != nil && !errors.Is(err, release.ErrNoRelease) {
		return err
	}
	err = release.MayFollow(trust, s, inForce)
	if err == nil || !outOfOrder {
		return err
	}
	a.say("warning: %v", err)
	return a.confirm(fmt.Sprintf("Put package %s in force all the same?", s.Release.Package))
}

// unseen says whether what is in force could not be looked at, which says
// nothing about it: then there is nothing to compare with, and nobody is asked to
// agree. That an object or a function is gone, says that it is not whole.
func unseen(err error) bool {
	fault, ok := errors.AsType[*session.Fault](err)
	return ok && fault.Code != "NoSuchKey" && fault.Code != "ResourceNotFoundException"
}

// confirmSettings asks about each setting that a package would change here.
func (a *app) confirmSettings(ctx context.Context, dir string, to target, p *release.Package) error {
	var before *config.Generator
	place := "the release in force"
	in, err := to.InForce(ctx, a.now())
	if err == nil {
		before = in.Package().Settings
	} else if unseen(err) {
		return err
	} else {
		// None yet, or one that does not verify any more.
		place = "the home's " + config.GeneratorFile
		folder, err := settingsFolder(os.DirFS(dir))
		if err != nil {
			return err
		}
		if before, err = config.LoadGenerator(folder); err != nil {
			a.say("warning: the settings in %s cannot be compared with: %v", dir, err)
			before, place = nil, "nothing"
		}
	}
	changes, err := release.SettingsChanges(before, p.Settings)
	if err != nil || len(changes) == 0 {
		return err
	}
	a.say("the package has other settings than %s:", place)
	for _, c := range changes {
		a.say("%s: %s: %s, here %s", c.Weight, c.Name, orDash(release.Shown(c.After)), orDash(release.Shown(c.Before)))
	}
	return a.confirm(fmt.Sprintf("Is package %s meant for %s?", p.Digest, dir))
}

func (a *app) releaseRevokeVerb() *cobra.Command {
	var s steps
	var reason string
	cmd := &cobra.Command{
		Use:   "revoke DIGEST --key FILE --reason TEXT [--depot DIR]",
		Short: "Release manager: stop a release, and disbelieve what it made",
		Long: `Sign that a release is revoked, in the depot and in the home, and mark it in the
home's trust file. Generate then refuses it at once, it cannot be deployed or
rolled back to, and nothing it ever made verifies any more: whoever could make a
bad package run could make it state any time. To end a release that was good, let
it expire instead (not_after in the trust file).

Other verifiers mark it themselves: revoked: true.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.releaseRevoke(cmd.Context(), s, args[0], reason)
		},
	}
	s.flags(cmd, "depot", "key")
	cmd.Flags().StringVar(&reason, "reason", "", "why, one line of ASCII `TEXT`")
	return cmd
}

func (a *app) releaseRevoke(ctx context.Context, s steps, name, reason string) error {
	digest, err := packageDigest(name)
	if err != nil {
		return err
	}
	dir, trust, err := a.releaseHome()
	if err != nil {
		return err
	}
	function, err := releaseFunction(dir)
	if err != nil {
		return err
	}
	local := function == (arn.ARN{})
	if !local && s.depot == "" {
		return usage("the bucket of packages: release verify and rollback read revocations there", "--depot is missing")
	}
	signer, err := openKey(s.key)
	if err != nil {
		return err
	}
	defer signer.Wipe()
	home := release.Home{Dir: dir, Trust: trust}.Statements()
	known := []release.Store{home}
	var depot release.Depot
	if s.depot != "" {
		if depot, err = s.openDepot(ctx, a, trust, false); err != nil {
			return err
		}
		known = append(known, depot.Submissions)
	}
	if err := release.Known(ctx, trust, digest, known...); err != nil {
		return err
	}
	if err := a.confirm(fmt.Sprintf("Revoke package %s, and everything it ever made?", digest)); err != nil {
		return err
	}
	var places []release.Store
	if local {
		places = append(places, home)
	}
	if s.depot != "" {
		places = append(places, depot.Reviews)
	}
	for _, place := range places {
		if err := release.Revoke(ctx, place, trust, signer, digest, reason, a.now()); err != nil {
			return err
		}
	}
	for _, r := range trust.Releases {
		if r.Package != digest || r.Revoked {
			continue
		}
		if err := release.RevokeInTrust(filepath.Join(dir, trustFile), r.Name); err != nil {
			return fail(exitUsage, "write revoked: true into the entry of "+r.Name+" by hand", "couldn't mark it in %s: %w", trustFile, err)
		}
		a.say("marked release %q as revoked in %s", r.Name, trustFile)
	}
	if a.json {
		return a.object(struct {
			Schema  string `json:"schema"`
			Package string `json:"package_sha256"`
		}{"stakeseal/release-revocation/v1", digest.String()})
	}
	a.say("revoked; tell those who keep other trust files to mark it too")
	to, err := a.releaseTarget(ctx, dir, trust)
	if err != nil {
		return err
	}
	switch inForce, err := to.Named(ctx); {
	case errors.Is(err, release.ErrNoRelease) || err == nil && inForce != digest:
	case err != nil:
		return fmt.Errorf("it is revoked; whether it is in force could not be seen: %w", err)
	case local:
		a.say("it is in force in %s: generate refuses from now on, until stakeseal release rollback, or another release is deployed", dir)
	default:
		a.say("it is still behind the function's alias, where whoever may call it can run it: generate refuses from now on; stakeseal release rollback, or deploy another release, takes it away")
	}
	return nil
}
