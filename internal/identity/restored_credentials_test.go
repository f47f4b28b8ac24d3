package identity

import (
	"testing"
	"time"

	"landline/internal/audit"
	"landline/internal/clock"
	"landline/internal/identity/provider/providertest"
	"landline/internal/module"
	"landline/internal/queue"
	"landline/internal/secret"
	"landline/internal/testkit"
)

const oldPassword, newPassword = "correct horse battery staple", "another horse, another battery"

// signUp proves the address with a code and sets a password.
func (p *phone) signUp(t *testing.T, box *outbox, email, password string) answer {
	t.Helper()
	p.f.post("/v1/auth/email-code", map[string]any{"email": email}, p.bearer()...)
	return p.take(p.f.post("/v1/auth/sign-up", map[string]any{"email": email, "code": p.f.deliver(box), "password": password}, p.bearer()...))
}

func (p *phone) withPassword(email, password string) answer {
	return p.take(p.f.post("/v1/auth/sign-in", map[string]any{"provider": "password", "email": email, "password": password}, p.bearer()...))
}

// What was taken from an account after the backup does not open it after the
// restore: ways to sign in that were unlinked, passwords that were changed. Who
// has exchanged their only way in for another one still has a way in.
func TestRestoreTakesCredentialsAwayAgain(t *testing.T) {
	withCredentials(t, func(t *testing.T, f *fixture, _ *providertest.Issuer, box *outbox) {
		replaced := testkit.SQLite(t, secret.Migrations, queue.Migrations, audit.Migrations, Migrations)
		there := NewSQLStore(replaced, audit.New(replaced, clock.System))
		write := func(c Change) {
			t.Helper()
			if done, err := there.Apply(t.Context(), c); err != nil || !done {
				t.Fatal(done, err)
			}
		}
		ways := func(p *phone) []Identity {
			return must(f.service.store.IdentitiesOf(t.Context(), p.user, maxIdentities))
		}
		ada, bob, eve := f.phone("ada"), f.phone("bob"), f.phone("eve")
		ada.signUp(t, box, "ada@example.com", oldPassword)
		ada.link("ada", "n1")
		bob.signIn("bob", "n2")
		eve.signUp(t, box, "eve@example.com", oldPassword)
		for _, p := range []*phone{ada, bob, eve} {
			u := must(f.service.store.User(t.Context(), p.user))
			write(Change{User: &u})
			for _, i := range ways(p) {
				write(Change{Identity: &i})
			}
		}

		// After the backup: ada changes her password and unlinks, bob exchanges his way in.
		now := f.service.now().Add(time.Minute)
		changed := ways(ada)[0]
		changed.SecretAt = now
		write(Change{Used: &changed, UsedFrom: changed.Sealed})
		write(Change{Unlink: &Unlinking{ID: ways(ada)[1].ID, UserID: ada.user, At: now}})
		write(Change{Unlink: &Unlinking{ID: ways(bob)[0].ID, UserID: bob.user, At: now}})
		other := Identity{ID: newID(prefixIdentity), UserID: bob.user, Provider: "other", Lookup: must(f.service.lookup("https://other", "bob-too")), CreatedAt: now, UsedAt: now}
		if err := f.service.seal(t.Context(), &other, Profile{Issuer: "https://other", Subject: "bob-too"}); err != nil {
			t.Fatal(err)
		}
		write(Change{Identity: &other})

		for range 2 { // the second finds all of it done
			if c, err := restored(t.Context(), module.Restored{DB: f.db, Audit: f.audit, Replaced: replaced, Window: time.Hour, Reason: "drill"}); err != nil || c.Fault != nil {
				t.Fatal(c, err)
			}
		}
		q := f.phone("q")
		q.withPassword("ada@example.com", oldPassword).wantCode(t, "the password that was changed", 403, "credential_invalid")
		if a := q.withPassword("eve@example.com", oldPassword); a.Status != 200 || q.user != eve.user {
			t.Errorf("a password that was not: %d %s", a.Status, a.Raw)
		}
		if a := f.phone("r").signIn("ada", "n3"); a.Status != 200 || a.str("user", "id") == ada.user {
			t.Errorf("an unlinked way in: %d %s", a.Status, a.Raw)
		}
		if a := f.phone("s").signIn("bob", "n4"); a.Status != 200 || a.str("user", "id") == bob.user {
			t.Errorf("the exchanged way in: %d %s", a.Status, a.Raw)
		}
		if a := f.phone("t").signIn("bob-too", "n5", "provider", "other"); a.Status != 200 || a.str("user", "id") != bob.user {
			t.Errorf("the way in that it was exchanged for: %d %s", a.Status, a.Raw)
		}
		f.clock.Advance(time.Hour) // since her last code
		u := f.phone("u")
		if a := u.signUp(t, box, "ada@example.com", newPassword); a.Status != 200 || u.user != ada.user {
			t.Fatalf("a new password: %d %s", a.Status, a.Raw)
		}
		if a := u.withPassword("ada@example.com", newPassword); a.Status != 200 || u.user != ada.user {
			t.Errorf("with the new password: %d %s", a.Status, a.Raw)
		}
		if i := ways(ada); len(i) != 1 || i[0].SecretVoid || !i[0].SecretAt.After(now) {
			t.Errorf("%+v", i)
		}
	})
}
