package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/admin"
	"landline/internal/audit"
	"landline/internal/bus"
	"landline/internal/clock"
	"landline/internal/egress"
	"landline/internal/gateway/apikey"
	"landline/internal/gateway/idem"
	"landline/internal/gateway/maintenance"
	"landline/internal/gateway/quota"
	"landline/internal/kv"
	"landline/internal/limit"
	"landline/internal/mail"
	"landline/internal/module"
	"landline/internal/observe"
	"landline/internal/queue"
	"landline/internal/secret"
	"landline/internal/sqldb"
	"landline/internal/webhook"
)

// maxMemoryEntries bounds the key-value store of a node without Redis.
const maxMemoryEntries = 1_000_000

// kernel is everything below the capabilities, opened in the order of its fields.
type kernel struct {
	log      *slog.Logger
	registry *prometheus.Registry
	health   *observe.Health
	tracer   *observe.Tracer
	lock     *os.File // on data_dir, with SQLite alone
	db       *sqldb.DB
	ring     *secret.Ring
	audit    *audit.Log
	kv       kv.Store
	limits   *limit.Shared
	bus      bus.Bus
	queue    *queue.Queue
	people   *module.People
	mail     mail.SendCloser // nil: production without a server
	texts    *mail.Templates
	webhooks *webhook.Hub
}

// openKernel opens all of it, or closes what it opened and says what is wrong.
func openKernel(ctx context.Context, s *Settings, version string, log *slog.Logger, capabilities []module.Capability) (k *kernel, err error) {
	k = &kernel{log: log, registry: observe.NewRegistry(), health: observe.NewHealth(), people: &module.People{}}
	defer func() {
		if err != nil {
			err = errors.Join(wayOut(s, err), k.close(context.WithoutCancel(ctx)))
			k = nil
		}
	}()
	export := egress.New(egress.Options{Name: "otlp", Timeout: 10 * time.Second, Log: log, Metrics: k.registry})
	k.tracer = observe.NewTracer(s.Tracing.exporter(version), export, log, k.registry)
	if err = k.openStorage(ctx, s); err != nil {
		return k, err
	}
	if s.Database.Migrate {
		err = k.migrate(ctx, capabilities)
	} else {
		err = k.migrated(ctx, capabilities)
	}
	if err != nil {
		return k, err
	}
	if k.ring, err = secret.Open(ctx, k.db, secret.Options{
		Dir: s.DataDir, MasterKey: s.Secrets.MasterKey.Reveal(), Production: s.Profile == Production, Clock: clock.System, Log: log,
	}); err != nil {
		return k, withExit(ExitConfig, err)
	}
	k.audit = audit.New(k.db, clock.System)
	if err = k.openMail(s); err != nil {
		return k, err
	}
	if err = k.openShared(s); err != nil {
		return k, err
	}
	if k.webhooks, err = webhook.New(webhook.Options{DB: k.db, Queue: k.queue, Audit: k.audit, Clock: clock.System, Log: log, Metrics: k.registry}, s.Webhooks); err != nil {
		return k, withExit(ExitConfig, err)
	}
	k.health.Register("webhooks", false, k.webhooks.Health)
	return k, nil
}

// openStorage opens the database; with SQLite it first takes the data
// directory for this process alone, because two servers on one file would
// each believe to be the only one.
func (k *kernel) openStorage(ctx context.Context, s *Settings) error {
	if err := os.MkdirAll(s.DataDir, 0o700); err != nil {
		return withExit(ExitConfig, fmt.Errorf("data_dir: %w", err))
	}
	url := s.Database.URL.Reveal()
	if url == "" {
		lock, err := lockDataDir(s.DataDir)
		if err != nil {
			return err
		}
		k.lock = lock
		if err := interrupted(s.DataDir); err != nil {
			return err
		}
	}
	var err error
	k.db, err = openDatabase(ctx, s, k.log, k.registry)
	if err != nil {
		return err
	}
	k.health.Register("database", true, k.db.Ping)
	return nil
}

// lockDataDir takes the directory, which must be there, for this process alone until the file is closed.
func lockDataDir(dir string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600) // #nosec G304 -- below the configured data directory
	if err != nil {
		return nil, withExit(ExitConfig, fmt.Errorf("data_dir: %w", err))
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(withExit(ExitUnavailable, fmt.Errorf("data_dir %s is in use by another landline: stop it, or give this one a data_dir of its own", dir)), lock.Close())
	}
	return lock, nil
}

// openDatabase opens the configured database without migrating it.
func openDatabase(ctx context.Context, s *Settings, log *slog.Logger, reg prometheus.Registerer) (*sqldb.DB, error) {
	db, err := sqldb.Open(ctx, sqldb.Options{
		URL: s.Database.URL.Reveal(), Dir: s.DataDir, Log: log, Metrics: reg,
		Queue: s.Database.WriteQueue, WriteTimeout: s.Database.WriteTimeout.D(), MaxConns: s.Database.MaxConnections,
	})
	if err != nil {
		return nil, withExit(ExitUnavailable, fmt.Errorf("database: %w", err))
	}
	return db, nil
}

// migrations lists every schema of the binary, kernel first.
func migrations(capabilities []module.Capability) []sqldb.Migrations {
	all := []sqldb.Migrations{secret.Migrations, queue.Migrations, audit.Migrations, admin.Migrations, idem.Migrations, apikey.Migrations, quota.Migrations, maintenance.Migrations, webhook.Migrations}
	for _, c := range capabilities {
		if c.Migrations.FS != nil {
			all = append(all, c.Migrations)
		}
	}
	return all
}

// migrate brings the schema up to date and makes the queue, whose tables are its own.
func (k *kernel) migrate(ctx context.Context, capabilities []module.Capability) error {
	err := k.db.Migrate(ctx, migrations(capabilities)...)
	var newer *sqldb.NewerError
	switch {
	case errors.As(err, &newer): // another binary must be installed: trying again cannot help
		return withExit(ExitConfig, err)
	case err != nil:
		return withExit(ExitUnavailable, fmt.Errorf("migrate the database: %w", err))
	}
	if err := k.openQueue(); err != nil {
		return err
	}
	if err := k.queue.Migrate(ctx); err != nil {
		return withExit(ExitUnavailable, fmt.Errorf("migrate the queue: %w", err))
	}
	return nil
}

func (k *kernel) openQueue() (err error) {
	k.queue, err = queue.New(k.db, queue.Options{Log: k.log, Metrics: k.registry, Lanes: map[string]int{webhook.Lane: webhook.LaneWorkers}})
	return err
}

// migrated refuses a schema that is not up to date, and changes nothing.
func (k *kernel) migrated(ctx context.Context, capabilities []module.Capability) error {
	pending, err := k.db.Pending(ctx, migrations(capabilities)...)
	var newer *sqldb.NewerError
	switch {
	case errors.As(err, &newer):
		return withExit(ExitConfig, err)
	case err != nil:
		return withExit(ExitUnavailable, fmt.Errorf("look at the database's migrations: %w", err))
	}
	if err := k.openQueue(); err != nil {
		return err
	}
	ready := pending > 0
	if !ready {
		if ready, err = k.queue.Migrated(ctx); err != nil {
			return withExit(ExitUnavailable, fmt.Errorf("look at the queue's migrations: %w", err))
		}
	}
	if pending > 0 || !ready {
		return withExit(ExitConfig, fmt.Errorf("the database lacks migrations (%d, and perhaps the queue's) and database.migrate is false: run `landline db migrate` as the role that owns the tables, then deploy/postgres/roles.sql", pending))
	}
	return nil
}

// openMail opens what takes messages over. Without a server in production there
// is nothing, and what needs mail refuses to be turned on.
func (k *kernel) openMail(s *Settings) error {
	var err error
	if k.texts, err = mail.LoadTemplates(s.Mail.Templates, s.Mail.Locale); err != nil {
		return withExit(ExitConfig, fmt.Errorf("mail.templates: %w", err))
	}
	k.mail, err = mail.Open(s.Mail, mail.Options{DataDir: s.DataDir, Production: s.Profile == Production, Clock: clock.System, Log: k.log})
	if errors.Is(err, mail.ErrNoServer) {
		k.mail, err = nil, nil
	}
	if err != nil {
		return withExit(ExitConfig, fmt.Errorf("mail: %w", err))
	}
	return nil
}

// openShared opens what nodes share besides the database. Redis may be down at
// start: nothing durable is in it, so the node serves and says so in its health.
func (k *kernel) openShared(s *Settings) error {
	url := s.Redis.URL.Reveal()
	if url == "" {
		k.kv, k.bus = kv.NewMemory(clock.System, maxMemoryEntries), bus.NewMemory()
		k.limits = limit.NewShared(limit.New(clock.System), nil, 0, k.log, k.registry)
		return nil
	}
	var err error
	if k.kv, err = kv.NewRedis(url, s.Redis.Prefix, k.log); err != nil {
		return withExit(ExitConfig, fmt.Errorf("redis.url: %w", err))
	}
	if k.bus, err = bus.NewRedis(url, s.Redis.Prefix, k.log); err != nil {
		return withExit(ExitConfig, fmt.Errorf("redis.url: %w", err))
	}
	k.limits = limit.NewShared(limit.New(clock.System), k.kv, s.Redis.LimitTimeout.D(), k.log, k.registry)
	k.health.Register("redis", false, k.kv.Ping)
	return nil
}

// keysEvery is how soon a node learns of keys that another one made. A rotation
// promotes a key that every node already knows, so nothing waits for this.
const keysEvery = 30 * time.Second

// followKeys reads the key ring again and again until ctx ends.
func (k *kernel) followKeys(ctx context.Context) {
	tick := time.NewTicker(keysEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := k.ring.Reload(ctx); err != nil && ctx.Err() == nil {
			k.log.Warn("the keys could not be read again; the known ones stay in use", "error", err)
		}
	}
}

// close ends it in reverse; it can be called half open.
func (k *kernel) close(ctx context.Context) error {
	var errs []error
	if k.bus != nil {
		errs = append(errs, k.bus.Close())
	}
	if k.kv != nil {
		errs = append(errs, k.kv.Close())
	}
	if k.db != nil {
		if k.db.Engine() == sqldb.SQLite {
			errs = append(errs, k.db.Checkpoint(ctx))
		}
		errs = append(errs, k.db.Close())
	}
	if k.mail != nil {
		errs = append(errs, k.mail.Close())
	}
	if k.lock != nil {
		errs = append(errs, k.lock.Close())
	}
	if k.tracer != nil {
		errs = append(errs, k.tracer.Close(ctx))
	}
	return errors.Join(errs...)
}

// deps is what a capability gets.
func (k *kernel) deps(s *Settings, app module.App) module.Deps {
	d := module.Deps{Templates: k.texts,
		App: app, Development: s.Profile == Development, DataDir: s.DataDir, DB: k.db, KV: k.kv, Bus: k.bus, Queue: k.queue, People: k.people, Webhooks: k.webhooks,
		Keys: k.ring, Audit: k.audit, Limits: k.limits, Clock: clock.System, Log: k.log, Metrics: k.registry,
	}
	if k.mail != nil { // a nil pointer in an interface would not be nil
		d.Mail = k.mail
	}
	return d
}

// listen opens an address before anything else is built, so that a taken port is told at once.
func listen(name, addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, withExit(ExitUnavailable, fmt.Errorf("listen.%s: %w", name, err))
	}
	return l, nil
}
