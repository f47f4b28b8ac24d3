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
type router struct {
	root  node
	count int
}

type node struct {
	static map[string]*node
	param  *node
	here   []*Route // routes that end at this node
	tail   []*Route // routes whose {name...} begins at this node
}

// add inserts a route; a route with the same shape and method is a conflict.
func (rt *router) add(r *Route) error {
	n := &rt.root
	for _, s := range r.pattern.segments {
		switch s.kind {
		case static:
			if n.static == nil {
				n.static = map[string]*node{}
			}
			child := n.static[s.text]
			if child == nil {
				child = &node{}
				n.static[s.text] = child
			}
			n = child
		case param:
			if n.param == nil {
				n.param = &node{}
			}
			n = n.param
		case tail:
			return rt.put(&n.tail, r)
		}
	}
	return rt.put(&n.here, r)
}

func (rt *router) put(list *[]*Route, r *Route) error {
	for _, other := range *list {
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
	*list = append(*list, r)
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
	if path == "" || path[0] != '/' {
		return nil
	}
	return rt.root.find(method, path[1:], params, 0)
}

// find walks on with the rest of the path, without its leading slash.
func (n *node) find(method, rest string, params *[maxParams]string, used int) *Route {
	seg, after, more := strings.Cut(rest, "/")
	if child := n.static[seg]; child != nil {
		if r := child.step(method, after, more, params, used); r != nil {
			return r
		}
	}
	if n.param != nil && seg != "" {
		params[used] = seg
		if r := n.param.step(method, after, more, params, used+1); r != nil {
			return r
		}
	}
	if r := pick(n.tail, method); r != nil {
		params[used] = rest
		return r
	}
	return nil
}

func (n *node) step(method, after string, more bool, params *[maxParams]string, used int) *Route {
	if more {
		return n.find(method, after, params, used)
	}
	return pick(n.here, method)
}

// pick prefers the method itself, then GET for HEAD, then any method.
func pick(routes []*Route, method string) *Route {
	var get, other *Route
	for _, r := range routes {
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
	if path == "" || path[0] != '/' {
		return nil
	}
	methods := map[string]bool{}
	rt.root.collect(path[1:], methods)
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

func (n *node) collect(rest string, methods map[string]bool) {
	seg, after, more := strings.Cut(rest, "/")
	visit := func(child *node) {
		if more {
			child.collect(after, methods)
			return
		}
		for _, r := range child.here {
			methods[r.Method] = true
		}
	}
	if child := n.static[seg]; child != nil {
		visit(child)
	}
	if n.param != nil && seg != "" {
		visit(n.param)
	}
	for _, r := range n.tail {
		methods[r.Method] = true
	}
}
