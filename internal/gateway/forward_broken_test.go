package gateway

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"landline/internal/config"
)

// An answer that breaks while the client has seen nothing of it is a problem
// that the client can read, on a connection that lives on.
func TestAnswersThatBreakBeforeTheClientHasBytes(t *testing.T) {
	flush := func(w http.ResponseWriter) {
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		status int
		code   string
	}{
		"half of a short answer": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.Header().Set("X-Own", "of the service")
			io.WriteString(w, "half")
			flush(w)
			panic(http.ErrAbortHandler)
		}, 502, "upstream_invalid"},
		"the first piece of a long answer": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(1<<20))
			io.WriteString(w, strings.Repeat("x", heldBack-1))
			flush(w)
			panic(http.ErrAbortHandler)
		}, 502, "upstream_invalid"},
		"no piece of an answer of unknown length": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusOK)
			flush(w)
			panic(http.ErrAbortHandler)
		}, 502, "upstream_invalid"},
		"an answer that stands still": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "half")
			flush(w)
			<-r.Context().Done()
		}, 504, "upstream_timeout"},
	} {
		for _, transport := range []string{TransportStandard, "auto"} {
			t.Run(name+", "+transport, func(t *testing.T) {
				h := proxy(t, serve(t, c.answer), func(s *Settings) {
					s.Upstreams["up"].Transport = transport
					if c.status == 504 {
						s.Features["all"].Timeout = config.Duration(100 * time.Millisecond)
					}
				})
				for range 2 {
					res, body := h.get("/x")
					if res.StatusCode != c.status || code(t, body) != c.code || res.Header.Get("X-Own") != "" || res.Close {
						t.Errorf("%d %s %v", res.StatusCode, body, res.Header)
					}
				}
			})
		}
	}
}

// What has begun is passed on as it comes, and cut off when it breaks.
func TestAnswersThatBreakLater(t *testing.T) {
	h := proxy(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/sized" {
			w.Header().Set("Content-Length", strconv.Itoa(2*heldBack))
		}
		io.WriteString(w, strings.Repeat("x", heldBack))
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		panic(http.ErrAbortHandler)
	}))
	for _, path := range []string{"/sized", "/unknown"} {
		res, err := h.client.Get(h.url + path)
		if err != nil { // the server may have written nothing yet
			continue
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err == nil || res.StatusCode != 200 || len(body) > heldBack {
			t.Errorf("%s: %d, %d bytes, %v", path, res.StatusCode, len(body), err)
		}
	}
}
