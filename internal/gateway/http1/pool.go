package http1

import (
	"context"
	"net"
	"sync"
	"syscall"
	"time"
)

// host is the pool of connections to one address.
type host struct {
	t       *Transport
	address string

	mu      sync.Mutex
	idle    []*conn // the one used last at the end
	open    int     // connections, and those that are being made
	dialing int     // those that are being made
	waiting []*waiter
	live    int         // of those who wait, how many have not gone
	expiry  *time.Timer // runs while there are idle connections with a time limit
}

// conn is a connection. While it is unused it holds no buffers.
type conn struct {
	host   *host
	net    net.Conn
	sys    syscall.RawConn // nil where the connection cannot be looked at
	look   func(fd uintptr)
	one    [1]byte
	quiet  bool // what look found
	turn   turn
	reused bool
	since  time.Time // unused since
}

// waiter is a request that waits for a connection.
type waiter struct {
	ready chan found // has room for one
	done  bool       // served, or gone; under host.mu
}

type found struct {
	c   *conn
	err error
}

// get returns a connection: the one that was used last, which may be good no
// more, else a new one, or the first that another request gives back.
func (h *host) get(ctx context.Context) (*conn, error) {
	if c := h.pop(); c != nil {
		c.reused = true
		return c, nil
	}
	return h.wait(ctx)
}

func (h *host) pop() *conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.idle)
	if n == 0 {
		return nil
	}
	c := h.idle[n-1]
	h.idle[n-1] = nil
	h.idle = h.idle[:n-1]
	return c
}

// wait queues for a connection.
func (h *host) wait(ctx context.Context) (*conn, error) {
	w := &waiter{ready: make(chan found, 1)}
	h.mu.Lock()
	if n := len(h.idle); n > 0 { // given back meanwhile
		h.mu.Unlock()
		return h.get(ctx)
	}
	h.waiting = append(h.waiting, w)
	h.live++
	h.dialMore()
	h.mu.Unlock()
	select {
	case f := <-w.ready:
		return f.c, f.err
	case <-ctx.Done():
	}
	h.mu.Lock()
	served := w.done
	if w.done = true; !served {
		h.live--
	}
	h.mu.Unlock()
	if served { // too late to be of use
		if f := <-w.ready; f.c != nil {
			f.c.release()
		}
	}
	return nil, context.Cause(ctx)
}

// dialMore makes one more connection if somebody waits for whom none is being
// made, and there is room. It needs h.mu.
func (h *host) dialMore() {
	most := h.t.config.MaxConnections
	if h.live <= h.dialing || most > 0 && h.open >= most {
		return
	}
	h.open++
	h.dialing++
	go h.dial()
}

// dial makes one connection for whoever has waited longest. It ends when the
// dialer's time is over.
func (h *host) dial() {
	raw, err := h.t.config.Dial(context.Background(), "tcp", h.address)
	h.mu.Lock()
	h.dialing--
	if err == nil {
		h.mu.Unlock()
		c := &conn{host: h, net: raw}
		c.prepareLook()
		c.release()
		return
	}
	h.open--
	var w *waiter
	if h.live > h.dialing { // else the connections under way are enough for those who wait
		w = h.next()
	}
	h.dialMore() // for those who had no room
	h.mu.Unlock()
	if w != nil {
		w.ready <- found{err: err}
	}
}

// next takes the one that has waited longest from the queue. It needs h.mu.
func (h *host) next() *waiter {
	for len(h.waiting) > 0 {
		w := h.waiting[0]
		h.waiting[0] = nil
		h.waiting = h.waiting[1:]
		if !w.done {
			w.done = true
			h.live--
			return w
		}
	}
	h.waiting = nil
	return nil
}

// release gives c, which is fit for a request, to one who waits, or keeps it.
func (c *conn) release() {
	h, t := c.host, c.host.t
	h.mu.Lock()
	if w := h.next(); w != nil {
		h.mu.Unlock()
		w.ready <- found{c: c}
		return
	}
	if !t.keep.Load() || len(h.idle) >= t.config.IdleConnections || c.sys == nil {
		h.mu.Unlock()
		c.close()
		return
	}
	h.idle = append(h.idle, c)
	if d := t.config.IdleTimeout; d > 0 {
		c.since = time.Now()
		if h.expiry == nil {
			h.expiry = time.AfterFunc(d, h.expire)
		}
	}
	h.mu.Unlock()
}

// close ends c and makes room for another.
func (c *conn) close() {
	c.net.Close()
	h := c.host
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open--
	h.dialMore()
}

// expire closes what was not used for too long, and comes again for the rest.
func (h *host) expire() {
	limit := h.t.config.IdleTimeout
	h.mu.Lock()
	now := time.Now()
	n := 0
	for n < len(h.idle) && now.Sub(h.idle[n].since) >= limit {
		n++
	}
	old := append([]*conn(nil), h.idle[:n]...)
	h.idle = append(h.idle[:0], h.idle[n:]...)
	clear(h.idle[len(h.idle):cap(h.idle)])
	if len(h.idle) > 0 {
		h.expiry.Reset(limit - now.Sub(h.idle[0].since))
	} else {
		h.expiry = nil
	}
	h.mu.Unlock()
	for _, c := range old {
		c.close()
	}
}

func (h *host) closeIdle() {
	h.mu.Lock()
	old := h.idle
	h.idle = nil
	if h.expiry != nil {
		h.expiry.Stop()
		h.expiry = nil
	}
	h.mu.Unlock()
	for _, c := range old {
		c.close()
	}
}
