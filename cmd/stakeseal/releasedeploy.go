package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/release"
)

func (a *app) releaseDeployVerb() *cobra.Command {
	var s steps
	var noTrust bool
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

After an interruption, run it again: a release is in force whole or not at all.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.releaseDeploy(cmd.Context(), s, args[0], noTrust)
		},
	}
	s.flags(cmd, "depot")
	cmd.Flags().BoolVar(&noTrust, "leave-trust-file", false, "leave trust.yaml alone, and print the entry to add by hand")
	return cmd
}

func (a *app) releaseDeploy(ctx context.Context, s steps, name string, leave bool) error {
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
	to, err := a.releaseTarget(ctx, dir, trust)
	if err != nil {
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
		if to, err = a.releaseTarget(ctx, dir, trust); err != nil {
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
	return a.reportRelease(dir, in)
}

// confirmSettings asks about each setting that a package would change here.
func (a *app) confirmSettings(ctx context.Context, dir string, to target, p *release.Package) error {
	var before *config.Generator
	place := "the release in force"
	in, err := to.InForce(ctx, a.now())
	if err == nil {
		before = in.Package().Settings
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

func (a *app) releaseRollbackVerb() *cobra.Command {
	return &cobra.Command{
		Use:   "rollback",
		Short: "Bring back the release that was in force before",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, trust, err := a.releaseHome()
			if err != nil {
				return err
			}
			to, err := a.releaseTarget(cmd.Context(), dir, trust)
			if err != nil {
				return err
			}
			if err := a.confirm("Bring back the release before in " + dir + "?"); err != nil {
				return err
			}
			in, err := to.Rollback(cmd.Context(), a.now())
			if err != nil {
				return err
			}
			return a.reportRelease(dir, in)
		},
	}
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
	return nil
}

func (a *app) releaseVerifyVerb() *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Say whether what is in force is what was reviewed and signed",
		Long: `Verify the release in force in the home, from the bytes of its program to the last
signature, by the home's trust file: that the program and settings are those of the
package, that a developer submitted it, release managers approved and signed it,
and that it is listed, valid now and not revoked. It needs no network.

To see that the package is its source too: stakeseal release rebuild.
Exit codes: 0 it is, 3 it is not, 2 no release is in force.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, trust, err := a.releaseHome()
			if err != nil {
				return err
			}
			to, err := a.releaseTarget(cmd.Context(), dir, trust)
			if err != nil {
				return err
			}
			in, err := to.InForce(cmd.Context(), a.now())
			if err != nil {
				return err
			}
			if !(release.Home{Trust: trust}).Listed(in.Signed) {
				return fail(exitRefused, "stakeseal release deploy adds it", "%s does not list release %q: what it makes would not verify", trustFile, in.Release.Name)
			}
			return a.reportRelease(dir, in)
		},
	}
}

// reportRelease prints a release in force that was verified.
func (a *app) reportRelease(dir string, in *release.Installed) error {
	p := in.Package()
	var approvers []string
	for _, r := range in.Reviewed.Approvals {
		approvers = append(approvers, r.By.Name)
	}
	signers := in.SignedBy()
	if a.json {
		return a.object(struct {
			Schema     string           `json:"schema"`
			Home       string           `json:"home"`
			Name       string           `json:"name"`
			Package    certificate.Hash `json:"package_sha256"`
			Binary     certificate.Hash `json:"binary_sha256"`
			Settings   certificate.Hash `json:"settings_sha256"`
			Commit     string           `json:"commit"`
			Submitted  string           `json:"submitted_by"`
			ApprovedBy []string         `json:"approved_by"`
			SignedBy   []string         `json:"signed_by"`
			Review     certificate.Hash `json:"review"`
			NotBefore  time.Time        `json:"not_before"`
			NotAfter   time.Time        `json:"not_after,omitzero"`
			Since      time.Time        `json:"since,omitzero"`
			Previous   certificate.Hash `json:"previous_sha256,omitzero"`
		}{"stakeseal/release-in-force/v1", dir, in.Release.Name, p.Digest, p.Binary, p.Provenance.Settings, p.Provenance.Commit, in.Reviewed.Submitted.By.Name,
			approvers, signers, in.Release.Review, in.Release.NotBefore, in.Release.NotAfter, in.Since, in.Previous})
	}
	until := "open"
	if !in.Release.NotAfter.IsZero() {
		until = in.Release.NotAfter.Format(time.RFC3339)
	}
	t := newTable(a.out)
	t.row("release", in.Release.Name)
	since := "behind the function's alias, home " + dir
	if !in.Since.IsZero() {
		since = "since " + in.Since.Format(time.RFC3339) + ", in " + dir
	}
	t.row("in force", since)
	t.row("package", p.Digest.String())
	t.row("  program", p.Binary.String())
	t.row("  settings", p.Provenance.Settings.String())
	t.row("  commit", p.Provenance.Commit)
	t.row("submitted by", in.Reviewed.Submitted.By.Name+": "+in.Reviewed.Submitted.Submission.Description)
	t.row("approved by", joinNames(approvers))
	t.row("signed by", joinNames(signers))
	t.row("valid", in.Release.NotBefore.Format(time.RFC3339)+" to "+until)
	if !in.Previous.IsZero() {
		t.row("rollback to", in.Previous.String())
	}
	if err := t.flush(); err != nil {
		return err
	}
	a.say("what is in force is what was reviewed and signed")
	return nil
}
