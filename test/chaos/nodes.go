package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"landline/test/process"
)

// balancer spreads requests over the nodes whose readyz says yes, as the
// operator's manual asks for. Beyond that it only takes another node when a
// connection is refused, which is no request yet.
type balancer struct {
	client *http.Client
	mu     sync.Mutex
	nodes  map[string]bool // base URL → takes traffic
	slow   time.Duration   // longest time from one look to the next
	stop   context.CancelFunc
	done   sync.WaitGroup
}

func newBalancer(ctx context.Context) *balancer {
	ctx, stop := context.WithCancel(ctx)
	b := &balancer{client: &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}, nodes: map[string]bool{}, stop: stop}
	b.done.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			began := time.Now()
			b.look(ctx)
			<-tick.C
			b.mu.Lock()
			b.slow = max(b.slow, time.Since(began))
			b.mu.Unlock()
		}
	})
	return b
}

func (b *balancer) close() {
	b.stop()
	b.done.Wait()
}

// look asks every node once.
func (b *balancer) look(ctx context.Context) {
	b.mu.Lock()
	var all []string
	for base := range b.nodes {
		all = append(all, base)
	}
	b.mu.Unlock()
	var each sync.WaitGroup
	for _, base := range all {
		each.Go(func() {
			ok := b.ready(ctx, base)
			b.mu.Lock()
			defer b.mu.Unlock()
			if _, known := b.nodes[base]; known {
				b.nodes[base] = ok
			}
		})
	}
	each.Wait()
}

func (b *balancer) ready(ctx context.Context, base string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return false
	}
	res, err := b.client.Do(req)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, res.Body)
	return errors.Join(err, res.Body.Close()) == nil && res.StatusCode == http.StatusOK
}

// set names the nodes there are.
func (b *balancer) set(nodes []*process.Node) {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := map[string]bool{}
	for _, n := range nodes {
		ok, known := b.nodes[n.Public]
		next[n.Public] = ok || !known
	}
	b.nodes = next
}

// base picks a node; with none that is ready, any.
func (b *balancer) base() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var ready, all []string
	for base, ok := range b.nodes {
		all = append(all, base)
		if ok {
			ready = append(ready, base)
		}
	}
	if len(ready) == 0 {
		ready = all
	}
	return ready[rand.IntN(len(ready))]
}

// nodes kills one of three nodes, restarts all of them one after another, and
// replaces them by the next version, which brings a migration.
func nodes(ctx context.Context, h *house, r *report) error {
	c, err := newCast(ctx, h, 3, nil, nil, "127.0.0.1")
	if err != nil {
		return err
	}
	defer c.close()
	b := newBalancer(ctx)
	defer b.close()
	b.set(c.nodes)
	f := newFleet(b.base, c.ledger, r)
	f.pause = 10 * time.Millisecond
	f.start(ctx, 16, h.seed)
	defer f.rest()
	err = errors.Join(
		killOne(ctx, h, r, c, b, f),
		rolling(ctx, r, c, b, f, "rolling restart", h.service, pick(h, 10, 1)),
		rolling(ctx, r, c, b, f, "rolling upgrade with a migration", h.next, 1),
	)
	if err != nil {
		return err
	}
	verdict, err := f.verify(ctx, pick(h, rescue, 3*time.Second), jobInDatabase(c.direct))
	if err != nil {
		return err
	}
	var version int
	if err := query(ctx, c.direct, `SELECT max(version_id) FROM migration_app_orders`, &version); err != nil {
		return err
	}
	r.add("migration of orders in the end", fmt.Sprint(version), "2", version == 2)
	f.tell(verdict, "")
	f.client.CloseIdleConnections()
	return c.stop()
}

// killOne kills a node, again and again, and puts another in its place.
func killOne(ctx context.Context, h *house, r *report, c *cast, b *balancer, f *fleet) error {
	times, lost, under := pick(h, 20, 3), 0, 0
	for range times {
		time.Sleep(pick(h, time.Second, 500*time.Millisecond)) // all is well
		victim := c.nodes[0]
		gauge, _ := f.inFlight.LoadOrStore(victim.Public, new(atomic.Int64))
		before := f.failed.Load()
		inFlight := int(gauge.(*atomic.Int64).Load())
		if err := victim.Kill(); err != nil {
			return err
		}
		time.Sleep(500 * time.Millisecond) // the balancer takes notice
		lost, under = lost+int(f.failed.Load()-before), under+inFlight
		c.nodes = c.nodes[1:]
		if _, err := c.add(c.options); err != nil {
			return err
		}
		b.set(c.nodes)
	}
	r.info("nodes killed", "%d", times)
	// What begins between the count and the kill, and what is sent on a connection
	// that is dead already, is in flight on the killed node as well: one per phone at most.
	r.atMost(fmt.Sprintf("requests that failed, in flight on killed nodes %d", under), lost, under+times*len(f.workers)/2)
	return nil
}

// rolling replaces every node by one of binary: first the new one, then SIGTERM to the old.
func rolling(ctx context.Context, r *report, c *cast, b *balancer, f *fleet, name, binary string, rounds int) error {
	failed, requests := f.failed.Load(), f.requests.Load()
	seen := failed
	c.options.Binary = binary
	replaced := 0
	for range rounds {
		for range len(c.nodes) {
			if _, err := c.add(c.options); err != nil {
				return err
			}
			b.set(c.nodes)
			old := c.nodes[0]
			signalled := time.Now().UTC()
			if err := old.Signal(syscall.SIGTERM); err != nil {
				return err
			}
			exit, err := old.Wait(patience)
			if now := f.failed.Load(); now > seen {
				seen = now
				r.broken("%s: %s was told to end at %s and ended at %s: %q", name, old.Public, signalled.Format("15:04:05.000"), time.Now().UTC().Format("15:04:05.000"), f.failures.last(3))
			}
			if err != nil || exit != 0 {
				return fmt.Errorf("%s: exit code %d, %w\n%s", name, exit, err, tail(old.Logs.String()))
			}
			c.nodes = c.nodes[1:]
			b.set(c.nodes)
			replaced++
		}
	}
	time.Sleep(500 * time.Millisecond) // what the last one left behind shows
	r.info(name+": nodes replaced, requests meanwhile", "%d, %d", replaced, f.requests.Load()-requests)
	b.mu.Lock()
	r.info(name+": the balancer's slowest look, with a shutdown.delay of 1 s", "%s", ms(b.slow))
	b.slow = 0
	b.mu.Unlock()
	r.zero(name+": failed requests", int(f.failed.Load()-failed))
	return nil
}
