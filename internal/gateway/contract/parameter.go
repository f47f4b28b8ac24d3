package contract

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
)

type style uint8

const (
	styleSimple style = iota
	styleLabel
	styleMatrix
	styleForm
	styleSpace
	stylePipe
	styleDeep
)

var styles = map[string]style{
	"simple": styleSimple, "label": styleLabel, "matrix": styleMatrix, "form": styleForm,
	"spaceDelimited": styleSpace, "pipeDelimited": stylePipe, "deepObject": styleDeep,
}

// parameter is a parameter of an operation, or a header of an answer.
type parameter struct {
	in, name  string
	required  bool
	style     style
	explode   bool
	json      bool // its value is JSON text
	unchecked bool // a media type that is not checked
	empty     bool // allowEmptyValue
	schema    *schema
	index     int // of a path parameter among the path's wildcards, -1 if it is not there
}

func (d *Document) parameters(c *compiler, n *node) []*parameter {
	if n == nil {
		return nil
	}
	var list []*parameter
	for _, item := range n.items {
		at, err := c.files.follow(item)
		if err != nil {
			c.refuse(item, err)
			continue
		}
		p := &parameter{in: at.get("in").text(), name: at.get("name").text(), required: at.get("required").yes(), empty: at.get("allowEmptyValue").yes()}
		switch p.in {
		case InQuery, InCookie:
			p.style = styleForm
		case InPath:
		case InHeader:
			p.name = http.CanonicalHeaderKey(p.name)
			if p.name == "Accept" || p.name == "Content-Type" || p.name == "Authorization" {
				continue // OpenAPI: such parameters are ignored
			}
		default:
			c.fault(at.fault("in must be path, query, header or cookie"))
			continue
		}
		if text := at.get("style"); text != nil {
			s, ok := styles[text.text()]
			if !ok {
				c.fault(text.fault("style %q is none of OpenAPI's", text.text()))
			}
			p.style = s
		}
		p.explode = p.style == styleForm
		if e := at.get("explode"); e != nil {
			p.explode = e.yes()
		}
		p.schema = c.schema(at.get("schema"), toService)
		at.get("content").each(func(kind string, m *node) {
			p.json = isJSON(strings.ToLower(kind))
			p.unchecked = !p.json
			p.schema = c.schema(m.get("schema"), toService)
		})
		list = append(list, p)
	}
	return list
}

// bind finds each path parameter among the wildcards.
func (op *Operation) bind(c *compiler, at *node) {
	index := map[string]int{}
	for _, s := range op.segments {
		for _, name := range s.names {
			index[name] = len(index)
		}
	}
	for i, p := range op.parameters {
		if p.in != InPath {
			continue
		}
		n, ok := index[p.name]
		if !ok {
			c.fault(at.fault("the path has no wildcard {%s} for the parameter of this name", p.name))
			continue
		}
		own := *p // one of the path item is shared
		own.index = n
		op.parameters[i] = &own
	}
}

func (p *parameter) pointer() string { return "/" + pointerEscape(p.name) }

func (p *parameter) missing() Violation {
	return Violation{In: p.in, Path: p.pointer(), Field: p.pointer(), Message: "is missing", Shape: "missing"}
}

func (p *parameter) malformed(what string) Violation {
	return Violation{In: p.in, Path: p.pointer(), Field: p.pointer(), Message: what, Shape: "malformed"}
}

func (p *parameter) join(values []string) string {
	if len(values) == 1 {
		return values[0]
	}
	return strings.Join(values, ",")
}

// checkParameters checks path, query, headers and cookies.
func (op *Operation) checkParameters(q *Request) []Violation {
	var found []Violation
	var query url.Values
	var values []string
	var cookies []*http.Cookie
	for _, p := range op.parameters {
		switch p.in {
		case InPath:
			if values == nil {
				values, _ = op.match(q.Path, make([]string, 0, 8))
			}
			if p.index < len(values) {
				found = append(found, op.document.checkPath(p, values[p.index])...)
			}
		case InQuery:
			if query == nil {
				var err error
				if query, err = url.ParseQuery(q.Query); err != nil {
					found = append(found, Violation{In: InQuery, Message: "is not well-formed", Shape: "malformed"})
				}
			}
			found = append(found, op.document.checkQuery(p, query)...)
		case InHeader:
			if list := q.Header[p.name]; len(list) > 0 {
				found = append(found, op.document.checkText(p, p.join(list))...)
			} else if p.required {
				found = append(found, p.missing())
			}
		case InCookie:
			if cookies == nil {
				cookies = cookiesOf(q.Header)
			}
			found = append(found, op.document.checkCookie(p, cookies)...)
		}
	}
	return found
}

func cookiesOf(h http.Header) []*http.Cookie {
	return append([]*http.Cookie{}, (&http.Request{Header: http.Header{"Cookie": h["Cookie"]}}).Cookies()...)
}

func (d *Document) checkCookie(p *parameter, cookies []*http.Cookie) []Violation {
	for _, c := range cookies {
		if c.Name == p.name {
			return d.checkText(p, c.Value)
		}
	}
	if p.required {
		return []Violation{p.missing()}
	}
	return nil
}

// checkPath checks one wildcard's value, still escaped.
func (d *Document) checkPath(p *parameter, value string) []Violation {
	plain, err := url.PathUnescape(value)
	if err != nil {
		return []Violation{p.malformed("is not well-formed")}
	}
	switch p.style {
	case styleLabel:
		after, ok := strings.CutPrefix(plain, ".")
		if !ok {
			return []Violation{p.malformed("must begin with a point")}
		}
		if p.explode {
			after = strings.ReplaceAll(after, ".", ",")
		}
		plain = after
	case styleMatrix:
		after, ok := strings.CutPrefix(plain, ";")
		if !ok {
			return []Violation{p.malformed("must begin with a semicolon")}
		}
		after = strings.ReplaceAll(after, ";", ",")
		if !p.explode || p.schema.typesTaken()&kindObject == 0 {
			after = strings.ReplaceAll(after, p.name+"=", "")
		}
		plain = after
	}
	return d.checkText(p, plain)
}

// checkText checks a value that is one text: its lists are separated by commas.
func (d *Document) checkText(p *parameter, text string) []Violation {
	if p.schema == nil || p.unchecked {
		return nil
	}
	if p.json {
		return d.checkParameter(p, []byte(text))
	}
	takes := p.schema.typesTaken()
	switch {
	case takes&kindArray != 0 && takes&kindString == 0:
		return d.checkParameter(p, appendList(nil, split(text, ","), p.schema.itemOf()))
	case takes&kindObject != 0 && takes&kindString == 0:
		return d.checkParameter(p, d.object(p, split(text, ",")))
	}
	return d.checkScalar(p, text)
}

func split(text, by string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, by)
}

// object reads a,1,b,2 or, exploded, a=1,b=2.
func (d *Document) object(p *parameter, parts []string) []byte {
	b := []byte{'{'}
	add := func(name, value string) {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(appendText(b, name), ':')
		b = appendScalar(b, value, p.schema.member(name))
	}
	if p.explode {
		for _, part := range parts {
			name, value, _ := strings.Cut(part, "=")
			add(name, value)
		}
	} else {
		for i := 0; i+1 < len(parts); i += 2 {
			add(parts[i], parts[i+1])
		}
	}
	return append(b, '}')
}

// checkQuery checks one parameter of the query string.
func (d *Document) checkQuery(p *parameter, query url.Values) []Violation {
	takes := p.schema.typesTaken()
	list, there := query[p.name]
	if takes&kindObject != 0 && takes&(kindString|kindArray) == 0 && !p.json && (p.style == styleDeep || p.style == styleForm && p.explode) {
		return d.checkQueryObject(p, query)
	}
	switch {
	case !there && p.required:
		return []Violation{p.missing()}
	case !there || p.schema == nil || p.unchecked || p.empty && len(list) == 1 && list[0] == "":
		return nil
	case p.json:
		return d.checkParameter(p, []byte(list[0]))
	case takes&kindArray != 0 && (takes&kindString == 0 || len(list) > 1):
		if !p.explode || p.style != styleForm {
			list = split(list[0], map[style]string{styleForm: ",", styleSpace: " ", stylePipe: "|"}[p.style])
		}
		return d.checkParameter(p, appendList(nil, list, p.schema.itemOf()))
	case takes&kindObject != 0 && takes&kindString == 0:
		return d.checkParameter(p, d.object(p, split(list[0], ",")))
	case len(list) > 1:
		return []Violation{p.malformed("must be there once")}
	}
	return d.checkScalar(p, list[0])
}

// checkQueryObject reads name[a]=1&name[b]=2 (deepObject) or a=1&b=2 (form, exploded).
func (d *Document) checkQueryObject(p *parameter, query url.Values) []Violation {
	b := []byte{'{'}
	add := func(name string, values []string) {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(appendText(b, name), ':')
		if member := p.schema.member(name); member.typesTaken()&kindArray != 0 && member.typesTaken()&kindString == 0 {
			b = appendList(b, values, member.itemOf())
		} else {
			b = appendScalar(b, values[0], member)
		}
	}
	if p.style == styleDeep {
		for name, values := range query {
			if inner, ok := strings.CutPrefix(name, p.name+"["); ok && strings.HasSuffix(inner, "]") {
				add(strings.TrimSuffix(inner, "]"), values)
			}
		}
	} else {
		for _, name := range p.schema.memberNames() {
			if values := query[name]; len(values) > 0 {
				add(name, values)
			}
		}
	}
	if len(b) == 1 {
		if p.required {
			return []Violation{p.missing()}
		}
		return nil
	}
	return d.checkParameter(p, append(b, '}'))
}

// checkScalar checks a single value: as a number or boolean if the schema takes
// one and it reads like one, and as a string.
func (d *Document) checkScalar(p *parameter, text string) []Violation {
	if p.schema == nil {
		return nil
	}
	typed := appendScalar(nil, text, p.schema)
	found := d.checkParameter(p, typed)
	if len(found) > 0 && typed[0] != '"' && p.schema.typesTaken()&kindString != 0 {
		if d.checkParameter(p, appendText(nil, text)) == nil {
			return nil
		}
	}
	return found
}

// checkParameter checks a parameter that has become JSON.
func (d *Document) checkParameter(p *parameter, data []byte) []Violation {
	r := newRun(data, d.names)
	defer r.done()
	r.in, r.prefix = p.in, p.pointer()
	var err error
	if r.tape, err = scan(data, r.tape); err != nil {
		return []Violation{p.malformed("is not well-formed")}
	}
	if r.check(p.schema, 0) {
		return nil
	}
	return r.found
}

func appendText(b []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil {
		return append(b, `""`...) // a string always has a form in JSON
	}
	return append(b, quoted...)
}

// appendScalar writes text as the type that s wants, as a string if it does not read like that.
func appendScalar(b []byte, text string, s *schema) []byte {
	takes := s.typesTaken()
	switch {
	case s == nil:
	case takes&kindNumber != 0 && isJSONNumber(text), takes&kindBool != 0 && (text == "true" || text == "false"), takes&kindNull != 0 && text == "null" && takes&kindString == 0:
		return append(b, text...)
	}
	return appendText(b, text)
}

func appendList(b []byte, list []string, item *schema) []byte {
	b = append(b, '[')
	for i, text := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendScalar(b, text, item)
	}
	return append(b, ']')
}
