package idem

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"landline/internal/sqldb"
)

const (
	maxCombined = 128                    // operations that share a transaction at most
	siblings    = 3                      // operations in a transaction from which on its commit waits for more
	maxGather   = 500 * time.Microsecond // longest that a commit waits
)

// combiner runs the operations of many callers in few transactions of SQLite:
// whoever finds the place free runs all that wait, its own first. An operation is
// a row, so that what it costs is what is around it: the turns and savepoints of
// the group commit, and the commits.
//
// PostgreSQL has sqldb.WriteAll for this. On SQLite it commits as soon as nobody
// is in line, and its smaller groups cost more than they save.
type combiner struct {
	db  *sqldb.DB
	run func(ctx context.Context, tx *sqldb.Tx, ops []*operation) error // may be called more than once with an operation

	commit atomic.Int64 // nanoseconds that the last commit took

	mu      sync.Mutex
	busy    bool // a transaction has begun
	waiting []*operation
}

// operation is one caller's part of a transaction: it begins or it ends.
type operation struct {
	begin *attempt
	end   *ending
	told  chan verdict
}

// verdict is what a caller hears: what became of its operation, or that it is
// to lead the next transaction.
type verdict struct {
	err  error
	lead bool
}

func newOperation(begin *attempt, end *ending) *operation {
	return &operation{begin: begin, end: end, told: make(chan verdict, 1)}
}

// write carries out op and returns once that is durable. Once it has begun the
// caller's leaving does not end it.
func (c *combiner) write(ctx context.Context, op *operation) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	if !c.busy {
		c.busy = true
		c.mu.Unlock()
		return c.lead(ctx, op)
	}
	c.waiting = append(c.waiting, op)
	c.mu.Unlock()
	var v verdict
	select {
	case v = <-op.told:
	case <-ctx.Done():
		if c.leave(op) {
			return ctx.Err()
		}
		v = <-op.told // too late: it is being run, or is to lead
	}
	if v.lead {
		return c.lead(ctx, op)
	}
	return v.err
}

// leave takes an operation out of the line and reports whether it was in it.
func (c *combiner) leave(op *operation) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, w := range c.waiting {
		if w == op {
			c.waiting = append(c.waiting[:i], c.waiting[i+1:]...)
			return true
		}
	}
	return false
}

// lead carries out first, those that wait and those that come while it is at it,
// and passes the place on. It returns what became of first.
func (c *combiner) lead(ctx context.Context, first *operation) error {
	defer c.next()
	ctx = context.WithoutCancel(ctx) // the others stay
	batch := []*operation{first}
	var ready time.Time
	err := c.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		batch = c.join(batch)
		until := time.Now().Add(c.delay())
		for i := 0; i < len(batch); {
			next := len(batch)
			if err := c.run(ctx, tx, batch[i:]); err != nil {
				return err
			}
			i, batch = next, c.gather(batch, until)
		}
		ready = time.Now()
		return nil
	})
	if err == nil {
		c.commit.Store(int64(time.Since(ready)))
	}
	var mine error
	for i, op := range batch {
		one := err
		if err != nil && len(batch) > 1 && !errors.Is(err, sqldb.ErrUnavailable) && !errors.Is(err, sqldb.ErrBusy) {
			one = c.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error { // the fault of one of them
				return c.run(ctx, tx, []*operation{op})
			})
		}
		if i == 0 {
			mine = one
			continue
		}
		op.told <- verdict{err: one}
	}
	return mine
}

// gather is join, after those that are on their way have had a moment to come.
// What can run runs first; where several callers are at work it also waits, as
// commit_delay of PostgreSQL does, but not beyond until: whoever comes in time
// need not wait for the whole of this commit before the next.
func (c *combiner) gather(batch []*operation, until time.Time) []*operation {
	before := len(batch)
	if batch = c.join(batch); len(batch) > before || before >= maxCombined {
		return batch
	}
	runtime.Gosched()
	if batch = c.join(batch); len(batch) > before || before < siblings {
		return batch
	}
	if rest := time.Until(until); rest > 0 {
		time.Sleep(rest)
		batch = c.join(batch)
	}
	return batch
}

// delay is how long a transaction waits for more operations: a part of the time
// that the last commit took, so that a fast disk waits next to nothing.
func (c *combiner) delay() time.Duration {
	return min(time.Duration(c.commit.Load())/4, maxGather)
}

// join adds those that wait to a batch, within its bounds.
func (c *combiner) join(batch []*operation) []*operation {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(c.waiting), maxCombined-len(batch))
	batch = append(batch, c.waiting[:n]...)
	left := copy(c.waiting, c.waiting[n:])
	clear(c.waiting[left:])
	c.waiting = c.waiting[:left]
	return batch
}

// next lets one that waits lead the next transaction, or frees the place.
func (c *combiner) next() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 {
		c.busy = false
		return
	}
	op := c.waiting[0]
	left := copy(c.waiting, c.waiting[1:])
	c.waiting[left] = nil
	c.waiting = c.waiting[:left]
	op.told <- verdict{lead: true}
}
