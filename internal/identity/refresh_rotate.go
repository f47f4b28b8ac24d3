package identity

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

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
	var row string
	unmet, err := s.db.WriteAll(ctx, []sqldb.Statement{{
		Text: Queries.Get("SessionRotate"),
		Args: []any{sqldb.Millis(r.At), sqldb.Millis(r.IdleExpiresAt), r.SessionID, r.Counter, r.KeyVersion, r.ClientID},
		Into: []any{&row},
	}})
	if err != nil || unmet != sqldb.Met {
		return Grant{}, false, err
	}
	if err := g.rotated(row); err != nil {
		return Grant{}, false, err
	}
	to := &g.Session
	to.ID, to.ClientID, to.KeyVersion, to.State = r.SessionID, r.ClientID, r.KeyVersion, SessionActive
	to.Current, to.Previous, to.RotatedAt, to.IdleExpiresAt = r.Counter+1, r.Counter, r.At, r.IdleExpiresAt
	return g, true, nil
}

// rotated reads what SessionRotate returns.
func (g *Grant) rotated(row string) error {
	part := strings.Split(row, "|")
	if len(part) != 10 {
		return fmt.Errorf("identity: a rotated session has %d parts", len(part))
	}
	var err error
	number := func(text string) int64 {
		n, fault := strconv.ParseInt(text, 10, 64)
		err = errors.Join(err, fault)
		return n
	}
	s := &g.Session
	s.UserID, s.InstallationID, s.AuthTime = part[0], part[1], sqldb.Time(number(part[2]))
	s.Methods, s.Scope, s.Formerly = part[3], part[4], part[5]
	s.Device = Device{module.DeviceLevel(part[6]), timeOrZero(number(part[7]))}
	s.ExpiresAt = sqldb.Time(number(part[8]))
	g.User = User{ID: s.UserID, Kind: UserKind(part[9]), State: UserActive}
	return err
}
