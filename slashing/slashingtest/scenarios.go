package slashingtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/slashing"
)

// Stage is what a scenario is played on: nothing was signed there yet.
type Stage struct {
	// Raise takes marks, which only rise by it.
	Raise func([]slashing.Mark)
	// Sign asks for what a claim says.
	Sign func(slashing.Claim) error
	// After is called after each step, with the network's genesis validators
	// root; nil: nothing to do.
	After func(eth.Root)
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

// Scenarios plays the public interchange scenarios with minimal protection,
// each on a stage of its own. An answer must be the one for minimal
// protection, and a yes in any case one that complete protection would give
// too.
func Scenarios(t *testing.T, open func(*testing.T) Stage) {
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
			play(t, s, open(t))
		})
	}
}

func play(t *testing.T, s scenario, on Stage) {
	number := func(text string) uint64 {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for i, step := range s.Steps {
		marks, err := slashing.Read(bytes.NewReader(step.Interchange), s.Root)
		// A file with a history that is slashable in itself may be refused
		// whole or taken as maxima: both are safe.
		if (err == nil) != step.ShouldSucceed && !step.Slashable {
			t.Fatalf("step %d: import: %v, want success %v", i, err, step.ShouldSucceed)
		}
		refused := err != nil
		for _, b := range step.Blocks { // an empty database allows what it never saw
			marks = append(marks, slashing.Mark{Pubkey: b.Pubkey})
		}
		for _, a := range step.Attestations {
			marks = append(marks, slashing.Mark{Pubkey: a.Pubkey})
		}
		on.Raise(marks)
		judge := func(c slashing.Claim, want, complete bool) {
			err := on.Sign(c)
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
		if on.After != nil {
			on.After(s.Root)
		}
	}
}
