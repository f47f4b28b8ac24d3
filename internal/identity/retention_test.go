package identity

import (
	"strconv"
	"testing"
	"time"

	"landline/internal/id"
)

func TestAnonymousUsersWhoStayAwayGo(t *testing.T) { // B-19
	withNotes(t, func(t *testing.T, f *fixture, n *notes) {
		empty, full, back, account := f.phone("a"), f.phone("b"), f.phone("c"), f.phone("d")
		n.add(t, full.user, "op")
		account.signIn("alice", "n1")
		f.clock.Advance(80 * 24 * time.Hour)
		if a := f.token(back.refresh); a.Status != 200 {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		state := func(p *phone) UserState { return must(f.service.store.User(t.Context(), p.user)).State }
		clean := func() {
			if err := f.service.retire(t.Context(), f.service.now()); err != nil {
				t.Fatal(err)
			}
		}
		f.clock.Advance(11 * 24 * time.Hour)
		clean()
		for p, want := range map[*phone]UserState{empty: UserDeleting, full: UserActive, back: UserActive, account: UserActive} {
			if got := state(p); got != want {
				t.Errorf("after 91 days %s is %s, want %s", p.user, got, want)
			}
		}
		f.clock.Advance(310 * 24 * time.Hour)
		clean()
		if state(full) != UserDeleting || state(account) != UserActive {
			t.Errorf("after 401 days: %s, %s", state(full), state(account))
		}
	})
}

// The job goes on behind users who are not idle, page by page.
func TestAnonymousUsersAreFoundBehindOthers(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		add := func(kind UserKind, created time.Time) string {
			u := User{ID: id.New(id.User), Kind: kind, State: UserActive, CreatedAt: created}
			if done, err := f.service.store.Apply(t.Context(), Change{User: &u}); err != nil || !done {
				t.Fatal(done, err)
			}
			return u.ID
		}
		now := t0.Add(1000 * 24 * time.Hour)
		for range retireBatch + 1 {
			add(Account, t0)
		}
		old := add(Anonymous, t0)
		young := add(Anonymous, now)
		if err := f.service.retire(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		for user, want := range map[string]UserState{old: UserDeleting, young: UserActive} {
			if got := must(f.service.store.User(t.Context(), user)).State; got != want {
				t.Errorf("%s is %s, want %s", user, got, want)
			}
		}
	})
}

func TestNewInstallationsShowWork(t *testing.T) {
	f := sqliteFixture(t)
	f.service.config.BotCost.Bits = 8
	const key = "first-launch-with-work"
	launch := func(work string) answer {
		return f.post(registerPath, map[string]any{"work": work}, "Idempotency-Key", key)
	}
	a := launch("")
	for i := 0; a.Status == 403 && i < 5000; i++ {
		if a.str("code") != "proof_of_work_required" || a.Body["bits"] != 8.0 {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		work := strconv.Itoa(i)
		if f.service.checkWork(Registration{IdempotencyKey: key, Work: work}) == nil {
			a = launch(work)
		}
	}
	if a.Status != 201 {
		t.Fatalf("%d %s", a.Status, a.Raw)
	}
	again := f.post(registerPath, map[string]any{"installation_id": a.str("installation", "id"), "installation_secret": a.str("installation", "secret")})
	if again.Status != 200 { // who is known does not work again
		t.Errorf("%d %s", again.Status, again.Raw)
	}
}
