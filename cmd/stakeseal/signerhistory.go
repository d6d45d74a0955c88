package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/signer"
	"github.com/stakeseal/stakeseal/slashing"
)

// noted is what the store's notes tell of a key, up to an assignment.
type noted struct {
	former string // who had it under the assignment before; "": nobody knows
	// mark is all that signers of ours noted when they let go of it, whenever
	// that was.
	mark slashing.Mark
	// whole: former is one of ours and noted under that very assignment, so
	// that mark is all that was signed before this one.
	whole bool
}

// notes reads what is noted of a key that is under an assignment by now. Of an
// epoch there may be notes of two signers, where the store was set back and
// gave the epoch away again: only that of the former one says that it let go.
// One that noted that it never served the key had nothing to let go of: the one
// before it is the former one.
func (h *home) notes(ctx context.Context, pubkey eth.Pubkey, assignment uint64) (n noted, err error) {
	n.mark.Pubkey = pubkey
	had := map[string]string{} // signers, by assignment
	type end struct{ assignment, signer string }
	served := map[end]bool{} // what was noted at the ends of assignments
	for e, err := range h.records.Events(ctx, record.EventQuery{Pubkey: pubkey}) {
		switch {
		case err != nil:
			return n, err
		case e.Kind == "assigned":
			had[e.Detail["epoch"]] = e.Detail["signer"]
		case e.Kind == eventReleased:
			mark, err := released(e)
			if err != nil {
				return n, err
			}
			n.mark = n.mark.Raise(mark)
			at := end{e.Detail["assignment"], e.Detail["signer"]}
			served[at] = served[at] || e.Detail["served"] != "no"
		}
	}
	for epoch := assignment; epoch > 1; {
		epoch--
		at := end{assignment: fmt.Sprint(epoch)}
		at.signer = had[at.assignment]
		n.former = at.signer
		was, known := served[at]
		n.whole = n.ours() && was
		if !n.ours() || was || !known {
			break
		}
	}
	return n, nil
}

// ours says that a signer of this home had it before.
func (n noted) ours() bool { return n.former != "" && !strings.HasPrefix(n.former, external) }

// noteUnserved notes that a signer never served a key under an assignment that
// has ended: it waited for the one before it. Whoever has the key next need not
// wait for what never comes.
func (h *home) noteUnserved(ctx context.Context, a *app, signer string, pubkey eth.Pubkey, assignment uint64) error {
	return h.note(ctx, record.Event{Time: record.Time(a.now()), Kind: eventReleased, Pubkey: pubkey,
		Detail: map[string]string{"signer": signer, "assignment": fmt.Sprint(assignment), "served": "no"}})
}

// letGo says that a signer noted the end of its assignment.
func (h *home) letGo(ctx context.Context, pubkey eth.Pubkey, assignment uint64, signer string) (bool, error) {
	for e, err := range h.records.Events(ctx, record.EventQuery{Pubkey: pubkey, Kind: eventReleased}) {
		if err != nil {
			return false, err
		}
		if e.Detail["assignment"] == fmt.Sprint(assignment) && e.Detail["signer"] == signer {
			return true, nil
		}
	}
	return false, nil
}

// release notes the marks of keys that a signer has let go of, under the
// assignment that ended, so that the next signs on without a gap; and then in
// the ledger that it was noted. From then on that assignment is over for this
// ledger, whatever a store says that was restored to an earlier time: what the
// next one signed is not in it.
func (h *home) release(ctx context.Context, a *app, ledger signerLedger, admitted map[eth.Pubkey]uint64) error {
	if len(admitted) == 0 {
		return nil
	}
	ended, err := ledger.Ended(ctx)
	if err != nil {
		return err
	}
	for m, err := range ledger.Marks(ctx) {
		if err != nil {
			return err
		}
		assignment, ok := admitted[m.Pubkey]
		if !ok {
			continue
		}
		if ended[m.Pubkey] {
			n, err := h.notes(ctx, m.Pubkey, assignment+1)
			if err != nil {
				return err
			}
			if n.whole && n.former == ledger.Info().Signer {
				continue // it stands there
			}
			// The note is gone: the store was set back, and with it whatever
			// was noted by those that had the key since.
			epoch, known := signer.EpochAt(h.generator.Network, a.now().Unix())
			if !known {
				continue // nobody can tell: the next signer says so
			}
			m = m.Raise(slashing.Floor(m.Pubkey, epoch, h.slotsPerEpoch()))
		}
		if err := h.noteReleased(ctx, a, ledger.Info(), m, assignment); err != nil {
			return err
		}
	}
	return ledger.End(ctx, admitted)
}

func (h *home) noteReleased(ctx context.Context, a *app, info slashing.Info, m slashing.Mark, assignment uint64) error {
	detail := map[string]string{"signer": info.Signer, "assignment": fmt.Sprint(assignment)}
	if m.Block {
		detail["slot"], detail["block_root"] = fmt.Sprint(m.Slot), m.BlockRoot.String()
	}
	if m.Attestation {
		detail["source"], detail["target"], detail["attestation_root"] = fmt.Sprint(m.Source), fmt.Sprint(m.Target), m.Root.String()
	}
	// Once for what it says: were it once for the assignment, the note of
	// another signer under an epoch that was given away twice would keep this
	// one out.
	says := sha256.Sum256(fmt.Appendf(nil, "%s %v", info.ID, detail))
	err := h.note(ctx, record.Event{Time: record.Time(a.now()), Kind: eventReleased, Pubkey: m.Pubkey, Detail: detail,
		Once: fmt.Sprintf("released %s %d %x", m.Pubkey.Hex(), assignment, says[:8])})
	if errors.Is(err, record.ErrExists) {
		return nil
	}
	return err
}
