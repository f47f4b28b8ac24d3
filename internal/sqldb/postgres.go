package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	minPostgres    = 150000 // server_version_num
	connectTimeout = 5 * time.Second
	maxAttempts    = 50                    // of one write that keeps losing against others
	maxPause       = 20 * time.Millisecond // between two of them
)

// openPostgres opens a pool and refuses servers that Landline is not tested on.
func (db *DB) openPostgres(ctx context.Context, o Options) error {
	cfg, err := pgx.ParseConfig(o.URL)
	if err != nil { // pgx leaves the password out of its text
		return fmt.Errorf("sqldb: database.url: %w", err)
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "landline"
	}
	db.name, db.url = Postgres, o.URL
	db.faults = faults{classify: classifyPostgres, uncertain: uncertainPostgres}
	db.metrics = newMetrics(o.Metrics, Postgres)
	db.connector = stdlib.GetConnector(*cfg)
	pool := sql.OpenDB(db.connector)
	pool.SetMaxOpenConns(o.MaxConns)
	pool.SetMaxIdleConns(o.MaxConns)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	db.reader, db.writer = pool, pool
	if err := checkServer(ctx, pool); err != nil {
		return errors.Join(fmt.Errorf("open PostgreSQL at %s:%d: %w", cfg.Host, cfg.Port, db.translate(err)), pool.Close())
	}
	own := &ownCommit{db: db, max: int64(o.Queue), stale: o.MaxConns, timeout: o.WriteTimeout, retries: make(chan struct{}, 1)}
	own.lanes = newLanes(own, min(maxLanes, o.MaxConns), o.Queue)
	db.writes = own
	return nil
}

func checkServer(ctx context.Context, pool *sql.DB) error {
	var version int
	var text, encoding string
	err := pool.QueryRowContext(ctx, `SELECT CAST(current_setting('server_version_num') AS INTEGER), current_setting('server_version'), current_setting('server_encoding')`).
		Scan(&version, &text, &encoding)
	switch {
	case err != nil:
		return err
	case version < minPostgres:
		return fmt.Errorf("the server is PostgreSQL %s; Landline needs 15 or later", text)
	case encoding != "UTF8":
		return fmt.Errorf("the database's encoding is %s; create it with ENCODING 'UTF8' TEMPLATE template0", encoding)
	}
	return nil
}

// ownCommit runs PostgreSQL's writes: each caller has its own transaction,
// SERIALIZABLE, but for those of WriteAll, which share them in lanes.
type ownCommit struct {
	db      *DB
	max     int64 // callers that may wait
	stale   int   // connections of the pool that may have died unnoticed
	timeout time.Duration
	retries chan struct{} // a caller that has lost twice runs alone among those of this node

	lanes  *lanes
	inLine atomic.Int64
	mu     sync.Mutex
	closed bool
	active sync.WaitGroup
}

func (c *ownCommit) waiting() int { return int(c.inLine.Load()) + c.lanes.line.length() }

func (c *ownCommit) close() {
	c.lanes.close()
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.active.Wait()
}

func (c *ownCommit) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.active.Add(1)
	}
	return !c.closed
}

func (c *ownCommit) write(ctx context.Context, fn func(context.Context, *Tx) error) error {
	if !c.enter() {
		return errClosed
	}
	defer c.active.Done()
	return c.repeat(ctx, fn)
}

// repeat runs fn until it does not lose against others.
func (c *ownCommit) repeat(ctx context.Context, fn func(context.Context, *Tx) error) error {
	start := time.Now()
	for attempt := 1; ; attempt++ {
		err := c.attempt(ctx, attempt, fn)
		if !lost(err) {
			return err
		}
		if attempt == maxAttempts || time.Since(start) > c.timeout {
			return fmt.Errorf("%w: lost against other writes %d times: %w", ErrBusy, attempt, err)
		}
		pause := time.NewTimer(rand.N(min(maxPause, time.Millisecond<<min(attempt, 10)))) // #nosec G404 -- jitter, not a secret
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return leftLine(ctx.Err())
		}
	}
}

// attempt runs fn once. Those that have lost twice do so one after the other:
// a row that all want is then fought over by nodes, not by callers.
func (c *ownCommit) attempt(ctx context.Context, attempt int, fn func(context.Context, *Tx) error) error {
	if attempt > 2 {
		select {
		case c.retries <- struct{}{}:
			defer func() { <-c.retries }()
		case <-ctx.Done():
			return leftLine(ctx.Err())
		}
	}
	life, end := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
	defer end()
	conn, sqlTx, err := c.begin(ctx, life)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer c.db.rollback(sqlTx)
	until, _ := life.Deadline()
	tx := newTx(c.db, sqlTx, &lifetime{done: life, until: until})
	tx.conn = conn
	tx.run(ctx, fn, func(e error) { err = e })
	if err != nil {
		if life.Err() != nil {
			return fmt.Errorf("%w: the write took longer than %v: %w", ErrUnavailable, c.timeout, err)
		}
		return err
	}
	return c.commit(life, tx)
}

func (c *ownCommit) commit(life context.Context, tx *Tx) error {
	if life.Err() != nil {
		return fmt.Errorf("%w: the write took longer than %v", ErrUnavailable, c.timeout)
	}
	start := time.Now()
	if err := tx.tx.Commit(); err != nil {
		if uncertainPostgres(err) {
			return fmt.Errorf("%w: %w", ErrUncertain, err)
		}
		return fmt.Errorf("commit: %w", err)
	}
	c.db.committed(1, time.Since(start))
	tx.committed(c.db.log)
	return nil
}

// begin opens a transaction. Connections that died while nobody looked, such as
// all of them after the server restarted, are dropped on the way.
func (c *ownCommit) begin(ctx, life context.Context) (*sql.Conn, *sql.Tx, error) {
	for dead := 0; ; dead++ {
		conn, err := c.connection(ctx)
		if err != nil {
			return nil, nil, err
		}
		tx, err := conn.BeginTx(life, &sql.TxOptions{Isolation: sql.LevelSerializable})
		if err == nil {
			return conn, tx, nil
		}
		err = errors.Join(fmt.Errorf("begin: %w", err), conn.Close())
		if dead == c.stale || classifyPostgres(err) != ErrUnavailable {
			return nil, nil, err
		}
	}
}

// connection waits for a connection of the pool.
func (c *ownCommit) connection(ctx context.Context) (*sql.Conn, error) {
	if c.inLine.Add(1) > c.max {
		c.inLine.Add(-1)
		return nil, fmt.Errorf("%w: %d callers are in line", ErrBusy, c.max)
	}
	defer c.inLine.Add(-1)
	start := time.Now()
	wait, cancel := context.WithTimeout(ctx, patienceFor(c.timeout))
	defer cancel()
	conn, err := c.db.writer.Conn(wait)
	switch {
	case err == nil:
		c.db.metrics.waited(time.Since(start))
		return conn, nil
	case ctx.Err() != nil:
		return nil, leftLine(ctx.Err())
	case wait.Err() != nil:
		return nil, fmt.Errorf("%w: no connection within %v: %w", ErrBusy, patienceFor(c.timeout), err)
	}
	return nil, err
}

// lost reports whether the transaction was undone in favour of another and may simply run again.
func lost(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case "40001", "40P01": // serialization_failure, deadlock_detected
		return true
	case "0A000": // a prepared statement's result has changed by a migration; pgx has dropped it
		return e.Routine == "RevalidateCachedQuery"
	}
	return false
}

// blocked reports whether a statement has waited for a lock longer than its transaction may.
func blocked(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "55P03" // lock_not_available
}

// classifyPostgres reads the codes of appendix A of PostgreSQL's manual.
func classifyPostgres(err error) error {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return classifySQLState(e)
	}
	var connect *pgconn.ConnectError
	var network *net.OpError
	switch {
	case errors.As(err, &connect), errors.As(err, &network),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, sql.ErrConnDone), errors.Is(err, sql.ErrTxDone):
		return ErrUnavailable
	case pgconn.SafeToRetry(err) && !isContext(err): // a connection that was closed before anything was sent
		return ErrUnavailable
	}
	return nil
}

func classifySQLState(e *pgconn.PgError) error {
	switch e.Code {
	case "P0001": // raised by a trigger, which SQLite counts among the constraints
		return ErrConflict
	case "22021", "22P05": // character_not_in_repertoire, untranslatable_character
		return ErrText
	case "40001", "40P01", "55P03": // serialization_failure, deadlock_detected, lock_not_available
		return ErrBusy
	case "XX001", "XX002": // data_corrupted, index_corrupted
		return ErrCorrupt
	case "25006": // read_only_sql_transaction: a standby answers
		return ErrUnavailable
	}
	switch e.Code[:min(2, len(e.Code))] {
	case "23": // integrity constraint
		return ErrConflict
	case "08", "28", "3D", "53", "57", "58": // connection, authorization, no such database, resources, operator, system
		return ErrUnavailable
	}
	return nil
}

// uncertainPostgres: the server did not get to answer the commit, or went down
// while it did. pgconn.SafeToRetry is no help here: of a connection lost while
// the answer was awaited it says that nothing was sent (pgx 5.12).
func uncertainPostgres(err error) bool {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.SeverityUnlocalized == "FATAL" || e.SeverityUnlocalized == "PANIC"
	}
	return !errors.Is(err, pgx.ErrTxCommitRollback) && !errors.Is(err, sql.ErrTxDone)
}
