package gateway

import (
	"net/http"

	"landline/internal/gateway/cache"
)

// invalidateStage forgets what is stored for a path when a write to it may
// have changed it (RFC 9111 §4.4), before the client learns of its success: its
// next request must see what it has written.
func (g *Gateway) invalidateStage() Stage {
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			if !cache.Invalidates(r.Method, http.StatusOK) {
				return next(x, w, r)
			}
			i := &invalidator{ResponseWriter: w, g: g, x: x, r: r}
			err := next(x, i, r)
			if err != nil && !i.done && x.Sent && (x.status == 0 || cache.Invalidates(r.Method, x.status)) {
				i.invalidate(nil) // cut off: it may have been executed
			}
			return err
		}
	}
}

type invalidator struct {
	http.ResponseWriter
	g    *Gateway
	x    *Exchange
	r    *http.Request
	done bool
}

func (i *invalidator) WriteHeader(status int) {
	if status >= 200 && !i.done && (cache.Invalidates(i.r.Method, i.x.status) || i.x.status == 0 && i.x.Sent) {
		i.invalidate(i.Header())
	}
	i.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (i *invalidator) Unwrap() http.ResponseWriter { return i.ResponseWriter }

// invalidate forgets the request's path and those that Location and
// Content-Location name, as far as a feature with a cache answers GET there.
func (i *invalidator) invalidate(h http.Header) {
	i.done = true
	paths := []string{i.x.path}
	for _, name := range [...]string{"Location", "Content-Location"} {
		if len(h[name]) == 0 {
			continue
		}
		u, err := i.r.URL.Parse(h[name][0])
		if err != nil || u.Host != "" && u.Host != i.r.Host {
			continue
		}
		if path, err := checkPath(u.EscapedPath()); err == nil && path != paths[0] {
			paths = append(paths, path)
		}
	}
	t := i.g.table.Load()
	for _, path := range paths {
		if feature := t.cachedAt(path); feature != "" {
			i.g.cache.invalidate(i.r.Context(), feature, path)
		}
	}
}
