package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/sqldb"
)

// visitor is a browser on the hosted pages. Its cookie is a random text, and
// nothing else: what it opens is looked up, and a new one is given at each
// sign-in, so that nobody who knew the old one is signed in with (session fixation).
type visitor struct {
	cookie  string
	id      string // what the cookie is stored under
	fresh   bool   // the browser had no cookie
	browser Browser
	line    Line // of browser
}

const (
	cookieSecure = "__Host-landline" // RFC 6265bis §4.1.3.2: this host alone set it, over TLS
	cookiePlain  = "landline-development"
	cookieSize   = 52

	browserPlatform = "browser" // of the installation that a browser is
	ticketLife      = 30 * time.Minute
)

// secure is false on plain HTTP alone, which only development has.
func (s *Service) secure() bool { return strings.HasPrefix(s.app.PublicURL, "https://") }

func (s *Service) cookieName() string {
	if s.secure() {
		return cookieSecure
	}
	return cookiePlain
}

// setCookie gives the browser a cookie; life 0 = until the browser is closed.
func (s *Service) setCookie(w http.ResponseWriter, value string, life time.Duration) {
	// Lax: a cross-site POST comes without it, a link from the client's page with it.
	http.SetCookie(w, &http.Cookie{Name: s.cookieName(), Value: value, Path: "/", HttpOnly: true, Secure: s.secure(), // #nosec G124 -- Secure on TLS
		SameSite: http.SameSiteLaxMode, MaxAge: int(life / time.Second)})
}

// visit finds out which browser it is. A browser without a cookie gets one.
func (s *Service) visit(w http.ResponseWriter, r *http.Request) (*visitor, error) {
	v := &visitor{}
	if c, err := r.Cookie(s.cookieName()); err == nil && len(c.Value) == cookieSize {
		v.cookie = c.Value
	} else {
		v.cookie, v.fresh = rand.Text()+rand.Text(), true
		s.setCookie(w, v.cookie, 0)
	}
	var err error
	if v.id, err = s.blind("browser\x00" + v.cookie); err != nil || v.fresh {
		return v, err
	}
	return v, s.open(r.Context(), v)
}

// open reads what the visitor's cookie opens.
func (s *Service) open(ctx context.Context, v *visitor) error {
	b, err := s.store.Browser(ctx, v.id)
	if errors.Is(err, sqldb.ErrNotFound) || err == nil && !s.now().Before(b.ExpiresAt) {
		return nil
	}
	if err != nil {
		return err
	}
	line, err := s.store.Line(ctx, LineKey{ID: b.InstallationID})
	if errors.Is(err, sqldb.ErrNotFound) {
		return nil
	}
	v.browser, v.line = b, line
	return err
}

// accounts are who is signed in in this browser.
func (v *visitor) accounts(now time.Time) (all []Grant) {
	for _, g := range v.line.Active {
		if g.User.Kind == Account && g.User.State == UserActive && !now.After(g.Session.RefreshExpiresAt()) {
			all = append(all, g)
		}
	}
	return all
}

// csrf is what a form of ours carries beside the cookie.
func (s *Service) csrf(v *visitor) (string, error) { return s.blind("csrf\x00" + v.cookie) }

// genuine reports whether a form was ours: the browser says so where it says
// anything (Fetch Metadata), and the form has what only we and the browser know.
func (s *Service) genuine(r *http.Request, v *visitor, token string) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default:
		return false
	}
	want, err := s.csrf(v)
	return err == nil && !v.fresh && subtle.ConstantTimeCompare([]byte(token), []byte(want)) == 1
}

// ticket says since when the visitor has been at this request.
func (s *Service) ticket(v *visitor, raw string, started time.Time) (string, error) {
	ms := strconv.FormatInt(started.UnixMilli(), 10)
	mac, err := s.blind("ticket\x00" + v.cookie + "\x00" + ms + "\x00" + raw)
	return ms + "." + mac, err
}

// started reads a ticket; false for one that is not the visitor's, of another
// request, or too old.
func (s *Service) started(v *visitor, raw, ticket string) (time.Time, bool) {
	ms, _, _ := strings.Cut(ticket, ".")
	n, err := strconv.ParseInt(ms, 10, 64)
	if err != nil {
		return time.Time{}, false
	}
	at := time.UnixMilli(n).UTC()
	want, err := s.ticket(v, raw, at)
	age := s.now().Sub(at)
	return at, err == nil && subtle.ConstantTimeCompare([]byte(ticket), []byte(want)) == 1 && age >= -clockSkew && age < ticketLife
}

// principal makes the browser an installation, if it is none yet, and returns
// its anonymous user's session, as which credentials are checked: whoever signs
// in with one that nobody has becomes an account on the spot.
func (s *Service) principal(ctx context.Context, v *visitor) (*module.Principal, error) {
	now := s.now()
	app := AppInfo{Platform: browserPlatform}
	if v.browser.ID == "" {
		got, err := s.Register(ctx, Registration{IdempotencyKey: rand.Text() + rand.Text(), ClientID: s.app.ID, App: app})
		if err != nil {
			return nil, err
		}
		b := Browser{ID: v.id, InstallationID: got.Installation.ID, CreatedAt: now, ExpiresAt: now.Add(s.config.Refresh.Absolute.D())}
		done, err := s.store.Apply(ctx, Change{Browser: &b})
		if err != nil {
			return nil, err
		}
		if !done { // the same form, sent twice at once
			if err := s.open(ctx, v); err != nil {
				return nil, err
			}
			if v.browser.ID == "" {
				return nil, problem.New(problem.StorageUnavailable, "the browser is being changed by other requests").After(time.Second)
			}
			return s.principal(ctx, v)
		}
		v.browser = b
		return principalOf(Grant{got.Session, got.User}, now), nil
	}
	for range maxTries {
		got, done, err := s.attach(ctx, Registration{ClientID: s.app.ID, App: app}, v.line)
		if err != nil {
			return nil, err
		}
		if done {
			return principalOf(Grant{got.Session, got.User}, now), nil
		}
		if v.line, err = s.store.Line(ctx, LineKey{ID: v.browser.InstallationID}); err != nil {
			return nil, err
		}
	}
	return nil, problem.New(problem.StorageUnavailable, "the browser is being changed by other requests").After(time.Second)
}

func principalOf(g Grant, now time.Time) *module.Principal {
	return &module.Principal{UserID: g.User.ID, InstallationID: g.Session.InstallationID, SessionID: g.Session.ID, ClientID: g.Session.ClientID,
		Anonymous: g.User.Kind == Anonymous, AuthTime: g.Session.AuthTime, Methods: strings.Fields(g.Session.Methods), ACR: acrOf(g.Session.Methods),
		ExpiresAt: now.Add(time.Minute)}
}

// signInBrowser signs whoever the credential proves in, in this browser, and
// gives it a new cookie. pending is of a sign-in that was refused with
// account_exists_other_provider. It returns the user's id. With known, a credential
// that nobody has makes no account: not_found. An account that waits to be erased is
// deletion_pending with the member keep, a ticket for keepBrowser.
func (s *Service) signInBrowser(ctx context.Context, w http.ResponseWriter, v *visitor, c CredentialWire, pending string, known bool) (string, error) {
	p, err := s.principal(ctx, v)
	if err != nil {
		return "", err
	}
	if pending != "" {
		_, err := s.pendingLink(ctx, p.InstallationID, pending)
		if problem.HasCode(err, problem.InvalidRequest) { // too old: who signs in is not kept out by it, and is asked once more next time
			pending, err = "", nil
		}
		if err != nil {
			return "", err
		}
	}
	proven, err := s.verify(ctx, p, c)
	if err != nil {
		return "", err
	}
	if proven.Repeat { // a form that was sent once more: what it proved may be waiting for an answer
		if _, err := s.resumeHeld(ctx, p.InstallationID, &proven); err != nil {
			return "", err
		}
	}
	if known && !proven.Repeat {
		if err := s.isKnown(ctx, proven); err != nil {
			return "", err
		}
	}
	got, err := s.SignIn(ctx, p, proven, false)
	if e := problem.From(err); err != nil && e.Code == problem.DeletionPending {
		keep, err := s.keepLater(ctx, p, proven)
		if err != nil {
			return "", err
		}
		return "", e.With("keep", keep)
	}
	if err != nil {
		return "", err
	}
	return s.signedInHere(ctx, w, v, got, pending)
}

// isKnown refuses a credential that is no way into an account.
func (s *Service) isKnown(ctx context.Context, proven Proven) error {
	lookup, err := s.lookup(proven.Profile.Issuer, proven.Profile.Subject)
	if err != nil {
		return err
	}
	_, _, err = s.store.IdentityBy(ctx, lookup)
	if errors.Is(err, sqldb.ErrNotFound) {
		return problem.New(problem.NotFound, "no account has this credential")
	}
	return err
}

// signedInHere finishes a sign-in of the browser.
func (s *Service) signedInHere(ctx context.Context, w http.ResponseWriter, v *visitor, got SignedIn, pending string) (string, error) {
	if pending != "" {
		if err := s.attachPending(ctx, principalOf(Grant{got.Session, got.User}, s.now()), pending); err != nil {
			return "", err
		}
	}
	return got.User.ID, s.renew(ctx, w, v)
}

// renew gives the browser a new cookie in place of the old one.
func (s *Service) renew(ctx context.Context, w http.ResponseWriter, v *visitor) error {
	cookie := rand.Text() + rand.Text()
	key, err := s.blind("browser\x00" + cookie)
	if err != nil {
		return err
	}
	b := v.browser
	b.ID, b.ExpiresAt = key, s.now().Add(s.config.Refresh.Absolute.D())
	done, err := s.store.Apply(ctx, Change{EndBrowser: v.browser.ID, Browser: &b})
	if err != nil {
		return err
	}
	if !done { // the same form, sent twice at once: the other answer has the new cookie
		return problem.New(problem.Conflict, "the browser was signed in by another request a moment ago")
	}
	v.cookie, v.id, v.fresh = cookie, key, false
	s.setCookie(w, cookie, s.config.Refresh.Idle.D())
	return s.open(ctx, v)
}
