package gateway

import (
	"errors"
	"net/http"
	"time"
)

// freeWindow is how much of an answer fits HTTP/2's smallest usual flow-control
// window: until then a write cannot wait for the client.
const freeWindow = 32 << 10

// writeDeadline ends the connection of a client that takes nothing of its
// answer for a while, so that it holds neither memory nor an upstream's
// connection for ever.
//
// On HTTP/1 an expired deadline hurts only the next write, so that it is moved
// lazily; the server lifts it after each request. On HTTP/2 it resets the
// stream even when nothing is being written, so that it stands only during writes.
type writeDeadline struct {
	control *http.ResponseController
	pause   time.Duration // 0 = wait for ever
	http2   bool

	at      time.Time
	written int
}

// before is called before n bytes are written and flushed.
func (d *writeDeadline) before(n int) error {
	if d.pause <= 0 {
		return nil
	}
	if d.written += n; d.http2 && d.written <= freeWindow {
		return nil
	}
	now := time.Now()
	if d.at.Sub(now) > d.pause-d.pause/4 {
		return nil
	}
	d.at = now.Add(d.pause)
	return d.set()
}

// after is called when they are.
func (d *writeDeadline) after() error {
	if !d.http2 || d.at.IsZero() {
		return nil
	}
	d.at = time.Time{}
	return d.set()
}

// set moves the deadline; a writer that knows none belongs to a test.
func (d *writeDeadline) set() error {
	if err := d.control.SetWriteDeadline(d.at); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}
