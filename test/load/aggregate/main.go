// Command aggregate measures an aggregated route against what a Go team would
// write by hand: a handler that asks three services at once with http.Client,
// decodes their answers with encoding/json, and encodes the merged answer. The
// services, the handler (= 1) and bin/landline are processes of their own on
// loopback and get the same requests over the same number of connections in
// interleaved rounds. It prints the median requests per second, the CPU time
// of the process per request, and the ratios to the handler:
//
//	make build && go run ./test/load/aggregate
//
// The generator shares the machine with what it measures; compare ratios, not
// absolute figures.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

func main() {
	role := flag.String("role", "", "internal: services or handler")
	target := flag.String("target", "", "internal: where the services are")
	binary := flag.String("landline", "bin/landline", "binary to measure")
	rounds := flag.Int("rounds", 5, "rounds; the median counts")
	duration := flag.Duration("duration", 2*time.Second, "length of one round")
	connections := flag.Int("connections", 32, "parallel connections")
	flag.Parse()
	var err error
	switch *role {
	case "services":
		err = serve(services())
	case "handler":
		err = serve(handler(*target))
	default:
		err = measure(*binary, *rounds, *duration, *connections)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// services answer with documents of the size that apps get: an airport, a
// departures board of n flights, the weather.
func services() http.Handler {
	mux := http.NewServeMux()
	answer := func(pattern, body string) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			io.WriteString(w, body) //nolint:errcheck // the caller went away
		})
	}
	answer("GET /airports/WAW", `{"iata":"WAW","name":"Warsaw Chopin Airport","city":"Warsaw","country":"PL","latitude":52.1657,"longitude":20.9671,"time_zone":"Europe/Warsaw"}`)
	answer("GET /weather/WAW", `{"now":{"celsius":7.5,"wind":{"kmh":12,"from":270},"sky":"clouds"},"source":"station"}`)
	for _, n := range []int{3, 30} {
		flights := make([]string, n)
		for i := range flights {
			flights[i] = fmt.Sprintf(`{"flight":"LO%d","from":"WAW","to":"LHR","city":"London","scheduled":"2026-01-01T%02d:00:00Z","gate":"A%d","minutes":%d,"status":{"code":"on_time","text":"On time"}}`, 100+i, i%24, i, 90+i)
		}
		answer(fmt.Sprintf("GET /departures/%d/WAW", n), `{"data":[`+strings.Join(flights, ",")+`],"page":{"next":null}}`)
	}
	return mux
}

// handler is the hand-written aggregation.
func handler(target string) http.Handler {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: time.Minute}}
	fetch := func(r *http.Request, path string) (map[string]any, error) {
		req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, target+path, nil)
		if err != nil {
			return nil, err
		}
		res, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return nil, errors.New(res.Status)
		}
		var v map[string]any
		return v, json.NewDecoder(res.Body).Decode(&v)
	}
	mux := http.NewServeMux()
	for _, n := range []string{"3", "30"} {
		mux.HandleFunc("GET /v1/home/"+n+"/{iata}", func(w http.ResponseWriter, r *http.Request) {
			iata := r.PathValue("iata")
			paths := []string{"/airports/" + iata, "/departures/" + n + "/" + iata, "/weather/" + iata}
			answers, errs := make([]map[string]any, len(paths)), make([]error, len(paths))
			var wait sync.WaitGroup
			for i, path := range paths {
				wait.Go(func() { answers[i], errs[i] = fetch(r, path) })
			}
			wait.Wait()
			if errs[0] != nil {
				http.Error(w, "airport", http.StatusBadGateway)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			//nolint:errcheck // the caller went away
			json.NewEncoder(w).Encode(map[string]any{"airport": answers[0], "board": answers[1]["data"], "weather": answers[2]["now"]})
		})
	}
	return mux
}

// serve listens on a free port and prints it.
func serve(h http.Handler) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("ready public=%s admin=none\n", l.Addr())
	return (&http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}).Serve(l)
}

const config = `profile: development
app: {id: com.example.load}
log: {level: info}
upstreams:
  team: {targets: [{url: "%s"}]}
features:
  home:
    auth: none
    timeout: 2s
    breaker: {}
    routes:
%s`

const route = `      - match: "GET /v1/home/%[1]d/{iata}"
        aggregate:
          calls:
            airport: {upstream: team, path: "/airports/{iata}", required: true}
            departures: {upstream: team, path: "/departures/%[1]d/{iata}"}
            weather: {upstream: team, path: "/weather/{iata}"}
          answer: {airport: airport, board: departures.data, weather: weather.now}
`

type process struct {
	name    string
	cmd     *exec.Cmd
	address string
	rates   []float64
	cpu     []float64 // µs per request
}

func start(name, program string, args ...string) (*process, error) {
	cmd := exec.Command(program, args...)
	if os.Getenv("LOAD_VERBOSE") != "" {
		cmd.Stderr = os.Stderr
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("%s does not start: %w", name, err)
	}
	address, _, _ := strings.Cut(strings.TrimPrefix(line, "ready public="), " ")
	return &process{name: name, cmd: cmd, address: address}, nil
}

func measure(binary string, rounds int, duration time.Duration, connections int) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "landline-load-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var started []*process
	defer func() {
		for _, p := range started {
			err = errors.Join(err, p.cmd.Process.Kill())
			if wait := p.cmd.Wait(); wait != nil && !strings.Contains(wait.Error(), "killed") {
				err = errors.Join(err, wait)
			}
		}
	}()
	begin := func(name, program string, args ...string) *process {
		if err != nil {
			return nil
		}
		var p *process
		if p, err = start(name, program, args...); err == nil {
			started = append(started, p)
		}
		return p
	}
	behind := begin("services", self, "-role", "services")
	if err != nil {
		return err
	}
	target := "http://" + behind.address
	file := filepath.Join(dir, "landline.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, config, target, fmt.Sprintf(route, 3)+fmt.Sprintf(route, 30)), 0o600); err != nil {
		return err
	}
	byHand := begin("by hand", self, "-role", "handler", "-target", target)
	landline := begin("landline", binary, "serve", "--config", file, "--data", filepath.Join(dir, "data"), "--public", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("3 calls into one answer, %d connections, %d rounds of %s, interleaved, median; %d CPUs shared with generator and services\n", connections, rounds, duration, runtime.NumCPU())
	for _, n := range []int{3, 30} {
		if err := compare(n, byHand, landline, rounds, duration, connections); err != nil {
			return err
		}
	}
	return nil
}

func compare(n int, byHand, landline *process, rounds int, duration time.Duration, connections int) error {
	path := fmt.Sprintf("/v1/home/%d/WAW", n)
	size, err := same(byHand, landline, path)
	if err != nil {
		return err
	}
	runs := []*process{{name: "by hand", cmd: byHand.cmd, address: byHand.address}, {name: "landline", cmd: landline.cmd, address: landline.address}}
	for range rounds {
		for _, p := range runs {
			if err := p.round("GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n", duration, connections); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
	}
	fmt.Printf("\n%d flights, answer of %d bytes\n%-12s %10s %8s %14s %8s\n", n, size, "", "requests/s", "ratio", "µs CPU/request", "ratio")
	base := runs[0]
	for _, p := range runs {
		fmt.Printf("%-12s %10.0f %8.2f %14.1f %8.2f\n", p.name, median(p.rates), median(p.rates)/median(base.rates), median(p.cpu), median(base.cpu)/median(p.cpu))
	}
	return nil
}

// same makes sure that both give the same answer.
func same(a, b *process, path string) (size int, err error) {
	var documents [2]string
	for i, p := range []*process{a, b} {
		res, err := http.Get("http://" + p.address + path)
		if err != nil {
			return 0, err
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK {
			return 0, fmt.Errorf("%s: %s %s: %w", p.name, res.Status, body, err)
		}
		var v any
		if err := json.Unmarshal(body, &v); err != nil {
			return 0, err
		}
		sorted, err := json.Marshal(v)
		if err != nil {
			return 0, err
		}
		documents[i], size = string(sorted), len(body)
	}
	if documents[0] != documents[1] {
		return 0, fmt.Errorf("the answers differ:\n%s\n%s", documents[0], documents[1])
	}
	return size, nil
}

// round sends requests for a while over every connection.
func (p *process) round(request string, duration time.Duration, connections int) error {
	before, err := cpuTime(p.cmd.Process.Pid)
	if err != nil {
		return err
	}
	counts, errs := make([]int, connections), make([]error, connections)
	until := time.Now().Add(duration)
	began := time.Now()
	var wait sync.WaitGroup
	for i := range connections {
		wait.Go(func() { counts[i], errs[i] = hammer(p.address, request, until) })
	}
	wait.Wait()
	took := time.Since(began)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	after, err := cpuTime(p.cmd.Process.Pid)
	if err != nil {
		return err
	}
	total := 0
	for _, n := range counts {
		total += n
	}
	p.rates = append(p.rates, float64(total)/took.Seconds())
	p.cpu = append(p.cpu, float64((after-before).Microseconds())/float64(total))
	return nil
}

func hammer(address, request string, until time.Time) (n int, err error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 16<<10)
	for time.Now().Before(until) {
		if _, err := io.WriteString(conn, request); err != nil {
			return n, err
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			return n, err
		}
		if res.StatusCode != http.StatusOK || res.Header.Get("Landline-Partial") != "" {
			return n, errors.New("status " + res.Status + " " + res.Header.Get("Landline-Partial"))
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// cpuTime reads what a process has used (proc(5), clock ticks of 10 ms).
func cpuTime(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, errors.New("/proc/<pid>/stat is short")
	}
	user, userErr := strconv.ParseInt(fields[11], 10, 64)
	system, systemErr := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(userErr, systemErr)
}

func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}
