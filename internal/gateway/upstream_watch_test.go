package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"landline/internal/config"
	"landline/internal/gateway/health"
	"landline/internal/module"
)

func healthConfig() *HealthConfig {
	return &HealthConfig{Path: "/healthz", Interval: config.Duration(10 * time.Millisecond), Timeout: config.Duration(200 * time.Millisecond), Healthy: 2, Unhealthy: 2, Statuses: []string{"200-299"}}
}

func (h *house) target(i int) module.TargetStatus { return h.UpstreamStatus()[0].Targets[i] }

func TestProbesTakeATargetOutAndBringItBack(t *testing.T) {
	a, b := newReplica(t, fine), newReplica(t, fine)
	up := fleet(a.url, b.url+"/base")
	up.Health = healthConfig()
	h := balanced(t, up)
	until(t, "both are asked", func() bool { h.get("/x"); return a.asked.Load() > 0 && b.asked.Load() > 0 })
	a.set(status(503))
	until(t, "a is out", func() bool { return h.target(0).State == health.Unhealthy })
	if st := h.target(0); st.Healthy || st.Error != "status 503" || st.Since == nil || st.Share != 0 {
		t.Errorf("%+v", st)
	}
	asked := a.asked.Load()
	for range 30 {
		if res, _ := h.get("/x"); res.StatusCode != 200 {
			t.Fatal(res.StatusCode)
		}
	}
	if a.asked.Load() != asked {
		t.Error("a target that is out was asked")
	}
	a.set(fine)
	until(t, "a is back", func() bool { h.get("/x"); return a.asked.Load() > asked })

	// A reload with the same health block and targets does not disturb the monitor.
	monitor := h.table.Load().upstreams["up"].monitor
	if err := h.Apply(h.settings, nil); err != nil {
		t.Fatal(err)
	}
	if h.table.Load().upstreams["up"].monitor != monitor {
		t.Error("a reload that changes nothing restarted the probes")
	}
	changed := *h.settings
	up2 := *up
	up2.Health = nil
	changed.Upstreams = map[string]*UpstreamConfig{"up": &up2}
	if err := h.Apply(&changed, nil); err != nil {
		t.Fatal(err)
	}
	if h.table.Load().upstreams["up"].monitor != nil {
		t.Error("the probes go on")
	}
}

func TestWhenNoTargetIsWellAllAreAsked(t *testing.T) {
	p := newReplica(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			w.WriteHeader(404) // the service forgot its health path
			return
		}
		fine(w, r)
	})
	q := newReplica(t, *p.answer.Load())
	up := fleet(p.url, q.url)
	up.Health = healthConfig()
	h := balanced(t, up)
	until(t, "both are out", func() bool { return !h.target(0).Healthy && !h.target(1).Healthy })
	for range 20 {
		if res, body := h.get("/x"); res.StatusCode != 200 {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
	}
	if p.asked.Load() == 0 || q.asked.Load() == 0 {
		t.Errorf("%d %d", p.asked.Load(), q.asked.Load())
	}
}

// What a target says to a probe cannot hurt the gateway.
func TestHostileProbes(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"reset": reset, "never answers": stuck,
		"redirects": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"endless header": func(w http.ResponseWriter, _ *http.Request) {
			for i := range 2000 {
				w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("x", 100))
			}
			w.WriteHeader(200)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, q := newReplica(t, answer), newReplica(t, fine)
			up := fleet(p.url, q.url)
			up.Health = healthConfig()
			h := balanced(t, up)
			until(t, "it is out", func() bool { return h.target(0).State == health.Unhealthy })
			for range 10 {
				if res, _ := h.get("/x"); res.StatusCode != 200 {
					t.Fatal(res.StatusCode)
				}
			}
		})
	}
	t.Run("an endless body", func(t *testing.T) {
		p := newReplica(t, func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat("x", 1<<16)); err != nil {
					return
				}
			}
		})
		up := fleet(p.url, p.url+"/two")
		up.Health = healthConfig()
		h := balanced(t, up)
		until(t, "it was probed", func() bool { return h.target(0).Since != nil })
		if !h.target(0).Healthy {
			t.Error("its status was good")
		}
	})
}

func TestAFailingTargetIsEjectedForAllFeatures(t *testing.T) {
	bad, good := newReplica(t, status(500)), newReplica(t, fine)
	up := fleet(bad.url, good.url)
	up.Outlier = &OutlierConfig{Failures: 3, Ejection: config.Duration(300 * time.Millisecond), MaxEjection: config.Duration(time.Second), MaxEjected: 0.5}
	up.SlowStart = config.Duration(time.Hour)
	h := balanced(t, up)
	until(t, "it is ejected", func() bool { h.get("/x"); return h.target(0).State == health.Ejected })
	if st := h.target(0); st.Until == nil || st.Healthy || st.Error == "" || bad.asked.Load() != 3 {
		t.Errorf("%+v after %d", st, bad.asked.Load())
	}
	good.set(status(500)) // the last one stays
	for range 10 {
		if res, _ := h.get("/x"); res.StatusCode != 500 {
			t.Fatal(res.StatusCode)
		}
	}
	bad.set(fine)
	good.set(fine)
	until(t, "the ejection is over", func() bool { return h.target(0).State == health.Recovering })
	if share := h.target(0).Share; share < 0.1 || share > 0.11 {
		t.Errorf("slow start: %v", share)
	}
	before := good.asked.Load()
	for range 400 {
		h.get("/x")
	}
	if n := good.asked.Load() - before; n < 320 { // 10 : 1 is 364 ± 6 standard deviations
		t.Errorf("%d of 400 went to the other target", n)
	}
}

func TestAddedTargetsStartSlowly(t *testing.T) {
	a, b := newReplica(t, fine), newReplica(t, fine)
	up := fleet(a.url)
	up.SlowStart = config.Duration(time.Hour)
	h := balanced(t, up)
	if st := h.target(0); st.State != health.Healthy || st.Share != 1 {
		t.Errorf("at the start: %+v", st)
	}
	s := *h.settings
	more := *up
	more.Targets = append([]TargetConfig{{Name: "new", URL: b.url, Weight: 1}}, up.Targets...)
	s.Upstreams = map[string]*UpstreamConfig{"up": &more}
	if err := h.Check(&s, nil); err != nil {
		t.Fatal(err)
	}
	if err := h.Apply(&s, nil); err != nil {
		t.Fatal(err)
	}
	if old, fresh := h.target(1), h.target(0); old.Share != 1 || fresh.State != health.Recovering || fresh.Share > 0.11 {
		t.Errorf("%+v %+v", old, fresh)
	}
}

func TestOneInstallationStaysAtOneTarget(t *testing.T) {
	var list []*replica
	var urls []string
	for range 4 {
		p := newReplica(t, fine)
		list, urls = append(list, p), append(urls, p.url)
	}
	up := fleet(urls...)
	up.Balance = BalanceInstallation
	up.Outlier = &OutlierConfig{Failures: 1, Ejection: config.Duration(time.Hour), MaxEjection: config.Duration(time.Hour), MaxEjected: 0.5}
	h := balanced(t, up, func(f *FeatureConfig) { f.Auth = module.AuthAnonymous })
	ask := func() int {
		before := make([]int64, len(list))
		for i, p := range list {
			before[i] = p.asked.Load()
		}
		h.get("/x", "Authorization", "Bearer good")
		for i, p := range list {
			if p.asked.Load() != before[i] {
				return i
			}
		}
		return -1
	}
	home := ask()
	for range 20 {
		if got := ask(); got != home {
			t.Fatalf("went to %d, home is %d", got, home)
		}
	}
	list[home].set(status(500))
	ask() // and is ejected
	second := ask()
	for range 20 {
		if got := ask(); got != second || got == home {
			t.Fatalf("went to %d, should stay at %d", got, second)
		}
	}
	// A home that is much fuller than the others does not get more.
	u := h.table.Load().upstreams["up"]
	u.targets[second].inFlight.Add(100)
	if got := ask(); got == second || got == home {
		t.Errorf("went to %d, which has 100 in flight", got)
	}
	u.targets[second].inFlight.Add(-100)
	if got := ask(); got != second {
		t.Errorf("went to %d afterwards", got)
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	var now, most atomic.Int64
	p := newReplica(t, func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-time.After(5 * time.Millisecond)
		fine(w, r)
	})
	up := fleet(p.url)
	up.MaxConnections, up.Protocol = 2, "http1"
	h := balanced(t, up, func(f *FeatureConfig) { f.Timeout = config.Duration(5 * time.Second) })
	done := make(chan int, 30)
	for range 30 {
		go func() {
			res, err := h.client.Get(h.url + "/x")
			if err != nil {
				done <- 0
				return
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
			done <- res.StatusCode
		}()
	}
	for range 30 {
		if got := <-done; got != 200 {
			t.Error(got)
		}
	}
	if most.Load() > 2 {
		t.Errorf("%d requests at once over 2 connections", most.Load())
	}
}
