package http1

import (
	"bufio"
	"net/http"
	"net/url"
	"strings"
)

// incoming is a request and its answer, in one piece of memory.
type incoming struct {
	conn *serverConn
	ctx  requestContext
	res  response
	body requestBody
	url  url.URL
}

// refusal is the answer to what is not a request.
type refusal struct {
	status int
	why    string // "" = the status says it all
}

func (r *refusal) Error() string { return "http1: " + http.StatusText(r.status) + ": " + r.why }

var (
	errMalformed = &refusal{status: http.StatusBadRequest}
	errTooLarge  = &refusal{status: http.StatusRequestHeaderFieldsTooLarge}
	errTransfer  = &refusal{status: http.StatusNotImplemented, why: "Unsupported transfer encoding"}
	errVersion   = &refusal{status: http.StatusHTTPVersionNotSupported, why: "unsupported protocol version"}
	errNoHost    = &refusal{status: http.StatusBadRequest, why: "missing required Host header"}
	errHost      = &refusal{status: http.StatusBadRequest, why: "malformed Host header"}
)

// parse reads the block of a request's header, whose body follows in r.
func (x *incoming) parse(block []byte, r *bufio.Reader) error {
	text := string(block) // the only copy: fields are parts of it
	line, rest := nextLine(text)
	req := http.Request{RemoteAddr: x.conn.remote}
	if err := x.requestLine(&req, line); err != nil {
		return err
	}
	fields, err := parseFields(rest)
	if err != nil {
		return errMalformed
	}
	req.Header = fields
	hosts := fields["Host"]
	if len(hosts) > 1 {
		return errMalformed
	}
	if req.Host = req.URL.Host; req.Host == "" && len(hosts) == 1 {
		req.Host = hosts[0]
	}
	if p := fields["Pragma"]; len(p) > 0 && p[0] == "no-cache" && fields["Cache-Control"] == nil { // RFC 9111 §5.4, as net/http does it
		fields["Cache-Control"] = []string{"no-cache"}
	}
	connection := fields["Connection"]
	if hasToken(connection, "close") {
		req.Close = true
	}
	if req.ProtoMinor == 0 && !hasToken(connection, "keep-alive") {
		req.Close = true
	}
	if err := x.framing(&req, r); err != nil {
		return err
	}
	switch {
	case req.ProtoMajor != 1:
		return errVersion
	case len(hosts) == 0 && req.ProtoMinor >= 1 && req.Method != http.MethodConnect:
		return errNoHost
	case len(hosts) == 1 && !isHost(hosts[0]):
		return errHost
	}
	delete(fields, "Host")
	x.res.begin(x, req.WithContext(&x.ctx))
	return nil
}

// requestLine reads "GET /path HTTP/1.1" (RFC 9112 §3).
func (x *incoming) requestLine(req *http.Request, line string) error {
	method, rest, ok := strings.Cut(line, " ")
	target, proto, there := strings.Cut(rest, " ")
	if !ok || !there || !isToken(method) {
		return errMalformed
	}
	req.Method, req.RequestURI, req.Proto = method, target, proto
	switch proto {
	case "HTTP/1.1":
		req.ProtoMajor, req.ProtoMinor = 1, 1
	case "HTTP/1.0":
		req.ProtoMajor = 1
	default:
		if req.ProtoMajor, req.ProtoMinor, ok = http.ParseHTTPVersion(proto); !ok {
			return errMalformed
		}
	}
	if x.plainTarget(target) {
		req.URL = &x.url
		return nil
	}
	var err error
	authority := method == http.MethodConnect && !strings.HasPrefix(target, "/")
	if authority {
		target = "http://" + target
	}
	if req.URL, err = url.ParseRequestURI(target); err != nil {
		return errMalformed
	}
	if authority {
		req.URL.Scheme = ""
	}
	return nil
}

// plainTarget reads a target in origin-form whose path has nothing to decode,
// as url.ParseRequestURI would. Of any other it reports false.
func (x *incoming) plainTarget(target string) bool {
	if target == "" || target[0] != '/' {
		return false
	}
	n := 0
	for n < len(target) && class[target[n]]&pathByte != 0 {
		n++
	}
	if n == len(target) {
		x.url = url.URL{Path: target}
		return true
	}
	query := target[n+1:]
	if target[n] != '?' || !isVisible(query) {
		return false
	}
	x.url = url.URL{Path: target[:n], RawQuery: query, ForceQuery: query == ""}
	return true
}

// framing finds out how long the body is (RFC 9112 §6.3).
func (x *incoming) framing(req *http.Request, r *bufio.Reader) error {
	h := head{header: req.Header, length: -1}
	codings, coded := req.Header["Transfer-Encoding"]
	if coded {
		delete(req.Header, "Transfer-Encoding")
		if req.ProtoMajor == 1 && req.ProtoMinor == 0 {
			coded, x.res.close = false, true // HTTP/1.0 knows no codings: who sent this may mean another end (RFC 9112 §6.1)
		} else if len(codings) != 1 || !strings.EqualFold(codings[0], "chunked") {
			return errTransfer
		}
	}
	if h.contentLength() != nil {
		return errMalformed
	}
	b := &x.body
	switch {
	case coded:
		if h.length >= 0 {
			x.res.close = true // RFC 9112 §6.1
			delete(req.Header, "Content-Length")
		}
		if h.announced() != nil {
			return errMalformed
		}
		req.ContentLength, req.TransferEncoding, req.Trailer = -1, []string{"chunked"}, h.trailer
		b.begin(x, r, -1)
		req.Body = b
	case h.length > 0:
		req.ContentLength = h.length
		b.begin(x, r, h.length)
		req.Body = b
	default:
		b.whole.Store(true)
		req.Body = http.NoBody
	}
	return nil
}

// isHost reports whether s may be a Host field; "" may (RFC 9110 §7.2).
func isHost(s string) bool { return all(s, hostByte) }
