package observe

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// countPatience bounds one counting.
const countPatience = 2 * time.Second

// Sample is one figure with a value for each label of its metric.
type Sample struct {
	Value  float64
	Labels []string
}

// Counted declares a gauge whose samples count tells when metrics are collected,
// so that nothing is counted when nobody looks, and not oftener than every. When
// it fails there is no figure rather than an old one, and failed is told.
func Counted(reg prometheus.Registerer, m Metric, every time.Duration, count func(context.Context) ([]Sample, error), failed func(error)) {
	m.Type = "gauge"
	Collect(reg, m, &counted{desc: prometheus.NewDesc(m.Name, m.Help, m.Labels, nil), every: every, count: count, failed: failed})
}

type counted struct {
	desc   *prometheus.Desc
	every  time.Duration
	count  func(context.Context) ([]Sample, error)
	failed func(error)

	mu   sync.Mutex
	at   time.Time
	last []prometheus.Metric
}

// Describe implements prometheus.Collector.
func (c *counted) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c *counted) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.at) >= c.every {
		c.at = time.Now()
		c.look()
	}
	for _, m := range c.last {
		ch <- m
	}
}

func (c *counted) look() {
	ctx, cancel := context.WithTimeout(context.Background(), countPatience)
	defer cancel()
	c.last = nil
	found, err := c.count(ctx)
	if err != nil {
		c.failed(err)
		return
	}
	for _, s := range found {
		c.last = append(c.last, prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, s.Value, s.Labels...))
	}
}
