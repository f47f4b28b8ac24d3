package e2e

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Streams, ranges and upgrades pass through as if Landline were not there.
func TestPassThrough(t *testing.T) {
	h := setups[0].start(t)
	base := h.nodes[0].Public

	t.Run("the first event arrives while the stream is open", func(t *testing.T) {
		res, err := client.Get(base + "/v1/events")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		line, err := bufio.NewReader(res.Body).ReadString('\n')
		if err != nil || line != "data: first\n" {
			t.Fatalf("%q, %v", line, err)
		}
		if ct := res.Header.Get("Content-Type"); ct != "text/event-stream" {
			t.Errorf("Content-Type %q", ct)
		}
	})

	t.Run("a range is a range", func(t *testing.T) {
		req, err := http.NewRequest(http.MethodGet, base+"/v1/file", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Range", "bytes=5-14")
		res, body := do(t, req)
		if res.StatusCode != 206 || string(body) != "5678901234" || res.Header.Get("Content-Range") != "bytes 5-14/10000" {
			t.Errorf("%d %q %q", res.StatusCode, body, res.Header.Get("Content-Range"))
		}
		req.Header.Del("Range")
		req.Header.Set("If-Modified-Since", res.Header.Get("Last-Modified"))
		if res, _ := do(t, req); res.StatusCode != 304 {
			t.Errorf("conditional request: %d", res.StatusCode)
		}
	})

	t.Run("half an answer is never passed off as whole", func(t *testing.T) {
		res, err := client.Get(base + "/v1/short")
		if err == nil {
			defer res.Body.Close()
			_, err = io.ReadAll(res.Body)
		}
		if err == nil && res.StatusCode == http.StatusOK {
			t.Errorf("the client believes that %d was whole", res.StatusCode)
		}
	})

	t.Run("trailers arrive", func(t *testing.T) {
		res, err := client.Get(base + "/v1/trailers")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if _, err := io.ReadAll(res.Body); err != nil {
			t.Fatal(err)
		}
		if res.Trailer.Get("Checksum") != "abc" {
			t.Errorf("trailers: %v", res.Trailer)
		}
	})

	t.Run("HTTP/2 without TLS", func(t *testing.T) {
		transport := &http.Transport{Protocols: new(http.Protocols)}
		transport.Protocols.SetUnencryptedHTTP2(true)
		defer transport.CloseIdleConnections()
		res, err := (&http.Client{Transport: transport, Timeout: patience}).Get(base + "/v1/echo/h2")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.ProtoMajor != 2 || res.StatusCode != 200 {
			t.Errorf("HTTP/%d %d", res.ProtoMajor, res.StatusCode)
		}
	})

	t.Run("a WebSocket talks both ways", func(t *testing.T) {
		conn := dialSocket(t, base+"/v1/socket")
		defer conn.Close()
		for range 3 {
			if _, err := conn.Write([]byte("ping")); err != nil {
				t.Fatal(err)
			}
			answer := make([]byte, 4)
			if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "ping" {
				t.Fatalf("%q, %v", answer, err)
			}
		}
	})
}

func do(t *testing.T, req *http.Request) (*http.Response, []byte) {
	t.Helper()
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, body
}

// dialSocket makes the RFC 6455 handshake and returns the bare connection behind it.
func dialSocket(t *testing.T, url string) net.Conn {
	t.Helper()
	host, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, 16)
	rand.Read(nonce)
	fmt.Fprintf(conn, "GET /%s HTTP/1.1\r\nHost: %s\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n",
		path, host, base64.StdEncoding.EncodeToString(nonce))
	res, err := http.ReadResponse(bufio.NewReaderSize(oneByte{conn}, 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Sec-WebSocket-Accept") == "" {
		t.Fatalf("handshake: %s", res.Status)
	}
	return conn
}

// oneByte reads byte by byte, so that the handshake's reader takes nothing of what follows it.
type oneByte struct{ net.Conn }

func (c oneByte) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, errors.New("empty read")
	}
	return c.Conn.Read(p[:1])
}
