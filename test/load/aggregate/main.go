// Command aggregate measures an aggregated route against what a Go team would
// write by hand (= 1): a handler that asks three services at once with a tuned
// http.Client, decodes their answers with encoding/json, and encodes the merged
// answer. A second handler spares itself the decoding with json.RawMessage.
//
//	make build && go run ./test/load/aggregate
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"landline/test/load/internal/bench"
)

var (
	options = bench.Flags()
	target  = flag.String("target", "", "internal: where the services are")
	before  = flag.String("before", "", "another binary to be measured in the same rounds, such as one of an earlier commit")
)

func main() {
	bench.Main(func() error { return bench.Run(measure) }, map[string]func() error{
		"services": func() error { return bench.Serve(services()) },
		"decoding": func() error { return bench.Serve(handler(*target, decoded)) },
		"raw":      func() error { return bench.Serve(handler(*target, raw)) },
	})
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

// decoded takes documents apart the usual way.
func decoded(r io.Reader) (any, func(key string) any, error) {
	var v map[string]any
	err := json.NewDecoder(r).Decode(&v)
	return v, func(key string) any { return v[key] }, err
}

// raw takes them apart at the first level alone.
func raw(r io.Reader) (any, func(key string) any, error) {
	var v map[string]json.RawMessage
	err := json.NewDecoder(r).Decode(&v)
	return v, func(key string) any { return v[key] }, err
}

// handler is the aggregation by hand.
func handler(target string, decode func(io.Reader) (any, func(string) any, error)) http.Handler {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{
		MaxIdleConns: 1024, MaxIdleConnsPerHost: 256, IdleConnTimeout: time.Minute, DisableCompression: true}}
	type document struct {
		whole any
		get   func(string) any
	}
	fetch := func(r *http.Request, path string) (d document, err error) {
		req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, target+path, nil)
		if err != nil {
			return d, err
		}
		res, err := client.Do(req)
		if err != nil {
			return d, err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return d, errors.New(res.Status)
		}
		d.whole, d.get, err = decode(res.Body)
		return d, err
	}
	mux := http.NewServeMux()
	for _, n := range []string{"3", "30"} {
		mux.HandleFunc("GET /v1/home/"+n+"/{iata}", func(w http.ResponseWriter, r *http.Request) {
			iata := r.PathValue("iata")
			paths := []string{"/airports/" + iata, "/departures/" + n + "/" + iata, "/weather/" + iata}
			answers, errs := make([]document, len(paths)), make([]error, len(paths))
			var wait sync.WaitGroup
			for i, path := range paths {
				wait.Go(func() { answers[i], errs[i] = fetch(r, path) })
			}
			wait.Wait()
			if err := errors.Join(errs...); err != nil {
				http.Error(w, "a service failed", http.StatusBadGateway)
				return
			}
			body, err := json.Marshal(map[string]any{"airport": answers[0].whole, "board": answers[1].get("data"), "weather": answers[2].get("now")})
			if err != nil {
				http.Error(w, "encoding failed", http.StatusInternalServerError)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			w.Write(body) //nolint:errcheck // the caller went away
		})
	}
	return mux
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

func measure(b *bench.Bench) error {
	behind, err := b.Self("services", "services")
	if err != nil {
		return err
	}
	target := "http://" + behind.Address
	byHand, err := b.Self("by hand", "decoding", "-target", target)
	if err != nil {
		return err
	}
	byHandRaw, err := b.Self("by hand, raw", "raw", "-target", target)
	if err != nil {
		return err
	}
	configuration := fmt.Sprintf(config, target, fmt.Sprintf(route, 3)+fmt.Sprintf(route, 30))
	landline, err := b.Landline(options.Landline, configuration)
	if err != nil {
		return err
	}
	var other *bench.Process
	if *before != "" {
		if other, err = b.Landline(*before, configuration); err != nil {
			return err
		}
	}
	for _, n := range []int{3, 30} {
		path := fmt.Sprintf("/v1/home/%d/WAW", n)
		size, err := same(byHand, landline, path)
		if err != nil {
			return err
		}
		row := func(name string, p *bench.Process) *bench.Row {
			return &bench.Row{Name: name, Process: p, Client: bench.Client{Address: p.Address, Request: bench.Get(path, ""), Without: "landline-partial:"}}
		}
		rows := []*bench.Row{row("by hand", byHand), row("by hand, json.RawMessage", byHandRaw), row("landline", landline)}
		if other != nil {
			rows = append(rows, row("landline, before", other))
		}
		if err := options.Compare(rows); err != nil {
			return err
		}
		options.Print(fmt.Sprintf("Three calls into one answer of %d bytes, a list of %d", size, n), rows, map[string]string{"landline": "≥ 1.2"})
	}
	return nil
}

// same makes sure that both give the same answer.
func same(a, b *bench.Process, path string) (size int, err error) {
	var documents [2]string
	for i, p := range []*bench.Process{a, b} {
		res, err := http.Get("http://" + p.Address + path)
		if err != nil {
			return 0, err
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK {
			return 0, fmt.Errorf("%s: %s %s: %w", p.Name, res.Status, body, err)
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
