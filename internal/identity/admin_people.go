package identity

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/audit"
	"landline/internal/id"
	"landline/internal/mail"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/sqldb"
)

type adminSearchInput struct{ Body adminSearchBody }
type adminReasonInput struct {
	ID   string `path:"id" maxLength:"64"`
	Body adminRevokeBody
}
type adminUnlinkInput struct {
	ID   string `path:"id" maxLength:"64"`
	Body adminUnlinkBody
}
type adminErasuresInput struct {
	Cursor string `query:"cursor" maxLength:"100"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}
type adminReplayInput struct{ Body adminReplayBody }

// peopleRoutes are what support and operators do for a person.
func (s *Service) peopleRoutes(api huma.API, op func(method, path, name, summary string, role module.Role) huma.Operation) {
	search := op(http.MethodPost, "/users/search", "search-users", "Find a person by any identifier; audited", module.Support)
	search.Description = "By e-mail address, by provider and subject, or by the id of a user, installation, session or way to sign in. A POST, so that no address gets into logs. A merged user leads to the account it became part of."
	huma.Register(api, search, s.adminSearch)
	huma.Register(api, op(http.MethodPost, "/users/{id}/lock", "lock-user", "Lock a user: all sessions end, and none can begin", module.Operator), s.adminLock)
	huma.Register(api, op(http.MethodPost, "/users/{id}/unlock", "unlock-user", "Let a locked user sign in again", module.Operator), s.adminUnlock)
	huma.Register(api, op(http.MethodPost, "/users/{id}/end-sessions", "end-user-sessions", "End all sessions of a user", module.Operator), s.adminEndSessions)
	huma.Register(api, op(http.MethodPost, "/users/{id}/unlink", "unlink-user-identity", "Remove a way to sign in; the last one too", module.Operator), s.adminUnlink)
	huma.Register(api, op(http.MethodPost, "/users/{id}/delete", "delete-user", "Begin a user's erasure", module.Operator), s.adminDelete)
	huma.Register(api, op(http.MethodPost, "/users/{id}/undelete", "undelete-user", "Undo an erasure that waits", module.Operator), s.adminUndelete)
	huma.Register(api, op(http.MethodGet, "/erasures", "list-erasures", "List erasures that are done, oldest first", module.Owner), s.adminErasures)
	replay := op(http.MethodPost, "/erasures/replay", "replay-erasures", "Erase users again whom a restored backup has brought back", module.Owner)
	replay.Description = "Takes the ids that GET /admin/v1/erasures gave before the restore, user_id and aliases: a backup from before a merge has the aliases as users. Users who are erased already stay as they are. Do it before the apps are let in."
	huma.Register(api, replay, s.adminReplay)
}

func (s *Service) adminSearch(ctx context.Context, in *adminSearchInput) (*adminOutput[adminFound], error) {
	users, err := s.find(ctx, in.Body)
	if err != nil {
		return nil, err
	}
	out := adminFound{Data: make([]adminUser, 0, len(users))}
	seen := map[string]bool{}
	for _, user := range users {
		if user, err = s.finalUser(ctx, user); err != nil {
			return nil, adminError(err)
		}
		if seen[user] {
			continue
		}
		seen[user] = true
		u, err := s.adminUserOf(ctx, user)
		if err != nil {
			return nil, err
		}
		out.Data = append(out.Data, u)
	}
	if len(seen) == 0 {
		seen[""] = true // a search that finds nobody is written down too
	}
	for user := range seen {
		if err := s.looked(ctx, "user.search", user); err != nil {
			return nil, err
		}
	}
	return &adminOutput[adminFound]{noStore, out}, nil
}

// find returns the ids of the users that the search is about.
func (s *Service) find(ctx context.Context, b adminSearchBody) ([]string, error) {
	given := 0
	for _, v := range []string{b.Email, b.Subject, b.ID} {
		if v != "" {
			given++
		}
	}
	switch {
	case given != 1:
		return nil, invalid("email", "give exactly one of email, subject and id")
	case b.Subject != "" && b.Issuer == "":
		return nil, invalid("issuer", "is needed with subject")
	case b.Email != "":
		lookup, err := s.emailLookup(b.Email)
		if err != nil {
			return nil, err
		}
		all, err := s.store.IdentitiesByEmail(ctx, lookup, 50)
		var users []string
		for _, i := range all {
			users = append(users, i.UserID)
		}
		return users, err
	case b.Subject != "":
		lookup, err := s.lookup(b.Issuer, b.Subject)
		if err != nil {
			return nil, err
		}
		i, _, err := s.store.IdentityBy(ctx, lookup)
		if errors.Is(err, sqldb.ErrNotFound) {
			return nil, nil
		}
		return []string{i.UserID}, err
	}
	return s.findByID(ctx, b.ID)
}

func (s *Service) findByID(ctx context.Context, text string) (users []string, err error) {
	prefix, _, _ := strings.Cut(text, "_")
	switch {
	case id.Check(prefix, text) != nil:
		err = invalid("id", "is not the id of a user, an installation, a session or a way to sign in")
	case prefix == id.User:
		var u User
		if u, err = s.store.User(ctx, text); err == nil {
			users = []string{u.ID}
		}
	case prefix == prefixIdentity:
		users, err = list(ctx, s.db, "IdentityOwner", func(r row) (user string, err error) {
			err = r.Scan(&user)
			return user, err
		}, text)
	case prefix == id.Session:
		var g Grant
		if g, err = s.store.Session(ctx, text); err == nil {
			users = []string{g.Session.UserID}
		}
	case prefix == id.Installation:
		var l Line
		if l, err = s.store.Line(ctx, LineKey{ID: text}); err == nil {
			if l.Anonymous.ID != "" {
				users = append(users, l.Anonymous.ID)
			}
			for _, g := range l.Active {
				users = append(users, g.User.ID)
			}
		}
	default:
		err = invalid("id", "is not the id of a user, an installation, a session or a way to sign in")
	}
	if errors.Is(err, sqldb.ErrNotFound) {
		return nil, nil
	}
	return users, err
}

// adminUserOf is everything that support sees of a user.
func (s *Service) adminUserOf(ctx context.Context, user string) (adminUser, error) {
	u, err := s.store.User(ctx, user)
	if err != nil {
		return adminUser{}, adminError(err)
	}
	sessions, err := s.store.SessionsOf(ctx, user, 100)
	if err != nil {
		return adminUser{}, err
	}
	out := adminUser{ID: u.ID, Kind: u.Kind, State: u.State, InstallationID: u.InstallationID, MergedInto: u.MergedInto, CreatedAt: u.CreatedAt,
		Sessions: adminSessions(sessions), Identities: []identityWire{}, Merges: []mergedWire{}}
	if u.State != UserDeleted {
		if out.Identities, err = s.identitiesOf(ctx, user); err != nil {
			return out, err
		}
	}
	merges, err := s.store.MergesInto(ctx, user, 100)
	for _, m := range merges {
		out.Merges = append(out.Merges, mergedWire{ID: m.ID, From: m.From, Into: m.Into, State: m.State, Records: m.Records, Conflicts: m.Conflicts})
	}
	if err != nil {
		return out, err
	}
	e, err := s.life.erasure(ctx, user)
	if errors.Is(err, sqldb.ErrNotFound) {
		return out, nil
	}
	out.Erasure = &adminErasure{UserID: user, State: e.State, RequestedBy: e.RequestedBy, RequestedAt: e.RequestedAt, EraseAt: e.EraseAt, Report: e.Report}
	return out, err
}

// changed answers a change of a user with how they are now.
func (s *Service) changed(ctx context.Context, user string, err error) (*adminOutput[adminUser], error) {
	if err != nil {
		return nil, adminError(err)
	}
	u, err := s.adminUserOf(ctx, user)
	return &adminOutput[adminUser]{noStore, u}, err
}

func (s *Service) adminLock(ctx context.Context, in *adminReasonInput) (*adminOutput[adminUser], error) {
	if err := checkID(id.User, in.ID); err != nil {
		return nil, err
	}
	now := s.now()
	return s.changeState(ctx, in, UserActive, Change{
		State:  []StateChange{{UserID: in.ID, From: UserActive, To: UserLocked, At: now}},
		EndAll: &EndAll{UserID: in.ID, Reason: ReasonAccountLocked, At: now},
		Audit:  []audit.Entry{{Action: "user.lock", Target: in.ID, Reason: in.Body.Reason}},
	})
}

func (s *Service) adminUnlock(ctx context.Context, in *adminReasonInput) (*adminOutput[adminUser], error) {
	if err := checkID(id.User, in.ID); err != nil {
		return nil, err
	}
	return s.changeState(ctx, in, UserLocked, Change{
		State: []StateChange{{UserID: in.ID, From: UserLocked, To: UserActive, At: s.now()}},
		Audit: []audit.Entry{{Action: "user.unlock", Target: in.ID, Reason: in.Body.Reason}},
	})
}

// changeState applies c to a user whose state must be from.
func (s *Service) changeState(ctx context.Context, in *adminReasonInput, from UserState, c Change) (*adminOutput[adminUser], error) {
	u, err := s.store.User(ctx, in.ID)
	if err != nil {
		return nil, adminError(err)
	}
	if from == UserLocked && u.State == UserNoLogin { // an operator lets somebody in again whom the provider had shut out
		c.State[0].From = u.State
	}
	done := false
	if c.EndAll != nil {
		done, err = s.changeWithSessions(ctx, in.ID, c)
	} else {
		done, err = s.store.Apply(ctx, c)
	}
	if err == nil && !done {
		err = problem.New(problem.Conflict, "the user is %s, not %s", u.State, from)
	}
	return s.changed(ctx, in.ID, err)
}

func (s *Service) adminEndSessions(ctx context.Context, in *adminReasonInput) (*adminOutput[adminUser], error) {
	if err := checkID(id.User, in.ID); err != nil {
		return nil, err
	}
	if _, err := s.store.User(ctx, in.ID); err != nil {
		return nil, adminError(err)
	}
	_, err := s.changeWithSessions(ctx, in.ID, Change{
		EndAll: &EndAll{UserID: in.ID, Reason: ReasonOperator, At: s.now()},
		Audit:  []audit.Entry{{Action: "user.end_sessions", Target: in.ID, Reason: in.Body.Reason}},
	})
	return s.changed(ctx, in.ID, err)
}

func (s *Service) adminUnlink(ctx context.Context, in *adminUnlinkInput) (*adminOutput[adminUser], error) {
	if err := checkID(id.User, in.ID); err != nil {
		return nil, err
	}
	done, err := s.store.Apply(ctx, Change{
		Unlink: &Unlinking{ID: in.Body.IdentityID, UserID: in.ID, At: s.now()},
		Audit:  []audit.Entry{{Action: "identity.unlink", Target: in.Body.IdentityID, Reason: in.Body.Reason}},
	})
	if err == nil && !done {
		err = problem.New(problem.NotFound, "the user has no such way to sign in")
	}
	return s.changed(ctx, in.ID, err)
}

func (s *Service) adminDelete(ctx context.Context, in *adminReasonInput) (*adminOutput[adminUser], error) {
	if err := checkID(id.User, in.ID); err != nil {
		return nil, err
	}
	_, err := s.requestErasure(ctx, in.ID, in.Body.Reason)
	return s.changed(ctx, in.ID, err)
}

func (s *Service) adminUndelete(ctx context.Context, in *adminReasonInput) (*adminOutput[adminUser], error) {
	if err := checkID(id.User, in.ID); err != nil {
		return nil, err
	}
	return s.changed(ctx, in.ID, s.undoErasure(ctx, in.ID, audit.Entry{Action: "user.undelete", Target: in.ID, Reason: in.Body.Reason}))
}

func (s *Service) adminErasures(ctx context.Context, in *adminErasuresInput) (*adminOutput[adminErasures], error) {
	var after time.Time
	user := ""
	if in.Cursor != "" {
		at, rest, ok := strings.Cut(in.Cursor, " ")
		t, err := time.Parse(time.RFC3339Nano, at)
		if !ok || err != nil || id.Check(id.User, rest) != nil {
			return nil, problem.New(problem.InvalidRequest, "query.cursor: is not the cursor of an earlier page")
		}
		after, user = t, rest
	}
	all, err := s.life.finished(ctx, after, user, in.Limit)
	if err != nil {
		return nil, err
	}
	out := adminErasures{Data: make([]adminErasure, 0, len(all))}
	for _, e := range all {
		merges, err := s.store.MergesInto(ctx, e.UserID, 10_000)
		if err != nil {
			return nil, err
		}
		var aliases []string
		for _, m := range merges {
			aliases = append(aliases, m.From)
		}
		out.Data = append(out.Data, adminErasure{Aliases: aliases, UserID: e.UserID, State: e.State, RequestedBy: e.RequestedBy, RequestedAt: e.RequestedAt, EraseAt: e.EraseAt, FinishedAt: &e.FinishedAt, Report: e.Report})
	}
	if len(all) == in.Limit {
		last := all[len(all)-1]
		next := last.FinishedAt.Format(time.RFC3339Nano) + " " + last.UserID
		out.Page.Next = &next
	}
	return &adminOutput[adminErasures]{noStore, out}, nil
}

func (s *Service) adminReplay(ctx context.Context, in *adminReplayInput) (*adminOutput[adminReplayed], error) {
	for _, user := range in.Body.Users {
		if id.Check(id.User, user) != nil {
			return nil, invalid("users", "has an entry that is not a user's id")
		}
	}
	again, err := s.replayErasures(ctx, in.Body.Users)
	return &adminOutput[adminReplayed]{noStore, adminReplayed{ErasedAgain: again}}, err
}

// undoErasure lets a user whose erasure waits be as before: a locked one locked.
func (s *Service) undoErasure(ctx context.Context, user string, entry audit.Entry) error {
	e, err := s.life.erasure(ctx, user)
	if err != nil && !errors.Is(err, sqldb.ErrNotFound) {
		return err
	}
	to := UserActive
	if e.Report.Locked {
		to = UserLocked
	}
	c := Change{
		State: []StateChange{{UserID: user, From: UserDeleting, To: to, At: s.now()}},
		Audit: []audit.Entry{entry},
	}
	c.Within = func(ctx context.Context, tx *sqldb.Tx) error {
		undone, err := s.life.undo(ctx, tx, user)
		if err == nil && !undone {
			err = problem.New(problem.AccountDeleted, "the account is being erased; it is too late to undo it").With("recoverable", recoverInstallation)
		}
		return err
	}
	if err := s.withNotice(ctx, &c, user, mail.DeletionUndone, mail.Values{At: s.now()}); err != nil {
		return err
	}
	done, err := s.store.Apply(ctx, c)
	if err == nil && !done {
		u, err := s.store.User(ctx, user)
		if err != nil {
			return err
		}
		if u.State != to { // somebody else has undone it: that is what was wanted
			return problem.New(problem.Conflict, "the user is %s; there is no erasure that waits", u.State)
		}
	}
	return err
}
