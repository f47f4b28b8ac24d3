package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"net/textproto"
	"regexp"
	"strings"
	"sync"
	"time"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"landline/internal/clock"
)

const (
	idleFor        = 30 * time.Second // servers hang up after some minutes (RFC 5321 §4.5.3.2.7: five)
	perConnection  = 100              // messages; many servers end connections after about as many
	maxServerWords = 300              // of a server's reply in an error
)

// SMTP is a Sender that hands messages to a server (RFC 5321). It is safe for
// concurrent use.
type SMTP struct {
	client        *gomail.Client
	dial          func(ctx context.Context) (net.Conn, error)
	from, replyTo *netmail.Address
	timeout       time.Duration
	clk           clock.Clock
	slots         chan struct{}

	mu     sync.Mutex
	idle   []*connection
	closed bool
}

type connection struct {
	client *smtp.Client
	raw    net.Conn
	sent   int
	expiry *time.Timer
}

// dialling is an attempt to connect, under the context of the message.
type dialling struct {
	ctx  context.Context // the library passes on one that it cancels when it is done
	raw  net.Conn
	stop func() bool
}

// NewSMTP returns a sender to the server of c, which must be checked and have a
// host. roots are the certificate authorities that are trusted; nil in tls.Config =
// the system's. Nothing is dialled yet.
func NewSMTP(c Config, trust *tls.Config, clk clock.Clock) (*SMTP, error) {
	s := &SMTP{timeout: c.SMTP.Timeout.D(), clk: clk, slots: make(chan struct{}, c.SMTP.Connections)}
	var err error
	if s.from, err = parseAddress(c.From); err != nil {
		return nil, fmt.Errorf("mail: from %w", err)
	}
	if c.ReplyTo != "" {
		if s.replyTo, err = parseAddress(c.ReplyTo); err != nil {
			return nil, fmt.Errorf("mail: reply_to %w", err)
		}
	}
	encryption := &tls.Config{MinVersion: tls.VersionTLS12}
	if trust != nil {
		encryption = trust.Clone()
	}
	encryption.ServerName = c.SMTP.Host
	policy := gomail.TLSMandatory
	address := net.JoinHostPort(c.SMTP.Host, fmt.Sprint(c.SMTP.port()))
	s.dial = func(ctx context.Context) (net.Conn, error) { // not by egress: no HTTP, and a relay may be on this very machine
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
	switch c.SMTP.TLS {
	case Implicit:
		policy = gomail.TLSOpportunistic // looks whether the connection is encrypted, which it is
		s.dial = func(ctx context.Context) (net.Conn, error) {
			return (&tls.Dialer{Config: encryption}).DialContext(ctx, "tcp", address)
		}
	case NoTLS:
		policy = gomail.NoTLS
	}
	options := []gomail.Option{
		gomail.WithPort(c.SMTP.port()), gomail.WithTimeout(s.timeout), gomail.WithTLSPolicy(policy), gomail.WithTLSConfig(encryption),
		gomail.WithoutRset(), // after a message the server is reset anyway; a failure then would hide that it was taken
	}
	if c.SMTP.HELO != "" {
		options = append(options, gomail.WithHELO(c.SMTP.HELO))
	}
	if c.SMTP.Username != "" {
		options = append(options, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover),
			gomail.WithUsername(c.SMTP.Username), gomail.WithPassword(c.SMTP.Password.Reveal()))
	}
	if s.client, err = gomail.NewClient(c.SMTP.Host, options...); err != nil {
		return nil, fmt.Errorf("mail: %w", err)
	}
	// The library leaves connections open that fail half-way; dialDo gives it one that we hold.
	if err := gomail.WithDialContextFunc(s.dialDo)(s.client); err != nil {
		return nil, fmt.Errorf("mail: %w", err)
	}
	return s, nil
}

type rawKey struct{}

// dialDo dials and leaves the connection with whoever asked, through its context.
func (s *SMTP) dialDo(ctx context.Context, _, _ string) (net.Conn, error) {
	conn, err := s.dial(ctx)
	if d, ok := ctx.Value(rawKey{}).(*dialling); ok && err == nil {
		d.raw = conn
		d.stop = context.AfterFunc(d.ctx, func() { _ = conn.Close() })
	}
	return conn, err
}

// Send implements Sender.
func (s *SMTP) Send(ctx context.Context, m Message) error {
	msg, err := compose(&m, s.from, s.replyTo, s.clk.Now())
	if err != nil {
		return &Error{Stage: "message", Cause: err}
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return &Error{Temporary: true, Stage: "wait", Cause: ctx.Err()}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*s.timeout)
	defer cancel()
	for {
		c, reused, err := s.take(ctx)
		if err != nil {
			return s.connectError(ctx, err, m.To)
		}
		err = s.deliver(ctx, c, msg)
		if err == nil {
			s.put(c)
			return nil
		}
		failed := s.sendError(ctx, err, m.To)
		if failed.Code != 0 && failed.Code != 421 {
			s.reset(ctx, c)
		} else {
			c.close()
		}
		var lost *gomail.SendError
		if reused && ctx.Err() == nil && errors.As(err, &lost) && lost.Reason == gomail.ErrConnCheck {
			continue // the server hung up on an idle connection; the message has not begun
		}
		return failed
	}
}

// deliver sends msg over c, or ends the connection when ctx is done.
func (s *SMTP) deliver(ctx context.Context, c *connection, msg *gomail.Msg) error {
	stop := context.AfterFunc(ctx, func() { _ = c.raw.Close() })
	defer stop()
	if err := c.client.UpdateDeadline(s.timeout); err != nil {
		return fmt.Errorf("deadline: %w", err)
	}
	c.sent++
	if err := s.client.SendWithSMTPClient(c.client, msg); err != nil {
		return fmt.Errorf("smtp: %w", err)
	}
	return nil
}

// take returns an idle connection or a new one.
func (s *SMTP) take(ctx context.Context) (c *connection, reused bool, err error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, false, errClosed
	}
	if n := len(s.idle); n > 0 {
		c = s.idle[n-1]
		s.idle = s.idle[:n-1]
		s.mu.Unlock()
		c.expiry.Stop()
		return c, true, nil
	}
	s.mu.Unlock()
	d := &dialling{ctx: ctx}
	client, err := s.client.DialToSMTPClientWithContext(context.WithValue(ctx, rawKey{}, d))
	if d.stop != nil {
		d.stop()
	}
	if err != nil {
		if d.raw != nil {
			_ = d.raw.Close()
		}
		return nil, false, fmt.Errorf("smtp: %w", err)
	}
	return &connection{client: client, raw: d.raw}, false, nil
}

var errClosed = errors.New("the sender is closed")

// put keeps a connection for the next message.
func (s *SMTP) put(c *connection) {
	s.mu.Lock()
	keep := !s.closed && c.sent < perConnection
	if keep {
		s.idle = append(s.idle, c)
		c.expiry = time.AfterFunc(idleFor, func() { s.expire(c) })
	}
	s.mu.Unlock()
	if !keep {
		c.close()
	}
}

// reset keeps a connection on which the server refused a message.
func (s *SMTP) reset(ctx context.Context, c *connection) {
	if ctx.Err() == nil && c.client.Reset() == nil {
		s.put(c)
		return
	}
	c.close()
}

func (s *SMTP) expire(c *connection) {
	s.mu.Lock()
	found := false
	for i, other := range s.idle {
		if other == c {
			s.idle = append(s.idle[:i], s.idle[i+1:]...)
			found = true
			break
		}
	}
	s.mu.Unlock()
	if found {
		c.close()
	}
}

// Close ends idle connections; messages under way are sent to the end, later
// ones are refused.
func (s *SMTP) Close() error {
	s.mu.Lock()
	idle := s.idle
	s.idle, s.closed = nil, true
	s.mu.Unlock()
	for _, c := range idle {
		c.expiry.Stop()
		c.close()
	}
	return nil
}

// close says goodbye, for a second at most.
func (c *connection) close() {
	if c.client.UpdateDeadline(time.Second) == nil {
		_ = c.client.Quit() // the server may have gone; nothing is lost
	}
	_ = c.raw.Close()
}

// connectError is temporary whatever the server says: it is about this node and
// its password, not about the message.
func (s *SMTP) connectError(ctx context.Context, err error, to string) *Error {
	e := &Error{Temporary: true, Stage: "connect", Cause: scrub(ctx, err, to)}
	if reply, ok := errors.AsType[*textproto.Error](err); ok {
		e.Code = reply.Code
	}
	return e
}

// sendError sorts failures: the server's 5xx are permanent (RFC 5321 §4.2.1),
// everything else may pass.
func (s *SMTP) sendError(ctx context.Context, err error, to string) *Error {
	e := &Error{Temporary: true, Stage: "send", Cause: scrub(ctx, err, to)}
	var sent *gomail.SendError
	if errors.As(err, &sent) {
		e.Code, e.Enhanced = sent.ErrorCode(), sent.EnhancedStatusCode()
		e.Temporary = e.Code < 500
		if e.Code == 0 && (sent.Reason == gomail.ErrGetSender || sent.Reason == gomail.ErrGetRcpts || sent.Reason == gomail.ErrNoUnencoded) {
			e.Temporary = false
		}
	}
	return e
}

// codes are what a server might quote from a message.
var codes = regexp.MustCompile(`\b\d{6,8}\b`)

// scrub takes the recipient and codes out of a cause, and keeps whether a context ended.
func scrub(ctx context.Context, err error, to string) error {
	local := to[:strings.LastIndexByte(to, '@')]
	text := err.Error()
	for _, part := range []string{to, local} { // servers quote either
		text = regexp.MustCompile(`(?i)(^|[^\pL\pN])`+regexp.QuoteMeta(part)+`($|[^\pL\pN])`).ReplaceAllString(text, "${1}recipient${2}")
	}
	text = codes.ReplaceAllString(text, "[code]")
	if len(text) > maxServerWords {
		text = strings.ToValidUTF8(text[:maxServerWords], "") + "…"
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", text, ctx.Err())
	}
	return errors.New(text)
}
