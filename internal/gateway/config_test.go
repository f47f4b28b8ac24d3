package gateway

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"landline/internal/config"
	"landline/internal/module"
)

func load(t testing.TB, text string) (*Settings, error) {
	t.Helper()
	s := DefaultSettings()
	return s, config.LoadBytes("landline.yaml", []byte(text), Sections(s), config.Env{
		Lookup: func(string) (string, bool) { return "", false }, ReadFile: func(string) ([]byte, error) { return nil, errors.New("no files") }})
}

func TestConfigurationOfTheDocument(t *testing.T) {
	s, err := load(t, `
upstreams:
  flights:
    targets: [{name: stable, url: "http://127.0.0.1:9000", weight: 100}]
features:
  flight-status:
    owner: team-flights
    auth: anonymous
    routes:
      - {match: "GET /v1/flights/{id}/status", upstream: flights, path: "/internal/status/{id}"}
      - {match: "/v1/files/{rest...}", upstream: flights, path: "/{rest...}"}
    timeout: 800ms
    breaker: {failure_ratio: 0.25, min_requests: 10}
    fallback: {status: 200, body: {status: unknown}}
    rate_limit: [{key: installation, limit: 100, window: 1m, burst: 20}]
`)
	if err != nil {
		t.Fatal(err)
	}
	f := s.Features["flight-status"]
	if f.Breaker.FailureRatio != 0.25 || f.Breaker.Open.String() != "15s" || f.Breaker.Probes != 1 || f.Timeout.String() != "800ms" || f.Auth != module.AuthAnonymous ||
		string(f.Fallback.Body) != `{"status":"unknown"}` || len(f.Routes) != 2 || f.RateLimit[0].Burst != 20 {
		t.Errorf("%+v %+v", f, f.Breaker)
	}
	if u := s.Upstreams["flights"]; u.Targets[0].Weight != 100 || u.ConnectTimeout.String() != "2s" || u.Protocol != "auto" {
		t.Errorf("%+v", u)
	}
}

func TestConfigurationFaults(t *testing.T) {
	const text = `upstreams:
  up: {targets: [{url: "http://127.0.0.1:9000"}]}
  Bad_Name: {targets: [{url: "ftp://x"}]}
  empty: {targets: []}
  zero: {protocol: h2c, targets: [{name: a, url: "https://x", weight: 0}, {name: a, url: "http://u:p@x", weight: 0}]}
features:
  one:
    timeout: 1ns
    routes:
      - {match: "GET /v1/{id}", upstream: upp}
      - {match: "GET /v1/{other}", upstream: up}
      - {match: "GET /v1//x", upstream: up}
      - {match: "GET /v1/a/{id}", upstream: up, path: "/x/{nope}"}
      - {match: "/healthz", upstream: up}
      - {upstream: up}
      - {match: "/y"}
    breaker: {failure_ratio: 0, min_requests: 0, window: 1ms}
    fallback: {status: 204, body: 1, headers: {Connection: x, "a b": y}, on: [sunday], methods: [get]}
  two:
    auth: none
`
	_, err := load(t, text)
	var faults config.Faults
	if !errors.As(err, &faults) {
		t.Fatalf("%v", err)
	}
	var got []string
	for _, f := range faults {
		got = append(got, fmt.Sprintf("%d %s", f.Line, f.Path))
		if f.Line == 0 || f.Message == "" {
			t.Errorf("no place or no message: %v", f)
		}
	}
	for _, want := range []string{
		"3 upstreams.Bad_Name", "3 upstreams.Bad_Name.targets[0].url", "4 upstreams.empty.targets", "5 upstreams.zero.targets[0].url", "5 upstreams.zero.targets[1].url",
		"5 upstreams.zero.targets[1].name", "5 upstreams.zero.targets", "8 features.one.timeout", "10 features.one.routes[0].upstream", "11 features.one.routes[1].match",
		"12 features.one.routes[2].match", "13 features.one.routes[3].path", "14 features.one.routes[4].match", "15 features.one.routes[5]", "16 features.one.routes[6]",
		"17 features.one.breaker.failure_ratio", "17 features.one.breaker.min_requests", "17 features.one.breaker.window", "18 features.one.fallback.body",
		"18 features.one.fallback.headers.Connection", "18 features.one.fallback.on[0]", "18 features.one.fallback.methods[0]", "20 features.two.auth",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("no fault at %s in\n%s", want, strings.Join(got, "\n"))
		}
	}
}

// A class that no sign-in has would shut everybody out for good.
func TestClassesOfSignInsAreChecked(t *testing.T) {
	const up = "upstreams: {up: {targets: [{url: \"http://127.0.0.1:9000\"}]}}\nfeatures:\n  one:\n    routes: [{match: /x, upstream: up}]\n"
	if s, err := load(t, up+"    acr: [phr, \"1\"]\n"); err != nil || !slices.Equal(s.Features["one"].ACR, []string{"phr", "1"}) {
		t.Errorf("%v, %v", s, err)
	}
	for text, want := range map[string]string{
		"    acr: [phr, gold]\n":           "landline.yaml:5:16: features.one.acr[1]: \"gold\" is no class",
		"    auth: none\n    acr: [phr]\n": "features.one.acr: means nothing where no token is needed",
	} {
		if _, err := load(t, up+text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// Every key says what it does, and the defaults pass their own checks.
func TestConfigurationIsDocumented(t *testing.T) {
	s := DefaultSettings()
	var b strings.Builder
	if err := config.Reference(&b, Sections(s)); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"limits", "header_timeout", "upstreams", "targets", "pass_authorization", "features", "routes", "failure_ratio", "fallback", "rate_limit", "idempotency", "client_header"} {
		if !strings.Contains(b.String(), key) {
			t.Errorf("the reference lacks %s", key)
		}
	}
	b.Reset()
	if err := config.Commented(&b, Sections(s)); err != nil {
		t.Fatal(err)
	}
	if _, err := load(t, b.String()); err != nil {
		t.Errorf("the commented file does not load: %v\n%s", err, b.String())
	}
}
