package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing/fstest"
	"time"

	"landline/internal/audit"
	"landline/internal/clock"
	"landline/internal/gateway/idem"
	"landline/internal/identity"
	"landline/internal/queue"
	"landline/internal/secret"
	"landline/internal/sqldb"
)

// ledger is the stand-in for a capability's own tables.
var ledger = sqldb.Migrations{Module: "chaos", FS: fstest.MapFS{"0001_chaos.sql": {Data: []byte(`-- +goose Up
CREATE TABLE chaos_entry (id key_text NOT NULL PRIMARY KEY, key key_text NOT NULL);
CREATE TABLE chaos_worked (id key_text NOT NULL PRIMARY KEY, times BIGINT NOT NULL);
`)}}}

var schema = []sqldb.Migrations{secret.Migrations, queue.Migrations, audit.Migrations, idem.Migrations, identity.Migrations, ledger}

const macPurpose = "chaos.mac"

// house is everything that keeps something on the main database.
type house struct {
	db    *sqldb.DB
	ring  *secret.Ring
	audit *audit.Log
	store *identity.SQLStore
	keys  *idem.Store
	queue *queue.Queue
	clock *clock.Fake
}

var quiet = slog.New(slog.DiscardHandler)

// open opens and migrates the database of dir as a starting Landline does.
func open(ctx context.Context, dir string, relaxed bool, now time.Time) (h *house, err error) {
	db, err := sqldb.Open(ctx, sqldb.Options{Dir: dir, Relaxed: relaxed, Log: quiet})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	h = &house{db: db, clock: clock.NewFake(now)}
	if err = h.db.Migrate(ctx, schema...); err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	if h.queue, err = queue.New(h.db, queue.Options{Log: quiet, Lanes: map[string]int{queue.DefaultLane: 8}}); err != nil {
		return nil, err
	}
	if err = h.queue.Migrate(ctx); err != nil {
		return nil, fmt.Errorf("migrate the queue: %w", err)
	}
	if h.ring, err = secret.Open(ctx, h.db, secret.Options{Dir: dir, Clock: h.clock, Log: quiet}); err != nil {
		return nil, fmt.Errorf("open the keys: %w", err)
	}
	if err = h.ring.Ensure(ctx, macPurpose, secret.HMAC); err != nil {
		return nil, err
	}
	h.audit = audit.New(h.db, h.clock)
	h.store = identity.NewSQLStore(h.db, h.audit)
	h.keys = idem.New(h.db, h.clock, quiet)
	queue.Register(h.queue, h.work)
	return h, nil
}

type entryJob struct {
	ID string `json:"id"`
}

func (entryJob) Kind() string { return "chaos.entry" }

// work is a job: it leaves a row.
func (h *house) work(ctx context.Context, j *queue.Job[entryJob]) error {
	return h.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO chaos_worked (id, times) VALUES ($1, 1) ON CONFLICT (id) DO UPDATE SET times = chaos_worked.times + 1`, j.Args.ID)
		return err
	})
}

// entry is a change as capabilities make them: its row, its audit entry and its
// job are one.
func (h *house) entry(ctx context.Context, tx *sqldb.Tx, id, key string) error {
	if _, err := tx.ExecContext(ctx, `INSERT INTO chaos_entry (id, key) VALUES ($1, $2)`, id, key); err != nil {
		return err
	}
	if err := h.audit.Record(ctx, tx, audit.Entry{Action: "chaos.entry", Target: id}); err != nil {
		return err
	}
	_, err := h.queue.Enqueue(ctx, tx, entryJob{id})
	return err
}

func request(key string) idem.Request {
	return idem.Request{Scope: "chaos", Key: key, Fingerprint: sha256.Sum256([]byte(key)), Keep: 24 * time.Hour, Lease: time.Minute}
}

// promises are what has been acknowledged, so what must be there.
type promises struct {
	mu       sync.Mutex
	entries  []string          // their row, audit entry and job
	sessions map[string]int64  // the refresh token that the app has stored
	ending   map[string]bool   // sessions that were asked to end
	ended    []string          // sessions whose end was acknowledged
	begun    []string          // keys that an attempt holds
	answered map[string]string // keys and the answer that retries must get
	macs     map[string][]byte // what was signed, by key version
	done     map[string]int    // how often each kind of operation was acknowledged
}

func newPromises() *promises {
	return &promises{sessions: map[string]int64{}, ending: map[string]bool{}, answered: map[string]string{}, macs: map[string][]byte{}, done: map[string]int{}}
}

// keep records an acknowledgement.
func (p *promises) keep(kind string, fn func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fn()
	p.done[kind]++
}

func (p *promises) total() (n int) {
	for _, k := range p.done {
		n += k
	}
	return n
}

func pick[T any](cond bool, yes, no T) T {
	if cond {
		return yes
	}
	return no
}
