package e2e

import (
	"os"
	"testing"

	"landline/test/process"
)

// setup is one way to run Landline.
type setup struct {
	name  string
	nodes int
	env   func(t *testing.T) []string
}

var setups = []setup{
	{"sqlite", 1, func(*testing.T) []string { return nil }},
	{"postgres", 1, func(t *testing.T) []string {
		return []string{"E2E_POSTGRES=" + newDatabase(t), "E2E_MASTER_KEY=" + process.MasterKey()}
	}},
	{"two-nodes", 2, func(t *testing.T) []string {
		return []string{
			"E2E_POSTGRES=" + newDatabase(t), "E2E_MASTER_KEY=" + process.MasterKey(),
			"E2E_REDIS=" + mustEnv(t, "TEST_REDIS_URL"), "E2E_PREFIX=" + process.RandomName("e2e_"),
		}
	}},
}

func mustEnv(t *testing.T, name string) string {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		t.Fatalf("%s is not set: run `make test`, or eval \"$(scripts/testdb env)\"", name)
	}
	return v
}

// newDatabase makes a PostgreSQL database that is dropped after the test.
func newDatabase(t *testing.T) string {
	t.Helper()
	url, drop, err := process.NewDatabase(t.Context(), mustEnv(t, "TEST_POSTGRES_URL"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := drop(); err != nil {
			t.Error(err)
		}
	})
	return url
}

// start runs a set-up's nodes in front of one upstream.
func (s setup) start(t *testing.T) *house {
	t.Helper()
	h := &house{upstream: newUpstream(t)}
	env := append(s.env(t), "E2E_UPSTREAM="+h.upstream.URL)
	for range s.nodes {
		h.nodes = append(h.nodes, startNode(t, "landline.yaml", t.TempDir(), env...))
	}
	return h
}

func TestScenarios(t *testing.T) {
	for _, s := range setups {
		t.Run(s.name, func(t *testing.T) {
			h := s.start(t)
			for _, sc := range loadScenarios(t) {
				t.Run(sc.Name, func(t *testing.T) { h.run(t, sc) })
			}
		})
	}
}
