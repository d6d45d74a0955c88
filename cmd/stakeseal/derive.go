package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/check"
	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/keygen"
	"github.com/stakeseal/stakeseal/keygen/mnemonic"
	"github.com/stakeseal/stakeseal/secret"
)

type deriveFlags struct {
	mnemonic    string
	passphrase  string
	language    string
	start       uint32
	count       uint32
	address     string
	bls         bool
	compounding bool
	amount      string
	kdf         string
	password    string
	out         string
	anyAddress  bool
	workers     int
}

func (a *app) deriveVerb() *cobra.Command {
	var f deriveFlags
	cmd := &cobra.Command{
		Use:   "derive --network NAME --count N --withdrawal-address ADDRESS --out DIR",
		Short: "Make keystores and deposits of an existing mnemonic",
		Long: `Make the keystores and the deposit data of a mnemonic that exists already, the
same that the deposit CLI makes of it: pubkeys, credentials, signatures and
roots agree byte for byte. It needs no home and no network connection. What it
makes is kept by you, not sealed; stakeseal generate makes keys that nobody saw.

The mnemonic is read from --mnemonic-file ("-" reads the standard input), or
asked for on a terminal, and never shown. Either every file is written, or none.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.derive(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.mnemonic, "mnemonic-file", "", "the `FILE` with the mnemonic, or - (default: asked for)")
	flags.StringVar(&f.passphrase, "passphrase-file", "", "the `FILE` with the BIP-39 passphrase of the mnemonic, if it has one: with another the keys are others")
	flags.StringVar(&f.language, "language", "", "the `LANGUAGE` of the mnemonic (default: found out)")
	flags.Uint32Var(&f.start, "start-index", 0, "begin with key index `I`")
	flags.Uint32VarP(&f.count, "count", "n", 0, "make `N` validators")
	flags.StringVar(&f.address, "withdrawal-address", "", "the `ADDRESS` that rewards and stake go back to")
	flags.BoolVar(&f.bls, "bls-withdrawal", false, "0x00 credentials: the withdrawal key is derived from the mnemonic too")
	flags.BoolVar(&f.compounding, "compounding", false, "0x02 credentials (EIP-7251): rewards stay, up to 2048 ETH")
	flags.StringVar(&f.amount, "amount", "", "the `ETH` of each deposit (default: the network's full deposit)")
	flags.StringVar(&f.kdf, "kdf", string(keystore.Scrypt), "the `KDF` by which the password protects a keystore: scrypt, or pbkdf2 for a long random password")
	flags.StringVar(&f.password, "password-file", "", "the `FILE` with the password of the keystores (default: asked for)")
	flags.StringVarP(&f.out, "out", "o", "", "the `DIR` for the files, new or empty")
	flags.BoolVar(&f.anyAddress, "allow-known-bad-address", false, "accept an address that nobody is known to control: what is paid there may be lost")
	workersFlag(cmd, &f.workers)
	return cmd
}

func (a *app) derive(ctx context.Context, f deriveFlags) error {
	n, err := a.needNetwork()
	if err != nil {
		return err
	}
	a.say("%s, no home", n.Name)
	spec, err := f.spec(a, n)
	if err != nil {
		return err
	}
	if f.mnemonic == "-" && f.password == "" && !a.terminal {
		return usage("a file with the password of the keystores, in one line", "--password-file is missing")
	}
	if err := check.KnownAnswers(); err != nil {
		return err
	}
	out, err := newOutFolder(f.out)
	if err != nil {
		return err
	}
	defer out.discard()
	a.sayLeft(out)
	seed, err := a.seed(f)
	if err != nil {
		return err
	}
	defer seed.Wipe()
	password, err := a.password(f.password)
	if err != nil {
		return err
	}
	defer password.Wipe()
	if err := a.showDerive(n, f, spec); err != nil {
		return err
	}

	unix := a.now().Unix()
	made := make([]*check.Public, f.count)
	bar := a.progress(int64(f.count), "made")
	defer bar.done()
	jobs, err := newKeystoreJobs(seed, spec, password, bar)
	if err != nil {
		return err
	}
	defer jobs.wipe()
	indexes := make([]uint32, f.count)
	for i := range indexes {
		indexes[i] = f.start + uint32(i)
	}
	err = jobs.run(ctx, f.workers, indexes, func(p *check.Public, file []byte) error {
		if err := sameWithdrawalKey(seed, spec, p); err != nil {
			return err
		}
		made[p.Index-f.start] = p
		return out.write(keystore.FileName(p.Path, unix), file)
	})
	if err != nil {
		return err
	}
	depositFile := fmt.Sprintf("deposit_data-%d.json", unix)
	data, err := launchpadFile(n, made)
	if err != nil {
		return err
	}
	if err := out.write(depositFile, data); err != nil {
		return err
	}
	if err := out.place(); err != nil {
		return err
	}
	bar.done()
	return a.reportDerived(n, f, out.path, depositFile, unix, made)
}

// spec judges the flags before a secret is read.
func (f deriveFlags) spec(a *app, n eth.Network) (spec keygen.Spec, err error) {
	spec = keygen.Spec{Network: n, BLS: f.bls}
	if spec.KDF, err = parseKDF(f.kdf); err != nil {
		return spec, err
	}
	const most = 1 << 20
	if f.count == 0 || f.count > most {
		return spec, usage("say how many: --count 4", "--count is %d: use 1 to %d", f.count, most)
	}
	if uint64(f.start)+uint64(f.count) > 1<<31 {
		return spec, usage("", "--start-index %d and --count %d go beyond the largest key index, 2^31-1", f.start, f.count)
	}
	if err := checkWorkers(f.workers); err != nil {
		return spec, err
	}
	if f.language != "" && !slices.Contains(mnemonic.Languages(), mnemonic.Language(f.language)) {
		return spec, usage(fmt.Sprintf("one of %v", mnemonic.Languages()), "--language is %q", f.language)
	}
	switch {
	case f.bls && f.address != "":
		return spec, usage("", "--bls-withdrawal and --withdrawal-address exclude each other")
	case f.bls && f.compounding:
		return spec, usage("0x02 credentials need a --withdrawal-address", "--bls-withdrawal and --compounding exclude each other")
	case f.bls:
		spec.Credentials = eth.Credentials{eth.KindBLS}
	case f.address == "":
		return spec, usage("the address that rewards and the stake go back to; check it on the device that holds its key", "--withdrawal-address is missing")
	default:
		address, err := eth.ParseAddress(f.address)
		if err != nil {
			return spec, usage(addressHint(err), "--withdrawal-address: %w", err)
		}
		if why, bad := knownBad(n, address); bad {
			if !f.anyAddress {
				return spec, usage("--allow-known-bad-address takes it all the same", "--withdrawal-address %v: %s", address, why)
			}
			a.say("warning: %v: %s", address, why)
		}
		spec.Credentials = eth.ExecutionCredentials(address, f.compounding)
	}
	amount := n.MinActivation
	if f.amount != "" {
		if amount, err = eth.ParseEther(f.amount, n); err != nil {
			return spec, usage("an amount in ETH, such as 32", "--amount: %w", err)
		}
	}
	if err := eth.CheckAmount(n, spec.Credentials, amount); err != nil {
		return spec, usage("0x01 validators hold up to 32, --compounding ones up to 2048", "--amount: %w", err)
	}
	spec.Plan = []eth.Gwei{amount}
	return spec, nil
}

func parseKDF(text string) (keystore.KDF, error) {
	switch kdf := keystore.KDF(text); kdf {
	case keystore.PBKDF2, keystore.Scrypt:
		return kdf, nil
	}
	return "", usage("use scrypt, or pbkdf2 for a long random password", "--kdf is %q", text)
}

// seed reads the mnemonic and its passphrase. Nothing of them is in an error.
func (a *app) seed(f deriveFlags) (*secret.Bytes, error) {
	var words *secret.Bytes
	var err error
	switch {
	case f.mnemonic != "":
		words, err = a.readSecret(f.mnemonic, "mnemonic")
	case a.terminal:
		words, err = a.ask("mnemonic (it is not shown)")
	default:
		err = usage("a file with the words, or - for the standard input", "--mnemonic-file is missing")
	}
	if err != nil {
		return nil, err
	}
	defer words.Wipe()
	phrase, err := mnemonic.Parse(words, mnemonic.Language(f.language))
	if err != nil {
		hint := "compare each word with your copy; nothing was made"
		if errors.Is(err, mnemonic.ErrAmbiguous) {
			hint = "name it with --language"
		}
		return nil, usage(hint, "the mnemonic: %w", err)
	}
	defer phrase.Wipe()
	if f.language == "" {
		a.say("the mnemonic has %d words, %s", phrase.Words(), phrase.Language())
	}
	if f.passphrase == "" {
		return phrase.Seed(nil), nil
	}
	passphrase, err := a.readLine(f.passphrase, "passphrase")
	if err != nil {
		return nil, err
	}
	defer passphrase.Wipe()
	if err := mnemonic.CheckPassphrase(passphrase); err != nil {
		return nil, usage("", "the passphrase of the mnemonic: %w", err)
	}
	return phrase.Seed(passphrase), nil
}

// sameWithdrawalKey derives the withdrawal pubkey of 0x00 credentials anew
// from the seed: the check knows the credentials' kind, and a wrong rest
// would be noticed years later, when the stake cannot be withdrawn.
func sameWithdrawalKey(seed *secret.Bytes, spec keygen.Spec, p *check.Public) error {
	if !spec.BLS {
		return nil
	}
	key, err := bls.FromSeed(seed, fmt.Sprintf("m/12381/3600/%d/0", p.Index))
	if err != nil {
		return fmt.Errorf("couldn't derive the withdrawal key of index %d: %w", p.Index, err)
	}
	defer key.Wipe()
	if eth.BLSCredentials(key.Pubkey()) != p.Credentials {
		return fmt.Errorf("%w: index %d: the withdrawal credentials", check.ErrRefused, p.Index)
	}
	return nil
}

// launchpadFile is the deposit data of validators as the launchpad takes it.
func launchpadFile(n eth.Network, made []*check.Public) ([]byte, error) {
	var entries []deposit.Entry
	for _, p := range made {
		for _, d := range p.Deposits {
			entries = append(entries, deposit.Entry{Pubkey: p.Pubkey, Credentials: p.Credentials, Amount: d.Amount,
				Signature: d.Signature, MessageRoot: d.MessageRoot, DataRoot: d.DataRoot,
				ForkVersion: n.GenesisForkVersion, NetworkName: n.Name})
		}
	}
	var file bytes.Buffer
	if err := deposit.WriteFile(&file, entries); err != nil {
		return nil, err
	}
	return file.Bytes(), nil
}

// showDerive says what is about to be made. It does not ask: nothing of it
// binds anybody before a deposit is sent.
func (a *app) showDerive(n eth.Network, f deriveFlags, spec keygen.Spec) error {
	t := newTable(a.err)
	t.row("  time", a.now().UTC().Format(time.RFC3339))
	t.row("  key indexes", fmt.Sprintf("%d to %d (%d validators)", f.start, f.start+f.count-1, f.count))
	if address, ok := spec.Credentials.Address(); ok {
		kind := "0x01"
		if f.compounding {
			kind = "0x02, compounding"
		}
		t.row("  withdrawals to", fmt.Sprintf("%v (%s)", address, kind))
	} else {
		t.row("  withdrawals to", "a key of the mnemonic (0x00)")
	}
	t.row("  deposits of", deposit.Coins(n, spec.Plan[0])+" each")
	t.row("  keystores", string(spec.KDF))
	if err := t.flush(); err != nil {
		return err
	}
	if f.bls {
		a.say("warning: with 0x00 credentials the withdrawal key is derived from the mnemonic: who has the words has the stake, and nothing can be withdrawn before they are used once more to name an address")
	}
	return nil
}

func (a *app) reportDerived(n eth.Network, f deriveFlags, folder, depositFile string, unix int64, made []*check.Public) error {
	if a.json {
		type validator struct {
			Index       uint32          `json:"index"`
			Pubkey      eth.Pubkey      `json:"pubkey"`
			Path        string          `json:"path"`
			Credentials eth.Credentials `json:"withdrawal_credentials"`
			Keystore    string          `json:"keystore"`
		}
		list := make([]validator, len(made))
		for i, p := range made {
			list[i] = validator{p.Index, p.Pubkey, p.Path, p.Credentials, keystore.FileName(p.Path, unix)}
		}
		return a.object(struct {
			Schema      string      `json:"schema"`
			Network     string      `json:"network"`
			Folder      string      `json:"folder"`
			DepositData string      `json:"deposit_data"`
			Validators  []validator `json:"validators"`
		}{"stakeseal/derived/v1", n.Name, folder, depositFile, list})
	}
	t := newTable(a.out, "INDEX", "PUBKEY")
	for _, p := range made {
		t.row(fmt.Sprint(p.Index), p.Pubkey.String())
	}
	if err := t.flush(); err != nil {
		return err
	}
	a.say("%d keystores and %s are in %s; keep them and their password apart", len(made), depositFile, folder)
	address := ""
	if f.address != "" {
		address = " --withdrawal-address " + f.address
	}
	a.say("next: stakeseal deposit verify %s/%s --network %s%s", folder, depositFile, n.Name, address)
	return nil
}
