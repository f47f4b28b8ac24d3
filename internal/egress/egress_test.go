package egress

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"landline/internal/observe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAnswersAreBounded(t *testing.T) {
	const limit = 1000
	s, _ := serve(t, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.URL.Query().Get("n"))
		if err != nil {
			t.Error(err)
		}
		body := bytes.Repeat([]byte("x"), n)
		switch r.URL.Path {
		case "/sized":
			w.Header().Set("Content-Length", strconv.Itoa(n))
			w.Write(body)
		case "/chunked":
			w.(http.Flusher).Flush()
			w.Write(body)
		case "/gzip":
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			z.Write(body)
			z.Close()
		}
	})
	c := client(t, Options{MaxResponse: limit})
	for _, path := range []string{"/sized", "/chunked", "/gzip"} {
		for _, n := range []int{0, 1, limit - 1, limit, limit + 1, 100 * limit} {
			body, err := fetch(c, s.URL+path+"?n="+strconv.Itoa(n))
			if n <= limit && (err != nil || len(body) != n) {
				t.Errorf("%s of %d: %d bytes, %v", path, n, len(body), err)
			}
			if n > limit && (!errors.Is(err, ErrTooLarge) || len(body) > limit) {
				t.Errorf("%s of %d: %d bytes, %v; want ErrTooLarge", path, n, len(body), err)
			}
		}
	}
	if body, err := fetch(client(t, Options{MaxResponse: math.MaxInt64}), s.URL+"/chunked?n=5000"); err != nil || len(body) != 5000 {
		t.Errorf("without a limit: %d bytes, %v", len(body), err)
	}
	resp, err := c.Head(s.URL + "/sized?n=5000")
	if err != nil {
		t.Fatalf("HEAD announces a length but has no body: %v", err)
	}
	resp.Body.Close()
}

func fetch(c *http.Client, url string) ([]byte, error) {
	resp, err := c.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// Whatever the size of the reads, every byte up to the limit comes, and then the error, again and again.
func TestLimitedBody(t *testing.T) {
	for _, size := range []int{1, 3, 7, 10, 11, 64} {
		b := limitBody(io.NopCloser(strings.NewReader(strings.Repeat("x", 20))), 10, "host")
		got, p := 0, make([]byte, size)
		var err error
		for err == nil {
			var n int
			n, err = b.Read(p)
			got += n
		}
		if _, again := b.Read(p); got != 10 || !errors.Is(err, ErrTooLarge) || !errors.Is(again, ErrTooLarge) {
			t.Errorf("reading %d at a time: %d bytes, then %v, then %v", size, got, err, again)
		}
	}
}

func TestHeadersAreBounded(t *testing.T) {
	s, _ := serve(t, "127.0.0.1:0", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Big", strings.Repeat("x", 2*maxHeader))
	})
	if _, err := fetch(client(t, Options{}), s.URL); err == nil {
		t.Error("a header of twice the bound was taken")
	}
}

func TestTheWholeCallIsBounded(t *testing.T) {
	release := make(chan struct{})
	s, _ := serve(t, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			w.Write([]byte("begun"))
			w.(http.Flusher).Flush()
		}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	c := client(t, Options{Timeout: 50 * time.Millisecond})
	for _, path := range []string{"/header", "/body"} {
		if _, err := fetch(c, s.URL+path); !IsTimeout(err) {
			t.Errorf("%s never ends: %v; want a timeout", path, err)
		}
	}
	if IsTimeout(nil) || IsTimeout(errors.New("x")) || IsTimeout(context.Canceled) {
		t.Error("IsTimeout sees timeouts where there are none")
	}
}

func TestTraceGoesAlong(t *testing.T) {
	got := make(chan string, 1)
	s, _ := serve(t, "127.0.0.1:0", func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Get("traceparent") })
	c := client(t, Options{})
	trace, span := observe.NewTraceID(), observe.NewSpanID()
	for _, step := range []struct {
		name, own string
		ctx       context.Context
		want      string
	}{
		{"no trace", "", t.Context(), ""},
		{"a trace", "", observe.WithTrace(t.Context(), trace, span), observe.Traceparent(trace, span, false)},
		{"a sampled trace", "", observe.WithSampledTrace(t.Context(), trace, span, true), observe.Traceparent(trace, span, true)},
		{"the request's own", "own", observe.WithTrace(t.Context(), trace, span), "own"},
	} {
		r, err := http.NewRequestWithContext(step.ctx, http.MethodGet, s.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		if step.own != "" {
			r.Header.Set("traceparent", step.own)
		}
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if v := <-got; v != step.want {
			t.Errorf("%s: sent %q, want %q", step.name, v, step.want)
		}
		if r.Header.Get("traceparent") != step.own {
			t.Errorf("%s: the caller's request was changed", step.name)
		}
	}
}

func TestMetricsTellTheOutcome(t *testing.T) {
	release := make(chan struct{})
	s, _ := serve(t, "127.0.0.2:0", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/500":
			w.WriteHeader(500)
		case "/large":
			w.Write(make([]byte, 2000))
		case "/hang":
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
	})
	defer close(release)
	reg := observe.NewRegistry()
	o := Options{Name: "webhook", Untrusted: true, Allow: allowed, MaxResponse: 1000, Metrics: reg}
	c := client(t, o)
	o.Timeout = 50 * time.Millisecond
	hasty := client(t, o) // shares the metrics
	for _, path := range []string{"/200", "/500", "/large"} {
		resp, err := c.Get(s.URL + path)
		if err == nil {
			resp.Body.Close()
		}
	}
	for c, url := range map[*http.Client]string{c: "http://127.0.0.1:1/", hasty: s.URL + "/hang"} {
		if resp, err := c.Get(url); err == nil {
			resp.Body.Close()
			t.Errorf("%s succeeded", url)
		}
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "landline_egress_requests_total" {
			continue
		}
		for _, m := range f.Metric {
			got[m.Label[0].GetValue()+" "+m.Label[1].GetValue()] = m.Counter.GetValue()
		}
	}
	for _, outcome := range []string{"2xx", "5xx", "too_large", "blocked", "timeout"} {
		if got["webhook "+outcome] != 1 {
			t.Errorf("outcome %s is counted %v times, want once: %v", outcome, got["webhook "+outcome], got)
		}
	}
}

func TestABodyIsClosedWhenACallIsRefused(t *testing.T) {
	b := &closing{Reader: strings.NewReader("x")}
	r, err := http.NewRequest(http.MethodPost, "http://127.0.0.1/", b)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client(t, Options{Untrusted: true}).Do(r)
	wantBlocked(t, "POST", resp, err)
	if !b.closed {
		t.Error("the request's body was not closed")
	}
}

type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error { c.closed = true; return nil }
