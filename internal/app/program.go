package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"regexp"
	"strings"
	"time"

	"landline/internal/config"
	"landline/internal/limit"
	"landline/internal/module"
	"landline/internal/queue"
	"landline/internal/sqldb"
)

// This file and program_request.go are what the public package landline stands
// on: features that a program brings along, in terms that need no package below.

// Tx is the transaction of one write.
type Tx = sqldb.Tx

// Querier is a transaction or a read handle.
type Querier = sqldb.Querier

// ProgramFeature is a feature that a program brings along.
type ProgramFeature struct {
	Name, Owner  string
	Timeout      time.Duration
	MaxBody      int64
	Priority     int // -1 background, 0 interactive, 1 critical
	Keys         bool
	KeysRequired bool
	KeepKeys     time.Duration
	Limits       []ProgramLimit
	Routes       []ProgramRoute
	Schema       fs.FS // goose migrations, nil for none
	Jobs         []func(*House)
}

// ProgramLimit is a rate limit of a ProgramFeature.
type ProgramLimit struct {
	Key          string
	Limit, Burst int
	Window       time.Duration
}

// ProgramRoute is a route of a ProgramFeature: one of Handler, Serve and Write is set.
type ProgramRoute struct {
	Match, Auth string
	Handler     http.Handler
	Serve       func(w http.ResponseWriter, r *http.Request) error
	Write       func(ctx context.Context, tx *Tx, w http.ResponseWriter, r *http.Request) error
}

// House is what a program's handlers and jobs may use. It is on the context of each.
type House struct {
	db    *sqldb.DB
	queue *queue.Queue
}

type houseKey struct{}

// HouseFrom returns the House of a handler's or job's context, nil elsewhere.
func HouseFrom(ctx context.Context) *House {
	h, _ := ctx.Value(houseKey{}).(*House)
	return h
}

func (h *House) on(ctx context.Context) context.Context {
	return context.WithValue(ctx, houseKey{}, h)
}

// Read is sqldb.DB.Read.
func (h *House) Read(ctx context.Context, fn func(context.Context, Querier) error) error {
	return h.db.Read(ctx, fn)
}

// Write is sqldb.DB.Write.
func (h *House) Write(ctx context.Context, fn func(context.Context, *Tx) error) error {
	return h.db.Write(ctx, fn)
}

// Errors of the database that a program may act on.
var (
	ErrNotFound = sqldb.ErrNotFound
	ErrConflict = sqldb.ErrConflict
)

// House is that of a built App.
func (a *App) House() *House { return &House{a.kernel.db, a.kernel.queue} }

// schemaName is what the version table of a feature's migrations is called after.
var schemaName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,36}$`)

// Program makes capabilities of a program's features.
func Program(features []ProgramFeature) ([]module.Capability, error) {
	var all []module.Capability
	var errs []error
	for _, f := range features {
		c := module.Capability{Name: f.Name, Build: f.build}
		if f.Schema != nil {
			name := strings.ReplaceAll(f.Name, "-", "_")
			if !schemaName.MatchString(name) {
				errs = append(errs, fmt.Errorf("feature %q: with migrations a name has at most 37 lower-case letters, digits and -", f.Name))
			}
			c.Migrations = sqldb.Migrations{Module: "app_" + name, FS: f.Schema}
		}
		for _, r := range f.Routes {
			switch module.Auth(r.Auth) {
			case module.AuthNone, module.AuthAnonymous, module.AuthAccount, "":
			default:
				errs = append(errs, fmt.Errorf("feature %s: route %s: auth is none, anonymous or account, not %q", f.Name, r.Match, r.Auth))
			}
			if r.Handler == nil && r.Serve == nil && r.Write == nil {
				errs = append(errs, fmt.Errorf("feature %s: route %s has no handler", f.Name, r.Match))
			}
		}
		all = append(all, c)
	}
	return all, withExit(ExitInternal, errors.Join(errs...))
}

func (f ProgramFeature) build(d module.Deps) (*module.Module, error) {
	house := &House{d.DB, d.Queue}
	for _, register := range f.Jobs {
		register(house)
	}
	mf := module.Feature{
		Name: f.Name, Owner: f.Owner, Timeout: f.Timeout, MaxBody: f.MaxBody, Priority: module.Priority(f.Priority),
	}
	if f.Keys {
		mf.Keys = &module.Keys{Required: f.KeysRequired, Keep: f.KeepKeys}
	}
	for _, l := range f.Limits {
		mf.Limits = append(mf.Limits, module.Limit{Key: l.Key, Rate: limit.Rate{Limit: l.Limit, Window: l.Window, Burst: l.Burst}})
	}
	for _, r := range f.Routes {
		mf.Handlers = append(mf.Handlers, r.handler(house))
	}
	return &module.Module{Features: []module.Feature{mf}}, nil
}

// handler gives the route's handler the house on its context.
func (r ProgramRoute) handler(house *House) module.Handler {
	h := module.Handler{Match: r.Match, Auth: module.Auth(r.Auth)}
	switch {
	case r.Write != nil:
		h.Write = func(ctx context.Context, tx *sqldb.Tx, w http.ResponseWriter, req *http.Request) error {
			ctx = house.on(ctx)
			return r.Write(ctx, tx, w, req.WithContext(ctx))
		}
	case r.Serve != nil:
		h.Serve = func(w http.ResponseWriter, req *http.Request) error {
			return r.Serve(w, req.WithContext(house.on(req.Context())))
		}
	default:
		h.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			r.Handler.ServeHTTP(w, req.WithContext(house.on(req.Context())))
		})
	}
	return h
}

// ProgramJob is what the queue is told about one job; zero values take the queue's defaults.
type ProgramJob struct {
	At       time.Time
	Attempts int
	Once     bool          // drop it when there is one of its kind with the same arguments
	Window   time.Duration // with Once: that was enqueued in the same window; 0: that has not finished
}

// Enqueue adds a job within tx.
func (h *House) Enqueue(ctx context.Context, tx *Tx, args interface{ Kind() string }, o ProgramJob) (int64, error) {
	var opts []queue.InsertOption
	if !o.At.IsZero() {
		opts = append(opts, queue.At(o.At))
	}
	if o.Attempts > 0 {
		opts = append(opts, queue.MaxAttempts(o.Attempts))
	}
	if o.Once {
		opts = append(opts, queue.Unique(o.Window, true))
	}
	return h.queue.Enqueue(ctx, tx, args, opts...)
}

// RegisterJob says how jobs of A's kind are worked.
func RegisterJob[A interface{ Kind() string }](h *House, timeout time.Duration,
	work func(ctx context.Context, id int64, args A, attempt, attempts int, created time.Time) error,
) {
	var opts []queue.KindOption
	if timeout > 0 {
		opts = append(opts, queue.Timeout(timeout))
	}
	queue.Register(h.queue, func(ctx context.Context, j *queue.Job[A]) error {
		return work(h.on(ctx), j.ID, j.Args, j.Attempt, j.MaxAttempts, j.CreatedAt)
	}, opts...)
}

// CancelJob makes err the end of a job: it is not tried again.
func CancelJob(err error) error { return queue.Cancel(err) }

// SystemEnv is the environment and the files of the process.
func SystemEnv() config.Env { return config.SystemEnv() }
