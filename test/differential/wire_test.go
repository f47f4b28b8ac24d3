package differential

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// field is one header or trailer line.
type field struct{ Name, Value string }

// message is a request or an answer as it came over the wire.
type message struct {
	Start    string // request or status line
	Fields   []field
	Framing  string // none, length, chunked or close
	Body     string
	Trailers []field
	Interim  []message // informational answers before this one
	Cut      bool      // its body broke off
}

// values lists the field's lines in their order.
func values(fields []field, name string) []string {
	var list []string
	for _, f := range fields {
		if strings.EqualFold(f.Name, name) {
			list = append(list, f.Value)
		}
	}
	return list
}

func (m *message) value(name string) string { return strings.Join(values(m.Fields, name), ", ") }

// status is the answer's, 0 if there is none.
func (m *message) status() int {
	if len(m.Start) < 12 {
		return 0
	}
	n, err := strconv.Atoi(m.Start[9:12])
	if err != nil {
		return 0
	}
	return n
}

// maxLine bounds a line that is read.
const maxLine = 1 << 20

// line reads one line and insists on CRLF.
func line(r *bufio.Reader) (string, error) {
	s, err := r.ReadString('\n')
	switch {
	case err != nil && s == "":
		return "", err
	case err != nil:
		return "", fmt.Errorf("%w after %.60q", io.ErrUnexpectedEOF, s)
	case len(s) > maxLine:
		return "", errors.New("a line without end")
	case !strings.HasSuffix(s, "\r\n"):
		return "", fmt.Errorf("bare LF in %.60q", s)
	case strings.ContainsAny(s[:len(s)-2], "\r\x00"):
		return "", fmt.Errorf("CR or NUL in %.60q", s)
	}
	return s[:len(s)-2], nil
}

// fields reads a field section with its empty line, strictly (RFC 9112 §5).
func fields(r *bufio.Reader) ([]field, error) {
	var list []field
	for {
		s, err := line(r)
		if err != nil {
			return list, err
		}
		if s == "" {
			return list, nil
		}
		name, value, ok := strings.Cut(s, ":")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			return list, fmt.Errorf("malformed field line %.60q", s)
		}
		list = append(list, field{name, strings.Trim(value, " \t")})
	}
}

// header reads a start line and the fields.
func header(r *bufio.Reader) (*message, error) {
	start, err := line(r)
	if err != nil {
		return nil, err
	}
	m := &message{Start: start}
	m.Fields, err = fields(r)
	return m, err
}

// framing says how the body is delimited; more than one way is an error.
func (m *message) framing() (kind string, length int64, err error) {
	lengths, codings := values(m.Fields, "Content-Length"), values(m.Fields, "Transfer-Encoding")
	switch {
	case len(lengths) > 1, len(codings) > 1, len(lengths) > 0 && len(codings) > 0:
		return "", 0, fmt.Errorf("ambiguous framing: Content-Length %q, Transfer-Encoding %q", lengths, codings)
	case len(codings) == 1 && strings.EqualFold(codings[0], "chunked"):
		return "chunked", 0, nil
	case len(codings) == 1:
		return "", 0, fmt.Errorf("Transfer-Encoding %q", codings[0])
	case len(lengths) == 1:
		n, err := strconv.ParseUint(lengths[0], 10, 62)
		return "length", int64(n), err
	}
	return "none", 0, nil
}

// readBody reads the body; what came before an error is kept.
func (m *message) readBody(r *bufio.Reader, kind string, length int64) error {
	var body strings.Builder
	var err error
	m.Framing = kind
	switch kind {
	case "length":
		_, err = io.CopyN(&body, r, length)
	case "close":
		_, err = io.Copy(&body, r)
	case "chunked":
		m.Trailers, err = readChunks(&body, r)
	}
	m.Body = body.String()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func readChunks(body io.Writer, r *bufio.Reader) ([]field, error) {
	for {
		s, err := line(r)
		if err != nil {
			return nil, err
		}
		size, _, _ := strings.Cut(s, ";")
		n, err := strconv.ParseUint(strings.TrimRight(size, " \t"), 16, 62)
		if err != nil {
			return nil, fmt.Errorf("chunk size %.40q", s)
		}
		if n == 0 {
			return fields(r)
		}
		if _, err := io.CopyN(body, r, int64(n)); err != nil {
			return nil, err
		}
		if end, err := line(r); err != nil || end != "" {
			return nil, fmt.Errorf("chunk without CRLF: %q %w", end, err)
		}
	}
}

// readAnswer reads one answer to method, informational ones before it included.
func readAnswer(r *bufio.Reader, method string, interim func(*message)) (*message, error) {
	var before []message
	for {
		m, err := header(r)
		if err != nil {
			return m, err
		}
		if m.status() >= 100 && m.status() < 200 && m.status() != 101 {
			before = append(before, *m)
			interim(m)
			continue
		}
		m.Interim = before
		if method == "HEAD" || m.status() == 204 || m.status() == 304 || m.status() == 101 {
			m.Framing = "none"
			return m, nil
		}
		kind, length, err := m.framing()
		if err != nil {
			return m, err
		}
		if kind == "none" {
			kind = "close"
		}
		return m, m.readBody(r, kind, length)
	}
}

// listFields joins lines of one name and sorts by name, for comparing.
func listFields(list []field) map[string]string {
	joined := map[string]string{}
	for _, f := range list {
		name := strings.ToLower(f.Name)
		if before, there := joined[name]; there {
			joined[name] = before + "\n" + f.Value
		} else {
			joined[name] = f.Value
		}
	}
	return joined
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
