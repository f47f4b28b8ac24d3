package identity

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"landline/internal/identity/pages"
	"landline/internal/problem"
	"landline/internal/sqldb"
)

// flow is one step of a user's way through the hosted pages.
type flow struct {
	set     *pages.Set
	w       http.ResponseWriter
	r       *http.Request
	req     *authRequest
	v       *visitor
	started time.Time
	user    string // chosen or signed in as, in this step
	acted   bool
	allowed bool
}

func (f *flow) lang() string {
	return f.set.Language(f.req.locales, f.r.Header.Get("Accept-Language"))
}

// handleAuthorize is RFC 6749 §3.1: GET, or POST with the same parameters as a form.
func (s *Service) handleAuthorize(w http.ResponseWriter, r *http.Request) {
	in, ok := s.authParams(w, r)
	if !ok {
		return
	}
	in, fault, err := s.pushed(r.Context(), in)
	if err != nil {
		s.pageError(w, r, err)
		return
	}
	var req *authRequest
	if fault == nil {
		req, fault = s.parseAuth(in)
	}
	if fault != nil {
		s.refuseAuth(w, r, fault)
		return
	}
	v, err := s.visit(w, r)
	if err != nil {
		s.failAuth(w, r, req, err)
		return
	}
	s.proceed(&flow{set: s.pages, w: w, r: r, req: req, v: v, started: s.now()})
}

// authParams reads the query or the form, and answers when it cannot.
func (s *Service) authParams(w http.ResponseWriter, r *http.Request) (url.Values, bool) {
	if r.Method == http.MethodPost {
		return s.pageForm(w, r)
	}
	in, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		s.refuseAuth(w, r, &authFault{Code: "invalid_request", Description: "the query is not form-encoded"})
		return nil, false
	}
	return in, true
}

// proceed does what the request needs next.
func (s *Service) proceed(f *flow) {
	if f.req.own != "" {
		s.proceedOwn(f)
		return
	}
	ctx := f.r.Context()
	facts := flowFacts{Accounts: f.v.accounts(s.now()), User: f.user, Started: f.started, Acted: f.acted, Allowed: f.allowed, Now: s.now()}
	v := decideAccount(f.req, facts)
	var consent Consent
	if v.Step == flowIssue {
		var err error
		consent, err = s.store.Consent(ctx, v.Grant.User.ID, f.req.client.ID)
		if err != nil && !errors.Is(err, sqldb.ErrNotFound) {
			s.failAuth(f.w, f.r, f.req, err)
			return
		}
		v = decideConsent(f.req, facts, v, consent.Scope)
	}
	switch v.Step {
	case flowRefuse:
		s.refuseAuth(f.w, f.r, &authFault{Code: v.Code, redirect: f.req.redirect, state: f.req.state})
	case flowSignIn:
		s.showSignIn(f, "", "", nil)
	case flowChoose:
		s.showChoose(f, v.Grant)
	case flowConsent:
		s.showConsent(f, v.Grant)
	default:
		s.issueCode(f, v.Grant, consent)
	}
}

// issueCode sends the user back with a code.
func (s *Service) issueCode(f *flow, g Grant, before Consent) {
	var consent *Consent
	if f.allowed && f.req.client.ThirdParty {
		now := s.now()
		consent = &Consent{UserID: g.User.ID, ClientID: f.req.client.ID, Scope: union(before.Scope, f.req.scopes), CreatedAt: now, UpdatedAt: now}
		if !before.CreatedAt.IsZero() {
			consent.CreatedAt = before.CreatedAt
		}
	}
	code, err := s.newCode(f.r.Context(), codeState{Client: f.req.client.ID, Redirect: f.req.redirect, Challenge: f.req.challenge, Scope: f.req.scope(),
		Nonce: f.req.nonce, JKT: f.req.jkt, User: g.User.ID, Session: g.Session.ID, AuthTime: g.Session.AuthTime, Methods: g.Session.Methods}, consent)
	if err != nil {
		s.failAuth(f.w, f.r, f.req, err)
		return
	}
	s.sendBack(f.w, f.r, f.req.redirect, f.req.state, url.Values{"code": {code}})
}

// sendBack redirects to the client with q, state and iss (RFC 9207).
func (s *Service) sendBack(w http.ResponseWriter, r *http.Request, redirect, state string, q url.Values) {
	q.Set("iss", s.app.PublicURL)
	if state != "" {
		q.Set("state", state)
	}
	s.redirect(w, r, withQuery(redirect, q))
}

// withQuery appends to the text, so that what was registered stays as it is.
func withQuery(address string, q url.Values) string {
	glue := "?"
	if strings.Contains(address, "?") {
		glue = "&"
	}
	return address + glue + q.Encode()
}

// redirect sends the browser on. After a form it must become a GET (RFC 9700 §4.12).
func (s *Service) redirect(w http.ResponseWriter, r *http.Request, address string) {
	h := w.Header()
	h.Set("Location", address)
	h.Set("Cache-Control", noStore)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Length", "0")
	if r.Method == http.MethodPost {
		w.WriteHeader(http.StatusSeeOther)
		return
	}
	w.WriteHeader(http.StatusFound)
}

// refuseAuth tells the client where that is safe, else the user.
func (s *Service) refuseAuth(w http.ResponseWriter, r *http.Request, fault *authFault) {
	if fault.redirect == "" {
		s.showFailed(w, r, http.StatusBadRequest, fault.Description)
		return
	}
	q := url.Values{"error": {fault.Code}}
	if fault.Description != "" {
		q.Set("error_description", fault.Description)
	}
	s.sendBack(w, r, fault.redirect, fault.state, q)
}

// failAuth answers an error of ours: the client learns whether a retry can help
// (RFC 6749 §4.1.2.1), the log learns why.
func (s *Service) failAuth(w http.ResponseWriter, r *http.Request, req *authRequest, err error) {
	if errors.Is(err, context.Canceled) || req.redirect == "" {
		s.pageError(w, r, err)
		return
	}
	code := "server_error"
	if p := problem.From(retryable(err)); p.Status() == http.StatusServiceUnavailable || p.Status() == http.StatusTooManyRequests {
		code = "temporarily_unavailable"
	}
	s.log.ErrorContext(r.Context(), "an authorization request failed", "client", req.client.ID, "answer", code, "error", err)
	s.sendBack(w, r, req.redirect, req.state, url.Values{"error": {code}})
}

// formTargets is where the browser may be led when it sends a form of this
// request: browsers apply form-action to redirects as well.
func (a *authRequest) formTargets() []string {
	if a.redirect == "" {
		return nil
	}
	u, err := url.Parse(a.redirect)
	if err != nil {
		return nil
	}
	if u.Scheme == "https" || u.Scheme == "http" {
		return []string{u.Scheme + "://" + u.Host}
	}
	return []string{u.Scheme + ":"}
}

// scopeTexts are the scopes as the consent page tells them.
func (s *Service) scopeTexts(lang string, scopes []string) (out []string) {
	for _, one := range scopes {
		text := s.config.Scopes[one].Text[lang]
		if text == "" {
			text = s.config.Scopes[one].Text["en"]
		}
		if text == "" {
			text = s.pages.ScopeText(lang, one)
		}
		if text == "" {
			text = one
		}
		if !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out
}
