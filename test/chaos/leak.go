package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const leakConfig = `profile: development
app: {id: com.example.chaos, public_url: "https://api.example.test"}
log: {level: error}
identity: {audit_installations: false, refresh: {limit: 100000}, limits: {bootstrap: 1000000, identity: 1000000}, verified_tokens: 1000}
upstreams:
  ledger: {targets: [{url: "%[1]s"}]}
features:
  read:
    auth: anonymous
    rate_limit: [{key: installation, limit: 1000000, window: 1s, burst: 1000000}]
    breaker: {}
    routes: [{match: "GET /v1/read/{n}", upstream: ledger, path: "/read/{n}"}]
  cached:
    auth: none
    cache: {ttl: 1s}
    routes: [{match: "GET /v1/cached/{n}", upstream: ledger, path: "/read/{n}"}]
  careful:
    auth: anonymous
    routes: [{match: "POST /v1/careful/{key}", upstream: ledger, path: "/execute/{key}"}]
    idempotency: {required: true}
cache: {memory: 4MiB}
`

// Caches are small here, so that the first tenth of the requests fills them: what
// grows after that has no bound.

// leak sends many requests of all kinds and compares what the process holds
// afterwards with what it held after the first tenth.
func leak(ctx context.Context, h *house, r *report) error {
	l, err := newLedger(0)
	if err != nil {
		return err
	}
	defer l.close()
	n, err := h.shipped("leak.yaml", fmt.Sprintf(leakConfig, l.URL))
	if err != nil {
		return err
	}
	total := h.requests
	if total == 0 {
		total = pick(h, 1_000_000, 50_000)
	}
	f := newFleet(func() string { return n.Public }, l, r)
	s := &stream{f: f}
	var phones []*phone
	for i := range 16 {
		p := &phone{f: f, rng: h.rng(fmt.Sprint("leak", i))}
		in := &installation{key: fmt.Sprintf("leak-%d-%016d", i, h.seed)}
		if !p.install(ctx, in) || in.id == "" {
			return errors.New("an installation was not answered")
		}
		p.installs = append(p.installs, in)
		phones = append(phones, p)
	}
	if err := s.send(ctx, phones, total/10); err != nil {
		return err
	}
	f.client.CloseIdleConnections()
	before, err := settled(ctx, n, size{}, 0)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := s.send(ctx, phones, total); err != nil {
		return err
	}
	rate := float64(total) / time.Since(began).Seconds()
	f.client.CloseIdleConnections()
	after, err := settled(ctx, n, before, slack)
	if err != nil {
		return err
	}
	for range 20 { // an average of what is in use: buffers come and go
		if after.heap <= before.heap*1.1 {
			break
		}
		if after, err = measure(ctx, n); err != nil {
			return err
		}
		time.Sleep(500 * time.Millisecond) // between two measurements
	}
	r.info("requests; a second", "%d; %.0f", total, rate)
	r.zero("answers other than expected", int(s.wrong.Load()))
	growth := after.heap/before.heap - 1
	r.add("growth of the heap", fmt.Sprintf("%+.1f %% of %.1f MiB", 100*growth, before.heap/(1<<20)), "< 10 %", growth < 0.1)
	leaks(r, before, after)
	return stop(n)
}

// stream is a mix of requests.
type stream struct {
	f     *fleet
	sent  atomic.Int64
	wrong atomic.Int64
}

// send sends n requests, each phone its share.
func (s *stream) send(ctx context.Context, phones []*phone, n int) error {
	var all sync.WaitGroup
	for _, p := range phones {
		all.Go(func() {
			for range n / len(phones) {
				if ctx.Err() != nil {
					return
				}
				s.one(ctx, p)
			}
		})
	}
	all.Wait()
	return ctx.Err()
}

// one sends a request: of twenty, twelve reads, three cached ones, two keyed
// writes, one refresh, and two that are refused.
func (s *stream) one(ctx context.Context, p *phone) {
	i, serial := p.installs[0], s.sent.Add(1)
	want, a := 200, answer{}
	switch n := p.rng.IntN(20); {
	case n < 12:
		a = s.f.call(ctx, http.MethodGet, "/v1/read/7", "", "", "", i.access)
		if a.status == http.StatusUnauthorized { // after a quarter of an hour
			p.renew(ctx, i)
			return
		}
	case n < 15:
		a = s.f.call(ctx, http.MethodGet, fmt.Sprint("/v1/cached/", p.rng.IntN(500)), "", "", "", "")
	case n < 17:
		key := fmt.Sprint("leak-", serial)
		a, want = s.f.call(ctx, http.MethodPost, "/v1/careful/"+key, "{}", jsonType, key, i.access), 201
	case n < 18:
		if !p.renew(ctx, i) {
			s.wrong.Add(1)
		}
		return
	case n < 19:
		a, want = s.f.call(ctx, http.MethodGet, fmt.Sprint("/nowhere/", serial), "", "", "", ""), 404
	default:
		a, want = s.f.call(ctx, http.MethodGet, "/v1/read/7", "", "", "", fmt.Sprint("forged-", serial)), 401
	}
	if a.status != want {
		s.wrong.Add(1)
		s.f.report.broken("leak: %d instead of %d: %.200s", a.status, want, a.body)
	}
}
