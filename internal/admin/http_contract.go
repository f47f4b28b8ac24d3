package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/module"
	"landline/internal/rest"
)

// registerContracts shows what the gateway has learned of contracts and screens.
func (s *Server) registerContracts() {
	if s.o.Violations != nil {
		op := operation(http.MethodGet, "/contract-violations", "list-contract-violations", "status",
			"Differences between features and their OpenAPI documents that this node has met", module.Viewer)
		op.Description = "Counted since the node's start by feature, API version, direction and place, the most frequent first, at most 1000. Each shows the first of its kind by types and sizes; values of requests and answers are never kept."
		huma.Register(s.api, op, func(_ context.Context, in *struct {
			Feature string `query:"feature" maxLength:"63" doc:"Only those of this feature."`
		}) (*body[rest.List[module.ContractViolation]], error) {
			return &body[rest.List[module.ContractViolation]]{rest.NewList(s.o.Violations(in.Feature), "")}, nil
		})
	}
	if s.o.Screens != nil {
		huma.Register(s.api, operation(http.MethodGet, "/screens", "list-screens", "status", "Screens of the app, the features that each needs, and how they are doing on this node", module.Viewer),
			func(context.Context, *struct{}) (*body[rest.List[module.Screen]], error) {
				return &body[rest.List[module.Screen]]{rest.NewList(s.o.Screens(), "")}, nil
			})
	}
}
