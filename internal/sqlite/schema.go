package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
)

// The database says what it is in its header: "StSl" as application_id, and
// the version of the schema as user_version. A change of the schema raises
// the version; Open brings an earlier version up to this one (migrate.go) and
// refuses a later one.
const (
	applicationID = 0x5374536c
	schemaVersion = 2
)

// schema is every statement that makes the database, word for word as SQLite
// keeps it: identify compares the two, so that a dropped guard is noticed.
var schema = slices.Concat(schemaBirths, schemaAssignments, schemaImports)

var recordsFormat = format{applicationID, schemaVersion, schema}

// schemaBirths is what no version has changed yet.
//
// A record is kept as the one JSON form of package record (docs/formats/
// records.md), whose sha256 stands beside it; other columns repeat from it
// what is searched by. Of a birth the parts lie apart, for lists to leave the
// large ones out: record_sha256 is over the form of the whole.
var schemaBirths = append([]string{
	`CREATE TABLE orders (
  id      TEXT NOT NULL PRIMARY KEY,
  created INTEGER NOT NULL,
  record  TEXT NOT NULL,
  sha256  BLOB NOT NULL CHECK (length(sha256) = 32)
) STRICT, WITHOUT ROWID`,
	`CREATE UNIQUE INDEX orders_by_age ON orders (created, id)`,

	`CREATE TABLE mnemonics (
  seq      INTEGER PRIMARY KEY,
  order_id TEXT NOT NULL REFERENCES orders (id),
  id       TEXT NOT NULL,
  first    INTEGER NOT NULL,
  past     INTEGER NOT NULL,
  record   TEXT NOT NULL,
  sha256   BLOB NOT NULL CHECK (length(sha256) = 32),
  UNIQUE (order_id, id)
) STRICT`,
	`CREATE INDEX mnemonics_by_index ON mnemonics (order_id, first, id)`,

	`CREATE TABLE births (
  seq              INTEGER PRIMARY KEY,
  order_id         TEXT NOT NULL REFERENCES orders (id),
  idx              INTEGER NOT NULL CHECK (idx BETWEEN 0 AND 2147483647),
  pubkey           BLOB NOT NULL UNIQUE CHECK (length(pubkey) = 48),
  mnemonic         TEXT NOT NULL,
  validator        TEXT NOT NULL,
  validator_sha256 BLOB NOT NULL CHECK (length(validator_sha256) = 32),
  record_sha256    BLOB NOT NULL CHECK (length(record_sha256) = 32),
  certificate      TEXT NOT NULL,
  UNIQUE (order_id, idx),
  FOREIGN KEY (order_id, mnemonic) REFERENCES mnemonics (order_id, id)
) STRICT`,

	`CREATE TABLE sealings (
  seq        INTEGER PRIMARY KEY,
  pubkey     BLOB NOT NULL REFERENCES births (pubkey),
  generation INTEGER NOT NULL CHECK (generation >= 0),
  purpose    TEXT NOT NULL,
  previous   BLOB CHECK ((previous IS NULL) = (generation = 0)),
  recipients TEXT NOT NULL,
  digest     BLOB NOT NULL CHECK (length(digest) = 32),
  file       BLOB NOT NULL,
  UNIQUE (pubkey, generation)
) STRICT`,

	`CREATE TABLE events (
  seq      INTEGER PRIMARY KEY,
  order_id TEXT NOT NULL,
  pubkey   BLOB NOT NULL CHECK (length(pubkey) IN (0, 48)),
  kind     TEXT NOT NULL,
  once     TEXT UNIQUE CHECK (once <> ''),
  record   TEXT NOT NULL,
  sha256   BLOB NOT NULL CHECK (length(sha256) = 32)
) STRICT`,
	`CREATE INDEX events_by_order ON events (order_id, seq)`,
	`CREATE INDEX events_by_pubkey ON events (pubkey, seq)`,
	`CREATE INDEX events_by_kind ON events (kind, seq)`,
}, slices.Concat(
	writtenOnce("orders", "id = NEW.id"),
	writtenOnce("mnemonics", "seq = NEW.seq OR (order_id = NEW.order_id AND id = NEW.id)"),
	writtenOnce("births", "seq = NEW.seq OR pubkey = NEW.pubkey OR (order_id = NEW.order_id AND idx = NEW.idx)"),
	writtenOnce("sealings", "seq = NEW.seq OR (pubkey = NEW.pubkey AND generation = NEW.generation)"),
	writtenOnce("events", "seq = NEW.seq OR once = NEW.once"),
)...)

// An assignment is of a key that was born here or imported: two tables, which
// a reference cannot name at once, so a trigger looks.
var schemaAssignments = append([]string{
	`CREATE TABLE assignments (
  pubkey BLOB NOT NULL PRIMARY KEY CHECK (length(pubkey) = 48),
  signer TEXT NOT NULL,
  epoch  INTEGER NOT NULL CHECK (epoch > 0),
  record TEXT NOT NULL,
  sha256 BLOB NOT NULL CHECK (length(sha256) = 32)
) STRICT, WITHOUT ROWID`,
	`CREATE TRIGGER assignments_known BEFORE INSERT ON assignments
WHEN NOT EXISTS (SELECT 1 FROM births WHERE pubkey = NEW.pubkey) AND NOT EXISTS (SELECT 1 FROM imports WHERE pubkey = NEW.pubkey)
BEGIN SELECT RAISE(ABORT, 'an assignment is of a pubkey that is recorded'); END`,
}, assignmentGuards...)

var assignmentGuards = []string{
	`CREATE UNIQUE INDEX assignments_by_signer ON assignments (signer, pubkey)`,
	`CREATE TRIGGER assignments_insert BEFORE INSERT ON assignments
WHEN NEW.epoch <> 1 OR EXISTS (SELECT 1 FROM assignments WHERE pubkey = NEW.pubkey)
BEGIN SELECT RAISE(ABORT, 'the first assignment of a pubkey has epoch 1'); END`,
	`CREATE TRIGGER assignments_update BEFORE UPDATE ON assignments
WHEN NEW.epoch <> OLD.epoch + 1 OR NEW.pubkey <> OLD.pubkey
BEGIN SELECT RAISE(ABORT, 'an assignment changes only with the next epoch'); END`,
	`CREATE TRIGGER assignments_delete BEFORE DELETE ON assignments
BEGIN SELECT RAISE(ABORT, 'an assignment is never deleted'); END`,
}

// schemaImports keeps what was made elsewhere apart from what was born here;
// a pubkey is the one or the other. imported is the part that lists show.
var schemaImports = slices.Concat([]string{
	`CREATE TABLE imported_mnemonics (
  id     TEXT NOT NULL PRIMARY KEY,
  record TEXT NOT NULL,
  sha256 BLOB NOT NULL CHECK (length(sha256) = 32)
) STRICT, WITHOUT ROWID`,
	`CREATE TABLE imports (
  seq             INTEGER PRIMARY KEY,
  pubkey          BLOB NOT NULL UNIQUE CHECK (length(pubkey) = 48),
  mnemonic        TEXT REFERENCES imported_mnemonics (id),
  imported        TEXT NOT NULL,
  imported_sha256 BLOB NOT NULL CHECK (length(imported_sha256) = 32),
  record          TEXT NOT NULL,
  sha256          BLOB NOT NULL CHECK (length(sha256) = 32)
) STRICT`,
	`CREATE TRIGGER imports_not_born BEFORE INSERT ON imports
WHEN EXISTS (SELECT 1 FROM births WHERE pubkey = NEW.pubkey)
BEGIN SELECT RAISE(ABORT, 'a pubkey that was born here is not imported'); END`,
	`CREATE TRIGGER births_not_imported BEFORE INSERT ON births
WHEN EXISTS (SELECT 1 FROM imports WHERE pubkey = NEW.pubkey)
BEGIN SELECT RAISE(ABORT, 'a pubkey that was imported is not born here'); END`,
},
	writtenOnce("imported_mnemonics", "id = NEW.id"),
	writtenOnce("imports", "seq = NEW.seq OR pubkey = NEW.pubkey"),
)

// writtenOnce returns triggers that abort every update and delete. INSERT OR
// REPLACE deletes the row in its way without a delete trigger (unless
// recursive_triggers is on), so the third refuses a row whose key is taken.
func writtenOnce(table, taken string) []string {
	const raise = "BEGIN SELECT RAISE(ABORT, '%[1]s are written once'); END"
	return []string{
		fmt.Sprintf("CREATE TRIGGER %[1]s_update BEFORE UPDATE ON %[1]s\n"+raise, table),
		fmt.Sprintf("CREATE TRIGGER %[1]s_delete BEFORE DELETE ON %[1]s\n"+raise, table),
		fmt.Sprintf("CREATE TRIGGER %[1]s_replace BEFORE INSERT ON %[1]s\nWHEN EXISTS (SELECT 1 FROM %[1]s WHERE %[2]s)\n"+raise, table, taken),
	}
}

// identify refuses any database but one that Create made and whose tables and
// triggers are still all in force.
func identify(conn *sql.Conn) error {
	ctx := context.Background()
	version, err := recordsFormat.version(ctx, conn)
	if err != nil {
		return err
	}
	if version < schemaVersion {
		if err := migrate(ctx, conn); err != nil {
			return fmt.Errorf("couldn't bring it from schema %d to %d: %w", version, schemaVersion, err)
		}
	}
	if err := holds(ctx, conn, schema); err != nil {
		return err
	}
	var mode string
	if err := conn.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" { // set by hand, or by a tool that copied it
		if err := conn.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode); err != nil {
			return err
		}
	}
	if mode != "wal" {
		return fmt.Errorf("its file system does not allow WAL: the journal mode stays %q", mode)
	}
	return nil
}
