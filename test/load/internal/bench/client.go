package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// Client is one kind of load: on every connection one request after another.
type Client struct {
	Address string
	// Request appends the n-th request of a connection to b. Use Get or Static
	// where all are the same.
	Request func(b []byte, connection, n int) []byte
	Length  int    // bytes of every answer's body; 0 = any
	Without string // header field that no answer may have, in lower case with its colon
}

// Static is a Request that is always the same.
func Static(request string) func([]byte, int, int) []byte {
	return func(b []byte, _, _ int) []byte { return append(b, request...) }
}

// Get is a GET with header lines, each with its CRLF.
func Get(path, header string) func([]byte, int, int) []byte {
	return Static("GET " + path + " HTTP/1.1\r\nHost: load.example.test\r\n" + header + "\r\n")
}

// Post is a POST of JSON with header lines.
func Post(path, header, body string) string {
	return "POST " + path + " HTTP/1.1\r\nHost: load.example.test\r\nContent-Type: application/json\r\nContent-Length: " +
		strconv.Itoa(len(body)) + "\r\n" + header + "\r\n" + body
}

// drive sends requests over one connection until the time is over, at most so
// many if most is not 0. It reads a header up to the blank line and then
// Content-Length bytes.
func (c *Client) drive(connection, most int, until time.Time) (n int, err error) {
	conn, err := net.Dial("tcp", c.Address)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(until.Add(30 * time.Second)); err != nil {
		return 0, err
	}
	r, out := bufio.NewReaderSize(conn, 16<<10), make([]byte, 0, 4<<10)
	for (most == 0 || n < most) && time.Now().Before(until) {
		if _, err := conn.Write(c.Request(out[:0], connection, n)); err != nil {
			return n, err
		}
		if err := c.answer(r); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func (c *Client) answer(r *bufio.Reader) error {
	length := -1
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		switch {
		case first && (len(line) < 12 || line[9] != '2'):
			rest := make([]byte, min(r.Buffered(), 2000))
			rest = rest[:max(0, readSome(r, rest))]
			return fmt.Errorf("answer %q %s", line, rest)
		case len(line) <= 2:
			if length < 0 || c.Length > 0 && length != c.Length {
				return fmt.Errorf("an answer of %d bytes", length)
			}
			_, err := io.CopyN(io.Discard, r, int64(length))
			return err
		case len(line) > 16 && strings.EqualFold(string(line[:15]), "content-length:"):
			if length, err = strconv.Atoi(strings.TrimSpace(string(line[15:]))); err != nil {
				return err
			}
		case c.Without != "" && strings.HasPrefix(strings.ToLower(string(line)), c.Without):
			return errors.New("answer with " + string(line))
		}
	}
}

func readSome(r *bufio.Reader, p []byte) int {
	n, err := r.Read(p)
	if err != nil {
		return 0
	}
	return n
}
