package identity

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"landline/internal/bus"
	"landline/internal/problem"
)

func TestSignOut(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		a := f.launch(launchKey)
		access := a.str("session", "access_token")
		x := f.post("/v1/auth/sign-out", nil, "Authorization", "Bearer "+access)
		if x.Status != http.StatusNoContent || x.Raw != "" || x.Header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%d %s", x.Status, x.Raw)
		}
		y := f.bearer(access)
		y.wantProblem(t, 401, problem.SessionRevoked)
		if y.str("recoverable") != recoverInstallation {
			t.Errorf("recoverable is %q", y.str("recoverable"))
		}
		if z := f.token(a.str("session", "refresh_token")); z.str("reason") != string(ReasonSessionRevoked) {
			t.Errorf("refresh: %s", z.Raw)
		}
		f.post("/v1/auth/sign-out", nil).wantProblem(t, 401, problem.TokenMissing)
		b := f.launch(launchKey)
		if b.str("user", "id") != a.str("user", "id") || b.str("session", "id") == a.str("session", "id") {
			t.Errorf("the anonymous user did not stay: %s", b.Raw)
		}
	})
}

func TestRevoke(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		ok := func(x answer) {
			t.Helper()
			if x.Status != 200 || x.Raw != "" || x.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%d %q", x.Status, x.Raw)
			}
		}
		ok(f.form("/oauth/revoke", "token", "unknown"))
		ok(f.form("/oauth/revoke", "token", "v1.unknown.1.x", "token_type_hint", "refresh_token"))
		if x := f.form("/oauth/revoke"); x.Status != 400 || x.str("error") != "invalid_request" {
			t.Errorf("%d %s", x.Status, x.Raw)
		}
		for i, what := range []string{"refresh", "superseded refresh", "access", "expired access"} {
			a := f.launch(fmt.Sprintf("revoke-%d-0123456789", i))
			access, refresh := a.str("session", "access_token"), a.str("session", "refresh_token")
			token := refresh
			switch what {
			case "superseded refresh":
				refresh = f.token(refresh).str("refresh_token")
			case "access":
				token = access
			case "expired access":
				token = access
				f.clock.Advance(time.Hour)
			}
			if x := f.form("/oauth/revoke", "token", token, "client_id", "com.example.thief"); x.Status != 400 || x.str("reason") != string(ReasonClientMismatch) {
				t.Errorf("%s by another client: %d %s", what, x.Status, x.Raw)
			}
			ok(f.form("/oauth/revoke", "token", token, "client_id", testApp.ID))
			ok(f.form("/oauth/revoke", "token", token)) // again
			f.bearer(access).wantProblem(t, 401, problem.SessionRevoked)
			if x := f.token(refresh); x.Status != 400 || x.str("reason") != string(ReasonSessionRevoked) {
				t.Errorf("%s: %d %s", what, x.Status, x.Raw)
			}
		}
	})
}

// started runs a node's background work as the app does, until the test ends.
func started(t *testing.T, f *fixture) {
	t.Helper()
	if err := f.service.revocations.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); f.service.revocations.run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// until waits for a condition, at most a second: the promise is "within a second".
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within a second", what)
		}
	}
}

// TestRevocationReachesOtherNodes has nodes with no bus in common: only the table tells.
func TestRevocationReachesOtherNodes(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		other := f.another()
		started(t, f)
		started(t, other)
		a := f.launch(launchKey)
		access := a.str("session", "access_token")
		if x := other.bearer(access); x.Status != 200 {
			t.Fatalf("%d %s", x.Status, x.Raw)
		}
		f.post("/v1/auth/sign-out", nil, "Authorization", "Bearer "+access)
		f.bearer(access).wantProblem(t, 401, problem.SessionRevoked)
		until(t, "the other node", func() bool { return other.bearer(access).Status == 401 })
		late := f.another() // a node that starts after
		started(t, late)
		late.bearer(access).wantProblem(t, 401, problem.SessionRevoked)
	})
}

// TestRevocationByBus has a node whose table is never read: only the bus tells.
func TestRevocationByBus(t *testing.T) {
	f := sqliteFixture(t)
	started(t, f)
	g, err := f.service.Register(t.Context(), Registration{IdempotencyKey: launchKey})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the event", func() bool {
		err := revoked.Publish(t.Context(), f.bus, revokedEvent{Session: g.Session.ID, At: f.clock.Now().UnixMilli()})
		return err == nil && f.service.revocations.deny.why(g.Session.ID) != ""
	})
	f.bearer(g.Tokens.Access).wantProblem(t, 401, problem.SessionRevoked)
}

func TestPollReadsEveryPageOnceAndSweeps(t *testing.T) {
	f := sqliteFixture(t)
	r := f.another().service.revocations
	if err := r.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	const n = pollPage + 7
	for i := range n { // all in the same millisecond: the page must not be cut by time alone
		_, err := f.db.Writer().ExecContext(t.Context(), `INSERT INTO session_revocation (session_id, reason, revoked_at) VALUES ($1, 'sign_out', $2)`,
			fmt.Sprintf("ses_%05d", i), f.clock.Now().UnixMilli())
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := r.poll(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := r.deny.count.Load(); got != n {
			t.Fatalf("%d sessions are denied, want %d", got, n)
		}
	}
	f.clock.Advance(r.lifetime + time.Minute)
	if err := r.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := r.deny.count.Load(); got != 0 {
		t.Errorf("%d sessions are denied after their tokens expired", got)
	}
	if err := f.service.clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.clock.Advance(2 * r.lifetime)
	if err := f.service.clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	left, err := f.service.store.Revocations(t.Context(), Revocation{}, 10)
	if err != nil || len(left) != 0 {
		t.Errorf("%d revocations are kept, %v", len(left), err)
	}
}

// TestGapPollsAtOnce covers a bus that has lost messages.
func TestGapPollsAtOnce(t *testing.T) {
	f := sqliteFixture(t)
	b := &gapBus{Bus: bus.NewMemory(), registered: make(chan func(), 1)}
	defer b.Close()
	f.service.revocations.bus = b
	started(t, f)
	gap := <-b.registered
	before := f.service.revocations.polled.Load()
	f.clock.Advance(time.Millisecond)
	gap()
	until(t, "the poll", func() bool { return f.service.revocations.polled.Load() > before })
}

type gapBus struct {
	bus.Bus
	registered chan func()
}

func (b *gapBus) OnGap(fn func()) func() {
	b.registered <- fn
	return func() {}
}

func TestAdminLooksUpAndRevokes(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		a := f.launch(launchKey)
		ins, usr, ses := a.str("installation", "id"), a.str("user", "id"), a.str("session", "id")
		if x := f.get("/admin/v1/installations/" + ins); x.Status != 200 || x.str("anonymous_user_id") != usr || x.str("credential") != "secret" || len(x.Body["sessions"].([]any)) != 1 {
			t.Errorf("%d %s", x.Status, x.Raw)
		}
		if x := f.get("/admin/v1/users/" + usr); x.Status != 200 || x.str("installation_id") != ins || x.str("state") != "active" {
			t.Errorf("%d %s", x.Status, x.Raw)
		}
		if x := f.get("/admin/v1/sessions/" + ses); x.Status != 200 || x.str("user_id") != usr || x.str("state") != "active" {
			t.Errorf("%d %s", x.Status, x.Raw)
		}
		f.get("/admin/v1/sessions/"+usr).wantStatus(t, 404)
		f.get("/admin/v1/users/"+"usr_00000000000000000000000000").wantStatus(t, 404)
		f.post("/admin/v1/sessions/"+ses+"/revoke", map[string]any{}).wantStatus(t, 400)
		for range 2 {
			if x := f.post("/admin/v1/sessions/"+ses+"/revoke", map[string]any{"reason": "phone reported stolen"}); x.Status != 200 || x.str("state") != "revoked" || x.str("end_reason") != "operator" {
				t.Errorf("%d %s", x.Status, x.Raw)
			}
		}
		f.bearer(a.str("session", "access_token")).wantProblem(t, 401, problem.SessionRevoked)
		want := []string{"installation.create", "installation.look_up", "user.look_up", "session.look_up", "session.revoke"}
		if got := f.actions(); !slices.Equal(got, want) {
			t.Errorf("audit: %v", got)
		}
	})
}

func (a answer) wantStatus(t *testing.T, status int) {
	t.Helper()
	if a.Status != status {
		t.Errorf("got %d, want %d: %s", a.Status, status, a.Raw)
	}
}

func TestBackgroundWorkEnds(t *testing.T) {
	f := sqliteFixture(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); f.service.revocations.run(ctx) }()
	cancel()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("the poll did not end")
	}
}

// A revocation written by a node whose clock is ahead must not hide those that come after it.
func TestPollSurvivesAClockThatIsAhead(t *testing.T) {
	f := sqliteFixture(t)
	r := f.another().service.revocations
	if err := r.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, ahead := range []time.Duration{30 * time.Second, 0} {
		session := fmt.Sprintf("ses_ahead_%d", i)
		_, err := f.db.Writer().ExecContext(t.Context(), `INSERT INTO session_revocation (session_id, reason, revoked_at) VALUES ($1, 'sign_out', $2)`,
			session, f.clock.Now().Add(ahead).UnixMilli())
		if err != nil {
			t.Fatal(err)
		}
		if err := r.poll(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r.deny.why(session) == "" {
			t.Errorf("the revocation dated %s ahead is not known", ahead)
		}
		f.clock.Advance(time.Second)
	}
}
