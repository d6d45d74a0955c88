package bundle

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// FuzzOpen: nothing panics, every refusal has a class, and what reads to its
// end is written again byte for byte.
func FuzzOpen(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := read(data, trust)
		if err != nil {
			if !refused(err) {
				t.Fatalf("an error of no class: %v", err)
			}
			if len(err.Error()) > 4000 {
				t.Fatalf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		if !bytes.Equal(x.write(t), data) {
			t.Fatal("it reads to its end, and is written otherwise")
		}
	})
}

func seeds(t testing.TB) [][]byte {
	t.Helper()
	c := clinic{t, ours}
	one, two := c.finished("o1", 1).write(t), c.finished("o2", 2).write(t)
	lines := bytes.SplitAfter(two, []byte("\n"))
	return [][]byte{one, two, nil, one[:len(one)/2], append(bytes.Clone(one), one...), bytes.Join(lines[1:], nil), lines[0],
		[]byte(`{"schema":"stakeseal/bundle/v1","order":{},"receipt":{}}` + "\n")}
}

// TestSeeds fails when the target starts from nothing.
func TestSeeds(t *testing.T) {
	if len(seeds(t)) == 0 {
		t.Fatal("no seeds")
	}
	if _, err := read(seeds(t)[0], trust); err != nil {
		t.Fatalf("the first seed does not read: %v", err)
	}
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
		targets += len(regexp.MustCompile(`(?m)^func Fuzz\w+\(f `).FindAll(source, -1))
	}
	if targets != 1 {
		t.Errorf("%d fuzz targets, and the seeds are of one", targets)
	}
}
