package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// Client is one kind of load: on every connection one request after another.
// One goroutine calls its functions for all connections, except Do.
type Client struct {
	Address string
	// Request appends the n-th request of a connection to b. Use Get or Static
	// where all are the same.
	Request func(b []byte, connection, n int) []byte
	Length  int    // bytes of every answer's body; 0 = any
	Without string // header field that no answer may have, in lower case with its colon
	// Answer, if not nil, is given the body of every answer; it may not keep it.
	Answer func(connection int, body []byte) error
	// Do, if not nil, is what is done instead of a request, by a goroutine for
	// each connection.
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

// drive sends requests over so many connections until the time is over, on each
// at most so many if most is not 0. It returns how long each took.
func (c *Client) drive(connections, most int, until time.Time) ([]time.Duration, error) {
	if c.Do == nil {
		return c.send(connections, most, until)
	}
	type result struct {
		times []time.Duration
		err   error
	}
	results := make(chan result, connections)
	for i := range connections {
		go func() {
			var r result
			for now := time.Now(); r.err == nil && (most == 0 || len(r.times) < most) && now.Before(until); {
				if r.err = c.Do(i, len(r.times)); r.err == nil {
					began := now
					now = time.Now()
					r.times = append(r.times, now.Sub(began))
				}
			}
			results <- r
		}()
	}
	var times []time.Duration
	var err error
	for range connections {
		r := <-results
		times, err = append(times, r.times...), errors.Join(err, r.err)
	}
	return times, err
}

const (
	firstBuffer = 16 << 10
	maxAnswer   = 4 << 20 // bytes of header and body
)

// answer is what has been read of an answer.
type answer struct {
	data []byte
	body int // where it begins; 0 = the header is not there yet
	end  int // where it ends
}

// room is where more of the answer is to be read to.
func (a *answer) room() []byte {
	if a.data == nil {
		a.data = make([]byte, 0, firstBuffer)
	}
	if len(a.data) == cap(a.data) {
		a.data = append(make([]byte, 0, 2*cap(a.data)), a.data...)
	}
	return a.data[len(a.data):cap(a.data)]
}

// took counts n more bytes, and is true when the answer is there whole and is a good one.
func (c *Client) took(a *answer, n, connection int) (whole bool, err error) {
	if n == 0 {
		return false, io.ErrUnexpectedEOF
	}
	a.data = a.data[:len(a.data)+n]
	if a.body == 0 {
		head := bytes.Index(a.data, []byte("\r\n\r\n"))
		if head < 0 && len(a.data) < firstBuffer {
			return false, nil
		}
		length, err := c.header(a.data, head)
		if err != nil {
			return false, err
		}
		a.body, a.end = head+4, head+4+length
	}
	switch {
	case a.end > maxAnswer || len(a.data) > a.end:
		return false, fmt.Errorf("an answer of %d bytes, of which %d have come", a.end, len(a.data))
	case len(a.data) < a.end:
		return false, nil
	}
	body := a.data[a.body:a.end]
	a.data, a.body = a.data[:0], 0
	if c.Answer == nil {
		return true, nil
	}
	return true, c.Answer(connection, body)
}

// header checks the status line and the fields, which end before data[end], and
// returns the length of the body.
func (c *Client) header(data []byte, end int) (length int, err error) {
	if end < 0 || len(data) < 12 || string(data[:7]) != "HTTP/1." || data[9] != '2' {
		return 0, fmt.Errorf("answer %q", data[:min(len(data), 2000)])
	}
	length = -1
	_, rest, more := bytes.Cut(data[:end], []byte("\r\n"))
	for more {
		var line []byte
		line, rest, more = bytes.Cut(rest, []byte("\r\n"))
		const name = "content-length:"
		switch {
		case len(line) > len(name) && line[0]|0x20 == 'c' && bytes.EqualFold(line[:len(name)], []byte(name)):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(name):]))); err != nil {
				return 0, err
			}
		case c.Without != "" && len(line) >= len(c.Without) && bytes.EqualFold(line[:len(c.Without)], []byte(c.Without)):
			return 0, fmt.Errorf("answer with %s", line)
		}
	}
	if length < 0 || c.Length > 0 && length != c.Length {
		return 0, fmt.Errorf("an answer of %d bytes", length)
	}
	return length, nil
}
