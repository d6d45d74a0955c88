package tables

import (
	"fmt"
	"maps"
	"slices"
)

// Backup remembers what a table holds. The function that it returns puts that
// back in the table's place, as an administrator may who restores a table to a
// point in time and has it take the name of the former one.
func (s *Store) Backup(tableARN string) (restore func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tables[tableARN]
	if t == nil {
		return nil, fmt.Errorf("there is no table %q", tableARN)
	}
	parts, count, bytes := copied(t.parts), t.count, t.bytes
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		t.parts, t.count, t.bytes = copied(parts), count, bytes
	}, nil
}

// copied shares the items, which are replaced and never changed.
func copied(parts map[string]*partition) map[string]*partition {
	out := map[string]*partition{}
	for hash, p := range parts {
		out[hash] = &partition{order: slices.Clone(p.order), items: maps.Clone(p.items)}
	}
	return out
}
