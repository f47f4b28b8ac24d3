package identity

import (
	"testing"
	"time"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var testPolicy = RefreshPolicy{Grace: 30 * time.Second, Idle: 90 * 24 * time.Hour, Absolute: 365 * 24 * time.Hour}

// rotated is a session whose token 7 was issued for token 6 at t0.
func rotated(change func(*Session, *User)) (Session, User) {
	u := User{ID: "usr_1", Kind: Anonymous, State: UserActive}
	s := Session{ID: "ses_1", UserID: u.ID, ClientID: "app", State: SessionActive, Current: 7, Previous: 6, RotatedAt: t0,
		IdleExpiresAt: t0.Add(testPolicy.Idle), ExpiresAt: t0.Add(testPolicy.Absolute)}
	if change != nil {
		change(&s, &u)
	}
	return s, u
}

func TestDecideFollowsTheTable(t *testing.T) {
	const later = time.Hour
	ended := func(state SessionState, why Reason) func(*Session, *User) {
		return func(s *Session, _ *User) { s.State, s.EndReason = state, why }
	}
	user := func(state UserState) func(*Session, *User) { return func(_ *Session, u *User) { u.State = state } }
	// After one recovery: 6 was presented last, 7 is an orphan, 8 is the newest.
	recovered := func(s *Session, _ *User) { s.Current, s.Recoveries = 8, 1 }
	exhausted := func(s *Session, _ *User) { s.Current, s.Recoveries = 11, MaxRecoveries }
	bound := func(s *Session, _ *User) { s.KeyThumbprint = "key-1" }
	for _, c := range []struct {
		name    string
		given   func(*Session, *User)
		counter int64
		after   time.Duration
		client  string
		proof   string
		restore bool
		rule    Rule
		reason  Reason
		current int64 // of the row after
		prev    int64
		replay  string
		write   bool
	}{
		{name: "revoked by sign-out", given: ended(SessionRevoked, ReasonSignOut), counter: 7, rule: RuleEnded, reason: ReasonSessionRevoked, current: 7, prev: 6},
		{name: "revoked by an operator", given: ended(SessionRevoked, ReasonOperator), counter: 7, rule: RuleEnded, reason: ReasonSessionRevoked, current: 7, prev: 6},
		{name: "revoked by reuse", given: ended(SessionRevoked, ReasonReused), counter: 7, rule: RuleEnded, reason: ReasonReused, current: 7, prev: 6},
		{name: "expired before", given: ended(SessionExpired, ReasonExpiredIdle), counter: 7, rule: RuleEnded, reason: ReasonExpiredIdle, current: 7, prev: 6},
		{name: "user deleted", given: user(UserDeleted), counter: 7, rule: RuleEnded, reason: ReasonAccountDeleted, current: 7, prev: 6},
		{name: "user locked", given: user(UserLocked), counter: 7, rule: RuleEnded, reason: ReasonAccountLocked, current: 7, prev: 6},
		{name: "user merged", given: user(UserMerged), counter: 7, rule: RuleEnded, reason: ReasonUserMerged, current: 7, prev: 6},
		{name: "idle too long", counter: 7, after: testPolicy.Idle + time.Millisecond, rule: RuleExpired, reason: ReasonExpiredIdle, current: 7, prev: 6, write: true},
		{name: "at the last moment", counter: 7, after: testPolicy.Idle, rule: RuleRotate, current: 8, prev: 7, write: true},
		{name: "past the absolute end", given: func(s *Session, _ *User) { s.ExpiresAt = t0.Add(time.Minute) }, counter: 7, after: later, rule: RuleExpired, reason: ReasonExpiredAbsolute, current: 7, prev: 6, write: true},
		{name: "newest", counter: 7, after: later, rule: RuleRotate, current: 8, prev: 7, write: true},
		{name: "newest at once", counter: 7, rule: RuleRotate, current: 8, prev: 7, write: true},
		{name: "newest, after a recovery", given: recovered, counter: 8, after: later, rule: RuleRotate, current: 9, prev: 8, write: true},
		{name: "previous at once", counter: 6, rule: RuleConcurrent, current: 7, prev: 6, replay: "concurrent"},
		{name: "previous at the end of the grace", counter: 6, after: 30 * time.Second, rule: RuleConcurrent, current: 7, prev: 6, replay: "concurrent"},
		{name: "previous, the clock went back", counter: 6, after: -later, rule: RuleConcurrent, current: 7, prev: 6, replay: "concurrent"},
		{name: "previous later", counter: 6, after: 30*time.Second + time.Millisecond, rule: RuleLostResponse, current: 8, prev: 6, replay: "lost-response", write: true},
		{name: "previous later again", given: recovered, counter: 6, after: later, rule: RuleLostResponse, current: 9, prev: 6, replay: "lost-response", write: true},
		{name: "previous later for the sixth time", given: exhausted, counter: 6, after: later, rule: RuleReused, reason: ReasonReused, current: 11, prev: 6, write: true},
		{name: "newer than the database in the window", counter: 40, after: later, restore: true, rule: RuleFastForward, current: 41, prev: 40, write: true},
		{name: "newer than the database at any other time", counter: 40, after: later, rule: RuleReused, reason: ReasonReused, current: 7, prev: 6, write: true},
		{name: "newer than the database at once", counter: 8, rule: RuleReused, reason: ReasonReused, current: 7, prev: 6, write: true},
		{name: "older at once", counter: 5, rule: RuleStaleDuplicate, reason: ReasonStaleDuplicate, current: 7, prev: 6},
		{name: "orphan at once", given: recovered, counter: 7, rule: RuleStaleDuplicate, reason: ReasonStaleDuplicate, current: 8, prev: 6},
		{name: "older later", counter: 5, after: later, rule: RuleReused, reason: ReasonReused, current: 7, prev: 6, write: true},
		{name: "orphan later", given: recovered, counter: 7, after: later, rule: RuleReused, reason: ReasonReused, current: 8, prev: 6, write: true},
		{name: "older later in the window", counter: 5, after: later, restore: true, rule: RuleReused, reason: ReasonReused, current: 7, prev: 6, write: true},
		{name: "another client", counter: 7, client: "other", rule: RuleClientMismatch, reason: ReasonClientMismatch, current: 7, prev: 6},
		{name: "another client learns nothing of the end", given: ended(SessionRevoked, ReasonReused), counter: 7, client: "other", rule: RuleClientMismatch, reason: ReasonClientMismatch, current: 7, prev: 6},
		{name: "bound, at once", given: bound, counter: 7, proof: "key-1", rule: RuleBound, current: 7, prev: 6},
		{name: "bound, again and again", given: bound, counter: 7, proof: "key-1", after: later, rule: RuleBound, current: 7, prev: 6},
		{name: "bound, when the idle time has moved on", given: bound, counter: 7, proof: "key-1", after: testPolicy.Idle / 100, rule: RuleBound, current: 7, prev: 6, write: true},
		{name: "bound, at the last moment", given: bound, counter: 7, proof: "key-1", after: testPolicy.Idle, rule: RuleBound, current: 7, prev: 6, write: true},
		{name: "bound, idle too long", given: bound, counter: 7, proof: "key-1", after: testPolicy.Idle + time.Millisecond, rule: RuleExpired, reason: ReasonExpiredIdle, current: 7, prev: 6, write: true},
		{name: "bound, without a proof", given: bound, counter: 7, after: later, rule: RuleClientMismatch, reason: ReasonClientMismatch, current: 7, prev: 6},
		{name: "bound, with another key", given: bound, counter: 7, proof: "key-2", after: later, rule: RuleClientMismatch, reason: ReasonClientMismatch, current: 7, prev: 6},
		{name: "bound, an older token of before, with another key", given: bound, counter: 5, proof: "key-2", after: later, rule: RuleClientMismatch, reason: ReasonClientMismatch, current: 7, prev: 6},
		{name: "bound, a token that never was", given: bound, counter: 8, proof: "key-1", after: later, rule: RuleReused, reason: ReasonReused, current: 7, prev: 6, write: true},
		{name: "not bound, with a proof", counter: 7, proof: "key-1", after: later, rule: RuleRotate, current: 8, prev: 7, write: true},
		{name: "its own client", counter: 7, client: "app", rule: RuleRotate, current: 8, prev: 7, write: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, u := rotated(c.given)
			before := s
			now := t0.Add(c.after)
			v := Decide(s, u, Presented{Counter: c.counter, ClientID: c.client, KeyProof: c.proof, Restoring: c.restore}, now, testPolicy)
			if v.Rule != c.rule || v.Reason != c.reason || v.Replay != c.replay || v.Write != c.write {
				t.Errorf("verdict = %+v", v)
			}
			if v.After.Current != c.current || v.After.Previous != c.prev {
				t.Errorf("after: current %d, previous %d; want %d, %d", v.After.Current, v.After.Previous, c.current, c.prev)
			}
			if s != before {
				t.Error("Decide changed its argument")
			}
			if !v.Write && v.After != before {
				t.Error("a verdict that writes nothing has another row")
			}
			switch {
			case v.Granted() && v.Write:
				if !v.After.RotatedAt.Equal(now) || !v.After.IdleExpiresAt.Equal(now.Add(testPolicy.Idle)) || v.After.State != SessionActive {
					t.Errorf("row after a rotation = %+v", v.After)
				}
			case v.Write:
				if v.After.State == SessionActive || v.After.EndReason != c.reason {
					t.Errorf("row after the end = %+v", v.After)
				}
			}
		})
	}
}

func TestRecoveriesAreCountedInARow(t *testing.T) {
	s, u := rotated(nil)
	now := t0
	present := func(counter int64) Verdict {
		now = now.Add(time.Hour)
		v := Decide(s, u, Presented{Counter: counter}, now, testPolicy)
		s = v.After
		return v
	}
	for round := range 3 {
		for i := range MaxRecoveries {
			if v := present(s.Previous); v.Rule != RuleLostResponse || s.Recoveries != i+1 || s.Current-s.Previous-1 != int64(s.Recoveries) {
				t.Fatalf("round %d, recovery %d: %+v", round, i, v)
			}
		}
		if v := present(s.Current); v.Rule != RuleRotate || s.Recoveries != 0 {
			t.Fatalf("round %d: %+v", round, v)
		}
	}
	for range MaxRecoveries {
		present(s.Previous)
	}
	if v := present(s.Previous); v.Rule != RuleReused || s.State != SessionRevoked {
		t.Fatalf("one recovery too many: %+v", v)
	}
}

func TestReasonsForClients(t *testing.T) {
	for in, want := range map[Reason]Reason{
		ReasonSignOut: ReasonSessionRevoked, ReasonRevocation: ReasonSessionRevoked, ReasonOperator: ReasonSessionRevoked,
		ReasonReinstalled: ReasonSessionRevoked, "": ReasonSessionRevoked, ReasonReused: ReasonReused, ReasonExpiredIdle: ReasonExpiredIdle,
	} {
		if got := in.public(); got != want {
			t.Errorf("%q is told as %q, want %q", in, got, want)
		}
	}
}
