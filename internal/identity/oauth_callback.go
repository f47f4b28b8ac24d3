package identity

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"

	"landline/internal/sqldb"
)

// handleCallback is where providers send the user back to.
func (s *Service) handleCallback(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost { // form_post comes cross-site, without our cookie: once more as a GET
		form, ok := s.pageForm(w, r)
		if !ok {
			return
		}
		known := url.Values{} // and nothing else of what was sent gets into an address
		for _, name := range []string{"state", "code", "error", "iss", "user"} {
			if v := form.Get(name); v != "" {
				known.Set(name, v)
			}
		}
		s.redirect(w, r, callbackPath+"?"+known.Encode())
		return
	}
	params, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || params.Get("state") == "" {
		s.showFailed(w, r, http.StatusBadRequest, "state is missing")
		return
	}
	st, err := s.takeRedirect(r.Context(), params.Get("state"))
	if errors.Is(err, sqldb.ErrNotFound) {
		s.showFailed(w, r, http.StatusBadRequest, "state is not known, or was used before: begin again in the app")
		return
	}
	if err != nil {
		s.pageError(w, r, err)
		return
	}
	raw, err := url.ParseQuery(st.Request)
	if err != nil {
		s.pageError(w, r, err)
		return
	}
	req, fault := s.asked(raw)
	if fault != nil {
		s.refuseAuth(w, r, fault)
		return
	}
	v, err := s.visit(w, r)
	if err != nil {
		s.failAuth(w, r, req, err)
		return
	}
	f := &flow{set: s.pages, w: w, r: r, req: req, v: v, started: st.Started}
	h := s.hostedBy(st.Provider)
	if v.id != st.Visitor || h == nil || h.Redirect == nil { // begun in another browser: a login CSRF
		f.started = s.now()
		s.showSignIn(f, "expired", "", nil)
		return
	}
	f.acted = true
	c, err := h.Redirect.finish(r.Context(), st.Keep, params)
	if err != nil {
		fault := s.faultOf(f, err)
		if fault == "credential" {
			fault = "provider"
		}
		s.showSignIn(f, fault, "", nil)
		return
	}
	s.credential(f, c, st.Pending)
}

// What is kept during a redirect is nobody's yet; one data key seals all of it.
const (
	redirectSubject = "oauth"
	fieldRedirect   = "identity.oauth_redirect"
)

// takeRedirect uses up what was kept under state.
func (s *Service) takeRedirect(ctx context.Context, state string) (st redirectState, err error) {
	key, err := s.blind("oauth redirect\x00" + state)
	if err != nil {
		return st, err
	}
	ch, err := s.store.Challenge(ctx, key)
	if err != nil {
		return st, err
	}
	if ch.Kind != kindRedirect || !s.now().Before(ch.ExpiresAt) {
		return st, sqldb.ErrNotFound
	}
	done, err := s.store.Apply(ctx, Change{Take: &ch})
	if err != nil {
		return st, err
	}
	if !done {
		return st, sqldb.ErrNotFound
	}
	raw, err := s.keys.Open(ctx, redirectSubject, fieldRedirect, ch.State)
	if err != nil {
		return st, err
	}
	return st, json.Unmarshal(raw, &st)
}
