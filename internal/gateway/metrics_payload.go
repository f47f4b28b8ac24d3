package gateway

import (
	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/observe"
)

// payloadMetrics are figures about bodies by feature and app version, so that a
// team sees which version sends or fetches more than it should.
type payloadMetrics struct {
	size  *prometheus.HistogramVec // feature direction
	bytes *prometheus.CounterVec   // feature app_version direction
	plain *prometheus.CounterVec   // feature app_version encoding
	sent  *prometheus.CounterVec   // feature app_version encoding
}

// sizeBuckets are bounds in bytes, from one packet to a large upload.
var sizeBuckets = []float64{256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20}

func newPayloadMetrics(reg *prometheus.Registry) payloadMetrics {
	const area = "landline_gateway_"
	return payloadMetrics{
		size:  observe.Histogram(reg, area+"payload_size_bytes", "Size of bodies as they travelled, by direction: in (from the app), out (to the app).", sizeBuckets, "feature", "direction"),
		bytes: observe.Counter(reg, area+"payload_bytes_total", "Bytes of bodies as they travelled, by app version and direction: in, out.", "feature", "app_version", "direction"),
		plain: observe.Counter(reg, area+"compression_plain_bytes_total", "Bytes of answers before Landline compressed them; divided by compression_sent_bytes_total it is the ratio.", "feature", "app_version", "encoding"),
		sent:  observe.Counter(reg, area+"compression_sent_bytes_total", "Bytes of answers after Landline compressed them.", "feature", "app_version", "encoding"),
	}
}

// countPayload adds the bodies of a request that is over to c, the counters of
// its client. version is capped already.
func (m *featureMetrics) countPayload(x *Exchange, c *clientCount, version string, in, out int64) {
	if in > 0 {
		m.in.Observe(float64(in))
		m.received.Add(float64(in))
		c.in.Add(float64(in))
	}
	if out > 0 {
		m.out.Observe(float64(out))
		m.sent.Add(float64(out))
		c.out.Add(float64(out))
	}
	if x.encoding != "" && in+out > 0 { // compressing costs so much more than looking a child up
		p := &m.all.payload
		p.plain.WithLabelValues(x.Route.Feature, version, x.encoding).Add(float64(x.uncompressed))
		p.sent.WithLabelValues(x.Route.Feature, version, x.encoding).Add(float64(out))
	}
}
