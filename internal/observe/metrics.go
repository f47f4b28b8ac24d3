package observe

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// NewRegistry returns a registry with the metrics of the Go runtime and of the process.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// LatencyBuckets are bounds in seconds for what a phone's user waits for.
func LatencyBuckets() []float64 {
	return []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
}

// Counter declares a counter on reg. Declared before on the same registry, the
// first is returned. A nil reg gives a counter that nobody scrapes. Like all
// declarations here it panics on a fault of the program: a name that does not
// start with "landline_", no help, or another metric of the same name.
func Counter(reg prometheus.Registerer, name, help string, labels ...string) *prometheus.CounterVec {
	return declare(reg, Metric{name, "counter", help, labels}, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels))
}

// Gauge declares a gauge on reg, under the rules of Counter.
func Gauge(reg prometheus.Registerer, name, help string, labels ...string) *prometheus.GaugeVec {
	return declare(reg, Metric{name, "gauge", help, labels}, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels))
}

// GaugeFunc declares a gauge on reg whose value is read by value at every
// scrape, under the rules of Counter: a second declaration's value is not asked.
func GaugeFunc(reg prometheus.Registerer, name, help string, value func() float64) prometheus.GaugeFunc {
	return declare(reg, Metric{name, "gauge", help, nil}, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
}

// Histogram declares a histogram on reg, under the rules of Counter. buckets
// are upper bounds in the metric's unit; nil means LatencyBuckets.
func Histogram(reg prometheus.Registerer, name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	if buckets == nil {
		buckets = LatencyBuckets()
	}
	return declare(reg, Metric{name, "histogram", help, labels}, prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels))
}

// Collect declares a metric whose samples c computes when they are asked for,
// under the rules of Counter. c must describe m alone.
func Collect[C prometheus.Collector](reg prometheus.Registerer, m Metric, c C) C {
	return declare(reg, m, c)
}

// Metric is a declared metric.
type Metric struct {
	Name   string
	Type   string // counter, gauge or histogram
	Help   string
	Labels []string
}

func declare[C prometheus.Collector](reg prometheus.Registerer, m Metric, c C) C {
	if !strings.HasPrefix(m.Name, "landline_") || strings.TrimSpace(m.Help) == "" {
		panic(fmt.Sprintf("observe: metric %q: the name must start with landline_ and the help must not be empty", m.Name))
	}
	if reg == nil {
		return c
	}
	list := declarationsOf(reg)
	err := reg.Register(c)
	var twice prometheus.AlreadyRegisteredError
	switch {
	case err == nil:
		list.add(m)
		return c
	case errors.As(err, &twice):
		first, ok := twice.ExistingCollector.(C)
		if !ok {
			panic(fmt.Sprintf("observe: metric %s is declared twice with different types", m.Name))
		}
		return first
	}
	panic(fmt.Sprintf("observe: metric %s: %v", m.Name, err))
}

// declarations is the list of a registry's metrics. It is registered there
// itself, as a metric, because a registry can be asked for a collector that it
// has already but not for its metrics' types, and the list must not be global.
type declarations struct {
	mu      sync.Mutex
	metrics []Metric
}

var declaredSelf = Metric{Name: "landline_observe_metrics_declared", Type: "gauge", Help: "Number of metrics that Landline declares, those without a sample included."}

func declarationsOf(reg prometheus.Registerer) *declarations {
	d := &declarations{metrics: []Metric{declaredSelf}}
	err := reg.Register(d)
	var twice prometheus.AlreadyRegisteredError
	switch {
	case err == nil:
		return d
	case errors.As(err, &twice):
		if first, ok := twice.ExistingCollector.(*declarations); ok {
			return first
		}
	}
	panic(fmt.Sprintf("observe: the registry cannot hold declarations: %v", err))
}

func (d *declarations) add(m Metric) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m.Labels = slices.Clone(m.Labels)
	d.metrics = append(d.metrics, m)
}

func (d *declarations) sorted() []Metric {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := slices.Clone(d.metrics)
	slices.SortFunc(all, func(a, b Metric) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (d *declarations) desc() *prometheus.Desc {
	return prometheus.NewDesc(declaredSelf.Name, declaredSelf.Help, nil, nil)
}

// Describe implements prometheus.Collector.
func (d *declarations) Describe(ch chan<- *prometheus.Desc) { ch <- d.desc() }

// Collect implements prometheus.Collector.
func (d *declarations) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(d.desc(), prometheus.GaugeValue, float64(len(d.sorted())))
}
