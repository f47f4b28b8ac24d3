package http1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// head is the header of an answer.
type head struct {
	status int
	reason string // "200 OK"
	minor  int    // of HTTP/1.x
	header http.Header

	chunked  bool
	bodiless bool  // whatever else the header says
	length   int64 // Content-Length, -1 without
	close    bool  // the connection ends with this answer
	trailer  http.Header
}

var (
	errHeaderTooLarge = errors.New("http1: the header of the answer is larger than the limit")
	errLength         = errors.New("http1: the answer has a Content-Length that is none, or several")
	errCoding         = errors.New("http1: the answer has a transfer coding other than chunked")
)

// fault is an answer that is not HTTP/1.1. It quotes little of it.
func fault(format string, args ...any) error { return fmt.Errorf("http1: "+format, args...) }

// readBlock returns the bytes up to and with the empty line, at most so many.
// They are valid until the next read. A header that fits the buffer is not copied.
func readBlock(r *bufio.Reader, scratch []byte, most int) (block, grown []byte, err error) {
	if r.Buffered() == 0 {
		if _, err := r.Peek(1); err != nil {
			return nil, scratch, err
		}
	}
	seen, err := r.Peek(r.Buffered())
	if err != nil {
		return nil, scratch, err
	}
	if n := blockEnd(seen); n > 0 {
		if n > most {
			return nil, scratch, errHeaderTooLarge
		}
		_, err := r.Discard(n)
		return seen[:n], scratch, err
	}
	scratch = scratch[:0]
	lineBegan := 0
	for {
		part, err := r.ReadSlice('\n')
		if len(scratch)+len(part) > most {
			return nil, scratch, errHeaderTooLarge
		}
		scratch = append(scratch, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			return nil, scratch, io.ErrUnexpectedEOF
		case err != nil:
			return nil, scratch, err
		}
		if isEmptyLine(scratch[lineBegan:]) && lineBegan > 0 {
			return scratch, scratch, nil
		}
		lineBegan = len(scratch)
	}
}

// blockEnd is the length of b up to and with the first empty line behind the
// first line, 0 if there is none. A line may end with LF alone (RFC 9112 §2.2).
func blockEnd(b []byte) int {
	for at := 0; ; {
		n := bytes.IndexByte(b[at:], '\n')
		if n < 0 {
			return 0
		}
		if at > 0 && isEmptyLine(b[at:at+n+1]) {
			return at + n + 1
		}
		at += n + 1
	}
}

func isEmptyLine(line []byte) bool {
	return len(line) == 1 || len(line) == 2 && line[0] == '\r'
}

// nextLine cuts the first line off, without its end.
func nextLine(s string) (line, rest string) {
	line, rest, _ = strings.Cut(s, "\n")
	return strings.TrimSuffix(line, "\r"), rest
}

// parseHead reads a block as the answer to a request with the method.
func parseHead(block []byte, method string) (head, error) {
	text := string(block) // the only copy: fields are parts of it
	h := head{length: -1}
	line, rest := nextLine(text)
	if err := h.statusLine(line); err != nil {
		return head{}, err
	}
	fields, err := parseFields(rest)
	if err != nil {
		return head{}, err
	}
	h.header = fields
	return h, h.framing(method)
}

// statusLine reads "HTTP/1.1 200 OK"; the reason may be missing.
func (h *head) statusLine(line string) error {
	if len(line) < len("HTTP/1.x 200") || !strings.HasPrefix(line, "HTTP/1.") || line[8] != ' ' {
		return fault("the answer does not begin with HTTP/1.0 or HTTP/1.1")
	}
	switch line[7] {
	case '0':
	case '1':
		h.minor = 1
	default:
		return fault("the answer is of an unknown version of HTTP/1")
	}
	for _, digit := range []byte(line[9:12]) {
		if digit < '0' || digit > '9' {
			return fault("the status of the answer is no number of three digits")
		}
		h.status = h.status*10 + int(digit-'0')
	}
	if h.status < 100 || len(line) > 12 && line[12] != ' ' || !isFieldValue(line) {
		return fault("the status line of the answer is malformed")
	}
	h.reason = line[9:]
	return nil
}

// parseFields reads the lines of a header up to the empty one.
func parseFields(text string) (http.Header, error) {
	n := max(strings.Count(text, "\n")-1, 1) // the last line is empty
	header := make(http.Header, n)
	values := make([]string, n) // one piece of memory for most fields
	for {
		line, rest := nextLine(text)
		if line == "" {
			return header, nil
		}
		if rest != "" && isBlank(rest[0]) {
			line, rest = unfold(line, rest)
		}
		text = rest
		name, value, ok := strings.Cut(line, ":")
		switch {
		case !ok || !isToken(name): // also a space before the colon, RFC 9112 §5.1
			return nil, fault("a field of the answer has a malformed name")
		case !isFieldValue(value):
			return nil, fault("the field %s of the answer has a control character", name)
		}
		name, value = textproto.CanonicalMIMEHeaderKey(name), strings.Trim(value, " \t")
		if before := header[name]; before != nil {
			header[name] = append(before, value)
			continue
		}
		values[0] = value
		header[name], values = values[:1:1], values[1:]
	}
}

// unfold appends the lines that go on with line (obs-fold, RFC 9112 §5.2).
func unfold(line, rest string) (unfolded, left string) {
	b := []byte(strings.TrimRight(line, " \t"))
	for rest != "" && isBlank(rest[0]) {
		line, rest = nextLine(rest)
		b = append(b, ' ')
		b = append(b, strings.Trim(line, " \t")...)
	}
	return string(b), rest
}

func isBlank(b byte) bool { return b == ' ' || b == '\t' }

// framing finds out how long the body is (RFC 9112 §6) and whether the
// connection can be used again (§9.3), and takes the fields away that say so.
func (h *head) framing(method string) error {
	if err := h.contentLength(); err != nil {
		return err
	}
	connection := h.header["Connection"]
	h.close = h.minor == 0 && !hasToken(connection, "keep-alive") || hasToken(connection, "close")
	if codings, there := h.header["Transfer-Encoding"]; there {
		if h.minor == 0 || len(codings) != 1 || !strings.EqualFold(codings[0], "chunked") {
			return errCoding
		}
		h.chunked = true
		delete(h.header, "Transfer-Encoding")
		if h.length >= 0 {
			h.close, h.length = true, -1
			delete(h.header, "Content-Length")
		}
		if err := h.announced(); err != nil {
			return err
		}
	}
	switch {
	case h.status < 200:
		h.chunked, h.length, h.bodiless = false, 0, true
	case method == http.MethodHead:
		h.chunked, h.bodiless = false, true
	case h.status == http.StatusNoContent, h.status == http.StatusNotModified:
		h.chunked, h.length, h.bodiless = false, 0, true
	}
	return nil
}

// contentLength takes one value, or the same several times.
func (h *head) contentLength() error {
	values := h.header["Content-Length"]
	if len(values) == 0 {
		return nil
	}
	for _, v := range values[1:] {
		if v != values[0] {
			return errLength
		}
	}
	v := values[0]
	if v == "" || len(v) > 18 {
		return errLength
	}
	for i := 0; i < len(v); i++ {
		if v[i] < '0' || v[i] > '9' {
			return errLength
		}
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return errLength
	}
	if len(values) > 1 {
		h.header["Content-Length"] = values[:1]
	}
	h.length = n
	return nil
}

// announced takes the names of trailers out of the Trailer field.
func (h *head) announced() error {
	lines, there := h.header["Trailer"]
	if !there {
		return nil
	}
	delete(h.header, "Trailer")
	for _, line := range lines {
		for name := range strings.SplitSeq(line, ",") {
			if name = textproto.CanonicalMIMEHeaderKey(strings.Trim(name, " \t")); name == "" {
				continue
			}
			if !trailerName(name) {
				return fault("the answer announces a trailer that cannot be one")
			}
			if h.trailer == nil {
				h.trailer = http.Header{}
			}
			h.trailer[name] = nil
		}
	}
	return nil
}

// hasToken reports whether a list has the token, in any case.
func hasToken(values []string, token string) bool {
	for _, v := range values {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.Trim(t, " \t"), token) {
				return true
			}
		}
	}
	return false
}
