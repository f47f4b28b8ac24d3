package gateway

import (
	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/gateway/cache"
	"landline/internal/observe"
)

// cacheMetrics are the cache's figures.
type cacheMetrics struct {
	requests  *prometheus.CounterVec // feature outcome
	saved     *prometheus.CounterVec // feature
	refreshes *prometheus.CounterVec // feature outcome
	shared    *prometheus.CounterVec // outcome
	purges    *prometheus.CounterVec // by
}

func newCacheMetrics(reg *prometheus.Registry, c *caching) *cacheMetrics {
	const area = "landline_cache_"
	stat := func(name, help string, value func(cache.Stats) int64) {
		observe.GaugeFunc(reg, area+name, help, func() float64 {
			store := c.store.Load()
			if store == nil {
				return 0
			}
			return float64(value(store.Stats()))
		})
	}
	stat("memory_bytes", "Bytes of memory that stored answers take.", func(s cache.Stats) int64 { return s.Bytes })
	stat("memory_limit_bytes", "Most bytes that stored answers may take.", func(s cache.Stats) int64 { return s.Budget })
	stat("entries", "Answers stored in memory.", func(s cache.Stats) int64 { return s.Entries })
	observe.Collect(reg, evictionsMetric, &evictions{c: c, desc: prometheus.NewDesc(evictionsMetric.Name, evictionsMetric.Help, evictionsMetric.Labels, nil)})
	return &cacheMetrics{
		requests: observe.Counter(reg, area+"requests_total",
			"GET and HEAD of features with a cache, by what became of them: hit, stale (given while the service is asked), stale_error (instead of a failure), shared (found in Redis), collapsed (waited for another's answer), revalidated (304 of the service), miss (stored), unstorable, bypass.",
			"feature", "outcome"),
		saved:     observe.Counter(reg, area+"saved_upstream_seconds_total", "Time of the services that stored answers saved: what each needed when it was made.", "feature"),
		refreshes: observe.Counter(reg, area+"background_refreshes_total", "Revalidations in the background: done, failed, skipped (too many under way).", "feature", "outcome"),
		shared:    observe.Counter(reg, area+"shared_total", "Uses of the cache in Redis: hit, miss, stored, error.", "outcome"),
		purges:    observe.Counter(reg, area+"purges_total", "Purges by what caused them: operator, write (a write to the same path), other_node, missed_news (everything was dropped because messages of other nodes may have been lost).", "by"),
	}
}

var evictionsMetric = observe.Metric{
	Name: "landline_cache_evictions_total", Type: "counter", Labels: []string{"reason"},
	Help: "Stored answers that went: room (the least recently used, for a new one), expired, purged, replaced; refused: not stored, too large or purged while it came.",
}

// evictions reads the store's own counts when it is asked.
type evictions struct {
	c    *caching
	desc *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (e *evictions) Describe(ch chan<- *prometheus.Desc) { ch <- e.desc }

// Collect implements prometheus.Collector.
func (e *evictions) Collect(ch chan<- prometheus.Metric) {
	var s cache.Stats
	if store := e.c.store.Load(); store != nil {
		s = store.Stats()
	}
	for reason, n := range map[string]int64{"room": s.EvictedForRoom, "expired": s.Expired, "purged": s.Purged, "replaced": s.Replaced, "refused": s.Refused} {
		ch <- prometheus.MustNewConstMetric(e.desc, prometheus.CounterValue, float64(n), reason)
	}
}
