package e2e

import (
	"fmt"
	"net/http"
	"strings"
)

// registerCache adds answers whose headers a scenario chooses in the query:
// ?set.Cache-Control=max-age%3D60. A condition that matches set.ETag is
// answered with 304; what is broken answers 500. Every answer counts.
func (u *upstream) registerCache(mux *http.ServeMux) {
	mux.HandleFunc("GET /cacheable/{name}", func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("name")
		u.mu.Lock()
		u.counts[name]++
		n, broken := u.counts[name], u.broken[name]
		u.mu.Unlock()
		if broken {
			http.Error(w, "broken", http.StatusInternalServerError)
			return
		}
		for key, values := range r.URL.Query() {
			if field, ok := strings.CutPrefix(key, "set."); ok {
				w.Header()[http.CanonicalHeaderKey(field)] = values
			}
		}
		if tag := w.Header().Get("Etag"); tag != "" && r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Surrogate-Key", "all "+name)
		fmt.Fprintf(w, `{"execution":%d,"told":%t}`, n, r.Header.Get("Landline-Identity") != "")
	})
	mux.HandleFunc("POST /cacheable/{name}", u.execute)
}
