package provider

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/observe"
)

// metrics count by provider, whose names are the configuration's, and by result,
// one of the Reasons.
type metrics struct {
	tokens, exchanges, revocations, notices, fetches *prometheus.CounterVec
	fetchedAt                                        *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) metrics {
	return metrics{
		tokens: observe.Counter(reg, "landline_identity_provider_tokens_total",
			"Provider tokens that were checked, those of exchanged codes included, by result: ok, or the reason why not.", "provider", "result"),
		exchanges: observe.Counter(reg, "landline_identity_provider_exchanges_total",
			"Authorization codes that were sent to the provider, by result: ok, or the reason why not.", "provider", "result"),
		revocations: observe.Counter(reg, "landline_identity_provider_revocations_total",
			"Provider tokens that were sent to be revoked, by result: ok, or the reason why not.", "provider", "result"),
		notices: observe.Counter(reg, "landline_identity_provider_notices_total",
			"Notices of providers that were checked, by result: ok, or the reason why not.", "provider", "result"),
		fetches: observe.Counter(reg, "landline_identity_provider_key_fetches_total",
			"Fetches of providers' signing keys, by result: ok, or the reason why not. Known keys are used while fetches fail, up to identity.providers.max_stale.", "provider", "result"),
		fetchedAt: observe.Gauge(reg, "landline_identity_provider_keys_fetched_timestamp_seconds",
			"When the provider's signing keys were last fetched, in seconds since 1970. Sign-in with it ends identity.providers.max_stale later.", "provider"),
	}
}

func (m metrics) fetched(provider string, now time.Time, err error) {
	count(m.fetches, provider, err)
	if err == nil {
		m.fetchedAt.WithLabelValues(provider).Set(float64(now.Unix()))
	}
}

func count(c *prometheus.CounterVec, provider string, err error) {
	result := "ok"
	var e *Error
	switch {
	case errors.As(err, &e):
		result = string(e.Reason)
	case err != nil:
		result = "error"
	}
	c.WithLabelValues(provider, result).Inc()
}
