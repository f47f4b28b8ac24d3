package gateway

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"landline/internal/observe"
)

// TestRequestMetricsAreThoseOfPrometheus counts the same requests with the
// library's own counters: a scrape must not tell the difference.
func TestRequestMetricsAreThoseOfPrometheus(t *testing.T) {
	labels := []string{"feature", "route", "method", "status", "api_version"}
	rapid.Check(t, func(t *rapid.T) {
		reg, theirs := prometheus.NewRegistry(), prometheus.NewRegistry()
		ours := newRequestMetrics(reg)
		total := observe.Counter(theirs, "landline_gateway_requests_total", "Requests answered, by class of status (2xx…).", labels...)
		took := observe.Histogram(theirs, "landline_gateway_request_duration_seconds", "Time from a request's header to the end of its answer.", nil, labels...)
		for range rapid.IntRange(0, 60).Draw(t, "requests") {
			rt := &Route{
				Feature: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "feature"), APIVersion: rapid.SampledFrom([]string{"", "v1"}).Draw(t, "version"),
				Match: rapid.SampledFrom([]string{"GET /x", "/y"}).Draw(t, "match"), Method: rapid.SampledFrom([]string{"", "GET", "PURGE"}).Draw(t, "own method"),
			}
			method := rapid.SampledFrom([]string{"GET", "HEAD", "POST", "PURGE"}).Draw(t, "method")
			status := rapid.SampledFrom([]int{0, 101, 200, 204, 304, 404, 503, 599, 600, 999}).Draw(t, "status")
			bounds := observe.LatencyBuckets()
			d := time.Duration(rapid.SampledFrom(bounds).Draw(t, "bound")*float64(time.Second)) + time.Duration(rapid.IntRange(-1, 1).Draw(t, "off"))

			ours.of(rt).of(method, status).observe(d)
			values := []string{rt.Feature, rt.Match, countedMethods[methodIndex(method)], observe.Other, rt.APIVersion}
			if status >= 100 && status < 600 {
				values[3] = fmt.Sprintf("%dxx", status/100)
			}
			total.WithLabelValues(values...).Inc()
			took.WithLabelValues(values...).Observe(d.Seconds())
		}
		if again := newRequestMetrics(reg); again != ours {
			t.Error("a second declaration counts elsewhere")
		}
		if diff := cmp.Diff(gathered(t, theirs), gathered(t, reg), protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
	})
}

// gathered is what a scrape finds, without when counters were made, and with sums
// to the microsecond: the library adds up in floating point.
func gathered(t *rapid.T, reg *prometheus.Registry) (list []*dto.MetricFamily) {
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == "landline_observe_metrics_declared" {
			continue
		}
		for _, m := range f.GetMetric() {
			if c := m.GetCounter(); c != nil {
				c.CreatedTimestamp = nil
			}
			if h := m.GetHistogram(); h != nil {
				rounded := float64(int64(h.GetSampleSum()*1e6+0.5)) / 1e6
				h.CreatedTimestamp, h.SampleSum = nil, &rounded
			}
		}
		list = append(list, f)
	}
	return list
}
