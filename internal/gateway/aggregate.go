package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"landline/internal/gateway/aggregate"
	"landline/internal/gateway/cache"
	"landline/internal/problem"
)

var (
	errEmptyCall    = errors.New("the call is empty")
	errVariables    = errors.New("the variables must be an object")
	errSubscription = errors.New("a subscription has no one answer")
)

// aggregation is the handler of a route that puts several calls together.
type aggregation struct {
	g       *Gateway
	rt      *Route
	plan    *aggregate.Plan
	calls   []*upstreamCall // as in plan
	writes  int             // calls that may change something
	maxBody int64
}

// addComposed adds a route that is no plain one.
func (g *Gateway) addComposed(t, old *table, f *feature, rc RouteConfig, p pattern) error {
	if rc.destinations() != 1 {
		return errors.New("a route ends in one of upstream, aggregate and graphql")
	}
	add := g.addAggregated
	if rc.GraphQL != nil && rc.GraphQL.Operation == "" {
		add = g.addGraphQL
	}
	rt, way, err := add(t, old, f, rc, p)
	if err != nil {
		return err
	}
	if rc.Version != "" {
		rt.Version, rt.APIVersion, rt.versions = rc.Version, rc.Version, t.versions
	}
	rt.invalidates = t.caches() && cache.Invalidates(rt.Method, http.StatusOK)
	if rt.other, err = g.otherWayOf(t, old, f, rt, p); err != nil {
		return err
	}
	return g.finish(t, f, rt, way)
}

// addAggregated adds a route of several calls, or of one GraphQL operation.
func (g *Gateway) addAggregated(t, old *table, f *feature, rc RouteConfig, p pattern) (*Route, destination, error) {
	rt := newRoute(f, rc.Match, p)
	rt.Auth, rt.aggregated = f.policy.Auth, true
	configs := map[string]*CallConfig{}
	var plan *aggregate.Plan
	var faults []*aggregate.Fault
	if q := rc.GraphQL; q != nil {
		plan, faults = q.plan(p)
		configs[operationCall] = &CallConfig{Upstream: q.Upstream, MaxResponse: q.MaxResponse}
	} else {
		plan, faults = rc.Aggregate.plan(p)
		configs = rc.Aggregate.Calls
	}
	if len(faults) > 0 {
		errs := make([]error, len(faults))
		for i, fault := range faults {
			errs[i] = fault
		}
		return nil, destination{}, errors.Join(errs...)
	}
	a := &aggregation{g: g, rt: rt, plan: plan, maxBody: int64(f.policy.MaxBody)}
	for _, call := range plan.Calls {
		c := configs[call.Name]
		up := t.upstreams[c.Upstream]
		if up == nil {
			return nil, destination{}, fmt.Errorf("call %s: there is no upstream %q", call.Name, c.Upstream)
		}
		if call.Write {
			a.writes++
		}
		way := destination{upstream: up, breakers: g.breakersFor(t, old, f, up)}
		a.calls = append(a.calls, g.newUpstreamCall(rt, call, c, way))
	}
	return rt, destination{handler: a.handle}, nil
}

// handle makes the calls and answers.
func (a *aggregation) handle(x *Exchange, w http.ResponseWriter, r *http.Request) error {
	in, fields, err := a.input(x, r)
	if err != nil {
		return err
	}
	base := callHeader(r.Header)
	var sent atomic.Bool // a call that may change something may have arrived
	defer func() { x.Sent = x.Sent || sent.Load() }()
	var stale atomic.Bool
	fresh := freshness{}
	res, err := a.plan.Run(r.Context(), in, fields, func(ctx context.Context, i int, req *aggregate.Request) aggregate.Answer {
		return a.calls[i].send(ctx, &callRequest{x: x, in: r, header: base, request: req, sent: &sent, several: a.writes > 1, fresh: &fresh, stale: &stale})
	})
	if err != nil {
		return problem.New(problem.InvalidRequest, "%s", err.Error())
	}
	if ctx := r.Context(); ctx.Err() != nil && !errors.Is(context.Cause(ctx), errTimeout) {
		return errClientGone
	}
	if res.Failed != nil {
		return res.Failed.Problem(a.rt.Feature)
	}
	h := w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Content-Length"] = []string{strconv.Itoa(len(res.Body))}
	if res.Partial != "" {
		h["Landline-Partial"] = []string{res.Partial}
		h["Cache-Control"] = []string{"no-store"}
		x.Cause = res.Causes
		a.g.callMetrics.partial.WithLabelValues(a.rt.Feature).Inc()
	} else if v := fresh.cacheControl(); v != "" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		h["Cache-Control"] = []string{v}
	}
	if stale.Load() {
		h["Landline-Degraded"] = []string{"stale"}
		if !honoursKey(r.Method) { // a stale copy says nothing of a write's outcome
			x.Degraded = "stale"
		}
	}
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	return writeBody(x, w, r, res.Body)
}

// input reads what the plan looks at of the request.
func (a *aggregation) input(x *Exchange, r *http.Request) (*aggregate.Input, aggregate.Fields, error) {
	in := &aggregate.Input{Params: x.Params}
	if p := x.Principal; p != nil {
		in.User, in.Installation = p.UserID, p.InstallationID
	}
	var fields aggregate.Fields
	if a.plan.UsesQuery() && r.URL.RawQuery != "" {
		values, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			return nil, nil, problem.New(problem.InvalidRequest, "the query is not well-formed").Wrap(err)
		}
		in.Query = func(name string) (string, bool) {
			if list := values[name]; len(list) > 0 {
				return list[0], true
			}
			return "", false
		}
		if list := values["fields"]; a.plan.UsesFields() && len(list) > 0 {
			if len(list) > 1 {
				return nil, nil, problem.New(problem.InvalidRequest, "the query has fields more than once; write fields=a,b.c")
			}
			if fields, err = aggregate.ParseFields(list[0]); err != nil {
				return nil, nil, problem.New(problem.InvalidRequest, "%s", err.Error())
			}
		}
	} else {
		in.Query = noQuery
	}
	if a.plan.UsesBody() {
		body, err := readJSON(x, r, a.maxBody)
		if err != nil {
			return nil, nil, err
		}
		in.Body = body
	}
	return in, fields, nil
}

func noQuery(string) (string, bool) { return "", false }

// readJSON takes a JSON body into memory.
func readJSON(x *Exchange, r *http.Request, most int64) ([]byte, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" && !strings.HasSuffix(kind, "+json") {
		return nil, problem.New(problem.MediaTypeUnsupported, "send the body as application/json")
	}
	if r.Body == nil {
		return nil, problem.New(problem.InvalidRequest, "the request needs a JSON body")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, most+1))
	switch {
	case err != nil && x.body != nil && x.body.fault() != nil:
		return nil, x.body.fault()
	case err != nil:
		return nil, errClientGone // it ended before it was complete
	case int64(len(body)) > most:
		return nil, problem.New(problem.BodyTooLarge, "the request body is larger than %d bytes", most)
	case !aggregate.Valid(body):
		return nil, problem.New(problem.InvalidRequest, "the request body is not JSON")
	}
	return body, nil
}

// callHeader is the part of the client's header that concerns its calls: not
// how the client wants its own answer, nor what belongs to its own body.
func callHeader(in http.Header) http.Header {
	h := make(http.Header, len(in)+8)
	for key, values := range in {
		h[key] = values
	}
	for _, name := range connectionOptions(in) {
		if !endToEnd(name) {
			delete(h, name)
		}
	}
	for _, name := range [...]string{
		"Accept-Encoding", "Accept-Ranges", "Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range",
		"Content-Type", "Content-Length", "Content-Encoding", "Content-Language", "Content-Location", "Content-Md5", "Content-Digest", "Content-Disposition",
		"Idempotency-Key", "Expect", "Te", "Upgrade", "Connection", "Cache-Control", "Pragma", "Digest", "Repr-Digest", "Sec-Websocket-Key", "Sec-Websocket-Version", "Sec-Websocket-Protocol",
		"Sec-Websocket-Extensions",
	} {
		delete(h, name)
	}
	h["Accept"] = []string{"application/json"}
	return h
}

// freshness is how long an answer of several calls may be kept: as long as the
// one that may be kept shortest, and by nobody else if one is private.
type freshness struct {
	state atomic.Int64 // 0 = nothing yet, else seconds+1
	other atomic.Bool  // one says nothing, or no-store
	mine  atomic.Bool  // one is private
}

func (f *freshness) see(h http.Header) {
	seconds, private, ok := maxAge(h["Cache-Control"])
	if !ok {
		f.other.Store(true)
		return
	}
	if private {
		f.mine.Store(true)
	}
	for {
		before := f.state.Load()
		if before != 0 && before <= seconds+1 || f.state.CompareAndSwap(before, seconds+1) {
			return
		}
	}
}

// maxAge reads what of Cache-Control (RFC 9111 §5.2.2) decides about keeping.
func maxAge(values []string) (seconds int64, private, ok bool) {
	for _, v := range values {
		for directive := range strings.SplitSeq(v, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
			switch strings.ToLower(name) {
			case "no-store", "no-cache":
				return 0, false, false
			case "private":
				private = true
			case "max-age":
				n, err := strconv.ParseInt(strings.Trim(value, `"`), 10, 64)
				if err != nil || n < 0 {
					return 0, false, false
				}
				seconds, ok = min(n, int64(365*24*time.Hour/time.Second)), true
			}
		}
	}
	return seconds, private, ok
}

func (f *freshness) cacheControl() string {
	n := f.state.Load()
	if f.other.Load() || n == 0 {
		return ""
	}
	v := "max-age=" + strconv.FormatInt(n-1, 10)
	if f.mine.Load() {
		v = "private, " + v
	}
	return v
}
