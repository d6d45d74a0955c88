package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/check"
	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/build"
	"github.com/stakeseal/stakeseal/record"
)

// keystoresKind is the kind of source of what comes from keystore files.
const keystoresKind = "keystores"

type keystoresFlags struct {
	passwords   string
	one         string
	history     string
	assign      string
	address     string
	compounding bool
	labels      []string
	dry         bool
	workers     int
}

func (a *app) importKeystoresVerb() *cobra.Command {
	var f keystoresFlags
	cmd := &cobra.Command{
		Use:   "keystores DIR [--passwords DIR | --password-file FILE] [--assign SIGNER [--slashing-protection FILE]]",
		Short: "Take in the keystores of any client (EIP-2335)",
		Long: `Read every keystore below DIR, open it with its password, and hold the key inside
against the pubkey that the file names. What is not what it says is reported and
left out. The others are sealed to the home's signing recipients and recorded as
imported. The files are left as they are.

Passwords are found as clients lay them out: NAME.txt beside NAME.json or in the
folder given with --passwords, or a file there of the name of the pubkey or of the
keystore's folder; or --password-file has the one of all.

--assign gives the keys to a signer; with --slashing-protection, which is the file
(EIP-3076) that whatever signed with them before wrote after it stopped, its ledger
takes their history first, for which it must be stopped. For keys without a history
nothing is signed that could have been signed before: some 13 minutes of duties.

An imported key has no birth certificate: nobody can say who saw it before, and
whoever has its file and password can still sign with it. Running it again finds
what is there. It exits 3 when a file was refused, 5 when one contradicts a record.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.importKeystores(cmd.Context(), args[0], f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.passwords, "passwords", "", "the `DIR` with a file for each password (default: they are looked for below the keystores' folder)")
	flags.StringVar(&f.one, "password-file", "", "the `FILE` with the one password of all keystores")
	flags.StringVar(&f.history, "slashing-protection", "", "the EIP-3076 `FILE` of what signed with them before; needs --assign")
	flags.StringVar(&f.assign, "assign", "", "assign them to `SIGNER`, one of those in home.yaml")
	flags.StringVar(&f.address, "withdrawal-address", "", "the `ADDRESS`, or its name in trust.yaml, that they all pay to, if you know it: the signer lets fees go there")
	flags.BoolVar(&f.compounding, "compounding", false, "with --withdrawal-address: they are compounding (0x02)")
	flags.StringArrayVar(&f.labels, "label", nil, "a note kept with each key, `KEY=VALUE`; repeat for several")
	flags.BoolVar(&f.dry, "dry-run", false, "open and check them, and write nothing")
	flags.IntVar(&f.workers, "workers", defaultWorkers, "open `N` at once; with scrypt each takes 256 MiB")
	return cmd
}

func (f keystoresFlags) check() error {
	switch {
	case f.passwords != "" && f.one != "":
		return usage("", "--passwords and --password-file exclude each other")
	case f.history != "" && f.assign == "":
		return usage("add --assign SIGNER; or import without it, assign later, and then stakeseal signer import SIGNER FILE", "--slashing-protection needs a signer whose ledger takes it")
	case f.compounding && f.address == "":
		return usage("", "--compounding says something of --withdrawal-address, which is missing")
	}
	return checkWorkers(f.workers)
}

func (a *app) importKeystores(ctx context.Context, dir string, f keystoresFlags) error {
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
	h, err := a.openHome(ctx)
	if err != nil {
		return err
	}
	defer h.close()
	return a.takeKeystores(ctx, h, dir, f)
}

// takeKeystores takes a folder's keys into an opened home.
func (a *app) takeKeystores(ctx context.Context, h *home, dir string, f keystoresFlags) (err error) {
	take := &keystoresImport{app: a, home: h, flags: f, taken: map[eth.Pubkey]*keystoreRow{}}
	if err := take.facts(); err != nil {
		return err
	}
	if take.into, err = a.newImporter(ctx, h); err != nil {
		return err
	}
	if take.folder, err = a.keystoreFolder(dir, f); err != nil {
		return err
	}
	defer take.folder.close()
	if take.rows, take.over, err = take.folder.list(); err != nil {
		return err
	}
	if len(take.rows) == 0 {
		return usage("name the folder that holds them; the file of a Prysm wallet is none: its validator accounts backup writes some", "no keystore (EIP-2335, NAME.json) was found in %s", dir)
	}
	if f.history != "" && !f.dry {
		done, err := take.openLedger(ctx)
		if err != nil {
			return signerFailure(f.assign, err)
		}
		defer done()
	}
	return take.run(ctx)
}

// keystoreFolder opens the folders, and reads the password of all.
func (a *app) keystoreFolder(dir string, f keystoresFlags) (k *keystoreFolder, err error) {
	k = &keystoreFolder{}
	if k.files, err = os.OpenRoot(dir); err != nil {
		return nil, fmt.Errorf("couldn't open the keystores' folder: %w", err)
	}
	if f.passwords != "" {
		if k.passwords, err = os.OpenRoot(f.passwords); err != nil {
			_ = k.files.Close() // only read
			return nil, fmt.Errorf("couldn't open the passwords' folder: %w", err)
		}
	}
	if f.one != "" {
		if k.one, err = a.readLine(f.one, "password"); err != nil {
			k.close()
			return nil, err
		}
	}
	return k, nil
}

// keystoresImport is one run over a folder.
type keystoresImport struct {
	*app
	home   *home
	flags  keystoresFlags
	into   *importer
	folder *keystoreFolder
	rows   []*keystoreRow
	over   int // files that were passed over
	of     record.Imported
	ledger *heldLedger // of the signer, stopped; nil: no history was given

	mu    sync.Mutex
	taken map[eth.Pubkey]*keystoreRow // which file each key was taken from
}

// facts judges what the flags say of all keys, before anything is opened.
func (t *keystoresImport) facts() (err error) {
	f, h := t.flags, t.home
	if h.cloud != nil && f.assign != "" {
		return usage("stakeseal assign does, as who may assign; then, with the signer stopped: stakeseal signer import SIGNER FILE", "on AWS the importer may not assign keys")
	}
	if f.assign != "" {
		if err := h.knownSigner(f.assign); err != nil {
			return err
		}
	}
	t.of.Network = h.generator.Network.Name
	if t.of.Labels, err = parseLabels(f.labels); err != nil {
		return err
	}
	if f.address == "" {
		return nil
	}
	address, named := h.trust.Addresses[f.address]
	if !named {
		if address, err = eth.ParseAddress(f.address); err != nil {
			return usage(addressHint(err)+"; or its name in "+trustFile, "--withdrawal-address: %w", err)
		}
		if !hasAddress(h.trust.Addresses, address) {
			t.say("warning: %s does not name the withdrawal address %v", trustFile, address)
		}
	}
	if why, bad := knownBad(h.generator.Network, address); bad {
		return usage("leave it out if you do not know it", "the withdrawal address %v: %s", address, why)
	}
	t.of.Credentials = eth.ExecutionCredentials(address, f.compounding)
	return nil
}

// run opens, checks, seals and records what was found, and says how it went.
func (t *keystoresImport) run(ctx context.Context) error {
	if err := check.KnownAnswers(); err != nil {
		return err
	}
	var ready []*keystoreRow
	for _, r := range t.rows {
		if r.state == "" {
			ready = append(ready, r)
		}
	}
	if len(ready) > 0 {
		if err := t.confirm(len(ready)); err != nil {
			return err
		}
		bar := t.progress(int64(len(ready)), "opened")
		err := inParallel(ctx, t.flags.workers, each(ready), func(ctx context.Context, r *keystoreRow) error {
			defer bar.step()
			return t.take(ctx, r)
		})
		bar.done()
		if err != nil {
			return err
		}
	}
	if t.flags.assign != "" && !t.flags.dry {
		if err := t.assign(ctx); err != nil {
			return err
		}
	}
	return t.report()
}

func (t *keystoresImport) confirm(files int) error {
	if t.flags.dry {
		t.say("%d keystores found; opening them, and writing nothing", files)
		return nil
	}
	table := newTable(t.err)
	table.row("  network", t.of.Network+" (a keystore does not say for which it is)")
	table.row("  keystores", fmt.Sprintf("%d of %d", files, len(t.rows)))
	for _, n := range t.into.signing.Names() {
		table.row("  sealed to", n.Name+"  "+keyText(n.Recipient.String()))
	}
	if address, ok := t.of.Credentials.Address(); ok {
		table.row("  withdrawals to", address.String()+" (as you say)")
	}
	if t.flags.assign != "" {
		table.row("  assigned to", t.flags.assign)
		history := "not known: no duties until what was signed before cannot conflict"
		if t.ledger != nil {
			history = fmt.Sprintf("%s, %d keys", filepath.Base(t.flags.history), len(t.ledger.told))
		}
		table.row("  signed before", history)
	}
	if err := table.flush(); err != nil {
		return err
	}
	return t.app.confirm(fmt.Sprintf("Import up to %d keys? They are marked as imported: whoever has their files has the keys.", files))
}

// take opens one keystore and takes its key in, or says why not. An error ends
// the run: it is of the store or the recipients, not of the file.
func (t *keystoresImport) take(ctx context.Context, r *keystoreRow) error {
	if t.claimed(r, r.named) {
		return nil
	}
	data, password, err := t.folder.open(r)
	if err != nil {
		r.refuse("unreadable", "%s", inOneLine(err))
		return nil
	}
	key, err := check.Imported(ctx, check.Foreign{Network: t.home.generator.Network, Pubkey: r.named, Keystore: data, Password: password, Credentials: t.of.Credentials})
	password.Wipe()
	defer key.Wipe()
	if errors.Is(err, check.ErrForeign) {
		r.refuse("key", "%s", inOneLine(err))
		return nil
	}
	if err != nil {
		return err
	}
	if t.claim(r, key.Pubkey()) {
		return nil
	}
	source := r.facts.Source
	r.facts = t.of
	r.facts.Pubkey, r.facts.Path, r.facts.Source = key.Pubkey(), key.Path(), source
	stored, err := t.into.there(ctx, r.facts)
	if err == nil && !t.flags.dry {
		var fresh bool
		if fresh, err = t.into.key(ctx, key, r.facts); err == nil {
			if r.state = rowThere; fresh {
				r.state = rowImported
			}
			// Not parted from the import by an interruption.
			return t.home.foreignNote(context.WithoutCancel(ctx), t.now(), r.facts)
		}
	}
	switch {
	case errors.Is(err, errDiffers):
		r.state = rowConflict
		r.add("recorded", deposit.Refuse, "%s", inOneLine(err))
		return nil
	case err != nil:
		return err
	case stored != nil:
		r.state = rowThere
		return t.home.sameInArchive(ctx, record.ImportObject(r.facts.Pubkey), func() ([]byte, error) { return record.EncodeImport(*stored) })
	}
	r.state = rowReady
	return nil
}

// claimed says whether another file of the key was taken already.
func (t *keystoresImport) claimed(r *keystoreRow, pubkey eth.Pubkey) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := t.taken[pubkey]
	if pubkey == (eth.Pubkey{}) || first == nil {
		return false
	}
	r.state = rowTwin
	r.facts.Pubkey = pubkey
	r.add("pubkey-twice", deposit.Warn, "%s has the same key: is it loaded by two clients? two that sign with one key are slashed", short256(first.name))
	return true
}

// claim is claimed, and keeps the key for r if it was not.
func (t *keystoresImport) claim(r *keystoreRow, pubkey eth.Pubkey) bool {
	if t.claimed(r, pubkey) {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.taken[pubkey] != nil { // meanwhile
		r.state = rowTwin
		return true
	}
	t.taken[pubkey] = r
	return false
}

func (r *keystoreRow) add(code string, severity deposit.Severity, format string, args ...any) {
	r.found = append(r.found, foundIn{code, severity, fmt.Sprintf(format, args...)})
}

func (r *keystoreRow) refuse(code, format string, args ...any) {
	r.add(code, deposit.Refuse, format, args...)
	r.state = rowRefused
}

// keystoreJSON is a line of the report.
type keystoreJSON struct {
	Schema   string     `json:"schema"`
	State    string     `json:"state"`
	File     string     `json:"file"` // below the folder, quoted
	Pubkey   eth.Pubkey `json:"pubkey,omitzero"`
	Path     string     `json:"path,omitempty"`
	Signer   *string    `json:"assigned_to"` // null: none, or not asked for
	History  bool       `json:"history_taken"`
	Findings []foundIn  `json:"findings"`
}

func (r *keystoreRow) line() keystoreJSON {
	line := keystoreJSON{"stakeseal/import-keystore/v1", r.state, short256(r.name), r.pubkey(), r.facts.Path, nil, r.told, r.found}
	if r.signer != "" {
		line.Signer = &r.signer
	}
	if line.Findings == nil {
		line.Findings = []foundIn{}
	}
	return line
}

func (r *keystoreRow) pubkey() eth.Pubkey {
	if r.facts.Pubkey != (eth.Pubkey{}) {
		return r.facts.Pubkey
	}
	return r.named
}

func (t *keystoresImport) report() error {
	count := map[string]int{}
	table := newTable(t.out, "STATE", "PUBKEY", "FILE", "FINDING")
	for _, r := range t.rows {
		count[r.state]++
		if t.json {
			if err := t.object(r.line()); err != nil {
				return err
			}
			continue
		}
		pubkey := "not known"
		if p := r.pubkey(); p != (eth.Pubkey{}) {
			pubkey = p.String()
		}
		says := ""
		if len(r.found) > 0 {
			says = string(r.found[0].Severity) + ": " + r.found[0].Says
		}
		table.row(r.state, pubkey, short256(r.name), says)
	}
	if !t.json {
		if err := table.flush(); err != nil {
			return err
		}
	}
	return t.outcome(count)
}

// outcome says what was done and what is left to do, and ends with the exit
// code of the worst file.
func (t *keystoresImport) outcome(count map[string]int) error {
	var parts []string
	for _, state := range []string{rowImported, rowReady, rowThere, rowTwin, rowRefused, rowConflict} {
		if n := count[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	if t.over > 0 {
		parts = append(parts, fmt.Sprintf("%d other files passed over", t.over))
	}
	t.say("%d keystores: %s", len(t.rows), strings.Join(parts, ", "))
	if count[rowImported] > 0 {
		t.say("%s; whoever has these files and their passwords still has the keys", foreignWords)
		t.say("no recovery identity opens them: keep their mnemonic, or a copy of the files, where you kept it")
	}
	switch words := t.homeWords(t.home); {
	case count[rowImported]+count[rowThere] == 0:
	case t.flags.assign == "":
		t.say("next: stop whatever signs with them, for good; then stakeseal assign%s --to SIGNER --order %s", words, record.ImportedOrder)
	default:
		t.sayAssigned()
	}
	switch {
	case count[rowConflict] > 0:
		return fail(exitConflict, "look at these keys with stakeseal show, then decide which of the two is right", "%d of %d keystores contradict a record or an assignment", count[rowConflict], len(t.rows))
	case count[rowRefused] > 0:
		hint := "they were left out; run it again when they are mended: what is there is found"
		if slices.ContainsFunc(t.rows, func(r *keystoreRow) bool { return r.state == rowRefused && r.found[0].Code == "password-missing" }) {
			hint = "--password-file FILE has the one password of all, or --passwords DIR a file for each; what is there is found again"
		}
		return fail(exitRefused, hint, "%d of %d keystores were refused", count[rowRefused], len(t.rows))
	}
	return nil
}
