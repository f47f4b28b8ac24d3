package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// replicas are targets below one path of the upstream each, which scenarios
// make well, sick (503) or stuck.
type replicas struct {
	mu     sync.Mutex
	states map[string]string
	asked  map[string]int
}

// crowd are requests to Landline that wait at the upstream until it is dissolved.
type crowd struct {
	mu      sync.Mutex
	gate    chan struct{}
	waiting int
	arrived *sync.Cond
	calls   sync.WaitGroup
}

func (u *upstream) registerUpstreams(mux *http.ServeMux) {
	r := &replicas{states: map[string]string{}, asked: map[string]int{}}
	mux.HandleFunc("/replica/{name}/{rest...}", r.answer)
	mux.HandleFunc("PUT /replicas/{name}/{state}", r.set)
	mux.HandleFunc("GET /replicas/{name}", r.count)
	c := &crowd{gate: make(chan struct{})}
	c.arrived = sync.NewCond(&c.mu)
	mux.HandleFunc("GET /wait", c.wait)
	mux.HandleFunc("PUT /crowd/{n}", c.gather)
	mux.HandleFunc("DELETE /crowd", c.dissolve)
}

func (p *replicas) answer(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	p.mu.Lock()
	state := p.states[name]
	if r.PathValue("rest") != "healthz" {
		p.asked[name]++
	}
	p.mu.Unlock()
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	switch state {
	case "sick":
		http.Error(w, "sick", http.StatusServiceUnavailable)
		return
	case "stuck":
		<-r.Context().Done()
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]string{"replica": name})
}

func (p *replicas) set(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.states[r.PathValue("name")] = r.PathValue("state")
	p.asked[r.PathValue("name")] = 0
	w.WriteHeader(http.StatusNoContent)
}

func (p *replicas) count(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"asked":%d}`, p.asked[r.PathValue("name")])
}

func (c *crowd) wait(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	gate := c.gate
	c.waiting++
	c.arrived.Broadcast()
	c.mu.Unlock()
	select {
	case <-gate:
	case <-r.Context().Done():
	}
	c.mu.Lock()
	c.waiting--
	c.mu.Unlock()
	io.WriteString(w, "let go")
}

// gather lets n more requests to the URL in at wait, and answers once they do.
func (c *crowd) gather(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	at := r.URL.Query().Get("at")
	c.mu.Lock()
	defer c.mu.Unlock()
	want, ended := c.waiting+n, 0
	for range n {
		c.calls.Go(func() {
			if res, err := client.Get(at); err == nil {
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
			c.mu.Lock()
			ended++
			c.arrived.Broadcast()
			c.mu.Unlock()
		})
	}
	for c.waiting < want && ended == 0 {
		c.arrived.Wait()
	}
	if ended > 0 {
		http.Error(w, fmt.Sprintf("%d of them do not wait but ended", ended), http.StatusConflict)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (c *crowd) dissolve(w http.ResponseWriter, _ *http.Request) {
	c.mu.Lock()
	close(c.gate)
	c.gate = make(chan struct{})
	c.mu.Unlock()
	c.calls.Wait()
	w.WriteHeader(http.StatusNoContent)
}
