package gateway

import (
	"mime"
	"net/http"
	"slices"
	"strings"

	"landline/internal/problem"
)

// versions negotiates the API version where several routes share a method and a path.
type versions struct {
	header    string // canonical
	parameter string // of a media type in Accept, "" = none
	fallback  string // version of a request that names none
}

func newVersions(c VersionsConfig) versions {
	header := c.Header
	if header == "" {
		header = DefaultVersionHeader
	}
	return versions{http.CanonicalHeaderKey(header), strings.ToLower(c.Accept), c.Default}
}

// choose finds the route among those that share a method and a path.
func (v versions) choose(r *http.Request, variants []*Route) (*Route, error) {
	name, err := v.named(r)
	if err != nil {
		return nil, err
	}
	if name == "" {
		if name = v.fallback; name == "" && len(variants) == 1 {
			return variants[0], nil
		}
	}
	known := make([]string, len(variants))
	for i, rt := range variants {
		if rt.Version == name || rt.Version == "v"+name {
			return rt, nil
		}
		known[i] = rt.Version
	}
	slices.Sort(known)
	list := strings.Join(known, ", ")
	if name == "" {
		return nil, problem.New(problem.InvalidRequest, "name an API version in %s; this path has %s", v.header, list).With("known_versions", known)
	}
	return nil, problem.New(problem.InvalidRequest, "this path has no such API version; it has %s. Name one in %s", list, v.header).With("known_versions", known)
}

// named is the version that a request names, "" if it names none.
func (v versions) named(r *http.Request) (string, error) {
	switch values := r.Header[v.header]; {
	case len(values) == 1 && strings.TrimSpace(values[0]) != "":
		return strings.ToLower(strings.TrimSpace(values[0])), nil
	case len(values) > 1:
		return "", problem.New(problem.InvalidRequest, "the request has more than one %s", v.header)
	case v.parameter == "":
		return "", nil
	}
	for _, line := range r.Header["Accept"] {
		for media := range strings.SplitSeq(line, ",") {
			_, parameters, err := mime.ParseMediaType(media)
			if err == nil && parameters[v.parameter] != "" {
				return strings.ToLower(parameters[v.parameter]), nil
			}
		}
	}
	return "", nil
}

// versionStage tells caches and the client what the version was chosen by, and
// which it was.
func versionStage(v versions, rt *Route) Stage {
	edit := func(_ *Exchange, _ int, h http.Header) {
		addVary(h, v.header)
		if v.parameter != "" {
			addVary(h, "Accept")
		}
		h[v.header] = []string{rt.Version}
	}
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			x.edits.add(edit)
			return next(x, w, r)
		}
	}
}

// vary is for a request whose version cannot be found: a problem's answer
// depends on the header too.
func (v versions) vary(x *Exchange) {
	x.edits.add(func(_ *Exchange, _ int, h http.Header) {
		addVary(h, v.header)
		if v.parameter != "" {
			addVary(h, "Accept")
		}
	})
}
