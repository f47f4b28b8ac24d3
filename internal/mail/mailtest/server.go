// Package mailtest has a small SMTP server for tests (RFC 5321, 3207, 4954): it
// keeps what it takes, and fails where it is told to.
package mailtest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// Host is the name in the server's certificate.
const Host = "localhost"

// Envelope is a message that was taken.
type Envelope struct {
	From, To  string // as in MAIL FROM and RCPT TO
	Data      string // header and body, lines ended by \r\n, dots unstuffed
	User      string // who was signed in; "" = nobody
	Encrypted bool
}

// Server is a running server.
type Server struct {
	Port     int
	implicit bool
	plain    bool // no STARTTLS
	listener net.Listener
	tls      *tls.Config
	roots    *x509.CertPool

	mu        sync.Mutex
	taken     []Envelope
	replies   map[string][]string // by command: what is answered in place of success, once each
	conns     map[net.Conn]bool
	opened    int
	open, top int
	password  string
	done      sync.WaitGroup
}

// Option changes how a server behaves.
type Option func(*Server)

// Implicit makes the server encrypted from the first byte.
func Implicit(s *Server) { s.implicit = true }

// Plain makes the server unable to encrypt.
func Plain(s *Server) { s.plain = true }

// Password makes the server ask for user "user" with that password.
func Password(p string) Option { return func(s *Server) { s.password = p } }

// Start runs a server on a free port of the loopback interface until the test ends.
func Start(t testing.TB, options ...Option) *Server {
	t.Helper()
	s := &Server{replies: map[string][]string{}, conns: map[net.Conn]bool{}}
	for _, o := range options {
		o(s)
	}
	var err error
	if s.tls, s.roots, err = certificate(); err != nil {
		t.Fatal(err)
	}
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	s.Port = s.listener.Addr().(*net.TCPAddr).Port
	s.done.Go(s.accept)
	t.Cleanup(func() {
		s.listener.Close()
		s.HangUp()
		s.done.Wait()
	})
	return s
}

// Trust makes a client trust the server's certificate.
func (s *Server) Trust() *tls.Config {
	return &tls.Config{RootCAs: s.roots, MinVersion: tls.VersionTLS12}
}

// Reply makes the server answer the next such command with text, for example
// "451 4.3.0 try again" to "RCPT". "DATA." is the end of a message; "CONNECT" the
// greeting. The text "" hangs up instead.
func (s *Server) Reply(command, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replies[command] = append(s.replies[command], text)
}

// Taken are the messages so far.
func (s *Server) Taken() []Envelope {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Envelope(nil), s.taken...)
}

// Connections are how many were opened so far, and how many at once at most.
func (s *Server) Connections() (opened, atOnce int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened, s.top
}

// HangUp closes every connection, as servers do that are restarted.
func (s *Server) HangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[conn] = true
		s.opened++
		s.open++
		s.top = max(s.top, s.open)
		s.mu.Unlock()
		s.done.Go(func() {
			s.serve(conn)
			conn.Close()
			s.mu.Lock()
			delete(s.conns, conn)
			s.open--
			s.mu.Unlock()
		})
	}
}

type session struct {
	s    *Server
	conn net.Conn
	in   *bufio.Reader
	e    Envelope
}

func (s *Server) serve(conn net.Conn) {
	c := &session{s: s, conn: conn}
	if s.implicit {
		c.conn = tls.Server(conn, s.tls)
		c.e.Encrypted = true
	}
	c.in = bufio.NewReader(c.conn)
	if !c.answer("CONNECT", "220 "+Host+" ready") {
		return
	}
	for {
		line, err := c.in.ReadString('\n')
		if err != nil || len(line) > 1000 {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		command := strings.ToUpper(line)
		if i := strings.IndexAny(command, " :"); i > 0 {
			command = command[:i]
		}
		if !c.command(command, line) {
			return
		}
	}
}

// answer writes a reply, or the one that the test ordered; false = hang up.
func (c *session) answer(command, text string) bool {
	c.s.mu.Lock()
	if ordered := c.s.replies[command]; len(ordered) > 0 {
		text, c.s.replies[command] = ordered[0], ordered[1:]
	}
	c.s.mu.Unlock()
	if text == "" {
		return false
	}
	_, err := fmt.Fprintf(c.conn, "%s\r\n", text)
	return err == nil && !strings.HasPrefix(text, "421")
}

func (c *session) ordered(command string) bool {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return len(c.s.replies[command]) > 0
}

func (c *session) command(command, line string) bool {
	switch command {
	case "EHLO":
		text := "250-" + Host + "\r\n250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"
		if !c.e.Encrypted && !c.s.plain {
			text += "250-STARTTLS\r\n"
		}
		if c.s.password != "" {
			text += "250-AUTH PLAIN LOGIN\r\n"
		}
		return c.answer(command, text+"250 OK")
	case "STARTTLS":
		if c.s.plain || c.e.Encrypted {
			return c.answer(command, "502 5.5.1 not here")
		}
		if !c.answer(command, "220 go on") {
			return false
		}
		c.conn = tls.Server(c.conn, c.s.tls)
		c.in, c.e = bufio.NewReader(c.conn), Envelope{Encrypted: true}
		return true
	case "AUTH":
		return c.auth(line)
	case "MAIL":
		c.e.From = between(line)
		return c.answer(command, "250 2.1.0 OK")
	case "RCPT":
		c.e.To = between(line)
		return c.answer(command, "250 2.1.5 OK")
	case "DATA":
		if c.ordered(command) {
			return c.answer(command, "")
		}
		return c.answer(command, "354 go on") && c.data()
	case "NOOP", "RSET":
		return c.answer(command, "250 2.0.0 OK")
	case "QUIT":
		c.answer(command, "221 2.0.0 bye")
		return false
	}
	return c.answer(command, "500 5.5.1 unknown")
}

func (c *session) auth(line string) bool {
	raw, err := base64.StdEncoding.DecodeString(line[strings.LastIndexByte(line, ' ')+1:])
	parts := strings.Split(string(raw), "\x00")
	if err != nil || len(parts) != 3 || parts[1] != "user" || parts[2] != c.s.password {
		return c.answer("AUTH", "535 5.7.8 authentication failed")
	}
	c.e.User = parts[1]
	return c.answer("AUTH", "235 2.7.0 OK")
}

func (c *session) data() bool {
	var text strings.Builder
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return false
		}
		if line == ".\r\n" {
			break
		}
		text.WriteString(strings.TrimPrefix(line, "."))
	}
	if c.ordered("DATA.") {
		return c.answer("DATA.", "")
	}
	c.e.Data = text.String()
	c.s.mu.Lock()
	c.s.taken = append(c.s.taken, c.e)
	c.s.mu.Unlock()
	return c.answer("DATA.", "250 2.0.0 taken")
}

func between(line string) string {
	_, rest, _ := strings.Cut(line, "<")
	address, _, _ := strings.Cut(rest, ">")
	return address
}

func certificate() (*tls.Config, *x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: Host}, DNSNames: []string{Host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}, pool, nil
}
