package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// fleet is a number of virtual phones that install, refresh and write all the
// time. Each keeps a journal of what it was told; verify compares the journals
// with what Landline says afterwards and with the ledger of the service.
//
// A phone behaves as the documentation asks: what was not answered is sent
// again with the same key or token until there is an answer that settles it.
type fleet struct {
	base   func() string // where the next request goes
	client *http.Client
	ledger *ledger
	report *report
	pause  time.Duration // between the operations of one phone

	stop    chan struct{} // closed: no new operations
	ended   sync.Once
	phones  sync.WaitGroup
	workers []*phone

	requests  atomic.Int64
	cut       atomic.Int64 // requests without an answer
	failed    atomic.Int64 // the same and answers of 500 and above
	refused   atomic.Int64 // transient refusals: 429, 502, 503, 504, 409 in flight
	failures  log          // the last of them
	logouts   atomic.Int64 // refresh tokens that were refused
	bad       atomic.Int64 // answers that no document allows
	refreshes atomic.Int64 // granted
	reads     atomic.Int64
	inFlight  sync.Map // base URL → *atomic.Int64
}

// phone is one goroutine with its installations; nothing of it is shared.
type phone struct {
	f        *fleet
	name     string
	rng      *rand.Rand
	installs []*installation
	writes   []*write
	held     bool // the last answer was 409 idempotency_in_flight
}

type installation struct {
	key              string // Idempotency-Key of its first launch
	id, secret, user string // "" until acknowledged
	access, refresh  string
}

// write is one keyed write, or an order, whose outcome the phone wants to know.
type write struct {
	path, key string
	by        *installation
	order     bool
	tries     int // requests whose outcome was not learnt
	acked     string
	unknown   bool // 409 idempotency_outcome_unknown
}

const (
	callPatience = 8 * time.Second
	maxInstalls  = 40 // of one phone
)

func newFleet(base func() string, l *ledger, r *report) *fleet {
	transport := &http.Transport{MaxIdleConnsPerHost: 128, DisableCompression: true}
	return &fleet{base: base, client: &http.Client{Transport: transport, Timeout: callPatience}, ledger: l, report: r,
		pause: 2 * time.Millisecond, stop: make(chan struct{})}
}

// start lets n phones live until rest is called or ctx ends.
func (f *fleet) start(ctx context.Context, n int, seed uint64) {
	for i := range n {
		p := &phone{f: f, name: fmt.Sprintf("%s-%d-%d", f.report.theme, seed, i), rng: rand.New(rand.NewPCG(seed, uint64(i)))}
		f.workers = append(f.workers, p)
		f.phones.Go(func() { p.live(ctx) })
	}
}

// rest lets every phone end its operation under way, answered or not.
func (f *fleet) rest() {
	f.ended.Do(func() { close(f.stop) })
	f.phones.Wait()
}

func (f *fleet) resting() bool {
	select {
	case <-f.stop:
		return true
	default:
		return false
	}
}

func (p *phone) live(ctx context.Context) {
	for ctx.Err() == nil && !p.f.resting() {
		p.step(ctx)
		p.wait(ctx, p.f.pause)
	}
}

func (p *phone) wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d/2 + rand.N(d))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// step is one operation, repeated until it is settled or the fleet rests.
func (p *phone) step(ctx context.Context) {
	n := p.rng.IntN(100)
	p.held = false
	if len(p.installs) == 0 || n < 8 && len(p.installs) < maxInstalls {
		i := &installation{key: fmt.Sprintf("%s-install-%d", p.name, len(p.installs))}
		p.installs = append(p.installs, i)
		p.repeat(ctx, func() bool { return p.install(ctx, i) })
		return
	}
	i := p.installs[p.rng.IntN(len(p.installs))]
	if i.id == "" {
		p.repeat(ctx, func() bool { return p.install(ctx, i) })
		return
	}
	switch {
	case n < 35:
		p.repeat(ctx, func() bool { return p.renew(ctx, i) })
	case n < 45:
		p.repeat(ctx, func() bool { return p.read(ctx, i) })
	default:
		kind := [...]string{"careful", "forwarding", "orders"}[n%3]
		w := &write{by: i, order: kind == "orders", key: fmt.Sprintf("%s-%s-%d", p.name, kind, len(p.writes))}
		w.path = "/v1/" + kind + "/" + w.key
		p.writes = append(p.writes, w)
		p.repeat(ctx, func() bool { return p.write(ctx, w) })
	}
}

// repeat tries until done, with pauses like an app's but shorter. A key that is
// taken by an attempt that died may stay so until its lease ends: the phone then
// does something else, and verify comes back to it.
func (p *phone) repeat(ctx context.Context, done func() bool) {
	began := time.Now()
	for wait := 10 * time.Millisecond; !done() && ctx.Err() == nil && !p.f.resting(); wait = min(2*wait, 200*time.Millisecond) {
		if p.held && time.Since(began) > time.Second {
			return
		}
		p.wait(ctx, wait)
	}
}

// answer is what came back; status 0 means nothing did.
type answer struct {
	status int
	body   []byte
	unsent bool // every connection was refused
}

func (a answer) code() string {
	var p struct{ Code string }
	if json.Unmarshal(a.body, &p) != nil {
		return ""
	}
	return p.Code
}

// transient reports whether a says to come again, which the documentation allows at any time.
func (a answer) transient() bool {
	switch a.status {
	case 0, 429, 502, 503, 504:
		return true
	}
	return a.code() == "idempotency_in_flight" || a.code() == "token_expired"
}

// call sends one request. A refused connection is no request: a balancer takes another node.
func (f *fleet) call(ctx context.Context, method, path, body, kind, key, token string) answer {
	for range 20 {
		base := f.base()
		req, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(body))
		if err != nil {
			f.report.broken("%v", err)
			return answer{}
		}
		req.GetBody = nil // net/http would repeat keyed requests by itself, unseen
		if body == "" {
			req.Body = http.NoBody
		} else {
			req.Header.Set("Content-Type", kind)
		}
		if key != "" {
			req.Header.Set("Idempotency-Key", key)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		gauge, _ := f.inFlight.LoadOrStore(base, new(atomic.Int64))
		gauge.(*atomic.Int64).Add(1)
		began := time.Now()
		a, err := f.send(req)
		gauge.(*atomic.Int64).Add(-1)
		if errors.Is(err, syscall.ECONNREFUSED) {
			time.Sleep(5 * time.Millisecond) // a balancer's pause before it looks for another node
			continue
		}
		f.requests.Add(1)
		switch {
		case err != nil && ctx.Err() == nil:
			f.cut.Add(1)
			f.failed.Add(1)
			f.failures.add("%s %s to %s, begun %s ago: %v", method, path, base, time.Since(began), err)
		case err == nil && a.transient():
			f.refused.Add(1)
			if a.status >= 500 {
				f.failed.Add(1)
				f.failures.add("%s %s to %s: %d %s", method, path, base, a.status, a.code())
			}
		}
		return a
	}
	return answer{unsent: true}
}

func (f *fleet) send(req *http.Request) (answer, error) {
	res, err := f.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return answer{}, err
	}
	return answer{status: res.StatusCode, body: body}, nil
}

// unexpected counts an answer that the documentation does not allow here.
func (f *fleet) unexpected(what string, a answer) {
	f.bad.Add(1)
	f.report.broken("%s: %d %.300s", what, a.status, bytes.TrimSpace(a.body))
}

const (
	jsonType = "application/json"
	formType = "application/x-www-form-urlencoded"
)

type registered struct {
	Installation struct{ ID, Secret string }
	User         struct{ ID string }
	Session      struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
}

func (p *phone) install(ctx context.Context, i *installation) bool {
	a := p.f.call(ctx, http.MethodPost, "/v1/installations", "{}", jsonType, i.key, "")
	if a.transient() {
		return false
	}
	var r registered
	if a.status/100 != 2 || json.Unmarshal(a.body, &r) != nil || r.Installation.ID == "" {
		p.f.unexpected("install", a)
		return true
	}
	i.id, i.secret, i.user, i.access, i.refresh = r.Installation.ID, r.Installation.Secret, r.User.ID, r.Session.Access, r.Session.Refresh
	return true
}

func (p *phone) renew(ctx context.Context, i *installation) bool {
	a := p.f.call(ctx, http.MethodPost, "/oauth/token", "grant_type=refresh_token&refresh_token="+i.refresh, formType, "", "")
	if a.transient() {
		return false
	}
	var r struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
		Error   string
	}
	err := json.Unmarshal(a.body, &r)
	if a.status != 200 || err != nil || r.Refresh == "" {
		if r.Error == "invalid_grant" {
			p.f.logouts.Add(1)
			p.f.report.broken("unwanted logout of %s with %.40s: %s", i.id, i.refresh, a.body)
		} else {
			p.f.unexpected("refresh", a)
		}
		return true
	}
	i.access, i.refresh = r.Access, r.Refresh
	p.f.refreshes.Add(1)
	return true
}

func (p *phone) read(ctx context.Context, i *installation) bool {
	a := p.f.call(ctx, http.MethodGet, "/v1/read/7", "", "", "", i.access)
	if p.stale(ctx, i, a) || a.transient() {
		return false
	}
	if a.status != 200 {
		p.f.unexpected("read", a)
	} else {
		p.f.reads.Add(1)
	}
	return true
}

// stale refreshes after a token was refused, as an app does.
func (p *phone) stale(ctx context.Context, i *installation, a answer) bool {
	if a.status != http.StatusUnauthorized {
		return false
	}
	p.renew(ctx, i)
	return true
}

func (p *phone) write(ctx context.Context, w *write) bool {
	method := http.MethodPost
	if w.order {
		method = http.MethodPut
	}
	a := p.f.call(ctx, method, w.path, `{"seats":1}`, jsonType, w.key, w.by.access)
	p.held = a.code() == "idempotency_in_flight"
	if p.stale(ctx, w.by, a) {
		return false
	}
	switch {
	case a.status == http.StatusCreated:
		w.acked = string(a.body)
	case a.code() == "idempotency_outcome_unknown":
		w.unknown = true
	case a.transient():
		if a.status != 409 && a.status != 429 && !a.unsent {
			w.tries++
		}
		return false
	default:
		p.f.unexpected("write "+w.path, a)
		w.unknown = true
	}
	return true
}
