package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"landline/test/chaos/tcp"
	"landline/test/process"
)

// cast is one or more nodes on PostgreSQL and Redis with a proxy at every border.
type cast struct {
	h        *house
	ledger   *ledger
	postgres *postgres
	redis    *redis
	database string // name
	direct   string // URL without the proxy
	options  process.Options
	nodes    []*process.Node

	toService, toPostgres, toRedis *tcp.Proxy
	toClient                       *tcp.Proxy // before the first node
}

// newCast starts n nodes on a PostgreSQL and a Redis; nil is the one that all share.
// host is the name by which nodes know the service.
func newCast(ctx context.Context, h *house, n int, server *postgres, memory *redis, host string, env ...string) (c *cast, err error) {
	c = &cast{h: h, postgres: server, redis: memory}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	if c.ledger, err = newLedger(10 * time.Millisecond); err != nil {
		return c, err
	}
	if c.postgres == nil {
		if c.postgres, err = h.server(ctx); err != nil {
			return c, err
		}
	}
	if c.redis == nil {
		if c.redis, err = h.cache(ctx); err != nil {
			return c, err
		}
	}
	if c.direct, _, err = process.NewDatabase(ctx, c.postgres.url()); err != nil {
		return c, err
	}
	u, err := url.Parse(c.direct)
	if err != nil {
		return c, err
	}
	c.database = u.Path[1:]
	service, err := url.Parse(c.ledger.URL)
	if err != nil {
		return c, err
	}
	for i, p := range []struct {
		into   **tcp.Proxy
		target string
	}{{&c.toService, service.Host}, {&c.toPostgres, c.postgres.address()}, {&c.toRedis, c.redis.address()}} {
		if *p.into, err = tcp.New(p.target, tcp.Config{Seed: h.seed + uint64(i), Delay: 80 * time.Millisecond, Bytes: 4000}); err != nil {
			return c, err
		}
	}
	_, port, err := net.SplitHostPort(c.toService.Address())
	if err != nil {
		return c, err
	}
	c.options = process.Options{Binary: h.service, Env: append([]string{
		"CHAOS_UPSTREAM=http://" + net.JoinHostPort(host, port), "CHAOS_MASTER_KEY=" + process.MasterKey(),
		"CHAOS_POSTGRES=" + c.postgres.urlAt(c.toPostgres.Address(), c.database),
		"CHAOS_REDIS=redis://" + c.toRedis.Address() + "/0", "CHAOS_PREFIX=" + process.RandomName("chaos_"),
	}, env...)}
	for range n {
		if _, err = c.add(c.options); err != nil {
			return c, err
		}
	}
	public, err := url.Parse(c.nodes[0].Public)
	if err != nil {
		return c, err
	}
	c.toClient, err = tcp.New(public.Host, tcp.Config{Seed: h.seed + 9, Delay: 80 * time.Millisecond, Bytes: 4000})
	return c, err
}

// add starts one more node.
func (c *cast) add(o process.Options) (*process.Node, error) {
	dir, err := c.h.directory()
	if err != nil {
		return nil, err
	}
	o.Data = dir
	n, err := c.h.start(o)
	if err != nil {
		return nil, err
	}
	c.nodes = append(c.nodes, n)
	return n, nil
}

// heal ends all faults.
func (c *cast) heal() {
	for _, p := range []*tcp.Proxy{c.toService, c.toPostgres, c.toRedis, c.toClient} {
		p.Set(tcp.None)
	}
}

// stop ends the nodes as an operator would.
func (c *cast) stop() error {
	var errs []error
	for _, n := range c.nodes {
		errs = append(errs, stop(n))
	}
	return errors.Join(errs...)
}

func (c *cast) close() error {
	var errs []error
	for _, p := range []*tcp.Proxy{c.toService, c.toPostgres, c.toRedis, c.toClient} {
		if p != nil {
			errs = append(errs, p.Close())
		}
	}
	if c.ledger != nil {
		errs = append(errs, c.ledger.close())
	}
	return errors.Join(errs...)
}

// returned waits until the node is ready and one phone can do everything, and returns how long that took.
func (c *cast) returned(ctx context.Context, r *report, base func() string) (time.Duration, error) {
	f := newFleet(base, c.ledger, r)
	probe := &phone{f: f, name: process.RandomName(r.theme + "-probe-"), rng: c.h.rng(r.theme)}
	i := &installation{key: probe.name}
	n := 0
	d, err := eventually(ctx, patience, "everything works again", func() bool {
		n++
		w := &write{by: i, key: fmt.Sprint(probe.name, "-", n)}
		w.path = "/v1/careful/" + w.key
		o := &write{by: i, order: true, key: fmt.Sprint(probe.name, "-order-", n)}
		o.path = "/v1/orders/" + o.key
		return (i.id != "" || probe.install(ctx, i)) && probe.renew(ctx, i) && probe.read(ctx, i) &&
			probe.write(ctx, w) && w.acked != "" && probe.write(ctx, o) && readiness(ctx, c.nodes[0]) == "ready"
	})
	f.client.CloseIdleConnections()
	if f.bad.Load() > 0 || f.logouts.Load() > 0 {
		err = errors.Join(err, errors.New("the probe got an answer that no document allows"))
	}
	return d, err
}

// warm fills the pools of the nodes behind base, and returns the size of the
// first node at rest after that.
func (c *cast) warm(ctx context.Context, base func() string) (size, error) {
	f := newFleet(base, c.ledger, &report{theme: "warm"})
	f.start(ctx, 16, c.h.seed+1)
	time.Sleep(pick(c.h, 3*time.Second, time.Second)) // the time it takes
	f.rest()
	f.client.CloseIdleConnections()
	return settled(ctx, c.nodes[0], size{}, 0)
}
