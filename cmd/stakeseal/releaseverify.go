package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/release"
)

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
			if errors.Is(err, release.ErrNotReviewed) || errors.Is(err, release.ErrNotSigned) {
				return fail(exitRefused, "somebody put it there beside the releases, or a key is revoked since: deploy one that is signed", "what is in force was not released: %w", err)
			}
			if err != nil {
				return err
			}
			if !(release.Home{Trust: trust}).Listed(in.Signed) {
				return fail(exitRefused, "stakeseal release deploy adds it", "%s does not list release %q: what it makes would not verify", trustFile, in.Release.Name)
			}
			return a.reportRelease(dir, trust, in)
		},
	}
}

// reportRelease prints a release in force that was verified.
func (a *app) reportRelease(dir string, trust *certificate.Trust, in *release.Installed) error {
	p := in.Package()
	var approvers []string
	var reviews []release.Reviewer
	for _, r := range in.Reviewed.Approvals {
		approvers = append(approvers, r.By.Name)
		reviews = append(reviews, release.Reviewer{Digest: r.Digest, By: r.By.Name, Report: r.Report})
	}
	signers := in.SignedBy()
	superseded := release.SupersededBy(trust, p.Digest)
	if a.json {
		return a.object(struct {
			Schema       string             `json:"schema"`
			Home         string             `json:"home"`
			Name         string             `json:"name"`
			Package      certificate.Hash   `json:"package_sha256"`
			Binary       certificate.Hash   `json:"binary_sha256"`
			Settings     certificate.Hash   `json:"settings_sha256"`
			Commit       string             `json:"commit"`
			Submitted    string             `json:"submitted_by"`
			ApprovedBy   []string           `json:"approved_by"`
			SignedBy     []string           `json:"signed_by"`
			Review       certificate.Hash   `json:"review"`
			Reviews      []release.Reviewer `json:"reviews"`
			Supersedes   certificate.Hash   `json:"supersedes,omitzero"`
			SupersededBy []string           `json:"superseded_by,omitempty"`
			RolledBack   certificate.Hash   `json:"rolled_back_sha256,omitzero"`
			NotCompared  []string           `json:"not_compared,omitempty"`
			NotBefore    time.Time          `json:"not_before"`
			NotAfter     time.Time          `json:"not_after,omitzero"`
			Since        time.Time          `json:"since,omitzero"`
			Previous     certificate.Hash   `json:"previous_sha256,omitzero"`
		}{"stakeseal/release-in-force/v1", dir, in.Release.Name, p.Digest, p.Binary, p.Provenance.Settings, p.Provenance.Commit, in.Reviewed.Submitted.By.Name,
			approvers, signers, in.Release.Review, reviews, in.Statement.Supersedes, superseded, in.RolledBack, in.Unjudged, in.Release.NotBefore, in.Release.NotAfter, in.Since, in.Previous})
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
	for _, r := range in.Reviewed.Approvals {
		t.row("approved by", r.By.Name+" on "+r.Time.Format(time.RFC3339)+", rebuilt: "+r.Rebuilt)
		t.row("  review", r.Digest.String())
		t.row("  report", r.Report.String())
	}
	t.row("signed by", joinNames(signers))
	t.row("valid", in.Release.NotBefore.Format(time.RFC3339)+" to "+until)
	if in.Statement.Supersedes.IsZero() {
		t.row("supersedes", "nothing: its reviewers compared it with no release")
	} else {
		t.row("supersedes", in.Statement.Supersedes.String())
	}
	if !in.RolledBack.IsZero() {
		t.row("ROLLED BACK", "from "+in.RolledBack.String())
	}
	if superseded != nil {
		t.row("SUPERSEDED", "by "+joinNames(superseded)+", which "+trustFile+" lists")
	}
	if in.Previous.IsZero() {
		t.row("rollback to", "nothing that may run")
	} else {
		t.row("rollback to", in.Previous.String())
	}
	for _, text := range in.Unjudged {
		t.row("not compared", "the function "+text)
	}
	if err := t.flush(); err != nil {
		return err
	}
	a.say("what is in force is what was reviewed and signed")
	return nil
}
