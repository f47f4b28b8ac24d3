package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"landline/internal/config"
	"landline/internal/module"
)

// echo answers with what it was asked, as JSON.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Landline-Forged", "yes")
	w.Header().Set("Connection", "X-Private")
	w.Header().Set("X-Private", "of the connection")
	if err := json.NewEncoder(w).Encode(asked{r.Method, r.RequestURI, r.Host, r.Header, string(body), r.Trailer, r.Proto}); err != nil {
		panic(err)
	}
}

type asked struct {
	Method, URI, Host string
	Header            http.Header
	Body              string
	Trailer           http.Header
	Proto             string
}

func (h *house) ask(req *http.Request) asked {
	h.t.Helper()
	res, body := h.do(req)
	if res.StatusCode != 200 {
		h.t.Fatalf("%s %s: %d %s", req.Method, req.URL, res.StatusCode, body)
	}
	var a asked
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		h.t.Fatal(err)
	}
	return a
}

func TestForwardedRequest(t *testing.T) {
	up := serve(t, echo)
	h := open(t, func(s *Settings) {
		s.Upstreams["flights"] = upstreamAt(up + "/base/")
		s.Features["flight-status"] = &FeatureConfig{Auth: module.AuthNone, Routes: []RouteConfig{
			{Match: "GET /v1/flights/{id}/status", Upstream: "flights", Path: "/internal/status/{id}"},
			{Match: "/v1/files/{rest...}", Upstream: "flights", Path: "/{rest...}"},
			{Match: "POST /v1/trips", Upstream: "flights"},
		}}
	})
	t.Run("path and query", func(t *testing.T) {
		for in, want := range map[string]string{
			"/v1/flights/LO123/status":            "/base/internal/status/LO123",
			"/v1/flights/a%2Fb%3F/status?x=1&x=2": "/base/internal/status/a%2Fb%3F?x=1&x=2",
			"/v1/files/a/b%20c/?q=%zz;&":          "/base/a/b%20c/?q=%zz;&",
			"/v1/files/?":                         "/base/?",
			"/v1/f%69les/x":                       "/base/x",
		} {
			if a := h.ask(h.request("GET", in, nil)); a.URI != want {
				t.Errorf("%s is asked as %s, want %s", in, a.URI, want)
			}
		}
	})
	t.Run("headers", func(t *testing.T) {
		a := h.ask(h.request("POST", "/v1/trips", strings.NewReader(`{"to":"WAW"}`),
			"Content-Type", "application/json", "Cookie", "a=b", "Idempotency-Key", "k1", "Landline-Client", `app="com.example.test", version="1.2.3"`,
			"Landline-Identity", "forged", "Landline-Anything", "forged", "X-Forwarded-For", "1.2.3.4", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "evil", "Forwarded", "for=1.2.3.4", "X-Real-Ip", "1.2.3.4",
			"Connection", "X-Hop, keep-alive, Cookie, X-Forwarded-For", "X-Hop", "1", "Keep-Alive", "timeout=5", "Te", "trailers, deflate", "Proxy-Authorization", "Basic x", "Upgrade", "h2c",
			"Authorization", "Bearer good", "Accept-Encoding", "br", "User-Agent", "app/1"))
		if a.Body != `{"to":"WAW"}` || a.Method != "POST" {
			t.Errorf("asked %+v", a)
		}
		want := map[string]string{
			"Content-Type": "application/json", "Cookie": "a=b", "Idempotency-Key": "k1", "Landline-Client": `app="com.example.test", version="1.2.3"`,
			"Landline-Identity": "identity-of-usr_1-for-flights", "Landline-Anything": "", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": h.addr,
			"Forwarded": `for=127.0.0.1;host="` + h.addr + `";proto=http`, "X-Real-Ip": "", "X-Hop": "", "Keep-Alive": "", "Te": "trailers", "Proxy-Authorization": "", "Upgrade": "",
			"Authorization": "", "Accept-Encoding": "br", "User-Agent": "app/1", "Via": "",
		}
		for name, value := range want {
			if got := strings.Join(a.Header[name], "|"); got != value {
				t.Errorf("%s: %q, want %q", name, got, value)
			}
		}
		if len(a.Header.Get("Traceparent")) != 55 {
			t.Errorf("traceparent %q", a.Header.Get("Traceparent"))
		}
		if !strings.HasPrefix(up, "http://"+a.Host) {
			t.Errorf("host %s", a.Host)
		}
	})
	t.Run("answer", func(t *testing.T) {
		res, _ := h.get("/v1/files/x")
		for name, there := range map[string]bool{"Landline-Forged": false, "X-Private": false, "Server-Timing": true, "Date": true, "Content-Type": true} {
			if (res.Header.Get(name) != "") != there {
				t.Errorf("%s: %q", name, res.Header.Get(name))
			}
		}
	})
}

func TestForwardOptions(t *testing.T) {
	up := serve(t, echo)
	h := openWith(t, func(o *Options) { o.TrustedProxies = prefixes("127.0.0.0/8", "10.0.0.0/8") }, func(s *Settings) {
		s.Upstreams["up"] = upstreamAt(up)
		s.Upstreams["up"].PassAuthorization, s.Upstreams["up"].PreserveHost = true, true
		s.Features["all"] = &FeatureConfig{Auth: module.AuthNone, Routes: []RouteConfig{{Match: "/{rest...}", Upstream: "up"}}}
	})
	req := h.request("GET", "/x", nil, "Authorization", "Bearer good", "X-Forwarded-For", "6.6.6.6, 203.0.113.9, 10.0.0.7", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "api.example.com",
		"Forwarded", "for=203.0.113.9;proto=https")
	req.Host = "app.example.com"
	a := h.ask(req)
	for name, want := range map[string]string{
		"Authorization": "Bearer good", "X-Forwarded-For": "6.6.6.6, 203.0.113.9, 10.0.0.7, 127.0.0.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "api.example.com",
		"Forwarded": `for=203.0.113.9;proto=https, for=127.0.0.1;host="app.example.com";proto=http`,
	} {
		if got := a.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if a.Host != "app.example.com" {
		t.Errorf("host %s", a.Host)
	}
}

func TestClientAddressBehindProxies(t *testing.T) {
	h := openWith(t, func(o *Options) { o.TrustedProxies = prefixes("10.0.0.0/8", "fd00::/8") }, nil)
	for _, c := range []struct{ remote, xff, forwarded, want string }{
		{"203.0.113.5:1", "1.1.1.1", "", "203.0.113.5"},
		{"10.0.0.1:1", "", "", "10.0.0.1"},
		{"10.0.0.1:1", "6.6.6.6, 203.0.113.9", "", "203.0.113.9"},
		{"10.0.0.1:1", "203.0.113.9,10.2.3.4", "", "203.0.113.9"},
		{"10.0.0.1:1", "203.0.113.9, garbage", "", "10.0.0.1"},
		{"10.0.0.1:1", "203.0.113.9:5555", "", "203.0.113.9"},
		{"[fd00::1]:1", "", `for="[2001:db8::17]:4711";proto=https`, "2001:db8::17"},
		{"10.0.0.1:1", "", `for=unknown, for=10.9.9.9`, "10.9.9.9"},
		{"[::ffff:10.0.0.1]:1", "203.0.113.9", "", "203.0.113.9"},
	} {
		r := &http.Request{RemoteAddr: c.remote, Header: http.Header{}}
		if c.xff != "" {
			r.Header.Set("X-Forwarded-For", c.xff)
		}
		if c.forwarded != "" {
			r.Header.Set("Forwarded", c.forwarded)
		}
		x := &Exchange{}
		if h.locate(x, r); x.ClientIP != c.want {
			t.Errorf("%+v: %s", c, x.ClientIP)
		}
	}
}

func TestBodiesStreamBothWays(t *testing.T) {
	up := serve(t, func(w http.ResponseWriter, r *http.Request) { // answers each line at once
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			fmt.Fprintf(w, "got %s\n", lines.Text())
			w.(http.Flusher).Flush()
		}
	})
	h := proxy(t, up)
	out, in := io.Pipe()
	defer in.Close()
	req := h.request("POST", "/talk", out)
	first := make(chan error, 1)
	go func() { _, err := io.WriteString(in, "one\n"); first <- err }()
	res, err := h.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(res.Body)
	for i, word := range []string{"one", "two", "three"} {
		if i > 0 {
			if _, err := io.WriteString(in, word+"\n"); err != nil {
				t.Fatal(err)
			}
		}
		line, err := answers.ReadString('\n')
		if err != nil || line != "got "+word+"\n" {
			t.Fatalf("%q %v", line, err)
		}
	}
	in.Close()
	if rest, err := io.ReadAll(answers); err != nil || len(rest) != 0 {
		t.Errorf("%q %v", rest, err)
	}
}

func TestServerSentEventsArriveAtOnceAndOutliveTheTimeout(t *testing.T) {
	next := make(chan struct{})
	up := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
		}
	})
	h := proxy(t, up, func(s *Settings) { s.Features["all"].Timeout = config.Duration(150 * time.Millisecond) })
	began := time.Now()
	res, err := h.client.Get(h.url + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	events := bufio.NewReader(res.Body)
	for i := range 3 {
		line, err := events.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("%q %v", line, err)
		}
		if _, err := events.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		until(t, "the timeout has passed", func() bool { return time.Since(began) > 250*time.Millisecond })
		next <- struct{}{}
	}
	if rest, err := io.ReadAll(events); err != nil || len(rest) != 0 {
		t.Errorf("%q %v", rest, err)
	}
}

func TestTrailersBothWays(t *testing.T) {
	up := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Trailer", "X-Sum, Landline-Forged")
		fmt.Fprintf(w, "%s %s %q", body, r.Trailer.Get("X-Check"), r.Trailer["Landline-Identity"])
		w.(http.Flusher).Flush()
		w.Header().Set("X-Sum", "42")
		w.Header().Set("Landline-Forged", "yes")
		w.Header().Set(http.TrailerPrefix+"X-Late", "unannounced")
	})
	h := proxy(t, up)
	req := h.request("POST", "/x", io.NopCloser(strings.NewReader("body")))
	req.ContentLength = -1
	req.Trailer = http.Header{"X-Check": {"7"}, "Landline-Identity": {"forged"}}
	res, body := h.do(req)
	if body != `body 7 []` {
		t.Errorf("the upstream saw %s", body)
	}
	if res.Trailer.Get("X-Sum") != "42" || res.Trailer.Get("X-Late") != "unannounced" || len(res.Trailer["Landline-Forged"]) != 0 {
		t.Errorf("trailers %v", res.Trailer)
	}
}

func TestRangesHeadAndConditionals(t *testing.T) {
	content := strings.NewReader("0123456789")
	up := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"e1"`)
		http.ServeContent(w, r, "x.txt", time.Time{}, content)
	})
	h := proxy(t, up)
	if res, body := h.get("/x", "Range", "bytes=2-4"); res.StatusCode != 206 || body != "234" || res.Header.Get("Content-Range") != "bytes 2-4/10" {
		t.Errorf("%d %q %v", res.StatusCode, body, res.Header)
	}
	if res, body := h.do(h.request("HEAD", "/x", nil)); res.StatusCode != 200 || body != "" || res.ContentLength != 10 {
		t.Errorf("HEAD: %d %q %d", res.StatusCode, body, res.ContentLength)
	}
	if res, body := h.get("/x", "If-None-Match", `"e1"`); res.StatusCode != 304 || body != "" {
		t.Errorf("%d %q", res.StatusCode, body)
	}
}

func TestInformationalAnswers(t *testing.T) {
	up := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.Header().Set("Landline-Forged", "1")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		io.WriteString(w, "done")
	})
	h := proxy(t, up)
	var hints []string
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
		hints = append(hints, fmt.Sprint(code, header.Get("Link"), header.Get("Landline-Forged")))
		return nil
	}})
	res, body := h.do(h.request("GET", "/x", nil).WithContext(ctx))
	if body != "done" || res.Header.Get("Link") != "" || !slices.Equal(hints, []string{"103</style.css>; rel=preload"}) {
		t.Errorf("%q %v %v", body, res.Header, hints)
	}
}

func TestExpectContinueSparesTheBodyOfARefusedUpload(t *testing.T) {
	up := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		echo(w, r)
	})
	h := proxy(t, up)
	c := h.dial()
	fmt.Fprintf(c, "POST /no HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 403 {
		t.Errorf("the body was asked for: %d", res.StatusCode)
	}
	c = h.dial()
	fmt.Fprintf(c, "POST /yes HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	answers := bufio.NewReader(c)
	if res, err = http.ReadResponse(answers, nil); err != nil || res.StatusCode != 100 {
		t.Fatalf("%v %v", res, err)
	}
	io.WriteString(c, "hello")
	if res, err = http.ReadResponse(answers, nil); err != nil || res.StatusCode != 200 {
		t.Fatalf("%v %v", res, err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || !bytes.Contains(body, []byte("hello")) {
		t.Errorf("%s %v", body, err)
	}
}

func TestEarlyAnswerKeepsTheConnectionUsable(t *testing.T) {
	up := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/early" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		echo(w, r)
	})
	h := proxy(t, up)
	for range 5 {
		res, _ := h.do(h.request("POST", "/early", bytes.NewReader(make([]byte, 3<<20))))
		if res.StatusCode != http.StatusTeapot {
			t.Fatalf("status %d", res.StatusCode)
		}
		if a := h.ask(h.request("POST", "/x", strings.NewReader("abc"))); a.Body != "abc" {
			t.Fatalf("%q", a.Body)
		}
	}
}

func TestClientGoneCancelsTheUpstream(t *testing.T) {
	arrived, gone := make(chan struct{}), make(chan struct{})
	up := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(gone)
	})
	h := proxy(t, up)
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 1)
	go func() {
		_, err := h.client.Do(h.request("GET", "/x", nil).WithContext(ctx)) //nolint:bodyclose // fails
		failed <- err
	}()
	<-arrived
	cancel()
	<-gone
	if err := <-failed; err == nil {
		t.Error("the request succeeded")
	}
}

func TestHTTP2BothWays(t *testing.T) {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(echo), Protocols: &protocols, ReadHeaderTimeout: time.Minute}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	h := proxy(t, "http://"+l.Addr().String(), func(s *Settings) { s.Upstreams["up"].Protocol = "h2c" })
	if a := h.ask(h.request("POST", "/x", strings.NewReader("over h1"))); a.Proto != "HTTP/2.0" || a.Body != "over h1" {
		t.Errorf("%+v", a)
	}
	client := &http.Transport{Protocols: &protocols}
	defer client.CloseIdleConnections()
	h.client.Transport = client
	res, body := h.do(h.request("POST", "/x", strings.NewReader("over h2"), "Te", "trailers"))
	if res.ProtoMajor != 2 || !strings.Contains(body, "over h2") {
		t.Errorf("%s %s", res.Proto, body)
	}
}
