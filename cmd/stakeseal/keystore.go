package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
	"github.com/stakeseal/stakeseal/slashing"
	"github.com/stakeseal/stakeseal/unseal"
)

func (a *app) keystoreVerb() *cobra.Command {
	cmd := &cobra.Command{Use: "keystore", Short: "Hand keys to other signing software", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(a.keystoreExportVerb())
	return cmd
}

type handoverFlags struct {
	selection
	identity identityFlags
	client   string
	out      string
	into     string // a keymanager API's URL, in place of out
	token    string
	ca       string
	again    bool
	unknown  bool
	whole    bool // this home is no copy from a backup
	root     string
	workers  int
}

func (a *app) keystoreExportVerb() *cobra.Command {
	var f handoverFlags
	cmd := &cobra.Command{
		Use:   "export --signer NAME --identity FILE (--for CLIENT --out DIR | --into URL) [PUBKEY | @FILE]...",
		Short: "Hand the keys of a signer over to other software",
		Long: `Open the signing keys of the validators that are assigned to NAME, and write them
as CLIENT takes them: keystores, passwords and a slashing-protection file. CLIENT
is web3signer, teku, lighthouse, prysm, lodestar, nimbus, or keymanager for the
body of one keymanager API request. --into gives them to a running keymanager API
instead, in parts, each with its slashing protection, and reads back what it has.

Each validator is handed over: its assignment moves to external:NAME before a byte
of its key leaves, so that no signer of stakeseal signs for it any more, and an
event notes it. From then on its slashing protection is the other software's. If
the command is interrupted, --again writes or sends what was handed over. Keys that
a keymanager API refuses, and does not list, are assigned to NAME again.

The slashing-protection file says what the signer NAME signed here, which must be
stopped (on AWS it may run: its keys are fenced first); nothing, if it was never
initialised. For an order that came from a bundle nobody knows that here: what its
keys signed, and where they are assigned or were handed to, stayed behind in the
home that made them. Nor where this home may have been restored from a backup:
then the file allows nothing before the epoch after next (--not-restored).`,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.words = args
			return a.keystoreExport(cmd.Context(), f)
		},
	}
	f.selectors(cmd)
	f.identity.add(cmd, "the signer")
	flags := cmd.Flags()
	flags.StringVar(&f.client, "for", "", "the `CLIENT` that will sign: "+strings.Join(clientNames(), ", "))
	flags.StringVarP(&f.out, "out", "o", "", "the `DIR` for the files, new or empty")
	flags.StringVar(&f.into, "into", "", "the `URL` of a keymanager API, https:// or on this machine")
	flags.StringVar(&f.token, "token", "", "the `FILE` with the keymanager API's token")
	flags.StringVar(&f.ca, "ca", "", "the `FILE` with the keymanager API's certificate, or of who signed it (PEM)")
	flags.BoolVar(&f.again, "again", false, "also write keys that were handed to external:NAME before: make sure that they sign in one place only")
	flags.BoolVar(&f.unknown, "no-history-known", false, "also write keys that may be in use elsewhere (from a bundle, a rebuilt store, restored): you give up slashing protection against whatever they signed before, as the file written here has none of it")
	flags.BoolVar(&f.whole, "not-restored", false, "this home was not restored from a backup or snapshot: what its signer has not signed, nobody has")
	flags.StringVar(&f.root, "genesis-validators-root", "", "the `ROOT` of a network whose root is not known here (ephemery, custom ones)")
	cmd.Flags().IntVar(&f.workers, "workers", defaultWorkers, "open `N` at once; with scrypt keystores each takes 256 MiB")
	return cmd
}

// external is what an assignment says where a key went to other software.
const external = "external:"

// handed is a key on its way to other software.
type handed struct {
	chosen    chosen
	validator record.Validator
	assigned  record.Assignment
	file      string // its keystore's name
	keystore  []byte
	password  *secret.Bytes
	unknown   bool          // what it signed is not known here
	mark      slashing.Mark // what our signers signed
	floor     bool          // of some of what was signed before nothing is known
	fate      string        // on its way into a keymanager API
	message   string        // the API's
}

func (a *app) keystoreExport(ctx context.Context, f handoverFlags) (err error) {
	switch {
	case f.signer == "":
		return usage("the signer that the keys are assigned to: --signer signer-a", "--signer is missing")
	case f.unassigned:
		return usage("stakeseal assign --to "+f.signer+" --unassigned assigns them first", "--unassigned and --signer exclude each other")
	case strings.HasPrefix(f.signer, external):
		return usage("name the former signer, with --again", "--signer is %q", f.signer)
	}
	client, to, err := f.whither()
	if err != nil {
		return err
	}
	if to != nil {
		defer to.token.Wipe()
	}
	if err := checkWorkers(f.workers); err != nil {
		return err
	}
	if err := a.canConfirm(); err != nil {
		return err
	}
	h, err := a.openHome(ctx)
	if err != nil {
		return err
	}
	defer h.close()
	root, err := genesisRoot(h.generator.Network, f.root)
	if err != nil {
		return err
	}
	list, err := h.handover(ctx, f)
	if err != nil {
		return err
	}
	if err := h.historyKnown(ctx, f, list); err != nil {
		return err
	}
	done, err := a.signedBefore(ctx, h, f, list)
	if err != nil {
		return err
	}
	defer done()
	var out *outFolder
	if to == nil {
		if out, err = newOutFolder(f.out); err != nil {
			return err
		}
		defer out.discard()
		a.sayLeft(out)
	} else if err := a.beforeInto(ctx, f, to, list); err != nil {
		return err
	}
	keys, err := a.keys(ctx, h, f.identity)
	defer func() { a.noteOpenings(ctx, h, "keystore export", &err) }()
	if err != nil {
		return err
	}
	defer func() {
		for _, k := range list {
			k.password.Wipe()
		}
	}()
	bar := a.progress(int64(len(list)), "opened")
	err = inParallel(ctx, h.readers(f.workers), each(list), func(ctx context.Context, k *handed) error {
		defer bar.step()
		return h.openHanded(ctx, keys, k)
	})
	bar.done()
	if err != nil {
		return err
	}
	nameKeystores(list, a.now().Unix())
	if h.remote() { // that keys can be fenced is seen before anything moves
		if _, err := h.fence(ctx, external+f.signer, root, nil, nil); err != nil {
			return err
		}
	}
	if to != nil {
		return a.handInto(ctx, h, f, to, list, root)
	}
	if err := a.deliver(ctx, h, f, client, list, root, out); err != nil {
		return err
	}
	return a.reportHandover(h, f, client, out.path, list)
}

// whither is where the keys go: files of a client, or a keymanager API.
func (f *handoverFlags) whither() (c client, to *remote, err error) {
	switch {
	case f.into == "" && (f.token != "" || f.ca != ""):
		return c, nil, usage("--into URL names it", "--token and --ca are a keymanager API's")
	case f.into != "" && f.out != "":
		return c, nil, usage("", "--into and --out exclude each other")
	case f.into != "" && f.client == "":
		f.client = "keymanager"
	}
	c, ok := clients[f.client]
	if !ok {
		return c, nil, usage("one of "+strings.Join(clientNames(), ", "), "--for is %q", f.client)
	}
	if f.into != "" {
		to, err = newRemote(remoteFlags{flag: "--into", url: f.into, token: f.token, ca: f.ca, wait: intoWait, keys: true})
	}
	return c, to, err
}

// deliver asks, hands the keys over, and only then writes them: until they
// are assigned away nothing of them is on a disk, where a killed process
// would leave it and who finds it could sign beside the signer.
func (a *app) deliver(ctx context.Context, h *home, f handoverFlags, c client, list []*handed, root eth.Root, out *outFolder) error {
	if err := a.confirmHandover(f, "to be put into "+out.path, list); err != nil {
		return err
	}
	if err := a.handOver(ctx, h, f, list); err != nil {
		return handoverHint(a, h, f, err)
	}
	if err := a.fenced(ctx, h, f, list, root); err != nil {
		return handoverHint(a, h, f, err)
	}
	files, body, err := c.layout(list, root)
	if err != nil {
		return handoverHint(a, h, f, err)
	}
	defer body.Wipe()
	for _, file := range files {
		if err := out.writeMode(file.name, file.data, c.mode()); err != nil {
			return handoverHint(a, h, f, err)
		}
	}
	if err := out.place(); err != nil {
		return handoverHint(a, h, f, err)
	}
	return nil
}

// genesisRoot is a network's genesis validators root, which given says where it
// is not known here. In a slashing-protection file another one is refused by
// whoever imports it; under another one no signature is good.
func genesisRoot(n eth.Network, given string) (root eth.Root, err error) {
	switch {
	case given != "":
		if err := root.UnmarshalText([]byte(given)); err != nil {
			return root, usage("", "--genesis-validators-root: %w", err)
		}
		if n.HasGenesisValidatorsRoot && root != n.GenesisValidatorsRoot {
			return root, usage("leave the flag out", "--genesis-validators-root is not the one of %s, %v", n.Name, n.GenesisValidatorsRoot)
		}
		return root, nil
	case !n.HasGenesisValidatorsRoot:
		return root, usage("a node of the network tells: /eth/v1/beacon/genesis; give it with --genesis-validators-root",
			"the genesis validators root of %s is not known, and a slashing-protection file needs it", n.Name)
	}
	return n.GenesisValidatorsRoot, nil
}

// handover selects the validators to hand over. One that is named and not
// the signer's is an error; a wider selection takes those that are.
func (h *home) handover(ctx context.Context, f handoverFlags) (list []*handed, err error) {
	wide := f.selection
	wide.signer, wide.foreign = "", true
	away := 0
	for c, err := range h.validators(ctx, &wide) {
		if err != nil {
			return nil, err
		}
		// What the selection says of the signer was read before its first row,
		// and may be old. This is decided on, and its epoch is the one that the
		// hand-over replaces.
		held, err := h.records.Assignment(ctx, c.Pubkey)
		if err != nil && !errors.Is(err, record.ErrNotFound) {
			return nil, err
		}
		switch {
		case held.Signer == f.signer, held.Signer == external+f.signer && f.again:
		case held.Signer == external+f.signer:
			away++
			if len(f.words) > 0 {
				return nil, fail(exitConflict, "--again writes its files once more", "%v was handed to %s already", c.Pubkey, held.Signer)
			}
			continue
		case len(f.words) > 0 && held.Signer == "":
			return nil, fail(exitConflict, "stakeseal assign --to "+f.signer+" "+short(c.Pubkey.String())[:12]+" assigns it", "%v is not assigned to any signer", c.Pubkey)
		case len(f.words) > 0:
			return nil, fail(exitConflict, "stop it there first; stakeseal assign --move moves it", "%v is assigned to %s", c.Pubkey, held.Signer)
		default:
			continue
		}
		list = append(list, &handed{chosen: c, validator: c.Validator, assigned: held})
	}
	if len(list) > 0 {
		return list, nil
	}
	if away > 0 {
		return nil, fail(exitConflict, "--again writes their files once more", "all %d validators of %s were handed over already", away, f.signer)
	}
	if err := h.knownSigner(f.signer); err != nil {
		return nil, err
	}
	return nil, fail(exitConflict, "stakeseal assign --to "+f.signer+" --unassigned assigns those that no signer has", "no selected validator is assigned to %s", f.signer)
}

// openHanded verifies a validator's certificate, opens its signing secret,
// and sees to it that the keystore to hand over opens to that very key.
func (h *home) openHanded(ctx context.Context, keys []key, k *handed) error {
	v := k.validator
	recorded, sealing, err := h.signing(ctx, k.chosen)
	if err != nil {
		return err
	}
	opened, err := openSigning(ctx, keys, recorded, sealing)
	if err != nil {
		return fmt.Errorf("the signing key of %v: %w", v.Pubkey, err)
	}
	defer opened.Wipe()
	raw := opened.Key.Raw()
	defer raw.Wipe()
	if opened.Keystore == nil {
		return k.makeKeystore(ctx, raw)
	}
	// Nobody could use a keystore that does not open, and the key would be
	// assigned away: it is opened here first, KDF and all.
	inside, err := keystore.Open(ctx, opened.Keystore, opened.Password)
	if err != nil {
		return fmt.Errorf("the keystore of %v: %w", v.Pubkey, err)
	}
	defer inside.Wipe()
	parsed, err := keystore.Parse(opened.Keystore)
	if err != nil {
		return fmt.Errorf("the keystore of %v: %w", v.Pubkey, err)
	}
	if !inside.Equal(raw) || parsed.Pubkey() != v.Pubkey {
		return fmt.Errorf("the keystore of %v: %w", v.Pubkey, keystore.ErrMismatch)
	}
	k.keystore, k.password = opened.Keystore, secret.Copy(opened.Password.Expose())
	return nil
}

// openSigning opens a signing sealing with whichever key opens it.
func openSigning(ctx context.Context, keys []key, v record.Validator, sealing record.Sealing) (opened *unseal.SigningSecret, err error) {
	for _, k := range keys {
		opened, err = k.opener.Key(ctx, sealing.File, seal.SigningBinding(v.Network, v.Order, v.Index, v.Pubkey))
		if err == nil || !errors.Is(err, unseal.ErrNoIdentity) {
			return opened, err
		}
	}
	return nil, fail(exitDenied, "use the identity of one of these recipients", "it is sealed to %s; it is not opened by %s", recipientNames(sealing.Recipients), keyNames(keys))
}

// makeKeystore makes the keystore of a key that was born without one, under a
// random password as at birth.
func (k *handed) makeKeystore(ctx context.Context, raw *secret.Bytes) error {
	random := secret.Random(32)
	defer random.Wipe()
	password := secret.New(64)
	hex.Encode(password.Expose(), random.Expose())
	made, err := keystore.Encrypt(ctx, keystore.PBKDF2, []keystore.Lane{{Secret: raw, Password: password, Pubkey: k.validator.Pubkey, Path: k.validator.Path}})
	if err != nil {
		password.Wipe()
		return fmt.Errorf("couldn't make a keystore of %v: %w", k.validator.Pubkey, err)
	}
	defer made[0].Wipe()
	k.keystore, k.password = made[0].JSON, password
	return nil
}

// nameKeystores gives each keystore the deposit CLI's name. Clients recognise
// keystores by it; as indexes repeat from order to order, the time in it goes
// on a second where a name is taken.
func nameKeystores(list []*handed, unix int64) {
	taken := map[string]bool{}
	for _, k := range list {
		for at := unix; ; at++ {
			k.file = keystore.FileName(k.validator.Path, at)
			if !taken[k.file] {
				break
			}
		}
		taken[k.file] = true
	}
}

// outside says of which orders the keys may exist where this home does not
// see them sign, and why. Assignments and events don't travel with a bundle,
// and a rebuilt store has lost them; a restored key is in a file.
func (h *home) outside(ctx context.Context, orders []string) (list []string, why map[string]string, err error) {
	why = map[string]string{}
	for _, order := range orders {
		if _, seen := why[order]; seen {
			continue
		}
		why[order] = ""
		if order == record.ImportedOrder {
			why[order] = foreignWords + ", nor where it signs"
			list = append(list, order)
			continue
		}
		for e, err := range h.records.Events(ctx, record.EventQuery{Order: order}) {
			if err != nil {
				return nil, nil, err
			}
			switch {
			case e.Kind == "imported" && e.Detail["from"] == "archive":
				why[order] = "its store was rebuilt from the archive"
			case e.Kind == "imported":
				why[order] = "it came from a bundle"
			case e.Kind == "restored":
				why[order] = "its keys were restored to keystores"
			case e.Kind == "mnemonic-shown":
				why[order] = "its mnemonics were shown"
			}
		}
		if why[order] != "" {
			list = append(list, order)
		}
	}
	return list, why, nil
}

// imported are those of the orders that this home took from a bundle or its
// archive, each once: what was exported of them before is not known here.
func (h *home) imported(ctx context.Context, orders []string) (list []string, err error) {
	seen := map[string]bool{}
	for _, order := range orders {
		if seen[order] {
			continue
		}
		seen[order] = true
		for _, err := range h.records.Events(ctx, record.EventQuery{Order: order, Kind: "imported"}) {
			if err != nil {
				return nil, err
			}
			list = append(list, order)
			break
		}
	}
	return list, nil
}

// historyKnown refuses keys that may have signed elsewhere, unless the caller
// gives their history up. It marks them.
func (h *home) historyKnown(ctx context.Context, f handoverFlags, list []*handed) error {
	orders := make([]string, len(list))
	for i, k := range list {
		orders[i] = k.validator.Order
	}
	outside, why, err := h.outside(ctx, orders)
	if err != nil {
		return err
	}
	if len(outside) > 0 && !f.unknown {
		if slices.Contains(outside, record.ImportedOrder) {
			return fail(exitConflict, "stop whatever signed with them, bring its slashing protection history, and add --no-history-known", "the signing history of keys that were imported is not known here: %s", why[record.ImportedOrder])
		}
		return fail(exitConflict, "make sure that they sign nowhere else, and bring their slashing protection history from wherever they signed; then add --no-history-known",
			"the signing history of the keys of order %s is not known here: %s", strings.Join(outside, ", "), why[outside[0]])
	}
	for _, k := range list {
		k.unknown = slices.Contains(outside, k.validator.Order)
	}
	return nil
}

func (a *app) confirmHandover(f handoverFlags, where string, list []*handed) error {
	a.say("%d keys of %s are ready for %s, %s", len(list), f.signer, f.client, where)
	a.say("they will be assigned to %s%s: no signer of stakeseal signs for them after that, and slashing protection is %s's", external, f.signer, f.client)
	again := slices.ContainsFunc(list, func(k *handed) bool { return k.assigned.Signer != f.signer })
	if again {
		a.say("warning: some were handed over before: if they have signed anywhere, bring the slashing protection history from there; the file written here has none")
	}
	if slices.ContainsFunc(list, func(k *handed) bool { return k.unknown }) {
		a.say("warning: some may have been used elsewhere: if they have signed anywhere, bring the slashing protection history from there; the file written here has none")
	}
	return a.confirm(fmt.Sprintf("Hand %d keys over? Whatever signed with them as %s must have stopped.", len(list), f.signer))
}

// handOver moves the assignments, each by one epoch and only from what was
// read when the keys were selected, and notes each.
func (a *app) handOver(ctx context.Context, h *home, f handoverFlags, list []*handed) error {
	bar := a.progress(int64(len(list)), "handed over")
	defer bar.done()
	for _, k := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := a.handOverOne(context.WithoutCancel(ctx), h, f, k); err != nil {
			return err
		}
		bar.step()
	}
	return nil
}

// handOverOne is not interrupted between the assignment and its note.
func (a *app) handOverOne(ctx context.Context, h *home, f handoverFlags, k *handed) error {
	pubkey := k.validator.Pubkey
	now := record.Time(a.now())
	once := ""
	detail := map[string]string{"signer": f.signer, "client": f.client, "epoch": fmt.Sprint(k.assigned.Epoch)}
	if u, err := url.Parse(f.into); err == nil && f.into != "" {
		detail["into"] = u.Host
	}
	switch {
	case k.unknown:
		detail["history"] = "unknown"
	case k.floor:
		detail["history"] = "floor"
	}
	withRequests(detail, a.openings.take(ofKey(pubkey)))
	switch {
	case k.assigned.Signer == f.signer:
		next := record.Assignment{Pubkey: pubkey, Signer: external + f.signer, Epoch: k.assigned.Epoch + 1, Time: now}
		if err := h.records.Assign(ctx, next); err != nil {
			return fmt.Errorf("couldn't hand %v over: %w", pubkey, err)
		}
		detail["epoch"] = fmt.Sprint(next.Epoch)
		// Of two exports in one second both make the same assignment, which a
		// store takes as one repeated; the note it takes once.
		once = fmt.Sprintf("handed-over/%v/%d", pubkey, next.Epoch)
	case f.again && k.assigned.Signer == external+f.signer: // nothing moves it from there
		detail["again"] = "yes"
	default:
		return fmt.Errorf("couldn't hand %v over: %w: it is assigned to %s", pubkey, record.ErrStale, k.assigned.Signer)
	}
	err := h.note(ctx, record.Event{Time: now, Kind: "exported-keystore", Order: k.validator.Order, Pubkey: pubkey, Detail: detail, Once: once})
	if errors.Is(err, record.ErrExists) {
		return fmt.Errorf("couldn't hand %v over: %w: another export did", pubkey, record.ErrStale)
	}
	return err
}

// handoverHint says how to go on after a failure between the first assignment
// and the files.
func handoverHint(a *app, h *home, f handoverFlags, err error) error {
	code, _ := verdict(err)
	return fail(code, fmt.Sprintf("no file was written. Keys that were assigned to %s%s stay so; to get the files of all: stakeseal keystore export%s --signer %s --for %s --again ...",
		external, f.signer, a.homeWords(h), f.signer, f.client), "%w", err)
}
