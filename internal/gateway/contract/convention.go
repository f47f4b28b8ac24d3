package contract

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"sync"

	"landline/internal/problem"
)

// The house's own formats: errors are RFC 9457 problems with a code, lists are
// {"data":[…],"page":{"next":…}}.
const conventionSchemas = `{
"problem": {"type":"object","required":["type","title","status","code"],"properties":{
	"type":{"type":"string","format":"uri-reference"},"title":{"type":"string","minLength":1},"status":{"type":"integer","minimum":400,"maximum":599},
	"code":{"type":"string","pattern":"^[a-z][a-z0-9_]{0,63}$"},"detail":{"type":"string"},"instance":{"type":"string","format":"uri-reference"},
	"action":{"type":"string"},"retry_after":{"type":"integer","minimum":0},"trace_id":{"type":"string"}}},
"list": {"type":"object","required":["data","page"],"properties":{"data":{"type":"array"},
	"page":{"type":"object","required":["next"],"properties":{"next":{"type":["string","null"]}}}}}
}`

type conventions struct {
	problem, list *schema
	names         map[string]bool
}

// theConventions are compiled when they are asked for first.
var theConventions = sync.OnceValues(func() (*conventions, error) {
	f := &files{read: func(string) ([]byte, error) { return []byte(conventionSchemas), nil }, data: map[string][]byte{}, trees: map[string]*file{}}
	tree, err := f.tree("conventions")
	if err != nil {
		return nil, err
	}
	c := newCompiler(f)
	x := &conventions{problem: c.schema(tree.root.get("problem"), toClient), list: c.schema(tree.root.get("list"), toClient)}
	if x.names = c.names; len(c.faults) > 0 {
		return nil, errors.Join(c.faults)
	}
	return x, nil
})

// CheckConventions lists how an answer with a JSON body differs from the formats
// that all features share: an error (4xx, 5xx) is a problem (RFC 9457) with a
// code, of the catalogue or of x-landline-error-codes where the document has
// such a list; a list is an object of data and page.
func (op *Operation) CheckConventions(a *Response) []Violation {
	x, err := theConventions()
	if err != nil || len(a.Body) == 0 || a.Unread || encoded(a.Header) {
		return nil
	}
	kind := baseType(a.Header.Get("Content-Type"))
	shared := &Document{names: x.names}
	switch {
	case a.Status >= 400 && kind != problem.MediaType:
		return []Violation{{In: InHeader, Path: "/Content-Type", Field: "/Content-Type", Message: "must be " + problem.MediaType + " for an error", Shape: "another media type"}}
	case a.Status >= 400:
		if found := shared.checkBody(x.problem, a.Body); len(found) > 0 {
			return found
		}
		return op.document.checkProblem(a)
	case a.Status < 200 || a.Status >= 300 || !isJSON(kind):
		return nil
	}
	r := newRun(a.Body, x.names)
	defer r.done()
	r.in = InBody
	if r.tape, err = scan(a.Body, r.tape); err != nil {
		return nil // the schema's check says so
	}
	switch r.tape[0].kind {
	case kindArray:
		r.fail(0, "must be an object of data and page: a bare list has no room for the next page")
		return r.found
	case kindObject:
		data, page := r.member(0, "data"), r.member(0, "page")
		if (data != 0 && r.tape[data].kind == kindArray || page != 0) && !r.check(x.list, 0) {
			return r.found
		}
	}
	return nil
}

// checkProblem checks what ties a problem to its answer.
func (d *Document) checkProblem(a *Response) []Violation {
	var body struct {
		Status int    `json:"status"`
		Code   string `json:"code"`
	}
	if err := json.Unmarshal(a.Body, &body); err != nil {
		return []Violation{{In: InBody, Message: "is not JSON", Shape: strconv.Itoa(len(a.Body)) + " bytes"}}
	}
	var found []Violation
	if body.Status != a.Status {
		found = append(found, Violation{In: InBody, Path: "/status", Field: "/status", Message: "must be the answer's status, " + strconv.Itoa(a.Status) + " " + http.StatusText(a.Status), Shape: "another status"})
	}
	if len(d.codes) > 0 && !slices.Contains(d.codes, body.Code) && string(problem.Lookup(problem.Code(body.Code)).Code) != body.Code {
		found = append(found, Violation{In: InBody, Path: "/code", Field: "/code", Message: "must be one of x-landline-error-codes or of Landline's own codes", Shape: "another code"})
	}
	return found
}
