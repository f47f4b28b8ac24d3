package gateway

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"landline/internal/config"
	"landline/internal/gateway/idem"
	"landline/internal/module"
	"landline/internal/sqldb"
	"landline/internal/testkit"
)

// What happens to a key, as steps of which each takes place at one instant.
const (
	stepStart  = "start"  // an execution begins at the upstream
	stepFinish = "finish" // its answer is stored
	stepFree   = "free"   // it failed: the key is free again
	stepReplay = "replay" // a try got the stored answer
	stepWait   = "wait"   // a try was told that another is under way
	stepReused = "reused" // a try had another payload
)

type keyStep struct {
	kind, key, payload string
	execution          int64 // of start, finish, free and replay
}

// keyState is a key between steps.
type keyState struct {
	phase     string // "", "running", "done"
	payload   string
	execution int64
}

// keyModel says what a sequence of steps on one key may be. A try that is told
// to wait, or that its payload differs, may have met an attempt at any moment
// from when it took the key, which is before it reaches the upstream: the key
// counts as taken from the start of that request. So a "take" precedes a start.
func keyModel() porcupine.Model {
	return porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			byKey := map[string][]porcupine.Operation{}
			for _, op := range history {
				key := op.Input.(keyStep).key
				byKey[key] = append(byKey[key], op)
			}
			var parts [][]porcupine.Operation
			for _, part := range byKey {
				parts = append(parts, part)
			}
			return parts
		},
		Init: func() any { return keyState{} },
		Step: func(state, input, _ any) (bool, any) {
			s, in := state.(keyState), input.(keyStep)
			switch in.kind {
			case "take":
				return s.phase == "", keyState{phase: "taken", payload: in.payload}
			case stepStart:
				return s.phase == "taken" && s.payload == in.payload, keyState{"running", in.payload, in.execution}
			case stepFinish:
				return s == keyState{"running", in.payload, in.execution}, keyState{"done", in.payload, in.execution}
			case stepFree:
				return s == keyState{"running", in.payload, in.execution}, keyState{}
			case stepReplay:
				return s == keyState{"done", in.payload, in.execution}, s
			case stepWait:
				return (s.phase == "taken" || s.phase == "running") && s.payload == in.payload, s
			case stepReused:
				return s.phase != "" && s.payload != in.payload, s
			}
			return false, s
		},
		Equal: func(a, b any) bool { return a == b },
		DescribeOperation: func(input, _ any) string {
			in := input.(keyStep)
			return fmt.Sprintf("%s %s #%d", in.kind, in.payload, in.execution)
		},
	}
}

// history notes steps with the time in which each took place.
type history struct {
	began time.Time
	mu    sync.Mutex
	ops   []porcupine.Operation
}

func (h *history) now() int64 { return int64(time.Since(h.began)) }

func (h *history) add(client int, s keyStep, from, to int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: s, Call: from, Return: to})
}

// What parallel clients on two gateways see of keys is what one register per key
// would show them: at most one execution is under way, no answer is given before
// it is stored, and after that nothing else is.
func TestKeysAreLinearizable(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		db, h := open(t, idem.Migrations), &history{began: time.Now()}
		var executions atomic.Int64
		var visits sync.Map // execution → [2]int64: when the upstream had it and let it go
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
			n, from := executions.Add(1), h.now()
			w.Header().Set("Execution", fmt.Sprint(n))
			visits.Store(n, [2]int64{from, h.now()})
			if n%5 == 0 {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			w.WriteHeader(http.StatusCreated)
		})
		var nodes []*house
		for range 2 {
			nodes = append(nodes, openWith(t, func(o *Options) { o.DB = db }, func(s *Settings) {
				s.Upstreams["up"] = upstreamAt(url)
				s.Features["trips"] = &FeatureConfig{Auth: module.AuthNone, Timeout: config.Duration(10 * time.Second), Idempotency: &IdempotencyConfig{},
					Routes: []RouteConfig{{Match: "POST /v1/trips", Upstream: "up"}}}
			}))
		}
		var clients sync.WaitGroup
		for client := range 8 {
			clients.Go(func() {
				for i := range 60 { // a few new keys every few rounds, so that there is something to race for
					key, payload := fmt.Sprint("k", i/6*6+rand.IntN(6)), []string{"x", "x", "x", "y"}[rand.IntN(4)]
					observeTry(t, nodes[rand.IntN(2)], h, &visits, client, key, payload)
				}
			})
		}
		clients.Wait()
		kinds := map[string]int{}
		for _, op := range h.ops {
			kinds[op.Input.(keyStep).kind]++
		}
		result, _ := porcupine.CheckOperationsVerbose(keyModel(), h.ops, 30*time.Second)
		t.Logf("%d steps on 60 keys by 8 clients over 2 gateways: %v: %s", len(h.ops), kinds, result)
		if result != porcupine.Ok {
			t.Errorf("not linearizable: %s", result)
		}
		for _, kind := range []string{stepFinish, stepFree, stepReplay, stepReused} {
			if kinds[kind] == 0 {
				t.Errorf("the history has no %s", kind)
			}
		}
	})
}

// observeTry sends one try and notes what it saw.
func observeTry(t *testing.T, node *house, h *history, visits *sync.Map, client int, key, payload string) {
	from := h.now()
	res, err := node.client.Do(node.request(http.MethodPost, "/v1/trips", strings.NewReader(payload), "Idempotency-Key", key))
	if err != nil {
		t.Error(err)
		return
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	to := h.now()
	if err != nil {
		t.Error(err)
		return
	}
	s := keyStep{key: key, payload: payload}
	fmt.Sscan(res.Header.Get("Execution"), &s.execution) // absent: 0
	switch {
	case res.StatusCode == 201 && res.Header.Get("Idempotent-Replayed") == "true":
		s.kind = stepReplay
	case res.StatusCode == 201 || res.StatusCode == 500:
		visit, ok := visits.Load(s.execution)
		if !ok {
			t.Errorf("the upstream knows nothing of execution %d", s.execution)
			return
		}
		seen := visit.([2]int64)
		h.add(client, keyStep{"take", key, payload, 0}, from, seen[0])
		h.add(client, keyStep{stepStart, key, payload, s.execution}, seen[0], seen[1])
		from, s.kind = seen[1], stepFinish
		if res.StatusCode == 500 {
			s.kind = stepFree
		}
	case res.StatusCode == 409 && strings.Contains(string(body), "idempotency_in_flight"):
		s.kind = stepWait
	case res.StatusCode == 422:
		s.kind = stepReused
	default:
		t.Errorf("%d %s", res.StatusCode, body)
		return
	}
	h.add(client, s, from, to)
}

// The checker is worth something only if it finds what is wrong.
func TestLinearizabilityModelFindsFaults(t *testing.T) {
	op := func(client int, kind string, execution, from, to int64) porcupine.Operation {
		return porcupine.Operation{ClientId: client, Input: keyStep{kind, "k", "x", execution}, Call: from, Return: to}
	}
	good := []porcupine.Operation{op(1, "take", 0, 1, 2), op(1, stepStart, 1, 2, 3), op(2, stepWait, 0, 1, 4), op(1, stepFinish, 1, 3, 6), op(2, stepReplay, 1, 5, 7)}
	if !porcupine.CheckOperations(keyModel(), good) {
		t.Error("a good history was refused")
	}
	for name, ops := range map[string][]porcupine.Operation{
		"two executions":              append([]porcupine.Operation{op(3, "take", 0, 8, 9), op(3, stepStart, 2, 9, 10), op(3, stepFinish, 2, 10, 11)}, good...),
		"a replay before the finish":  {op(1, "take", 0, 1, 2), op(1, stepStart, 1, 2, 3), op(2, stepReplay, 1, 1, 2), op(1, stepFinish, 1, 3, 6)},
		"a wait after the finish":     append([]porcupine.Operation{op(3, stepWait, 0, 8, 9)}, good...),
		"the replay of another":       append([]porcupine.Operation{op(3, stepReplay, 7, 8, 9)}, good...),
		"an execution without a take": {op(1, stepStart, 1, 1, 2)},
	} {
		if porcupine.CheckOperations(keyModel(), ops) {
			t.Errorf("%s was accepted", name)
		}
	}
}
