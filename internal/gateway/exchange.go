package gateway

import (
	"net/http"
	"net/netip"
	"time"

	"landline/internal/gateway/overload"
	"landline/internal/module"
)

// Handler is the rest of a request's way. It either writes an answer to w and
// returns nil, or writes nothing and returns an error, which the outermost
// stage turns into a problem (or a fallback stage into a stock answer). An
// error after the first byte of the answer aborts the connection, so that the
// client never takes half an answer for a whole one.
type Handler func(x *Exchange, w http.ResponseWriter, r *http.Request) error

// A Stage wraps the rest of the way. Stages are made once per route.
type Stage func(next Handler) Handler

// Exchange is one request on its way: what the stages learn and pass on.
type Exchange struct {
	Route     *Route            // the compiled route; never nil inside the stages
	Params    []string          // values of the path's wildcards, in the order of Route.ParamNames, as they stand in the escaped path
	Start     time.Time         // when the header was read
	Client    *module.Client    // never nil after the client-header stage
	Principal *module.Principal // nil until authenticated, and on public routes without a token
	ClientIP  string            // address of the caller, behind trusted proxies the forwarded one

	TraceID      string // 32 hex digits
	SpanID       string // 16 hex digits: our server span
	ParentSpanID string // "" when the client sent none
	Sampled      bool   // our decision on the trace, told to the upstream

	Degraded     string        // "" | "fallback" | "stale"
	Upstream     string        // name of the upstream that was asked, "" if none
	Target       string        // name of its target
	UpstreamTook time.Duration // time the upstream took to its response header
	Sent         bool          // the request may have reached the upstream: its effect is possible
	ErrorCode    string        // problem code of the answer, "" if none
	Cause        error         // what failed where a stock answer hid it; for the log

	params  [maxParams]string // backing of Params
	path    string            // escaped path in the form that routes are compared in
	refusal error             // why no route was found
	peer    netip.Addr        // address of the connection
	trusted bool              // the peer is a trusted proxy

	attempt                // the try that is under way
	tries    *tries        // nil when there is only one
	pass     overload.Pass // to be in flight on this node
	uploads  bool          // its body is long, or of unknown length
	write    time.Duration // how long the client may take nothing of its answer
	body     *requestBody  // nil for a request without a body
	status   int           // what the upstream answered, 0 if it did not
	answered bool          // what the client gets is the upstream's answer
	room     [oneRoom]string
	used     int    // of room
	stock5xx bool   // a 5xx of the upstream becomes an error, for the fallback stage
	secure   bool   // the client came over TLS, to us or to a trusted proxy
	origin   string // Origin of a page that calls
	encoding string // what the compress stage sent the answer as, "" = as it was

	uncompressed int64       // size of the answer's body before that
	edits        headerEdits // what stages do to the final answer's header
	countdown    countdown   // what is left of the feature's timeout
	scope        scope       // what it ends

	apiKey apiKeyOf

	stock   bool            // the answer is a stock answer, the same for everybody
	graphql *graphQLRequest // what was read of the body, for the next try

	deadline time.Time // of a call of an aggregated route: when the whole answer is due
}

// oneRoom is how many header fields of a usual request are made with one.
const oneRoom = 10

// one is a header field's single value, in the Exchange's own memory as long as
// there is room: for fields that live no longer than the request, on the
// goroutine that handles it.
func (x *Exchange) one(value string) []string {
	if x.used == len(x.room) {
		return []string{value}
	}
	i := x.used
	x.room[i], x.used = value, i+1
	return x.room[i : i+1 : i+1]
}
