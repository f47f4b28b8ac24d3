// Package egress makes the HTTP clients for calls that leave Landline: to
// identity providers, push services, webhooks, trace receivers.
//
// It guarantees: every call ends within Options.Timeout, reading the body
// included; an answer longer than Options.MaxResponse is an error, never cut
// short in silence; only http and https; at most 3 redirects; no address with
// a user or password in it. With Options.Untrusted, for addresses that users
// or third parties chose, it also guarantees that no connection is made to an
// address that is not public, nor to a port where no HTTP is expected (see
// Guard): the check is made on the address that is about to be connected to,
// after every name is resolved and for every redirect, so that a name that
// changes its address gains nothing.
//
// It does not guarantee that a public address is harmless: it may be this
// network's own, seen from outside, or lead back inside through a translator
// (NAT64) with a prefix of the operator's own. Nor does it retry.
package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/observe"
)

// Defaults and bounds.
const (
	DefaultTimeout     = 10 * time.Second
	DefaultMaxResponse = 10 << 20 // bytes
	maxHeader          = 64 << 10 // bytes of an answer's header
	maxRedirects       = 3
	dialTimeout        = 3 * time.Second
	tlsTimeout         = 5 * time.Second
)

var (
	// ErrBlocked says that the address may not be called. Errors that match it
	// are *BlockedError.
	ErrBlocked = errors.New("egress: this address may not be called")

	// ErrTooLarge says that an answer exceeds Options.MaxResponse.
	ErrTooLarge = errors.New("egress: the answer is too large")
)

// BlockedError is an ErrBlocked with its reason.
type BlockedError struct {
	Address string // host or host:port, never with a user, path or query
	Reason  string
}

func (e *BlockedError) Error() string {
	return fmt.Sprintf("%v: %s: %s", ErrBlocked, e.Address, e.Reason)
}

// Is makes errors.Is(err, ErrBlocked) true.
func (e *BlockedError) Is(target error) bool { return target == ErrBlocked }

// Options say what a client may do.
type Options struct {
	Name        string                // what the client is for, a label of its metrics: "webhook"; default "default"
	Timeout     time.Duration         // of a whole call with its redirects and the reading of the body; default 10 s
	Untrusted   bool                  // somebody else chose the addresses: public ones only, and no proxy
	Allow       []netip.Prefix        // addresses that Untrusted may reach though they are not public, on any port
	AllowedOnly bool                  // Untrusted may reach nothing but Allow
	Refuse      []netip.Addr          // addresses that Untrusted may never reach, whatever Allow says
	MaxResponse int64                 // bytes of a body, decompressed; default 10 MiB
	Log         *slog.Logger          // told of blocked calls; nil = nobody
	Metrics     prometheus.Registerer // nil = none

	resolver *net.Resolver // for tests
}

// New returns a client. It is safe for concurrent use and meant to be kept.
// Clients that are not Untrusted use the proxy of HTTP_PROXY, HTTPS_PROXY and
// NO_PROXY. A request that is made under a trace (observe.WithTrace) carries
// its traceparent, unless it has one.
func New(o Options) *http.Client {
	if o.Name == "" {
		o.Name = "default"
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.MaxResponse <= 0 {
		o.MaxResponse = DefaultMaxResponse
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	dialer := &net.Dialer{Timeout: min(dialTimeout, o.Timeout), KeepAlive: 30 * time.Second, Resolver: o.resolver}
	proxy := http.ProxyFromEnvironment
	if o.Untrusted {
		dialer.ControlContext = guard(o)
		proxy = nil // a proxy would connect for us, where no guard looks
	}
	base := &http.Transport{
		Proxy:                  proxy,
		DialContext:            dialer.DialContext,
		ForceAttemptHTTP2:      true,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    min(tlsTimeout, o.Timeout),
		ResponseHeaderTimeout:  o.Timeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxHeader,
		MaxIdleConns:           100,
		MaxIdleConnsPerHost:    10,
		IdleConnTimeout:        90 * time.Second,
	}
	return &http.Client{
		Timeout:       o.Timeout,
		Transport:     &transport{base: base, options: o, metrics: newMetrics(o.Metrics)},
		CheckRedirect: checkRedirect(o),
	}
}

func checkRedirect(o Options) func(*http.Request, []*http.Request) error {
	return func(next *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fmt.Errorf("egress: more than %d redirects", maxRedirects)
		}
		if o.Untrusted && via[len(via)-1].URL.Scheme == "https" && next.URL.Scheme != "https" {
			return &BlockedError{next.URL.Host, "a redirect leads from https to " + next.URL.Scheme}
		}
		return nil // RoundTrip judges the next address like the first
	}
}

// CheckURL refuses what a client made with o would refuse before a name is
// resolved, with a *BlockedError: it tells a fault of a configuration early.
func CheckURL(u *url.URL, o Options) error { return checkURL(u, o) }

func checkURL(u *url.URL, o Options) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return &BlockedError{u.Host, "the scheme is " + u.Scheme + ", not http or https"}
	case u.Hostname() == "":
		return &BlockedError{u.Host, "there is no host"}
	case u.User != nil:
		return &BlockedError{u.Host, "the URL has a user or password; send credentials in a header"}
	case !o.Untrusted:
		return nil
	}
	host := u.Hostname()
	addr, err := netip.ParseAddr(host)
	if err == nil {
		return checkAddr(addr, u.Host, o)
	}
	if looksNumeric(host) {
		return &BlockedError{u.Host, "the host is a number in an unusual form; write an IPv4 address as four decimal numbers"}
	}
	return nil
}

// transport puts the rules around a http.Transport.
type transport struct {
	base    *http.Transport
	options Options
	metrics metrics
}

// CloseIdleConnections makes http.Client.CloseIdleConnections work.
func (t *transport) CloseIdleConnections() { t.base.CloseIdleConnections() }

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	start := time.Now()
	resp, err := t.send(r)
	// The client's own timer may cancel a moment before the context's deadline ends it: both are a timeout.
	if deadline, ok := r.Context().Deadline(); err != nil && ok && !time.Now().Before(deadline) {
		err = fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
	}
	t.metrics.observe(t.options.Name, resp, err, time.Since(start))
	if errors.Is(err, ErrBlocked) {
		t.options.Log.WarnContext(r.Context(), "an outgoing call was blocked", "client", t.options.Name, "host", r.URL.Host, "error", err)
	}
	return resp, err
}

func (t *transport) send(r *http.Request) (*http.Response, error) {
	if err := checkURL(r.URL, t.options); err != nil {
		if r.Body != nil { // RoundTrip must close it on every way out
			err = errors.Join(err, r.Body.Close())
		}
		return nil, err
	}
	resp, err := t.base.RoundTrip(withTrace(r))
	if err != nil {
		return nil, err
	}
	limit := t.options.MaxResponse
	if resp.ContentLength > limit && r.Method != http.MethodHead {
		err := fmt.Errorf("%w: %s announces %d bytes, at most %d are allowed", ErrTooLarge, r.URL.Host, resp.ContentLength, limit)
		return nil, errors.Join(err, resp.Body.Close())
	}
	resp.Body = limitBody(resp.Body, limit, r.URL.Host)
	return resp, nil
}

// withTrace returns r, or a copy with a traceparent: a RoundTripper must not change its request.
func withTrace(r *http.Request) *http.Request {
	traceID, spanID, sampled := observe.TraceOf(r.Context())
	if traceID == "" || spanID == "" || r.Header.Get("traceparent") != "" {
		return r
	}
	r = r.Clone(r.Context())
	r.Header.Set("traceparent", observe.Traceparent(traceID, spanID, sampled))
	return r
}

// IsTimeout reports whether a call failed because its time was up.
func IsTimeout(err error) bool {
	var t net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}
