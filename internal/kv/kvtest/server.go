package kvtest

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os/exec"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Server is a Redis server of one test, to be stopped and started again.
// It keeps nothing on disk: every start is empty.
type Server struct {
	URL string

	addr string
	cmd  *exec.Cmd
	out  bytes.Buffer
}

// StartServer starts a server on a free port; it is stopped when the test ends.
func StartServer(t *testing.T) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := &Server{addr: l.Addr().String()}
	s.URL = "redis://" + s.addr
	must(t, l.Close())
	s.Start(t)
	t.Cleanup(func() { s.Stop(t) })
	return s
}

// Start starts the server again, on the same port.
func (s *Server) Start(t *testing.T) {
	t.Helper()
	host, port, err := net.SplitHostPort(s.addr)
	must(t, err)
	// #nosec G204 -- the arguments are this function's own
	s.cmd = exec.Command("redis-server", "--bind", host, "--port", port, "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	s.cmd.Stdout = &s.out
	if err := s.cmd.Start(); err != nil {
		t.Fatalf("%v; install the package redis-server", err)
	}
	client := redis.NewClient(&redis.Options{Addr: s.addr, DialTimeout: time.Second})
	defer client.Close()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); client.Ping(context.Background()).Err() != nil; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("redis-server did not start within 20 s:\n%s", s.out.String())
		}
	}
}

// Stop ends the server at once, as a crash would. Stopping twice is fine.
func (s *Server) Stop(t *testing.T) {
	t.Helper()
	if s.cmd == nil {
		return
	}
	must(t, s.cmd.Process.Kill())
	var exit *exec.ExitError // it says "killed", as wanted
	if err := s.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Error(err)
	}
	s.cmd = nil
}
