package sqldb

import "context"

// FilesBefore sets what is told of the steps of backups.
func (db *DB) FilesBefore(before func(step Step, path, to string) error) { db.files.Before = before }

// Pipeline is pipeline.
func (t *Tx) Pipeline(ctx context.Context, all []Statement) ([]int64, error) {
	return t.pipeline(ctx, all)
}

// InLine is how many callers of WriteAll no transaction on PostgreSQL has taken up yet.
func (db *DB) InLine() int { return db.writes.(*ownCommit).lanes.line.length() }
