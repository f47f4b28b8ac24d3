package identity

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"landline/internal/identity/pages"
	"landline/internal/module"
	"landline/internal/problem"
)

// handleDeletion is the address for the stores: it says what a deletion does to
// whoever comes, and how far one is that was asked for in this browser.
func (s *Service) handleDeletion(w http.ResponseWriter, r *http.Request) {
	f, ok := s.beginOwn(w, r, ownDelete)
	if !ok {
		return
	}
	_, e, err := s.deletedHere(r.Context(), f.v)
	if err == nil && e.State != ErasureUndone {
		err = s.showDeleting(f, e)
	} else if err == nil || notFound(err) {
		s.showDelete(f)
		return
	}
	if err != nil {
		s.pageError(w, r, err)
	}
}

func (s *Service) showDelete(f *flow) {
	lang := f.lang()
	p := pages.Page{Name: pages.Delete, Lang: lang, App: s.app.Name, Next: f.local(confirmPath, ""), Until: s.undoUntil(s.now()),
		Erased: inLanguage(s.config.Deletion.Erased, lang), Remains: inLanguage(s.config.Deletion.Kept, lang)}
	s.pages.Write(f.w, http.StatusOK, p)
}

// undoUntil is when a deletion that is asked for now can no longer be undone,
// zero when it never can.
func (s *Service) undoUntil(now time.Time) time.Time {
	if s.config.Deletion.Grace == 0 {
		return time.Time{}
	}
	return now.Add(s.config.Deletion.Grace.D())
}

func inLanguage(all map[string][]string, lang string) []string {
	if lines, ok := all[lang]; ok {
		return lines
	}
	return all["en"]
}

func (s *Service) showConfirm(f *flow, g Grant) error {
	p, err := s.ownPage(f, pages.Confirm, g)
	if err != nil {
		return err
	}
	p.Until, p.Back = s.undoUntil(s.now()), f.local(deletePath, "")
	s.pages.Write(f.w, http.StatusOK, p)
	return nil
}

func (s *Service) showDeleting(f *flow, e Erasure) error {
	p, err := s.ownPage(f, pages.Deleting, Grant{})
	if err != nil {
		return err
	}
	p.Asked, p.Until = true, e.EraseAt
	p.Undo = e.State == ErasureWaiting && s.now().Before(e.EraseAt)
	s.pages.Write(f.w, http.StatusOK, p)
	return nil
}

// deleteFromPage begins the erasure of g's user. The page that follows is a GET,
// so that reloading it asks for nothing.
func (s *Service) deleteFromPage(f *flow, g Grant) error {
	ctx := f.r.Context()
	if _, err := s.Leave(ctx, principalOf(g, s.now())); err != nil {
		return err
	}
	if err := s.rememberDeleted(ctx, f.v, g.User.ID); err != nil {
		return err
	}
	s.redirect(f.w, f.r, f.local(deletePath, ""))
	return nil
}

// rememberDeleted lets the browser undo the deletion of user, and of nobody whom it
// deleted before.
func (s *Service) rememberDeleted(ctx context.Context, v *visitor, user string) error {
	key, err := s.blind("deleted here\x00" + v.cookie)
	if err != nil {
		return err
	}
	before, err := s.store.Challenge(ctx, key)
	if err == nil {
		_, err = s.store.Apply(ctx, Change{Take: &before})
	}
	if err != nil && !notFound(err) {
		return err
	}
	now := Challenge{ID: key, Kind: kindDeleted, State: []byte(user), ExpiresAt: s.now().Add(rememberedFor)}
	_, err = s.store.Apply(ctx, Change{Challenges: []Challenge{now}}) // false: the same form, sent twice at once, was faster
	return err
}

// undoHere undoes the deletion that was asked for in this browser.
func (s *Service) undoHere(f *flow) error {
	ctx := f.r.Context()
	ch, e, err := s.deletedHere(ctx, f.v)
	if notFound(err) { // too long ago: the sign-in offers it as well
		f.req = s.ownRequest(ownDelete, "", f.req.locales)
		s.showSignIn(f, "expired", "", nil)
		return nil
	}
	if err == nil && e.State != ErasureUndone { // by another sign-in, meanwhile
		err = s.undoErasure(ctx, e.UserID, userEntry(ctx, e.UserID, "user.undelete", e.UserID, "", nil))
	}
	if err != nil {
		if p := problem.From(err); p.Code == problem.AccountDeleted || p.Code == problem.Conflict {
			return s.showTooLate(f)
		}
		return err
	}
	if _, err := s.store.Apply(ctx, Change{Take: &ch}); err != nil {
		return err
	}
	return s.showKept(f)
}

func (s *Service) showTooLate(f *flow) error {
	s.pages.Write(f.w, http.StatusConflict, pages.Page{Name: pages.Failed, Lang: f.lang(), App: s.app.Name, Fault: "too_late"})
	return nil
}

func (s *Service) showKept(f *flow) error {
	s.pages.Write(f.w, http.StatusOK, pages.Page{Name: pages.Kept, Lang: f.lang(), App: s.app.Name, Next: f.local(accountPath, "")})
	return nil
}

// showPending tells somebody who has just signed in that their account waits to
// be erased, and offers to keep it. keep is the ticket of what was proven, good
// in this browser.
func (s *Service) showPending(f *flow, until time.Time, keep, pending string) {
	p, ok := s.page(f, pages.Deleting)
	if !ok {
		return
	}
	p.Until, p.Undo = until, true
	p.Hidden = append(p.Hidden, [2]string{"keep", keep})
	if pending != "" {
		p.Hidden = append(p.Hidden, [2]string{"pending", pending})
	}
	s.pages.Write(f.w, http.StatusOK, p)
}

const kindKept = "account.kept" // a ticket

// keepLater keeps what proven proves of an account that waits to be erased, for
// the answer to showPending.
func (s *Service) keepLater(ctx context.Context, p *module.Principal, proven Proven) (string, error) {
	lookup, err := s.lookup(proven.Profile.Issuer, proven.Profile.Subject)
	if err != nil {
		return "", err
	}
	_, owner, err := s.store.IdentityBy(ctx, lookup)
	if err != nil {
		return "", err
	}
	token, now := newToken(), s.now()
	waits, err := s.newTicket(ctx, kindKept, token, p.InstallationID, owner.ID,
		ticket{User: p.UserID, Owner: owner.ID, Proven: proven, At: now.UnixMilli()}, now.Add(pendingFor))
	if err != nil {
		return "", err
	}
	_, err = s.store.Apply(ctx, Change{Challenges: []Challenge{waits}})
	return token, err
}

// keepAccount undoes a deletion with the credential that showPending was shown
// for, and goes on with the sign-in. It does so once.
func (s *Service) keepAccount(f *flow, form url.Values) {
	user, err := s.keepBrowser(f.r.Context(), f.w, f.v, form.Get("keep"), form.Get("pending"))
	switch p := problem.From(err); {
	case err == nil && f.req.own != "":
		if err := s.showKept(f); err != nil {
			s.pageError(f.w, f.r, err)
		}
	case err == nil:
		f.user = user
		s.proceed(f)
	case p.Code == problem.AccountDeleted:
		if err := s.showTooLate(f); err != nil {
			s.pageError(f.w, f.r, err)
		}
	case p.Code == problem.InvalidRequest:
		s.showSignIn(f, "expired", "", nil)
	default:
		s.showSignIn(f, s.faultOf(f, err), "", nil)
	}
}

func (s *Service) keepBrowser(ctx context.Context, w http.ResponseWriter, v *visitor, keep, pending string) (string, error) {
	p, err := s.principal(ctx, v)
	if err != nil {
		return "", err
	}
	c, t, err := s.openTicket(ctx, kindKept, keep, p.InstallationID)
	if errors.Is(err, errNoTicket) {
		return "", invalid("keep", "is not one that this browser was given in the last 15 minutes, or was used before")
	}
	if err != nil {
		return "", err
	}
	if done, err := s.store.Apply(ctx, Change{Take: &c}); err != nil {
		return "", err
	} else if !done {
		return "", invalid("keep", "was used before")
	}
	got, err := s.SignIn(ctx, p, t.Proven, true)
	if err != nil {
		return "", err
	}
	return s.signedInHere(ctx, w, v, got, pending)
}
