package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/gateway/cache"
	"landline/internal/module"
	"landline/internal/problem"
)

// cacheStage answers GET and HEAD with stored answers where RFC 9111 and the
// feature's policy allow it, and stores what the rest of the way brings.
//
// It stands behind authorisation, so that nobody is given what he may not see,
// and before the fallback: a stale copy is better than a stock answer. An
// answer that is to be stored is passed on once it is complete; all others are
// passed on as they come.
//
// Requests for the same answer wait for the first of them. It goes on when its
// client leaves. When the upstream fails it, those who wait then are told the
// same; the next request asks again.
func (g *Gateway) cacheStage(rt *Route) Stage {
	c := newCacher(g, rt)
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			if !slices.Contains(c.methods, r.Method) {
				return next(x, w, r)
			}
			return c.handle(next, x, w, r)
		}
	}
}

// cacher is the stage of one route.
type cacher struct {
	*caching
	rt      *Route
	config  CacheConfig
	policy  cache.Policy
	id      string   // of the policy: entries of another one are not looked at
	headers []string // canonical names of vary_by's header:<name>
	methods []string
	tags    string // canonical name of the surrogate key header

	byUser, byInstallation, byVersion, byPlatform, byLocale bool

	count     map[string]prometheus.Counter
	saved     prometheus.Counter
	refreshed *prometheus.CounterVec // outcome
}

// Outcomes of landline_cache_requests_total.
const (
	cacheHit         = "hit"
	cacheStale       = "stale"
	cacheStaleError  = "stale_error"
	cacheShared      = "shared"
	cacheCollapsed   = "collapsed"
	cacheRevalidated = "revalidated"
	cacheMiss        = "miss"
	cacheUnstorable  = "unstorable"
	cacheBypass      = "bypass"
)

func newCacher(g *Gateway, rt *Route) *cacher {
	config := rt.Policy.Cache.orDefaults()
	by := func(name string) bool { return slices.Contains(config.VaryBy, name) }
	c := &cacher{
		caching: g.cache, rt: rt, config: config, id: cachePolicyID(rt), methods: config.Methods, tags: http.CanonicalHeaderKey(config.SurrogateHeader),
		byUser:         config.partitioned(), // an installation may change hands: another user's answers are not for this one
		byInstallation: by(varyByInstallation), byVersion: by(varyByVersion), byPlatform: by(varyByPlatform), byLocale: by(varyByLocale),
		count: map[string]prometheus.Counter{},
		saved: g.cache.metrics.saved.WithLabelValues(rt.Feature),
	}
	c.refreshed = g.cache.metrics.refreshes.MustCurryWith(prometheus.Labels{"feature": rt.Feature})
	for _, outcome := range []string{cacheHit, cacheStale, cacheStaleError, cacheShared, cacheCollapsed, cacheRevalidated, cacheMiss, cacheUnstorable, cacheBypass} {
		c.count[outcome] = g.cache.metrics.requests.WithLabelValues(rt.Feature, outcome)
	}
	for _, name := range config.VaryBy {
		if header, ok := strings.CutPrefix(name, varyByHeader); ok {
			c.headers = append(c.headers, http.CanonicalHeaderKey(header))
		}
	}
	if len(c.methods) == 0 {
		c.methods = []string{http.MethodGet, http.MethodHead}
	}
	c.policy = cache.Policy{
		TTL: config.TTL.D(), StaleWhileRevalidate: config.StaleWhileRevalidate.D(), StaleIfError: config.StaleIfError.D(),
		Override: !config.RespectUpstream, Statuses: config.Statuses, Partitioned: c.byUser,
		Anonymous: rt.Auth == module.AuthNone && !c.byUser, CookieKeyed: slices.Contains(c.headers, "Cookie"), HonourClient: !config.IgnoreClientNoCache,
	}
	if h := rt.Policy.Headers; h != nil {
		for _, rules := range []map[string]string{h.Request.Set, h.Request.Add} {
			for name := range rules {
				c.policy.Unseen = append(c.policy.Unseen, http.CanonicalHeaderKey(name))
			}
		}
	}
	rt.cachePolicy = c.id
	return c
}

// cachePolicyID is the same while everything is that stored answers of the route depend on.
func cachePolicyID(rt *Route) string {
	p := rt.Policy
	text := fmt.Sprintf("%s\n%s\n%s\n%s\n%+v\n%+v", rt.Feature, rt.Match, rt.Version, rt.Auth, *p.Cache, p.Routes)
	if p.Headers != nil {
		text += fmt.Sprintf("\n%+v", p.Headers.Request)
	}
	sum := sha256.Sum256([]byte(text))
	return rt.Feature + " " + hex.EncodeToString(sum[:8])
}

// question is a request as the cache sees it.
type question struct {
	key   cache.Key
	asked cache.Asked
}

// ask finds out where the answer to r belongs. Every part of the key is
// preceded by its length, so that nothing moves from one part to the next.
func (c *cacher) ask(x *Exchange, r *http.Request) question {
	b := make([]byte, 0, 256)
	part := func(s string) {
		b = strconv.AppendInt(b, int64(len(s)), 36)
		b = append(b, ' ')
		b = append(b, s...)
	}
	host, proto := r.Host, "http"
	if r.TLS != nil {
		proto = "https"
	}
	if x.trusted { // what the upstream will be told
		host += "," + strings.Join(r.Header["X-Forwarded-Host"], ",")
		proto += "," + strings.Join(r.Header["X-Forwarded-Proto"], ",")
	}
	part(c.id)
	part(strings.ToLower(host))
	part(proto)
	part(r.URL.RawQuery)
	if c.byUser && x.Principal != nil {
		part(x.Principal.UserID)
		if c.byInstallation {
			part(x.Principal.InstallationID)
		}
	}
	client := x.client()
	for _, v := range [...]struct {
		on    bool
		value string
	}{{c.byVersion, client.Version}, {c.byPlatform, client.Platform}, {c.byLocale, client.Locale}} {
		if v.on {
			part(v.value)
		}
	}
	for _, name := range c.headers {
		part(cache.VaryValue(r.Header, name))
	}
	return question{cache.Key{Path: x.path, Part: string(b)}, cache.NewAsked(r.Header, x.Principal != nil)}
}

// bypass reports requests that are none of the cache's business.
func bypass(r *http.Request) bool {
	h := r.Header
	return r.ContentLength != 0 || len(h["Upgrade"]) > 0 || len(h["If-Match"]) > 0 || len(h["If-Unmodified-Since"]) > 0
}

func (c *cacher) handle(next Handler, x *Exchange, w http.ResponseWriter, r *http.Request) error {
	store := c.store.Load()
	if store == nil || bypass(r) {
		return c.around(next, x, w, r, "bypass")
	}
	q := c.ask(x, r)
	e := store.Get(q.key, r.Header, c.o.Clock.Now())
	if e != nil && !e.Mark() {
		switch cache.Decide(&c.policy, &q.asked, e, c.o.Clock.Now()) {
		case cache.Fresh, cache.Stale:
			return c.hit(x, w, r, e, cacheHit)
		case cache.StaleAsync:
			c.refresh(next, x, r, q, e)
			return c.hit(x, w, r, e, cacheStale)
		}
	}
	switch {
	case q.asked.Control.OnlyIfCached: // RFC 9111 §5.2.1.7
		w.Header()["Cache-Status"] = []string{cacheName + "; detail=only-if-cached"}
		return problem.New(problem.UpstreamTimeout, "nothing is stored for this request, and it asks for nothing else (only-if-cached)")
	case e != nil && e.Mark():
		return c.around(next, x, w, r, "miss")
	case e == nil && (r.Method == http.MethodHead || len(r.Header["Range"]) > 0):
		return c.around(next, x, w, r, "miss") // an answer in part, or without a body, fills nothing
	}
	return c.collapse(store, next, x, w, r, q, e)
}

// around goes to the upstream without looking or storing.
func (c *cacher) around(next Handler, x *Exchange, w http.ResponseWriter, r *http.Request, why string) error {
	c.count[cacheBypass].Inc()
	w.Header()["Cache-Status"] = []string{cacheName + "; fwd=" + why}
	restore := c.anonymous(x)
	defer restore()
	if c.policy.Anonymous {
		r = r.WithContext(r.Context())
		r.Header = shallow(r.Header)
		c.strip(r.Header)
	}
	return next(x, &untagged{ResponseWriter: w, name: c.tags}, r)
}

// anonymous hides who asks from the rest of the way where the answer is the
// same for everyone, and returns what brings it back.
func (c *cacher) anonymous(x *Exchange) (restore func()) {
	if !c.policy.Anonymous || x.Principal == nil {
		return func() {}
	}
	who := x.Principal
	x.Principal = nil
	return func() { x.Principal = who }
}

// strip removes what would tell the upstream who asks.
func (c *cacher) strip(h http.Header) {
	delete(h, "Authorization")
	if !c.policy.CookieKeyed {
		delete(h, "Cookie")
	}
}

// collapse asks the upstream, or waits for a request that asks for the same.
func (c *cacher) collapse(store *cache.Store, next Handler, x *Exchange, w http.ResponseWriter, r *http.Request, q question, old *cache.Entry) error {
	flight, leader := c.flights.Join(c.flightKey(store, q, r.Header))
	if leader {
		return c.lead(store, flight, next, x, w, r, q, old)
	}
	select {
	case <-flight.Done():
	case <-r.Context().Done():
		return errClientGone
	}
	result := flight.Result()
	now := c.o.Clock.Now()
	switch e := result.Entry; {
	case result.Err == nil && result.Cause != nil && e == nil && old != nil && cache.InsteadOfError(&c.policy, &q.asked, old, now):
		x.Cause = result.Cause
		return c.instead(x, w, r, old, 0)
	case result.Err != nil && old != nil && cache.InsteadOfError(&c.policy, &q.asked, old, now):
		x.Cause = result.Err
		return c.instead(x, w, r, old, 0)
	case result.Err != nil:
		return result.Err
	case e != nil && result.Stock:
		x.Degraded, x.Cause = "fallback", result.Cause
		w.Header()["Landline-Degraded"] = []string{"fallback"}
		return c.give(x, w, r, e, "; fwd=miss; collapsed")
	case e != nil && e.Key == q.key && e.Selects(r.Header) && cache.Decide(&c.policy, &q.asked, e, now) != cache.Validate:
		c.count[cacheCollapsed].Inc()
		c.saved.Add(e.Took.Seconds())
		return c.give(x, w, r, e, "; fwd=miss; collapsed")
	}
	return c.lead(store, nil, next, x, w, r, q, old)
}

// flightKey tells requests apart that will get different answers, as far as is known.
func (c *cacher) flightKey(store *cache.Store, q question, h http.Header) string {
	key := q.key.Path + "\n" + q.key.Part
	for _, field := range store.Fields(q.key) {
		key += "\n" + cache.VaryValue(h, field)
	}
	return key
}

// lead asks the second level, then the upstream. flight is nil for a request
// that nobody waits for.
func (c *cacher) lead(store *cache.Store, flight *cache.Flight, next Handler, x *Exchange, w http.ResponseWriter, r *http.Request, q question, old *cache.Entry) error {
	f := &fill{cacher: c, store: store, flight: flight, next: next, x: x, w: w, r: r, q: q, old: old, mark: store.Mark(q.key.Path)}
	defer f.end(cache.Result{}) // also when a panic passes: nobody waits for ever
	if e := f.second(); e != nil {
		return c.hit(x, w, r, e, cacheShared)
	}
	return f.run()
}

// refresh asks the upstream in the background whether e is still right.
func (c *cacher) refresh(next Handler, x *Exchange, r *http.Request, q question, e *cache.Entry) {
	store := c.store.Load()
	if store == nil {
		return
	}
	flight := c.flights.Lead(c.flightKey(store, q, r.Header))
	if flight == nil {
		return // somebody does already
	}
	bg := &Exchange{
		Route: x.Route, Params: x.Params, Start: c.o.Clock.Now(), Client: x.Client, Principal: x.Principal, ClientIP: x.ClientIP,
		TraceID: x.TraceID, SpanID: x.SpanID, Sampled: x.Sampled, path: x.path, peer: x.peer, trusted: x.trusted,
	}
	started := c.background(func(ctx context.Context) {
		defer flight.End(cache.Result{})
		f := &fill{cacher: c, store: store, flight: flight, next: next, x: bg, r: r.WithContext(ctx), q: q, old: e, mark: store.Mark(q.key.Path)}
		if err := f.quietly(); err != nil {
			c.refreshed.WithLabelValues("failed").Inc()
			c.o.Log.WarnContext(ctx, "a stored answer could not be refreshed", "feature", c.rt.Feature, "match", c.rt.Match, "error", err)
			return
		}
		c.refreshed.WithLabelValues("done").Inc()
	})
	if !started {
		flight.End(cache.Result{})
		c.refreshed.WithLabelValues("skipped").Inc()
	}
}

// hit gives a stored answer.
func (c *cacher) hit(x *Exchange, w http.ResponseWriter, r *http.Request, e *cache.Entry, outcome string) error {
	c.count[outcome].Inc()
	c.saved.Add(e.Took.Seconds())
	status := "; hit; ttl=" + strconv.FormatInt(int64(e.Left(c.o.Clock.Now())/time.Second), 10)
	if outcome == cacheShared {
		status += "; detail=shared"
	}
	return c.give(x, w, r, e, status)
}

// instead gives a stale copy in place of a failure; status is the upstream's, 0 if it gave none.
func (c *cacher) instead(x *Exchange, w http.ResponseWriter, r *http.Request, e *cache.Entry, status int) error {
	c.count[cacheStaleError].Inc()
	x.Degraded = "stale"
	w.Header()["Landline-Degraded"] = []string{"stale"}
	how := "; fwd=stale"
	if status != 0 {
		how += "; fwd-status=" + strconv.Itoa(status)
	}
	return c.give(x, w, r, e, how+"; detail=stale-if-error")
}

// cacheName is how the cache calls itself in Cache-Status (RFC 9211).
const cacheName = "Landline"

// give writes e as the answer to r: whole, in part, or as 304.
func (c *cacher) give(x *Exchange, w http.ResponseWriter, r *http.Request, e *cache.Entry, how string) error {
	h := w.Header()
	for name, values := range e.Header {
		h[name] = values
	}
	h["Age"] = []string{strconv.FormatInt(int64(e.Age(c.o.Clock.Now())/time.Second), 10)}
	before := e.Header["Cache-Status"]
	h["Cache-Status"] = append(before[:len(before):len(before)], cacheName+how)
	if e.NotModified(r.Header) {
		for _, name := range [...]string{"Content-Length", "Content-Type", "Content-Encoding", "Content-Range"} {
			delete(h, name)
		}
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	body, status := e.Body, e.Status
	if r.Method == http.MethodGet {
		switch span, part, unsatisfiable := e.Part(r.Header); {
		case unsatisfiable:
			h["Content-Range"] = []string{"bytes */" + strconv.Itoa(len(e.Body))}
			h["Content-Length"] = []string{"0"}
			delete(h, "Content-Type")
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return nil
		case part:
			status, body = http.StatusPartialContent, e.Body[span.From:span.From+span.Length]
			h["Content-Range"] = []string{fmt.Sprintf("bytes %d-%d/%d", span.From, span.From+span.Length-1, len(e.Body))}
			h["Content-Length"] = []string{strconv.FormatInt(span.Length, 10)}
		}
	}
	w.WriteHeader(status)
	if r.Method == http.MethodHead || len(body) == 0 {
		return nil
	}
	return writeBody(x, w, r, body)
}

// writeBody sends a body from memory in pieces, so that a slow client has its
// pause for each of them.
func writeBody(x *Exchange, w http.ResponseWriter, r *http.Request, body []byte) error {
	control := http.NewResponseController(w)
	out := &pieces{w: w, control: control, deadline: writeDeadline{control: control, pause: x.write, http2: r.ProtoMajor == 2}}
	for len(body) > 0 {
		n := min(len(body), bufferSize)
		if out.write(body[:n], n == len(body)) != nil {
			return errClientGone
		}
		body = body[n:]
	}
	return nil
}

// failure reports whether err says that the upstream, and not the client, is at fault.
func failure(err error) bool {
	if errors.Is(err, errClientGone) || errors.Is(err, context.Canceled) {
		return false
	}
	return errors.Is(err, errUpstream5xx) || problem.From(err).Status() >= 500
}
