package identity

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"landline/internal/identity/pages"
	"landline/internal/module"
	"landline/internal/problem"
)

const (
	signInPath   = "/oauth/sign-in"
	goPath       = "/oauth/go"
	callbackPath = "/oauth/callback"

	maxPageForm  = 64 << 10
	kindRedirect = "oauth.redirect"
)

// page is pageOf that answers when it cannot.
func (s *Service) page(f *flow, name pages.Name) (pages.Page, bool) {
	p, err := s.pageOf(f, name)
	if err != nil {
		s.failAuth(f.w, f.r, f.req, err)
	}
	return p, err == nil
}

// pageOf begins a page of the flow with what every form of it carries.
func (s *Service) pageOf(f *flow, name pages.Name) (pages.Page, error) {
	csrf, err := s.csrf(f.v)
	if err != nil {
		return pages.Page{}, err
	}
	ticket, err := s.ticket(f.v, f.req.raw, f.started)
	if err != nil {
		return pages.Page{}, err
	}
	action := signInPath
	if f.req.own != "" {
		action = accountPath
	}
	return pages.Page{Name: name, Lang: f.lang(), App: s.app.Name, Client: f.req.client.Name, Third: f.req.client.ThirdParty, Why: f.req.own, Action: action,
		Hidden: [][2]string{{"csrf", csrf}, {"ticket", ticket}, {"request", f.req.raw}}, FormTo: f.req.formTargets()}, nil
}

func (s *Service) showSignIn(f *flow, fault, field string, more [][2]string) {
	p, ok := s.page(f, pages.SignIn)
	if !ok {
		return
	}
	p.Fault, p.Field, p.Address = fault, field, f.req.loginHint
	p.Hidden = append(p.Hidden, more...)
	query := url.Values{}
	for _, h := range p.Hidden {
		query.Set(h[0], h[1])
	}
	p.Passkey = s.passkeyPage()
	// Where only a passkey is good enough, nobody is led to the end of another way to learn so.
	p.PasskeyOnly = p.Passkey != nil && len(f.req.acr) > 0 && !module.ACRMeets(module.ACRBasic, f.req.acr)
	for _, h := range s.hosted {
		switch {
		case p.PasskeyOnly:
		case h.Redirect != nil:
			query.Set("provider", h.Name)
			p.Links = append(p.Links, pages.Link{Label: h.Label, URL: goPath + "?" + query.Encode()})
		case h.Code != nil:
			p.Email = true
		case h.Password:
			p.Password = true
		}
	}
	s.pages.Write(f.w, statusOf(fault), p)
}

// statusOf a page: one that tells of a fault is no success.
func statusOf(fault string) int {
	switch fault {
	case "":
		return http.StatusOK
	case "too_many":
		return http.StatusTooManyRequests
	case "unavailable":
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

func (s *Service) showCode(f *flow, email, challenge, fault string, more [][2]string) {
	p, ok := s.page(f, pages.Code)
	if !ok {
		return
	}
	p.Who, p.Fault = email, fault
	if fault == "credential" {
		p.Field = "code"
	}
	p.Hidden = append(append(p.Hidden, [2]string{"email", email}, [2]string{"challenge", challenge}), more...)
	s.pages.Write(f.w, statusOf(fault), p)
}

func (s *Service) showChoose(f *flow, only Grant) {
	p, ok := s.page(f, pages.Choose)
	if !ok {
		return
	}
	accounts := f.v.accounts(s.now())
	if only.User.ID != "" {
		accounts = []Grant{only}
	}
	for _, g := range accounts {
		label, err := s.labelOf(f.r.Context(), g.User.ID)
		if err != nil {
			s.failAuth(f.w, f.r, f.req, err)
			return
		}
		p.Accounts = append(p.Accounts, pages.Option{Value: g.User.ID, Label: label})
	}
	s.pages.Write(f.w, http.StatusOK, p)
}

func (s *Service) showConsent(f *flow, g Grant) {
	p, ok := s.page(f, pages.Consent)
	if !ok {
		return
	}
	label, err := s.labelOf(f.r.Context(), g.User.ID)
	if err != nil {
		s.failAuth(f.w, f.r, f.req, err)
		return
	}
	p.Who, p.Scopes = label, s.scopeTexts(p.Lang, f.req.scopes)
	p.Hidden = append(p.Hidden, [2]string{"user", g.User.ID})
	s.pages.Write(f.w, http.StatusOK, p)
}

// labelOf is how the account chooser calls a user: an address, a name, or the id.
func (s *Service) labelOf(ctx context.Context, user string) (string, error) {
	all, err := s.store.IdentitiesOf(ctx, user, maxIdentities)
	if err != nil {
		return "", err
	}
	name := ""
	for _, i := range all {
		p, err := s.profile(ctx, i)
		if err != nil {
			return "", err
		}
		if p.Email != "" {
			return p.Email, nil
		}
		if name == "" {
			name = p.Name
		}
	}
	own, err := s.ownProfile(ctx, user)
	switch {
	case err != nil:
		return "", err
	case own.Name != nil && *own.Name != "":
		return *own.Name, nil
	}
	return cmp.Or(name, user), nil
}

// showFailed is the end of the way for a request that is wrong.
func (s *Service) showFailed(w http.ResponseWriter, r *http.Request, status int, detail string) {
	s.pages.Write(w, status, pages.Page{Name: pages.Failed, Lang: s.pages.Language(nil, r.Header.Get("Accept-Language")), App: s.app.Name, Detail: detail})
}

// pageError is an error of ours where no client can be told.
func (s *Service) pageError(w http.ResponseWriter, r *http.Request, err error) {
	p := problem.From(retryable(err))
	s.log.ErrorContext(r.Context(), "a hosted page failed", "path", r.URL.Path, "error", err)
	fault := "unavailable"
	if p.Code == problem.RateLimited {
		fault = "too_many"
	}
	s.pages.Write(w, statusOf(fault), pages.Page{Name: pages.Failed, Lang: s.pages.Language(nil, r.Header.Get("Accept-Language")), App: s.app.Name, Fault: fault})
}

// pageForm reads a form that a browser sent, or answers.
func (s *Service) pageForm(w http.ResponseWriter, r *http.Request) (url.Values, bool) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != formType {
		s.showFailed(w, r, http.StatusUnsupportedMediaType, "send the parameters as "+formType)
		return nil, false
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxPageForm+1))
	if err != nil {
		s.pageError(w, r, err)
		return nil, false
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || len(body) > maxPageForm {
		s.showFailed(w, r, http.StatusBadRequest, "the form cannot be read or has more than 65536 bytes")
		return nil, false
	}
	return form, true
}

// resume goes on with what a form or link of ours carries. It answers and
// returns nil when that is not ours, or no longer.
func (s *Service) resume(w http.ResponseWriter, r *http.Request, form url.Values) *flow {
	raw, err := url.ParseQuery(form.Get("request"))
	if err != nil {
		s.showFailed(w, r, http.StatusBadRequest, "the form is not one of this page")
		return nil
	}
	req, fault := s.asked(raw)
	if fault != nil {
		s.refuseAuth(w, r, fault)
		return nil
	}
	v, err := s.visit(w, r)
	if err != nil {
		s.failAuth(w, r, req, err)
		return nil
	}
	f := &flow{set: s.pages, w: w, r: r, req: req, v: v, started: s.now()}
	started, ok := s.started(v, req.raw, form.Get("ticket"))
	if !ok || !s.genuine(r, v, form.Get("csrf")) {
		s.showSignIn(f, "expired", "", nil)
		return nil
	}
	f.started, f.acted = started, true
	return f
}

// handleSignInPage takes every form of the hosted pages but that of signing out.
func (s *Service) handleSignInPage(w http.ResponseWriter, r *http.Request) {
	form, ok := s.pageForm(w, r)
	if !ok {
		return
	}
	f := s.resume(w, r, form)
	if f == nil {
		return
	}
	var pending [][2]string
	if text := form.Get("pending"); text != "" {
		pending = [][2]string{{"pending", text}}
	}
	switch form.Get("step") {
	case "send":
		s.sendCode(f, strings.TrimSpace(form.Get("email")), pending)
	case "code":
		s.credential(f, CredentialWire{Provider: s.codeProvider(), Email: form.Get("email"), Code: strings.TrimSpace(form.Get("code")), Challenge: form.Get("challenge")}, form.Get("pending"))
	case "password":
		s.credential(f, CredentialWire{Provider: s.passwordProvider(), Email: strings.TrimSpace(form.Get("email")), Password: form.Get("password")}, form.Get("pending"))
	case "passkey":
		s.credential(f, CredentialWire{Provider: s.hostedPasskey(), Passkey: json.RawMessage(form.Get("passkey")), visitor: f.v.id}, form.Get("pending"))
	case "delete", "export", "end", "undo":
		s.ownStep(f, form)
	case "choose":
		f.user = form.Get("user")
		s.proceed(f)
	case "allow":
		f.user, f.allowed = form.Get("user"), true
		s.proceed(f)
	case "deny":
		s.refuseAuth(w, r, &authFault{Code: "access_denied", Description: "the user did not allow it", redirect: f.req.redirect, state: f.req.state})
	case "another":
		s.showSignIn(f, "", "", pending)
	default:
		s.showFailed(w, r, http.StatusBadRequest, "step is not one of this page")
	}
}

func (s *Service) codeProvider() string {
	for _, h := range s.hosted {
		if h.Code != nil {
			return h.Name
		}
	}
	return ""
}

func (s *Service) passwordProvider() string {
	for _, h := range s.hosted {
		if h.Password {
			return h.Name
		}
	}
	return ""
}

func (s *Service) sendCode(f *flow, email string, pending [][2]string) {
	h := s.hostedBy(s.codeProvider())
	if h == nil || len(email) < 3 || len(email) > 254 || !strings.Contains(email, "@") {
		s.showSignIn(f, "email", "email", pending)
		return
	}
	p, err := s.principal(f.r.Context(), f.v)
	var challenge string
	if err == nil {
		challenge, err = h.Code.sendCode(f.r.Context(), p, email, f.lang())
	}
	if err != nil {
		fault := s.faultOf(f, err)
		field := ""
		if fault == "credential" {
			fault, field = "email", "email"
		}
		s.showSignIn(f, fault, field, pending)
		return
	}
	s.showCode(f, email, challenge, "", pending)
}

// credential signs in with what a form carried.
func (s *Service) credential(f *flow, c CredentialWire, pending string) {
	var more [][2]string
	if pending != "" {
		more = [][2]string{{"pending", pending}}
	}
	if c.Provider == "" {
		s.showSignIn(f, "credential", "", more)
		return
	}
	user, err := s.signInBrowser(f.r.Context(), f.w, f.v, c, pending, f.req.own != "")
	if err == nil {
		f.user = user
		s.proceed(f)
		return
	}
	switch p := problem.From(err); p.Code {
	case problem.AccountExistsElsewhere:
		token, _ := p.Extra["pending_link"].(string)
		s.showSignIn(f, "account_exists", "", [][2]string{{"pending", token}})
		return
	case problem.DeletionPending:
		keep, _ := p.Extra["keep"].(string)
		until, _ := p.Extra["erase_at"].(time.Time)
		s.showPending(f, until, keep, pending)
		return
	}
	fault := s.faultOf(f, err)
	if len(c.Passkey) > 0 && fault == "credential" {
		fault = "passkey"
	}
	if fault == "no_account" {
		s.showSignIn(f, fault, "", more)
		return
	}
	if c.Code != "" && c.Email != "" {
		s.showCode(f, c.Email, c.Challenge, fault, more)
		return
	}
	field := ""
	if fault == "credential" && c.Password != "" {
		field = "password"
	}
	s.showSignIn(f, fault, field, more)
}

// faultOf is what the page tells of an error. What the user can do nothing about is logged.
func (s *Service) faultOf(f *flow, err error) string {
	switch p := problem.From(retryable(err)); p.Code {
	case problem.CredentialInvalid, problem.CredentialUsed, problem.InvalidRequest:
		return "credential"
	case problem.RateLimited:
		return "too_many"
	case problem.AccountLocked:
		return "account_locked"
	case problem.NotFound:
		return "no_account"
	case problem.Conflict:
		return "expired"
	}
	s.log.WarnContext(f.r.Context(), "a sign-in on the hosted pages failed", "client", f.req.client.ID, "error", err)
	return "unavailable"
}

// handleGo sends the browser to a provider. It is a link and no form, because a
// form could not leave this origin: the provider's address is not known before.
func (s *Service) handleGo(w http.ResponseWriter, r *http.Request) {
	form, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		s.showFailed(w, r, http.StatusBadRequest, "the query is not form-encoded")
		return
	}
	f := s.resume(w, r, form)
	if f == nil {
		return
	}
	h := s.hostedBy(form.Get("provider"))
	if h == nil || h.Redirect == nil {
		s.showSignIn(f, "provider", "", nil)
		return
	}
	address, err := s.beginRedirect(f, h, form.Get("pending"))
	if err != nil {
		s.showSignIn(f, s.faultOf(f, err), "", nil)
		return
	}
	s.redirect(w, r, address)
}

func (s *Service) beginRedirect(f *flow, h *hostedProvider, pending string) (string, error) {
	ctx := f.r.Context()
	address, state, keep, err := h.Redirect.begin(ctx, s.app.PublicURL+callbackPath, f.req.loginHint, append(f.req.locales, f.lang()))
	if err != nil {
		return "", err
	}
	key, err := s.blind("oauth redirect\x00" + state)
	if err != nil {
		return "", err
	}
	raw, err := json.Marshal(redirectState{Provider: h.Name, Keep: keep, Request: f.req.raw, Started: f.started, Visitor: f.v.id, Pending: pending})
	if err != nil {
		return "", err
	}
	// Sealed, because it holds a PKCE verifier and a nonce.
	sealed, err := s.keys.Seal(ctx, redirectSubject, fieldRedirect, raw)
	if err != nil {
		return "", err
	}
	done, err := s.store.Apply(ctx, Change{Challenges: []Challenge{{ID: key, Kind: kindRedirect, State: sealed, ExpiresAt: s.now().Add(ticketLife)}}})
	if err == nil && !done {
		err = errors.New("identity: a provider's state was made twice")
	}
	return address, err
}
