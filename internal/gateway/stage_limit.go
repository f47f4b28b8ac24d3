package gateway

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"landline/internal/limit"
	"landline/internal/module"
	"landline/internal/problem"
)

// limiter is one policy as a route uses it.
type limiter struct {
	policy *limit.Policy
	key    string // what is counted together, as in RateLimitConfig.Key
	name   string
	field  string // its member of RateLimit-Policy
	shared bool   // counted together with all nodes
}

// limitStage refuses requests beyond the feature's rate limits and tells every
// caller where it stands, in the fields of draft-ietf-httpapi-ratelimit-headers:
// all policies, the tightest first; on a refusal RateLimit has those that
// refused. The policies belong to the feature: its routes count together.
//
// Where a policy counts by installation or user the stage asks for the caller
// itself if that has not been done yet; a caller whose token does not verify is
// counted by address, and is refused by the stage that follows.
func limitStage(o *Options, l *limit.Shared, rt *Route) (Stage, error) {
	if rt.Policy == nil || len(rt.Policy.RateLimit) == 0 {
		return func(next Handler) Handler { return next }, nil
	}
	limiters, err := limitersOf(l, rt)
	if err != nil {
		return nil, err
	}
	byCaller := slices.ContainsFunc(limiters, func(p limiter) bool { return p.key == "installation" || p.key == "user" })
	byAPIKey := slices.ContainsFunc(limiters, func(p limiter) bool { return p.key == "api_key" })
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			if byCaller && x.Principal == nil && rt.Auth != module.AuthOwn {
				if p, err := authenticate(o, r); err == nil { // else the authenticate stage finds and reports the same
					x.Principal = p
				}
			}
			var checks [maxPolicy]limit.Check
			var states [maxPolicy]limit.State
			if byAPIKey {
				x.findAPIKey(o, r) // one that is nobody's is counted by address, and refused by the stage that follows
			}
			for i := range limiters {
				checks[i] = limit.Check{Policy: limiters[i].policy, Key: x.limitKey(limiters[i].key), Shared: limiters[i].shared}
				if key := x.apiKey.key; key != nil && limiters[i].key == "api_key" {
					checks[i].Pace = key.Pace()
				}
			}
			n := len(limiters)
			admitted := l.Take(r.Context(), checks[:n], states[:n])
			tell(x, w.Header(), limiters, checks[:n], states[:n], admitted)
			if !admitted {
				return refused(limiters, states[:n])
			}
			return next(x, w, r)
		}
	}, nil
}

func limitersOf(l *limit.Shared, rt *Route) ([]limiter, error) {
	list := rt.Policy.RateLimit
	if len(list) > maxPolicy {
		return nil, fmt.Errorf("feature %s: %d rate limits, at most %d are possible", rt.Feature, len(list), maxPolicy)
	}
	limiters := make([]limiter, 0, len(list))
	policies := make([]*limit.Policy, 0, len(list))
	for i := range list {
		c := &list[i]
		name := c.policyName()
		if slices.ContainsFunc(limiters, func(other limiter) bool { return other.name == name }) {
			return nil, fmt.Errorf("feature %s: two rate limits are called %q", rt.Feature, name)
		}
		rate := limit.Rate{Limit: c.Limit, Window: c.Window.D(), Burst: c.Burst}
		p, err := l.Policy(rt.Feature+"/"+name+"/"+c.Key, rate)
		if err != nil {
			return nil, err
		}
		limiters = append(limiters, limiter{
			policy: p, key: c.Key, name: name, shared: c.Shared == nil || *c.Shared, field: policyField(name, rate.Limit, rate.Window),
		})
		policies = append(policies, p)
	}
	limit.Sort(policies)
	slices.SortFunc(limiters, func(a, b limiter) int {
		return slices.Index(policies, a.policy) - slices.Index(policies, b.policy)
	})
	return limiters, nil
}

// policyField is a policy's member of RateLimit-Policy.
func policyField(name string, limit int, window time.Duration) string {
	return `"` + name + `";q=` + strconv.Itoa(limit) + ";w=" + strconv.FormatInt(ceilSeconds(window), 10)
}

// limitKey names whose request this is, in the eyes of a policy.
func (x *Exchange) limitKey(key string) string {
	switch {
	case key == "feature":
		return ""
	case key == "installation" && x.Principal != nil && x.Principal.InstallationID != "":
		return x.Principal.InstallationID
	case key == "user" && x.Principal != nil && x.Principal.UserID != "":
		return x.Principal.UserID
	case key == "api_key" && x.apiKey.key != nil:
		return x.apiKey.key.ID
	}
	return addressKey(x.ClientIP)
}

// addressKey is an address as one caller: IPv6 callers own a /64 at least
// (RFC 6177), so that counting single addresses would count nothing.
func addressKey(ip string) string {
	if strings.IndexByte(ip, ':') < 0 {
		return ip
	}
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return ip
	}
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return a.String()
	}
	p, err := a.Prefix(64)
	if err != nil { // an IPv6 address has 64 bits
		return ip
	}
	return p.Addr().String()
}

// tell writes RateLimit-Policy and RateLimit.
func tell(x *Exchange, h http.Header, limiters []limiter, checks []limit.Check, states []limit.State, admitted bool) {
	var order [maxPolicy]int
	for i := range states {
		order[i] = i
	}
	slices.SortStableFunc(order[:len(states)], func(a, b int) int {
		sa, sb := &states[a], &states[b]
		if sa.Remaining != sb.Remaining {
			return sa.Remaining - sb.Remaining
		}
		if sa.Wait != sb.Wait {
			return int(min(max(sb.Wait-sa.Wait, -1), 1))
		}
		return int(min(max(sb.Full-sa.Full, -1), 1))
	})
	var room [2][256]byte // enough for what most routes have; append takes care of the others
	policy, state := room[0][:0], room[1][:0]
	for _, i := range order[:len(states)] {
		if pace := checks[i].Pace; pace != nil { // the API key's own
			policy = append(separate(policy), policyField(limiters[i].name, pace.Rate().Limit, pace.Rate().Window)...)
		} else {
			policy = append(separate(policy), limiters[i].field...)
		}
		if !admitted && !states[i].Refused {
			continue
		}
		state = append(separate(state), '"')
		state = append(state, limiters[i].name...)
		state = append(state, `";r=`...)
		state = strconv.AppendInt(state, int64(states[i].Remaining), 10)
		state = append(state, ";t="...)
		t := states[i].Full // until all of it is back
		if states[i].Remaining == 0 {
			t = states[i].Wait // until there is one
		}
		state = strconv.AppendInt(state, ceilSeconds(t), 10)
	}
	both := string(append(policy, state...)) // one piece of memory
	h["Ratelimit-Policy"], h["Ratelimit"] = x.one(both[:len(policy)]), x.one(both[len(policy):])
}

func separate(b []byte) []byte {
	if len(b) > 0 {
		return append(b, ", "...)
	}
	return b
}

func ceilSeconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// violated is the member of the problem that names the policies which refused.
const violated = "violated-policies"

func refused(limiters []limiter, states []limit.State) error {
	var wait time.Duration
	var names []string
	for i := range states {
		if states[i].Refused {
			wait = max(wait, states[i].Wait)
			names = append(names, limiters[i].name)
		}
	}
	return problem.New(problem.RateLimited, "more requests than %s allows", strings.Join(names, " and ")).
		After(max(wait, time.Second)).With(violated, names)
}
