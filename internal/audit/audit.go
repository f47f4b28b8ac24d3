package audit

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Types of actor.
const (
	TypeOperator     = "operator"     // a person or program with an operator token
	TypeUser         = "user"         // a user of the app
	TypeInstallation = "installation" // an installation without a session
	TypeSystem       = "system"       // Landline itself: a job, a reload, the command line
)

// Bounds on an entry. A longer text is cut, a larger document is replaced by
// its size and digest: an entry never makes the change it records fail.
const (
	MaxDocument = 64 << 10 // bytes of JSON of Before and of After
	maxText     = 255
	maxReason   = 1000
)

// Actor is who does something.
type Actor struct {
	Type string // one of the Type constants
	ID   string // opr_…, usr_…, ins_…; "" for the system
	IP   string // address the request came from, "" when none
}

type actorKey struct{}

// actorContext is a context with an actor, in one piece of memory: every request
// to a module has one.
type actorContext struct {
	context.Context //nolint:containedctx // it is one

	actor Actor
}

// Value gives the actorContext itself for its key.
func (c *actorContext) Value(key any) any {
	if _, ours := key.(actorKey); ours {
		return c
	}
	return c.Context.Value(key)
}

// WithActor returns a context that carries a.
func WithActor(ctx context.Context, a Actor) context.Context {
	return &actorContext{ctx, a}
}

// ActorFrom returns the actor that ctx carries, or the system when it carries none.
func ActorFrom(ctx context.Context) Actor {
	if c, ok := ctx.Value(actorKey{}).(*actorContext); ok {
		return c.actor
	}
	return Actor{Type: TypeSystem}
}

// Entry is what a caller records.
type Entry struct {
	Actor     Actor  // zero = ActorFrom(ctx)
	Action    string // "session.revoke": lower-case words joined by dots
	Target    string // id of what was changed; "" when there is no single one
	Reason    string // why, in the actor's words
	Before    any    // the thing before the change as JSON, nil when it was made; no secrets
	After     any    // the thing after the change as JSON, nil when it was removed
	RequestID string // "" = the trace id of ctx
}

// Row is an entry as stored.
type Row struct {
	Seq       int64
	At        time.Time
	Actor     Actor
	Action    string
	Target    string
	Reason    string
	RequestID string
	Before    []byte // JSON, nil when none
	After     []byte
	Salt      []byte // 16 random bytes in front of the digest of the documents
	LeafHash  []byte // RFC 6962 leaf hash of the canonical bytes
}

// Filter selects rows; zero fields select all.
type Filter struct {
	ActorID string
	Action  string // prefix: "session." selects every action on sessions
	Target  string
	From    time.Time // at or after
	Until   time.Time // before
	Limit   int       // rows per page, 1–200; 0 = 50
	Cursor  string    // the next of the page before
}

var actionForm = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$`)

func (e Entry) check() error {
	if !actionForm.MatchString(e.Action) || len(e.Action) > maxText {
		return fmt.Errorf("audit: action %q must be lower-case words joined by dots, for example session.revoke", e.Action)
	}
	switch e.Actor.Type {
	case TypeOperator, TypeUser, TypeInstallation:
		if e.Actor.ID == "" {
			return fmt.Errorf("audit: %s: an actor of type %s needs an id", e.Action, e.Actor.Type)
		}
	case TypeSystem:
	default:
		return fmt.Errorf("audit: %s: there is no actor type %q", e.Action, e.Actor.Type)
	}
	return nil
}

// text makes s storable on both engines: valid UTF-8, no NUL, at most n bytes.
func text(s string, n int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "�"), "\x00", "")
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n-len("…")], "") + "…"
	}
	return s
}
