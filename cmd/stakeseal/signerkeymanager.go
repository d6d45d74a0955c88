package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/check"
	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/duty"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/signer"
	"github.com/stakeseal/stakeseal/slashing"
)

const (
	// keymanagerKind is the kind of source of what comes through the API.
	keymanagerKind = "keymanager"
	// throughKeymanagerAPI is who has a key that was deleted through the API:
	// whoever asked. No signer of ours serves it, and no selection of
	// unassigned keys finds it.
	throughKeymanagerAPI = external + "keymanager"
	eventManaged         = "key-managed"
)

// keymanager brings keys to a running signer and takes them away, for the
// keymanager API. It changes assignments as any operator's command does, and
// nothing that another signer has.
type keymanager struct {
	*loader
	into *importer
}

var _ signer.Keymanager = (*keymanager)(nil)

// manage gives a service its keymanager, if its settings grant somebody what
// that is for. On AWS a signer's role may neither import nor assign: there the
// service has none, and says so.
func (l *loader) manage(ctx context.Context, service *signer.Service, settings *signerSettings) error {
	var changers []string
	exits := false
	for _, e := range settings.Clients {
		c, err := e.client()
		if err != nil {
			return err
		}
		if slices.Contains(c.Rights, signer.ImportKeys) || slices.Contains(c.Rights, signer.DeleteKeys) {
			changers = append(changers, c.Name)
		}
		exits = exits || slices.Contains(c.Operations, duty.VoluntaryExit)
	}
	if exits && len(l.home.operator.Beacon) > 0 {
		chain, err := l.app.chain(l.to.Network, l.home, chainFlags{wait: exitWait})
		if err != nil {
			return err
		}
		service.Exits = &exitFacts{l, chain}
	}
	if len(changers) == 0 {
		return nil
	}
	if l.home.remote() {
		l.log.Warn("nobody can bring or take away keys through the keymanager API: on AWS keys come and go by their assignments only", "clients", strings.Join(changers, " "))
		return nil
	}
	into, err := l.app.newImporter(ctx, l.home)
	if err != nil {
		return err
	}
	service.Keymanager = &keymanager{l, into}
	l.log.Info("keys may be brought and taken away through the keymanager API", "clients", strings.Join(changers, " "))
	return nil
}

// Import implements signer.Keymanager. One password at a time is worked on, so
// that at most one core and 256 MiB are taken from signing.
func (m *keymanager) Import(ctx context.Context, c *signer.Client, keys []signer.Foreign, told map[eth.Pubkey]slashing.Mark) []signer.Outcome {
	outcomes := make([]signer.Outcome, len(keys))
	for i, k := range keys {
		pubkey, o := m.bring(ctx, c, k, told)
		outcomes[i] = o
		m.log.Info("a key was brought through the keymanager API", "client", c.Name, "pubkey", pubkey.String(), "status", string(o.Status), "why", o.Message)
	}
	return outcomes
}

func notTaken(format string, args ...any) signer.Outcome {
	return signer.Outcome{Status: signer.Failed, Message: fmt.Sprintf(format, args...)}
}

// internal is what a client hears of an error that may name places inside.
func (m *keymanager) internal(what string, err error) signer.Outcome {
	m.log.Error("the keymanager API couldn't "+what, "why", err.Error())
	return notTaken("couldn't %s: see the signer's log", what)
}

func (m *keymanager) bring(ctx context.Context, c *signer.Client, k signer.Foreign, told map[eth.Pubkey]slashing.Mark) (eth.Pubkey, signer.Outcome) {
	var none eth.Pubkey
	parsed, err := keystore.Parse(k.Keystore)
	if err != nil {
		return none, notTaken("%s", inOneLine(err))
	}
	named := parsed.Pubkey()
	if parsed.Costly() {
		return named, notTaken("its password takes more work to try than a running signer does: stakeseal import keystores")
	}
	if named != none { // before half a second is spent
		if _, o := m.free(ctx, c, named, told); o != nil {
			return named, *o
		}
	}
	n := m.home.generator.Network
	key, err := check.Imported(ctx, check.Foreign{Network: n, Pubkey: named, Keystore: k.Keystore, Password: k.Password})
	if errors.Is(err, check.ErrForeign) {
		return named, notTaken("%s", inOneLine(err))
	}
	if err != nil {
		return named, m.internal("open the keystore", err)
	}
	defer key.Wipe()
	pubkey := key.Pubkey()
	held, o := m.free(ctx, c, pubkey, told)
	if o != nil {
		return pubkey, *o
	}
	facts := record.Imported{Pubkey: pubkey, Network: n.Name, Path: key.Path(), Source: record.Source{Kind: keymanagerKind, Place: "signer " + m.name,
		Digest: record.DigestOf(k.Keystore), Detail: map[string]string{"client": c.Name}}}
	order, err := m.keep(ctx, key, facts)
	if errors.Is(err, errDiffers) {
		return pubkey, notTaken("%s", inOneLine(err))
	}
	if err != nil {
		return pubkey, m.internal("store the key", err)
	}
	mark, known := told[pubkey]
	if !known {
		return pubkey, m.give(ctx, c, pubkey, order, held, nil)
	}
	return pubkey, m.give(ctx, c, pubkey, order, held, &mark)
}

// free says whether a key may come to this signer: its assignment, or what the
// client hears instead.
func (m *keymanager) free(ctx context.Context, c *signer.Client, pubkey eth.Pubkey, told map[eth.Pubkey]slashing.Mark) (record.Assignment, *signer.Outcome) {
	refuse := func(o signer.Outcome) (record.Assignment, *signer.Outcome) { return record.Assignment{}, &o }
	if !c.Sees(pubkey) {
		return refuse(notTaken("client %q may not handle this key", c.Name))
	}
	if m.to.Keys.Has(pubkey) {
		return refuse(signer.Outcome{Status: signer.Duplicate, Message: "this signer has it, and its own history of it: nothing was changed"})
	}
	held, err := m.home.records.Assignment(ctx, pubkey)
	if err != nil && !errors.Is(err, record.ErrNotFound) {
		return refuse(m.internal("read the key's assignment", err))
	}
	_, known := told[pubkey]
	switch {
	case held.Signer == "", held.Signer == throughKeymanagerAPI:
	case held.Signer == m.name:
		// Perhaps its former signer has not let go of it: nothing that is said
		// here may stand in for that.
		return refuse(notTaken("it is assigned to this signer and not served yet: see the signer's log"))
	case strings.HasPrefix(held.Signer, external) && known: // that software's history comes with it
	case strings.HasPrefix(held.Signer, external):
		return refuse(notTaken("it was handed to %q: send what that signed for it along, as slashing_protection", held.Signer))
	default:
		return refuse(notTaken("signer %q of this home has it: stakeseal signer move --from %s --to %s", held.Signer, held.Signer, m.name))
	}
	return held, nil
}

// keep seals and stores a key, if it is not there, and says which order it is
// of. A key that was born here is in the store already, and stays what it is.
func (m *keymanager) keep(ctx context.Context, key *check.Importable, facts record.Imported) (order string, err error) {
	b, err := m.home.records.Birth(ctx, facts.Pubkey)
	if err == nil || !errors.Is(err, record.ErrNotFound) {
		return b.Order, err
	}
	if _, err := m.into.key(ctx, key, facts); err != nil {
		return "", err
	}
	// Not parted from the import by an interruption.
	return record.ImportedOrder, m.home.foreignNote(context.WithoutCancel(ctx), m.app.now(), facts)
}

// give assigns a key to this signer, takes what was signed before into the
// ledger, and serves it, in this order and with no look at the assignments in
// between: cut short after the first step, the next look raises a floor.
func (m *keymanager) give(ctx context.Context, c *signer.Client, pubkey eth.Pubkey, order string, held record.Assignment, told *slashing.Mark) signer.Outcome {
	m.one.Lock()
	defer m.one.Unlock()
	if err := ctx.Err(); err != nil {
		return notTaken("the time is over, or the client has gone: it is stored, and not assigned")
	}
	ctx = context.WithoutCancel(ctx)
	err := m.assignTo(ctx, c, pubkey, order, held, m.name, signer.Imported)
	if errors.Is(err, record.ErrStale) {
		return notTaken("somebody assigned it meanwhile")
	}
	if err != nil {
		return m.internal("assign the key", err)
	}
	now := record.Assignment{Pubkey: pubkey, Signer: m.name, Epoch: held.Epoch + 1}
	if told != nil {
		if err := m.admitTold(ctx, now, *told); err != nil {
			return m.internal("take the key's history", err)
		}
	}
	if err := m.open(ctx, []record.Assignment{now}); err != nil {
		return m.internal("open the key", err)
	}
	switch _, served := m.serving[pubkey]; {
	case !served:
		return notTaken("it is stored and assigned, and could not be opened here: see the signer's log")
	case told == nil && order == record.ImportedOrder:
		return signer.Outcome{Status: signer.Imported, Message: "no slashing_protection came for it: no attestation and no block is signed until what was signed before cannot conflict (about 13 minutes)"}
	}
	return signer.Outcome{Status: signer.Imported}
}

// admitTold takes what was signed for a key before an assignment into the ledger:
// what the client told, and what our own signers noted when they let go of it.
// A client can have an older file. Where a signer of ours may have had the key
// and no note says what it signed, a floor stands in for that.
func (m *keymanager) admitTold(ctx context.Context, now record.Assignment, mark slashing.Mark) error {
	mark.Pubkey = now.Pubkey
	accounted := map[string]bool{} // assignments of which it is known what was signed here
	had := map[string]string{}     // who had it, by assignment
	for e, err := range m.home.records.Events(ctx, record.EventQuery{Pubkey: now.Pubkey}) {
		switch {
		case err != nil:
			return err
		case e.Kind == eventReleased:
			noted, err := released(e)
			if err != nil {
				return err
			}
			mark = mark.Raise(noted)
			if at := e.Detail["assignment"]; had[at] == e.Detail["signer"] { // else of a time before the store was set back
				accounted[at] = true
			}
		case e.Kind == "assigned" && strings.HasPrefix(e.Detail["signer"], external), e.Kind == "exported-keystore":
			accounted[e.Detail["epoch"]] = true // nothing was signed here
		case e.Kind == "assigned":
			had[e.Detail["epoch"]] = e.Detail["signer"]
		}
	}
	for epoch := uint64(1); epoch < now.Epoch; epoch++ {
		if !accounted[fmt.Sprint(epoch)] {
			floor, err := m.floor(ctx, now, "a signer of this home had it before and left no note of what it signed")
			if err != nil {
				return err
			}
			mark = mark.Raise(floor)
			break
		}
	}
	epoch, err := m.epoch()
	if err != nil {
		return err
	}
	return m.ledger.Admit(ctx, epoch, []slashing.Admission{{Mark: mark, Assignment: now.Epoch}})
}

// assignTo moves an assignment on from what was looked at, and notes who asked.
func (m *keymanager) assignTo(ctx context.Context, c *signer.Client, pubkey eth.Pubkey, order string, held record.Assignment, to string, did signer.Status) error {
	v := chosen{Validator: record.Validator{Pubkey: pubkey, Order: order}}
	if err := m.app.assignOne(ctx, m.home, assigned{v, held.Epoch}, to); err != nil {
		return err
	}
	return m.home.note(ctx, record.Event{Time: record.Time(m.app.now()), Kind: eventManaged, Order: order, Pubkey: pubkey,
		Detail: map[string]string{"signer": m.name, "client": c.Name, "did": string(did), "assignment": fmt.Sprint(held.Epoch + 1)}})
}

// Delete implements signer.Keymanager. Every key has stopped signing before
// the first assignment is changed and the history is read.
func (m *keymanager) Delete(ctx context.Context, c *signer.Client, pubkeys []eth.Pubkey) ([]signer.Outcome, []slashing.Mark) {
	m.one.Lock()
	defer m.one.Unlock()
	ctx = context.WithoutCancel(ctx) // what has begun is answered, and the answer is only in the history
	admitted, err := m.ledger.Admitted(ctx)
	if err != nil {
		return slices.Repeat([]signer.Outcome{m.internal("read the ledger", err)}, len(pubkeys)), nil
	}
	for _, pubkey := range pubkeys {
		if c.Sees(pubkey) && m.to.Keys.Remove(pubkey) { // waits for what is under way
			delete(m.serving, pubkey)
		}
	}
	outcomes := make([]signer.Outcome, len(pubkeys))
	for i, pubkey := range pubkeys {
		outcomes[i] = m.takeAway(ctx, c, pubkey, admitted[pubkey])
	}
	// Noted before it is told: should the key come back, to whichever of our
	// signers and with whatever file, this is known of it.
	let := map[eth.Pubkey]uint64{}
	for i, pubkey := range pubkeys {
		if outcomes[i].Status == signer.Deleted {
			let[pubkey] = admitted[pubkey]
		}
	}
	err = m.home.release(ctx, m.app, m.ledger, let)
	var marks map[eth.Pubkey]slashing.Mark
	if err == nil {
		marks, err = m.marks(ctx)
	}
	if err != nil {
		o := m.internal("read the keys' history: they sign nothing more; ask again", err)
		for i := range outcomes {
			outcomes[i] = o
		}
		return outcomes, nil
	}
	var told []slashing.Mark
	seen := map[eth.Pubkey]bool{} // asked for twice, told once
	for i, pubkey := range pubkeys {
		mark, known := marks[pubkey]
		switch {
		case outcomes[i].Status == signer.NotActive && !known:
			outcomes[i].Status = signer.NotFound
		case known && (outcomes[i].Status == signer.Deleted || outcomes[i].Status == signer.NotActive):
			if !seen[pubkey] {
				told = append(told, mark)
			}
			seen[pubkey] = true
		}
		m.log.Info("a key was taken away through the keymanager API", "client", c.Name, "pubkey", pubkey.String(), "status", string(outcomes[i].Status), "why", outcomes[i].Message)
	}
	return outcomes, told
}

// takeAway ends a key's assignment to this signer: Deleted. Of a key that it
// does not have, NotActive: what it signed, if anything, is in the ledger.
//
// It does neither where the ledger has not all that our signers signed: told as
// the key's history, it would have another sign what one of ours signed.
// admitted is the assignment under which it had all.
func (m *keymanager) takeAway(ctx context.Context, c *signer.Client, pubkey eth.Pubkey, admitted uint64) signer.Outcome {
	if !c.Sees(pubkey) {
		return signer.Outcome{Status: signer.NotFound}
	}
	held, err := m.home.records.Assignment(ctx, pubkey)
	switch {
	case errors.Is(err, record.ErrNotFound):
		return signer.Outcome{Status: signer.NotActive}
	case err != nil:
		return m.internal("read the key's assignment", err)
	case strings.HasPrefix(held.Signer, external) && admitted == held.Epoch-1:
		return signer.Outcome{Status: signer.NotActive}
	case strings.HasPrefix(held.Signer, external) && admitted == 0:
		return signer.Outcome{Status: signer.NotFound}
	case strings.HasPrefix(held.Signer, external):
		return notTaken("another signer of this home had it after this one, and has its history")
	case held.Signer != m.name:
		return notTaken("signer %q of this home has it now, and its history: stop it there", held.Signer)
	case admitted != held.Epoch:
		return notTaken("it is assigned to this signer and was not served yet, so that what was signed with it is not known here: see the signer's log")
	}
	v, err := m.home.which(ctx, pubkey.Hex())
	if err != nil {
		return m.internal("read the key's record", err)
	}
	if err := m.assignTo(ctx, c, pubkey, v.Order, held, throughKeymanagerAPI, signer.Deleted); err != nil {
		return m.internal("end the key's assignment: it may be signed with again", err)
	}
	delete(m.failed, pubkey)
	return signer.Outcome{Status: signer.Deleted}
}

func (m *keymanager) marks(ctx context.Context) (map[eth.Pubkey]slashing.Mark, error) {
	all := map[eth.Pubkey]slashing.Mark{}
	for mark, err := range m.ledger.Marks(ctx) {
		if err != nil {
			return nil, err
		}
		all[mark.Pubkey] = mark
	}
	return all, nil
}

// exitFacts asks the home's beacon nodes for validators' indexes.
type exitFacts struct {
	*loader
	chain deposit.Chain
}

var _ signer.Exits = (*exitFacts)(nil)

// exitWait is how long a beacon node may take for an answer: the whole request
// has half a minute.
const exitWait = 8 * time.Second

// Index implements signer.Exits. All nodes that home.yaml names must say the
// same; a wrong index makes an exit that no chain takes, of no other validator.
func (x *exitFacts) Index(ctx context.Context, pubkey eth.Pubkey) (uint64, error) {
	states, _, err := x.chain.Known(ctx, []eth.Pubkey{pubkey})
	if err != nil {
		return 0, err
	}
	v := states[pubkey].Validator
	if v == nil {
		return 0, fmt.Errorf("the chain knows no validator %v", pubkey)
	}
	return v.Index, nil
}

// Signed implements signer.Exits.
func (x *exitFacts) Signed(ctx context.Context, c *signer.Client, pubkey eth.Pubkey, epoch, index uint64) error {
	v, err := x.home.which(ctx, pubkey.Hex())
	if err != nil {
		return err
	}
	return x.home.note(ctx, record.Event{Time: record.Time(x.app.now()), Kind: "exit-signed", Order: v.Order, Pubkey: pubkey,
		Detail: map[string]string{"epoch": fmt.Sprint(epoch), "validator_index": fmt.Sprint(index), "client": c.Name}})
}
