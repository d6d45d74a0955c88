package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/mattn/go-sqlite3"

	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
)

// former writes a database as the last version with schema 1 left it: what
// its .dump printed.
func former(t *testing.T) string {
	t.Helper()
	script, err := os.ReadFile("testdata/v1.sql")
	must(t, err)
	path := filepath.Join(t.TempDir(), "records.db")
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, raw(t, path, string(script)))
	return path
}

// TestMigrate: whatever a former version wrote is read as it was, and what
// this version adds works on it.
func TestMigrate(t *testing.T) {
	ctx := context.Background()
	path := former(t)
	for range 2 { // the second time it is of this version
		s, err := Open(path)
		must(t, err)
		must(t, s.Verify(ctx))
		o := recordtest.Order("o1", 3)
		m := recordtest.Mnemonic(o, "m1")
		for i := range o.Count {
			b, err := s.Birth(ctx, recordtest.Birth(o, m, i, "").Pubkey)
			if err != nil || b.Index != i || b.Sealing.Digest != recordtest.Birth(o, m, i, "").Sealing.Digest {
				t.Errorf("birth %d: %+v %v", i, b, err)
			}
			a, err := s.Assignment(ctx, b.Pubkey)
			switch {
			case i == 0:
				if !errors.Is(err, record.ErrNotFound) {
					t.Errorf("birth 0: %v", err)
				}
			case err != nil || a != recordtest.Assignment(b, fmt.Sprintf("signer-%d", i), uint64(i)):
				t.Errorf("birth %d: %+v %v", i, a, err)
			}
		}
		must(t, s.Close())
	}
	s := reopen(t, path)
	words := recordtest.ImportedMnemonic("m")
	must(t, s.PutImportedMnemonic(ctx, words))
	i := recordtest.Import(words, 0, "")
	must(t, s.PutImport(ctx, i))
	must(t, s.Assign(ctx, record.Assignment{Pubkey: i.Pubkey, Signer: "signer-a", Epoch: 1, Time: recordtest.Start}))
	o := recordtest.Order("o1", 3)
	born := recordtest.Birth(o, recordtest.Mnemonic(o, "m1"), 2, "")
	must(t, s.Assign(ctx, recordtest.Assignment(born, "signer-3", 3))) // goes on where it was
	must(t, s.Verify(ctx))
}

// TestMigrateRefuses: a database of schema 1 that is not whole stays as it
// is, byte for byte.
func TestMigrateRefuses(t *testing.T) {
	for what, script := range map[string]string{
		"a guard dropped":  "DROP TRIGGER births_update",
		"a guard weakened": "DROP TRIGGER assignments_update; CREATE TRIGGER assignments_update BEFORE UPDATE ON assignments BEGIN SELECT 1; END",
		"a table more":     "CREATE TABLE imports (x)",
	} {
		path := former(t)
		must(t, raw(t, path, script))
		before, err := os.ReadFile(path)
		must(t, err)
		if s, err := Open(path); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v", what, err)
			if err == nil {
				_ = s.Close()
			}
		}
		if after, _ := os.ReadFile(path); !slices.Equal(before, after) {
			t.Errorf("%s: it was changed", what)
		}
	}
}

// TestMigrateAtOnce: of several that open it one does it.
func TestMigrateAtOnce(t *testing.T) {
	path := former(t)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			s, err := Open(path)
			if err != nil {
				t.Error(err)
				return
			}
			if n, err := s.findings(context.Background(), "SELECT pubkey FROM assignments"); err != nil || len(n) != 2 {
				t.Errorf("%d assignments, %v", len(n), err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	must(t, reopen(t, path).Verify(context.Background()))
}

// TestMigrateInterrupted fails everything that the migration does, one after
// the other: each time the database stays of the former version, whole, and
// at last it is of this one.
func TestMigrateInterrupted(t *testing.T) {
	ctx := context.Background()
	path := former(t)
	uri, err := address(path)
	must(t, err)
	failures := 0
	for done := false; !done; {
		db := sql.OpenDB(&connector{uri: uri})
		conn, err := db.Conn(ctx)
		must(t, err)
		asked := 0
		must(t, conn.Raw(func(c any) error {
			c.(*sqlite3.SQLiteConn).RegisterAuthorizer(func(int, string, string, string) int {
				if asked++; asked == failures+1 {
					return sqlite3.SQLITE_DENY
				}
				return sqlite3.SQLITE_OK
			})
			return nil
		}))
		err = migrate(ctx, conn)
		if done = err == nil; !done {
			failures++
		}
		must(t, conn.Raw(func(c any) error { c.(*sqlite3.SQLiteConn).RegisterAuthorizer(nil); return nil }))
		want := schemaV1
		if done {
			want = schema
		}
		must(t, holds(ctx, conn, want))
		var version, assignments int
		must(t, conn.QueryRowContext(ctx, "SELECT (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM assignments)").Scan(&version, &assignments))
		if assignments != 2 || (version == 2) != done {
			t.Fatalf("failure %d: version %d, %d assignments, %v", failures, version, assignments, err)
		}
		must(t, errors.Join(conn.Close(), db.Close()))
	}
	if failures < 50 {
		t.Errorf("only %d failures: not all that it does was failed", failures)
	}
	s := reopen(t, path)
	must(t, s.Verify(ctx))
}
