package gateway

import (
	"io"
	"net/http"
	"runtime"
	"testing"

	"landline/internal/config"
)

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// Large bodies flow through both ways; what the gateway holds does not grow with them.
func TestLargeBodiesAreNotHeld(t *testing.T) {
	const size = 256 << 20
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil || r.Method == http.MethodPost && n != size {
			t.Errorf("the service got %d bytes, %v", n, err)
		}
		if r.Method == http.MethodGet {
			w.Header().Set("Content-Type", "application/json") // also through compression
			io.Copy(w, io.LimitReader(zeros{}, size))          //nolint:errcheck // the client counts
		}
	})
	h := proxy(t, url, func(s *Settings) { s.Features["all"].MaxBody = config.Bytes(1 << 30) })
	grew := func(what string, flow func()) {
		t.Helper()
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		flow()
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 32<<20 {
			t.Errorf("%s: %d MiB were allocated in all while %d MiB flowed", what, n>>20, size>>20)
		}
	}
	grew("up", func() {
		res, _ := h.do(h.request(http.MethodPost, "/up", io.LimitReader(zeros{}, size)))
		if res.StatusCode != 200 {
			t.Errorf("status %d", res.StatusCode)
		}
	})
	for _, encoding := range []string{"identity", "zstd"} {
		grew("down as "+encoding, func() {
			res, err := h.client.Do(h.request(http.MethodGet, "/down", nil, "Accept-Encoding", encoding))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			n, err := io.Copy(io.Discard, res.Body)
			if err != nil || encoding == "identity" && n != size || encoding == "zstd" && (n > size/100 || res.Header.Get("Content-Encoding") != "zstd") {
				t.Errorf("%d bytes came, %v, %v", n, err, res.Header)
			}
		})
	}
}
