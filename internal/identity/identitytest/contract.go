// Package identitytest holds the contract that every identity.Store keeps.
package identitytest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"landline/internal/audit"
	"landline/internal/id"
	"landline/internal/identity"
	"landline/internal/sqldb"
)

// at is a time in whole milliseconds, as stores keep times.
var at = time.Date(2026, 3, 1, 12, 0, 0, int(7*time.Millisecond), time.UTC)

// Run holds the store that open returns to the contract. Each subtest opens its own.
func Run(t *testing.T, open func(t *testing.T) identity.Store) {
	for name, check := range map[string]func(*testing.T, identity.Store){
		"absent things are ErrNotFound":            absent,
		"what is written is read":                  roundTrip,
		"a key makes one installation":             oneInstallation,
		"a proof is spent once":                    proof,
		"one active session per pair":              oneSession,
		"an update needs the number it was for":    update,
		"an end needs an active session":           ending,
		"an unmet condition leaves nothing":        allOrNothing,
		"one of many updates wins":                 race,
		"a user that is gone is deleted":           orphan,
		"revocations come in order, page by page":  revocations,
		"the last restore window counts":           window,
		"cleaning removes what is old, in batches": clean,
		"a user is promoted once":                  promotion,
		"a user is merged once, into one account":  merging,
		"nobody has another's identity":            identities,
		"a session goes on as another user":        reassignment,
		"a credential is used once":                credentials,
		"a way to sign in ends its sessions":       provenWith,
		"an account is merged once":                accountMerge,
		"one of two answers to a challenge wins":   challenges,
		"what is written within belongs to it":     within,
		"a state is left once":                     states,
		"all sessions of a user end but one":       endAll,
		"a browser gives its place to another":     browsers,
		"the last consent counts":                  consents,
		"a session keeps its key and its origin":   boundSession,
	} {
		t.Run(name, func(t *testing.T) { check(t, open(t)) })
	}
}

// launch is the change of a first launch.
func launch(key string) identity.Change {
	i := &identity.Installation{ID: id.New(id.Installation), SecretVersion: 1, BootstrapKey: key, CreatedAt: at, SeenAt: at,
		App: identity.AppInfo{Version: "4.2.0", Build: 1 << 40, Platform: "ios", OS: "18.1", Device: "iPhone15,3", Locale: "pl-PL"}}
	u := &identity.User{ID: id.New(id.User), Kind: identity.Anonymous, State: identity.UserActive, InstallationID: i.ID, CreatedAt: at}
	s := session(i.ID, u.ID)
	return identity.Change{Installation: i, User: u, Session: &s}
}

func session(installation, user string) identity.Session {
	return identity.Session{ID: id.New(id.Session), UserID: user, InstallationID: installation, ClientID: "app", State: identity.SessionActive,
		KeyVersion: 3, Current: 1, RotatedAt: at, CreatedAt: at, AuthTime: at.Add(-time.Minute), Methods: "pop", Scope: "app",
		IdleExpiresAt: at.Add(time.Hour), ExpiresAt: at.Add(24 * time.Hour)}
}

func apply(t *testing.T, s identity.Store, c identity.Change, want bool) {
	t.Helper()
	if done, err := s.Apply(t.Context(), c); err != nil || done != want {
		t.Fatalf("Apply = %t, %v; want %t", done, err, want)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func notFound(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, sqldb.ErrNotFound) {
		t.Errorf("%s: %v, want ErrNotFound", what, err)
	}
}

func absent(t *testing.T, s identity.Store) {
	ctx := t.Context()
	_, err := s.Line(ctx, identity.LineKey{ID: "none"})
	notFound(t, "Line by id", err)
	_, err = s.Line(ctx, identity.LineKey{Thumbprint: "none"})
	notFound(t, "Line by thumbprint", err)
	_, err = s.Line(ctx, identity.LineKey{BootstrapKey: "none"})
	notFound(t, "Line by bootstrap key", err)
	_, err = s.Session(ctx, "none")
	notFound(t, "Session", err)
	_, err = s.User(ctx, "none")
	notFound(t, "User", err)
	_, err = s.Installation(ctx, "none")
	notFound(t, "Installation", err)
	if all := must(s.SessionsOf(ctx, "none", 10)); len(all) != 0 {
		t.Errorf("SessionsOf: %v", all)
	}
}

func roundTrip(t *testing.T, s identity.Store) {
	c := launch("k")
	c.Installation.Thumbprint, c.Installation.PublicKey, c.Installation.ClonedFrom = "tp", `{"kty":"EC"}`, "ins_old"
	apply(t, s, c, true)
	want := *c.Installation
	want.BootstrapKey = "" // not read back
	for _, by := range []identity.LineKey{{ID: want.ID}, {Thumbprint: "tp"}, {BootstrapKey: "k"}} {
		l := must(s.Line(t.Context(), by))
		if l.Installation != want || l.Anonymous != *c.User || !slices.Equal(l.Active, []identity.Grant{{Session: *c.Session, User: *c.User}}) {
			t.Errorf("Line(%v) = %+v", by, l)
		}
	}
	if g := must(s.Session(t.Context(), c.Session.ID)); g.Session != *c.Session || g.User != *c.User {
		t.Errorf("Session = %+v", g)
	}
	if all := must(s.SessionsOf(t.Context(), c.User.ID, 10)); len(all) != 1 || all[0].Session != *c.Session {
		t.Errorf("SessionsOf = %+v", all)
	}
	if u := must(s.User(t.Context(), c.User.ID)); u != *c.User {
		t.Errorf("User = %+v", u)
	}
	want.App.Version, want.SeenAt = "5.0.0", at.Add(time.Hour)
	apply(t, s, identity.Change{Seen: &want}, true)
	if got := must(s.Installation(t.Context(), want.ID)); got != want {
		t.Errorf("Installation = %+v", got)
	}
}

func oneInstallation(t *testing.T, s identity.Store) {
	for _, change := range []func(*identity.Installation){
		func(i *identity.Installation) { i.BootstrapKey = "same" },
		func(i *identity.Installation) { i.BootstrapKey, i.Thumbprint = "", "same" },
	} {
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for range 16 {
			wg.Go(func() {
				c := launch("")
				change(c.Installation)
				done, err := s.Apply(t.Context(), c)
				if err != nil {
					t.Error(err)
				}
				// Win or lose: what won can be read now.
				if _, err := s.Line(t.Context(), identity.LineKey{BootstrapKey: c.Installation.BootstrapKey, Thumbprint: c.Installation.Thumbprint}); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				if done {
					won++
				}
			})
		}
		wg.Wait()
		if won != 1 {
			t.Errorf("%d of 16 made an installation", won)
		}
	}
	// Having neither, as after the key is forgotten, is no conflict.
	apply(t, s, launch(""), true)
	apply(t, s, launch(""), true)
}

func proof(t *testing.T, s identity.Store) {
	p := &identity.Proof{ID: "p", Expires: at}
	c := launch("a")
	c.Proof = p
	apply(t, s, c, true)
	again := launch("b")
	again.Proof = p
	if done, err := s.Apply(t.Context(), again); done || !errors.Is(err, identity.ErrProofSpent) {
		t.Errorf("Apply = %t, %v", done, err)
	}
	_, err := s.Installation(t.Context(), again.Installation.ID)
	notFound(t, "the installation of a spent proof", err)
	// A lost race does not spend it.
	lost := launch("a")
	lost.Proof = &identity.Proof{ID: "q", Expires: at}
	apply(t, s, lost, false)
	apply(t, s, identity.Change{Proof: lost.Proof}, true)
}

func oneSession(t *testing.T, s identity.Store) {
	c := launch("k")
	apply(t, s, c, true)
	second := session(c.Installation.ID, c.User.ID)
	apply(t, s, identity.Change{Session: &second}, false)
	another := identity.User{ID: id.New(id.User), Kind: identity.Anonymous, State: identity.UserActive, InstallationID: c.Installation.ID, CreatedAt: at}
	apply(t, s, identity.Change{User: &another}, false)
	account := identity.User{ID: id.New(id.User), Kind: identity.Account, State: identity.UserActive, CreatedAt: at}
	theirs := session(c.Installation.ID, account.ID)
	apply(t, s, identity.Change{User: &account, Session: &theirs}, true)
	if l := must(s.Line(t.Context(), identity.LineKey{ID: c.Installation.ID})); len(l.Active) != 2 || l.Anonymous.ID != c.User.ID {
		t.Errorf("Line = %+v", l)
	}
	expired := *c.Session
	expired.State, expired.EndReason = identity.SessionExpired, identity.ReasonExpiredIdle
	apply(t, s, identity.Change{Update: &identity.Update{Before: *c.Session, After: expired, At: at}, Session: &second}, true)
	if r := must(s.Revocations(t.Context(), identity.Revocation{}, 10)); len(r) != 0 {
		t.Errorf("an expiry was recorded as a revocation: %v", r)
	}
}

func update(t *testing.T, s identity.Store) {
	c := launch("k")
	apply(t, s, c, true)
	next := *c.Session
	next.Current, next.Previous, next.Recoveries, next.RotatedAt, next.IdleExpiresAt = 2, 1, 0, at.Add(time.Second), at.Add(2*time.Hour)
	u := identity.Change{Update: &identity.Update{Before: *c.Session, After: next, At: at}}
	apply(t, s, u, true)
	apply(t, s, u, false)
	if g := must(s.Session(t.Context(), next.ID)); g.Session != next {
		t.Errorf("Session = %+v, want %+v", g.Session, next)
	}
	revoked := next
	revoked.State, revoked.EndReason = identity.SessionRevoked, identity.ReasonReused
	apply(t, s, identity.Change{Update: &identity.Update{Before: *c.Session, After: revoked, At: at}}, false)
	apply(t, s, identity.Change{Update: &identity.Update{Before: next, After: revoked, At: at}}, true)
	if g := must(s.Session(t.Context(), next.ID)); g.Session != revoked {
		t.Errorf("Session = %+v, want %+v", g.Session, revoked)
	}
	if r := must(s.Revocations(t.Context(), identity.Revocation{}, 10)); !slices.Equal(r, []identity.Revocation{{SessionID: next.ID, Reason: identity.ReasonReused, At: at}}) {
		t.Errorf("Revocations = %v", r)
	}
	apply(t, s, identity.Change{Update: &identity.Update{Before: next, After: next, At: at}}, false) // it has ended
}

func ending(t *testing.T, s identity.Store) {
	c := launch("k")
	apply(t, s, c, true)
	e := identity.Change{End: []identity.Ending{{SessionID: c.Session.ID, Reason: identity.ReasonSignOut, At: at}}}
	apply(t, s, e, true)
	apply(t, s, e, false)
	apply(t, s, identity.Change{End: []identity.Ending{{SessionID: "none", Reason: identity.ReasonSignOut, At: at}}}, false)
	g := must(s.Session(t.Context(), c.Session.ID))
	if g.Session.State != identity.SessionRevoked || g.Session.EndReason != identity.ReasonSignOut {
		t.Errorf("Session = %+v", g.Session)
	}
	if r := must(s.Revocations(t.Context(), identity.Revocation{}, 10)); len(r) != 1 {
		t.Errorf("Revocations = %v", r)
	}
	if l := must(s.Line(t.Context(), identity.LineKey{ID: c.Installation.ID})); len(l.Active) != 0 || l.Anonymous.ID != c.User.ID {
		t.Errorf("Line = %+v", l)
	}
}

func allOrNothing(t *testing.T, s identity.Store) {
	c := launch("k")
	apply(t, s, c, true)
	bad := launch("other")
	bad.Session.ID = c.Session.ID // taken
	apply(t, s, bad, false)
	_, err := s.Installation(t.Context(), bad.Installation.ID)
	notFound(t, "the installation of a change that failed", err)
	wrong := identity.Change{Audit: []audit.Entry{{Action: "no action"}}, End: []identity.Ending{{SessionID: c.Session.ID, Reason: identity.ReasonSignOut, At: at}}}
	if done, err := s.Apply(t.Context(), wrong); done || err == nil {
		t.Error("a change whose audit entry is refused was applied")
	}
	if g := must(s.Session(t.Context(), c.Session.ID)); g.Session.State != identity.SessionActive {
		t.Error("a session ended without its audit entry")
	}
}

func race(t *testing.T, s identity.Store) {
	c := launch("k")
	apply(t, s, c, true)
	const workers, turns = 16, 5
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for done := 0; done < turns; {
				g, err := s.Session(t.Context(), c.Session.ID)
				if err != nil {
					t.Error(err)
					return
				}
				next := g.Session
				next.Current, next.Previous = next.Current+1, next.Current
				ok, err := s.Apply(t.Context(), identity.Change{Update: &identity.Update{Before: g.Session, After: next, At: at}})
				if err != nil {
					t.Error(err)
					return
				}
				if ok {
					done++
				}
			}
		})
	}
	wg.Wait()
	if g := must(s.Session(t.Context(), c.Session.ID)); g.Session.Current != 1+workers*turns {
		t.Errorf("the number is %d, want %d: an update was lost", g.Session.Current, 1+workers*turns)
	}
}

func orphan(t *testing.T, s identity.Store) {
	alone := session("ins_1", "usr_gone")
	apply(t, s, identity.Change{Session: &alone}, true)
	if g := must(s.Session(t.Context(), alone.ID)); g.User.State != identity.UserDeleted || g.User.ID != "usr_gone" {
		t.Errorf("User = %+v", g.User)
	}
}

func revocations(t *testing.T, s identity.Store) {
	var want []identity.Revocation
	for i := range 7 {
		c := launch(fmt.Sprint(i))
		apply(t, s, c, true)
		when := at.Add(time.Duration(i/3) * time.Second) // several at one time
		apply(t, s, identity.Change{End: []identity.Ending{{SessionID: c.Session.ID, Reason: identity.ReasonOperator, At: when}}}, true)
		want = append(want, identity.Revocation{SessionID: c.Session.ID, Reason: identity.ReasonOperator, At: when})
	}
	var got []identity.Revocation
	for after := (identity.Revocation{}); ; after = got[len(got)-1] {
		page := must(s.Revocations(t.Context(), after, 2))
		if got = append(got, page...); len(page) < 2 {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func window(t *testing.T, s identity.Store) {
	if until := must(s.RestoreUntil(t.Context())); !until.IsZero() {
		t.Errorf("RestoreUntil = %v", until)
	}
	for _, until := range []time.Time{at, at.Add(-time.Hour)} {
		apply(t, s, identity.Change{Restore: &identity.Window{From: at, Until: until}}, true)
		if got := must(s.RestoreUntil(t.Context())); !got.Equal(until) {
			t.Errorf("RestoreUntil = %v, want %v", got, until)
		}
	}
}

func clean(t *testing.T, s identity.Store) {
	const n = 5
	var all []identity.Change
	for i := range n {
		c := launch(fmt.Sprint("key", i))
		c.Proof = &identity.Proof{ID: fmt.Sprint("p", i), Expires: at}
		apply(t, s, c, true)
		apply(t, s, identity.Change{End: []identity.Ending{{SessionID: c.Session.ID, Reason: identity.ReasonSignOut, At: at}}}, true)
		all = append(all, c)
	}
	none := identity.Retention{BootstrapKeys: at, Proofs: at, Revocations: at, Sessions: at.Add(24 * time.Hour)}
	if got := must(s.Clean(t.Context(), none, 100)); got != 0 {
		t.Errorf("%d rows were removed at the very time that is kept", got)
	}
	old := identity.Retention{BootstrapKeys: at.Add(1e6), Proofs: at.Add(1e6), Revocations: at.Add(1e6), Sessions: at.Add(24*time.Hour + 1e6)}
	for i, want := range []int64{12, 8, 0} {
		if got := must(s.Clean(t.Context(), old, 3)); got != want {
			t.Errorf("round %d removed %d rows, want %d", i, got, want)
		}
	}
	for i, c := range all {
		_, err := s.Line(t.Context(), identity.LineKey{BootstrapKey: fmt.Sprint("key", i)})
		notFound(t, "Line by a forgotten key", err)
		_, err = s.Session(t.Context(), c.Session.ID)
		notFound(t, "an old session", err)
		if l := must(s.Line(t.Context(), identity.LineKey{ID: c.Installation.ID})); l.Anonymous.ID != c.User.ID {
			t.Errorf("Line = %+v", l)
		}
		apply(t, s, identity.Change{Proof: c.Proof}, true)
	}
	if r := must(s.Revocations(t.Context(), identity.Revocation{}, 10)); len(r) != 0 {
		t.Errorf("Revocations = %v", r)
	}
}
