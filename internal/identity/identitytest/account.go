package identitytest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"landline/internal/id"
	"landline/internal/identity"
	"landline/internal/sqldb"
)

func account(t *testing.T, s identity.Store) identity.User {
	t.Helper()
	u := identity.User{ID: id.New(id.User), Kind: identity.Account, State: identity.UserActive, CreatedAt: at}
	apply(t, s, identity.Change{User: &u}, true)
	return u
}

func way(user, lookup, email string) *identity.Identity {
	return &identity.Identity{ID: id.New("idn"), UserID: user, Provider: "apple", Lookup: lookup, EmailLookup: email, EmailVerified: email != "",
		Sealed: []byte{1, 2, 3}, CreatedAt: at, UsedAt: at}
}

func promotion(t *testing.T, s identity.Store) {
	c := launch("k")
	apply(t, s, c, true)
	apply(t, s, identity.Change{Promote: c.User.ID, Identity: way(c.User.ID, "l", "")}, true)
	apply(t, s, identity.Change{Promote: c.User.ID}, false)
	want := *c.User
	want.Kind = identity.Account
	if got := must(s.User(t.Context(), want.ID)); got != want {
		t.Errorf("User = %+v, want %+v", got, want)
	}
	if l := must(s.Line(t.Context(), identity.LineKey{ID: c.Installation.ID})); l.Anonymous.ID != "" {
		t.Errorf("the installation still has the anonymous user %+v", l.Anonymous)
	}
	next := identity.User{ID: id.New(id.User), Kind: identity.Anonymous, State: identity.UserActive, InstallationID: c.Installation.ID, CreatedAt: at}
	apply(t, s, identity.Change{User: &next}, true)
}

func merging(t *testing.T, s identity.Store) {
	u := account(t, s)
	c := launch("k")
	apply(t, s, c, true)
	m := identity.UserMerge{ID: id.New("mrg"), From: c.User.ID, Into: u.ID, InstallationID: c.Installation.ID, State: identity.MergeRunning, CreatedAt: at}
	apply(t, s, identity.Change{Merge: &m}, true)
	apply(t, s, identity.Change{Merge: &m}, false)
	other := m
	other.ID, other.Into = id.New("mrg"), id.New(id.User)
	apply(t, s, identity.Change{Merge: &other}, false)
	if got := must(s.MergeOf(t.Context(), c.User.ID)); got != m {
		t.Errorf("MergeOf = %+v, want %+v", got, m)
	}
	if got := must(s.MergesInto(t.Context(), u.ID, 10)); !slices.Equal(got, []identity.UserMerge{m}) {
		t.Errorf("MergesInto = %+v", got)
	}
	got := must(s.User(t.Context(), c.User.ID))
	if got.State != identity.UserMerged || got.MergedInto != u.ID || !got.StateAt.Equal(at) {
		t.Errorf("User = %+v", got)
	}
	want := []identity.Revocation{{SessionID: c.User.ID, Reason: identity.ReasonUserMerged, At: at}}
	if r := must(s.Revocations(t.Context(), identity.Revocation{}, 10)); !slices.Equal(r, want) {
		t.Errorf("Revocations = %v, want %v", r, want)
	}
	apply(t, s, identity.Change{Merge: &identity.UserMerge{ID: id.New("mrg"), From: u.ID, Into: c.User.ID, State: identity.MergeDone, CreatedAt: at}}, false) // an account
	_, err := s.MergeOf(t.Context(), u.ID)
	notFound(t, "MergeOf", err)
}

func identities(t *testing.T, s identity.Store) {
	u, v := account(t, s), account(t, s)
	first := way(u.ID, "l1", "e")
	apply(t, s, identity.Change{Identity: first}, true)
	apply(t, s, identity.Change{Identity: way(v.ID, "l1", "")}, false)
	second := way(v.ID, "l2", "e")
	apply(t, s, identity.Change{Identity: second}, true)

	got, owner, err := s.IdentityBy(t.Context(), "l1")
	if err != nil || owner != u || !same(got, *first) {
		t.Errorf("IdentityBy = %+v, %+v, %v", got, owner, err)
	}
	_, _, err = s.IdentityBy(t.Context(), "l3")
	notFound(t, "IdentityBy", err)
	if all := must(s.IdentitiesByEmail(t.Context(), "e", 10)); len(all) != 2 {
		t.Errorf("IdentitiesByEmail = %+v", all)
	}
	doubtful := way(v.ID, "l0", "e")
	doubtful.EmailVerified = false
	apply(t, s, identity.Change{Identity: doubtful}, true)
	if all := must(s.VerifiedByEmail(t.Context(), "e", 10)); len(all) != 2 || !same(all[0], *first) || !same(all[1], *second) {
		t.Errorf("VerifiedByEmail = %+v", all)
	}
	if all := must(s.VerifiedByEmail(t.Context(), "e", 1)); len(all) != 1 {
		t.Errorf("VerifiedByEmail = %+v", all)
	}
	if all := must(s.IdentitiesByEmail(t.Context(), "e", 10)); len(all) != 3 {
		t.Errorf("IdentitiesByEmail = %+v", all)
	}
	used := *first
	used.EmailLookup, used.EmailVerified, used.Sealed, used.UsedAt = "", false, []byte{9}, at.Add(time.Hour)
	used.SecretAt, used.SecretVoid = at.Add(time.Minute), true
	apply(t, s, identity.Change{Used: &used, UsedFrom: first.Sealed}, true)
	apply(t, s, identity.Change{Used: &used, UsedFrom: first.Sealed}, false) // somebody else's change would be undone
	if all := must(s.IdentitiesOf(t.Context(), u.ID, 10)); len(all) != 1 || !same(all[0], used) {
		t.Errorf("IdentitiesOf = %+v, want %+v", all, used)
	}
	unlinking := identity.Unlinking{ID: used.ID, UserID: used.UserID, At: at}
	foreign := unlinking
	foreign.UserID = v.ID
	apply(t, s, identity.Change{Unlink: &foreign}, false)
	apply(t, s, identity.Change{Unlink: &unlinking}, true)
	apply(t, s, identity.Change{Unlink: &unlinking}, false)
	apply(t, s, identity.Change{Identity: way(v.ID, "l1", "")}, true) // free again
	for want := range int64(2) {
		if n := must(s.Clean(t.Context(), identity.Retention{Unlinked: at.Add(time.Duration(want) * time.Millisecond)}, 10)); n != want {
			t.Errorf("%d of what was unlinked is forgotten, want %d", n, want)
		}
	}
}

func same(a, b identity.Identity) bool {
	sealed := slices.Equal(a.Sealed, b.Sealed)
	a.Sealed, b.Sealed = nil, nil
	return sealed && a.ID == b.ID && a.UserID == b.UserID && a.Provider == b.Provider && a.Lookup == b.Lookup && a.EmailLookup == b.EmailLookup &&
		a.EmailVerified == b.EmailVerified && a.SecretAt.Equal(b.SecretAt) && a.SecretVoid == b.SecretVoid && a.CreatedAt.Equal(b.CreatedAt) && a.UsedAt.Equal(b.UsedAt)
}

func reassignment(t *testing.T, s identity.Store) {
	u := account(t, s)
	c := launch("k")
	apply(t, s, c, true)
	after := *c.Session
	after.UserID, after.Formerly, after.AuthTime, after.Methods = u.ID, c.User.ID, at.Add(time.Minute), "fed"
	after.Previous, after.AcceptedFrom, after.RotatedAt, after.IdleExpiresAt = after.Current, 1, at.Add(time.Minute), at.Add(2*time.Hour)
	after.Current++
	apply(t, s, identity.Change{Reassign: &identity.Reassign{Before: c.User.ID, Current: after.Current, After: after}}, false) // refreshed meanwhile
	apply(t, s, identity.Change{Reassign: &identity.Reassign{Before: c.User.ID, Current: c.Session.Current, After: after}}, true)
	apply(t, s, identity.Change{Reassign: &identity.Reassign{Before: c.User.ID, Current: c.Session.Current, After: after}}, false)
	if g := must(s.Session(t.Context(), after.ID)); g.Session != after || g.User != u {
		t.Errorf("Session = %+v, want %+v", g, after)
	}
}

func credentials(t *testing.T, s identity.Store) {
	use := identity.CredentialUse{ID: "c", InstallationID: "ins_1", UserID: "usr_1", MergedFrom: "usr_2", ExpiresAt: at}
	apply(t, s, identity.Change{Use: &use}, true)
	apply(t, s, identity.Change{Use: &identity.CredentialUse{ID: "c", InstallationID: "ins_2", UserID: "usr_3", ExpiresAt: at}}, false)
	if got := must(s.CredentialUse(t.Context(), "c")); got != use {
		t.Errorf("CredentialUse = %+v, want %+v", got, use)
	}
	// One that was answered with a question is somebody's later, once, and where it was asked.
	held := identity.CredentialUse{ID: "h", InstallationID: "ins_1", ExpiresAt: at}
	apply(t, s, identity.Change{Use: &held}, true)
	settled := identity.CredentialUse{ID: "h", InstallationID: "ins_1", UserID: "usr_1", MergedFrom: "usr_2", ExpiresAt: at, Held: true}
	elsewhere := settled
	elsewhere.InstallationID = "ins_2"
	apply(t, s, identity.Change{Use: &elsewhere}, false)
	apply(t, s, identity.Change{Use: &settled}, true)
	apply(t, s, identity.Change{Use: &settled}, false)
	settled.Held = false
	if got := must(s.CredentialUse(t.Context(), "h")); got != settled {
		t.Errorf("CredentialUse = %+v, want %+v", got, settled)
	}
	if n := must(s.Clean(t.Context(), identity.Retention{Expired: at.Add(time.Second)}, 10)); n != 2 {
		t.Errorf("Clean removed %d", n)
	}
	_, err := s.CredentialUse(t.Context(), "c")
	notFound(t, "CredentialUse", err)
}

// provenWith: the end of a way to sign in ends the sessions that it opened, and
// those of which nothing is known.
func provenWith(t *testing.T, s identity.Store) {
	u := account(t, s)
	session := func(key string, with *identity.SessionProof) identity.Session {
		c := launch(key)
		c.Session.UserID = u.ID
		if with != nil {
			with.SessionID, with.ExpiresAt = c.Session.ID, c.Session.ExpiresAt
			c.ProvenWith = with
		}
		apply(t, s, c, true)
		return *c.Session
	}
	apple, google, unknown := session("a", &identity.SessionProof{IdentityID: "idn_1"}), session("b", &identity.SessionProof{IdentityID: "idn_2"}), session("c", nil)
	client := launch("d")
	client.Session.UserID, client.ProvenAs = u.ID, google.ID
	apply(t, s, client, true)
	if all := must(s.ActiveSessionsOf(t.Context(), u.ID, 10)); len(all) != 4 {
		t.Fatalf("%d active sessions", len(all))
	}
	apply(t, s, identity.Change{EndAll: &identity.EndAll{UserID: u.ID, Reason: identity.ReasonUnlinked, At: at, Proven: "idn_1"}}, true)
	for _, c := range []struct {
		session identity.Session
		want    identity.SessionState
	}{{apple, identity.SessionRevoked}, {google, identity.SessionActive}, {unknown, identity.SessionRevoked}, {*client.Session, identity.SessionActive}} {
		if g := must(s.Session(t.Context(), c.session.ID)); g.Session.State != c.want {
			t.Errorf("%s is %s, want %s", c.session.ID, g.Session.State, c.want)
		}
	}
	if r := must(s.Revocations(t.Context(), identity.Revocation{}, 10)); len(r) != 2 {
		t.Errorf("Revocations = %v", r)
	}
	if all := must(s.ActiveSessionsOf(t.Context(), u.ID, 1)); len(all) != 1 || all[0].Session.State != identity.SessionActive {
		t.Errorf("ActiveSessionsOf = %+v", all)
	}
	apply(t, s, identity.Change{EndAll: &identity.EndAll{UserID: u.ID, Reason: identity.ReasonUnlinked, At: at, Proven: "idn_2"}}, true)
	if all := must(s.ActiveSessionsOf(t.Context(), u.ID, 10)); len(all) != 0 {
		t.Errorf("ActiveSessionsOf = %+v", all)
	}
}

func accountMerge(t *testing.T, s identity.Store) {
	a, b := account(t, s), account(t, s)
	m := identity.UserMerge{ID: id.New("mrg"), From: a.ID, Into: b.ID, InstallationID: "ins_1", State: identity.MergeDone, CreatedAt: at, Account: true}
	apply(t, s, identity.Change{Merge: &m}, true)
	apply(t, s, identity.Change{Merge: &m}, false)
	c := launch("k")
	apply(t, s, c, true)
	apply(t, s, identity.Change{Merge: &identity.UserMerge{ID: id.New("mrg"), From: c.User.ID, Into: b.ID, State: identity.MergeDone, CreatedAt: at, Account: true}}, false) // no account
	if u := must(s.User(t.Context(), a.ID)); u.State != identity.UserMerged || u.MergedInto != b.ID {
		t.Errorf("User = %+v", u)
	}
}

func challenges(t *testing.T, s identity.Store) {
	c := identity.Challenge{ID: "c", Kind: "code", State: []byte("one"), ExpiresAt: at}
	apply(t, s, identity.Change{Challenges: []identity.Challenge{c}}, true)
	apply(t, s, identity.Change{Challenges: []identity.Challenge{c}}, false) // there is one
	c.Version = 1
	if got := must(s.Challenge(t.Context(), "c")); string(got.State) != "one" || got.Version != 1 || got.Kind != "code" || !got.ExpiresAt.Equal(at) {
		t.Errorf("Challenge = %+v", got)
	}
	const callers = 6
	won := make([]bool, callers)
	var wait sync.WaitGroup
	for i := range callers {
		wait.Go(func() {
			next := c
			next.State = fmt.Append(nil, i)
			change := identity.Change{Challenges: []identity.Challenge{next}}
			if i%2 == 0 {
				change = identity.Change{Take: &c}
			}
			won[i] = must(s.Apply(t.Context(), change))
		})
	}
	wait.Wait()
	n := 0
	for _, w := range won {
		if w {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d of %d callers changed the challenge", n, callers)
	}
}

func within(t *testing.T, s identity.Store) {
	boom := errors.New("boom")
	u := identity.User{ID: id.New(id.User), Kind: identity.Account, State: identity.UserActive, CreatedAt: at}
	_, err := s.Apply(t.Context(), identity.Change{User: &u, Within: func(context.Context, *sqldb.Tx) error { return boom }})
	if !errors.Is(err, boom) {
		t.Errorf("Apply: %v, want the error of Within", err)
	}
	_, err = s.User(t.Context(), u.ID)
	notFound(t, "User", err)
	called := false
	apply(t, s, identity.Change{User: &u, Promote: "usr_none", Within: func(context.Context, *sqldb.Tx) error { called = true; return nil }}, false)
	if called {
		t.Error("Within was called although a condition does not hold")
	}
}

func states(t *testing.T, s identity.Store) {
	u := account(t, s)
	lock := identity.Change{State: []identity.StateChange{{UserID: u.ID, From: identity.UserActive, To: identity.UserLocked, At: at}}}
	apply(t, s, identity.Change{Active: u.ID}, true)
	apply(t, s, lock, true)
	apply(t, s, lock, false)
	apply(t, s, identity.Change{Active: u.ID}, false)
	if got := must(s.User(t.Context(), u.ID)); got.State != identity.UserLocked || !got.StateAt.Equal(at) {
		t.Errorf("User = %+v", got)
	}
}

func endAll(t *testing.T, s identity.Store) {
	u := account(t, s)
	var all []identity.Session
	for i := range 3 {
		one := session(id.New(id.Installation), u.ID)
		apply(t, s, identity.Change{Session: &one}, true)
		if i == 0 {
			apply(t, s, identity.Change{End: []identity.Ending{{SessionID: one.ID, Reason: identity.ReasonSignOut, At: at}}}, true)
		}
		all = append(all, one)
	}
	apply(t, s, identity.Change{EndAll: &identity.EndAll{UserID: u.ID, Except: all[2].ID, Reason: identity.ReasonOperator, At: at.Add(time.Second)}}, true)
	for i, want := range []identity.Reason{identity.ReasonSignOut, identity.ReasonOperator, ""} {
		if g := must(s.Session(t.Context(), all[i].ID)); g.Session.EndReason != want {
			t.Errorf("session %d ended with %q, want %q", i, g.Session.EndReason, want)
		}
	}
	want := []identity.Revocation{{SessionID: all[0].ID, Reason: identity.ReasonSignOut, At: at}, {SessionID: all[1].ID, Reason: identity.ReasonOperator, At: at.Add(time.Second)}}
	if r := must(s.Revocations(t.Context(), identity.Revocation{}, 10)); !slices.Equal(r, want) {
		t.Errorf("Revocations = %v, want %v", r, want)
	}
}
