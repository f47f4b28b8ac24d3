package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync"
	"time"

	"landline/internal/admin"
	"landline/internal/clock"
	"landline/internal/config"
	"landline/internal/gateway"
	"landline/internal/gateway/certs"
	"landline/internal/gateway/spool"
	"landline/internal/module"
	"landline/internal/observe"
)

// Options are what the command line says.
type Options struct {
	ConfigPath  string // landline.yaml
	Environment string // whose overlay is read on top, such as production for landline.production.yaml; "" = LANDLINE_ENV
	ConfigData  []byte // read instead of ConfigPath when not nil; such a configuration cannot be reloaded
	Env         config.Env

	// Extra are capabilities that a program brings along, besides those of
	// modules.go. Their Sections are read once, at the start.
	Extra []module.Capability

	asFile bool // ConfigData is what ConfigPath could hold: it may include, and has overlays

	Public, Admin, Data string // override listen.public, listen.admin and data_dir when not empty

	Stdout, Stderr io.Writer
	Version        string
	PrettyLog      bool // short lines for people, whatever log.format says
}

// App is a built Landline, listening but not yet serving.
type App struct {
	options  Options
	log      *slog.Logger
	level    *slog.LevelVar
	clientIP gateway.ClientIPLog // log.client_ip
	kernel   *kernel
	modules  []*module.Module
	gateway  *gateway.Gateway
	admin    *admin.Server
	public   net.Listener
	adminLis net.Listener
	certs    *certs.Store // nil = plain HTTP
	floor    []byte       // see heapFloor

	reload   sync.Mutex // one reload at a time; guards settings
	settings *Settings
	sections []config.Section
	source   *config.Source // where the values of sections are written
}

// New reads the configuration, opens storage, migrates it, and builds every
// capability. Both listeners are bound, so that a taken address is told first;
// nothing is accepted before Run.
func New(ctx context.Context, o Options) (a *App, err error) {
	l, err := read(o)
	if err != nil {
		return nil, err
	}
	s, all := l.settings, l.capabilities
	a = &App{options: o, settings: s, sections: l.sections, source: l.source, level: new(slog.LevelVar)}
	a.setLogLevel(s.Log.Level)
	a.clientIP.Set(gateway.ClientIPMode(s.Log.ClientIP))
	a.log = observe.NewLogger(o.Stderr, a.level, o.PrettyLog || s.Log.Format == "text")
	a.floor = reserveHeap(a.log)
	defer func() {
		if err != nil {
			err = errors.Join(err, a.abandon(context.WithoutCancel(ctx)))
		}
	}()
	if a.public, err = listen("public", s.Listen.Public); err != nil {
		return a, err
	}
	if a.adminLis, err = listen("admin", s.Listen.Admin); err != nil {
		return a, err
	}
	if s.App.PublicURL == "" {
		scheme := "http://"
		if s.Listen.TLS != nil {
			scheme = "https://"
		}
		s.App.PublicURL = scheme + a.public.Addr().String()
	}
	if a.kernel, err = openKernel(ctx, s, o.Version, a.log, all); err != nil {
		return a, err
	}
	if err = a.openCertificates(); err != nil {
		return a, err
	}
	if err = a.build(all); err != nil {
		return a, err
	}
	return a, nil
}

// build makes the modules, the gateway with its first table, and the admin handler.
func (a *App) build(all []module.Capability) error {
	s, k := a.settings, a.kernel
	product := module.App{ID: s.App.ID, Name: s.App.Name, PublicURL: s.App.PublicURL}
	var auth module.Authenticator
	for _, c := range all {
		m, err := c.Build(k.deps(s, product))
		if err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		a.modules = append(a.modules, m)
		if m.Authenticator != nil {
			auth = m.Authenticator
		}
	}
	keys, err := a.newAPIKeys()
	if err != nil {
		return err
	}
	a.gateway, err = gateway.New(gateway.Options{
		App: product, Development: s.Profile == Development, DB: k.db, Bus: k.bus, KV: k.kv, Clock: clock.System,
		Log: a.log, Registry: k.registry, Tracer: k.tracer, Auth: auth, Health: k.health, Limits: k.limits, Shared: s.Redis.URL.Reveal() != "", TrustedProxies: s.trustedProxies(), ClientIPLog: &a.clientIP,
		Maintenance: a.newBoard(), APIKeys: keys, Quotas: a.newQuotas(), Spool: spool.NewDisk(s.DataDir, gateway.DefaultSpool),
	})
	if err != nil {
		return err
	}
	if err := a.gateway.Apply(s.Gateway, a.modules); err != nil {
		return located(a.source, err)
	}
	a.registerJobs()
	a.mountWebhooks()
	a.admin, err = admin.New(admin.Options{
		DB: k.db, Audit: k.audit, Ring: k.ring, Clock: clock.System, Log: a.log, Registry: k.registry, Health: k.health,
		Development: s.Profile == Development, Version: a.options.Version,
		Reload: a.Reload, Validate: a.validate, Diff: a.diff, PrintConfig: a.printConfig,
		Features: a.gateway.FeatureStatus, Upstreams: a.gateway.UpstreamStatus, PurgeCache: a.gateway.PurgeCache,
		Violations: a.gateway.ContractViolations, Screens: a.gateway.Screens,
		Pending: func(ctx context.Context) (int, error) { return k.db.Pending(ctx, migrations(all)...) },
		Bus:     k.bus, Queue: k.queue, Modules: a.modules,
	})
	return err
}

// abandon closes what New had opened before it failed.
func (a *App) abandon(ctx context.Context) error {
	var errs []error
	for _, l := range []net.Listener{a.public, a.adminLis} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	if a.kernel != nil {
		errs = append(errs, a.kernel.close(ctx))
	}
	return errors.Join(errs...)
}

// Close gives up an App that was made but is not run.
func (a *App) Close(ctx context.Context) error { return a.abandon(ctx) }

// PublicAddr is where the public listener is bound.
func (a *App) PublicAddr() net.Addr { return a.public.Addr() }

// AdminAddr is where the admin listener is bound.
func (a *App) AdminAddr() net.Addr { return a.adminLis.Addr() }

// Run serves until ctx ends or a listener fails, then drains.
func (a *App) Run(ctx context.Context) error {
	public, servePublic := a.publicServer()
	adminServer := &http.Server{
		Handler: a.admin.Handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelWarn),
	}
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBackground()
	if err := a.start(background); err != nil {
		return errors.Join(err, a.abandon(context.WithoutCancel(ctx)))
	}
	var upkeep sync.WaitGroup
	upkeep.Go(func() { a.kernel.audit.Run(background, a.log) })
	upkeep.Go(func() { a.kernel.followKeys(background) })
	upkeep.Go(func() { giveBackStart(background, a.log) })
	failed := make(chan error, 2)
	if a.certs != nil {
		upkeep.Go(func() { a.certs.Run(background) })
	}
	serve := func(name string, l net.Listener, serve func(net.Listener) error) {
		if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("%s listener: %w", name, err)
		}
	}
	go serve("public", a.door(public), servePublic)
	go serve("admin", a.adminLis, adminServer.Serve)
	a.kernel.health.SetReady(true)
	if _, err := fmt.Fprintf(a.options.Stdout, "ready public=%s admin=%s\n", a.PublicAddr(), a.AdminAddr()); err != nil {
		a.log.Warn("cannot say ready on standard output", "error", err)
	}
	a.log.Info("ready", "public", a.PublicAddr().String(), "admin", a.AdminAddr().String(), "version", a.options.Version,
		"profile", a.settings.Profile, "database", a.kernel.db.Engine())

	var cause error
	select {
	case <-ctx.Done():
	case cause = <-failed:
	}
	err := a.drain(context.WithoutCancel(ctx), public, adminServer, func() {
		stopBackground()
		upkeep.Wait()
	})
	runtime.KeepAlive(a.floor)
	return errors.Join(cause, err)
}

// start begins the queue's and the modules' background work.
func (a *App) start(ctx context.Context) error {
	for _, m := range a.modules {
		if m.Start != nil {
			if err := m.Start(ctx); err != nil {
				return err
			}
		}
	}
	return a.kernel.queue.Start(ctx)
}

func (a *App) setLogLevel(name string) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(name)); err == nil { // the names are checked by the configuration
		a.level.Set(level)
	}
}
