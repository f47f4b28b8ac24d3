package gateway

import (
	"net/http"
	"strings"

	"landline/internal/observe"
)

// hopByHop are the fields that concern one connection alone (RFC 9110 §7.6.1,
// and those of older practice). Keys are in canonical form.
var hopByHop = map[string]bool{
	"Connection":          true,
	"Keep-Alive":          true,
	"Proxy-Authenticate":  true,
	"Proxy-Authorization": true,
	"Proxy-Connection":    true,
	"Te":                  true,
	"Trailer":             true,
	"Transfer-Encoding":   true,
	"Upgrade":             true,
	"Http2-Settings":      true,
}

// ours reports whether a request field says something that only the gateway,
// or a trusted proxy before it, may say. key is in canonical form.
func ours(key string) (forwarding, always bool) {
	switch {
	case strings.HasPrefix(key, "Landline-"):
		return false, key != "Landline-Client"
	case strings.HasPrefix(key, "X-Forwarded-"), key == "Forwarded", key == "X-Real-Ip",
		key == "X-Client-Ip", key == "True-Client-Ip", key == "X-Cluster-Client-Ip":
		return true, false
	}
	return false, false
}

// underscored reports whether servers that hand fields on as variables (CGI, RFC
// 3875 §4.1.18; WSGI, Rack, PHP) would take key for another one: there X_User
// and X-User are both HTTP_X_USER, so a client could forge what we set.
func underscored(key string) bool { return strings.IndexByte(key, '_') >= 0 }

// connectionOptions lists the fields that the Connection field names.
func connectionOptions(h http.Header) []string {
	values := h["Connection"]
	if len(values) == 0 {
		return nil
	}
	var names []string
	for _, v := range values {
		for name := range strings.SplitSeq(v, ",") {
			if name = strings.TrimSpace(name); name != "" {
				names = append(names, http.CanonicalHeaderKey(name))
			}
		}
	}
	return names
}

// hasToken reports whether a comma-separated field has the token, in any case.
func hasToken(values []string, token string) bool {
	for _, v := range values {
		if len(v) < len(token) {
			continue
		}
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// outgoingHeader makes the header of the request to the upstream. The value
// slices are shared with the client's request and must not be written to.
func (g *Gateway) outgoingHeader(x *Exchange, r *http.Request, up *upstream, upgrade bool) (http.Header, error) {
	h := make(http.Header, len(r.Header)+6)
	for key, values := range r.Header {
		if hopByHop[key] || underscored(key) {
			continue
		}
		forwarding, always := ours(key)
		if always || forwarding && !x.trusted {
			continue
		}
		h[key] = values
	}
	for _, name := range connectionOptions(r.Header) {
		if !endToEnd(name) {
			delete(h, name)
		}
	}
	if !up.config.PassAuthorization {
		delete(h, "Authorization")
	}
	for _, key := range [...]string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, there := h[key]; there {
			// net/http repeats a write by itself when it finds this key. Whether a
			// repetition is safe is not its to decide; a name in lower case means
			// the same to the upstream and nothing to net/http.
			delete(h, key)
			h[strings.ToLower(key)] = values
		}
	}
	if hasToken(r.Header["Te"], "trailers") {
		h["Te"] = []string{"trailers"}
	}
	if upgrade {
		h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	}
	switch agent := h["User-Agent"]; len(agent) {
	case 0:
		h["User-Agent"] = noValue // else net/http would name itself
	case 1:
	default:
		h["User-Agent"] = agent[:1:1] // RFC 9110 §10.1.5: it has one value
	}
	g.addForwarding(h, x, r)
	if x.TraceID != "" {
		h["Traceparent"] = x.one(observe.Traceparent(x.TraceID, x.SpanID, x.Sampled))
	}
	if x.Principal != nil && g.options.Auth != nil {
		token, err := g.options.Auth.UpstreamToken(x.Principal, up.name)
		if err != nil {
			return nil, err
		}
		h["Landline-Identity"] = x.one(token)
	}
	if x.Route.Version != "" {
		h[x.Route.versions.header] = []string{x.Route.Version}
	}
	if rules := x.Route.headers; rules != nil {
		rules.request.apply(x, h)
	}
	return h, nil
}

// endToEnd are fields that a Connection field may not take away: a client
// could otherwise remove what the gateway relies on the upstream to see.
func endToEnd(name string) bool {
	switch name {
	case "Host", "Content-Length", "Content-Type", "Cookie", "Authorization", "Idempotency-Key", "Expect-User", "Landline-Client", "Traceparent":
		return true
	}
	return strings.HasPrefix(name, "X-Forwarded-") || name == "Forwarded"
}

// addForwarding says where the request came from: Forwarded (RFC 7239) and
// X-Forwarded-*. What a trusted proxy said is continued. There is no Via of
// ours: nginx stops compressing its answers when it sees one.
func (g *Gateway) addForwarding(h http.Header, x *Exchange, r *http.Request) {
	peer, proto, element := forwarding(x, r)
	if !x.trusted {
		h["X-Forwarded-For"] = x.one(peer)
		h["X-Forwarded-Proto"] = x.one(proto)
		h["X-Forwarded-Host"] = x.one(r.Host)
		h["Forwarded"] = x.one(element)
		return
	}
	h["X-Forwarded-For"] = []string{join(r.Header["X-Forwarded-For"], peer)}
	h["Forwarded"] = []string{join(r.Header["Forwarded"], element)}
	if len(h["X-Forwarded-Proto"]) == 0 {
		h["X-Forwarded-Proto"] = []string{proto}
	}
	if len(h["X-Forwarded-Host"]) == 0 {
		h["X-Forwarded-Host"] = []string{r.Host}
	}
}

// forwarding is the address of the connection, its protocol, and both in an
// element of Forwarded.
func forwarding(x *Exchange, r *http.Request) (peer, proto, element string) {
	proto = "http"
	if r.TLS != nil {
		proto = "https"
	}
	peer = "unknown"
	switch {
	case !x.peer.IsValid():
	case x.trusted:
		peer = x.peer.String()
	default:
		peer = x.ClientIP // the same
	}
	node := peer
	if x.peer.Is6() {
		node = `"[` + peer + `]"`
	}
	return peer, proto, "for=" + node + `;host="` + escapedQuotes(r.Host) + `";proto=` + proto
}

func join(values []string, last string) string {
	if len(values) == 0 {
		return last
	}
	return strings.Join(values, ", ") + ", " + last
}

var quotedPairs = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// escapedQuotes is s inside of an RFC 9110 quoted-string; hosts have no control characters.
func escapedQuotes(s string) string {
	if strings.IndexByte(s, '"') >= 0 || strings.IndexByte(s, '\\') >= 0 {
		return quotedPairs.Replace(s)
	}
	return s
}

var noValue = []string{""}

// copyAnswerHeader passes the upstream's response header on, without what
// concerns its connection and without what only the gateway may say.
func copyAnswerHeader(dst, src http.Header) {
	if _, typed := src["Content-Type"]; !typed {
		dst["Content-Type"] = nil // else net/http would guess one, which the upstream's nosniff may forbid
	}
	for key, values := range src {
		if hopByHop[key] || strings.HasPrefix(key, "Landline-") {
			continue
		}
		dst[key] = values
	}
	for _, name := range connectionOptions(src) {
		if name != "Content-Type" && name != "Content-Length" && !strings.HasPrefix(name, "Landline-") {
			if _, fromUpstream := src[name]; fromUpstream {
				delete(dst, name)
			}
		}
	}
}
