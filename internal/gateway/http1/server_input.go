package http1

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// moment is a deadline that is moved as seldom as possible: one that is set too
// early is moved when it ends a read or a write which had more time.
type moment struct {
	wanted time.Time // zero = none
	armed  time.Time // what the connection was told
}

// due is whether the connection must be told before it waits.
func (m *moment) due() bool {
	return !m.wanted.IsZero() && (m.armed.IsZero() || m.wanted.Before(m.armed))
}

// passed reports whether a timeout is a real one.
func (m *moment) passed() bool { return !m.wanted.IsZero() && !time.Now().Before(m.wanted) }

var longAgo = time.Unix(1, 0)

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// input reads a connection: for the request that is handled, for the next one,
// or, while neither is there, to notice that the client goes away.
type input struct {
	c   *serverConn
	net net.Conn

	mu       sync.Mutex
	stopped  sync.Cond
	at       moment
	reading  bool // somebody waits in Read
	watching bool // it is watch
	aborted  bool // which shall end
	resting  bool // it is await
	has      bool // what watch or await has read is in one
	one      [1]byte
	current  *incoming // the request whose client is to be watched
}

func (in *input) begin(c *serverConn) { in.c, in.net, in.stopped.L = c, c.net, &in.mu }

var errConcurrentRead = errors.New("http1: the connection is being read already")

// Read reads from the connection until the wanted deadline.
func (in *input) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	in.mu.Lock()
	if in.reading {
		in.mu.Unlock()
		return 0, errConcurrentRead
	}
	if in.has {
		p[0], in.has = in.one[0], false
		in.mu.Unlock()
		return 1, nil
	}
	in.reading = true
	n, err := in.wait(p)
	in.reading = false
	in.stopped.Broadcast()
	x := in.current
	in.mu.Unlock()
	if err != nil && x != nil && !isTimeout(err) {
		x.ctx.end()
	}
	return n, err
}

// wait reads with in.mu, which it gives up meanwhile.
func (in *input) wait(p []byte) (n int, err error) {
	if in.at.due() {
		err = in.arm()
	}
	for err == nil {
		in.mu.Unlock()
		n, err = in.net.Read(p)
		in.mu.Lock()
		if n > 0 || !isTimeout(err) || in.at.passed() {
			break
		}
		err = in.arm()
	}
	return n, err
}

func (in *input) arm() error {
	in.at.armed = in.at.wanted
	return in.net.SetReadDeadline(in.at.wanted)
}

// until sets the deadline of reads.
func (in *input) until(t time.Time) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.at.wanted = t
	if in.reading && !in.watching && in.at.due() {
		return in.arm()
	}
	return nil
}

// await waits for a byte that the next Read returns.
func (in *input) await() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.has {
		return nil
	}
	in.reading, in.resting = true, true
	n, err := in.wait(in.one[:])
	in.reading, in.resting, in.has = false, false, n == 1
	if n == 1 {
		return nil
	}
	return err
}

// handles notes whose client is to be watched. Its body may take any time.
func (in *input) handles(x *incoming) {
	in.mu.Lock()
	in.current, in.at.wanted = x, time.Time{}
	in.mu.Unlock()
}

// watch begins to wait for the end of the connection in the name of x, unless
// that is over, or its body is still to be read, which notices it too.
func (in *input) watch(x *incoming) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.current != x || x == nil || in.reading || in.has || !x.body.whole.Load() {
		return
	}
	in.reading, in.watching = true, true
	go in.watched(x)
}

func (in *input) watched(x *incoming) {
	for {
		n, err := in.net.Read(in.one[:])
		in.mu.Lock()
		if n == 0 && isTimeout(err) && !in.aborted { // of a read that is over
			in.at.armed = time.Time{}
			if err = in.net.SetReadDeadline(time.Time{}); err == nil {
				in.mu.Unlock()
				continue
			}
		}
		in.has = n == 1 // the next request's: it has been sent too early
		in.reading, in.watching = false, false
		in.stopped.Broadcast()
		in.mu.Unlock()
		if n == 0 && !isTimeout(err) {
			x.ctx.end()
		}
		return
	}
}

// unwatch ends that, and waits for it.
func (in *input) unwatch() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.current = nil
	if !in.watching {
		return
	}
	in.aborted = true
	in.at.armed = longAgo
	err := in.net.SetReadDeadline(longAgo)
	for in.watching {
		in.stopped.Wait()
	}
	in.aborted = false
	if err == nil {
		in.at.wanted, in.at.armed = time.Time{}, time.Time{}
		err = in.net.SetReadDeadline(time.Time{})
	}
	if err != nil {
		in.net.Close() // it is broken: the next read says so
	}
}

// released leaves deadlines to whoever has the connection now.
func (in *input) released() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.at = moment{}
}
