package identity

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"landline/internal/id"
	"landline/internal/problem"
	"landline/internal/sqldb"
)

// TestRefreshRules takes one session through R0 to R9 over HTTP.
func TestRefreshRules(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		a := f.launch(launchKey)
		first := a.str("session", "refresh_token")
		granted := func(token, replay string) string {
			t.Helper()
			x := f.token(token)
			if x.Status != 200 || x.Header.Get("Refresh-Replay") != replay || x.Header.Get("Cache-Control") != "no-store" || x.Body["expires_in"] != 900.0 || x.str("token_type") != "Bearer" || x.str("scope") != "app" {
				t.Fatalf("refresh: %d %q %s", x.Status, x.Header.Get("Refresh-Replay"), x.Raw)
			}
			if me := f.bearer(x.str("access_token")); me.Status != 200 {
				t.Fatalf("the new access token: %d %s", me.Status, me.Raw)
			}
			return x.str("refresh_token")
		}
		refused := func(token string, reason Reason, recovery string, more ...string) {
			t.Helper()
			x := f.token(token, more...)
			if x.Status != 400 || x.str("error") != "invalid_grant" || x.str("reason") != string(reason) || x.str("recovery") != recovery ||
				x.Header.Get("Cache-Control") != "no-store" || x.Header.Get("Content-Type") != "application/json" || x.str("error_description") == "" {
				t.Fatalf("refusal: %d %s", x.Status, x.Raw)
			}
		}
		refused("v1.garbage", "", "")                                                          // R0
		refused(flipped(first), "", "")                                                        // R0: another MAC
		refused(strings.Replace(first, a.str("session", "id"), id.New(id.Session), 1), "", "") // R0: another session
		refused(first, ReasonClientMismatch, "", "client_id", "com.example.thief")             // R9
		second := granted(first, "")                                                           // R3
		if again := granted(first, "concurrent"); again != second {                            // R4
			t.Error("a concurrent repeat got another token")
		}
		f.clock.Advance(31 * time.Second)
		third := granted(first, "lost-response") // R5: the second is an orphan now
		if third == second {
			t.Error("a recovery gave the orphan")
		}
		refused(second, ReasonStaleDuplicate, "") // R7
		fourth := granted(third, "")              // the family lives
		refused(second, ReasonStaleDuplicate, "")
		f.clock.Advance(time.Minute)
		refused(second, ReasonReused, recoverInstallation) // R8
		refused(fourth, ReasonReused, recoverInstallation) // R1
		f.bearer(a.str("session", "access_token")).wantProblem(t, 401, problem.SessionRevoked)
		want := []string{"installation.create", "session.client_mismatch", "session.recover", "session.stale_duplicate", "session.reuse_detected"}
		if got := f.actions(); !slices.Equal(got, want) {
			t.Errorf("audit: %v, want %v", got, want)
		}
		if got := counted(t, f, "landline_identity_refreshes_total"); got["R0"] != 3 || got["R3"] != 2 || got["R8"] != 1 || got["R1"] != 1 {
			t.Errorf("counted: %v", got)
		}
	})
}

// flipped changes a bit of the MAC that is not padding.
func flipped(token string) string {
	b := []byte(token)
	if i := len(b) - 5; b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return string(b)
}

func TestExpiryTellsTheWayBack(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		a := f.launch(launchKey)
		token := a.str("session", "refresh_token")
		for range 5 { // used all the time, so that only the absolute end counts
			f.clock.Advance(72 * 24 * time.Hour)
			x := f.token(token)
			if x.Status != 200 {
				t.Fatalf("%d %s", x.Status, x.Raw)
			}
			token = x.str("refresh_token")
		}
		f.clock.Advance(6 * 24 * time.Hour)
		for range 2 { // R2, then R1 with the same words
			if x := f.token(token); x.str("reason") != string(ReasonExpiredAbsolute) || x.str("recovery") != recoverInstallation {
				t.Errorf("%d %s", x.Status, x.Raw)
			}
		}
		if got := f.actions(); !slices.Equal(got, []string{"installation.create", "session.expire"}) {
			t.Errorf("audit: %v", got)
		}
		// Long after, the row is gone, and the answer still is no alarm.
		f.clock.Advance(60 * 24 * time.Hour)
		if err := f.service.clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		if x := f.token(token); x.str("reason") != string(ReasonSessionRevoked) || x.str("recovery") != recoverInstallation {
			t.Errorf("%d %s", x.Status, x.Raw)
		}
	})
}

// TestRestoredBackup is R6: the client is ahead of the database.
func TestRestoredBackup(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		ahead := func(key string, by int64) (string, string) {
			a := f.launch(key)
			g, err := f.service.store.Session(t.Context(), a.str("session", "id"))
			if err != nil {
				t.Fatal(err)
			}
			g.Session.Current += by
			token, err := f.service.refresh.current(g.Session)
			if err != nil {
				t.Fatal(err)
			}
			return token, a.str("session", "id")
		}
		token, _ := ahead("no-window-0123456789", 3)
		if x := f.token(token); x.str("reason") != string(ReasonReused) {
			t.Errorf("outside the window: %d %s", x.Status, x.Raw)
		}
		if x := f.post("/admin/v1/identity/restore-window", map[string]any{"minutes": 60, "reason": "restored last night's backup"}); x.Status != 200 {
			t.Fatalf("declare: %d %s", x.Status, x.Raw)
		}
		token, session := ahead("in-the-window-0123456789", 3)
		x := f.token(token)
		if x.Status != 200 {
			t.Fatalf("in the window: %d %s", x.Status, x.Raw)
		}
		if next, _ := f.service.refresh.verify(x.str("refresh_token")); next.counter != 5 || next.session != session {
			t.Errorf("the next token has number %d", next.counter)
		}
		if y := f.token(token); y.str("refresh_token") != x.str("refresh_token") {
			t.Errorf("its repeat: %d %s", y.Status, y.Raw)
		}
		f.clock.Advance(61 * time.Minute)
		token, _ = ahead("after-the-window-0123456789", 1)
		if x := f.token(token); x.str("reason") != string(ReasonReused) {
			t.Errorf("after the window: %d %s", x.Status, x.Raw)
		}
		if got := f.actions(); !slices.Contains(got, "session.fast_forward") || !slices.Contains(got, "identity.declare_restore") {
			t.Errorf("audit: %v", got)
		}
	})
}

func TestParallelRefreshesRotateOnce(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		nodes := []*fixture{f, f.another()}
		token := f.launch(launchKey).str("session", "refresh_token")
		for round := range int64(5) {
			var mu sync.Mutex
			got := map[string]int{}
			replays := 0
			var wg sync.WaitGroup
			for i := range 32 {
				wg.Go(func() {
					x := nodes[i%2].token(token)
					mu.Lock()
					defer mu.Unlock()
					if x.Status != 200 {
						t.Errorf("%d %s", x.Status, x.Raw)
					}
					got[x.str("refresh_token")]++
					if x.Header.Get("Refresh-Replay") == "concurrent" {
						replays++
					}
				})
			}
			wg.Wait()
			if len(got) != 1 || replays != 31 {
				t.Fatalf("%d different tokens, %d replays", len(got), replays)
			}
			for token = range got {
			}
			if parsed, _ := f.service.refresh.verify(token); parsed.counter != round+2 {
				t.Fatalf("round %d gave number %d", round, parsed.counter)
			}
		}
	})
}

// TestSimulationOnTheStore runs the models of simulation_test.go on real tokens and a real store.
func TestSimulationOnTheStore(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		start := func() *serviceLine {
			got, err := f.service.Register(t.Context(), Registration{IdempotencyKey: id.New(id.Event)})
			if err != nil {
				t.Fatal(err)
			}
			return &serviceLine{t: t, f: f, g: Grant{got.Session, got.User}}
		}
		rapid.Check(t, func(t *rapid.T) {
			l, h := start(), &honest{token: 1}
			for range 6 {
				pause(t, l)
				h.refresh(t, l)
			}
		})
		rapid.Check(t, func(t *rapid.T) { theft(t, start(), 1) })
	})
}

func TestScope(t *testing.T) {
	f := sqliteFixture(t)
	token := f.launch(launchKey).str("session", "refresh_token")
	if x := f.token(token, "scope", "app admin"); x.Status != 400 || x.str("error") != "invalid_scope" {
		t.Errorf("%d %s", x.Status, x.Raw)
	}
	if x := f.token(token, "scope", "app"); x.Status != 200 || x.str("scope") != "app" || x.Header.Get("Refresh-Replay") != "" {
		t.Errorf("a refused scope moved the session: %d %s", x.Status, x.Raw)
	}
}

func TestTokenRequestForm(t *testing.T) {
	f := sqliteFixture(t)
	token := f.launch(launchKey).str("session", "refresh_token")
	for name, c := range map[string]struct {
		body, media, want string
	}{
		"JSON":            {`{"grant_type":"refresh_token"}`, "application/json", "invalid_request"},
		"no media type":   {"grant_type=refresh_token", "", "invalid_request"},
		"no grant type":   {"refresh_token=" + token, "", "invalid_request"},
		"another grant":   {"grant_type=password&username=a&password=b", "form", "unsupported_grant_type"},
		"no token":        {"grant_type=refresh_token", "form", "invalid_request"},
		"repeated":        {"grant_type=refresh_token&refresh_token=a&refresh_token=" + token, "form", "invalid_request"},
		"badly encoded":   {"grant_type=refresh_token&refresh_token=%zz", "form", "invalid_request"},
		"too large":       {"grant_type=refresh_token&refresh_token=" + strings.Repeat("a", maxForm), "form", "invalid_request"},
		"an access token": {"grant_type=refresh_token&refresh_token=" + "eyJhbGciOiJFUzI1NiJ9.e30.AA", "form", "invalid_grant"},
	} {
		r := httptest.NewRequest(http.MethodPost, "/oauth/token", strings.NewReader(c.body))
		switch c.media {
		case "form":
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		case "":
		default:
			r.Header.Set("Content-Type", c.media)
		}
		if x := f.do(r); x.Status != 400 || x.str("error") != c.want || x.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %s", name, x.Status, x.Raw)
		}
	}
	// A body that does not arrive is nobody's fault for good.
	r := httptest.NewRequest(http.MethodPost, "/oauth/token", brokenBody{})
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if x := f.do(r); x.Status != http.StatusRequestTimeout || x.Body["error"] != nil {
		t.Errorf("cut off: %d %s", x.Status, x.Raw)
	}
}

type brokenBody struct{}

func (brokenBody) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

// failing is a store whose writes or reads fail, before or after they took effect.
type failing struct {
	Store
	mu    sync.Mutex
	apply func(done bool, err error) (bool, error) // what Apply says instead
	skip  bool                                     // Apply does nothing
	read  error
}

func (s *failing) set(fn func(*failing)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(s)
}

func (s *failing) Apply(ctx context.Context, c Change) (bool, error) {
	s.mu.Lock()
	apply, skip := s.apply, s.skip
	s.mu.Unlock()
	if apply == nil {
		return s.Store.Apply(ctx, c)
	}
	if skip {
		return apply(false, nil)
	}
	return apply(s.Store.Apply(ctx, c))
}

// Rotate fails as Session and Apply do, which it does in one.
func (s *failing) Rotate(ctx context.Context, r Rotation) (g Grant, done bool, err error) {
	s.mu.Lock()
	apply, skip, read := s.apply, s.skip, s.read
	s.mu.Unlock()
	if read != nil {
		return Grant{}, false, read
	}
	if apply == nil {
		return s.Store.Rotate(ctx, r)
	}
	if !skip {
		g, done, err = s.Store.Rotate(ctx, r)
	}
	done, err = apply(done, err)
	return g, done, err
}

func (s *failing) Session(ctx context.Context, id string) (Grant, error) {
	s.mu.Lock()
	read := s.read
	s.mu.Unlock()
	if read != nil {
		return Grant{}, read
	}
	return s.Store.Session(ctx, id)
}

// TestUnavailableStorageAsksForARetry is R10: no answer that a client could take for the end.
func TestUnavailableStorageAsksForARetry(t *testing.T) {
	f, store := sqliteFixture(t), &failing{}
	f.start(func(s Store) Store { store.Store = s; return store })
	token := f.launch(launchKey).str("session", "refresh_token")
	transient := func(x answer) {
		t.Helper()
		x.wantProblem(t, 503, problem.StorageUnavailable)
		if x.Header.Get("Retry-After") == "" || x.str("action") != "retry" {
			t.Errorf("no word of a retry: %v %s", x.Header, x.Raw)
		}
	}
	for name, broken := range map[string]func(*failing){
		"read fails":    func(s *failing) { s.read = errors.New("connection refused") },
		"database down": func(s *failing) { s.read = sqldb.ErrUnavailable },
		"write fails": func(s *failing) {
			s.skip, s.apply = true, func(bool, error) (bool, error) { return false, sqldb.ErrBusy }
		},
		"never its turn":  func(s *failing) { s.skip, s.apply = true, func(bool, error) (bool, error) { return false, nil } },
		"unknown outcome": func(s *failing) { s.apply = func(bool, error) (bool, error) { return false, sqldb.ErrUncertain } },
	} {
		for _, client := range []string{"", testApp.ID} { // without it the refresh is read first, then written
			again := func() answer {
				if client == "" {
					return f.token(token)
				}
				return f.form(tokenPath, "grant_type", "refresh_token", "refresh_token", token, "client_id", client)
			}
			store.set(broken)
			transient(again())
			store.set(func(s *failing) { s.read, s.apply, s.skip = nil, nil, false })
			x := again()
			if x.Status != 200 {
				t.Fatalf("%s: the repeat after it: %d %s", name, x.Status, x.Raw)
			}
			if name == "unknown outcome" && x.Header.Get("Refresh-Replay") != "concurrent" {
				t.Errorf("the rotation of unknown outcome took place, its repeat is %q", x.Header.Get("Refresh-Replay"))
			}
			token = x.str("refresh_token")
		}
	}
	store.set(func(s *failing) {
		s.skip, s.apply = true, func(bool, error) (bool, error) { return false, sqldb.ErrUnavailable }
	})
	transient(f.form("/oauth/revoke", "token", token))
	transient(f.post(registerPath, map[string]any{}, "Idempotency-Key", "while-it-is-down-0123456789"))
}

// TestClosedDatabase has the real store fail.
func TestClosedDatabase(t *testing.T) {
	f := sqliteFixture(t)
	token := f.launch(launchKey).str("session", "refresh_token")
	if err := f.db.Writer().Close(); err != nil {
		t.Fatal(err)
	}
	f.token(token).wantProblem(t, 503, problem.StorageUnavailable)
}
