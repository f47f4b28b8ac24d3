package e2e

import (
	"io"
	"net/http"
)

// hold counts an execution; the first of a name is never answered.
func (u *upstream) hold(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	name := r.PathValue("name")
	u.mu.Lock()
	u.counts[name]++
	first := u.counts[name] == 1
	u.mu.Unlock()
	if first {
		<-r.Context().Done()
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	io.WriteString(w, `{"key":"`+r.Header.Get("Idempotency-Key")+`"}`)
}
