package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mattn/go-sqlite3"

	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
)

// raw runs SQL on a database as the sqlite3 shell would, without our settings.
func raw(t testing.TB, path string, script string) error {
	t.Helper()
	conn, err := (&sqlite3.SQLiteDriver{}).Open("file:" + path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.(*sqlite3.SQLiteConn).Exec(script, nil)
	if e := conn.Close(); e != nil {
		t.Fatal(e)
	}
	return err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCreate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "records.db")
	s, err := Create(path)
	must(t, err)
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	o := recordtest.Order("o1", 1)
	place(t, s, o)
	wal, err := os.Stat(path + "-wal")
	must(t, err)
	if wal.Mode() != 0o600 {
		t.Errorf("mode of the log %v, want 0600", wal.Mode())
	}
	if _, err := Create(path); !errors.Is(err, record.ErrExists) {
		t.Errorf("created twice: %v", err)
	}
	must(t, s.Close())
	must(t, s.Close())
	entries, err := os.ReadDir(dir)
	must(t, err)
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	got, err := reopen(t, path).Order(context.Background(), "o1")
	if err != nil || got.ID != "o1" {
		t.Errorf("after all this: %v %v", got, err)
	}
}

// TestCreateRefuses: nothing that is there is touched, and a log left of a
// removed database is not played into a new one.
func TestCreateRefuses(t *testing.T) {
	for _, there := range []string{"records.db", "records.db-wal", "records.db-shm", "records.db-journal"} {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, there), []byte("mine"), 0o644))
		if _, err := Create(filepath.Join(dir, "records.db")); !errors.Is(err, record.ErrExists) {
			t.Errorf("%s: got %v, want ErrExists", there, err)
		}
		entries, err := os.ReadDir(dir)
		must(t, err)
		data, err := os.ReadFile(filepath.Join(dir, there))
		if len(entries) != 1 || err != nil || string(data) != "mine" {
			t.Errorf("%s was touched: %v %q %v", there, entries, data, err)
		}
	}
	dir := t.TempDir()
	must(t, os.Symlink(filepath.Join(dir, "nowhere"), filepath.Join(dir, "records.db")))
	if _, err := Create(filepath.Join(dir, "records.db")); !errors.Is(err, record.ErrExists) {
		t.Errorf("a dangling link: got %v, want ErrExists", err)
	}
	if _, err := Create(filepath.Join(dir, "none", "records.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: got %v, want ErrNotExist", err)
	}
}

func TestCreateAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.db")
	var mu sync.Mutex
	var wg sync.WaitGroup
	made := 0
	for range 8 {
		wg.Go(func() {
			s, err := Create(path)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made++
				err = s.Close()
			} else if errors.Is(err, record.ErrExists) {
				err = nil
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made != 1 {
		t.Fatalf("%d of 8 created it", made)
	}
}

func TestPathsWithOddCharacters(t *testing.T) {
	for _, name := range []string{"a b", "a?mode=memory", "a%3f", "a#b", "a'b", "ä", "-a", "a&vfs=x"} {
		path := filepath.Join(t.TempDir(), name)
		s, err := Create(path)
		must(t, err)
		place(t, s, recordtest.Order("o1", 1))
		must(t, s.Close())
		s = reopen(t, path)
		if _, err := s.Order(context.Background(), "o1"); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		entries, err := os.ReadDir(filepath.Dir(path))
		must(t, err)
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), name) {
				t.Errorf("%q: a file %q was made", name, e.Name())
			}
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	write := func(content string) func(*testing.T, string) {
		return func(t *testing.T, path string) { must(t, os.WriteFile(path, []byte(content), 0o600)) }
	}
	after := func(script string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			s, err := Create(path)
			must(t, err)
			must(t, s.Close())
			must(t, raw(t, path, script))
		}
	}
	for name, c := range map[string]struct {
		make func(*testing.T, string)
		want error
	}{
		"nothing there":      {func(*testing.T, string) {}, fs.ErrNotExist},
		"a folder":           {func(t *testing.T, path string) { must(t, os.Mkdir(path, 0o700)) }, ErrNotAStore},
		"an empty file":      {write(""), ErrNotAStore},
		"a text":             {write(strings.Repeat("this is no database\n", 100)), ErrNotAStore},
		"zeroes":             {write(strings.Repeat("\x00", 8192)), ErrNotAStore},
		"a database":         {func(t *testing.T, path string) { must(t, raw(t, path, "CREATE TABLE orders (id TEXT)")) }, ErrNotAStore},
		"another id":         {after("PRAGMA application_id = 1"), ErrNotAStore},
		"no version":         {after("PRAGMA user_version = 0"), ErrNotAStore},
		"a later version":    {after("PRAGMA user_version = 3"), ErrNewer},
		"an earlier version": {after("PRAGMA user_version = 1"), ErrDamaged}, // by its header alone
		"a guard dropped":    {after("DROP TRIGGER births_update"), ErrDamaged},
		"a guard weakened":   {after("DROP TRIGGER births_update; CREATE TRIGGER births_update BEFORE UPDATE ON births BEGIN SELECT 1; END"), ErrDamaged},
		"a table more":       {after("CREATE TABLE mine (x)"), ErrDamaged},
		"an index dropped":   {after("DROP INDEX events_by_kind"), ErrDamaged},
		"its end missing":    {func(t *testing.T, path string) { after("SELECT 1")(t, path); must(t, os.Truncate(path, 4096*3)) }, ErrDamaged},
		"only its header":    {func(t *testing.T, path string) { after("SELECT 1")(t, path); must(t, os.Truncate(path, 100)) }, ErrDamaged},
		"a half page at end": {func(t *testing.T, path string) { after("SELECT 1")(t, path); must(t, os.Truncate(path, 4096*3+17)) }, ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "records.db")
			c.make(t, path)
			before, _ := os.ReadFile(path)
			s, err := Open(path)
			if err == nil {
				_ = s.Close()
			}
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			for _, other := range []error{ErrNotAStore, ErrNewer, ErrDamaged, ErrReadOnly, ErrFull, ErrBusy} {
				if other != c.want && errors.Is(err, other) {
					t.Errorf("%v is also %v", err, other)
				}
			}
			if after, _ := os.ReadFile(path); string(before) != string(after) {
				t.Error("Open changed it")
			}
			if _, err := os.Stat(path); c.want == fs.ErrNotExist && !errors.Is(err, fs.ErrNotExist) {
				t.Error("Open made a file")
			}
		})
	}
	if !errors.Is(ErrDamaged, record.ErrCorrupt) {
		t.Error("ErrDamaged is not ErrCorrupt")
	}
}

// TestOpenRestoresWAL: a copy made by a tool that left the journal mode of
// the copy at delete is opened as what it was.
func TestOpenRestoresWAL(t *testing.T) {
	path := create(t).path
	other := filepath.Join(t.TempDir(), "records.db")
	must(t, raw(t, path, "VACUUM INTO '"+other+"'"))
	s := reopen(t, other)
	place(t, s, recordtest.Order("o1", 1))
	if _, err := os.Stat(other + "-wal"); err != nil {
		t.Error(err)
	}
}

// TestConnections: every connection, writer or reader, has every setting.
func TestConnections(t *testing.T) {
	s := create(t)
	ctx := context.Background()
	want := map[string]int64{"synchronous": 2, "foreign_keys": 1, "trusted_schema": 0, "cell_size_check": 1, "busy_timeout": busyMillis}
	for range readers {
		c, err := s.reader.Conn(ctx)
		must(t, err)
		defer c.Close() // kept, so that each is another
		for pragma, n := range want {
			var got int64
			must(t, c.QueryRowContext(ctx, "PRAGMA "+pragma).Scan(&got))
			if got != n {
				t.Errorf("reader: %s is %d, want %d", pragma, got, n)
			}
		}
		if _, err := c.ExecContext(ctx, "INSERT INTO orders VALUES ('x', 1, 'x', zeroblob(32))"); !errors.Is(classify(err), ErrReadOnly) {
			t.Errorf("a reader wrote: %v", err)
		}
	}
	for pragma, n := range want {
		var got int64
		must(t, s.conn.QueryRowContext(ctx, "PRAGMA "+pragma).Scan(&got))
		if got != n {
			t.Errorf("writer: %s is %d, want %d", pragma, got, n)
		}
	}
}

// TestGuards: whatever a hand at the sqlite3 shell tries, a record that is
// there stays, and an assignment only moves on.
func TestGuards(t *testing.T) {
	s := create(t)
	o := recordtest.Order("o1", 2)
	m := recordtest.Mnemonic(o, "m1")
	place(t, s, o, m)
	b := recordtest.Birth(o, m, 0, "")
	_, err := s.PutBirth(context.Background(), b)
	must(t, err)
	must(t, s.Assign(context.Background(), recordtest.Assignment(b, "a", 1)))
	must(t, s.Append(context.Background(), record.Event{Time: recordtest.Start, Kind: "exported", Actor: "anna", Once: "x"}))
	words := recordtest.ImportedMnemonic("m")
	must(t, s.PutImportedMnemonic(context.Background(), words))
	must(t, s.PutImport(context.Background(), recordtest.Import(words, 0, "")))
	must(t, s.Close())

	dump := func() (out []string) {
		s := reopen(t, s.path)
		for _, table := range []string{"orders", "mnemonics", "births", "sealings", "assignments", "events", "imported_mnemonics", "imports"} {
			found, err := s.findings(context.Background(), "SELECT quote(sha256) || '"+table+"' FROM "+map[bool]string{
				true:  "(SELECT record_sha256 AS sha256 FROM births UNION ALL SELECT validator_sha256 FROM births UNION ALL SELECT digest FROM sealings UNION ALL SELECT file FROM sealings)",
				false: table,
			}[table == "births" || table == "sealings"])
			must(t, err)
			out = append(out, found...)
		}
		return out
	}
	before := dump()
	if len(before) != 14 {
		t.Fatalf("%d checksums", len(before))
	}
	for _, attempt := range []string{
		"UPDATE orders SET record = 'x'", "DELETE FROM orders",
		"INSERT OR REPLACE INTO orders SELECT id, created, 'x', sha256 FROM orders",
		"REPLACE INTO orders SELECT id, created, 'x', sha256 FROM orders",
		"INSERT INTO orders SELECT id, created, 'x', sha256 FROM orders WHERE true ON CONFLICT DO UPDATE SET record = 'x'",
		"UPDATE OR REPLACE orders SET id = 'x'",
		"UPDATE mnemonics SET record = 'x'", "DELETE FROM mnemonics",
		"REPLACE INTO mnemonics SELECT * FROM mnemonics",
		"REPLACE INTO mnemonics SELECT 99, order_id, id, first, past, 'x', sha256 FROM mnemonics",
		"REPLACE INTO mnemonics SELECT seq, order_id, 'm9', first, past, 'x', sha256 FROM mnemonics",
		"UPDATE births SET certificate = 'x'", "UPDATE births SET seq = 5", "DELETE FROM births",
		"REPLACE INTO births SELECT seq, order_id, 1, zeroblob(48), mnemonic, validator, validator_sha256, record_sha256, certificate FROM births",
		"REPLACE INTO births SELECT 99, order_id, 1, pubkey, mnemonic, validator, validator_sha256, record_sha256, 'x' FROM births",
		"REPLACE INTO births SELECT 99, order_id, idx, zeroblob(48), mnemonic, validator, validator_sha256, record_sha256, 'x' FROM births",
		"UPDATE sealings SET file = x'00'", "DELETE FROM sealings",
		"REPLACE INTO sealings SELECT 99, pubkey, generation, purpose, previous, recipients, digest, x'00' FROM sealings",
		"REPLACE INTO sealings SELECT seq, pubkey, 1, purpose, digest, recipients, digest, x'00' FROM sealings",
		"UPDATE events SET record = 'x'", "DELETE FROM events",
		"REPLACE INTO events SELECT 99, order_id, pubkey, kind, once, 'x', sha256 FROM events",
		"REPLACE INTO events SELECT seq, order_id, pubkey, kind, 'y', 'x', sha256 FROM events",
		"INSERT INTO events SELECT 99, order_id, pubkey, kind, once, 'x', sha256 FROM events",
		"DELETE FROM assignments", "UPDATE assignments SET signer = 'b'", "UPDATE assignments SET epoch = 1",
		"UPDATE assignments SET epoch = 3", "UPDATE assignments SET epoch = 0", "UPDATE assignments SET epoch = 2, pubkey = zeroblob(48)",
		"REPLACE INTO assignments SELECT pubkey, 'b', 1, record, sha256 FROM assignments",
		"REPLACE INTO assignments SELECT pubkey, 'b', 2, record, sha256 FROM assignments",
		"INSERT INTO assignments SELECT pubkey, 'b', 2, record, sha256 FROM assignments WHERE true ON CONFLICT DO UPDATE SET signer = 'b'",
		"INSERT INTO assignments VALUES (zeroblob(48), 'b', 2, 'x', zeroblob(32))",
		"UPDATE imports SET record = 'x'", "DELETE FROM imports", "UPDATE imports SET pubkey = zeroblob(48)",
		"REPLACE INTO imports SELECT seq, zeroblob(48), mnemonic, imported, imported_sha256, 'x', sha256 FROM imports",
		"REPLACE INTO imports SELECT 99, pubkey, mnemonic, imported, imported_sha256, 'x', sha256 FROM imports",
		"UPDATE imported_mnemonics SET record = 'x'", "DELETE FROM imported_mnemonics",
		"REPLACE INTO imported_mnemonics SELECT id, 'x', sha256 FROM imported_mnemonics",
		"INSERT INTO imports SELECT 99, b.pubkey, NULL, i.imported, i.imported_sha256, i.record, i.sha256 FROM imports i, births b",
		"INSERT INTO births SELECT 99, order_id, 1, (SELECT pubkey FROM imports), mnemonic, validator, validator_sha256, record_sha256, certificate FROM births",
		"INSERT INTO assignments VALUES (zeroblob(48), 'b', 1, 'x', zeroblob(32))",
		"INSERT INTO births SELECT 99, order_id, 1, x'00', mnemonic, validator, validator_sha256, record_sha256, certificate FROM births",
		"INSERT INTO births SELECT 99, order_id, 'one', zeroblob(48), mnemonic, validator, validator_sha256, record_sha256, certificate FROM births",
	} {
		var se sqlite3.Error
		if err := raw(t, s.path, "PRAGMA recursive_triggers = OFF; "+attempt); !errors.As(err, &se) || se.Code != sqlite3.ErrConstraint {
			t.Errorf("%s: got %v, want a constraint", attempt, err)
		}
	}
	if after := dump(); !slices.Equal(before, after) {
		t.Errorf("changed:\n%v\n%v", before, after)
	}
	s = reopen(t, s.path)
	must(t, s.Verify(context.Background()))
	must(t, s.Assign(context.Background(), recordtest.Assignment(b, "b", 2))) // the guard lets the next epoch pass
}

func TestClosed(t *testing.T) {
	s := create(t)
	o := recordtest.Order("o1", 1000)
	m := recordtest.Mnemonic(o, "m1")
	place(t, s, o, m)
	ctx := context.Background()
	var wg sync.WaitGroup
	var mu sync.Mutex
	stored := map[uint32]bool{}
	started := make(chan struct{}, 8)
	for writer := range uint32(8) {
		wg.Go(func() {
			for i := writer; ; i += 8 {
				err := s.putBirth(ctx, recordtest.Birth(o, m, i, ""))
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				stored[i] = true
				mu.Unlock()
				if i == writer {
					started <- struct{}{}
				}
			}
		})
	}
	for range 8 {
		<-started
	}
	must(t, s.Close()) // while they write
	wg.Wait()
	for what, err := range map[string]error{
		"Place":      second(s.Place(ctx, o)),
		"Order":      second(s.Order(ctx, "o1")),
		"Birth":      second(s.Birth(ctx, recordtest.Birth(o, m, 0, "").Pubkey)),
		"Verify":     s.Verify(ctx),
		"Validators": lastError(s.Validators(ctx, record.Query{})),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: got %v, want ErrClosed", what, err)
		}
	}
	count := 0
	for v, err := range reopen(t, s.path).Validators(ctx, record.Query{}) {
		must(t, err)
		count++
		if !stored[v.Index] {
			t.Errorf("index %d is stored, its writer was told otherwise", v.Index)
		}
	}
	if count != len(stored) {
		t.Errorf("%d stored, %d acknowledged", count, len(stored))
	}
}

func second[T any](_ T, err error) error { return err }

func lastError[T any](rows func(func(T, error) bool)) (last error) {
	for _, err := range rows {
		last = err
	}
	return last
}

// TestBatch: changes that share a transaction share neither refusals nor
// failures.
func TestBatch(t *testing.T) {
	s := create(t)
	gate, entered := make(chan struct{}), make(chan struct{})
	ctx := context.Background()
	var wg sync.WaitGroup
	wg.Go(func() { // holds the writer until the others have queued up
		if err := s.write(ctx, func(*tx) error { close(entered); <-gate; return nil }); err != nil {
			t.Error(err)
		}
	})
	<-entered
	refused := errors.New("refused")
	errs := make([]error, 30)
	runs := make([]int, 30)
	for i := range errs {
		wg.Go(func() {
			errs[i] = s.write(ctx, func(t *tx) error {
				runs[i]++
				o := recordtest.Order(fmt.Sprintf("o%d", i), 1)
				data, err := record.EncodeOrder(o)
				if err != nil {
					return err
				}
				sum := record.DigestOf(data)
				switch i % 3 {
				case 0:
					return refused
				case 1: // writes, then fails: nothing of it may stay
					if err := t.exec("INSERT INTO orders VALUES (?, ?, ?, ?)", o.ID, i, string(data), sum[:]); err != nil {
						return err
					}
					return t.exec("INSERT INTO orders VALUES (?, 0, '', x'00')", o.ID+"x")
				}
				return t.exec("INSERT INTO orders VALUES (?, ?, ?, ?)", o.ID, i, string(data), sum[:])
			})
		})
	}
	for len(s.changes) < len(errs) {
		runtime.Gosched()
	}
	close(gate)
	wg.Wait()
	for i, err := range errs {
		var se sqlite3.Error
		good := []bool{errors.Is(err, refused), errors.As(err, &se) && se.Code == sqlite3.ErrConstraint, err == nil}[i%3]
		if !good {
			t.Errorf("change %d: %v", i, err)
		}
		_, err := s.Order(ctx, fmt.Sprintf("o%d", i))
		if i%3 == 2 && err != nil || i%3 != 2 && !errors.Is(err, record.ErrNotFound) {
			t.Errorf("order of change %d: %v", i, err)
		}
	}
	if !slices.ContainsFunc(runs, func(n int) bool { return n > 1 }) {
		t.Error("no change ran twice: they did not share a transaction")
	}
}
