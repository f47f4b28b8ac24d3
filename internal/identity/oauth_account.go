package identity

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"landline/internal/id"
	"landline/internal/identity/pages"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/sqldb"
)

// Pages on which people look after their account without the app. They use the
// sign-in of the authorization server, on behalf of no client.
const (
	accountPath = "/account"
	deletePath  = "/account/delete"
	confirmPath = "/account/delete/confirm"
	exportPath  = "/account/export"
	archivePath = "/account/export/archive"
)

func (s *Service) accountPageHandlers() []module.Handler {
	own := func(match string, h http.HandlerFunc) module.Handler {
		return module.Handler{Match: match, Auth: module.AuthNone, Handler: h}
	}
	return []module.Handler{
		own("GET "+accountPath, s.handleAccount), own("POST "+accountPath, s.handleSignInPage),
		own("GET "+deletePath, s.handleDeletion), own("GET "+confirmPath, s.handleConfirm),
		own("GET "+exportPath, s.handleExportPage), own("GET "+archivePath, s.handleArchivePage),
	}
}

// What a sign-in on behalf of no client is for.
const (
	ownAccount = "account"
	ownDelete  = "delete"
	ownExport  = "export"
)

// ownFresh is how long ago somebody may have signed in for a page; 0 = no matter.
// A browser stays signed in for weeks, and may be borrowed.
var ownFresh = map[string]time.Duration{ownAccount: 0, ownDelete: freshFor, ownExport: time.Hour}

// ownRequest stands in for a client's authorization request. Its redirect is
// empty, so that nothing of it can lead away from here.
func (s *Service) ownRequest(page, export string, locales []string) *authRequest {
	raw := url.Values{"own": {page}}
	if export != "" {
		raw.Set("export", export)
	}
	if len(locales) > 0 {
		raw.Set("lang", locales[0])
	}
	return &authRequest{client: &client{ID: s.app.ID}, maxAge: -1, own: page, export: export, locales: locales, raw: raw.Encode()}
}

// asked reads what a form, or what was kept during a redirect, goes on with.
func (s *Service) asked(raw url.Values) (*authRequest, *authFault) {
	page := raw.Get("own")
	if page == "" {
		return s.parseAuth(raw)
	}
	export := raw.Get("export")
	if _, ok := ownFresh[page]; !ok || export != "" && id.Check(prefixExport, export) != nil {
		return nil, &authFault{Code: "invalid_request", Description: "the form is not one of this page"}
	}
	return s.ownRequest(page, export, langOf(raw)), nil
}

// langOf is the language that an address asks for, for links from an app.
func langOf(in url.Values) []string {
	if lang := in.Get("lang"); lang != "" && len(lang) <= 35 {
		return []string{lang}
	}
	return nil
}

// decideOwn is decideAccount for a page of the own account.
func decideOwn(page string, f flowFacts) flowVerdict {
	i := slices.IndexFunc(f.Accounts, func(g Grant) bool { return g.User.ID == f.User })
	switch {
	case len(f.Accounts) == 0:
		return flowVerdict{Step: flowSignIn}
	case i >= 0:
	case len(f.Accounts) > 1 || f.User != "": // who the page was drawn for may have been signed out elsewhere
		return flowVerdict{Step: flowChoose}
	default:
		i = 0
	}
	g := f.Accounts[i]
	if limit := ownFresh[page]; limit > 0 && f.Now.Sub(g.Session.AuthTime) > limit {
		return flowVerdict{Step: flowSignIn}
	}
	return flowVerdict{Step: flowIssue, Grant: g}
}

// beginOwn starts the way to a page of the own account; false = it has answered.
func (s *Service) beginOwn(w http.ResponseWriter, r *http.Request, page string) (*flow, bool) {
	in, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || in.Get("id") != "" && id.Check(prefixExport, in.Get("id")) != nil {
		s.showFailed(w, r, http.StatusBadRequest, "the address is not one of this page")
		return nil, false
	}
	f := &flow{set: s.pages, w: w, r: r, req: s.ownRequest(page, in.Get("id"), langOf(in)), started: s.now()}
	if _, err := r.Cookie(s.cookieName()); err != nil && r.URL.Path == deletePath {
		f.v = &visitor{fresh: true} // who only reads gets no cookie
		return f, true
	}
	if f.v, err = s.visit(w, r); err != nil {
		s.pageError(w, r, err)
		return nil, false
	}
	return f, true
}

func (s *Service) handleAccount(w http.ResponseWriter, r *http.Request) {
	if f, ok := s.beginOwn(w, r, ownAccount); ok {
		s.proceedOwn(f)
	}
}

func (s *Service) handleConfirm(w http.ResponseWriter, r *http.Request) {
	if f, ok := s.beginOwn(w, r, ownDelete); ok {
		s.proceedOwn(f)
	}
}

func (s *Service) handleExportPage(w http.ResponseWriter, r *http.Request) {
	if f, ok := s.beginOwn(w, r, ownExport); ok {
		s.proceedOwn(f)
	}
}

// proceedOwn shows the page, or what must come before it.
func (s *Service) proceedOwn(f *flow) {
	v := s.ownVerdict(f)
	switch v.Step {
	case flowSignIn:
		s.showSignIn(f, "", "", nil)
	case flowChoose:
		s.showChoose(f, Grant{})
	default:
		var err error
		switch f.req.own {
		case ownDelete:
			err = s.showConfirm(f, v.Grant)
		case ownExport:
			err = s.showExport(f, v.Grant)
		default:
			err = s.showAccount(f, v.Grant)
		}
		if err != nil {
			s.pageError(f.w, f.r, err)
		}
	}
}

func (s *Service) ownVerdict(f *flow) flowVerdict {
	accounts := f.v.accounts(s.now())
	user := f.user
	if user == "" && f.req.export != "" { // the copy says whose it is, or reading it will say what is wrong
		e, err := s.life.export(f.r.Context(), f.req.export)
		if err == nil && slices.ContainsFunc(accounts, func(g Grant) bool { return g.User.ID == e.UserID }) {
			user = e.UserID
		}
	}
	return decideOwn(f.req.own, flowFacts{Accounts: accounts, User: user, Now: s.now()})
}

// ownPage is page for g's own account.
func (s *Service) ownPage(f *flow, name pages.Name, g Grant) (pages.Page, error) {
	p, err := s.pageOf(f, name)
	if err == nil && g.User.ID != "" {
		p.Hidden = append(p.Hidden, [2]string{"user", g.User.ID})
		p.Who, err = s.labelOf(f.r.Context(), g.User.ID)
	}
	return p, err
}

// local is an address of ours that keeps the language; export is an id or "".
func (f *flow) local(path, export string) string {
	q := url.Values{}
	if len(f.req.locales) > 0 {
		q.Set("lang", f.req.locales[0])
	}
	if export != "" {
		q.Set("id", export)
	}
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

func (s *Service) showAccount(f *flow, g Grant) error {
	p, err := s.ownPage(f, pages.Account, g)
	if err != nil {
		return err
	}
	all, err := s.store.ActiveSessionsOf(f.r.Context(), g.User.ID, 500)
	if err != nil {
		return err
	}
	now := s.now()
	for _, one := range all {
		if now.After(one.Session.RefreshExpiresAt()) {
			continue
		}
		d, err := s.pageDevice(f.r.Context(), one.Session)
		if err != nil {
			return err
		}
		d.Current = one.Session.ID == g.Session.ID
		p.Devices = append(p.Devices, d)
	}
	p.Next = f.local(deletePath, "")
	s.pages.Write(f.w, http.StatusOK, p)
	return nil
}

// pageDevice is a session as its user knows it: the client that it was given to,
// a browser, or a device.
func (s *Service) pageDevice(ctx context.Context, one Session) (pages.Device, error) {
	d := pages.Device{Session: one.ID, Since: one.CreatedAt}
	if c := s.clients[one.ClientID]; one.Via != "" && c != nil {
		d.Label = c.Name
		return d, nil
	}
	i, err := s.store.Installation(ctx, one.InstallationID)
	if err != nil && !notFound(err) {
		return d, err
	}
	if d.Browser = i.App.Platform == browserPlatform; !d.Browser {
		if name := deviceName(i); name != unknownDevice {
			d.Label = name
		}
	}
	return d, nil
}

// ownStep is what a form of these pages asks for.
func (s *Service) ownStep(f *flow, form url.Values) {
	step := form.Get("step")
	f.user = form.Get("user")
	var err error
	switch v := s.ownVerdict(f); {
	case step == "undo" && form.Get("keep") != "":
		s.keepAccount(f, form)
	case step == "undo":
		err = s.undoHere(f)
	case f.req.own == "":
		s.showFailed(f.w, f.r, http.StatusBadRequest, "step is not one of this page")
	case v.Step != flowIssue && step == "delete" && s.isDeletedHere(f): // the button was pressed twice
		s.redirect(f.w, f.r, f.local(deletePath, ""))
	case v.Step != flowIssue: // signed out meanwhile, or not fresh any more
		s.proceedOwn(f)
	case step == "end":
		err = s.endFromPage(f, v.Grant, form.Get("session"))
	case step == "export":
		err = s.exportFromPage(f, v.Grant)
	case step == "delete" && f.req.own == ownDelete: // the request's page decides how fresh the sign-in must be
		err = s.deleteFromPage(f, v.Grant)
	default:
		s.showFailed(f.w, f.r, http.StatusBadRequest, "step is not one of this page")
	}
	if err != nil {
		s.pageError(f.w, f.r, err)
	}
}

func (s *Service) endFromPage(f *flow, g Grant, session string) error {
	if id.Check(id.Session, session) != nil {
		s.showFailed(f.w, f.r, http.StatusBadRequest, "session is not one of this page")
		return nil
	}
	err := s.EndSession(f.r.Context(), principalOf(g, s.now()), session)
	if err != nil && problem.From(err).Code != problem.NotFound { // gone already: that is what was wanted
		return err
	}
	s.redirect(f.w, f.r, f.local(accountPath, ""))
	return nil
}

func (s *Service) exportFromPage(f *flow, g Grant) error {
	if s.now().Sub(g.Session.AuthTime) > ownFresh[ownExport] { // the page with the button may need less
		f.req = s.ownRequest(ownExport, "", f.req.locales)
		s.proceedOwn(f)
		return nil
	}
	e, err := s.RequestExport(f.r.Context(), principalOf(g, s.now()))
	if err != nil {
		return err
	}
	s.redirect(f.w, f.r, f.local(exportPath, e.ID))
	return nil
}

// showExport shows how far a copy is. Without an id one is begun, when the user
// has just asked for it.
func (s *Service) showExport(f *flow, g Grant) error {
	ctx, me := f.r.Context(), principalOf(g, s.now())
	switch {
	case f.req.export == "" && f.acted:
		return s.exportFromPage(f, g)
	case f.req.export == "":
		s.redirect(f.w, f.r, f.local(accountPath, ""))
		return nil
	}
	p, err := s.ownPage(f, pages.Export, g)
	if err != nil {
		return err
	}
	e, err := s.ownExport(ctx, me, f.req.export)
	if err != nil && problem.From(err).Code == problem.NotFound {
		p.Name, p.Fault, p.Back = pages.Failed, "export", f.local(accountPath, "")
		s.pages.Write(f.w, http.StatusNotFound, p)
		return nil
	}
	if err != nil {
		return err
	}
	if e.State == ExportFailed {
		p.Name, p.Fault, p.Back = pages.Failed, "export_failed", f.local(accountPath, "")
		s.pages.Write(f.w, http.StatusOK, p)
		return nil
	}
	p.Until, p.Back, p.Next = e.ExpiresAt, f.local(accountPath, ""), f.local(exportPath, e.ID)
	if p.Ready = e.State == ExportReady; p.Ready {
		p.Next = f.local(archivePath, e.ID)
	}
	s.pages.Write(f.w, http.StatusOK, p)
	return nil
}

// handleArchivePage sends the archive to a browser that is signed in, lately enough.
func (s *Service) handleArchivePage(w http.ResponseWriter, r *http.Request) {
	f, ok := s.beginOwn(w, r, ownExport)
	if !ok {
		return
	}
	v := s.ownVerdict(f)
	if v.Step == flowIssue && f.req.export != "" {
		e, err := s.ownExport(r.Context(), principalOf(v.Grant, s.now()), f.req.export)
		if err == nil && e.State == ExportReady {
			s.sendExport(w, r, e)
			return
		}
	}
	s.proceedOwn(f) // asks for what is missing, or says what is the matter
}

// rememberedFor is how long a browser that has asked for a deletion can undo it
// without a new sign-in.
const (
	rememberedFor = ticketLife
	kindDeleted   = "account.deleted"
)

// deletedHere is the erasure that was asked for in this browser a moment ago;
// sqldb.ErrNotFound when there is none.
func (s *Service) deletedHere(ctx context.Context, v *visitor) (Challenge, Erasure, error) {
	if v.fresh {
		return Challenge{}, Erasure{}, sqldb.ErrNotFound
	}
	key, err := s.blind("deleted here\x00" + v.cookie)
	if err != nil {
		return Challenge{}, Erasure{}, err
	}
	ch, err := s.store.Challenge(ctx, key)
	if err != nil {
		return ch, Erasure{}, err
	}
	if ch.Kind != kindDeleted || !s.now().Before(ch.ExpiresAt) {
		return ch, Erasure{}, sqldb.ErrNotFound
	}
	e, err := s.life.erasure(ctx, string(ch.State))
	return ch, e, err
}

func (s *Service) isDeletedHere(f *flow) bool {
	_, e, err := s.deletedHere(f.r.Context(), f.v)
	return err == nil && e.State != ErasureUndone
}

func notFound(err error) bool { return errors.Is(err, sqldb.ErrNotFound) }
