package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"landline/internal/admin"
	"landline/internal/audit"
	"landline/internal/clock"
	"landline/internal/module"
	"landline/internal/observe"
	"landline/internal/problem"
	"landline/internal/secret"
	"landline/internal/sqldb"
)

// withDatabase opens the configured database for a command that works beside a
// running Landline, brings its schema up to date and closes it again.
func withDatabase(ctx context.Context, o Options, fn func(s *Settings, db *sqldb.DB, log *slog.Logger) error) (err error) {
	s, _, _, err := load(o)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(o.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if s.Database.URL.Reveal() == "" {
		if err := interrupted(s.DataDir); err != nil {
			return err
		}
	}
	db, err := openDatabase(ctx, s, log, nil)
	if err != nil {
		return wayOut(s, err)
	}
	defer func() { err = errors.Join(wayOut(s, err), db.Close()) }()
	return fn(s, db, log)
}

// MigrateDatabase brings the schema up to date and returns how many migrations it applied.
func MigrateDatabase(ctx context.Context, o Options) (applied int, err error) {
	err = withDatabase(ctx, o, func(s *Settings, db *sqldb.DB, log *slog.Logger) error {
		all := capabilities()
		if applied, err = db.Pending(ctx, migrations(all)...); err != nil {
			return withExit(ExitUnavailable, err)
		}
		k := &kernel{db: db, log: log, registry: observe.NewRegistry()}
		return k.migrate(ctx, all)
	})
	return applied, err
}

// BackupDatabase copies the embedded database to file, which must not exist.
func BackupDatabase(ctx context.Context, o Options, file string) error {
	return withDatabase(ctx, o, func(_ *Settings, db *sqldb.DB, _ *slog.Logger) error {
		if db.Engine() != sqldb.SQLite {
			return withExit(ExitUsage, errors.New("landline backs up the embedded database only; use pg_dump or your provider's snapshots for PostgreSQL"))
		}
		return db.Backup(ctx, file)
	})
}

// AddOperator adds an operator straight in the database, which needs no token
// of another operator: whoever can read the configuration and its secrets may
// do so. The token is returned once and cannot be read again.
func AddOperator(ctx context.Context, o Options, name, role string) (token string, err error) {
	if !module.Role(role).Allows(module.Viewer) {
		return "", Usage(fmt.Errorf("--role %s: write viewer, support, operator or owner", role))
	}
	err = withDatabase(ctx, o, func(s *Settings, db *sqldb.DB, log *slog.Logger) error {
		k := &kernel{db: db, log: log, registry: observe.NewRegistry()}
		if err := k.migrate(ctx, capabilities()); err != nil {
			return err
		}
		ring, err := secret.Open(ctx, db, secret.Options{
			Dir: s.DataDir, MasterKey: s.Secrets.MasterKey.Reveal(), Production: s.Profile == Production, Clock: clock.System, Log: log,
		})
		if err != nil {
			return withExit(ExitConfig, err)
		}
		token, err = admin.AddOperator(ctx, db, ring, audit.New(db, clock.System), name, module.Role(role))
		if problem.HasCode(err, problem.Conflict) {
			return Usage(fmt.Errorf("an operator called %s is there already: choose another name, or have an owner rotate that one's token by the admin API", name))
		}
		return err
	})
	return token, err
}

// DevelopmentOperator gives the demo an owner whose token it may print. It
// replaces the one of the last start.
func (a *App) DevelopmentOperator(ctx context.Context) (token string, err error) {
	if a.settings.Profile != Development {
		return "", errors.New("only the development profile has a ready-made operator")
	}
	const name, reason = "development", "start of the demo"
	operators, err := admin.NewOperators(ctx, a.kernel.db, a.kernel.ring, a.kernel.audit, clock.System)
	if err != nil {
		return "", err
	}
	known, err := operators.ByName(ctx, name)
	switch {
	case problem.HasCode(err, problem.NotFound):
		_, token, err = operators.Add(ctx, name, module.Owner, reason)
	case err == nil:
		_, token, err = operators.RotateToken(ctx, known.ID, reason)
	}
	return token, err
}
