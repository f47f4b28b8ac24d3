// Command queue measures the job queue on SQLite and PostgreSQL: how many jobs
// a second are enqueued and worked, and how soon after the commit the work
// begins. Every rate stands beside the raw commits a second of the same run on
// the same disk, because that is what bounds it.
//
//	eval "$(scripts/testdb env)" && go run ./test/load/queue
//
// PostgreSQL runs in a database of its own on TEST_POSTGRES_URL; -engines sqlite
// leaves it out. Nothing is left behind.
package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"landline/internal/queue"
	"landline/internal/sqldb"
)

// patience is for a machine that is busy with other things as well.
const patience = time.Minute

type settings struct {
	jobs, writers, workers, singles, rate int
	engines                               string
}

func main() {
	var s settings
	flag.IntVar(&s.jobs, "jobs", 20000, "jobs to enqueue and work")
	flag.IntVar(&s.writers, "writers", 64, "callers that enqueue at the same time")
	flag.IntVar(&s.workers, "workers", 200, "workers of the lane")
	flag.IntVar(&s.singles, "singles", 500, "jobs of the latency measurement, one after another")
	flag.IntVar(&s.rate, "rate", 300, "jobs a second of the latency measurement under load")
	flag.StringVar(&s.engines, "engines", "sqlite,postgres", "what to measure")
	flag.Parse()
	if err := run(context.Background(), s); err != nil {
		fmt.Fprintln(os.Stderr, "queue:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "engine\tmeasure\tper second\tof raw commits\tp50\tp99\tmax\t")
	for engine := range strings.SplitSeq(s.engines, ",") {
		if err := measure(ctx, out, engine, s); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", engine, err), out.Flush())
		}
	}
	return out.Flush()
}

func measure(ctx context.Context, out *tabwriter.Writer, engine string, s settings) (err error) {
	db, drop, err := open(ctx, engine)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close(), drop()) }()
	b := &bench{db: db, s: s, out: out, engine: engine}
	return b.run(ctx)
}

// open returns a fresh database and what removes it once it is closed.
func open(ctx context.Context, engine string) (*sqldb.DB, func() error, error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if engine == sqldb.SQLite {
		dir, err := os.MkdirTemp(".", "queue-load-") // the working directory's disk, not a tmpfs
		if err != nil {
			return nil, nil, err
		}
		db, err := sqldb.Open(ctx, sqldb.Options{Dir: dir, Log: log, WriteTimeout: patience})
		return db, func() error { return os.RemoveAll(dir) }, err
	}
	server := os.Getenv("TEST_POSTGRES_URL")
	if server == "" {
		return nil, nil, errors.New(`TEST_POSTGRES_URL is not set: scripts/testdb start && eval "$(scripts/testdb env)", or -engines sqlite`)
	}
	u, err := url.Parse(server)
	if err != nil {
		return nil, nil, errors.New("TEST_POSTGRES_URL is not a URL")
	}
	name := "landline_load_" + strings.ToLower(rand.Text()[:12])
	admin := func(statement string) error {
		db, err := sqldb.Open(ctx, sqldb.Options{URL: server, MaxConns: 1, Log: log})
		if err != nil {
			return err
		}
		_, err = db.Writer().ExecContext(ctx, statement)
		return errors.Join(err, db.Close())
	}
	if err := admin("CREATE DATABASE " + name); err != nil {
		return nil, nil, err
	}
	u.Path = "/" + name
	db, err := sqldb.Open(ctx, sqldb.Options{URL: u.String(), Log: log, WriteTimeout: patience})
	return db, func() error { return admin("DROP DATABASE " + name + " WITH (FORCE)") }, err
}

type work struct {
	N int `json:"n"`
}

func (work) Kind() string { return "load.work" }

type timed struct {
	N int `json:"n"`
}

func (timed) Kind() string { return "load.timed" }

type bench struct {
	db     *sqldb.DB
	q      *queue.Queue
	s      settings
	out    *tabwriter.Writer
	engine string
	raw    float64

	worked  atomic.Int64
	twice   atomic.Int64
	seen    []atomic.Bool
	drained chan struct{}
	starts  sync.Map // N → time.Time when its work began
	started chan int
}

func (b *bench) run(ctx context.Context) error {
	if err := b.commits(ctx); err != nil {
		return err
	}
	var err error
	quiet := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if b.q, err = queue.New(b.db, queue.Options{Log: quiet, Lanes: map[string]int{"bulk": b.s.workers}}); err != nil {
		return err
	}
	if err := b.q.Migrate(ctx); err != nil {
		return err
	}
	const batch = 100
	total := 2 * b.s.jobs
	b.seen, b.drained, b.started = make([]atomic.Bool, total), make(chan struct{}), make(chan int, b.s.singles+b.s.rate*60)
	queue.Register(b.q, func(_ context.Context, j *queue.Job[work]) error {
		if b.seen[j.Args.N].Swap(true) {
			b.twice.Add(1)
		} else if b.worked.Add(1) == int64(total) {
			close(b.drained)
		}
		return nil
	}, queue.InLane("bulk"))
	queue.Register(b.q, func(_ context.Context, j *queue.Job[timed]) error {
		b.starts.Store(j.Args.N, time.Now())
		b.started <- j.Args.N
		return nil
	})
	if err := b.insert(ctx, "enqueued, one a commit", 0, 1); err != nil {
		return err
	}
	if err := b.insert(ctx, "enqueued, 100 a commit", b.s.jobs, batch); err != nil {
		return err
	}
	began := time.Now()
	if err := b.q.Start(ctx); err != nil {
		return err
	}
	<-b.drained
	b.row("worked", float64(total)/time.Since(began).Seconds(), nil)
	if n := b.twice.Load(); n > 0 {
		return fmt.Errorf("%d jobs ran twice", n)
	}
	err = b.latencies(ctx)
	stop, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return errors.Join(err, b.q.Stop(stop))
}

// commits is the baseline: one small row a commit, the same callers.
func (b *bench) commits(ctx context.Context) error {
	if _, err := b.db.Writer().ExecContext(ctx, "CREATE TABLE load_raw (n BIGINT NOT NULL PRIMARY KEY, v TEXT NOT NULL)"); err != nil {
		return err
	}
	rate, err := b.parallel(ctx, b.s.jobs, func(ctx context.Context, tx *sqldb.Tx, n int) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO load_raw (n, v) VALUES ($1, $2)", n, `{"n":1}`)
		return err
	})
	b.raw = rate
	b.row("raw commits", rate, nil)
	return err
}

func (b *bench) insert(ctx context.Context, name string, from, per int) error {
	rate, err := b.parallel(ctx, b.s.jobs/per, func(ctx context.Context, tx *sqldb.Tx, n int) error {
		if per == 1 {
			_, err := b.q.Enqueue(ctx, tx, work{N: from + n})
			return err
		}
		all := make([]queue.Args, per)
		for i := range all {
			all[i] = work{N: from + n*per + i}
		}
		_, err := b.q.EnqueueMany(ctx, tx, all)
		return err
	})
	b.row(name, rate*float64(per), nil)
	return err
}

// parallel runs n writes from s.writers callers and returns writes a second.
func (b *bench) parallel(ctx context.Context, n int, fn func(ctx context.Context, tx *sqldb.Tx, n int) error) (float64, error) {
	var (
		next  atomic.Int64
		wg    sync.WaitGroup
		first atomic.Pointer[error]
	)
	began := time.Now()
	for range b.s.writers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || first.Load() != nil {
					return
				}
				if err := b.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return fn(ctx, tx, i) }); err != nil {
					first.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	wg.Wait()
	if err := first.Load(); err != nil {
		return 0, *err
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

// latencies measures from the commit to the first line of the worker.
func (b *bench) latencies(ctx context.Context) error {
	var commits sync.Map
	one := func(n int) error {
		return b.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			tx.OnCommit(func() { commits.Store(n, time.Now()) })
			_, err := b.q.Enqueue(ctx, tx, timed{N: n})
			return err
		})
	}
	collect := func(from, to int) (d []time.Duration) {
		for n := from; n < to; n++ {
			at, _ := b.starts.Load(n)
			committed, _ := commits.Load(n)
			d = append(d, at.(time.Time).Sub(committed.(time.Time)))
		}
		return d
	}
	if err := b.commitTimes(ctx); err != nil {
		return err
	}
	for n := range b.s.singles {
		if err := one(n); err != nil {
			return err
		}
		<-b.started
	}
	b.row("pick-up, one at a time", 0, collect(0, b.s.singles))

	const seconds = 5
	count := b.s.rate * seconds
	var wg sync.WaitGroup
	errs := make(chan error, count)
	tick := time.NewTicker(time.Second / time.Duration(b.s.rate))
	defer tick.Stop()
	for n := b.s.singles; n < b.s.singles+count; n++ {
		<-tick.C
		wg.Go(func() {
			if err := one(n); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		return err
	}
	for range count {
		<-b.started
	}
	b.row(fmt.Sprintf("pick-up at %d jobs/s", b.s.rate), 0, collect(b.s.singles, b.s.singles+count))
	return nil
}

// commitTimes is the baseline of the latencies: what the disk and the machine
// make of single commits at this moment.
func (b *bench) commitTimes(ctx context.Context) error {
	var d []time.Duration
	for n := range b.s.singles {
		began := time.Now()
		err := b.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.ExecContext(ctx, "INSERT INTO load_raw (n, v) VALUES ($1, $2)", -1-n, "{}")
			return err
		})
		if err != nil {
			return err
		}
		d = append(d, time.Since(began))
	}
	b.row("raw commit, one at a time", 0, d)
	return nil
}

func (b *bench) row(name string, rate float64, d []time.Duration) {
	rateText, ratio, p50, p99, most := "", "", "", "", ""
	if rate > 0 {
		rateText, ratio = fmt.Sprintf("%.0f", rate), fmt.Sprintf("%.2f", rate/b.raw)
	}
	if len(d) > 0 {
		slices.SortFunc(d, func(x, y time.Duration) int { return cmp.Compare(x, y) })
		at := func(p int) string { return d[min(len(d)-1, len(d)*p/100)].Round(100 * time.Microsecond).String() }
		p50, p99, most = at(50), at(99), at(100)
	}
	fmt.Fprintf(b.out, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", b.engine, name, rateText, ratio, p50, p99, most)
}
