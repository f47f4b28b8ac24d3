package identity

import (
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"landline/internal/id"
	"landline/internal/module"
)

// Rotate grants exactly what Decide grants by RuleRotate to a session without a
// key, and leaves the row as Decide has it; otherwise it changes nothing.
func TestRotateAgreesWithDecide(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		policy := f.service.config.policy()
		rapid.Check(t, func(r *rapid.T) {
			pick := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(r, name) }
			near := func(name string) time.Time {
				return t0.Add(time.Duration(rapid.SampledFrom([]int{-3600_000, -1, 0, 1, 3600_000}).Draw(r, name)) * time.Millisecond)
			}
			u := User{ID: id.New(id.User), Kind: UserKind(pick("kind", "anonymous", "account")), CreatedAt: t0,
				State: UserState(pick("user", "active", "active", "active", "locked", "merged", "deleting", "deleted"))}
			s := Session{ID: id.New(id.Session), UserID: u.ID, InstallationID: id.New(id.Installation), ClientID: pick("client", "com.example.app", "com.example.app", "other"),
				State: SessionState(pick("state", "active", "active", "active", "revoked", "expired")), KeyVersion: rapid.IntRange(1, 2).Draw(r, "version"),
				Current: rapid.Int64Range(1, 4).Draw(r, "current"), RotatedAt: near("rotated"), CreatedAt: t0.Add(-time.Hour), AuthTime: t0.Add(-time.Minute),
				Methods: "pop pwd", Scope: "app", Formerly: pick("formerly", "", "usr_a usr_b"), Device: Device{Level: module.DeviceLevel(pick("device", "", "key", "app"))},
				IdleExpiresAt: near("idle"), ExpiresAt: near("absolute"), KeyThumbprint: pick("key", "", "", "thumbprint")}
			s.Previous, s.Recoveries = max(0, s.Current-1-int64(rapid.IntRange(0, 1).Draw(r, "orphans"))), 0
			if s.Device.Level != "" && rapid.Bool().Draw(r, "lasting") {
				s.Device.Until = near("proven")
			}
			if s.State != SessionActive {
				s.EndReason = ReasonSignOut
			}
			change := Change{Session: &s}
			if rapid.IntRange(0, 9).Draw(r, "there") > 0 {
				change.User = &u
			}
			if done, err := f.service.store.Apply(t.Context(), change); err != nil || !done {
				r.Fatal(done, err)
			}
			if renewed := s; s.State == SessionActive && s.Previous > 0 && rapid.Bool().Draw(r, "renewed") {
				renewed.AcceptedFrom = rapid.Int64Range(1, s.Previous).Draw(r, "accepted from")
				if done, err := f.service.store.Apply(t.Context(), Change{Update: &Update{Before: s, After: renewed, At: t0}}); err != nil || !done {
					r.Fatal(done, err)
				}
			}
			before := must(f.service.store.Session(t.Context(), s.ID))
			p := Presented{Counter: rapid.Int64Range(1, 5).Draw(r, "presented"), ClientID: "com.example.app"}
			version := rapid.IntRange(1, 2).Draw(r, "made with")
			v := Decide(before.Session, before.User, p, t0, policy)
			want := v.Rule == RuleRotate && version == s.KeyVersion
			g, done, err := f.service.store.Rotate(t.Context(), Rotation{SessionID: s.ID, Counter: p.Counter, KeyVersion: version, ClientID: p.ClientID, At: t0, IdleExpiresAt: t0.Add(policy.Idle)})
			if err != nil || done != want {
				r.Fatalf("Rotate = %t, %v; Decide says %s for %+v of %+v", done, err, v.Rule, s, before.User)
			}
			after := must(f.service.store.Session(t.Context(), s.ID))
			if !done {
				if after != before {
					r.Fatalf("it has changed\n%+v to\n%+v", before, after)
				}
				return
			}
			if after.Session != v.After {
				r.Fatalf("the row is\n%+v, Decide has\n%+v", after.Session, v.After)
			}
			g.Session.CreatedAt, g.User.CreatedAt = after.Session.CreatedAt, after.User.CreatedAt // which no token needs
			if !reflect.DeepEqual(g, after) {
				r.Fatalf("Rotate returns\n%+v, the row is\n%+v", g, after)
			}
		})
	})
}

// Of many who present the same token at once one rotates it.
func TestOneRotationOfManyWins(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		a := f.launch(launchKey)
		session := a.str("session", "id")
		g := must(f.service.store.Session(t.Context(), session))
		won := make(chan bool, 20)
		for range cap(won) {
			go func() {
				_, done, err := f.service.store.Rotate(t.Context(), Rotation{SessionID: session, Counter: 1, KeyVersion: g.Session.KeyVersion, ClientID: g.Session.ClientID, At: t0, IdleExpiresAt: t0.Add(time.Hour)})
				if err != nil {
					t.Error(err)
				}
				won <- done
			}()
		}
		n := 0
		for range cap(won) {
			if <-won {
				n++
			}
		}
		if after := must(f.service.store.Session(t.Context(), session)); n != 1 || after.Session.Current != 2 || after.Session.Previous != 1 {
			t.Errorf("%d won: %+v", n, after.Session)
		}
	})
}
