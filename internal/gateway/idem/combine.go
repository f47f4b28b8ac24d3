package idem

import (
	"context"
	"errors"
	"sync"

	"landline/internal/sqldb"
)

// maxCombined is how many operations share a transaction at most.
const maxCombined = 128

// combiner runs the operations of many callers in few transactions: whoever
// finds a place free runs all that wait, its own first. An operation on one key
// is a statement or two, so that what it costs is the transaction around it:
// the turns and savepoints of SQLite's group commit, or the round trips to
// PostgreSQL.
type combiner struct {
	db   *sqldb.DB
	late bool // operations may join a transaction that has begun

	mu      sync.Mutex
	free    int // transactions that may still be begun
	waiting []*operation
}

// operation is one caller's part of a transaction. run may be called more than once.
type operation struct {
	run  func(ctx context.Context, tx *sqldb.Tx) error
	done chan error // the verdict
	lead chan struct{}
}

func newCombiner(db *sqldb.DB) *combiner {
	if db.Engine() == sqldb.Postgres {
		// A transaction sees what was committed before its first statement: whoever
		// joined it later might not find what it has itself stored before.
		return &combiner{db: db, free: 4}
	}
	return &combiner{db: db, free: 1, late: true} // SQLite has one writer
}

// write is db.Write for a run that only reads and writes rows of this package.
// Once it has begun the caller's leaving does not end it.
func (c *combiner) write(ctx context.Context, run func(ctx context.Context, tx *sqldb.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	op := &operation{run: run, done: make(chan error, 1), lead: make(chan struct{}, 1)}
	c.mu.Lock()
	if c.free == 0 {
		c.waiting = append(c.waiting, op)
		c.mu.Unlock()
		select {
		case err := <-op.done:
			return err
		case <-op.lead:
		case <-ctx.Done():
			if c.leave(op) {
				return ctx.Err()
			}
			select { // too late: it is being run, or is to lead
			case err := <-op.done:
				return err
			case <-op.lead:
			}
		}
	} else {
		c.free--
		c.mu.Unlock()
	}
	c.run(ctx, op)
	return <-op.done
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

// run carries out first and those that wait, where possible also those that come
// while it is at it, and passes the place on.
func (c *combiner) run(ctx context.Context, first *operation) {
	defer c.next()
	ctx = context.WithoutCancel(ctx) // the others stay
	batch := []*operation{first}
	err := c.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		batch = c.join(batch)
		for i := 0; i < len(batch); i++ {
			if err := batch[i].run(ctx, tx); err != nil {
				return err
			}
			if i == len(batch)-1 && c.late {
				batch = c.join(batch)
			}
		}
		return nil
	})
	for _, op := range batch {
		if err != nil && len(batch) > 1 && !errors.Is(err, sqldb.ErrUnavailable) && !errors.Is(err, sqldb.ErrBusy) {
			op.done <- c.db.Write(ctx, op.run) // the fault of one of them
			continue
		}
		op.done <- err
	}
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
		c.free++
		return
	}
	op := c.waiting[0]
	left := copy(c.waiting, c.waiting[1:])
	c.waiting[left] = nil
	c.waiting = c.waiting[:left]
	op.lead <- struct{}{}
}
