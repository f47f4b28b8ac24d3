package aggregate

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// source is where a template's value comes from.
type source uint8

const (
	fromParam        source = iota // {id}: a wildcard of the route's match
	fromQuery                      // {query.name}: a parameter of the request's query
	fromBody                       // {body} or {body.a.b}: the request's JSON body
	fromCall                       // {airport.latitude}: what another call was answered, as the service sent it
	fromUser                       // {user.id}: who is signed in
	fromInstallation               // {installation.id}: the app's installation
)

// reference is what stands between braces in a template.
type reference struct {
	text     string // as written
	source   source
	index    int      // of the wildcard or the call
	name     string   // of the query parameter
	path     []string // within the body or the call's answer
	as       kind     // of wildcards and query parameters in bodies
	optional bool     // {query.q?}
}

// kind is what a text becomes in a JSON body.
type kind uint8

const (
	asText kind = iota
	asInt
	asNumber
	asBool
)

var kinds = map[string]kind{"int": asInt, "number": asNumber, "bool": asBool}

// Names that stand for something else than a call in a template.
var reservedNames = map[string]bool{"query": true, "body": true, "user": true, "installation": true, "header": true}

// scope is what names mean while a plan is compiled.
type scope struct {
	params  []string       // wildcards of the route
	calls   map[string]int // by name
	hasBody bool           // the request has a body
}

func (sc *scope) param(name string) int {
	for i, p := range sc.params {
		if p == name {
			return i
		}
	}
	return -1
}

// parse reads what stands between two braces.
func (sc *scope) parse(text string) (reference, error) {
	r := reference{text: "{" + text + "}"}
	text, r.optional = strings.CutSuffix(text, "?")
	text, as, typed := strings.Cut(text, ":")
	if typed {
		var known bool
		if r.as, known = kinds[as]; !known {
			return r, fmt.Errorf("in %s %q is no kind of value: write int, number or bool", r.text, as)
		}
	}
	path, err := parsePath(text)
	if err != nil {
		return r, fmt.Errorf("in %s %w", r.text, err)
	}
	if r.index = sc.param(path[0]); len(path) == 1 && r.index >= 0 {
		return r, nil
	}
	switch call, known := sc.calls[path[0]]; {
	case path[0] == "query":
		if len(path) != 2 {
			return r, fmt.Errorf("%s must name one parameter, like {query.limit}", r.text)
		}
		r.source, r.name = fromQuery, path[1]
	case path[0] == "body":
		if !sc.hasBody {
			return r, fmt.Errorf("%s: a request with this method has no body", r.text)
		}
		r.source, r.path = fromBody, path[1:]
	case path[0] == "user" || path[0] == "installation":
		if len(path) != 2 || path[1] != "id" {
			return r, fmt.Errorf("%s: there is only {%s.id}", r.text, path[0])
		}
		if r.source = fromUser; path[0] == "installation" {
			r.source = fromInstallation
		}
	case known:
		r.source, r.index, r.path = fromCall, call, path[1:]
	default:
		return r, fmt.Errorf("%s is neither a wildcard of match nor a call; a wildcard is {name}, a call's answer {call.path}, the request {query.name} or {body.path}", r.text)
	}
	if typed && r.source != fromQuery {
		return r, fmt.Errorf("%s: only wildcards and parameters of the query have a kind; JSON values have their own", r.text)
	}
	return r, nil
}

// Bounds of what a template takes from others.
const (
	maxValueBytes = 512
	maxTemplate   = 4096
)

// ValueError says why a template could not be filled in.
type ValueError struct {
	Reference string // as written, with braces
	Why       string
	Client    bool // the request is at fault, not a service
	Identity  bool // nobody is signed in
}

// Error is for the log, and where Client is set for the client.
func (e *ValueError) Error() string { return e.Reference + " " + e.Why }

var errMissing = errors.New("missing")

// Input is one request's own values.
type Input struct {
	Params       []string                         // of the route's wildcards, escaped as in the path
	Query        func(name string) (string, bool) // nil when the plan does not ask for any
	Body         []byte                           // JSON that Valid has seen, nil without one
	User         string                           // "" when nobody is signed in
	Installation string
}

// scalar returns a reference's value as text. escaped is set for a value that
// is escaped for a path already. errMissing stands for a value that is not there.
func (r *reference) scalar(in *Input, answers [][]byte) (text string, escaped bool, err error) {
	switch r.source {
	case fromParam:
		text, escaped = in.Params[r.index], true
	case fromQuery:
		var there bool
		if text, there = in.Query(r.name); !there {
			return "", false, errMissing
		}
	case fromUser:
		text = in.User
	case fromInstallation:
		text = in.Installation
	default:
		raw, there := r.raw(in, answers)
		if !there || raw[0] == 'n' {
			return "", false, errMissing
		}
		switch raw[0] {
		case '{', '[':
			return "", false, r.fault("is an object or a list where one value is needed")
		case '"':
			text = unquote(raw)
		default:
			text = string(raw)
		}
	}
	switch {
	case text == "":
		return "", false, errMissing
	case len(text) > maxValueBytes:
		return "", false, r.fault("is longer than " + strconv.Itoa(maxValueBytes) + " bytes")
	case strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == 0x7F || c == 0xFFFD }):
		return "", false, r.fault("has a control character or is not UTF-8")
	}
	return text, escaped, nil
}

// raw returns the JSON that a reference to a body or a call's answer means.
func (r *reference) raw(in *Input, answers [][]byte) ([]byte, bool) {
	b := in.Body
	if r.source == fromCall {
		b = answers[r.index]
	}
	if b == nil {
		return nil, false
	}
	return find(b, r.path)
}

func (r *reference) fault(why string) error {
	return &ValueError{Reference: r.text, Why: why, Client: r.source != fromCall,
		Identity: (r.source == fromUser || r.source == fromInstallation) && why == whyMissing}
}

const whyMissing = "is missing"

// missing turns errMissing into what is wrong.
func (r *reference) missing(err error) error {
	if errors.Is(err, errMissing) {
		return r.fault(whyMissing)
	}
	return err
}
