package identitytest

import (
	"errors"
	"testing"
	"time"

	"landline/internal/identity"
	"landline/internal/sqldb"
)

func browsers(t *testing.T, s identity.Store) {
	if _, err := s.Browser(t.Context(), "b1"); !errors.Is(err, sqldb.ErrNotFound) {
		t.Errorf("a browser that is not there: %v", err)
	}
	one := identity.Browser{ID: "b1", InstallationID: "ins_1", CreatedAt: at, ExpiresAt: at.Add(time.Hour)}
	apply(t, s, identity.Change{Browser: &one}, true)
	apply(t, s, identity.Change{Browser: &one}, false)
	if got := must(s.Browser(t.Context(), "b1")); got != one {
		t.Errorf("Browser = %+v, want %+v", got, one)
	}
	next := one
	next.ID = "b2"
	apply(t, s, identity.Change{EndBrowser: "b1", Browser: &next}, true)
	late := one
	late.ID = "b3"
	apply(t, s, identity.Change{EndBrowser: "b1", Browser: &late}, false) // somebody was faster
	for id, want := range map[string]error{"b1": sqldb.ErrNotFound, "b2": nil, "b3": sqldb.ErrNotFound} {
		if _, err := s.Browser(t.Context(), id); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", id, err, want)
		}
	}
	if n := must(s.Clean(t.Context(), identity.Retention{Expired: at.Add(2 * time.Hour)}, 10)); n != 1 {
		t.Errorf("Clean removed %d rows, want 1", n)
	}
}

func consents(t *testing.T, s identity.Store) {
	if _, err := s.Consent(t.Context(), "usr_1", "app"); !errors.Is(err, sqldb.ErrNotFound) {
		t.Errorf("a consent that is not there: %v", err)
	}
	one := identity.Consent{UserID: "usr_1", ClientID: "app", Scope: "openid", CreatedAt: at, UpdatedAt: at}
	apply(t, s, identity.Change{Consent: &one}, true)
	more := one
	more.Scope, more.UpdatedAt = "openid email", at.Add(time.Hour)
	apply(t, s, identity.Change{Consent: &more}, true)
	if got := must(s.Consent(t.Context(), "usr_1", "app")); got != more {
		t.Errorf("Consent = %+v, want %+v", got, more)
	}
	for _, other := range [][2]string{{"usr_2", "app"}, {"usr_1", "other"}} {
		if _, err := s.Consent(t.Context(), other[0], other[1]); !errors.Is(err, sqldb.ErrNotFound) {
			t.Errorf("%v: %v", other, err)
		}
	}
}

func boundSession(t *testing.T, s identity.Store) {
	c := launch("k")
	c.Session.KeyThumbprint, c.Session.Via = "thumbprint", identity.ViaCode
	apply(t, s, c, true)
	got := must(s.Session(t.Context(), c.Session.ID)).Session
	if got != *c.Session {
		t.Errorf("Session = %+v, want %+v", got, *c.Session)
	}
	after := got
	after.IdleExpiresAt, after.RotatedAt = at.Add(2*time.Hour), at.Add(time.Hour)
	apply(t, s, identity.Change{Update: &identity.Update{Before: got, After: after, At: at}}, true)
	apply(t, s, identity.Change{Update: &identity.Update{Before: got, After: after, At: at}}, true) // the number is the same for ever
	if got := must(s.Session(t.Context(), c.Session.ID)).Session; got != after {
		t.Errorf("Session = %+v, want %+v", got, after)
	}
}
