package gateway

import (
	"context"
	"errors"
	"sync"
	"time"
)

// scope is the context of a request to an upstream: it ends with its parent,
// which is the client's, or when the feature's timeout is over, in less memory
// and fewer steps than context.WithCancelCause needs.
//
// Most answers come within a few milliseconds. A scope asks its parent to be
// told of its end only when that takes longer (watch), or when somebody waits
// for Done. Until then Err asks the parent.
type scope struct {
	parent  context.Context //nolint:containedctx // it is a context
	until   time.Time       // Deadline, where it is not the parent's
	over    error           // what Err says when the timeout is over; nil = errTimeout
	patient bool            // it is not yet watched when somebody waits for Done

	mu      sync.Mutex
	done    chan struct{} // made when it is asked for
	err     error         // why it has ended
	watched bool          // the parent's end ends it
	unwatch func() bool
	funcs   []func() // to be called when it ends; nil where that was taken back
	room    [2]func()
}

// Deadline is the parent's where the feature's timeout stands still at times.
func (s *scope) Deadline() (time.Time, bool) {
	if s.until.IsZero() {
		return s.parent.Deadline()
	}
	return s.until, true
}

// Value is the parent's.
func (s *scope) Value(key any) any { return s.parent.Value(key) }

// Done returns a channel that is closed when the scope ends.
func (s *scope) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done == nil {
		s.done = make(chan struct{})
		if s.err != nil {
			close(s.done)
		}
	}
	if !s.patient || s.err == nil && s.parent.Err() != nil {
		s.watchLocked()
	}
	return s.done
}

// Err is over, or errTimeout, after the feature's timeout, else what the parent says.
func (s *scope) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil && !s.watched {
		return s.parent.Err()
	}
	return s.err
}

// AfterFunc is what context.AfterFunc and derived contexts look for: f is called
// in a goroutine of its own when the scope ends, unless stop comes first.
func (s *scope) AfterFunc(f func()) (stop func() bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		go f()
		return func() bool { return false }
	}
	if s.funcs == nil {
		s.funcs = s.room[:0]
	}
	i := len(s.funcs)
	s.funcs = append(s.funcs, f)
	return func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.err != nil || s.funcs[i] == nil {
			return false
		}
		s.funcs[i] = nil
		return true
	}
}

// watch has the parent's end end the scope from now on.
func (s *scope) watch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchLocked()
}

func (s *scope) watchLocked() {
	if s.err == nil && !s.watched {
		s.watched = true
		s.unwatch = context.AfterFunc(s.parent, func() { s.end(s.parent.Err()) })
	}
}

// expire ends the scope because the feature's timeout is over.
func (s *scope) expire() {
	if s.over != nil {
		s.end(s.over)
		return
	}
	s.end(errTimeout)
}

// end ends the scope, once. What its parent has said before counts.
func (s *scope) end(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	if s.err = cause; !s.watched {
		if err := s.parent.Err(); err != nil {
			s.err = err
		}
	}
	if s.done != nil {
		close(s.done)
	}
	if s.unwatch != nil {
		s.unwatch()
	}
	for _, f := range s.funcs {
		if f != nil {
			go f()
		}
	}
	s.funcs = nil
}

// causeOf is context.Cause for a context whose timeout may be a scope's: the
// standard library would ask the scope's parent, whose end may have come after.
func causeOf(ctx context.Context) error {
	if err := ctx.Err(); errors.Is(err, errTimeout) {
		return err
	}
	return context.Cause(ctx)
}
