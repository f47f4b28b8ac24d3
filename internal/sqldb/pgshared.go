package sqldb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	maxLanes  = 4  // transactions of WriteAll at the same time
	crowdSize = 20 // callers in line for whom another lane begins
	maxShared = 3  // attempts of one group before its callers go on alone

	// A caller that waits for a row which another transaction holds keeps its
	// whole group waiting; after this time they go on alone. It is shorter than the
	// server looks for deadlocks (deadlock_timeout, a second).
	beginShared  = "BEGIN ISOLATION LEVEL SERIALIZABLE"
	lockShared   = "SET LOCAL lock_timeout = '25ms'"
	commitShared = "commit"
)

// lanes run PostgreSQL's WriteAll: loops, whose every transaction takes up those
// who are in line, sends all their statements in one message, and commits once.
// Fewer transactions cost less, so that the first lane works alone until a crowd
// is in line.
type lanes struct {
	own     *ownCommit
	line    *line
	running sync.WaitGroup
	closing sync.Once
}

func newLanes(own *ownCommit, n, queue int) *lanes {
	l := &lanes{own: own, line: newLine(queue)}
	l.line.crowd = make(chan struct{}, n)
	l.running.Go(func() { l.loop(1, l.line.wake) })
	for range n - 1 {
		l.running.Go(func() { l.loop(crowdSize, l.line.crowd) })
	}
	return l
}

// close lets nobody join any more and waits for those in line. It may be called again.
func (l *lanes) close() {
	l.line.close()
	l.closing.Do(func() { close(l.line.crowd) })
	l.running.Wait()
}

// writeAll puts the statements in line.
func (c *ownCommit) writeAll(ctx context.Context, all []Statement) (unmet int, err error) {
	p := newPendingAll(ctx, all)
	if err := c.lanes.line.join(p); err != nil {
		return 0, err
	}
	err = c.lanes.line.await(p, patienceFor(c.timeout))
	return p.unmet, err
}

// loop is one lane; it works when so many are in line.
func (l *lanes) loop(least int, wake <-chan struct{}) {
	for {
		if ps := l.line.take(least, maxGroup); len(ps) > 0 {
			l.group(present(ps))
			continue
		}
		if l.line.drained() {
			return
		}
		if _, open := <-wake; !open {
			return // the first lane serves those who are left
		}
	}
}

// present are those of ps who have not given up in the moment their turn came.
func present(ps []*pending) []*pending {
	kept := ps[:0]
	for _, p := range ps {
		if err := p.ctx.Err(); err != nil {
			p.verdict <- leftLine(err)
		} else {
			kept = append(kept, p)
		}
	}
	return kept
}

// group makes the work of ps durable and tells each its verdict.
func (l *lanes) group(ps []*pending) {
	dead, merge := 0, true
	var later []*pending // after those they have lost against
	defer func() { l.alone(later) }()
	for attempt := 1; len(ps) > 0; attempt++ {
		spoilers, err := l.share(ps, merge)
		switch {
		case errors.Is(err, errMerged):
			merge = false
			attempt--
		case len(spoilers) > 0:
			later = append(later, spoilers...)
			ps = without(ps, spoilers)
		case err == nil:
			return
		case lost(err): // all of them run again
		case dead < l.own.stale && classifyPostgres(err) == ErrUnavailable && !errors.Is(err, ErrUncertain):
			dead++ // a connection that died unnoticed; nothing was committed
			attempt--
		case len(ps) == 1 && !blocked(err), errors.Is(err, ErrUncertain), errors.Is(err, ErrBusy), errors.Is(err, ErrUnavailable), unreachable(err):
			tell(ps, err)
			return
		default: // a lock that another holds, a deferred constraint, a statement that cannot be sent: nobody knows whose
			l.alone(ps)
			return
		}
		if attempt == maxShared {
			l.alone(ps)
			return
		}
	}
}

// unreachable reports whether the server could not be connected to.
func unreachable(err error) bool {
	var connect *pgconn.ConnectError
	return errors.As(err, &connect)
}

// alone lets callers run each in a transaction of its own, and does not wait for them.
func (l *lanes) alone(ps []*pending) {
	for _, p := range ps {
		l.own.active.Add(1) // the line is closed before active is waited for
		go func() {
			defer l.own.active.Done()
			err := l.own.repeat(p.ctx, func(ctx context.Context, tx *Tx) error {
				touched, err := tx.pipeline(ctx, p.all)
				if p.unmet = firstUnmet(p.all, touched); err == nil && p.unmet != Met {
					err = errUnmet
				}
				return err
			})
			if errors.Is(err, errUnmet) {
				err = nil
			}
			p.verdict <- err
		}()
	}
}

// share runs ps in one transaction. It returns those who must not share with the
// others, or an error that concerns all; in both cases nothing has been
// committed. Otherwise it has told all of them.
func (l *lanes) share(ps []*pending, merge bool) (spoilers []*pending, err error) {
	life, end := context.WithTimeout(context.Background(), l.own.timeout)
	defer end()
	conn, err := l.own.connection(life)
	if err != nil {
		return nil, err
	}
	err = conn.Raw(func(raw any) error {
		c, ok := raw.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("sqldb: %T is no connection to PostgreSQL", raw)
		}
		if spoilers, err = l.run(life, c.Conn(), ps, merge); err != nil && life.Err() != nil && !errors.Is(err, ErrUncertain) {
			err = fmt.Errorf("%w: the write took longer than %v: %w", ErrUnavailable, l.own.timeout, err)
		}
		if c.Conn().PgConn().TxStatus() != 'I' || c.Conn().IsClosed() {
			return errors.Join(err, driver.ErrBadConn) // the pool drops it
		}
		return err
	})
	if closed := conn.Close(); closed != nil && err == nil && len(spoilers) == 0 {
		l.own.db.log.Debug("a connection is dropped", "error", closed)
	}
	if len(spoilers) > 0 {
		return spoilers, nil
	}
	return nil, err
}

// run is share on a connection. Statements that need no look at what they have
// touched are sent together with their commit; the others are committed once it
// is known that everybody's conditions hold.
//
// A commit on a connection that has died unnoticed is an uncertain one, which
// is why such a connection is looked at first.
func (l *lanes) run(life context.Context, conn *pgx.Conn, ps []*pending, merge bool) (spoilers []*pending, err error) {
	batch := &pgx.Batch{}
	batch.Queue(beginShared)
	batch.Queue(lockShared)
	for _, p := range ps {
		l.own.db.metrics.waited(time.Since(p.since))
		p.unmet = Met
	}
	all := calls(ps, merge)
	for _, c := range all {
		batch.Queue(c.text, c.args...)
	}
	atOnce := !slices.ContainsFunc(all, func(c call) bool { return !c.certain }) && quiet(conn.PgConn().Conn())
	if atOnce {
		batch.Queue(commitShared)
	}
	start := time.Now()
	results := conn.SendBatch(life, batch)
	spoilers, err = read(results, all)
	var tag pgconn.CommandTag
	committing := atOnce && err == nil && len(spoilers) == 0
	if committing {
		tag, err = results.Exec()
	}
	err = errors.Join(err, results.Close())
	switch {
	case atOnce && conn.IsClosed() && !unsent(err): // nobody knows how far it has come
		return nil, errors.Join(ErrUncertain, err)
	case (err != nil || len(spoilers) > 0) && !conn.IsClosed() && conn.PgConn().TxStatus() == 'I':
		return spoilers, err // the commit was refused, or nothing has begun
	case err != nil || len(spoilers) > 0:
		_, undo := conn.PgConn().Exec(life, "ROLLBACK").ReadAll()
		return spoilers, errors.Join(err, undo)
	case !committing:
		start = time.Now()
		if tag, err = commitAlone(life, conn.PgConn()); err != nil {
			return nil, err
		}
	}
	if tag.String() != "COMMIT" {
		return nil, fmt.Errorf("commit: %w", pgx.ErrTxCommitRollback)
	}
	l.own.db.committed(len(ps), time.Since(start))
	tell(ps, nil)
	return nil, nil
}

// unsent reports whether a batch has failed before its last statement was sent:
// one of them could not be prepared, or the arguments of one have no place in it.
func unsent(err error) bool {
	var before pgx.ErrPreprocessingBatch
	return errors.As(err, &before)
}

// commitAlone commits what the statements before have done.
func commitAlone(life context.Context, conn *pgconn.PgConn) (tag pgconn.CommandTag, err error) {
	tags, err := conn.Exec(life, commitShared).ReadAll()
	switch {
	case err == nil && len(tags) == 1:
		return tags[0].CommandTag, nil
	case err == nil:
		return tag, fmt.Errorf("commit: %d answers", len(tags))
	case uncertainPostgres(err):
		return tag, fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	return tag, fmt.Errorf("commit: %w", err)
}

// read reads the results of a group's statements. Whose statement has failed, or
// who has lost after it has written something, is a spoiler: its work can only be
// undone with everybody's.
func read(results pgx.BatchResults, all []call) (spoilers []*pending, err error) {
	for range 2 { // beginShared, lockShared
		if _, err := results.Exec(); err != nil {
			return nil, err
		}
	}
	wrote := false // the caller of c has
	for _, c := range all {
		first := c.of[0]
		s := &first.all[c.index]
		n, err := touchedBy(results, s.Into)
		switch {
		case err != nil && (lost(err) || blocked(err) || classifyPostgres(err) == ErrUnavailable || isContext(err)):
			return nil, err
		case len(c.of) > 1:
			if err != nil || !c.certain && n != int64(len(c.of)) && !s.Any {
				return nil, errMerged
			}
			continue
		case err != nil:
			return []*pending{first}, nil
		case c.certain:
			n = 1
		}
		if c.index == 0 {
			wrote = false
		}
		wrote = wrote || n > 0
		if n != 1 && !s.Any && first.unmet == Met {
			first.unmet = c.index
		}
		if first.unmet != Met && wrote && c.index == len(first.all)-1 {
			spoilers = append(spoilers, first)
		}
	}
	return spoilers, nil
}

// touchedBy reads one result, with its row where one is returned.
func touchedBy(results pgx.BatchResults, into []any) (int64, error) {
	if into == nil {
		tag, err := results.Exec()
		return tag.RowsAffected(), err
	}
	rows, err := results.Query()
	if err != nil {
		return 0, err
	}
	if rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return 0, errors.Join(err, rows.Err())
		}
	}
	rows.Close() // reads those that are left
	return rows.CommandTag().RowsAffected(), rows.Err()
}

func tell(ps []*pending, err error) {
	for _, p := range ps {
		p.verdict <- err
	}
}

func without(ps, gone []*pending) (left []*pending) {
	for _, p := range ps {
		if slices.Contains(gone, p) {
			continue
		}
		left = append(left, p)
	}
	return left
}
