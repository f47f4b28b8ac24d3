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
	dialect := database.DialectSQLite3
	if db.name == Postgres {
		dialect = database.DialectPostgres
	}
	for _, m := range all {
		store, err := database.NewStore(dialect, "migration_"+m.Module)
		if err != nil {
			return err
		}
		p, err := goose.NewProvider("", db.writer, m.FS, goose.WithStore(store))
		if err != nil {
			return err
		}
		if _, err := p.Up(ctx); err != nil {
			return err
		}
	}
	return nil
}
