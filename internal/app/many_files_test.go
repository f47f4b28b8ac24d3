package app

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"landline/internal/config"
)

// writeMany writes a configuration of 1,000 features with two routes each, one
// feature a file, with an overlay for every tenth.
func writeMany(t testing.TB) (file string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write("landline.yaml", "include: [\"teams/*/*.yaml\"]\nupstreams: {flights: {targets: [{url: \"http://127.0.0.1:9000\"}]}}\n")
	write("landline.production.yaml", "log: {level: warn}\n")
	for i := range 1000 {
		write(fmt.Sprintf("teams/team-%d/feature-%d.yaml", i%20, i), fmt.Sprintf(`features:
  feature-%[1]d:
    owner: team-%[2]d
    auth: anonymous
    timeout: 800ms
    routes:
      - {match: "GET /v1/things-%[1]d/{id}/status", upstream: flights, path: "/internal/status/{id}"}
      - {match: "POST /v2/things-%[1]d/{id}", upstream: flights, path: "/internal/things/{id}"}
    breaker: {failure_ratio: 0.5, min_requests: 20, window: 10s, open: 15s}
    fallback: {status: 200, body: {status: unknown}}
    rate_limit: [{key: installation, limit: 100, window: 1m, burst: 20}]
    idempotency: {required: true, keep: 24h}
`, i, i%20))
		if i%10 == 0 {
			write(fmt.Sprintf("teams/team-%d/feature-%d.production.yaml", i%20, i), fmt.Sprintf("features: {feature-%d: {timeout: 2s}}\n", i))
		}
	}
	return filepath.Join(dir, "landline.yaml")
}

func TestManyFiles(t *testing.T) {
	l, err := read(Options{ConfigPath: writeMany(t), Environment: "production", Env: config.SystemEnv()})
	if err != nil {
		t.Fatal(err)
	}
	f := l.settings.Gateway.Features
	if len(f) != 1000 || len(l.source.Files) != 1102 || f["feature-10"].Timeout.String() != "2s" || f["feature-11"].Timeout.String() != "800ms" || l.settings.Log.Level != "warn" {
		t.Errorf("%d features of %d files", len(f), len(l.source.Files))
	}
}

// BenchmarkManyFiles reads and checks 2,000 routes over 1,102 files.
func BenchmarkManyFiles(b *testing.B) {
	file := writeMany(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := read(Options{ConfigPath: file, Environment: "production", Env: config.SystemEnv()}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkManyFilesReload is a reload of them, with one timeout changed: read,
// check, compare, build the new table of routes and swap it in.
func BenchmarkManyFilesReload(b *testing.B) {
	file := writeMany(b)
	a, err := New(b.Context(), Options{
		ConfigPath: file, Environment: "production", Env: config.SystemEnv(), Public: "127.0.0.1:0", Admin: "127.0.0.1:0",
		Data: b.TempDir(), Stdout: io.Discard, Stderr: io.Discard,
	})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := a.Close(b.Context()); err != nil {
			b.Error(err)
		}
	}()
	overlay := filepath.Join(filepath.Dir(file), "teams", "team-0", "feature-0.production.yaml")
	round := 0
	for b.Loop() {
		round++
		if err := os.WriteFile(overlay, fmt.Appendf(nil, "features: {feature-0: {timeout: %dms}}\n", 1000+round), 0o600); err != nil {
			b.Fatal(err)
		}
		report, err := a.Reload(b.Context())
		if err != nil || len(report.Changed) != 1 || report.Changed[0] != "features.feature-0.timeout" {
			b.Fatal(report, err)
		}
	}
}
