package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

func (a *app) depositVerb() *cobra.Command {
	cmd := &cobra.Command{Use: "deposit", Short: "Write, judge and follow deposits", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(a.depositExportVerb(), a.depositVerifyVerb(), a.depositStatusVerb())
	return cmd
}

type exportFlags struct {
	out          string
	maxPerFile   int
	target       string
	unexported   bool
	again        bool
	withoutDrill bool
	allowBad     bool
}

// mostPerFile keeps a file within what deposit verify reads; it is far beyond
// what a launchpad's page takes.
const mostPerFile = 40_000

func (a *app) depositExportVerb() *cobra.Command {
	var s selection
	var f exportFlags
	cmd := &cobra.Command{
		Use:   "export --out DIR (PUBKEY | @FILE | --order ID | --unexported)...",
		Short: "Write deposit_data files for the launchpad",
		Long: `Write deposit_data files for the selected validators into DIR, one for each stage
of their deposit plan. Every record is compared with its certificate and with
the archive, and the files are judged as deposit verify would, before anything
is written: an address that trust.yaml leaves out is good only for a pubkey
whose certificate carries an approval by one of trust.yaml's approvers.

A deposit that was sent twice pays the stake twice. Every deposit given out is
therefore noted before its file appears, and a second export exits 5 and says
when and by whom the first was made, unless --again is given. If the command
dies between the note and the file, the file is missing: --again writes it.
What another home exported is not known here, so that an order that came from a
bundle is treated as exported before.

On mainnet each order needs a recovery drill first.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			s.words = args
			if err := f.check(&s); err != nil {
				return err
			}
			h, err := a.openHome(cmd.Context())
			if err != nil {
				return err
			}
			defer h.close()
			return a.depositExport(cmd.Context(), h, &s, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.out, "out", "o", "", "the `DIR` to write to")
	flags.IntVar(&f.maxPerFile, "max-per-file", 0, "split files after `N` deposits")
	flags.StringVar(&f.target, "for", "launchpad", "who reads the files: `launchpad`")
	flags.BoolVar(&f.unexported, "unexported", false, "only validators of which no deposit was ever exported")
	flags.BoolVar(&f.again, "again", false, "also export what was exported before; the same deposit sent twice pays the stake twice")
	flags.BoolVar(&f.withoutDrill, "without-drill", false, "export on mainnet without a recovery drill: if no identity opens the mnemonics, lost signing keys are lost for good")
	flags.BoolVar(&f.allowBad, "allow-known-bad-address", false, "export on mainnet although nobody is known to control the withdrawal address: what is paid there may be lost")
	s.selectors(cmd)
	return cmd
}

func (f *exportFlags) check(s *selection) error {
	switch {
	case s.empty() && !f.unexported:
		return usage("for example --order ID, a PUBKEY, or --unexported for all that were never exported", "say which validators")
	case f.out == "":
		return usage("name a folder for the files: --out deposits", "--out is missing")
	case f.target != "launchpad":
		return usage("use --for launchpad, which batch tools read too", "--for is %q", f.target)
	case f.maxPerFile < 0 || f.maxPerFile > mostPerFile:
		return usage("", "--max-per-file is %d: use 1 to %d", f.maxPerFile, mostPerFile)
	case f.unexported && f.again:
		return usage("", "--unexported and --again exclude each other")
	}
	if f.maxPerFile == 0 {
		f.maxPerFile = mostPerFile
	}
	return nil
}

// export is what one run gives out.
type export struct {
	found  int // validators that the selectors name
	births []record.Birth
	known  []deposit.Known // what each one's certificate says, in the same order
	orders []string        // of the births, each once
	past   map[eth.Root]exported
	files  []exportFile

	// imported are those of the orders that came from a bundle, which says
	// nothing of the exports of the home that it is from.
	imported []string
}

func (a *app) depositExport(ctx context.Context, h *home, s *selection, f exportFlags) error {
	x, err := a.gather(ctx, h, s, f)
	if err != nil {
		return err
	}
	if len(x.births) == 0 {
		a.say("nothing to export: of %d validators every one was exported before", x.found)
		return a.reportExport(h, x, nil)
	}
	if err := a.finished(ctx, h, x.orders); err != nil {
		return err
	}
	if err := x.again(f.again); err != nil {
		return err
	}
	if err := a.drilled(ctx, h, x, f.withoutDrill); err != nil {
		return err
	}
	if x.files, err = plan(h.trust.Network, x.births, f.maxPerFile); err != nil {
		return err
	}
	if err := a.judgeOwn(ctx, h, x, f.allowBad); err != nil {
		return err
	}
	if n := x.repeated(); n > 0 {
		if err := a.confirm(fmt.Sprintf("Export %d deposits that were, or from the home of a bundle may have been, exported before? The same deposit sent twice pays the stake twice.", n)); err != nil {
			return err
		}
	}
	paths, err := a.giveOut(ctx, h, x, f.out)
	if err != nil {
		return err
	}
	return a.reportExport(h, x, paths)
}

// gather reads the selected validators. Each record is held against its
// certificate and against the archive's copy: a row that was put in another's
// place under the right certifying key differs from what the archive got
// first.
func (a *app) gather(ctx context.Context, h *home, s *selection, f exportFlags) (*export, error) {
	var list []chosen
	x := &export{past: map[eth.Root]exported{}}
	for c, err := range h.validators(ctx, s) {
		if err != nil {
			return nil, err
		}
		list = append(list, c)
		if !slices.Contains(x.orders, c.Order) {
			x.orders = append(x.orders, c.Order)
		}
	}
	if len(list) == 0 {
		return nil, usage("next: stakeseal generate --count 1", "this home has no validators yet")
	}
	for _, order := range x.orders {
		if err := h.exports(ctx, order, x.past); err != nil {
			return nil, err
		}
	}
	var err error
	if x.imported, err = h.imported(ctx, x.orders); err != nil {
		return nil, err
	}
	x.found = len(list)
	if f.unexported {
		list = x.never(a, list)
	}
	bar := a.progress(int64(len(list)), "verified")
	defer bar.done()
	x.births, x.known = make([]record.Birth, len(list)), make([]deposit.Known, len(list))
	err = inParallel(ctx, h.readers(1), numbered(list), func(ctx context.Context, c nth[chosen]) error {
		b, v, err := h.archived(ctx, c.of.Order, c.of.Index, c.of.Pubkey)
		if err != nil {
			return unsound(c.of.Pubkey, err)
		}
		x.births[c.at], x.known[c.at] = b, knownOf(v)
		bar.step()
		return nil
	})
	if err != nil {
		return nil, err
	}
	x.orders = nil
	for _, b := range x.births {
		if !slices.Contains(x.orders, b.Order) {
			x.orders = append(x.orders, b.Order)
		}
	}
	return x, nil
}

// never keeps the validators of which nothing was exported. One that was
// noted in part belongs to an export that was cut short; that is for a person
// to decide.
func (x *export) never(a *app, list []chosen) []chosen {
	var out []chosen
	partly, elsewhere := 0, 0
	for _, c := range list {
		n := 0
		for _, d := range c.Deposits {
			if _, ok := x.past[d.DataRoot]; ok {
				n++
			}
		}
		switch {
		case n == 0 && slices.Contains(x.imported, c.Order):
			elsewhere++
		case n == 0:
			out = append(out, c)
		case n < len(c.Deposits):
			partly++
		}
	}
	if partly > 0 {
		a.say("warning: %d validators were exported in part and are left out: stakeseal deposit status shows them", partly)
	}
	if elsewhere > 0 {
		a.say("warning: %d validators came from a bundle and are left out: whether they were exported elsewhere is not known here; --order ID --again exports them", elsewhere)
	}
	return out
}

// again refuses what was given out before, or may have been, unless it is
// meant.
func (x *export) again(meant bool) error {
	if meant {
		return nil
	}
	total, n := 0, 0
	var first exported
	var whose eth.Pubkey
	for _, b := range x.births {
		for _, d := range b.Deposits {
			total++
			e, ok := x.past[d.DataRoot]
			if !ok {
				continue
			}
			if n++; n == 1 {
				first, whose = e, b.Pubkey
			}
		}
	}
	if n == 0 {
		for _, b := range x.births {
			if slices.Contains(x.imported, b.Order) {
				return fail(exitConflict,
					"look there, and on the chain with stakeseal deposit status --beacon URL, whether they were sent\n--again exports them all the same",
					"order %s came from a bundle: its deposits may have been exported elsewhere, which is not known here", b.Order)
			}
		}
		return nil
	}
	which := fmt.Sprintf("all %d", total)
	if n < total {
		which = fmt.Sprintf("%d of the %d", n, total)
	}
	return fail(exitConflict,
		"if you still have that file, use it; if the command was interrupted then, the file may never have appeared: look for it first\n"+
			"--again exports them once more; --unexported selects only those that never were",
		"%s selected deposits were exported before: %s was %s", which, short(whose.String()), first)
}

// repeated counts the deposits that were given out before, or may have been
// elsewhere.
func (x *export) repeated() (n int) {
	for _, b := range x.births {
		for _, d := range b.Deposits {
			if _, ok := x.past[d.DataRoot]; ok || slices.Contains(x.imported, b.Order) {
				n++
			}
		}
	}
	return n
}

// drilled demands, where money is real, that each order of which something
// leaves for the first time was drilled: a mnemonic that nobody can open is
// found out before the stake depends on it.
func (a *app) drilled(ctx context.Context, h *home, x *export, without bool) error {
	if !h.trust.Network.Mainnet {
		return nil
	}
	var missing []string
	for _, order := range x.orders {
		fresh := slices.ContainsFunc(x.births, func(b record.Birth) bool {
			return b.Order == order && slices.ContainsFunc(b.Deposits, func(d record.Deposit) bool {
				_, ok := x.past[d.DataRoot]
				return !ok
			})
		})
		if !fresh {
			continue
		}
		ok, err := h.drilled(ctx, order)
		if err != nil {
			return err
		}
		if !ok {
			missing = append(missing, order)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if without {
		a.say("warning: without a recovery drill of %s: nobody has shown that the mnemonics can be opened", strings.Join(missing, ", "))
		return nil
	}
	var hint []string
	for _, order := range missing[:min(len(missing), 10)] {
		hint = append(hint, "stakeseal recovery drill"+a.homeWords(h)+" --order "+order+" --identity RECOVERY_IDENTITY_FILE")
	}
	return fail(exitDenied, strings.Join(hint, "\n"), "on %s an order's recovery is drilled before its first deposit, and %s was not", h.trust.Network.Name, strings.Join(missing, ", "))
}

// judgeOwn judges the files' very bytes, as somebody else would.
func (a *app) judgeOwn(ctx context.Context, h *home, x *export, allowBad bool) error {
	known := certified{}
	for i, b := range x.births {
		known[b.Pubkey] = x.known[i]
	}
	var entries []deposit.Entry
	for _, file := range x.files {
		read, err := deposit.ParseFile(file.name(a.now().Unix()), file.data)
		if err != nil {
			return fmt.Errorf("couldn't read back what would be exported: %w", err)
		}
		entries = append(entries, read...)
	}
	j := deposit.Judge{Network: h.trust.Network, Addresses: h.trust.Addresses, AllowBad: allowBad, Births: known}
	v, err := j.Verdict(ctx, entries)
	if err != nil {
		return err
	}
	// Whether the chain was asked is for deposit verify, at the time when the
	// deposits are sent.
	v.Findings = slices.DeleteFunc(v.Findings, func(f deposit.Finding) bool { return f.Code == deposit.ChainNotAsked })
	for _, f := range v.Findings {
		if f.Code == deposit.AddressApproved { // of the notes the one that says who gets the stake
			a.say("%s", f)
		}
	}
	a.sayFindings(v.Findings, deposit.Warn)
	if !v.OK() {
		return fail(exitRefused, "trust.yaml says what is allowed; nothing was written", "these deposits must not be sent: %d findings refuse them", v.Count(deposit.Refuse))
	}
	return nil
}

// reportExport says what was written.
func (a *app) reportExport(h *home, x *export, paths []string) error {
	n := h.trust.Network
	type fileJSON struct {
		File     string   `json:"file"`
		Stage    int      `json:"stage"`
		Stages   int      `json:"stages"`
		Deposits int      `json:"deposits"`
		Total    eth.Gwei `json:"total_gwei"`
		SHA256   string   `json:"sha256"`
	}
	out := struct {
		Schema     string     `json:"schema"`
		Network    string     `json:"network"`
		Validators int        `json:"validators"`
		Again      int        `json:"exported_before"`
		Files      []fileJSON `json:"files"`
	}{"stakeseal/deposit-export/v1", n.Name, len(x.births), x.repeated(), []fileJSON{}}
	staged := false
	for i, path := range paths {
		file := x.files[i]
		staged = staged || file.stages > 1
		out.Files = append(out.Files, fileJSON{path, file.stage, file.stages, len(file.entries), file.total(), file.digest().String()})
	}
	if a.json {
		return a.object(out)
	}
	if len(paths) == 0 {
		return nil
	}
	t := newTable(a.out, "FILE", "STAGE", "DEPOSITS", "TOTAL")
	for _, file := range out.Files {
		t.row(file.File, fmt.Sprintf("%d of %d", file.Stage, file.Stages), fmt.Sprint(file.Deposits), deposit.Coins(n, file.Total))
	}
	if err := t.flush(); err != nil {
		return err
	}
	a.say("%d validators, each record compared with its certificate and the archive", len(x.births))
	if staged {
		a.say("send stage 1 first; the next stage when stakeseal deposit status%s --beacon URL shows it on the chain as yours", a.homeWords(h))
	}
	var words []string
	for _, path := range paths {
		words = append(words, shellWord(path))
	}
	if len(words) > 6 {
		words = []string{"FILE..."}
	}
	a.say("before you send: stakeseal deposit verify%s --beacon URL %s", a.homeWords(h), strings.Join(words, " "))
	return nil
}

// shellWord quotes a path for copying into a shell where it needs it.
func shellWord(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+,:@%=") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// sayFindings prints the findings of at least a severity, the refusals first.
// A hint is printed once for all findings of its code.
func (a *app) sayFindings(list []deposit.Finding, least deposit.Severity) {
	const most = 50
	severities := []deposit.Severity{deposit.Refuse, deposit.Warn, deposit.Note}
	severities = severities[:slices.Index(severities, least)+1]
	said, left := 0, 0
	hinted := map[string]bool{}
	for _, severity := range severities {
		for _, f := range list {
			if f.Severity != severity {
				continue
			}
			if said == most {
				left++
				continue
			}
			said++
			a.say("%s", f)
			if f.Hint != "" && !hinted[f.Hint] {
				hinted[f.Hint] = true
				a.say("  %s", f.Hint)
			}
		}
	}
	if left > 0 {
		a.say("and %d more findings; deposit verify --json prints all", left)
	}
}
