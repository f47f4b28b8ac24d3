package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/observe"
)

const (
	// lastKnownFor is how long after name servers last gave the addresses of a
	// name they are used while no server answers.
	lastKnownFor = time.Hour
	// namesAgain is how long a name that could not be looked up is not looked up
	// again for a connection: each attempt may take all of connect_timeout.
	namesAgain = 5 * time.Second
)

// lastKnown are the addresses of a name as a name server gave them last.
type lastKnown struct {
	addresses []string // sorted
	complete  bool     // of a lookup: all addresses, not one that was connected to
	at        time.Time
	failed    time.Time // when no server answered; the zero time since one has
}

// dial connects to host:port. When no name server answers it connects to the
// addresses that the name had before: the service may well be there. That a name
// does not exist is an answer, and counts.
func (p *pool) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || net.ParseIP(host) != nil || strings.IndexByte(host, '%') >= 0 {
		return p.dialer.DialContext(ctx, network, address)
	}
	if known, failing := p.known(host, time.Now()); failing {
		if c, err := p.dialKnown(ctx, network, port, known); err == nil {
			return c, nil
		}
	}
	c, err := p.dialer.DialContext(ctx, network, address)
	if err == nil {
		p.connected(host, c.RemoteAddr())
		return c, nil
	}
	var dns *net.DNSError
	if !errors.As(err, &dns) || dns.IsNotFound || ctx.Err() != nil {
		return nil, err
	}
	known := p.unanswered(host, dns, time.Now())
	if len(known) == 0 {
		return nil, err
	}
	if c, again := p.dialKnown(ctx, network, port, known); again == nil {
		return c, nil
	}
	return nil, err
}

// known returns the last addresses of host, and whether it could not be looked
// up just now.
func (p *pool) known(host string, now time.Time) (addresses []string, failing bool) {
	p.names.Lock()
	defer p.names.Unlock()
	k := p.addresses[host]
	if k == nil || k.failed.IsZero() || now.Sub(k.failed) >= namesAgain || now.Sub(k.at) >= lastKnownFor {
		return nil, false
	}
	return k.addresses, true
}

// unanswered notes that no server told host's addresses and returns the last
// ones, nil when there are none or they are too old.
func (p *pool) unanswered(host string, cause error, now time.Time) []string {
	p.names.Lock()
	defer p.names.Unlock()
	k := p.addresses[host]
	if k == nil || now.Sub(k.at) >= lastKnownFor {
		return nil
	}
	if k.failed.IsZero() {
		p.stale.begins(host, k.addresses, cause)
	}
	k.failed = now
	return k.addresses
}

// dialKnown tries addresses one after the other; together they have connect_timeout.
func (p *pool) dialKnown(ctx context.Context, network, port string, addresses []string) (c net.Conn, err error) {
	d := *p.dialer
	d.Timeout /= time.Duration(len(addresses))
	for _, a := range addresses {
		if c, err = d.DialContext(ctx, network, net.JoinHostPort(a, port)); err == nil {
			p.stale.dialed()
			return c, nil
		}
	}
	return nil, err
}

// connected notes that a name server has told host's addresses, of which one is
// remote. All of them come with the lookups beside the requests, if there are any.
func (p *pool) connected(host string, remote net.Addr) {
	tcp, ok := remote.(*net.TCPAddr)
	if !ok {
		return
	}
	p.names.Lock()
	defer p.names.Unlock()
	k := p.addresses[host]
	if k == nil || !k.complete {
		k = &lastKnown{addresses: []string{tcp.AddrPort().Addr().Unmap().String()}}
		p.addresses[host] = k
	}
	k.at, k.failed = time.Now(), time.Time{}
}

// lookedUp notes host's addresses and reports whether they have changed.
func (p *pool) lookedUp(host string, found []string) (changed bool) {
	slices.Sort(found)
	p.names.Lock()
	defer p.names.Unlock()
	k := p.addresses[host]
	p.addresses[host] = &lastKnown{addresses: found, complete: true, at: time.Now()}
	return k != nil && k.complete && !slices.Equal(k.addresses, found)
}

// staleDials tells of connections to addresses that could not be looked up.
type staleDials struct {
	log   *slog.Logger
	name  string
	count *prometheus.CounterVec
}

func newStaleDials(o *Options, upstream string) *staleDials {
	return &staleDials{log: o.Log, name: upstream, count: observe.Counter(o.Registry, "landline_gateway_upstream_last_known_dials_total",
		"Connections to the last known address of an upstream, because no name server answered.", "upstream")}
}

func (s *staleDials) begins(host string, addresses []string, cause error) {
	s.log.Warn("no name server answers: new connections go to the last known addresses", "upstream", s.name, "host", host,
		"addresses", addresses, "for_at_most", lastKnownFor, "error", cause)
}

func (s *staleDials) dialed() { s.count.WithLabelValues(s.name).Inc() }
