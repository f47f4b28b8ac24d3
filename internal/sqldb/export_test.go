package sqldb

// FilesBefore sets what is told of the steps of backups.
func (db *DB) FilesBefore(before func(step Step, path, to string) error) { db.files.Before = before }
