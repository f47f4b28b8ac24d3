package idem

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"landline/internal/clock"
	"landline/internal/sqldb"
	"landline/internal/testkit"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// each runs fn on both engines with a Store whose clock is held.
func each(t *testing.T, fn func(t *testing.T, s *Store, clk *clock.Fake)) {
	testkit.Engines(t, func(t *testing.T, open func(*testing.T, ...sqldb.Migrations) *sqldb.DB) {
		clk := clock.NewFake(start)
		fn(t, New(open(t, Migrations), clk, testkit.Logger(t)), clk)
	})
}

func request(key, payload string) Request {
	return Request{Scope: "app\nusr_1\nPOST /v1/trips", Key: key, Subject: "usr_1", Fingerprint: sha256.Sum256([]byte(payload)), Keep: 24 * time.Hour, Lease: time.Minute}
}

func begin(t *testing.T, s *Store, q Request, want Outcome) Result {
	t.Helper()
	res, err := s.Begin(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if res.Outcome != want {
		t.Fatalf("outcome %d, want %d", res.Outcome, want)
	}
	return res
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var created = Answer{Status: 201, Kept: true, Header: http.Header{"Content-Type": {"application/json"}, "Location": {"/v1/trips/7"}}, Body: []byte("{\"id\":7}\x00\xff")}

func TestStatementsPrepare(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(*testing.T, ...sqldb.Migrations) *sqldb.DB) {
		must(t, sqldb.PrepareAll(t.Context(), open(t, Migrations), Queries))
	})
}

func TestAnswerIsReplayed(t *testing.T) {
	each(t, func(t *testing.T, s *Store, clk *clock.Fake) {
		first := begin(t, s, request("k", "a"), Execute)
		begin(t, s, request("k", "a"), InFlight)
		begin(t, s, request("k", "b"), Reused)
		must(t, s.Finish(t.Context(), first.Lease, created))
		must(t, s.Finish(t.Context(), first.Lease, created)) // after an uncertain commit
		again := begin(t, s, request("k", "a"), Replay)
		if diff := cmp.Diff(&created, again.Answer); diff != "" {
			t.Error(diff)
		}
		begin(t, s, request("k", "b"), Reused)
		begin(t, s, request("other", "a"), Execute)
		elsewhere := request("k", "a")
		elsewhere.Scope = "app\nusr_2\nPOST /v1/trips"
		begin(t, s, elsewhere, Execute)
		clk.Advance(24*time.Hour - time.Millisecond)
		begin(t, s, request("k", "a"), Replay)
		clk.Advance(time.Millisecond)
		begin(t, s, request("k", "b"), Execute) // expired: a new life
	})
}

func TestAnswerThatWasNotKept(t *testing.T) {
	each(t, func(t *testing.T, s *Store, _ *clock.Fake) {
		first := begin(t, s, request("k", "a"), Execute)
		must(t, s.Finish(t.Context(), first.Lease, Answer{Status: 200, Body: []byte("dropped")}))
		if a := begin(t, s, request("k", "a"), Replay).Answer; a.Kept || a.Status != 200 || len(a.Body) != 0 {
			t.Errorf("got %+v", a)
		}
		empty := begin(t, s, request("k2", "a"), Execute)
		must(t, s.Finish(t.Context(), empty.Lease, Answer{Status: 204, Kept: true}))
		if a := begin(t, s, request("k2", "a"), Replay).Answer; !a.Kept || a.Status != 204 || len(a.Body) != 0 {
			t.Errorf("got %+v", a)
		}
	})
}

func TestReleasedKeyIsFree(t *testing.T) {
	each(t, func(t *testing.T, s *Store, _ *clock.Fake) {
		first := begin(t, s, request("k", "a"), Execute)
		must(t, s.Release(t.Context(), first.Lease))
		must(t, s.Release(t.Context(), first.Lease))
		second := begin(t, s, request("k", "b"), Execute)
		must(t, s.Release(t.Context(), first.Lease)) // must not free what the second holds
		begin(t, s, request("k", "b"), InFlight)
		must(t, s.Finish(t.Context(), second.Lease, created))
		begin(t, s, request("k", "b"), Replay)
	})
}

// An attempt that was cut off, or whose node died, is never executed twice
// unless the request says that it may be.
func TestUnknownOutcome(t *testing.T) {
	each(t, func(t *testing.T, s *Store, clk *clock.Fake) {
		for i, lose := range []func(Lease){
			func(l Lease) { must(t, s.Lost(t.Context(), l)) },
			func(Lease) { clk.Advance(time.Minute) }, // the node crashed
		} {
			q := request(fmt.Sprint("k", i), "a")
			first := begin(t, s, q, Execute)
			lose(first.Lease)
			begin(t, s, q, Unknown)
			begin(t, s, q, Unknown)
			q.Forward = true
			second := begin(t, s, q, Execute)
			begin(t, s, q, InFlight)
			q.Forward = false
			begin(t, s, q, InFlight)
			for name, err := range map[string]error{
				"finish": s.Finish(t.Context(), first.Lease, Answer{Status: 500}),
				"mark":   s.Lost(t.Context(), first.Lease),
			} {
				if !errors.Is(err, ErrLost) {
					t.Errorf("%s by the old holder: %v", name, err)
				}
			}
			must(t, s.Release(t.Context(), first.Lease))
			begin(t, s, q, InFlight)
			must(t, s.Finish(t.Context(), second.Lease, created))
			if a := begin(t, s, q, Replay).Answer; a.Status != 201 {
				t.Errorf("the old holder's answer was stored: %+v", a)
			}
		}
	})
}

func TestLateFinishSettlesTheOutcome(t *testing.T) {
	each(t, func(t *testing.T, s *Store, clk *clock.Fake) {
		first := begin(t, s, request("k", "a"), Execute)
		clk.Advance(2 * time.Minute)
		begin(t, s, request("k", "a"), Unknown)
		must(t, s.Finish(t.Context(), first.Lease, created))
		begin(t, s, request("k", "a"), Replay)
	})
}

func TestOldHolderCannotFinishAnExpiredAndReusedKey(t *testing.T) {
	each(t, func(t *testing.T, s *Store, clk *clock.Fake) {
		first := begin(t, s, request("k", "a"), Execute)
		clk.Advance(25 * time.Hour)
		if n, err := s.Sweep(t.Context(), 10); n != 1 || err != nil {
			t.Fatalf("swept %d, %v", n, err)
		}
		begin(t, s, request("k", "b"), Execute) // the count of attempts starts anew
		if err := s.Finish(t.Context(), first.Lease, created); !errors.Is(err, ErrLost) {
			t.Errorf("got %v", err)
		}
		begin(t, s, request("k", "b"), InFlight)
	})
}

func TestParallelAttemptsExecuteOnce(t *testing.T) {
	each(t, func(t *testing.T, s *Store, clk *clock.Fake) {
		for _, q := range []Request{request("fresh", "a"), func() Request { // and when a lost key is taken over
			q := request("lost", "a")
			q.Forward = true
			begin(t, s, q, Execute)
			clk.Advance(time.Minute)
			return q
		}()} {
			outcomes := make(chan Outcome, 64)
			var wg sync.WaitGroup
			for range 64 {
				wg.Go(func() {
					res, err := s.Begin(t.Context(), q)
					if err != nil {
						t.Error(err)
					}
					outcomes <- res.Outcome
				})
			}
			wg.Wait()
			close(outcomes)
			n := map[Outcome]int{}
			for o := range outcomes {
				n[o]++
			}
			if n[Execute] != 1 || n[InFlight] != 63 {
				t.Errorf("%s: %v", q.Key, n)
			}
		}
	})
}

func TestSweepAndErase(t *testing.T) {
	each(t, func(t *testing.T, s *Store, clk *clock.Fake) {
		for i := range 5 {
			q := request(strconv.Itoa(i), "a")
			q.Keep = time.Hour
			must(t, s.Finish(t.Context(), begin(t, s, q, Execute).Lease, created))
		}
		begin(t, s, request("running", "a"), Execute)
		if n, err := s.Sweep(t.Context(), 10); n != 0 || err != nil {
			t.Fatalf("swept %d live keys, %v", n, err)
		}
		clk.Advance(time.Hour)
		for _, want := range []int{3, 2, 0} {
			if n, err := s.Sweep(t.Context(), 3); n != want || err != nil {
				t.Fatalf("swept %d, %v; want %d", n, err, want)
			}
		}
		must(t, s.Finish(t.Context(), begin(t, s, request("done", "a"), Execute).Lease, created))
		begin(t, s, request("in flight", "a"), Execute)
		must(t, s.db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error { return s.Erase(ctx, tx, "usr_1") }))
		begin(t, s, request("done", "a"), Execute)
		begin(t, s, request("in flight", "a"), InFlight)
	})
}

func TestBeginRefusesALeaseThatOutlivesTheKey(t *testing.T) {
	s := New(testkit.SQLite(t, Migrations), clock.NewFake(start), testkit.Logger(t))
	q := request("k", "a")
	q.Keep = time.Second
	if _, err := s.Begin(t.Context(), q); err == nil {
		t.Error("accepted")
	}
}

// modelled is what a key should be, said without tables.
type modelled struct {
	payload string
	holder  int // number of the attempt that may finish, 0 = free
	state   int64
	lease   time.Time
	expires time.Time
}

func TestStoreMatchesModel(t *testing.T) {
	each(t, func(t *testing.T, s *Store, clk *clock.Fake) {
		run := 0
		rapid.Check(t, func(rt *rapid.T) {
			run++
			model := map[string]*modelled{}
			var leases []Lease
			var owner []string // key of each lease
			holds := func(i int) *modelled {
				if m := model[owner[i]]; m != nil && m.holder == i+1 {
					return m
				}
				return nil
			}
			attempt := func(rt *rapid.T) int {
				if len(leases) == 0 {
					rt.Skip("no attempt yet")
				}
				return rapid.IntRange(0, len(leases)-1).Draw(rt, "attempt")
			}
			ended := func(rt *rapid.T, i int, state int64, err error) {
				m := holds(i)
				if (m == nil) != errors.Is(err, ErrLost) || m != nil && err != nil {
					rt.Fatalf("attempt %d holds: %v, got %v", i+1, m != nil, err)
				}
				if m != nil {
					m.state = state
				}
			}
			rt.Repeat(map[string]func(*rapid.T){
				"begin": func(rt *rapid.T) {
					key := fmt.Sprint(run, rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "key"))
					payload := rapid.SampledFrom([]string{"x", "x", "x", "y"}).Draw(rt, "payload")
					q := request(key, payload)
					q.Keep = 10 * time.Minute
					q.Forward = rapid.Bool().Draw(rt, "forward")
					now, m := clk.Now(), model[key]
					want := Execute
					if m != nil {
						running := m.state == inFlight && now.Before(m.lease)
						switch {
						case !now.Before(m.expires) && !running:
						case m.payload != payload:
							want = Reused
						case m.state == done:
							want = Replay
						case running:
							want = InFlight
						case !q.Forward:
							want = Unknown
						}
					}
					res, err := s.Begin(t.Context(), q)
					if err != nil || res.Outcome != want {
						rt.Fatalf("got %d, %v; the model says %d", res.Outcome, err, want)
					}
					if want == Execute {
						leases, owner = append(leases, res.Lease), append(owner, key)
						model[key] = &modelled{payload: payload, holder: len(leases), lease: now.Add(q.Lease), expires: now.Add(q.Keep)}
					}
				},
				"finish": func(rt *rapid.T) {
					i := attempt(rt)
					ended(rt, i, done, s.Finish(t.Context(), leases[i], created))
				},
				"lost": func(rt *rapid.T) {
					i := attempt(rt)
					ended(rt, i, unknown, s.Lost(t.Context(), leases[i]))
				},
				"release": func(rt *rapid.T) {
					i := attempt(rt)
					if err := s.Release(t.Context(), leases[i]); err != nil {
						rt.Fatal(err)
					}
					if holds(i) != nil {
						delete(model, owner[i])
					}
				},
				"sweep": func(rt *rapid.T) {
					if _, err := s.Sweep(t.Context(), 1000); err != nil {
						rt.Fatal(err)
					}
					for key, m := range model {
						if !clk.Now().Before(m.expires) && !clk.Now().Before(m.lease) {
							delete(model, key)
						}
					}
				},
				"time": func(rt *rapid.T) {
					clk.Advance(time.Duration(rapid.IntRange(1, 400).Draw(rt, "seconds")) * time.Second)
				},
			})
		})
	})
}

func BenchmarkBeginFinish(b *testing.B) {
	ctx := b.Context()
	db, err := sqldb.Open(ctx, sqldb.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	}()
	if err := db.Migrate(ctx, Migrations); err != nil {
		b.Fatal(err)
	}
	s := New(db, clock.System, nil)
	b.SetParallelism(32)
	b.ReportAllocs()
	var n sync.Mutex
	next := 0
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n.Lock()
			next++
			key := strconv.Itoa(next)
			n.Unlock()
			res, err := s.Begin(ctx, request(key, "a"))
			if err != nil || res.Outcome != Execute {
				b.Error(res.Outcome, err)
				return
			}
			if err := s.Finish(ctx, res.Lease, created); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// After a crash of the one server of an embedded database nobody waits for its
// leases; nodes that share a database do.
func TestLeaseOfAProcessThatIsGone(t *testing.T) {
	each(t, func(t *testing.T, s *Store, clk *clock.Fake) {
		begin(t, s, request("k", "a"), Execute)
		must(t, s.db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.ExecContext(ctx, "UPDATE idempotency SET holder = $1", "EARLIER-PROCESS")
			return err
		}))
		if s.db.Engine() == sqldb.Postgres {
			begin(t, s, request("k", "a"), InFlight)
			clk.Advance(time.Minute)
		}
		begin(t, s, request("k", "a"), Unknown)
	})
}

// Many callers share transactions; one that leaves while it waits, or whose part
// cannot be stored, costs the others nothing.
func TestCallersThatShareATransaction(t *testing.T) {
	each(t, func(t *testing.T, s *Store, _ *clock.Fake) {
		var wg sync.WaitGroup
		var done, left, refused atomic.Int64
		for i := range 300 {
			wg.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				q := request(strconv.Itoa(i), "a")
				switch i % 10 {
				case 0:
					go cancel()
				case 1:
					q.Subject = "no \x00 text"
				}
				res, err := s.Begin(ctx, q)
				switch {
				case i%10 == 1 && errors.Is(err, sqldb.ErrText):
					refused.Add(1)
				case i%10 == 0 && errors.Is(err, context.Canceled):
					left.Add(1)
				case err != nil || res.Outcome != Execute:
					t.Errorf("%d: %v, %v", i, res.Outcome, err)
				default:
					must(t, s.Finish(t.Context(), res.Lease, created))
					done.Add(1)
				}
			})
		}
		wg.Wait()
		if refused.Load() != 30 || done.Load()+left.Load() != 270 {
			t.Errorf("%d done, %d left, %d refused", done.Load(), left.Load(), refused.Load())
		}
		for i := range 300 {
			if i%10 > 1 {
				begin(t, s, request(strconv.Itoa(i), "a"), Replay)
			}
		}
	})
}

// A write that was sent as a user who has since become part of another, and is
// retried as the other, is the same write.
func TestAFormerUsersKeyIsMeant(t *testing.T) {
	each(t, func(t *testing.T, s *Store, clk *clock.Fake) {
		first := request("k", "a")
		must(t, s.Finish(t.Context(), begin(t, s, first, Execute).Lease, created))
		retry := request("k", "a")
		retry.Scope, retry.Subject, retry.Former = "app\nusr_2\nPOST /v1/trips", "usr_2", []string{"app\nusr_0\nPOST /v1/trips", first.Scope}
		if res := begin(t, s, retry, Replay); res.Answer.Status != created.Status {
			t.Errorf("answer %+v", res.Answer)
		}
		must(t, s.db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			res, err := s.BeginTx(ctx, tx, retry)
			if err == nil && res.Outcome != Replay {
				t.Errorf("within a transaction: outcome %d", res.Outcome)
			}
			return err
		}))
		other := retry
		other.Fingerprint = sha256.Sum256([]byte("b"))
		begin(t, s, other, Reused)
		fresh := retry
		fresh.Key = "k2"
		begin(t, s, fresh, Execute)
		clk.Advance(25 * time.Hour) // forgotten: the caller's own scope from here on
		begin(t, s, retry, Execute)
		begin(t, s, request("k", "a"), Execute)
	})
}
