package identity

import (
	"strings"
	"testing"
	"time"
)

// A session that is refreshed without end is told to wait, never to sign in
// anew: OAuth clients take a member "error" for the end of the session.
func TestRefreshesOfOneSessionAreLimited(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		f.config.Refresh.Limit = 5
		f = f.another()
		token := f.launch(launchKey).str("session", "refresh_token")
		for range 5 {
			x := f.token(token)
			if x.Status != 200 {
				t.Fatalf("%d %s", x.Status, x.Raw)
			}
			token = x.str("refresh_token")
		}
		x := f.token(token)
		if x.Status != 429 || x.Header.Get("Retry-After") != "12" || !strings.Contains(string(x.Raw), `"code":"rate_limited"`) || strings.Contains(string(x.Raw), `"error"`) {
			t.Fatalf("%d %v %s", x.Status, x.Header, x.Raw)
		}
		if other := f.token(f.launch("another-launch-of-the-app-0002").str("session", "refresh_token")); other.Status != 200 {
			t.Errorf("another session pays for it: %d", other.Status)
		}
		f.clock.Advance(12 * time.Second)
		if x := f.token(token); x.Status != 200 {
			t.Errorf("after the wait the same token got %d %s", x.Status, x.Raw)
		}
	})
}
