package app

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"landline/internal/gateway/http1"
	"landline/internal/testkit"
)

// crowd is a server behind a door, whose handler waits where it is told to.
type crowd struct {
	t       *testing.T
	door    *door
	arrived chan struct{}
	release chan struct{}
}

func openDoor(t *testing.T, most int64, plain bool) *crowd {
	t.Helper()
	c := &crowd{t: t, arrived: make(chan struct{}), release: make(chan struct{})}
	srv := http1.NewServer(&http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			c.arrived <- struct{}{}
			<-c.release
		}
		io.WriteString(w, "in")
	})})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.door = newDoor(l, most, srv.CloseIdle, plain, prometheus.NewRegistry(), testkit.Logger(t))
	served := make(chan error, 1)
	go func() { served <- srv.Serve(c.door) }()
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return c
}

func (c *crowd) dial() (net.Conn, *bufio.Reader) {
	c.t.Helper()
	conn, err := net.Dial("tcp", c.door.Addr().String())
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		c.t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

func (c *crowd) ask(conn net.Conn, path string) {
	c.t.Helper()
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		c.t.Fatal(err)
	}
}

func (c *crowd) read(r *bufio.Reader) (*http.Response, string) {
	c.t.Helper()
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return res, string(body)
}

func (c *crowd) full(outcome string) float64 {
	c.t.Helper()
	var m dto.Metric
	if err := c.door.full.WithLabelValues(outcome).Write(&m); err != nil {
		c.t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

func TestAFullDoorAnswersAndOpensAgain(t *testing.T) {
	c := openDoor(t, 2, true)
	var readers []*bufio.Reader
	for range 2 {
		conn, r := c.dial()
		c.ask(conn, "/wait")
		<-c.arrived
		readers = append(readers, r)
	}
	late, r := c.dial()
	c.ask(late, "/")
	res, body := c.read(r)
	var p struct {
		Code       string `json:"code"`
		RetryAfter int    `json:"retry_after"`
	}
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 503 || p.Code != "overloaded" || res.Header.Get("Retry-After") == "" || p.RetryAfter == 0 || res.Header.Get("Content-Type") != "application/problem+json" || !res.Close {
		t.Errorf("%d %v %s", res.StatusCode, res.Header, body)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("the connection goes on: %v", err)
	}
	if n := c.full("refused"); n != 1 {
		t.Errorf("%v were refused", n)
	}
	for range readers { // whichever of the two takes it
		c.release <- struct{}{}
	}
	for _, r := range readers {
		if res, body := c.read(r); res.StatusCode != 200 || body != "in" {
			t.Errorf("who was in: %d %s", res.StatusCode, body)
		}
	}
	again, r := c.dial()
	c.ask(again, "/")
	if res, body := c.read(r); res.StatusCode != 200 || body != "in" {
		t.Errorf("with room again: %d %s", res.StatusCode, body)
	}
}

// An idle connection goes; one that is in use stays.
func TestAnIdleConnectionMakesRoom(t *testing.T) {
	c := openDoor(t, 3, true)
	busy, busyReader := c.dial()
	c.ask(busy, "/wait")
	<-c.arrived
	var idle []*bufio.Reader
	for range 2 {
		conn, r := c.dial()
		c.ask(conn, "/")
		c.read(r)
		idle = append(idle, r)
	}
	for ; ; time.Sleep(time.Millisecond) { // the second is idle when its answer was written, and a little later
		late, r := c.dial()
		c.ask(late, "/")
		if res, _ := c.read(r); res.StatusCode == 200 {
			break
		}
	}
	gone := make(chan error, len(idle))
	for _, r := range idle {
		go func() {
			_, err := r.ReadByte()
			gone <- err
		}()
	}
	if err := <-gone; err == nil || isDeadline(err) {
		t.Errorf("both idle connections are open: %v", err)
	}
	if n := c.full("made_room"); n != 1 {
		t.Errorf("room was made %v times", n)
	}
	c.release <- struct{}{}
	if res, _ := c.read(busyReader); res.StatusCode != 200 {
		t.Errorf("the busy one: %d", res.StatusCode)
	}
}

// To answer over TLS would take a handshake for each.
func TestAFullDoorCutsOffWhoSpeaksTLS(t *testing.T) {
	c := openDoor(t, 1, false)
	conn, _ := c.dial()
	c.ask(conn, "/wait")
	<-c.arrived
	_, r := c.dial()
	if _, err := r.ReadByte(); err == nil || isDeadline(err) {
		t.Errorf("the connection is open: %v", err)
	}
	c.release <- struct{}{}
}

func isDeadline(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
