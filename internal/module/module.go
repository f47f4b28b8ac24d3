// Package module says what a capability of Landline is made of, so that the
// gateway, the admin listener and the lifecycle can carry it without knowing it.
//
// A capability exports one constructor, Capability, and app lists it in
// modules.go; deleting the folder and that line removes the capability.
// Capabilities never import one another: news travels on bus, work in queue.
package module

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/audit"
	"landline/internal/bus"
	"landline/internal/clock"
	"landline/internal/config"
	"landline/internal/kv"
	"landline/internal/limit"
	"landline/internal/mail"
	"landline/internal/queue"
	"landline/internal/secret"
	"landline/internal/sqldb"
	"landline/internal/webhook"
)

// Capability is one line of app/modules.go: what must be known before the
// configuration is read, and how to build the rest after.
type Capability struct {
	Name       string           // folder name, e.g. "identity"
	Sections   []config.Section // its keys of landline.yaml, pointing at its own config struct
	Migrations sqldb.Migrations // zero when it stores nothing
	Queries    []sqldb.Queries  // every statement, prepared on both engines by a test
	Build      func(Deps) (*Module, error)

	// Restored is called when a backup takes the place of the database, before
	// anything is served; nil when there is nothing to carry over.
	Restored func(context.Context, Restored) (Carried, error)
}

// Restored is a database that is about to be put in place of another one.
type Restored struct {
	DB     *sqldb.DB // the backup, its schema up to date
	Audit  *audit.Log
	Window time.Duration // how long what apps have may be newer than the database
	Reason string        // for the audit log

	// Replaced is the database that goes, nil when it cannot be opened. What it says
	// of things that ended must be carried over; reading it may fail, since it may be damaged.
	Replaced *sqldb.DB
}

// Carried is what a capability took over from the replaced database.
type Carried struct {
	Ended int       // things that ended after the backup was made, and have been ended again
	Until time.Time // end of the window that was opened; zero when none was
	Fault error     // why the replaced database could not be read to its end; nil when it could
}

// Deps is what the kernel hands to Build. Nothing in it is nil.
type Deps struct {
	App         App
	Development bool // profile: development
	DataDir     string
	DB          *sqldb.DB
	KV          kv.Store
	Bus         bus.Bus
	Queue       *queue.Queue
	Keys        *secret.Ring
	Audit       *audit.Log
	People      *People     // register in Build what becomes of a user's rows
	Mail        mail.Sender // nil where no server is configured in production
	Templates   *mail.Templates
	Limits      *limit.Shared
	Webhooks    *webhook.Hub // events for the team's own services
	Clock       clock.Clock
	Log         *slog.Logger
	Metrics     prometheus.Registerer
}

// App is the product that this Landline serves.
type App struct {
	ID        string // bundle id style, e.g. com.example.flights
	Name      string
	PublicURL string // issuer and base of absolute URLs, without a trailing slash
}

// Module is a built capability.
type Module struct {
	Features []Feature                       // its public routes, each behind the same policy as any feature
	Admin    func(a huma.API)                // its admin API; operations carry a Role in Metadata (see Require)
	Start    func(ctx context.Context) error // begins background work; nil = none. It returns once running; ctx ends at Stop
	Stop     func(ctx context.Context) error // ends it; nil = none

	Authenticator Authenticator // set by the one capability that verifies access tokens
}

// Feature is a built-in feature: the unit of policy, metrics and status.
type Feature struct {
	Name     string
	Owner    string
	Timeout  time.Duration    // 0 = the gateway's default
	Limits   []Limit          // unless the configuration has a rate_limit for the feature
	MaxBody  int64            // bytes of a request body; 0 = the gateway's default
	Keys     *Keys            // how its writes honour Idempotency-Key, unless the configuration says; nil: not, but on Write handlers
	Priority Priority         // when the node is overloaded, what goes first
	Routes   func(a huma.API) // registers operations; Operation.Security decides the Auth (see Public, SignedIn, Account)
	Handlers []Handler        // routes that are no JSON operations (OAuth, streams)
}

// Handler is a route whose body format another standard fixes. It has one of
// Handler, Serve and Write.
type Handler struct {
	Match   string // "POST /oauth/token"
	Auth    Auth
	Handler http.Handler
	Doc     *huma.Operation // its place in the OpenAPI document; nil = none

	// Serve either answers and returns nil, or writes nothing and returns an
	// error, which the gateway answers as a problem.
	Serve func(w http.ResponseWriter, r *http.Request) error

	// Write answers a request with writes in tx, which the gateway commits
	// together with the request's idempotency key and answer. An error undoes
	// them, and so does an answer that asks for a repetition (5xx, 401, 408, 425,
	// 429). It may be called more than once for a request, of which one counts:
	// what it does besides tx must not matter. w holds the answer back until the
	// commit.
	Write func(ctx context.Context, tx *sqldb.Tx, w http.ResponseWriter, r *http.Request) error
}

// Keys is how a feature's writes honour Idempotency-Key.
type Keys struct {
	Required bool          // POST and PATCH without a key are refused
	Keep     time.Duration // how long a key is remembered; 0 = the gateway's default
}

// Limit is a rate limit that a built-in feature has by default.
type Limit struct {
	Key   string // installation, user, address, api_key or feature
	Rate  limit.Rate
	Alone bool // counted on each node alone
}

// Priority decides who is turned away first when a node is overloaded.
type Priority int

// Priorities, lowest first.
const (
	Telemetry   Priority = iota - 2 // what the app measures: missed by nobody for a minute
	Background                      // what the app does by itself, such as sync
	Interactive                     // what a person waits for
	Critical                        // sign-in, refresh, kill switches
)

// Auth is how much a caller must have proven.
type Auth string

// A route's Auth. A bad Authorization header is 401 on every one of them.
const (
	AuthNone      Auth = "none"      // no token needed
	AuthAnonymous Auth = "anonymous" // any signed-in installation
	AuthAccount   Auth = "account"   // a user with an identity

	// AuthOwn is for endpoints at which Authorization carries something else than
	// an access token of this app, such as the secret of an OAuth client: the
	// handler judges the header itself. Only built-in handlers can have it.
	AuthOwn Auth = "own"
)

// Security requirements for huma operations, one for each Auth.
var (
	Public   = []map[string][]string{}
	SignedIn = []map[string][]string{{"anonymous": {}}}
	Account  = []map[string][]string{{"account": {}}}
)

// AuthOf reads the Auth of an operation from its Security. An operation that
// says nothing needs an account: forgetting must not let anyone in.
func AuthOf(op *huma.Operation) Auth {
	if op.Security == nil {
		return AuthAccount
	}
	if len(op.Security) == 0 {
		return AuthNone
	}
	for _, alternative := range op.Security {
		if _, ok := alternative["anonymous"]; ok {
			return AuthAnonymous
		}
	}
	return AuthAccount
}

// Authenticator verifies access tokens and speaks for them to upstreams.
type Authenticator interface {
	// Authenticate verifies the Authorization header of r without I/O. It
	// returns nil, nil when there is none, and a 401 *problem.Error when it
	// does not verify.
	Authenticate(r *http.Request) (*Principal, error)

	// UpstreamToken returns a short-lived signed statement of who p is, for the
	// named upstream alone, that it verifies with our JWKS.
	UpstreamToken(p *Principal, upstream string) (string, error)
}

// Principal is who makes a request.
type Principal struct {
	UserID         string
	InstallationID string
	SessionID      string
	ClientID       string
	Anonymous      bool // the user has no identity yet
	AuthTime       time.Time
	Methods        []string    // how the user proved who they are (RFC 8176)
	ACR            string      // authentication context class that Methods amount to
	ExpiresAt      time.Time   // of the access token
	Scopes         []string    // what a limited token is good for; nil = all of the app's API
	Formerly       []string    // users who became part of UserID on this installation, the newest first: what was written as one of them is UserID's
	Device         DeviceLevel // of the installation when the token was issued; "" = none
}

// DeviceLevel is how much is proven of an installation's app and device. Each
// level includes those before.
type DeviceLevel string

// The levels.
const (
	DeviceNone     DeviceLevel = "none"     // nothing
	DeviceKey      DeviceLevel = "key"      // the installation holds a private key
	DeviceApp      DeviceLevel = "app"      // the platform's owner recognises the app and the device
	DeviceHardware DeviceLevel = "hardware" // secure hardware holds a key, or the platform's owner vouches for it
)

// Allows reports whether level d is enough where least is asked for. A level
// that nobody knows is none, and allows nothing when it is asked for.
func (d DeviceLevel) Allows(least DeviceLevel) bool {
	rank := func(l DeviceLevel) int {
		return slices.Index([]DeviceLevel{DeviceNone, DeviceKey, DeviceApp, DeviceHardware}, l)
	}
	if least == "" || least == DeviceNone {
		return true
	}
	return rank(least) >= 0 && rank(d) >= rank(least)
}

// Is reports whether user is p's user or one of those that became part of it on
// this installation.
func (p *Principal) Is(user string) bool {
	return user == p.UserID || slices.Contains(p.Formerly, user)
}

// Client is what the Landline-Client header says of the app; all are "" or 0 when absent.
type Client struct {
	App, Version, Platform, OS, Device, Locale string
	Build                                      int64
}

type principalKey struct{}
type clientKey struct{}

// WithPrincipal returns a context that carries p.
func WithPrincipal(ctx context.Context, p *Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// PrincipalFrom returns who makes the request, or nil on a public route without a token.
func PrincipalFrom(ctx context.Context) *Principal {
	p, _ := ctx.Value(principalKey{}).(*Principal)
	return p
}

// WithClient returns a context that carries c.
func WithClient(ctx context.Context, c *Client) context.Context {
	return context.WithValue(ctx, clientKey{}, c)
}

// ClientFrom returns what the app said of itself; never nil.
func ClientFrom(ctx context.Context) *Client {
	if c, ok := ctx.Value(clientKey{}).(*Client); ok && c != nil {
		return c
	}
	return &Client{}
}

// Role is an operator's right on the admin API; each includes those before it.
type Role string

// The roles.
const (
	Viewer   Role = "viewer"   // may look at configuration, metrics, jobs
	Support  Role = "support"  // may look up a person
	Operator Role = "operator" // may change things
	Owner    Role = "owner"    // may manage operators and keys
)

// Require marks an admin operation with the least role that may call it:
//
//	huma.Operation{…, Metadata: module.Require(module.Support)}
//
// An operation without it is for owners only.
func Require(r Role) map[string]any { return map[string]any{"role": r} }

// RoleOf reads what Require wrote.
func RoleOf(op *huma.Operation) Role {
	if r, ok := op.Metadata["role"].(Role); ok {
		return r
	}
	return Owner
}

// Allows reports whether an operator with role r may do what least asks for.
func (r Role) Allows(least Role) bool {
	rank := map[Role]int{Viewer: 1, Support: 2, Operator: 3, Owner: 4}
	return rank[r] > 0 && rank[r] >= rank[least] && rank[least] > 0
}
