package gateway

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"sync/atomic"

	"landline/internal/gateway/balance"
	"landline/internal/gateway/health"
	"landline/internal/gateway/overload"
	"landline/internal/gateway/rolling"
)

// upstream is a service of the team, as one table sees it.
type upstream struct {
	name    string
	config  *UpstreamConfig
	targets []*target
	pool    *pool
	hosts   []string          // names of targets that have to be resolved
	ids     []uint64          // what a key's choice is made of, for each target
	monitor *health.Monitor   // nil when nothing is watched
	budget  *rolling.Budget   // of retries and hedges
	limiter *overload.Limiter // nil without one

	statuses []statusRange // of a good probe
}

// target is one place where an upstream runs.
type target struct {
	name     string
	weight   int
	scheme   string
	host     string
	address  string         // host:port to connect to without TLS, "" where net/http is to do it
	basePath string         // escaped, without a trailing slash
	inFlight *atomic.Int64  // carried over from table to table
	health   *health.Target // carried over from table to table
}

func (t *target) url() string { return t.scheme + "://" + t.host + t.basePath }

// newUpstream compiles c, taking over what it can from old: connections, what
// is known of targets, budget and limits. It starts nothing.
func newUpstream(name string, c *UpstreamConfig, o *Options, shares overload.Shares, old *upstream) (*upstream, error) {
	u := &upstream{name: name, config: c}
	total := 0
	for i, tc := range c.Targets {
		parsed, err := parseTargetURL(tc.URL)
		if err != nil {
			return nil, fmt.Errorf("upstream %s: target %d: %w", name, i+1, err)
		}
		t := &target{
			name: targetName(c.Targets, i), weight: tc.Weight,
			scheme: parsed.Scheme, host: parsed.Host, basePath: strings.TrimRight(parsed.EscapedPath(), "/"),
			inFlight: new(atomic.Int64),
		}
		t.address = c.plainAddress(parsed)
		u.targets = append(u.targets, t)
		u.ids = append(u.ids, balance.Hash(t.url()))
		total += t.weight
	}
	if total == 0 {
		return nil, fmt.Errorf("upstream %s: no target has a weight above 0", name)
	}
	u.hosts = hostNames(u.targets)
	if err := u.connect(o, old); err != nil {
		return nil, fmt.Errorf("upstream %s: %w", name, err)
	}
	if err := u.watch(o, old); err != nil {
		return nil, fmt.Errorf("upstream %s: %w", name, err)
	}
	u.bound(shares, old)
	return u, nil
}

// connect takes over old's connections if they would be the same.
func (u *upstream) connect(o *Options, old *upstream) (err error) {
	shared := poolConfig(u.config)
	if old != nil && reflect.DeepEqual(old.pool.config, shared) {
		u.pool = old.pool
		return nil
	}
	u.pool, err = newPool(shared, o.Resolver, newStaleDials(o, u.name))
	return err
}

// bound takes over old's budget and limit if they would be the same.
func (u *upstream) bound(shares overload.Shares, old *upstream) {
	limits := u.config.Concurrency.limits(shares)
	if old != nil && old.config.RetryBudget == u.config.RetryBudget {
		u.budget = old.budget
	} else {
		u.budget = rolling.NewBudget(u.config.RetryBudget.Share, u.config.RetryBudget.Min, budgetWindow)
	}
	switch {
	case limits == nil:
	case old != nil && old.limiter != nil && old.limiter.Config() == *limits:
		u.limiter = old.limiter
	default:
		u.limiter = overload.NewLimiter(*limits)
	}
}

// targetName is the configured name, or what stands in for it.
func targetName(targets []TargetConfig, i int) string {
	switch {
	case targets[i].Name != "":
		return targets[i].Name
	case len(targets) == 1:
		return "stable"
	}
	return fmt.Sprintf("target-%d", i+1)
}

func parseTargetURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("the URL is malformed; write for example http://10.0.0.5:9000")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("the URL must begin with http:// or https://")
	case u.Host == "" || u.Opaque != "":
		return nil, errors.New("the URL has no host")
	case u.User != nil:
		return nil, errors.New("the URL must not hold credentials")
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return nil, errors.New("the URL must not have a query or a fragment")
	}
	if port := u.Port(); port == "" && strings.HasSuffix(u.Host, ":") {
		return nil, errors.New("the URL has a colon without a port")
	}
	if _, err := checkPath(u.EscapedPath()); err != nil {
		return nil, err
	}
	return u, nil
}
