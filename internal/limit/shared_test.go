package limit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"pgregory.net/rapid"

	"landline/internal/clock"
	"landline/internal/kv"
	"landline/internal/testkit"
)

// spy is a store that counts what it is asked and does not answer when told so.
type spy struct {
	kv.Store
	asked atomic.Int64
	mute  atomic.Bool // waits for the caller's patience to end
}

func (s *spy) Take(ctx context.Context, b []kv.Bucket, ahead []time.Duration) (bool, error) {
	s.asked.Add(1)
	if s.mute.Load() {
		<-ctx.Done()
		return false, &kv.UnavailableError{Op: "take", Cause: ctx.Err()}
	}
	return s.Store.Take(ctx, b, ahead)
}

type testNode struct {
	*Shared
	logs *bytes.Buffer
	reg  *prometheus.Registry
}

func newNode(clk clock.Clock, store kv.Store, within time.Duration) *testNode {
	n := &testNode{logs: &bytes.Buffer{}, reg: prometheus.NewRegistry()}
	n.Shared = NewShared(New(clk), store, within, slog.New(slog.NewTextHandler(n.logs, nil)), n.reg)
	return n
}

// take asks about one key under policies that are all shared, or all local.
func (n *testNode) take(t testing.TB, shared bool, key string, rates ...Rate) (bool, []State) {
	t.Helper()
	var checks []Check
	for i, r := range rates {
		p, err := n.Policy(fmt.Sprint("p", i), r)
		if err != nil {
			t.Fatal(err)
		}
		checks = append(checks, Check{Policy: p, Key: key, Shared: shared})
	}
	states := make([]State, len(checks))
	return n.Take(t.Context(), checks, states), states
}

func count(t testing.TB, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// F15 on two nodes: what 64 parallel clients get through on both together is the burst.
func TestParallelCallersOfTwoNodesNeverExceedTheBurst(t *testing.T) {
	r := Rate{Limit: 100, Window: time.Hour, Burst: 20}
	prefix := testkit.RedisPrefix(t)
	var nodes []*testNode
	for range 2 {
		store, err := kv.NewRedis(testkit.Redis(t), prefix, testkit.Logger(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
		nodes = append(nodes, newNode(clock.System, store, 500*time.Millisecond))
	}
	var admitted, asked atomic.Int64
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for range 20 {
				if ok, _ := nodes[i%2].take(t, true, "one", r); ok {
					admitted.Add(1)
				}
				asked.Add(1)
			}
		})
	}
	wg.Wait()
	if admitted.Load() != int64(r.Burst) {
		t.Errorf("%d of %d admitted, want %d", admitted.Load(), asked.Load(), r.Burst)
	}
	stored := count(t, nodes[0].decisions.store) + count(t, nodes[1].decisions.store)
	t.Logf("F15, two nodes on Redis: %d requests of 64 clients, %d admitted, burst %d; Redis was asked %.0f times", asked.Load(), admitted.Load(), r.Burst, stored)
	if stored > 200 {
		t.Errorf("a hot key reached the store %.0f times", stored)
	}
}

func TestHotKeyIsRefusedHere(t *testing.T) {
	clk := clock.NewFake(start)
	store := &spy{Store: kv.NewMemory(clk, 100)}
	a, b := newNode(clk, store, 0), newNode(clk, store, 0)
	r := Rate{Limit: 60, Window: time.Minute, Burst: 5}
	for range 5 {
		a.take(t, true, "abuser", r)
	}
	for range 100 {
		if ok, st := b.take(t, true, "abuser", r); ok || !st[0].Refused || st[0].Wait != time.Second || st[0].Remaining != 0 {
			t.Fatalf("%v %+v", ok, st)
		}
	}
	if store.asked.Load() != 6 {
		t.Errorf("the store was asked %d times, want 6", store.asked.Load())
	}
	clk.Advance(time.Second)
	if ok, _ := b.take(t, true, "abuser", r); !ok {
		t.Error("refused after the wait it was told")
	}
	if ok, _ := a.take(t, true, "abuser", r); ok {
		t.Error("the same allowance was given twice")
	}
}

// A store that does not answer costs the first caller its time limit and the
// next ones nothing; each node then admits what it would alone.
func TestStoreThatDoesNotAnswer(t *testing.T) {
	clk := clock.NewFake(start)
	store := &spy{Store: kv.NewMemory(clk, 100)}
	n := newNode(clk, store, 20*time.Millisecond)
	r := Rate{Limit: 60, Window: time.Minute, Burst: 5}
	n.take(t, true, "k", r)
	n.take(t, true, "k", r)
	store.mute.Store(true)
	began := time.Now()
	admitted := 0
	for range 50 {
		if ok, _ := n.take(t, true, "k", r); ok {
			admitted++
		}
	}
	if admitted != 3 {
		t.Errorf("%d admitted alone after 2 together, the burst is %d", admitted, r.Burst)
	}
	if took := time.Since(began); took > 2*time.Second || store.asked.Load() != 3 {
		t.Errorf("50 decisions took %v and asked %d times", took, store.asked.Load())
	}
	if got := strings.Count(n.logs.String(), "decides alone"); got != 1 {
		t.Errorf("said %d times:\n%s", got, n.logs)
	}
	if n.alone() != 1 {
		t.Error("the metric does not say that the node is alone")
	}
	clk.Advance(minRest)
	n.take(t, true, "k", r) // tries again, in vain
	clk.Advance(minRest)
	n.take(t, true, "k", r) // rests twice as long
	if store.asked.Load() != 4 {
		t.Errorf("asked %d times, want 4", store.asked.Load())
	}
	store.mute.Store(false)
	clk.Advance(minRest)
	n.take(t, true, "other", r)
	n.take(t, true, "other", r)
	if store.asked.Load() != 6 || n.alone() != 0 || !strings.Contains(n.logs.String(), "answers again") {
		t.Errorf("asked %d times\n%s", store.asked.Load(), n.logs)
	}
}

func TestManyFailuresOfOneMomentAreOne(t *testing.T) {
	clk := clock.NewFake(start)
	store := &spy{Store: kv.NewMemory(clk, 100)}
	store.mute.Store(true)
	n := newNode(clk, store, 20*time.Millisecond)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() { n.take(t, true, fmt.Sprint(i), Rate{Limit: 1, Window: time.Minute}) })
	}
	wg.Wait()
	clk.Advance(minRest)
	store.mute.Store(false)
	n.take(t, true, "x", Rate{Limit: 1, Window: time.Minute})
	if n.failures.Load() != 0 {
		t.Error("the store was not tried again after the shortest rest")
	}
}

// A caller that goes away is no failure of the store.
func TestCallerThatLeaves(t *testing.T) {
	clk := clock.NewFake(start)
	n := newNode(clk, &spy{Store: kv.NewMemory(clk, 100)}, 0)
	p, err := n.Policy("p", Rate{Limit: 1, Window: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("gone"))
	n.Take(ctx, []Check{{Policy: p, Key: "k", Shared: true}}, make([]State, 1))
	if n.failures.Load() != 0 {
		t.Error("counted as a failure")
	}
}

func TestRefusalOfTheOthersIsChargedToNoPolicy(t *testing.T) {
	clk := clock.NewFake(start)
	store := kv.NewMemory(clk, 100)
	a, b := newNode(clk, store, 0), newNode(clk, store, 0)
	tight, wide := Rate{Limit: 1, Window: time.Minute}, Rate{Limit: 10, Window: time.Minute}
	ask := func(n *testNode) (bool, []State) {
		own, err := n.Policy("own", wide)
		if err != nil {
			t.Fatal(err)
		}
		all, err := n.Policy("all", tight)
		if err != nil {
			t.Fatal(err)
		}
		wideShared, err := n.Policy("wide", wide)
		if err != nil {
			t.Fatal(err)
		}
		states := make([]State, 3)
		return n.Take(t.Context(), []Check{{Policy: own, Key: "k"}, {Policy: all, Key: "k", Shared: true}, {Policy: wideShared, Key: "k", Shared: true}}, states), states
	}
	if ok, _ := ask(a); !ok {
		t.Fatal("the first was refused")
	}
	for range 5 {
		ok, st := ask(b)
		if ok || st[0].Refused || !st[1].Refused || st[2].Refused || st[0].Remaining != 10 || st[2].Remaining != 9 {
			t.Fatalf("%v %+v", ok, st)
		}
	}
}

func TestPaceOfOneKey(t *testing.T) {
	clk := clock.NewFake(start)
	for _, store := range []kv.Store{nil, kv.NewMemory(clk, 100)} {
		n := newNode(clk, store, 0)
		p, err := n.Policy("p", Rate{Limit: 1, Window: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		slow, err := NewPace(Rate{Limit: 60, Window: time.Hour, Burst: 5})
		if err != nil {
			t.Fatal(err)
		}
		ask := func(key string, pace *Pace) bool {
			return n.Take(t.Context(), []Check{{Policy: p, Key: key, Pace: pace, Shared: true}}, make([]State, 1))
		}
		for i := range 7 {
			if got, want := ask("own", slow), i < 5; got != want {
				t.Fatalf("request %d of the key with its own pace: %v", i+1, got)
			}
			if got, want := ask("plain", nil), i < 1; got != want {
				t.Fatalf("request %d of a plain key: %v", i+1, got)
			}
		}
		for range 4 { // the policy's own generations are long over
			clk.Advance(10 * time.Second)
			for i := range 64 {
				ask(fmt.Sprint("x", i), nil)
			}
		}
		if ask("own", slow) {
			t.Error("a key with a long pace was forgotten at the policy's short one")
		}
	}
}

// Any number of nodes with one store admit what one bucket would.
func TestNodesMatchModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clk := clock.NewFake(start)
		store := kv.NewMemory(clk, 1000)
		var nodes []*Shared
		for range rapid.IntRange(1, 3).Draw(t, "nodes") {
			nodes = append(nodes, NewShared(New(clk), store, 0, slog.New(slog.DiscardHandler), nil))
		}
		rates := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Rate {
			limit := rapid.IntRange(1, 50).Draw(t, "limit")
			return Rate{ // whole microseconds per request, in which the store counts
				Limit: limit, Window: time.Duration(limit) * time.Duration(rapid.IntRange(1, 5_000_000).Draw(t, "interval")) * time.Microsecond,
				Burst: rapid.IntRange(1, 20).Draw(t, "burst"),
			}
		}), 1, 3).Draw(t, "rates")
		model := make([]map[string]bucket, len(rates))
		for i := range model {
			model[i] = map[string]bucket{}
		}
		elapsed := int64(0)
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			step := time.Duration(rapid.Int64Range(0, 5_000_000).Draw(t, "step")) * time.Microsecond
			clk.Advance(step)
			elapsed += int64(step)
			n := nodes[rapid.IntRange(0, len(nodes)-1).Draw(t, "node")]
			checks, states, want := make([]Check, len(rates)), make([]State, len(rates)), true
			var policies []*Policy
			for i, r := range rates {
				p, err := n.Policy(fmt.Sprint("p", i), r)
				if err != nil {
					t.Fatal(err)
				}
				policies = append(policies, p)
				key := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "key")
				checks[i] = Check{Policy: p, Key: key, Shared: true}
				full := costOf(r) * int64(r.Burst)
				b, known := model[i][key]
				if !known {
					b = bucket{level: full}
				}
				b = bucket{level: min(b.level+elapsed-b.at, full), at: elapsed}
				model[i][key] = b
				want = want && b.level >= costOf(r)
			}
			if got := n.Take(context.Background(), checks, states); got != want {
				t.Fatalf("admitted %v, the model says %v", got, want)
			}
			for i, c := range checks {
				b := model[i][c.Key]
				if want {
					b.level -= costOf(rates[i])
					model[i][c.Key] = b
				}
				if left := int(b.level / costOf(rates[i])); want && states[i].Remaining != left {
					t.Fatalf("policy %d: %d remaining, the model says %d", i, states[i].Remaining, left)
				}
			}
			_ = policies // held, so that the nodes' policies live as long as the model
		}
	})
}

// The store's clock jumps back by a day: a key is used up at most once.
func TestStoreClockJumpsBack(t *testing.T) {
	clk, storeClk := clock.NewFake(start), clock.NewFake(start)
	n := newNode(clk, kv.NewMemory(storeClk, 100), 0)
	r := Rate{Limit: 60, Window: time.Minute, Burst: 3}
	n.take(t, true, "k", r)
	storeClk.Advance(-24 * time.Hour)
	n.take(t, true, "k", r)
	clk.Advance(3 * time.Second)
	storeClk.Advance(3 * time.Second)
	if ok, st := n.take(t, true, "k", r); !ok {
		t.Errorf("still locked out after a burst's time: %+v", st)
	}
}

func BenchmarkTakeShared(b *testing.B) {
	store, err := kv.NewRedis(testkit.Redis(b), testkit.RedisPrefix(b), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	}()
	n := newNode(clock.System, store, 500*time.Millisecond)
	p, err := n.Policy("bench", Rate{Limit: 1_000_000, Window: time.Second})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		checks, states := []Check{{Policy: p, Key: "ins_01h455vb4pex5vsknk0", Shared: true}}, make([]State, 1)
		for pb.Next() {
			n.Take(b.Context(), checks, states)
		}
	})
}
