package identity

import (
	"net/http"
	"net/url"

	"landline/internal/audit"
	"landline/internal/identity/pages"
	"landline/internal/module"
)

// hostedHandlers are the routes that browsers come to.
func (s *Service) hostedHandlers() []module.Handler {
	own := func(match string, h http.HandlerFunc) module.Handler { // browsers send no Authorization; one that does not verify is refused as anywhere
		return module.Handler{Match: match, Auth: module.AuthNone, Handler: h}
	}
	return []module.Handler{
		own("GET "+authorizePath, s.handleAuthorize), own("POST "+authorizePath, s.handleAuthorize),
		{Match: "POST " + pushedPath, Auth: module.AuthOwn, Handler: http.HandlerFunc(s.handlePush), Doc: pushDoc()},
		own("POST "+signInPath, s.handleSignInPage),
		own("GET "+goPath, s.handleGo),
		own("GET "+callbackPath, s.handleCallback), own("POST "+callbackPath, s.handleCallback),
		own("GET "+endSessionPath, s.handleLogout), own("POST "+endSessionPath, s.handleLogout),
		own("POST "+optionsPath, s.handlePasskeyPage), own("GET "+scriptPath, pages.ServeScript),
	}
}

// logout is a request to /oauth/end-session (OpenID Connect RP-Initiated Logout 1.0 §2).
type logout struct {
	hint     idTokenClaims // zero when there is none
	client   *client       // nil when the request does not say
	redirect string        // "" = none; checked
	state    string
	raw      url.Values
}

func (s *Service) parseLogout(in url.Values) (l logout, why string) {
	l.raw = url.Values{}
	for _, name := range []string{"id_token_hint", "client_id", "post_logout_redirect_uri", "state", "ui_locales"} {
		if len(in[name]) > 1 {
			return l, name + " is there more than once"
		}
		if v := in.Get(name); v != "" {
			l.raw.Set(name, v)
		}
	}
	clientID := in.Get("client_id")
	if text := in.Get("id_token_hint"); text != "" {
		var ok bool
		if l.hint, ok = s.hint(text); !ok {
			return l, "id_token_hint is not an ID token of this server"
		}
		if clientID != "" && clientID != l.hint.Audience {
			return l, "id_token_hint is of another client than client_id"
		}
		clientID = l.hint.Audience
	}
	if clientID != "" {
		if l.client = s.clients[clientID]; l.client == nil {
			return l, "the client is not known"
		}
	}
	if l.redirect = in.Get("post_logout_redirect_uri"); l.redirect != "" && (l.client == nil || !allowed(l.client.Logouts, l.redirect)) {
		return l, "post_logout_redirect_uri is not one of the client's"
	}
	if l.state = in.Get("state"); len(l.state) > maxState {
		return l, "state has more than 2048 bytes"
	}
	return l, ""
}

// handleLogout signs the user out of this browser and of the client that
// asks. With an ID token of whoever is signed in the user has said so in the
// client; else they are asked, or a link could sign anybody out.
func (s *Service) handleLogout(w http.ResponseWriter, r *http.Request) {
	in, err := url.ParseQuery(r.URL.RawQuery)
	if r.Method == http.MethodPost {
		var ok bool
		if in, ok = s.pageForm(w, r); !ok {
			return
		}
	} else if err != nil {
		s.showFailed(w, r, http.StatusBadRequest, "the query is not form-encoded")
		return
	}
	l, why := s.parseLogout(in)
	if why != "" {
		s.showFailed(w, r, http.StatusBadRequest, why)
		return
	}
	v, err := s.visit(w, r)
	if err != nil {
		s.pageError(w, r, err)
		return
	}
	accounts := v.accounts(s.now())
	confirmed := in.Get("step") == "sign_out" && s.genuine(r, v, in.Get("csrf"))
	var ending []Grant
	for _, g := range accounts {
		if confirmed && (l.hint.Subject == "" || g.User.ID == l.hint.Subject) || !confirmed && g.User.ID == l.hint.Subject {
			ending = append(ending, g)
		}
	}
	if !confirmed && len(ending) == 0 && len(accounts) > 0 {
		s.askSignOut(w, r, v, l, accounts[0].User.ID)
		return
	}
	if err := s.endAll(r, l, ending); err != nil {
		s.pageError(w, r, err)
		return
	}
	if l.redirect == "" {
		s.pages.Write(w, http.StatusOK, pages.Page{Name: pages.SignedOut, Lang: s.pages.Language(nil, r.Header.Get("Accept-Language")), App: s.app.Name})
		return
	}
	q := url.Values{}
	if l.state != "" {
		q.Set("state", l.state)
		s.redirect(w, r, withQuery(l.redirect, q))
		return
	}
	s.redirect(w, r, l.redirect)
}

// endAll ends the browser's sessions and the one that the hint is of. A hint is
// no secret, so it ends nothing unless its user is signed in here, too.
func (s *Service) endAll(r *http.Request, l logout, ending []Grant) error {
	sessions := make([]string, 0, len(ending)+1)
	for _, g := range ending {
		sessions = append(sessions, g.Session.ID)
		if l.hint.Session != "" && g.User.ID == l.hint.Subject {
			sessions = append(sessions, l.hint.Session)
		}
	}
	for _, one := range sessions {
		actor := audit.Actor{Type: audit.TypeUser, IP: audit.ActorFrom(r.Context()).IP}
		if len(ending) > 0 {
			actor.ID = ending[0].User.ID
		}
		if _, err := s.end(r.Context(), one, ReasonSignOut, audit.Entry{Actor: actor, Action: "session.sign_out"}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) askSignOut(w http.ResponseWriter, r *http.Request, v *visitor, l logout, user string) {
	csrf, err := s.csrf(v)
	if err == nil {
		user, err = s.labelOf(r.Context(), user)
	}
	if err != nil {
		s.pageError(w, r, err)
		return
	}
	p := pages.Page{Name: pages.SignOut, Lang: s.pages.Language(nil, r.Header.Get("Accept-Language")), App: s.app.Name, Who: user, Action: endSessionPath,
		Hidden: [][2]string{{"csrf", csrf}}}
	for name := range l.raw {
		p.Hidden = append(p.Hidden, [2]string{name, l.raw.Get(name)})
	}
	if l.redirect != "" {
		p.FormTo = (&authRequest{redirect: l.redirect}).formTargets()
	}
	s.pages.Write(w, http.StatusOK, p)
}
