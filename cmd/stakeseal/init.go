package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/internal/folder"
	"github.com/stakeseal/stakeseal/internal/identity"
	"github.com/stakeseal/stakeseal/internal/keyfile"
	"github.com/stakeseal/stakeseal/internal/sqlite"
)

// initPlan is what a home is made from.
type initPlan struct {
	addresses   []string // [NAME=]ADDRESS
	recovery    []string // NAME=FILE
	signing     []string
	identities  string // where identities are made when recipients are not given
	anyAddress  bool
	oneRecovery bool
	maxPerOrder uint32
	keystore    string
	cloud       cloudPlan
}

func (a *app) initVerb() *cobra.Command {
	var p initPlan
	cmd := &cobra.Command{
		Use:   "init --network NAME --withdrawal-address [NAME=]ADDRESS",
		Short: "Make a home: settings, certifying key, store, recipients",
		Long: `Make a home for one network: generator.yaml (what the maker obeys), trust.yaml
(what a verifier believes), home.yaml (what you use), a certifying key, an empty
store and a folder for bundles.

Recipients are the public keys that secrets are sealed to. Give them as files
(--recovery anna=anna.txt, --signing signer-a=signer-a.txt) that were made where
their identities live, with stakeseal identity new. Those that you do not give
are made for you, with their identities in --identities; move these to where
they belong, away from this machine and from each other.

With --aws the home is for an installation on AWS (infra/README.md): tables,
bucket and keys are read from the outputs of its stacks, signing keys are sealed
to its KMS signing key, mnemonics to its KMS recovery key and to those that
--recovery gives. What these settings say goes into the next release. The
certifying key in trust.yaml is not taken from a stack: --certifying-key gives
what its administrator read (aws kms get-public-key), or its fingerprint is shown
to be compared.`,
		Example: `  stakeseal init --network hoodi --withdrawal-address 0xYOUR_ADDRESS
  stakeseal init --aws --stack NAME-foundation --region eu-central-1 --certifying-key certifying.der \
      --network hoodi --withdrawal-address cold=0xYOUR_ADDRESS --recovery anna=anna.txt`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.checkCloud(); err != nil {
				return err
			}
			if p.cloud.aws {
				return a.initCloud(cmd.Context(), p)
			}
			return a.initHome(p)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&p.addresses, "withdrawal-address", nil, "an `[NAME=]ADDRESS` that validators may pay to; repeat for several")
	f.StringArrayVar(&p.recovery, "recovery", nil, "a recovery recipient, `NAME=FILE`; any one of them opens mnemonics")
	f.StringArrayVar(&p.signing, "signing", nil, "a signing recipient, `NAME=FILE`; any one of them opens signing keys")
	f.StringVar(&p.identities, "identities", "", "the `DIR` for identities made here, outside the home")
	f.Uint32Var(&p.maxPerOrder, "max-validators-per-order", 1000, "the largest order, `N` validators")
	f.StringVar(&p.keystore, "keystore", "pbkdf2", "the `KIND` of keystore made at birth: pbkdf2, scrypt or none")
	f.BoolVar(&p.anyAddress, "allow-known-bad-address", false, "accept an address that nobody is known to control: what is paid there may be lost")
	f.BoolVar(&p.oneRecovery, "one-recovery-recipient", false, "accept a single recovery recipient on mainnet: losing that identity loses every mnemonic")
	f.BoolVar(&p.cloud.aws, "aws", false, "a home for an installation on AWS")
	f.StringVar(&p.cloud.stack, "stack", "", "with --aws: the `NAME-foundation` stack")
	f.StringVar(&p.cloud.region, "region", "", "with --aws: the `REGION` it stands in")
	f.StringVar(&p.cloud.function, "function-stack", "", "with --aws: the `NAME-function` stack (default: the one of that name, if it is there)")
	f.StringVar(&p.cloud.certifying, "certifying-key", "", "with --aws: the `FILE` with the certifying key's public half, PEM or DER")
	f.BoolVar(&p.cloud.noKMSRecovery, "no-kms-recovery", false, "with --aws: seal mnemonics only to those that --recovery gives")
	return cmd
}

// party is a recipient of the new home. made says that its identity was made
// here.
type party struct {
	name, purpose string
	file          []byte
	made          string // path of the identity, "" when the recipient was given
}

func (a *app) initHome(p initPlan) error {
	network, err := a.needNetwork()
	if err != nil {
		return err
	}
	dir, err := a.homeDir()
	if err != nil {
		return err
	}
	a.say("%s, home %s (new)", network.Name, dir)
	addresses, err := p.parseAddresses(a, network)
	if err != nil {
		return err
	}
	if err := mustNotExist(dir, "choose another --home; init never changes one that exists"); err != nil {
		return err
	}
	given, err := p.givenParties()
	if err != nil {
		return err
	}
	missing, err := p.missingParties(network, dir, given)
	if err != nil {
		return err
	}
	var key certificate.PublicKey
	var parties []party
	err = placeHome(dir, func(building string) (undo func() error, err error) {
		if key, err = keyfile.Create(filepath.Join(building, "certifier.key")); err != nil {
			return nil, err
		}
		made, remove, err := makeIdentities(missing)
		if err != nil {
			return nil, err
		}
		parties = append(given, made...)
		return remove, writeHome(building, network, addresses, parties, key, p)
	})
	if err != nil {
		return err
	}
	return a.reportHome(network, dir, addresses, parties, key, "stakeseal generate"+a.homeFlagFor(network.Name, dir)+" --count 1")
}

// placeHome has a home written beside its place and moves it there whole, so
// that a crash, a full disk or a bad recipient leaves no half of one. What
// write made elsewhere it takes back with undo, unless the home stands.
func placeHome(dir string, write func(building string) (undo func() error, err error)) (err error) {
	removeFolders, err := makeFolders(filepath.Dir(dir))
	if err != nil {
		return fmt.Errorf("couldn't make the home: %w", err)
	}
	defer func() {
		if err != nil {
			removeFolders() // those that are empty
		}
	}()
	building, err := os.MkdirTemp(filepath.Dir(dir), newPrefix)
	if err != nil {
		return fmt.Errorf("couldn't make the home: %w", err)
	}
	defer os.RemoveAll(building)
	undo, err := write(building)
	if err == nil {
		if err = os.Rename(building, dir); err != nil {
			err = fmt.Errorf("couldn't move the new home into place: %w", err)
		}
	}
	if err != nil && undo != nil {
		err = errors.Join(err, undo())
	}
	if err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(dir)); err != nil {
		return fmt.Errorf("couldn't make sure of the new home: %w", err)
	}
	return nil
}

// needNetwork is the network that --network names.
func (a *app) needNetwork() (eth.Network, error) {
	if a.networkFlag == "" {
		return eth.Network{}, usage("one of "+strings.Join(config.NetworkNames(), ", "), "--network is missing")
	}
	n, ok := eth.LookupNetwork(a.networkFlag)
	if !ok {
		return eth.Network{}, usage("one of "+strings.Join(config.NetworkNames(), ", "), "unknown network %q", a.networkFlag)
	}
	return n, nil
}

func mustNotExist(path, hint string) error {
	if _, err := os.Lstat(path); err == nil {
		return fail(exitConflict, hint, "%s is there already", path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("couldn't look whether it is there: %w", err)
	}
	return nil
}

func (p initPlan) parseAddresses(a *app, n eth.Network) (map[string]eth.Address, error) {
	if len(p.addresses) == 0 {
		return nil, usage("the address that rewards and the stake go back to; check it on the device that holds its key", "--withdrawal-address is missing")
	}
	out := map[string]eth.Address{}
	for _, text := range p.addresses {
		name, value, named := strings.Cut(text, "=")
		if !named {
			name, value = "main", text
			if len(p.addresses) > 1 {
				return nil, usage("write NAME=0x...", "with several withdrawal addresses each needs a name: %q has none", text)
			}
		}
		if err := config.CheckName("address", name); err != nil {
			return nil, usage("", "--withdrawal-address: %w", err)
		}
		address, err := eth.ParseAddress(value)
		if err != nil {
			return nil, usage(addressHint(err), "--withdrawal-address: %w", err)
		}
		if why, bad := knownBad(n, address); bad {
			if !p.anyAddress {
				return nil, usage("--allow-known-bad-address takes it all the same", "--withdrawal-address %v: %s", address, why)
			}
			a.say("warning: %v: %s", address, why)
		}
		if _, twice := out[name]; twice {
			return nil, usage("give each address a name of its own", "--withdrawal-address: the name %q occurs twice", name)
		}
		out[name] = address
	}
	return out, nil
}

// knownBad says why nobody can be meant to own an address: eth's list, and
// the network's own deposit contract.
func knownBad(n eth.Network, a eth.Address) (string, bool) {
	if a == n.DepositContract {
		return "it is the deposit contract of " + n.Name, true
	}
	return eth.KnownBad(a)
}

func addressHint(err error) string {
	if errors.Is(err, eth.ErrChecksum) {
		return "copy the address from the device or wallet that owns it, with its capital letters: they are its checksum"
	}
	return "an address is 0x and 40 hex digits"
}

func (p initPlan) givenParties() (given []party, err error) {
	for _, list := range []struct {
		purpose string
		flags   []string
	}{{"recovery", p.recovery}, {"signing", p.signing}} {
		for _, text := range list.flags {
			name, file, ok := strings.Cut(text, "=")
			if !ok {
				return nil, usage("write NAME=FILE", "--%s is %q", list.purpose, text)
			}
			if err := config.CheckName("recipient", name); err != nil {
				return nil, usage("", "--%s: %w", list.purpose, err)
			}
			data, err := readBounded(file, 1<<16)
			if err != nil {
				return nil, fmt.Errorf("couldn't read recipient %s: %w", name, err)
			}
			if _, err := parseRecipient(data); err != nil {
				return nil, usage("a recipient file holds one public key, age1..., as stakeseal identity new prints it", "recipient %s in %s: %w", name, file, err)
			}
			if slices.ContainsFunc(given, func(q party) bool { return q.name == name }) {
				return nil, usage("give each recipient a name of its own: who signs must not be able to open a mnemonic", "recipient %q is named twice", name)
			}
			given = append(given, party{name: name, purpose: list.purpose, file: data})
		}
	}
	return given, nil
}

// missingParties are the recipients to make: two for recovery and one for
// signing, where none was given.
func (p initPlan) missingParties(n eth.Network, dir string, given []party) ([]party, error) {
	count := map[string]int{}
	for _, q := range given {
		count[q.purpose]++
	}
	if n.Mainnet && count["recovery"] == 1 && !p.oneRecovery {
		return nil, usage("give a second --recovery, kept elsewhere; --one-recovery-recipient does without", "%s needs two recovery recipients: one lost identity must not lose every mnemonic", n.Name)
	}
	var missing []party
	if count["recovery"] == 0 {
		missing = append(missing, party{name: "recovery-a", purpose: "recovery"}, party{name: "recovery-b", purpose: "recovery"})
	}
	if count["signing"] == 0 {
		missing = append(missing, party{name: "signer-a", purpose: "signing"})
	}
	if len(missing) == 0 {
		return nil, nil
	}
	where := p.identities
	if where == "" {
		if n.Mainnet {
			return nil, usage("give --recovery and --signing files made elsewhere, or a folder on removable media with --identities", "on %s identities are made where you say: --identities is missing", n.Name)
		}
		where = dir + "-identities"
	}
	where, err := filepath.Abs(where)
	if err != nil {
		return nil, err
	}
	if inside(dir, where) {
		return nil, usage("choose a folder outside", "--identities %s is inside the home: whoever reads the home must not be able to open what is in it", where)
	}
	for i := range missing {
		missing[i].made = filepath.Join(where, missing[i].name+".identity")
		if err := mustNotExist(missing[i].made, "choose another --identities folder"); err != nil {
			return nil, err
		}
	}
	return missing, nil
}

// inside reports whether path is dir or below it.
func inside(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// makeFolders makes a folder and those above it. undo removes the ones that it
// made and that are still empty.
func makeFolders(dir string) (undo func(), err error) {
	var made []string
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(at); !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			break
		}
		made = append(made, at)
	}
	undo = func() {
		for _, at := range made { // the innermost first
			_ = os.Remove(at)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		undo()
		return nil, err
	}
	return undo, nil
}

// makeIdentities makes what missing names, in one folder. All of one home are
// of one kind, post-quantum, as age demands within a list.
func makeIdentities(missing []party) (_ []party, undo func() error, err error) {
	if len(missing) == 0 {
		return nil, func() error { return nil }, nil
	}
	removeFolders, err := makeFolders(filepath.Dir(missing[0].made))
	if err != nil {
		return nil, nil, fmt.Errorf("couldn't make the folder of the identities: %w", err)
	}
	made := 0
	undo = func() error {
		err := removeIdentities(missing[:made])
		removeFolders()
		return err
	}
	for i := range missing {
		recipient, file := identity.New(identity.PostQuantum)
		err := identity.WriteNew(missing[i].made, file, nil)
		file.Wipe()
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("couldn't make the identity of %s: %w", missing[i].name, err), undo())
		}
		made++
		missing[i].file = fmt.Appendf(nil, "# %s, %s\n%s\n", missing[i].name, missing[i].purpose, recipient)
	}
	return missing, undo, nil
}

// removeIdentities takes back identities that nothing was sealed to yet.
func removeIdentities(made []party) error {
	var errs []error
	for _, q := range made {
		errs = append(errs, os.Remove(q.made))
	}
	return errors.Join(errs...)
}

func writeHome(dir string, n eth.Network, addresses map[string]eth.Address, parties []party, key certificate.PublicKey, p initPlan) error {
	const stores = "certifier: file:certifier.key\nstore: sqlite:records.db\narchive: dir:bundles/\n"
	if err := writeSettings(dir, n, addresses, parties, certificate.TrustedKey{Name: "this-home", Key: key}, p, stores, homeText); err != nil {
		return err
	}
	store, err := sqlite.Create(filepath.Join(dir, "records.db"))
	if err != nil {
		return err
	}
	if err := store.Close(); err != nil {
		return err
	}
	if _, err := folder.Create(filepath.Join(dir, "bundles")); err != nil {
		return err
	}
	_, err = readBack(dir)
	return err
}

// writeSettings writes a home's three settings files and its recipients.
func writeSettings(dir string, n eth.Network, addresses map[string]eth.Address, parties []party, key certificate.TrustedKey, p initPlan, stores, home string) error {
	if err := os.Mkdir(filepath.Join(dir, "recipients"), 0o700); err != nil {
		return fmt.Errorf("couldn't make the home: %w", err)
	}
	names := map[string][]string{}
	files := map[string][]byte{}
	for _, q := range parties {
		names[q.purpose] = append(names[q.purpose], q.name)
		files["recipients/"+q.name+".txt"] = q.file
	}
	trust, err := certificate.FormatTrust(certificate.Trust{Network: n, Addresses: addresses, Keys: []certificate.TrustedKey{key}})
	if err != nil {
		return err
	}
	files[trustFile] = trust
	files[config.GeneratorFile] = generatorText(n, addresses, names, p, stores)
	files[config.HomeFile] = []byte(home)
	for name, data := range files {
		if err := writeNew(filepath.Join(dir, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// readBack reads what was written as the generator will, recipients and all,
// before the home stands.
func readBack(dir string) (*config.Generator, error) {
	g, err := config.LoadGenerator(os.DirFS(dir))
	if err != nil {
		return nil, err
	}
	if _, _, err := g.SealTo(parseRecipient); err != nil {
		return nil, fail(exitUsage, "recipients of one list are of one kind: stakeseal identity new, or --classic for all of them", "%w", err)
	}
	return g, nil
}
