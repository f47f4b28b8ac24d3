package admin

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/audit"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/queue"
	"landline/internal/rest"
	"landline/internal/sqldb"
)

// reasonInput is the body of a change that takes nothing but a reason.
type reasonInput struct {
	Reason string `json:"reason,omitempty" maxLength:"1000" doc:"Why, for the audit log."`
}

// text is the reason; a body left out gives none.
func (r *reasonInput) text() string {
	if r == nil {
		return ""
	}
	return r.Reason
}

type jobsInput struct {
	State string `query:"state" enum:"available,scheduled,running,retryable,completed,cancelled,dead"`
	Kind  string `query:"kind" maxLength:"128"`
	Lane  string `query:"lane" maxLength:"128"`
	rest.PageInput
}

type jobInput struct {
	ID int64 `path:"id" minimum:"1"`
}

type jobChange struct {
	ID   int64        `path:"id" minimum:"1"`
	Body *reasonInput // may be left out
}

func (s *Server) registerJobs() {
	huma.Register(s.api, operation(http.MethodGet, "/jobs", "list-jobs", "jobs", "Jobs, newest first", module.Viewer), s.listJobs)
	huma.Register(s.api, operation(http.MethodGet, "/jobs/{id}", "get-job", "jobs", "One job with its failures", module.Viewer), s.getJob)
	huma.Register(s.api, operation(http.MethodPost, "/jobs/{id}/retry", "retry-job", "jobs", "Make a finished job run again", module.Operator),
		func(ctx context.Context, in *jobChange) (*body[Job], error) {
			return s.changeJob(ctx, in, "job.retry", s.o.Queue.Retry)
		})
	huma.Register(s.api, operation(http.MethodPost, "/jobs/{id}/cancel", "cancel-job", "jobs", "Stop a job that has not finished", module.Operator),
		func(ctx context.Context, in *jobChange) (*body[Job], error) {
			return s.changeJob(ctx, in, "job.cancel", s.o.Queue.Cancel)
		})
}

func (s *Server) listJobs(ctx context.Context, in *jobsInput) (*body[rest.List[Job]], error) {
	rows, next, err := s.o.Queue.List(ctx, queue.Filter{State: queue.State(in.State), Kind: in.Kind, Lane: in.Lane, Limit: in.Limit, Cursor: in.Cursor})
	if err != nil {
		return nil, err
	}
	jobs := make([]Job, len(rows))
	for i, r := range rows {
		jobs[i] = newJob(r, false)
	}
	return &body[rest.List[Job]]{rest.NewList(jobs, next)}, nil
}

func (s *Server) getJob(ctx context.Context, in *jobInput) (*body[Job], error) {
	row, err := s.o.Queue.Get(ctx, in.ID)
	if err != nil {
		return nil, notFound(err, "job")
	}
	op, _ := OperatorFrom(ctx)
	return &body[Job]{newJob(row, op.Role.Allows(module.Support))}, nil
}

// jobState is what the audit log keeps of a job.
type jobState struct {
	Kind    string `json:"kind"`
	State   string `json:"state"`
	Attempt int    `json:"attempt"`
}

func (s *Server) changeJob(ctx context.Context, in *jobChange, action string, change func(context.Context, *sqldb.Tx, int64) error) (*body[Job], error) {
	before, err := s.o.Queue.Get(ctx, in.ID)
	if err != nil {
		return nil, notFound(err, "job")
	}
	err = s.o.DB.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := change(ctx, tx, in.ID); err != nil {
			return err
		}
		return s.o.Audit.Record(ctx, tx, audit.Entry{
			Action: action, Target: "job:" + strconv.FormatInt(in.ID, 10), Reason: in.Body.text(),
			Before: jobState{before.Kind, string(before.State), before.Attempt},
		})
	})
	if errors.Is(err, sqldb.ErrConflict) && !errors.As(err, new(*problem.Error)) {
		return nil, problem.New(problem.Conflict, "the job is %s, which does not allow it", before.State).Wrap(err)
	}
	if err != nil {
		return nil, notFound(err, "job")
	}
	after, err := s.o.Queue.Get(ctx, in.ID)
	if err != nil {
		return nil, notFound(err, "job")
	}
	return &body[Job]{newJob(after, false)}, nil
}
