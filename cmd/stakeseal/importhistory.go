package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/slashing"
)

// heldLedger is the ledger of a signer that is stopped, and stays so while it
// is held, with what a file says that keys signed elsewhere.
type heldLedger struct {
	told map[eth.Pubkey]slashing.Mark
	take func(context.Context, []slashing.Admission, []slashing.Mark) error
}

// openLedger holds the signer's ledger and reads the history, before anything
// is imported: a signer that runs, a file of another network and a damaged one
// end the run with nothing done.
func (t *keystoresImport) openLedger(ctx context.Context) (done func(), err error) {
	ledger, err := t.home.stoppedLedger(ctx, t.flags.assign)
	if err != nil {
		return nil, err
	}
	done = func() { _ = ledger.Close() } // its writes are durable already
	held := &heldLedger{told: map[eth.Pubkey]slashing.Mark{}, take: func(ctx context.Context, all []slashing.Admission, more []slashing.Mark) error {
		epoch, err := ledger.Epoch(ctx)
		if err != nil {
			return err
		}
		return errors.Join(ledger.Admit(ctx, epoch, all), ledger.Add(ctx, epoch, more))
	}}
	f, err := os.Open(t.flags.history)
	if err != nil {
		done()
		return nil, fmt.Errorf("couldn't read the slashing-protection file: %w", err)
	}
	defer f.Close()
	marks, err := slashing.Read(f, ledger.Info().Root)
	if err != nil {
		done()
		return nil, err
	}
	for _, m := range marks {
		held.told[m.Pubkey] = m
	}
	t.ledger = held
	return done, nil
}

// assign gives the keys to the signer. Their history is in its ledger before
// it can run again: cut short between the two, it raises floors instead. For a
// key that no signer of ours had before, the file counts as all that was
// signed; of another its marks only rise.
func (t *keystoresImport) assign(ctx context.Context) error {
	var history []slashing.Admission
	var more []slashing.Mark
	for _, r := range t.rows {
		if r.state != rowImported && r.state != rowThere {
			continue
		}
		held, err := t.home.records.Assignment(ctx, r.facts.Pubkey)
		if err != nil && !errors.Is(err, record.ErrNotFound) {
			return err
		}
		switch held.Signer {
		case t.flags.assign:
		case "":
			c := assigned{chosenImport(r.facts), held.Epoch}
			err := t.assignOne(ctx, t.home, c, t.flags.assign)
			if errors.Is(err, record.ErrStale) {
				r.state = rowConflict
				r.add("assigned", deposit.Refuse, "somebody assigned it meanwhile")
				continue
			}
			if err != nil {
				return err
			}
			held.Epoch++
		default:
			r.state = rowConflict
			r.add("assigned", deposit.Refuse, "it is assigned to %s and was left there", held.Signer)
			continue
		}
		r.signer = t.flags.assign
		if t.ledger == nil {
			continue
		}
		if m, ok := t.ledger.told[r.facts.Pubkey]; ok {
			r.told = true
			if held.Epoch == 1 {
				history = append(history, slashing.Admission{Mark: m, Assignment: held.Epoch})
			} else {
				more = append(more, m)
			}
		}
	}
	if len(history)+len(more) == 0 {
		return nil
	}
	if err := t.ledger.take(context.WithoutCancel(ctx), history, more); err != nil {
		return fmt.Errorf("the keys are assigned, and their history was not taken (their duties pause instead): %w", signerFailure(t.flags.assign, err))
	}
	return nil
}

// sayAssigned says what the signer will make of the keys.
func (t *keystoresImport) sayAssigned() {
	assigned, told := 0, 0
	for _, r := range t.rows {
		if r.signer != "" {
			assigned++
		}
		if r.told {
			told++
		}
	}
	t.say("%d keys are assigned to %s; the history of %d is in its ledger", assigned, t.flags.assign, told)
	if assigned > told {
		t.say("of %d nothing is known: %s signs no attestation and no block for them until what was signed before cannot conflict (13 minutes)", assigned-told, t.flags.assign)
	}
	t.say("stop whatever signed with them, for good: a key that signs in two places is slashed")
}
