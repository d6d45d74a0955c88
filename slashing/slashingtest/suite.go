// Package slashingtest is what every slashing.Ledger must pass.
package slashingtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/slashing"
)

// Opened is an empty ledger, held under epoch 1.
type Opened struct {
	slashing.Ledger
	// Name is what was opened, taken from it, not from what was asked for.
	Name string
	// Hold puts it under another epoch.
	Hold func(t testing.TB, epoch uint64)
	// Again closes it and opens it anew, as after a crash, still under its epoch.
	Again func(t testing.TB) slashing.Ledger
}

type suite struct {
	t    *testing.T
	want string
	open func(testing.TB) Opened
}

// Ledger runs the suite. open opens a ledger of its own each time, named want.
func Ledger(t *testing.T, want string, open func(testing.TB) Opened) {
	s := suite{t, want, open}
	s.must("refuse a key that it does not know", unknown)
	s.must("keep what was signed", keeps)
	s.must("refuse what conflicts", conflicts)
	s.must("judge claims in their order", ordered)
	s.must("let one of two that race win", races)
	s.must("commit many at once", crowd)
	s.must("never lower a mark by adding", adds)
	s.must("sign for its holder only", holder)
	s.must("hold all of a number", numbers)
	s.must("yield every mark by pubkey", lists)
	t.Run("interchange scenarios", func(t *testing.T) { scenarios(t, open) })
}

func (s suite) must(name string, f func(*testing.T, Opened)) {
	s.t.Run(name, func(t *testing.T) {
		o := s.open(t)
		if o.Name != s.want || o.Name == "" {
			t.Fatalf("opened %q, not %q", o.Name, s.want)
		}
		f(t, o)
	})
}

// Key is a pubkey of the suite's.
func Key(n int) (p eth.Pubkey) {
	p[0], p[1], p[47] = byte(n), byte(n>>8), 7
	return p
}

// Attestation is a claim.
func Attestation(key int, source, target uint64, root byte) slashing.Claim {
	return slashing.Claim{Pubkey: Key(key), Source: source, Target: target, Root: eth.Root{root}}
}

// Block is a claim.
func Block(key int, slot uint64, root byte) slashing.Claim {
	return slashing.Claim{Pubkey: Key(key), Block: true, Slot: slot, Root: eth.Root{root}}
}

var ctx = context.Background()

func add(t testing.TB, l slashing.Ledger, marks ...slashing.Mark) {
	t.Helper()
	if err := l.Add(ctx, 1, marks); err != nil {
		t.Fatal(err)
	}
}

// want brings claims one by one and compares each outcome (nil: allowed).
func want(t testing.TB, l slashing.Ledger, epoch uint64, outcome error, claims ...slashing.Claim) {
	t.Helper()
	for _, c := range claims {
		if err := l.Sign(ctx, epoch, []slashing.Claim{c})[0]; !errors.Is(err, outcome) || (err == nil) != (outcome == nil) {
			t.Errorf("%+v: %v, want %v", c, err, outcome)
		}
	}
}

func all(t testing.TB, l slashing.Ledger) (marks []slashing.Mark) {
	t.Helper()
	for m, err := range l.Marks(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		marks = append(marks, m)
	}
	return marks
}

func unknown(t *testing.T, o Opened) {
	want(t, o, 1, slashing.ErrUnknownKey, Attestation(1, 1, 2, 1), Block(1, 3, 1))
	if got := all(t, o); len(got) != 0 {
		t.Errorf("a refusal left %v", got)
	}
}

func keeps(t *testing.T, o Opened) {
	add(t, o, slashing.Mark{Pubkey: Key(1)})
	want(t, o, 1, nil, Attestation(1, 3, 4, 1), Block(1, 99, 2))
	l := o.Again(t)
	marks := all(t, l)
	if len(marks) != 1 || marks[0] != (slashing.Mark{Pubkey: Key(1), Block: true, Slot: 99, BlockRoot: eth.Root{2}, Attestation: true, Source: 3, Target: 4, Root: eth.Root{1}}) {
		t.Fatalf("read back %+v", marks)
	}
	want(t, l, 1, slashing.ErrSlashable, Attestation(1, 3, 4, 9), Block(1, 99, 9), Block(1, 98, 2))
	want(t, l, 1, nil, Attestation(1, 3, 4, 1), Block(1, 99, 2)) // the very same
}

func conflicts(t *testing.T, o Opened) {
	add(t, o, slashing.Mark{Pubkey: Key(1)}, slashing.Mark{Pubkey: Key(2)})
	want(t, o, 1, nil, Attestation(1, 5, 6, 1))
	want(t, o, 1, slashing.ErrSlashable,
		Attestation(1, 5, 6, 2),                              // double vote
		Attestation(1, 4, 7, 1),                              // surrounds
		Attestation(1, 6, 6, 1),                              // target not above
		Attestation(1, 8, 7, 1),                              // source after target
		slashing.Claim{Pubkey: Key(1), Source: 5, Target: 6}) // without a root
	want(t, o, 1, nil, Attestation(2, 5, 6, 2), Attestation(1, 5, 7, 3)) // another key; further on
	want(t, o, 1, nil, Block(1, 7, 1))
	want(t, o, 1, slashing.ErrSlashable, Block(1, 7, 2), Block(1, 6, 1))
	want(t, o, 1, nil, Block(1, 8, 2))
}

func ordered(t *testing.T, o Opened) {
	add(t, o, slashing.Mark{Pubkey: Key(1)}, slashing.Mark{Pubkey: Key(2)})
	errs := o.Sign(ctx, 1, []slashing.Claim{
		Attestation(1, 1, 2, 1), Attestation(1, 1, 2, 2), Attestation(3, 1, 2, 1), Attestation(1, 1, 2, 1), Attestation(2, 1, 2, 2), Block(1, 2, 1), Block(1, 2, 2),
	})
	for i, outcome := range []error{nil, slashing.ErrSlashable, slashing.ErrUnknownKey, nil, nil, nil, slashing.ErrSlashable} {
		if !errors.Is(errs[i], outcome) || (errs[i] == nil) != (outcome == nil) {
			t.Errorf("claim %d: %v, want %v", i, errs[i], outcome)
		}
	}
	if got := o.Sign(ctx, 1, nil); len(got) != 0 {
		t.Errorf("no claims: %v", got)
	}
}

func races(t *testing.T, o Opened) {
	add(t, o, slashing.Mark{Pubkey: Key(1)})
	for target := uint64(1); target <= 20; target++ {
		var mu sync.Mutex
		var group sync.WaitGroup
		var won []byte
		for root := byte(1); root <= 8; root++ {
			group.Go(func() {
				if o.Sign(ctx, 1, []slashing.Claim{Attestation(1, 0, target, root)})[0] == nil {
					mu.Lock()
					won = append(won, root)
					mu.Unlock()
				}
			})
		}
		group.Wait()
		if len(won) != 1 {
			t.Fatalf("target %d: signed with roots %v", target, won)
		}
	}
}

func crowd(t *testing.T, o Opened) {
	const keys = 300
	marks := make([]slashing.Mark, keys)
	for i := range marks {
		marks[i].Pubkey = Key(i)
	}
	add(t, o, marks...)
	var group sync.WaitGroup
	for i := range keys {
		group.Go(func() {
			if err := o.Sign(ctx, 1, []slashing.Claim{Attestation(i, 1, 2, byte(i))})[0]; err != nil {
				t.Errorf("key %d: %v", i, err)
			}
		})
	}
	group.Wait()
	for i, m := range all(t, o.Again(t)) {
		if !m.Attestation || m.Target != 2 {
			t.Fatalf("mark %d: %+v", i, m)
		}
	}
}

func adds(t *testing.T, o Opened) {
	high := slashing.Mark{Pubkey: Key(1), Block: true, Slot: 9, Attestation: true, Source: 7, Target: 8}
	add(t, o, high)
	add(t, o, slashing.Mark{Pubkey: Key(1)}, slashing.Mark{Pubkey: Key(1), Block: true, Slot: 3, Attestation: true, Source: 9, Target: 5}, slashing.Mark{Pubkey: Key(2)})
	marks := all(t, o.Again(t))
	if len(marks) != 2 || marks[0] != (slashing.Mark{Pubkey: Key(1), Block: true, Slot: 9, Attestation: true, Source: 9, Target: 8}) {
		t.Errorf("after adding lower ones: %+v", marks)
	}
}

func holder(t *testing.T, o Opened) {
	add(t, o, slashing.Mark{Pubkey: Key(1)})
	want(t, o, 2, slashing.ErrHolder, Attestation(1, 1, 2, 1))
	o.Hold(t, 2)
	want(t, o, 1, slashing.ErrHolder, Attestation(1, 1, 2, 1), Block(1, 5, 1))
	if err := o.Add(ctx, 1, []slashing.Mark{{Pubkey: Key(2)}}); !errors.Is(err, slashing.ErrHolder) {
		t.Errorf("adding under a former epoch: %v", err)
	}
	want(t, o, 2, nil, Attestation(1, 1, 2, 1))
	want(t, o.Again(t), 1, slashing.ErrHolder, Attestation(1, 1, 3, 1))
}

func numbers(t *testing.T, o Opened) {
	const most = ^uint64(0)
	add(t, o, slashing.Mark{Pubkey: Key(1)})
	want(t, o, 1, nil, Attestation(1, 0, 0, 1), Block(1, 0, 1))
	want(t, o, 1, nil, Attestation(1, 1<<63-1, 1<<63, 1), Block(1, 1<<63, 1))
	want(t, o, 1, slashing.ErrSlashable, Attestation(1, 1, 255, 1), Block(1, 255, 1))
	want(t, o, 1, nil, Attestation(1, most, most, 1), Block(1, most, 1))
	want(t, o.Again(t), 1, slashing.ErrSlashable, Attestation(1, most, most, 2), Block(1, most, 2))
}

func lists(t *testing.T, o Opened) {
	for _, n := range []int{5, 1, 260, 3} {
		add(t, o, slashing.Mark{Pubkey: Key(n)})
	}
	marks := all(t, o)
	if len(marks) != 4 || !slices.IsSortedFunc(marks, func(a, b slashing.Mark) int { return bytes.Compare(a.Pubkey[:], b.Pubkey[:]) }) {
		t.Errorf("%v", marks)
	}
	for _, m := range marks {
		if m != (slashing.Mark{Pubkey: m.Pubkey}) {
			t.Errorf("a key that signed nothing has %+v", m)
		}
	}
}

type scenario struct {
	Root  eth.Root `json:"genesis_validators_root"`
	Steps []struct {
		ShouldSucceed bool            `json:"should_succeed"`
		Interchange   json.RawMessage `json:"interchange"`
		Slashable     bool            `json:"contains_slashable_data"`
		Blocks        []struct {
			Pubkey   eth.Pubkey `json:"pubkey"`
			Slot     string     `json:"slot"`
			Root     eth.Root   `json:"signing_root"`
			Succeed  bool       `json:"should_succeed"`
			Complete bool       `json:"should_succeed_complete"`
		} `json:"blocks"`
		Attestations []struct {
			Pubkey   eth.Pubkey `json:"pubkey"`
			Source   string     `json:"source_epoch"`
			Target   string     `json:"target_epoch"`
			Root     eth.Root   `json:"signing_root"`
			Succeed  bool       `json:"should_succeed"`
			Complete bool       `json:"should_succeed_complete"`
		} `json:"attestations"`
	} `json:"steps"`
}

// scenarios plays the public interchange scenarios on the ledger, reopened
// after each step, and exports and imports it in between.
func scenarios(t *testing.T, open func(testing.TB) Opened) {
	dir := os.Getenv("STAKESEAL_VECTORS")
	for up := ".."; dir == ""; up += "/.." {
		if _, err := os.Stat(up + "/go.mod"); err == nil {
			dir = up + "/../shared/vectors"
		} else if len(up) > 60 {
			t.Fatal("no go.mod above")
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "slashing-interchange", "*.json"))
	if err != nil || len(files) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the public vectors are missing in %s", dir)
		}
		t.Skipf("no public vectors in %s: set STAKESEAL_VECTORS", dir)
	}
	if len(files) < 38 {
		t.Fatalf("only %d scenarios", len(files))
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var s scenario
			if err := json.Unmarshal(data, &s); err != nil {
				t.Fatal(err)
			}
			play(t, s, open)
		})
	}
}

func play(t *testing.T, s scenario, open func(testing.TB) Opened) {
	o := open(t)
	var l slashing.Ledger = o
	number := func(text string) uint64 {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for i, step := range s.Steps {
		imported, err := slashing.Read(bytes.NewReader(step.Interchange), s.Root)
		if (err == nil) != step.ShouldSucceed && !step.Slashable {
			t.Fatalf("step %d: import: %v, want success %v", i, err, step.ShouldSucceed)
		}
		refused := err != nil
		add(t, l, imported...)
		for _, b := range step.Blocks { // an empty database allows what it never saw
			add(t, l, slashing.Mark{Pubkey: b.Pubkey})
		}
		for _, a := range step.Attestations {
			add(t, l, slashing.Mark{Pubkey: a.Pubkey})
		}
		judge := func(c slashing.Claim, want, complete bool) {
			err := l.Sign(ctx, 1, []slashing.Claim{c})[0]
			if err != nil && !errors.Is(err, slashing.ErrSlashable) {
				t.Errorf("step %d: %+v: %v", i, c, err)
			}
			if got := err == nil; got != want && !refused {
				t.Errorf("step %d: %+v: allowed %v, want %v (%v)", i, c, got, want, err)
			} else if got && !complete && !refused {
				t.Errorf("step %d: %+v: allowed, and slashable", i, c)
			}
		}
		for _, b := range step.Blocks {
			judge(slashing.Claim{Pubkey: b.Pubkey, Block: true, Slot: number(b.Slot), Root: b.Root}, b.Succeed, b.Complete || b.Succeed)
		}
		for _, a := range step.Attestations {
			judge(slashing.Claim{Pubkey: a.Pubkey, Source: number(a.Source), Target: number(a.Target), Root: a.Root}, a.Succeed, a.Complete || a.Succeed)
		}
		// What is exported and imported again changes nothing: an import
		// takes maxima.
		before := all(t, l)
		var file bytes.Buffer
		if err := slashing.Write(&file, s.Root, before); err != nil {
			t.Fatal(err)
		}
		again, err := slashing.Read(&file, s.Root)
		if err != nil {
			t.Fatal(err)
		}
		for i := range again {
			if got := before[i].Raise(again[i]); got.Slot != before[i].Slot || got.Source != before[i].Source || got.Target != before[i].Target {
				t.Errorf("step %d: importing its own export makes %+v of %+v", i, got, before[i])
			}
		}
		l = o.Again(t)
	}
}
