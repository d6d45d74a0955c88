package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/beacon"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/record"
)

type verifyFlags struct {
	addresses        []string
	any              bool
	trust            string
	certificates     []string
	chain            chainFlags
	plan             string
	allowBLS         bool
	allowBad         bool
	allowUncertified bool
	allowNoQueue     bool
}

// chainFlags say which beacon nodes are asked.
type chainFlags struct {
	nodes   []string
	offline bool
	wait    time.Duration
}

func (f *chainFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&f.nodes, "beacon", nil, "ask the beacon node at `URL`; repeat for several, which must agree; @FILE reads them, one a line, so that a key in a URL is not seen among the arguments")
	flags.BoolVar(&f.offline, "offline", false, "ask no beacon node, not even those of home.yaml")
	flags.DurationVar(&f.wait, "beacon-timeout", beacon.DefaultTimeout, "give up on a beacon node after `TIME`, such as 30s")
}

func (a *app) depositVerifyVerb() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify FILE... --network NAME (--withdrawal-address ADDRESS | --trust FILE | --home DIR)",
		Short: "Judge deposit_data files of any tool before money is sent",
		Long: `Judge deposit_data files of any tool before money is sent: every signature and
root, the network, amounts, duplicates over all files, and above all who can
withdraw. The files of one sending are judged together.

What may be is said by you: --withdrawal-address, or a trust file with --trust,
or a home with --home. With --trust, --certificates compares every deposit with
its birth certificate (a certificate, a bundle, or a folder of them); a home
brings its own. Without any of these flags the home of --network is used, if
there is one. Nothing is ever taken from the files that are judged.

An address that the trust file leaves out is accepted for a pubkey whose own
certificate carries an approval of it by one of the trust file's approvers.

With --beacon the chain is asked as well, which shows a pubkey that somebody
else deposited to first. Several nodes must agree.

Exit codes: 0 good, 3 refused, 4 a beacon node couldn't be asked or they
disagree, 2 a file can't be read as deposit data.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.depositVerify(cmd.Context(), args, f) },
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.addresses, "withdrawal-address", nil, "an `[NAME=]ADDRESS` that the stake may be withdrawn to; with --trust or a home, one of theirs or its name")
	flags.BoolVar(&f.any, "any-withdrawal-address", false, "accept any withdrawal address: whoever made the file decides who gets the stake")
	flags.StringVar(&f.trust, "trust", "", "the trust `FILE` to judge by")
	flags.StringArrayVar(&f.certificates, "certificates", nil, "birth certificates to compare with, a `FILE` or folder")
	flags.StringVar(&f.plan, "plan", "", "the `AMOUNTS` wanted for each validator, in ETH: 32, or 1,31")
	flags.BoolVar(&f.allowBLS, "allow-bls-withdrawal", false, "accept 0x00 credentials: no address can be compared, and whoever holds the mnemonic can take the stake")
	flags.BoolVar(&f.allowBad, "allow-known-bad-address", false, "accept on mainnet an address that nobody is known to control: what is paid there may be lost")
	flags.BoolVar(&f.allowUncertified, "allow-uncertified", false, "accept pubkeys without a birth certificate: somebody else may hold their keys")
	flags.BoolVar(&f.allowNoQueue, "allow-no-queue", false, "accept beacon nodes that don't show the queue of pending deposits: a front-run that waits there is not seen")
	f.chain.add(cmd)
	return cmd
}

// yardstick is what files are judged by. None of it comes from the files.
type yardstick struct {
	network   eth.Network
	addresses map[string]eth.Address // nil: any
	approved  []eth.Address          // with --withdrawal-address: those beyond the trust file that it names
	trust     *certificate.Trust     // nil: only flags
	home      *home                  // nil: none
}

func (y *yardstick) close() {
	if y.home != nil {
		y.home.close()
	}
}

func (a *app) depositVerify(ctx context.Context, paths []string, f verifyFlags) error {
	if err := f.check(a); err != nil {
		return err
	}
	y, err := a.yardstick(ctx, f)
	if err != nil {
		return err
	}
	defer y.close()
	j := deposit.Judge{Network: y.network, Addresses: y.addresses, AnyAddress: f.any,
		AllowBLS: f.allowBLS, AllowBad: f.allowBad, AllowUncertified: f.allowUncertified,
		AllowNoQueue: f.allowNoQueue}
	if f.plan != "" {
		if j.Plan, err = planOf(y.network, f.plan); err != nil {
			return err
		}
	}
	entries, err := a.readDeposits(y.network, paths)
	if err != nil {
		return err
	}
	births, invalid, err := a.births(y, f.certificates)
	if err != nil {
		return err
	}
	j.Births = births
	if births != nil && len(f.addresses) > 0 {
		j.Births = narrowed{births, y.approved}
	}
	if chain, err := a.chain(y.network, y.home, f.chain); err != nil {
		return err
	} else if chain != nil {
		j.Chain = chain
	}
	v, err := j.Verdict(ctx, entries)
	if len(invalid) > 0 {
		v.Outcome, v.Findings = deposit.Refused, append(invalid, v.Findings...)
	}
	return a.reportVerdict(y, entries, v, err, len(paths) > 1)
}

func (f *verifyFlags) check(a *app) error {
	switch {
	case f.any && (len(f.addresses) > 0 || f.trust != "" || a.homeFlag != ""):
		return usage("leave one of them out", "--any-withdrawal-address excludes --withdrawal-address, --trust and --home, which name addresses")
	case f.trust != "" && a.homeFlag != "":
		return usage("a home is judged by its own trust.yaml", "--trust and --home exclude each other")
	case len(f.certificates) > 0 && f.trust == "" && (f.any || len(f.addresses) > 0) && a.homeFlag == "":
		return usage("name the trust file that says which keys may certify", "--certificates needs --trust")
	}
	return nil
}

// yardstick puts together what the flags name. A home is used if it is named,
// or if nothing else says who may withdraw; and then it is said.
func (a *app) yardstick(ctx context.Context, f verifyFlags) (*yardstick, error) {
	y := &yardstick{}
	switch {
	case f.trust != "":
		trust, err := loadTrust(f.trust)
		if err != nil {
			return nil, err
		}
		if a.networkFlag != "" && a.networkFlag != trust.Network.Name {
			return nil, usage("use the trust file of "+a.networkFlag, "--network is %q, and the trust file %s is for %q", a.networkFlag, f.trust, trust.Network.Name)
		}
		y.trust, y.network, y.addresses = trust, trust.Network, trust.Addresses
	case a.homeFlag != "" || !f.any && len(f.addresses) == 0:
		if err := a.haveHome(); err != nil {
			return nil, err
		}
		h, err := a.openHome(ctx)
		if err != nil {
			return nil, err
		}
		a.say("judging by that home's trust.yaml and birth certificates")
		y.home, y.trust, y.network, y.addresses = h, h.trust, h.trust.Network, h.trust.Addresses
	default:
		n, err := a.needNetwork()
		if err != nil {
			return nil, err
		}
		y.network = n
	}
	if len(f.addresses) == 0 {
		return y, nil
	}
	addresses, err := y.narrow(f.addresses, y.home != nil || len(f.certificates) > 0)
	if err != nil {
		y.close()
		return nil, err
	}
	y.addresses = addresses
	return y, nil
}

// haveHome says what to do where no home can be used, in the words of deposit
// verify: whoever judges another tool's file may not want a home at all.
func (a *app) haveHome() error {
	if a.homeFlag != "" {
		return nil
	}
	if a.networkFlag != "" {
		if _, err := a.needNetwork(); err != nil {
			return err
		}
	}
	dir, err := a.homeDir()
	if err == nil {
		_, err = os.Stat(filepath.Join(dir, config.GeneratorFile))
	}
	if err != nil {
		return usage("give --withdrawal-address 0x..., --trust FILE or --home DIR; --any-withdrawal-address compares with nothing",
			"nothing says who may withdraw the stake")
	}
	return nil
}

// narrow reads --withdrawal-address. Beside a trust file or a home it can
// only choose: among the addresses there, and among those that certificates
// show to be approved, if any are compared.
func (y *yardstick) narrow(texts []string, compared bool) (map[string]eth.Address, error) {
	out := map[string]eth.Address{}
	for i, text := range texts {
		if address, ok := y.addresses[text]; ok {
			out[text] = address
			continue
		}
		name, value, named := strings.Cut(text, "=")
		if !named {
			name, value = fmt.Sprintf("address %d", i+1), text
		}
		address, err := eth.ParseAddress(value)
		if err != nil {
			return nil, usage(addressHint(err), "--withdrawal-address: %w", err)
		}
		if _, twice := out[name]; twice {
			return nil, usage("", "--withdrawal-address: the name %q occurs twice", name)
		}
		if y.trust == nil || hasAddress(y.addresses, address) {
			out[name] = address
			continue
		}
		if len(y.trust.Approvers) == 0 || !compared {
			hint := "an address is added to the trust file by whoever keeps it"
			if len(y.trust.Approvers) > 0 {
				hint += "; one that was approved stands in the certificates: name them with --certificates"
			}
			return nil, usage(hint, "--withdrawal-address %v is not in the trust file", address)
		}
		y.approved = append(y.approved, address)
	}
	return out, nil
}

// planOf reads --plan, whose sum the judge holds against the credentials that
// it finds.
func planOf(n eth.Network, text string) (plan []eth.Gwei, err error) {
	for part := range strings.SplitSeq(text, ",") {
		amount, err := eth.ParseEther(strings.TrimSpace(part), n)
		if err != nil {
			return nil, usage("amounts in ETH, such as 32 or 1,31", "--plan: %w", err)
		}
		if amount < n.MinDeposit {
			return nil, usage("amounts in ETH, such as 32 or 1,31", "--plan: %q is less than the smallest deposit, %s", part, n.MinDeposit.Ether(n))
		}
		plan = append(plan, amount)
	}
	return plan, nil
}

// readDeposits reads all files; of those that are not in the form of deposit
// data it says all that is wrong.
func (a *app) readDeposits(n eth.Network, paths []string) ([]deposit.Entry, error) {
	var entries []deposit.Entry
	var faults []deposit.Finding
	for _, path := range paths {
		data, err := readBounded(path, deposit.MaxFileBytes)
		if err != nil {
			return nil, fmt.Errorf("couldn't read the deposits: %w", err)
		}
		read, err := deposit.ParseFile(path, data)
		var form *deposit.FormatError
		if errors.As(err, &form) {
			faults = append(faults, form.Findings...)
			continue
		}
		if err != nil {
			return nil, err
		}
		entries = append(entries, read...)
	}
	if len(faults) == 0 {
		return entries, nil
	}
	if a.json {
		if err := a.object(deposit.Verdict{Schema: deposit.Schema, Outcome: deposit.Refused, Network: n.Name,
			ForkVersion: n.GenesisForkVersion, Findings: faults}); err != nil {
			return nil, err
		}
	} else {
		a.sayFindings(faults, deposit.Note)
	}
	return nil, usage("a launchpad file is a JSON list of deposits; nothing of it was judged", "%w: %s", deposit.ErrFormat, printable(faults[0].Source))
}

// births is where certificates come from: files, the home's records, or both.
// A file whose certificates don't stand is a finding, which refuses whatever
// it is about: who named the file wanted it to speak for these deposits.
func (a *app) births(y *yardstick, paths []string) (deposit.Births, []deposit.Finding, error) {
	if len(paths) == 0 {
		if y.home != nil {
			return recorded{y.home}, nil, nil
		}
		if y.trust != nil {
			none := "no birth certificate is compared: --certificates names them"
			if len(y.trust.Approvers) > 0 {
				none += "; without them no approved address counts"
			}
			a.say("%s", none)
		}
		return nil, nil, nil
	}
	known := certified{}
	var invalid []deposit.Finding
	for _, path := range paths {
		err := known.read(path, y.trust)
		if code, hint := verdict(err); code == exitRefused {
			invalid = append(invalid, deposit.Finding{Code: deposit.CertificateInvalid, Severity: deposit.Refuse, Message: err.Error(), Hint: hint})
		} else if err != nil {
			return nil, nil, err
		}
	}
	a.say("%d birth certificates verified", len(known))
	if y.home != nil {
		return either{known, recorded{y.home}}, invalid, nil
	}
	return known, invalid, nil
}

// unsound gives the exit code of a record of our own that cannot be verified.
// A certificate in our store that cannot even be read, or a copy that the
// archive lost, is no bad input: somebody changed it.
func unsound(pubkey eth.Pubkey, err error) error {
	if errors.Is(err, certificate.ErrFormat) || errors.Is(err, record.ErrNotFound) {
		return fail(exitRefused, "do not deposit; compare with the bundles and another copy", "%v is not as it was made: %w", pubkey, err)
	}
	return err
}

// chain is nodes, as who judges deposits asks them.
func (a *app) chain(n eth.Network, h *home, f chainFlags) (deposit.Chain, error) {
	nodes, err := a.nodes(n, h, f)
	if nodes == nil {
		return nil, err // no Chain that holds a nil
	}
	return nodes, err
}

// nodes is the beacon nodes that flags or the home name; nil if there are
// none.
func (a *app) nodes(n eth.Network, h *home, f chainFlags) (*beacon.Chain, error) {
	urls, err := nodeURLs(f.nodes)
	if err != nil {
		return nil, err
	}
	switch {
	case f.offline && len(urls) > 0:
		return nil, usage("", "--offline and --beacon exclude each other")
	case f.wait <= 0:
		return nil, usage("for example 30s", "--beacon-timeout is %v", f.wait)
	case f.offline:
		return nil, nil
	case len(urls) == 0 && h != nil:
		urls = h.operator.Beacon
	}
	if len(urls) == 0 {
		return nil, nil
	}
	var nodes []*beacon.Node
	for _, url := range urls {
		node, err := beacon.NewNode(url, f.wait)
		if err != nil {
			return nil, fmt.Errorf("beacon node %d: %w", len(nodes)+1, err)
		}
		nodes = append(nodes, node)
	}
	return beacon.New(n, a.now, nodes...)
}

// nodeURLs replaces @FILE by the URLs in the file, one a line; lines that
// begin with # are left out. What a line holds is never repeated: it may be a
// key.
func nodeURLs(words []string) ([]string, error) {
	var urls []string
	for _, word := range words {
		name, isFile := strings.CutPrefix(word, "@")
		if !isFile {
			urls = append(urls, word)
			continue
		}
		data, err := readBounded(name, 64<<10)
		if err != nil {
			return nil, fmt.Errorf("couldn't read the beacon nodes' URLs: %w", err)
		}
		before := len(urls)
		for line := range strings.Lines(string(data)) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				urls = append(urls, line)
			}
		}
		if len(urls) == before {
			return nil, usage("one URL a line", "%s names no beacon node", printable(name))
		}
	}
	return urls, nil
}

// reportVerdict prints the verdict, and returns the error whose exit code
// says the same.
func (a *app) reportVerdict(y *yardstick, entries []deposit.Entry, v deposit.Verdict, judging error, several bool) error {
	if a.json {
		if err := a.object(v); err != nil {
			return err
		}
	} else {
		whole := judging == nil && !slices.ContainsFunc(v.Findings, func(f deposit.Finding) bool { return f.Severity == deposit.Refuse && f.Row == 0 })
		if err := a.verdictTable(y.network, entries, v, whole, several); err != nil {
			return err
		}
		a.sayFindings(v.Findings, deposit.Note)
	}
	switch {
	case v.Outcome == deposit.Refused:
		rows := len(refusedRows(v))
		hint := "send nothing of it: correct the cause or take the refused deposits out, and verify again"
		if y.home != nil && slices.ContainsFunc(v.Findings, func(f deposit.Finding) bool { return f.Code == deposit.Uncertified }) {
			hint += "\nanother tool's file? judge it without the home: --withdrawal-address 0x... --network " + y.network.Name
		}
		if judging != nil {
			return fail(exitRefused, hint, "REFUSED: %d of %d deposits on %s; and not everything could be checked: %w", rows, v.Entries, y.network.Name, judging)
		}
		if rows == 0 {
			return fail(exitRefused, hint, "REFUSED: the deposits on %s, by what concerns all of them", y.network.Name)
		}
		return fail(exitRefused, hint, "REFUSED: %d of %d deposits on %s", rows, v.Entries, y.network.Name)
	case errors.Is(judging, deposit.ErrQueue):
		return fail(exitRemote, "every node must have /eth/v1/beacon/states/{state}/pending_deposits: ask others, or leave out those that don't\n"+
			"--allow-no-queue judges without: a front-run that waits in the queue is then not seen", "NOT JUDGED, which is no pass: %w", judging)
	case judging != nil:
		return fmt.Errorf("NOT JUDGED, which is no pass: %w", judging)
	case !v.OK():
		return fail(exitInternal, "", "the verdict is %q", v.Outcome)
	}
	asked := "the chain was not asked"
	if v.AsOf != nil {
		asked = fmt.Sprintf("as of slot %d at %s", v.AsOf.Slot, strings.Join(v.AsOf.Nodes, ", "))
	}
	a.say("GOOD: %d deposits, %s in all, to %d validators on %s; %s", v.Entries, deposit.Coins(y.network, v.Total), v.Validators, y.network.Name, asked)
	return nil
}

// rowOf is where a finding stands.
type rowOf struct {
	source string
	row    int
}

func refusedRows(v deposit.Verdict) map[rowOf]bool {
	rows := map[rowOf]bool{}
	for _, f := range v.Findings {
		if f.Severity == deposit.Refuse && f.Row > 0 {
			rows[rowOf{f.Source, f.Row}] = true
		}
	}
	return rows
}

// verdictTable prints a row for each deposit. No row is "good" unless the
// judging was whole.
func (a *app) verdictTable(n eth.Network, entries []deposit.Entry, v deposit.Verdict, whole, several bool) error {
	codes := map[rowOf][]string{}
	warned := map[rowOf]bool{}
	for _, f := range v.Findings {
		at := rowOf{f.Source, f.Row}
		if code := string(f.Code); !slices.Contains(codes[at], code) {
			codes[at] = append(codes[at], code)
		}
		warned[at] = warned[at] || f.Severity == deposit.Warn
	}
	refused := refusedRows(v)
	head := []string{"ROW", "PUBKEY", "AMOUNT", "VERDICT", "FINDINGS"}
	if several {
		head = append([]string{"FILE"}, head...)
	}
	t := newTable(a.out, head...)
	for i := range entries {
		e := &entries[i]
		at := rowOf{e.Source, e.Row}
		verdict := "good"
		switch {
		case refused[at]:
			verdict = "REFUSED"
		case !whole:
			verdict = "unknown"
		case warned[at]:
			verdict = "look"
		}
		found := strings.Join(codes[at], ",")
		if found == "" {
			found = "-"
		}
		row := []string{fmt.Sprint(e.Row), short(e.Pubkey.String()), e.Amount.Ether(n), verdict, found}
		if several {
			row = append([]string{printable(e.Source)}, row...)
		}
		t.row(row...)
	}
	return t.flush()
}

// printable quotes a path that would do something to a terminal.
func printable(path string) string {
	for _, r := range path {
		if !strconv.IsPrint(r) {
			return strconv.Quote(path)
		}
	}
	return path
}

// isFolder reports whether path is one; what can't be looked at is none, and
// fails when it is read.
func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// under yields the regular .json files below a folder, sorted by name.
func under(dir string) (paths []string, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && strings.HasSuffix(path, ".json") {
			paths = append(paths, path)
		}
		return err
	})
	if err == nil && len(paths) == 0 {
		err = usage("give a certificate, a bundle, or a folder of .json files", "%s holds no .json file", dir)
	}
	return paths, err
}
