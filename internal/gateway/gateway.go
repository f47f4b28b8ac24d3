package gateway

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/bus"
	"landline/internal/clock"
	"landline/internal/gateway/apikey"
	"landline/internal/gateway/idem"
	"landline/internal/gateway/maintenance"
	"landline/internal/gateway/overload"
	"landline/internal/gateway/quota"
	"landline/internal/gateway/spool"
	"landline/internal/kv"
	"landline/internal/limit"
	"landline/internal/module"
	"landline/internal/observe"
	"landline/internal/sqldb"
)

// Options is what the gateway needs from the house. Only Auth may be nil; then
// every Authorization header is refused and only routes for auth none work.
type Options struct {
	App            module.App
	Development    bool // problems show their cause
	DB             *sqldb.DB
	Bus            bus.Bus
	KV             kv.Store
	Clock          clock.Clock
	Log            *slog.Logger
	Registry       *prometheus.Registry
	Tracer         *observe.Tracer
	Auth           module.Authenticator
	Health         *observe.Health
	Spool          *spool.Disk        // for long bodies of keyed writes; nil = the system's directory for temporary files
	Limits         *limit.Shared      // nil = made here, of this node alone
	APIKeys        *apikey.Keys       // nil = there are none
	Quotas         *quota.Meter       // nil = features may have none
	Maintenance    *maintenance.Board // what operators have switched; nil = nothing
	Resolver       *net.Resolver      // of the names of targets; nil = the system's
	Shared         bool               // other nodes may run, and KV and Bus reach them
	TrustedProxies []netip.Prefix     // whose Forwarded and X-Forwarded-* headers are believed
	ClientIPLog    *ClientIPLog       // what the access log keeps of addresses; nil = their networks
}

// DefaultSpool is how much of the disk the files of request bodies may take.
const DefaultSpool = 1 << 30

// Gateway serves the public listener. Make it with New, give it its first
// table with Apply, then serve; Apply may be called again at any time.
type Gateway struct {
	options Options
	metrics *metrics
	limits  *limit.Shared
	idem    *idem.Store
	streams *streams
	leaving atomic.Bool // see Leave
	cache   *caching

	upstreamMetrics *upstreamMetrics
	overloadMetrics *overloadMetrics
	guard           *overload.Guard
	callMetrics     *callMetrics
	contracts       *contractWatch

	table   atomic.Pointer[table]
	applyMu sync.Mutex // one Apply at a time
}

// New returns a Gateway that answers every request with 503 until Apply.
func New(o Options) (*Gateway, error) {
	switch {
	case o.Clock == nil:
		return nil, errors.New("gateway: Options.Clock is missing")
	case o.Log == nil:
		return nil, errors.New("gateway: Options.Log is missing")
	case o.Registry == nil:
		return nil, errors.New("gateway: Options.Registry is missing")
	case o.Health == nil:
		return nil, errors.New("gateway: Options.Health is missing")
	case o.Tracer == nil:
		return nil, errors.New("gateway: Options.Tracer is missing")
	}
	if o.Spool == nil {
		o.Spool = spool.NewDisk("", DefaultSpool)
	}
	observe.GaugeFunc(o.Registry, "landline_gateway_spool_bytes", "Request bodies that are held in files.", func() float64 { return float64(o.Spool.Used()) })
	if o.Limits == nil {
		o.Limits = limit.NewShared(limit.New(o.Clock), nil, 0, o.Log, o.Registry)
	}
	g := &Gateway{
		options: o,
		metrics: newMetrics(o.Registry),
		limits:  o.Limits,
		streams: newStreams(),
	}
	g.cache = newCaching(&g.options)
	g.contracts = newContractWatch(o.Registry, o.Clock, o.Log)
	g.upstreamMetrics = newUpstreamMetrics(o.Registry, g.streams)
	g.guard = overload.NewGuard(defaultOverload().guard())
	g.overloadMetrics = newOverloadMetrics(o.Registry, g)
	g.callMetrics = newCallMetrics(o.Registry)
	if o.DB != nil {
		g.idem = idem.New(o.DB, o.Clock, o.Log)
	}
	return g, nil
}

// OpenAPI returns one document of all module features, or nil before Apply.
// It belongs to the table: do not change it.
func (g *Gateway) OpenAPI() *huma.OpenAPI {
	t := g.table.Load()
	if t == nil {
		return nil
	}
	return t.openAPI
}

var _ http.Handler = (*Gateway)(nil)
