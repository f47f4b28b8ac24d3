package http1

import (
	"net"
	"net/http"
	"testing"
)

// Room is made by the connection that has waited longest, and never by one in use.
func TestCloseIdleTakesWhoHasWaitedLongest(t *testing.T) {
	s := NewServer(&http.Server{})
	type one struct {
		conn *serverConn
		far  net.Conn
	}
	add := func(state uint32, since int64) one {
		near, far := net.Pipe()
		c := &serverConn{server: s, net: near}
		c.state.Store(state)
		c.idle.Store(since)
		s.conns[c] = struct{}{}
		t.Cleanup(func() { near.Close(); far.Close() })
		return one{c, far}
	}
	add(stateActive, 1)
	add(stateNew, 0)
	late, early := add(stateIdle, 30), add(stateIdle, 20)
	for _, want := range []one{early, late} {
		if !s.CloseIdle() {
			t.Fatal("nobody made room")
		}
		if _, there := s.conns[want.conn]; there || want.conn.state.Load() != stateClosed {
			t.Errorf("the wrong one made room: %d", want.conn.state.Load())
		}
		if _, err := want.far.Read(make([]byte, 1)); err == nil {
			t.Error("it is open")
		}
	}
	if s.CloseIdle() || len(s.conns) != 2 {
		t.Errorf("one in use made room; %d are left", len(s.conns))
	}
}
