package gateway

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// streams knows the answers without end that are under way, so that a drain
// can end them: Server-Sent Events and upgraded connections.
type streams struct {
	mu       sync.Mutex
	open     map[*stream]struct{}
	draining bool
}

type stream struct {
	end      func() // makes the stream's copying return
	drained  bool   // whether Drain ends it
	ended    atomic.Bool
	endsOnce sync.Once
}

func newStreams() *streams { return &streams{open: map[*stream]struct{}{}} }

// add registers a stream. end is called at most once, by a drain; when one is
// under way already, at once.
func (s *streams) add(end func(), drained bool) *stream {
	st := &stream{end: end, drained: drained}
	s.mu.Lock()
	s.open[st] = struct{}{}
	draining := s.draining
	s.mu.Unlock()
	if draining {
		st.drain()
	}
	return st
}

func (s *streams) remove(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, st)
}

func (st *stream) drain() {
	if st.drained {
		st.endsOnce.Do(func() {
			st.ended.Store(true)
			st.end()
		})
	}
}

// drain ends every stream that can be ended politely, now and from now on.
func (s *streams) drain() {
	s.mu.Lock()
	s.draining = true
	list := make([]*stream, 0, len(s.open))
	for st := range s.open {
		list = append(list, st)
	}
	s.mu.Unlock()
	for _, st := range list {
		st.drain()
	}
}

// reconnectMillis spreads the clients of a drained node over a few seconds.
func reconnectMillis() int { return 500 + rand.IntN(4500) } // #nosec -- spreading load is no secret

func (s *streams) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}
