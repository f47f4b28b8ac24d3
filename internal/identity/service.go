package identity

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"hash/maphash"
	"io"
	"log/slog"
	"time"

	"landline/internal/audit"
	"landline/internal/bus"
	"landline/internal/clock"
	"landline/internal/identity/attest"
	"landline/internal/identity/emailcode"
	"landline/internal/identity/pages"
	"landline/internal/identity/passkey"
	"landline/internal/identity/password"
	"landline/internal/identity/provider"
	"landline/internal/limit"
	"landline/internal/mail"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/queue"
	"landline/internal/secret"
	"landline/internal/sqldb"
)

// Purposes of the ring's keys. The message of every MAC begins with what it is for as well.
const (
	purposeAccess       = "identity.access-token"
	purposeUpstream     = "identity.upstream-token"
	purposeRefresh      = "identity.refresh-token"
	purposeInstallation = "identity.installation-secret"
	purposeBootstrap    = "identity.bootstrap-key"
	purposeCode         = "identity.email-code"
	purposeDevice       = "identity.device-challenge"
	purposeLookup       = "identity.lookup" // of identities and addresses: never rotated, or nobody is found again
)

// maxTries bounds how often an operation starts again because somebody else was
// faster; each time somebody else has made progress.
const maxTries = 5

// Service is what this capability does, without HTTP.
type Service struct {
	store       Store
	keys        *secret.Ring
	refresh     refreshTokens
	access      accessTokens
	revocations *revocations
	clock       clock.Clock
	log         *slog.Logger
	metrics     *metrics
	config      Config
	app         module.App

	db     *sqldb.DB // to read what others keep of a user, and for merges
	people *module.People
	events eventSink
	queue  *queue.Queue
	bus    bus.Bus

	providers     *provider.Set
	codes         emailcode.Rules
	passwords     *password.Hasher // nil: off
	passwordRules *password.Rules
	passkeys      *passkey.RelyingParty // nil: off
	mail          mail.Sender
	templates     *mail.Templates

	guessPair, guessStrangers *limit.Policy

	device     *attest.Verifier
	challenges *attest.Challenges

	life    lifeStore
	audit   *audit.Log // to read
	journal *erasureJournal

	verifiers map[string]verifier // by provider
	revokers  map[string]revoker  // by provider

	clients clients          // OAuth clients, the app among them
	hosted  []hostedProvider // ways to sign in on the hosted pages, in their order
	pages   *pages.Set
	auth    *authenticator

	limits       *limit.Shared
	refreshLimit *limit.Policy // of one session

	newLimit, attachLimit, identityLimit *limit.Policy

	closers []io.Closer

	seed     maphash.Seed
	recorded *bounded[string, int64] // when a refusal that changes nothing was last audited
}

// close ends what the service has opened.
func (s *Service) close() error {
	var errs []error
	for _, c := range s.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Tokens are what a client gets for a session.
type Tokens struct {
	Access     string
	AccessFor  time.Duration
	Refresh    string
	RefreshFor time.Duration
	Scope      string
	Bound      bool // the access token is good with a proof of its key alone (RFC 9449)
}

// Registered is a granted Registration.
type Registered struct {
	Created      bool // the installation is new
	Installation Installation
	Secret       string // "" when the installation has a key
	User         User
	Session      Session
	Tokens       Tokens
}

// Register creates the installation that r describes, or finds it again. It is
// idempotent: repeats and parallel calls get the same installation, user and
// session (L1, L15). A wrong credential makes a new installation (L18).
func (s *Service) Register(ctx context.Context, r Registration) (Registered, error) {
	if r.ClientID == "" {
		r.ClientID = s.app.ID
	}
	clonedFrom, unknown, counted := "", "", false
	by, err := s.bootstrapKey(r)
	if err != nil {
		return Registered{}, err
	}
	for range maxTries {
		if r.InstallationID != "" {
			line, err := s.store.Line(ctx, LineKey{ID: r.InstallationID})
			switch {
			case errors.Is(err, sqldb.ErrNotFound):
				clonedFrom, unknown = "", r.InstallationID
			case err != nil:
				return Registered{}, err
			case s.owns(line.Installation, r):
				if !counted {
					if err := s.mayAttach(ctx, r); err != nil {
						return Registered{}, err
					}
					counted = true
				}
				got, done, err := s.attach(ctx, r, line)
				if err != nil || done {
					return got, err
				}
				continue
			default:
				clonedFrom = r.InstallationID
			}
		}
		got, done, err := s.create(ctx, r, by, clonedFrom, unknown)
		if err != nil || done {
			return got, err
		}
		// Somebody was faster with the same key: theirs is ours.
		line, err := s.store.Line(ctx, by)
		if errors.Is(err, sqldb.ErrNotFound) {
			continue
		}
		if err != nil {
			return Registered{}, err
		}
		got, done, err = s.attach(ctx, r, line)
		if err != nil || done {
			return got, err
		}
	}
	return Registered{}, problem.New(problem.StorageUnavailable, "the installation is being changed by other requests").After(time.Second)
}

// bootstrapKey is what a repeat of r repeats. A request that shows a secret gets
// a key of its own: if the secret turns out wrong, a copied Idempotency-Key must
// not lead to the original (L18), and the repeat must lead to the same copy.
func (s *Service) bootstrapKey(r Registration) (LineKey, error) {
	if r.Proof != nil {
		return LineKey{Thumbprint: r.Proof.Key.Thumbprint}, nil
	}
	message := append([]byte("first launch\x00"), r.IdempotencyKey...)
	if r.InstallationID != "" {
		message = []byte("wrong secret\x00" + r.InstallationID + "\x00" + r.Secret)
	}
	sum, err := s.keys.BlindIndex(purposeBootstrap, message)
	if err != nil {
		return LineKey{}, err
	}
	return LineKey{BootstrapKey: base64.RawURLEncoding.EncodeToString(sum)}, nil
}

// owns reports whether r's credential is the installation's.
func (s *Service) owns(i Installation, r Registration) bool {
	if r.Proof != nil {
		return i.Thumbprint != "" && r.Proof.Key.same(i.Thumbprint)
	}
	mac, err := base64.RawURLEncoding.Strict().DecodeString(r.Secret)
	return err == nil && i.SecretVersion > 0 && s.keys.VerifyMAC(purposeInstallation, i.SecretVersion, secretMessage(i.ID), mac)
}

func secretMessage(installation string) []byte {
	return []byte("installation secret\x00" + installation)
}

// create returns false when the key that identifies a repeat is taken.
func (s *Service) create(ctx context.Context, r Registration, by LineKey, clonedFrom, unknown string) (Registered, bool, error) {
	if err := s.mayCreate(ctx, r); err != nil {
		if line, found := s.store.Line(ctx, by); found == nil { // a repeat: it is there already
			return s.attach(ctx, r, line)
		}
		return Registered{}, false, err
	}
	now := s.now()
	i := Installation{ID: newInstallationID(), ClonedFrom: clonedFrom, App: r.App, CreatedAt: now, SeenAt: now, BootstrapKey: by.BootstrapKey}
	methods := methodSecret
	if r.Proof != nil {
		i.PublicKey, i.Thumbprint, methods = r.Proof.Key.JWK, r.Proof.Key.Thumbprint, methodKey
		i.Device.Level = module.DeviceKey
	} else {
		var err error
		if i.SecretVersion, err = s.keys.MACVersion(purposeInstallation); err != nil {
			return Registered{}, false, err
		}
	}
	u := newUser(i.ID, now)
	session, err := s.beginSession(u, i, r.ClientID, methods, now)
	if err != nil {
		return Registered{}, false, err
	}
	c := Change{Installation: &i, Proof: r.Proof, User: &u, Session: &session}
	result := "created"
	switch {
	case clonedFrom != "":
		result = "cloned"
		c.Audit = []audit.Entry{installationEntry(ctx, i.ID, "installation.clone", clonedFrom, "the id was shown with a wrong credential", i.ID)}
	case unknown != "":
		c.Audit = []audit.Entry{installationEntry(ctx, i.ID, "installation.create", i.ID, "the id shown is not known: "+unknown, u.ID)}
	case s.config.AuditInstallations:
		c.Audit = []audit.Entry{installationEntry(ctx, i.ID, "installation.create", i.ID, "", u.ID)}
	}
	done, err := s.store.Apply(ctx, c)
	if err != nil || !done {
		return Registered{}, false, proofError(err)
	}
	s.metrics.registrations.WithLabelValues(result).Inc()
	got, err := s.registered(i, Grant{session, u}, true, now)
	return got, err == nil, err
}

// attach gives the installation's anonymous user a session: the one it has, or
// a new one (L19). It returns false when the line changed meanwhile.
func (s *Service) attach(ctx context.Context, r Registration, line Line) (Registered, bool, error) {
	if line.Anonymous.State == UserLocked {
		return Registered{}, false, problem.New(problem.Forbidden, "the user of this installation is locked").With("recoverable", recoverNot)
	}
	now := s.now()
	c := Change{Proof: r.Proof}
	if seen, changed := line.Installation.seen(r.App, now); changed {
		c.Seen, line.Installation = &seen, seen
	}
	found := endWhatIsOver(ctx, &c, r, line, now)
	grant, err := s.fill(ctx, &c, r, line, found, now)
	if err != nil {
		return Registered{}, false, err
	}
	if c.Proof != nil || c.Seen != nil || c.User != nil || c.Session != nil || len(c.End) > 0 {
		if done, err := s.store.Apply(ctx, c); err != nil || !done {
			return Registered{}, false, proofError(err)
		}
	}
	result := "attached"
	for _, e := range c.End {
		result = "reinstalled"
		s.revocations.announce(ctx, Revocation(e))
		s.metrics.endings.WithLabelValues(string(e.Reason)).Inc()
	}
	s.metrics.registrations.WithLabelValues(result).Inc()
	got, err := s.registered(line.Installation, grant, false, now)
	return got, err == nil, err
}

// endWhatIsOver adds to c the end of a session whose time is over and, after a
// reinstall, of every account's session (L16). It returns the anonymous user's
// session, zero when it has none that lives.
func endWhatIsOver(ctx context.Context, c *Change, r Registration, line Line, now time.Time) (found Session) {
	for _, g := range line.Active {
		switch {
		case g.User.ID == line.Anonymous.ID && !now.After(g.Session.RefreshExpiresAt()):
			found = g.Session
		case g.User.ID == line.Anonymous.ID:
			after := g.Session
			after.State, after.EndReason = SessionExpired, ReasonExpiredIdle
			if now.After(g.Session.ExpiresAt) {
				after.EndReason = ReasonExpiredAbsolute
			}
			c.Update = &Update{Before: g.Session, After: after, At: now}
		case r.Reinstalled && g.User.Kind == Account:
			c.End = append(c.End, Ending{SessionID: g.Session.ID, Reason: ReasonReinstalled, At: now})
			c.Audit = append(c.Audit, installationEntry(ctx, line.Installation.ID, "session.revoke", g.Session.ID, string(ReasonReinstalled), ""))
		}
	}
	return found
}

// fill adds to c the user and the session that are missing.
func (s *Service) fill(ctx context.Context, c *Change, r Registration, line Line, found Session, now time.Time) (Grant, error) {
	g := Grant{Session: found, User: line.Anonymous}
	if g.User.ID == "" {
		g.User = newUser(line.Installation.ID, now)
		c.User = &g.User
		c.Audit = append(c.Audit, installationEntry(ctx, line.Installation.ID, "user.create", g.User.ID, "", ""))
	}
	if g.Session.ID != "" {
		return g, nil
	}
	if c.User == nil { // and is not locked or deleted at this moment
		c.Active = g.User.ID
	}
	methods := methodSecret
	if r.Proof != nil {
		methods = methodKey
	}
	var err error
	if g.Session, err = s.beginSession(g.User, line.Installation, r.ClientID, methods, now); err != nil {
		return g, err
	}
	c.Session = &g.Session
	c.Audit = append(c.Audit, installationEntry(ctx, line.Installation.ID, "session.create", g.Session.ID, "the installation proved itself", g.User.ID))
	return g, nil
}

func (s *Service) beginSession(u User, installation Installation, client, methods string, now time.Time) (Session, error) {
	session := newSession(u, installation, client, methods, now, s.config.policy())
	var err error
	session.KeyVersion, err = s.keys.MACVersion(purposeRefresh)
	return session, err
}

func (s *Service) registered(i Installation, g Grant, created bool, now time.Time) (Registered, error) {
	out := Registered{Created: created, Installation: i, User: g.User, Session: g.Session}
	if i.SecretVersion > 0 {
		mac, err := s.keys.MACWith(purposeInstallation, i.SecretVersion, secretMessage(i.ID))
		if err != nil {
			return out, err
		}
		out.Secret = base64.RawURLEncoding.EncodeToString(mac)
	}
	var err error
	out.Tokens, err = s.tokens(g, g.Session.Scope, now)
	return out, err
}

func (s *Service) tokens(g Grant, scope string, now time.Time) (Tokens, error) {
	return s.tokensFor(g, scope, "", now)
}

// tokensFor binds the access token to the session's key or, where the session has none, to the key that was proven.
func (s *Service) tokensFor(g Grant, scope, keyProof string, now time.Time) (t Tokens, err error) {
	to := grantee{jkt: cmp.Or(g.Session.KeyThumbprint, keyProof)}
	if c := s.clients[g.Session.ClientID]; c != nil {
		to.lifetime = c.Access
	}
	t.Bound = to.jkt != ""
	if t.Refresh, err = s.refresh.current(g.Session); err != nil {
		return t, err
	}
	t.RefreshFor, t.Scope = max(0, g.Session.RefreshExpiresAt().Sub(now)), scope
	t.Access, t.AccessFor, err = s.access.issue(g.Session, g.User, scope, now, to)
	return t, err
}

// now is in milliseconds, as times are stored, so that what is decided before
// and after a round trip to the store is the same.
func (s *Service) now() time.Time { return s.clock.Now().UTC().Truncate(time.Millisecond) }

func proofError(err error) error {
	if errors.Is(err, ErrProofSpent) {
		return invalidProof("it has been used before; make a fresh one with a new jti for each request")
	}
	return err
}

func invalidProof(why string) error {
	return problem.New(problem.InstallationProofInvalid, "the proof is not accepted: %s", why).With("recoverable", recoverInstallation)
}

// installationEntry records what an installation without a session did.
func installationEntry(ctx context.Context, installation, action, target, reason, made string) audit.Entry {
	e := audit.Entry{
		Actor:  audit.Actor{Type: audit.TypeInstallation, ID: installation, IP: audit.ActorFrom(ctx).IP},
		Action: action, Target: target, Reason: reason,
	}
	if made != "" {
		e.After = map[string]string{"id": made}
	}
	return e
}
