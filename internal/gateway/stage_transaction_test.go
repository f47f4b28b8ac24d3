package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	dto "github.com/prometheus/client_model/go"
	"pgregory.net/rapid"

	"landline/internal/config"
	"landline/internal/gateway/idem"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/sqldb"
	"landline/internal/testkit"
)

// The team's table: a booking must name a seat by the time of the commit.
var bookingTables = sqldb.Migrations{Module: "bookings", FS: fstest.MapFS{"0001_booking.sql": {Data: []byte(`-- +goose Up
CREATE TABLE seat (id BIGINT PRIMARY KEY);
INSERT INTO seat (id) VALUES (1);
CREATE TABLE booking (id key_text PRIMARY KEY, seat BIGINT NOT NULL REFERENCES seat (id) DEFERRABLE INITIALLY DEFERRED);
`)}}}

// bookings is a gateway with a Write route that runs do after its insert.
type bookings struct {
	*house
	db    *sqldb.DB
	calls atomic.Int64
	mu    sync.Mutex
	extra func(ctx context.Context, tx *sqldb.Tx, w http.ResponseWriter, r *http.Request) error
}

func openBookings(t *testing.T, db *sqldb.DB, over *FeatureConfig) *bookings {
	t.Helper()
	b := &bookings{db: db}
	write := func(ctx context.Context, tx *sqldb.Tx, w http.ResponseWriter, r *http.Request) error {
		call := b.calls.Add(1)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		seat := 1
		if strings.Contains(string(body), "nowhere") {
			seat = 404
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO booking (id, seat) VALUES ($1, $2)`, fmt.Sprintf("%s-%d", r.PathValue("name"), call), seat); err != nil {
			return err
		}
		b.mu.Lock()
		do := b.extra
		b.mu.Unlock()
		if do != nil {
			if err := do(ctx, tx, w, r); err != nil {
				return err
			}
		}
		w.Header().Set("Location", fmt.Sprintf("/v1/bookings/%d", call))
		w.WriteHeader(http.StatusCreated)
		_, err = fmt.Fprintf(w, "booked %s by call %d", body, call)
		return err
	}
	m := &module.Module{Features: []module.Feature{{Name: "bookings", Timeout: 5 * time.Second, Handlers: []module.Handler{
		{Match: "POST /v1/bookings/{name}", Auth: module.AuthNone, Write: write},
	}}}}
	b.house = openWith(t, func(o *Options) { o.DB = db }, func(s *Settings) {
		if over != nil {
			s.Features["bookings"] = over
		}
	}, m)
	return b
}

func (b *bookings) then(do func(ctx context.Context, tx *sqldb.Tx, w http.ResponseWriter, r *http.Request) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.extra = do
}

func (b *bookings) post(name, key, body string) (*http.Response, string) {
	b.t.Helper()
	req := b.request("POST", "/v1/bookings/"+name, strings.NewReader(body))
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	return b.house.do(req)
}

func (b *bookings) rows(name string) (n int) {
	b.t.Helper()
	err := b.db.Read(context.Background(), func(ctx context.Context, q sqldb.Querier) error {
		return q.QueryRowContext(ctx, `SELECT COUNT(*) FROM booking WHERE id LIKE $1`, name+"-%").Scan(&n)
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

func eachBookings(t *testing.T, fn func(t *testing.T, b *bookings)) {
	testkit.Engines(t, func(t *testing.T, open func(*testing.T, ...sqldb.Migrations) *sqldb.DB) {
		fn(t, openBookings(t, open(t, idem.Migrations, bookingTables), nil))
	})
}

func TestTransactionExecutesOnceAndReplays(t *testing.T) {
	eachBookings(t, func(t *testing.T, b *bookings) {
		first, body := b.post("a", "key-1", "x")
		if first.StatusCode != 201 || body != "booked x by call 1" || first.Header.Get("Idempotent-Replayed") != "" {
			t.Fatalf("%d %s %v", first.StatusCode, body, first.Header)
		}
		for range 3 {
			again, replayed := b.post("a", `"key-1"`, "x")
			if again.StatusCode != 201 || replayed != body || again.Header.Get("Idempotent-Replayed") != "true" || again.Header.Get("Location") != first.Header.Get("Location") {
				t.Errorf("%d %s %v", again.StatusCode, replayed, again.Header)
			}
		}
		if res, body := b.post("a", "key-1", "other"); res.StatusCode != 422 || code(t, body) != "idempotency_key_reused" {
			t.Errorf("%d %s", res.StatusCode, body)
		}
		if res, body := b.post("a", "bad key,", "x"); res.StatusCode != 400 || code(t, body) != "idempotency_key_invalid" {
			t.Errorf("%d %s", res.StatusCode, body)
		}
		families, err := b.registry.Gather()
		if err != nil || counterOf(families, "landline_gateway_idempotency_total", "replayed") != 3 {
			t.Errorf("replays are not counted: %v", err)
		}
		if n := b.rows("a"); n != 1 || b.calls.Load() != 1 {
			t.Errorf("%d rows of %d calls", n, b.calls.Load())
		}
		b.post("plain", "", "x")
		b.post("plain", "", "x")
		if n := b.rows("plain"); n != 2 {
			t.Errorf("%d rows without a key, want 2", n)
		}
	})
}

// counterOf is the value of the counters that have a label of this value.
func counterOf(families []*dto.MetricFamily, name, label string) (sum float64) {
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetValue() == label {
					sum += m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}

// faultsOf are the ways in which an execution comes to nothing.
var faultsOf = map[string]struct {
	do     func(ctx context.Context, tx *sqldb.Tx, w http.ResponseWriter, r *http.Request) error
	body   string
	status int
	only   string // engine
}{
	"error": {do: func(context.Context, *sqldb.Tx, http.ResponseWriter, *http.Request) error { return errors.New("no") }, status: 500},
	"problem": {do: func(context.Context, *sqldb.Tx, http.ResponseWriter, *http.Request) error {
		return problem.New(problem.Conflict, "taken")
	}, status: 409},
	"panic": {do: func(context.Context, *sqldb.Tx, http.ResponseWriter, *http.Request) error { panic("in the middle") }, status: 500},
	"server error": {do: func(_ context.Context, _ *sqldb.Tx, w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(503)
		return nil
	}, status: 503},
	"too many": {do: func(_ context.Context, _ *sqldb.Tx, w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(429)
		return nil
	}, status: 429},
	"statement": {do: func(ctx context.Context, tx *sqldb.Tx, _ http.ResponseWriter, _ *http.Request) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO nowhere VALUES (1)`)
		return err
	}, status: 500},
	"dropped error": {do: func(ctx context.Context, tx *sqldb.Tx, _ http.ResponseWriter, _ *http.Request) error {
		tx.ExecContext(ctx, `INSERT INTO nowhere VALUES (1)`)
		return nil
	}, status: 500},
	"commit": {body: "nowhere", status: 500},
	"lost connection": {do: func(ctx context.Context, tx *sqldb.Tx, _ http.ResponseWriter, _ *http.Request) error {
		_, err := tx.ExecContext(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
		return err
	}, status: 503, only: sqldb.Postgres},
}

// Whatever goes wrong, nothing was written, the key is free, and the next try
// executes; once one has succeeded, none executes any more.
func TestTransactionFaultsLeaveNothingBehind(t *testing.T) {
	eachBookings(t, func(t *testing.T, b *bookings) {
		for name, f := range faultsOf {
			if f.only != "" && f.only != b.db.Engine() {
				continue
			}
			t.Run(name, func(t *testing.T) {
				id := strings.ReplaceAll(name, " ", "-")
				for range 2 {
					b.then(f.do)
					if res, body := b.post(id, "key-"+id, f.body); res.StatusCode != f.status || res.Header.Get("Idempotent-Replayed") != "" {
						t.Errorf("%d %s", res.StatusCode, body)
					}
					if n := b.rows(id); n != 0 {
						t.Fatalf("%d rows after the fault", n)
					}
				}
				b.then(nil)
				res, body := b.post(id, "key-"+id, "good")
				if res.StatusCode != 201 || b.rows(id) != 1 {
					t.Fatalf("%d %s, %d rows", res.StatusCode, body, b.rows(id))
				}
				b.then(f.do)
				if again, replayed := b.post(id, "key-"+id, "good"); again.StatusCode != 201 || replayed != body || b.rows(id) != 1 {
					t.Errorf("%d %s, %d rows", again.StatusCode, replayed, b.rows(id))
				}
			})
		}
	})
}

// Any sequence of faults and repetitions over a few keys: at most one execution
// of each stays, and an answer that a client has seen is the answer from then on.
func TestTransactionProperty(t *testing.T) {
	eachBookings(t, func(t *testing.T, b *bookings) {
		var names []string
		for name, f := range faultsOf {
			if f.only == "" || f.only == b.db.Engine() {
				names = append(names, name)
			}
		}
		names = append(names, "none", "none", "none")
		run := 0
		rapid.Check(t, func(rt *rapid.T) {
			run++
			seen := map[string]string{}
			for range rapid.IntRange(1, 12).Draw(rt, "tries") {
				id := fmt.Sprintf("p%d-%d", run, rapid.IntRange(1, 2).Draw(rt, "key"))
				f := faultsOf[rapid.SampledFrom(names).Draw(rt, "fault")]
				b.then(f.do)
				res, body := b.post(id, "key-"+id, f.body)
				before, answered := seen[id]
				switch {
				case answered && f.body != "":
					if res.StatusCode != 422 {
						rt.Fatalf("another body: %d %s", res.StatusCode, body)
					}
				case answered && body != before:
					rt.Fatalf("answered %q, then %d %q", before, res.StatusCode, body)
				case res.StatusCode == 201:
					seen[id] = body
				}
				_, answered = seen[id]
				if n := b.rows(id); (n == 1) != answered || n > 1 {
					rt.Fatalf("%d rows, answered %t", n, answered)
				}
			}
		})
	})
}

func TestTransactionOfParallelTries(t *testing.T) {
	eachBookings(t, func(t *testing.T, b *bookings) {
		answers := make([]string, 24)
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() {
				req := b.request("POST", "/v1/bookings/par", strings.NewReader("x"), "Idempotency-Key", "one")
				res, err := b.client.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				defer res.Body.Close()
				body, err := io.ReadAll(res.Body)
				if err != nil || res.StatusCode != 201 {
					t.Errorf("%d %s %v", res.StatusCode, body, err)
				}
				answers[i] = string(body)
			})
		}
		wg.Wait()
		for _, a := range answers {
			if a != answers[0] {
				t.Errorf("%q and %q", a, answers[0])
			}
		}
		if n := b.rows("par"); n != 1 {
			t.Errorf("%d rows", n)
		}
	})
}

func TestTransactionTimeoutAndLeavingClient(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(*testing.T, ...sqldb.Migrations) *sqldb.DB) {
		b := openBookings(t, open(t, idem.Migrations, bookingTables), &FeatureConfig{Timeout: config.Duration(150 * time.Millisecond)})
		b.then(func(ctx context.Context, _ *sqldb.Tx, _ http.ResponseWriter, _ *http.Request) error {
			<-ctx.Done()
			return nil
		})
		if res, body := b.post("slow", "key-slow", "x"); res.StatusCode != 504 || code(t, body) != "upstream_timeout" || b.rows("slow") != 0 {
			t.Errorf("%d %s, %d rows", res.StatusCode, body, b.rows("slow"))
		}
		begun, left := make(chan struct{}), make(chan struct{})
		var once sync.Once
		b.then(func(context.Context, *sqldb.Tx, http.ResponseWriter, *http.Request) error {
			once.Do(func() { close(begun) })
			<-left
			return nil
		})
		ctx, leave := context.WithCancel(t.Context())
		go func() {
			<-begun
			leave()
			close(left)
		}()
		req := b.request("POST", "/v1/bookings/gone", strings.NewReader("x"), "Idempotency-Key", "gone").WithContext(ctx)
		if res, err := b.client.Do(req); err == nil {
			res.Body.Close()
			t.Log("the answer was quicker than the client")
		}
		until(t, "the write is there", func() bool { return b.rows("gone") == 1 })
		b.then(nil)
		if res, body := b.post("gone", "gone", "x"); res.StatusCode != 201 || res.Header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("%d %s", res.StatusCode, body)
		}
	})
}

func TestTransactionKeepsTheFeaturesPolicy(t *testing.T) {
	over := &FeatureConfig{Idempotency: &IdempotencyConfig{Required: true, MaxBody: 64, StoreServerErrors: true}}
	b := openBookings(t, testkit.SQLite(t, idem.Migrations, bookingTables), over)
	if res, body := b.post("a", "", "x"); res.StatusCode != 400 || code(t, body) != "idempotency_key_missing" || b.calls.Load() != 0 {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	long := strings.Repeat("x", 100)
	if res, body := b.post("long", "long", long); res.StatusCode != 201 || !strings.Contains(body, long) {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if res, body := b.post("long", "long", long); res.StatusCode != 409 || code(t, body) != "idempotency_outcome_unknown" || b.rows("long") != 1 {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	b.then(func(_ context.Context, _ *sqldb.Tx, w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(500)
		return nil
	})
	b.post("five", "five", "x")
	b.then(nil)
	if res, _ := b.post("five", "five", "x"); res.StatusCode != 500 || res.Header.Get("Idempotent-Replayed") != "true" || b.rows("five") != 1 {
		t.Errorf("a stored server error is replayed as %d with %d rows", res.StatusCode, b.rows("five"))
	}
}

// An attempt that began with a lease (the feature was a service before) and was
// cut off is not executed again.
func TestTransactionHonoursAnOlderLease(t *testing.T) {
	b := openBookings(t, testkit.SQLite(t, idem.Migrations, bookingTables), nil)
	req := b.request("POST", "/v1/bookings/old", strings.NewReader("x"))
	k := keeper{o: &b.options, rt: &Route{Match: "POST /v1/bookings/{name}"}}
	q := idem.Request{Scope: k.scope(&Exchange{ClientIP: "127.0.0.1"}, req), Key: "old", Fingerprint: fingerprint(req, []byte("x")), Keep: time.Hour, Lease: time.Minute}
	held, err := b.idem.Begin(t.Context(), q)
	if err != nil || held.Outcome != idem.Execute {
		t.Fatal(held.Outcome, err)
	}
	if res, body := b.post("old", "old", "x"); res.StatusCode != 409 || code(t, body) != "idempotency_in_flight" {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if err := b.idem.Lost(t.Context(), held.Lease); err != nil {
		t.Fatal(err)
	}
	if res, body := b.post("old", "old", "x"); res.StatusCode != 409 || code(t, body) != "idempotency_outcome_unknown" || b.rows("old") != 0 {
		t.Errorf("%d %s, %d rows", res.StatusCode, body, b.rows("old"))
	}
}
