package identity

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/audit"
	"landline/internal/id"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/sqldb"
)

type adminID struct {
	ID string `path:"id" maxLength:"64"`
}

type adminRevokeInput struct {
	ID   string `path:"id" maxLength:"64"`
	Body adminRevokeBody
}

type adminRestoreInput struct{ Body adminRestoreBody }

type adminOutput[T any] struct {
	CacheControl string `header:"Cache-Control"`
	Body         T
}

func (s *Service) adminRoutes(api huma.API) {
	op := func(method, path, name, summary string, role module.Role) huma.Operation {
		return huma.Operation{Method: method, Path: "/admin/v1" + path, OperationID: name, Summary: summary,
			Tags: []string{"identity"}, Metadata: module.Require(role), Errors: []int{http.StatusNotFound, http.StatusServiceUnavailable}}
	}
	huma.Register(api, op(http.MethodGet, "/installations/{id}", "get-installation", "Look up an installation; audited", module.Support), s.adminInstallation)
	huma.Register(api, op(http.MethodGet, "/users/{id}", "get-user", "Look up a user; audited", module.Support), s.adminUser)
	huma.Register(api, op(http.MethodGet, "/sessions/{id}", "get-session", "Look up a session; audited", module.Support), s.adminSession)
	revoke := op(http.MethodPost, "/sessions/{id}/revoke", "revoke-session", "End a session on every node within a second", module.Operator)
	huma.Register(api, revoke, s.adminRevoke)
	restore := op(http.MethodPost, "/identity/restore-window", "declare-restore", "Believe refresh tokens newer than the database for a while, after a backup was restored", module.Owner)
	restore.Description = "Apply the revocations and erasures that are newer than the backup first: until the window ends, a token that is ahead of the database is taken as the session's newest."
	huma.Register(api, restore, s.adminRestore)
	s.peopleRoutes(api, op)
}

func (s *Service) adminInstallation(ctx context.Context, in *adminID) (*adminOutput[adminInstallation], error) {
	if err := checkID(id.Installation, in.ID); err != nil {
		return nil, err
	}
	line, err := s.store.Line(ctx, LineKey{ID: in.ID})
	if err == nil {
		err = s.looked(ctx, "installation.look_up", in.ID)
	}
	if err != nil {
		return nil, adminError(err)
	}
	i := line.Installation
	out := adminInstallation{ID: i.ID, Credential: "secret", Thumbprint: i.Thumbprint, ClonedFrom: i.ClonedFrom, App: appWireOf(i.App),
		CreatedAt: i.CreatedAt, SeenAt: i.SeenAt, AnonymousID: line.Anonymous.ID, Sessions: adminSessions(line.Active)}
	if i.SecretVersion == 0 {
		out.Credential = "key"
	}
	return &adminOutput[adminInstallation]{noStore, out}, nil
}

func (s *Service) adminUser(ctx context.Context, in *adminID) (*adminOutput[adminUser], error) {
	if err := checkID(id.User, in.ID); err != nil {
		return nil, err
	}
	u, err := s.adminUserOf(ctx, in.ID)
	if err == nil {
		err = s.looked(ctx, "user.look_up", in.ID)
	}
	return &adminOutput[adminUser]{noStore, u}, err
}

func (s *Service) adminSession(ctx context.Context, in *adminID) (*adminOutput[adminSession], error) {
	if err := checkID(id.Session, in.ID); err != nil {
		return nil, err
	}
	g, err := s.store.Session(ctx, in.ID)
	if err == nil {
		err = s.looked(ctx, "session.look_up", in.ID)
	}
	if err != nil {
		return nil, adminError(err)
	}
	return &adminOutput[adminSession]{noStore, adminSessionOf(g.Session)}, nil
}

func (s *Service) adminRevoke(ctx context.Context, in *adminRevokeInput) (*adminOutput[adminSession], error) {
	if err := checkID(id.Session, in.ID); err != nil {
		return nil, err
	}
	done, err := s.RevokeSession(ctx, in.ID, in.Body.Reason)
	if err != nil {
		return nil, adminError(err)
	}
	g, err := s.store.Session(ctx, in.ID)
	if err != nil {
		return nil, adminError(err)
	}
	if !done && g.Session.State == SessionExpired {
		return nil, problem.New(problem.Conflict, "the session has expired; there is nothing to end")
	}
	return &adminOutput[adminSession]{noStore, adminSessionOf(g.Session)}, nil
}

func (s *Service) adminRestore(ctx context.Context, in *adminRestoreInput) (*adminOutput[adminRestoreAnswer], error) {
	until, err := s.DeclareRestore(ctx, time.Duration(in.Body.Minutes)*time.Minute, in.Body.Reason)
	return &adminOutput[adminRestoreAnswer]{noStore, adminRestoreAnswer{Until: until}}, err
}

// looked records that an operator looked a person up; without the record there is no answer.
func (s *Service) looked(ctx context.Context, action, target string) error {
	_, err := s.store.Apply(ctx, Change{Audit: []audit.Entry{{Action: action, Target: target}}})
	return err
}

func checkID(prefix, text string) error {
	if id.Check(prefix, text) != nil {
		return problem.New(problem.NotFound, "the id is not one of this kind: it begins with %s_", prefix)
	}
	return nil
}

func adminError(err error) error {
	if errors.Is(err, sqldb.ErrNotFound) {
		return problem.New(problem.NotFound, "")
	}
	return err
}

func adminSessions(all []Grant) []adminSession {
	out := make([]adminSession, 0, len(all))
	for _, g := range all {
		out = append(out, adminSessionOf(g.Session))
	}
	return out
}

func adminSessionOf(s Session) adminSession {
	return adminSession{ID: s.ID, UserID: s.UserID, InstallationID: s.InstallationID, ClientID: s.ClientID, State: s.State, EndReason: s.EndReason,
		Refreshes: s.Current - 1, Recoveries: s.Recoveries, RefreshedAt: s.RotatedAt, CreatedAt: s.CreatedAt,
		IdleExpiresAt: s.IdleExpiresAt, ExpiresAt: s.ExpiresAt}
}
