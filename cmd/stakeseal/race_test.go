//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestGenerateRace: several processes at once with one order id. The same
// content is one order, and all of them return its one receipt; of different
// contents one wins (G5).
func TestGenerateRace(t *testing.T) {
	s := newSite(t)
	seen := map[string]string{}
	line := func(order string, more ...string) []string {
		return append([]string{"generate", "--order", order, "--keystore", "none", "--yes", "--json"}, more...)
	}
	for round := range 4 {
		order := fmt.Sprintf("same-%d", round)
		var all [][]string
		for i := range 2 + round%3 {
			all = append(all, line(order, "--count", "12", "--label", "round=a", "--workers", fmt.Sprint(1+i)))
		}
		results := s.together(all...)
		for _, o := range results {
			if o.code != 0 || o.out != results[0].out {
				t.Errorf("%s: exit code %d, %d bytes on stdout where the first has %d:\n%s", order, o.code, len(o.out), len(results[0].out), o.err)
			}
		}
		s.filled(order, 12, seen)
		for _, v := range s.receipt(results[0]).Receipt.Validators {
			if seen[v.Pubkey] != fmt.Sprintf("%s/%d", order, v.Index) {
				t.Errorf("%s/%d: the receipt names a validator that stands as %q", order, v.Index, seen[v.Pubkey])
			}
		}
	}
	contents := [][]string{
		{"--count", "5"}, {"--count", "6"}, {"--count", "5", "--compounding"}, {"--count", "5", "--label", "round=b"}, {"--count", "5", "--plan", "1,31"},
	}
	for round := range 4 {
		order := fmt.Sprintf("different-%d", round)
		var all [][]string
		for i := range 2 + round%3 {
			all = append(all, line(order, contents[(round+i)%len(contents)]...))
		}
		results := s.together(all...)
		want := make([]int, len(all))
		for i := range want[1:] {
			want[i+1] = exitConflict
		}
		if got := codes(results); !slices.Equal(got, want) {
			t.Fatalf("%s: exit codes %v, want %v: %+v", order, got, want, results)
		}
		for i, o := range results {
			if o.code == exitConflict {
				if o.out != "" || !strings.Contains(o.err, "error: ") || !strings.Contains(o.err, "hint: ") {
					t.Errorf("%s, the loser: stdout %q, stderr:\n%s", order, o.out, o.err)
				}
				continue
			}
			s.filled(order, s.receipt(o).Receipt.Count, seen)
			// Who won is found again, and nobody else.
			if again := s.must(0, all[i]...); again.out != o.out {
				t.Errorf("%s: the winner gets another receipt the second time", order)
			}
			s.must(exitConflict, all[(i+1)%len(all)]...)
		}
	}
	s.sound()
}

// TestExportRace: of several exports of one validator at once, each into a
// folder of its own, one gives its deposit out.
func TestExportRace(t *testing.T) {
	s := newSite(t)
	s.must(0, "generate", "--order", "first", "--count", "4", "--keystore", "none", "--yes")
	for index, pubkey := range s.owners("first") {
		var all [][]string
		for i := range 3 {
			all = append(all, []string{"deposit", "export", pubkey, "--out", s.path(fmt.Sprintf("out-%d-%d", index, i))})
		}
		results := s.together(all...)
		if got := codes(results); !slices.Equal(got, []int{0, exitConflict, exitConflict}) {
			t.Errorf("exit codes %v, want one 0 and the others 5: %+v", got, results)
		}
		files, err := filepath.Glob(s.path(fmt.Sprintf("out-%d-*", index), "*"))
		if err != nil || len(files) != 1 {
			t.Errorf("%d files, want 1: %q (%v)", len(files), files, err)
		}
	}
}

// TestAssignRace: of several assignments of one validator at once, one wins;
// of an order's, each validator has one signer, and the events say which.
func TestAssignRace(t *testing.T) {
	s := newSite(t)
	settings := filepath.Join(s.home, "home.yaml")
	data, err := os.ReadFile(settings)
	if err != nil {
		t.Fatal(err)
	}
	data = []byte(strings.Replace(string(data), "signers: [signer-a]", "signers: [signer-a, signer-b, signer-c]", 1))
	if err := os.WriteFile(settings, data, 0o600); err != nil {
		t.Fatal(err)
	}
	to := func(signer string, words ...string) []string {
		return append([]string{"assign", "--to", signer}, words...)
	}
	s.must(0, "generate", "--order", "single", "--count", "6", "--keystore", "none", "--yes")
	for _, pubkey := range s.owners("single") {
		results := s.together(to("signer-a", pubkey), to("signer-b", pubkey), to("signer-c", pubkey))
		if got := codes(results); !slices.Equal(got, []int{0, exitConflict, exitConflict}) {
			t.Errorf("exit codes %v, want one 0 and the others 5: %+v", got, results)
		}
		winner := "signer-" + string("abc"[slices.IndexFunc(results, func(o outcome) bool { return o.code == 0 })])
		for _, v := range lines[listed](t, s.must(0, "list", pubkey, "--json").out) {
			if v.Signer != winner {
				t.Errorf("%s won, and %s is recorded", winner, v.Signer)
			}
		}
		// Taking it away at once, too.
		var moves [][]string
		for _, signer := range []string{"signer-a", "signer-b", "signer-c"} {
			if signer != winner {
				moves = append(moves, to(signer, pubkey, "--move", "--yes"))
			}
		}
		results = s.together(moves...)
		if got := codes(results); !slices.Equal(got, []int{0, 0}) && !slices.Equal(got, []int{0, exitConflict}) {
			t.Errorf("moving: exit codes %v: %+v", got, results)
		}
		// The notes of two moves may stand in either order: the epoch tells.
		notes, last := s.assignments(pubkey), ""
		moved := len(notes)
		for _, e := range notes {
			if strings.HasSuffix(e, fmt.Sprintf(" epoch %d", moved)) {
				last = e
			}
		}
		succeeded := 0
		for _, o := range results {
			if o.code == 0 {
				succeeded++
			}
		}
		for _, v := range lines[listed](t, s.must(0, "list", pubkey, "--json").out) {
			if moved != 1+succeeded || !strings.HasPrefix(last, v.Signer+" ") {
				t.Errorf("%d moves succeeded, %d assignments are noted, the last to %q, and %s has it", succeeded, moved, last, v.Signer)
			}
		}
	}
	s.must(0, "generate", "--order", "many", "--count", "24", "--keystore", "none", "--yes")
	for _, o := range s.together(to("signer-a", "--order", "many"), to("signer-b", "--order", "many")) {
		if o.code != 0 && o.code != exitConflict {
			t.Errorf("exit code %d:\n%s", o.code, o.err)
		}
	}
	for index, pubkey := range s.owners("many") {
		noted := s.assignments(pubkey)
		signer := lines[listed](t, s.must(0, "list", pubkey, "--json").out)[0].Signer
		if signer == "" && len(noted) == 0 {
			continue // both stopped before it
		}
		if !slices.Equal(noted, []string{signer + " epoch 1"}) {
			t.Errorf("many/%d is assigned to %q, its events say %q", index, signer, noted)
		}
	}
}

// assignments are a validator's, as its events tell them.
func (s *site) assignments(pubkey string) (list []string) {
	s.Helper()
	var shown struct {
		Events []struct {
			Kind   string            `json:"kind"`
			Detail map[string]string `json:"detail"`
		} `json:"events"`
	}
	decode(s, s.must(0, "show", pubkey, "--json").out, &shown)
	for _, e := range shown.Events {
		if e.Kind == "assigned" {
			list = append(list, e.Detail["signer"]+" epoch "+e.Detail["epoch"])
		}
	}
	return list
}

// TestPlacesRace: a home, an identity, a bundle is made by one of several at
// once, and is whole; importing one bundle several times at once takes it
// once.
func TestPlacesRace(t *testing.T) {
	s := emptySite(t)
	for round := range 3 {
		home := s.path(fmt.Sprintf("home-%d", round))
		results := s.together(slices.Repeat([][]string{{"init", "--home", home, "--network", "hoodi", "--withdrawal-address", testAddress}}, 3)...)
		if got := codes(results); !slices.Equal(got, []int{0, exitConflict, exitConflict}) {
			t.Fatalf("init: exit codes %v: %+v", got, results)
		}
		// The home that stands is sealed to the identities that stand.
		s.must(0, "generate", "--home", home, "--order", "first", "--count", "1", "--keystore", "none", "--yes")
		s.must(0, "recovery", "drill", "--home", home, "--identity", home+"-identities/recovery-a.identity", "--identity", home+"-identities/recovery-b.identity")
		left, err := filepath.Glob(s.path(".stakeseal*"))
		if err != nil || len(left) > 0 {
			t.Errorf("init left %q (%v)", left, err)
		}

		identity := s.path(fmt.Sprintf("anna-%d", round))
		results = s.together(slices.Repeat([][]string{{"identity", "new", "--out", identity, "--json"}}, 3)...)
		if got := codes(results); !slices.Equal(got, []int{0, exitConflict, exitConflict}) {
			t.Errorf("identity new: exit codes %v: %+v", got, results)
		}
		file, err := os.ReadFile(identity)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range results {
			var made struct {
				Recipient string `json:"recipient"`
			}
			if o.code != 0 {
				continue
			}
			if decode(t, o.out, &made); !strings.Contains(string(file), "# public key: "+made.Recipient+"\n") {
				t.Errorf("the recipient printed is not that of the file")
			}
		}
	}
	s.home = s.path("home-0")
	bundle := s.path("first.bundle")
	results := s.together(slices.Repeat([][]string{{"bundle", "export", "--order", "first", "--out", bundle}}, 3)...)
	if got := codes(results); !slices.Equal(got, []int{0, exitConflict, exitConflict}) {
		t.Errorf("bundle export: exit codes %v: %+v", got, results)
	}
	trust, err := os.ReadFile(filepath.Join(s.home, trustFile))
	if err != nil {
		t.Fatal(err)
	}
	other := s.path("other")
	s.must(0, "init", "--home", other, "--network", "hoodi", "--withdrawal-address", testAddress)
	if err := os.WriteFile(filepath.Join(other, trustFile), trust, 0o600); err != nil {
		t.Fatal(err)
	}
	results = s.together(slices.Repeat([][]string{{"bundle", "import", "--home", other, bundle}}, 4)...)
	if got := codes(results); !slices.Equal(got, []int{0, 0, 0, 0}) {
		t.Errorf("bundle import: exit codes %v: %+v", got, results)
	}
	if here, there := s.must(0, "list", "--json").out, s.must(0, "list", "--home", other, "--json").out; here != there || here == "" {
		t.Errorf("the homes list different validators:\n%s%s", here, there)
	}
}
