package bus

import (
	"sync"
	"sync/atomic"
)

// hub hands messages of this process to its subscribers, each in its own
// goroutine behind a bounded buffer, and tells of gaps.
type hub struct {
	mu     sync.RWMutex
	closed bool
	topics map[string]map[*subscription]struct{}
	gaps   map[*gapFunc]struct{}

	gap  chan struct{} // capacity 1: losses close together are told once
	done chan struct{}
	wg   sync.WaitGroup
}

type subscription struct {
	messages chan []byte
	done     chan struct{}
	ended    atomic.Bool
}

type gapFunc struct{ call func() }

func newHub() *hub {
	h := &hub{
		topics: map[string]map[*subscription]struct{}{},
		gaps:   map[*gapFunc]struct{}{},
		gap:    make(chan struct{}, 1),
		done:   make(chan struct{}),
	}
	h.wg.Go(h.tellGaps)
	return h
}

// subscribe adds fn; first reports whether it is the topic's only one, and
// cancel reports whether it was the last.
func (h *hub) subscribe(topic string, fn func([]byte)) (first bool, cancel func() (last bool)) {
	s := &subscription{messages: make(chan []byte, buffer), done: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false, func() bool { return false }
	}
	if h.topics[topic] == nil {
		h.topics[topic] = map[*subscription]struct{}{}
		first = true
	}
	h.topics[topic][s] = struct{}{}
	h.wg.Go(func() { s.run(fn, h.done) })
	return first, func() bool { return h.unsubscribe(topic, s) }
}

func (h *hub) unsubscribe(topic string, s *subscription) (last bool) {
	if s.ended.Swap(true) {
		return false
	}
	close(s.done)
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.topics[topic], s)
	if len(h.topics[topic]) == 0 {
		delete(h.topics, topic)
		return !h.closed
	}
	return false
}

func (s *subscription) run(fn func([]byte), closed <-chan struct{}) {
	for {
		select {
		case <-closed:
			return
		case <-s.done:
			return
		case payload := <-s.messages:
			// select picks at random among what is ready; nothing starts after an end.
			if s.ended.Load() || isClosed(closed) {
				return
			}
			fn(payload)
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// deliver never blocks: a message that finds a full buffer is dropped and told as a gap.
func (h *hub) deliver(topic string, payload []byte) {
	h.mu.RLock()
	overflow := false
	for s := range h.topics[topic] {
		select {
		case s.messages <- payload:
		default:
			overflow = true
		}
	}
	h.mu.RUnlock()
	if overflow {
		h.missed()
	}
}

func (h *hub) missed() {
	select {
	case h.gap <- struct{}{}:
	default: // one is waiting to be told; it covers this one too
	}
}

func (h *hub) onGap(fn func()) (cancel func()) {
	g := &gapFunc{fn}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gaps[g] = struct{}{}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.gaps, g)
	}
}

func (h *hub) tellGaps() {
	for {
		select {
		case <-h.done:
			return
		case <-h.gap:
		}
		h.mu.RLock()
		calls := make([]*gapFunc, 0, len(h.gaps))
		for g := range h.gaps {
			calls = append(calls, g)
		}
		h.mu.RUnlock()
		for _, g := range calls {
			if isClosed(h.done) {
				return
			}
			g.call()
		}
	}
}

func (h *hub) isClosed() bool { return isClosed(h.done) }

// close ends all goroutines and waits for them; later calls do nothing.
func (h *hub) close() {
	h.mu.Lock()
	if !h.closed {
		h.closed = true
		close(h.done)
	}
	h.mu.Unlock()
	h.wg.Wait()
}
