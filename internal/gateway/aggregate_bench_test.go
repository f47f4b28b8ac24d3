package gateway

import (
	"io"
	"net/http"
	"testing"
)

// BenchmarkAggregate is a request for three calls, with the services and the
// client in the same process; test/load/aggregate compares it with a handler
// written by hand.
func BenchmarkAggregate(b *testing.B) {
	h := aggregated(b, serve(b, airline(nil)), "GET /v1/home/{airport}", `aggregate:
  calls:
    airport:    {upstream: up, path: "/airports/{airport}", required: true}
    departures: {upstream: up, path: "/airports/{airport}/departures"}
    weather:    {upstream: up, path: "/at/1,2"}
  answer: {airport: airport, board: departures.data, weather: weather.now}
`, "breaker: {}")
	h.client.Transport.(*http.Transport).MaxIdleConnsPerHost = 64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			res, err := h.client.Get(h.url + "/v1/home/WAW")
			if err != nil {
				b.Error(err)
				return
			}
			if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != 200 {
				b.Error(res.StatusCode, err)
			}
			res.Body.Close()
		}
	})
}
