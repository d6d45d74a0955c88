package sqlite

import (
	"context"
	"database/sql"
	"slices"
)

// schemaV1 is the schema before there were imports: assignments named births
// alone.
var schemaV1 = slices.Concat(schemaBirths, []string{
	`CREATE TABLE assignments (
  pubkey BLOB NOT NULL PRIMARY KEY REFERENCES births (pubkey),
  signer TEXT NOT NULL,
  epoch  INTEGER NOT NULL CHECK (epoch > 0),
  record TEXT NOT NULL,
  sha256 BLOB NOT NULL CHECK (length(sha256) = 32)
) STRICT, WITHOUT ROWID`,
}, assignmentGuards)

// migrate brings a database of schema 1 to this version's, in one
// transaction: whoever dies in between leaves it as it was, and of two that
// open it at once the second finds it done. Only one whose guards are all in
// force is touched, since its rows are taken over as they are.
func migrate(ctx context.Context, conn *sql.Conn) (err error) {
	do := func(statements ...string) error {
		for _, text := range statements {
			if _, err := conn.ExecContext(ctx, text); err != nil {
				return err
			}
		}
		return nil
	}
	if err := do("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = do("ROLLBACK") // fails where SQLite has done it already
		}
	}()
	var version int64
	if err := conn.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version != 1 {
		return do("COMMIT") // by another process, meanwhile
	}
	if err := holds(ctx, conn, schemaV1); err != nil {
		return err
	}
	// A table's references cannot be changed, so it is made anew, filled
	// before its guards stand: they let an assignment begin at epoch 1 only.
	const columns = "pubkey, signer, epoch, record, sha256"
	if err := do("CREATE TEMP TABLE kept AS SELECT "+columns+" FROM main.assignments", "DROP TABLE main.assignments", schemaAssignments[0],
		"INSERT INTO assignments ("+columns+") SELECT "+columns+" FROM temp.kept ORDER BY pubkey", "DROP TABLE temp.kept"); err != nil {
		return err
	}
	if err := do(schemaAssignments[1:]...); err != nil {
		return err
	}
	if err := do(schemaImports...); err != nil {
		return err
	}
	return do("PRAGMA user_version = 2", "COMMIT")
}
