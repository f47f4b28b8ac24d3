package gateway

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"

	"landline/internal/observe"
)

// syncBuffer is a log's output that several goroutines may use.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Split(strings.TrimSpace(s.b.String()), "\n")
}

func TestAccessLogIsTheSameOnBothWays(t *testing.T) {
	up := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/fails" {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	ask := func(slow bool) []map[string]any {
		out := &syncBuffer{}
		log := observe.NewLogger(out, slog.LevelInfo, false)
		if slow {
			log = log.With("slow", true) // a logger of its own goes through slog
		}
		h := openWith(t, func(o *Options) { o.Log = log }, func(s *Settings) {
			s.Upstreams["up"] = upstreamAt(up)
			s.Features["all"] = &FeatureConfig{Auth: "none", Owner: "team-a", Routes: []RouteConfig{{Match: "/{rest...}", Upstream: "up"}}}
		})
		h.do(h.request("GET", "/v1/fine?secret=1", nil, "Landline-Client", fullClient, "Authorization", "Bearer good", "Traceparent", traceparent))
		h.do(h.request("POST", "/v1/fine", strings.NewReader("body")))
		h.do(h.request("GET", "/fails", nil, "Authorization", "Bearer eyJhbGciOiJFUzI1NiJ9.eyJhIjoxfQ.abcdefghijklmnop"))
		h.do(h.request("GET", "/fails", nil))
		until(t, "four lines", func() bool { return len(out.lines()) == 4 })
		var list []map[string]any
		for _, line := range out.lines() {
			var m map[string]any
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			for _, key := range []string{"time", "duration_ms", "span_id"} {
				if m[key] == nil {
					t.Errorf("no %s in %s", key, line)
				}
				delete(m, key)
			}
			delete(m, "slow")
			delete(m, "upstream_ms")
			if id, ok := m["trace_id"].(string); !ok || len(id) != 32 {
				t.Errorf("trace_id %v", m["trace_id"])
			}
			if m["trace_id"] != traceparent[3:35] {
				delete(m, "trace_id")
			}
			list = append(list, m)
		}
		return list
	}
	fast, slow := ask(false), ask(true)
	for i := range fast {
		if !reflect.DeepEqual(fast[i], slow[i]) {
			t.Errorf("\n%v\n%v", fast[i], slow[i])
		}
	}
	if fast[0]["feature"] != "all" || fast[0]["owner"] != "team-a" || fast[0]["status"] != 200.0 || fast[1]["bytes_in"] != 4.0 || fast[3]["level"] != "WARN" {
		t.Errorf("%v", fast)
	}
}
