package cache

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// Policy is what the operator decides for one feature.
type Policy struct {
	TTL                  time.Duration // lifetime of answers whose upstream gives none; 0 = such answers are never fresh
	StaleWhileRevalidate time.Duration // where the upstream says nothing
	StaleIfError         time.Duration // where the upstream says nothing
	Override             bool          // TTL and the two above count whatever lifetime the upstream gives
	Statuses             []int         // the statuses that may be stored; nil = those of RFC 9110 §15.1, but see HeuristicStatus
	Partitioned          bool          // every entry belongs to one user: the cache is that user's private cache as far as private and Authorization go
	Anonymous            bool          // the upstream is not told who asks, so that no answer can be meant for one caller
	CookieKeyed          bool          // the Cookie field is part of the partition
	Unseen               []string      // canonical names of further fields that the gateway sets on the way to the upstream
	HonourClient         bool          // Cache-Control of requests decides what is fresh enough
}

// Asked is what the rules look at in a request.
type Asked struct {
	Control    Directives
	Authorized bool // it has an Authorization field, or comes from somebody whom the gateway knows
	Cookie     bool // it has a Cookie field
}

// NewAsked reads the header of a request.
func NewAsked(h http.Header, authorized bool) Asked {
	a := Asked{Authorized: authorized || len(h["Authorization"]) > 0, Cookie: len(h["Cookie"]) > 0}
	a.Control = ParseDirectives(h["Cache-Control"])
	if len(h["Cache-Control"]) == 0 && len(h["Pragma"]) > 0 {
		a.Control.NoCache = ParseDirectives(h["Pragma"]).NoCache // RFC 9111 §5.4
	}
	return a
}

// Storable reports whether the answer to a GET may be stored, and if not why
// (RFC 9111 §3, §3.5). The reason is a word for logs and Cache-Status.
func Storable(p *Policy, a *Asked, status int, h http.Header) (reason string, ok bool) {
	d := ParseDirectives(h["Cache-Control"])
	understood := p.understands(status)
	switch {
	case !understood:
		return "status", false
	case a.Control.NoStore:
		return "request-no-store", false
	case d.NoStore && !d.MustUnderstand: // §5.2.2.3: who understands the status may store
		return "no-store", false
	case d.Private && !p.Partitioned:
		return "private", false
	case len(h["Set-Cookie"]) > 0:
		return "set-cookie", false
	case varies(h, "*"), p.variesUnseen(h):
		return "vary", false
	case len(h["Content-Range"]) > 0, len(h["Trailer"]) > 0:
		return "partial", false
	}
	shared := d.Public || d.SMaxAge != Absent
	switch {
	case a.Authorized && !p.Partitioned && !p.Anonymous && !shared && !d.MustRevalidate:
		return "authorization", false
	case a.Cookie && !p.CookieKeyed && !p.Anonymous && !shared && !varies(h, "Cookie"):
		return "cookie", false
	}
	l := lifetimeOf(p, status, h, &d)
	useful := l.fresh > 0 && !l.noCache || l.staleIfError > 0 && !l.neverStale || l.staleWhile > 0 && !l.neverStale
	if !useful && h.Get("Etag") == "" && h.Get("Last-Modified") == "" {
		return "no-lifetime", false
	}
	return "", true
}

// variesUnseen reports whether the answer depends on a field that the upstream
// sees and the client did not send: what the gateway says of the caller and of
// the request's way. Such answers cannot be told apart by the request; one that
// depends on who asks may be stored where every entry belongs to one user.
func (p *Policy) variesUnseen(h http.Header) bool {
	for _, line := range h["Vary"] {
		for part := range strings.SplitSeq(line, ",") {
			switch name := http.CanonicalHeaderKey(strings.TrimSpace(part)); name {
			case "Landline-Client", "X-Forwarded-Host", "X-Forwarded-Proto": // the latter two are part of the key
			case "Landline-Identity":
				if !p.Partitioned {
					return true
				}
			case "Forwarded", "Traceparent", "Tracestate", "Baggage", "Sentry-Trace", "X-Real-Ip":
				return true
			default:
				if strings.HasPrefix(name, "Landline-") || strings.HasPrefix(name, "X-Forwarded-") || slices.Contains(p.Unseen, name) {
					return true
				}
			}
		}
	}
	return false
}

// understands reports whether an answer with the status may be stored at all.
func (p *Policy) understands(status int) bool {
	if p.Statuses != nil {
		return slices.Contains(p.Statuses, status)
	}
	switch status {
	case http.StatusFound, http.StatusTemporaryRedirect:
		return true // with a lifetime of the upstream's
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusRequestURITooLong, http.StatusNotImplemented:
		return true // the same: what is missing now may be made in a moment
	}
	return HeuristicStatus(status)
}

// HeuristicStatus reports whether Policy.TTL applies to answers with the
// status. RFC 9110 §15.1 names more (404, 405, 414, 501); an app that has just
// made what was missing must not be told that it still is, so that those need
// a lifetime from the upstream or a place in Policy.Statuses.
func HeuristicStatus(status int) bool {
	switch status {
	case http.StatusOK, http.StatusNonAuthoritativeInfo, http.StatusNoContent, http.StatusMultipleChoices,
		http.StatusMovedPermanently, http.StatusPermanentRedirect, http.StatusGone:
		return true
	}
	return false
}

// NeverStored lists what no policy may name: answers that are about one
// request, one moment or one connection.
func NeverStored(status int) bool {
	switch status {
	case http.StatusPartialContent, http.StatusNotModified, http.StatusUnauthorized, http.StatusProxyAuthRequired, http.StatusRequestTimeout,
		http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable, http.StatusMisdirectedRequest, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return status < 200 || status >= 500 && status != http.StatusNotImplemented
}

// lifetime is for how long an answer may be used, and how.
type lifetime struct {
	fresh        time.Duration
	staleWhile   time.Duration
	staleIfError time.Duration
	noCache      bool // only after asking the upstream
	neverStale   bool // RFC 9111 §4.2.4
}

// lifetimeOf is RFC 9111 §4.2.1 with the policy's part.
func lifetimeOf(p *Policy, status int, h http.Header, d *Directives) lifetime {
	l := lifetime{
		staleWhile: p.StaleWhileRevalidate, staleIfError: p.StaleIfError,
		noCache:    d.NoCache && !p.Override,
		neverStale: d.NoCache || d.MustRevalidate || d.ProxyRevalidate || d.SMaxAge != Absent,
	}
	ttl := p.TTL
	if p.Statuses == nil && !HeuristicStatus(status) {
		ttl = 0
	}
	if p.Override && ttl > 0 {
		l.fresh = ttl
		return l
	}
	if d.StaleWhileRevalidate != Absent {
		l.staleWhile = d.StaleWhileRevalidate
	}
	if d.StaleIfError != Absent {
		l.staleIfError = d.StaleIfError
	}
	switch expires, there := h["Expires"]; {
	case d.SMaxAge != Absent:
		l.fresh = d.SMaxAge
	case d.MaxAge != Absent:
		l.fresh = d.MaxAge
	case there:
		l.fresh = untilExpiry(expires, h)
	default:
		l.fresh = ttl
	}
	return l
}

// untilExpiry is Expires minus Date; a malformed field, "0" above all, is in the past (§5.3).
func untilExpiry(expires []string, h http.Header) time.Duration {
	at, err := http.ParseTime(expires[0])
	date, dateErr := http.ParseTime(h.Get("Date"))
	if len(expires) != 1 || err != nil || dateErr != nil {
		return 0
	}
	return min(max(at.Sub(date), 0), maxDelta*time.Second)
}

// initialAge is RFC 9111 §4.2.3: how old an answer was when it came.
func initialAge(h http.Header, asked, answered time.Time) time.Duration {
	apparent := time.Duration(0)
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		apparent = max(answered.Sub(date), 0)
	}
	age := time.Duration(0)
	if v := h["Age"]; len(v) > 0 {
		first, _, _ := strings.Cut(v[0], ",")
		age = seconds(strings.TrimSpace(first))
	}
	return max(apparent, age+max(answered.Sub(asked), 0))
}

// Verdict is what may be done with an entry for a request.
type Verdict uint8

// The verdicts.
const (
	Validate   Verdict = iota // ask the upstream first
	Fresh                     // give it
	Stale                     // give it, and nobody needs to ask the upstream
	StaleAsync                // give it, and ask the upstream meanwhile
)

// Decide says what may be done with e at now (RFC 9111 §4, RFC 5861 §3).
func Decide(p *Policy, a *Asked, e *Entry, now time.Time) Verdict {
	age := e.Age(now)
	left := e.life.fresh - age
	c := &a.Control
	if p.HonourClient && (c.NoCache || c.MaxAge != Absent && age > c.MaxAge || c.MinFresh != Absent && left < c.MinFresh) {
		return Validate
	}
	switch {
	case e.life.noCache:
		return Validate
	case left > 0:
		return Fresh
	case e.life.neverStale:
		return Validate
	}
	if p.HonourClient {
		if c.MaxStale != Absent && -left <= c.MaxStale {
			return Stale
		}
		if c.MaxAge != Absent || c.MinFresh != Absent || c.MaxStale != Absent {
			return Validate // who names a bound takes nothing stale beyond it
		}
	}
	if e.life.staleWhile > 0 && -left <= e.life.staleWhile {
		return StaleAsync
	}
	return Validate
}

// InsteadOfError reports whether e may stand in for an upstream that fails at
// now (RFC 5861 §4).
func InsteadOfError(p *Policy, a *Asked, e *Entry, now time.Time) bool {
	if e.life.neverStale || e.life.noCache || p.HonourClient && a.Control.NoCache {
		return false
	}
	return e.life.staleIfError > 0 && e.Age(now)-e.life.fresh <= e.life.staleIfError
}

// Failure reports whether a status is one that stale-if-error stands in for (RFC 5861 §4).
func Failure(status int) bool {
	switch status {
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// Invalidates reports whether the answer to a request that is not known to be
// safe makes what is stored for its path out of date (RFC 9111 §4.4).
func Invalidates(method string, status int) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return false
	}
	return status >= 200 && status < 400
}
