// Command proxy measures what Landline adds to a proxied request. It starts an
// upstream, a bare httputil.ReverseProxy (the baseline, = 1) and bin/landline,
// each a process of its own on loopback, and sends them the same requests over
// the same number of connections in interleaved rounds. It prints the median
// requests per second, the CPU time of the proxy per request, and the ratios to
// the baseline:
//
//	make build && go run ./test/load/proxy
//
// The generator shares the machine with what it measures; compare ratios, not
// absolute figures.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const answerBytes = 1024

func main() {
	role := flag.String("role", "", "internal: upstream or baseline")
	target := flag.String("target", "", "internal: what the baseline proxies to")
	binary := flag.String("landline", "bin/landline", "binary to measure")
	rounds := flag.Int("rounds", 5, "rounds; the median counts")
	duration := flag.Duration("duration", 2*time.Second, "length of one round")
	connections := flag.Int("connections", 32, "parallel connections")
	profile := flag.String("profile", "", "also write a CPU profile of landline with everything on to this file")
	flag.Parse()
	var err error
	switch *role {
	case "upstream":
		err = serve(http.HandlerFunc(answer))
	case "baseline":
		err = baseline(*target)
	default:
		err = measure(*binary, *profile, *rounds, *duration, *connections)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func answer(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(answerBytes))
	fmt.Fprintf(w, `{"data":"%s"}`, strings.Repeat("x", answerBytes-11))
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

// baseline is the tuned bare proxy that a Go team would write.
func baseline(target string) error {
	u, err := url.Parse(target)
	if err != nil {
		return err
	}
	return serve(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(u) },
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: time.Minute, DisableCompression: true},
	})
}

type process struct {
	name    string
	cmd     *exec.Cmd
	address string
	admin   string
	rates   []float64
	cpu     []float64 // µs per request
}

func start(name string, env []string, program string, args ...string) (*process, error) {
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), env...)
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
	rest := strings.TrimPrefix(line, "ready public=")
	address, admin, _ := strings.Cut(strings.TrimSpace(rest), " admin=")
	return &process{name: name, cmd: cmd, address: address, admin: admin}, nil
}

const config = `profile: development
app: {id: com.example.load}
log: {level: info}
upstreams:
  team: {targets: [{url: "%s"}]}
features:
  open:
    auth: none
    routes: [{match: "GET /v1/open", upstream: team, path: "/"}]
  everything:
    auth: anonymous
    routes: [{match: "GET /v1/everything", upstream: team, path: "/"}]
    timeout: 2s
    breaker: {}
    rate_limit: [{key: installation, limit: 1000000, window: 10s, burst: 1000000}]
`

func measure(binary, profile string, rounds int, duration time.Duration, connections int) (err error) {
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
	upstream, err := start("upstream", nil, self, "-role", "upstream")
	if err != nil {
		return err
	}
	started = append(started, upstream)
	base, err := start("bare ReverseProxy", nil, self, "-role", "baseline", "-target", "http://"+upstream.address)
	if err != nil {
		return err
	}
	started = append(started, base)
	file := filepath.Join(dir, "landline.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, config, "http://"+upstream.address), 0o600); err != nil {
		return err
	}
	landline, err := start("landline", nil, binary, "serve", "--config", file, "--data", filepath.Join(dir, "data"), "--public", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	if err != nil {
		return err
	}
	started = append(started, landline)
	token, err := install("http://" + landline.address)
	if err != nil {
		return err
	}
	client := "Landline-Client: app=\"com.example.load\", version=\"4.2.0\", build=1042, platform=ios\r\n"
	runs := []*process{
		base,
		{name: "landline, nothing on", cmd: landline.cmd, address: landline.address},
		{name: "landline, everything on", cmd: landline.cmd, address: landline.address},
	}
	requests := []string{request("/", ""), request("/v1/open", ""), request("/v1/everything", "Authorization: Bearer "+token+"\r\n"+client)}
	for range rounds {
		for i, p := range runs {
			if err := p.round(requests[i], duration, connections); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
	}
	fmt.Printf("proxied GET, %d bytes, %d connections, %d rounds of %s, interleaved, median; %d CPUs shared with generator and upstream\n\n", answerBytes, connections, rounds, duration, runtime.NumCPU())
	fmt.Printf("%-26s %10s %8s %14s %8s\n", "", "requests/s", "ratio", "µs CPU/request", "ratio")
	for _, p := range runs {
		fmt.Printf("%-26s %10.0f %8.2f %14.1f %8.2f\n", p.name, median(p.rates), median(p.rates)/median(base.rates), median(p.cpu), median(base.cpu)/median(p.cpu))
	}
	if profile != "" {
		return saveProfile(profile, landline.admin, runs[2], requests[2], duration, connections)
	}
	return nil
}

// saveProfile runs one more round under the profiler.
func saveProfile(file, admin string, p *process, request string, duration time.Duration, connections int) error {
	seconds := max(int(duration.Seconds())-1, 1)
	fetched := make(chan error, 1)
	go func() {
		res, err := http.Get(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", admin, seconds))
		if err != nil {
			fetched <- err
			return
		}
		defer res.Body.Close()
		data, err := io.ReadAll(res.Body)
		if err == nil && res.StatusCode != http.StatusOK {
			err = fmt.Errorf("profile: %s", res.Status)
		}
		fetched <- errors.Join(err, os.WriteFile(file, data, 0o600))
	}()
	return errors.Join(p.round(request, duration, connections), <-fetched)
}

func request(path, header string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: load.example.test\r\n" + header + "\r\n"
}

func install(base string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/v1/installations", strings.NewReader("{}"))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", "load-generator-0001")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	var out struct {
		Session struct {
			Token string `json:"access_token"`
		} `json:"session"`
	}
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		return "", err
	}
	if out.Session.Token == "" {
		return "", fmt.Errorf("no token: %s", res.Status)
	}
	return out.Session.Token, nil
}

// round sends one request after another on each connection for the given time.
func (p *process) round(request string, duration time.Duration, connections int) error {
	before, err := cpuTime(p.cmd.Process.Pid)
	if err != nil {
		return err
	}
	began := time.Now()
	type result struct {
		n   int
		err error
	}
	results := make(chan result, connections)
	for range connections {
		go func() {
			n, err := drive(p.address, request, began.Add(duration))
			results <- result{n, err}
		}()
	}
	total := 0
	for range connections {
		r := <-results
		if r.err != nil {
			return r.err
		}
		total += r.n
	}
	took := time.Since(began)
	after, err := cpuTime(p.cmd.Process.Pid)
	if err != nil {
		return err
	}
	p.rates = append(p.rates, float64(total)/took.Seconds())
	p.cpu = append(p.cpu, float64((after-before).Microseconds())/float64(total))
	return nil
}

// drive is a client as light as possible: it reads the header up to the blank
// line and then Content-Length bytes.
func drive(address, request string, until time.Time) (int, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(until.Add(10 * time.Second)); err != nil {
		return 0, err
	}
	r := bufio.NewReaderSize(conn, 8<<10)
	out := []byte(request)
	n := 0
	for time.Now().Before(until) {
		if _, err := conn.Write(out); err != nil {
			return n, err
		}
		length := -1
		for first := true; ; first = false {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return n, err
			}
			if first && !strings.Contains(string(line), " 200 ") {
				return n, fmt.Errorf("answer %q", line)
			}
			if len(line) <= 2 {
				break
			}
			if len(line) > 16 && strings.EqualFold(string(line[:15]), "content-length:") {
				if length, err = strconv.Atoi(strings.TrimSpace(string(line[15:]))); err != nil {
					return n, err
				}
			}
		}
		if length != answerBytes {
			return n, fmt.Errorf("content length %d", length)
		}
		if _, err := io.CopyN(io.Discard, r, int64(length)); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// cpuTime is user and system time of a process so far, from /proc (10 ms ticks).
func cpuTime(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, syscall.EINVAL
	}
	user, userErr := strconv.Atoi(fields[11])
	system, systemErr := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(userErr, systemErr)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
