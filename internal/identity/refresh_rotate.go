package identity

import (
	"context"

	"landline/internal/module"
	"landline/internal/sqldb"
)

// rotate is the short way of a refresh by RuleRotate: one statement instead of a
// read and a write. It returns false for whatever Decide has to decide, and has
// done nothing then. That both ways agree is a test.
func (s *Service) rotate(ctx context.Context, t refreshToken, by caller, scope string) (Refreshed, bool, error) {
	if by.client == nil || by.client.Confidential() || by.client.DPoP || by.KeyProof != "" || scope != "" {
		return Refreshed{}, false, nil
	}
	now := s.now()
	g, done, err := s.store.Rotate(ctx, Rotation{SessionID: t.session, Counter: t.counter, KeyVersion: t.version, ClientID: by.client.ID,
		At: now, IdleExpiresAt: now.Add(s.config.policy().Idle)})
	if err != nil || !done {
		return Refreshed{}, false, err
	}
	out := Refreshed{Rule: RuleRotate}
	out.Tokens, err = s.tokensFor(g, g.Session.Scope, "", now)
	return out, true, err
}

// Rotate is Store.Rotate.
func (s *SQLStore) Rotate(ctx context.Context, r Rotation) (g Grant, done bool, err error) {
	var auth, deviceUntil, expires int64
	var level, kind string
	to := &g.Session
	unmet, err := s.db.WriteAll(ctx, []sqldb.Statement{{
		Text: Queries.Get("SessionRotate"),
		Args: []any{sqldb.Millis(r.At), sqldb.Millis(r.IdleExpiresAt), r.SessionID, r.Counter, r.KeyVersion, r.ClientID, sqldb.Millis(r.At), sqldb.Millis(r.At)},
		Into: []any{&to.UserID, &to.InstallationID, &auth, &to.Methods, &to.Scope, &to.Formerly, &level, &deviceUntil, &expires, &kind},
	}})
	if err != nil || unmet != sqldb.Met {
		return Grant{}, false, err
	}
	to.ID, to.ClientID, to.KeyVersion, to.State = r.SessionID, r.ClientID, r.KeyVersion, SessionActive
	to.Current, to.Previous, to.RotatedAt, to.IdleExpiresAt = r.Counter+1, r.Counter, r.At, r.IdleExpiresAt
	to.AuthTime, to.ExpiresAt = sqldb.Time(auth), sqldb.Time(expires)
	to.Device = Device{module.DeviceLevel(level), timeOrZero(deviceUntil)}
	g.User = User{ID: to.UserID, Kind: UserKind(kind), State: UserActive}
	return g, true, nil
}
