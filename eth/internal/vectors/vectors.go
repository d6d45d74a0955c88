// Package vectors finds the public test vectors for the tests of this room.
package vectors

import (
	"os"
	"path/filepath"
	"testing"
)

// Read returns a vector file, named by its path below the vectors' folder:
// $STAKESEAL_VECTORS, else ../shared/vectors beside the repository. Without
// it the test skips, but fails in CI (CI=true), where it must be there.
func Read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(folder(t), filepath.FromSlash(name)))
	if err != nil {
		missing(t, err)
	}
	return data
}

// Glob returns the names, below the vectors' folder, that match a pattern; at
// least one.
func Glob(t testing.TB, pattern string) []string {
	t.Helper()
	base := folder(t)
	found, err := filepath.Glob(filepath.Join(base, filepath.FromSlash(pattern)))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		missing(t, "no file matches "+pattern+" in "+base)
	}
	for i := range found {
		rel, err := filepath.Rel(base, found[i])
		if err != nil {
			t.Fatal(err)
		}
		found[i] = filepath.ToSlash(rel)
	}
	return found
}

func folder(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("STAKESEAL_VECTORS"); dir != "" {
		return dir
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "..", "shared", "vectors")
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the test's folder")
		}
		dir = up
	}
}

func missing(t testing.TB, why any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("public test vectors are missing in CI: %v", why)
	}
	t.Skipf("public test vectors are missing (set STAKESEAL_VECTORS): %v", why)
}
