// Command cache measures how much load Landline's cache takes off a service,
// and what a hit costs next to a miss. It starts an upstream that needs 15 ms
// for an answer and bin/landline, sends the requests of many users at a steady
// rate, and prints a table with a row for every way to set the cache up:
//
//	make build && go run ./test/load/cache
//
// The workload: 70 % of the requests read one of 20,000 items, 20 % one of 500
// lists, chosen by Zipf's law with s = 1.1; 9 % read what belongs to one of 5,000
// users; 1 % write an item, which invalidates it. The service gives a fifth of
// the items 2 s to live (prices), the others 60 s, lists 10 s, and users' own
// things 10 s. Every row begins with an empty cache and includes its filling, so
// that longer runs show more: -duration 5m comes near to a steady state.
//
// With TEST_REDIS_URL set there are rows for two nodes that share Redis.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// setup is a row of the table.
type setup struct {
	name   string
	cache  string // the feature's block; "" = none
	memory string
	nodes  int
	redis  bool
}

var setups = []setup{
	{name: "no cache", nodes: 1},
	{name: "ttl 1s, whatever the service says", cache: "{ttl: 1s, respect_upstream: false, vary_by: [\"header:X-User\"]}", nodes: 1},
	{name: "the service's own lifetimes", cache: "{vary_by: [\"header:X-User\"]}", nodes: 1},
	{name: "and stale_while_revalidate: 30s", cache: "{stale_while_revalidate: 30s, vary_by: [\"header:X-User\"]}", nodes: 1},
	{name: "ttl 60s, whatever the service says", cache: "{ttl: 60s, respect_upstream: false, vary_by: [\"header:X-User\"]}", nodes: 1},
	{name: "own lifetimes, 4MiB of memory", cache: "{vary_by: [\"header:X-User\"]}", memory: "4MiB", nodes: 1},
	{name: "own lifetimes, two nodes", cache: "{vary_by: [\"header:X-User\"]}", nodes: 2},
	{name: "own lifetimes, two nodes and Redis", cache: "{vary_by: [\"header:X-User\"]}", nodes: 2, redis: true},
}

type load struct {
	duration time.Duration
	rate     int
	items    uint64
	users    int
}

func main() {
	binary := flag.String("landline", "bin/landline", "binary to measure")
	l := load{}
	flag.DurationVar(&l.duration, "duration", 20*time.Second, "length of one row")
	flag.IntVar(&l.rate, "rate", 1500, "requests per second")
	flag.Uint64Var(&l.items, "items", 20_000, "how many items there are")
	flag.IntVar(&l.users, "users", 5_000, "how many users there are")
	flag.Parse()
	if err := run(*binary, l); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(binary string, l load) error {
	service := &service{}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: service, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Printf("%d requests/s for %s per row, %d items and 500 lists (Zipf s=1.1), %d users, a service that needs 15 ms\n\n", l.rate, l.duration, l.items, l.users)
	fmt.Printf("%-38s %9s %9s %9s %9s %17s %17s %8s\n", "", "requests", "upstream", "taken off", "of reads", "hit p50/p99 ms", "miss p50/p99 ms", "failed")
	for _, s := range setups {
		if s.redis && os.Getenv("TEST_REDIS_URL") == "" {
			continue
		}
		if err := measure(binary, s, l, service, "http://"+listener.Addr().String()); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	if err := server.Close(); err != nil {
		return err
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// service is the upstream.
type service struct{ reads, writes atomic.Int64 }

var filler = strings.Repeat("all work and no play ", 60) // about 1.2 KB, as JSON of an app's screen has

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	time.Sleep(15 * time.Millisecond) // what a service takes
	if r.Method != http.MethodGet {
		s.writes.Add(1)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	s.reads.Add(1)
	life := 60
	switch kind, id, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/"), "/"); {
	case kind != "items":
		life = 10
	case strings.HasSuffix(id, "0") || strings.HasSuffix(id, "5"):
		life = 2
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", fmt.Sprintf("max-age=%d", life))
	w.Header().Set("ETag", `"`+r.URL.Path+`"`)
	fmt.Fprintf(w, `{"path":%q,"text":%q}`, r.URL.Path, filler) //nolint:errcheck // the client counts what failed
}

func measure(binary string, s setup, l load, service *service, url string) error {
	service.reads.Store(0)
	service.writes.Store(0)
	nodes, stop, err := startNodes(binary, s, url)
	if err != nil {
		return err
	}
	defer stop()
	r := drive(nodes, l)
	reads := service.reads.Load()
	all := r.hits.n() + r.misses.n() + r.writes.Load()
	fmt.Printf("%-38s %9d %9d %8.1f%% %8.1f%% %17s %17s %8d\n", s.name, all, reads+service.writes.Load(),
		100*(1-float64(reads+service.writes.Load())/float64(all)), 100*(1-float64(reads)/float64(all-r.writes.Load())), r.hits.text(), r.misses.text(), r.failed.Load())
	return nil
}

// times are latencies of one kind.
type times struct {
	mu   sync.Mutex
	list []time.Duration
}

func (t *times) add(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = append(t.list, d)
}

func (t *times) n() int64 { return int64(len(t.list)) }

func (t *times) text() string {
	if len(t.list) == 0 {
		return "-"
	}
	slices.Sort(t.list)
	ms := func(q float64) float64 { return float64(t.list[int(q*float64(len(t.list)-1))].Microseconds()) / 1e3 }
	return fmt.Sprintf("%.2f / %.2f", ms(0.5), ms(0.99))
}

type result struct {
	hits, misses   times
	writes, failed atomic.Int64
}

// drive sends the workload at its rate; a request that is slow does not delay the next.
func drive(nodes []string, l load) *result {
	r := &result{}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same load in every row
	items, lists := rand.NewZipf(random, 1.1, 1, l.items-1), rand.NewZipf(random, 1.1, 1, 499)
	ctx, cancel := context.WithTimeout(context.Background(), l.duration)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var wg sync.WaitGroup
	began, sent := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			wg.Wait()
			return r
		case <-tick.C:
		}
		for due := int(time.Since(began).Seconds() * float64(l.rate)); sent < due; sent++ {
			method, path, user := http.MethodGet, "", ""
			switch p := random.IntN(100); {
			case p < 70:
				path = fmt.Sprint("/v1/items/", items.Uint64())
			case p < 90:
				path = fmt.Sprint("/v1/lists/", lists.Uint64())
			case p < 99:
				path, user = "/v1/own/things", fmt.Sprint(random.IntN(l.users))
			default:
				method, path = http.MethodPut, fmt.Sprint("/v1/items/", items.Uint64())
			}
			node := nodes[random.IntN(len(nodes))]
			wg.Go(func() { r.one(client, method, node+path, user) })
		}
	}
}

func (r *result) one(client *http.Client, method, url, user string) {
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		r.failed.Add(1)
		return
	}
	req.Host = "api.example.com" // nodes behind one balancer
	if user != "" {
		req.Header.Set("X-User", user)
	}
	began := time.Now()
	res, err := client.Do(req)
	if err != nil {
		r.failed.Add(1)
		return
	}
	_, err = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	took := time.Since(began)
	switch {
	case err != nil || res.StatusCode >= 400:
		r.failed.Add(1)
	case method != http.MethodGet:
		r.writes.Add(1)
	case strings.HasPrefix(res.Header.Get("Cache-Status"), "Landline; hit"):
		r.hits.add(took)
	default:
		r.misses.add(took)
	}
}
