package identity

import (
	"context"
	"net/http"
	"testing"
	"time"

	"landline/internal/identity/provider"
	"landline/internal/identity/provider/providertest"
	"landline/internal/queue"
)

// interposed does something once between what is read and what is written of it.
type interposed struct {
	Store
	meanwhile func(Store)
}

func (s *interposed) Apply(ctx context.Context, c Change) (bool, error) {
	if do := s.meanwhile; do != nil {
		s.meanwhile = nil
		do(s.Store)
	}
	return s.Store.Apply(ctx, c)
}

func (f *fixture) interpose() *interposed {
	var between *interposed
	f.start(func(s Store) Store {
		between = &interposed{Store: s}
		return between
	})
	return between
}

// moved takes a user from one state to another, with their sessions' end.
func moved(t *testing.T, user string, from, to UserState) func(Store) {
	return func(s Store) {
		t.Helper()
		done, err := s.Apply(t.Context(), Change{State: []StateChange{{UserID: user, From: from, To: to, At: t0}}, EndAll: &EndAll{UserID: user, Reason: ReasonAccountLocked, At: t0}})
		if err != nil || !done {
			t.Fatal(done, err)
		}
	}
}

// An installation that comes back while its user is locked gets no session of them.
func TestNoSessionOfAUserLockedMeanwhile(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		between := f.interpose()
		p := f.phone("a")
		user := p.user
		if a := f.post("/v1/auth/sign-out", nil, p.bearer()...); a.Status != 204 {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		between.meanwhile = moved(t, user, UserActive, UserLocked)
		a := f.post(registerPath, map[string]any{"installation_id": p.installation, "installation_secret": p.secret})
		if a.Status/100 == 2 && a.str("user", "id") == user {
			t.Errorf("%d %s", a.Status, a.Raw)
		}
		for _, g := range must(f.service.store.SessionsOf(t.Context(), user, 10)) {
			if g.Session.State == SessionActive {
				t.Errorf("a locked user has the session %+v", g.Session)
			}
		}
	})
}

// Nothing is added to an account that is being erased: the erasure would miss it.
func TestNoLinkToAUserDeletedMeanwhile(t *testing.T) { // L21
	engines(t, func(t *testing.T, f *fixture) {
		between := f.interpose()
		p := f.phone("a")
		p.signIn("alice", "n1")
		between.meanwhile = moved(t, p.user, UserActive, UserDeleting)
		if a := f.post("/v1/auth/link", map[string]any{"provider": "fake", "code": "second", "nonce": "n2"}, p.bearer()...); a.Status/100 == 2 {
			t.Errorf("%d %s", a.Status, a.Raw)
		}
		if all := must(f.service.store.IdentitiesOf(t.Context(), p.user, 10)); len(all) != 1 {
			t.Errorf("%d ways to sign in", len(all))
		}
	})
}

// A notice is answered when it is durable, also when the account changes meanwhile.
func TestANoticeIsNeverLost(t *testing.T) { // B-11
	engines(t, func(t *testing.T, f *fixture) {
		between := f.interpose()
		p := f.phone("a")
		p.signIn("alice", "n1")
		lookup := must(f.service.lookup("https://fake", "alice"))
		n := provider.Notice{ReplayID: "j1", Kind: provider.NoticeConsentRevoked, Issuer: "https://fake", Subject: "alice", At: f.clock.Now().Add(time.Second), KeepUntil: f.clock.Now().Add(time.Hour)}
		between.meanwhile = func(s Store) { // a second way to sign in, and a use of the first
			i, _, err := s.IdentityBy(t.Context(), lookup)
			if err != nil {
				t.Fatal(err)
			}
			moved(t, i.UserID, UserActive, UserLocked)(s)
		}
		if err := f.service.takeNotice(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		if _, err := f.service.store.CredentialUse(t.Context(), useOf("notice\x00j1")); err != nil {
			t.Errorf("the notice was answered and not stored: %v", err)
		}
		// The account at the provider goes: so does the one here, although it is locked.
		n.ReplayID, n.Kind = "j2", provider.NoticeAccountDeleted
		if err := f.service.takeNotice(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		if u := must(f.service.store.User(t.Context(), p.user)); u.State != UserDeleting {
			t.Errorf("the user is %s", u.State)
		}
		// Coming back in time undoes the deletion, not the lock.
		q := f.phone("b")
		body := map[string]any{"provider": "fake", "code": "alice", "nonce": "n2", "undo_deletion": true}
		if a := f.post("/v1/auth/sign-in", body, q.bearer()...); a.str("code") != "account_locked" {
			t.Errorf("%d %s", a.Status, a.Raw)
		}
		if u := must(f.service.store.User(t.Context(), p.user)); u.State != UserLocked {
			t.Errorf("the user is %s", u.State)
		}
	})
}

// A message waits while the storage does not answer.
func TestAMessageIsNotLost(t *testing.T) {
	withCredentials(t, func(t *testing.T, f *fixture, _ *providertest.Issuer, _ *outbox) {
		p := f.phone("a")
		if a := f.post("/v1/auth/email-code", map[string]any{"email": "ada@example.com"}, p.bearer()...); a.Status != http.StatusAccepted {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		job := &queue.Job[mailJob]{ID: 1, CreatedAt: f.clock.Now(), Args: must(f.service.sealMail(t.Context(), p.installation, mailArgs{To: "ada@example.com"}))}
		f.ring.Forget(p.installation)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := f.service.sendMail(ctx, job); err == nil {
			t.Error("the message was given up")
		}
	})
}

// A session whose time is over is no session to sign in to.
func TestSignInAfterASessionHasExpired(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		p := f.phone("a")
		p.signIn("alice", "n1")
		account, before := p.user, p.session
		f.clock.Advance(91 * 24 * time.Hour)
		p.take(f.post(registerPath, map[string]any{"installation_id": p.installation, "installation_secret": p.secret}))
		if p.signIn("alice", "n2"); p.status != 200 || p.user != account || p.session == before {
			t.Fatalf("%d %s", p.status, p.last.Raw)
		}
		if a := f.token(p.refresh); a.Status != 200 {
			t.Errorf("the refresh token of a sign-in: %d %s", a.Status, a.Raw)
		}
		if g := must(f.service.store.Session(t.Context(), before)); g.Session.State == SessionActive {
			t.Errorf("%+v", g.Session)
		}
	})
}
