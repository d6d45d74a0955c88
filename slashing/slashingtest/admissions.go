package slashingtest

import (
	"errors"
	"maps"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/slashing"
)

// admission is of a key of which all is known: that it signed nothing
// elsewhere.
func admission(key int, assignment uint64) slashing.Admission {
	return slashing.Admission{Mark: slashing.Mark{Pubkey: Key(key)}, Assignment: assignment}
}

func admit(t testing.TB, l Store, epoch uint64, list ...slashing.Admission) {
	t.Helper()
	if err := l.Admit(ctx, epoch, list); err != nil {
		t.Fatal(err)
	}
}

// assigned compares what is admitted, and what is complete of the keys 1 to 9.
func assigned(t testing.TB, l Store, admitted, complete map[eth.Pubkey]uint64) {
	t.Helper()
	got, err := l.Admitted(ctx)
	if err != nil || !maps.Equal(got, admitted) {
		t.Errorf("admitted %v, %v, want %v", got, err, admitted)
	}
	var keys []eth.Pubkey
	for n := range 9 {
		keys = append(keys, Key(n+1))
	}
	if got, err = l.Complete(ctx, keys); err != nil || !maps.Equal(got, complete) {
		t.Errorf("complete %v, %v, want %v", got, err, complete)
	}
}

func held(t *testing.T, o Opened) {
	epoch := func(l Store, want uint64) {
		t.Helper()
		if got, err := l.Epoch(ctx); err != nil || got != want {
			t.Errorf("held under %d, %v, want %d", got, err, want)
		}
	}
	epoch(o, 1)
	hold(t, o, 1)
	hold(t, o, 3)
	if err := o.Hold(ctx, 2); !errors.Is(err, slashing.ErrHolder) {
		t.Errorf("an epoch back: %v", err)
	}
	epoch(o, 3)
	info := o.Info()
	again := o.Again(t)
	epoch(again, 3)
	if again.Info() != info || info.ID == "" || info.Signer == "" {
		t.Errorf("%+v opens as %+v", info, again.Info())
	}
}

func admits(t *testing.T, o Opened) {
	add(t, o, slashing.Mark{Pubkey: Key(3)})
	assigned(t, o, map[eth.Pubkey]uint64{}, map[eth.Pubkey]uint64{}) // a mark alone is not complete
	floor := slashing.Floor(Key(1), 9, 32)
	admit(t, o, 1, slashing.Admission{Mark: floor, Assignment: 3}, admission(2, 1), admission(2, 2))
	want(t, o, 1, slashing.ErrSlashable, Attestation(1, 9, 10, 1), Block(1, 351, 1))
	want(t, o, 1, nil, Attestation(1, 9, 11, 1), Block(1, 352, 1), Attestation(2, 1, 2, 1))
	admit(t, o, 1, admission(1, 3)) // the same again
	admit(t, o, 1, admission(1, 5)) // it went away and came back
	want(t, o, 1, slashing.ErrSlashable, Attestation(1, 9, 11, 2), Block(1, 352, 2))
	if err := o.Admit(ctx, 2, nil); !errors.Is(err, slashing.ErrHolder) {
		t.Errorf("under another epoch: %v", err)
	}
	both := map[eth.Pubkey]uint64{Key(1): 5, Key(2): 2}
	assigned(t, o, both, both)
	assigned(t, o.Again(t), both, both)
}

func refusesWhole(t *testing.T, o Opened) {
	admit(t, o, 1, admission(1, 3))
	for what, list := range map[string][]slashing.Admission{
		"an assignment back":               {admission(2, 1), {Mark: slashing.Floor(Key(1), 9, 32), Assignment: 2}},
		"no assignment":                    {admission(2, 1), admission(1, 0)},
		"an assignment back within a list": {admission(2, 2), admission(2, 1)},
	} {
		if err := o.Admit(ctx, 1, list); err == nil {
			t.Errorf("%s is admitted", what)
		}
	}
	is := map[eth.Pubkey]uint64{Key(1): 3}
	assigned(t, o, is, is)
	want(t, o, 1, slashing.ErrUnknownKey, Attestation(2, 1, 2, 1))
	want(t, o, 1, nil, Attestation(1, 1, 2, 1))
}

func watermarks(t *testing.T, o Opened) {
	last := uint64(0)
	rises := func(l Store, what string, wanted bool) {
		t.Helper()
		now, err := l.Watermark(ctx)
		if err != nil || now < last || (now > last) != wanted {
			t.Errorf("%s: watermark %d after %d, %v", what, now, last, err)
		}
		last = now
	}
	var err error
	if last, err = o.Watermark(ctx); err != nil {
		t.Fatal(err)
	}
	rises(o, "nothing", false)
	add(t, o, slashing.Mark{Pubkey: Key(1)})
	rises(o, "a new key", true)
	want(t, o, 1, nil, Attestation(1, 1, 2, 1))
	rises(o, "an attestation", true)
	want(t, o, 1, nil, Attestation(1, 1, 2, 1))
	want(t, o, 1, slashing.ErrSlashable, Attestation(1, 1, 2, 2))
	want(t, o, 1, slashing.ErrUnknownKey, Attestation(2, 1, 2, 2))
	rises(o, "what writes nothing", false)
	admit(t, o, 1, admission(1, 1))
	rises(o, "an admission", true)
	l := o.Again(t)
	rises(l, "opening it anew", false)
	want(t, l, 1, nil, Block(1, 1, 1))
	rises(l, "a block", true)
}

// Installation is a store of ledgers, one for each signer's name, that share
// the marks.
type Installation struct {
	Name string
	// Open opens a signer's ledger, as one more process, and makes it first if
	// it is new. It is held under no epoch.
	Open func(t testing.TB, signer string) Store
}

// Shared runs the suite for a store that several signers, and several
// processes of each, write at once. open makes an empty one each time, named
// want.
func Shared(t *testing.T, want string, open func(testing.TB) Installation) {
	must := func(name string, f func(*testing.T, Installation)) {
		t.Run(name, func(t *testing.T) {
			i := open(t)
			if i.Name != want || want == "" {
				t.Fatalf("opened %q, not %q", i.Name, want)
			}
			f(t, i)
		})
	}
	must("move a key with its mark", moves)
	must("let no signer take a key without a later assignment", keepsKeys)
	must("stop the former holder of a ledger", replacesHolder)
	must("let one of two processes win", racingProcesses)
	must("let no two signers conflict while a key moves", racingMoves)
}

func under(t testing.TB, l Store, epoch uint64) Store {
	t.Helper()
	hold(t, l, epoch)
	return l
}

// moves: the next signer has the mark of the former, which signs nothing more,
// whatever it still believes.
func moves(t *testing.T, i Installation) {
	a, b := under(t, i.Open(t, "signer-a"), 7), under(t, i.Open(t, "signer-b"), 2)
	admit(t, a, 7, admission(1, 1), admission(2, 1))
	want(t, a, 7, nil, Attestation(1, 3, 4, 1), Block(1, 99, 1), Attestation(2, 3, 4, 1))
	one, two := Key(1), Key(2)
	assigned(t, b, map[eth.Pubkey]uint64{}, map[eth.Pubkey]uint64{one: 1, two: 1})
	want(t, b, 2, slashing.ErrHolder, Attestation(1, 4, 5, 1))
	admit(t, b, 2, admission(1, 2))
	want(t, a, 7, slashing.ErrHolder, Attestation(1, 3, 4, 1), Attestation(1, 4, 5, 1), Block(1, 100, 1), Attestation(1, 3, 4, 2))
	want(t, b, 2, slashing.ErrSlashable, Attestation(1, 3, 4, 2), Block(1, 99, 2), Attestation(1, 2, 9, 2))
	want(t, b, 2, nil, Attestation(1, 3, 4, 1), Attestation(1, 4, 5, 2), Block(1, 100, 2))
	want(t, a, 7, nil, Attestation(2, 4, 5, 1))
	assigned(t, a, map[eth.Pubkey]uint64{two: 1}, map[eth.Pubkey]uint64{one: 2, two: 1})
	assigned(t, b, map[eth.Pubkey]uint64{one: 2}, map[eth.Pubkey]uint64{one: 2, two: 1})
	if marks := all(t, b); len(marks) != 1 || marks[0].Pubkey != one || marks[0].Target != 5 {
		t.Errorf("the next signer has the marks %+v", marks)
	}
	if marks := all(t, a); len(marks) != 1 || marks[0].Pubkey != two {
		t.Errorf("the former signer has the marks %+v", marks)
	}
	admit(t, a, 7, admission(1, 3)) // and back
	want(t, b, 2, slashing.ErrHolder, Attestation(1, 5, 6, 1))
	want(t, a, 7, slashing.ErrSlashable, Attestation(1, 4, 5, 1))
	want(t, a, 7, nil, Attestation(1, 5, 6, 1))

	// Other software: it has no lease, and its ledger is held under epoch 0.
	other := i.Open(t, "external:other software")
	admit(t, other, 0, admission(1, 4))
	want(t, a, 7, slashing.ErrHolder, Attestation(1, 6, 7, 1), Attestation(1, 5, 6, 1))
	if marks := all(t, other); len(marks) != 1 || marks[0].Target != 6 {
		t.Errorf("handed over are %+v", marks)
	}
	// What it signs there is not in the mark, so nobody may call it complete.
	assigned(t, a, map[eth.Pubkey]uint64{two: 1}, map[eth.Pubkey]uint64{two: 1})
	assigned(t, other, map[eth.Pubkey]uint64{one: 4}, map[eth.Pubkey]uint64{two: 1})
	if err := a.Admit(ctx, 7, []slashing.Admission{admission(1, 4)}); !errors.Is(err, slashing.ErrHolder) {
		t.Errorf("under the same assignment: %v", err)
	}
	admit(t, a, 7, slashing.Admission{Mark: slashing.Floor(one, 20, 32), Assignment: 5})
	assigned(t, a, map[eth.Pubkey]uint64{one: 5, two: 1}, map[eth.Pubkey]uint64{one: 5, two: 1})
}

func keepsKeys(t *testing.T, i Installation) {
	a, b := under(t, i.Open(t, "signer-a"), 1), under(t, i.Open(t, "signer-b"), 1)
	admit(t, a, 1, admission(1, 3))
	for _, assignment := range []uint64{1, 2, 3} {
		if err := b.Admit(ctx, 1, []slashing.Admission{admission(2, 1), admission(1, assignment)}); !errors.Is(err, slashing.ErrHolder) {
			t.Errorf("under assignment %d: %v", assignment, err)
		}
	}
	if err := b.Add(ctx, 1, []slashing.Mark{{Pubkey: Key(2)}, slashing.Floor(Key(1), 9, 32)}); !errors.Is(err, slashing.ErrHolder) {
		t.Errorf("adding to another's key: %v", err)
	}
	is := map[eth.Pubkey]uint64{Key(1): 3}
	assigned(t, a, is, is)
	want(t, a, 1, nil, Attestation(1, 1, 2, 1))
	want(t, b, 1, slashing.ErrUnknownKey, Attestation(2, 1, 2, 1))
}

func replacesHolder(t *testing.T, i Installation) {
	old, next := under(t, i.Open(t, "signer-a"), 1), i.Open(t, "signer-a")
	admit(t, old, 1, admission(1, 1))
	want(t, old, 1, nil, Attestation(1, 1, 2, 1))
	want(t, next, 1, nil, Attestation(1, 1, 2, 1)) // two with one lease: the mark alone decides
	want(t, next, 1, slashing.ErrSlashable, Attestation(1, 1, 2, 2))
	hold(t, next, 2)
	want(t, old, 1, slashing.ErrHolder, Attestation(1, 2, 3, 1), Attestation(1, 1, 2, 1))
	for what, err := range map[string]error{
		"Hold": old.Hold(ctx, 1), "Add": old.Add(ctx, 1, []slashing.Mark{{Pubkey: Key(2)}}), "Admit": old.Admit(ctx, 1, []slashing.Admission{admission(1, 2)}),
	} {
		if !errors.Is(err, slashing.ErrHolder) {
			t.Errorf("the former holder's %s: %v", what, err)
		}
	}
	want(t, next, 2, nil, Attestation(1, 2, 3, 2))
	want(t, old, 1, slashing.ErrHolder, Attestation(1, 3, 4, 1))
}

// racingProcesses: nothing but the swap of the mark is between them.
func racingProcesses(t *testing.T, i Installation) {
	a := under(t, i.Open(t, "signer-a"), 1)
	ledgers := []Store{a, i.Open(t, "signer-a"), i.Open(t, "signer-a")}
	admit(t, a, 1, admission(1, 1))
	for target := uint64(1); target <= 12; target++ {
		won, errs := raced(6, func(n int) error {
			return ledgers[n%3].Sign(ctx, 1, []slashing.Claim{Attestation(1, 0, target, byte(n+1))})[0]
		})
		if len(won) != 1 {
			t.Fatalf("target %d: signed by %v: %v", target, won, errs)
		}
	}
}

// racingMoves: while signers take a key from each other, no target is signed
// with two roots.
func racingMoves(t *testing.T, i Installation) {
	names := []string{"signer-a", "signer-b", "external:x"}
	var ledgers []Store
	for n, name := range names {
		ledgers = append(ledgers, under(t, i.Open(t, name), uint64(n+1)))
	}
	signed := 0
	for round := uint64(1); round <= 20; round++ {
		won, errs := raced(3, func(n int) error {
			l, epoch := ledgers[n], uint64(n+1)
			if uint64(n) == round%3 { // it takes the key
				if err := l.Admit(ctx, epoch, []slashing.Admission{admission(1, round)}); err != nil {
					return err
				}
			}
			return l.Sign(ctx, epoch, []slashing.Claim{Attestation(1, 0, round, byte(n+1))})[0]
		})
		if len(won) > 1 {
			t.Fatalf("round %d: signed by %v: %v", round, won, errs)
		}
		signed += len(won)
	}
	if signed < 15 {
		t.Errorf("signed in %d rounds of 20", signed)
	}
}

// raced runs f(0) to f(n-1) at once and returns who succeeded.
func raced(n int, f func(int) error) (won []int, errs []error) {
	type outcome struct {
		n   int
		err error
	}
	outcomes := make(chan outcome)
	for k := range n {
		go func() { outcomes <- outcome{k, f(k)} }()
	}
	for range n {
		o := <-outcomes
		if errs = append(errs, o.err); o.err == nil {
			won = append(won, o.n)
		}
	}
	return won, errs
}
