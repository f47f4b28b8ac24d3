package sqldb

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/prometheus/client_golang/prometheus"
	"modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"
)

// Options say which database to open.
type Options struct {
	URL     string                // "" = SQLite in Dir; postgres://… otherwise
	Dir     string                // directory of the SQLite file
	File    string                // name of the SQLite file; "" = main.db
	Log     *slog.Logger          // nil = slog.Default()
	Metrics prometheus.Registerer // nil = none

	Queue        int           // most callers that may wait to write; 0 = 1024 (SQLite)
	WriteTimeout time.Duration // longest that one transaction may take; 0 = 10s
	MaxConns     int           // connections kept open at most; 0 = 16 (PostgreSQL)
}

// Open opens, and on SQLite creates, the database.
func Open(ctx context.Context, o Options) (*DB, error) {
	if strings.HasPrefix(o.URL, "postgres") {
		p, err := sql.Open("pgx", o.URL)
		if err != nil {
			return nil, err
		}
		p.SetMaxOpenConns(cmp.Or(o.MaxConns, 16))
		return newDB(Postgres, 1, func(err error) error {
			var e *pgconn.PgError
			if errors.As(err, &e) && len(e.Code) == 5 && e.Code[:2] == "23" {
				return ErrConflict
			}
			return nil
		}, p, p), p.PingContext(ctx)
	}
	file := o.File
	if file == "" {
		file = "main.db"
	}
	dsn := "file:" + filepath.Join(o.Dir, file) + "?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)" +
		"&_pragma=synchronous(FULL)&_pragma=foreign_keys(ON)"
	w, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	w.SetMaxOpenConns(1)
	r, err := sql.Open("sqlite", dsn+"&_pragma=query_only(ON)")
	if err != nil {
		return nil, err
	}
	r.SetMaxOpenConns(max(4, runtime.NumCPU()))
	return newDB(SQLite, 64, func(err error) error {
		var e *sqlite.Error
		if errors.As(err, &e) && e.Code()&0xff == sqlitelib.SQLITE_CONSTRAINT {
			return ErrConflict
		}
		return nil
	}, w, r), w.PingContext(ctx)
}
