package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"landline/internal/config"
	"landline/internal/module"
)

func TestReloadUnderLoadFailsNoRequest(t *testing.T) {
	var ups [2]string
	for i := range ups {
		ups[i] = serve(t, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			fmt.Fprintf(w, "%d %s %s", i, r.URL.Path, body)
		})
	}
	settings := func(i int) *Settings {
		s := DefaultSettings()
		s.Upstreams["up"] = upstreamAt(ups[i%2])
		s.Upstreams["up"].IdleConnections = 10 + i%3 // at times another pool
		b := breakerConfig()
		s.Features["a"] = &FeatureConfig{Auth: module.AuthNone, Breaker: &b, Routes: []RouteConfig{{Match: "POST /v1/a/{id}", Upstream: "up", Path: fmt.Sprintf("/gen-%d/{id}", i)}}}
		return s
	}
	h := open(t, func(s *Settings) { *s = *settings(0) })
	var stop atomic.Bool
	var done atomic.Int64
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for n := 0; !stop.Load(); n++ {
				body := fmt.Sprintf("%d-%d", worker, n)
				res, err := h.client.Post(h.url+"/v1/a/"+body, "text/plain", strings.NewReader(body))
				if err != nil {
					t.Errorf("%v", err)
					return
				}
				b, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || res.StatusCode != 200 || !strings.HasSuffix(string(b), "/"+body+" "+body) {
					t.Errorf("%d %q %v", res.StatusCode, b, err)
					return
				}
				var node, gen int
				if _, err := fmt.Sscanf(string(b), "%d /gen-%d/", &node, &gen); err != nil || node != gen%2 {
					t.Errorf("a mix of two tables: %q", b)
				}
				done.Add(1)
			}
		})
	}
	for i := range 60 {
		if err := h.Apply(settings(i+1), nil); err != nil {
			t.Error(err)
		}
		seen := done.Load()
		until(t, "requests go on", func() bool { return done.Load() >= seen+5 || t.Failed() })
	}
	stop.Store(true)
	wg.Wait()
	t.Logf("%d requests over 60 reloads", done.Load())
}

func TestReloadKeepsBreakersStreamsAndConnections(t *testing.T) {
	f := newFlaky(t)
	socket := echoSocket(t, "")
	settings := func(extra string) *Settings {
		s := DefaultSettings()
		s.Upstreams["up"], s.Upstreams["socket"] = upstreamAt(f.url), upstreamAt(socket)
		b := breakerConfig(func(c *BreakerConfig) { c.Open = config.Duration(time.Hour) })
		s.Features["kept"] = &FeatureConfig{Auth: module.AuthNone, Breaker: &b, Routes: []RouteConfig{{Match: "/kept", Upstream: "up"}, {Match: "/v1/" + extra, Upstream: "up"}}}
		s.Features["socket"] = &FeatureConfig{Auth: module.AuthNone, Routes: []RouteConfig{{Match: "/socket", Upstream: "socket"}}}
		return s
	}
	h := open(t, func(s *Settings) { *s = *settings("a") })
	c, r := h.socket("")
	f.fail.Store(true)
	for range 4 {
		h.get("/kept")
	}
	f.fail.Store(false)
	pool := h.table.Load().upstreams["up"].pool
	if err := h.Apply(settings("b"), nil); err != nil {
		t.Fatal(err)
	}
	if h.table.Load().upstreams["up"].pool != pool || pool.retired.Load() {
		t.Error("the connections of an unchanged upstream are thrown away")
	}
	if res, _ := h.get("/kept"); res.StatusCode != 503 {
		t.Errorf("the breaker forgot: %d", res.StatusCode)
	}
	if res, _ := h.get("/v1/a"); res.StatusCode != 404 {
		t.Errorf("the removed route answers: %d", res.StatusCode)
	}
	next := settings("b")
	next.Features["kept"].Breaker.MinRequests = 99
	delete(next.Upstreams, "socket")
	delete(next.Features, "socket")
	next.Upstreams["up"].IdleTimeout = config.Duration(5 * time.Second)
	if err := h.Apply(next, nil); err != nil {
		t.Fatal(err)
	}
	if res, _ := h.get("/kept"); res.StatusCode != 200 {
		t.Errorf("a breaker with another configuration is another breaker: %d", res.StatusCode)
	}
	if !pool.retired.Load() {
		t.Error("connections of a changed upstream are kept")
	}
	io.WriteString(c, "\x81\x02hi") // the socket lives on the first table
	expect(t, r, "\x81\x02hi")
}

func TestOldTableServesItsRequestsToTheEnd(t *testing.T) {
	arrived, goOn := make(chan struct{}), make(chan struct{})
	up := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "first ")
		w.(http.Flusher).Flush()
		close(arrived)
		<-goOn
		io.WriteString(w, "second")
	})
	h := proxy(t, up)
	res, err := h.client.Get(h.url + "/x")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	<-arrived
	if n := h.FeatureStatus()[0].InFlight; n != 1 {
		t.Errorf("%d in flight", n)
	}
	s := DefaultSettings()
	if err := h.Apply(s, nil); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	b, err := io.ReadAll(bufio.NewReader(res.Body))
	if err != nil || string(b) != "first second" {
		t.Errorf("%q %v", b, err)
	}
	if res, _ := h.get("/x"); res.StatusCode != 404 {
		t.Errorf("%d", res.StatusCode)
	}
}
