package gateway

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"landline/internal/clock"
	"landline/internal/config"
	"landline/internal/gateway/idem"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/sqldb"
	"landline/internal/testkit"
)

// keyed is a gateway whose feature honours keys, with an upstream that counts executions.
type keyed struct {
	*house
	t        *testing.T
	db       *sqldb.DB
	clk      *clock.Fake
	executed atomic.Int64
}

func openKeyed(t *testing.T, db *sqldb.DB, change func(*IdempotencyConfig), upstream func(n int64, w http.ResponseWriter, r *http.Request)) *keyed {
	t.Helper()
	k := &keyed{t: t, db: db, clk: clock.NewFake(time.Now())}
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
		upstream(k.executed.Add(1), w, r)
	})
	c := &IdempotencyConfig{}
	c.Defaults()
	if change != nil {
		change(c)
	}
	k.house = openWith(t, func(o *Options) { o.DB, o.Clock = db, k.clk }, func(s *Settings) {
		s.Upstreams["up"] = upstreamAt(url)
		s.Upstreams["nobody"] = upstreamAt("http://127.0.0.1:1")
		s.Features["trips"] = &FeatureConfig{Auth: module.AuthNone, Timeout: config.Duration(5 * time.Second), Idempotency: c,
			Routes: []RouteConfig{{Match: "/v1/trips", Upstream: "up"}, {Match: "/v1/nobody", Upstream: "nobody"}}}
	})
	return k
}

func sqliteKeyed(t *testing.T, change func(*IdempotencyConfig), upstream func(n int64, w http.ResponseWriter, r *http.Request)) *keyed {
	t.Helper()
	return openKeyed(t, testkit.SQLite(t, idem.Migrations), change, upstream)
}

type reply struct {
	*http.Response
	body string
	code string // of the problem
}

func (k *keyed) post(key, body string, header ...string) reply {
	k.t.Helper()
	return k.send(http.MethodPost, "/v1/trips", key, body, header...)
}

func (k *keyed) send(method, path, key, body string, header ...string) reply {
	k.t.Helper()
	if key != "" {
		header = append(header, "Idempotency-Key", key)
	}
	res, text := k.do(k.request(method, path, strings.NewReader(body), header...))
	return asReply(k.t, res, text)
}

func asReply(t *testing.T, res *http.Response, text string) reply {
	t.Helper()
	var p struct{ Code string }
	if res.Header.Get("Content-Type") == problem.MediaType {
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			t.Error(err)
		}
	}
	return reply{res, text, p.Code}
}

func (r reply) want(t *testing.T, status int, code problem.Code, replayed bool) {
	t.Helper()
	if r.StatusCode != status || r.code != string(code) || (r.Header.Get("Idempotent-Replayed") == "true") != replayed {
		t.Errorf("got %d %q replayed=%q, want %d %q %v: %s", r.StatusCode, r.code, r.Header.Get("Idempotent-Replayed"), status, code, replayed, r.body)
	}
}

func (k *keyed) wantExecuted(n int64) {
	k.t.Helper()
	if got := k.executed.Load(); got != n {
		k.t.Errorf("executed %d times, want %d", got, n)
	}
}

func created(n int64, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Location", fmt.Sprint("/v1/trips/", n))
	w.Header().Set("X-Key", r.Header.Get("Idempotency-Key"))
	w.Header().Set("Set-Cookie", "a=b")
	w.WriteHeader(http.StatusCreated)
	fmt.Fprintf(w, `{"id":%d}`, n)
}

func TestKeyedWriteIsReplayed(t *testing.T) {
	k := sqliteKeyed(t, nil, created)
	first := k.post(`"8e03"`, `{"a":1}`)
	first.want(t, 201, "", false)
	if first.body != `{"id":1}` || first.Header.Get("X-Key") != `"8e03"` {
		t.Errorf("got %s, the upstream saw the key as %s", first.body, first.Header.Get("X-Key"))
	}
	again := k.post("8e03", `{"a":1}`)
	again.want(t, 201, "", true)
	if again.body != first.body || again.Header.Get("Location") != "/v1/trips/1" || again.Header.Get("Content-Type") != "application/json" || again.ContentLength != 8 {
		t.Errorf("replayed %q %v", again.body, again.Header)
	}
	if again.Header.Get("Set-Cookie") != "" || len(again.Header["Landline-Trace-Id"]) != 1 || again.Header.Get("Landline-Trace-Id") == first.Header.Get("Landline-Trace-Id") {
		t.Errorf("replayed what belongs to one moment: %v", again.Header)
	}
	k.wantExecuted(1)

	k.post("8e03", `{"a":2}`).want(t, 422, problem.IdempotencyKeyReused, false)
	k.post("8e03", `{"a":1}`, "Content-Type", "text/plain").want(t, 422, problem.IdempotencyKeyReused, false)
	k.send("POST", "/v1/trips?x=1", "8e03", `{"a":1}`).want(t, 422, problem.IdempotencyKeyReused, false)
	k.wantExecuted(1)
	k.send("PUT", "/v1/trips", "8e03", `{"a":1}`).want(t, 201, "", false) // another method, another scope
	k.send("GET", "/v1/trips", "8e03", "").want(t, 201, "", false)
	k.send("GET", "/v1/trips", "8e03", "").want(t, 201, "", false)
	k.wantExecuted(4)
	k.clk.Advance(24 * time.Hour)
	k.post("8e03", `{"a":1}`).want(t, 201, "", false)
	k.wantExecuted(5)
	until(t, "the outcomes are counted", func() bool {
		count := func(outcome string) float64 { return value(t, k.metrics.idempotency.WithLabelValues("trips", outcome)) }
		return count("executed") == 3 && count("replayed") == 1 && count("reused") == 3
	})
}

func TestReplayIsAuthorised(t *testing.T) {
	k := sqliteKeyed(t, nil, created)
	signedIn := []string{"Authorization", "Bearer good"}
	k.post("k", "a", signedIn...).want(t, 201, "", false)
	k.post("k", "a", "Authorization", "Bearer stolen").want(t, 401, problem.TokenInvalid, false)
	k.post("k", "a", append(signedIn, "Expect-User", "usr_2")...).want(t, 412, problem.WrongUser, false)
	k.post("k", "a").want(t, 201, "", false) // a stranger's key of the same name
	k.post("k", "a", signedIn...).want(t, 201, "", true)
	k.wantExecuted(2)
}

func TestKeyIsRequiredAndChecked(t *testing.T) {
	k := sqliteKeyed(t, func(c *IdempotencyConfig) { c.Required = true }, created)
	k.post("", "a").want(t, 400, problem.IdempotencyKeyMissing, false)
	k.post("ü", "a").want(t, 400, problem.IdempotencyKeyInvalid, false)
	k.post(strings.Repeat("k", 256), "a").want(t, 400, problem.IdempotencyKeyInvalid, false)
	k.post("a", "a", "Idempotency-Key", "b").want(t, 400, problem.IdempotencyKeyInvalid, false)
	k.wantExecuted(0)
	k.send("DELETE", "/v1/trips", "", "").want(t, 201, "", false)
	k.wantExecuted(1)
}

// Of parallel tries exactly one is executed, on both engines.
func TestParallelTriesExecuteOnce(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(*testing.T, ...sqldb.Migrations) *sqldb.DB) {
		k := openKeyed(t, open(t, idem.Migrations), nil, created)
		var wg sync.WaitGroup
		replies := make(chan reply, 64)
		for range 64 {
			req := k.request("POST", "/v1/trips", strings.NewReader("a"), "Idempotency-Key", "k")
			wg.Go(func() {
				res, err := k.client.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				defer res.Body.Close()
				body, err := io.ReadAll(res.Body)
				if err != nil {
					t.Error(err)
				}
				replies <- asReply(t, res, string(body))
			})
		}
		wg.Wait()
		close(replies)
		fresh := 0
		for r := range replies {
			switch {
			case r.StatusCode == 201 && r.Header.Get("Idempotent-Replayed") == "":
				fresh++
			case r.StatusCode == 201 && r.body == `{"id":1}`:
			case r.code == string(problem.IdempotencyInFlight) && r.Header.Get("Retry-After") == "1":
			default:
				t.Errorf("got %d %s", r.StatusCode, r.body)
			}
		}
		if fresh != 1 {
			t.Errorf("%d first answers", fresh)
		}
		k.wantExecuted(1)
		k.post("k", "a").want(t, 201, "", true)
	})
}

// What the end of the first try does to the second.
func TestFateOfTheKey(t *testing.T) {
	status := func(code int) func(int64, http.ResponseWriter, *http.Request) {
		return func(_ int64, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	cut := func(_ int64, w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }
	cutBody := func(_ int64, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		w.WriteHeader(200)
		if _, err := w.Write([]byte("half")); err == nil {
			panic(http.ErrAbortHandler)
		}
	}
	forward := func(c *IdempotencyConfig) { c.UnknownOutcome = OutcomeForward }
	storeErrors := func(c *IdempotencyConfig) { c.StoreServerErrors = true }
	for name, c := range map[string]struct {
		change   func(*IdempotencyConfig)
		upstream func(int64, http.ResponseWriter, *http.Request)
		first    int
		second   int
		code     problem.Code // of the second
		replayed bool
		executed int64
	}{
		"client error is stored":                      {nil, status(409), 409, 409, "", true, 1},
		"no content is stored":                        {nil, status(204), 204, 204, "", true, 1},
		"too many requests frees":                     {nil, status(429), 429, 429, "", false, 2},
		"unauthorized frees":                          {nil, status(401), 401, 401, "", false, 2},
		"server error frees":                          {nil, status(500), 500, 500, "", false, 2},
		"server error is stored if asked":             {storeErrors, status(503), 503, 503, "", true, 1},
		"cut before the answer, conflict":             {nil, cut, 502, 409, problem.IdempotencyOutcomeUnknown, false, 1},
		"cut before the answer, forward":              {forward, cut, 502, 502, problem.UpstreamInvalid, false, 2},
		"cut in the answer, conflict":                 {nil, cutBody, 502, 409, problem.IdempotencyOutcomeUnknown, false, 1},
		"cut in the answer, forward":                  {forward, cutBody, 502, 502, problem.UpstreamInvalid, false, 2},
		"cut is unknown even if server errors stored": {storeErrors, cut, 502, 409, problem.IdempotencyOutcomeUnknown, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			k := sqliteKeyed(t, c.change, c.upstream)
			if r := k.post("k", "a"); r.StatusCode != c.first {
				t.Errorf("first: %d %s, want %d", r.StatusCode, r.body, c.first)
			}
			second := k.post("k", "a")
			second.want(t, c.second, c.code, c.replayed)
			if second.Header.Get("Landline-Trace-Id") == "" {
				t.Error("no trace id")
			}
			k.wantExecuted(c.executed)
		})
	}
}

func TestUnreachableUpstreamFreesTheKey(t *testing.T) {
	k := sqliteKeyed(t, nil, created)
	for range 2 {
		k.send("POST", "/v1/nobody", "k", "a").want(t, 502, problem.UpstreamUnreachable, false)
	}
}

func TestAnswerTooLargeToKeep(t *testing.T) {
	for _, announced := range []bool{true, false} {
		large := strings.Repeat("x", 100_000)
		k := sqliteKeyed(t, func(c *IdempotencyConfig) { c.MaxBody = 50_000 }, func(_ int64, w http.ResponseWriter, _ *http.Request) {
			if announced {
				w.Header().Set("Content-Length", "100000")
			}
			io.WriteString(w, large) //nolint:errcheck // the test reads it
		})
		if r := k.post("k", "a"); r.body != large {
			t.Errorf("got %d bytes", len(r.body))
		}
		again := k.post("k", "a")
		again.want(t, 409, problem.IdempotencyOutcomeUnknown, false)
		if !strings.Contains(again.body, "status 200") {
			t.Errorf("the answer does not say that the write was executed: %s", again.body)
		}
		k.wantExecuted(1)
	}
}

func TestEventStreamIsPassedOnUnstored(t *testing.T) {
	seen := make(chan struct{})
	k := sqliteKeyed(t, nil, func(_ int64, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		<-seen
		fmt.Fprint(w, "data: 2\n\n")
	})
	res, err := k.client.Do(k.request("POST", "/v1/trips", strings.NewReader("a"), "Idempotency-Key", "k"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	first := make([]byte, len("data: 1\n\n"))
	if _, err := io.ReadFull(res.Body, first); err != nil {
		t.Fatal(err)
	}
	close(seen) // the first event came before the stream ended
	if rest, err := io.ReadAll(res.Body); err != nil || string(rest) != "data: 2\n\n" {
		t.Errorf("%q, %v", rest, err)
	}
	k.post("k", "a").want(t, 409, problem.IdempotencyOutcomeUnknown, false)
	k.wantExecuted(1)
}

func TestRequestTooLargeToCompare(t *testing.T) {
	k := sqliteKeyed(t, func(c *IdempotencyConfig) { c.MaxRequest = 10 }, created)
	k.post("k", "12345678901").want(t, 413, problem.BodyTooLarge, false)
	res, text := k.do(k.request("POST", "/v1/trips", io.MultiReader(strings.NewReader("123456"), strings.NewReader("78901")), "Idempotency-Key", "k")) // chunked
	asReply(t, res, text).want(t, 413, problem.BodyTooLarge, false)
	k.wantExecuted(0)
	res, text = k.do(k.request("POST", "/v1/trips", io.MultiReader(strings.NewReader("12345"), strings.NewReader("67890")), "Idempotency-Key", "k"))
	asReply(t, res, text).want(t, 201, "", false)
	k.post("k", "1234567890").want(t, 201, "", true)
}

func TestExecutionSurvivesItsClient(t *testing.T) {
	arrived, goOn := make(chan struct{}), make(chan struct{})
	k := sqliteKeyed(t, nil, func(n int64, w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-goOn
		created(n, w, r)
	})
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		res, err := k.client.Do(k.request("POST", "/v1/trips", strings.NewReader("a"), "Idempotency-Key", "k").WithContext(ctx))
		if err == nil {
			res.Body.Close()
		}
		left <- err
	}()
	<-arrived
	cancel()
	if err := <-left; err == nil {
		t.Fatal("the client did not leave")
	}
	k.post("k", "a").want(t, 409, problem.IdempotencyInFlight, false)
	close(goOn)
	var again reply
	until(t, "the answer is stored", func() bool { again = k.post("k", "a"); return again.StatusCode == 201 })
	again.want(t, 201, "", true)
	k.wantExecuted(1)
}

// A try whose lease runs out, as after a crash of its node: under conflict no
// other is executed; under forward one is, and the first cannot finish any more.
func TestLeaseRunsOut(t *testing.T) {
	for _, mode := range []string{OutcomeConflict, OutcomeForward} {
		t.Run(mode, func(t *testing.T) {
			arrived, goOn := make(chan struct{}), make(chan struct{})
			k := sqliteKeyed(t, func(c *IdempotencyConfig) { c.UnknownOutcome = mode }, func(n int64, w http.ResponseWriter, r *http.Request) {
				if n == 1 {
					close(arrived)
					<-goOn
				}
				created(n, w, r)
			})
			first := make(chan reply, 1)
			go func() { first <- k.post("k", "a") }()
			<-arrived
			k.clk.Advance(2 * time.Minute)
			second := k.post("k", "a")
			if mode == OutcomeConflict {
				second.want(t, 409, problem.IdempotencyOutcomeUnknown, false)
				close(goOn)
				(<-first).want(t, 201, "", false) // late, but nobody took over
				k.post("k", "a").want(t, 201, "", true)
				k.wantExecuted(1)
				return
			}
			second.want(t, 201, "", false)
			close(goOn)
			(<-first).want(t, 503, problem.StorageUnavailable, false)
			last := k.post("k", "a")
			last.want(t, 201, "", true)
			if last.body != `{"id":2}` {
				t.Errorf("the old holder's answer is stored: %s", last.body)
			}
			k.wantExecuted(2)
		})
	}
}

func (k *keyed) rename(from, to string) {
	err := k.db.Write(context.Background(), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, "ALTER TABLE "+from+" RENAME TO "+to)
		return err
	})
	if err != nil {
		k.t.Error(err)
	}
}

// A store that fails before the execution stops it; one that fails after it
// withholds the answer, and no repetition executes.
func TestStoreFails(t *testing.T) {
	var k *keyed
	k = sqliteKeyed(t, nil, func(n int64, w http.ResponseWriter, r *http.Request) {
		k.rename("idempotency", "away")
		created(n, w, r)
	})
	k.rename("idempotency", "away")
	k.post("k", "a").want(t, 503, problem.StorageUnavailable, false)
	k.wantExecuted(0)
	k.rename("away", "idempotency")
	lost := k.post("k", "a")
	lost.want(t, 503, problem.StorageUnavailable, false)
	if lost.Header.Get("Location") != "" {
		t.Error("the withheld answer shows in the header")
	}
	k.rename("away", "idempotency")
	k.post("k", "a").want(t, 409, problem.IdempotencyInFlight, false)
	k.clk.Advance(2 * time.Minute)
	k.post("k", "a").want(t, 409, problem.IdempotencyOutcomeUnknown, false)
	k.wantExecuted(1)
}

func TestModuleHandlersHonourKeys(t *testing.T) {
	var executed atomic.Int64
	m := &module.Module{Features: []module.Feature{{Name: "notes", Handlers: []module.Handler{
		{Match: "POST /v1/notes", Auth: module.AuthNone, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			switch executed.Add(1); string(body) {
			case "panic":
				panic("oops")
			case "problem":
				problem.Write(w, r, problem.New(problem.NotFound, "nothing there"))
			default:
				fmt.Fprintf(w, "%s %d", body, executed.Load())
			}
		})},
	}}}}
	db := testkit.SQLite(t, idem.Migrations)
	h := openWith(t, func(o *Options) { o.DB = db }, func(s *Settings) {
		s.Features["notes"] = &FeatureConfig{Idempotency: &IdempotencyConfig{}}
	}, m)
	k := &keyed{house: h, t: t}
	k.send("POST", "/v1/notes", "k", "hello").want(t, 200, "", false)
	if r := k.send("POST", "/v1/notes", "k", "hello"); r.body != "hello 1" {
		t.Errorf("got %s", r.body)
	} else {
		r.want(t, 200, "", true)
	}
	k.send("POST", "/v1/notes", "p", "problem").want(t, 404, problem.NotFound, false)
	k.send("POST", "/v1/notes", "p", "problem").want(t, 404, problem.NotFound, true)
	k.send("POST", "/v1/notes", "x", "panic").want(t, 500, problem.Internal, false)
	k.send("POST", "/v1/notes", "x", "panic").want(t, 409, problem.IdempotencyOutcomeUnknown, false)
	if executed.Load() != 3 {
		t.Errorf("executed %d times", executed.Load())
	}
}

// An execution is ended before its lease, of which a part may have passed before
// the execution began.
func TestExecutionEndsBeforeItsLease(t *testing.T) {
	k := sqliteKeyed(t, nil, nil)
	stage := &keeper{o: &k.options, store: idem.New(k.db, k.clk, k.options.Log), rt: &Route{Feature: "trips", Upstream: "up"}, lease: time.Hour, keep: time.Hour}
	body, err := k.options.Spool.Read(http.NoBody, 0, 0, 0, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	lease := idem.Lease{Until: k.clk.Now().Add(leaseMargin + 20*time.Millisecond)}
	err = stage.execute(func(_ *Exchange, _ http.ResponseWriter, r *http.Request) error {
		<-r.Context().Done()
		return causeOf(r.Context())
	}, &Exchange{}, httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/v1/trips", http.NoBody), body, lease)
	if !errors.Is(err, errTimeout) {
		t.Errorf("it was ended by %v", err)
	}
}

// Nodes of different versions share a table: what a key and a request are known
// by must not change, or a repetition during a rolling upgrade is executed.
func TestScopeAndFingerprintStay(t *testing.T) {
	k := &keeper{o: &Options{App: module.App{ID: "app"}}, rt: &Route{Match: "POST /v1/trips"}}
	r := httptest.NewRequest(http.MethodPost, "/v1/trips/a%20b?x=1", http.NoBody)
	r.Header.Set("Content-Type", "application/json")
	for who, x := range map[string]*Exchange{
		"user usr_1":        {Principal: &module.Principal{UserID: "usr_1"}, ClientIP: "192.0.2.1"},
		"address 192.0.2.1": {ClientIP: "192.0.2.1"},
	} {
		if got, want := k.scope(x, r), "app\n"+who+"\nPOST\nPOST /v1/trips"; got != want {
			t.Errorf("scope %q, want %q", got, want)
		}
	}
	print := fingerprint(r, []byte("{}"))
	if got := hex.EncodeToString(print[:]); got != "80139507e7e2c2dcc0d0c398d9ae5b7a100e3e43ed57c4d9cfb0bea3fb7561a1" {
		t.Errorf("fingerprint %s", got)
	}
}
