package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
)

// contracts registers a service that keeps its contract, or does not, as the
// query asks it to.
func contracts(mux *http.ServeMux) {
	mux.HandleFunc("GET /contract/trips", func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "application/json")
		switch r.URL.Query().Get("answer") {
		case "bad":
			fmt.Fprint(w, `{"data":[{"from":"WAW","to":"LHR","seats":"two"}],"page":{"next":null}}`)
		case "large":
			fmt.Fprintf(w, `{"data":%q}`, strings.Repeat("x", 80<<10))
		case "events":
			h.Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "data: {}\n\n")
		case "problem":
			h.Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"type":"about:blank","title":"No such trip","status":404,"code":"no_such_trip"}`)
		default:
			fmt.Fprint(w, `{"data":[{"id":"trp_1","from":"WAW","to":"LHR","seats":2}],"page":{"next":null}}`)
		}
	})
	mux.HandleFunc("POST /contract/trips", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		w.Write(body)
	})
}
