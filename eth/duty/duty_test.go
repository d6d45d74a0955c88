package duty_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/duty"
)

type example struct {
	Name    string          `json:"name"`
	Body    json.RawMessage `json:"body"`
	Object  eth.Root        `json:"object_root"`
	Signing eth.Root        `json:"signing_root"`
}

func examples(t testing.TB) []example {
	t.Helper()
	data, err := os.ReadFile("testdata/roots.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases []example }
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	return file.Cases
}

var hoodi, _ = eth.LookupNetwork("hoodi")

// TestRoots compares with roots that the executable specs' library computed,
// for every kind and fork, on both sides of a fork.
func TestRoots(t *testing.T) {
	seen := map[string]int{}
	for _, e := range examples(t) {
		r, err := duty.Parse(e.Body)
		if err != nil {
			t.Errorf("%s: %v", e.Name, err)
			continue
		}
		seen[string(r.Kind)+" "+r.Version]++
		if r.Object != e.Object {
			t.Errorf("%s: object %v, want %v", e.Name, r.Object, e.Object)
		}
		if got, err := r.SigningRoot(hoodi); err != nil || got != e.Signing {
			t.Errorf("%s: %v, %v, want %v", e.Name, got, err, e.Signing)
		}
	}
	for _, kind := range duty.Kinds() {
		n := 0
		for name, count := range seen {
			if strings.HasPrefix(name, string(kind)+" ") {
				n += count
			}
		}
		if n < 2 {
			t.Errorf("%s has %d examples", kind, n)
		}
	}
	if len(seen) != 8+8+13 {
		t.Errorf("%d kinds and forks: %v", len(seen), seen)
	}
}

// TestPublicExamples: those of the remote signing API's own specification,
// whose roots are Web3Signer's.
func TestPublicExamples(t *testing.T) {
	data, err := os.ReadFile("testdata/remote-signing-api.json")
	if err != nil {
		t.Fatal(err)
	}
	var file map[string]json.RawMessage
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	n, err := eth.NewNetwork(eth.Network{Name: "example", GenesisForkVersion: eth.Version{9, 9, 9, 9}, ExitForkVersion: eth.Version{0, 0, 0, 1}})
	if err != nil {
		t.Fatal(err)
	}
	n.GenesisForkVersion = eth.Version{0, 0, 0, 1} // registrations are signed for it there
	read := 0
	for name, body := range file {
		r, err := duty.Parse(body)
		if strings.Contains(name, "DEPRECATED") || name == "AGGREGATE_AND_PROOF" {
			if !errors.Is(err, duty.ErrMalformed) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if strings.HasPrefix(name, "SYNC_COMMITTEE_CONTRIBUTION") || name == "BLOCK_V2 (ALTAIR)" { // of the minimal preset, with small sync committees
			if !errors.Is(err, duty.ErrMalformed) || !strings.Contains(err.Error(), "bits") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if name == "AGGREGATION_SLOT" { // printed there with names that no client sends
			if !errors.Is(err, duty.ErrMalformed) {
				t.Errorf("%s, with previousVersion: %v", name, err)
			}
			body = bytes.ReplaceAll(bytes.ReplaceAll(body, []byte("previousVersion"), []byte("previous_version")), []byte("currentVersion"), []byte("current_version"))
			r, err = duty.Parse(body)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		read++
		if _, err := r.SigningRoot(n); err != nil || r.Claimed == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if read < 12 {
		t.Errorf("only %d examples", read)
	}
}
