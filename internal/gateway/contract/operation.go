package contract

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Operation is one method of one path of a document.
type Operation struct {
	Method string
	Path   string // the template as the document has it
	ID     string // operationId, may be empty

	document   *Document
	segments   []segment
	parameters []*parameter
	body       *requestBody // nil: none is described
	responses  map[int]*response
	classes    [5]*response // 1XX to 5XX
	fallback   *response    // default
}

type requestBody struct {
	required bool
	content  []*media
}

type response struct {
	content []*media
	headers []*parameter
}

// media is a body of one media type.
type media struct {
	kind       string // application/json, application/*, */*
	json, form bool
	schema     *schema
}

const formType = "application/x-www-form-urlencoded"

func isJSON(kind string) bool {
	return kind == "application/json" || strings.HasSuffix(kind, "+json") || kind == "text/json"
}

// mediaOf finds the description of a Content-Type: the exact one, then a range.
func mediaOf(list []*media, contentType string) *media {
	base, _, _ := strings.Cut(contentType, ";")
	base = strings.ToLower(strings.TrimSpace(base))
	major, _, _ := strings.Cut(base, "/")
	var best *media
	for _, m := range list {
		switch {
		case m.kind == base:
			return m
		case m.kind == "*/*" && best == nil, strings.HasSuffix(m.kind, "/*") && m.kind != "*/*" && m.kind[:len(m.kind)-2] == major:
			best = m
		}
	}
	return best
}

// Request is what CheckRequest looks at. Body is looked at when HasBody is true
// and Unread is not.
type Request struct {
	Path    string // escaped, without the base that Find took off
	Query   string // as in the URL
	Header  http.Header
	Body    []byte
	HasBody bool
	Unread  bool // the body was not taken into memory
}

// TakesBody reports whether the operation's bodies of this media type can be
// checked, so that they should be read.
func (op *Operation) TakesBody(contentType string) bool {
	if op.body == nil {
		return false
	}
	m := mediaOf(op.body.content, contentType)
	return m != nil && m.schema != nil && (m.json || m.form || isJSON(baseType(contentType)))
}

func baseType(contentType string) string {
	base, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(base))
}

// CheckRequest lists how a request differs from the document, nothing if it does not.
func (op *Operation) CheckRequest(q *Request) []Violation {
	var found []Violation
	if len(op.parameters) > 0 {
		found = op.checkParameters(q)
	}
	switch {
	case op.body == nil:
		return found
	case !q.HasBody:
		if op.body.required {
			found = append(found, Violation{In: InBody, Message: "is missing", Shape: "missing"})
		}
		return found
	}
	contentType := q.Header.Get("Content-Type")
	m := mediaOf(op.body.content, contentType)
	if m == nil {
		if len(op.body.content) > 0 {
			found = append(found, Violation{In: InHeader, Path: "/Content-Type", Field: "/Content-Type", Message: "must be " + listed(op.body.content), Shape: "another media type"})
		}
		return found
	}
	if q.Unread || m.schema == nil {
		return found
	}
	switch {
	case encoded(q.Header):
		return append(found, Violation{In: InHeader, Path: "/Content-Encoding", Field: "/Content-Encoding", Message: "must be identity: an encoded body cannot be checked", Shape: "encoded"})
	case m.json || isJSON(baseType(contentType)):
		return append(found, op.document.checkBody(m.schema, q.Body)...)
	case m.form:
		return append(found, op.document.checkForm(m.schema, q.Body)...)
	}
	return found
}

func encoded(h http.Header) bool {
	e := h.Get("Content-Encoding")
	return e != "" && !strings.EqualFold(e, "identity")
}

func listed(list []*media) string {
	kinds := make([]string, len(list))
	for i, m := range list {
		kinds[i] = m.kind
	}
	return strings.Join(kinds, " or ")
}

// checkBody checks JSON text.
func (d *Document) checkBody(s *schema, body []byte) []Violation {
	r := newRun(body, d.names)
	defer r.done()
	r.in = InBody
	var err error
	if r.tape, err = scan(body, r.tape); err != nil {
		return []Violation{{In: InBody, Message: err.Error(), Shape: strconv.Itoa(len(body)) + " bytes"}}
	}
	if r.check(s, 0) {
		return nil
	}
	return r.found
}

// checkForm checks an application/x-www-form-urlencoded body against the
// properties of an object.
func (d *Document) checkForm(s *schema, body []byte) []Violation {
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return []Violation{{In: InBody, Message: "is not " + formType, Shape: strconv.Itoa(len(body)) + " bytes"}}
	}
	text := []byte{'{'}
	for name, list := range values {
		if len(text) > 1 {
			text = append(text, ',')
		}
		text = append(appendText(text, name), ':')
		member := s.member(name)
		if member.typesTaken()&kindArray != 0 {
			text = appendList(text, list, member.itemOf())
		} else {
			text = appendScalar(text, list[0], member)
		}
	}
	return d.checkBody(s, append(text, '}'))
}

// Response is what CheckResponse looks at.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
	Unread bool // the body was not taken into memory
}

// DescribesBody reports whether the document says something of the body of such
// an answer, so that it should be read.
func (op *Operation) DescribesBody(status int, contentType string) bool {
	res := op.responseTo(status)
	if res == nil {
		return false
	}
	m := mediaOf(res.content, contentType)
	return m != nil && m.schema != nil && (m.json || isJSON(baseType(contentType)))
}

func (op *Operation) responseTo(status int) *response {
	if res := op.responses[status]; res != nil {
		return res
	}
	if class := status/100 - 1; class >= 0 && class < len(op.classes) && op.classes[class] != nil {
		return op.classes[class]
	}
	return op.fallback
}

// unremarkable reports whether a status is no news although no document has it.
func unremarkable(status int) bool {
	switch status {
	case http.StatusNotModified, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable, http.StatusPreconditionFailed:
		return true
	}
	return status >= 500
}

// CheckResponse lists how an answer differs from the document. A status that
// the document leaves out is a difference, unless it is one that HTTP itself
// brings about or a failure of the service (5xx).
func (op *Operation) CheckResponse(a *Response) []Violation {
	res := op.responseTo(a.Status)
	if res == nil {
		if unremarkable(a.Status) || len(op.responses) == 0 {
			return nil
		}
		status := strconv.Itoa(a.Status)
		return []Violation{{In: InStatus, Path: "/" + status, Field: "/" + status, Message: "is not among the statuses of the contract", Shape: "status " + status}}
	}
	var found []Violation
	for _, h := range res.headers {
		values := a.Header[h.name]
		if len(values) == 0 {
			if h.required {
				found = append(found, h.missing())
			}
			continue
		}
		found = append(found, op.document.checkText(h, h.join(values))...)
	}
	if len(res.content) == 0 || len(a.Body) == 0 && !a.Unread {
		return found
	}
	contentType := a.Header.Get("Content-Type")
	m := mediaOf(res.content, contentType)
	switch {
	case m == nil:
		return append(found, Violation{In: InHeader, Path: "/Content-Type", Field: "/Content-Type", Message: "must be " + listed(res.content), Shape: "another media type"})
	case a.Unread || m.schema == nil || encoded(a.Header):
	case m.json || isJSON(baseType(contentType)):
		found = append(found, op.document.checkBody(m.schema, a.Body)...)
	}
	return found
}
