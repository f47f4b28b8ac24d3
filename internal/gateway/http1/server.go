package http1

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Server serves HTTP/1.0 and 1.1 in clear text with the contract that
// http.Server has with an http.Handler, in fewer steps: a request is read,
// handled and answered on the goroutine of its connection; nothing is started,
// and no timer moved, for one that is answered at once.
//
// What it guarantees:
//
//   - Requests are framed by RFC 9112 alone, as strictly as net/http does it or
//     more so, never less: what it takes, net/http takes too and reads alike.
//
//   - A request's context ends with its handler, and when its client goes away.
//     The connection is watched for that from watchAfter on after the request
//     came, if by then somebody has asked the context for Done or Err.
//
//   - A small answer leaves with its header in one system call.
//
//   - A connection that waits for its next request for longer than restAfter has
//     no buffers and a small stack.
//
// What it does not: TLS and HTTP/2. A connection that begins with HTTP/2's
// preface (RFC 9113 §3.4) is handed to the http.Server behind it. OPTIONS *
// goes to the handler; the hooks of http.Server (ConnState, ConnContext,
// BaseContext) are not called.
type Server struct {
	std  *http.Server
	h2   *handover
	over chan struct{} // closed with Shutdown and Close
	rest time.Duration // restAfter

	closing atomic.Bool
	mu      sync.Mutex
	serving sync.WaitGroup
	listen  map[net.Listener]struct{}
	conns   map[*serverConn]struct{}
}

// restAfter is how long a connection waits with everything it needs at hand.
const restAfter = 2 * time.Second

// NewServer returns a Server with the Handler, ReadHeaderTimeout, IdleTimeout,
// MaxHeaderBytes and ErrorLog of std, which serves connections of HTTP/2 and
// must not be used otherwise.
func NewServer(std *http.Server) *Server {
	return &Server{std: std, h2: newHandover(), over: make(chan struct{}), rest: restAfter, listen: map[net.Listener]struct{}{}, conns: map[*serverConn]struct{}{}}
}

// Serve accepts connections from l until Shutdown or Close, after which it
// returns http.ErrServerClosed, or until l fails.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.closing.Load() {
		s.mu.Unlock()
		s.close(l)
		return http.ErrServerClosed
	}
	s.listen[l] = struct{}{}
	s.serving.Add(1)
	s.mu.Unlock()
	defer s.serving.Done()
	s.h2.once.Do(func() { go s.serveH2() })
	for pause := time.Duration(0); ; {
		raw, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			if c := s.newConn(raw); c != nil {
				go c.begin()
			}
		case s.closing.Load():
			return http.ErrServerClosed
		case !temporary(err):
			return err
		default: // such as too many open files: connections that end make room
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.logf("http1: accept: %v; again in %v", err, pause)
			select {
			case <-time.After(pause):
			case <-s.over:
			}
		}
	}
}

func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

func (s *Server) serveH2() {
	if err := s.std.Serve(s.h2); !errors.Is(err, http.ErrServerClosed) {
		s.logf("http1: HTTP/2: %v", err)
	}
}

func (s *Server) newConn(raw net.Conn) *serverConn {
	c := &serverConn{server: s, net: raw, born: time.Now()}
	if a := raw.RemoteAddr(); a != nil {
		c.remote = a.String()
	}
	c.in.begin(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		raw.Close()
		return nil
	}
	s.conns[c] = struct{}{}
	return c
}

func (s *Server) forget(c *serverConn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// Shutdown accepts no more, closes connections as they become idle, and returns
// when there are none left, or with ctx. A connection that has not sent a
// request for 5 s since it was made counts as idle. Hijacked connections are
// their handler's.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopAccepting()
	h2 := make(chan error, 1)
	go func() { h2 <- s.std.Shutdown(ctx) }()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for next := time.Millisecond; ; next = min(2*next, 500*time.Millisecond) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-pause.C:
		}
		if s.closeIdle() {
			return <-h2
		}
		pause.Reset(next)
	}
}

// Close closes all listeners and connections at once.
func (s *Server) Close() error {
	s.stopAccepting()
	s.mu.Lock()
	for c := range s.conns {
		c.net.Close()
	}
	s.mu.Unlock()
	return s.std.Close()
}

func (s *Server) stopAccepting() {
	s.mu.Lock()
	if !s.closing.Swap(true) {
		close(s.over)
	}
	for l := range s.listen {
		s.close(l)
	}
	clear(s.listen)
	s.mu.Unlock()
	s.serving.Wait()
}

func (s *Server) close(l net.Listener) {
	if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		s.logf("http1: close a listener: %v", err)
	}
}

// CloseIdle closes a connection that waits for its next request, to make room
// for another one, and reports whether there was one. It looks at a few alone:
// of those the one that has waited longest.
func (s *Server) CloseIdle() bool {
	const look = 64
	s.mu.Lock()
	defer s.mu.Unlock()
	for range 2 { // the one that was found may have become active
		var longest *serverConn
		seen := 0
		for c := range s.conns {
			if c.state.Load() == stateIdle && (longest == nil || c.idle.Load() < longest.idle.Load()) {
				longest = c
			}
			if seen++; seen == look {
				break
			}
		}
		if longest == nil {
			return false
		}
		if longest.state.CompareAndSwap(stateIdle, stateClosed) {
			longest.net.Close()
			delete(s.conns, longest)
			return true
		}
	}
	return false
}

// closeIdle reports whether no connection is left.
func (s *Server) closeIdle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		stale := c.state.Load() == stateNew && time.Since(c.born) > 5*time.Second
		if c.state.CompareAndSwap(stateIdle, stateClosed) || stale && c.state.CompareAndSwap(stateNew, stateClosed) {
			c.net.Close()
			delete(s.conns, c)
		}
	}
	return len(s.conns) == 0
}

func (s *Server) logf(format string, args ...any) {
	if s.std.ErrorLog != nil {
		s.std.ErrorLog.Printf(format, args...)
		return
	}
	log.Printf(format, args...)
}

func (s *Server) headerTimeout() time.Duration {
	if s.std.ReadHeaderTimeout != 0 {
		return s.std.ReadHeaderTimeout
	}
	return s.std.ReadTimeout
}

func (s *Server) idleTimeout() time.Duration {
	if s.std.IdleTimeout != 0 {
		return s.std.IdleTimeout
	}
	return s.std.ReadTimeout
}

func (s *Server) maxHeader() int {
	const slop = 4 << 10 // as net/http allows
	if s.std.MaxHeaderBytes > 0 {
		return s.std.MaxHeaderBytes + slop
	}
	return http.DefaultMaxHeaderBytes + slop
}

// handover is the listener from which the http.Server behind takes connections.
type handover struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once // the server behind serves
	end    sync.Once
}

func newHandover() *handover {
	return &handover{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *handover) Close() error {
	h.end.Do(func() { close(h.closed) })
	return nil
}

func (h *handover) Addr() net.Addr { return &net.TCPAddr{} }

// give hands c over, or closes it.
func (h *handover) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.closed:
		c.Close()
	}
}
