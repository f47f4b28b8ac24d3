package app

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/observe"
	"landline/internal/problem"
)

const (
	mostRefused  = 64                     // refused clients that are waited for at a time; more are cut off
	refusedFor   = 500 * time.Millisecond // how long one is waited for
	fewestDoor   = 64                     // least that listen.connections = 0 comes to
	mostDoor     = 1 << 20                // most that it comes to
	tellFullEach = time.Minute            // how often a full door is logged
)

// door is the public listener with a bound on the connections that are open at
// the same time. Each takes a file, and with none left neither services nor the
// database can be reached, nor the admin listener.
//
// When a client comes to a full door, a connection that is idle makes room. With
// none idle the client is answered 503 overloaded, or cut off where TLS would
// have to be spoken for that.
type door struct {
	net.Listener
	most    int64
	room    func() bool // closes an idle connection; nil if nobody can
	answers [][]byte    // one of which a client is told that finds no room; nil = nothing
	log     *slog.Logger

	open    atomic.Int64
	full    *prometheus.CounterVec // outcome
	told    time.Time              // when a full door was logged; Accept's alone
	refused chan struct{}          // a place for each client that is waited for
	waited  sync.WaitGroup
}

// newDoor bounds l. room may be nil, and plain says that clients speak HTTP without TLS.
func newDoor(l net.Listener, most int64, room func() bool, plain bool, reg *prometheus.Registry, log *slog.Logger) *door {
	const area = "landline_gateway_connections_"
	d := &door{Listener: l, most: most, room: room, log: log, refused: make(chan struct{}, mostRefused),
		full: observe.Counter(reg, area+"full_total", "Clients that came when listen.connections were open: one that was idle made room (made_room), or there was none (refused).", "outcome")}
	observe.GaugeFunc(reg, area+"count", "Connections of clients that are open.", func() float64 { return float64(d.open.Load()) })
	observe.GaugeFunc(reg, area+"limit_count", "How many of them there may be.", func() float64 { return float64(most) })
	if plain {
		for wait := range time.Duration(3) { // so that not all come back together
			d.answers = append(d.answers, fullAnswer((2+wait)*time.Second))
		}
	}
	return d
}

// fullAnswer is the whole answer of a full door.
func fullAnswer(after time.Duration) []byte {
	p := problem.New(problem.Overloaded, "this node has as many connections as it may").After(after)
	body := p.Body("", "", "")
	h := p.Headers()
	h.Set("Content-Type", problem.MediaType)
	h.Set("Connection", "close")
	h.Set("Content-Length", fmt.Sprint(len(body)))
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", p.Status(), http.StatusText(p.Status()))
	if err := h.Write(&b); err != nil { // a buffer takes everything
		return nil
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}

// Accept returns the next connection that there is room for.
func (d *door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if d.open.Add(1) <= d.most || d.madeRoom() {
			if tcp, ok := c.(*net.TCPConn); ok {
				return &guest{TCPConn: tcp, door: d}, nil
			}
			return nil, errors.Join(fmt.Errorf("app: %T is no TCP connection", c), c.Close())
		}
		d.open.Add(-1)
		d.full.WithLabelValues("refused").Inc()
		if now := time.Now(); now.Sub(d.told) > tellFullEach {
			d.told = now
			d.log.Warn("clients are turned away: listen.connections are open and none is idle", "limit", d.most)
		}
		d.refuse(c)
	}
}

func (d *door) madeRoom() bool {
	if d.room == nil || !d.room() {
		return false
	}
	d.full.WithLabelValues("made_room").Inc()
	return true
}

// refuse answers c and closes it. What the client has sent is taken in first, or
// the answer would be lost with the reset that closing under it makes (RFC 9112 §9.6).
func (d *door) refuse(c net.Conn) {
	if d.answers == nil {
		d.closed(c.Close())
		return
	}
	select {
	case d.refused <- struct{}{}:
	default:
		d.closed(c.Close())
		return
	}
	d.waited.Go(func() {
		defer func() { <-d.refused }()
		err := c.SetDeadline(time.Now().Add(refusedFor))
		if err == nil {
			_, err = c.Write(d.answers[rand.IntN(len(d.answers))]) // #nosec G404 -- no secret
		}
		if half, ok := c.(interface{ CloseWrite() error }); ok && err == nil {
			err = half.CloseWrite()
		}
		if err == nil {
			_, err = io.Copy(io.Discard, io.LimitReader(c, 64<<10))
		}
		d.closed(errors.Join(err, c.Close()))
	})
}

func (d *door) closed(err error) {
	if err != nil {
		d.log.Debug("a client that found no room", "error", err)
	}
}

// Close stops accepting, and waits for the clients that are being refused.
func (d *door) Close() error {
	err := d.Listener.Close()
	d.waited.Wait()
	return err
}

// guest is a connection that counts until it is closed.
type guest struct {
	*net.TCPConn
	door *door
	left atomic.Bool
}

// Close closes the connection.
func (g *guest) Close() error {
	if !g.left.Swap(true) {
		g.door.open.Add(-1)
	}
	return g.TCPConn.Close()
}
