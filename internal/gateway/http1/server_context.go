package http1

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// watchAfter is how old a request is when its connection begins to be watched.
// Most are answered by then.
const watchAfter = 10 * time.Millisecond

// requestContext is the context of a request. It is a context of the standard
// library only when somebody waits for its end.
type requestContext struct {
	x     *incoming
	began time.Time

	mu     sync.Mutex
	real   context.Context //nolint:containedctx // it is a context
	cancel context.CancelFunc
	err    error
}

// Deadline is none.
func (c *requestContext) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value knows what net/http's server puts into a context; httputil.ReverseProxy
// looks for the server.
func (c *requestContext) Value(key any) any {
	switch key {
	case http.ServerContextKey:
		return c.x.conn.server.std
	case http.LocalAddrContextKey:
		return c.x.conn.net.LocalAddr()
	}
	c.mu.Lock()
	real := c.real
	c.mu.Unlock()
	if real == nil {
		return nil
	}
	return real.Value(key) // by which contexts made from this one find it
}

// Done is closed when the handler has returned or the client has gone.
func (c *requestContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.real == nil {
		c.real, c.cancel = context.WithCancel(context.Background())
		if c.err != nil {
			c.cancel()
		} else {
			c.x.conn.watchSoon()
		}
	}
	return c.real.Done()
}

// Err is context.Canceled once Done is closed.
func (c *requestContext) Err() error {
	c.mu.Lock()
	err, asked := c.err, c.real != nil
	c.mu.Unlock()
	if err == nil && !asked && time.Since(c.began) >= watchAfter {
		c.x.conn.in.watch(c.x)
	}
	return err
}

// end ends the context.
func (c *requestContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = context.Canceled
	if c.cancel != nil {
		c.x.conn.watcher.Stop()
		c.cancel()
	}
}

// whole is called when the request was read to its end: from then on only
// watching shows that the client goes away.
func (c *requestContext) whole() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.real != nil && c.err == nil {
		c.x.conn.watchSoon()
	}
}
