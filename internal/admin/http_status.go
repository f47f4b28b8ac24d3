package admin

import (
	"context"
	"net/http"
	"runtime"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/module"
	"landline/internal/rest"
)

type body[T any] struct{ Body T }

func (s *Server) registerStatus() {
	huma.Register(s.api, operation(http.MethodGet, "/status", "get-status", "status", "How this node is doing", module.Viewer), s.status)
	huma.Register(s.api, operation(http.MethodGet, "/features", "list-features", "status", "Features and their state on this node", module.Viewer),
		func(context.Context, *struct{}) (*body[rest.List[FeatureStatus]], error) {
			return &body[rest.List[FeatureStatus]]{rest.NewList(s.o.Features(), "")}, nil
		})
	huma.Register(s.api, operation(http.MethodGet, "/upstreams", "list-upstreams", "status", "Upstreams and their targets as this node sees them", module.Viewer),
		func(context.Context, *struct{}) (*body[rest.List[UpstreamStatus]], error) {
			return &body[rest.List[UpstreamStatus]]{rest.NewList(s.o.Upstreams(), "")}, nil
		})
}

func (s *Server) status(ctx context.Context, _ *struct{}) (*body[Status], error) {
	profile := "production"
	if s.o.Development {
		profile = "development"
	}
	pending := 0
	if s.o.Pending != nil {
		var err error
		if pending, err = s.o.Pending(ctx); err != nil {
			return nil, err
		}
	}
	return &body[Status]{Status{
		Version: s.o.Version, GoVersion: runtime.Version(), Profile: profile, Engine: s.o.DB.Engine(),
		StartedAt: s.started, Uptime: int64(s.o.Clock.Now().Sub(s.started).Seconds()), Pending: pending, Health: s.o.Health.Report(ctx),
	}}, nil
}
