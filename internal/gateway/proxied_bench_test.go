package gateway

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"landline/internal/clock"
	"landline/internal/config"
	"landline/internal/module"
	"landline/internal/observe"
)

// plainService answers every request with 1 KiB of JSON and allocates nothing for it.
func plainService(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Fri, 27 Nov 2026 12:00:00 GMT\r\nContent-Length: 1024\r\n\r\n" +
		`{"data":"` + strings.Repeat("x", 1024-11) + `"}`)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 4<<10)
				for { // a request of this benchmark fits one read
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					if n >= 4 && string(buf[n-4:n]) == "\r\n\r\n" {
						if _, err := c.Write(answer); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	t.Cleanup(func() { l.Close() })
	return "http://" + l.Addr().String()
}

// asker is a client that allocates nothing.
func asker(t testing.TB, address, header string) func() {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	r, out := bufio.NewReaderSize(c, 8<<10), []byte("GET /v1/everything HTTP/1.1\r\nHost: app.example.test\r\n"+header+"\r\n")
	return func() {
		if _, err := c.Write(out); err != nil {
			t.Fatal(err)
		}
		for first := true; ; first = false {
			line, err := r.ReadSlice('\n')
			if err != nil || first && string(line[9:12]) != "200" {
				t.Fatalf("%q %v", line, err)
			}
			if len(line) == 2 {
				break
			}
		}
		if _, err := r.Discard(1024); err != nil {
			t.Fatal(err)
		}
	}
}

// everythingOn is a gateway in front of an upstream with all that a usual
// feature has: a token, a limit, a breaker, a timeout, metrics, traces, the log.
func everythingOn(t testing.TB, upstream string) *house {
	return openWith(t, func(o *Options) {
		o.Clock, o.Log = clock.System, observe.NewLogger(io.Discard, slog.LevelInfo, false)
	}, func(s *Settings) {
		s.Upstreams["up"] = upstreamAt(upstream)
		var b BreakerConfig
		b.Defaults()
		s.Features["all"] = &FeatureConfig{Auth: module.AuthAnonymous, Timeout: config.Duration(2 * time.Second), Breaker: &b,
			RateLimit: []RateLimitConfig{{Key: "installation", Limit: 1_000_000, Window: config.Duration(time.Second), Burst: 1_000_000}},
			Routes:    []RouteConfig{{Match: "GET /v1/everything", Upstream: "up", Path: "/"}}}
	})
}

const everythingHeader = "Authorization: Bearer good\r\nLandline-Client: app=\"com.example.test\", version=\"4.2.0\", build=1042, platform=ios\r\n"

// BenchmarkProxied is the way of a proxied GET with everything on, beside a
// bare httputil.ReverseProxy: allocations are theirs and those of net/http's
// server alone.
func BenchmarkProxied(b *testing.B) {
	service := plainService(b)
	target, err := url.Parse(service)
	if err != nil {
		b.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}
	bare := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: transport,
	})
	defer bare.Close()
	defer transport.CloseIdleConnections()
	for name, address := range map[string]string{"everything": everythingOn(b, service).addr, "bare": strings.TrimPrefix(bare.URL, "http://")} {
		ask := asker(b, address, everythingHeader)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ask()
			}
		})
	}
}
