package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mattn/go-sqlite3"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
	"github.com/stakeseal/stakeseal/slashing"
	"github.com/stakeseal/stakeseal/slashing/slashingtest"
)

var bg = context.Background()

func TestLedgerConformance(t *testing.T) {
	slashingtest.Ledger(t, "*sqlite.Ledger", func(t testing.TB) slashingtest.Opened {
		l := createLedger(t)
		if err := l.Hold(bg, 1); err != nil {
			t.Fatal(err)
		}
		o := slashingtest.Opened{Store: l, Name: fmt.Sprintf("%T", l)}
		o.Again = func(t testing.TB) slashingtest.Store {
			l = reopenLedger(t, l)
			return l
		}
		return o
	})
}

func createLedger(t testing.TB) *Ledger {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger.db")
	if _, err := CreateLedger(path, "signer-a", eth.Root{1}); err != nil {
		t.Fatal(err)
	}
	return openLedger(t, path)
}

func openLedger(t testing.TB, path string) *Ledger {
	t.Helper()
	l, err := OpenLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func reopenLedger(t testing.TB, l *Ledger) *Ledger {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return openLedger(t, l.s.path)
}

func TestLedgerIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	if _, err := OpenLedger(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening none: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("opening made one")
	}
	info, err := CreateLedger(path, "signer-a", eth.Root{1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CreateLedger(path, "signer-a", eth.Root{1}); !errors.Is(err, record.ErrExists) {
		t.Errorf("a second time: %v", err)
	}
	if stat, err := os.Stat(path); err != nil || stat.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", stat.Mode(), err)
	}
	l := openLedger(t, path)
	if l.Info() != info || info.Signer != "signer-a" || info.Root != (eth.Root{1}) || !strings.HasPrefix(info.ID, "ledger-") {
		t.Errorf("%+v, made as %+v", l.Info(), info)
	}
	// A log that a former ledger left would be played into a new one.
	other := filepath.Join(t.TempDir(), "ledger.db")
	if err := os.WriteFile(other+"-wal", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := CreateLedger(other, "signer-a", eth.Root{}); !errors.Is(err, record.ErrExists) {
		t.Errorf("beside the log of another: %v", err)
	}
	// Neither kind of database is taken for the other.
	store := create(t)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenLedger(store.path); !errors.Is(err, ErrNotAStore) {
		t.Errorf("a record store: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenLeases(path); !errors.Is(err, ErrNotAStore) {
		t.Errorf("a ledger for leases: %v", err)
	}
}

// TestLedgerIsHeldAlone: a second opener is told at once, in the same process
// too.
func TestLedgerIsHeldAlone(t *testing.T) {
	l := createLedger(t)
	if _, err := OpenLedger(l.s.path); !errors.Is(err, ErrBusy) {
		t.Fatalf("a second opener: %v", err)
	}
	l = reopenLedger(t, l) // and let go of
	if err := l.Hold(bg, 3); err != nil {
		t.Fatal(err)
	}
	if err := l.Hold(bg, 2); !errors.Is(err, slashing.ErrHolder) {
		t.Errorf("an epoch below: %v", err)
	}
	if err := l.Hold(bg, 3); err != nil {
		t.Errorf("the same again: %v", err)
	}
}

// TestLedgerWatermark: it rises with each mark, and a copy made before has a
// lower one.
func TestLedgerWatermark(t *testing.T) {
	l := createLedger(t)
	mark := func() uint64 {
		t.Helper()
		seq, err := l.Watermark(bg)
		if err != nil {
			t.Fatal(err)
		}
		return seq
	}
	if err := errors.Join(l.Hold(bg, 1), l.Add(bg, 1, []slashing.Mark{{Pubkey: slashingtest.Key(1)}})); err != nil {
		t.Fatal(err)
	}
	before := mark()
	if err := l.Sign(bg, 1, []slashing.Claim{slashingtest.Attestation(1, 1, 2, 1)})[0]; err != nil {
		t.Fatal(err)
	}
	after := mark()
	if after <= before {
		t.Errorf("%d, then %d", before, after)
	}
	for _, c := range []slashing.Claim{slashingtest.Attestation(1, 1, 2, 1), slashingtest.Attestation(1, 1, 2, 2), slashingtest.Attestation(2, 1, 2, 2)} {
		l.Sign(bg, 1, []slashing.Claim{c})
		if mark() != after {
			t.Errorf("%+v, which writes nothing, moved it", c)
		}
	}
	l = reopenLedger(t, l)
	if mark() != after {
		t.Error("opening it moved it")
	}
	if err := l.Sign(bg, 1, []slashing.Claim{slashingtest.Block(1, 5, 2)})[0]; err != nil || mark() <= after {
		t.Errorf("after opening it again: %v, %d", err, mark())
	}
}

// pastCode opens the file as any tool would, past our code.
func pastCode(t *testing.T, path string, script string) error {
	t.Helper()
	conn, err := (&sqlite3.SQLiteDriver{}).Open(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.(*sqlite3.SQLiteConn).Exec(script, nil)
	return errors.Join(err, conn.Close())
}

func TestLedgerGuards(t *testing.T) {
	for name, script := range map[string]string{
		"lower a slot":      "UPDATE blocks SET slot = x'0000000000000001', seq = seq + 1",
		"forget a slot":     "UPDATE blocks SET slot = NULL, seq = seq + 1",
		"lower a target":    "UPDATE attestations SET target = x'0000000000000001', seq = seq + 1",
		"lower a source":    "UPDATE attestations SET source = x'0000000000000000', seq = seq + 1",
		"forget epochs":     "UPDATE attestations SET source = NULL, target = NULL, seq = seq + 1",
		"keep the number":   "UPDATE attestations SET root = zeroblob(32)",
		"delete a mark":     "DELETE FROM blocks",
		"delete another":    "DELETE FROM attestations",
		"replace a mark":    "INSERT OR REPLACE INTO blocks SELECT pubkey, NULL, root, seq, sum FROM blocks",
		"replace another":   "INSERT OR REPLACE INTO attestations SELECT pubkey, NULL, NULL, root, seq, sum FROM attestations",
		"another signer":    "UPDATE ledger SET signer = 'signer-b'",
		"an epoch before":   "UPDATE ledger SET epoch = 0",
		"delete the ledger": "DELETE FROM ledger",
	} {
		t.Run(name, func(t *testing.T) {
			l := signedLedger(t)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if err := pastCode(t, l.s.path, script); err == nil {
				t.Error("it was allowed")
			}
			openLedger(t, l.s.path)
		})
	}
}

func signedLedger(t *testing.T) *Ledger {
	t.Helper()
	l := createLedger(t)
	errs := []error{l.Hold(bg, 1), l.Add(bg, 1, []slashing.Mark{{Pubkey: slashingtest.Key(1)}, {Pubkey: slashingtest.Key(2)}})}
	for _, c := range []slashing.Claim{slashingtest.Attestation(1, 5, 6, 1), slashingtest.Block(1, 99, 2)} {
		errs = append(errs, l.Sign(bg, 1, []slashing.Claim{c})...)
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return l
}

// TestLedgerDamage: whatever was changed past the guards is noticed when the
// ledger is opened, and nothing is signed.
func TestLedgerDamage(t *testing.T) {
	drop := "DROP TRIGGER blocks_update; DROP TRIGGER attestations_update; DROP TRIGGER blocks_delete; DROP TRIGGER attestations_delete; "
	restore := strings.Join(ledgerSchema[8:], ";\n") // some exist already: errors are passed over below
	for name, script := range map[string]string{
		"a slot":          "UPDATE blocks SET slot = x'0000000000000001' WHERE slot IS NOT NULL",
		"no slot":         "UPDATE blocks SET slot = NULL",
		"a target":        "UPDATE attestations SET target = x'0000000000000001' WHERE target IS NOT NULL",
		"a root":          "UPDATE attestations SET root = zeroblob(32)",
		"a number":        "UPDATE attestations SET seq = 1000",
		"half a mark":     "DELETE FROM blocks WHERE slot IS NULL",
		"the other half":  "DELETE FROM attestations WHERE target IS NULL",
		"rows exchanged":  "UPDATE blocks SET slot = x'0000000000000063', root = (SELECT root FROM blocks WHERE slot IS NOT NULL), sum = (SELECT sum FROM blocks WHERE slot IS NOT NULL) WHERE slot IS NULL",
		"another journal": "PRAGMA journal_mode = DELETE",
		"a guard dropped": "",
	} {
		t.Run(name, func(t *testing.T) {
			l := signedLedger(t)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if err := pastCode(t, l.s.path, drop+script); err != nil {
				t.Fatal(err)
			}
			if script != "" {
				for _, guard := range strings.SplitAfter(restore, "END") {
					_ = pastCode(t, l.s.path, strings.TrimPrefix(guard, ";\n"))
				}
			}
			got, err := OpenLedger(l.s.path)
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("opened %v, %v", got, err)
			}
		})
	}
	// Another ledger's row is not ours.
	a, b := signedLedger(t), signedLedger(t)
	if err := errors.Join(a.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
	if err := pastCode(t, a.s.path, fmt.Sprintf("ATTACH %q AS b; DROP TRIGGER blocks_update; UPDATE blocks SET sum = (SELECT sum FROM b.blocks x WHERE x.pubkey = blocks.pubkey); %s", b.s.path, ledgerSchema[8])); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenLedger(a.s.path); !errors.Is(err, ErrDamaged) {
		t.Errorf("with a row of another ledger: %v", err)
	}
}

// TestLedgerAdmissions: an assignment only rises, with the mark that came with
// it, and is known again.
func TestLedgerAdmissions(t *testing.T) {
	l := signedLedger(t)
	admit := func(list ...slashing.Admission) error { return l.Admit(bg, 1, list) }
	floor := slashing.Floor(slashingtest.Key(1), 9, 32)
	if err := admit(slashing.Admission{Mark: floor, Assignment: 3}, slashing.Admission{Mark: slashing.Mark{Pubkey: slashingtest.Key(7)}, Assignment: 1}); err != nil {
		t.Fatal(err)
	}
	if err := admit(slashing.Admission{Mark: slashing.Mark{Pubkey: slashingtest.Key(8)}, Assignment: 1}, slashing.Admission{Mark: floor, Assignment: 2}); err == nil {
		t.Error("an assignment went back")
	}
	if err := l.Admit(bg, 9, nil); !errors.Is(err, slashing.ErrHolder) {
		t.Errorf("under another epoch: %v", err)
	}
	before, err := l.Watermark(bg)
	if err != nil {
		t.Fatal(err)
	}
	l = reopenLedger(t, l)
	got, err := l.Admitted(bg)
	if err != nil || len(got) != 2 || got[slashingtest.Key(1)] != 3 || got[slashingtest.Key(7)] != 1 {
		t.Errorf("%v, %v", got, err)
	}
	for _, c := range []slashing.Claim{slashingtest.Attestation(1, 9, 10, 1), slashingtest.Block(1, 351, 1)} {
		if err := l.Sign(bg, 1, []slashing.Claim{c})[0]; !errors.Is(err, slashing.ErrSlashable) {
			t.Errorf("below the floor: %v", err)
		}
	}
	for _, c := range []slashing.Claim{slashingtest.Attestation(1, 9, 11, 1), slashingtest.Block(1, 352, 1)} {
		if err := l.Sign(bg, 1, []slashing.Claim{c})[0]; err != nil {
			t.Errorf("above the floor: %v", err)
		}
	}
	if err := admit(slashing.Admission{Mark: slashing.Mark{Pubkey: slashingtest.Key(7)}, Assignment: 1}); err != nil {
		t.Fatal(err)
	}
	if after, err := l.Watermark(bg); err != nil || after <= before {
		t.Errorf("admitting did not move the watermark: %d, %d, %v", before, after, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := pastCode(t, l.s.path, "UPDATE keys SET assignment = 9, seq = seq + 1"); err != nil {
		t.Fatal(err)
	}
	if _, err := openLedger(t, l.s.path).Admitted(bg); !errors.Is(err, ErrDamaged) {
		t.Errorf("a changed admission: %v", err)
	}
}

// TestLedgerFlippedBits: no flipped byte of the file lets a conflicting
// message be signed.
func TestLedgerFlippedBits(t *testing.T) {
	l := signedLedger(t)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(l.s.path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for at := 0; at < len(whole); at += 131 {
		path := filepath.Join(dir, fmt.Sprint(at))
		flipped := bytes.Clone(whole)
		flipped[at] ^= 0x41
		if err := os.WriteFile(path, flipped, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := OpenLedger(path)
		if err == nil {
			for _, c := range []slashing.Claim{slashingtest.Attestation(1, 5, 6, 9), slashingtest.Block(1, 99, 9)} {
				if err := l.Sign(bg, 1, []slashing.Claim{c})[0]; err == nil {
					t.Errorf("byte %d: signed %+v", at, c)
				}
			}
			_ = l.Close()
		}
		_ = os.Remove(path)
	}
}

func TestLeasesConformance(t *testing.T) {
	recordtest.Leases(t, "*sqlite.Leases", func(t testing.TB) recordtest.OpenedLeases {
		path := filepath.Join(t.TempDir(), "leases.db")
		if err := CreateLeases(path); err != nil {
			t.Fatal(err)
		}
		l := openLeases(t, path)
		return recordtest.OpenedLeases{Store: l, Name: fmt.Sprintf("%T", l), Again: func(t testing.TB) record.Leases { return openLeases(t, path) }}
	})
}

func openLeases(t testing.TB, path string) *Leases {
	t.Helper()
	l, err := OpenLeases(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// TestLeasesFile: it is made once, never by opening, and what was changed past
// the code is refused.
func TestLeasesFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases.db")
	if _, err := OpenLeases(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening none: %v", err)
	}
	if err := CreateLeases(path); err != nil {
		t.Fatal(err)
	}
	if err := CreateLeases(path); !errors.Is(err, record.ErrExists) {
		t.Errorf("a second time: %v", err)
	}
	if err := openLeases(t, path).Take(bg, recordtest.Lease("signer-a")); err != nil {
		t.Fatal(err)
	}
	if err := pastCode(t, path, "DROP TRIGGER leases_update; UPDATE leases SET epoch = 9; "+leasesSchema[2]); err != nil {
		t.Fatal(err)
	}
	if _, err := openLeases(t, path).Lease(bg, "signer-a"); !errors.Is(err, record.ErrCorrupt) {
		t.Errorf("a changed row: %v", err)
	}
}

// BenchmarkLedger is the durable write alone: signatures a second that the
// ledger would allow, one claim each from many clients, and in one request.
func BenchmarkLedger(b *testing.B) {
	for _, batch := range []int{1, 64, 1000} {
		b.Run(fmt.Sprintf("batch-%d", batch), func(b *testing.B) {
			l := createLedger(b)
			marks := make([]slashing.Mark, 1000)
			for i := range marks {
				marks[i].Pubkey = slashingtest.Key(i)
			}
			if err := errors.Join(l.Hold(bg, 1), l.Add(bg, 1, marks)); err != nil {
				b.Fatal(err)
			}
			claims := make([]slashing.Claim, batch)
			target, n := uint64(1), 0
			for b.Loop() {
				for i := range claims {
					if n == len(marks) {
						n, target = 0, target+1
					}
					claims[i] = slashingtest.Attestation(n, target-1, target, 1)
					n++
				}
				if err := errors.Join(l.Sign(bg, 1, claims)...); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "sign/s")
		})
	}
}

// TestLedgerDocs: the page on the files names every table and column.
func TestLedgerDocs(t *testing.T) {
	data, err := os.ReadFile("../../docs/formats/signer.md")
	if err != nil {
		t.Fatal(err)
	}
	l := createLedger(t)
	count := 0
	err = l.s.write(bg, func(x *tx) error {
		rows, err := x.s.conn.QueryContext(bg, "SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table'")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var table, column string
			if err := rows.Scan(&table, &column); err != nil {
				return err
			}
			count++
			_, line, _ := strings.Cut(string(data), "\n| `"+table+"` |")
			line, _, _ = strings.Cut(line, "\n")
			if !strings.Contains(line, "`"+column+"`") {
				t.Errorf("%s.%s is not on the page", table, column)
			}
		}
		return rows.Err()
	})
	if err != nil || count < 15 {
		t.Errorf("%d columns, %v", count, err)
	}
	for _, field := range []string{"signer", "epoch", "beat", "holder", "ledger", "watermark", "where", "time"} {
		if !strings.Contains(string(data), "| `"+field+"` |") {
			t.Errorf("the lease's %s is not on the page", field)
		}
	}
}

// TestLedgerEnded: of which keys it let go a ledger knows by itself, until they
// are admitted anew.
func TestLedgerEnded(t *testing.T) {
	l := signedLedger(t)
	admit := func(key int, assignment uint64) {
		t.Helper()
		if err := l.Admit(bg, 1, []slashing.Admission{{Mark: slashing.Mark{Pubkey: slashingtest.Key(key)}, Assignment: assignment}}); err != nil {
			t.Fatal(err)
		}
	}
	ended := func(want ...int) {
		t.Helper()
		got, err := l.Ended(bg)
		if err != nil || len(got) != len(want) {
			t.Errorf("%v, %v", got, err)
		}
		for _, key := range want {
			if !got[slashingtest.Key(key)] {
				t.Errorf("%d has not ended", key)
			}
		}
	}
	admit(1, 3)
	admit(2, 1)
	before, err := l.Watermark(bg)
	if err != nil {
		t.Fatal(err)
	}
	// Not under that assignment, and not known at all.
	if err := l.End(bg, map[eth.Pubkey]uint64{slashingtest.Key(2): 2, slashingtest.Key(9): 0}); err != nil {
		t.Fatal(err)
	}
	ended()
	for range 2 {
		if err := l.End(bg, map[eth.Pubkey]uint64{slashingtest.Key(1): 3}); err != nil {
			t.Fatal(err)
		}
		l = reopenLedger(t, l)
		ended(1)
	}
	if after, err := l.Watermark(bg); err != nil || after != before+1 {
		t.Errorf("the watermark went from %d to %d, %v", before, after, err)
	}
	if got, err := l.Admitted(bg); err != nil || got[slashingtest.Key(1)] != 3 {
		t.Errorf("%v, %v", got, err)
	}
	admit(1, 3)
	ended()
	if err := l.End(bg, map[eth.Pubkey]uint64{slashingtest.Key(1): 3}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := pastCode(t, l.s.path, "UPDATE keys SET ended = 0, seq = seq + 1"); err != nil {
		t.Fatal(err)
	}
	if _, err := openLedger(t, l.s.path).Ended(bg); !errors.Is(err, ErrDamaged) {
		t.Errorf("a changed end: %v", err)
	}
}
