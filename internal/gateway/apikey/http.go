package apikey

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/limit"
	"landline/internal/module"
	"landline/internal/rest"
)

// RateWire is a key's own rate on the wire.
type RateWire struct {
	Limit  int `json:"limit" minimum:"1" maximum:"1000000" doc:"Requests per window in the long run."`
	Window int `json:"window" minimum:"1" maximum:"2678400" doc:"Seconds."`
	Burst  int `json:"burst,omitempty" minimum:"0" maximum:"1000000" doc:"Requests at once. Default: limit."`
}

// Wire is a key as the admin API shows it.
type Wire struct {
	ID        string     `json:"id" example:"apk_01h455vb4pex5vsknk084sn02q"`
	Name      string     `json:"name"`
	RateLimit *RateWire  `json:"rate_limit,omitempty" doc:"In place of the rate of every limit by api_key; absent: as the features say."`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	EndedAt   *time.Time `json:"ended_at,omitempty" doc:"When the key was shut out."`
}

func wireOf(k *Key) Wire {
	w := Wire{ID: k.ID, Name: k.Name, CreatedAt: k.CreatedAt}
	if r := k.Rate; r != nil {
		w.RateLimit = &RateWire{Limit: r.Limit, Window: int(r.Window / time.Second), Burst: r.Burst}
	}
	if !k.ExpiresAt.IsZero() {
		w.ExpiresAt = &k.ExpiresAt
	}
	if !k.DisabledAt.IsZero() {
		w.EndedAt = &k.DisabledAt
	}
	return w
}

// Made is a key with the secret just made.
type Made struct {
	Key   Wire   `json:"key"`
	Token string `json:"token" doc:"Shown this once. Keep it like a password."`
}

type makeInput struct {
	Body struct {
		Name      string     `json:"name" minLength:"1" maxLength:"64" pattern:"^[a-z0-9][a-z0-9._@+-]*$" doc:"Unique among live keys."`
		RateLimit *RateWire  `json:"rate_limit,omitempty" doc:"In place of the rate of every limit by api_key."`
		ExpiresAt *time.Time `json:"expires_at,omitempty" doc:"Default: never."`
		Reason    string     `json:"reason,omitempty" maxLength:"1000" doc:"Why, for the audit log."`
	}
}

type endInput struct {
	ID     string `path:"id" maxLength:"64"`
	Reason string `query:"reason" maxLength:"1000" doc:"Why, for the audit log."`
}

type answer[T any] struct{ Body T }

// Admin registers the operators' API.
func (k *Keys) Admin(api huma.API) {
	op := func(method, path, id, summary string, role module.Role, status int) huma.Operation {
		return huma.Operation{
			Method: method, Path: "/admin/v1/api-keys" + path, OperationID: id, Tags: []string{"api-keys"}, Summary: summary,
			Metadata: module.Require(role), RejectUnknownQueryParameters: true, DefaultStatus: status,
		}
	}
	huma.Register(api, op(http.MethodGet, "", "list-api-keys", "API keys, ended ones too", module.Viewer, http.StatusOK),
		func(ctx context.Context, in *struct{ rest.PageInput }) (*answer[rest.List[Wire]], error) {
			keys, next, err := k.List(ctx, in.Limit, in.Cursor)
			if err != nil {
				return nil, err
			}
			list := make([]Wire, len(keys))
			for i, key := range keys {
				list[i] = wireOf(key)
			}
			return &answer[rest.List[Wire]]{rest.NewList(list, next)}, nil
		})
	huma.Register(api, op(http.MethodPost, "", "make-api-key", "Make an API key; answers its secret, once", module.Owner, http.StatusCreated),
		func(ctx context.Context, in *makeInput) (*answer[Made], error) {
			n := New{Name: in.Body.Name, Reason: in.Body.Reason}
			if r := in.Body.RateLimit; r != nil {
				n.Rate = &limit.Rate{Limit: r.Limit, Window: time.Duration(r.Window) * time.Second, Burst: r.Burst}
			}
			if in.Body.ExpiresAt != nil {
				n.ExpiresAt = in.Body.ExpiresAt.UTC()
			}
			key, token, err := k.Make(ctx, n)
			if err != nil {
				return nil, err
			}
			return &answer[Made]{Made{wireOf(key), token}}, nil
		})
	huma.Register(api, op(http.MethodDelete, "/{id}", "end-api-key", "Shut an API key out, on every node within seconds", module.Owner, http.StatusNoContent),
		func(ctx context.Context, in *endInput) (*struct{}, error) {
			return nil, k.End(ctx, in.ID, in.Reason)
		})
}
