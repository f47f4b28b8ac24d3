package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/observe"
)

type metrics struct {
	requests     *prometheus.CounterVec
	duration     *prometheus.HistogramVec
	authFailures *prometheus.CounterVec
}

// newMetrics declares this package's metrics. The label operation is an
// operation id of the API or a fixed name, never a path.
func newMetrics(reg prometheus.Registerer) *metrics {
	return &metrics{
		requests: observe.Counter(reg, "landline_admin_requests_total",
			"Requests to the admin listener, by operation and class of status.", "operation", "status"),
		duration: observe.Histogram(reg, "landline_admin_request_duration_seconds",
			"Time from the first byte of an admin request's header to the end of its answer.", observe.LatencyBuckets(), "operation"),
		authFailures: observe.Counter(reg, "landline_admin_auth_failures_total",
			"Admin requests turned away: bad_token, limited (too many bad tokens from the address), role (the operator lacks the role).", "reason"),
	}
}
