//go:build unix

package http1

import (
	"io"
	"net"
	"os"
	"syscall"
)

// turn is a request that waits to be written together with the wait for its
// answer, on a connection that was used before.
type turn struct {
	out   []byte // what is to be written; nil: nothing is under way
	hooks Hooks

	in   []byte // where the first bytes of the answer go
	sent int    // bytes of out
	n    int    // bytes of in
	err  error  // of the last system call
	step func(fd uintptr) bool
}

// writeError says that a request could not be written.
type writeError struct {
	err  error
	sent int // bytes of it
}

func (e *writeError) Error() string { return "http1: writing the request: " + e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

// Read reads from the connection. Where a request was left to it, the connection
// is looked at, the request written, and nothing read before the poller has said
// that there is something: usually the answer is not there yet, so that the read
// with which net.Conn's begins would be for nothing. errStale says that the
// connection must not be used.
func (c *conn) Read(p []byte) (int, error) {
	t := &c.turn
	if t.out == nil {
		return c.net.Read(p)
	}
	out := t.out
	t.in, t.sent, t.n, t.err = p, 0, 0, nil
	c.quiet = false
	err := c.sys.Read(t.step)
	sent, n := t.sent, t.n
	if err == nil {
		err = c.fault(t.err)
	}
	t.out, t.hooks, t.in, t.err = nil, nil, nil, nil
	switch {
	case !c.quiet:
		return 0, errStale
	case sent == len(out) && err != nil:
		return 0, err
	case sent == len(out) && n == 0:
		return 0, io.EOF
	case sent == len(out):
		return n, nil
	case err != nil:
		return 0, &writeError{err, sent}
	}
	// Not all of it found room: the ordinary way waits for that.
	if more, err := c.net.Write(out[sent:]); err != nil {
		return 0, &writeError{err, sent + more}
	}
	return c.net.Read(p)
}

// ask is what sys.Read calls, first before it waits, then when there may be
// something to read. It reports whether there is nothing more to wait for. The
// poller was told to watch before the first call: what comes later wakes it up.
func (c *conn) ask(fd uintptr) bool {
	t := &c.turn
	if t.sent < len(t.out) {
		if c.peek(fd); !c.quiet {
			return true
		}
		t.hooks.Sending()
		for {
			n, err := syscall.Write(int(fd), t.out) // #nosec -- a descriptor is an int
			switch err {
			case nil:
				t.sent = n
				return n < len(t.out)
			case syscall.EINTR: //nolint:errorlint // a plain errno
				continue
			case syscall.EAGAIN: //nolint:errorlint // a plain errno
				return true
			}
			t.err = os.NewSyscallError("write", err)
			return true
		}
	}
	for {
		n, err := syscall.Read(int(fd), t.in) // #nosec -- a descriptor is an int
		switch err {
		case nil:
			t.n = n
			return true
		case syscall.EINTR: //nolint:errorlint // a plain errno
			continue
		case syscall.EAGAIN: //nolint:errorlint // a plain errno
			return false
		}
		t.err = os.NewSyscallError("read", err)
		return true
	}
}

// fault is err with the addresses, as net.Conn's methods have it.
func (c *conn) fault(err error) error {
	if err == nil {
		return nil
	}
	return &net.OpError{Op: "request", Net: "tcp", Source: c.net.LocalAddr(), Addr: c.net.RemoteAddr(), Err: err}
}
