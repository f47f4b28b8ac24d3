package sqldb

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// maxFindings bounds what Check lists of one kind.
const maxFindings = 20

// Check reads every page of a SQLite database and every foreign key. A database
// that is not sound is ErrCorrupt, with what SQLite found. PostgreSQL has checksums
// and tools of its own (pg_amcheck): there nothing is done.
func (db *DB) Check(ctx context.Context) error {
	if db.name == Postgres {
		return nil
	}
	var findings []string
	rows, err := db.reader.QueryContext(ctx, fmt.Sprintf("PRAGMA integrity_check(%d)", maxFindings))
	if err != nil {
		return db.translate(err)
	}
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return errors.Join(err, rows.Close())
		}
		if text != "ok" {
			findings = append(findings, text)
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return db.translate(err)
	}
	orphans, err := db.orphans(ctx)
	if err != nil {
		return db.translate(err)
	}
	if findings = append(findings, orphans...); len(findings) > 0 {
		return fmt.Errorf("%w: %s", ErrCorrupt, strings.Join(findings, "; "))
	}
	return nil
}

// orphans lists rows whose foreign key leads nowhere.
func (db *DB) orphans(ctx context.Context) (found []string, err error) {
	rows, err := db.reader.QueryContext(ctx, "PRAGMA foreign_key_check")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() && len(found) < maxFindings {
		var table, parent string
		var row, key any
		if err := rows.Scan(&table, &row, &parent, &key); err != nil {
			return nil, err
		}
		found = append(found, fmt.Sprintf("row %v of %s refers to a row of %s that is not there", row, table, parent))
	}
	return found, rows.Err()
}
