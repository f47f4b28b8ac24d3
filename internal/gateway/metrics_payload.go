package gateway

import (
	"sync"

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

// payload counts the bodies of one feature.
type payload struct {
	all      *payloadMetrics
	feature  string
	in, out  prometheus.Observer
	versions sync.Map // app version → *versionPayload
}

// versionPayload is a version's children of the vector, looked up once.
type versionPayload struct{ in, out prometheus.Counter }

func (m *payloadMetrics) feature(name string) *payload {
	return &payload{all: m, feature: name, in: m.size.WithLabelValues(name, "in"), out: m.size.WithLabelValues(name, "out")}
}

// count adds a request that is over. version is capped already.
func (p *payload) count(x *Exchange, version string, in, out int64) {
	if in == 0 && out == 0 {
		return
	}
	known, ok := p.versions.Load(version)
	if !ok {
		known, _ = p.versions.LoadOrStore(version, p.version(version))
	}
	v := known.(*versionPayload)
	if in > 0 {
		p.in.Observe(float64(in))
		v.in.Add(float64(in))
	}
	if out > 0 {
		p.out.Observe(float64(out))
		v.out.Add(float64(out))
	}
	if x.encoding != "" { // compressing costs so much more than looking a child up
		p.all.plain.WithLabelValues(p.feature, version, x.encoding).Add(float64(x.uncompressed))
		p.all.sent.WithLabelValues(p.feature, version, x.encoding).Add(float64(out))
	}
}

func (p *payload) version(version string) *versionPayload {
	m, f := p.all, p.feature
	return &versionPayload{in: m.bytes.WithLabelValues(f, version, "in"), out: m.bytes.WithLabelValues(f, version, "out")}
}
