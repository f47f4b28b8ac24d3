package secret

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"

	"landline/internal/clock"
	"landline/internal/sqldb"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

//go:embed queries.sql
var queriesSQL string

// Migrations make the tables secret_master, secret_key and secret_dek.
var Migrations = sqldb.Embedded("secret", migrationFiles)

// Queries are the package's statements.
var Queries = sqldb.MustParse(queriesSQL)

// Errors a caller may act on.
var (
	ErrTampered  = errors.New("does not verify")           // changed, or sealed for another subject, field or purpose
	ErrShredded  = errors.New("the data key is destroyed") // the subject was erased
	ErrNoPurpose = errors.New("no key for this purpose")
)

// Options say where the master key comes from.
type Options struct {
	Dir        string       // data directory; holds master.key when MasterKey is ""
	MasterKey  string       // base64 of 32 random bytes; "" = <Dir>/master.key, created with mode 0600
	Production bool         // refuses a generated master key on PostgreSQL
	Clock      clock.Clock  // nil = clock.System
	Log        *slog.Logger // nil = slog.Default()
}

// Ring is the opened set of keys. It is safe for concurrent use and holds no
// resources that must be closed.
type Ring struct {
	db   *sqldb.DB
	kek  *kek
	clk  clock.Clock
	log  *slog.Logger
	snap atomic.Pointer[snapshot]
	deks dataKeyCache

	mu   sync.Mutex // one reload at a time, so that an older snapshot never replaces a newer one
	keep sync.Map   // purpose → time.Duration, see Keep
}

// Open reads the master key and every key of the database. Migrations must have run.
//
// It refuses a master key that is weak, that others can read, or that is not
// the one this database was started with, and, in production on PostgreSQL,
// to make one up: the other nodes would not have it.
func Open(ctx context.Context, db *sqldb.DB, o Options) (*Ring, error) {
	r := &Ring{db: db, clk: o.Clock, log: o.Log}
	if r.clk == nil {
		r.clk = clock.System
	}
	if r.log == nil {
		r.log = slog.Default()
	}
	r.deks.init(r.clk)
	known, err := r.knownMaster(ctx)
	if err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	if r.kek, err = masterKey(db, o, known, r.log); err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	if err := r.claimMaster(ctx); err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	return r, r.Reload(ctx)
}

// masterKey finds or makes the master key. known is the id of the one the
// database was started with, "" when it is new.
func masterKey(db *sqldb.DB, o Options, known string, log *slog.Logger) (*kek, error) {
	if o.MasterKey != "" {
		key, err := decodeMasterKey(o.MasterKey)
		if err != nil {
			return nil, err
		}
		return newKEK(key)
	}
	if o.Production && db.Engine() == sqldb.Postgres {
		return nil, fmt.Errorf("%w is not configured: in production on PostgreSQL every node needs the same one from its environment or a secret file; %s", ErrMasterKey, howToMake)
	}
	path := filepath.Join(o.Dir, MasterKeyFile)
	key, err := readMasterKeyFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if known != "" {
			return nil, fmt.Errorf("%w %s, which this database was started with, is missing: restore %s from its backup, or configure the key", ErrMasterKey, known, path)
		}
		if key, err = createMasterKeyFile(o.Dir); err == nil {
			log.Warn("made a new master key; back it up apart from the database: without it sealed fields are lost", "file", path)
		}
	}
	if err != nil {
		return nil, err
	}
	return newKEK(key)
}

func (r *Ring) knownMaster(ctx context.Context) (id string, err error) {
	err = r.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) error {
		return q.QueryRowContext(ctx, Queries.Get("MasterGet")).Scan(&id)
	})
	if errors.Is(err, sqldb.ErrNotFound) || errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return id, err
}

// claimMaster writes down which master key the database is started with, so
// that a node with another one is refused before it wraps anything.
func (r *Ring) claimMaster(ctx context.Context) error {
	id, err := r.knownMaster(ctx)
	if err == nil && id == "" {
		err = r.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.ExecContext(ctx, Queries.Get("MasterInsert"), r.kek.id, sqldb.Millis(r.clk.Now()))
			return err
		})
		if err == nil {
			id, err = r.knownMaster(ctx)
		}
	}
	if err != nil {
		return err
	}
	if id != r.kek.id {
		return &WrongMasterKeyError{What: "this database", Have: r.kek.id, Want: id}
	}
	return nil
}

// Format keeps keys out of every fmt verb, also %+v and %#v.
func (r *Ring) Format(s fmt.State, _ rune) { io.WriteString(s, r.String()) }

// String names the ring and its master key's id.
func (r *Ring) String() string {
	if r == nil || r.kek == nil {
		return "secret.Ring"
	}
	return "secret.Ring(master key " + r.kek.id + ")"
}

// LogValue keeps keys out of structured logs.
func (r *Ring) LogValue() slog.Value { return slog.StringValue(r.String()) }

// MarshalJSON keeps keys out of JSON dumps.
func (r *Ring) MarshalJSON() ([]byte, error) { return []byte(`"` + r.String() + `"`), nil }
