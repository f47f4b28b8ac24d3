package sqldb

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"
)

// pending is one caller of Write while it waits for its turn and its verdict.
// Its function runs in the caller's goroutine, between turn and ran, so that a
// function which blocks, panics or ends its goroutine does so to itself.
type pending struct {
	ctx   context.Context
	fn    func(context.Context, *Tx) error
	since time.Time

	turn    chan *Tx   // from the commit loop: run your function on this
	ran     chan error // to the commit loop: it has run
	verdict chan error // from the commit loop: the answer, nil once it is durable

	// Of WriteAll, which has no function.
	all     []Statement
	bound   []bound // SQLite
	careful bool    // has to run in a savepoint; see groupCommit.statements
	unmet   int     // the condition that did not hold, or Met; valid after the verdict

	undone  bool  // SQLite: its part of a transaction that others share
	refusal error // and why; nil where a condition of WriteAll did not hold

	place *list.Element // in the line; nil when it is not there
}

func newPending(ctx context.Context, fn func(context.Context, *Tx) error) *pending {
	return &pending{ctx: ctx, fn: fn, since: time.Now(), turn: make(chan *Tx, 1), ran: make(chan error, 1), verdict: make(chan error, 1)}
}

func newPendingAll(ctx context.Context, all []Statement) *pending {
	return &pending{ctx: ctx, all: all, since: time.Now(), verdict: make(chan error, 1)}
}

// line is the bounded queue of callers that wait to write, first come first served.
type line struct {
	mu     sync.Mutex
	queue  list.List // of *pending
	max    int
	closed bool
	wake   chan struct{} // holds a token when the line may have changed for the better
	crowd  chan struct{} // gets a token for every crowdSize callers in line; nil = nobody wants to know
}

func newLine(max int) *line { return &line{max: max, wake: make(chan struct{}, 1)} }

// join puts p at the end of the line, or says why not.
func (l *line) join(p *pending) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed
	}
	if l.queue.Len() >= l.max {
		return fmt.Errorf("%w: %d callers are in line", ErrBusy, l.max)
	}
	p.place = l.queue.PushBack(p)
	l.signal()
	if l.queue.Len()%crowdSize == 0 {
		select {
		case l.crowd <- struct{}{}:
		default:
		}
	}
	return nil
}

// quit takes p out of the line; false says that its turn has come already.
func (l *line) quit(p *pending) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.place == nil {
		return false
	}
	l.queue.Remove(p.place)
	p.place = nil
	return true
}

// next takes the first caller out of the line; nil when nobody waits.
func (l *line) next() *pending {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.queue.Front()
	if e == nil {
		return nil
	}
	p := l.queue.Remove(e).(*pending)
	p.place = nil
	return p
}

// take takes as many callers out of the line as there are, at most so many, and
// none when there are fewer than least.
func (l *line) take(least, most int) (all []*pending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queue.Len() < least {
		return nil
	}
	for e := l.queue.Front(); e != nil && len(all) < most; e = l.queue.Front() {
		p := l.queue.Remove(e).(*pending)
		p.place = nil
		all = append(all, p)
	}
	return all
}

func (l *line) length() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queue.Len()
}

// close lets nobody join any more; those in line are still served.
func (l *line) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.signal()
}

// drained reports whether the line is closed and empty.
func (l *line) drained() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed && l.queue.Len() == 0
}

func (l *line) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}
