//go:build unix

package sqldb

import (
	"crypto/tls"
	"net"
	"syscall"
)

// quiet reports whether a connection is open and nothing has come on it that
// nobody has asked for: neither the end nor a server's last words. A connection
// that cannot be looked at is not quiet.
func quiet(c net.Conn) bool {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	socket, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	var one [1]byte
	var looked error
	if err := raw.Control(func(fd uintptr) {
		_, _, looked = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT) // #nosec G115 -- a descriptor is an int
	}); err != nil {
		return false
	}
	return looked == syscall.EAGAIN
}
