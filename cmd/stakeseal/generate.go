package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/awskms"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/internal/build"
	"github.com/stakeseal/stakeseal/internal/keyfile"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
)

type generateFlags struct {
	count       uint32
	address     string
	order       string
	resume      string
	compounding bool
	plan        string
	keystore    string
	labels      []string
	assign      string
	workers     int
	identityOK  bool
	anyAddress  bool
	oneRecovery bool
	approval    string
}

func (a *app) generateVerb() *cobra.Command {
	var f generateFlags
	cmd := &cobra.Command{
		Use:   "generate --count N",
		Short: "Place an order and make its validators",
		Long: `Place an order for N validators and make them: each key is made in a child process
that shows it to nobody, checked, sealed, certified, recorded and archived. With
generator: lambda:ARN in home.yaml the released function makes them; a large
order is then run as ranges, --workers of them at once.

The order's id is printed before the first key is made. Running the same order
again, after a crash or by mistake, gives the same validators: --resume ID
continues an order as it was placed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.generate(cmd, f) },
	}
	flags := cmd.Flags()
	flags.Uint32VarP(&f.count, "count", "n", 0, "make `N` validators")
	flags.StringVar(&f.address, "withdrawal-address", "", "the `ADDRESS` or its name in generator.yaml (default: the only one)")
	flags.StringVar(&f.order, "order", "", "an `ID` of your own for the order; the same id again is the same order")
	flags.StringVar(&f.resume, "resume", "", "continue the order `ID` as it was placed")
	flags.BoolVar(&f.compounding, "compounding", false, "0x02 credentials (EIP-7251): rewards stay, up to 2048 ETH")
	flags.StringVar(&f.plan, "plan", "", "the `AMOUNTS` to sign deposits for, in ETH: 32, or 1,31 for two stages (default: the network's full deposit)")
	flags.StringVar(&f.keystore, "keystore", "", "the `KIND` of keystore made at birth: pbkdf2, scrypt or none (default: the settings')")
	flags.StringArrayVar(&f.labels, "label", nil, "a note kept with the order, `KEY=VALUE`; repeat for several")
	flags.StringVar(&f.assign, "assign", "", "assign every validator to this `SIGNER`")
	flags.IntVar(&f.workers, "workers", runtime.NumCPU(), "make `N` at once; with scrypt each takes 256 MiB. On Lambda: run N invocations at once (default 8; a new AWS account may run 10)")
	flags.BoolVar(&f.anyAddress, "allow-known-bad-address", false, "pay to an address that nobody is known to control: what is paid there may be lost")
	flags.BoolVar(&f.oneRecovery, "one-recovery-recipient", false, "make keys on mainnet with a single recovery recipient: losing that identity loses every mnemonic")
	flags.StringVar(&f.approval, "approval", "", "the approval `FILE` of a withdrawal address that the settings do not name (stakeseal address approve)")
	flags.BoolVar(&f.identityOK, "allow-identity-in-home", false, "make keys on mainnet although the home holds an identity that opens them")
	return cmd
}

func (a *app) generate(cmd *cobra.Command, f generateFlags) error {
	ctx := cmd.Context()
	if err := checkWorkers(f.workers); err != nil {
		return err
	}
	if f.resume != "" {
		for _, flag := range []string{"count", "order", "withdrawal-address", "compounding", "plan", "keystore", "label"} {
			if cmd.Flags().Changed(flag) {
				return usage("an order is continued as it was placed; leave --"+flag+" out", "--resume and --%s exclude each other", flag)
			}
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
	if err := h.noIdentityInside(f.identityOK); err != nil {
		return err
	}
	var request birth.Request
	if f.resume != "" {
		if request, err = h.placed(ctx, f.resume); err == nil {
			request.Approval, err = readApproval(f.approval)
		}
	} else {
		request, err = h.request(f)
	}
	if err != nil {
		return err
	}
	if f.assign != "" {
		if err := h.knownSigner(f.assign); err != nil {
			return err
		}
	}
	if err := h.ready(ctx, a, request, f); err != nil {
		return err
	}
	// On one machine the release is verified before each start; a function's is
	// not seen from here, but whether all of its settings' releases are revoked is.
	if h.cloud != nil {
		if err := h.trust.MayMake(certificate.Hash(h.generator.Digest), a.now()); err != nil {
			return fail(exitRefused, "stakeseal release rollback, or deploy another release", "what would be made now would not verify: %w", err)
		}
	}
	if h.cloud != nil && !cmd.Flags().Changed("workers") {
		f.workers = cloudWorkers
	}
	// An order is continued under the settings that it was confirmed with, by
	// their digest: what it makes is shown again, and not asked for again.
	if err := a.confirmOrder(h, request, f.resume == ""); err != nil {
		return err
	}
	again := "stakeseal generate" + a.homeWords(h) + " --resume " + request.Order
	a.say("order %s: %d validators; to continue it after an interruption: %s", request.Order, request.Count, again)
	bar := a.progress(int64(request.Count), "made")
	started := a.now()
	var receipt []byte
	if h.cloud != nil {
		receipt, err = a.runCloud(ctx, h, request, f.workers, bar)
	} else {
		receipt, err = h.runGenerator(ctx, request, f.workers, func(record.Birth) { bar.step() })
	}
	bar.done()
	if err != nil {
		return h.unfinished(ctx, request.Order, again, err)
	}
	verified, err := confirmedReceipt(h.trust, request, receipt, 0, request.Count)
	if err != nil {
		return err
	}
	if f.assign != "" {
		if err := a.assignAll(ctx, h, verified.Receipt, f.assign); err != nil {
			return err
		}
	}
	return a.reportOrder(h, verified, receipt, a.now().Sub(started))
}

// unfinished adds to the error of a run how to go on: by resuming, if the
// order was placed.
func (h *home) unfinished(ctx context.Context, order, again string, err error) error {
	code, hint := verdict(err)
	interrupted := ctx.Err() != nil && (code == exitInternal || code == exitInterrupted)
	if !interrupted && code != exitInternal && code != exitRemote {
		return err
	}
	goOn := again + " continues; what was made is kept"
	if h.cloud != nil && interrupted {
		goOn = "what runs on Lambda at this moment goes on to its end\n" + goOn
	}
	if _, e := h.records.Order(context.WithoutCancel(ctx), order); errors.Is(e, record.ErrNotFound) {
		goOn = "nothing was made; run the command again"
	}
	if interrupted {
		return fail(exitInterrupted, goOn, "interrupted")
	}
	if hint != "" {
		goOn = hint + "\n" + goOn
	}
	return fail(code, goOn, "%w", err)
}

// ready refuses, before any key exists, what would make keys that the home's
// own trust file does not accept, or that mainnet's defaults do not allow.
func (h *home) ready(ctx context.Context, a *app, q birth.Request, f generateFlags) error {
	g := h.generator
	// Where this caller may not ask for the key, the first receipt shows it.
	key, err := h.certifierKey(ctx)
	switch {
	case h.cloud != nil && errors.Is(err, session.ErrDenied):
		a.say("warning: this caller may not read the certifying key; whether %s names it shows when the first receipt comes", trustFile)
	case err != nil:
		return err
	default:
		i := slices.IndexFunc(h.trust.Keys, func(k certificate.TrustedKey) bool { return k.Key.Equal(key) })
		if i < 0 {
			return usage("if the key is yours, add it to "+trustFile, "%s does not name the certifying key: what it certifies would not verify", trustFile)
		}
		if h.trust.Keys[i].Revoked {
			return fail(exitRefused, "make a new home, which gets a new certifying key", "the certifying key %s is revoked in %s", h.trust.Keys[i].Name, trustFile)
		}
	}
	trusted := hasAddress(h.trust.Addresses, q.WithdrawalAddress)
	if !trusted && q.Approval != "" {
		if err := h.approved(q.WithdrawalAddress, q.Approval, a.now()); err != nil {
			return err
		}
	} else if !trusted {
		return usage("if it is meant, add it there by hand, or give its approval with --approval, to --resume too: what is made for it would not verify", "the withdrawal address %v is not in %s", q.WithdrawalAddress, trustFile)
	}
	if why, bad := knownBad(g.Network, q.WithdrawalAddress); bad && !f.anyAddress && g.Network.Mainnet {
		return usage("--allow-known-bad-address takes it all the same", "the withdrawal address %v: %s", q.WithdrawalAddress, why)
	}
	if g.Network.Mainnet && len(g.Recovery) < 2 && !f.oneRecovery {
		return usage("name a second one under seal_to; --one-recovery-recipient does without", "%s needs two recovery recipients: one lost identity must not lose every mnemonic", g.Network.Name)
	}
	return nil
}

// certifierKey is the public half of the certifying key that the settings name.
func (h *home) certifierKey(ctx context.Context) (certificate.PublicKey, error) {
	switch c := h.generator.Certifier; {
	case c.Scheme == "file":
		signer, err := keyfile.Open(h.path(c.Rest))
		if err != nil {
			return certificate.PublicKey{}, err
		}
		defer signer.Wipe()
		return signer.Public(), nil
	case c.Scheme == "awskms" && h.cloud != nil:
		named, err := arn.Key(c.Rest)
		if err != nil {
			return certificate.PublicKey{}, usage("copy CertifyingKeyArn from the stack's outputs", "%w", err)
		}
		signer, err := awskms.NewCertifier(ctx, kms.NewFromConfig(h.cloud.Config(named.Region)), c.Rest)
		if err != nil {
			return certificate.PublicKey{}, err
		}
		return signer.Public(), nil
	default:
		return certificate.PublicKey{}, usage("use file:NAME, or awskms:KEY-ARN with a store on AWS", "%q is of a kind that this program does not know", c)
	}
}

// request builds an order from the flags.
func (h *home) request(f generateFlags) (birth.Request, error) {
	g := h.generator
	q := birth.Request{Schema: birth.RequestSchema, Order: f.order, Network: g.Network.Name, Count: f.count,
		Compounding: f.compounding, Keystore: f.keystore, Settings: record.Digest(g.Digest), To: f.count}
	if f.count == 0 {
		return q, usage("say how many: --count 4", "--count is missing or 0")
	}
	if f.count > g.MaxPerOrder {
		return q, usage("raise max_validators_per_order in generator.yaml, or place several orders", "--count is %d, and the settings allow %d in one order", f.count, g.MaxPerOrder)
	}
	if q.Order == "" {
		var b [8]byte
		rand.Read(b[:])
		q.Order = "ord-" + hex.EncodeToString(b[:])
	}
	if err := record.CheckOrderID(q.Order); err != nil {
		return q, usage("", "--order: %w", err)
	}
	if q.Keystore == "" {
		q.Keystore = g.Keystore
	}
	if !slices.Contains([]string{"pbkdf2", "scrypt", "none"}, q.Keystore) {
		return q, usage("use pbkdf2, scrypt or none", "--keystore is %q", q.Keystore)
	}
	var err error
	if q.Approval, err = readApproval(f.approval); err != nil {
		return q, err
	}
	if q.WithdrawalAddress, err = h.address(f.address, q.Approval); err != nil {
		return q, err
	}
	if q.Plan, err = parsePlan(g.Network, f.plan, eth.ExecutionCredentials(q.WithdrawalAddress, f.compounding)); err != nil {
		return q, err
	}
	q.Labels, err = parseLabels(f.labels)
	return q, err
}

// parseLabels reads --label; nil without one.
func parseLabels(flags []string) (map[string]string, error) {
	var labels map[string]string
	for _, label := range flags {
		key, value, ok := strings.Cut(label, "=")
		if !ok || key == "" {
			return nil, usage("write KEY=VALUE", "--label is %q", label)
		}
		if labels == nil {
			labels = map[string]string{}
		}
		if _, twice := labels[key]; twice {
			return nil, usage("", "--label %q occurs twice", key)
		}
		labels[key] = value
	}
	return labels, nil
}

// placed rebuilds the request of a stored order.
func (h *home) placed(ctx context.Context, id string) (birth.Request, error) {
	o, err := h.records.Order(ctx, id)
	if errors.Is(err, record.ErrNotFound) {
		return birth.Request{}, usage("stakeseal orders lists them", "there is no order %q in this home", id)
	}
	if err != nil {
		return birth.Request{}, err
	}
	if o.Settings != record.Digest(h.generator.Digest) {
		return birth.Request{}, fail(exitConflict, "bring generator.yaml and recipients/ back to what they were, or place a new order for what is missing",
			"order %s was placed under other settings (digest %s, now %x)", id, o.Settings, h.generator.Digest)
	}
	address, ok := o.Credentials.Address()
	if !ok {
		return birth.Request{}, fail(exitRefused, "", "order %s names no withdrawal address", id)
	}
	return birth.Request{Schema: birth.RequestSchema, Order: o.ID, Network: o.Network, Count: o.Count, WithdrawalAddress: address,
		Compounding: o.Credentials.Kind() == 2, Plan: o.Plan, Keystore: o.Keystore, Labels: o.Labels, Settings: o.Settings, To: o.Count}, nil
}

// address resolves --withdrawal-address: a name in the settings, an allowed
// address, or nothing when the settings allow one only.
func (h *home) address(text, approval string) (eth.Address, error) {
	allowed := h.generator.Addresses
	names := strings.Join(sortedNames(allowed), ", ")
	if text == "" {
		if len(allowed) != 1 {
			return eth.Address{}, usage("one of "+names, "--withdrawal-address is missing and the settings allow several")
		}
		for _, address := range allowed {
			return address, nil
		}
	}
	if address, ok := allowed[text]; ok {
		return address, nil
	}
	address, err := eth.ParseAddress(text)
	if err != nil {
		return address, usage("a name ("+names+") or an address with its checksum", "--withdrawal-address: %w", err)
	}
	if _, ok := h.generator.AddressName(address); !ok && approval == "" {
		return address, usage("the settings allow "+names+"; another address goes into withdrawal_addresses of generator.yaml and of trust.yaml first",
			"the withdrawal address %v is not allowed by generator.yaml", address)
	}
	return address, nil
}

// parsePlan reads "1,31"; "" is the network's full deposit.
func parsePlan(n eth.Network, text string, c eth.Credentials) ([]eth.Gwei, error) {
	if text == "" {
		return []eth.Gwei{n.MinActivation}, nil
	}
	var plan []eth.Gwei
	var sum eth.Gwei
	for part := range strings.SplitSeq(text, ",") {
		amount, err := eth.ParseEther(strings.TrimSpace(part), n)
		if err == nil {
			err = eth.CheckAmount(n, c, amount)
		}
		if err != nil {
			return nil, usage("amounts in "+n.Unit()+", such as 32 or 1,31", "--plan: %w", err)
		}
		plan, sum = append(plan, amount), sum+amount
	}
	if err := eth.CheckAmount(n, c, sum); err != nil {
		return nil, usage("0x01 validators hold up to 32, --compounding ones up to 2048", "--plan, summed: %w", err)
	}
	return plan, nil
}

// confirmOrder shows what is about to happen and asks.
func (a *app) confirmOrder(h *home, q birth.Request, ask bool) error {
	name, ok := h.generator.AddressName(q.WithdrawalAddress)
	if !ok {
		name = "approved, " + approvalName(q.Approval)
	}
	kind := "0x01"
	if q.Compounding {
		kind = "0x02, compounding"
	}
	var amounts []string
	for _, amount := range q.Plan {
		amounts = append(amounts, amount.Ether(h.generator.Network))
	}
	t := newTable(a.err)
	t.row("  network", h.generator.Network.Name)
	t.row("  time", a.now().UTC().Format(time.RFC3339))
	t.row("  validators", fmt.Sprint(q.Count))
	t.row("  withdrawals to", fmt.Sprintf("%v (%s; %s)", q.WithdrawalAddress, name, kind))
	t.row("  deposits of", strings.Join(amounts, " then ")+" "+h.generator.Network.Unit()+" each")
	t.row("  keystore", q.Keystore)
	if h.cloud != nil {
		t.row("  made by", h.operator.Function.String())
	}
	signing, recovery, err := h.generator.SealTo(parseRecipient)
	if err != nil {
		return err
	}
	for _, list := range []struct {
		what string
		to   *seal.Recipients
	}{{"  signing keys to", signing}, {"  mnemonics to", recovery}} {
		for _, n := range list.to.Names() {
			t.row(list.what, n.Name+"  "+keyText(n.Recipient.String()))
		}
	}
	if err := t.flush(); err != nil {
		return err
	}
	if !ask {
		return nil
	}
	return a.confirm("Make these keys?")
}

// reportOrder prints the receipt.
func (a *app) reportOrder(h *home, v *certificate.VerifiedReceipt, envelope []byte, took time.Duration) error {
	if a.json {
		return a.object(struct {
			Schema  string              `json:"schema"`
			Receipt certificate.Receipt `json:"receipt"`
			Signed  jsonRaw             `json:"signed"`
		}{"stakeseal/receipt/v1", v.Receipt, envelope})
	}
	const most = 20
	t := newTable(a.out, "INDEX", "PUBKEY", "MNEMONIC")
	for i, validator := range v.Receipt.Validators {
		if i == most {
			break
		}
		t.row(fmt.Sprint(validator.Index), validator.Pubkey.String(), validator.Mnemonic)
	}
	if err := t.flush(); err != nil {
		return err
	}
	if more := len(v.Receipt.Validators) - most; more > 0 {
		a.say("and %d more: stakeseal list --order %s", more, v.Receipt.Order)
	}
	a.say("%d validators made, sealed, certified and archived in %s; the receipt is signed by %s", len(v.Receipt.Validators), took.Round(100*time.Millisecond), v.Key)
	flag := a.homeWords(h)
	a.say("next: stakeseal recovery drill%s --order %s --identity RECOVERY_IDENTITY_FILE", flag, v.Receipt.Order)
	a.say("then: stakeseal deposit export%s --order %s --out DIR", flag, v.Receipt.Order)
	return nil
}

// homeWords is the flag that chooses the home, for commands to copy.
func (a *app) homeWords(h *home) string { return a.homeFlagFor(h.generator.Network.Name, h.dir) }

func (a *app) homeFlagFor(network, dir string) string {
	if a.homeFlag != "" {
		return " --home " + shellWord(a.homeFlag)
	}
	if data, err := dataDir(); err != nil || dir != filepath.Join(data, network) {
		return " --home " + shellWord(dir) // found alone, under a name of its own
	}
	return " --network " + network
}
