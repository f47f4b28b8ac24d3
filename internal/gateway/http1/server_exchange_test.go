package http1

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// exchanges are handlers that answer in every way there is.
func exchanges() http.Handler {
	mux := http.NewServeMux()
	on := func(path string, h func(w http.ResponseWriter, r *http.Request)) { mux.HandleFunc(path, h) }
	text := func(w http.ResponseWriter) { w.Header().Set("Content-Type", "text/plain") }
	on("/html", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>hello") })
	on("/plain", func(w http.ResponseWriter, r *http.Request) { text(w); fmt.Fprintf(w, "%s %s", r.Method, r.URL) })
	on("/silent", func(http.ResponseWriter, *http.Request) {})
	on("/held", func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 1000)); w.Write(make([]byte, 1048)) })
	on("/one-more", func(w http.ResponseWriter, _ *http.Request) { text(w); w.Write(bytes.Repeat([]byte("x"), 2049)) })
	on("/length", func(w http.ResponseWriter, _ *http.Request) {
		text(w)
		w.Header().Set("Content-Length", "6")
		w.Write([]byte("hel"))
		w.Write([]byte("lo!"))
	})
	on("/large", func(w http.ResponseWriter, _ *http.Request) {
		text(w)
		w.Header().Set("Content-Length", "1000000")
		io.Copy(w, strings.NewReader(strings.Repeat("0123456789", 100_000)))
	})
	on("/short", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "9")
		w.Write([]byte("short"))
	})
	on("/long", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "4")
		w.Write([]byte("long"))
		if _, err := w.Write([]byte("er")); !errors.Is(err, http.ErrContentLength) {
			panic(err)
		}
	})
	on("/no-length", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "many")
		w.Write([]byte("few"))
	})
	on("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		code := 0
		fmt.Sscan(r.PathValue("code"), &code)
		text(w)
		w.Header().Set("Etag", `"1"`)
		w.WriteHeader(code)
		if _, err := w.Write([]byte("body")); err != nil && !errors.Is(err, http.ErrBodyNotAllowed) {
			panic(err)
		}
	})
	on("/flushed", func(w http.ResponseWriter, _ *http.Request) {
		text(w)
		w.Write([]byte("one"))
		http.NewResponseController(w).Flush()
		w.Write([]byte("two"))
		w.Write([]byte("three"))
	})
	on("/flushed-first", func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush(); w.Write([]byte("late")) })
	on("/trailers", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum, X-Never")
		w.Write([]byte("body"))
		w.Header().Set("X-Sum", "42")
		w.Header().Set("X-Late", "is not sent")
		w.Header().Set(http.TrailerPrefix+"X-Unannounced", "7")
	})
	on("/late", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-A", "1")
		w.WriteHeader(200)
		w.Header().Set("X-A", "2")
		w.Header().Set("X-B", "2")
		w.WriteHeader(500)
		io.WriteString(w, "late")
	})
	on("/hints", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusProcessing)
		w.Write([]byte("page"))
	})
	on("/fields", func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h["X-Two"] = []string{"a", "b"}
		h["X-Lines"] = []string{" a\r\nX-Forged: 1\n "}
		h["X Bad"] = []string{"left out"}
		h["Content-Type"], h["Date"] = nil, []string{"Thu, 01 Jan 1970 00:00:00 GMT"}
		w.Write([]byte("fields"))
	})
	on("/encoded", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "br")
		w.Write([]byte("<html>"))
	})
	on("/coding/{is}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Transfer-Encoding", r.PathValue("is"))
		w.Write([]byte("coded"))
	})
	on("/last", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.Write([]byte("last"))
	})
	on("/echo", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		text(w)
		fmt.Fprintf(w, "%d %q %v %v %v %v", r.ContentLength, body, err, r.TransferEncoding, r.Trailer, r.Close)
	})
	on("/duplex", func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		text(w)
		w.Write([]byte("first "))
		http.NewResponseController(w).Flush()
		io.Copy(w, r.Body)
	})
	on("/at-most", func(w http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4))
		http.Error(w, fmt.Sprint(err), http.StatusRequestEntityTooLarge)
	})
	on("/close-body", func(w http.ResponseWriter, r *http.Request) {
		r.Body.Close()
		_, err := r.Body.Read(make([]byte, 1))
		fmt.Fprint(w, errors.Is(err, http.ErrBodyReadAfterClose))
	})
	on("/abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	on("/abort-late", func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("some"))
		http.NewResponseController(w).Flush()
		w.Write([]byte("never sent"))
		panic(http.ErrAbortHandler)
	})
	on("/panic", func(http.ResponseWriter, *http.Request) { panic("at the handler") })
	on("/hijack", func(w http.ResponseWriter, _ *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer c.Close()
		if _, err := w.Write([]byte("x")); !errors.Is(err, http.ErrHijacked) {
			panic(err)
		}
		line, _ := rw.ReadString('\n')
		fmt.Fprintf(rw, "raw %q", line)
		rw.Flush()
	})
	on("/upgrade", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "echo")
		w.WriteHeader(http.StatusSwitchingProtocols)
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer c.Close()
		line, _ := rw.ReadString('\n')
		fmt.Fprintf(rw, "switched %q", line)
		rw.Flush()
	})
	return mux
}

const (
	hostLine = " HTTP/1.1\r\nHost: x\r\n"
	lastOne  = "GET /last" + hostLine + "\r\n"
)

func gets(path string) string  { return "GET " + path + hostLine + "\r\n" }
func heads(path string) string { return "HEAD " + path + hostLine + "\r\n" }
func posts(path, body string) string {
	return fmt.Sprintf("POST %s%sContent-Length: %d\r\n\r\n%s", path, hostLine, len(body), body)
}

func sends(path, chunks string, fields ...string) string {
	return "POST " + path + hostLine + strings.Join(append(fields, "Transfer-Encoding: chunked"), "\r\n") + "\r\n\r\n" + chunks
}

// scripts are what clients say. Each ends with a connection that the server closes.
func scripts() map[string]string {
	all := map[string]string{
		"pipelined":                gets("/plain?a=b") + posts("/echo", "hello") + gets("/html") + lastOne,
		"CRLF behind a POST":       posts("/echo", "hello") + "\r\n\r\n" + lastOne,
		"CRLF before a GET":        "\r\n" + gets("/plain") + lastOne,
		"close":                    "GET /plain" + hostLine + "Connection: close\r\n\r\n" + gets("/plain"),
		"close in a list":          "GET /plain" + hostLine + "Connection: x, Close\r\n\r\n" + gets("/plain"),
		"HTTP/1.0":                 "GET /plain HTTP/1.0\r\n\r\n" + gets("/plain"),
		"HTTP/1.0 kept":            "GET /plain HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + lastOne,
		"HTTP/1.0 kept, no length": "GET /flushed HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + lastOne,
		"HTTP/1.0 HEAD":            "HEAD /plain HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + lastOne,
		"HTTP/1.0 trailers":        "GET /trailers HTTP/1.0\r\n\r\n",
		"HTTP/1.2":                 "GET /plain HTTP/1.2\r\nHost: x\r\n\r\n" + lastOne,
		"bare LF":                  "GET /plain HTTP/1.1\nHost: x\n\n" + lastOne,
		"absolute form":            "GET http://other/plain HTTP/1.1\r\nHost: x\r\n\r\n" + lastOne,
		"asterisk form":            "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n" + lastOne,
		"authority form":           "CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n" + lastOne,
		"unread body":              posts("/plain", "body") + lastOne,
		"large unread body":        posts("/plain", strings.Repeat("b", 200_000)) + lastOne,
		"larger unread body":       posts("/plain", strings.Repeat("b", 300_000)),
		"chunks":                   sends("/echo", "5\r\nhello\r\n3;x=\"y\"\r\n, w\r\n0\r\n\r\n") + lastOne,
		"chunks unread":            sends("/plain", "5\r\nhello\r\n0\r\n\r\n") + lastOne,
		"chunks with trailers":     sends("/echo", "2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n", "Trailer: X-T") + lastOne,
		"broken chunks":            sends("/echo", "5\r\nhelloXX0\r\n\r\n"+lastOne),
		"broken chunks unread":     sends("/plain", "zz\r\n"+lastOne),
		"two codings":              sends("/echo", "0\r\n\r\n", "Transfer-Encoding: gzip"),
		"another coding":           "POST /echo" + hostLine + "Transfer-Encoding: gzip\r\n\r\n",
		"expect":                   "POST /echo" + hostLine + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi" + lastOne,
		"expect, unread":           "POST /plain" + hostLine + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi" + lastOne,
		"expect without body":      "GET /plain" + hostLine + "Expect: 100-continue\r\n\r\n" + lastOne,
		"expect the unmeetable":    "GET /plain" + hostLine + "Expect: the-inquisition\r\n\r\n" + lastOne,
		"duplex":                   posts("/duplex", "second") + lastOne,
		"body closed":              posts("/close-body", "12345") + lastOne,
		"hijack":                   gets("/hijack") + "raw\n",
		"upgrade":                  gets("/upgrade") + "raw\n",
		"no host":                  "GET /plain HTTP/1.1\r\n\r\n",
		"bad host":                 "GET /plain HTTP/1.1\r\nHost: a/b\r\n\r\n",
		"two hosts":                "GET /plain HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"HTTP/2.0":                 "GET /plain HTTP/2.0\r\nHost: a\r\n\r\n",
		"HTTP/0.9":                 "GET /plain\r\n\r\n",
		"control character":        "GET /pl\x01ain HTTP/1.1\r\nHost: a\r\n\r\n",
		"folded":                   "GET /plain HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n" + lastOne,
		"lengths that differ":      "POST /echo" + hostLine + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"one length twice":         "POST /echo" + hostLine + "Content-Length: 2\r\nContent-Length: 2\r\n\r\nab" + lastOne,
		"signed length":            "POST /echo" + hostLine + "Content-Length: +2\r\n\r\nab",
		"header too large":         "GET /plain" + hostLine + strings.Repeat("X-Long: "+strings.Repeat("y", 990)+"\r\n", 40) + "\r\n",
		"header of 9 KB":           "GET /plain" + hostLine + strings.Repeat("X-Long: "+strings.Repeat("y", 990)+"\r\n", 9) + "\r\n" + lastOne,
		"cut header":               "GET /plain HTTP/1.1\r\nHos",
		"nothing":                  "",
	}
	for _, path := range []string{"/html", "/plain", "/silent", "/held", "/one-more", "/length", "/large", "/short", "/long", "/flushed", "/flushed-first", "/trailers", "/late", "/hints",
		"/fields", "/encoded", "/coding/identity", "/coding/chunked", "/abort", "/abort-late", "/panic", "/status/200", "/status/204", "/status/299", "/status/304", "/status/404", "/status/799"} {
		all[path] = gets(path) + lastOne
		all["HEAD "+path] = heads(path) + lastOne
	}
	return all
}

var (
	aHead = regexp.MustCompile(`(?s)HTTP/1\.[01] \d\d\d .*?\r\n\r\n`)
	aDate = regexp.MustCompile(`Date: \w\w\w, .* GMT`)
)

// normal sorts the fields of every header in what a server said, and takes the time out.
func normal(said string) string {
	return aHead.ReplaceAllStringFunc(said, func(h string) string {
		lines := strings.Split(strings.TrimSuffix(h, "\r\n\r\n"), "\r\n")
		slices.Sort(lines[1:])
		h = strings.Join(lines, "\n") + "\n\n"
		if strings.Contains(h, "1970") {
			return h
		}
		return aDate.ReplaceAllString(h, "Date: now")
	})
}

// tell says a script to a server and returns what comes until the connection ends.
func tell(t *testing.T, addr, wire string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		if _, err := io.WriteString(c, wire); err == nil {
			c.(*net.TCPConn).CloseWrite()
		}
	}()
	said, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("after %q: %v", said, err)
	}
	c.Close()
	<-sent
	return string(said)
}

// TestExchangesAsNetHTTP: a client cannot tell the Server from net/http's.
func TestExchangesAsNetHTTP(t *testing.T) {
	ours := startServer(t, exchanges(), nil).addr
	theirs := startStandard(t, exchanges())
	for name, wire := range scripts() {
		t.Run(name, func(t *testing.T) {
			got, want := normal(tell(t, ours, wire)), normal(tell(t, theirs, wire))
			if got != want {
				at := 0
				for at < min(len(got), len(want)) && got[at] == want[at] {
					at++
				}
				from := max(0, at-300)
				t.Errorf("from byte %d\nours     %.600q\nnet/http %.600q", at, got[from:], want[from:])
			}
		})
	}
}

// TestExchangesUnlikeNetHTTP lists where a client can tell the difference.
func TestExchangesUnlikeNetHTTP(t *testing.T) {
	ours := startServer(t, exchanges(), nil).addr
	theirs := startStandard(t, exchanges())
	for _, c := range []struct{ name, wire, ours, theirs string }{
		{"both length and chunks end the connection", sends("/echo", "0\r\n\r\n", "Content-Length: 5") + gets("/plain"), "Connection: close", "GET /plain"},
		{"chunks over HTTP/1.0 end the connection", "POST /plain HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + gets("/plain"), "200 OK\n", "GET /plain"},
		{"a request that was cut is the last one", "POST /echo" + hostLine + "Content-Length: 20\r\n\r\nhello", "Connection: close", "unexpected EOF"},
		{"http.MaxBytesReader cannot end the connection", posts("/at-most", "12345") + lastOne, "last", "Connection: close"},
		{"a Content-Length that is no number is left out", gets("/no-length") + lastOne, "Content-Length: 3", "chunked"},
		{"the reason of a malformed field is not told", "GET /plain HTTP/1.1\r\nHost : a\r\n\r\n", "400 Bad Request\n", "missing required Host header"},
		{"a trailer that cannot be one", sends("/echo", "0\r\nContent-Length: 5\r\n\r\n") + lastOne, "cannot be one", "map[Content-Length:[5]]"},
		{"HTTP/1.0 has no informational answers", "GET /hints HTTP/1.0\r\n\r\n", "HTTP/1.0 200", "HTTP/1.0 103"},
		{"a length of 19 digits", "POST /echo" + hostLine + "Content-Length: 1000000000000000000\r\n\r\n", "400 Bad Request", "200 OK"},
		{"a lone PRI request", "PRI * HTTP/2.0\r\n\r\n", "505 HTTP Version", "Content-Length: 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, want := normal(tell(t, ours, c.wire)), normal(tell(t, theirs, c.wire))
			if !strings.Contains(got, c.ours) || !strings.Contains(want, c.theirs) || got == want {
				t.Errorf("ours     %.400q\nnet/http %.400q", got, want)
			}
		})
	}
}
