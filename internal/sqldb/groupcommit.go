package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"time"
)

const (
	maxGroup  = 64                     // most callers that share a commit
	siblings  = 3                      // callers in a transaction from which on its commit waits for more
	maxYields = 4                      // how often it lets others run for that
	groupTime = 100 * time.Millisecond // a group that has run this long admits no more
	idleCheck = time.Second            // how often the loop looks after the write-ahead log when nobody writes
)

// groupCommit runs SQLite's writes: one loop owns the transactions, callers
// join the one that is open, and one commit makes them all durable.
//
// The loop takes the connection from the pool for the length of a group only:
// the queue's driver shares it.
type groupCommit struct {
	db      *DB
	line    *line
	timeout time.Duration
	upkeep  func(commits int) // between groups, with the connection free
	stopped chan struct{}
}

// newGroupCommit returns a groupCommit whose loop is yet to be started.
func newGroupCommit(db *DB, queue int, timeout time.Duration, upkeep func(int)) *groupCommit {
	return &groupCommit{db: db, line: newLine(queue), timeout: timeout, upkeep: upkeep, stopped: make(chan struct{})}
}

func (g *groupCommit) waiting() int { return g.line.length() }

func (g *groupCommit) close() {
	g.line.close()
	<-g.stopped
}

// write waits in line, runs fn when told to, and returns the verdict.
func (g *groupCommit) write(ctx context.Context, fn func(context.Context, *Tx) error) error {
	p := newPending(ctx, fn)
	if err := g.line.join(p); err != nil {
		return err
	}
	patience := time.NewTimer(patienceFor(g.timeout))
	defer patience.Stop()
	gone, late := ctx.Done(), patience.C
	var tx *Tx
	for {
		select {
		case tx = <-p.turn:
			tx.run(ctx, fn, func(err error) { p.ran <- err })
		case err := <-p.verdict:
			if err == nil {
				tx.committed(g.db.log)
			}
			return err
		case <-gone:
			if g.line.quit(p) {
				return leftLine(ctx.Err())
			}
			gone = nil
		case <-late:
			if g.line.quit(p) {
				return fmt.Errorf("%w: no turn within %v", ErrBusy, patienceFor(g.timeout))
			}
			late = nil
		}
	}
}

// patienceFor is how long a caller waits in line: long enough that one write
// which takes all its time does not cost those behind it theirs.
func patienceFor(writeTimeout time.Duration) time.Duration { return 2 * writeTimeout }

// leftLine is the error of a caller that gave up before its turn.
func leftLine(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: no turn before the caller's deadline: %w", ErrBusy, err)
	}
	return err
}

func (g *groupCommit) loop() {
	defer close(g.stopped)
	idle := time.NewTicker(idleCheck)
	defer idle.Stop()
	for {
		if p := g.line.next(); p != nil {
			g.upkeep(g.group([]*pending{p}, maxGroup))
			continue
		}
		if g.line.drained() {
			return
		}
		select {
		case <-g.line.wake:
		case <-idle.C:
			g.upkeep(0)
		}
	}
}

// group runs the callers that are ready and, while limit and time allow, whoever
// else is in line in one transaction, commits it and tells each its verdict. It
// returns the number of commits.
func (g *groupCommit) group(ready []*pending, limit int) (commits int) {
	t, err := g.begin()
	if err != nil {
		for _, p := range ready {
			p.verdict <- err
		}
		return 0
	}
	start := time.Now()
	var done []*pending // they hear when it has been committed
	for len(ready) > 0 {
		p := ready[0]
		ready = ready[1:]
		switch g.turn(t, p, len(done) > 0) {
		case kept:
			done = append(done, p)
		case undone:
			if len(done) == 0 { // it ran without a savepoint, so only the end of the transaction undoes it
				t.rollback()
				if len(ready) == 0 {
					return 0
				}
				return g.group(ready, len(ready))
			}
		case dead:
			t.rollback()
			return g.apart(append(done, ready...))
		case deadWith:
			t.rollback()
			return g.apart(append(append(done, p), ready...))
		case spoilt:
			t.rollback()
			return g.again(append(append(done, p), ready...))
		}
		if len(ready) == 0 && len(done) < limit && time.Since(start) <= groupTime {
			if p := g.more(len(done)); p != nil {
				ready = append(ready, p)
			}
		}
	}
	return g.commit(t, done)
}

// more is the next in line. Where several callers are at work it first lets those
// come who are on their way: what else can run on the processors runs before the
// loop goes on, and the next commit is shared by more. It does not wait where
// nothing can run, as commit_delay of PostgreSQL would.
func (g *groupCommit) more(done int) *pending {
	p := g.line.next()
	for yields := 0; p == nil && done >= siblings && yields < maxYields; yields++ {
		runtime.Gosched()
		p = g.line.next()
	}
	return p
}

// apart runs again, one by one, the callers of a transaction that came to
// nothing through no fault of theirs, or of nobody knows whose.
func (g *groupCommit) apart(ps []*pending) (commits int) {
	for _, p := range ps {
		commits += g.group([]*pending{p}, 1)
	}
	return commits
}

// again runs a group once more, each in a savepoint.
func (g *groupCommit) again(ps []*pending) (commits int) {
	for _, p := range ps {
		p.careful = true
	}
	return g.group(ps, len(ps))
}

// What became of one caller's turn.
type turn int

const (
	kept     turn = iota // its work is in the transaction, or undone as one of several
	undone               // its work is undone, and it knows
	dead                 // the transaction is lost, and it knows its own part
	deadWith             // the transaction is lost; it must run again
	spoilt               // it has failed without a savepoint; all must run again, each in one
)

// turn lets p run its function in t. With neighbours there, it runs in a savepoint.
func (g *groupCommit) turn(t *shared, p *pending, neighbours bool) turn {
	p.undone, p.refusal = false, nil
	if err := p.ctx.Err(); err != nil { // left in the moment its turn came
		p.verdict <- leftLine(err)
		if neighbours {
			return undone
		}
		return dead
	}
	g.db.metrics.waited(time.Since(p.since))
	if p.fn == nil {
		return g.statements(t, p, neighbours)
	}
	if neighbours {
		if err := t.exec("SAVEPOINT caller"); err != nil {
			return deadWith
		}
	}
	life := &lifetime{done: t.life, until: time.Now().Add(g.timeout)}
	p.turn <- newTx(g.db, t.tx, life)
	limit := time.NewTimer(g.timeout)
	defer limit.Stop()
	var err error
	select {
	case err = <-p.ran:
	case <-limit.C:
		t.kill() // interrupts its statement; SQLite undoes the whole transaction
		p.verdict <- fmt.Errorf("%w: the write took longer than %v", ErrUnavailable, g.timeout)
		return dead
	}
	switch {
	case err == nil && !neighbours:
		return kept
	case err == nil:
		if t.exec("RELEASE caller") != nil {
			return deadWith
		}
		return kept
	}
	return g.refuse(t, p, err, neighbours)
}

// refuse undoes p's part, or leaves that to the end of the transaction where it
// has no savepoint. What refused it may be a neighbour's work: p hears of it when
// that can be read, and does not come again before.
func (g *groupCommit) refuse(t *shared, p *pending, err error, savepoint bool) turn {
	if savepoint && t.exec("ROLLBACK TO caller; RELEASE caller") == nil {
		p.undone, p.refusal = true, err
		return kept
	}
	p.verdict <- err
	if savepoint {
		return dead
	}
	return undone
}

// commit makes the work of done durable and tells them.
func (g *groupCommit) commit(t *shared, done []*pending) (commits int) {
	if len(done) == 0 {
		t.rollback()
		return 0
	}
	start := time.Now()
	err := t.commit()
	if err == nil {
		writes := 0
		for _, p := range done {
			if !p.undone {
				writes++
			}
		}
		g.db.committed(writes, time.Since(start))
	} else if len(done) > 1 && !g.db.faults.uncertain(err) {
		return g.apart(done) // such as a deferred foreign key of one of them
	} else if g.db.faults.uncertain(err) {
		err = fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	for _, p := range done {
		if err == nil {
			p.verdict <- p.refusal
		} else {
			p.verdict <- err
		}
	}
	if err != nil {
		return 0
	}
	return 1
}

// shared is the transaction of one group and the connection it has.
type shared struct {
	db   *DB
	conn *sql.Conn
	tx   *sql.Tx
	life context.Context // of its statements
	kill context.CancelFunc
}

// begin takes the connection and the write lock. The wait for the connection
// is for the queue's driver to give it back.
func (g *groupCommit) begin() (*shared, error) {
	ctx, cancel := context.WithTimeout(context.Background(), g.timeout)
	defer cancel()
	conn, err := g.db.writer.Conn(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: the writing connection was not free within %v", ErrBusy, g.timeout)
		}
		return nil, err
	}
	tx, err := conn.BeginTx(context.Background(), nil) // BEGIN IMMEDIATE, by the DSN
	if err != nil {
		return nil, errors.Join(fmt.Errorf("begin: %w", err), conn.Close())
	}
	life, kill := context.WithCancel(context.Background())
	return &shared{db: g.db, conn: conn, tx: tx, life: life, kill: kill}, nil
}

func (t *shared) exec(text string) error {
	_, err := t.tx.ExecContext(context.Background(), text)
	return err
}

func (t *shared) commit() error {
	err := t.tx.Commit()
	t.end()
	return err
}

func (t *shared) rollback() {
	t.db.rollback(t.tx)
	t.end()
}

func (t *shared) end() {
	t.kill()
	if err := t.conn.Close(); err != nil && !errors.Is(err, sql.ErrConnDone) {
		t.db.log.Debug("the writing connection is dropped", "error", err)
	}
}
