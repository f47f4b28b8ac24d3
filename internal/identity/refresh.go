package identity

import (
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"strings"
	"time"

	"landline/internal/audit"
	"landline/internal/limit"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/sqldb"
)

// Refreshed is the outcome of a presented refresh token.
type Refreshed struct {
	Rule     Rule
	Reason   Reason // why it was refused, as the client may see it; "" when granted or when nothing may be said
	Refused  bool
	Replay   string // value of Refresh-Replay, or ""
	Recovery string // how the client gets a new session without the user, or ""
	Tokens   Tokens
}

var errNeedsProof = errors.New("the client's tokens are bound to a key and the request proves none")

var errScope = errors.New("the scope asked for is more than the session has")

// Refresh applies the refresh state machine. An error means that nothing
// certain can be said and the client must retry with the same token (R10).
// errScope means that it asked for too much.
func (s *Service) Refresh(ctx context.Context, token, clientID, scope string) (Refreshed, error) {
	return s.refreshFor(ctx, token, caller{ID: clientID}, scope)
}

// refreshFor is Refresh for a client that may have authenticated or proven a key.
func (s *Service) refreshFor(ctx context.Context, token string, by caller, scope string) (Refreshed, error) {
	out, err := s.refreshOnce(ctx, token, by, scope)
	rule := out.Rule
	if problem.HasCode(err, problem.RateLimited) {
		return out, err
	}
	if err != nil && !errors.Is(err, errScope) && !errors.Is(err, errNeedsProof) {
		rule = RuleUnavailable
		err = problem.New(problem.StorageUnavailable, "retry with the same refresh token; repeating is safe").After(time.Second).Wrap(err)
	}
	if rule != "" {
		s.metrics.refreshes.WithLabelValues(string(rule)).Inc()
	}
	return out, err
}

// limitRefresh bounds what the holder of a session's tokens can make the storage
// do. It changes nothing of the session: the same token is good again later.
func (s *Service) limitRefresh(ctx context.Context, session string) error {
	var state [1]limit.State
	if s.limits.Take(ctx, []limit.Check{{Policy: s.refreshLimit, Key: session, Shared: true}}, state[:]) {
		return nil
	}
	return problem.New(problem.RateLimited, "too many tokens are asked for in this session; the same request is good again after the wait").After(max(state[0].Wait, time.Second))
}

var errKeyNotHere = errors.New("the token's key was made by another node a moment ago and is not known here yet")

func (s *Service) refreshOnce(ctx context.Context, token string, by caller, scope string) (Refreshed, error) {
	t, ok := s.refresh.verify(token)
	if !ok && s.refresh.early(token) { // cannot be told good from bad here yet: R10, never the end of a session
		return Refreshed{}, errKeyNotHere
	}
	if !ok {
		return Refreshed{Rule: RuleMalformed, Refused: true}, nil
	}
	if err := s.limitRefresh(ctx, t.session); err != nil {
		return Refreshed{}, err
	}
	if out, done, err := s.rotate(ctx, t, by, scope); done || err != nil {
		return out, err
	}
	for range maxTries {
		g, err := s.store.Session(ctx, t.session)
		if errors.Is(err, sqldb.ErrNotFound) { // ended long ago, or younger than a restored backup
			return Refreshed{Rule: RuleEnded, Refused: true, Reason: ReasonSessionRevoked, Recovery: recoverInstallation}, nil
		}
		if err != nil {
			return Refreshed{}, err
		}
		if g.Session.KeyVersion != t.version {
			return Refreshed{Rule: RuleMalformed, Refused: true}, nil
		}
		now := s.now()
		p := Presented{Counter: t.counter, ClientID: s.presenter(g.Session, by), KeyProof: by.KeyProof}
		if t.counter > g.Session.Current {
			until, err := s.store.RestoreUntil(ctx)
			if err != nil {
				return Refreshed{}, err
			}
			p.Restoring = now.Before(until)
		}
		if c := s.clients[g.Session.ClientID]; by.KeyProof == "" && (g.Session.KeyThumbprint != "" || c != nil && c.DPoP) {
			return Refreshed{}, errNeedsProof
		}
		v := Decide(g.Session, g.User, p, now, s.config.policy())
		granted, within := narrow(scope, g.Session.Scope)
		if v.Granted() && !within {
			return Refreshed{}, errScope
		}
		done, err := s.settle(ctx, g, v, now)
		if err != nil {
			return Refreshed{}, err
		}
		if !done {
			continue
		}
		out := Refreshed{Rule: v.Rule, Replay: v.Replay}
		if !v.Granted() {
			out.Refused, out.Reason, out.Recovery = true, v.Reason, recovery(v, g.User)
			return out, nil
		}
		out.Tokens, err = s.tokensFor(Grant{v.After, g.User}, granted, by.KeyProof, now)
		return out, err
	}
	return Refreshed{}, errors.New("identity: the session is being refreshed by too many requests at once")
}

// settle makes a verdict durable. It returns false when the session has changed
// since it was read.
//
// What is audited: every outcome that ends, repairs or endangers a session (R2,
// R5 to R9), in the transaction of its effect. R3 and R4 are the normal life of a
// session: its row holds their result, metrics count them. R0 and R1 change and
// reveal nothing.
func (s *Service) settle(ctx context.Context, g Grant, v Verdict, now time.Time) (bool, error) {
	var c Change
	if v.Write {
		c.Update = &Update{Before: g.Session, After: v.After, At: now}
	}
	if action := auditedRules[v.Rule]; action != "" && (v.Write || !s.recordedLately(g.Session.ID, v.Rule, now)) {
		c.Audit = []audit.Entry{{
			Actor:  audit.Actor{Type: audit.TypeSystem, IP: audit.ActorFrom(ctx).IP},
			Action: action, Target: g.Session.ID, Reason: strings.TrimSpace(string(v.Rule) + " " + string(v.Reason)),
			Before: sessionFacts(g.Session), After: sessionFacts(v.After),
		}}
	}
	if c.Update == nil && c.Audit == nil {
		return true, nil
	}
	done, err := s.store.Apply(ctx, c)
	if err != nil || !done {
		return false, err
	}
	if !v.Write {
		s.record(g.Session.ID, v.Rule, now)
	} else if v.After.State == SessionRevoked {
		s.metrics.endings.WithLabelValues(string(v.Reason)).Inc()
		s.revocations.announce(ctx, Revocation{SessionID: g.Session.ID, Reason: v.Reason, At: now})
		s.tell(ctx, SecurityEvent{Kind: SecurityReused, User: g.User.ID, Session: g.Session.ID, Installation: g.Session.InstallationID, At: now})
		s.log.WarnContext(ctx, "a refresh token was reused; the session has been ended", "session", g.Session.ID, "user", g.User.ID, "installation", g.Session.InstallationID)
	}
	return true, nil
}

var auditedRules = map[Rule]string{
	RuleExpired:        "session.expire",
	RuleLostResponse:   "session.recover",
	RuleFastForward:    "session.fast_forward",
	RuleStaleDuplicate: "session.stale_duplicate",
	RuleReused:         "session.reuse_detected",
	RuleClientMismatch: "session.client_mismatch",
}

// recordedLately keeps a holder of one token from filling the audit log with
// refusals that change nothing: one entry per session, rule, node and minute.
func (s *Service) recordedLately(session string, rule Rule, now time.Time) bool {
	key := session + string(rule)
	last, ok := s.recorded.get(maphash.String(s.seed, key), key)
	age := now.Unix() - last
	return ok && age >= 0 && age < 60
}

func (s *Service) record(session string, rule Rule, now time.Time) {
	key := session + string(rule)
	s.recorded.set(maphash.String(s.seed, key), key, now.Unix(), func(at int64) bool { return now.Unix()-at >= 60 })
}

// sessionFacts is what the audit log keeps of a session's state.
func sessionFacts(s Session) map[string]any {
	return map[string]any{"state": s.State, "current": s.Current, "previous": s.Previous, "recoveries": s.Recoveries, "user": s.UserID, "installation": s.InstallationID}
}

// recovery is "installation_proof" where the installation's credential opens a
// new session for the same user: a token's end must not be the end of data.
func recovery(v Verdict, u User) string {
	switch v.Rule {
	case RuleEnded, RuleExpired, RuleReused:
		if u.Kind == Anonymous && u.State == UserActive {
			return recoverInstallation
		}
	}
	return ""
}

// narrow returns the scope to grant: all of have when nothing is asked for.
func narrow(asked, have string) (string, bool) {
	if asked == "" {
		return have, true
	}
	all := strings.Fields(have)
	for _, one := range strings.Fields(asked) {
		if !slices.Contains(all, one) {
			return "", false
		}
	}
	return asked, true
}

// SignOut ends the session that p's access token belongs to. The installation
// and its anonymous user stay (L14). Signing out twice is signing out.
func (s *Service) SignOut(ctx context.Context, p *module.Principal) error {
	actor := audit.Actor{Type: audit.TypeUser, ID: p.UserID, IP: audit.ActorFrom(ctx).IP}
	_, err := s.end(ctx, p.SessionID, ReasonSignOut, audit.Entry{Actor: actor, Action: "session.sign_out"})
	return err
}

// RevokeToken ends the session of a refresh or access token, expired or
// superseded ones included (RFC 7009). It is true when there is nothing left to
// revoke, and false when the token is another client's.
func (s *Service) RevokeToken(ctx context.Context, token, clientID string) (bool, error) {
	return s.revokeFor(ctx, token, caller{ID: clientID})
}

// revokeFor is RevokeToken for a client that may have authenticated. A client
// that must authenticate is the only one who revokes its own tokens.
func (s *Service) revokeFor(ctx context.Context, token string, by caller) (bool, error) {
	session, client := "", ""
	if t, ok := s.refresh.verify(token); ok {
		g, err := s.store.Session(ctx, t.session)
		if errors.Is(err, sqldb.ErrNotFound) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		session, client = g.Session.ID, g.Session.ClientID
	} else if c, _, err := s.access.verify(token, s.now()); err == nil {
		session, client = c.Session, c.Client
	} else {
		return true, nil
	}
	if c := s.clients[client]; by.ID != "" && by.ID != client || c != nil && c.Confidential() && !by.Proven {
		return false, nil
	}
	_, err := s.end(ctx, session, ReasonRevocation, audit.Entry{Action: "session.revoke", Reason: string(ReasonRevocation)})
	return true, err
}

// RevokeSession ends a session on behalf of the operator in ctx. It is false
// when the session was not active, and sqldb.ErrNotFound when there is none.
func (s *Service) RevokeSession(ctx context.Context, session, why string) (bool, error) {
	if _, err := s.store.Session(ctx, session); err != nil {
		return false, err
	}
	return s.end(ctx, session, ReasonOperator, audit.Entry{Action: "session.revoke", Reason: why})
}

func (s *Service) end(ctx context.Context, session string, why Reason, e audit.Entry) (bool, error) {
	now := s.now()
	e.Target, e.After = session, map[string]any{"state": SessionRevoked, "reason": why}
	done, err := s.store.Apply(ctx, Change{End: []Ending{{SessionID: session, Reason: why, At: now}}, Audit: []audit.Entry{e}})
	if err != nil || !done {
		return false, err
	}
	s.metrics.endings.WithLabelValues(string(why)).Inc()
	s.revocations.announce(ctx, Revocation{SessionID: session, Reason: why, At: now})
	return true, nil
}

// Self is what GET /v1/me tells.
type Self struct {
	Grant
	Installation Installation
}

// Me reads who p is now. Its error is account_deleted or session_revoked when
// the access token has outlived them.
func (s *Service) Me(ctx context.Context, p *module.Principal) (Self, error) {
	g, err := s.store.Session(ctx, p.SessionID)
	if errors.Is(err, sqldb.ErrNotFound) {
		return Self{}, sessionRevoked(p.Anonymous)
	}
	if err != nil {
		return Self{}, err
	}
	if g.User.State == UserDeleted {
		return Self{}, problem.New(problem.AccountDeleted, "").With("recoverable", recoverInstallation)
	}
	if g.Session.State == SessionRevoked || g.User.State != UserActive {
		return Self{}, sessionRevoked(p.Anonymous)
	}
	i, err := s.store.Installation(ctx, g.Session.InstallationID)
	if errors.Is(err, sqldb.ErrNotFound) {
		return Self{}, sessionRevoked(p.Anonymous)
	}
	return Self{g, i}, err
}

// DeclareRestore opens the window in which refresh tokens newer than the
// database are believed (R6). Declare it after a restored backup, once the
// revocations and erasures that are newer than the backup have been applied again.
func (s *Service) DeclareRestore(ctx context.Context, d time.Duration, why string) (time.Time, error) {
	now := s.now()
	until := now.Add(d)
	_, err := s.store.Apply(ctx, Change{Restore: &Window{From: now, Until: until},
		Audit: []audit.Entry{{Action: "identity.declare_restore", Reason: why, After: map[string]any{"until": until}}}})
	return until, err
}
