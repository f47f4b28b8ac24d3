package landline

import (
	"context"
	"io/fs"
	"net/http"
	"time"

	"landline/internal/app"
)

// Feature is a part of the product: its routes and its policy. A block with its
// name and without routes under features in landline.yaml changes the policy:
// owner, timeout, max_body, rate_limit, idempotency, priority and the like. What
// auth a route needs is the program's to say.
//
// When the feature moves to a service of its own, remove it here and give the
// block routes with the same match: apps notice nothing, and keys that were used
// stay used.
type Feature struct {
	Name  string // lower-case letters, digits and -, as in landline.yaml
	Owner string // team that answers for it
	Auth  Auth   // of its routes; "" = Account: forgetting lets nobody in

	Timeout     time.Duration // for the whole answer; 0 = 10s
	MaxBody     int64         // bytes of a request body; 0 = 10 MiB
	Priority    Priority      // who is turned away first when a node is overloaded
	RateLimit   []RateLimit   // every one must allow a request
	Idempotency *Idempotency  // how its writes honour Idempotency-Key; nil: only Write routes do

	Routes []Route

	// Migrations are the feature's own tables: files NNNN_name.sql in the root,
	// beginning with "-- +goose Up", applied by New in their order, each once. One
	// text serves SQLite and PostgreSQL; NNNN_name.postgres.sql replaces a file
	// on PostgreSQL. Begin the names of tables with the feature's name.
	Migrations fs.FS

	Jobs []Worker // kinds of background work
}

// Auth is how much a caller must have proven.
type Auth string

// A bad Authorization header is refused on every route, whatever it needs.
const (
	None      Auth = "none"      // no token needed
	Anonymous Auth = "anonymous" // any signed-in installation
	Account   Auth = "account"   // a user with an identity
)

// Priority decides who is turned away first when a node is overloaded.
type Priority int

// Priorities, lowest first.
const (
	Background  Priority = -1
	Interactive Priority = 0
	Critical    Priority = 1
)

// RateLimit admits Limit requests per Window in the long run, and Burst at once.
type RateLimit struct {
	Key    string // whose requests are counted together: installation, user, address or feature
	Limit  int
	Window time.Duration
	Burst  int // 0 = Limit
}

// Idempotency says how writes (POST, PUT, PATCH, DELETE) honour Idempotency-Key.
type Idempotency struct {
	Required bool          // POST and PATCH without a key are refused
	Keep     time.Duration // how long a key and its answer are kept; 0 = 24h
}

// Route is one method and path with its handler; see Handle, HandleHTTP, Read and Write.
type Route struct {
	match string
	auth  Auth
	inner app.ProgramRoute
}

// For returns the route with an auth of its own.
func (r Route) For(auth Auth) Route {
	r.auth = auth
	return r
}

// Handle answers requests that match, written as in landline.yaml:
// "GET /v1/trips/{id}". An error becomes a problem: a Problem as it says of
// itself, any other is a 500 whose text stays in the log.
//
// With an Idempotency-Key its answer is stored after do has returned; a process
// that dies in between leaves a key whose outcome is unknown. Use Write where
// the effect is in the database.
func Handle(match string, do func(ctx context.Context, r *Request) (*Response, error)) Route {
	return Route{match: match, inner: app.ProgramRoute{Serve: func(w http.ResponseWriter, r *http.Request) error {
		res, err := do(r.Context(), &Request{http: r})
		if err != nil {
			return err
		}
		return res.send(w)
	}}}
}

// HandleHTTP is Handle for an http.Handler, such as one that streams. Path
// values, principal and client are on the request: PathValue, PrincipalFrom, ClientFrom.
func HandleHTTP(match string, h http.Handler) Route {
	return Route{match: match, inner: app.ProgramRoute{Handler: h}}
}

// Read is Handle with the database at hand.
func Read(match string, do func(ctx context.Context, db Querier, r *Request) (*Response, error)) Route {
	return Handle(match, func(ctx context.Context, r *Request) (res *Response, err error) {
		err = DatabaseFrom(ctx).Read(ctx, func(ctx context.Context, q Querier) error {
			res, err = do(ctx, q, r)
			return err
		})
		return res, err
	})
}

// Write answers requests with writes in tx. They are committed in one step with
// the request's Idempotency-Key and its answer, so whatever happens (an error, a
// panic, a killed process, a lost database) either all of it is there, and every
// repetition gets the same answer, or nothing is, and the next try executes.
//
// An error undoes the writes and frees the key. So does an answer that asks for
// the same request again: 5xx, 401, 408, 425, 429. Any other answer is kept with
// the writes.
//
// do may be called more than once for a request, of which one call counts: what
// it does besides tx must not matter, so mail, calls of services and the like go
// through Enqueue. Keep it short: on SQLite other writes wait meanwhile.
func Write(match string, do func(ctx context.Context, tx *Tx, r *Request) (*Response, error)) Route {
	return Route{match: match, inner: app.ProgramRoute{Write: func(ctx context.Context, tx *app.Tx, w http.ResponseWriter, r *http.Request) error {
		res, err := do(ctx, &Tx{Querier: tx, tx: tx, house: app.HouseFrom(ctx)}, &Request{http: r})
		if err != nil {
			return err
		}
		return res.send(w)
	}}}
}

func (f Feature) program() app.ProgramFeature {
	p := app.ProgramFeature{
		Name: f.Name, Owner: f.Owner, Timeout: f.Timeout, MaxBody: f.MaxBody, Priority: int(f.Priority), Schema: f.Migrations,
	}
	if f.Idempotency != nil {
		p.Keys, p.KeysRequired, p.KeepKeys = true, f.Idempotency.Required, f.Idempotency.Keep
	}
	for _, l := range f.RateLimit {
		p.Limits = append(p.Limits, app.ProgramLimit{Key: l.Key, Limit: l.Limit, Window: l.Window, Burst: l.Burst})
	}
	for _, r := range f.Routes {
		inner := r.inner
		inner.Match, inner.Auth = r.match, string(r.auth)
		if r.auth == "" {
			inner.Auth = string(f.Auth)
		}
		p.Routes = append(p.Routes, inner)
	}
	for _, w := range f.Jobs {
		p.Jobs = append(p.Jobs, w.register)
	}
	return p
}
