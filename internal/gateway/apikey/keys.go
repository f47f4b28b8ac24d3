package apikey

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/audit"
	"landline/internal/bus"
	"landline/internal/clock"
	"landline/internal/id"
	"landline/internal/limit"
	"landline/internal/observe"
	"landline/internal/problem"
	"landline/internal/secret"
	"landline/internal/sqldb"
)

//go:embed migrations/*.sql
var migrations embed.FS

//go:embed queries.sql
var queriesSQL string

// Migrations make the table api_key.
var Migrations = sqldb.Embedded("apikey", migrations)

// Queries are every statement of this package.
var Queries = sqldb.MustParse(queriesSQL)

const (
	purpose    = "api-key"
	pollEvery  = 5 * time.Second
	readWithin = 5 * time.Second
)

// changed tells other nodes that keys were made or ended.
var changed = bus.Topic[struct{}]{Name: "apikey.changed"}

// Options is what Keys needs. Nothing in it may be nil but Registry.
type Options struct {
	DB       *sqldb.DB
	Ring     *secret.Ring
	Bus      bus.Bus
	Audit    *audit.Log
	Clock    clock.Clock
	Log      *slog.Logger
	Registry prometheus.Registerer
}

// Keys knows the API keys. It is safe for concurrent use.
type Keys struct {
	o    Options
	live atomic.Pointer[index]
	mu   sync.Mutex // one reading at a time, so that an older one never wins
	*bus.Follower
}

// index is the live keys by key version and MAC.
type index struct {
	byVersion map[int]map[string]*Key
	count     int
}

// Open returns the keys kept in a migrated database, and makes the key that
// they are stored under on first use. It knows of none before Start.
func Open(ctx context.Context, o Options) (*Keys, error) {
	if err := o.Ring.Ensure(ctx, purpose, secret.HMAC); err != nil {
		return nil, err
	}
	k := &Keys{o: o}
	k.Follower = &bus.Follower{What: "API keys", Topic: changed.Name, Read: k.read, Bus: o.Bus, Log: o.Log}
	if o.DB.Engine() != sqldb.SQLite { // other nodes may write
		k.Every = pollEvery
	}
	k.live.Store(&index{})
	observe.GaugeFunc(o.Registry, "landline_api_keys", "API keys that this node accepts.", func() float64 { return float64(k.live.Load().count) })
	return k, nil
}

// read brings the index up to date.
func (k *Keys) read(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	var next *index
	err := k.o.DB.Read(ctx, func(ctx context.Context, q sqldb.Querier) (err error) {
		next = &index{byVersion: map[int]map[string]*Key{}}
		rows, err := q.QueryContext(ctx, Queries.Get("Live"), MaxKeys)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, rows.Close()) }()
		for rows.Next() {
			r, err := scan(rows)
			if err != nil {
				return err
			}
			if next.byVersion[r.version] == nil {
				next.byVersion[r.version] = map[string]*Key{}
			}
			next.byVersion[r.version][string(r.mac)] = r.Key
			next.count++
		}
		return rows.Err()
	})
	if err == nil {
		k.live.Store(next)
	}
	return err
}

// Find returns the live key that token is the secret of, or an error. It asks
// no database. The key is found by its MAC, of which nothing can be learned by
// timing without the ring's key.
func (k *Keys) Find(token string) (*Key, error) {
	if !wellFormed(token) {
		return nil, errUnknown
	}
	for version, keys := range k.live.Load().byVersion {
		mac, err := k.o.Ring.MACWith(purpose, version, []byte(token))
		if err != nil {
			continue // dropped, or not known on this node yet: the keys of other versions are good
		}
		key := keys[string(mac)]
		if key == nil {
			continue
		}
		if !key.ExpiresAt.IsZero() && !k.o.Clock.Now().Before(key.ExpiresAt) {
			return nil, errUnknown
		}
		return key, nil
	}
	return nil, errUnknown
}

// facts is what a key looks like in the audit log.
type facts struct {
	Name      string     `json:"name"`
	RateLimit *RateWire  `json:"rate_limit,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

func factsOf(k *Key) facts {
	w := wireOf(k)
	return facts{Name: w.Name, RateLimit: w.RateLimit, ExpiresAt: w.ExpiresAt}
}

// Make makes a key and returns its secret, which is shown nowhere again.
func (k *Keys) Make(ctx context.Context, n New) (*Key, string, error) {
	now := sqldb.Time(sqldb.Millis(k.o.Clock.Now()))
	pace, err := n.check(now)
	if err != nil {
		return nil, "", err
	}
	token := newToken()
	version, mac, err := k.o.Ring.MAC(purpose, []byte(token))
	if err != nil {
		return nil, "", err
	}
	key := &Key{ID: id.New(idPrefix), Name: n.Name, Rate: n.Rate, CreatedAt: now, pace: pace}
	if !n.ExpiresAt.IsZero() {
		key.ExpiresAt = sqldb.Time(sqldb.Millis(n.ExpiresAt))
	}
	var limits [3]sql.NullInt64
	if r := n.Rate; r != nil {
		limits = [3]sql.NullInt64{{Int64: int64(r.Limit), Valid: true}, {Int64: r.Window.Milliseconds(), Valid: true}, {Int64: int64(r.Burst), Valid: true}}
	}
	err = k.o.DB.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		var live int
		if err := tx.QueryRowContext(ctx, Queries.Get("Count")).Scan(&live); err != nil {
			return err
		}
		if live >= MaxKeys {
			return problem.New(problem.Conflict, "there are %d API keys; end some that are not used", live)
		}
		_, err := tx.ExecContext(ctx, Queries.Get("Insert"), key.ID, key.Name, mac, version, limits[0], limits[1], limits[2], sqldb.Millis(now), sqldb.NullMillis(key.ExpiresAt))
		if err != nil {
			return err
		}
		return k.o.Audit.Record(ctx, tx, audit.Entry{Action: "api_key.make", Target: key.ID, Reason: n.Reason, After: factsOf(key)})
	})
	if errors.Is(err, sqldb.ErrConflict) {
		return nil, "", problem.New(problem.Conflict, "a live API key is named %s; choose another name", n.Name).Wrap(err)
	}
	if err != nil {
		return nil, "", err
	}
	return key, token, k.tell(ctx)
}

// End shuts a key out. Its row stays for the audit log.
func (k *Keys) End(ctx context.Context, keyID, reason string) error {
	now := k.o.Clock.Now()
	err := k.o.DB.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		r, err := scan(tx.QueryRowContext(ctx, Queries.Get("Get"), keyID))
		if err == nil && !r.DisabledAt.IsZero() {
			err = sql.ErrNoRows
		}
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, Queries.Get("Disable"), sqldb.Millis(now), keyID); err != nil {
			return err
		}
		return k.o.Audit.Record(ctx, tx, audit.Entry{Action: "api_key.end", Target: keyID, Reason: reason, Before: factsOf(r.Key)})
	})
	if errors.Is(err, sql.ErrNoRows) || errors.Is(err, sqldb.ErrNotFound) {
		return problem.New(problem.NotFound, "there is no such live API key").Wrap(err)
	}
	if err != nil {
		return err
	}
	return k.tell(ctx)
}

// tell makes this node know of a change at once, and the others if the bus is there.
func (k *Keys) tell(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readWithin)
	defer cancel()
	if err := changed.Publish(ctx, k.o.Bus, struct{}{}); err != nil {
		k.o.Log.WarnContext(ctx, "a change of API keys could not be published; other nodes read it from the database", "error", err)
	}
	if err := k.read(ctx); err != nil {
		return fmt.Errorf("the change is stored, but this node could not read it back: %w", err)
	}
	return nil
}

// List returns keys by age, ended ones too, and the cursor of the next page.
func (k *Keys) List(ctx context.Context, limit int, cursor string) (out []*Key, next string, err error) {
	if limit == 0 {
		limit = 50
	}
	limit = min(max(limit, 1), 200)
	if cursor != "" && id.Check(idPrefix, cursor) != nil {
		return nil, "", problem.New(problem.InvalidRequest, "cursor: give the value of page.next, unchanged")
	}
	err = k.o.DB.Read(ctx, func(ctx context.Context, q sqldb.Querier) (err error) {
		out = nil
		rows, err := q.QueryContext(ctx, Queries.Get("Page"), cursor, limit+1)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, rows.Close()) }()
		for rows.Next() {
			r, err := scan(rows)
			if err != nil {
				return err
			}
			out = append(out, r.Key)
		}
		return rows.Err()
	})
	if len(out) > limit {
		out = out[:limit]
		next = out[limit-1].ID
	}
	return out, next, err
}

// row is a Key with what its secret is checked against.
type row struct {
	*Key
	mac     []byte
	version int
}

func scan(from interface{ Scan(...any) error }) (row, error) {
	r := row{Key: &Key{}}
	var created int64
	var limits [3]sql.NullInt64
	var expires, disabled sql.NullInt64
	if err := from.Scan(&r.ID, &r.Name, &r.mac, &r.version, &limits[0], &limits[1], &limits[2], &created, &expires, &disabled); err != nil {
		return r, err
	}
	r.CreatedAt = sqldb.Time(created)
	if expires.Valid {
		r.ExpiresAt = sqldb.Time(expires.Int64)
	}
	if disabled.Valid {
		r.DisabledAt = sqldb.Time(disabled.Int64)
	}
	if limits[0].Valid {
		r.Rate = &limit.Rate{Limit: int(limits[0].Int64), Window: time.Duration(limits[1].Int64) * time.Millisecond, Burst: int(limits[2].Int64)}
		var err error
		if r.pace, err = limit.NewPace(*r.Rate); err != nil {
			return r, fmt.Errorf("API key %s: %w", r.ID, err)
		}
	}
	return r, nil
}
