package http1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// MaxInformational is how many 1xx answers one request may draw.
const MaxInformational = 16

// Config says how a Transport connects.
type Config struct {
	// Dial opens a connection to host:port. Its context ends when the Transport
	// gives up, not with the request that asked first.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	IdleConnections int           // most unused connections to one address; 0 = each request has its own
	MaxConnections  int           // most connections to one address, requests beyond wait; 0 = any number
	IdleTimeout     time.Duration // how long an unused connection is kept; 0 = for ever
	Header          int           // bytes of the header, and of the trailers, of an answer
	Continue        time.Duration // how long a request with Expect: 100-continue waits before it sends its body
}

// Request is one request.
type Request struct {
	Method  string
	Address string // host:port to connect to
	Host    string // of the Host field
	Target  string // origin-form or "*", as it goes on the wire

	// Header goes on the wire as it is but for Host, Content-Length,
	// Transfer-Encoding and Trailer, which follow from the other members. A
	// User-Agent that is empty is left out.
	Header http.Header

	// Edit, if not nil, is asked for each field of Header what goes on the wire in
	// its place; without values it is nothing. More goes there as well. A proxy
	// need not copy the header that it has got.
	Edit func(name string, values []string) (string, []string)
	More []Field

	// Body is nil or ContentLength is not 0; -1 = of unknown length. It may still
	// be read when Send has returned.
	Body          io.Reader
	ContentLength int64
	Trailer       http.Header // its keys are announced; values are there when Body has ended
}

// Field is a field of a header.
type Field struct{ Name, Value string }

// Hooks learn what happens on the way of a request.
type Hooks interface {
	// Sending is called when a connection was found, and looked at: from then on a
	// part of the request may have been written. It is called again when the request is.
	Sending()
	// Informational is called for each 1xx answer but 101. An error ends the request.
	Informational(status int, h http.Header) error
}

// Transport keeps the connections of one upstream. Use New.
type Transport struct {
	config Config
	hosts  sync.Map    // address → *host
	keep   atomic.Bool // whether connections that become idle are kept
}

// New returns a Transport that connects when it is first used.
func New(c Config) *Transport {
	t := &Transport{config: c}
	t.keep.Store(true)
	return t
}

// CloseIdleConnections closes the connections that nobody uses, and those in
// use as they become idle, until the next request.
func (t *Transport) CloseIdleConnections() {
	t.keep.Store(false)
	t.hosts.Range(func(_, h any) bool {
		h.(*host).closeIdle()
		return true
	})
}

// errStale says that a connection that had been used before is not usable any
// more, and that the request may go over another one.
var errStale = errors.New("http1: the connection was closed while unused")

// Send sends r and returns its answer; the body must be closed. The error of a
// request that was ended is the cause of ctx.
func (t *Transport) Send(ctx context.Context, r *Request, hooks Hooks) (*http.Response, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	if !t.keep.Load() {
		t.keep.Store(true)
	}
	h := t.host(r.Address)
	for {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		c, err := h.get(ctx)
		if err != nil {
			return nil, err
		}
		res, err := c.send(ctx, r, hooks)
		if !errors.Is(err, errStale) {
			return res, err
		}
	}
}

func (t *Transport) host(address string) *host {
	if h, ok := t.hosts.Load(address); ok {
		return h.(*host)
	}
	h, _ := t.hosts.LoadOrStore(address, &host{t: t, address: address})
	return h.(*host)
}

// replayable reports whether r may be executed twice (RFC 9110 §9.2.1).
func (r *Request) replayable() bool {
	if r.Body != nil {
		return false
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

func (r *Request) check() error {
	switch {
	case !isToken(r.Method):
		return fmt.Errorf("http1: the method %q is no token", r.Method)
	case r.Target == "" || !isVisible(r.Target):
		return errors.New("http1: the target has a space or a control character, or is empty")
	case !isVisible(r.Host):
		return errors.New("http1: the host has a space or a control character")
	}
	return nil
}
