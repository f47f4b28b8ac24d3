package identity

import (
	"context"
	"errors"

	"landline/internal/problem"
	"landline/internal/sqldb"
)

// accountsLeft bounds how many accounts are signed in on an installation.
func (s *Service) accountsLeft(ctx context.Context, a *attempt) error {
	var there []signedInSession
	for _, g := range a.line.Active {
		switch {
		case g.User.Kind != Account:
		case s.config.Accounts.One:
			a.end(g.Session.ID, ReasonReplaced)
		default:
			there = append(there, signedInSession{g.Session.ID, g.User.ID, g.Session.RotatedAt})
		}
	}
	if len(there) < maxAccounts {
		return nil
	}
	for _, one := range there {
		if one.ID == a.options.EndSession {
			a.makeRoom(ctx, one.ID, one.UserID)
			return nil
		}
	}
	return problem.New(problem.TooManyAccounts, "%d accounts are signed in on this installation; repeat with end_session to sign one out", len(there)).With("sessions", there)
}

// installationsLeft bounds on how many installations an account is signed in.
func (s *Service) installationsLeft(ctx context.Context, a *attempt) error {
	if sessionOf(a.line, a.owner.ID).ID != "" {
		return nil
	}
	all, err := s.store.ActiveSessionsOf(ctx, a.owner.ID, 500)
	if err != nil {
		return err
	}
	var there []Session
	for _, g := range all {
		if g.Session.Via == "" && !a.now.After(g.Session.RefreshExpiresAt()) {
			there = append(there, g.Session)
		}
	}
	if len(there) < maxInstallations {
		return nil
	}
	listed := make([]deviceSession, 0, len(there))
	for _, one := range there {
		if one.ID == a.options.EndSession {
			a.makeRoom(ctx, one.ID, a.owner.ID)
			return nil
		}
		i, err := s.store.Installation(ctx, one.InstallationID)
		if err != nil && !errors.Is(err, sqldb.ErrNotFound) {
			return err
		}
		listed = append(listed, deviceSessionOf(one, i, a.p.SessionID))
	}
	return problem.New(problem.TooManyInstallations, "the account is signed in on %d installations; repeat with end_session to end one of its sessions", len(there)).With("sessions", listed)
}

// makeRoom ends the session that the user has chosen.
func (a *attempt) makeRoom(ctx context.Context, session, user string) {
	a.end(session, ReasonReplaced)
	a.change.Audit = append(a.change.Audit, userEntry(ctx, user, "session.revoke", session, string(ReasonReplaced)+" to make room", nil))
}

// end makes the end of a session part of the change.
func (a *attempt) end(session string, why Reason) {
	a.change.End = append(a.change.End, Ending{SessionID: session, Reason: why, At: a.now})
	a.after = append(a.after, Revocation{SessionID: session, Reason: why, At: a.now})
}
