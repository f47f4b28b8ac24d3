package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"landline/internal/audit"
	"landline/internal/mail"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/sqldb"
)

// Bounds of one installation and one account (L30).
const (
	maxAccounts      = 20
	maxInstallations = 20
	maxIdentities    = 20 // of one account
)

// SignedIn is a granted sign-in.
type SignedIn struct {
	Move    Move
	User    User
	Session Session
	Tokens  Tokens
	Merged  *UserMerge // the anonymous user became part of User
}

// SignIn makes the session of p, or another one on its installation, the
// session of whoever the credential proves (L2 to L5, L8 to L10, L13). It links
// when nobody has the credential yet, and merges when somebody has.
//
// An account that waits to be erased signs in only with undo, which undoes it.
//
// It may be repeated with the same credential from the same installation: the
// answer is the same and nothing happens twice.
func (s *Service) SignIn(ctx context.Context, p *module.Principal, proven Proven, undo bool) (SignedIn, error) {
	return s.signIn(ctx, p, proven, SignInOptions{Undo: undo})
}

// SignInOptions are what the user has decided.
type SignInOptions struct {
	Undo          bool   // keep the account although its deletion was asked for
	KeepAnonymous bool   // carry nothing over: the anonymous user stays the installation's
	EndSession    string // end this session of the account, or of another account on the installation, to make room (L30)
}

func (s *Service) signIn(ctx context.Context, p *module.Principal, proven Proven, o SignInOptions) (SignedIn, error) {
	out, err := s.again(ctx, p, &proven)
	if err == nil && out == nil {
		err = s.limitIdentity(ctx, proven)
	}
	for i := 0; err == nil && out == nil; i++ {
		if i == maxTries {
			return SignedIn{}, problem.New(problem.StorageUnavailable, "the account is being changed by other requests").After(time.Second)
		}
		if out, err = s.signInOnce(ctx, p, proven, o); err == nil && out == nil { // somebody was faster, perhaps with this very credential
			out, err = s.again(ctx, p, &proven)
		}
	}
	if err != nil {
		return SignedIn{}, err
	}
	return *out, nil
}

// attempt is one try of a sign-in: what was read, and what is to be written.
type attempt struct {
	p        *module.Principal
	proven   Proven
	options  SignInOptions
	now      time.Time
	line     Line
	current  Grant    // the session of p
	identity Identity // whose lookup the credential has; zero when nobody's
	owner    User
	taken    []Identity // of other accounts, with the credential's verified address
	change   Change
	out      SignedIn
	after    []Revocation
}

// provenAt is when the credential was verified.
func (a *attempt) provenAt() time.Time {
	if a.proven.at.IsZero() {
		return a.now
	}
	return a.proven.at
}

// signInOnce returns nil when what it read has changed before it could write.
func (s *Service) signInOnce(ctx context.Context, p *module.Principal, proven Proven, o SignInOptions) (*SignedIn, error) {
	a, err := s.read(ctx, p, proven)
	if err != nil {
		return nil, err
	}
	a.options = o
	out, err := s.attempt(ctx, a)
	if err != nil {
		return nil, s.hold(ctx, a, err)
	}
	return out, nil
}

func (s *Service) attempt(ctx context.Context, a *attempt) (*SignedIn, error) {
	var err error
	if a.owner.State == UserDeleting && a.options.Undo {
		return nil, s.undoErasure(ctx, a.owner.ID, userEntry(ctx, a.owner.ID, "user.undelete", a.owner.ID, "", nil))
	}
	facts := SignInFacts{Current: a.current.User, Owner: a.owner}
	if a.owner.ID != "" {
		if err := s.usable(ctx, a); err != nil {
			return nil, err
		}
		if !a.options.KeepAnonymous {
			if facts.HasData, err = s.hasData(ctx, a.current.User); err != nil {
				return nil, err
			}
		}
	} else if a.taken, err = s.emailTaken(ctx, a.proven); err != nil {
		return nil, err
	}
	facts.EmailTaken = len(a.taken) > 0
	a.out.Move = DecideSignIn(facts)
	if err := s.plan(ctx, a); err != nil {
		return nil, err
	}
	done := false
	if a.change.EndAll != nil {
		done, err = s.changeWithSessions(ctx, a.change.EndAll.UserID, a.change)
	} else {
		done, err = s.store.Apply(ctx, a.change)
	}
	if err != nil || !done {
		return nil, err
	}
	s.metrics.signIns.WithLabelValues(providerKind(a.proven.Provider), string(a.out.Move)).Inc()
	s.revocations.announce(ctx, a.after...)
	if a.newDevice() {
		s.tell(ctx, SecurityEvent{Kind: SecurityNewDevice, User: a.out.User.ID, Session: a.out.Session.ID, Installation: a.p.InstallationID, Provider: a.proven.Provider, At: a.now})
	}
	if m := a.out.Merged; m != nil {
		*m, err = s.store.MergeOf(ctx, m.From)
		if err != nil {
			return nil, err
		}
	}
	a.out.Tokens, err = s.tokens(Grant{a.out.Session, a.out.User}, a.out.Session.Scope, a.now)
	return &a.out, err
}

func (s *Service) read(ctx context.Context, p *module.Principal, proven Proven) (*attempt, error) {
	if proven.Repeat { // what it repeats was forgotten meanwhile, or was done by somebody else
		return nil, credentialUsed()
	}
	a := &attempt{p: p, proven: proven, now: s.now()}
	if err := s.unanswered(ctx, proven.Take); err != nil {
		return nil, err
	}
	lookup, err := s.lookup(proven.Profile.Issuer, proven.Profile.Subject)
	if err != nil {
		return nil, err
	}
	if a.line, err = s.store.Line(ctx, LineKey{ID: p.InstallationID}); err != nil {
		return nil, err
	}
	a.endWhatIsOver()
	for _, g := range a.line.Active {
		if g.Session.ID == p.SessionID {
			a.current = g
		}
	}
	if a.current.Session.ID == "" || a.current.User.State != UserActive {
		return nil, sessionRevoked(p.Anonymous)
	}
	a.identity, a.owner, err = s.store.IdentityBy(ctx, lookup)
	if errors.Is(err, sqldb.ErrNotFound) {
		a.identity, a.owner, err = Identity{Lookup: lookup}, User{}, nil
	}
	return a, err
}

// endWhatIsOver ends the other sessions of the installation whose time is over,
// so that none is taken for a session to sign in to.
func (a *attempt) endWhatIsOver() {
	var live []Grant
	for _, g := range a.line.Active {
		if g.Session.ID == a.p.SessionID || !a.now.After(g.Session.RefreshExpiresAt()) {
			live = append(live, g)
			continue
		}
		why := ReasonExpiredIdle
		if a.now.After(g.Session.ExpiresAt) {
			why = ReasonExpiredAbsolute
		}
		a.change.End = append(a.change.End, Ending{SessionID: g.Session.ID, Reason: why, At: a.now})
	}
	a.line.Active = live
}

// newDevice reports whether an account that was there before is now signed in
// where it was not.
func (a *attempt) newDevice() bool {
	switch a.out.Move {
	case MoveMerge, MoveSwitch, MoveAdd:
		return sessionOf(a.line, a.out.User.ID).ID == ""
	}
	return false
}

// unanswered refuses the answer to a challenge that was answered meanwhile.
func (s *Service) unanswered(ctx context.Context, c *Challenge) error {
	if c == nil {
		return nil
	}
	_, err := s.store.Challenge(ctx, c.ID)
	if errors.Is(err, sqldb.ErrNotFound) {
		return challengeGone()
	}
	return err
}

// usable refuses an account that cannot sign in. One that was locked because its
// provider withdrew the only way in comes back with that way (L22).
func (s *Service) usable(ctx context.Context, a *attempt) error {
	u := a.owner
	switch u.State {
	case UserActive:
		return nil
	case UserNoLogin:
		a.change.State = []StateChange{{UserID: u.ID, From: UserNoLogin, To: UserActive, At: a.now}}
		a.change.Audit = append(a.change.Audit, userEntry(ctx, u.ID, "user.unlock", u.ID, "the provider vouches for the user again", nil))
		a.owner.State = UserActive
		return nil
	case UserLocked:
		return problem.New(problem.AccountLocked, "the account is locked").With("recoverable", recoverNot)
	case UserDeleting:
		e, err := s.life.erasure(ctx, u.ID)
		if err != nil {
			return err
		}
		return problem.New(problem.DeletionPending, "the account is deleted at erase_at; sign in with undo_deletion to keep it").With("erase_at", e.EraseAt)
	}
	return problem.New(problem.AccountDeleted, "").With("recoverable", recoverInstallation)
}

// hasData reports whether u has anything to carry over: rows of a capability,
// or rows of the team's own services, which are told of merges and alone know.
func (s *Service) hasData(ctx context.Context, u User) (bool, error) {
	if u.Kind != Anonymous {
		return false, nil
	}
	if s.config.Merge.Always || s.events.Wants(EventMerged) {
		return true, nil
	}
	return s.hasRows(ctx, u.ID)
}

// hasRows reports whether any capability keeps a row of the user.
func (s *Service) hasRows(ctx context.Context, user string) (bool, error) {
	for _, one := range s.people.All() {
		if one.Count == nil {
			continue
		}
		var n int64
		err := s.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) (err error) {
			n, err = one.Count(ctx, q, user)
			return err
		})
		if err != nil {
			return false, fmt.Errorf("identity: count %s: %w", one.Name, err)
		}
		if n > 0 {
			return true, nil
		}
	}
	return false, nil
}

// plan fills a.change and a.out for the move.
func (s *Service) plan(ctx context.Context, a *attempt) error {
	var err error
	switch a.out.Move {
	case MoveExists:
		return s.existsElsewhere(ctx, a)
	case MovePromote:
		err = s.planPromote(ctx, a)
	case MoveMerge:
		err = s.planMerge(ctx, a)
	case MoveAgain:
		a.out.User = a.owner
		a.out.Session = s.proofOf(a.current.Session, a)
		a.change.Reassign = &Reassign{Before: a.current.User.ID, Current: a.current.Session.Current, After: a.out.Session}
	default:
		err = s.planBeside(ctx, a)
	}
	if err != nil {
		return err
	}
	if a.identity.ID == "" {
		err = s.addIdentity(ctx, a)
	} else {
		err = s.useIdentity(ctx, a)
	}
	if err == nil && a.newDevice() {
		err = s.withNotice(ctx, &a.change, a.owner.ID, mail.NewDevice, mail.Values{Device: deviceName(a.line.Installation), At: a.now})
	}
	if a.owner.ID != "" && len(a.change.State) == 0 {
		a.change.Active = a.owner.ID
	}
	with := a.identity.ID
	if a.change.Identity != nil {
		with = a.change.Identity.ID
	}
	if len(a.change.Audit) == 0 { // who was signed in has shown again who they are
		a.change.Audit = append(a.change.Audit, userEntry(ctx, a.out.User.ID, "session.renew", a.out.Session.ID, a.proven.Provider, nil))
	}
	a.change.ProvenWith = &SessionProof{SessionID: a.out.Session.ID, IdentityID: with, ExpiresAt: a.out.Session.ExpiresAt}
	a.spend(a.out.User.ID)
	if a.change.Use != nil {
		if a.out.Merged != nil {
			a.change.Use.MergedFrom = a.out.Merged.From
		}
	}
	return err
}

// spend makes the credential's being used part of the change.
func (a *attempt) spend(user string) {
	a.change.Take = a.proven.Take
	if a.proven.held != nil {
		a.change.Take = a.proven.held
	}
	if a.proven.UseID != "" {
		a.change.Use = &CredentialUse{ID: a.proven.UseID, InstallationID: a.p.InstallationID, UserID: user, ExpiresAt: a.proven.UseUntil, Held: a.proven.held != nil || a.proven.Settle}
	}
}

// proofOf is session with the proof that was given now, and its next refresh token.
func (s *Service) proofOf(session Session, a *attempt) Session {
	session = renewed(session, a.now, s.config.policy())
	session.AuthTime, session.Methods = a.now, a.proven.Methods
	return session
}

// planPromote is L2: no row moves, every token stays good.
func (s *Service) planPromote(ctx context.Context, a *attempt) error {
	if err := s.accountsLeft(ctx, a); err != nil {
		return err
	}
	u := a.current.User
	a.change.Promote = u.ID
	u.Kind = Account
	a.out.User, a.out.Session = u, s.proofOf(a.current.Session, a)
	a.change.Reassign = &Reassign{Before: u.ID, Current: a.current.Session.Current, After: a.out.Session}
	a.change.Audit = append(a.change.Audit, userEntry(ctx, u.ID, "user.promote", u.ID, a.proven.Provider, nil))
	s.within(a, func(ctx context.Context, tx *sqldb.Tx) error {
		return s.events.Emit(ctx, tx, EventPromoted, u.ID, promotedEvent{User: u.ID, Installation: a.p.InstallationID})
	})
	return nil
}

// planMerge is L3: the session goes on as the account, so that even a client
// that never gets the answer is the account after its next refresh.
func (s *Service) planMerge(ctx context.Context, a *attempt) error {
	from := a.current.User
	if err := s.installationsLeft(ctx, a); err != nil {
		return err
	}
	m := &UserMerge{ID: newID(prefixMerge), From: from.ID, Into: a.owner.ID, InstallationID: from.InstallationID, State: MergeRunning, CreatedAt: a.now}
	a.out.User, a.out.Merged, a.change.Merge = a.owner, m, m
	a.after = append(a.after, Revocation{SessionID: from.ID, Reason: ReasonUserMerged, At: a.now})
	if there := sessionOf(a.line, a.owner.ID); there.ID != "" {
		// The account is signed in here already: one of the two lines of tokens must end.
		a.change.End = append(a.change.End, Ending{SessionID: a.current.Session.ID, Reason: ReasonUserMerged, At: a.now})
		a.after = append(a.after, Revocation{SessionID: a.current.Session.ID, Reason: ReasonUserMerged, At: a.now})
		a.out.Session = s.proofOf(there, a)
		a.out.Session.Formerly = withFormer(there.Formerly, from.ID, a.now)
		a.change.Reassign = &Reassign{Before: a.owner.ID, Current: there.Current, After: a.out.Session}
	} else {
		if err := s.accountsLeft(ctx, a); err != nil {
			return err
		}
		a.out.Session = s.proofOf(a.current.Session, a)
		a.out.Session.UserID = a.owner.ID
		formerly, err := s.formerlyHere(ctx, a.owner.ID, a.p.InstallationID)
		if err != nil {
			return err
		}
		a.out.Session.Formerly = withFormer(formerly, from.ID, a.now)
		a.change.Reassign = &Reassign{Before: from.ID, Current: a.current.Session.Current, After: a.out.Session}
	}
	a.change.Audit = append(a.change.Audit, userEntry(ctx, a.owner.ID, "user.merge", from.ID, a.proven.Provider, map[string]string{"into": a.owner.ID, "merge": m.ID}))
	s.within(a, func(ctx context.Context, tx *sqldb.Tx) error { return s.beginMerge(ctx, tx, *m) })
	return nil
}

// planBeside gives the account a session of its own on the installation. The
// user who is there stays who they are.
func (s *Service) planBeside(ctx context.Context, a *attempt) error {
	u := a.owner
	if a.out.Move == MoveCreate {
		u = User{ID: newUser("", a.now).ID, Kind: Account, State: UserActive, CreatedAt: a.now}
		a.change.User = &u
		a.change.Audit = append(a.change.Audit, userEntry(ctx, u.ID, "user.create", u.ID, a.proven.Provider, nil))
	} else if err := s.installationsLeft(ctx, a); err != nil {
		return err
	}
	a.out.User = u
	if there := sessionOf(a.line, u.ID); there.ID != "" {
		a.out.Session = s.proofOf(there, a)
		a.change.Reassign = &Reassign{Before: u.ID, Current: there.Current, After: a.out.Session}
		return nil
	}
	if err := s.accountsLeft(ctx, a); err != nil {
		return err
	}
	session, err := s.beginSession(u, a.line.Installation, a.current.Session.ClientID, a.proven.Methods, a.now)
	if err != nil {
		return err
	}
	if session.Formerly, err = s.formerlyHere(ctx, u.ID, a.p.InstallationID); err != nil {
		return err
	}
	a.out.Session, a.change.Session = session, &session
	a.change.Audit = append(a.change.Audit, userEntry(ctx, u.ID, "session.create", session.ID, a.proven.Provider, nil))
	return nil
}

func sessionOf(l Line, user string) Session {
	for _, g := range l.Active {
		if g.User.ID == user {
			return g.Session
		}
	}
	return Session{}
}

// within adds fn to what the change writes with its transaction.
func (s *Service) within(a *attempt, fn func(context.Context, *sqldb.Tx) error) {
	before := a.change.Within
	a.change.Within = func(ctx context.Context, tx *sqldb.Tx) error {
		if before != nil {
			if err := before(ctx, tx); err != nil {
				return err
			}
		}
		return fn(ctx, tx)
	}
}

// userEntry records what a user did to an account.
func userEntry(ctx context.Context, user, action, target, reason string, after any) audit.Entry {
	return audit.Entry{Actor: audit.Actor{Type: audit.TypeUser, ID: user, IP: audit.ActorFrom(ctx).IP}, Action: action, Target: target, Reason: reason, After: after}
}

// providerKind bounds the values of a metric's label: oidc for oidc:<name>.
func providerKind(provider string) string {
	kind, _, _ := strings.Cut(provider, ":")
	return kind
}
