package contract

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"reflect"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// Document is a compiled OpenAPI document. It does not change and may be used
// by any number of goroutines.
type Document struct {
	Name        string // of its file
	Title       string
	Version     string // of OpenAPI, such as 3.1.0
	Operations  []*Operation
	Notes       []*Fault // what the document says and nobody checks
	Conventions bool     // x-landline-conventions: true

	bases []string // paths of its servers, longest first, "" always among them
	index []map[string][]*Operation
	codes []string // x-landline-error-codes
	names map[string]bool
}

// maxOperations bounds a document.
const maxOperations = 20_000

// Load reads and compiles the document called name. read gives the text of it
// and of the files that it refers to, whose names are relative to the same
// folder as name. The error is Faults, or a *Fault, where the document is at
// fault, else what read said.
func Load(name string, read func(name string) ([]byte, error)) (*Document, error) {
	f := &files{read: read, data: map[string][]byte{}, trees: map[string]*file{}}
	main, err := f.tree(name)
	if err != nil {
		return nil, err
	}
	d := &Document{Name: name, Version: main.root.get("openapi").text(), Title: main.root.get("info").get("title").text()}
	if v := main.root.get("openapi"); !strings.HasPrefix(d.Version, "3.0") && !strings.HasPrefix(d.Version, "3.1") {
		at := main.root
		if v != nil {
			at = v
		}
		if at == nil {
			return nil, &Fault{File: name, Message: "is empty"}
		}
		return nil, at.fault("is no OpenAPI document of version 3.0 or 3.1: openapi must be, for example, 3.1.0")
	}
	c := newCompiler(f)
	c.old = strings.HasPrefix(d.Version, "3.0")
	d.Conventions = main.root.get("x-landline-conventions").yes()
	if codes := main.root.get("x-landline-error-codes"); codes != nil {
		for _, item := range codes.items {
			d.codes = append(d.codes, item.text())
		}
	}
	d.servers(main.root.get("servers"))
	main.root.get("paths").each(func(template string, item *node) {
		if strings.HasPrefix(template, "/") {
			d.pathItem(c, template, item)
		}
	})
	c.endless()
	if len(c.faults) > 0 {
		return nil, c.faults.sorted()
	}
	if err := wellFormed(f, name); err != nil { // after ours, which know their place better
		return nil, err
	}
	d.Notes, d.names = c.notes, c.names
	return d, nil
}

// wellFormed asks kin-openapi whether the document is what the specification
// wants. It gets the files as JSON, which it reads faster; only for one that it
// refuses is it asked again with the files as they are, to know the place.
func wellFormed(f *files, name string) error {
	if judge(name, f.asJSON, false) == nil {
		return nil
	}
	return judge(name, f.bytesOf, true)
}

// judge has kin-openapi read and validate a document. Examples, defaults and
// patterns are not our business.
func judge(name string, read func(name string) ([]byte, error), places bool) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &Fault{File: name, Message: "cannot be read as an OpenAPI document"}
		}
	}()
	loader := openapi3.NewLoader()
	loader.IncludeOrigin = places
	loader.ReadFromURIFunc = func(_ *openapi3.Loader, u *url.URL) ([]byte, error) {
		if u.Scheme != "" || u.Host != "" || path.IsAbs(u.Path) {
			return nil, fmt.Errorf("%s: only files beside the document are read", u.Redacted())
		}
		return read(u.Path)
	}
	data, err := read(name)
	if err != nil {
		return err
	}
	doc, err := loader.LoadFromDataWithPath(data, &url.URL{Path: name})
	if err != nil {
		return located(name, err)
	}
	err = doc.Validate(context.Background(), openapi3.DisableExamplesValidation(), openapi3.DisableSchemaDefaultsValidation(),
		openapi3.DisableSchemaPatternValidation(), openapi3.EnableMultiError())
	var many openapi3.MultiError
	if errors.As(err, &many) {
		var faults Faults
		for _, e := range many {
			if len(faults) < maxFaults {
				faults = append(faults, located(name, e))
			}
		}
		return faults.sorted()
	}
	if err != nil {
		return located(name, err)
	}
	return nil
}

// located finds the place that an error of kin-openapi knows.
func located(name string, err error) *Fault {
	f := &Fault{File: name, Message: clip(strings.Join(strings.Fields(err.Error()), " "), 500)}
	var inside *Fault
	if errors.As(err, &inside) {
		return inside
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if o := originOf(e); o != nil && o.Key != nil {
			f.Line, f.Col = o.Key.Line, o.Key.Column
			if o.Key.File != "" {
				f.File = o.Key.File
			}
		}
	}
	return f
}

// originOf reads the field that kin-openapi's errors have where they know a place.
func originOf(err error) *openapi3.Origin {
	v := reflect.ValueOf(err)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return nil
	}
	field := v.Elem().FieldByName("Origin")
	if !field.IsValid() || !field.CanInterface() {
		return nil
	}
	o, _ := field.Interface().(*openapi3.Origin)
	return o
}

func (d *Document) servers(list *node) {
	d.bases = []string{""}
	if list == nil {
		return
	}
	for _, item := range list.items {
		text := item.get("url").text()
		item.get("variables").each(func(name string, v *node) {
			text = strings.ReplaceAll(text, "{"+name+"}", v.get("default").text())
		})
		if u, err := url.Parse(text); err == nil {
			if base := strings.TrimRight(u.EscapedPath(), "/"); base != "" && strings.HasPrefix(base, "/") {
				d.bases = append(d.bases, base)
			}
		}
	}
}

var methods = map[string]string{
	"get": http.MethodGet, "put": http.MethodPut, "post": http.MethodPost, "delete": http.MethodDelete,
	"options": http.MethodOptions, "head": http.MethodHead, "patch": http.MethodPatch, "trace": http.MethodTrace,
}

func (d *Document) pathItem(c *compiler, template string, n *node) {
	item, err := c.files.follow(n)
	if err != nil {
		c.refuse(n, err)
		return
	}
	shared := d.parameters(c, item.get("parameters"))
	item.each(func(key string, at *node) {
		method := methods[key]
		if method == "" {
			return
		}
		if len(d.Operations) >= maxOperations {
			c.fault(at.fault("the document has more than %d operations", maxOperations))
			return
		}
		op := &Operation{Method: method, Path: template, ID: at.get("operationId").text(), document: d, responses: map[int]*response{}}
		if op.segments, err = parseTemplate(template); err != nil {
			c.fault(n.fault("path %s: %v", template, err))
			return
		}
		op.parameters = override(shared, d.parameters(c, at.get("parameters")))
		op.bind(c, at)
		d.requestBody(c, op, at.get("requestBody"))
		at.get("responses").each(func(status string, res *node) { d.response(c, op, status, res) })
		d.add(op)
	})
}

// override gives the path's parameters with those of the operation in front.
func override(shared, own []*parameter) []*parameter {
	list := append([]*parameter(nil), own...)
	for _, p := range shared {
		there := false
		for _, o := range own {
			there = there || o.in == p.in && o.name == p.name
		}
		if !there {
			list = append(list, p)
		}
	}
	return list
}

func (d *Document) requestBody(c *compiler, op *Operation, n *node) {
	if n == nil {
		return
	}
	at, err := c.files.follow(n)
	if err != nil {
		c.refuse(n, err)
		return
	}
	op.body = &requestBody{required: at.get("required").yes(), content: d.content(c, at.get("content"), toService)}
}

func (d *Document) response(c *compiler, op *Operation, status string, n *node) {
	if strings.HasPrefix(status, "x-") {
		return
	}
	at, err := c.files.follow(n)
	if err != nil {
		c.refuse(n, err)
		return
	}
	res := &response{content: d.content(c, at.get("content"), toClient)}
	at.get("headers").each(func(name string, h *node) {
		if strings.EqualFold(name, "Content-Type") {
			return
		}
		target, err := c.files.follow(h)
		if err != nil {
			c.refuse(h, err)
			return
		}
		res.headers = append(res.headers, &parameter{
			in: InHeader, name: http.CanonicalHeaderKey(name), required: target.get("required").yes(),
			schema: c.schema(target.get("schema"), toClient), style: styleSimple, explode: target.get("explode").yes(), unchecked: target.get("content") != nil,
		})
	})
	switch {
	case status == "default":
		op.fallback = res
	case len(status) == 3 && strings.EqualFold(status[1:], "XX") && status[0] >= '1' && status[0] <= '5':
		op.classes[status[0]-'1'] = res
	default:
		code, err := strconv.Atoi(status)
		if err != nil || code < 100 || code > 599 {
			c.fault(n.fault("%q is no status: write for example 200, 4XX or default", status))
			return
		}
		op.responses[code] = res
	}
}

// content compiles the schemas of a body by media type.
func (d *Document) content(c *compiler, n *node, way direction) []*media {
	var list []*media
	n.each(func(kind string, at *node) {
		base, _, _ := strings.Cut(kind, ";")
		base = strings.ToLower(strings.TrimSpace(base))
		list = append(list, &media{kind: base, json: isJSON(base), form: base == formType, schema: c.schema(at.get("schema"), way)})
	})
	return list
}
