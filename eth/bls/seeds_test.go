package bls

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSeeds fails when a fuzz target of this package would start from nothing.
func TestSeeds(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	targets := 0
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, body := range strings.Split(string(data), "\nfunc Fuzz")[1:] {
			targets++
			body, _, _ = strings.Cut(body, "\n}\n")
			target, _, _ := strings.Cut(body, "(")
			saved, _ := filepath.Glob("testdata/fuzz/Fuzz" + target + "/*")
			if !strings.Contains(body, "f.Add(") && len(saved) == 0 {
				t.Errorf("Fuzz%s has no seed", target)
			}
		}
	}
	if targets == 0 {
		t.Error("found no fuzz target: this test looks in the wrong place")
	}
}
