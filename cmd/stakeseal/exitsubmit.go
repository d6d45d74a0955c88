package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/eth/exit"
	"github.com/stakeseal/stakeseal/internal/beacon"
	"github.com/stakeseal/stakeseal/record"
)

type submitFlags struct {
	chain    chainFlags
	identity identityFlags
	root     string
	count    int
}

func (a *app) exitSubmitVerb() *cobra.Command {
	var f submitFlags
	cmd := &cobra.Command{
		Use:   "submit (FILE | DIR)...",
		Short: "Verify signed exits and hand them to beacon nodes",
		Long: `Verify signed exits, show them, and hand them to beacon nodes (those of --beacon, or
of home.yaml). All are verified before one is sent: that the validator of the index
is one of this home, that its key signed under the network's rules, and that it has
been active for long enough. Of a DIR the files *.json and *.age are read;
--identity opens those that are sealed.

An exit cannot be taken back. One of a validator that is leaving already is not sent
again. One node that takes an exit is enough: it broadcasts it. Where there is real
money --count says how many exits are meant.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.exitSubmit(cmd.Context(), f, args) },
	}
	f.chain.add(cmd)
	flags := cmd.Flags()
	flags.StringArrayVarP(&f.identity.files, "identity", "i", nil, "the identity `FILE` that opens sealed exits")
	flags.StringArrayVar(&f.identity.plugins, "plugin", nil, "the absolute `PATH` of the age plugin that an identity on a hardware key needs")
	flags.IntVar(&f.count, "count", 0, "how many exits `N` are meant to be sent; nothing is sent if there are more or fewer")
	flags.StringVar(&f.root, "genesis-validators-root", "", "the `ROOT` of a network whose root is not known here (ephemery, custom ones; default: what the beacon nodes say)")
	return cmd
}

// submission is a signed exit on its way.
type submission struct {
	exit.Signed
	file string
	life beacon.Life
	ours chosen
}

func (a *app) exitSubmit(ctx context.Context, f submitFlags, args []string) error {
	if err := a.canConfirm(); err != nil {
		return err
	}
	h, err := a.openHome(ctx)
	if err != nil {
		return err
	}
	defer h.close()
	network, err := exitNetwork(h.generator.Network, f.root)
	if err != nil {
		return err
	}
	nodes, err := a.nodes(network, h, f.chain)
	if err != nil {
		return err
	}
	if nodes == nil {
		return usage("--beacon URL, or beacon in home.yaml", "no beacon node is named")
	}
	list, err := a.readExits(ctx, f.identity, args)
	if err != nil {
		return err
	}
	indexes := make([]uint64, len(list))
	for i, s := range list {
		indexes[i] = s.Message.Index
	}
	lives, moment, err := nodes.LivesOf(ctx, indexes)
	if err != nil {
		return fmt.Errorf("couldn't verify the exits: %w", err)
	}
	network.GenesisValidatorsRoot, network.HasGenesisValidatorsRoot = moment.GenesisValidatorsRoot, true
	due, gone, err := h.judgeExits(ctx, network, moment, lives, list)
	if err != nil {
		return err
	}
	for _, s := range gone {
		a.say("%d %v is %s already: nothing is sent", s.Message.Index, s.life.Pubkey, s.life.Status)
		if err := a.reportExit(s, "already", nil); err != nil {
			return err
		}
	}
	if f.count != 0 && f.count != len(due) {
		return fail(exitConflict, "look at the files and at stakeseal exit status", "%d exits would be sent, not %d", len(due), f.count)
	}
	if len(due) == 0 {
		return nil
	}
	if network.Mainnet && f.count == 0 {
		return usage(fmt.Sprintf("if you mean it: --count %d", len(due)), "%d exits would be sent on %s, and --count does not say so", len(due), network.Name)
	}
	rows := make([]exiting, len(due))
	for i, s := range due {
		rows[i] = exiting{s.ours, s.Message.Index, &s.life}
	}
	if err := a.showExiting(network, rows); err != nil {
		return err
	}
	if err := a.confirm(fmt.Sprintf("End these %d validators on %s? Nobody can take that back.", len(due), network.Name)); err != nil {
		return err
	}
	return a.sendExits(ctx, h, nodes, due)
}

// readExits reads files, those of folders, and what is sealed, each exit once.
func (a *app) readExits(ctx context.Context, f identityFlags, args []string) ([]submission, error) {
	var files []string
	for _, arg := range args {
		if !isFolder(arg) {
			files = append(files, arg)
			continue
		}
		entries, err := os.ReadDir(arg)
		if err != nil {
			return nil, err
		}
		before := len(files)
		for _, e := range entries {
			path := filepath.Join(arg, e.Name())
			if ext := filepath.Ext(path); ext != ".json" && ext != ".age" || strings.HasPrefix(e.Name(), ".") {
				continue
			}
			info, err := os.Stat(path)
			if err != nil {
				return nil, err
			}
			if info.Mode().IsRegular() { // the open of a pipe waits for whoever writes to it
				files = append(files, path)
			}
		}
		if len(files) == before {
			return nil, usage("signed exits are files *.json, sealed ones *.age", "%s has no exits", printable(arg))
		}
	}
	var keys []key
	var list []submission
	seen := map[uint64]exit.Signed{}
	for _, file := range files {
		data, err := readBounded(file, 128<<10)
		if err != nil {
			return nil, err
		}
		if bytes.HasPrefix(data, []byte("age-encryption.org/")) {
			if keys == nil {
				if keys, err = a.letterKeys(ctx, f); err != nil {
					return nil, fmt.Errorf("%s is sealed: %w", printable(file), err)
				}
			}
			if data, err = openLetter(ctx, keys, data); err != nil {
				return nil, fmt.Errorf("%s: %w", printable(file), err)
			}
		}
		s, err := exit.Parse(data)
		if err != nil {
			return nil, usage("one signed exit in a file, as exit sign, ethdo or a deposit tool writes it", "%s: %w", printable(file), err)
		}
		if other, twice := seen[s.Message.Index]; twice && other != s {
			return nil, usage("give one of them", "there are two exits of validator %d", s.Message.Index)
		} else if !twice {
			seen[s.Message.Index] = s
			list = append(list, submission{Signed: s, file: file})
		}
	}
	return list, nil
}

// letterKeys are the identities that open letters. A KMS key opens none: it
// asks for what a sealing is bound to, and a letter is bound to nothing.
func (a *app) letterKeys(ctx context.Context, f identityFlags) ([]key, error) {
	for _, file := range f.files {
		if _, kms, err := kmsLines(file); err != nil {
			return nil, err
		} else if kms {
			return nil, usage("exits are sealed to keys that age knows by itself", "a KMS key opens no exits")
		}
	}
	return a.keys(ctx, nil, f)
}

func openLetter(ctx context.Context, keys []key, file []byte) (text []byte, err error) {
	for _, k := range keys {
		opened, err := k.opener.Letter(ctx, file)
		if err == nil {
			defer opened.Wipe()
			return bytes.Clone(opened.Expose()), nil
		}
		if k == keys[len(keys)-1] {
			return nil, err
		}
	}
	return nil, errors.New("no identity was given")
}

// judgeExits holds every exit against the chain and the home. due are those to
// be sent, gone those whose validators are leaving anyway. All that is wrong
// is told at once, and then nothing is sent.
func (h *home) judgeExits(ctx context.Context, n eth.Network, m beacon.Moment, lives map[uint64]beacon.Life, list []submission) (due, gone []submission, err error) {
	if err := afterDeneb(m); err != nil {
		return nil, nil, err
	}
	var wrong []string
	for _, s := range list {
		refuse := func(format string, args ...any) {
			wrong = append(wrong, printable(s.file)+": "+fmt.Sprintf(format, args...))
		}
		life, ok := lives[s.Message.Index]
		if !ok {
			refuse("there is no validator %d on the chain", s.Message.Index)
			continue
		}
		root, _ := s.Message.SigningRoot(n)
		if !bls.Verify(bls.Claim{Pubkey: life.Pubkey, Root: root, Signature: s.Signature}) {
			refuse("the signature is not that of validator %d, %v, on %s", s.Message.Index, life.Pubkey, n.Name)
			continue
		}
		ours, err := h.which(ctx, life.Pubkey.Hex())
		if f := (*failure)(nil); errors.As(err, &f) && f.code == exitUsage {
			refuse("validator %d, %v, is none of this home", s.Message.Index, life.Pubkey)
			continue
		} else if err != nil {
			return nil, nil, err
		}
		s.life, s.ours = life, ours
		old, far := life.Activation+m.MinimumActive, life.Activation == exit.FarFuture
		switch {
		case leaves(life):
			gone = append(gone, s)
		case life.Status != deposit.ActiveOngoing || far:
			refuse("validator %d is %s: only an active one can exit", s.Message.Index, life.Status)
		case m.Epoch < old:
			refuse("validator %d has been active since epoch %d, and can exit from epoch %d on, %s", s.Message.Index, life.Activation, old, whenText(m.Rules, old))
		case m.Epoch < s.Message.Epoch:
			refuse("the exit of validator %d is valid from epoch %d on, %s", s.Message.Index, s.Message.Epoch, whenText(m.Rules, s.Message.Epoch))
		default:
			due = append(due, s)
		}
	}
	if len(wrong) > 0 {
		const most = 20
		if more := len(wrong) - most; more > 0 {
			wrong = append(wrong[:most], fmt.Sprintf("and %d more", more))
		}
		return nil, nil, fail(exitRefused, "nothing was sent; leave these files out", "%s", strings.Join(wrong, "\n"))
	}
	return due, gone, nil
}

// whenText is when an epoch begins.
func whenText(r beacon.Rules, epoch uint64) string {
	at, ok := r.Time(epoch)
	if !ok {
		return "which nobody lives to see"
	}
	return "which begins at " + at.Format(time.RFC3339)
}

// sendExits hands the exits to the nodes, one by one, and goes on where one
// is not taken: the others are meant as well.
func (a *app) sendExits(ctx context.Context, h *home, nodes *beacon.Chain, due []submission) error {
	sent, failed := 0, 0
	bar := a.progress(int64(len(due)), "sent")
	defer bar.done()
	for _, s := range due {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%d of %d exits were sent: %w", sent, len(due), err)
		}
		took, err := a.sendExit(context.WithoutCancel(ctx), h, nodes, s)
		if err != nil {
			return fmt.Errorf("%d of %d exits were sent: %w", sent, len(due), err)
		}
		if took {
			sent++
		} else {
			failed++
		}
		bar.step()
	}
	bar.done()
	a.say("%d of %d exits were sent", sent, len(due))
	a.readBack(ctx, nodes, due, failed)
	if failed > 0 {
		return fail(exitRemote, "the events say why (stakeseal show PUBKEY); the same command sends what is left", "%d exits were taken by no node", failed)
	}
	a.say("next: stakeseal exit status shows when they leave")
	return nil
}

// sendExit notes one exit and sends it: what may be on its way is known of. A
// note of one that was never sent does no harm; the chain tells.
func (a *app) sendExit(ctx context.Context, h *home, nodes *beacon.Chain, s submission) (took bool, err error) {
	detail := map[string]string{"epoch": fmt.Sprint(s.Message.Epoch), "validator_index": fmt.Sprint(s.Message.Index)}
	event := record.Event{Time: record.Time(a.now()), Kind: eventExitSubmitted, Order: s.ours.Order, Pubkey: s.life.Pubkey, Detail: detail}
	if err := h.note(ctx, event); err != nil {
		return false, err
	}
	outcome := nodes.Submit(ctx, s.Signed)
	var why []string
	for _, o := range outcome {
		if o.Err != nil {
			why = append(why, o.Err.Error())
			a.say("validator %d: %v", s.Message.Index, o.Err)
		}
	}
	if len(why) < len(outcome) {
		return true, a.reportExit(s, "submitted", outcome)
	}
	event.Kind, event.Time = eventExitNotTaken, record.Time(a.now())
	event.Detail = map[string]string{"epoch": detail["epoch"], "validator_index": detail["validator_index"], "why": clipTo(strings.Join(why, "; "), 200)}
	return false, errors.Join(h.note(ctx, event), a.reportExit(s, "not-taken", outcome))
}

func clipTo(text string, most int) string {
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// readBack says what became of the exits: a node may take one and lose it.
func (a *app) readBack(ctx context.Context, nodes *beacon.Chain, due []submission, failed int) {
	pool, err := nodes.InPool(ctx)
	if err != nil {
		a.say("warning: no node shows its pool, so that they are there was not read back: %v", err)
		return
	}
	seen := 0
	for _, s := range due {
		if pool[s.Message] {
			seen++
		}
	}
	a.say("%d are in the nodes' pools, waiting for a block", seen)
	if missing := len(due) - failed - seen; missing > 0 {
		a.say("warning: %d are not: look with stakeseal exit status in a few minutes, and submit again what is not leaving", missing)
	}
}

func (a *app) reportExit(s submission, result string, outcome []beacon.Submission) error {
	if !a.json {
		return nil
	}
	type node struct {
		Name  string `json:"name"`
		Error string `json:"error,omitempty"`
	}
	asked := []node{}
	for _, o := range outcome {
		n := node{Name: o.Node}
		if o.Err != nil {
			n.Error = o.Err.Error()
		}
		asked = append(asked, n)
	}
	return a.object(struct {
		Schema string         `json:"schema"`
		Pubkey eth.Pubkey     `json:"pubkey"`
		Index  uint64         `json:"validator_index"`
		Epoch  uint64         `json:"epoch"`
		File   string         `json:"file"`
		Result string         `json:"result"` // submitted, not-taken, already
		Status deposit.Status `json:"status"` // before
		Nodes  []node         `json:"nodes"`
	}{"stakeseal/exit-submission/v1", s.life.Pubkey, s.Message.Index, s.Message.Epoch, s.file, result, s.life.Status, asked})
}
