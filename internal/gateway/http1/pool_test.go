package http1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestMostConnections(t *testing.T) {
	var now, most atomic.Int64
	hold := make(chan struct{})
	s := open(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for takeRequest(r) {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			<-hold
			now.Add(-1)
			io.WriteString(c, ok)
		}
	})
	conf := config()
	conf.MaxConnections = 2
	tr := transport(t, conf)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if body, err := s.fetch(tr, s.request("GET")); err != nil || body != "ok" {
				t.Errorf("%q %v", body, err)
			}
		})
	}
	waits(t, tr, s.address, 18)
	ctx, cancel := context.WithCancelCause(context.Background())
	gone := errors.New("gone")
	wg.Go(func() { // one who waits and leaves takes nobody's place
		if _, err := tr.Send(ctx, s.request("GET"), &hooks{}); !errors.Is(err, gone) {
			t.Errorf("%v", err)
		}
	})
	waits(t, tr, s.address, 19)
	cancel(gone)
	waits(t, tr, s.address, 18)
	for range 20 {
		hold <- struct{}{}
	}
	wg.Wait()
	if most.Load() != 2 || s.opened.Load() != 2 {
		t.Errorf("%d at once over %d connections", most.Load(), s.opened.Load())
	}
}

// waits waits until so many requests wait for a connection.
func waits(t *testing.T, tr *Transport, address string, n int) {
	t.Helper()
	h := tr.host(address)
	comes(t, fmt.Sprint(n, " wait"), func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.live == n
	})
}

func TestNobodyWaitsForAServiceThatRefuses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	s := &service{t: t, address: l.Addr().String()}
	for _, most := range []int{0, 1, 3} {
		conf := config()
		conf.MaxConnections = most
		tr := transport(t, conf)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := s.fetch(tr, s.request("GET")); err == nil {
					t.Error("an answer")
				}
			})
		}
		wg.Wait()
		if h := tr.host(s.address); h.open != 0 || h.dialing != 0 || h.live != 0 {
			t.Errorf("left over: %d open, %d being made, %d who wait", h.open, h.dialing, h.live)
		}
	}
}

func TestUnusedConnectionsAreClosedInTime(t *testing.T) {
	s := open(t, forEver(ok))
	conf := config()
	conf.IdleTimeout = 20 * time.Millisecond
	tr := transport(t, conf)
	for range 2 {
		if _, err := s.fetch(tr, s.request("GET")); err != nil {
			t.Fatal(err)
		}
		<-s.closed
	}
	comes(t, "all is put away", func() bool {
		h := tr.host(s.address)
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.open == 0 && len(h.idle) == 0 && h.expiry == nil
	})
}

// comes waits for a state that another goroutine brings about.
func comes(t *testing.T, what string, there func() bool) {
	t.Helper()
	for until := time.Now().Add(10 * time.Second); !there(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestFewUnusedConnectionsAreKept(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	s := open(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for takeRequest(r) {
			arrived <- struct{}{}
			<-release
			io.WriteString(c, ok)
		}
	})
	conf := config()
	conf.IdleConnections = 1
	tr := transport(t, conf)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if _, err := s.fetch(tr, s.request("GET")); err != nil {
				t.Error(err)
			}
		})
	}
	for range 3 { // each on a connection of its own
		<-arrived
	}
	for range 3 {
		release <- struct{}{}
	}
	wg.Wait()
	<-s.closed
	<-s.closed
}

func TestCloseIdleConnections(t *testing.T) {
	hold := make(chan struct{})
	s := open(t, func(n int, c net.Conn, r *bufio.Reader) {
		for takeRequest(r) {
			if n == 2 {
				<-hold
			}
			io.WriteString(c, ok)
		}
	})
	tr := transport(t, config())
	first, err := tr.Send(within(t), s.request("GET"), &hooks{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := s.fetch(tr, s.request("GET"))
		done <- err
	}()
	hold <- struct{}{}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	tr.CloseIdleConnections()
	if n := <-s.closed; n != 2 {
		t.Errorf("connection %d was closed", n)
	}
	if _, err := io.ReadAll(first.Body); err != nil { // it was in use
		t.Fatal(err)
	}
	if n := <-s.closed; n != 1 {
		t.Errorf("connection %d was closed", n)
	}
	if _, err := s.fetch(tr, s.request("GET")); err != nil {
		t.Error(err)
	}
}
