package gateway

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"landline/internal/config"
)

// flood writes piece after text until the other side closes, at most 64 MiB.
func flood(text, piece string) func(net.Conn) {
	return func(c net.Conn) {
		says(text)(c)
		for sent := 0; sent < 64<<20; sent += len(piece) {
			if _, err := io.WriteString(c, piece); err != nil {
				return
			}
		}
	}
}

// Services that do not stop, that promise more or less than they send, or that
// speak something else: the client gets a problem or a connection that visibly
// ends, the connection to the service is given up, and no worker stays with it.
func TestHostileUpstreamsAreGivenUp(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	halfClosed := func(c net.Conn) {
		c.(*net.TCPConn).CloseWrite()
		hang(c)
	}
	for name, c := range map[string]struct {
		answer func(net.Conn)
		want   string // codes, "cut" or the body of a 200, separated by |
	}{
		"half-closes":             {halfClosed, "upstream_invalid"},
		"resets":                  {func(c net.Conn) { c.(*net.TCPConn).SetLinger(0) }, "upstream_unreachable"},
		"another protocol":        {says("SSH-2.0-OpenSSH_9.2\r\n"), "upstream_invalid"},
		"HTTP/2 unasked":          {says("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "upstream_invalid"},
		"status out of range":     {says("HTTP/1.1 99999 Huge\r\nContent-Length: 0\r\n\r\n"), "upstream_invalid"},
		"length beyond 64 bits":   {says(ok + "Content-Length: 99999999999999999999\r\n\r\nhello"), "upstream_invalid"},
		"unknown coding":          {says(ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), "upstream_invalid"},
		"promises less":           {says(ok + "Content-Length: 5\r\n\r\nhello" + ok + "Content-Length: 7\r\n\r\nforgery"), "hello|upstream_invalid"},
		"header without end":      {flood(ok, "X-Filler: "+strings.Repeat("y", 1000)+"\r\n"), "upstream_invalid"},
		"header line without end": {flood(ok+"X-Filler: ", strings.Repeat("y", 1000)), "upstream_invalid"},
		"status line without end": {flood("HTTP/1.1 200 ", strings.Repeat("O", 1000)), "upstream_invalid"},
		"103 without end":         {flood("", "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n"), "upstream_invalid"},
		"100 without end":         {flood("", "HTTP/1.1 100 Continue\r\n\r\n"), "upstream_invalid|upstream_timeout"},
		"chunk beyond 64 bits":    {says(ok + "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nhello"), "cut|upstream_invalid"},
		"extension without end":   {flood(ok+"Transfer-Encoding: chunked\r\n\r\n5;", strings.Repeat("e", 1000)), "cut|upstream_invalid|upstream_timeout"},
		"trailers without end":    {flood(ok+"Trailer: X-A\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", "X-A: "+strings.Repeat("y", 1000)+"\r\n"), "cut|upstream_invalid|upstream_timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			left := make(chan struct{}, 8)
			url := rawUpstream(t, func(conn net.Conn) {
				c.answer(conn)
				left <- struct{}{}
			})
			h := proxy(t, url, func(s *Settings) { s.Features["all"].Timeout = config.Duration(2 * time.Second) })
			got := met(t, h)
			if !strings.Contains("|"+c.want+"|", "|"+got+"|") {
				t.Errorf("%s, want %s", got, c.want)
			}
			select {
			case <-left:
			case <-time.After(20 * time.Second):
				t.Error("the connection to the service is still held")
			}
		})
	}
}

// met is the code of a problem, the body of a 200, or "cut".
func met(t *testing.T, h *house) string {
	t.Helper()
	res, err := h.client.Do(h.request(http.MethodGet, "/x", nil))
	if err != nil {
		if errors.Is(err, io.EOF) || strings.Contains(err.Error(), "reset") {
			return "cut"
		}
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return "cut"
	case res.StatusCode == http.StatusOK:
		return string(body)
	}
	return code(t, string(body))
}
