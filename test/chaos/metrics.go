package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"landline/test/process"
)

// scrape reads one metric without labels, or sums it over its labels, from a
// node's admin listener.
func scrape(ctx context.Context, n *process.Node, name string) (float64, error) {
	all, err := fetch(ctx, n.Admin+"/metrics")
	if err != nil {
		return 0, err
	}
	sum, found := 0.0, false
	for line := range strings.Lines(all) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		fields := strings.Fields(rest)
		v, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("there is no metric %s", name)
	}
	return sum, nil
}

var lookClient = &http.Client{Timeout: 10 * time.Second}

func fetch(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := lookClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, res.Status)
	}
	return string(body), err
}

// size is what a process holds, after a garbage collection.
type size struct {
	goroutines, descriptors int
	heap                    float64 // bytes in use
}

// measure collects garbage (the heap profile does that when asked with gc=1) and reads.
func measure(ctx context.Context, n *process.Node) (s size, err error) {
	for range 2 { // what finalizers free goes with the second
		if _, err := fetch(ctx, n.Admin+"/debug/pprof/heap?gc=1&debug=1"); err != nil {
			return s, err
		}
	}
	for name, into := range map[string]func(float64){
		"go_goroutines":                func(v float64) { s.goroutines = int(v) },
		"process_open_fds":             func(v float64) { s.descriptors = int(v) },
		"go_memstats_heap_alloc_bytes": func(v float64) { s.heap = v },
	} {
		v, err := scrape(ctx, n, name)
		if err != nil {
			return s, err
		}
		into(v)
	}
	return s, nil
}

// settled measures until goroutines and descriptors are at most those of
// before, plus slack for what is pooled, or the time is over. Compared with
// nothing it waits until two measurements a second apart are the same.
func settled(ctx context.Context, n *process.Node, before size, slack int) (size, error) {
	var now size
	var err error
	_, waitErr := eventually(ctx, 20*time.Second, "goroutines and descriptors are back", func() bool {
		last := now
		if now, err = measure(ctx, n); before == (size{}) && err == nil {
			same := now.goroutines == last.goroutines && now.descriptors == last.descriptors
			time.Sleep(time.Second) // between two measurements
			return same
		}
		return err != nil || now.goroutines <= before.goroutines+slack && now.descriptors <= before.descriptors+slack
	})
	if err != nil || ctx.Err() != nil {
		return now, err
	}
	_ = waitErr // the caller judges by the figures
	return now, nil
}

// readiness is what /readyz of the admin listener says: ready, degraded, failing, draining.
func readiness(ctx context.Context, n *process.Node) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.Admin+"/readyz", nil)
	if err != nil {
		return ""
	}
	res, err := lookClient.Do(req)
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	var s struct {
		Status any    // of a problem: 503
		Node   string `json:"node_status"`
	}
	if json.NewDecoder(res.Body).Decode(&s) != nil {
		return ""
	}
	if s.Node != "" {
		return s.Node
	}
	status, _ := s.Status.(string)
	return status
}

// cpuTime is what a process has used so far, to within 10 ms (proc(5)).
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(text), ") ") // the name before it may hold anything
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat is unlike proc(5)", pid)
	}
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, err
}
