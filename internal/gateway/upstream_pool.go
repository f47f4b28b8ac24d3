package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"landline/internal/gateway/http1"
)

// pool holds the connections of one upstream. It outlives the tables that use
// it and is shared by those whose configuration of it is the same.
//
// Connections do not live for ever: they belong to a generation, and a
// generation is replaced when it is max_connection_age old, or when the names
// of the targets resolve to other addresses. Requests under way end on the
// generation that they began with; its idle connections are closed at once and
// the others as they become idle.
type pool struct {
	config   UpstreamConfig // what connections depend on; see poolConfig
	tls      *tls.Config
	dialer   *net.Dialer
	resolver *net.Resolver
	stale    *staleDials

	current atomic.Pointer[generation]
	probes  *http.Transport // for health checks: a new connection each time
	renewal sync.Mutex

	resolveAt atomic.Int64 // when to look names up again, Unix nanoseconds
	names     sync.Mutex
	addresses map[string]*lastKnown // by host
	lookups   sync.WaitGroup
	lookup    context.Context //nolint:containedctx // lives as long as the pool
	endLookup context.CancelFunc

	retired atomic.Bool
}

// generation is a set of connections of about the same age.
type generation struct {
	main    *http.Transport
	plain   *http1.Transport // for targets without TLS
	upgrade *http.Transport  // HTTP/1.1 alone: a WebSocket takes over its connection
	until   time.Time        // the zero time = for ever

	users   atomic.Int64
	retired atomic.Bool
}

// poolConfig is the part of an upstream's configuration that its connections depend on.
func poolConfig(c *UpstreamConfig) UpstreamConfig {
	p := *c
	p.Targets, p.Health, p.Outlier, p.Concurrency = nil, nil, nil, nil
	p.Balance, p.SlowStart, p.RetryBudget = "", 0, BudgetConfig{}
	p.PassAuthorization, p.PreserveHost = false, false
	return p
}

func newPool(c UpstreamConfig, r *net.Resolver, stale *staleDials) (*pool, error) {
	conf := &tls.Config{ServerName: c.TLS.ServerName, MinVersion: tls.VersionTLS12}
	if c.TLS.CA != "" {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM([]byte(c.TLS.CA)) {
			return nil, errors.New("tls.ca holds no PEM certificate; write ${file:ca.pem}")
		}
	}
	if c.TLS.Certificate != "" || c.TLS.Key != "" {
		pair, err := clientCertificate(c.TLS)
		if err != nil {
			return nil, err
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	p := &pool{config: c, tls: conf, resolver: r, stale: stale, addresses: map[string]*lastKnown{}}
	p.dialer = &net.Dialer{Timeout: c.ConnectTimeout.D(), KeepAlive: 30 * time.Second, Resolver: r}
	p.lookup, p.endLookup = context.WithCancel(context.Background())
	p.probes = p.transport(p.protocols())
	p.probes.DisableKeepAlives, p.probes.MaxConnsPerHost = true, 0
	p.current.Store(p.newGeneration())
	return p, nil
}

// clientCertificate reads the pair that is shown to a service.
func clientCertificate(c TLSConfig) (tls.Certificate, error) {
	switch {
	case c.Certificate == "":
		return tls.Certificate{}, errors.New("tls.key is there without tls.certificate")
	case c.Key == "":
		return tls.Certificate{}, errors.New("tls.certificate is there without tls.key")
	}
	pair, err := tls.X509KeyPair([]byte(c.Certificate), []byte(c.Key.Reveal()))
	if err != nil {
		// The error's text is that of the tls package, which does not quote keys.
		return tls.Certificate{}, fmt.Errorf("tls.certificate and tls.key do not make a pair: %w", err)
	}
	return pair, nil
}

func (p *pool) protocols() (all http.Protocols) {
	switch p.config.Protocol {
	case "http1":
		all.SetHTTP1(true)
	case "http2":
		all.SetHTTP2(true)
	case "h2c":
		all.SetUnencryptedHTTP2(true)
	default:
		all.SetHTTP1(true)
		all.SetHTTP2(true)
	}
	return all
}

func (p *pool) transport(protocols http.Protocols) *http.Transport {
	c := &p.config
	return &http.Transport{
		DialContext:            p.dial,
		TLSClientConfig:        p.tls.Clone(),
		TLSHandshakeTimeout:    c.ConnectTimeout.D(),
		MaxIdleConnsPerHost:    max(c.IdleConnections, 1),
		DisableKeepAlives:      c.IdleConnections == 0,
		MaxConnsPerHost:        c.MaxConnections,
		IdleConnTimeout:        c.IdleTimeout.D(),
		ExpectContinueTimeout:  time.Second,
		DisableCompression:     true, // the client's Accept-Encoding and the upstream's answer are passed as they are
		MaxResponseHeaderBytes: int64(c.ResponseHeader),
		Protocols:              &protocols,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
	}
}

// plain is the short way to targets without TLS.
func (p *pool) plain() *http1.Transport {
	c := &p.config
	return http1.New(http1.Config{
		Dial:            p.dial,
		IdleConnections: c.IdleConnections,
		MaxConnections:  c.MaxConnections,
		IdleTimeout:     c.IdleTimeout.D(),
		Header:          int(c.ResponseHeader),
		Continue:        time.Second,
	})
}

// plainAddress is where the short way connects to for a target, "" if net/http
// is to reach it: over TLS, by HTTP/2, under a name that is not ASCII, or at an address with a zone.
func (c *UpstreamConfig) plainAddress(target *url.URL) string {
	http1Only := c.Protocol != "http2" && c.Protocol != "h2c"
	if !http1.Supported || target.Scheme != "http" || !http1Only || c.Transport == TransportStandard ||
		strings.IndexFunc(target.Host, func(r rune) bool { return r > unicode.MaxASCII || r == '%' }) >= 0 {
		return ""
	}
	port := target.Port()
	if port == "" {
		port = "80"
	}
	return net.JoinHostPort(target.Hostname(), port)
}

// newGeneration makes transports that connect when they are first used. Its
// age varies by a tenth, so that upstreams and nodes do not renew together.
func (p *pool) newGeneration() *generation {
	var onlyHTTP1 http.Protocols
	onlyHTTP1.SetHTTP1(true)
	g := &generation{main: p.transport(p.protocols()), plain: p.plain(), upgrade: p.transport(onlyHTTP1)}
	if age := p.config.MaxConnectionAge.D(); age > 0 {
		g.until = time.Now().Add(age - age/10 + rand.N(age/10+1)) // #nosec -- spreading load is no secret
	}
	return g
}

// acquire returns the connections to use. hosts are the names of the targets
// that are to be looked up again when that is due.
func (p *pool) acquire(hosts []string) *generation {
	g := p.current.Load()
	if !g.until.IsZero() || len(hosts) > 0 {
		now := time.Now()
		if !g.until.IsZero() && now.After(g.until) {
			g = p.renew(g)
		}
		p.resolve(hosts, now)
	}
	g.users.Add(1)
	return g
}

func (g *generation) release() {
	if g.users.Add(-1) == 0 && g.retired.Load() {
		g.closeIdle()
	}
}

// renew replaces old, if it is still the current generation.
func (p *pool) renew(old *generation) *generation {
	p.renewal.Lock()
	defer p.renewal.Unlock()
	if now := p.current.Load(); now != old || p.retired.Load() {
		return now
	}
	g := p.newGeneration()
	p.current.Store(g)
	old.retire()
	return g
}

func (g *generation) retire() {
	g.retired.Store(true)
	g.closeIdle()
}

func (g *generation) closeIdle() {
	g.main.CloseIdleConnections()
	g.plain.CloseIdleConnections()
	g.upgrade.CloseIdleConnections()
}

// lookupWithin bounds one lookup of a name.
const lookupWithin = 5 * time.Second

// resolve looks hosts up in the background if that is due, and renews the
// connections when an answer differs from the last. A failed lookup changes
// nothing: connections that work are worth more than a name server's word.
func (p *pool) resolve(hosts []string, now time.Time) {
	every := p.config.Resolve.D()
	if every <= 0 || len(hosts) == 0 {
		return
	}
	due := p.resolveAt.Load()
	if now.UnixNano() < due || p.retired.Load() || !p.resolveAt.CompareAndSwap(due, now.Add(every).UnixNano()) {
		return
	}
	p.names.Lock()
	defer p.names.Unlock()
	if p.retired.Load() {
		return
	}
	p.lookups.Go(func() { p.lookUp(hosts) })
}

func (p *pool) lookUp(hosts []string) {
	ctx, cancel := context.WithTimeout(p.lookup, lookupWithin)
	defer cancel()
	resolver := p.resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	changed := false
	for _, host := range hosts {
		found, err := resolver.LookupHost(ctx, host)
		if err != nil || len(found) == 0 {
			continue
		}
		changed = p.lookedUp(host, found) || changed
	}
	if changed {
		p.renew(p.current.Load())
	}
}

// retire closes the pool's connections as they become idle: no new table uses it.
func (p *pool) retire() {
	p.renewal.Lock()
	p.retired.Store(true)
	p.current.Load().retire()
	p.renewal.Unlock()
	p.names.Lock() // no lookup begins after this
	p.endLookup()
	p.names.Unlock()
	p.lookups.Wait()
	p.probes.CloseIdleConnections()
}

// hostNames lists the hosts of targets that have to be resolved.
func hostNames(targets []*target) []string {
	var list []string
	for _, t := range targets {
		host := t.host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		host = strings.Trim(host, "[]")
		if _, err := netip.ParseAddr(host); err != nil && !slices.Contains(list, host) {
			list = append(list, host)
		}
	}
	return list
}
