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
	// Answer, if not nil, is given the body of every answer; it may not keep it.
	Answer func(connection int, body []byte) error
	// Do, if not nil, is what is done instead of a request.
	Do func(connection, n int) error
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
// Content-Length bytes. It returns how long each took.
func (c *Client) drive(connection, most int, until time.Time) (times []time.Duration, err error) {
	do := c.Do
	if do == nil {
		conn, err := net.Dial("tcp", c.Address)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		if err := conn.SetDeadline(until.Add(30 * time.Second)); err != nil {
			return nil, err
		}
		r, out, body := bufio.NewReaderSize(conn, 16<<10), make([]byte, 0, 8<<10), make([]byte, 8<<10)
		do = func(connection, n int) error {
			if _, err := conn.Write(c.Request(out[:0], connection, n)); err != nil {
				return err
			}
			return c.answer(r, connection, body)
		}
	}
	for now := time.Now(); (most == 0 || len(times) < most) && now.Before(until); {
		if err := do(connection, len(times)); err != nil {
			return times, err
		}
		began := now
		now = time.Now()
		times = append(times, now.Sub(began))
	}
	return times, nil
}

func (c *Client) answer(r *bufio.Reader, connection int, body []byte) error {
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
			if c.Answer == nil {
				_, err := r.Discard(length)
				return err
			}
			if length > len(body) {
				return fmt.Errorf("an answer of %d bytes", length)
			}
			if _, err := io.ReadFull(r, body[:length]); err != nil {
				return err
			}
			return c.Answer(connection, body[:length])
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
