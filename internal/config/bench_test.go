package config_test

import (
	"fmt"
	"strings"
	"testing"

	"landline/internal/config"
)

type benchFeature struct {
	Owner   string          `yaml:"owner"`
	Auth    string          `yaml:"auth" enum:"none,anonymous,account"`
	Timeout config.Duration `yaml:"timeout" min:"1ms"`
	Routes  []struct {
		Match    string `yaml:"match" required:"true"`
		Upstream string `yaml:"upstream"`
		Path     string `yaml:"path"`
	} `yaml:"routes"`
	Breaker *struct {
		FailureRatio float64         `yaml:"failure_ratio"`
		MinRequests  int             `yaml:"min_requests"`
		Window       config.Duration `yaml:"window"`
		Open         config.Duration `yaml:"open"`
	} `yaml:"breaker"`
	Fallback *struct {
		Status int        `yaml:"status"`
		Body   config.Raw `yaml:"body"`
	} `yaml:"fallback"`
}

// BenchmarkLoad2000Routes loads 1,000 features with two routes each.
func BenchmarkLoad2000Routes(b *testing.B) {
	var file strings.Builder
	file.WriteString("features:\n")
	for i := range 1000 {
		fmt.Fprintf(&file, `  feature-%d:
    owner: team-%d   # who is woken
    auth: anonymous
    timeout: 800ms
    routes:
      - {match: "GET /v1/things-%[1]d/{id}/status", upstream: flights, path: "/internal/status/{id}"}
      - {match: "GET /v2/things-%[1]d/{id}", upstream: flights, path: "/internal/things/{id}"}
    breaker: {failure_ratio: 0.5, min_requests: 20, window: 10s, open: 15s}
    fallback: {status: 200, body: {status: unknown, items: [1, 2.50]}}
`, i, i%7)
	}
	data := []byte(file.String())
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		features := map[string]benchFeature{}
		if err := config.LoadBytes("landline.yaml", data, []config.Section{{Key: "features", Ptr: &features}}, config.Env{}); err != nil {
			b.Fatal(err)
		}
		if len(features) != 1000 {
			b.Fatalf("%d features", len(features))
		}
	}
}
