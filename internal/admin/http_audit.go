package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/audit"
	"landline/internal/module"
	"landline/internal/rest"
)

type auditInput struct {
	Actor  string    `query:"actor" maxLength:"255" doc:"Id of who did it."`
	Action string    `query:"action" maxLength:"255" doc:"Prefix of the action: session. gives everything done to sessions."`
	Target string    `query:"target" maxLength:"255" doc:"Id of what was changed."`
	From   time.Time `query:"from" doc:"At or after, RFC 3339."`
	Until  time.Time `query:"until" doc:"Before, RFC 3339."`
	rest.PageInput
}

func (s *Server) registerAudit() {
	op := operation(http.MethodGet, "/audit", "list-audit", "audit", "Who changed what, newest first", module.Support)
	huma.Register(s.api, op, func(ctx context.Context, in *auditInput) (*body[rest.List[AuditEntry]], error) {
		rows, next, err := s.o.Audit.List(ctx, audit.Filter{
			ActorID: in.Actor, Action: in.Action, Target: in.Target, From: in.From, Until: in.Until, Limit: in.Limit, Cursor: in.Cursor,
		})
		if err != nil {
			return nil, err
		}
		entries := make([]AuditEntry, len(rows))
		for i, r := range rows {
			entries[i] = newAuditEntry(r)
		}
		return &body[rest.List[AuditEntry]]{rest.NewList(entries, next)}, nil
	})
}
