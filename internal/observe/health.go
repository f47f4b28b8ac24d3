package observe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"landline/internal/problem"
)

const (
	checkTimeout = time.Second
	checkCache   = time.Second
)

// Health knows whether this node lives and whether it may take traffic. It is
// safe for concurrent use.
type Health struct {
	mu       sync.Mutex
	ready    bool
	draining bool
	checks   []*healthCheck
}

type healthCheck struct {
	name     string
	critical bool
	fn       func(context.Context) error

	mu      sync.Mutex
	running chan struct{} // closed when the run under way ends; nil if none
	started time.Time     // of the last run
	ended   time.Time     // of the last result; zero before the first
	err     error
}

// HealthReport is the state of a node.
type HealthReport struct {
	Status string        `json:"status"` // starting, ready, degraded, failing or draining
	Ready  bool          `json:"ready"`
	Checks []HealthCheck `json:"checks"`
}

// HealthCheck is the last result of one named check.
type HealthCheck struct {
	Name      string    `json:"name"`
	Critical  bool      `json:"critical"` // its failure makes the node not ready
	OK        bool      `json:"ok"`
	Error     string    `json:"error,omitempty"`
	CheckedAt time.Time `json:"checked_at"`
}

// NewHealth returns the Health of a node that is starting.
func NewHealth() *Health { return &Health{} }

// Register adds a named check. It is run when somebody asks, at most once a
// second, with a context that ends after a second; a run that goes on longer
// counts as failed and is not started a second time beside itself.
func (h *Health) Register(name string, critical bool, check func(ctx context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(h.checks, &healthCheck{name: name, critical: critical, fn: check})
	slices.SortStableFunc(h.checks, func(a, b *healthCheck) int { return strings.Compare(a.name, b.name) })
}

// SetReady says whether the node has started.
func (h *Health) SetReady(ready bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ready = ready
}

// Drain makes the node not ready for good: it is about to stop.
func (h *Health) Drain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.draining = true
}

// Report runs the checks that are due, at once, and returns the node's state.
// Error texts are for operators, not for the public listener.
func (h *Health) Report(ctx context.Context) HealthReport {
	h.mu.Lock()
	ready, draining, checks := h.ready, h.draining, slices.Clone(h.checks)
	h.mu.Unlock()

	results := make([]HealthCheck, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() { results[i] = c.result(ctx) })
	}
	wg.Wait()

	r := HealthReport{Status: "ready", Checks: results}
	for _, c := range results {
		switch {
		case !c.OK && c.Critical:
			r.Status = "failing"
		case !c.OK && r.Status == "ready":
			r.Status = "degraded"
		}
	}
	switch {
	case draining:
		r.Status = "draining"
	case !ready:
		r.Status = "starting"
	}
	r.Ready = r.Status == "ready" || r.Status == "degraded"
	return r
}

// result returns the cached result, or waits for a run for as long as one may take.
func (c *healthCheck) result(ctx context.Context) HealthCheck {
	c.mu.Lock()
	if c.running == nil && (c.ended.IsZero() || time.Since(c.ended) >= checkCache) {
		c.running, c.started = make(chan struct{}), time.Now()
		go c.run(context.WithoutCancel(ctx), c.running)
	}
	running, started := c.running, c.started
	c.mu.Unlock()

	late := false
	if running != nil {
		timeout := time.NewTimer(time.Until(started.Add(checkTimeout)))
		defer timeout.Stop()
		select {
		case <-running:
		case <-timeout.C:
			late = true
		case <-ctx.Done():
			late = true
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.err
	at := c.ended
	if late && c.running == running {
		err, at = fmt.Errorf("no answer after %v", time.Since(started).Round(time.Millisecond)), time.Now()
	}
	r := HealthCheck{Name: c.name, Critical: c.critical, OK: err == nil, CheckedAt: at.UTC()}
	if err != nil {
		r.Error = Redact(err.Error())
	}
	return r
}

func (c *healthCheck) run(ctx context.Context, done chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err := errors.New("the check panicked")
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the check panicked: %v", p)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.err, c.ended, c.running = err, time.Now(), nil
		close(done)
	}()
	err = c.fn(ctx)
}

// Live answers /healthz: 200 as long as the process serves at all. It asks no
// check, so that a database's failure does not make an orchestrator kill nodes.
func (h *Health) Live() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeHealth(w, map[string]string{"status": "alive"})
	})
}

// Ready answers /readyz: 200 while the node takes traffic, otherwise a 503
// problem. Both name the checks and say which fail, but not why.
func (h *Health) Ready() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		report := h.Report(r.Context())
		checks := make(map[string]string, len(report.Checks))
		for _, c := range report.Checks {
			checks[c.Name] = "ok"
			if !c.OK {
				checks[c.Name] = "failing"
			}
		}
		if report.Ready {
			writeHealth(w, map[string]any{"status": report.Status, "checks": checks})
			return
		}
		code, detail := problem.Draining, "the node is shutting down"
		switch report.Status {
		case "starting":
			code, detail = problem.Overloaded, "the node is starting"
		case "failing":
			code, detail = problem.StorageUnavailable, "a part that the node cannot do without does not answer"
		}
		problem.Write(w, r, problem.New(code, detail).With("node_status", report.Status).With("checks", checks))
	})
}

func writeHealth(w http.ResponseWriter, body any) {
	b, err := json.Marshal(body)
	if err != nil { // strings only: cannot happen, and must not look healthy
		http.Error(w, "health cannot be encoded", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if _, err := w.Write(append(b, '\n')); err != nil {
		return // the caller is gone, and with it whoever could be told
	}
}
