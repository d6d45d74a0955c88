package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/eth/duty"
	"github.com/stakeseal/stakeseal/eth/exit"
	"github.com/stakeseal/stakeseal/internal/beacon"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
	"github.com/stakeseal/stakeseal/signer"
)

func (a *app) exitVerb() *cobra.Command {
	cmd := &cobra.Command{Use: "exit", Short: "Sign, submit and watch voluntary exits", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(a.exitSignVerb(), a.exitSubmitVerb(), a.exitStatusVerb())
	return cmd
}

type exitFlags struct {
	selection
	chain  chainFlags
	url    string
	token  string
	ca     string
	out    string
	sealTo []string
	root   string
	epoch  uint64
	given  bool // epoch was
}

func (a *app) exitSignVerb() *cobra.Command {
	var f exitFlags
	cmd := &cobra.Command{
		Use:   "sign --signer-url URL --token FILE --out DIR (PUBKEY[=INDEX] | @FILE | --order ID | --signer NAME)...",
		Short: "Have voluntary exits signed by a running signer",
		Long: `Have a voluntary exit of each selected validator signed by the signer that serves
it, verify the signature, and write it as a file that beacon nodes take: exit
submit sends it. INDEX is the validator's index on the chain; beacon nodes (those
of --beacon, or of home.yaml) tell it, and one that is given must be theirs.

Whoever has such a file can end the validator, at any later time: exits are signed
under the Capella fork version for ever (EIP-7044). --seal-to writes age files,
which only its recipients open, and nothing in the clear. The client that the token
stands for must have been granted VOLUNTARY_EXIT in the signer's settings.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.given, f.words = cmd.Flags().Changed("epoch"), args
			return a.exitSign(cmd.Context(), f)
		},
	}
	f.selectors(cmd)
	f.chain.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.url, "signer-url", "http://"+defaultListen, "the signer's `URL`")
	flags.StringVar(&f.token, "token", "", "the `FILE` with the token of a client that may have exits signed")
	flags.StringVar(&f.ca, "ca", "", "the `FILE` with the certificate of the signer, or of who signed it (PEM)")
	flags.StringVarP(&f.out, "out", "o", "", "the `DIR` for the files; it must exist")
	flags.StringArrayVar(&f.sealTo, "seal-to", nil, "write age files for a recipient: its `NAME` in the home's settings, or a file of its key; repeat for several, of whom any one opens")
	flags.Uint64Var(&f.epoch, "epoch", 0, "valid from `EPOCH` on (default: the current one)")
	flags.StringVar(&f.root, "genesis-validators-root", "", "the `ROOT` of a network whose root is not known here (ephemery, custom ones; default: what the beacon nodes say)")
	return cmd
}

// exiting is a validator that shall exit.
type exiting struct {
	chosen
	index uint64 // on the chain
	life  *beacon.Life
}

// owner is who the balance goes to, as the chain has it where that was asked.
func (v exiting) owner() eth.Credentials {
	if v.life != nil {
		return v.life.Credentials
	}
	return v.Credentials
}

func (a *app) exitSign(ctx context.Context, f exitFlags) error {
	if f.out == "" {
		return usage("for example --out exits", "--out is missing")
	}
	if f.empty() {
		return usage("for example --order ID or a PUBKEY", "say which validators")
	}
	if err := a.canConfirm(); err != nil {
		return err
	}
	ask, err := newSignerClient(f)
	if err != nil {
		return err
	}
	defer ask.token.Wipe()
	h, err := a.openHome(ctx)
	if err != nil {
		return err
	}
	defer h.close()
	to, err := h.letterTo(f.sealTo)
	if err != nil {
		return err
	}
	network, err := exitNetwork(h.generator.Network, f.root)
	if err != nil {
		return err
	}
	nodes, err := a.nodes(network, h, f.chain)
	if err != nil {
		return err
	}
	list, err := h.exiting(ctx, f.selection)
	if err != nil {
		return err
	}
	if nodes != nil {
		var moment beacon.Moment
		if list, moment, err = a.onChain(ctx, nodes, &f, list); err != nil {
			return err
		}
		if !f.given {
			f.epoch = moment.Epoch
		}
		network.GenesisValidatorsRoot, network.HasGenesisValidatorsRoot = moment.GenesisValidatorsRoot, true
	} else if err := f.offline(network, list, a.now()); err != nil {
		return err
	}
	if err := a.showExiting(network, list); err != nil {
		return err
	}
	a.sayLeftIn(f.out, "", "a signed exit")
	if to != nil {
		for _, r := range to.Names() {
			a.say("sealed to %s: %s", r.Name, keyText(r.String()))
		}
	}
	if err := a.confirm(fmt.Sprintf("Sign exits of these %d validators on %s, valid from epoch %d on? An exit cannot be taken back.", len(list), network.Name, f.epoch)); err != nil {
		return err
	}
	for i, v := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := a.exitOne(ctx, h, network, ask, f, to, v); err != nil {
			return fmt.Errorf("the exit of %v (%d of %d were signed before it): %w", v.Pubkey, i, len(list), err)
		}
	}
	if to != nil {
		a.say("%d exits are signed; who opens the files in %s can end these validators", len(list), f.out)
		return nil
	}
	a.say("%d exits are signed; whoever has the files in %s can end these validators", len(list), f.out)
	return nil
}

// exitNetwork is the network that exits are signed for, with the genesis
// validators root that was given, where it has none.
func exitNetwork(n eth.Network, given string) (eth.Network, error) {
	if given == "" {
		return n, nil
	}
	root, err := genesisRoot(n, given)
	n.GenesisValidatorsRoot, n.HasGenesisValidatorsRoot = root, true
	return n, err
}

// offline sees to it that all is known that nobody was asked for.
func (f *exitFlags) offline(n eth.Network, list []exiting, now time.Time) error {
	for _, v := range list {
		if v.index == exit.FarFuture {
			return usage("write PUBKEY=INDEX, or name a beacon node that tells it: --beacon URL, or beacon in home.yaml", "the validator %v has no index", v.Pubkey)
		}
	}
	if !n.HasGenesisValidatorsRoot {
		_, err := genesisRoot(n, "")
		return err
	}
	if f.given {
		return nil
	}
	var known bool
	if f.epoch, known = signer.EpochAt(n, now.Unix()); !known {
		return usage("a node of the network tells: name it with --beacon, or give --epoch", "the current epoch of %s is not known here", n.Name)
	}
	return nil
}

// onChain gives each validator what the chain knows of it. One that is named
// and cannot exit is an error; a wider selection leaves those out.
func (a *app) onChain(ctx context.Context, nodes *beacon.Chain, f *exitFlags, list []exiting) ([]exiting, beacon.Moment, error) {
	pubkeys := make([]eth.Pubkey, len(list))
	for i, v := range list {
		pubkeys[i] = v.Pubkey
	}
	lives, moment, err := nodes.Lives(ctx, pubkeys)
	if err != nil {
		return nil, moment, fmt.Errorf("couldn't learn the validators' indexes: %w", err)
	}
	if err := afterDeneb(moment); err != nil {
		return nil, moment, err
	}
	var able []exiting
	for _, v := range list {
		life, known := lives[v.Pubkey]
		var why error
		switch {
		case !known:
			why = fail(exitConflict, "stakeseal deposit status shows whether it is queued", "%v is not a validator on the chain", v.Pubkey)
		case leaves(life):
			why = fail(exitConflict, "stakeseal exit status shows it", "%v is on its way out, or has left: %s", v.Pubkey, life.Status)
		case v.index != exit.FarFuture && v.index != life.Index:
			return nil, moment, fail(exitRefused, "leave the index out", "%v is validator %d on the chain, not %d", v.Pubkey, life.Index, v.index)
		}
		if why != nil && len(f.words) > 0 {
			return nil, moment, why
		}
		if why != nil {
			a.say("left out: %v", why)
			continue
		}
		v.index, v.life = life.Index, &life
		able = append(able, v)
	}
	if len(able) == 0 {
		return nil, moment, fail(exitConflict, "stakeseal exit status shows why", "none of the %d selected validators can exit", len(list))
	}
	return able, moment, nil
}

// afterDeneb refuses exits on a chain on which ours do not count yet: until
// Deneb an exit is judged under the fork version of its own epoch, from then
// on under Capella's (EIP-7044), which is the only one that is signed here.
func afterDeneb(m beacon.Moment) error {
	if m.Epoch >= m.Deneb {
		return nil
	}
	when := "which has no date yet"
	if at, ok := m.Time(m.Deneb); ok {
		when = "at " + at.Format(time.RFC3339)
	}
	return fail(exitRefused, "wait for the fork", "exits are signed under the Capella fork version, which counts from Deneb on, %s", when)
}

// leaves says that a validator has an exit already.
func leaves(l beacon.Life) bool {
	switch l.Status {
	case deposit.PendingInitialized, deposit.PendingQueued, deposit.ActiveOngoing:
		return l.Exit != exit.FarFuture
	}
	return true
}

// showExiting prints what is about to be ended, and where its money goes.
func (a *app) showExiting(n eth.Network, list []exiting) error {
	t := newTable(a.err, "INDEX", "PUBKEY", "STATUS", "BALANCE", "WITHDRAWS TO")
	for _, v := range list {
		status, balance := "not asked", "-"
		if v.life != nil {
			status, balance = string(v.life.Status), v.life.Balance.Ether(n)
		}
		t.row(fmt.Sprint(v.index), v.Pubkey.String(), status, balance, ownerText(v.owner()))
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, v := range list {
		if v.life == nil {
			continue
		}
		here, known := v.Credentials.Address()
		there, ok := v.life.Credentials.Address()
		switch {
		case !ok:
			a.say("warning: %d has BLS withdrawal credentials: its balance stays locked until they are changed to an address", v.index)
		case known && here != there:
			a.say("warning: the balance of %d goes to %s, not to %s as it was made: somebody else deposited for it first", v.index, there, here)
		}
	}
	return nil
}

func ownerText(c eth.Credentials) string {
	if address, ok := c.Address(); ok {
		return address.String()
	}
	if c == (eth.Credentials{}) {
		return "not known"
	}
	return c.String()
}

// exiting is what is selected, with the index of each that is named as
// PUBKEY=INDEX, and exit.FarFuture, which is none, for the others.
func (h *home) exiting(ctx context.Context, s selection) ([]exiting, error) {
	given, indexes := map[string]uint64{}, map[uint64]string{}
	words := make([]string, len(s.words))
	for i, arg := range s.words {
		word, number, ok := strings.Cut(arg, "=")
		words[i] = word
		if !ok || strings.HasPrefix(arg, "@") {
			words[i] = arg
			continue
		}
		index, err := strconv.ParseUint(number, 10, 64)
		if err != nil || index == exit.FarFuture {
			return nil, usage("PUBKEY=INDEX, the index that a node shows for the validator", "%q has no index", short(arg))
		}
		prefix := digits(word)
		if other, twice := indexes[index]; twice && other != prefix {
			return nil, usage("each validator has an index of its own", "index %d is given twice", index)
		}
		if other, twice := given[prefix]; twice && other != index {
			return nil, usage("", "%s has two indexes", short(word))
		}
		given[prefix], indexes[index] = index, prefix
	}
	s.words, s.foreign = words, true
	var list []exiting
	for c, err := range h.validators(ctx, &s) {
		if err != nil {
			return nil, err
		}
		v := exiting{chosen: c, index: exit.FarFuture}
		for prefix, index := range given { // each is one validator's: named saw to it
			if !strings.HasPrefix(c.Pubkey.Hex(), prefix) {
				continue
			}
			if v.index != exit.FarFuture && v.index != index {
				return nil, usage("", "%v has two indexes", c.Pubkey)
			}
			v.index = index
		}
		list = append(list, v)
	}
	return list, nil
}

// letterTo reads whom to seal to: recipients of the home by their names, or
// files. nil: nobody was named.
func (h *home) letterTo(words []string) (*seal.Recipients, error) {
	var list []seal.Named
	for _, word := range words {
		named := seal.Named{Name: word}
		data := h.recipientFile(word)
		if data == nil {
			var err error
			if data, err = readBounded(word, 64<<10); errors.Is(err, fs.ErrNotExist) {
				return nil, usage("a recipient that generator.yaml seals to, or a file of its public key (age1...)", "--seal-to %q is neither a recipient of this home nor a file", short(word))
			} else if err != nil {
				return nil, err
			}
			named.Name = strings.ToLower(strings.TrimSuffix(filepath.Base(word), filepath.Ext(word)))
		}
		r, err := parseRecipient(data)
		if err != nil {
			return nil, usage("a file of one public key (age1...), as stakeseal identity new writes it", "--seal-to %s: %w", printable(word), err)
		}
		named.Recipient = r
		list = append(list, named)
	}
	if len(list) == 0 {
		return nil, nil
	}
	to, err := seal.NewRecipients(seal.Recovery, list...)
	if err != nil {
		return nil, usage("", "--seal-to: %w", err)
	}
	// That it can be done is known before a signer is asked.
	if _, err := to.Letter([]byte("{}")); err != nil {
		return nil, usage("a key that age knows by itself", "--seal-to: %w", err)
	}
	return to, nil
}

// recipientFile is the file of a recipient that the settings name.
func (h *home) recipientFile(name string) []byte {
	for _, f := range slices.Concat(h.generator.Signing, h.generator.Recovery) {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

// exitOne has one exit signed, believes nothing of the answer, and writes it.
func (a *app) exitOne(ctx context.Context, h *home, network eth.Network, ask *signerClient, f exitFlags, to *seal.Recipients, v exiting) error {
	message := exit.Message{Epoch: f.epoch, Index: v.index}
	name := fmt.Sprintf("exit-%d-%s.json", v.index, v.Pubkey.Hex()[:12])
	if to != nil {
		name += ".age"
	}
	path := filepath.Join(f.out, name)
	if _, err := os.Lstat(path); err == nil { // before somebody signs and notes it
		return fmt.Errorf("%s: %w", printable(path), fs.ErrExist)
	}
	version := network.ExitForkVersion.String()
	body, err := json.Marshal(map[string]any{
		"type":           duty.VoluntaryExit,
		"voluntary_exit": map[string]string{"epoch": fmt.Sprint(message.Epoch), "validator_index": fmt.Sprint(message.Index)},
		"fork_info": map[string]any{
			"fork":                    map[string]string{"previous_version": version, "current_version": version, "epoch": "0"},
			"genesis_validators_root": network.GenesisValidatorsRoot,
		},
	})
	if err != nil {
		return err
	}
	root, known := message.SigningRoot(network)
	if !known {
		return fmt.Errorf("the genesis validators root of %s is not known", network.Name)
	}
	signature, err := ask.sign(ctx, v.Pubkey, body)
	if err != nil {
		return err
	}
	if !bls.Verify(bls.Claim{Pubkey: v.Pubkey, Root: root, Signature: signature}) {
		return fail(exitRefused, "is the URL that of the signer?", "what the signer answered is not its signature")
	}
	detail := map[string]string{"epoch": fmt.Sprint(message.Epoch), "validator_index": fmt.Sprint(message.Index)}
	var sealedTo []string
	if to != nil {
		for _, r := range to.Names() {
			sealedTo = append(sealedTo, r.Name)
		}
		detail["sealed_to"] = strings.Join(sealedTo, ",")
	}
	// Noted before it is written: a file that exists is one that is known of.
	if err := h.note(ctx, record.Event{Time: record.Time(a.now()), Kind: eventExitSigned, Order: v.Order, Pubkey: v.Pubkey, Detail: detail}); err != nil {
		return err
	}
	if err := writeExit(path, exit.Signed{Message: message, Signature: signature}, to); err != nil {
		return err
	}
	if !a.json {
		return nil
	}
	return a.object(struct {
		Schema   string     `json:"schema"`
		Pubkey   eth.Pubkey `json:"pubkey"`
		Index    uint64     `json:"validator_index"`
		Epoch    uint64     `json:"epoch"`
		File     string     `json:"file"`
		SealedTo []string   `json:"sealed_to,omitempty"`
	}{"stakeseal/exit/v1", v.Pubkey, v.index, f.epoch, path, sealedTo})
}

// writeExit writes a signed exit, in the clear only if nobody is named that it
// is sealed to.
func writeExit(path string, s exit.Signed, to *seal.Recipients) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	defer func() { secret.Wipe(data) }()
	data = append(data, '\n')
	if to == nil {
		return writeNew(path, data, 0o600)
	}
	file, err := to.Letter(data)
	if err != nil {
		return err
	}
	return writeNew(path, file, 0o600)
}

// Kinds of events about exits.
const (
	eventExitSigned    = "exit-signed"
	eventExitSubmitted = "exit-submitted" // noted before it is sent
	eventExitNotTaken  = "exit-not-taken" // no node took it
)

// signerClient asks a running signer.
type signerClient struct{ *remote }

func newSignerClient(f exitFlags) (*signerClient, error) {
	r, err := newRemote(remoteFlags{flag: "--signer-url", url: f.url, token: f.token, ca: f.ca, wait: 30 * time.Second})
	return &signerClient{r}, err
}

// sign returns the signature that the signer answers.
func (c *signerClient) sign(ctx context.Context, pubkey eth.Pubkey, body []byte) (s eth.Signature, err error) {
	status, data, err := c.ask(ctx, http.MethodPost, body, 4096, "api/v1/eth2/sign", pubkey.String())
	if err != nil {
		return s, fail(exitRemote, "is the signer running, and the URL right?", "couldn't ask the signer: %w", err)
	}
	text := string(bytes.TrimSpace(data))
	switch status {
	case http.StatusOK:
		if err := s.UnmarshalText([]byte(text)); err != nil {
			return s, fail(exitRemote, "is the URL that of the signer?", "the signer's answer: %w", err)
		}
		return s, nil
	case http.StatusUnauthorized, http.StatusForbidden:
		return s, fail(exitDenied, "signers/NAME.yaml grants it: operations: [VOLUNTARY_EXIT]", "the signer refuses: %q", text)
	case http.StatusNotFound:
		return s, fail(exitDenied, "stakeseal list shows who it is assigned to", "the signer does not serve the key: %q", text)
	}
	return s, fail(exitRemote, "", "the signer answers %d: %q", status, text)
}
