package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"landline/test/chaos/tcp"
)

// network damages the connections between phones, Landline, the service,
// PostgreSQL and Redis, one after another and together.
func network(ctx context.Context, h *house, r *report) error {
	c, err := newCast(ctx, h, 1, nil, nil, "127.0.0.1")
	if err != nil {
		return err
	}
	defer c.close()
	through := func() string { return "http://" + c.toClient.Address() }

	before, err := c.warm(ctx, func() string { return c.nodes[0].Public })
	if err != nil {
		return err
	}

	f := newFleet(through, c.ledger, r)
	f.start(ctx, 16, h.seed)
	faults := c.torment(ctx, h.rng("network"), time.Now().Add(pick(h, 3*time.Minute, 12*time.Second)))
	c.heal()
	back, err := c.returned(ctx, r, through)
	if err != nil {
		f.rest()
		return fmt.Errorf("%w\n%s", err, tail(c.nodes[0].Logs.String()))
	}
	time.Sleep(time.Second) // what was under way when the faults ended has ended
	failedBefore, requestsBefore := f.failed.Load(), f.requests.Load()
	time.Sleep(2 * time.Second) // the time that is counted
	failed, requests := f.failed.Load()-failedBefore, f.requests.Load()-requestsBefore

	verdict, err := f.verify(ctx, pick(h, rescue, 3*time.Second), jobInDatabase(c.direct))
	if err != nil {
		return err
	}
	f.client.CloseIdleConnections()
	after, err := settled(ctx, c.nodes[0], before, slack)
	if err != nil {
		return err
	}
	for _, name := range []string{"client", "service", "postgres", "redis"} {
		r.atLeast("faults between Landline and "+name, faults[name], 1)
	}
	injured, total := 0, 0
	for _, p := range []*tcp.Proxy{c.toClient, c.toService, c.toPostgres, c.toRedis} {
		i, t := p.Injured()
		injured, total = injured+i, total+t
	}
	r.info("connections, of them cut", "%d, %d", total, injured)
	r.within("healed to everything works", back, 5*time.Second)
	r.info("requests in two seconds after healing", "%d", requests)
	r.zero("requests that failed after healing", int(failed))
	f.tell(verdict, "")
	leaks(r, before, after)
	return c.stop()
}

// slack is what pools may hold more after torment than before.
const slack = 25

// leaks tells what a process holds after torment, when nobody calls any more.
func leaks(r *report, before, after size) {
	r.atMost(fmt.Sprintf("goroutines at rest, before %d", before.goroutines), after.goroutines, before.goroutines+slack)
	r.atMost(fmt.Sprintf("open descriptors at rest, before %d", before.descriptors), after.descriptors, before.descriptors+slack)
}

// torment damages one border at a time, sometimes two, and counts the faults of each.
func (c *cast) torment(ctx context.Context, rng *rand.Rand, end time.Time) map[string]int {
	borders := []struct {
		name string
		p    *tcp.Proxy
	}{{"client", c.toClient}, {"service", c.toService}, {"postgres", c.toPostgres}, {"redis", c.toRedis}}
	kinds := []tcp.Fault{tcp.Cut, tcp.Reset, tcp.Half, tcp.Delay, tcp.Slice, tcp.Stall, tcp.Refuse}
	counts := map[string]int{}
	for turn := 0; time.Now().Before(end) && ctx.Err() == nil; turn++ {
		for n := 1 + rng.IntN(4)/3; n > 0; n-- {
			b := borders[(turn+rng.IntN(2))%len(borders)]
			b.p.Set(kinds[rng.IntN(len(kinds))])
			counts[b.name]++
		}
		time.Sleep(time.Duration(100+rng.IntN(600)) * time.Millisecond) // the fault lasts
		c.heal()
		time.Sleep(time.Duration(50+rng.IntN(200)) * time.Millisecond) // and things go well for a moment
	}
	return counts
}
