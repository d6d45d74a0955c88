package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/check"
	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/ops"
	"github.com/stakeseal/stakeseal/internal/aws/sample"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/internal/build"
	"github.com/stakeseal/stakeseal/keygen/mnemonic"
	"github.com/stakeseal/stakeseal/record"
)

// sampleKind is the kind of source of what comes from the AWS sample.
const sampleKind = "aws-sample"

type sampleFlags struct {
	table           string
	file            string
	key             string
	profile         string
	dry             bool
	withoutDeposits bool
	workers         int
}

func (a *app) importSampleVerb() *cobra.Command {
	var f sampleFlags
	cmd := &cobra.Command{
		Use:   "aws-sample (--table ARN | --from-file FILE) --kms-key ARN [--dry-run]",
		Short: "Take in the validators that the AWS sample (eth-keygen-lambda-sam) made",
		Long: `Read the table of the AWS sample aws-samples/eth-keygen-lambda-sam, open each row
with its KMS key, and check it: the keystore opens with its password, its key
gives the row's pubkey, the mnemonic gives the key, and the deposit data belongs
to the key (roots, signature, network, credentials). Every row that is not what
it says is reported and left out. The others are sealed anew: each key to the
signing recipients, each mnemonic, once and apart, to the recovery recipients.

Imported validators are marked as such everywhere: they have no birth certificate,
and nobody can say who saw their keys before. Their deposits are not exported.

Running it again finds what is there. Rows of other networks are left out. It
exits 3 when a row was refused, 5 when one contradicts another or a record.

You need dynamodb:Scan on the table and kms:Decrypt on the key; the sample grants
the latter to nobody, so the key's owner adds you to its policy for this. With
--from-file the table comes as a file: aws dynamodb scan --output json.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.importSample(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.table, "table", "", "the `ARN` of the sample's table (its stack's output ValidatorKeysTable)")
	flags.StringVar(&f.file, "from-file", "", "the table as a `FILE`, as aws dynamodb scan --output json prints it")
	flags.StringVar(&f.key, "kms-key", "", "the `ARN` of the sample's KMS key (its stack's output Key)")
	flags.StringVar(&f.profile, "sample-profile", "", "the AWS profile `NAME` to read the sample with, if its account is another than the home's")
	flags.BoolVar(&f.dry, "dry-run", false, "check and report, and write nothing")
	flags.BoolVar(&f.withoutDeposits, "without-deposit-data", false, "also take rows whose deposit data is not their key's, without it: where their deposits pay to is then not known here")
	flags.IntVar(&f.workers, "workers", defaultWorkers, "check `N` rows at once; each takes 256 MiB, as the sample's keystores are scrypt")
	return cmd
}

func (f sampleFlags) check() error {
	switch {
	case f.table == "" && f.file == "":
		return usage("the stack's output ValidatorKeysTable: --table ARN; or an export of it: --from-file FILE", "--table is missing")
	case f.table != "" && f.file != "":
		return usage("", "--table and --from-file exclude each other")
	case f.key == "":
		return usage("the stack's output Key: --kms-key ARN", "--kms-key is missing")
	}
	if f.table != "" {
		if _, err := arn.Table(f.table); err != nil {
			return usage("the ARN of the table, such as arn:aws:dynamodb:REGION:ACCOUNT:table/NAME", "--table: %w", err)
		}
	}
	if _, err := arn.Key(f.key); err != nil {
		return usage("the ARN of the key, such as arn:aws:kms:REGION:ACCOUNT:key/ID", "--kms-key: %w", err)
	}
	return checkWorkers(f.workers)
}

func (a *app) importSample(ctx context.Context, f sampleFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	if !f.dry {
		if err := a.canConfirm(); err != nil {
			return err
		}
	}
	if err := build.CheckClock(a.now()); err != nil {
		return err
	}
	if err := check.KnownAnswers(); err != nil {
		return err
	}
	h, err := a.openHome(ctx)
	if err != nil {
		return err
	}
	defer h.close()
	rows, place, err := a.sampleRows(ctx, h, f)
	if err != nil {
		return err
	}
	key, _ := arn.Key(f.key)
	account, err := a.sampleAccount(ctx, h, f, key)
	if err != nil {
		return err
	}
	opener, err := sample.NewOpener(kms.NewFromConfig(account.Config(key.Region)), f.key)
	if err != nil {
		return err
	}
	return a.takeSample(ctx, h, f, rows, place, opener)
}

// sampleRows reads the table, or its export.
func (a *app) sampleRows(ctx context.Context, h *home, f sampleFlags) (rows []sample.Read, place string, err error) {
	if f.file != "" {
		data, err := readBounded(f.file, sample.MaxExport)
		if err != nil {
			return nil, "", fmt.Errorf("couldn't read the export: %w", err)
		}
		rows, err := sample.ParseExport(data)
		if err != nil {
			return nil, "", usage("aws dynamodb scan --table-name NAME --consistent-read --output json > FILE", "%s: %w", f.file, err)
		}
		return rows, short256(filepath.Base(f.file)), nil
	}
	table, err := arn.Table(f.table)
	if err != nil {
		return nil, "", err
	}
	account, err := a.sampleAccount(ctx, h, f, table)
	if err != nil {
		return nil, "", err
	}
	rows, err = sample.Scan(ctx, dynamodb.NewFromConfig(account.Config(table.Region)), f.table)
	return rows, f.table, err
}

// sampleAccount is who asks for the sample's table and key: the profile that
// is named, else in a home on AWS the home's own caller.
func (a *app) sampleAccount(ctx context.Context, h *home, f sampleFlags, of arn.ARN) (*ops.Account, error) {
	switch {
	case f.profile != "":
		return ops.Open(ctx, ops.PlaceOf(of), a.sessionOptions(f.profile))
	case h.cloud != nil:
		return h.cloud, nil
	}
	return a.account(ctx, ops.PlaceOf(of))
}

// takeSample judges the rows and takes those in that pass.
func (a *app) takeSample(ctx context.Context, h *home, f sampleFlags, reads []sample.Read, place string, opener *sample.Opener) error {
	take := &sampleImport{app: a, home: h, flags: f,
		judge: rowJudge{network: h.generator.Network, addresses: h.trust.Addresses, opener: opener, place: place, key: f.key}}
	var err error
	if take.into, err = a.newImporter(ctx, h); err != nil {
		return err
	}
	for _, r := range reads {
		take.rows = append(take.rows, &sampleRow{Read: r})
	}
	if err := take.survey(ctx); err != nil {
		return sampleDenied(err, f)
	}
	if ready := take.ready(); len(ready) > 0 {
		if err := take.confirm(len(ready)); err != nil {
			return err
		}
		bar := a.progress(int64(len(take.rows)), "checked")
		err := inParallel(ctx, f.workers, each(take.groups()), func(ctx context.Context, group []*sampleRow) error {
			err := take.group(ctx, group)
			for range group {
				bar.step()
			}
			return err
		})
		bar.done()
		if err != nil {
			return sampleDenied(err, f)
		}
	}
	return take.report()
}

// sampleDenied says how the sample's owner lets somebody in.
func sampleDenied(err error, f sampleFlags) error {
	var fault *session.Fault
	if !errors.Is(err, session.ErrDenied) || !errors.As(err, &fault) || fault.Operation != "kms:Decrypt" {
		return err
	}
	return fail(exitDenied, "the sample grants kms:Decrypt to nobody: its owner adds a statement for you to the policy of "+f.key+", and takes it away afterwards", "%w", err)
}

// sampleImport is one run over the rows of a table.
type sampleImport struct {
	*app
	home  *home
	flags sampleFlags
	judge rowJudge
	into  *importer
	rows  []*sampleRow

	highest map[string]uint32 // index, by mnemonic
}

// survey looks at every row before anything is written: what stands in the
// clear, and which mnemonics there are.
func (t *sampleImport) survey(ctx context.Context) error {
	bar := t.progress(int64(len(t.rows)), "opened")
	defer bar.done()
	err := inParallel(ctx, max(t.flags.workers, 8), each(t.rows), func(ctx context.Context, r *sampleRow) error {
		defer bar.step()
		if err := t.judge.public(ctx, r); err != nil {
			return err
		}
		if r.bad || r.state != "" {
			return nil
		}
		return t.judge.look(ctx, r)
	})
	if err != nil {
		return err
	}
	t.highest = map[string]uint32{}
	sharing := map[string]int{}
	for _, r := range t.rows {
		if r.opened {
			sharing[r.words]++
			t.highest[r.words] = max(t.highest[r.words], r.index)
		}
	}
	twins := map[eth.Pubkey][]*sampleRow{}
	for _, r := range t.rows {
		if r.opened && sharing[r.words] > 1 {
			r.add("mnemonic-shared", deposit.Note, "%d rows hold its mnemonic %s: whoever opened one of them has the keys of all", sharing[r.words], r.words)
		}
		if r.Err == nil && r.state == "" {
			twins[r.Pubkey] = append(twins[r.Pubkey], r)
		}
	}
	for _, same := range twins {
		for i, r := range same {
			for k, other := range same {
				if i != k {
					r.add("pubkey-twice", deposit.Warn, "its pubkey also stands for Web3Signer %.120q: two that sign with one key are slashed", other.Signer)
				}
			}
		}
	}
	return nil
}

// ready are the rows that nothing speaks against yet.
func (t *sampleImport) ready() []*sampleRow {
	return slices.DeleteFunc(slices.Clone(t.rows), func(r *sampleRow) bool { return !t.taken(r) })
}

func (t *sampleImport) taken(r *sampleRow) bool {
	return !r.bad && r.opened && (!r.badDeposits || t.flags.withoutDeposits)
}

// groups are the rows that were opened, those of one pubkey together. One
// whose deposit data is refused is still checked, for all to be said at once.
func (t *sampleImport) groups() (groups [][]*sampleRow) {
	place := map[eth.Pubkey]int{}
	for _, r := range t.rows {
		if !r.opened {
			continue
		}
		n, there := place[r.Pubkey]
		if !there {
			n = len(groups)
			place[r.Pubkey], groups = n, append(groups, nil)
		}
		groups[n] = append(groups[n], r)
	}
	return groups
}

func (t *sampleImport) confirm(rows int) error {
	words := map[string]bool{}
	for _, r := range t.ready() {
		words[r.words] = true
	}
	if t.flags.dry {
		t.say("%d rows of %d opened; checking them against their keys, and writing nothing", rows, len(t.rows))
		return nil
	}
	table := newTable(t.err)
	table.row("  network", t.judge.network.Name)
	table.row("  from", t.judge.place)
	table.row("  rows", fmt.Sprintf("%d of %d, of %d mnemonics", rows, len(t.rows), len(words)))
	for _, n := range t.into.signing.Names() {
		table.row("  signing keys to", n.Name+"  "+keyText(n.Recipient.String()))
	}
	for _, n := range t.into.recovery.Names() {
		table.row("  mnemonics to", n.Name+"  "+keyText(n.Recipient.String()))
	}
	if err := table.flush(); err != nil {
		return err
	}
	return t.app.confirm(fmt.Sprintf("Import up to %d keys? They are marked as imported: they get no birth certificate.", rows))
}

// group checks all rows of one pubkey, and takes the key in if they agree.
func (t *sampleImport) group(ctx context.Context, rows []*sampleRow) error {
	var first *sampleRow
	var key *check.Importable
	defer func() { key.Wipe() }()
	for _, r := range rows {
		if r.bad {
			continue
		}
		k, err := t.judge.check(ctx, r)
		if err != nil {
			return err
		}
		switch {
		case k == nil || !t.taken(r):
			k.Wipe()
		case first == nil:
			first, key = r, k
		default:
			k.Wipe()
			if contradicts(first.facts, r.facts) {
				first.state, r.state = rowConflict, rowConflict
			} else {
				r.state = rowTwin
			}
		}
	}
	if first == nil {
		return nil
	}
	if first.state == rowConflict {
		for _, r := range rows {
			if !r.bad {
				r.state = rowConflict
				r.add("rows-differ", deposit.Refuse, "the rows of this pubkey have different deposit data or mnemonics: none is taken")
			}
		}
		return nil
	}
	return t.take(ctx, first, key)
}

func contradicts(a, b record.Imported) bool {
	return a.Path != b.Path || a.Mnemonic != b.Mnemonic || a.Credentials != b.Credentials || !slices.Equal(a.Deposits, b.Deposits)
}

// take seals and records a row's mnemonic and key, or says what a run would.
func (t *sampleImport) take(ctx context.Context, r *sampleRow, key *check.Importable) error {
	stored, err := t.into.there(ctx, r.facts)
	if errors.Is(err, errDiffers) {
		return r.conflict(err)
	}
	if err != nil {
		return err
	}
	if t.flags.dry {
		r.state = rowReady
		if stored != nil {
			r.state = rowThere
			return t.home.sameInArchive(ctx, record.ImportObject(r.Pubkey), func() ([]byte, error) { return record.EncodeImport(*stored) })
		}
		return nil
	}
	if err := t.takeWords(ctx, r); err != nil {
		return err
	}
	fresh, err := t.into.key(ctx, key, r.facts)
	if errors.Is(err, errDiffers) {
		return r.conflict(err)
	}
	if err != nil {
		return err
	}
	// Not parted from the import by an interruption.
	if err := t.home.foreignNote(context.WithoutCancel(ctx), t.now(), r.facts); err != nil {
		return err
	}
	if r.state = rowThere; fresh {
		r.state = rowImported
	}
	return nil
}

func (r *sampleRow) conflict(err error) error {
	r.state = rowConflict
	r.add("recorded", deposit.Refuse, "%s", inOneLine(err))
	return nil
}

// takeWords opens the row a last time for its mnemonic, if that is not kept
// yet.
func (t *sampleImport) takeWords(ctx context.Context, r *sampleRow) error {
	if t.into.has(r.words) {
		return nil
	}
	return t.judge.open(ctx, r, func(_ *sample.Secret, phrase *mnemonic.Phrase) error {
		source := r.facts.Source
		source.Detail = map[string]string{"kms_key": t.judge.key}
		_, err := t.into.words(ctx, phrase, r.first, t.highest[r.words], source)
		return err
	})
}

// rowJSON is a row of the report.
type rowJSON struct {
	Schema      string           `json:"schema"`
	State       string           `json:"state"`
	Row         string           `json:"row"` // the table's key, quoted
	Signer      string           `json:"web3signer_uuid"`
	Pubkey      eth.Pubkey       `json:"pubkey,omitzero"`
	Path        string           `json:"path,omitempty"`
	Mnemonic    string           `json:"mnemonic,omitempty"`
	Credentials *eth.Credentials `json:"withdrawal_credentials"` // null: not known
	Findings    []foundIn        `json:"findings"`
}

func (t *sampleImport) report() error {
	count := map[string]int{}
	table := newTable(t.out, "STATE", "PUBKEY", "WEB3SIGNER", "FINDING")
	for _, r := range t.rows {
		if r.state == "" {
			r.state = rowRefused
		}
		count[r.state]++
		if t.json {
			if err := t.object(r.line()); err != nil {
				return err
			}
			continue
		}
		pubkey, signer := r.Pubkey.String(), fmt.Sprintf("%.40q", r.Signer)
		if r.Err != nil {
			pubkey, signer = r.Name, ""
		}
		found := r.found
		if len(found) == 0 {
			found = []foundIn{{}}
		}
		for i, f := range found {
			says := f.Says
			if f.Code != "" {
				says = string(f.Severity) + ": " + says
			}
			if i == 0 {
				table.row(r.state, pubkey, signer, says)
			} else {
				table.row("", "", "", says)
			}
		}
	}
	if !t.json {
		if err := table.flush(); err != nil {
			return err
		}
	}
	return t.outcome(count)
}

func (r *sampleRow) line() rowJSON {
	line := rowJSON{"stakeseal/import-row/v1", r.state, r.Name, r.Signer, r.Pubkey, r.facts.Path, r.words, nil, r.found}
	if r.facts.Credentials != (eth.Credentials{}) && !r.badDeposits {
		line.Credentials = &r.facts.Credentials
	}
	if line.Findings == nil {
		line.Findings = []foundIn{}
	}
	return line
}

// outcome says what was done and ends with the exit code of the worst row.
func (t *sampleImport) outcome(count map[string]int) error {
	var parts []string
	for _, state := range []string{rowImported, rowReady, rowThere, rowTwin, rowRefused, rowConflict, rowLeft} {
		if n := count[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	if len(parts) == 0 {
		parts = []string{"the table is empty"}
	}
	t.say("%d rows: %s", len(t.rows), strings.Join(parts, ", "))
	if count[rowImported] > 0 {
		t.say("%s", foreignWords)
		t.say("next: stop whatever signs with them; stakeseal recovery drill%s --order %s --identity RECOVERY_IDENTITY_FILE", t.homeWords(t.home), record.ImportedOrder)
		t.say("then: stakeseal assign%s --to SIGNER --order %s", t.homeWords(t.home), record.ImportedOrder)
		t.say("the sample's rows still hold every key: when a drill passed, delete its table, its backups and its key")
	}
	switch {
	case count[rowConflict] > 0:
		return fail(exitConflict, "look at these rows, and at stakeseal show, then decide which of the two is right", "%d of %d rows contradict another row or a record", count[rowConflict], len(t.rows))
	case count[rowRefused] > 0:
		hint := "they were left out; do not deposit to them"
		if !t.flags.withoutDeposits && slices.ContainsFunc(t.rows, func(r *sampleRow) bool { return r.badDeposits && !r.bad }) {
			hint += "\n--without-deposit-data takes those whose key is good in without it"
		}
		return fail(exitRefused, hint, "%d of %d rows are not what they say", count[rowRefused], len(t.rows))
	case len(t.rows) > 0 && count[rowLeft] == len(t.rows):
		return usage("choose the home of their network with --home or --network", "no row is for %s", t.judge.network.Name)
	}
	return nil
}
