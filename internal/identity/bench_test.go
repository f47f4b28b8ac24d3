package identity

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/audit"
	"landline/internal/bus"
	"landline/internal/clock"
	"landline/internal/limit"
	"landline/internal/module"
	"landline/internal/secret"
	"landline/internal/sqldb"
)

// benchService is a node on SQLite with durable commits.
func benchService(b *testing.B, auditInstallations bool) (*Service, *authenticator) {
	b.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	dir := b.TempDir()
	db, err := sqldb.Open(b.Context(), sqldb.Options{Dir: dir, Log: log})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	if err := db.Migrate(b.Context(), secret.Migrations, audit.Migrations, Migrations); err != nil {
		b.Fatal(err)
	}
	ring, err := secret.Open(b.Context(), db, secret.Options{Dir: dir, Log: log})
	if err != nil {
		b.Fatal(err)
	}
	cfg := defaultConfig()
	cfg.AuditInstallations = auditInstallations
	news := bus.NewMemory()
	b.Cleanup(func() { news.Close() })
	records := audit.New(db, clock.System)
	s, auth, err := newService(module.Deps{People: &module.People{}, App: testApp, DB: db, Bus: news, Keys: ring, Audit: records, Clock: clock.System, Log: log,
		Metrics: prometheus.NewRegistry(), Limits: limit.NewShared(limit.New(clock.System), nil, 0, log, nil)}, cfg, NewSQLStore(db, records))
	if err != nil {
		b.Fatal(err)
	}
	return s, auth
}

const parallelism = 128 // callers per processor: phones do not wait for one another

func BenchmarkRegister(b *testing.B) {
	for _, audited := range []bool{true, false} {
		b.Run(fmt.Sprintf("audit=%t", audited), func(b *testing.B) {
			s, _ := benchService(b, audited)
			var n atomic.Int64
			b.SetParallelism(parallelism)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := s.Register(context.Background(), Registration{IdempotencyKey: fmt.Sprintf("benchmark-key-%016d", n.Add(1))}); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "installations/s")
		})
	}
}

func BenchmarkRefresh(b *testing.B) {
	s, _ := benchService(b, false)
	b.SetParallelism(parallelism)
	b.ReportAllocs()
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		got, err := s.Register(context.Background(), Registration{IdempotencyKey: fmt.Sprintf("benchmark-key-%016d", n.Add(1))})
		if err != nil {
			b.Error(err)
			return
		}
		token := got.Tokens.Refresh
		for pb.Next() {
			out, err := s.Refresh(context.Background(), token, "", "")
			if err != nil || out.Refused {
				b.Error(out.Rule, err)
				return
			}
			token = out.Tokens.Refresh
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "refreshes/s")
}

func BenchmarkAuthenticate(b *testing.B) {
	s, auth := benchService(b, false)
	got, err := s.Register(context.Background(), Registration{IdempotencyKey: "benchmark-key-0123456789"})
	if err != nil {
		b.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer "+got.Tokens.Access)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := auth.Authenticate(r); err != nil {
			b.Fatal(err)
		}
	}
}
