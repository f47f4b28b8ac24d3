package admin_test

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"landline/internal/sqldb"
	"landline/internal/testkit"
)

// cable is a connection to PostgreSQL that can be cut.
type cable struct {
	listener net.Listener
	mu       sync.Mutex
	cutOff   bool
	conns    []net.Conn
}

// cut ends all connections and refuses new ones.
func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cutOff = true
	c.listener.Close()
	for _, conn := range c.conns {
		conn.Close()
	}
}

func (c *cable) keep(conns ...net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns = append(c.conns, conns...)
	return !c.cutOff
}

func (c *cable) serve(server string) {
	for {
		client, err := c.listener.Accept()
		if err != nil {
			return
		}
		upstream, err := net.Dial("tcp", server)
		if err != nil || !c.keep(client, upstream) {
			client.Close()
			continue
		}
		go func() { io.Copy(upstream, client); upstream.Close() }()
		go func() { io.Copy(client, upstream); client.Close() }()
	}
}

// overCable opens a fresh PostgreSQL database over a cable.
func overCable(t *testing.T) (*cable, func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
	t.Helper()
	u, err := url.Parse(testkit.PostgresURL(t))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{listener: l}
	server := u.Host
	go c.serve(server)
	t.Cleanup(c.cut)
	u.Host = l.Addr().String()
	return c, func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB {
		return testkit.Open(t, sqldb.Options{URL: u.String()}, m...)
	}
}
