package maintenance

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/rest"
	"landline/internal/sqldb"
)

// MaintenanceSwitch is a switch as the admin API shows it.
type MaintenanceSwitch struct {
	Feature    string     `json:"feature,omitempty" doc:"Absent: the whole app."`
	Active     bool       `json:"active" doc:"Whether it holds now: from has come and until has not."`
	Title      string     `json:"title,omitempty"`
	Message    string     `json:"message,omitempty"`
	From       *time.Time `json:"from,omitempty"`
	Until      *time.Time `json:"until,omitempty"`
	RetryAfter int        `json:"retry_after,omitempty" doc:"Seconds."`
	Allow      []string   `json:"allow,omitempty" doc:"Features that stay reachable."`
	SetAt      time.Time  `json:"set_at"`
}

func wireOf(s Switch, now time.Time) MaintenanceSwitch {
	w := MaintenanceSwitch{
		Feature: s.Feature, Active: s.Notice.Active(now), Title: s.Notice.Title, Message: s.Notice.Message,
		RetryAfter: int(s.Notice.RetryAfter / time.Second), Allow: s.Notice.Allow, SetAt: s.SetAt,
	}
	if !s.Notice.From.IsZero() {
		w.From = &s.Notice.From
	}
	if !s.Notice.Until.IsZero() {
		w.Until = &s.Notice.Until
	}
	return w
}

// MaintenanceNotice is what an operator says of a maintenance.
type MaintenanceNotice struct {
	Title      string     `json:"title,omitempty" maxLength:"200" doc:"Headline for the app's user. Default: Maintenance."`
	Message    string     `json:"message,omitempty" maxLength:"2000" doc:"What the app shows its user."`
	From       *time.Time `json:"from,omitempty" doc:"When it begins. Default: now."`
	Until      *time.Time `json:"until,omitempty" doc:"When it ends by itself. Default: when it is switched off."`
	RetryAfter int        `json:"retry_after,omitempty" minimum:"0" maximum:"86400" doc:"Seconds after which apps look again. Default: until the end, or 60."`
	Reason     string     `json:"reason,omitempty" maxLength:"1000" doc:"Why, for the audit log."`
}

type setApp struct {
	Body struct {
		MaintenanceNotice
		Allow []string `json:"allow,omitempty" maxItems:"1000" doc:"Features that stay reachable, besides sign-in and tokens."`
	}
}

type setFeature struct {
	Feature string `path:"feature" maxLength:"63"`
	Body    MaintenanceNotice
}

type clearApp struct {
	Reason string `query:"reason" maxLength:"1000" doc:"Why, for the audit log."`
}

type clearFeature struct {
	Feature string `path:"feature" maxLength:"63"`
	Reason  string `query:"reason" maxLength:"1000" doc:"Why, for the audit log."`
}

type answer[T any] struct{ Body T }

// Admin registers the operators' API.
func (b *Board) Admin(api huma.API) {
	op := func(method, path, id, summary string, role module.Role, status int) huma.Operation {
		return huma.Operation{
			Method: method, Path: "/admin/v1/maintenance" + path, OperationID: id, Tags: []string{"maintenance"}, Summary: summary,
			Metadata: module.Require(role), RejectUnknownQueryParameters: true, DefaultStatus: status,
		}
	}
	huma.Register(api, op(http.MethodGet, "", "list-maintenance", "Maintenance switches that are set", module.Viewer, http.StatusOK),
		func(context.Context, *struct{}) (*answer[rest.List[MaintenanceSwitch]], error) {
			list := []MaintenanceSwitch{}
			for _, s := range b.Switches() {
				list = append(list, wireOf(s, b.o.Clock.Now()))
			}
			return &answer[rest.List[MaintenanceSwitch]]{rest.NewList(list, "")}, nil
		})
	set := op(http.MethodPut, "", "set-maintenance", "Put the whole app under maintenance", module.Operator, http.StatusOK)
	set.Description = "Every feature answers 503 maintenance, but sign-in, tokens and those that allow names. Holds on all nodes within a second and over restarts."
	huma.Register(api, set, func(ctx context.Context, in *setApp) (*answer[MaintenanceSwitch], error) {
		return b.set(ctx, "", in.Body.MaintenanceNotice, in.Body.Allow)
	})
	huma.Register(api, op(http.MethodDelete, "", "clear-maintenance", "End the maintenance of the whole app", module.Operator, http.StatusNoContent),
		func(ctx context.Context, in *clearApp) (*struct{}, error) { return nil, b.clear(ctx, "", in.Reason) })
	huma.Register(api, op(http.MethodPut, "/{feature}", "set-feature-maintenance", "Put one feature under maintenance", module.Operator, http.StatusOK),
		func(ctx context.Context, in *setFeature) (*answer[MaintenanceSwitch], error) {
			return b.set(ctx, in.Feature, in.Body, nil)
		})
	huma.Register(api, op(http.MethodDelete, "/{feature}", "clear-feature-maintenance", "End the maintenance of one feature", module.Operator, http.StatusNoContent),
		func(ctx context.Context, in *clearFeature) (*struct{}, error) {
			return nil, b.clear(ctx, in.Feature, in.Reason)
		})
}

func (b *Board) set(ctx context.Context, feature string, in MaintenanceNotice, allow []string) (*answer[MaintenanceSwitch], error) {
	known := b.o.Features()
	for _, name := range append(slices.Clone(allow), feature) {
		if name != "" && !slices.Contains(known, name) {
			return nil, problem.New(problem.NotFound, "there is no feature of that name; GET /admin/v1/features lists them")
		}
	}
	n := Notice{Title: strings.TrimSpace(in.Title), Message: strings.TrimSpace(in.Message), RetryAfter: time.Duration(in.RetryAfter) * time.Second, Allow: allow}
	if in.From != nil {
		n.From = in.From.UTC()
	}
	if in.Until != nil {
		n.Until = in.Until.UTC()
		if !n.Until.After(b.o.Clock.Now()) || !n.Until.After(n.From) {
			return nil, problem.New(problem.InvalidRequest, "until: must be in the future and after from")
		}
	}
	sw, err := b.Set(ctx, feature, n, in.Reason)
	if err != nil {
		return nil, err
	}
	return &answer[MaintenanceSwitch]{wireOf(sw, b.o.Clock.Now())}, nil
}

func (b *Board) clear(ctx context.Context, feature, reason string) error {
	err := b.Clear(ctx, feature, reason)
	if errors.Is(err, sqldb.ErrNotFound) {
		return problem.New(problem.NotFound, "no maintenance is switched on there; one of the configuration ends with the configuration")
	}
	return err
}
