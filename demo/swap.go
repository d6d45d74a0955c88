package main

import (
	"database/sql"
	"fmt"

	"github.com/stakeseal/stakeseal/record"
)

// swapSealings exchanges the sealed secrets of two births in a store as
// somebody would who has its file and its source: guards dropped and put
// back, checksums made anew. What is left to stop it is what the file cannot hold.
func swapSealings(path string, a, b record.Birth) error {
	db, err := sql.Open("sqlite3", path)
	if err != nil {
		return err
	}
	defer db.Close()
	guards, err := dropGuards(db)
	if err != nil {
		return err
	}
	a.Sealing, b.Sealing = b.Sealing, a.Sealing
	for _, born := range []record.Birth{a, b} {
		object, err := record.EncodeBirth(born)
		if err != nil {
			return err
		}
		sum := record.DigestOf(object)
		if _, err := db.Exec(`UPDATE births SET record_sha256 = ? WHERE pubkey = ?`, sum[:], born.Pubkey[:]); err != nil {
			return fmt.Errorf("couldn't change the record: %w", err)
		}
		if _, err := db.Exec(`UPDATE sealings SET file = ?, digest = ? WHERE pubkey = ?`, born.Sealing.File, born.Sealing.Digest[:], born.Pubkey[:]); err != nil {
			return fmt.Errorf("couldn't swap the sealing: %w", err)
		}
	}
	for _, guard := range guards {
		if _, err := db.Exec(guard); err != nil {
			return fmt.Errorf("couldn't put a guard back: %w", err)
		}
	}
	return nil
}

// dropGuards drops the triggers and returns what makes them again.
func dropGuards(db *sql.DB) (guards []string, err error) {
	rows, err := db.Query(`SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name, guard string
		if err := rows.Scan(&name, &guard); err != nil {
			return nil, err
		}
		names, guards = append(names, name), append(guards, guard)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	for _, name := range names {
		if _, err := db.Exec(`DROP TRIGGER "` + name + `"`); err != nil {
			return nil, err
		}
	}
	return guards, nil
}
