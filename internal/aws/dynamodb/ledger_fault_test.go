package dynamodb

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
	"github.com/stakeseal/stakeseal/signer"
	"github.com/stakeseal/stakeseal/slashing"
	"github.com/stakeseal/stakeseal/slashing/slashingtest"
)

// signings are the duties of the story below, two to each target: what conflicts
// with a duty is asked for right after it.
var signings = []slashing.Claim{
	slashingtest.Attestation(1, 1, 2, 1), slashingtest.Attestation(1, 1, 2, 2), slashingtest.Attestation(2, 1, 2, 1), slashingtest.Block(1, 9, 1), slashingtest.Block(1, 9, 2),
	slashingtest.Attestation(1, 2, 3, 3), slashingtest.Attestation(1, 1, 4, 1), slashingtest.Attestation(2, 1, 2, 2), slashingtest.Attestation(1, 2, 3, 4),
}

// signed collects what was allowed, over several processes, and fails at the
// first that conflicts with another.
type signed struct {
	t     testing.TB
	marks map[eth.Pubkey]slashing.Mark
}

func (s *signed) note(what string, c slashing.Claim) {
	s.t.Helper()
	mark := s.marks[c.Pubkey]
	next, err := mark.Take(c)
	if err != nil {
		s.t.Errorf("%s: %+v was allowed: %v", what, c, err)
		return
	}
	s.marks[c.Pubkey] = next
}

// sits is a process of signer-a: it makes or opens the ledger, takes the next
// lease, admits both keys and signs. It returns where the first error met it.
func sits(s *Store, name string, allowed func(slashing.Claim)) error {
	if _, err := s.CreateLedger(ctx, name, genesis); err != nil && !errors.Is(err, record.ErrExists) {
		return err
	}
	l, err := s.OpenLedger(ctx, name)
	if err != nil {
		return err
	}
	watermark, err := l.Watermark(ctx)
	if err != nil {
		return err
	}
	old, err := s.Lease(ctx, name)
	if err != nil && !errors.Is(err, record.ErrNotFound) {
		return err
	}
	next := recordtest.Lease(name)
	next.Epoch, next.Beat, next.Ledger, next.Watermark = old.Epoch+1, old.Beat+1, l.Info().ID, watermark
	if err := s.Take(ctx, next); err != nil {
		return err
	}
	if err := l.Hold(ctx, next.Epoch); err != nil {
		return err
	}
	if err := l.Admit(ctx, next.Epoch, []slashing.Admission{{Mark: slashing.Mark{Pubkey: slashingtest.Key(1)}, Assignment: 1}, {Mark: slashing.Mark{Pubkey: slashingtest.Key(2)}, Assignment: 1}}); err != nil {
		return err
	}
	for _, c := range signings {
		err := l.Sign(ctx, next.Epoch, []slashing.Claim{c})[0]
		switch {
		case err == nil:
			allowed(c)
		case !errors.Is(err, slashing.ErrSlashable):
			return err
		}
	}
	if next.Watermark, err = l.Watermark(ctx); err != nil {
		return err
	}
	next.Beat++
	return s.Take(ctx, next)
}

// TestLostAnswersOfSigners loses the answer to each attempt in turn: every
// method knows its own write again, and nothing that was signed is refused.
func TestLostAnswersOfSigners(t *testing.T) {
	for _, terse := range []bool{false, true} {
		f := newFake()
		f.terse = terse
		count := 0
		must(t, sits(f.store(t), "signer-a", func(slashing.Claim) { count++ }))
		n := len(f.taken())
		if n < 20 || count != 4 {
			t.Fatalf("the story is %d calls and %d signatures", n, count)
		}
		for at := 1; at <= n; at++ {
			f := newFake()
			f.terse = terse
			f.fault = func(n int) fate {
				if n == at {
					return lost
				}
				return answered
			}
			got := 0
			if err := sits(f.store(t), "signer-a", func(slashing.Claim) { got++ }); err != nil || got != count {
				t.Errorf("answer %d lost: %d signatures, %v", at, got, err)
			}
			if len(f.calls) <= n {
				t.Errorf("answer %d: nothing was lost", at)
			}
			f.fault = nil
			must(t, f.store(t).Verify(ctx))
		}
	}
}

// TestCrashOfSigners ends a process at each attempt, applied and not, and lets
// the next one replay every duty in another order: no two that conflict are
// ever allowed, what was told to be unknown included.
func TestCrashOfSigners(t *testing.T) {
	f := newFake()
	must(t, sits(f.store(t), "signer-a", func(slashing.Claim) {}))
	n := len(f.taken())
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
			what := fmt.Sprintf("attempt %d, fate %d", at, last)
			s := signed{t, map[eth.Pubkey]slashing.Mark{}}
			err := sits(f.store(t), "signer-a", func(c slashing.Claim) { s.note(what, c) })
			if err == nil {
				t.Fatalf("%s: no error", what)
			}
			noSentinel(t, what, err)
			if errors.Is(err, slashing.ErrSlashable) || errors.Is(err, slashing.ErrHolder) || errors.Is(err, slashing.ErrUnknownKey) {
				t.Errorf("%s: an unknown outcome is %v", what, err)
			}
			f.fault = nil
			must(t, f.store(t).Verify(ctx))
			l := openLedger(t, f.store(t), "signer-a")
			must(t, l.Hold(ctx, 9))
			must(t, l.Admit(ctx, 9, []slashing.Admission{{Mark: slashing.Mark{Pubkey: slashingtest.Key(1)}, Assignment: 1}, {Mark: slashing.Mark{Pubkey: slashingtest.Key(2)}, Assignment: 1}}))
			for _, c := range slices.Backward(signings) {
				if l.Sign(ctx, 9, []slashing.Claim{c})[0] == nil {
					s.note(what+", the next", c)
				}
			}
		}
	}
}

// TestUnknownOutcome: the write of a duty is lost for good, applied or not. In
// the same process the very same duty may be brought again, and whichever of
// two that conflict is allowed, the other is not.
func TestUnknownOutcome(t *testing.T) {
	for _, last := range []fate{lost, unsent} {
		f := newFake()
		l := held(t, f.store(t), 1)
		must(t, sign(l, slashingtest.Attestation(1, 1, 2, 1)))
		tries := 0
		f.fault = func(n int) fate {
			if f.calls[n-1].Operation != "PutItem" {
				return answered
			}
			if tries++; tries > 1 {
				return unsent
			}
			return last
		}
		if err := sign(l, slashingtest.Attestation(1, 2, 3, 1)); !errors.Is(err, session.ErrRemote) {
			t.Fatalf("fate %d: %v", last, err)
		}
		f.fault = nil
		err := sign(l, slashingtest.Attestation(1, 2, 3, 2)) // conflicts with what is not known
		if applied := last == lost; applied != errors.Is(err, slashing.ErrSlashable) || !applied && err != nil {
			t.Errorf("fate %d: a conflicting one: %v", last, err)
		}
		if err := sign(l, slashingtest.Attestation(1, 2, 3, 1)); (err == nil) != (last == lost) {
			t.Errorf("fate %d: the very same: %v", last, err)
		}
		mark, err := l.Watermark(ctx)
		must(t, err)
		if again, err := l.Watermark(ctx); err != nil || again != mark || mark != 2 {
			t.Errorf("watermarks %d, %d, %v", mark, again, err)
		}
	}
}

// TestFailingWatermark: a rise that failed is made up for.
func TestFailingWatermark(t *testing.T) {
	f := newFake()
	l := held(t, f.store(t), 1)
	before, err := l.Watermark(ctx)
	must(t, err)
	must(t, sign(l, slashingtest.Attestation(1, 1, 2, 1)))
	f.fault = func(int) fate { return denied }
	if _, err := l.Watermark(ctx); !errors.Is(err, session.ErrDenied) {
		t.Errorf("%v", err)
	}
	f.fault = nil
	if now, err := l.Watermark(ctx); err != nil || now <= before {
		t.Errorf("%d after %d, %v", now, before, err)
	}
}

func (f *fake) copyOf(table string) map[key]rawItem {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[key]rawItem{}
	for k, it := range f.tables[table] {
		out[k] = clone(it)
	}
	return out
}

func (f *fake) restore(table string, items map[key]rawItem) {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.tables[table])
	maps.Copy(f.tables[table], items)
}

// TestRestoredTable: the ledger's table as it was some time ago, under leases
// that went on. A signer that starts is refused its lease; one that is running
// signs nothing by marks that went back.
func TestRestoredTable(t *testing.T) {
	f := newFake()
	l := held(t, f.store(t), 2)
	must(t, sign(l, slashingtest.Attestation(1, 1, 2, 1)))
	mark, err := l.Watermark(ctx)
	must(t, err)
	lease := recordtest.Lease("signer-a")
	lease.Ledger, lease.Watermark, lease.Holder = l.Info().ID, mark, ""
	must(t, f.store(t).Take(ctx, lease))
	older := f.copyOf(tables.Ledger)

	must(t, sign(l, slashingtest.Attestation(1, 2, 3, 1)))
	lease.Beat++
	lease.Watermark, err = l.Watermark(ctx)
	must(t, err)
	must(t, f.store(t).Take(ctx, lease))
	f.restore(tables.Ledger, older)

	for _, c := range []slashing.Claim{slashingtest.Attestation(1, 2, 3, 2), slashingtest.Attestation(1, 9, 10, 2), slashingtest.Attestation(1, 2, 3, 1)} {
		if err := sign(l, c); !errors.Is(err, record.ErrCorrupt) {
			t.Errorf("the running signer, %+v: %v", c, err)
		}
	}
	next := openLedger(t, f.store(t), "signer-a")
	terms := signer.Terms{Leases: f.store(t), Name: "signer-a", Ledger: next.Info().ID, Where: "here", Watermark: next.Watermark}
	if _, err := signer.TakeLease(ctx, terms); !errors.Is(err, signer.ErrLedger) {
		t.Errorf("starting on it: %v", err)
	}
	f.restore(tables.Ledger, nil) // nothing at all
	if err := sign(l, slashingtest.Attestation(1, 9, 10, 2)); err == nil {
		t.Error("signs on an empty table")
	}
	if _, err := f.store(t).OpenLedger(ctx, "signer-a"); !errors.Is(err, record.ErrNotFound) {
		t.Errorf("opening one of an empty table: %v", err)
	}
}

// TestForeignMarks: the item of another key, of another installation, and of
// another network are not this key's.
func TestForeignMarks(t *testing.T) {
	f := newFake()
	l := held(t, f.store(t), 2)
	must(t, sign(l, slashingtest.Attestation(1, 8, 9, 1)))
	table := f.tables[tables.Ledger]
	one, two := markKey(slashingtest.Key(1), genesis), markKey(slashingtest.Key(2), genesis)
	fresh := func() *Ledger { return openLedger(t, f.store(t), "signer-a") }
	is := clone(table[two])

	it := clone(table[one])
	it["pk"], it["sk"] = map[string]string{"S": two.pk}, map[string]string{"S": two.sk}
	table[two] = it
	if err := sign(fresh(), slashingtest.Attestation(2, 10, 11, 1)); !errors.Is(err, record.ErrCorrupt) {
		t.Errorf("with the mark of another key: %v", err)
	}
	must(t, sign(fresh(), slashingtest.Attestation(1, 9, 10, 1))) // the others go on

	elsewhere := newFake() // the same keys in a table of another name
	elsewhere.tables["arn:aws:dynamodb:eu-central-1:111122223333:table/other-ledger"] = map[key]rawItem{}
	there := tables
	there.Ledger = "arn:aws:dynamodb:eu-central-1:111122223333:table/other-ledger"
	s, err := New(elsewhere.client(), there)
	must(t, err)
	held(t, s, 2)
	table[two] = elsewhere.tables[there.Ledger][two]
	if err := sign(fresh(), slashingtest.Attestation(2, 10, 11, 1)); !errors.Is(err, record.ErrCorrupt) {
		t.Errorf("with the mark of another installation: %v", err)
	}
	head := clone(table[headKey("signer-a")])
	table[headKey("signer-a")] = elsewhere.tables[there.Ledger][headKey("signer-a")]
	if _, err := f.store(t).OpenLedger(ctx, "signer-a"); !errors.Is(err, record.ErrCorrupt) {
		t.Errorf("with the ledger of another installation: %v", err)
	}
	table[headKey("signer-a")], table[two] = head, is

	info, err := f.store(t).ReplaceLedger(ctx, l.Info(), eth.Root{9})
	must(t, err)
	if info.Root != (eth.Root{9}) {
		t.Errorf("made %+v", info)
	}
	other := fresh()
	if err := other.Sign(ctx, 0, []slashing.Claim{slashingtest.Attestation(1, 20, 21, 1)})[0]; !errors.Is(err, slashing.ErrUnknownKey) {
		t.Errorf("of another network: %v", err)
	}
	for m, err := range other.Marks(ctx) {
		t.Errorf("another network's marks are %+v, %v", m, err)
	}
	if got, err := other.Admitted(ctx); err != nil || len(got) != 0 {
		t.Errorf("another network's keys are %v, %v", got, err)
	}
}

// markSeeds are items as they are written, and one that is not.
func markSeeds() []standing {
	m := slashing.Mark{Pubkey: slashingtest.Key(1), Block: true, Slot: 1<<64 - 1, BlockRoot: eth.Root{1}, Attestation: true, Source: 1, Target: 2, Root: eth.Root{2}}
	return []standing{
		{root: genesis, mark: m, signer: "signer-a", ledger: "ledger-1", assignment: 1, held: 2, version: 3},
		{root: genesis, mark: slashing.Mark{Pubkey: slashingtest.Key(2)}, signer: "external:x", ledger: "ledger-2", version: 1},
		{mark: m},
	}
}

// FuzzMark: whatever stands in a key's item, with a digest that fits, it reads
// as the mark of that key and network, which writes the same item again, or is
// ErrCorrupt.
func FuzzMark(f *testing.F) {
	for i, st := range markSeeds() {
		k := markKey(st.mark.Pubkey, st.root)
		f.Add(k.pk, k.sk, st.signer, st.ledger, fmt.Sprint(st.assignment), fmt.Sprint(st.version), fmt.Sprint(st.mark.Slot), st.mark.BlockRoot[:], fmt.Sprint(st.mark.Target), st.mark.Root[:], i%2 == 0)
	}
	f.Fuzz(func(t *testing.T, pk, sk, signer, ledger, assignment, version, slot string, blockRoot []byte, target string, root []byte, whole bool) {
		n := func(s string) types.AttributeValue { return &types.AttributeValueMemberN{Value: s} }
		it := key{pk, sk}.item()
		it[attrSigner], it[attrLedger], it[attrAssignment], it[attrHeld], it[attrVersion] = str(signer), str(ledger), n(assignment), n(assignment), n(version)
		it[attrSlot], it[attrBlockRoot] = n(slot), bin(blockRoot)
		if whole {
			it[attrSource], it[attrTarget], it[attrRoot] = n(target), n(target), bin(root)
		}
		st, _ := it.standing("table")
		it[attrSum] = st.item("table")[attrSum] // as an attacker would note it
		st, err := it.standing("table")
		if err != nil {
			if !errors.Is(err, record.ErrCorrupt) || errors.Is(err, record.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		if markKey(st.mark.Pubkey, st.root) != it.key() || st.version == 0 || !reflect.DeepEqual(st.item("table"), it) {
			t.Fatalf("%+v is read from %v", st, it)
		}
		if _, err := it.standing("another"); !errors.Is(err, record.ErrCorrupt) {
			t.Fatalf("reads in another table: %v", err)
		}
	})
}

// TestMarkSeeds fails when the fuzz target starts from nothing that reads.
func TestMarkSeeds(t *testing.T) {
	for i, st := range markSeeds() {
		got, err := st.item("table").standing("table")
		if want := st.version > 0; (err == nil) != want || want && got != st {
			t.Errorf("seed %d reads as %+v, %v", i, got, err)
		}
	}
	if len(markSeeds()) < 3 {
		t.Error("no seeds")
	}
}

// TestCreateLedgerKnowsItsOwn: the ledger that a lost answer made is the one
// that is returned, and so with one that replaces it.
func TestCreateLedgerKnowsItsOwn(t *testing.T) {
	for _, terse := range []bool{false, true} {
		f := newFake()
		f.terse = terse
		s := f.store(t)
		first := len(f.calls) + 1
		f.fault = func(n int) fate {
			if n == first {
				return lost
			}
			return answered
		}
		info, err := s.CreateLedger(ctx, "signer-a", genesis)
		must(t, err)
		first = len(f.calls) + 2 // the second write of it, after the first has met the one that is there
		next, err := s.ReplaceLedger(ctx, info, genesis)
		must(t, err)
		if stands, err := s.head(ctx, "signer-a"); err != nil || stands.Info != next || stands.beat != 1 {
			t.Errorf("%+v, %v", stands, err)
		}
	}
}
