package quota

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/clock"
	"landline/internal/observe"
	"landline/internal/sqldb"
)

//go:embed migrations/*.sql
var migrations embed.FS

//go:embed queries.sql
var queriesSQL string

// Migrations make the table quota_usage.
var Migrations = sqldb.Embedded("quota", migrations)

// Queries are every statement of this package.
var Queries = sqldb.MustParse(queriesSQL)

const (
	maxEntries  = 200_000         // keys that a node holds blocks for
	maxBlock    = 1000            // units
	blockShare  = 16              // a block is this part of what is left
	takeWithin  = 2 * time.Second // for one block
	restFor     = time.Second     // that the database is left alone after it has failed
	lookAgain   = time.Second     // after which an exhausted quota is asked for again: others may have given back
	idleAfter   = 30 * time.Second
	sweepEvery  = 15 * time.Second
	deleteEvery = 40 // sweeps
	deleteBatch = 1000
)

// Options is what a Meter needs. Nothing in it may be nil but Registry.
type Options struct {
	DB       *sqldb.DB
	Clock    clock.Clock
	Log      *slog.Logger
	Registry prometheus.Registerer
}

// Meter counts. It is safe for concurrent use.
type Meter struct {
	o     Options
	rest  atomic.Int64 // until when the database is left alone, Unix nanoseconds
	takes prometheus.Counter
	alone prometheus.Counter

	mu      sync.Mutex
	entries map[id]*entry

	stop context.CancelFunc
	done sync.WaitGroup
}

type id [sha256.Size]byte

// entry is a caller's quota in one period, as this node knows it.
type entry struct {
	ends time.Time

	mu      sync.Mutex
	gone    bool      // dropped from the map: look it up again
	left    int64     // units taken from the database and not used
	used    int64     // what the database said was taken, ours included
	owed    int64     // admitted without the database
	full    time.Time // when the database last had nothing left
	touched time.Time
}

// A Check asks one quota about one caller.
type Check struct {
	Policy *Policy
	Key    string
}

// A State is what a quota says of a caller after a decision.
type State struct {
	Remaining int64
	Reset     time.Duration // until the period ends
	Window    time.Duration // length of the period
	Refused   bool
}

// New returns a Meter on a migrated database.
func New(o Options) *Meter {
	m := &Meter{o: o, entries: map[id]*entry{}}
	blocks := observe.Counter(o.Registry, "landline_gateway_quota_blocks_total", "Blocks of quota units: taken from the database, or alone (single units admitted while it did not answer).", "outcome")
	m.takes, m.alone = blocks.WithLabelValues("taken"), blocks.WithLabelValues("alone")
	return m
}

// Start begins giving back what is idle.
func (m *Meter) Start(ctx context.Context) error {
	ctx, m.stop = context.WithCancel(context.WithoutCancel(ctx)) // #nosec G118 -- Stop calls it
	m.done.Go(func() {
		tick := time.NewTicker(sweepEvery)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			err := m.Sweep(ctx, idleAfter)
			if err == nil && n%deleteEvery == 0 {
				err = m.delete(ctx)
			}
			if err != nil && ctx.Err() == nil {
				m.o.Log.Warn("unused quota units could not be given back; trying again", "error", err)
			}
		}
	})
	return nil
}

// Stop gives everything back.
func (m *Meter) Stop(ctx context.Context) error {
	if m.stop != nil {
		m.stop()
	}
	m.done.Wait()
	if err := m.Sweep(ctx, 0); err != nil {
		return fmt.Errorf("give unused quota units back: %w", err)
	}
	return nil
}

// Take admits or refuses one request under all checks, and fills states, which
// must be as long. A refused request is charged to none.
func (m *Meter) Take(ctx context.Context, checks []Check, states []State) bool {
	now := m.o.Clock.Now()
	admitted := true
	var taken [16]*entry
	for i, c := range checks {
		begins, ends := c.Policy.Period(now)
		states[i] = State{Reset: ends.Sub(now), Window: ends.Sub(begins)}
		e := m.take(ctx, c, begins, ends, now, &states[i])
		if e == nil {
			admitted = false
			continue
		}
		taken[i] = e
	}
	if admitted {
		return true
	}
	for i := range checks {
		if e := taken[i]; e != nil {
			e.mu.Lock()
			e.left++
			e.mu.Unlock()
			states[i].Remaining++
		}
	}
	return false
}

// take uses one unit and returns whose, or nil when none is left.
func (m *Meter) take(ctx context.Context, c Check, begins, ends, now time.Time, st *State) *entry {
	key := c.id(begins)
	e, kept := m.lock(key, ends)
	defer e.mu.Unlock()
	e.touched = now
	if e.left == 0 && now.Sub(e.full).Abs() >= lookAgain {
		m.refill(ctx, key, e, c.Policy.limit, now, kept)
	}
	if e.left == 0 {
		st.Refused = true
		st.Remaining = 0
		return nil
	}
	e.left--
	st.Remaining = max(c.Policy.limit-e.used-e.owed+e.left, 0)
	return e
}

// id names a caller's quota in the period that begins then.
func (c *Check) id(begins time.Time) id {
	b := make([]byte, 0, 192)
	b = append(b, c.Policy.name...)
	b = append(b, 0)
	b = append(b, c.Policy.window...)
	b = binary.BigEndian.AppendUint64(b, uint64(begins.UnixMilli())) // #nosec G115 -- a name, not a number
	b = append(b, c.Key...)
	return sha256.Sum256(b)
}

// lock returns the locked entry of a key. Without room it is one that is not
// kept: it holds nothing beyond this request.
func (m *Meter) lock(key id, ends time.Time) (e *entry, kept bool) {
	for {
		m.mu.Lock()
		e = m.entries[key]
		kept = e != nil || len(m.entries) < maxEntries
		if e == nil {
			e = &entry{ends: ends}
			if kept {
				m.entries[key] = e
			}
		}
		m.mu.Unlock()
		e.mu.Lock()
		if !e.gone {
			return e, kept
		}
		e.mu.Unlock()
	}
}

// refill takes a block from the database, or while it does not answer one unit
// from what this node knows.
func (m *Meter) refill(ctx context.Context, key id, e *entry, limit int64, now time.Time, kept bool) {
	if rest := m.rest.Load() - now.UnixNano(); rest <= 0 || rest > int64(restFor) {
		used, block, err := m.block(ctx, key, e, limit, kept)
		if err == nil {
			m.takes.Inc()
			e.used, e.left, e.owed = used, block, 0
			if block == 0 {
				e.full = now
			}
			return
		}
		m.rest.Store(now.Add(restFor).UnixNano())
		m.o.Log.WarnContext(ctx, "quotas: the database does not answer; this node counts alone until it does", "error", err)
	}
	if e.used+e.owed < limit {
		e.owed++
		e.left++
		m.alone.Inc()
	}
}

// block takes units, and pays what the entry owes. It returns what is used now,
// the block included.
func (m *Meter) block(ctx context.Context, key id, e *entry, limit int64, kept bool) (used, block int64, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeWithin)
	defer cancel()
	err = m.o.DB.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		used = 0
		err := tx.QueryRowContext(ctx, Queries.Get("Used"), key[:]).Scan(&used)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		used += e.owed
		if left := limit - used; left <= 0 {
			block = 0
		} else if block = min(max(left/blockShare, 1), maxBlock); !kept {
			block = 1
		}
		used += block
		if e.owed+block == 0 {
			return nil
		}
		_, err = tx.ExecContext(ctx, Queries.Get("Take"), key[:], e.owed+block, sqldb.Millis(e.ends))
		return err
	})
	return used, block, err
}

// Sweep gives back what has not been touched for as long as idle, pays what is
// owed, and forgets it.
func (m *Meter) Sweep(ctx context.Context, idle time.Duration) error {
	now := m.o.Clock.Now()
	m.mu.Lock()
	keys := make([]id, 0, len(m.entries))
	for key := range m.entries {
		keys = append(keys, key)
	}
	m.mu.Unlock()
	for _, key := range keys {
		m.mu.Lock()
		e := m.entries[key]
		m.mu.Unlock()
		if e == nil {
			continue
		}
		if err := m.settle(ctx, key, e, now, idle); err != nil {
			return err
		}
	}
	return nil
}

func (m *Meter) settle(ctx context.Context, key id, e *entry, now time.Time, idle time.Duration) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if over := !now.Before(e.ends); !over && now.Sub(e.touched).Abs() < idle {
		return nil
	} else if change := e.owed - e.left; !over && change != 0 {
		err := m.o.DB.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
			if change > 0 {
				_, err = tx.ExecContext(ctx, Queries.Get("Take"), key[:], change, sqldb.Millis(e.ends))
			} else {
				_, err = tx.ExecContext(ctx, Queries.Get("GiveBack"), -change, key[:], -change)
			}
			return err
		})
		if err != nil && !errors.Is(err, sqldb.ErrUncertain) { // then to try again could give back twice
			return err
		}
	}
	e.gone = true
	m.mu.Lock()
	delete(m.entries, key)
	m.mu.Unlock()
	return nil
}

// delete removes the rows of periods that are over.
func (m *Meter) delete(ctx context.Context) error {
	for {
		var n int64
		err := m.o.DB.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			res, err := tx.ExecContext(ctx, Queries.Get("Sweep"), sqldb.Millis(m.o.Clock.Now()), deleteBatch)
			if err == nil {
				n, err = res.RowsAffected()
			}
			return err
		})
		if err != nil || n < deleteBatch {
			return err
		}
	}
}
