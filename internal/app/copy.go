package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"landline/internal/audit"
	"landline/internal/clock"
	"landline/internal/observe"
	"landline/internal/queue"
	"landline/internal/secret"
	"landline/internal/sqldb"
)

// CopiedDatabase says what CopyDatabase moved.
type CopiedDatabase struct {
	Tables, Rows int64
	MasterKey    string // where the key is that the copy needs
}

// CopyDatabase moves the embedded database to an empty PostgreSQL database at
// url. It holds the data directory, so that nothing is written meanwhile, and
// ends only when every row was compared, the audit log verifies there and the
// master key of here opens every key. The embedded database is brought up to
// date and otherwise not changed.
func CopyDatabase(ctx context.Context, o Options, url string) (out CopiedDatabase, err error) {
	s, _, all, err := load(o)
	if err != nil {
		return out, err
	}
	if s.Database.URL.Reveal() != "" {
		return out, Usage(errors.New("database.url is set: only the embedded database is copied; run this with the configuration of before, or without database.url"))
	}
	if err := there(o); err != nil {
		return out, err
	}
	log := slog.New(slog.NewTextHandler(o.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	from := &kernel{log: log, registry: observe.NewRegistry(), health: observe.NewHealth()}
	defer func() { err = errors.Join(wayOut(s, err), from.close(context.WithoutCancel(ctx))) }()
	if err := from.openStorage(ctx, s); err != nil {
		return out, err
	}
	if err := from.db.Check(ctx); err != nil {
		return out, err
	}
	if err := from.migrate(ctx, all); err != nil {
		return out, err
	}
	if err := from.openKeys(ctx, s); err != nil {
		return out, err
	}
	// The log is sealed first, so that both ends have the same entries in the same order.
	if _, err := audit.New(from.db, clock.System).Verify(ctx); err != nil {
		return out, err
	}
	to := &kernel{log: log, registry: observe.NewRegistry()}
	if to.db, err = sqldb.Open(ctx, sqldb.Options{URL: url, Log: log}); err != nil {
		return out, withExit(ExitUnavailable, fmt.Errorf("--to: %w", err))
	}
	defer func() { err = errors.Join(err, to.db.Close()) }()
	if err := to.migrate(ctx, all); err != nil {
		return out, fmt.Errorf("--to: %w", err)
	}
	done, err := sqldb.Copy(ctx, from.db, to.db, sqldb.CopyOptions{
		Skip: []string{queue.TablePrefix}, Seeded: []string{"audit_head"}, Also: queue.CopyJobs,
	})
	switch {
	case errors.Is(err, sqldb.ErrNotEmpty):
		return out, Usage(err)
	case err != nil:
		return out, err
	}
	return CopiedDatabase{done.Tables, done.Rows, s.masterKeySource()}, to.proveCopy(ctx, s)
}

// proveCopy opens what was copied as a starting Landline does.
func (k *kernel) proveCopy(ctx context.Context, s *Settings) error {
	if err := k.openKeys(ctx, s); err != nil {
		return err
	}
	_, err := audit.New(k.db, clock.System).VerifySealed(ctx)
	return err
}

// openKeys proves that the master key of here opens every key.
func (k *kernel) openKeys(ctx context.Context, s *Settings) error {
	_, err := secret.Open(ctx, k.db, secret.Options{Dir: s.DataDir, MasterKey: s.Secrets.MasterKey.Reveal(), Clock: clock.System, Log: k.log})
	return withExit(ExitConfig, err)
}

func (s *Settings) masterKeySource() string {
	if s.Secrets.MasterKey.Reveal() != "" {
		return "what it is set to now"
	}
	return filepath.Join(s.DataDir, secret.MasterKeyFile)
}
