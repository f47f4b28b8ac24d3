package e2e

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const keyedFile = `profile: development
app: {id: com.example.keyed, public_url: "https://api.example.test"}
database: {url: "${E2E_POSTGRES:-}"}
redis: {url: "${E2E_REDIS:-}", prefix: "${E2E_PREFIX:-e2e}:"}
secrets: {master_key: "${E2E_MASTER_KEY:-}"}
upstreams:
  team: {targets: [{url: "%s"}]}
features:
  ledger:
    auth: none
    timeout: 20s
    routes: [{match: "POST /v1/execute/{name}", upstream: team, path: "/execute/{name}"}]
    idempotency: {required: true, memory: 64KiB}
    max_body: 4MiB
  careful:
    auth: none
    timeout: 1s
    routes: [{match: "POST /v1/careful/{name}", upstream: team, path: "/hold/{name}"}]
    idempotency: {required: true, unknown_outcome: conflict, lease: 1s}
  trusting:
    auth: none
    timeout: 1s
    routes: [{match: "POST /v1/trusting/{name}", upstream: team, path: "/hold/{name}"}]
    idempotency: {required: true, unknown_outcome: forward, lease: 1s}
`

func keyedHouse(t *testing.T, s setup) (h *house, file string, env []string) {
	t.Helper()
	h, env = &house{upstream: newUpstream(t)}, s.env(t)
	file = writeFile(t, filepath.Join(t.TempDir(), "landline.yaml"), fmt.Sprintf(keyedFile, h.upstream.URL))
	for range s.nodes {
		h.nodes = append(h.nodes, startNode(t, file, t.TempDir(), env...))
	}
	return h, file, env
}

type keyedAnswer struct {
	status   int
	replayed bool
	body     string
}

// keyedPost sends one try. An error of the connection is the status 0.
func keyedPost(t *testing.T, url, key, body string) keyedAnswer {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return keyedAnswer{}
	}
	req.Header.Set("Idempotency-Key", key)
	res, err := client.Do(req)
	if err != nil {
		return keyedAnswer{}
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return keyedAnswer{}
	}
	return keyedAnswer{res.StatusCode, res.Header.Get("Idempotent-Replayed") == "true", string(text)}
}

// 200 keys, each tried 8 times at once on all nodes: every write is executed
// once, and whoever comes back gets its answer.
func TestParallelTriesExecuteOnce(t *testing.T) {
	for _, s := range setups {
		t.Run(s.name, func(t *testing.T) {
			h, _, _ := keyedHouse(t, s)
			var executed, replayed, inFlight atomic.Int64
			began := time.Now()
			keys := make(chan int)
			var workers sync.WaitGroup
			for range 8 {
				workers.Go(func() {
					for key := range keys {
						var tries sync.WaitGroup
						for try := range 8 {
							tries.Go(func() {
								a := keyedPost(t, fmt.Sprintf("%s/v1/execute/parallel-%d", h.nodes[try%len(h.nodes)].Public, key), fmt.Sprintf("key-%d", key), "{}")
								switch {
								case a.status == 201 && a.replayed:
									replayed.Add(1)
								case a.status == 201:
									executed.Add(1)
								case a.status == 409 && strings.Contains(a.body, "idempotency_in_flight"):
									inFlight.Add(1)
								default:
									t.Errorf("key %d: %+v", key, a)
								}
								if a.status == 201 && a.body != `{"execution":1}` {
									t.Errorf("key %d: %s", key, a.body)
								}
							})
						}
						tries.Wait()
						for i, n := range h.nodes {
							if a := keyedPost(t, fmt.Sprintf("%s/v1/execute/parallel-%d", n.Public, key), fmt.Sprintf("key-%d", key), "{}"); a.status != 201 || !a.replayed {
								t.Errorf("key %d, afterwards on node %d: %+v", key, i, a)
							}
						}
					}
				})
			}
			for key := range 200 {
				keys <- key
			}
			close(keys)
			workers.Wait()
			twice := 0
			for key := range 200 {
				if n := h.upstream.executions(fmt.Sprintf("parallel-%d", key)); n != 1 {
					twice++
					t.Errorf("key %d was executed %d times", key, n)
				}
			}
			t.Logf("%d nodes, 200 keys × 8 parallel tries in %s: %d executed, %d replayed, %d told to wait; executed more or less than once: %d",
				len(h.nodes), time.Since(began).Round(time.Millisecond), executed.Load(), replayed.Load(), inFlight.Load(), twice)
			if executed.Load() != 200 {
				t.Errorf("%d tries were answered as executed, want 200", executed.Load())
			}
		})
	}
}

// A body longer than what is held in memory is compared and sent on whole.
func TestLongKeyedBody(t *testing.T) {
	h, _, _ := keyedHouse(t, setups[0])
	url := h.nodes[0].Public + "/v1/execute/long"
	long := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB, 64 KiB in memory
	if a := keyedPost(t, url, "k", long); a.status != 201 || a.replayed {
		t.Fatalf("%+v", a)
	}
	if a := keyedPost(t, url, "k", long); a.status != 201 || !a.replayed {
		t.Errorf("%+v", a)
	}
	if a := keyedPost(t, url, "k", long[1:]+"x"); a.status != 422 {
		t.Errorf("another body: %+v", a)
	}
	if a := keyedPost(t, url, "k2", strings.Repeat(long, 5)); a.status != 413 {
		t.Errorf("too long a body: %+v", a)
	}
	if n := h.upstream.executions("long"); n != 1 {
		t.Errorf("executed %d times", n)
	}
}

// kill -9 between begin and finish: with conflict the write is never executed
// again and retries are told that nobody knows; with forward the retry is sent on
// with the same key. With SQLite the restarted server knows at once; nodes that
// share a database wait for the lease of the dead one.
func TestKilledInTheMiddle(t *testing.T) {
	for _, s := range setups {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			h, file, env := keyedHouse(t, s)
			first := h.nodes[0]
			for _, mode := range []string{"careful", "trusting"} {
				go keyedPost(t, first.Public+"/v1/"+mode+"/"+mode, "the-key", "{}")
				eventually(t, patience, "the upstream is at work", func() bool { return h.upstream.executions(mode) == 1 })
			}
			first.kill()
			last := h.nodes[len(h.nodes)-1]
			if last == first {
				last = startNode(t, file, first.Data, env...)
			}
			for _, c := range []struct {
				mode, code string
				status     int
				executed   int
			}{
				{"careful", "idempotency_outcome_unknown", 409, 1},
				{"trusting", `{"key":"the-key"}`, 201, 2},
			} {
				waited := 0
				var a keyedAnswer
				eventually(t, patience, c.mode+" has an outcome", func() bool {
					a = keyedPost(t, last.Public+"/v1/"+c.mode+"/"+c.mode, "the-key", "{}")
					if strings.Contains(a.body, "idempotency_in_flight") {
						waited++
						return false
					}
					return true
				})
				if a.status != c.status || !strings.Contains(a.body, c.code) || a.replayed {
					t.Errorf("%s: %+v", c.mode, a)
				}
				if n := h.upstream.executions(c.mode); n != c.executed {
					t.Errorf("%s: executed %d times, want %d", c.mode, n, c.executed)
				}
				if s.name == "sqlite" && waited > 0 {
					t.Errorf("%s: the restarted server waited for a lease of its dead self", c.mode)
				}
				again := keyedPost(t, last.Public+"/v1/"+c.mode+"/"+c.mode, "the-key", "{}")
				if want := (keyedAnswer{c.status, c.status == 201, a.body}); c.status == 201 && again != want || again.status != c.status {
					t.Errorf("%s, once more: %+v", c.mode, again)
				}
			}
			if n := h.upstream.executions("careful") + h.upstream.executions("trusting"); n != 3 {
				t.Errorf("%d executions in the end", n)
			}
		})
	}
}
