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
	var one [1]byte
	c.sys = raw
	c.look = func(fd uintptr) {
		n, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT) // #nosec -- a descriptor is an int
		c.quiet = n <= 0 && (err == syscall.EAGAIN || err == syscall.EWOULDBLOCK)             //nolint:errorlint // a plain errno
	}
}

// alive reports whether nothing has come on an unused connection: neither its
// end nor bytes, which would be taken for the next answer.
func (c *conn) alive() bool {
	c.quiet = false
	return c.sys.Control(c.look) == nil && c.quiet
}
