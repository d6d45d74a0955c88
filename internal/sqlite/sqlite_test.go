package sqlite

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stakeseal/stakeseal/record/recordtest"
)

func TestConformance(t *testing.T) {
	const name = "*sqlite.Store on wal"
	for port, suite := range map[string]func(*testing.T, string, func(testing.TB) recordtest.Opened){
		"Births":      recordtest.Births,
		"Reader":      recordtest.Reader,
		"Catalog":     recordtest.Catalog,
		"Assignments": recordtest.Assignments,
		"Events":      recordtest.Events,
		"Imports":     recordtest.Imports,
	} {
		t.Run(port, func(t *testing.T) { suite(t, name, conforming) })
	}
}

func conforming(t testing.TB) recordtest.Opened {
	s := create(t)
	var mode string
	if err := s.reader.QueryRow("PRAGMA journal_mode").Scan(&mode); err != nil {
		t.Fatal(err)
	}
	return recordtest.Opened{
		Store: s,
		Name:  fmt.Sprintf("%T on %s", s, mode),
		Again: func(t testing.TB) recordtest.Store { return reopen(t, s.path) },
	}
}

// create makes a store in a folder of its own, closed when the test ends.
func create(t testing.TB) *Store {
	t.Helper()
	s, err := Create(filepath.Join(t.TempDir(), "records.db"))
	if err != nil {
		t.Fatal(err)
	}
	closing(t, s)
	return s
}

func reopen(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	closing(t, s)
	return s
}

func closing(t testing.TB, s *Store) {
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
