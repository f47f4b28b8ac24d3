package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"landline/test/process"
)

// overload offers five times what a service can do, and what attackers send
// besides. The service is the narrow part, so that the figures do not depend on
// how many processors clients and Landline share.

// narrow is a service with a fixed number of workers and an endless queue.
type narrow struct {
	URL     string
	server  *http.Server
	workers chan struct{}
	busy    atomic.Int64 // nanoseconds that workers have worked
}

const (
	narrowWorkers = 8
	narrowWork    = 40 * time.Millisecond
	narrowPeak    = narrowWorkers * float64(time.Second) / float64(narrowWork) // 200 a second
)

func newNarrow() (*narrow, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &narrow{URL: "http://" + l.Addr().String(), workers: make(chan struct{}, narrowWorkers)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /read/{n}", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") })
	mux.HandleFunc("/work", func(w http.ResponseWriter, _ *http.Request) {
		s.workers <- struct{}{} // it does not notice that a client has gone, like many
		began := time.Now()
		time.Sleep(narrowWork)
		s.busy.Add(int64(time.Since(began)))
		<-s.workers
		_, _ = io.WriteString(w, "done")
	})
	s.server = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { _ = s.server.Serve(l) }() // ends with Close
	return s, nil
}

const overloadConfig = `profile: development
app: {id: com.example.chaos, public_url: "https://api.example.test"}
log: {level: error}
limits: {header_timeout: 2s}
identity: {audit_installations: false, refresh: {limit: 100000}, limits: {bootstrap: 1000000, identity: 1000000}}
overload: {max_in_flight: 1000, memory: {limit: 200MiB}}
upstreams:
  narrow: {targets: [{url: "%[1]s"}], concurrency: {min: 16, initial: 32, max: 128}}
  calm: {targets: [{url: "%[1]s"}]}
features:
  installations:
    rate_limit: [{key: address, limit: 1000000, window: 1m, burst: 1000000}]
  work:
    auth: none
    timeout: 1s
    routes: [{match: "GET /v1/work", upstream: narrow, path: /work}]
  calm:
    auth: none
    timeout: 5s
    routes: [{match: "GET /v1/read/{n}", upstream: calm, path: "/read/{n}"}]
  packed:
    auth: none
    max_body: 64KiB
    decompress: true
    routes: [{match: "POST /v1/packed", upstream: calm, path: "/read/1"}]
  keyed:
    auth: anonymous
    routes: [{match: "POST /v1/keyed", upstream: calm, path: "/read/1"}]
    idempotency: {required: true, max_request: 64KiB}
`

func overload(ctx context.Context, h *house, r *report) error {
	s, err := newNarrow()
	if err != nil {
		return err
	}
	defer s.server.Close()
	n, err := h.shipped("overload.yaml", fmt.Sprintf(overloadConfig, s.URL), "GOMEMLIMIT=256MiB")
	if err != nil {
		return err
	}
	a := &assault{h: h, r: r, node: n, base: n.Public, service: s}
	defer a.watch(ctx)()
	if err := errors.Join(a.goodput(ctx), a.loris(ctx), a.idle(ctx), a.headers(ctx), a.bombs(ctx), a.floods(ctx)); err != nil {
		return fmt.Errorf("%w\n%s", err, tail(n.Logs.String()))
	}
	r.atMost("most memory of the process in MiB, with GOMEMLIMIT=256MiB", int(a.peak.Load()>>20), 320)
	return stop(n)
}

type assault struct {
	h    *house
	r    *report
	node *process.Node
	base string

	service *narrow

	peak atomic.Int64 // bytes of resident memory
}

// watch follows the memory of the process.
func (a *assault) watch(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			if v, err := scrape(ctx, a.node, "process_resident_memory_bytes"); err == nil && int64(v) > a.peak.Load() {
				a.peak.Store(int64(v))
			}
			<-tick.C
		}
	})
	return func() {
		cancel()
		done.Wait()
	}
}

// load counts what a stream of requests to /v1/work got.
type load struct{ good, shed, other atomic.Int64 }

func (a *assault) work(ctx context.Context, client *http.Client, l *load) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+"/v1/work", nil)
	if err != nil {
		return
	}
	res, err := client.Do(req)
	if err != nil {
		l.other.Add(1)
		return
	}
	_, err = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	switch {
	case err == nil && res.StatusCode == http.StatusOK:
		l.good.Add(1)
	case res.StatusCode == http.StatusServiceUnavailable:
		l.shed.Add(1)
	default:
		l.other.Add(1)
	}
}

// goodput calls with as many clients as keep the service busy, and then at five
// times the rate that the service can do, whatever the answers are.
func (a *assault) goodput(ctx context.Context) error {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1000, DisableCompression: true}}
	defer client.CloseIdleConnections()
	length := pick(a.h, 20*time.Second, 3*time.Second)
	closed, end := &load{}, time.Now().Add(length)
	var all sync.WaitGroup
	for range narrowWorkers + 4 {
		all.Go(func() {
			for time.Now().Before(end) && ctx.Err() == nil {
				a.work(ctx, client, closed)
			}
		})
	}
	all.Wait()

	signIns, stopSignIns, err := a.signIns(ctx)
	if err != nil {
		return err
	}
	open, slots := &load{}, make(chan struct{}, 4000) // bounds what the generator may have under way
	began, sent, missed, busy := time.Now(), 0, 0, a.service.busy.Load()
	for time.Since(began) < length && ctx.Err() == nil {
		for due := int(time.Since(began).Seconds() * 5 * narrowPeak); sent < due; sent++ {
			select {
			case slots <- struct{}{}:
				all.Go(func() {
					a.work(ctx, client, open)
					<-slots
				})
			default:
				missed++
			}
		}
		time.Sleep(2 * time.Millisecond) // between two batches
	}
	took := time.Since(began)
	good, worked := open.good.Load(), time.Duration(a.service.busy.Load()-busy)
	all.Wait()
	stopSignIns()
	r := a.r
	offered := float64(sent-missed) / took.Seconds()
	r.info(fmt.Sprintf("answers a second to %d clients, of %.0f that the service can do", narrowWorkers+4, narrowPeak), "%.0f", float64(closed.good.Load())/length.Seconds())
	a.judgeGoodput(offered/narrowPeak, float64(good)/took.Seconds()/narrowPeak)
	r.info("workers of the service busy meanwhile", "%.0f %%", 100*worked.Seconds()/took.Seconds()/narrowWorkers)
	r.info("shed / failed otherwise", "%d / %d", open.shed.Load(), open.other.Load())
	r.info("sign-ins and refreshes meanwhile", "%d, %d", signIns.ins.count(), signIns.refreshes.count())
	r.zero("sign-ins and refreshes that failed", int(signIns.failed.Load()))
	r.within("sign-in p99", signIns.ins.quantile(0.99), time.Second)
	r.within("refresh p99", signIns.refreshes.quantile(0.99), time.Second)
	return ctx.Err()
}

// judgeGoodput judges only what was really offered: a generator that gets no
// processor time shares that lack with the service, which is in the same process.
func (a *assault) judgeGoodput(offered, goodput float64) {
	if offered < 4 {
		a.r.info("goodput; not judged, the machine let the generator offer only so many times what the service can do", "%.0f %%; %.1f", 100*goodput, offered)
		return
	}
	a.r.info("offered, of what the service can do", "%.1f", offered)
	// In the short form other themes have just used the processors.
	a.r.ratio("goodput at five times that", goodput, pick(a.h, 0.8, 0.5))
}

// comers sign in (re-attach an installation) and refresh while others are shed.
type comers struct {
	ins, refreshes times
	failed         atomic.Int64
}

func (a *assault) signIns(ctx context.Context) (*comers, func(), error) {
	f := newFleet(func() string { return a.base }, nil, a.r)
	c := &comers{}
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	for n := range 2 { // each has an installation of its own: two holders of one session's tokens would look like thieves
		i := &installation{key: fmt.Sprintf("overload-%d-%016d", n, a.h.seed)}
		if p := (&phone{f: f}); !p.install(ctx, i) || i.id == "" {
			cancel()
			return nil, nil, errors.New("the installation was not answered")
		}
		done.Go(func() {
			own := *i
			for ctx.Err() == nil {
				began := time.Now()
				body := fmt.Sprintf(`{"installation_id":%q,"installation_secret":%q}`, i.id, i.secret)
				res := f.call(ctx, http.MethodPost, "/v1/installations", body, jsonType, "", "")
				var back registered
				if res.status/100 == 2 && json.Unmarshal(res.body, &back) == nil && back.Installation.ID == i.id {
					c.ins.add(time.Since(began))
					own.refresh = back.Session.Refresh
				} else if ctx.Err() == nil {
					c.failed.Add(1)
					a.r.broken("sign-in: %d %.200s", res.status, res.body)
				}
				began = time.Now()
				if p := (&phone{f: f}); p.renew(ctx, &own) {
					c.refreshes.add(time.Since(began))
				} else if ctx.Err() == nil {
					c.failed.Add(1)
				}
				time.Sleep(10 * time.Millisecond) // between two
			}
		})
	}
	return c, func() {
		cancel()
		done.Wait()
		f.client.CloseIdleConnections()
	}, nil
}
