package bench

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const good = "HTTP/1.1 201 Created\r\nX-A: b\r\ncontent-length: 5\r\n\r\nhello"

// TestAnAnswerMayComeInPieces cuts an answer at every byte.
func TestAnAnswerMayComeInPieces(t *testing.T) {
	for cut := 1; cut < len(good); cut++ {
		body := ""
		c := Client{Length: 5, Answer: func(connection int, b []byte) error {
			if connection != 7 {
				t.Errorf("connection %d", connection)
			}
			body = string(b)
			return nil
		}}
		var a answer
		for range 2 { // the buffer is used again
			body = ""
			for i, piece := range []string{good[:cut], good[cut:]} {
				whole, err := c.took(&a, copy(a.room(), piece), 7)
				if err != nil || whole != (i == 1) {
					t.Fatalf("cut at %d, piece %d: %t, %v", cut, i, whole, err)
				}
			}
			if body != "hello" {
				t.Fatalf("cut at %d: %q", cut, body)
			}
		}
	}
}

func TestAnAnswerThatIsNotGoodIsTold(t *testing.T) {
	refused := errors.New("not what was asked for")
	for _, text := range []string{
		"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\n\r\n",                                                  // no length
		"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhell",                         // another length
		"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nhello",                        // no number
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello!",                       // more than was asked for
		"HTTP/1.1 200 OK\r\nLandline-Partial: x\r\nContent-Length: 5\r\n\r\nhello", // a field that must not be
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHELLO",                        // another body
		"SSH-2.0-OpenSSH\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", firstBuffer),
		"", // the end of the connection
	} {
		c := Client{Length: 5, Without: "landline-partial:", Answer: func(_ int, b []byte) error {
			if string(b) != "hello" {
				return refused
			}
			return nil
		}}
		var a answer
		err := error(nil)
		for rest := text; err == nil; {
			n := copy(a.room(), rest)
			rest = rest[n:]
			var whole bool
			if whole, err = c.took(&a, n, 0); whole && err == nil {
				t.Fatalf("accepted: %.80q", text)
			}
		}
	}
}

// TestEveryConnectionSendsItsRequests counts what a server gets.
func TestEveryConnectionSendsItsRequests(t *testing.T) {
	var got atomic.Int64
	long := strings.Repeat("l", 3*firstBuffer)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.Add(1)
		w.Header().Set("Content-Length", "49152")
		if _, err := io.WriteString(w, long); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	row := Row{Name: "row", Client: Client{Address: server.Listener.Addr().String(), Request: Get("/", ""), Length: len(long)}}
	if err := row.Prepare(5, 7); err != nil || got.Load() != 35 {
		t.Errorf("%d requests, %v", got.Load(), err)
	}
	times, err := row.drive(3, 0, time.Now().Add(20*time.Millisecond))
	if err != nil || len(times) == 0 || int(got.Load()) != 35+len(times) {
		t.Errorf("%d requests, %d answers, %v", got.Load(), len(times), err)
	}
}
