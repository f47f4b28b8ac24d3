package gateway

import (
	"fmt"
	"testing"
)

// BenchmarkRouterSize finds a route among 10 to 10,000: the time of one request
// must not depend on their number. "few" asks for ten of them, "all" for every
// one in turn, which measures the processor's caches as well.
func BenchmarkRouterSize(b *testing.B) {
	for _, asked := range []string{"few", "all"} {
		for _, routes := range []int{10, 100, 1000, 10_000} {
			benchmarkRouter(b, asked, routes)
		}
	}
}

func benchmarkRouter(b *testing.B, asked string, routes int) {
	b.Run(fmt.Sprintf("%s/routes=%d", asked, routes), func(b *testing.B) {
		var rt router
		paths := make([]string, 0, routes)
		for i := range routes {
			match := fmt.Sprintf("GET /v1/things-%d/{id}/status", i)
			p, err := parsePattern(match)
			if err != nil {
				b.Fatal(err)
			}
			if err := rt.add(&Route{Match: match, Method: p.method, pattern: p}); err != nil {
				b.Fatal(err)
			}
			paths = append(paths, fmt.Sprintf("/v1/things-%d/%d/status", i, i))
		}
		if asked == "few" {
			for i := range 10 {
				paths[i] = paths[i*routes/10]
			}
			paths = paths[:10]
		}
		var params [maxParams]string
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			if rt.find("GET", paths[i], &params) == nil {
				b.Fatal("not found")
			}
			if i += 7; i >= len(paths) {
				i %= 7
			}
		}
	})
}
