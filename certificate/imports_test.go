package certificate

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A stranger imports this package with eth and nothing else of ours, and the
// generator links it: what would let a generator open secrets, run programs
// or keep unused methods of its clients alive in the binary must not come
// along (ARCHITECTURE.md, "The generator").
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, "github.com/stakeseal/stakeseal/eth") {
		t.Fatalf("go list says nothing of eth: %q", deps)
	}
	for _, dep := range deps {
		switch {
		case slices.Contains([]string{"os/exec", "net/rpc", "net/http", "text/template", "html/template", "plugin"}, dep):
			t.Errorf("imports %s", dep)
		case strings.HasPrefix(dep, "github.com/stakeseal/stakeseal/") &&
			dep != "github.com/stakeseal/stakeseal/eth" && dep != "github.com/stakeseal/stakeseal/certificate":
			t.Errorf("imports %s: the arrows are certificate -> eth", dep)
		}
	}
}

// A fuzz target whose seed folder vanished starts empty and finds nothing,
// in silence.
func TestFuzzTargetsHaveSeeds(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	targets := 0
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`).FindAllStringSubmatch(string(source), -1) {
			targets++
			seeds, err := filepath.Glob(filepath.Join("testdata", "fuzz", m[1], "*"))
			if err != nil || len(seeds) == 0 {
				t.Errorf("%s has no seed in testdata/fuzz: %v", m[1], err)
			}
		}
	}
	if targets == 0 {
		t.Error("no fuzz target found")
	}
}
