package gateway

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"landline/internal/clock"
	"landline/internal/config"
	"landline/internal/gateway/idem"
	"landline/internal/module"
	"landline/internal/sqldb"
)

// BenchmarkPOST compares a proxied write without and with an Idempotency-Key,
// 128 clients at once, on SQLite with synchronous=FULL.
func BenchmarkPOST(b *testing.B) {
	db, err := sqldb.Open(b.Context(), sqldb.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	}()
	if err := db.Migrate(b.Context(), idem.Migrations); err != nil {
		b.Fatal(err)
	}
	url := serve(b, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, `{"id":1}`) //nolint:errcheck // the client is the benchmark
	})
	h := openWith(b, func(o *Options) { o.DB = db }, func(s *Settings) {
		s.Upstreams["up"] = upstreamAt(url)
		s.Features["trips"] = &FeatureConfig{Auth: module.AuthNone, Idempotency: &IdempotencyConfig{}, Timeout: config.Duration(10 * time.Second),
			Routes: []RouteConfig{{Match: "POST /v1/trips", Upstream: "up"}}}
	})
	h.client.Transport.(*http.Transport).MaxIdleConnsPerHost = 256
	var next atomic.Int64
	for _, keyed := range []bool{false, true} {
		b.Run(fmt.Sprint("keyed=", keyed), func(b *testing.B) {
			b.SetParallelism(64)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					req := h.request(http.MethodPost, "/v1/trips", strings.NewReader(`{"from":"WAW","to":"LHR"}`), "Content-Type", "application/json", "Landline-Client", fullClient)
					if keyed {
						req.Header.Set("Idempotency-Key", fmt.Sprint("key-", next.Add(1)))
					}
					res, err := h.client.Do(req)
					if err != nil {
						b.Error(err)
						return
					}
					if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != 201 {
						b.Error(res.StatusCode, err)
					}
					res.Body.Close()
				}
			})
		})
	}
}

// BenchmarkStages is what the stages before the target cost, without a network.
func BenchmarkStages(b *testing.B) {
	h := openWith(b, func(o *Options) { o.Clock = clock.System }, nil)
	rt := &Route{Feature: "f", Match: "GET /v1/x", Method: "GET", APIVersion: "v1", Auth: module.AuthNone, Upstream: "up", Policy: &FeatureConfig{
		RateLimit: []RateLimitConfig{{Key: "address", Limit: 1_000_000, Window: config.Duration(time.Second)}}}}
	limit, err := limitStage(&h.options, h.limits, rt)
	if err != nil {
		b.Fatal(err)
	}
	handler := chain([]Stage{traceStage(&h.options, h.metrics, rt), clientStage(&h.options, h.metrics, rt), limit, authenticateStage(&h.options, rt), authoriseStage(&h.options, rt)},
		func(_ *Exchange, w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(204); return nil })
	r := httptest.NewRequest(http.MethodGet, "/v1/x", http.NoBody)
	r.Header.Set("Landline-Client", fullClient)
	r.Header.Set("Traceparent", traceparent)
	b.ReportAllocs()
	for b.Loop() {
		x := &Exchange{Route: rt, Start: time.Now(), ClientIP: "127.0.0.1"}
		if err := handler(x, &discardWriter{header: http.Header{}}, r); err != nil {
			b.Fatal(err)
		}
	}
}

type discardWriter struct{ header http.Header }

func (w *discardWriter) Header() http.Header         { return w.header }
func (w *discardWriter) WriteHeader(int)             {}
func (w *discardWriter) Write(b []byte) (int, error) { return len(b), nil }
