package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"

	"landline/internal/sqldb/walvfs"
)

const (
	checkpointPages = 4000 // pages in the write-ahead log (4 KiB each) from which the loop moves them into the file
	checkpointEvery = 8    // commits between two looks at the log
)

// openSQLite opens one connection that writes and a few that cannot.
func (db *DB) openSQLite(ctx context.Context, o Options) error {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return err
	}
	db.name, db.dir, db.path = SQLite, dir, filepath.Join(dir, o.File)
	if o.ReadOnly {
		if _, err := os.Stat(db.path); err != nil {
			return err
		}
	} else if err := createPrivate(db.path); err != nil {
		return fmt.Errorf("sqldb: the data directory must be writable by the user that runs landline: %w", err)
	}
	db.faults = faults{classify: classifySQLite, uncertain: uncertainSQLite}
	db.metrics = newMetrics(o.Metrics, o.File)
	// Each caller of a group has a savepoint, whose pages as they were go into
	// a temporary file unless temporary things are kept in memory.
	write, read := sqliteDSN(db.path, o.Relaxed, true)+"&_pragma=temp_store(MEMORY)", sqliteDSN(db.path, o.Relaxed, false)
	begin := "BEGIN IMMEDIATE"
	if o.ReadOnly {
		begin = ""
		write = fileURL(db.path) + "?mode=ro&immutable=1&_pragma=query_only(ON)"
		read = write
	} else {
		vfs, err := walvfs.Name(!o.Relaxed) // writes may be joined where every commit is synced
		if err != nil {
			return err
		}
		write += "&vfs=" + vfs
	}
	db.writer = sql.OpenDB(preparing{&sqlite.Driver{}, write, begin})
	db.writer.SetMaxOpenConns(1)
	db.reader = sql.OpenDB(preparing{driver: &sqlite.Driver{}, dsn: read})
	readers := max(4, runtime.GOMAXPROCS(0))
	db.reader.SetMaxOpenConns(readers)
	db.reader.SetMaxIdleConns(readers)
	if err := errors.Join(db.writer.PingContext(ctx), db.reader.PingContext(ctx)); err != nil {
		return errors.Join(fmt.Errorf("open %s: %w", db.path, db.explain(db.translate(err))), db.writer.Close(), db.reader.Close())
	}
	w := &wal{db: db}
	g := newGroupCommit(db, o.Queue, o.WriteTimeout, w.upkeep)
	db.writes = g
	go g.loop()
	return nil
}

// explain says of a start that was refused what was being written.
func (db *DB) explain(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) || db.walBytes() == 0 {
		return err
	}
	switch e.Code() {
	case sqlitelib.SQLITE_IOERR_WRITE, sqlitelib.SQLITE_IOERR_FSYNC, sqlitelib.SQLITE_FULL:
		return fmt.Errorf("the disk does not take its write-ahead log %s-wal, which is written again and synced before anybody relies on it: %w", db.path, err)
	}
	return err
}

func fileURL(path string) string {
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(path)}
	return u.String()
}

// sqliteDSN says all in the address, because a pragma run on the pool reaches
// one connection and is lost when that is replaced. busy_timeout comes first:
// the switch to WAL needs it already.
func sqliteDSN(path string, relaxed, write bool) string {
	dsn := fileURL(path) + "?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(ON)&_pragma=journal_size_limit(67108864)"
	if relaxed {
		dsn += "&_pragma=synchronous(NORMAL)"
	} else {
		dsn += "&_pragma=synchronous(FULL)"
	}
	if write {
		// The loop makes checkpoints itself, after it has answered its callers; SQLite's own is the net below.
		return dsn + "&_pragma=wal_autocheckpoint(16000)&_txlock=immediate"
	}
	return dsn + "&_pragma=query_only(ON)&_txlock=deferred"
}

// createPrivate makes an empty file that only its owner reads; SQLite gives
// its log files the same rights. New directories survive a power cut: SQLite
// syncs the one that the file is in, nobody those above it.
func createPrivate(path string) error {
	if err := makeDirs(filepath.Dir(path)); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) // #nosec G304 -- below the configured data directory
	if err != nil {
		return err
	}
	return f.Close()
}

// makeDirs is os.MkdirAll whose directories are durable.
func makeDirs(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDirs(parent); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := syncPath(parent); !errors.Is(err, fs.ErrPermission) { // one that may be written but not read cannot be synced
		return err
	}
	return nil
}

// classifySQLite reads the result codes of https://www.sqlite.org/rescode.html.
func classifySQLite(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		if errors.Is(err, sql.ErrConnDone) || errors.Is(err, sql.ErrTxDone) {
			return ErrUnavailable
		}
		return nil
	}
	switch e.Code() & 0xff {
	case sqlitelib.SQLITE_CONSTRAINT:
		return ErrConflict
	case sqlitelib.SQLITE_BUSY, sqlitelib.SQLITE_LOCKED:
		return ErrBusy
	case sqlitelib.SQLITE_CORRUPT, sqlitelib.SQLITE_NOTADB:
		return ErrCorrupt
	case sqlitelib.SQLITE_FULL, sqlitelib.SQLITE_IOERR, sqlitelib.SQLITE_READONLY, sqlitelib.SQLITE_CANTOPEN, sqlitelib.SQLITE_PERM,
		sqlitelib.SQLITE_PROTOCOL, sqlitelib.SQLITE_NOMEM, sqlitelib.SQLITE_INTERRUPT:
		return ErrUnavailable
	}
	return nil
}

// uncertainSQLite: a commit record may have reached the disk although the write
// or the sync that carried it reported an error.
func uncertainSQLite(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlitelib.SQLITE_IOERR
}

// wal looks after the write-ahead log. It belongs to the commit loop.
type wal struct {
	db      *DB
	commits int // since the last look
}

// upkeep moves the log into the database file when it has grown. It runs
// between groups, when every caller has its answer.
func (w *wal) upkeep(commits int) {
	w.commits += commits
	if commits > 0 && w.commits < checkpointEvery {
		return
	}
	w.commits = 0
	ctx, cancel := context.WithTimeout(context.Background(), idleCheck)
	defer cancel()
	pages, moved, err := w.db.checkpoint(ctx, "NOOP")
	if err == nil && pages-moved >= checkpointPages {
		pages, moved, err = w.db.checkpoint(ctx, "PASSIVE")
	}
	if err != nil {
		w.db.log.Debug("the write-ahead log was not looked after", "error", err)
		return
	}
	w.db.metrics.logged(w.db.walBytes(), pages-moved, w.db.writes.waiting())
	if pages == moved {
		w.db.metrics.checkpointed(time.Now())
	}
}

// checkpoint returns how many pages the log has and how many of them are in the file.
func (db *DB) checkpoint(ctx context.Context, mode string) (pages, moved int, err error) {
	var busy int
	err = db.writer.QueryRowContext(ctx, "PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &pages, &moved)
	if err == nil && busy != 0 && mode != "NOOP" && mode != "PASSIVE" {
		err = fmt.Errorf("%w: a reader holds the write-ahead log", ErrBusy)
	}
	return pages, moved, err
}

func (db *DB) walBytes() int64 {
	if db.name != SQLite {
		return 0
	}
	info, err := os.Stat(db.path + "-wal")
	if err != nil { // not there until the first write
		return 0
	}
	return info.Size()
}
