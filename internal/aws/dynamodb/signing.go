package dynamodb

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/slashing"
)

// holds fails unless the ledger is held under the epoch.
func (l *Ledger) holds(ctx context.Context, epoch uint64) error {
	h, err := l.head(ctx)
	if err == nil && h.epoch != epoch {
		err = fmt.Errorf("%w: under epoch %d, not %d", slashing.ErrHolder, h.epoch, epoch)
	}
	return err
}

// Sign implements slashing.Ledger: one read of who holds it, then one swap for
// each key, of many keys at once. All claims of a key go into one swap.
func (l *Ledger) Sign(ctx context.Context, epoch uint64, claims []slashing.Claim) []error {
	errs := make([]error, len(claims))
	if len(claims) == 0 {
		return errs
	}
	if err := l.holds(ctx, epoch); err != nil {
		for i := range errs {
			errs[i] = fmt.Errorf("couldn't write the slashing ledger: %w", err)
		}
		return errs
	}
	groups := groupBy(claims, func(c slashing.Claim) eth.Pubkey { return c.Pubkey })
	together(len(groups), func(g int) {
		of := groups[g]
		pubkey := claims[of[0]].Pubkey
		var outcomes []error
		err := l.change(ctx, epoch, pubkey, false, func(old *standing) (standing, error) {
			if old == nil {
				return standing{}, fmt.Errorf("%w: %v", slashing.ErrUnknownKey, pubkey)
			}
			next := *old
			outcomes = make([]error, len(of))
			if err := l.mine(next, epoch); err != nil {
				return next, err
			}
			for i, c := range of {
				next.mark, outcomes[i] = next.mark.Take(claims[c])
			}
			return next, nil
		})
		for i, c := range of {
			if err != nil { // refused as a whole, or nobody knows
				errs[c] = fmt.Errorf("couldn't write the slashing ledger: %w", err)
			} else {
				errs[c] = outcomes[i]
			}
		}
	})
	return errs
}

// mine fails unless the key is this signer's, and nobody who held its lease
// later has written its mark.
func (l *Ledger) mine(st standing, epoch uint64) error {
	switch {
	case st.signer != l.info.Signer:
		return fmt.Errorf("%w: %v is admitted to %q", slashing.ErrHolder, st.mark.Pubkey, st.signer)
	case st.ledger == l.info.ID && st.held > epoch: // epochs of a replaced ledger's lease say nothing here
		return fmt.Errorf("%w: %v was signed for under epoch %d, not %d", slashing.ErrHolder, st.mark.Pubkey, st.held, epoch)
	}
	return nil
}

// change swaps the item of a key for what judge makes of it (nil: there is
// none), until it stands, judge refuses, or judge leaves the mark and whose it
// is as they are. judge must not refuse, or be content, by an item that was
// seen in an earlier call: unless this one has looked (fresh), it is then asked
// once more, with what is stored.
func (l *Ledger) change(ctx context.Context, epoch uint64, pubkey eth.Pubkey, fresh bool, judge func(*standing) (standing, error)) error {
	k := l.key(pubkey)
	k.mu.Lock()
	defer k.mu.Unlock()
	table := l.s.tables.Ledger
	for range swaps {
		if k.now == nil && !fresh {
			if err := l.look(ctx, k, pubkey); err != nil {
				return err
			}
			fresh = true
		}
		next, err := judge(k.now)
		if err != nil || k.now != nil && next == *k.now {
			if fresh {
				return err
			}
			if err := l.look(ctx, k, pubkey); err != nil {
				return err
			}
			fresh = true
			continue
		}
		var before item
		next.ledger, next.held, next.version = l.info.ID, epoch, 1
		if k.now != nil {
			before, next.version = k.now.item(table), k.now.version+1
		}
		stands, err := l.s.swap(ctx, table, next.item(table), before)
		l.signed.Store(true) // perhaps even if it failed
		if err != nil {
			return err
		}
		if stands == nil {
			k.now = &next
			return nil
		}
		if err := l.found(k, stands); err != nil {
			return err
		}
		fresh = true
	}
	return errContended
}

// look reads the item of a key.
func (l *Ledger) look(ctx context.Context, k *seen, pubkey eth.Pubkey) error {
	it, err := l.s.get(ctx, l.s.tables.Ledger, markKey(pubkey, l.info.Root))
	switch {
	case err != nil:
		return err
	case it == nil && k.now != nil:
		return fmt.Errorf("%w: %w", record.ErrCorrupt, errVanished)
	case it == nil:
		return nil
	}
	return l.found(k, it)
}

// found takes what is stored for what is so, unless it was seen to be further
// on already: then the table is an older one, and what it allows was perhaps
// signed.
func (l *Ledger) found(k *seen, it item) error {
	st, err := it.standing(l.s.tables.Ledger)
	if err != nil {
		return err
	}
	if k.now != nil && (st.version < k.now.version || st.version == k.now.version && st != *k.now) {
		return corrupt(it, fmt.Errorf("version %d was seen, and it is back at %d", k.now.version, st.version))
	}
	k.now = &st
	return nil
}

func (l *Ledger) key(pubkey eth.Pubkey) *seen {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.seen[pubkey]
	if k == nil {
		k = &seen{}
		l.seen[pubkey] = k
	}
	return k
}

// Add implements slashing.Ledger. A key that is new becomes this signer's; one
// that is admitted to another is slashing.ErrHolder.
func (l *Ledger) Add(ctx context.Context, epoch uint64, marks []slashing.Mark) error {
	list := make([]slashing.Admission, len(marks))
	for i, m := range marks {
		list[i].Mark = m
	}
	return l.add(ctx, epoch, list)
}

// Admit adds marks as Add does, and notes under which assignment each is
// complete. With an assignment above the one that it is under, a key of
// another signer's becomes this one's, with its mark; from then on the other
// signs nothing for it. An assignment never goes back.
func (l *Ledger) Admit(ctx context.Context, epoch uint64, list []slashing.Admission) error {
	for _, a := range list {
		if a.Assignment == 0 {
			return fmt.Errorf("couldn't add to the slashing ledger: %w: an admission under assignment 0", record.ErrFormat)
		}
	}
	return l.add(ctx, epoch, list)
}

// add looks at every key before it writes the first, so that a list which is
// refused changes nothing. Cut short it leaves some keys as they were: every
// write of it stands for itself, and only raises.
func (l *Ledger) add(ctx context.Context, epoch uint64, list []slashing.Admission) error {
	groups := groupBy(list, func(a slashing.Admission) eth.Pubkey { return a.Mark.Pubkey })
	pubkey := func(g int) eth.Pubkey { return list[groups[g][0]].Mark.Pubkey }
	err := l.holds(ctx, epoch)
	if err == nil {
		err = firstOf(len(groups), func(g int) error {
			k := l.key(pubkey(g))
			k.mu.Lock()
			defer k.mu.Unlock()
			if err := l.look(ctx, k, pubkey(g)); err != nil {
				return err
			}
			return discard(l.admit(k.now, epoch, list, groups[g]))
		})
	}
	if err == nil {
		err = firstOf(len(groups), func(g int) error {
			return l.change(ctx, epoch, pubkey(g), true, func(old *standing) (standing, error) { return l.admit(old, epoch, list, groups[g]) })
		})
	}
	if err != nil {
		return fmt.Errorf("couldn't add to the slashing ledger: %w", err)
	}
	return nil
}

// admit is what the admissions at the places of one key make of its item.
// Assignment 0 is none: the mark alone is added.
func (l *Ledger) admit(old *standing, epoch uint64, list []slashing.Admission, places []int) (standing, error) {
	pubkey := list[places[0]].Mark.Pubkey
	next := standing{root: l.info.Root, mark: slashing.Mark{Pubkey: pubkey}, signer: l.info.Signer}
	if old != nil {
		next = *old
	}
	for _, i := range places {
		a := list[i]
		if next.signer != l.info.Signer && a.Assignment > next.assignment {
			next.signer, next.ledger = l.info.Signer, "" // with the mark that it has
		}
		if err := l.mine(next, epoch); err != nil {
			return next, err
		}
		if a.Assignment > 0 && a.Assignment < next.assignment {
			return next, fmt.Errorf("%w: %v is under assignment %d, after %d", slashing.ErrHolder, pubkey, next.assignment, a.Assignment)
		}
		next.mark, next.assignment = next.mark.Raise(a.Mark), max(next.assignment, a.Assignment)
	}
	return next, nil
}

// Marks implements slashing.Ledger: of the keys that are this signer's.
func (l *Ledger) Marks(ctx context.Context) iter.Seq2[slashing.Mark, error] {
	return func(yield func(slashing.Mark, error) bool) {
		for st, err := range l.s.standings(ctx) {
			if (err != nil || l.has(st)) && !yield(st.mark, err) {
				return
			}
		}
	}
}

// has says that the key is this signer's, on its network.
func (l *Ledger) has(st standing) bool { return st.signer == l.info.Signer && st.root == l.info.Root }

// standings yields the item of every key, by pubkey.
func (s *Store) standings(ctx context.Context) iter.Seq2[standing, error] {
	pages := s.spread(ctx, hexDigits, pubkeyPartition, query{table: s.tables.Ledger})
	return list(ctx, "marks", pages, each(func(it item) (standing, error) { return it.standing(s.tables.Ledger) }))
}

// Admitted is the assignment epoch of every key that is admitted to this
// signer. It reads the marks of all signers.
func (l *Ledger) Admitted(ctx context.Context) (map[eth.Pubkey]uint64, error) {
	admitted := map[eth.Pubkey]uint64{}
	for st, err := range l.s.standings(ctx) {
		if err != nil {
			return nil, fmt.Errorf("couldn't read the slashing ledger: %w", err)
		}
		if l.has(st) && st.assignment > 0 {
			admitted[st.mark.Pubkey] = st.assignment
		}
	}
	return admitted, nil
}

// Complete is the assignment under which the mark of each of the keys is
// complete, whichever signer it is admitted to: all that was signed under it
// and before is in the mark. A key that was never admitted is not in it, nor
// one that is with other software, of which nobody here knows what it signs.
func (l *Ledger) Complete(ctx context.Context, pubkeys []eth.Pubkey) (map[eth.Pubkey]uint64, error) {
	epochs := make([]uint64, len(pubkeys))
	err := firstOf(len(pubkeys), func(i int) error {
		k := l.key(pubkeys[i])
		k.mu.Lock()
		defer k.mu.Unlock()
		if err := l.look(ctx, k, pubkeys[i]); err != nil || k.now == nil {
			return err
		}
		if !strings.HasPrefix(k.now.signer, externalPrefix) {
			epochs[i] = k.now.assignment
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the slashing ledger: %w", err)
	}
	complete := map[eth.Pubkey]uint64{}
	for i, epoch := range epochs {
		if epoch > 0 {
			complete[pubkeys[i]] = epoch
		}
	}
	return complete, nil
}

// groupBy returns the places of each key's values, keys and places in their
// order.
func groupBy[T any](list []T, of func(T) eth.Pubkey) (groups [][]int) {
	at := map[eth.Pubkey]int{}
	for i, v := range list {
		g, known := at[of(v)]
		if !known {
			g = len(groups)
			at[of(v)], groups = g, append(groups, nil)
		}
		groups[g] = append(groups[g], i)
	}
	return groups
}

// together runs f(0) to f(n-1), many at once.
func together(n int, f func(int)) {
	var next atomic.Int64
	var group sync.WaitGroup
	for range min(n, atOnceKeys) {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	group.Wait()
}

// firstOf is together for what can fail: it begins nothing more after an
// error, and returns the one of the lowest number.
func firstOf(n int, f func(int) error) error {
	errs := make([]error, n)
	var failed atomic.Bool
	together(n, func(i int) {
		if !failed.Load() {
			if errs[i] = f(i); errs[i] != nil {
				failed.Store(true)
			}
		}
	})
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
