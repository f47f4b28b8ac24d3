package identity

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"landline/internal/audit"
)

// from is a request's address, as the gateway puts it there.
func (f *fixture) from(ip, path, key string, body any) answer {
	f.t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(string(must(json.Marshal(body)))))
	r.Header.Set("Content-Type", "application/json")
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	return f.do(r.WithContext(audit.WithActor(r.Context(), audit.Actor{Type: audit.TypeSystem, IP: ip})))
}

func TestFirstLaunchesOfAnAddressAreLimited(t *testing.T) { // B-18, B-01, L15
	engines(t, func(t *testing.T, f *fixture) {
		f.config.Limits.Bootstrap = 0 // the default
		f.start(nil)
		var last answer
		launch := func(ip string, i int) answer {
			return f.from(ip, registerPath, fmt.Sprintf("first-launch-%s-%d", ip, i), map[string]any{})
		}
		for i := range defaultBootstrap {
			if last = launch("192.0.2.7", i); last.Status != 201 {
				t.Fatalf("launch %d: %d %s", i, last.Status, last.Raw)
			}
		}
		over := launch("192.0.2.7", defaultBootstrap)
		over.wantCode(t, "one more", 429, "rate_limited")
		if over.Header.Get("Retry-After") != "120" {
			t.Errorf("Retry-After %q", over.Header.Get("Retry-After"))
		}
		if a := launch("192.0.2.7", 3); a.Status != 200 { // a repeat makes nothing
			t.Errorf("a repeat: %d %s", a.Status, a.Raw)
		}
		known := map[string]any{"installation_id": last.str("installation", "id"), "installation_secret": last.str("installation", "secret")}
		if a := f.from("192.0.2.7", registerPath, "", known); a.Status != 200 || a.str("user", "id") != last.str("user", "id") {
			t.Errorf("coming back: %d %s", a.Status, a.Raw)
		}
		if a := launch("192.0.2.8", 0); a.Status != 201 {
			t.Errorf("another address: %d %s", a.Status, a.Raw)
		}
		for i := range defaultBootstrap { // of IPv6 the network counts
			launch(fmt.Sprintf("2001:db8::%x", i+1), i)
		}
		launch("2001:db8::ffff", 0).wantCode(t, "the same network", 429, "rate_limited")
		if a := launch("2001:db8:0:1::1", 0); a.Status != 201 {
			t.Errorf("another network: %d %s", a.Status, a.Raw)
		}
		f.clock.Advance(3 * time.Minute)
		if a := launch("192.0.2.7", defaultBootstrap); a.Status != 201 {
			t.Errorf("after the wait: %d %s", a.Status, a.Raw)
		}
		for range defaultBootstrap {
			last = f.from("192.0.2.9", registerPath, "", known)
		}
		last = f.from("192.0.2.9", registerPath, "", known)
		last.wantCode(t, "re-attaching all the time", 429, "rate_limited")
	})
}

func TestSignInsOfAPersonAreLimited(t *testing.T) { // B-18
	engines(t, func(t *testing.T, f *fixture) {
		f.config.Limits.Identity = 10
		f.start(nil)
		p := f.phone("a")
		for i := range 5 {
			if a := p.signIn("alice", fmt.Sprint("n", i)); a.Status != 200 {
				t.Fatalf("%d %s", a.Status, a.Raw)
			}
		}
		q := f.phone("b")
		q.signIn("alice", "m").wantCode(t, "the sixth at once", 429, "rate_limited")
		if a := p.signIn("alice", "n4"); a.Status != 200 {
			t.Errorf("a repeat: %d %s", a.Status, a.Raw)
		}
		if a := q.signIn("bob", "m2"); a.Status != 200 {
			t.Errorf("somebody else: %d %s", a.Status, a.Raw)
		}
		f.clock.Advance(7 * time.Minute)
		if a := f.phone("c").signIn("alice", "m"); a.Status != 200 {
			t.Errorf("after the wait, with the same credential: %d %s", a.Status, a.Raw)
		}
	})
}
