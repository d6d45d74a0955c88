package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/internal/aws/ops"
	"github.com/stakeseal/stakeseal/internal/keyfile"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/release"
)

// releaseVerb is the way of code to the place where it makes keys.
func (a *app) releaseVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "release",
		Short: "Build, submit, review, sign and deploy the program that makes keys",
		Long: `The program that makes keys, with its settings, goes from hand to hand: a developer
builds and submits a package, a release manager (somebody else) rebuilds, reviews
and signs it, and it is deployed. Each step checks the signed files of those
before it, and needs the key file of the person whose step it is. The trust file
says whose key is whose: developers, release_managers, release_threshold.

  developer         release build, release submit
  release manager   release review, then approve or reject; release sign
  operator          release deploy, release rollback
  anybody           release verify, release rebuild`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.releaseKeyVerb(), a.releaseBuildVerb(), a.releaseSubmitVerb(), a.releaseReviewVerb(), a.releaseDecideVerb("approve"), a.releaseDecideVerb("reject"),
		a.releaseSignVerb(), a.releaseDeployVerb(), a.releaseRollbackVerb(), a.releaseRevokeVerb(), a.releaseVerifyVerb(), a.releaseRebuildVerb())
	for _, sub := range cmd.Commands() {
		run := sub.RunE
		sub.RunE = func(cmd *cobra.Command, args []string) error {
			return stepDenied(cmd.Name(), releaseError(run(cmd, args)))
		}
	}
	return cmd
}

// releaseError gives this room's errors their exit codes and hints.
func releaseError(err error) error {
	return explainedBy([]meant{
		{release.ErrRole, exitDenied, "each step needs the key of the person whose step it is; the trust file says whose key is whose"},
		{release.ErrNotReviewed, exitDenied, "a release manager reviews it first: stakeseal release review, then approve"},
		{release.ErrNotSigned, exitDenied, "as many release managers as the trust file demands sign it: stakeseal release sign"},
		{release.ErrRevoked, exitRefused, "stakeseal release rollback brings the one before back; or deploy another release"},
		{release.ErrOrder, exitRefused, "build it again on the release in force and have that reviewed; to go back there is stakeseal release rollback; what must be in force all the same: --out-of-order"},
		{release.ErrNotBefore, exitConflict, "a rollback goes to that one and no other; another release is deployed"},
		{release.ErrBusy, exitConflict, "run it again when the other has ended"},
		{ops.ErrElsewhere, exitRefused, "build it with this installation's settings: stakeseal release build --settings"},
		{ops.ErrMeanwhile, exitConflict, "see what is in force: stakeseal release verify"},
		{release.ErrMixed, exitRefused, "somebody changed it on the way, or it is another's: take it from its source again"},
		{release.ErrPlatform, exitUsage, "deploy the package that was built for this platform: stakeseal release build --arch"},
		{release.ErrPackage, exitRefused, "build it again with stakeseal release build; a package is never edited"},
		{ops.ErrSigning, exitRemote, "look at the job in AWS Signer's console, and run the command again"},
		{ops.ErrDeployed, exitRefused, "somebody changed the function beside the releases: stakeseal doctor says what, and deploy puts the release in force again"},
		{release.ErrNoRelease, exitUsage, "stakeseal release deploy puts one in force"},
		{release.ErrSource, exitUsage, "--source names a git repository that has the commit"},
		{release.ErrBuild, exitInternal, "see what go or the compiler says"},
		{record.ErrNotFound, exitUsage, "is the digest right, and the depot? it is what stakeseal release submit printed"},
	}, err)
}

// repository is the git repository that --source names.
func repository(dir string) release.Repository { return release.Repository{Dir: dir} }

// steps are the flags that the steps share.
type steps struct {
	depot, trust, key, source string
}

func (s *steps) flags(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		switch name {
		case "depot":
			cmd.Flags().StringVar(&s.depot, name, "", "the `DIR` where packages go from hand to hand, or s3: and a bucket's ARN")
		case "trust":
			cmd.Flags().StringVar(&s.trust, name, "", "the trust `FILE` that says whose key is whose (default: the home's)")
		case "key":
			cmd.Flags().StringVar(&s.key, name, "", "your own key `FILE`, as release key makes it")
		case "source":
			cmd.Flags().StringVar(&s.source, name, ".", "your own git `DIR` with stakeseal's source")
		}
	}
}

// openDepot opens the folder or bucket that --depot names.
func (s *steps) openDepot(ctx context.Context, a *app, trust *certificate.Trust, create bool) (release.Depot, error) {
	if s.depot == "" {
		return release.Depot{}, usage("the folder that developers and release managers share, or s3: and the bucket's ARN", "--depot is missing")
	}
	if strings.HasPrefix(s.depot, "s3:") {
		r, err := s.openCloud(ctx, a, trust)
		if err != nil {
			return release.Depot{}, err
		}
		return r.Depot(), nil
	}
	d := release.Depot{Submissions: release.Folder{Dir: filepath.Join(s.depot, "submitted")}, Reviews: release.Folder{Dir: filepath.Join(s.depot, "statements")}}
	for _, dir := range []string{"submitted", "statements"} {
		full := filepath.Join(s.depot, dir)
		if create {
			if err := os.MkdirAll(full, 0o777); err != nil {
				return d, fmt.Errorf("couldn't make the depot: %w", err)
			}
		}
		if info, err := os.Stat(full); err != nil || !info.IsDir() {
			return d, usage("stakeseal release submit makes it", "%s is no depot: it has no folder %s", s.depot, dir)
		}
	}
	return d, nil
}

// open reads by whose trust file a step is judged, and opens the depot that an
// earlier step filled.
func (s *steps) open(ctx context.Context, a *app) (*certificate.Trust, release.Depot, error) {
	trust, err := a.trustOrHome(s.trust)
	if err != nil {
		return nil, release.Depot{}, err
	}
	depot, err := s.openDepot(ctx, a, trust, false)
	return trust, depot, err
}

// openKey opens the key file that --key names.
func openKey(path string) (*keyfile.Signer, error) {
	if path == "" {
		return nil, usage("stakeseal release key --out FILE makes one", "--key is missing")
	}
	return keyfile.Open(path)
}

// flagTime reads the time that a flag gives.
func flagTime(flag, text string) (time.Time, error) {
	t, err := time.Parse("2006-01-02T15:04:05Z", text)
	if err != nil {
		return t, usage("write 2026-01-31T00:00:00Z", "%s is %q", flag, text)
	}
	return t, nil
}

// maxPackage bounds a package's file in bytes.
const maxPackage = 64 << 20

// openPackage reads a package's file.
func openPackage(path string) (*release.Package, error) {
	data, err := readBounded(path, maxPackage)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the package: %w", err)
	}
	return release.Open(data)
}

// packageDigest reads a package's name: its digest, or the file itself.
func packageDigest(text string) (certificate.Hash, error) {
	var digest certificate.Hash
	if digest.UnmarshalText([]byte(text)) == nil {
		return digest, nil
	}
	if data, err := readBounded(text, maxPackage); err == nil {
		return release.Digest(data), nil
	}
	return digest, usage("64 hex digits, as release build and release submit print them, or the package's file", "%q is no package digest", text)
}

func (a *app) releaseKeyVerb() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "key (--out FILE | FILE)",
		Short: "Make a person's key file, or print the public half of one",
		Long: `Make the key file of a developer or release manager, readable by its owner only,
or print the public half of one that exists, as the trust file takes it. Hand the
public half to whoever keeps the trust file over another channel; the file itself
never leaves its owner.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.releaseKey(out, args) },
	}
	cmd.Flags().StringVarP(&out, "out", "o", "", "the new `FILE`")
	return cmd
}

func (a *app) releaseKey(out string, args []string) error {
	if (out == "") == (len(args) == 0) {
		return usage("stakeseal release key --out FILE makes one, stakeseal release key FILE shows one", "name one file")
	}
	var public certificate.PublicKey
	if out != "" {
		var err error
		if public, err = keyfile.Create(out); err != nil {
			return err
		}
	} else {
		signer, err := keyfile.Open(args[0])
		if err != nil {
			return err
		}
		public = signer.Public()
		signer.Wipe()
	}
	if a.json {
		return a.object(struct {
			Schema string `json:"schema"`
			Key    string `json:"key"`
			ID     string `json:"key_id"`
		}{"stakeseal/release-key/v1", public.String(), public.ID()})
	}
	if _, err := fmt.Fprintf(a.out, "  - name: YOUR-NAME\n    # key id %s\n    key: %q\n", public.ID(), public); err != nil {
		return unprinted(err)
	}
	a.say("these lines go under developers:, release_managers: or approvers: of the trust file; compare the key id over another channel")
	return nil
}

func (a *app) releaseSubmitVerb() *cobra.Command {
	var s steps
	var description string
	cmd := &cobra.Command{
		Use:   "submit PACKAGE.zip --depot DIR --key FILE --description TEXT",
		Short: "Developer: sign a package and put it where release managers review it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.releaseSubmit(cmd.Context(), s, args[0], description)
		},
	}
	s.flags(cmd, "depot", "trust", "key")
	cmd.Flags().StringVar(&description, "description", "", "what changed and why, one line of ASCII `TEXT`")
	return cmd
}

func (a *app) releaseSubmit(ctx context.Context, s steps, path, description string) error {
	p, err := openPackage(path)
	if err != nil {
		return err
	}
	if err := certificate.CheckText("--description", description, 2000, false); err != nil {
		return usage("one line that says what changed and why", "%w", err)
	}
	trust, err := a.trustOrHome(s.trust)
	if err != nil {
		return err
	}
	signer, err := openKey(s.key)
	if err != nil {
		return err
	}
	defer signer.Wipe()
	depot, err := s.openDepot(ctx, a, trust, true)
	if err != nil {
		return err
	}
	if err := release.Submit(ctx, depot, trust, signer, p, description, a.now()); err != nil {
		return err
	}
	if a.json {
		return a.object(struct {
			Schema  string `json:"schema"`
			Package string `json:"package_sha256"`
			Commit  string `json:"commit"`
		}{"stakeseal/release-submission/v1", p.Digest.String(), p.Provenance.Commit})
	}
	if _, err := fmt.Fprintln(a.out, p.Digest); err != nil {
		return unprinted(err)
	}
	a.say("submitted; tell a release manager the digest: stakeseal release review %s --depot %s", p.Digest, shellWord(s.depot))
	return nil
}
