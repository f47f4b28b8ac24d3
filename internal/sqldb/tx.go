package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// Tx is the transaction of one Write.
type Tx struct {
	Querier
	tx       *sql.Tx
	conn     *sql.Conn // that tx is on, of PostgreSQL alone
	handle   *handle
	onCommit []func()
}

// SQL is the transaction of database/sql, for the queue's driver alone. What is
// done through it passes by the checks of Querier.
func (t *Tx) SQL() *sql.Tx { return t.tx }

// OnCommit has fn called once the transaction is durable, before Write returns,
// in the goroutine of Write. fn must not block and must not write.
func (t *Tx) OnCommit(fn func()) { t.onCommit = append(t.onCommit, fn) }

// ExecBrief is ExecContext for a statement that reaches few rows, by their keys.
// On SQLite the driver starts a goroutine beside each statement, to interrupt it
// when the transaction's time is over. This one does without: it looks at the
// time before it begins, and is over sooner than anybody could interrupt it.
func (t *Tx) ExecBrief(ctx context.Context, text string, args ...any) (sql.Result, error) {
	ctx, err := t.handle.enter(ctx, args)
	if err != nil {
		return nil, err
	}
	r, err := t.handle.q.ExecContext(brief{ctx}, text, args...)
	return r, t.handle.leave(err)
}

// brief marks the context of a statement that nobody needs to interrupt, for
// the driver's connection below database/sql.
type brief struct{ context.Context }

func newTx(db *DB, tx *sql.Tx, life *lifetime) *Tx {
	h := &handle{db: db, q: tx, life: life}
	return &Tx{Querier: h, tx: tx, handle: h}
}

// run calls fn and returns its error, or that of a statement which failed and
// whose error fn has dropped. A panic becomes an error; so does runtime.Goexit,
// which it cannot stop: run's caller learns of it through report.
func (t *Tx) run(ctx context.Context, fn func(context.Context, *Tx) error, report func(error)) {
	err := errGoexit
	defer func() {
		if r := recover(); r != nil {
			t.handle.db.log.ErrorContext(ctx, "a write panicked", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			err = fmt.Errorf("sqldb: the function of a write panicked: %v", r)
		}
		report(err)
	}()
	err = fn(t.handle.life.with(ctx), t)
	if failed := t.handle.failed.Load(); err == nil && failed != nil {
		err = *failed
	}
}

var errGoexit = errors.New("sqldb: the function of a write ended its goroutine")

// committed calls the hooks. The data is there whatever they do, so a panic of
// one must not look like a failed write.
func (t *Tx) committed(log *slog.Logger) {
	for _, fn := range t.onCommit {
		func() {
			defer func() {
				if r := recover(); r != nil {
					log.Error("a commit hook panicked", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
				}
			}()
			fn()
		}()
	}
}

// lifetime is how long the statements of a transaction may run.
type lifetime struct {
	done  context.Context
	until time.Time
}

// with gives ctx's values a life of the transaction's length.
func (l *lifetime) with(ctx context.Context) context.Context {
	if d, ok := ctx.(detached); ok && d.life == l {
		return ctx
	}
	return detached{Context: context.WithoutCancel(ctx), life: l}
}

// detached is a caller's context whose cancellation is the transaction's.
type detached struct {
	context.Context
	life *lifetime
}

func (d detached) Deadline() (time.Time, bool) { return d.life.until, true }
func (d detached) Done() <-chan struct{}       { return d.life.done.Done() }
func (d detached) Err() error {
	if d.life.done.Err() != nil {
		return context.DeadlineExceeded
	}
	return nil
}

// handle is the Querier that modules see: it refuses what one of the engines
// would read differently, and keeps a failed transaction failed.
type handle struct {
	db     *DB
	q      Querier
	life   *lifetime // of a write; nil for reads
	failed atomic.Pointer[error]
}

func (h *handle) ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error) {
	ctx, err := h.enter(ctx, args)
	if err != nil {
		return nil, err
	}
	r, err := h.q.ExecContext(ctx, text, args...)
	return r, h.leave(err)
}

func (h *handle) QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	ctx, err := h.enter(ctx, args)
	if err != nil {
		return nil, err
	}
	r, err := h.q.QueryContext(ctx, text, args...)
	return r, h.leave(err)
}

func (h *handle) QueryRowContext(ctx context.Context, text string, args ...any) *sql.Row {
	ctx, err := h.enter(ctx, args)
	if err != nil {
		return h.db.refuse(err)
	}
	r := h.q.QueryRowContext(ctx, text, args...)
	if err := r.Err(); err != nil {
		h.leave(err)
	}
	return r
}

func (h *handle) enter(ctx context.Context, args []any) (context.Context, error) {
	if failed := h.failed.Load(); failed != nil {
		return nil, fmt.Errorf("sqldb: an earlier statement of this transaction has failed: %w", *failed)
	}
	if err := checkArgs(args); err != nil {
		return nil, err
	}
	if h.life != nil {
		// Whatever context fn passes, a caller's cancellation must not reach the shared transaction.
		ctx = h.life.with(ctx)
	}
	return ctx, nil
}

func (h *handle) leave(err error) error {
	if err != nil && h.life != nil {
		h.failed.CompareAndSwap(nil, &err)
	}
	return err
}
