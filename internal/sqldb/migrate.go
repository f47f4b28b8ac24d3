package sqldb

import (
	"context"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// Migrations are one module's schema changes: goose files NNNN_name.sql in the
// root of FS; NNNN_name.postgres.sql replaces the general file on PostgreSQL.
type Migrations struct {
	Module string // names the version table: migration_<module>
	FS     fs.FS
}

// Migrate brings the schema of every module up to date, in the given order.
func (db *DB) Migrate(ctx context.Context, all ...Migrations) error {
	if db.name == Postgres {
		if _, err := db.writer.ExecContext(ctx, `DO $$ BEGIN CREATE DOMAIN key_text AS TEXT COLLATE "C"; EXCEPTION WHEN duplicate_object THEN NULL; END $$`); err != nil {
			return err
		}
	}
	for _, m := range all {
		p, err := db.provider(m)
		if err != nil {
			return err
		}
		if _, err := p.Up(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Pending counts the migrations that Migrate would apply.
func (db *DB) Pending(ctx context.Context, all ...Migrations) (int, error) {
	n := 0
	for _, m := range all {
		p, err := db.provider(m)
		if err != nil {
			return 0, err
		}
		status, err := p.Status(ctx)
		if err != nil {
			return 0, err
		}
		for _, s := range status {
			if s.State == goose.StatePending {
				n++
			}
		}
	}
	return n, nil
}

func (db *DB) provider(m Migrations) (*goose.Provider, error) {
	dialect := database.DialectSQLite3
	if db.name == Postgres {
		dialect = database.DialectPostgres
	}
	store, err := database.NewStore(dialect, "migration_"+m.Module)
	if err != nil {
		return nil, err
	}
	return goose.NewProvider("", db.writer, m.FS, goose.WithStore(store))
}
