package observe

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func ask(t *testing.T, h http.Handler) (int, map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	body := map[string]any{}
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("%v in %q", err, w.Body)
	}
	return w.Code, body
}

func TestHealthLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHealth()
		var down atomic.Bool
		failing := func(context.Context) error {
			if down.Load() {
				return errors.New("dial postgres://landline:hunter2secret@10.0.0.7: refused")
			}
			return nil
		}
		h.Register("database", true, failing)
		h.Register("cache", false, func(context.Context) error { return nil })

		step := func(name string, wantCode int, wantCheck string) {
			t.Helper()
			code, body := ask(t, h.Ready())
			checks, _ := body["checks"].(map[string]any)
			if code != wantCode || checks["database"] != wantCheck {
				t.Errorf("%s: %d %v; want %d, database %s", name, code, body, wantCode, wantCheck)
			}
			if code, body := ask(t, h.Live()); code != 200 || body["status"] != "alive" {
				t.Errorf("%s: not alive: %d %v", name, code, body)
			}
		}
		step("starting", 503, "ok")
		h.SetReady(true)
		step("started", 200, "ok")
		down.Store(true)
		step("cached", 200, "ok")
		time.Sleep(checkCache)
		step("database down", 503, "failing")
		if r := h.Report(t.Context()); r.Status != "failing" || strings.Contains(r.Checks[1].Error, "hunter2secret") || !strings.Contains(r.Checks[1].Error, "refused") {
			t.Errorf("report: %+v; want the cause without the password", r)
		}
		down.Store(false)
		time.Sleep(checkCache)
		step("database back", 200, "ok")
		h.Drain()
		step("draining", 503, "ok")
		h.SetReady(true)
		step("still draining", 503, "ok")
	})
}

func TestHealthShowsThePublicNoCause(t *testing.T) {
	h := NewHealth()
	h.SetReady(true)
	h.Register("database", true, func(context.Context) error { return errors.New("secret-host refused") })
	w := httptest.NewRecorder()
	h.Ready().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if w.Code != 503 || w.Header().Get("Content-Type") != "application/problem+json" || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "secret-host") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

func TestHealthDegraded(t *testing.T) {
	h := NewHealth()
	h.SetReady(true)
	h.Register("redis", false, func(context.Context) error { return errors.New("down") })
	code, body := ask(t, h.Ready())
	if code != 200 || body["status"] != "degraded" {
		t.Errorf("%d %v; a check that is not critical must not take the node out", code, body)
	}
}

func TestHealthCheckThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHealth()
		h.SetReady(true)
		var runs atomic.Int64
		release := make(chan struct{})
		h.Register("stuck", true, func(context.Context) error { // does not even listen to its context
			runs.Add(1)
			<-release
			return nil
		})
		for range 5 {
			start := time.Now()
			r := h.Report(t.Context())
			if r.Ready || !strings.Contains(r.Checks[0].Error, "no answer") {
				t.Errorf("%+v; want failing for want of an answer", r)
			}
			if took := time.Since(start); took > checkTimeout {
				t.Errorf("the report took %v", took)
			}
			time.Sleep(checkCache)
		}
		if n := runs.Load(); n != 1 {
			t.Errorf("%d runs beside one another, want 1", n)
		}
		close(release)
		synctest.Wait()
		if r := h.Report(t.Context()); !r.Ready {
			t.Errorf("%+v; want ready after the check came back", r)
		}
	})
}

func TestHealthCheckTimesOutAndPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHealth()
		h.SetReady(true)
		h.Register("slow", false, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		h.Register("panics", false, func(context.Context) error { panic("boom") })
		r := h.Report(t.Context())
		if r.Status != "degraded" || r.Checks[0].OK || !strings.Contains(r.Checks[0].Error, "boom") || r.Checks[1].OK {
			t.Errorf("%+v", r)
		}
		synctest.Wait()
	})
}

func TestHealthChecksRunTogetherAndOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHealth()
		h.SetReady(true)
		var runs atomic.Int64
		for _, name := range []string{"a", "b", "c"} {
			h.Register(name, true, func(context.Context) error {
				runs.Add(1)
				time.Sleep(checkTimeout / 2)
				return nil
			})
		}
		start := time.Now()
		done := make(chan HealthReport)
		for range 10 {
			go func() { done <- h.Report(t.Context()) }()
		}
		for range 10 {
			if r := <-done; !r.Ready {
				t.Errorf("%+v", r)
			}
		}
		if runs.Load() != 3 || time.Since(start) != checkTimeout/2 {
			t.Errorf("%d runs in %v, want 3 in %v", runs.Load(), time.Since(start), checkTimeout/2)
		}
	})
}
