//go:build !unix

package sqldb

import "net"

// quiet is false where a connection cannot be looked at.
func quiet(net.Conn) bool { return false }
