package sqlite

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/mattn/go-sqlite3"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/slashing"
)

var _ slashing.Ledger = (*Ledger)(nil)

// Ledger is a slashing ledger in a database of its own. Whoever has it open
// holds it alone (locking_mode EXCLUSIVE): a second process that opens it gets
// ErrBusy at once, and when the holder dies, however that happens, the kernel
// lets go. Marks are read from SQLite's cache in memory and written with one
// commit for all that came in meanwhile.
type Ledger struct {
	s    *Store // its single connection and its group commit
	info slashing.Info
	last int64 // the highest seq that was given out; only changes use it, one at a time
}

// ledgerFormat has "StSg" in the header.
var ledgerFormat = format{0x53745367, 1, ledgerSchema}

// Numbers are 8 bytes big endian, so that they compare as bytes and hold all
// of a uint64. A row with NULLs is of a key that has signed nothing of the
// kind. sum is over the whole row and the ledger's id; seq rises with every
// row that is written, over both tables.
var ledgerSchema = []string{
	`CREATE TABLE ledger (
  one    INTEGER PRIMARY KEY CHECK (one = 1),
  id     TEXT NOT NULL,
  signer TEXT NOT NULL,
  root   BLOB NOT NULL CHECK (length(root) = 32),
  epoch  INTEGER NOT NULL CHECK (epoch >= 0)
) STRICT`,
	`CREATE TABLE blocks (
  pubkey BLOB NOT NULL PRIMARY KEY CHECK (length(pubkey) = 48),
  slot   BLOB CHECK (length(slot) = 8),
  root   BLOB NOT NULL CHECK (length(root) = 32),
  seq    INTEGER NOT NULL CHECK (seq > 0),
  sum    BLOB NOT NULL CHECK (length(sum) = 16)
) STRICT, WITHOUT ROWID`,
	`CREATE TABLE attestations (
  pubkey BLOB NOT NULL PRIMARY KEY CHECK (length(pubkey) = 48),
  source BLOB CHECK (length(source) = 8),
  target BLOB CHECK (length(target) = 8 AND (source IS NULL) = (target IS NULL)),
  root   BLOB NOT NULL CHECK (length(root) = 32),
  seq    INTEGER NOT NULL CHECK (seq > 0),
  sum    BLOB NOT NULL CHECK (length(sum) = 16)
) STRICT, WITHOUT ROWID`,
	// Under which assignment of a key its mark is complete, and whether that
	// assignment has ended.
	`CREATE TABLE keys (
  pubkey     BLOB NOT NULL PRIMARY KEY CHECK (length(pubkey) = 48),
  assignment INTEGER NOT NULL CHECK (assignment > 0),
  ended      INTEGER NOT NULL CHECK (ended IN (0, 1)),
  seq        INTEGER NOT NULL CHECK (seq > 0),
  sum        BLOB NOT NULL CHECK (length(sum) = 16)
) STRICT, WITHOUT ROWID`,
	// The rules are those of package slashing. These guard against whatever
	// would still lower a mark, a later version of ours included.
	`CREATE TRIGGER keys_update BEFORE UPDATE ON keys
WHEN NEW.pubkey <> OLD.pubkey OR NEW.seq <= OLD.seq OR NEW.assignment < OLD.assignment
BEGIN SELECT RAISE(ABORT, 'an assignment only rises'); END`,
	`CREATE TRIGGER keys_delete BEFORE DELETE ON keys
BEGIN SELECT RAISE(ABORT, 'a key is never deleted'); END`,
	`CREATE TRIGGER ledger_update BEFORE UPDATE ON ledger
WHEN NEW.id <> OLD.id OR NEW.signer <> OLD.signer OR NEW.root <> OLD.root OR NEW.epoch < OLD.epoch
BEGIN SELECT RAISE(ABORT, 'a ledger stays what it is'); END`,
	`CREATE TRIGGER ledger_delete BEFORE DELETE ON ledger
BEGIN SELECT RAISE(ABORT, 'a ledger stays what it is'); END`,
	`CREATE TRIGGER blocks_update BEFORE UPDATE ON blocks
WHEN NEW.pubkey <> OLD.pubkey OR NEW.seq <= OLD.seq OR (OLD.slot IS NOT NULL AND (NEW.slot IS NULL OR NEW.slot < OLD.slot))
BEGIN SELECT RAISE(ABORT, 'a mark only rises'); END`,
	`CREATE TRIGGER blocks_delete BEFORE DELETE ON blocks
BEGIN SELECT RAISE(ABORT, 'a mark is never deleted'); END`,
	`CREATE TRIGGER blocks_replace BEFORE INSERT ON blocks
WHEN EXISTS (SELECT 1 FROM blocks WHERE pubkey = NEW.pubkey)
BEGIN SELECT RAISE(ABORT, 'a mark is never replaced'); END`,
	`CREATE TRIGGER attestations_update BEFORE UPDATE ON attestations
WHEN NEW.pubkey <> OLD.pubkey OR NEW.seq <= OLD.seq OR (OLD.target IS NOT NULL AND (NEW.target IS NULL OR NEW.target < OLD.target OR NEW.source < OLD.source))
BEGIN SELECT RAISE(ABORT, 'a mark only rises'); END`,
	`CREATE TRIGGER attestations_delete BEFORE DELETE ON attestations
BEGIN SELECT RAISE(ABORT, 'a mark is never deleted'); END`,
	`CREATE TRIGGER attestations_replace BEFORE INSERT ON attestations
WHEN EXISTS (SELECT 1 FROM attestations WHERE pubkey = NEW.pubkey)
BEGIN SELECT RAISE(ABORT, 'a mark is never replaced'); END`,
}

// CreateLedger makes a new, empty ledger at path with mode 0600 and returns
// what it is. Anything that is at path already is left alone and
// record.ErrExists. It appears whole or not at all.
func CreateLedger(path, signer string, genesisValidatorsRoot eth.Root) (info slashing.Info, err error) {
	info = slashing.Info{ID: "ledger-" + strings.ToLower(rand.Text()), Signer: signer, Root: genesisValidatorsRoot}
	err = createDatabase(path, ledgerFormat, func(db *sqlite3.SQLiteConn) error {
		_, err := db.Exec("INSERT INTO ledger (one, id, signer, root, epoch) VALUES (1, ?, ?, ?, 0)", []driver.Value{info.ID, info.Signer, info.Root[:]})
		return err
	})
	if err != nil {
		return slashing.Info{}, fmt.Errorf("couldn't create ledger %q: %w", path, err)
	}
	return info, nil
}

// OpenLedger opens the ledger that CreateLedger made at path, for this process
// alone, and verifies every mark in it. It never creates one: a ledger that is
// missing is fs.ErrNotExist, one that another process has open ErrBusy.
func OpenLedger(path string) (*Ledger, error) {
	s, err := openDatabase(path, ledgerFormat, true)
	if err != nil {
		return nil, fmt.Errorf("couldn't open ledger %q: %w", path, classify(err))
	}
	l := &Ledger{s: s}
	err = l.s.write(context.Background(), func(t *tx) error {
		var root []byte
		found, err := t.row("SELECT id, signer, root FROM ledger", nil, &l.info.ID, &l.info.Signer, &root)
		if err != nil || !found {
			return errors.Join(err, ErrDamaged)
		}
		copy(l.info.Root[:], root)
		seq, err := l.seq(t)
		l.last = int64(seq)
		return err
	})
	if err == nil {
		for _, err = range l.Marks(context.Background()) {
			if err != nil {
				break
			}
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("couldn't open ledger %q: %w", path, err), l.Close())
	}
	return l, nil
}

// Info says whose ledger it is.
func (l *Ledger) Info() slashing.Info { return l.info }

// Close waits for what was asked, then closes it and lets go of it.
func (l *Ledger) Close() error { return l.s.Close() }

// Hold puts the ledger under an epoch of the lease, from which on only that
// epoch may sign. An epoch below the one that it is held under is
// slashing.ErrHolder; the same one again succeeds.
func (l *Ledger) Hold(ctx context.Context, epoch uint64) error {
	return l.s.write(ctx, func(t *tx) error {
		held, err := heldUnder(t)
		if err != nil {
			return err
		}
		if epoch < held {
			return fmt.Errorf("%w: under epoch %d, not %d", slashing.ErrHolder, held, epoch)
		}
		return t.exec("UPDATE ledger SET epoch = ?", int64(epoch))
	})
}

// Epoch is the epoch of the lease that it is held under.
func (l *Ledger) Epoch(ctx context.Context) (epoch uint64, err error) {
	err = l.s.write(ctx, func(t *tx) error {
		epoch, err = heldUnder(t)
		return err
	})
	return epoch, err
}

func heldUnder(t *tx) (epoch uint64, err error) {
	found, err := t.row("SELECT epoch FROM ledger", nil, &epoch)
	if err == nil && !found {
		err = ErrDamaged
	}
	return epoch, err
}

// Watermark is a number that rises with every mark that is written: a copy of
// the ledger that was made before has a lower one.
func (l *Ledger) Watermark(ctx context.Context) (seq uint64, err error) {
	err = l.s.write(ctx, func(t *tx) error {
		seq, err = l.seq(t)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("couldn't read the ledger: %w", err)
	}
	return seq, nil
}

func (l *Ledger) seq(t *tx) (seq uint64, err error) {
	_, err = t.row("SELECT max(coalesce((SELECT max(seq) FROM blocks), 0), coalesce((SELECT max(seq) FROM attestations), 0), coalesce((SELECT max(seq) FROM keys), 0))", nil, &seq)
	return seq, err
}

// Sign implements slashing.Ledger.
func (l *Ledger) Sign(ctx context.Context, epoch uint64, claims []slashing.Claim) []error {
	errs := make([]error, len(claims))
	outcomes := make([]error, len(claims)) // errs once write has returned nil
	err := l.s.write(ctx, func(t *tx) error {
		for i, c := range claims {
			outcomes[i] = l.sign(t, epoch, c)
			if t.broken {
				return outcomes[i]
			}
		}
		return nil
	})
	if err != nil {
		for i := range errs {
			errs[i] = fmt.Errorf("couldn't write the slashing ledger: %w", err)
		}
		return errs
	}
	return outcomes
}

// sign judges one claim inside the transaction, by what is stored, and stores
// the raised mark.
func (l *Ledger) sign(t *tx, epoch uint64, c slashing.Claim) error {
	query := "SELECT source, target, m.root, seq, sum, epoch FROM attestations m, ledger WHERE pubkey = ?"
	if c.Block {
		query = "SELECT slot, slot, m.root, seq, sum, epoch FROM blocks m, ledger WHERE pubkey = ?"
	}
	r := markRow{pubkey: c.Pubkey, block: c.Block}
	var held uint64
	found, err := t.row(query, []any{c.Pubkey[:]}, &r.low, &r.high, &r.root, &r.seq, &r.sum, &held)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("%w: %v", slashing.ErrUnknownKey, c.Pubkey)
	}
	if held != epoch {
		return fmt.Errorf("%w: under epoch %d, not %d", slashing.ErrHolder, held, epoch)
	}
	mark, err := r.mark(l.info.ID)
	if err != nil {
		return err
	}
	next, err := mark.Take(c)
	if err != nil || next == mark { // the very same again: it is durable already
		return err
	}
	return l.put(t, next, c.Block)
}

// put writes one half of a mark over the row that is there.
func (l *Ledger) put(t *tx, m slashing.Mark, block bool) error {
	r := l.next(m, block)
	if block {
		return t.exec("UPDATE blocks SET slot = ?, root = ?, seq = ?, sum = ? WHERE pubkey = ?", r.high, r.root, r.seq, r.sum, m.Pubkey[:])
	}
	return t.exec("UPDATE attestations SET source = ?, target = ?, root = ?, seq = ?, sum = ? WHERE pubkey = ?", r.low, r.high, r.root, r.seq, r.sum, m.Pubkey[:])
}

// next is the row of one half of a mark, with the next number. A commit that
// fails leaves a gap.
func (l *Ledger) next(m slashing.Mark, block bool) markRow {
	l.last++
	return rowOf(m, block, l.last, l.info.ID)
}

// Add implements slashing.Ledger.
func (l *Ledger) Add(ctx context.Context, epoch uint64, marks []slashing.Mark) error {
	return l.change(ctx, epoch, func(t *tx) error {
		for _, m := range marks {
			if err := l.add(t, m); err != nil {
				return err
			}
		}
		return nil
	})
}

// Admit adds marks as Add does, and notes under which assignment each is
// complete: one that went to another signer and came back is under a later.
func (l *Ledger) Admit(ctx context.Context, epoch uint64, list []slashing.Admission) error {
	return l.change(ctx, epoch, func(t *tx) error {
		for _, a := range list {
			if err := l.add(t, a.Mark); err != nil {
				return err
			}
			if err := l.putKey(t, a.Mark.Pubkey, admission{a.Assignment, false}); err != nil {
				return err
			}
		}
		return nil
	})
}

// admission is what the ledger says of a key's assignment.
type admission struct {
	assignment uint64
	ended      bool
}

func (l *Ledger) putKey(t *tx, pubkey eth.Pubkey, a admission) error {
	l.last++
	return t.exec(`INSERT INTO keys (pubkey, assignment, ended, seq, sum) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (pubkey) DO UPDATE SET assignment = ?2, ended = ?3, seq = ?4, sum = ?5`,
		pubkey[:], int64(a.assignment), a.ended, l.last, l.admissionSum(pubkey, a, l.last))
}

// End notes of keys that their assignments are over for this ledger: what was
// signed since is not in it, also if a store that was restored to an earlier
// time says that it is the key's signer still. Admit takes them in again. Keys
// that are not under the assignment given stay as they are.
func (l *Ledger) End(ctx context.Context, keys map[eth.Pubkey]uint64) error {
	err := l.s.write(ctx, func(t *tx) error {
		admitted, err := l.admissions(t)
		for pubkey, assignment := range keys {
			if a := admitted[pubkey]; err == nil && a == (admission{assignment, false}) && assignment > 0 {
				a.ended = true
				err = l.putKey(t, pubkey, a)
			}
		}
		t.broken = t.broken || err != nil
		return err
	})
	if err != nil {
		return fmt.Errorf("couldn't write the slashing ledger: %w", err)
	}
	return nil
}

// Ended are the keys whose assignments are over for this ledger.
func (l *Ledger) Ended(ctx context.Context) (map[eth.Pubkey]bool, error) {
	ended := map[eth.Pubkey]bool{}
	err := l.eachAdmission(ctx, func(pubkey eth.Pubkey, a admission) {
		if a.ended {
			ended[pubkey] = true
		}
	})
	return ended, err
}

// Admitted is the assignment epoch of every key that was admitted.
func (l *Ledger) Admitted(ctx context.Context) (map[eth.Pubkey]uint64, error) {
	admitted := map[eth.Pubkey]uint64{}
	err := l.eachAdmission(ctx, func(pubkey eth.Pubkey, a admission) { admitted[pubkey] = a.assignment })
	return admitted, err
}

func (l *Ledger) eachAdmission(ctx context.Context, do func(eth.Pubkey, admission)) error {
	var all map[eth.Pubkey]admission
	err := l.s.write(ctx, func(t *tx) (err error) {
		all, err = l.admissions(t)
		return err
	})
	if err != nil {
		return fmt.Errorf("couldn't read the slashing ledger: %w", err)
	}
	for pubkey, a := range all {
		do(pubkey, a)
	}
	return nil
}

func (l *Ledger) admissions(t *tx) (map[eth.Pubkey]admission, error) {
	rows, err := t.s.conn.QueryContext(context.Background(), "SELECT pubkey, assignment, ended, seq, sum FROM keys")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[eth.Pubkey]admission{}
	for rows.Next() {
		var pubkey, sum []byte
		var a admission
		var seq int64
		if err := rows.Scan(&pubkey, &a.assignment, &a.ended, &seq, &sum); err != nil {
			return nil, err
		}
		if len(pubkey) != len(eth.Pubkey{}) || !bytes.Equal(sum, l.admissionSum(eth.Pubkey(pubkey), a, seq)) {
			return nil, fmt.Errorf("%w: an admission", ErrDamaged)
		}
		all[eth.Pubkey(pubkey)] = a
	}
	return all, rows.Err()
}

// Complete is what Admitted says of the keys given: no other signer's ledger is
// in this file.
func (l *Ledger) Complete(ctx context.Context, pubkeys []eth.Pubkey) (map[eth.Pubkey]uint64, error) {
	admitted, err := l.Admitted(ctx)
	if err != nil {
		return nil, err
	}
	complete := map[eth.Pubkey]uint64{}
	for _, p := range pubkeys {
		if epoch, ok := admitted[p]; ok {
			complete[p] = epoch
		}
	}
	return complete, nil
}

func (l *Ledger) admissionSum(pubkey eth.Pubkey, a admission, seq int64) []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\nadmitted %x %d %t %d\n", l.info.ID, pubkey[:], a.assignment, a.ended, seq))
	return sum[:16]
}

// change runs do under the epoch of the lease: all of it or nothing.
func (l *Ledger) change(ctx context.Context, epoch uint64, do func(*tx) error) error {
	err := l.s.write(ctx, func(t *tx) error {
		held, err := heldUnder(t)
		if err != nil {
			return err
		}
		if held != epoch {
			return fmt.Errorf("%w: under epoch %d, not %d", slashing.ErrHolder, held, epoch)
		}
		err = do(t)
		t.broken = t.broken || err != nil // what was written before goes too
		return err
	})
	if err != nil {
		return fmt.Errorf("couldn't add to the slashing ledger: %w", err)
	}
	return nil
}

func (l *Ledger) add(t *tx, m slashing.Mark) error {
	var halves [2]slashing.Mark
	for i, table := range []string{"SELECT slot, slot, root, seq, sum FROM blocks WHERE pubkey = ?", "SELECT source, target, root, seq, sum FROM attestations WHERE pubkey = ?"} {
		r := markRow{pubkey: m.Pubkey, block: i == 0}
		found, err := t.row(table, []any{m.Pubkey[:]}, &r.low, &r.high, &r.root, &r.seq, &r.sum)
		if err != nil {
			return err
		}
		if !found {
			if err := l.insert(t, m, r.block); err != nil {
				return err
			}
			continue
		}
		if halves[i], err = r.mark(l.info.ID); err != nil {
			return err
		}
		raised := halves[i].Raise(half(m, r.block))
		if raised == halves[i] {
			continue
		}
		if err := l.put(t, raised, r.block); err != nil {
			return err
		}
	}
	return nil
}

func (l *Ledger) insert(t *tx, m slashing.Mark, block bool) error {
	r := l.next(m, block)
	if block {
		return t.exec("INSERT INTO blocks (pubkey, slot, root, seq, sum) VALUES (?, ?, ?, ?, ?)", m.Pubkey[:], r.high, r.root, r.seq, r.sum)
	}
	return t.exec("INSERT INTO attestations (pubkey, source, target, root, seq, sum) VALUES (?, ?, ?, ?, ?, ?)", m.Pubkey[:], r.low, r.high, r.root, r.seq, r.sum)
}

// half is a mark without its other half.
func half(m slashing.Mark, block bool) slashing.Mark {
	if block {
		return slashing.Mark{Pubkey: m.Pubkey, Block: m.Block, Slot: m.Slot, BlockRoot: m.BlockRoot}
	}
	return slashing.Mark{Pubkey: m.Pubkey, Attestation: m.Attestation, Source: m.Source, Target: m.Target, Root: m.Root}
}

// Marks implements slashing.Ledger.
func (l *Ledger) Marks(ctx context.Context) iter.Seq2[slashing.Mark, error] {
	return func(yield func(slashing.Mark, error) bool) {
		var marks []slashing.Mark
		err := l.s.write(ctx, func(t *tx) (err error) {
			marks, err = l.marks(t)
			return err
		})
		if err != nil {
			yield(slashing.Mark{}, fmt.Errorf("couldn't read the slashing ledger: %w", err))
			return
		}
		for _, m := range marks {
			if !yield(m, nil) {
				return
			}
		}
	}
}

func (l *Ledger) marks(t *tx) (marks []slashing.Mark, err error) {
	// A full join: a half that is missing is damage, not a key that signed
	// nothing.
	rows, err := t.s.conn.QueryContext(context.Background(), `SELECT b.pubkey, b.slot, b.root, b.seq, b.sum, a.pubkey, a.source, a.target, a.root, a.seq, a.sum
FROM blocks b FULL JOIN attestations a ON a.pubkey = b.pubkey ORDER BY coalesce(b.pubkey, a.pubkey)`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		b, a := markRow{block: true}, markRow{}
		var pb, pa []byte
		var seqB, seqA sql.NullInt64
		if err := rows.Scan(&pb, &b.high, &b.root, &seqB, &b.sum, &pa, &a.low, &a.high, &a.root, &seqA, &a.sum); err != nil {
			return nil, err
		}
		if !bytes.Equal(pb, pa) || len(pb) != len(eth.Pubkey{}) {
			return nil, fmt.Errorf("%w: half of a mark is missing", ErrDamaged)
		}
		b.pubkey, a.pubkey = eth.Pubkey(pb), eth.Pubkey(pb)
		b.low, b.seq, a.seq = b.high, seqB.Int64, seqA.Int64
		m, err := b.mark(l.info.ID)
		if err != nil {
			return nil, err
		}
		att, err := a.mark(l.info.ID)
		if err != nil {
			return nil, err
		}
		m.Attestation, m.Source, m.Target, m.Root = att.Attestation, att.Source, att.Target, att.Root
		marks = append(marks, m)
	}
	return marks, rows.Err()
}

// markRow is a row of blocks (low and high the slot) or of attestations.
type markRow struct {
	pubkey    eth.Pubkey
	block     bool
	low, high []byte // nil: nothing was signed
	root, sum []byte
	seq       int64
}

func rowOf(m slashing.Mark, block bool, seq int64, ledger string) markRow {
	r := markRow{pubkey: m.Pubkey, block: block, seq: seq}
	switch {
	case block:
		r.root = m.BlockRoot[:]
		if m.Block {
			r.low, r.high = number8(m.Slot), number8(m.Slot)
		}
	default:
		r.root = m.Root[:]
		if m.Attestation {
			r.low, r.high = number8(m.Source), number8(m.Target)
		}
	}
	r.sum = r.digest(ledger)
	return r
}

// mark is one half of a mark, if the row is as it was written.
func (r markRow) mark(ledger string) (slashing.Mark, error) {
	m := slashing.Mark{Pubkey: r.pubkey}
	if len(r.root) != 32 || !bytes.Equal(r.sum, r.digest(ledger)) || (r.low == nil) != (r.high == nil) || r.low != nil && (len(r.low) != 8 || len(r.high) != 8) {
		return m, fmt.Errorf("%w: the mark of %v", ErrDamaged, r.pubkey)
	}
	if r.high == nil {
		return m, nil
	}
	if r.block {
		m.Block, m.Slot, m.BlockRoot = true, binary.BigEndian.Uint64(r.high), eth.Root(r.root)
	} else {
		m.Attestation, m.Source, m.Target, m.Root = true, binary.BigEndian.Uint64(r.low), binary.BigEndian.Uint64(r.high), eth.Root(r.root)
	}
	return m, nil
}

func (r markRow) digest(ledger string) []byte {
	h := sha256.New()
	kind := byte(0)
	if r.block {
		kind = 1
	}
	fmt.Fprintf(h, "%s\n", ledger)
	h.Write([]byte{kind, byte(len(r.low)), byte(len(r.high))})
	h.Write(r.pubkey[:])
	h.Write(r.low)
	h.Write(r.high)
	h.Write(r.root)
	h.Write(number8(uint64(r.seq)))
	return h.Sum(nil)[:16]
}

func number8(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
