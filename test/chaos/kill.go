package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"landline/test/process"
)

// rescue is when jobs of dead nodes on PostgreSQL have been taken up (after five
// minutes) and worked. The short form only looks whether they are still there.
const rescue = 7 * time.Minute

// kill ends the process with SIGKILL again and again while phones use it, on
// SQLite and on PostgreSQL, also while it starts.
func kill(ctx context.Context, h *house, r *report) error {
	total := h.kill
	if total == 0 {
		total = pick(h, 10*time.Minute, 25*time.Second)
	}
	if err := killLoop(ctx, h, r, "sqlite", total*3/5); err != nil {
		return fmt.Errorf("sqlite: %w", err)
	}
	if err := killLoop(ctx, h, r, "postgres", total*2/5); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	return nil
}

// victim is the process that is killed, and what it is started with.
type victim struct {
	h       *house
	o       process.Options
	base    atomic.Value // string
	node    *process.Node
	ready   times
	cpu     times // that the process has used by then
	kills   int
	starved int // killed before they were ready
}

func newVictim(ctx context.Context, h *house, engine, upstream string, more ...string) (v *victim, database string, err error) {
	data, err := h.directory()
	if err != nil {
		return nil, "", err
	}
	env := append([]string{"CHAOS_UPSTREAM=" + upstream, "CHAOS_MASTER_KEY=" + process.MasterKey()}, more...)
	if engine == "postgres" {
		if database, err = h.database(ctx); err != nil {
			return nil, "", err
		}
		env = append(env, "CHAOS_POSTGRES="+database)
	}
	v = &victim{h: h, o: process.Options{Binary: h.service, Data: data, Env: env}}
	if err = v.up(); err != nil {
		return nil, "", err
	}
	v.ready.all, v.cpu.all = nil, nil // the first start makes keys and tables
	return v, database, nil
}

// up starts it and waits.
func (v *victim) up() error {
	n, err := v.h.start(v.o)
	if err != nil {
		return err
	}
	v.node = n
	v.ready.add(time.Since(n.Started))
	if cpu, err := cpuTime(n.PID()); err == nil {
		v.cpu.add(cpu)
	}
	v.base.Store(n.Public)
	return nil
}

// torment kills and restarts until end.
func (v *victim) torment(ctx context.Context, rng *rand.Rand, end time.Time) error {
	for time.Now().Before(end) && ctx.Err() == nil {
		time.Sleep(100*time.Millisecond + time.Duration(rng.Int64N(int64(500*time.Millisecond)))) // the life of this process
		if err := v.node.Kill(); err != nil {
			return err
		}
		v.kills++
		for rng.IntN(6) == 0 { // and one that does not get to its feet
			n, err := v.h.launch(v.o)
			if err != nil {
				return err
			}
			time.Sleep(time.Duration(rng.Int64N(int64(120 * time.Millisecond))))
			if err := n.Kill(); err != nil {
				return err
			}
			v.starved++
		}
		if err := v.up(); err != nil {
			return fmt.Errorf("after %d kills: %w", v.kills, err)
		}
	}
	return ctx.Err()
}

func killLoop(ctx context.Context, h *house, r *report, engine string, length time.Duration) error {
	l, err := newLedger(15 * time.Millisecond)
	if err != nil {
		return err
	}
	defer l.close()
	v, database, err := newVictim(ctx, h, engine, l.URL)
	if err != nil {
		return err
	}
	f := newFleet(func() string { return v.base.Load().(string) }, l, r)
	f.start(ctx, 24, h.seed)
	err = v.torment(ctx, h.rng("kill "+engine), time.Now().Add(length))
	if err != nil {
		f.rest()
		return err
	}
	verdict, err := f.verify(ctx, pick(h, rescue, 3*time.Second), jobInDatabase(database))
	if err != nil {
		return err
	}
	suffix := ", " + engine
	r.atLeast("kills"+suffix, v.kills, int(length/(4*time.Second)))
	r.info("killed while starting"+suffix, "%d", v.starved)
	r.info("restart to ready, p50; CPU time, p50"+suffix, "%s; %s", ms(v.ready.quantile(0.5)), ms(v.cpu.quantile(0.5)))
	r.within("restart to ready, p99"+suffix, v.ready.quantile(0.99), time.Second)
	f.tell(verdict, suffix)
	return stop(v.node)
}

// jobInDatabase looks for an unfinished job where the database can be asked.
func jobInDatabase(database string) func(context.Context, string) (bool, error) {
	if database == "" {
		return nil
	}
	return func(ctx context.Context, order string) (bool, error) {
		var n int
		err := query(ctx, database, `SELECT count(*) FROM river_job WHERE kind = 'orders.tell' AND args->>'order' = $1
			AND state IN ('available', 'running', 'retryable', 'scheduled')`, &n, order)
		return n > 0, err
	}
}

// query reads one value from the database at url.
func query(ctx context.Context, url, statement string, into any, args ...any) error {
	db, err := sql.Open("pgx", url)
	if err != nil {
		return err
	}
	err = db.QueryRowContext(ctx, statement, args...).Scan(into)
	return errors.Join(err, db.Close())
}
