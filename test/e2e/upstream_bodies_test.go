package e2e

import (
	"fmt"
	"net/http"
	"strings"
)

// bodies registers the answers that scenarios about bodies and headers need.
func bodies(mux *http.ServeMux) {
	rows := strings.Repeat(`{"id":"flt_0001","number":"LO281","status":"on_time"},`, 100)
	document := `{"data":[` + strings.TrimSuffix(rows, ",") + `],"count":100}`
	mux.HandleFunc("GET /document", func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("ETag", `"v1"`)
		h.Set("Server", "team/1.0")
		h.Set("Access-Control-Allow-Origin", "https://wrong.example")
		fmt.Fprint(w, document)
	})
	mux.HandleFunc("GET /picture", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/png")
		w.Header().Set("ETag", `"p1"`)
		fmt.Fprint(w, document)
	})
}
