package beacon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/exit"
)

func leaving(t *testing.T) *fake {
	f := newFake(t)
	f.validators[pubkey(2)] = deposit.Validator{Index: 9, Status: deposit.ActiveExiting, Credentials: eth.Credentials{1, 31: 7}, Balance: 32e9}
	f.lives = map[eth.Pubkey][3]uint64{pubkey(2): {1, 300, 556}}
	return f
}

func TestLives(t *testing.T) {
	f := leaving(t)
	c := chainOf(t, f, leaving(t))
	got, m, err := c.Lives(t.Context(), []eth.Pubkey{pubkey(1), pubkey(2), pubkey(1 << 40), pubkey(2)})
	if err != nil || len(got) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	want := Life{f.validators[pubkey(2)], pubkey(2), 1, 300, 556}
	if got[pubkey(2)] != want || got[pubkey(1<<40)].Exit != exit.FarFuture {
		t.Errorf("%+v", got)
	}
	if m.Slot != 100 || m.Epoch != 3 || m.Deneb != 0 || m.MinimumActive != 256 || len(m.Nodes) != 2 {
		t.Errorf("%+v", m)
	}
	if at, ok := m.Time(3); !ok || !at.Equal(time.Unix(hoodi.GenesisTime+3*384, 0)) {
		t.Errorf("epoch 3 begins %v", at)
	}
	for _, never := range []uint64{exit.FarFuture, 1 << 40, exit.FarFuture / 384} {
		if at, ok := m.Time(never); ok {
			t.Errorf("epoch %d begins %v", never, at)
		}
	}
	// By index: 0 is a validator like any other, and is asked for once.
	byIndex, _, err := c.LivesOf(t.Context(), []uint64{9, 0, 77})
	if err != nil || len(byIndex) != 2 || byIndex[9] != want || byIndex[0].Pubkey != pubkey(1<<40) {
		t.Errorf("%+v, %v", byIndex, err)
	}
	for _, a := range f.asked {
		if strings.Contains(a, "/states/") && !strings.Contains(a, "/states/100/") {
			t.Errorf("asked %s", a)
		}
	}
}

// TestLivesRefused: another chain's rules, nodes that differ, and what lacks a
// field are errors, never an answer.
func TestLivesRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*fake)
		want   error
	}{
		"another Capella":       {func(f *fake) { f.spec = map[string]any{"CAPELLA_FORK_VERSION": "0x03000000"} }, ErrNetwork},
		"other slots":           {func(f *fake) { f.spec = map[string]any{"SLOTS_PER_EPOCH": "16"} }, ErrNetwork},
		"other seconds":         {func(f *fake) { f.spec = map[string]any{"SECONDS_PER_SLOT": "5"} }, ErrNetwork},
		"no time":               {func(f *fake) { f.spec = map[string]any{"SLOTS_PER_EPOCH": "0"} }, ErrNode},
		"no Deneb":              {func(f *fake) { f.spec = map[string]any{"DENEB_FORK_EPOCH": nil} }, ErrNode},
		"another Deneb":         {func(f *fake) { f.spec = map[string]any{"DENEB_FORK_EPOCH": "1"} }, ErrDisagree},
		"another period":        {func(f *fake) { f.spec = map[string]any{"SHARD_COMMITTEE_PERIOD": "0"} }, ErrDisagree},
		"another exit":          {func(f *fake) { f.lives[pubkey(2)] = [3]uint64{1, 301, 556} }, ErrDisagree},
		"another activation":    {func(f *fake) { f.lives[pubkey(2)] = [3]uint64{0, 300, 556} }, ErrDisagree},
		"another withdrawable":  {func(f *fake) { f.lives[pubkey(2)] = [3]uint64{1, 300, 557} }, ErrDisagree},
		"no such validator":     {func(f *fake) { delete(f.validators, pubkey(2)) }, ErrDisagree},
		"another index":         {func(f *fake) { v := f.validators[pubkey(2)]; v.Index = 8; f.validators[pubkey(2)] = v }, ErrDisagree},
		"another network":       {func(f *fake) { f.net, _ = eth.LookupNetwork("mainnet") }, ErrNetwork},
		"another block":         {func(f *fake) { f.blocks[100] = eth.Root{9} }, ErrDisagree},
		"syncing":               {func(f *fake) { f.syncing = true }, ErrNotSynced},
		"blind":                 {func(f *fake) { delete(f.validators, pubkey(1<<40)) }, ErrNode},
		"no configuration":      {func(f *fake) { f.override["/config/spec"] = status(404) }, ErrNode},
		"a number, not a text":  {func(f *fake) { f.spec = map[string]any{"SHARD_COMMITTEE_PERIOD": 256} }, ErrNode},
		"an endless list":       {func(f *fake) { f.spec = map[string]any{"X": strings.Repeat("x", maxSpecBytes)} }, ErrNode},
		"a name twice, by case": {func(f *fake) { f.spec = map[string]any{"deneb_fork_epoch": "9"} }, ErrNode},
	} {
		f := leaving(t)
		c.change(f)
		_, _, err := chainOf(t, leaving(t), f).Lives(t.Context(), []eth.Pubkey{pubkey(2)})
		if !errors.Is(err, c.want) || !errors.Is(err, deposit.ErrChain) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f := leaving(t)
	f.override["/validators"] = func(w http.ResponseWriter, r *http.Request) {
		answer(w, `{"data":[%s]}`, strings.ReplaceAll(validatorJSON(pubkey(1<<40), f.validators[pubkey(1<<40)]), `"exit_epoch"`, `"leaves"`))
	}
	if _, _, err := chainOf(t, f).LivesOf(t.Context(), []uint64{0}); !errors.Is(err, errMissing) {
		t.Errorf("without an epoch: %v", err)
	}
	// Newer configurations tell milliseconds.
	f = leaving(t)
	f.spec = map[string]any{"SECONDS_PER_SLOT": nil, "SLOT_DURATION_MS": "12000"}
	if _, m, err := chainOf(t, f).LivesOf(t.Context(), []uint64{9}); err != nil || m.SecondsPerSlot != 12 {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestSubmit(t *testing.T) {
	good, bad := leaving(t), leaving(t)
	bad.refuse = "Invalid: too\nyoung\x1b[2J"
	s := exit.Signed{Message: exit.Message{Epoch: 7, Index: 9}, Signature: eth.Signature{5}}
	out := chainOf(t, good, bad).Submit(t.Context(), s)
	if len(out) != 2 || out[0].Err != nil || !errors.Is(out[1].Err, ErrNode) || !strings.Contains(out[1].Err.Error(), `"Invalid: too young [2J"`) {
		t.Errorf("%v", out)
	}
	want, _ := json.Marshal(s)
	if len(good.taken) != 1 || good.taken[0] != string(want) {
		t.Errorf("posted %q", good.taken)
	}
	pool, err := chainOf(t, good, bad).InPool(t.Context())
	if err != nil || !maps.Equal(pool, map[exit.Message]bool{s.Message: true}) {
		t.Errorf("%v %v", pool, err)
	}
	for _, f := range []*fake{good, bad} {
		f.override[poolPath] = status(500)
	}
	if _, err := chainOf(t, good, bad).InPool(t.Context()); !errors.Is(err, deposit.ErrChain) {
		t.Errorf("%v", err)
	}
	if out := chainOf(t, good).Submit(t.Context(), s); out[0].Err == nil {
		t.Error("a 500 is taken for a yes")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if out := chainOf(t, leaving(t)).Submit(ctx, s); out[0].Err == nil {
		t.Error("interrupted, and yet taken")
	}
}

// TestSubmitHidesURL: a node that repeats the URL's key in its reason is not
// quoted.
func TestSubmitHidesURL(t *testing.T) {
	for _, key := range []string{"/v3/s3cret", "?token=s3cret"} {
		f := leaving(t)
		f.override[poolPath] = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = fmt.Fprint(w, `{"code":403,"message":"no right for s3cret"}`)
		}
		n, err := NewNode(f.URL+key, 0)
		if err != nil {
			t.Fatal(err)
		}
		err = n.submit(t.Context(), exit.Signed{})
		if err == nil || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "403") {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// FuzzLives: whatever a node answers, nothing that was not asked for, and
// nothing without its epochs.
func FuzzLives(f *testing.F) {
	for _, s := range answerSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		found := map[index]Life{}
		if err := readLives(bytes.NewReader(data), []index{7}, func(l Life) index { return index(l.Index) }, found); err != nil {
			return
		}
		for i, l := range found {
			if i != 7 || l.Index != 7 || !l.Status.Known() {
				t.Fatalf("found %d: %+v", i, l)
			}
		}
	})
}
