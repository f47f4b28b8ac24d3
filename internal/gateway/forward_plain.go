package gateway

import (
	"net/http"
	"strings"

	"landline/internal/gateway/http1"
	"landline/internal/observe"
)

// plainFields is how many fields a plain request has that the gateway makes.
const plainFields = 6

// plainHeader makes the header of the request to the upstream without a copy of
// the client's: that one is edited while it is written. It is what outgoingHeader
// makes, and reports false where only that can: behind a trusted proxy, with
// rules for headers, with options of the connection. Nor may the client's header
// be read when the client has got its answer, as by the loser of a race.
func (c *call) plainHeader() (bool, error) {
	x, r := c.x, c.in
	if x.trusted || c.raced || c.upgrade || x.TraceID == "" || x.Route.headers != nil || x.Route.Version != "" || len(r.Header["Connection"]) > 0 {
		return false, nil
	}
	peer, proto, element := forwarding(x, r)
	more := append(c.room[:0], http1.Field{Name: "X-Forwarded-For", Value: peer}, http1.Field{Name: "X-Forwarded-Proto", Value: proto},
		http1.Field{Name: "X-Forwarded-Host", Value: r.Host}, http1.Field{Name: "Forwarded", Value: element},
		http1.Field{Name: "Traceparent", Value: observe.Traceparent(x.TraceID, x.SpanID, x.Sampled)})
	if auth := c.gateway.options.Auth; x.Principal != nil && auth != nil {
		token, err := auth.UpstreamToken(x.Principal, c.up.name)
		if err != nil {
			return false, err
		}
		more = append(more, http1.Field{Name: "Landline-Identity", Value: token})
	}
	c.plain.Header, c.plain.More, c.plain.Edit = r.Header, more, plainField
	if c.up.config.PassAuthorization {
		c.plain.Edit = plainFieldWithAuthorization
	}
	return true, nil
}

// plainField is what becomes of a field of an untrusted client.
func plainField(key string, values []string) (string, []string) {
	if key == "Authorization" {
		return key, nil
	}
	return plainFieldWithAuthorization(key, values)
}

func plainFieldWithAuthorization(key string, values []string) (string, []string) {
	switch key {
	case "Accept", "Accept-Encoding", "Content-Type", "Cookie", "Landline-Client":
		return key, values // the usual ones at once
	case "User-Agent":
		return key, values[:min(len(values), 1)]
	case "Te":
		if hasToken(values, "trailers") {
			return key, teTrailers
		}
		return key, nil
	case "Idempotency-Key", "X-Idempotency-Key":
		return strings.ToLower(key), values // see outgoingHeader
	case "Traceparent":
		return key, nil
	}
	if forwarding, always := ours(key); forwarding || always || hopByHop[key] || underscored(key) {
		return key, nil
	}
	return key, values
}

var teTrailers = []string{"trailers"}

// header makes the header of the request, in c.plain where that is enough, else as a map.
func (c *call) header() (http.Header, error) {
	if c.short {
		if plain, err := c.plainHeader(); plain || err != nil {
			return nil, err
		}
	}
	return c.gateway.outgoingHeader(c.x, c.in, c.up, c.upgrade)
}
