package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync/atomic"
	"time"
)

// upstream is a service of the team, as one table sees it.
type upstream struct {
	name    string
	config  *UpstreamConfig
	targets []*target
	total   int // sum of the weights
	pool    *pool
}

// target is one place where an upstream runs.
type target struct {
	name     string
	weight   int
	scheme   string
	host     string
	basePath string        // escaped, without a trailing slash
	inFlight *atomic.Int64 // carried over from table to table
}

func (t *target) url() string { return t.scheme + "://" + t.host + t.basePath }

// pool holds the connections of one upstream. It outlives the tables that use
// it and is shared by those whose configuration of it is the same.
type pool struct {
	config  UpstreamConfig // without targets
	main    http.RoundTripper
	upgrade http.RoundTripper // HTTP/1.1 alone: a WebSocket takes over its connection
	closers []interface{ CloseIdleConnections() }

	users   atomic.Int64
	retired atomic.Bool
}

// newUpstream compiles c, taking over the connections of old where it can.
func newUpstream(name string, c *UpstreamConfig, old *upstream) (*upstream, error) {
	u := &upstream{name: name, config: c}
	for i, tc := range c.Targets {
		parsed, err := parseTargetURL(tc.URL)
		if err != nil {
			return nil, fmt.Errorf("upstream %s: target %d: %w", name, i+1, err)
		}
		t := &target{
			name: targetName(c.Targets, i), weight: tc.Weight,
			scheme: parsed.Scheme, host: parsed.Host, basePath: strings.TrimRight(parsed.EscapedPath(), "/"),
			inFlight: new(atomic.Int64),
		}
		u.targets = append(u.targets, t)
		u.total += t.weight
	}
	if u.total == 0 {
		return nil, fmt.Errorf("upstream %s: no target has a weight above 0", name)
	}
	shared := *c
	shared.Targets = nil
	if old != nil && reflect.DeepEqual(old.pool.config, shared) {
		u.pool = old.pool
		return u, nil
	}
	var err error
	if u.pool, err = newPool(shared); err != nil {
		return nil, fmt.Errorf("upstream %s: %w", name, err)
	}
	return u, nil
}

// targetName is the configured name, or what stands in for it.
func targetName(targets []TargetConfig, i int) string {
	switch {
	case targets[i].Name != "":
		return targets[i].Name
	case len(targets) == 1:
		return "stable"
	}
	return fmt.Sprintf("target-%d", i+1)
}

func parseTargetURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("the URL is malformed; write for example http://10.0.0.5:9000")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("the URL must begin with http:// or https://")
	case u.Host == "" || u.Opaque != "":
		return nil, errors.New("the URL has no host")
	case u.User != nil:
		return nil, errors.New("the URL must not hold credentials")
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return nil, errors.New("the URL must not have a query or a fragment")
	}
	if port := u.Port(); port == "" && strings.HasSuffix(u.Host, ":") {
		return nil, errors.New("the URL has a colon without a port")
	}
	if _, err := checkPath(u.EscapedPath()); err != nil {
		return nil, err
	}
	return u, nil
}

// pick chooses a target at random by weight.
func (u *upstream) pick() int {
	if len(u.targets) == 1 {
		return 0
	}
	n := rand.IntN(u.total) //nolint:gosec // spreading load is no secret
	for i, t := range u.targets {
		if n -= t.weight; n < 0 {
			return i
		}
	}
	return 0
}

func newPool(c UpstreamConfig) (*pool, error) {
	var roots *x509.CertPool
	if c.TLS.CA != "" {
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM([]byte(c.TLS.CA)) {
			return nil, errors.New("tls.ca holds no PEM certificate; write ${file:ca.pem}")
		}
	}
	dialer := &net.Dialer{Timeout: c.ConnectTimeout.D(), KeepAlive: 30 * time.Second}
	transport := func(protocols http.Protocols) *http.Transport {
		return &http.Transport{
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: roots, ServerName: c.TLS.ServerName, MinVersion: tls.VersionTLS12},
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
	var protocols, http1 http.Protocols
	http1.SetHTTP1(true)
	switch c.Protocol {
	case "http1":
		protocols.SetHTTP1(true)
	case "http2":
		protocols.SetHTTP2(true)
	case "h2c":
		protocols.SetUnencryptedHTTP2(true)
	default:
		protocols.SetHTTP1(true)
		protocols.SetHTTP2(true)
	}
	mainTransport, upgrade := transport(protocols), transport(http1)
	return &pool{
		config: c, main: mainTransport, upgrade: upgrade,
		closers: []interface{ CloseIdleConnections() }{mainTransport, upgrade},
	}, nil
}

func (p *pool) acquire() { p.users.Add(1) }

func (p *pool) release() {
	if p.users.Add(-1) == 0 && p.retired.Load() {
		p.closeIdle()
	}
}

// retire closes the pool's connections as they become idle: no new table uses it.
func (p *pool) retire() {
	p.retired.Store(true)
	p.closeIdle()
}

func (p *pool) closeIdle() {
	for _, c := range p.closers {
		c.CloseIdleConnections()
	}
}
