package gateway

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// FuzzForwarded: an address is believed only from a trusted proxy, and only up
// to the first that is none.
func FuzzForwarded(f *testing.F) {
	for _, s := range []string{"203.0.113.7", "203.0.113.7, 10.0.0.1", "[2001:db8::1]:443, 10.0.0.2:80", `for="[2001:db8::1]:80";proto=https, for=10.0.0.1`, "unknown, _hidden", ",,", "::ffff:10.0.0.1, fe80::1%eth0"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	proxies := netip.MustParsePrefix("10.0.0.0/8")
	g := &Gateway{options: Options{TrustedProxies: []netip.Prefix{proxies}}}
	f.Fuzz(func(t *testing.T, value string, old bool) {
		name := "Forwarded"
		if old {
			name = "X-Forwarded-For"
		}
		h := http.Header{name: {value}}
		x := &Exchange{}
		g.locate(x, &http.Request{RemoteAddr: "192.0.2.1:1234", Header: h})
		if x.trusted || x.ClientIP != "192.0.2.1" {
			t.Fatalf("%q from a stranger makes %q of it", value, x.ClientIP)
		}
		x = &Exchange{}
		g.locate(x, &http.Request{RemoteAddr: "10.0.0.9:1234", Header: h})
		caller, err := netip.ParseAddr(x.ClientIP)
		if err != nil || !x.trusted || caller.Zone() != "" || caller.Is4In6() {
			t.Fatalf("%q makes the caller %q: %v", value, x.ClientIP, err)
		}
		list := forwardedFor(h)
		if len(list) > maxHops {
			t.Fatalf("%d hops are looked at", len(list))
		}
		for _, node := range list {
			if a, ok := parseNode(node); ok && a == caller {
				return
			}
		}
		if x.ClientIP != "10.0.0.9" {
			t.Fatalf("%q makes the caller %q, whom nobody named", value, x.ClientIP)
		}
	})
}

// FuzzHeaders: whatever a client or an upstream says of its own connection, of
// identity or of the network ends at the gateway.
func FuzzHeaders(f *testing.F) {
	f.Add("Connection", "close, X-Private", "X-Private", "1")
	f.Add("Connection", "Host, Content-Length, Authorization, X-Forwarded-For", "Landline-Identity", "forged")
	f.Add("X-Forwarded-For", "1.1.1.1", "Te", "gzip, trailers")
	f.Add("idempotency-key", "k", "Forwarded", "for=1.1.1.1")
	f.Add("User-Agent", "a", "user-agent", "b")
	f.Add("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "X_User", "root")
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		in := http.Header{}
		in.Add(name1, value1)
		in.Add(name2, value2)
		g := &Gateway{}
		up := &upstream{config: &UpstreamConfig{}}
		x := &Exchange{Route: &Route{}, peer: netip.MustParseAddr("192.0.2.1"), ClientIP: "192.0.2.1"}
		r := &http.Request{Method: http.MethodGet, Header: in, Host: "api.example.test"}
		before := in.Clone()
		out, err := g.outgoingHeader(x, r, up, false)
		if err != nil {
			t.Fatal(err)
		}
		for key := range out {
			if hopByHop[key] && key != "Te" || strings.HasPrefix(key, "Landline-") && key != "Landline-Client" || key == "Authorization" || key == "X-Real-Ip" {
				t.Fatalf("%s: %q reaches the upstream", key, out[key])
			}
		}
		samePlainHeader(t, g, x, r, up)
		if te := out["Te"]; te != nil && (len(te) != 1 || te[0] != "trailers") {
			t.Fatalf("TE %q", te)
		}
		if got := out["X-Forwarded-For"]; len(got) != 1 || got[0] != "192.0.2.1" {
			t.Fatalf("X-Forwarded-For %q", got)
		}
		if got := out["Forwarded"]; len(got) != 1 || !strings.HasPrefix(got[0], "for=192.0.2.1;") {
			t.Fatalf("Forwarded %q", got)
		}
		for key, values := range before {
			if strings.Join(in[key], "\n") != strings.Join(values, "\n") {
				t.Fatalf("the client's own %s changed from %q to %q", key, values, in[key])
			}
		}
		answer := http.Header{"Landline-Trace-Id": {"ours"}}
		copyAnswerHeader(answer, in)
		for key := range answer {
			if hopByHop[key] || strings.HasPrefix(key, "Landline-") && key != "Landline-Trace-Id" {
				t.Fatalf("%s: %q reaches the client", key, answer[key])
			}
		}
		if answer["Landline-Trace-Id"][0] != "ours" {
			t.Fatal("an upstream overwrites Landline-Trace-Id")
		}
	})
}

// samePlainHeader compares the two ways to the header of a plain request.
func samePlainHeader(t *testing.T, g *Gateway, x *Exchange, r *http.Request, up *upstream) {
	t.Helper()
	traced := &Exchange{Route: x.Route, peer: x.peer, ClientIP: x.ClientIP, TraceID: "4bf92f3577b34da6a3ce929d0e0e4736", SpanID: "00f067aa0ba902b7"}
	c := &call{gateway: g, x: traced, in: r, up: up, short: true}
	plain, err := c.plainHeader()
	if err != nil {
		t.Fatal(err)
	}
	if !plain {
		if len(r.Header["Connection"]) == 0 {
			t.Fatal("the plain way was not taken")
		}
		return
	}
	want, err := g.outgoingHeader(traced, r, up, false)
	if err != nil {
		t.Fatal(err)
	}
	got := http.Header{}
	for key, values := range c.plain.Header {
		if key, values = c.plain.Edit(key, values); len(values) > 0 {
			got[key] = append(got[key], values...)
		}
	}
	for _, f := range c.plain.More {
		got[f.Name] = append(got[f.Name], f.Value)
	}
	for _, h := range []http.Header{want, got} {
		if len(h["User-Agent"]) == 1 && h["User-Agent"][0] == "" { // not written
			delete(h, "User-Agent")
		}
	}
	if !reflect.DeepEqual(want, got) {
		t.Fatalf("the header is %q, and %q on the plain way", want, got)
	}
}

// FuzzAcceptedEncoding: only an encoding that the field names, or * for gzip, is chosen.
func FuzzAcceptedEncoding(f *testing.F) {
	for _, s := range []string{"gzip", "zstd;q=0.5, gzip;q=1", "*;q=0", "identity", "gzip;q=0.000", "x-gzip", "br,*", "zstd;q=x", "gzip;q=1.0001", ";;q=,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		lower := strings.ToLower(s)
		switch got := acceptedEncoding([]string{s}); got {
		case "":
		case encodingZstd:
			if !strings.Contains(lower, "zstd") {
				t.Fatalf("%q gets zstd", s)
			}
		case encodingGzip:
			if !strings.Contains(lower, "gzip") && !strings.Contains(s, "*") {
				t.Fatalf("%q gets gzip", s)
			}
		default:
			t.Fatalf("%q gets %q", s, got)
		}
		if q := quality(s); q < 0 || q > 1000 {
			t.Fatalf("quality %d of %q", q, s)
		}
	})
}

// FuzzDecompress: no body gives more than the limit, or goes on after a fault.
func FuzzDecompress(f *testing.F) {
	e, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(e.EncodeAll(make([]byte, 1<<16), nil), true)
	f.Add([]byte("\x1f\x8b\b\x00\x00\x00\x00\x00\x00\xff\xaaV\xcaS\xb22\xaa\x05\x04\x00\x00\xff\xff"), false)
	f.Add([]byte("\x28\xb5\x2f\xfd"), true)
	const limit = 4096
	f.Fuzz(func(t *testing.T, b []byte, isZstd bool) {
		client := &requestBody{in: &http.Request{}, body: io.NopCloser(bytes.NewReader(b)), limit: -1}
		d := &decodedBody{encoded: countedReader{r: client}, zstd: isZstd, limit: limit, client: client}
		defer d.end()
		got, err := io.ReadAll(d)
		if len(got) > limit {
			t.Fatalf("%d bytes with a limit of %d", len(got), limit)
		}
		if err != nil && client.fault() == nil {
			t.Fatalf("%v is nobody's fault", err)
		}
		if n, again := d.Read(make([]byte, 1)); n != 0 || again == nil {
			t.Fatalf("%d bytes after the end, %v", n, again)
		}
	})
}

// FuzzServe sends whole requests: each ends in an answer that is not our
// failure, and what reaches the upstream is what was asked.
func FuzzServe(f *testing.F) {
	for _, s := range []string{
		"GET /v1/a?b=c HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /v1/%2F/%41/\xc5\xbc HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
		"PUT /v1/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n2\r\nok\r\n0\r\nX-A: 1\r\n\r\n",
		"GET /v1/../x HTTP/1.1\r\nHost: x\r\nTraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nTracestate: a=b\r\n\r\n",
		"GET /v1/x HTTP/1.1\r\nHost: x\r\nLandline-Client: app=\"a\", version=\"1\"\r\nAuthorization: Bearer good\r\nExpect-User: usr_1\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /v1/x HTTP/1.1\r\nHost: x\r\nIdempotency-Key: \"k\"\r\nRange: bytes=0-\r\nOrigin: https://x\r\n\r\n",
	} {
		f.Add(s)
	}
	var seen http.Request
	h := proxy(f, serve(f, func(w http.ResponseWriter, r *http.Request) {
		seen = *r
		w.WriteHeader(http.StatusOK)
	}))
	f.Fuzz(func(t *testing.T, raw string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
		if err != nil {
			return
		}
		r.RemoteAddr = "192.0.2.1:1234"
		seen = http.Request{}
		w := httptest.NewRecorder()
		if aborted(func() { h.ServeHTTP(w, r) }) {
			return
		}
		if w.Code == http.StatusInternalServerError || w.Code == http.StatusBadGateway {
			t.Fatalf("%d %s to %q", w.Code, w.Body, raw)
		}
		if seen.URL == nil {
			return
		}
		if seen.Method != r.Method || seen.URL.RawQuery != r.URL.RawQuery || seen.URL.Path != r.URL.Path {
			t.Fatalf("%s %q became %s %q", r.Method, r.RequestURI, seen.Method, seen.RequestURI)
		}
		if got := seen.Header["X-Forwarded-For"]; len(got) != 1 || got[0] != "192.0.2.1" || len(seen.Header["Traceparent"]) != 1 {
			t.Fatalf("X-Forwarded-For %q, traceparent %q", got, seen.Header["Traceparent"])
		}
	})
}

// aborted reports whether f ended by aborting the connection.
func aborted(f func()) (yes bool) {
	defer func() {
		if p := recover(); p != nil {
			if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			yes = true
		}
	}()
	f()
	return false
}
