//go:build !unix

package http1

// Supported reports whether this system lets a connection be looked at before
// it is used again. Where it does not, upstreams are reached with net/http.
const Supported = false

func (c *conn) prepareLook() {}

func (c *conn) alive() bool { return false }

// turn is of systems where Supported is true.
type turn struct {
	out   []byte
	hooks Hooks
}

type writeError struct {
	error
	sent int
}

// Read reads from the connection.
func (c *conn) Read(p []byte) (int, error) { return c.net.Read(p) }
