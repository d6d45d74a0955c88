package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/release"
)

type releaseReviewFlags struct {
	steps
	against, report, html, compiler, cache, tests, database string
	offline                                                 bool
}

func (a *app) releaseReviewVerb() *cobra.Command {
	var f releaseReviewFlags
	cmd := &cobra.Command{
		Use:   "review DIGEST --depot DIR [--report FILE] [--html FILE]",
		Short: "Release manager: rebuild a submitted package and see what changed",
		Long: `Rebuild a submitted package from the commit that it names, in your own repository,
and compare; and list what changed since the release in force: settings, modules,
commits, source by package, with what needs attention first.

--report writes the report that approve signs, --html the same as one page that
needs nothing else. The source and the tests are those of the commit: running its
tests (--tests ./...) runs the submitter's code on this machine, as you: without
your environment, and without a network where this machine has user namespaces,
but with your files. Use a throw-away machine.

What it is compared with becomes part of what you sign: the release can follow
no other than that one.

Exit code 3 when the rebuild is not the package.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.releaseReview(cmd.Context(), f, args[0]) },
	}
	f.flags(cmd, "depot", "trust", "source")
	flags := cmd.Flags()
	flags.StringVar(&f.against, "against", "", "compare with the package of this `DIGEST` in the depot, or none (default: the home's release in force)")
	flags.StringVar(&f.report, "report", "", "write the report to this `FILE`, for approve")
	flags.StringVar(&f.html, "html", "", "write the report as a page to this `FILE`")
	flags.StringVar(&f.compiler, "compiler", "", "the path of `ZIG`, where the package was built with zig and it is not in PATH")
	flags.StringVar(&f.cache, "cache", "", "go's build cache `DIR` for the rebuild; an empty one builds everything anew (default: yours)")
	flags.StringVar(&f.tests, "tests", "", "run the commit's tests of these packages, `PATTERN` such as ./...")
	flags.StringVar(&f.database, "database", "", "another vulnerability database, https:// or file:// `URL` (default: vuln.go.dev)")
	flags.BoolVar(&f.offline, "offline", false, "ask no vulnerability database")
	return cmd
}

func (a *app) releaseReview(ctx context.Context, f releaseReviewFlags, name string) error {
	digest, err := packageDigest(name)
	if err != nil {
		return err
	}
	trust, depot, err := f.open(ctx, a)
	if err != nil {
		return err
	}
	s, err := release.LoadSubmitted(ctx, depot, trust, digest)
	if err != nil {
		return err
	}
	in := release.Inspection{Repository: repository(f.source), Compiler: f.compiler, Cache: f.cache, Tests: f.tests, Database: f.database, Offline: f.offline, Now: a.now,
		Words: func(words string) {
			a.say("the build of this commit, or of its tests, failed. What follows is not in the report: it can quote your own files; hand it to nobody unread.\n%s", words)
		}}
	if in.Base, in.BaseName, err = a.releaseBase(ctx, f, depot, trust); err != nil {
		return err
	}
	a.say("rebuilding commit %s for %s; this takes a moment", s.Submission.Commit, s.Submission.Platform)
	r, err := release.Inspect(ctx, s, in)
	if err != nil {
		return err
	}
	data, err := r.Encode()
	if err != nil {
		return err
	}
	if f.report != "" {
		if err := writeNew(f.report, data, 0o644); err != nil {
			return err
		}
	}
	if f.html != "" {
		page, err := r.HTML()
		if err != nil {
			return err
		}
		if err := writeNew(f.html, page, 0o644); err != nil {
			return err
		}
	}
	if a.json {
		if _, err := a.out.Write(compactJSON(data)); err != nil {
			return unprinted(err)
		}
	} else if err := r.Text(a.out); err != nil {
		return unprinted(err)
	}
	if !r.Rebuild.Same() {
		return fail(exitRefused, "a package that cannot be rebuilt to the same content cannot be approved", "the rebuild of package %s: %s", digest, r.Rebuild.Verdict)
	}
	if f.report != "" {
		a.say("if you understand and agree with all of it: stakeseal release approve %s --depot %s --report %s --key YOUR_KEY_FILE", digest, shellWord(f.depot), shellWord(f.report))
	}
	return nil
}

// compactJSON is a report as one line.
func compactJSON(data []byte) []byte {
	var out bytes.Buffer
	if err := json.Compact(&out, data); err != nil {
		return data
	}
	out.WriteByte('\n')
	return out.Bytes()
}

// releaseBase is what a package is compared with.
func (a *app) releaseBase(ctx context.Context, f releaseReviewFlags, depot release.Depot, trust *certificate.Trust) (*release.Package, string, error) {
	switch f.against {
	case "none":
		return nil, "", nil
	case "":
		dir, err := a.homeDir()
		if err != nil {
			return nil, "", usage("--home names the one whose release is in force, --against a package in the depot, --against none compares with nothing", "it is not said what to compare with: %w", err)
		}
		target, err := a.releaseTarget(ctx, dir, trust)
		if err != nil {
			return nil, "", err
		}
		in, err := target.InForce(ctx, a.now())
		if errors.Is(err, release.ErrNoRelease) {
			a.say("note: no release is in force in %s: all of the package is new", dir)
			return nil, "", nil
		}
		if err == nil {
			return in.Package(), in.Release.Name, nil
		}
		// One that may run no more is what the next release follows all the same.
		pkg, e := target.Named(ctx)
		if e != nil || pkg.IsZero() || !release.Unfit(err) {
			return nil, "", fmt.Errorf("the release in force, to compare with: %w", err)
		}
		return a.unfitBase(ctx, depot, pkg, err)
	}
	digest, err := packageDigest(f.against)
	if err != nil {
		return nil, "", err
	}
	s, err := release.LoadSigned(ctx, depot, trust, digest)
	if err == nil {
		return s.Package(), s.Release.Name, nil
	}
	if !errors.Is(err, release.ErrRevoked) {
		return nil, "", fmt.Errorf("the release to compare with: %w", err)
	}
	return a.unfitBase(ctx, depot, digest, err)
}

// unfitBase compares with a package that may run no more: its digest says which
// one it is, and that is in the report and in what is signed.
func (a *app) unfitBase(ctx context.Context, depot release.Depot, pkg certificate.Hash, why error) (*release.Package, string, error) {
	base, err := release.Load(ctx, depot, pkg)
	if err != nil {
		return nil, "", fmt.Errorf("the release to compare with (%w): %w", why, err)
	}
	a.say("warning: the release to compare with may run no more: %v", why)
	return base, "(may run no more)", nil
}

func (a *app) releaseDecideVerb(verb string) *cobra.Command {
	var s steps
	var report, comment string
	short := "Release manager: sign that a package may be released"
	if verb == "reject" {
		short = "Release manager: sign that a package must not be released"
	}
	cmd := &cobra.Command{
		Use:   verb + " DIGEST --depot DIR --report FILE --key FILE",
		Short: short,
		Long: short + `.

You decide on the report that you read (release review --report). It is a
statement over the digests of the package, its program, its settings, its
submission and the report. One person decides once about a package.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.releaseDecide(cmd.Context(), s, args[0], report, comment, verb == "approve")
		},
	}
	s.flags(cmd, "depot", "trust", "key")
	cmd.Flags().StringVar(&report, "report", "", "the report `FILE` that you read")
	cmd.Flags().StringVar(&comment, "comment", "", "one line of ASCII `TEXT` for those who read it later")
	return cmd
}

func (a *app) releaseDecide(ctx context.Context, s steps, name, reportFile, comment string, approve bool) error {
	digest, err := packageDigest(name)
	if err != nil {
		return err
	}
	if reportFile == "" {
		return usage("stakeseal release review writes it with --report", "--report is missing")
	}
	report, err := readBounded(reportFile, 48<<20)
	if err != nil {
		return fmt.Errorf("couldn't read the report: %w", err)
	}
	r, err := release.ParseReport(report)
	if err != nil {
		return err
	}
	trust, depot, err := s.open(ctx, a)
	if err != nil {
		return err
	}
	submitted, err := release.LoadSubmitted(ctx, depot, trust, digest)
	if err != nil {
		return err
	}
	signer, err := openKey(s.key)
	if err != nil {
		return err
	}
	defer signer.Wipe()
	decision := "rejected"
	if approve {
		decision = "approved"
		for _, f := range r.Attention {
			a.say("%s: %s", f.Weight, f.Text)
		}
		if err := a.confirm(fmt.Sprintf("Approve package %s by %s?", digest, submitted.By.Name)); err != nil {
			return err
		}
	}
	if err := release.Decide(ctx, depot, trust, signer, submitted, report, approve, comment, a.now()); err != nil {
		return err
	}
	if a.json {
		return a.object(struct {
			Schema   string `json:"schema"`
			Package  string `json:"package_sha256"`
			Decision string `json:"decision"`
			Report   string `json:"report_sha256"`
		}{"stakeseal/release-review/v1", digest.String(), decision, release.Digest(report).String()})
	}
	a.say("%s; the report's sha256 is %s", decision, release.Digest(report))
	if approve {
		a.say("next: stakeseal release sign %s --depot %s --name NAME --key YOUR_KEY_FILE", digest, shellWord(s.depot))
	}
	return nil
}

func (a *app) releaseSignVerb() *cobra.Command {
	var s steps
	var name, from, until string
	cmd := &cobra.Command{
		Use:   "sign DIGEST --depot DIR --name NAME --key FILE",
		Short: "Release manager: sign an approved package as a release",
		Long: `Sign an approved package as a release: that its program with its settings may make
keys, from when to when. Where the trust file demands several release managers
(release_threshold), each runs this; the later ones see and sign what the first
signed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.releaseSign(cmd.Context(), s, args[0], name, from, until)
		},
	}
	s.flags(cmd, "depot", "trust", "key")
	cmd.Flags().StringVar(&name, "name", "", "the release's `NAME` in verdicts, such as v1-2-0")
	cmd.Flags().StringVar(&from, "from", "", "births are good from this `TIME` on, 2026-01-31T00:00:00Z (default: now)")
	cmd.Flags().StringVar(&until, "until", "", "and until this `TIME` (default: open)")
	return cmd
}

func (a *app) releaseSign(ctx context.Context, s steps, digestText, name, from, until string) error {
	digest, err := packageDigest(digestText)
	if err != nil {
		return err
	}
	terms := release.Terms{Name: name}
	for _, t := range []struct {
		flag, text string
		into       *time.Time
	}{{"--from", from, &terms.NotBefore}, {"--until", until, &terms.NotAfter}} {
		if t.text == "" {
			continue
		}
		if *t.into, err = flagTime(t.flag, t.text); err != nil {
			return err
		}
	}
	trust, depot, err := s.open(ctx, a)
	if err != nil {
		return err
	}
	r, err := release.LoadReviewed(ctx, depot, trust, digest)
	if err != nil {
		return err
	}
	signer, err := openKey(s.key)
	if err != nil {
		return err
	}
	defer signer.Wipe()
	first, found, err := release.SignedSoFar(ctx, depot, signer, r)
	if err != nil {
		return err
	}
	if !found && name == "" && !signedAlready(ctx, depot, signer, digest) {
		return usage("the first who signs names it, such as v1-2-0", "--name is missing")
	}
	if found {
		a.say("others have signed it as %q, for births %s, on %s", first.Name, validity(first.NotBefore, first.NotAfter), first.Time.Format(time.RFC3339))
		if err := a.confirm(fmt.Sprintf("Sign the same of package %s?", digest)); err != nil {
			return err
		}
	}
	if err := release.Sign(ctx, depot, signer, r, terms, a.now()); err != nil {
		return err
	}
	signed, err := release.LoadSigned(ctx, depot, trust, digest)
	if err != nil && !errors.Is(err, certificate.ErrTooFew) {
		return fmt.Errorf("signed, and the release does not verify: %w", err)
	}
	if err != nil {
		a.say("signed, and more signatures are needed: %v", err)
		if a.json {
			return a.object(struct {
				Schema   string `json:"schema"`
				Package  string `json:"package_sha256"`
				Complete bool   `json:"complete"`
			}{"stakeseal/release-signature/v1", digest.String(), false})
		}
		return nil
	}
	object, err := a.stamp(ctx, &s, trust, signed)
	if err != nil {
		return err
	}
	if a.json {
		return a.object(struct {
			Schema   string `json:"schema"`
			Package  string `json:"package_sha256"`
			Complete bool   `json:"complete"`
			Name     string `json:"name"`
			Entry    string `json:"trust_file_entry"`
			Object   string `json:"signed_object,omitempty"` // key of the package that AWS Signer signed
		}{"stakeseal/release-signature/v1", digest.String(), true, signed.Release.Name, string(certificate.FormatRelease(signed.Release)), object})
	}
	if _, err := a.out.Write(certificate.FormatRelease(signed.Release)); err != nil {
		return unprinted(err)
	}
	a.say("signed as %q; the lines above are its entry under releases: of a verifier's trust file", signed.Release.Name)
	a.say("next: stakeseal release deploy %s --depot %s", digest, shellWord(s.depot))
	return nil
}

// signedAlready reports whether a manager's own signature lies in the depot: the
// command again needs no name.
func signedAlready(ctx context.Context, depot release.Depot, signer certificate.Signer, digest certificate.Hash) bool {
	id, err := signer.KeyID()
	if err != nil {
		return false
	}
	_, err = depot.Reviews.Get(ctx, digest.String()+"/release-"+id+".json")
	return err == nil
}

// validity is from when to when births are good, as words.
func validity(from, until time.Time) string {
	if until.IsZero() {
		return "from " + from.Format(time.RFC3339) + ", with an open end"
	}
	return "from " + from.Format(time.RFC3339) + " to " + until.Format(time.RFC3339)
}

func (a *app) releaseRebuildVerb() *cobra.Command {
	var source, compiler, cache string
	cmd := &cobra.Command{
		Use:   "rebuild PACKAGE.zip --source DIR",
		Short: "Anybody: build a package again from its commit, and compare",
		Long: `Build a package again from the commit that it names, in your own clone, with its own
settings, and compare all bytes. The source says what the program does; this says
that the program is that source.

Exit code 0: the same; 3: not the same, or not to be built here.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := openPackage(args[0])
			if err != nil {
				return err
			}
			r, err := release.Compare(cmd.Context(), p, repository(source), compiler, cache)
			if err != nil {
				return fail(exitRefused, "see what is missing here", "package %s could not be rebuilt: %w", p.Digest, err)
			}
			return a.reportRebuild(p, r)
		},
	}
	cmd.Flags().StringVar(&source, "source", ".", "your own git `DIR` with stakeseal's source")
	cmd.Flags().StringVar(&compiler, "compiler", "", "the path of `ZIG`, where the package was built with zig and it is not in PATH")
	cmd.Flags().StringVar(&cache, "cache", "", "go's build cache `DIR`; an empty one builds everything anew (default: yours)")
	return cmd
}

func (a *app) reportRebuild(p *release.Package, r release.Rebuild) error {
	if a.json {
		if err := a.object(struct {
			Schema  string          `json:"schema"`
			Package string          `json:"package_sha256"`
			Commit  string          `json:"commit"`
			Rebuild release.Rebuild `json:"rebuild"`
		}{"stakeseal/rebuild/v1", p.Digest.String(), p.Provenance.Commit, r}); err != nil {
			return err
		}
	} else {
		t := newTable(a.out, "FILE", "PACKAGE", "REBUILT", "")
		for _, f := range r.Files {
			verdict := "equal"
			if !f.Equal {
				verdict = "DIFFERENT"
			}
			t.row(f.Name, f.Is.String()[:16], f.Built.String()[:16], verdict)
		}
		t.row("(the zip)", p.Digest.String()[:16], r.Package.String()[:16], r.Verdict)
		if err := t.flush(); err != nil {
			return err
		}
	}
	if !r.Same() {
		for what, other := range r.Machine {
			a.say("%s: %s", what, other)
		}
		return fail(exitRefused, "use the toolchain and compiler that provenance.json names; on the same ones this means that the package is not that source", "the rebuild is different: %s", r.Detail)
	}
	a.say("commit %s gives %s", p.Provenance.Commit, r.Detail)
	return nil
}

// releaseHome is the home's folder and its trust file, without its stores.
func (a *app) releaseHome() (string, *certificate.Trust, error) {
	dir, err := a.homeDir()
	if err != nil {
		return "", nil, err
	}
	trust, err := loadTrust(filepath.Join(dir, trustFile))
	return dir, trust, err
}

func joinNames(list []string) string { return orDash(strings.Join(list, ", ")) }
