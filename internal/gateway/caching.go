package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"landline/internal/bus"
	"landline/internal/gateway/cache"
	"landline/internal/problem"
)

// Bounds of what the cache does beside requests.
const (
	maxRefreshes = 64                     // background revalidations at once
	newsWait     = 100 * time.Millisecond // for telling other nodes of an invalidation
	newsPause    = 2 * time.Second        // after telling them has failed
)

// caching is the cache of a gateway: what all features' stages share. It
// outlives tables; an entry is kept over a reload while its feature's policy
// is the same.
type caching struct {
	o       *Options
	node    string
	metrics *cacheMetrics
	flights cache.Flights

	store  atomic.Pointer[cache.Store] // nil until a feature has a cache
	shared atomic.Pointer[cache.Shared]
	quiet  atomic.Int64 // until then (Unix ns) other nodes are not told

	base    context.Context //nolint:containedctx // of background work; ends with Close
	stop    context.CancelFunc
	running sync.WaitGroup
	slots   chan struct{}

	mu      sync.Mutex // of what follows
	memory  int64
	unsub   []func()
	closed  bool
	owed    bool // other nodes have not been told of a write
	telling bool // catchUp is running
}

// cacheNews tells other nodes what was purged; without a feature, tag and path, that all is in doubt.
type cacheNews struct {
	Node    string `json:"node"`
	Feature string `json:"feature,omitempty"`
	Tag     string `json:"tag,omitempty"`
	Path    string `json:"path,omitempty"`
}

var cacheTopic = bus.Topic[cacheNews]{Name: "gateway.cache.purged"}

func newCaching(o *Options) *caching {
	id := make([]byte, 8)
	rand.Read(id) //nolint:errcheck // never fails
	c := &caching{o: o, node: hex.EncodeToString(id), slots: make(chan struct{}, maxRefreshes)}
	c.base, c.stop = context.WithCancel(context.Background())
	c.metrics = newCacheMetrics(o.Registry, c)
	return c
}

// apply prepares for a table: it makes the store when a feature has a cache,
// and forgets entries whose policy is no longer in use.
func (c *caching) apply(t *table) {
	policies := map[string]bool{}
	for _, f := range t.features {
		for _, rt := range f.routes {
			if rt.cachePolicy != "" {
				policies[rt.cachePolicy] = true
			}
			for _, policy := range rt.callPolicies {
				policies[policy] = true
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	store := c.store.Load()
	switch budget := int64(t.settings.Cache.Memory); {
	case c.closed:
		return
	case len(policies) == 0:
		c.store.Store(nil)
	case store == nil || budget != c.memory:
		c.memory = budget
		c.store.Store(cache.NewStore(budget))
	default:
		store.Keep(func(e *cache.Entry) bool { return policies[e.Policy] })
	}
	switch second := c.shared.Load(); {
	case len(policies) == 0 || !t.settings.Cache.Redis || !c.o.Shared:
		c.shared.Store(nil)
	case second == nil:
		c.shared.Store(cache.NewShared(c.o.KV, c.o.Clock.Now, c.sharedFailed))
	}
	c.listen(len(policies) > 0 && c.o.Shared)
}

// listen begins or ends hearing of other nodes' purges; c.mu is held.
func (c *caching) listen(on bool) {
	switch {
	case on && c.unsub == nil:
		c.unsub = []func(){cacheTopic.Subscribe(c.o.Bus, c.heard), c.o.Bus.OnGap(c.missed)}
	case !on:
		for _, end := range c.unsub {
			end()
		}
		c.unsub = nil
	}
}

// heard does what another node has done.
func (c *caching) heard(n cacheNews) {
	if n.Node == c.node {
		return
	}
	if n.Feature == "" && n.Tag == "" && n.Path == "" {
		c.missed()
		return
	}
	if second := c.shared.Load(); second != nil && n.Feature != "" {
		second.Forget(n.Feature)
	}
	if store := c.store.Load(); store != nil {
		store.Purge(cache.Purge{Feature: n.Feature, Tag: n.Tag, Path: n.Path})
	}
	c.metrics.purges.WithLabelValues("other_node").Inc()
}

// missed forgets everything: a purge may have been among what was not heard.
func (c *caching) missed() {
	if second := c.shared.Load(); second != nil {
		second.Forget("")
	}
	if store := c.store.Load(); store != nil {
		store.Purge(cache.Purge{})
	}
	c.metrics.purges.WithLabelValues("missed_news").Inc()
}

func (c *caching) sharedFailed(err error) {
	c.metrics.shared.WithLabelValues("error").Inc()
	c.o.Log.Warn("the shared cache does not answer; this node goes on with its own", "error", err)
}

// close ends background work and waits for it.
func (c *caching) close() {
	c.mu.Lock()
	c.closed = true
	c.listen(false)
	c.mu.Unlock()
	c.stop()
	c.running.Wait()
}

// background runs fn unless there is too much to do already, and reports whether it does.
func (c *caching) background(fn func(ctx context.Context)) bool {
	select {
	case c.slots <- struct{}{}:
	default:
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		<-c.slots
		return false
	}
	c.running.Go(func() {
		defer func() { <-c.slots }()
		fn(c.base)
	})
	return true
}

// invalidate forgets what is stored for a path after a write to it, here and
// on the other nodes (RFC 9111 §4.4). It is bounded by newsWait, since a client
// waits for it: its next request, on whatever node, must see what it has written.
func (c *caching) invalidate(ctx context.Context, feature, path string) {
	store := c.store.Load()
	if store == nil {
		return
	}
	store.Purge(cache.Purge{Path: path})
	c.metrics.purges.WithLabelValues("write").Inc()
	if !c.o.Shared {
		return
	}
	if c.o.Clock.Now().UnixNano() < c.quiet.Load() {
		c.owe()
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), newsWait)
	defer cancel()
	if second := c.shared.Load(); second != nil {
		second.PurgePath(ctx, feature, path) //nolint:errcheck // told through sharedFailed, and made good by the next use
	}
	if err := cacheTopic.Publish(ctx, c.o.Bus, cacheNews{Node: c.node, Path: path}); err != nil {
		c.quiet.Store(c.o.Clock.Now().Add(newsPause).UnixNano())
		c.owe()
		c.o.Log.WarnContext(ctx, "other nodes could not be told of a write; they drop what they have stored once they are reached again", "error", err)
	}
}

// owe notes that other nodes do not know of a write. They may be connected to
// Redis all the while, and then notice nothing themselves.
func (c *caching) owe() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owed = true
	if !c.telling && !c.closed {
		c.telling = true
		c.running.Go(c.catchUp)
	}
}

// catchUp tells other nodes that all they have stored is in doubt, again and
// again until they have been told of everything that is owed.
func (c *caching) catchUp() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-c.base.Done():
			return
		case <-timer.C:
		}
		c.mu.Lock()
		if !c.owed {
			c.telling = false
			c.mu.Unlock()
			return
		}
		c.owed = false // what is owed from here on may come too late for this message
		c.mu.Unlock()
		ctx, cancel := context.WithTimeout(c.base, newsPause)
		err := cacheTopic.Publish(ctx, c.o.Bus, cacheNews{Node: c.node})
		cancel()
		if err != nil {
			c.mu.Lock()
			c.owed = true
			c.mu.Unlock()
		} else {
			c.quiet.Store(0)
		}
		timer.Reset(newsPause)
	}
}

// PurgeCache forgets stored answers of a feature on every node: all of them,
// those with a surrogate key, or those of a path (or URL) with any query. It
// returns how many this node had. An error says that other nodes may not know.
func (g *Gateway) PurgeCache(ctx context.Context, feature, key, location string) (int, error) {
	c := g.cache
	if err := g.hasCache(feature); err != nil {
		return 0, err
	}
	p := cache.Purge{Feature: feature, Tag: key}
	if location != "" {
		u, err := url.Parse(location)
		if err != nil || !strings.HasPrefix(u.EscapedPath(), "/") {
			return 0, problem.New(problem.InvalidRequest, "url must be an absolute path or URL, for example /v1/flights/7")
		}
		if p.Path, err = checkPath(u.EscapedPath()); err != nil {
			return 0, problem.New(problem.InvalidRequest, "url: %s", err.Error())
		}
	}
	n := 0
	if store := c.store.Load(); store != nil {
		n = store.Purge(p)
	}
	c.metrics.purges.WithLabelValues("operator").Inc()
	if !c.o.Shared {
		return n, nil
	}
	if second := c.shared.Load(); second != nil {
		if err := second.PurgeFeature(ctx, feature); err != nil {
			return n, problem.New(problem.StorageUnavailable, "purged on this node alone: the store that nodes share does not answer").Wrap(err)
		}
	}
	if err := cacheTopic.Publish(ctx, c.o.Bus, cacheNews{Node: c.node, Feature: feature, Tag: key, Path: p.Path}); err != nil {
		return n, problem.New(problem.StorageUnavailable, "purged on this node alone: the others could not be told").Wrap(err)
	}
	return n, nil
}

func (g *Gateway) hasCache(name string) error {
	t := g.table.Load()
	if t == nil {
		return problem.New(problem.Draining, "this node is starting")
	}
	i := slices.IndexFunc(t.features, func(f *feature) bool { return f.name == name })
	switch {
	case i < 0:
		return problem.New(problem.NotFound, "there is no feature %q", name)
	case t.features[i].policy.Cache == nil && !slices.ContainsFunc(t.features[i].routes, func(rt *Route) bool { return len(rt.callPolicies) > 0 }):
		return problem.New(problem.NotFound, "the feature %s has no cache", name)
	}
	return nil
}

// caches reports whether any feature of the settings has a cache.
func (t *table) caches() bool {
	for _, f := range t.settings.Features {
		if f != nil && f.Cache != nil {
			return true
		}
	}
	return false
}

// cachedAt is the feature with a cache that answers GET at a path, "" if there is none.
func (t *table) cachedAt(path string) string {
	var params [maxParams]string
	rt := t.router.find(http.MethodGet, path, &params)
	if rt == nil {
		return ""
	}
	for _, variant := range append(rt.variants[:len(rt.variants):len(rt.variants)], rt) {
		if variant.cachePolicy != "" {
			return variant.Feature
		}
	}
	return ""
}
