package egress

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/observe"
)

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) metrics {
	return metrics{
		requests: observe.Counter(reg, "landline_egress_requests_total", "Outgoing HTTP requests, every redirect on its own; client is what the caller is for, outcome is 1xx to 5xx, blocked, too_large, timeout or error.", "client", "outcome"),
		duration: observe.Histogram(reg, "landline_egress_request_duration_seconds", "Time from an outgoing request to the header of its answer.", nil, "client"),
	}
}

func (m metrics) observe(client string, resp *http.Response, err error, took time.Duration) {
	m.requests.WithLabelValues(client, outcome(resp, err)).Inc()
	m.duration.WithLabelValues(client).Observe(took.Seconds())
}

func outcome(resp *http.Response, err error) string {
	switch {
	case errors.Is(err, ErrBlocked):
		return "blocked"
	case errors.Is(err, ErrTooLarge):
		return "too_large"
	case IsTimeout(err):
		return "timeout"
	case err != nil || resp.StatusCode < 100 || resp.StatusCode > 599:
		return "error"
	}
	return strconv.Itoa(resp.StatusCode/100) + "xx"
}
