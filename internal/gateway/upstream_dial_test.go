package gateway

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"landline/internal/config"
	"landline/internal/module"
)

// Response codes of RFC 1035 §4.1.1.
const (
	serverFailure = 2
	noSuchName    = 3
)

// named is a gateway whose upstream has a name.
func named(t *testing.T, transport string, resolve time.Duration) (h *house, names *nameServer, p *pool) {
	names = &nameServer{}
	names.set(127, 0, 0, 1)
	resolver := names.resolver(t)
	_, port, err := net.SplitHostPort(serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "fine") })[len("http://"):])
	if err != nil {
		t.Fatal(err)
	}
	h = openWith(t, func(o *Options) { o.Resolver = resolver }, func(s *Settings) {
		up := upstreamAt("http://flights.example.test:" + port)
		up.Resolve, up.Transport = config.Duration(resolve), transport
		s.Upstreams["up"] = up
		s.Features["all"] = &FeatureConfig{Auth: module.AuthNone, Routes: []RouteConfig{{Match: "/{rest...}", Upstream: "up"}}}
	})
	return h, names, h.table.Load().upstreams["up"].pool
}

// age changes when the pool's name was last looked up, and last could not be.
func (p *pool) age(known, failed time.Duration) {
	p.names.Lock()
	defer p.names.Unlock()
	k := p.addresses["flights.example.test"]
	k.at = time.Now().Add(-known)
	if failed > 0 {
		k.failed = time.Now().Add(-failed)
	}
}

func TestTheLastKnownAddressesAreUsedWithoutANameServer(t *testing.T) {
	for name, resolve := range map[string]time.Duration{"looked up beside": time.Hour, "known from a connection": 0} {
		for _, transport := range []string{"auto", TransportStandard} {
			t.Run(name+", "+transport, func(t *testing.T) {
				h, names, p := named(t, transport, resolve)
				anew := func() (int, string) {
					p.renew(p.current.Load())
					res, body := h.get("/x")
					return res.StatusCode, body
				}
				if status, body := anew(); status != 200 {
					t.Fatalf("%d %s", status, body)
				}
				p.lookups.Wait()
				names.fault.Store(serverFailure)
				if status, body := anew(); status != 200 {
					t.Fatalf("the last known address was not used: %d %s", status, body)
				}
				if n := value(t, p.stale.count.WithLabelValues("up")); n != 1 {
					t.Errorf("%v connections were counted", n)
				}
				asked := names.asked.Load()
				if status, body := anew(); status != 200 || names.asked.Load() != asked {
					t.Errorf("%d %s, and the name server was asked %d times", status, body, names.asked.Load()-asked)
				}
				p.age(0, 2*namesAgain)
				if status, body := anew(); status != 200 || names.asked.Load() == asked {
					t.Errorf("%d %s, and the name server was asked %d times", status, body, names.asked.Load()-asked)
				}
				p.age(2*lastKnownFor, 0)
				if status, body := anew(); status != 502 || code(t, body) != "upstream_unreachable" {
					t.Errorf("an address was used that is too old: %d %s", status, body)
				}
				names.fault.Store(0)
				if status, body := anew(); status != 200 {
					t.Errorf("the name server is back: %d %s", status, body)
				}
				if _, failing := p.known("flights.example.test", time.Now()); failing {
					t.Error("the name counts as one that cannot be looked up")
				}
			})
		}
	}
}

// A name that does not exist any more is no failure of the name server's.
func TestANameThatIsGoneIsNotDialed(t *testing.T) {
	h, names, p := named(t, "auto", time.Hour)
	if res, body := h.get("/x"); res.StatusCode != 200 {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	names.fault.Store(noSuchName)
	p.renew(p.current.Load())
	if res, body := h.get("/x"); res.StatusCode != 502 || code(t, body) != "upstream_unreachable" {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}
