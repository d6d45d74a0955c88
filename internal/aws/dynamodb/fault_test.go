package dynamodb

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
)

// The story is every write there is, among them those that lose. Each step
// fails unless it returns what it must, and may be repeated.
var (
	storyOrder    = recordtest.Order("o1", 2)
	storyMnemonic = recordtest.Mnemonic(storyOrder, "m1")
	storyBirths   = []record.Birth{
		recordtest.Birth(storyOrder, storyMnemonic, 0, ""), recordtest.Birth(storyOrder, storyMnemonic, 1, ""),
	}
)

func story(s *Store) error { return tell(s, false) }

// tell tells the story; again if some of it was told before, so that an
// assignment may have been followed already.
func tell(s *Store, again bool) error {
	if o, err := s.Place(ctx, storyOrder); err != nil || o.Digest() != storyOrder.Digest() {
		return fmt.Errorf("place: %w", err)
	}
	if err := s.PutMnemonic(ctx, storyMnemonic); err != nil {
		return err
	}
	for _, b := range storyBirths {
		owner, err := s.PutBirth(ctx, b)
		if err != nil || owner.Pubkey != b.Pubkey {
			return fmt.Errorf("owner %s: %w", owner.Pubkey, err)
		}
	}
	late := recordtest.Birth(storyOrder, storyMnemonic, 0, "late")
	if owner, err := s.PutBirth(ctx, late); err != nil || owner.Pubkey != storyBirths[0].Pubkey {
		return fmt.Errorf("owner %s: %w", owner.Pubkey, err)
	}
	for i, signer := range []string{"signer-a", "signer-b"} {
		a := recordtest.Assignment(storyBirths[0], signer, uint64(i+1))
		if err := s.Assign(ctx, a); err != nil && !(again && errors.Is(err, record.ErrStale)) {
			return err
		}
	}
	if err := s.PutImportedMnemonic(ctx, storyWords); err != nil {
		return err
	}
	for _, i := range []record.Import{storyImport, bareImport} {
		if err := s.PutImport(ctx, i); err != nil {
			return err
		}
	}
	return s.Assign(ctx, assignImport("signer-a", 1))
}

// TestLostAnswers loses the answer to each attempt in turn. The SDK tries
// again, finds the condition failed by the attempt before, and every method
// must know its own write again.
func TestLostAnswers(t *testing.T) {
	f := newFake()
	must(t, story(f.store(t)))
	n, want := len(f.taken()), f.dump()
	if n < 15 {
		t.Fatalf("the story is %d calls", n)
	}
	for at := 1; at <= n; at++ {
		f := newFake()
		f.fault = func(n int) fate {
			if n == at {
				return lost
			}
			return answered
		}
		if err := story(f.store(t)); err != nil {
			t.Errorf("answer %d lost: %v", at, err)
		}
		if got := len(f.calls); got <= n {
			t.Errorf("answer %d lost: %d attempts, no more than without", at, got)
		}
		if f.dump() != want {
			t.Errorf("answer %d lost: other items than without", at)
		}
	}
}

// TestCrash ends the writer at each attempt, applied and not. What it was told
// is no sentinel, and the next writer ends with the same items.
func TestCrash(t *testing.T) {
	f := newFake()
	must(t, story(f.store(t)))
	n, want := len(f.taken()), f.dump()
	for at := 1; at <= n; at++ {
		for _, last := range []fate{lost, unsent} {
			f := newFake()
			f.fault = func(n int) fate {
				switch {
				case n < at:
					return answered
				case n == at:
					return last
				}
				return unsent
			}
			err := story(f.store(t))
			if err == nil {
				t.Fatalf("attempt %d: no error", at)
			}
			noSentinel(t, fmt.Sprintf("attempt %d", at), err)
			f.fault = nil
			if err := f.store(t).Verify(ctx); err != nil {
				t.Errorf("attempt %d: after the crash: %v", at, err)
			}
			if err := tell(f.store(t), true); err != nil {
				t.Errorf("attempt %d: the next writer: %v", at, err)
			}
			if f.dump() != want {
				t.Errorf("attempt %d: other items than without a crash", at)
			}
		}
	}
}

// TestCrashBetweenClaimAndBirth: a claim without its birth is no birth to any
// reader, holds its pubkey for its index, keeps the index open to another
// key, and is listed.
func TestCrashBetweenClaimAndBirth(t *testing.T) {
	f := newFake()
	s := f.store(t)
	_, err := s.Place(ctx, storyOrder)
	must(t, err)
	must(t, s.PutMnemonic(ctx, storyMnemonic))
	b := storyBirths[1]
	crashed := false
	f.fault = func(n int) fate { // once the claim is there
		f.noteClaim(&crashed, b.Pubkey)
		if crashed {
			return unsent
		}
		return answered
	}
	_, err = s.PutBirth(ctx, b)
	noSentinel(t, "crash", err)
	if err == nil || !crashed {
		t.Fatalf("no crash: %v", err)
	}
	f.fault = nil

	if _, err := s.Birth(ctx, b.Pubkey); !errors.Is(err, record.ErrNotFound) {
		t.Errorf("Birth: %v", err)
	}
	if err := s.Assign(ctx, recordtest.Assignment(b, "signer-a", 1)); !errors.Is(err, record.ErrNotFound) {
		t.Errorf("Assign: %v", err)
	}
	for _, q := range []record.Query{{}, {Order: "o1"}, {Prefix: b.Pubkey.Hex()}, {Prefix: b.Pubkey.Hex()[:1], Order: "o1"}} {
		for v, err := range s.Validators(ctx, q) {
			t.Errorf("%+v lists %v, %v", q, v.Pubkey, err)
		}
	}
	unborn := func(want ...Claim) {
		t.Helper()
		var got []Claim
		for c, err := range s.Unborn(ctx) {
			must(t, err)
			got = append(got, c)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("unborn %v, want %v", got, want)
		}
	}
	claim := Claim{b.Pubkey, "o1", 1}
	unborn(claim)
	elsewhere := recordtest.Birth(storyOrder, storyMnemonic, 0, "")
	elsewhere.Pubkey = b.Pubkey
	if _, err := s.PutBirth(ctx, elsewhere); !errors.Is(err, record.ErrConflict) {
		t.Errorf("into another index: %v", err)
	}
	other := recordtest.Birth(storyOrder, storyMnemonic, 1, "a new run's")
	owner, err := s.PutBirth(ctx, other)
	must(t, err)
	if owner.Pubkey != other.Pubkey {
		t.Errorf("the index is %s's", owner.Pubkey)
	}
	unborn(claim)
	owner, err = s.PutBirth(ctx, b) // late
	must(t, err)
	if owner.Pubkey != other.Pubkey {
		t.Errorf("the index is %s's", owner.Pubkey)
	}
	must(t, s.Verify(ctx))
	if _, err := s.Birth(ctx, b.Pubkey); !errors.Is(err, record.ErrNotFound) {
		t.Errorf("Birth: %v", err)
	}
}

// TestCrashBetweenClaimAndImport: a claim without its import is nothing to a
// reader, is listed, and is found again by the importer that comes back, even
// with the key sealed anew.
func TestCrashBetweenClaimAndImport(t *testing.T) {
	f := newFake()
	s := f.store(t)
	i := bareImport
	crashed := false
	f.fault = func(int) fate {
		f.noteClaim(&crashed, i.Pubkey)
		if crashed {
			return unsent
		}
		return answered
	}
	err := s.PutImport(ctx, i)
	noSentinel(t, "crash", err)
	if err == nil || !crashed {
		t.Fatalf("no crash: %v", err)
	}
	f.fault = nil
	for what, err := range map[string]error{
		"Import": second(s.Import(ctx, i.Pubkey)), "Birth": second(s.Birth(ctx, i.Pubkey)),
		"Assign": s.Assign(ctx, record.Assignment{Pubkey: i.Pubkey, Signer: "signer-a", Epoch: 1, Time: recordtest.Start}),
	} {
		if !errors.Is(err, record.ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for v, err := range s.Imported(ctx, "") {
		t.Errorf("lists %v, %v", v.Pubkey, err)
	}
	var unborn []Claim
	for c, err := range s.Unborn(ctx) {
		must(t, err)
		unborn = append(unborn, c)
	}
	if len(unborn) != 1 || unborn[0].Pubkey != i.Pubkey {
		t.Errorf("unborn %v", unborn)
	}
	must(t, s.Verify(ctx))
	i.Sealing = recordtest.Sealing(record.Signing, "anew")
	must(t, s.PutImport(ctx, i))
	must(t, end(s.Unborn(ctx)))
	must(t, s.Verify(ctx))
	if got, err := s.Import(ctx, i.Pubkey); err != nil || got.Sealing.Digest != i.Sealing.Digest {
		t.Errorf("%+v %v", got, err)
	}
}

// noteClaim notes whether the pubkey is claimed. The fake is locked.
func (f *fake) noteClaim(claimed *bool, pubkey eth.Pubkey) {
	if _, ok := f.tables[tables.Records][pubkeyKey(pubkey)]; ok {
		*claimed = true
	}
}

// TestAppendKnowsItsOwn: an event whose answer was lost is noted once and
// succeeds; the same event by another call with the same Once does not.
func TestAppendKnowsItsOwn(t *testing.T) {
	for _, once := range []string{"", "export/o1"} {
		f := newFake()
		f.fault = func(n int) fate {
			if n == 1 {
				return lost
			}
			return answered
		}
		s := f.store(t)
		e := note
		e.Once = once
		must(t, s.Append(ctx, e))
		if n := len(f.tables[tables.Events]); n != 1 {
			t.Errorf("once %q: noted %d times", once, n)
		}
		if err := s.Append(ctx, e); once != "" && !errors.Is(err, record.ErrExists) || once == "" && err != nil {
			t.Errorf("once %q: again: %v", once, err)
		}
	}
}

// TestNextAssignmentWins: the answer to a write was lost and another moved on
// meanwhile; this call must not claim that its assignment stands.
func TestNextAssignmentWins(t *testing.T) {
	f := newFake()
	s := f.store(t)
	b := someBirths(t, s, 1)[0]
	must(t, s.Assign(ctx, recordtest.Assignment(b, "signer-a", 1)))
	must(t, s.Assign(ctx, recordtest.Assignment(b, "signer-b", 2)))
	if err := s.Assign(ctx, recordtest.Assignment(b, "signer-a", 1)); !errors.Is(err, record.ErrStale) {
		t.Errorf("the assignment before: %v", err)
	}
}

// TestVanished: an item that a condition found is gone when it is read.
// Nothing here deletes, so this is no outcome that has a name.
func TestVanished(t *testing.T) {
	b := storyBirths[0]
	once := note
	once.Once = "once"
	for name, call := range map[string]func(s *Store) error{
		"Place":                func(s *Store) error { return second(s.Place(ctx, storyOrder)) },
		"PutMnemonic":          func(s *Store) error { return s.PutMnemonic(ctx, storyMnemonic) },
		"Assign":               func(s *Store) error { return s.Assign(ctx, recordtest.Assignment(b, "signer-c", 1)) },
		"Append":               func(s *Store) error { return s.Append(ctx, once) },
		"PutImportedMnemonic":  func(s *Store) error { return s.PutImportedMnemonic(ctx, storyWords) },
		"PutImport, the claim": func(s *Store) error { return s.PutImport(ctx, storyImport) },
		"PutBirth, the claim": func(s *Store) error {
			elsewhere := recordtest.Birth(storyOrder, storyMnemonic, 1, "")
			elsewhere.Pubkey = b.Pubkey
			return second(s.PutBirth(ctx, elsewhere))
		},
	} {
		f := newFake()
		s := f.store(t)
		_, err := s.Place(ctx, storyOrder)
		must(t, err)
		must(t, s.PutMnemonic(ctx, storyMnemonic))
		_, err = s.PutBirth(ctx, b)
		must(t, err)
		must(t, s.Assign(ctx, recordtest.Assignment(b, "signer-a", 1)))
		must(t, s.Append(ctx, once))
		must(t, s.PutImportedMnemonic(ctx, storyWords))
		must(t, s.PutImport(ctx, storyImport))
		f.taken()
		f.fault = func(n int) fate {
			if n > 1 && f.calls[n-2].Operation == "PutItem" && !f.calls[n-2].Applied {
				for _, table := range f.tables {
					clear(table)
				}
			}
			return answered
		}
		if err := call(f.store(t)); !errors.Is(err, errVanished) {
			t.Errorf("%s: %v", name, err)
		} else {
			noSentinel(t, name, err)
		}
	}
}
