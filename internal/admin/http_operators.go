package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/module"
	"landline/internal/rest"
)

type operatorAdd struct {
	Body struct {
		Name   string      `json:"name" minLength:"1" maxLength:"64" pattern:"^[a-z0-9][a-z0-9._@+-]*$" doc:"Unique among operators."`
		Role   module.Role `json:"role" enum:"viewer,support,operator,owner"`
		Reason string      `json:"reason,omitempty" maxLength:"1000" doc:"Why, for the audit log."`
	}
}

type operatorPatch struct {
	ID   string `path:"id" maxLength:"64"`
	Body struct {
		Role   module.Role `json:"role" enum:"viewer,support,operator,owner"`
		Reason string      `json:"reason,omitempty" maxLength:"1000" doc:"Why, for the audit log."`
	}
}

type operatorRemove struct {
	ID     string `path:"id" maxLength:"64"`
	Reason string `query:"reason" maxLength:"1000" doc:"Why, for the audit log."`
}

type operatorRotate struct {
	ID   string       `path:"id" maxLength:"64"`
	Body *reasonInput // may be left out
}

func (s *Server) registerOperators() {
	huma.Register(s.api, operation(http.MethodGet, "/operators", "list-operators", "operators", "Operators, removed ones too", module.Owner),
		func(ctx context.Context, in *struct{ rest.PageInput }) (*body[rest.List[OperatorView]], error) {
			ops, next, err := s.operators.List(ctx, in.Limit, in.Cursor)
			if err != nil {
				return nil, err
			}
			views := make([]OperatorView, len(ops))
			for i, op := range ops {
				views[i] = newOperatorView(op)
			}
			return &body[rest.List[OperatorView]]{rest.NewList(views, next)}, nil
		})
	huma.Register(s.api, operation(http.MethodGet, "/operators/me", "get-own-operator", "operators", "Whose token this is", module.Viewer),
		func(ctx context.Context, _ *struct{}) (*body[OperatorView], error) {
			op, _ := OperatorFrom(ctx)
			return &body[OperatorView]{newOperatorView(op)}, nil
		})

	add := operation(http.MethodPost, "/operators", "add-operator", "operators", "Add an operator; answers its token, once", module.Owner)
	add.DefaultStatus = http.StatusCreated
	huma.Register(s.api, add, func(ctx context.Context, in *operatorAdd) (*body[OperatorToken], error) {
		op, token, err := s.operators.Add(ctx, in.Body.Name, in.Body.Role, in.Body.Reason)
		if err != nil {
			return nil, err
		}
		return &body[OperatorToken]{OperatorToken{newOperatorView(op), token}}, nil
	})
	huma.Register(s.api, operation(http.MethodPatch, "/operators/{id}", "set-operator-role", "operators", "Change an operator's role", module.Owner),
		func(ctx context.Context, in *operatorPatch) (*body[OperatorView], error) {
			op, err := s.operators.SetRole(ctx, in.ID, in.Body.Role, in.Body.Reason)
			if err != nil {
				return nil, err
			}
			return &body[OperatorView]{newOperatorView(op)}, nil
		})
	huma.Register(s.api, operation(http.MethodDelete, "/operators/{id}", "remove-operator", "operators", "Shut an operator out at once", module.Owner),
		func(ctx context.Context, in *operatorRemove) (*struct{}, error) {
			return nil, s.operators.Remove(ctx, in.ID, in.Reason)
		})
	huma.Register(s.api, operation(http.MethodPost, "/operators/{id}/rotate", "rotate-operator-token", "operators", "Give an operator a new token; the old one ends at once", module.Owner),
		func(ctx context.Context, in *operatorRotate) (*body[OperatorToken], error) {
			op, token, err := s.operators.RotateToken(ctx, in.ID, in.Body.text())
			if err != nil {
				return nil, err
			}
			return &body[OperatorToken]{OperatorToken{newOperatorView(op), token}}, nil
		})
}
