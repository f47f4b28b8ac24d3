package identity

import (
	"context"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/id"
	"landline/internal/module"
	"landline/internal/problem"
)

type signOutInput struct {
	Everywhere bool `query:"everywhere" doc:"End all sessions of the user, on every installation."`
}
type profileInput struct{ Body profileWire }
type idInput struct {
	ID string `path:"id" maxLength:"64"`
}

// lifeRoutes are the user's own sessions, profile, export and deletion.
func (s *Service) lifeRoutes(api huma.API) {
	op := func(method, path, id, summary string, status int) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{"identity"}, Security: module.SignedIn,
			DefaultStatus: status, MaxBodyBytes: maxRegister, Errors: []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound, http.StatusServiceUnavailable}}
	}
	signOut := op(http.MethodPost, "/v1/auth/sign-out", "sign-out", "End the session, or all sessions of the user", http.StatusNoContent)
	signOut.Description = "The session ends on every node within a second. The installation stays, and has its anonymous user again, or a new one."
	huma.Register(api, signOut, s.handleSignOut)
	huma.Register(api, op(http.MethodPatch, "/v1/me", "update-me", "Change the own profile", http.StatusOK), s.handleProfile)
	leave := op(http.MethodDelete, "/v1/me", "delete-me", "Delete the own account", http.StatusAccepted)
	leave.Description = "All sessions end at once. An account's data is erased at erase_at; until then signing in with undo_deletion keeps it. An anonymous user's data is erased at once. An account must have signed in within the last five minutes."
	huma.Register(api, leave, s.handleLeave)
	huma.Register(api, op(http.MethodGet, "/v1/me/sessions", "list-sessions", "List where the user is signed in", http.StatusOK), s.handleSessions)
	huma.Register(api, op(http.MethodDelete, "/v1/me/sessions/{id}", "end-session", "End one of the user's sessions", http.StatusNoContent), s.handleEndSession)
	huma.Register(api, op(http.MethodGet, "/v1/me/installations", "list-installations", "List the installations that the user is signed in on", http.StatusOK), s.handleInstallations)
	export := op(http.MethodPost, "/v1/me/export", "export-me", "Ask for a copy of everything that is kept about the user", http.StatusAccepted)
	export.Description = "The copy is put together in the background. While there is a fresh one, it is that one again."
	huma.Register(api, export, s.handleExport)
	huma.Register(api, op(http.MethodGet, "/v1/me/exports/{id}", "get-export", "See how far an export is", http.StatusOK), s.handleGetExport)
}

// lifeHandlers are routes that answer no JSON.
func (s *Service) lifeHandlers() []module.Handler {
	return []module.Handler{{Match: "GET /v1/me/exports/{id}/archive", Auth: module.AuthAnonymous, Serve: s.serveExport, Doc: &huma.Operation{
		Method: http.MethodGet, Path: "/v1/me/exports/{id}/archive", OperationID: "get-export-archive", Tags: []string{"identity"}, Security: module.SignedIn,
		Summary: "Fetch an export", Parameters: []*huma.Param{{Name: "id", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}}},
		Responses: map[string]*huma.Response{"200": {Description: "A ZIP archive: a JSON-lines file for each collection, and manifest.json.",
			Content: map[string]*huma.MediaType{"application/zip": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}}},
	}}}
}

func (s *Service) handleSignOut(ctx context.Context, in *signOutInput) (*emptyOutput, error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	if in.Everywhere {
		return &emptyOutput{CacheControl: noStore}, s.SignOutEverywhere(ctx, p)
	}
	return &emptyOutput{CacheControl: noStore}, s.SignOut(ctx, p)
}

func (s *Service) handleProfile(ctx context.Context, in *profileInput) (*output[profileWire], error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	if in.Body.TimeZone != nil {
		if err := checkTimeZone(*in.Body.TimeZone); err != nil {
			return nil, err
		}
	}
	profile, err := s.setProfile(ctx, p, in.Body)
	return &output[profileWire]{noStore, p.UserID, profile}, err
}

func (s *Service) handleLeave(ctx context.Context, _ *struct{}) (*output[erasureWire], error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	e, err := s.Leave(ctx, p)
	return &output[erasureWire]{noStore, p.UserID, erasureWire{State: e.State, RequestedAt: e.RequestedAt, EraseAt: e.EraseAt}}, err
}

func (s *Service) handleSessions(ctx context.Context, _ *struct{}) (*output[sessionsBody], error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	all, err := s.devices(ctx, p)
	return &output[sessionsBody]{noStore, p.UserID, sessionsBody{Data: all}}, err
}

func (s *Service) handleEndSession(ctx context.Context, in *idInput) (*emptyOutput, error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	if id.Check(id.Session, in.ID) != nil {
		return nil, problem.New(problem.NotFound, "the user has no such session")
	}
	return &emptyOutput{CacheControl: noStore}, s.EndSession(ctx, p, in.ID)
}

func (s *Service) handleInstallations(ctx context.Context, _ *struct{}) (*output[installationsBody], error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	all, err := s.devices(ctx, p)
	if err != nil {
		return nil, err
	}
	body := installationsBody{Data: make([]ownInstallation, 0, len(all))}
	for _, d := range all {
		i, err := s.store.Installation(ctx, d.InstallationID)
		if err != nil {
			return nil, err
		}
		body.Data = append(body.Data, ownInstallation{ID: i.ID, Current: i.ID == p.InstallationID, App: d.App, CreatedAt: i.CreatedAt, SeenAt: i.SeenAt})
	}
	return &output[installationsBody]{noStore, p.UserID, body}, nil
}

func (s *Service) handleExport(ctx context.Context, _ *struct{}) (*output[exportWire], error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	e, err := s.RequestExport(ctx, p)
	return &output[exportWire]{noStore, p.UserID, exportWireOf(e)}, err
}

func (s *Service) handleGetExport(ctx context.Context, in *idInput) (*output[exportWire], error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	e, err := s.ownExport(ctx, p, in.ID)
	return &output[exportWire]{noStore, p.UserID, exportWireOf(e)}, err
}

func exportWireOf(e Export) exportWire {
	w := exportWire{ID: e.ID, State: e.State, RequestedAt: e.RequestedAt, ExpiresAt: e.ExpiresAt, Size: e.Size, SHA256: e.SHA256, Fault: e.Fault}
	if e.State == ExportReady {
		w.FinishedAt, w.Archive = &e.FinishedAt, "/v1/me/exports/"+e.ID+"/archive"
	}
	return w
}

func (s *Service) serveExport(w http.ResponseWriter, r *http.Request) error {
	p, err := principal(r.Context())
	if err != nil {
		return err
	}
	e, err := s.ownExport(r.Context(), p, r.PathValue("id"))
	if err != nil {
		return err
	}
	if e.State != ExportReady {
		why := "the export is not ready yet"
		if e.State == ExportFailed {
			why = "the export has failed: " + e.Fault
		}
		return problem.New(problem.Conflict, "%s", why).With("state", string(e.State))
	}
	s.sendExport(w, r, e)
	return nil
}

// sendExport answers with a ready archive.
func (s *Service) sendExport(w http.ResponseWriter, r *http.Request, e Export) {
	h := w.Header()
	h.Set("Content-Type", "application/zip")
	h.Set("Content-Length", strconv.FormatInt(e.Size, 10))
	h.Set("Content-Disposition", `attachment; filename="`+e.ID+`.zip"`)
	h.Set("Cache-Control", noStore)
	h.Set("X-Content-Type-Options", "nosniff")
	if err := s.readExport(r.Context(), e, w); err != nil {
		s.log.ErrorContext(r.Context(), "an export could not be sent whole", "export", e.ID, "error", err)
		panic(http.ErrAbortHandler) // the status is sent: only a cut connection tells the client
	}
}
