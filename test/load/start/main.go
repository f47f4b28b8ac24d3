// Command start measures what a node of Landline takes before it does anything:
// the time from exec to the first 200, its memory when it is idle, and the size
// of the binary.
//
//	make build && go run ./test/load/start
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"landline/test/load/internal/bench"
)

var options = bench.Flags()

func main() {
	bench.Main(func() error { return bench.Run(measure) }, nil)
}

const config = `profile: development
app: {id: com.example.load}
log: {level: info}
upstreams:
  team: {targets: [{url: "http://127.0.0.1:9"}]}
features:
  open:
    auth: none
    routes: [{match: "GET /v1/open", upstream: team}]
`

// settle is how long a node is left alone before its memory counts.
const settle = 3 * time.Second

func measure(b *bench.Bench) error {
	size, err := os.Stat(options.Landline)
	if err != nil {
		return err
	}
	var first, again, memory, anonymous []float64
	for range options.Rounds {
		dir, err := os.MkdirTemp(b.Dir, "start-")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "landline.yaml"), []byte(config), 0o600); err != nil {
			return err
		}
		for _, list := range []*[]float64{&first, &again} { // an empty data directory, then the same again
			took, err := once(dir)
			if err != nil {
				return err
			}
			*list = append(*list, float64(took.Microseconds())/1e3)
		}
	}
	landline, err := b.Landline(options.Landline, config)
	if err != nil {
		return err
	}
	time.Sleep(settle)
	for range options.Rounds {
		all, own, err := landline.Memory()
		if err != nil {
			return err
		}
		memory, anonymous = append(memory, float64(all)/(1<<20)), append(anonymous, float64(own)/(1<<20))
		time.Sleep(100 * time.Millisecond)
	}
	fmt.Printf("\n### Start, memory, size\n\nMedian of %d.\n\n", options.Rounds)
	bench.Table([][]string{
		{"", "measured", "reach"},
		{"exec to the first 200, data directory of an earlier run", fmt.Sprintf("%.0f ms", bench.Median(again)), "≤ 100 ms"},
		{"exec to the first 200, empty data directory: tables and keys are made", fmt.Sprintf("%.0f ms", bench.Median(first)), ""},
		{"memory of an idle node (VmRSS)", fmt.Sprintf("%.0f MB", bench.Median(memory)), "≤ 40 MB"},
		{"of that without a file behind it (RssAnon); the rest are pages of the binary", fmt.Sprintf("%.0f MB", bench.Median(anonymous)), ""},
		{"binary", fmt.Sprintf("%.0f MB", float64(size.Size())/(1<<20)), "≤ 60 MB"},
	})
	return nil
}

// once starts a node, asks until it answers 200, and ends it.
func once(dir string) (time.Duration, error) {
	address, err := freePort()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(options.Landline, "serve", "--config", filepath.Join(dir, "landline.yaml"), "--data", filepath.Join(dir, "data"), "--public", address, "--admin", "127.0.0.1:0")
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait() //nolint:errcheck // it was killed
	}()
	client := &http.Client{Timeout: time.Second}
	for time.Since(began) < 30*time.Second {
		res, err := client.Get("http://" + address + "/readyz")
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return time.Since(began), nil
			}
		}
		time.Sleep(time.Millisecond)
	}
	return 0, fmt.Errorf("no 200 within 30 s")
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
