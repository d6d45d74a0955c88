package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/release"
)

func (a *app) certificateVerb() *cobra.Command {
	cmd := &cobra.Command{Use: "certificate", Short: "Verify and export birth certificates and receipts", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(a.certificateVerifyVerb(), a.certificateExportVerb())
	return cmd
}

func (a *app) certificateVerifyVerb() *cobra.Command {
	var trust, pubkey string
	cmd := &cobra.Command{
		Use:   "verify FILE...",
		Short: "Verify birth certificates and receipts against a trust file, offline",
		Long: `Verify birth certificates and receipts against a trust file, offline, and print
what they say. FILE holds a certificate (a DSSE envelope), several after each
other, or birth records as the archive keeps them; stakeseal bundle verify
judges a bundle.

No home is needed: --trust names the trust file, and its keys decide. A
certificate is its signer's claim; that it is true rests on who could use that
key, which the trust file's releases speak about. The deposits' own signatures
are judged by stakeseal deposit verify.

Exit codes: 0 all verified, 3 one is refused, 2 a file can't be read as a
certificate.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.certificateVerify(args, trust, pubkey) },
	}
	cmd.Flags().StringVar(&trust, "trust", "", "the trust `FILE` to judge by (default: the home's)")
	cmd.Flags().StringVar(&pubkey, "pubkey", "", "demand the certificate of `PUBKEY`, and print only it")
	return cmd
}

func (a *app) certificateVerify(paths []string, trustPath, only string) error {
	var wanted eth.Pubkey
	if only != "" {
		var err error
		if wanted, err = eth.ParsePubkey(only); err != nil {
			return usage("a whole pubkey: 96 hex digits, with or without 0x", "--pubkey: %w", err)
		}
	}
	trust, err := a.trustOrHome(trustPath)
	if err != nil {
		return err
	}
	if a.networkFlag != "" && a.networkFlag != trust.Network.Name {
		return usage("use the trust file of "+a.networkFlag, "--network is %q, and the trust file is for %q", a.networkFlag, trust.Network.Name)
	}
	c := court{app: a, trust: trust, only: only != "", wanted: wanted}
	for _, path := range paths {
		for s, err := range statements(path) {
			if err := c.judge(s, err); err != nil {
				return err
			}
		}
	}
	return c.verdict()
}

// court judges statements one after the other. Each is judged, also after one
// was refused; the exit code is of the worst.
type court struct {
	*app
	trust  *certificate.Trust
	only   bool
	wanted eth.Pubkey

	seen, good, printed int
	refused             []error
	malformed           []error
}

func (c *court) judge(s statement, reading error) error {
	var f *failure
	if reading != nil && !errors.Is(reading, certificate.ErrFormat) || errors.As(reading, &f) {
		return reading // no statement at all: a missing file, a bundle
	}
	c.seen++
	if reading == nil && s.receipt {
		v, err := c.trust.VerifyReceipt(s.envelope)
		if err == nil {
			c.good++
			return c.printReceipt(s.place, v)
		}
		reading = fmt.Errorf("%s: %w", s.place, err)
	} else if reading == nil {
		v, err := s.verify(c.trust)
		if err == nil {
			c.good++
			return c.printBirth(s.place, v)
		}
		reading = err
	}
	if errors.Is(reading, certificate.ErrFormat) {
		c.malformed = append(c.malformed, reading)
	} else {
		c.refused = append(c.refused, reading)
	}
	if c.json {
		return c.object(struct {
			Schema  string `json:"schema"`
			Place   string `json:"place"`
			Verdict string `json:"verdict"`
			Error   string `json:"error"`
		}{"stakeseal/certificate-verdict/v1", s.place, "refused", reading.Error()})
	}
	return nil
}

// verdict is the end: nil only if all verified and the wanted one was among
// them.
func (c *court) verdict() error {
	bad := append(c.refused, c.malformed...)
	switch {
	case len(bad) == 0 && c.only && c.printed == 0:
		return fail(exitRefused, "", "none of the %d certificates is of %v", c.seen, c.wanted)
	case len(bad) == 0:
		c.say("%d of %d verified against the trust file for %s", c.good, c.seen, c.trust.Network.Name)
		return nil
	case c.seen == 1:
		return fmt.Errorf("REFUSED: %w", bad[0])
	}
	const most = 20
	for i, err := range bad {
		if i == most {
			c.say("and %d more", len(bad)-most)
			break
		}
		c.say("refused: %v", err)
	}
	return fmt.Errorf("REFUSED: %d of %d; the first: %w", len(bad), c.seen, bad[0])
}

const notJudged = "not judged: the trust file names no release"

func (c *court) printBirth(place string, v *certificate.Verified) error {
	if c.only && v.Pubkey != c.wanted {
		return nil
	}
	c.printed++
	signedBy, reviews := c.people(v)
	if c.json {
		return c.object(struct {
			Schema        string             `json:"schema"`
			Place         string             `json:"place"`
			Verdict       string             `json:"verdict"`
			Key           string             `json:"certifying_key"`
			ReleaseJudged bool               `json:"release_judged"`
			Release       string             `json:"release,omitempty"`
			Review        certificate.Hash   `json:"release_review,omitzero"`
			Commit        string             `json:"release_commit,omitempty"`
			SignedBy      []string           `json:"release_signed_by,omitempty"`
			Reviews       []release.Reviewer `json:"release_reviews,omitempty"`
			Address       eth.Address        `json:"withdrawal_address"`
			AddressName   string             `json:"withdrawal_address_name"`
			Approver      string             `json:"withdrawal_address_approver,omitempty"`
			Birth         certificate.Birth  `json:"birth"`
		}{"stakeseal/certificate-verdict/v1", place, "verified", v.Key, v.Release != "", v.Release, v.Review, v.Commit, signedBy, reviews, addressOf(v.Credentials), v.AddressName, v.Approver, v.Birth})
	}
	if c.printed > 1 {
		fmt.Fprintln(c.out)
	}
	made := v.Release
	if made == "" {
		made = notJudged
	}
	var to []string
	for _, r := range v.Sealing.Recipients {
		to = append(to, r.Name+" "+keyText(r.Key))
	}
	var amounts []eth.Gwei
	for _, d := range v.Deposits {
		amounts = append(amounts, d.Amount)
	}
	t := newTable(c.out)
	t.row("pubkey", v.Pubkey.String())
	t.row("certificate", "verified")
	t.row("  signed by", v.Key)
	t.row("  release", made)
	if v.Commit != "" {
		t.row("  source", "commit "+v.Commit)
	}
	if signedBy != nil {
		t.row("  signed by", joinNames(signedBy))
	}
	for _, r := range reviews {
		t.row("  reviewed by", reviewerWords(r))
	}
	if reviews == nil && !v.Review.IsZero() {
		t.row("  review", v.Review.String()+", by whom the trust file does not say")
	}
	if v.Release != "" && signedBy == nil {
		t.row("  signed by", "nobody: the trust file says what this release is, without a statement of release managers")
	}
	t.row("network", v.Network)
	t.row("order, index", fmt.Sprintf("%s, %d (%s)", v.Order, v.Index, v.Path))
	t.row("withdrawals to", fmt.Sprintf("%v (%s)", addressOf(v.Credentials), addressWords(v.AddressName, v.Approver)))
	if v.Approver != "" {
		t.row("  approved by", v.Approver)
	}
	t.row("credentials", v.Credentials.String())
	t.row("deposits of", planText(c.trust.Network, amounts))
	t.row("sealed to", strings.Join(to, ", "))
	t.row("  digest", v.Sealing.Digest.String())
	t.row("mnemonic", v.Mnemonic.ID)
	t.row("  digest", v.Mnemonic.Digest.String())
	t.row("  recipients", v.Mnemonic.Recipients.String())
	t.row("maker", makerText(v.Maker))
	t.row("  binary", v.Maker.BinaryDigest.String())
	t.row("  settings", v.Maker.SettingsDigest.String())
	t.row("time", v.Time.Format(time.RFC3339))
	return t.flush()
}

// people are who signed and reviewed the release that a certificate rests on.
// The trust file's entry holds the signatures; it names the reviews by digest,
// and whose they are the home's statements say, where they lie there.
func (c *court) people(v *certificate.Verified) (signedBy []string, reviews []release.Reviewer) {
	for _, r := range c.trust.Releases {
		st, known := c.trust.StatementOf(r)
		if r.Name != v.Release || r.Package != v.Package || !known {
			continue
		}
		var at release.Store = release.Folder{} // nowhere: names nobody
		if dir, err := c.homeDir(); err == nil {
			at = release.Home{Dir: dir, Trust: c.trust}.Statements()
		}
		return c.trust.SignedBy(r), release.Reviewers(context.Background(), at, c.trust, r.Package, st.Reviews)
	}
	return nil, nil
}

// reviewerWords name a review and its signer, or say that he is not known.
func reviewerWords(r release.Reviewer) string {
	if r.By == "" {
		return "not known here (the review is in the depot): " + r.Digest.String()
	}
	return r.By + ": " + r.Digest.String()
}

func addressOf(c eth.Credentials) eth.Address {
	address, _ := c.Address() // a verified certificate names one
	return address
}

func makerText(m certificate.Maker) string {
	text := m.Version
	if m.Commit != "" {
		text += ", commit " + m.Commit
	}
	if m.Function != "" {
		text += ", " + m.Function
	}
	return text
}

func (c *court) printReceipt(place string, v *certificate.VerifiedReceipt) error {
	if c.only {
		return nil
	}
	c.printed++
	if c.json {
		return c.object(struct {
			Schema  string              `json:"schema"`
			Place   string              `json:"place"`
			Verdict string              `json:"verdict"`
			Key     string              `json:"certifying_key"`
			Receipt certificate.Receipt `json:"receipt"`
		}{"stakeseal/certificate-verdict/v1", place, "verified", v.Key, v.Receipt})
	}
	if c.printed > 1 {
		fmt.Fprintln(c.out)
	}
	t := newTable(c.out)
	t.row("receipt of order", v.Order)
	t.row("receipt", "verified")
	t.row("  signed by", v.Key)
	t.row("network", v.Network)
	t.row("validators", fmt.Sprintf("%d: indexes %d to %d of %d", len(v.Validators), v.From, v.To-1, v.Count))
	t.row("mnemonics", fmt.Sprint(len(v.Mnemonics)))
	t.row("settings", v.SettingsDigest.String())
	t.row("time", v.Time.Format(time.RFC3339))
	return t.flush()
}

func (a *app) certificateExportVerb() *cobra.Command {
	var s selection
	var out string
	var receipt bool
	cmd := &cobra.Command{
		Use:   "export (PUBKEY | @FILE | --order ID)... [--out DIR]",
		Short: "Write certificates, or an order's receipt, for somebody else to verify",
		Long: `Write the birth certificates of the selected validators into DIR, one file each,
or a single one on stdout. With --receipt, write the receipt of --order: the
signed list of the order's validators and mnemonics.

They are public. What is written was verified against the home's trust file; the
reader needs a trust file of their own: stakeseal certificate verify --trust.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			s.words = args
			switch {
			case s.empty():
				return usage("for example a PUBKEY, or --order ID --out DIR", "say which validators")
			case receipt && (s.order == "" || len(s.words)+len(s.labels) > 0 || s.signer != "" || s.unassigned):
				return usage("stakeseal certificate export --receipt --order ID", "--receipt goes with --order and no other selector")
			}
			h, err := a.openHome(cmd.Context())
			if err != nil {
				return err
			}
			defer h.close()
			if receipt {
				return a.exportReceipt(cmd.Context(), h, s.order, out)
			}
			return a.exportCertificates(cmd.Context(), h, &s, out)
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", "", "the `DIR` to write to (default: stdout, for a single one)")
	cmd.Flags().BoolVar(&receipt, "receipt", false, "the order's receipt instead of its certificates")
	s.selectors(cmd)
	return cmd
}

// exportReceipt writes an order's receipt. Its validators are read back and
// verified first: a receipt that the records do not bear out is not handed
// on.
func (a *app) exportReceipt(ctx context.Context, h *home, order, out string) error {
	_, v, envelope, err := h.receipt(ctx, order)
	if err != nil {
		return err
	}
	bar := a.progress(int64(len(v.Validators)), "verified")
	defer bar.done()
	for _, listed := range v.Validators {
		b, _, err := h.archived(ctx, order, listed.Index, listed.Pubkey)
		if err != nil {
			return unsound(listed.Pubkey, err)
		}
		if got, err := birth.Listed(b); err != nil || got != listed {
			return fail(exitRefused, "compare with the bundles and another copy", "index %d is not the validator that the receipt lists", listed.Index)
		}
		bar.step()
	}
	return a.writePapers(out, []paper{{"receipt-" + order + ".json", envelope}})
}

func (a *app) exportCertificates(ctx context.Context, h *home, s *selection, out string) error {
	var papers []paper
	for c, err := range h.validators(ctx, s) {
		if err != nil {
			return err
		}
		if len(papers) == 1 && out == "" {
			return usage("add --out DIR", "several certificates are selected, and stdout takes one")
		}
		b, _, err := h.born(ctx, c.Pubkey)
		if err != nil {
			return unsound(c.Pubkey, err)
		}
		papers = append(papers, paper{"certificate-" + c.Pubkey.Hex() + ".json", b.Certificate})
	}
	if len(papers) == 0 {
		return usage("stakeseal list shows all", "no validator is selected")
	}
	return a.writePapers(out, papers)
}

// paper is a public document under its file name.
type paper struct {
	name string
	data []byte
}

// writePapers writes all files or none, or the only one to stdout.
func (a *app) writePapers(dir string, papers []paper) (err error) {
	if dir == "" {
		_, err := fmt.Fprintf(a.out, "%s\n", papers[0].data)
		return err
	}
	if err := makeFolder(dir); err != nil {
		return err
	}
	var written []string
	defer func() {
		if err != nil {
			for _, path := range written {
				err = errors.Join(err, os.Remove(path))
			}
		}
	}()
	for _, p := range papers {
		path := filepath.Join(dir, p.name)
		if err := writeNew(path, append(p.data[:len(p.data):len(p.data)], '\n'), 0o644); err != nil {
			return err
		}
		written = append(written, path)
	}
	if a.json {
		return a.object(struct {
			Schema string   `json:"schema"`
			Files  []string `json:"files"`
		}{"stakeseal/certificate-export/v1", written})
	}
	for _, path := range written {
		fmt.Fprintln(a.out, path)
	}
	return nil
}

// makeFolder makes the folder that files go to, if it is not there.
func makeFolder(dir string) error {
	err := os.MkdirAll(dir, 0o700)
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		return usage("--out is a folder", "couldn't make the folder for the files: %w", err)
	case err != nil:
		return fmt.Errorf("couldn't make the folder for the files: %w", err)
	}
	return nil
}
