package admin

import (
	"encoding/json"
	"time"

	"landline/internal/audit"
	"landline/internal/module"
	"landline/internal/observe"
	"landline/internal/queue"
)

// Status is the answer of GET /admin/v1/status.
type Status struct {
	Version   string               `json:"version" doc:"Of the binary."`
	GoVersion string               `json:"go_version"`
	Profile   string               `json:"profile" enum:"development,production"`
	Engine    string               `json:"engine" enum:"sqlite,postgres"`
	StartedAt time.Time            `json:"started_at"`
	Uptime    int64                `json:"uptime" doc:"Seconds since the start."`
	Pending   int                  `json:"pending" doc:"Migrations that have not run."`
	Health    observe.HealthReport `json:"health"`
}

// ValidateAnswer is the answer of POST /admin/v1/config/validate for a valid file.
type ValidateAnswer struct {
	Valid bool `json:"valid"`
}

// Job is a job of the queue.
type Job struct {
	ID          int64           `json:"id"`
	Kind        string          `json:"kind"`
	Lane        string          `json:"lane"`
	State       string          `json:"state" enum:"available,scheduled,running,retryable,completed,cancelled,dead"`
	Priority    int             `json:"priority" doc:"1 (first) to 4 (last) within the lane."`
	Attempt     int             `json:"attempt" doc:"Attempts made."`
	MaxAttempts int             `json:"max_attempts"`
	Args        json.RawMessage `json:"args,omitempty" doc:"Arguments, secrets redacted; for role support and above, of a single job."`
	Failures    []queue.Failure `json:"failures" doc:"Failed attempts." nullable:"false"`
	CreatedAt   time.Time       `json:"created_at"`
	ScheduledAt time.Time       `json:"scheduled_at"`
	AttemptedAt *time.Time      `json:"attempted_at,omitempty"`
	FinishedAt  *time.Time      `json:"finished_at,omitempty"`
}

func newJob(r queue.Row, args bool) Job {
	j := Job{
		ID: r.ID, Kind: r.Kind, Lane: r.Lane, State: string(r.State), Priority: r.Priority, Attempt: r.Attempt, MaxAttempts: r.MaxAttempts,
		Failures: r.Failures, CreatedAt: r.CreatedAt, ScheduledAt: r.ScheduledAt, AttemptedAt: r.AttemptedAt, FinishedAt: r.FinishedAt,
	}
	if j.Failures == nil {
		j.Failures = []queue.Failure{}
	}
	if args {
		j.Args = audit.Redact([]byte(r.Args))
	}
	return j
}

// AuditEntry is an entry of the audit log.
type AuditEntry struct {
	Seq       int64           `json:"seq" doc:"1, 2, 3… in the order of commits, without gaps."`
	At        time.Time       `json:"at"`
	Actor     AuditActor      `json:"actor"`
	Action    string          `json:"action" example:"session.revoke"`
	Target    string          `json:"target,omitempty"`
	Reason    string          `json:"reason,omitempty"`
	RequestID string          `json:"request_id,omitempty" doc:"Trace id of the request."`
	Before    json.RawMessage `json:"before,omitempty" doc:"The thing before the change, secrets redacted."`
	After     json.RawMessage `json:"after,omitempty" doc:"The thing after the change, secrets redacted."`
	LeafHash  []byte          `json:"leaf_hash" doc:"RFC 6962 leaf hash of the entry's canonical bytes, base64."`
}

// AuditActor is who did something.
type AuditActor struct {
	Type string `json:"type" enum:"operator,user,installation,system"`
	ID   string `json:"id,omitempty"`
	IP   string `json:"ip,omitempty"`
}

func newAuditEntry(r audit.Row) AuditEntry {
	return AuditEntry{
		Seq: r.Seq, At: r.At, Actor: AuditActor{r.Actor.Type, r.Actor.ID, r.Actor.IP}, Action: r.Action, Target: r.Target,
		Reason: r.Reason, RequestID: r.RequestID, Before: r.Before, After: r.After, LeafHash: r.LeafHash,
	}
}

// OperatorView is an operator on the wire.
type OperatorView struct {
	ID         string      `json:"id" example:"opr_01h455vb4pex5vsknk084sn02q"`
	Name       string      `json:"name"`
	Role       module.Role `json:"role" enum:"viewer,support,operator,owner"`
	CreatedAt  time.Time   `json:"created_at"`
	RotatedAt  time.Time   `json:"rotated_at" doc:"When the present token was made."`
	LastUsedAt *time.Time  `json:"last_used_at,omitempty" doc:"Within five minutes; absent when never."`
	DisabledAt *time.Time  `json:"disabled_at,omitempty" doc:"When the operator was removed."`
}

func newOperatorView(o Operator) OperatorView {
	v := OperatorView{ID: o.ID, Name: o.Name, Role: o.Role, CreatedAt: o.CreatedAt, RotatedAt: o.RotatedAt}
	if !o.LastUsedAt.IsZero() {
		v.LastUsedAt = &o.LastUsedAt
	}
	if !o.DisabledAt.IsZero() {
		v.DisabledAt = &o.DisabledAt
	}
	return v
}

// OperatorToken is an operator with a token just made.
type OperatorToken struct {
	Operator OperatorView `json:"operator"`
	Token    string       `json:"token" doc:"Shown this once. Keep it like a password."`
}
