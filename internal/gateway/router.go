package gateway

import (
	"fmt"
	"slices"
	"strings"
)

// router finds the most specific route for a method and an escaped path: at
// each segment a fixed text goes before {name}, and that before {name...}; a
// branch that ends without a route for the method is left for the next one.
// It is immutable once built.
//
// The fixed texts of all nodes are in one table, so that a step reads one place
// of it and the node, whatever the number of routes: two cache lines.
type router struct {
	nodes []node // the first is the root
	edges edges
	count int
}

// node is 64 bytes long, a cache line.
type node struct {
	here   ends   // routes that end at this node
	tail   *ends  // routes whose {name...} begins at this node; nil = none
	param  uint32 // node behind {name}; 0 = none
	static bool   // it has fixed texts
	_      [16]byte
}

// ends are the routes of one place, each with another method; most places have one.
type ends struct {
	first *Route // nil = none
	more  []*Route
}

func (e *ends) add(r *Route) {
	if e.first == nil {
		e.first = r
	} else {
		e.more = append(e.more, r)
	}
}

// all calls f with each route as long as it returns true.
func (e *ends) all(f func(*Route) bool) {
	if e == nil || e.first == nil || !f(e.first) {
		return
	}
	for _, r := range e.more {
		if !f(r) {
			return
		}
	}
}

// add inserts a route; a route with the same shape and method is a conflict.
func (rt *router) add(r *Route) error {
	if len(rt.nodes) == 0 {
		rt.nodes = append(rt.nodes, node{})
	}
	at := uint32(0)
	for _, s := range r.pattern.segments {
		switch s.kind {
		case static:
			child := rt.edges.find(at, s.text)
			if child == 0 {
				child = rt.grow()
				rt.nodes[at].static = true
				rt.edges.add(at, s.text, child)
			}
			at = child
		case param:
			if rt.nodes[at].param == 0 {
				child := rt.grow()
				rt.nodes[at].param = child
			}
			at = rt.nodes[at].param
		case tail:
			if rt.nodes[at].tail == nil {
				rt.nodes[at].tail = &ends{}
			}
			return rt.put(rt.nodes[at].tail, r)
		}
	}
	return rt.put(&rt.nodes[at].here, r)
}

// grow adds a node.
func (rt *router) grow() uint32 {
	rt.nodes = append(rt.nodes, node{})
	return uint32(len(rt.nodes) - 1) // #nosec G115 -- a configuration has fewer segments
}

func (rt *router) put(list *ends, r *Route) error {
	for other := range list.all {
		if other.Method == r.Method {
			if err := other.share(r); err != nil {
				return err
			}
			rt.count++
			return nil
		}
	}
	if r.Version != "" {
		r.variants = []*Route{r}
	}
	list.add(r)
	rt.count++
	return nil
}

// share makes other a variant of r, which the router has at the same place.
func (r *Route) share(other *Route) error {
	for _, v := range r.variants {
		if v.Version == other.Version {
			return &conflictError{other, v}
		}
	}
	if r.variants == nil || other.Version == "" {
		return &conflictError{other, r}
	}
	r.variants = append(r.variants, other)
	return nil
}

// conflictError says that two routes match the same requests.
type conflictError struct{ route, other *Route }

func (e *conflictError) Error() string {
	return fmt.Sprintf("%q of feature %s matches the same requests as %q of feature %s", e.route.Match, e.route.Feature, e.other.Match, e.other.Feature)
}

// find returns the route for method and path and stores the wildcards' values
// in params; nil when there is none.
func (rt *router) find(method, path string, params *[maxParams]string) *Route {
	if path == "" || path[0] != '/' || len(rt.nodes) == 0 {
		return nil
	}
	return rt.walk(0, method, path[1:], params, 0)
}

// walk goes on from a node with the rest of the path, without its leading slash.
func (rt *router) walk(at uint32, method, rest string, params *[maxParams]string, used int) *Route {
	seg, after, more := strings.Cut(rest, "/")
	n := &rt.nodes[at]
	if n.static {
		if child := rt.edges.find(at, seg); child != 0 {
			if r := rt.step(child, method, after, more, params, used); r != nil {
				return r
			}
		}
	}
	if n.param != 0 && seg != "" {
		params[used] = seg
		if r := rt.step(n.param, method, after, more, params, used+1); r != nil {
			return r
		}
	}
	if n.tail != nil {
		if r := n.tail.pick(method); r != nil {
			params[used] = rest
			return r
		}
	}
	return nil
}

func (rt *router) step(at uint32, method, after string, more bool, params *[maxParams]string, used int) *Route {
	if more {
		return rt.walk(at, method, after, params, used)
	}
	return rt.nodes[at].here.pick(method)
}

// pick prefers the method itself, then GET for HEAD, then any method.
func (e *ends) pick(method string) *Route {
	if e.first == nil || e.first.Method == method {
		return e.first
	}
	var get, other *Route
	for r := range e.all {
		switch r.Method {
		case method:
			return r
		case "GET":
			get = r
		case "":
			other = r
		}
	}
	if get != nil && method == "HEAD" {
		return get
	}
	return other
}

// allowed lists the methods that the routes of path take, sorted, with HEAD
// and OPTIONS where they follow from others; nil when no route has the path.
func (rt *router) allowed(path string) []string {
	if path == "" || path[0] != '/' || len(rt.nodes) == 0 {
		return nil
	}
	methods := map[string]bool{}
	rt.collect(0, path[1:], methods)
	if len(methods) == 0 {
		return nil
	}
	if methods[""] { // any method but TRACE and CONNECT; these are the ones to expect
		delete(methods, "")
		for _, m := range [...]string{"DELETE", "GET", "PATCH", "POST", "PUT"} {
			methods[m] = true
		}
	}
	methods["OPTIONS"] = true
	if methods["GET"] {
		methods["HEAD"] = true
	}
	list := make([]string, 0, len(methods))
	for m := range methods {
		list = append(list, m)
	}
	slices.Sort(list)
	return list
}

func (rt *router) collect(at uint32, rest string, methods map[string]bool) {
	seg, after, more := strings.Cut(rest, "/")
	visit := func(child uint32) {
		if more {
			rt.collect(child, after, methods)
			return
		}
		for r := range rt.nodes[child].here.all {
			methods[r.Method] = true
		}
	}
	n := &rt.nodes[at]
	if child := rt.edges.find(at, seg); child != 0 {
		visit(child)
	}
	if n.param != 0 && seg != "" {
		visit(n.param)
	}
	for r := range n.tail.all {
		methods[r.Method] = true
	}
}
