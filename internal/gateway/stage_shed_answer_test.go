package gateway

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"landline/internal/config"
	"landline/internal/problem"
)

// The answer that is rendered ahead is the one that problem.Write gives.
func TestNoRoomIsTheProblem(t *testing.T) {
	const trace = "0af7651916cd43dd8448eb211c80319c"
	for _, feature := range []string{"trips", NoFeature, `quo"ted`} {
		rt := &Route{Feature: feature, retryAfter: 2 * time.Second}
		answer := newNoRoomAnswer(rt)
		if answer == nil {
			t.Fatalf("%s: the problem cannot be cut", feature)
		}
		for _, path := range []string{"/v1/trips/7", "/", "/v1/caf%C3%A9", "/v1/a;b=c,d"} {
			for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodHead} {
				r := httptest.NewRequest(method, path, http.NoBody)
				got := httptest.NewRecorder()
				got.Header().Set("Landline-Trace-Id", trace)
				x := &Exchange{TraceID: trace}
				if !answer.write(x, got, r) {
					t.Fatalf("%s is written the long way", path)
				}
				seconds, err := strconv.Atoi(got.Header().Get("Retry-After"))
				if err != nil || seconds < 2 || seconds > 4 {
					t.Fatalf("Retry-After %q", got.Header().Get("Retry-After"))
				}
				p := problem.New(problem.Overloaded, noRoom).After(time.Duration(seconds) * time.Second)
				if feature != NoFeature {
					p = p.With("feature", feature)
				}
				want := httptest.NewRecorder()
				want.Header().Set("Landline-Trace-Id", trace)
				problem.Write(want, r, p)
				if got.Body.String() != want.Body.String() || got.Code != want.Code {
					t.Errorf("%s %s:\n%d %s, want\n%d %s", method, path, got.Code, got.Body, want.Code, want.Body)
				}
				if !maps.EqualFunc(got.Header(), want.Header(), func(a, b []string) bool { return strings.Join(a, "\n") == strings.Join(b, "\n") }) {
					t.Errorf("%s %s: %v, want %v", method, path, got.Header(), want.Header())
				}
				if x.ErrorCode != string(problem.Overloaded) || x.Cause == nil {
					t.Errorf("for the log: %q, %v", x.ErrorCode, x.Cause)
				}
			}
		}
		for _, path := range []string{"/a&b", "/a<b"} {
			r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
			r.URL.Path = path
			if strings.ContainsAny(r.URL.EscapedPath(), "&<") && answer.write(&Exchange{}, httptest.NewRecorder(), r) {
				t.Errorf("%s is written as it stands", path)
			}
		}
	}
}

func TestCPUWaitReachesTheGuard(t *testing.T) {
	c := defaultOverload()
	if got := c.guard().Wait; got != 50*time.Millisecond {
		t.Errorf("by default %s", got)
	}
	c.CPUWait = config.Duration(0)
	if got := c.guard().Wait; got != 0 {
		t.Errorf("switched off: %s", got)
	}
}
