package gateway

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"landline/internal/observe"
)

// Methods and classes of status that requests are counted by; the last stands for all others.
var (
	countedMethods = [...]string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodOptions, http.MethodConnect, http.MethodTrace, observe.Other}
	countedStatus = [...]string{"1xx", "2xx", "3xx", "4xx", "5xx", observe.Other}
)

// usualStatus is the place of 2xx in countedStatus.
const usualStatus = 1

// requestMetrics count requests by route: how many there were, and how long they
// took. A table may have ten thousand routes, so that what is kept of one is small,
// and what a request touches of it lies together: two cache lines in which the
// garbage collector finds nothing to follow. Samples are made when they are asked for.
type requestMetrics struct {
	mu     sync.Mutex
	routes map[countedRoute]*routeCounts // as many as the configuration has had
}

// countedRoute are the labels of a route.
type countedRoute struct{ feature, match, apiVersion string }

// routeCounts are the counters of one route, made as they are needed.
type routeCounts struct {
	method int // the route's own, as a place in countedMethods
	usual  atomic.Pointer[requestCount]
	others atomic.Pointer[[len(countedMethods)][len(countedStatus)]atomic.Pointer[requestCount]]
}

// requestCount counts the requests of one route, method and class of status.
type requestCount struct {
	took    atomic.Int64 // nanoseconds, of all together
	buckets [len(latencyBounds) + 1]atomic.Uint64
}

// latencyBounds are observe.LatencyBuckets as durations; the bucket behind them has no bound.
var latencyBounds = func() (bounds [14]time.Duration) {
	seconds := observe.LatencyBuckets()
	if len(seconds) != len(bounds) {
		panic("gateway: latencyBounds has another length than observe.LatencyBuckets")
	}
	for i, s := range seconds {
		bounds[i] = time.Duration(s * float64(time.Second))
	}
	return bounds
}()

// newRequestMetrics declares them on reg, or finds them there.
func newRequestMetrics(reg *prometheus.Registry) *requestMetrics {
	labels := []string{"feature", "route", "method", "status", "api_version"}
	of := func(name, kind, help string, m *requestMetrics, write func(*requestCount, *dto.Metric)) *requestMetrics {
		c := &requestCollector{requestMetrics: m, desc: prometheus.NewDesc(name, help, labels, nil), write: write}
		return observe.Collect(reg, observe.Metric{Name: name, Type: kind, Help: help, Labels: labels}, c).requestMetrics
	}
	m := of("landline_gateway_requests_total", "counter", "Requests answered, by class of status (2xx…).",
		&requestMetrics{routes: map[countedRoute]*routeCounts{}}, (*requestCount).writeTotal)
	return of("landline_gateway_request_duration_seconds", "histogram", "Time from a request's header to the end of its answer.",
		m, (*requestCount).writeDuration)
}

// of returns the counters of a route, the same after a reload.
func (m *requestMetrics) of(rt *Route) *routeCounts {
	key := countedRoute{rt.Feature, rt.Match, rt.APIVersion}
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.routes[key]
	if c == nil {
		c = &routeCounts{method: methodIndex(rt.Method)}
		m.routes[key] = c
	}
	return c
}

func methodIndex(method string) int {
	for i, name := range countedMethods {
		if name == method {
			return i
		}
	}
	return len(countedMethods) - 1
}

// of returns the counter of a method and a status.
func (c *routeCounts) of(method string, status int) *requestCount {
	mi, si := methodIndex(method), status/100-1
	if si < 0 || si >= len(countedStatus) {
		si = len(countedStatus) - 1
	}
	slot := &c.usual
	if mi != c.method || si != usualStatus {
		others := c.others.Load()
		if others == nil {
			c.others.CompareAndSwap(nil, new([len(countedMethods)][len(countedStatus)]atomic.Pointer[requestCount]))
			others = c.others.Load()
		}
		slot = &others[mi][si]
	}
	if slot.Load() == nil {
		slot.CompareAndSwap(nil, new(requestCount))
	}
	return slot.Load()
}

// observe counts a request.
func (c *requestCount) observe(took time.Duration) {
	i := 0
	for i < len(latencyBounds) && took > latencyBounds[i] {
		i++
	}
	c.buckets[i].Add(1)
	c.took.Add(int64(took))
}

func (c *requestCount) writeTotal(out *dto.Metric) {
	var total uint64
	for i := range c.buckets {
		total += c.buckets[i].Load()
	}
	value := float64(total)
	out.Counter = &dto.Counter{Value: &value}
}

func (c *requestCount) writeDuration(out *dto.Metric) {
	var total uint64
	bounds := observe.LatencyBuckets()
	list := make([]*dto.Bucket, len(bounds))
	for i := range bounds {
		total += c.buckets[i].Load()
		upTo := total
		list[i] = &dto.Bucket{UpperBound: &bounds[i], CumulativeCount: &upTo}
	}
	total += c.buckets[len(bounds)].Load()
	sum := time.Duration(c.took.Load()).Seconds()
	out.Histogram = &dto.Histogram{SampleCount: &total, SampleSum: &sum, Bucket: list}
}

// requestCollector is one of the two metrics.
type requestCollector struct {
	*requestMetrics
	desc  *prometheus.Desc
	write func(*requestCount, *dto.Metric)
}

// requestSample is one of its samples.
type requestSample struct {
	of     *requestCollector
	count  *requestCount
	labels []*dto.LabelPair
}

// Describe implements prometheus.Collector.
func (c *requestCollector) Describe(out chan<- *prometheus.Desc) { out <- c.desc }

// Collect implements prometheus.Collector.
func (c *requestCollector) Collect(out chan<- prometheus.Metric) {
	type one struct {
		countedRoute
		*routeCounts
	}
	c.mu.Lock()
	list := make([]one, 0, len(c.routes))
	for key, counts := range c.routes {
		list = append(list, one{key, counts})
	}
	c.mu.Unlock()
	slices.SortFunc(list, func(a, b one) int { return strings.Compare(a.match, b.match) })
	for _, r := range list {
		sample := func(count *requestCount, method, status int) {
			if count != nil {
				out <- &requestSample{c, count, prometheus.MakeLabelPairs(c.desc,
					[]string{r.feature, r.match, countedMethods[method], countedStatus[status], r.apiVersion})}
			}
		}
		sample(r.usual.Load(), r.method, usualStatus)
		if others := r.others.Load(); others != nil {
			for mi := range others {
				for si := range others[mi] {
					sample(others[mi][si].Load(), mi, si)
				}
			}
		}
	}
}

// Desc implements prometheus.Metric.
func (s *requestSample) Desc() *prometheus.Desc { return s.of.desc }

// Write implements prometheus.Metric.
func (s *requestSample) Write(out *dto.Metric) error {
	out.Label = s.labels
	s.of.write(s.count, out)
	return nil
}
