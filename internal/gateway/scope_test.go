package gateway

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestScopeEndsWithItsParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancelCause(context.WithValue(t.Context(), errTimeout, "v"))
		s := &scope{parent: parent}
		called := make(chan struct{})
		stop := s.AfterFunc(func() { close(called) })
		child, cancelChild := context.WithCancel(s)
		defer cancelChild()
		if s.Err() != nil || s.Value(errTimeout) != "v" {
			t.Fatalf("%v %v", s.Err(), s.Value(errTimeout))
		}
		gone := errors.New("gone")
		cancel(gone)
		<-s.Done()
		<-called
		<-child.Done()
		if !errors.Is(s.Err(), context.Canceled) || !errors.Is(causeOf(s), gone) || !errors.Is(context.Cause(child), gone) || stop() {
			t.Errorf("%v %v %v", s.Err(), causeOf(s), context.Cause(child))
		}
		s.expire() // too late
		if !errors.Is(causeOf(s), gone) {
			t.Error(causeOf(s))
		}
	})
}

// Before it watches its parent a scope says what its parent says, and that stays.
func TestScopeThatIsNotWatched(t *testing.T) {
	parent, cancel := context.WithCancel(t.Context())
	s := &scope{parent: parent}
	cancel()
	if !errors.Is(s.Err(), context.Canceled) {
		t.Error(s.Err())
	}
	s.expire()
	if errors.Is(s.Err(), errTimeout) || !errors.Is(s.Err(), context.Canceled) {
		t.Error(s.Err())
	}
	<-s.Done()
}

func TestScopeEndsWithTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancel(t.Context())
		defer cancel()
		s, c, began := &scope{parent: parent}, &countdown{}, time.Now()
		var fired time.Duration
		s.AfterFunc(func() { fired = time.Since(began) })
		stop := s.AfterFunc(func() { t.Error("it was taken back") })
		if !stop() || stop() {
			t.Error("it can be taken back once")
		}
		c.start(time.Second, s)
		time.Sleep(500 * time.Millisecond)
		c.pause()
		time.Sleep(time.Hour)
		c.resume()
		time.Sleep(400 * time.Millisecond)
		synctest.Wait()
		if s.Err() != nil || !s.watched {
			t.Fatalf("%v, watched: %v", s.Err(), s.watched)
		}
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if !errors.Is(s.Err(), errTimeout) || !errors.Is(s.Err(), context.DeadlineExceeded) || fired != time.Hour+time.Second {
			t.Errorf("%v after %s", s.Err(), fired)
		}
		cancel() // the client leaves after that
		if !errors.Is(causeOf(s), errTimeout) {
			t.Error(causeOf(s))
		}
		called := false
		s.AfterFunc(func() { called = true })
		synctest.Wait()
		if !called {
			t.Error("it has ended already")
		}
	})
}

// A client that leaves is noticed after a moment of waiting, and at once where
// a stream begins.
func TestScopeWatchesAfterAMoment(t *testing.T) {
	for name, begin := range map[string]func(c *countdown){
		"waiting":  func(*countdown) { time.Sleep(watchAfter) },
		"a stream": (*countdown).endless,
		"with pauses": func(c *countdown) {
			for range 4 {
				time.Sleep(watchAfter / 4)
				c.pause()
				time.Sleep(time.Minute)
				c.resume()
			}
			time.Sleep(time.Millisecond)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, cancel := context.WithCancel(t.Context())
				s, c := &scope{parent: parent}, &countdown{}
				ended := false
				s.AfterFunc(func() { ended = true })
				c.start(time.Second, s)
				begin(c)
				synctest.Wait()
				cancel()
				synctest.Wait()
				if !ended {
					t.Error("nobody was told")
				}
				c.forget()
			})
		})
	}
}
