package folder

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
)

func TestConformance(t *testing.T) {
	recordtest.Archive(t, "*folder.Archive", func(t testing.TB) recordtest.OpenedArchive {
		dir := filepath.Join(t.TempDir(), "bundles")
		a, err := Create(dir)
		if err != nil {
			t.Fatal(err)
		}
		closing(t, a)
		return recordtest.OpenedArchive{
			Archive: a,
			Name:    fmt.Sprintf("%T", a),
			Again:   func(t testing.TB) record.Archive { return reopen(t, dir) },
		}
	})
}

func reopen(t testing.TB, dir string) *Archive {
	t.Helper()
	a, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	closing(t, a)
	return a
}

func closing(t testing.TB, a *Archive) {
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
}
