package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// price measures what one request of each kind costs alone, and sets the mix.
func (s *siege) price(ctx context.Context) error {
	for _, k := range s.gun.kinds {
		one := s.gun
		one.kinds = []*ammunition{k}
		k.weight = 1
		before, err := cpuTime(s.node.PID())
		if err != nil {
			return err
		}
		clients, length := 4, pick(s.h, 2*time.Second, 500*time.Millisecond)
		one.press(ctx, clients, length)
		after, err := cpuTime(s.node.PID())
		if err != nil {
			return err
		}
		n := k.good.Load()
		if n == 0 {
			return fmt.Errorf("%s: none was answered, %d turned away: %v", k.name, k.shed.Load(), k.example.Load())
		}
		k.cost = (after - before) / time.Duration(n)
		k.weight = cpuMix[k.name] / k.cost.Seconds()
		s.r.info("processor time of one "+k.name, "%d µs", k.cost.Microseconds())
		k.reset()
	}
	return ctx.Err()
}

const fullConfig = `profile: development
app: {id: com.example.chaos, public_url: "https://api.example.test"}
log: {level: error}
overload: {max_in_flight: 1}
upstreams: {quick: {targets: [{url: "%[1]s"}]}}
features:
  wait: {auth: none, timeout: 10m, routes: [{match: "GET /v1/wait", upstream: quick, path: /wait}]}
  read: {auth: none, routes: [{match: "GET /v1/read", upstream: quick, path: /read}]}
`

// priceOfRefusal measures what it costs to turn one request away, on a node that
// may have one under way and has it.
func (s *siege) priceOfRefusal(ctx context.Context, service string) error {
	n, err := s.h.pinned("full.yaml", fmt.Sprintf(fullConfig, service), "GOMAXPROCS=1")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var waiting sync.WaitGroup
	defer waiting.Wait()
	waiting.Go(func() {
		if _, err := fetch(ctx, n.Public+"/v1/wait"); err == nil || ctx.Err() == nil {
			s.r.broken("the request that fills the node ended: %v", err)
		}
	})
	if _, err := eventually(ctx, patience, "the node is full", func() bool {
		v, err := scrape(ctx, n, "landline_gateway_admitted_count")
		return err == nil && v == 1
	}); err != nil {
		return err
	}
	read := request(http.MethodGet, "/v1/read", "", "", "")
	k := &ammunition{name: "refusal", weight: 1, next: func() ([]byte, *caller) { return read, nil }}
	before, err := cpuTime(n.PID())
	if err != nil {
		return err
	}
	one := gun{address: strings.TrimPrefix(n.Public, "http://"), kinds: []*ammunition{k}}
	one.press(ctx, 16, pick(s.h, 2*time.Second, time.Second))
	after, err := cpuTime(n.PID())
	if err != nil {
		return err
	}
	if k.good.Load()+k.failed.Load() > 0 || k.shed.Load() == 0 {
		return fmt.Errorf("a full node: %d good, %d failed (%v), %d turned away", k.good.Load(), k.failed.Load(), k.example.Load(), k.shed.Load())
	}
	s.refusal = (after - before) / time.Duration(k.shed.Load())
	s.r.info("processor time of one refusal", "%.1f µs", float64(s.refusal)/1e3)
	cancel()
	waiting.Wait()
	return n.Kill()
}

// spell is what a spell of load did.
type spell struct {
	offered   int
	offering  time.Duration // until the last was offered
	took, cpu time.Duration // wall clock, and the node's processor time
	idle      float64       // part of the node's processor that nobody used
	work      time.Duration // what was answered, by price
}

// goodput is work for each second of the processor that the node could have.
func (p spell) goodput() float64 { return p.work.Seconds() / p.cpu.Seconds() * (1 - p.idle) }

func (s *siege) spell(load func() int) (p spell, err error) {
	for _, k := range s.gun.kinds {
		k.reset()
	}
	idle, err := idleTime(0)
	if err != nil {
		return p, err
	}
	before, err := cpuTime(s.node.PID())
	if err != nil {
		return p, err
	}
	began := time.Now()
	p.offered = load()
	p.took, p.offering = time.Since(began), s.gun.offering
	after, err := cpuTime(s.node.PID())
	if err != nil {
		return p, err
	}
	then, err := idleTime(0)
	if err != nil {
		return p, err
	}
	p.cpu, p.idle = after-before, (then-idle).Seconds()/p.took.Seconds()
	for _, k := range s.gun.kinds {
		p.work += time.Duration(k.good.Load()) * k.cost
	}
	return p, nil
}

// round is a spell at capacity, one at five times that, and one at half of it.
type round struct {
	rate       float64 // answers a second at capacity
	peak, over spell
	recovered  time.Duration // from the end of the overload to the last refusal
}

// totals are what became of kinds of requests in all overloads together.
type totals struct{ good, shed int64 }

func (s *siege) rounds(ctx context.Context) error {
	var shares, recovered []float64
	critical, others := &totals{}, &totals{}
	signIns, refreshes, refusals := &times{}, &times{}, &times{}
	for range pick(s.h, 5, 1) {
		r, err := s.round(ctx, func() {
			for _, k := range s.gun.kinds {
				t := others
				switch k.name {
				case "sign-in":
					signIns.join(&k.latencies)
					t = critical
				case "refresh":
					refreshes.join(&k.latencies)
					t = critical
				case "install":
					t = critical
				}
				t.good += k.good.Load()
				t.shed += k.shed.Load()
				refusals.join(&k.refusals)
			}
		})
		if err != nil {
			return err
		}
		shares, recovered = append(shares, r.over.goodput()/r.peak.goodput()), append(recovered, r.recovered.Seconds())
		s.r.info("answers a second at capacity; offered a second after that", "%.0f; %.0f", r.rate, float64(r.over.offered)/r.over.offering.Seconds())
		s.r.info("goodput at capacity, at five times that; processor idle", "%.2f, %.2f; %.0f %%", r.peak.goodput(), r.over.goodput(), 100*r.over.idle)
	}
	slices.Sort(shares)
	slices.Sort(recovered)
	share := shares[len(shares)/2]
	s.r.quietly("goodput at five times what the processor can do, of that at capacity (median)", fmt.Sprintf("%.0f %%", 100*share), ">= 80 %", share >= 0.8)
	s.r.info("answered / turned away: critical", "%d / %d", critical.good, critical.shed)
	s.r.info("answered / turned away: others", "%d / %d", others.good, others.shed)
	let := float64(critical.good) / float64(critical.good+critical.shed)
	s.r.quietly("critical requests that were let in", fmt.Sprintf("%.0f %%", 100*let), ">= 90 %", let >= 0.9)
	s.r.within("sign-in with a password p99", signIns.quantile(0.99), criticalLate)
	s.r.within("refresh p99", refreshes.quantile(0.99), criticalLate)
	s.r.within("refusal p99", refusals.quantile(0.99), criticalLate)
	s.r.within("last refusal after the overload (median)", time.Duration(recovered[len(recovered)/2]*float64(time.Second)), cpuPatience)
	return ctx.Err()
}

func (s *siege) round(ctx context.Context, overloaded func()) (r round, err error) {
	if r.peak, err = s.spell(func() int { s.gun.press(ctx, cpuClients, pick(s.h, 4*time.Second, 1500*time.Millisecond)); return 0 }); err != nil {
		return r, err
	}
	answered := int64(0)
	for _, k := range s.gun.kinds {
		answered += k.good.Load()
	}
	r.rate = float64(answered) / r.peak.took.Seconds()
	s.judge("at capacity")
	if r.over, err = s.spell(func() int { return s.gun.fire(ctx, cpuOverload*r.rate, pick(s.h, 8*time.Second, 3*time.Second)) }); err != nil {
		return r, err
	}
	overloaded()
	s.judge("at five times that")
	ended := time.Now()
	if _, err = s.spell(func() int { return s.gun.fire(ctx, r.rate/2, pick(s.h, 4*time.Second, 1500*time.Millisecond)) }); err != nil {
		return r, err
	}
	for _, k := range s.gun.kinds {
		if at := k.lastShed.Load(); at != 0 {
			r.recovered = max(r.recovered, time.Unix(0, at).Sub(ended))
		}
	}
	s.judge("afterwards")
	return r, ctx.Err()
}

// judge counts what no load may do to an answer.
func (s *siege) judge(when string) {
	failed, unexplained, late := int64(0), int64(0), int64(0)
	for _, k := range s.gun.kinds {
		if n := k.failed.Load(); n > 0 {
			failed += n
			s.r.broken("%s %s: %d failed, such as: %v", k.name, when, n, k.example.Load())
		}
		unexplained += k.unexplained.Load()
		late += k.late.Load()
	}
	s.r.zero("failed "+when, int(failed))
	s.r.quietly("unanswered after 10 s, and 502 or 504, "+when, fmt.Sprint(late), "0", late == 0)
	s.r.zero("refused without a problem and Retry-After "+when, int(unexplained))
}
