package admin

import (
	"net/http"
	"net/http/pprof"
	"net/url"
	rpprof "runtime/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"landline/internal/module"
	"landline/internal/problem"
)

// maxProfile bounds how long one profile may take, in seconds.
const maxProfile = 120

// mountPlain mounts what is no JSON API: metrics, health, profiles.
func (s *Server) mountPlain(mux *http.ServeMux) {
	metrics := promhttp.HandlerFor(s.o.Registry, promhttp.HandlerOpts{Registry: s.o.Registry, MaxRequestsInFlight: 4, Timeout: 20 * time.Second})
	mux.Handle("GET /metrics", s.plain("metrics", module.Viewer, metrics))
	mux.Handle("GET /healthz", s.plain("healthz", module.Viewer, s.o.Health.Live()))
	mux.Handle("GET /readyz", s.plain("readyz", module.Viewer, s.o.Health.Ready()))
	mux.Handle("GET /debug/pprof", s.plain("pprof", module.Operator, http.RedirectHandler("/debug/pprof/", http.StatusSeeOther)))
	mux.Handle("GET /debug/pprof/{name...}", s.plain("pprof", module.Operator, http.HandlerFunc(profile)))
	mux.Handle("POST /debug/pprof/symbol", s.plain("pprof", module.Operator, http.HandlerFunc(pprof.Symbol)))
}

// profile is net/http/pprof with bounds and with our errors.
func profile(w http.ResponseWriter, r *http.Request) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		fail(w, r, problem.New(problem.InvalidRequest, "query: is not valid").Wrap(err))
		return
	}
	if text := q.Get("seconds"); text != "" {
		if n, err := strconv.ParseFloat(text, 64); err != nil || !(n > 0 && n <= maxProfile) {
			fail(w, r, problem.New(problem.InvalidRequest, "query.seconds: must be more than 0 and at most %d", maxProfile))
			return
		}
	}
	switch name := strings.TrimSuffix(r.PathValue("name"), "/"); {
	case name == "":
		pprof.Index(w, r)
	case name == "cmdline":
		pprof.Cmdline(w, r)
	case name == "profile":
		pprof.Profile(w, r)
	case name == "symbol":
		pprof.Symbol(w, r)
	case name == "trace":
		pprof.Trace(w, r)
	case rpprof.Lookup(name) != nil:
		pprof.Handler(name).ServeHTTP(w, r)
	default:
		fail(w, r, problem.New(problem.NotFound, "there is no such profile; /debug/pprof/ lists them"))
	}
}
