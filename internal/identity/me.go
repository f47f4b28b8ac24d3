package identity

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"landline/internal/audit"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/sqldb"
)

const fieldOwnProfile = "identity.own_profile"

// ownProfile is what the user says of themselves, empty when nothing.
func (s *Service) ownProfile(ctx context.Context, user string) (p profileWire, err error) {
	p, _, err = s.readProfile(ctx, user)
	return p, err
}

// readProfile also returns what is stored, nil when nothing is.
func (s *Service) readProfile(ctx context.Context, user string) (p profileWire, sealed []byte, err error) {
	sealed, _, err = s.life.profile(ctx, user)
	if errors.Is(err, sqldb.ErrNotFound) {
		return p, nil, nil
	}
	if err != nil {
		return p, nil, err
	}
	raw, err := s.keys.Open(ctx, user, fieldOwnProfile, sealed)
	if err != nil {
		return p, nil, err
	}
	return p, sealed, json.Unmarshal(raw, &p)
}

// setProfile changes the members that are given, and returns the profile. Of two
// changes at once both take effect: the later one is made to what the first left.
func (s *Service) setProfile(ctx context.Context, by *module.Principal, set profileWire) (profileWire, error) {
	for range maxProfileTries {
		p, before, err := s.readProfile(ctx, by.UserID)
		if err != nil {
			return p, err
		}
		for _, f := range []struct{ to, from **string }{{&p.Name, &set.Name}, {&p.Locale, &set.Locale}, {&p.TimeZone, &set.TimeZone}} {
			if *f.from != nil {
				*f.to = *f.from
			}
		}
		raw, err := json.Marshal(p)
		if err != nil {
			return p, err
		}
		sealed, err := s.keys.Seal(ctx, by.UserID, fieldOwnProfile, raw)
		if err != nil {
			return p, err
		}
		done, err := s.store.Apply(ctx, Change{Active: by.UserID, Within: func(ctx context.Context, tx *sqldb.Tx) error {
			return putProfile(ctx, tx, by.UserID, before, sealed, sqldb.Millis(s.now()))
		}})
		if err != nil || done {
			return p, err
		}
		u, err := s.store.User(ctx, by.UserID)
		if err != nil {
			return p, err
		}
		if u.State != UserActive {
			return p, sessionRevoked(by.Anonymous)
		}
		// Whoever was faster may not have committed yet, and would be read as before.
		if err := s.db.Write(ctx, func(context.Context, *sqldb.Tx) error { return nil }); err != nil {
			return p, err
		}
	}
	return profileWire{}, problem.New(problem.StorageUnavailable, "the profile is being changed by other requests").After(time.Second)
}

// maxProfileTries is more than devices of one person that change the profile at once.
const maxProfileTries = 20

// putProfile stores sealed in the place of before; errUnmet when something else is there.
func putProfile(ctx context.Context, tx *sqldb.Tx, user string, before, sealed []byte, at int64) error {
	query, args := "ProfileReplace", []any{sealed, at, user, before}
	if before == nil {
		query, args = "ProfileInsert", []any{user, sealed, at}
	}
	n, err := exec(ctx, tx, query, args...)
	if err == nil && n != 1 {
		err = errUnmet
	}
	return err
}

// profileParticipant carries a profile over: an account has at most one.
func (s *Service) profileParticipant() module.Participant {
	return module.Participant{
		Name: "profile", Policies: []module.MergePolicy{module.AccountWins, module.Newest},
		Count: func(ctx context.Context, q sqldb.Querier, user string) (n int64, err error) {
			var sealed []byte
			var at int64
			err = q.QueryRowContext(ctx, Queries.Get("Profile"), user).Scan(&sealed, &at)
			if errors.Is(err, sql.ErrNoRows) {
				return 0, nil
			}
			return 1, err
		},
		Merge: s.mergeProfile,
		Erase: func(ctx context.Context, tx *sqldb.Tx, user string, _ int) (int64, error) {
			return exec(ctx, tx, "ProfileDelete", user)
		},
	}
}

// mergeProfile moves From's profile, unless Into has one that wins. Each is
// sealed for its user, so it is opened and sealed again.
func (s *Service) mergeProfile(ctx context.Context, tx *sqldb.Tx, m module.Merge) (out module.Moved, err error) {
	read := func(user string) (sealed []byte, at int64, err error) {
		err = tx.QueryRowContext(ctx, Queries.Get("Profile"), user).Scan(&sealed, &at)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, 0, nil
		}
		return sealed, at, err
	}
	from, fromAt, err := read(m.From)
	if err != nil || from == nil {
		return out, err
	}
	into, intoAt, err := read(m.Into)
	if err != nil {
		return out, err
	}
	winner, loser, at, loserUser := from, []byte(nil), fromAt, ""
	winnerUser := m.From
	if into != nil {
		out.Conflicts++
		if winner, winnerUser, at, loser, loserUser = into, m.Into, intoAt, from, m.From; m.Policy == module.Newest && fromAt > intoAt {
			winner, winnerUser, at, loser, loserUser = from, m.From, fromAt, into, m.Into
		}
		raw, err := s.keys.Open(ctx, loserUser, fieldOwnProfile, loser)
		if err != nil {
			return out, err
		}
		if err := m.Conflict("profile", raw); err != nil {
			return out, err
		}
	} else {
		out.Records++
	}
	raw, err := s.keys.Open(ctx, winnerUser, fieldOwnProfile, winner)
	if err != nil {
		return out, err
	}
	sealed, err := s.keys.SealTx(ctx, tx, m.Into, fieldOwnProfile, raw)
	if err != nil {
		return out, err
	}
	if err = putProfile(ctx, tx, m.Into, into, sealed, at); err != nil {
		return out, err
	}
	_, err = exec(ctx, tx, "ProfileDelete", m.From)
	return out, err
}

// EndSession ends a session of p's user, this one or another (B-15).
func (s *Service) EndSession(ctx context.Context, p *module.Principal, session string) error {
	g, err := s.store.Session(ctx, session)
	if errors.Is(err, sqldb.ErrNotFound) || err == nil && g.Session.UserID != p.UserID {
		return problem.New(problem.NotFound, "the user has no such session")
	}
	if err != nil {
		return err
	}
	actor := audit.Actor{Type: audit.TypeUser, ID: p.UserID, IP: audit.ActorFrom(ctx).IP}
	_, err = s.end(ctx, session, ReasonSignOut, audit.Entry{Actor: actor, Action: "session.sign_out", Reason: "from session " + p.SessionID})
	return err
}

// SignOutEverywhere ends all sessions of p's user.
func (s *Service) SignOutEverywhere(ctx context.Context, p *module.Principal) error {
	_, err := s.changeWithSessions(ctx, p.UserID, Change{
		EndAll: &EndAll{UserID: p.UserID, Reason: ReasonSignOut, At: s.now()},
		Audit:  []audit.Entry{userEntry(ctx, p.UserID, "user.sign_out_everywhere", p.UserID, "", nil)},
	})
	return err
}

// deviceSessionOf is a session as its user sees it.
func deviceSessionOf(s Session, i Installation, current string) deviceSession {
	app := appWireOf(i.App)
	w := deviceSession{ID: s.ID, InstallationID: s.InstallationID, State: s.State, Current: s.ID == current, App: app, Methods: s.Methods,
		CreatedAt: s.CreatedAt, AuthTime: s.AuthTime, UsedAt: s.RotatedAt, ExpiresAt: s.RefreshExpiresAt()}
	return w
}

// devices lists the active sessions of a user with their installations, the newest first.
func (s *Service) devices(ctx context.Context, p *module.Principal) ([]deviceSession, error) {
	all, err := s.store.ActiveSessionsOf(ctx, p.UserID, 500)
	if err != nil {
		return nil, err
	}
	now := s.now()
	out := make([]deviceSession, 0, len(all))
	for _, g := range all {
		if now.After(g.Session.RefreshExpiresAt()) {
			continue
		}
		i, err := s.store.Installation(ctx, g.Session.InstallationID)
		if err != nil && !errors.Is(err, sqldb.ErrNotFound) {
			return nil, err
		}
		out = append(out, deviceSessionOf(g.Session, i, p.SessionID))
	}
	return out, nil
}

// checkTimeZone refuses what is no name of the IANA database.
func checkTimeZone(name string) error {
	if name == "" {
		return nil
	}
	if _, err := time.LoadLocation(name); err != nil || name == "Local" {
		return invalid("time_zone", "is no name of the IANA time zone database, such as Europe/Warsaw")
	}
	return nil
}
