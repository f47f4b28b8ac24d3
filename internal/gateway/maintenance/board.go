package maintenance

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/audit"
	"landline/internal/bus"
	"landline/internal/clock"
	"landline/internal/observe"
	"landline/internal/sqldb"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

//go:embed queries.sql
var queriesSQL string

// Migrations make the table.
var Migrations = sqldb.Embedded("gateway_maintenance", migrationFiles)

// Queries are the package's statements.
var Queries = sqldb.MustParse(queriesSQL)

// pollEvery is how soon a node learns of a switch without the bus.
const pollEvery = 500 * time.Millisecond

// readWithin bounds one reading of the table.
const readWithin = 5 * time.Second

// news says that the table has changed.
type news struct{}

var topic = bus.Topic[news]{Name: "gateway.maintenance"}

// Switch is a notice that an operator has set; Feature "" is the whole app.
type Switch struct {
	Feature string
	Notice  Notice
	SetAt   time.Time
}

// State is everything that is switched. It does not change.
type State struct {
	App      *Notice
	Features map[string]*Notice
	all      []Switch
}

// Options is what a Board needs. Nothing in it may be nil but Registry.
type Options struct {
	DB       *sqldb.DB
	Bus      bus.Bus
	Audit    *audit.Log
	Clock    clock.Clock
	Log      *slog.Logger
	Registry prometheus.Registerer
	Features func() []string // names that may be switched
}

// Board knows what is switched. It is safe for concurrent use.
type Board struct {
	o     Options
	state atomic.Pointer[State] // nil while nothing is switched
	mu    sync.Mutex            // one reading at a time, so that an older one never wins
	*bus.Follower
}

// New returns a Board on a migrated database. It knows of nothing before Start.
func New(o Options) *Board {
	b := &Board{o: o}
	b.Follower = &bus.Follower{What: "maintenance switches", Topic: topic.Name, Read: b.read, Bus: o.Bus, Log: o.Log}
	if o.DB.Engine() != sqldb.SQLite { // other nodes may write
		b.Every = pollEvery
	}
	observe.GaugeFunc(o.Registry, "landline_gateway_maintenance_switches", "Maintenance switches that operators have set and that hold now.", func() float64 {
		n, now := 0, o.Clock.Now()
		for _, s := range b.Switches() {
			if s.Notice.Active(now) {
				n++
			}
		}
		return float64(n)
	})
	return b
}

// read brings the state up to date.
func (b *Board) read(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	var s State
	err := b.o.DB.Read(ctx, func(ctx context.Context, q sqldb.Querier) error {
		s = State{Features: map[string]*Notice{}}
		rows, err := q.QueryContext(ctx, Queries.Get("List"))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			sw, err := scan(rows.Scan)
			if err != nil {
				return err
			}
			s.all = append(s.all, sw)
		}
		return rows.Err()
	})
	if err != nil {
		return err
	}
	if len(s.all) == 0 {
		b.state.Store(nil)
		return nil
	}
	for i := range s.all {
		if s.all[i].Feature == "" {
			s.App = &s.all[i].Notice
		} else {
			s.Features[s.all[i].Feature] = &s.all[i].Notice
		}
	}
	b.state.Store(&s)
	return nil
}

func scan(into func(...any) error) (Switch, error) {
	var sw Switch
	var from, until sql.NullInt64
	var retry, setAt int64
	var allowed string
	if err := into(&sw.Feature, &sw.Notice.Title, &sw.Notice.Message, &from, &until, &retry, &allowed, &setAt); err != nil {
		return sw, err
	}
	if from.Valid {
		sw.Notice.From = sqldb.Time(from.Int64)
	}
	if until.Valid {
		sw.Notice.Until = sqldb.Time(until.Int64)
	}
	sw.Notice.RetryAfter, sw.SetAt = time.Duration(retry)*time.Millisecond, sqldb.Time(setAt)
	return sw, json.Unmarshal([]byte(allowed), &sw.Notice.Allow)
}

// State is what is switched now, nil when nothing is.
func (b *Board) State() *State { return b.state.Load() }

// Switches lists what is switched, the whole app first, then by feature.
func (b *Board) Switches() []Switch {
	if s := b.state.Load(); s != nil {
		return s.all
	}
	return nil
}

// Set switches a feature, or with "" the whole app, to maintenance.
func (b *Board) Set(ctx context.Context, feature string, n Notice, reason string) (Switch, error) {
	allowed, err := json.Marshal(append([]string{}, n.Allow...))
	if err != nil {
		return Switch{}, err
	}
	sw := Switch{Feature: feature, Notice: n, SetAt: b.o.Clock.Now()}
	err = b.change(ctx, feature, "maintenance.on", reason, wireOf(sw, sw.SetAt), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, Queries.Get("Put"), feature, n.Title, n.Message, sqldb.NullMillis(n.From), sqldb.NullMillis(n.Until),
			n.RetryAfter.Milliseconds(), string(allowed), sqldb.Millis(sw.SetAt))
		return err
	})
	return sw, err
}

// Clear takes a switch back; sqldb.ErrNotFound when there is none.
func (b *Board) Clear(ctx context.Context, feature, reason string) error {
	return b.change(ctx, feature, "maintenance.off", reason, nil, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, Queries.Get("Delete"), feature)
		return err
	})
}

// change writes, audits, and then tells this node and the others.
func (b *Board) change(ctx context.Context, feature, action, reason string, after any, write func(context.Context, *sqldb.Tx) error) error {
	err := b.o.DB.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		before, err := scan(tx.QueryRowContext(ctx, Queries.Get("Get"), feature).Scan)
		entry := audit.Entry{Action: action, Target: target(feature), Reason: reason, After: after}
		switch {
		case err == nil:
			entry.Before = wireOf(before, before.SetAt)
		case !errors.Is(err, sql.ErrNoRows) && !errors.Is(err, sqldb.ErrNotFound):
			return err
		case after == nil:
			return sqldb.ErrNotFound
		}
		if err := write(ctx, tx); err != nil {
			return err
		}
		return b.o.Audit.Record(ctx, tx, entry)
	})
	if err != nil {
		return err
	}
	if err := topic.Publish(context.WithoutCancel(ctx), b.o.Bus, news{}); err != nil {
		b.o.Log.WarnContext(ctx, "a maintenance switch is set, but the other nodes could not be told; they find it within a second", "error", err)
	}
	return b.read(context.WithoutCancel(ctx))
}

func target(feature string) string {
	if feature == "" {
		return "app"
	}
	return feature
}
