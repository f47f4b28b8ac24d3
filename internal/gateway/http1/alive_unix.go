//go:build unix

package http1

import "syscall"

// Supported reports whether this system lets a connection be looked at before
// it is used again. Where it does not, upstreams are reached with net/http.
const Supported = true

// prepareLook makes what alive needs, once for a connection.
func (c *conn) prepareLook() {
	s, ok := c.net.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return
	}
	c.sys, c.look, c.turn.step = raw, c.peek, c.ask
}

// peek looks whether nothing has come on an unused connection: neither its end
// nor bytes, which would be taken for the next answer.
func (c *conn) peek(fd uintptr) {
	n, _, err := syscall.Recvfrom(int(fd), c.one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT) // #nosec -- a descriptor is an int
	c.quiet = n <= 0 && err == syscall.EAGAIN                                               //nolint:errorlint // a plain errno
}

// alive reports what peek finds.
func (c *conn) alive() bool {
	c.quiet = false
	return c.sys.Control(c.look) == nil && c.quiet
}
