package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// A purge on one node reaches the others within a second, and so does a write.
func TestCachePurgeReachesEveryNode(t *testing.T) {
	for _, s := range setups {
		t.Run(s.name, func(t *testing.T) {
			up := newUpstream(t)
			env := append(s.env(t), "E2E_UPSTREAM="+up.URL)
			var nodes []*node
			for range s.nodes {
				nodes = append(nodes, startNode(t, "landline.yaml", t.TempDir(), env...))
			}
			first, last := nodes[0], nodes[len(nodes)-1]
			token, stderr, exit := run(t, env, "operator", "add", "ada", "--role", "operator", "--config", "landline.yaml", "--data", first.Data)
			if exit != 0 {
				t.Fatalf("exit %d: %s", exit, stderr)
			}
			purge := func(feature, body string, want int) {
				t.Helper()
				res, answer := askJSON(t, http.MethodPost, first.Admin+"/admin/v1/features/"+feature+"/cache/purge", body, "Authorization", "Bearer "+strings.TrimSpace(token))
				if res.StatusCode != want {
					t.Fatalf("purge %s %s: %d %s", feature, body, res.StatusCode, answer)
				}
			}
			answer := func(n *node, path string) string {
				t.Helper()
				_, body := askJSON(t, http.MethodGet, n.Public+path, "")
				return body
			}
			// changes checks that what both nodes have stored is new on both within a
			// second of act; kept stays.
			changes := func(what, path, kept string, act func()) {
				t.Helper()
				before := map[string]string{}
				for _, n := range nodes {
					for _, p := range []string{path, kept} {
						before[n.Public+p] = answer(n, p)
						if again := answer(n, p); p != "" && again != before[n.Public+p] {
							t.Fatalf("%s is not stored: %s, then %s", p, before[n.Public+p], again)
						}
					}
				}
				began := time.Now()
				act()
				if answer(first, path) == before[first.Public+path] {
					t.Errorf("%s: still there on the node that was asked", what)
				}
				eventually(t, patience, what, func() bool { return answer(last, path) != before[last.Public+path] })
				took := time.Since(began)
				t.Logf("%s: %s", what, took)
				if took > time.Second {
					t.Errorf("%s: after %s", what, took)
				}
				for _, n := range nodes {
					if kept != "" && answer(n, kept) != before[n.Public+kept] {
						t.Errorf("%s: %s went as well", what, kept)
					}
				}
			}
			const a, b = "/v1/cacheable/purged-a", "/v1/cacheable/purged-b"

			changes("a surrogate key", a, b, func() { purge("cacheable", `{"surrogate_key":"purged-a","reason":"new edition"}`, 200) })
			changes("a path", b, a, func() { purge("cacheable", `{"url":"`+b+`"}`, 200) })
			changes("all of the feature", a, "", func() { purge("cacheable", "", 200) })
			changes("a write", a, b, func() {
				if res, body := askJSON(t, http.MethodPost, first.Public+a, "{}"); res.StatusCode != http.StatusCreated {
					t.Fatalf("%d %s", res.StatusCode, body)
				}
			})

			purge("echo", "", 404)
			purge("nothing", "", 404)
			if res, _ := askJSON(t, http.MethodPost, first.Admin+"/admin/v1/features/cacheable/cache/purge", ""); res.StatusCode != 401 {
				t.Errorf("without a token: %d", res.StatusCode)
			}
			_, entries := askJSON(t, http.MethodGet, first.Admin+"/admin/v1/audit?action=cache.purge", "", "Authorization", "Bearer "+strings.TrimSpace(token))
			if !strings.Contains(entries, "new edition") || !strings.Contains(entries, "feature cacheable") {
				t.Errorf("not audited: %s", entries)
			}
		})
	}
}
