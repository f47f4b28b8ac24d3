package webhook

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"landline/internal/clock"
	"landline/internal/sqldb"
	"landline/internal/testkit"
)

// hijack takes the connection and does with it what do says.
func hijack(t *testing.T, do func(net.Conn)) func(int, http.ResponseWriter, *http.Request) {
	return func(_ int, w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		do(conn)
		conn.Close()
	}
}

func says(t *testing.T, text string) func(int, http.ResponseWriter, *http.Request) {
	return hijack(t, func(c net.Conn) {
		if _, err := io.WriteString(c, text); err != nil {
			t.Log(err)
		}
	})
}

// What receivers can do wrong, and what is made of it.
func TestFaultsOfReceivers(t *testing.T) {
	elsewhere, visits := httptest.NewServer(nil), new(atomic.Int64)
	elsewhere.Config.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { visits.Add(1) })
	defer elsewhere.Close()
	flood := strings.Repeat("x", 1<<20)
	tests := map[string]struct {
		answer    func(int, http.ResponseWriter, *http.Request)
		delivered bool
		status    int
		error     string
	}{
		"200 with a body":         {func(_ int, w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "thank you") }, true, 200, ""},
		"202":                     {status(202), true, 202, ""},
		"500":                     {status(500), false, 500, "it answered 500"},
		"404":                     {status(404), false, 404, "it answered 404"},
		"a redirect inside":       {status(307, "Location", elsewhere.URL), false, 307, "redirects are not followed"},
		"a redirect to metadata":  {status(302, "Location", "http://169.254.169.254/latest/meta-data/"), false, 302, "redirects are not followed"},
		"the connection cut":      {hijack(t, func(net.Conn) {}), false, 0, "EOF"},
		"cut within the header":   {says(t, "HTTP/1.1 200 O"), false, 0, "EOF"},
		"no HTTP":                 {says(t, "SSH-2.0-OpenSSH_9.2\r\n"), false, 0, "malformed"},
		"200 and then cut":        {says(t, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort"), true, 200, ""},
		"a lie about the length":  {says(t, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nx"), true, 200, ""},
		"an endless body":         {func(_ int, w http.ResponseWriter, _ *http.Request) { io.WriteString(w, flood) }, true, 200, ""},
		"an endless refusal":      {func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(400); io.WriteString(w, flood) }, false, 400, "it answered 400"},
		"an endless header":       {says(t, "HTTP/1.1 200 OK\r\nX: "+flood+"\r\n\r\n"), false, 0, "exceeded"},
		"a switch of protocols":   {says(t, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), false, 101, "it answered 101"},
		"a status out of range":   {says(t, "HTTP/1.1 999 What\r\n\r\n"), false, 999, "it answered 999"},
		"an answer in two halves": {says(t, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"), true, 204, ""},
	}
	billing := newReceiver(t, "billing")
	w := newWorld(t, testkit.SQLite, settings(billing)).on(billing)
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			billing.answers(c.answer)
			eventID := w.emit(merged("usr_" + strings.ReplaceAll(name, " ", "_")))
			w.hub.endpoints()["billing"].gate.reset()
			w.work("billing")
			billing.take(t)
			d, attempts := w.delivery(eventID, "billing")
			if len(attempts) != 1 || (d.State == Delivered) != c.delivered || d.Status != c.status || !strings.Contains(d.Error, c.error) || (d.Error == "") != c.delivered {
				t.Fatalf("%+v %+v", d, attempts)
			}
			if a := attempts[0]; len(a.Excerpt) > maxExcerpt || len(a.Error) > maxError || strings.Contains(a.Error, "/hook") {
				t.Errorf("the attempt keeps %d bytes, and says %s", len(a.Excerpt), a.Error)
			}
		})
	}
	if visits.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

// reset opens the gate, so that one test's failures do not hold back the next.
func (g *gate) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failures, g.closed, g.until, g.probing = 0, 0, time.Time{}, false
}

func TestASlowReceiverIsNotWaitedFor(t *testing.T) {
	billing := newReceiver(t, "billing")
	w := newWorld(t, testkit.SQLite, settings(billing)).on(billing)
	w.hub.endpoints()["billing"].client.Timeout = 50 * time.Millisecond // shorter than the configuration allows
	released := make(chan struct{})
	defer close(released)
	billing.answers(func(int, http.ResponseWriter, *http.Request) { <-released })
	eventID := w.emit(merged("usr_1"))
	w.work("billing")
	d, _ := w.delivery(eventID, "billing")
	if d.State != Pending || d.Status != 0 || d.Error != "no answer in time" || !d.DueAt.After(w.clock.Now()) {
		t.Errorf("%+v", d)
	}
}

func TestRefusalsAreKeptShortAndWithoutSecrets(t *testing.T) {
	billing := newReceiver(t, "billing")
	w := newWorld(t, testkit.SQLite, settings(billing)).on(billing)
	billing.answers(func(_ int, rw http.ResponseWriter, _ *http.Request) {
		rw.WriteHeader(http.StatusBadRequest)
		rw.Write([]byte("no:\x00\x1b[31m\n\tAuthorization: Bearer abcdefghijklmnopqrstuvwxyz \xff " + strings.Repeat("…", 200)))
	})
	eventID := w.emit(merged("usr_1"))
	w.work("billing")
	_, attempts := w.delivery(eventID, "billing")
	if x := attempts[0].Excerpt; !strings.HasPrefix(x, "no:[31m") || strings.Contains(x, "abcdefghij") || len(x) > maxExcerpt || strings.ContainsAny(x, "\x00\x1b\n") {
		t.Errorf("kept is %q", x)
	}
}

func TestPrivateAddressesAreNotCalledUnlessAllowed(t *testing.T) {
	billing := newReceiver(t, "billing")
	for name, change := range map[string]func(*Endpoint){
		"nothing allowed":        func(e *Endpoint) { e.AllowPrivate = nil },
		"another network":        func(e *Endpoint) { e.AllowPrivate = Networks{"10.0.0.0/8"} },
		"a name that leads here": func(e *Endpoint) { e.URL = strings.Replace(e.URL, "127.0.0.1", "localhost", 1); e.AllowPrivate = nil },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testkit.SQLite, settings(billing).with("billing", change)).on(billing)
			eventID := w.emit(merged("usr_1"))
			w.work("billing")
			if d, _ := w.delivery(eventID, "billing"); d.State != Pending || d.Status != 0 || !strings.Contains(d.Error, "may not be called") {
				t.Errorf("%+v", d)
			}
			if n := len(billing.take(t)); n != 0 {
				t.Errorf("%d messages", n)
			}
		})
	}
}

func TestRetries(t *testing.T) {
	engines(t, func(t *testing.T, open open) {
		billing := newReceiver(t, "billing")
		w := newWorld(t, open, settings(billing)).on(billing)
		billing.answers(status(http.StatusBadRequest))
		eventID := w.emit(merged("usr_1"))
		for n, pause := range delays {
			w.work("billing")
			w.work("billing") // too early for the next one
			d, attempts := w.delivery(eventID, "billing")
			wait := d.DueAt.Sub(w.clock.Now())
			if d.State != Pending || d.Attempts != int64(n+1) || len(attempts) != n+1 || wait < pause*8/10-time.Millisecond || wait > pause*12/10 {
				t.Fatalf("after attempt %d: %+v, due in %v, want about %v", n+1, d, wait, pause)
			}
			w.clock.Advance(wait)
		}
		w.work("billing")
		if d, _ := w.delivery(eventID, "billing"); d.State != Dead || d.Attempts != int64(len(delays)+1) || d.FinishedAt.IsZero() {
			t.Errorf("%+v", d)
		}
		ids := billing.ids(t)
		if len(ids) != len(delays)+1 {
			t.Errorf("%d messages", len(ids))
		}
		for _, got := range ids {
			if got != eventID {
				t.Errorf("an attempt came as %s, want %s", got, eventID)
			}
		}
		// Each failed attempt brought its job, at its time.
		if n := w.jobs("webhook.deliver"); n != 1+len(delays) {
			t.Errorf("%d jobs", n)
		}
	})
}

func TestRetryAfterPutsTheWholeEndpointOff(t *testing.T) {
	billing := newReceiver(t, "billing")
	w := newWorld(t, testkit.SQLite, settings(billing)).on(billing)
	billing.answers(status(http.StatusTooManyRequests, "Retry-After", "600"))
	first := w.emit(merged("usr_1"))
	w.work("billing")
	second := w.emit(merged("usr_2"))
	w.work("billing")
	if ids := billing.ids(t); len(ids) != 1 || ids[0] != first {
		t.Fatalf("got %v", ids)
	}
	if d, _ := w.delivery(first, "billing"); d.DueAt.Before(start.Add(10 * time.Minute)) {
		t.Errorf("due at %v", d.DueAt)
	}
	if s, err := w.hub.Endpoints(t.Context()); err != nil || !s[0].Held || s[0].Pending != 2 {
		t.Errorf("%+v %v", s, err)
	}
	billing.answers(nil)
	w.clock.Advance(10*time.Minute + time.Second)
	w.work("billing")
	if d, _ := w.delivery(second, "billing"); d.State != Delivered {
		t.Errorf("%+v", d)
	}
}

// An endpoint that is down costs a handful of attempts, not one for each event.
func TestADeadEndpointIsLeftAlone(t *testing.T) {
	engines(t, func(t *testing.T, open open) {
		const events = 60
		billing, crm := newReceiver(t, "billing"), newReceiver(t, "crm")
		w := newWorld(t, open, settings(billing, crm).with("billing", func(e *Endpoint) { e.Concurrency = 1 })).on(billing, crm)
		billing.answers(status(http.StatusServiceUnavailable))
		for u := range events {
			w.emit(merged(fmt.Sprintf("usr_%d", u)))
			w.work("billing")
			w.work("crm")
		}
		if b, c := len(billing.take(t)), len(crm.take(t)); b != closeAfter || c != events {
			t.Errorf("%d attempts at the dead one, want %d; %d of %d reached the other", b, closeAfter, c, events)
		}
		for range 4 {
			w.clock.Advance(maxClosed)
			w.work("billing")
		}
		if n := len(billing.take(t)); n != 4 {
			t.Errorf("%d attempts in four closures, want one after each", n)
		}
		// It comes back: everything is delivered, each once.
		billing.answers(nil)
		w.clock.Advance(maxClosed)
		w.work("billing")
		w.clock.Advance(time.Hour)
		w.work("billing")
		if ids := billing.ids(t); len(ids) != events || len(w.deliveries(DeliveryFilter{Endpoint: "billing", State: Delivered, Limit: 200})) != events {
			t.Errorf("%d messages, %d events", len(ids), events)
		}
	})
}

func TestGoneDisablesTheEndpoint(t *testing.T) {
	engines(t, func(t *testing.T, open open) {
		billing := newReceiver(t, "billing")
		w := newWorld(t, open, settings(billing)).on(billing)
		var logs bytes.Buffer
		w.hub.log = slog.New(slog.NewTextHandler(&logs, nil))
		billing.answers(status(http.StatusGone))
		first := w.emit(merged("usr_1"))
		w.work("billing")
		second := w.emit(merged("usr_2"))
		w.work("billing")
		w.sweep()
		if ids := billing.ids(t); len(ids) != 1 {
			t.Fatalf("got %v", ids)
		}
		if !strings.Contains(logs.String(), "answered 410") || !strings.Contains(logs.String(), "level=ERROR") || w.audited("webhook.disable") != 1 {
			t.Errorf("nobody is told: %s", logs.String())
		}
		if err := w.hub.Health(t.Context()); err == nil || !strings.Contains(err.Error(), "billing is disabled: it answered 410") {
			t.Errorf("the health says %v", err)
		}
		s, err := w.hub.Endpoints(t.Context())
		if err != nil || s[0].DisabledAt.IsZero() || s[0].Pending != 2 {
			t.Errorf("%+v %v", s, err)
		}
		billing.answers(nil)
		if err := w.hub.Enable(t.Context(), "billing", "the service is back"); err != nil {
			t.Fatal(err)
		}
		w.work("billing")
		for _, eventID := range []string{first, second} {
			if d, _ := w.delivery(eventID, "billing"); d.State != Delivered {
				t.Errorf("%+v", d)
			}
		}
		if err := w.hub.Health(t.Context()); err != nil {
			t.Error(err)
		}
		if err := w.hub.Enable(t.Context(), "billing", ""); err == nil {
			t.Error("an endpoint that works was enabled")
		}
	})
}

// What waits for an endpoint that stays away is given up after some days.
func TestWhatWaitsTooLongIsGivenUp(t *testing.T) {
	engines(t, func(t *testing.T, open open) {
		billing := newReceiver(t, "billing")
		w := newWorld(t, open, settings(billing)).on(billing)
		if err := w.hub.Disable(t.Context(), "billing", "moving"); err != nil {
			t.Fatal(err)
		}
		eventID := w.emit(merged("usr_1"))
		w.clock.Advance(giveUp - time.Minute)
		w.sweep()
		if d, _ := w.delivery(eventID, "billing"); d.State != Pending {
			t.Fatalf("%+v", d)
		}
		w.clock.Advance(2 * time.Minute)
		w.sweep()
		if d, _ := w.delivery(eventID, "billing"); d.State != Dead || d.Error == "" || d.Attempts != 0 {
			t.Errorf("%+v", d)
		}
	})
}

// Whatever the receiver says at the end of a job that is stopped, the attempt
// is not counted and comes again.
func TestAnAttemptThatIsCutOffByAStopIsNotCounted(t *testing.T) {
	engines(t, func(t *testing.T, open open) {
		billing := newReceiver(t, "billing")
		w := newWorld(t, open, settings(billing)).on(billing)
		arrived, leave := make(chan struct{}), make(chan struct{})
		billing.answers(func(int, http.ResponseWriter, *http.Request) { close(arrived); <-leave })
		eventID := w.emit(merged("usr_1"))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.hub.work(ctx, "billing") }()
		<-arrived
		stop()
		if err := <-done; err == nil {
			t.Error("a job that was stopped says that it is done")
		}
		close(leave)
		if d, attempts := w.delivery(eventID, "billing"); d.State != Pending || d.Attempts != 0 || len(attempts) != 0 {
			t.Errorf("%+v %+v", d, attempts)
		}
		billing.answers(nil)
		w.work("billing")
		if ids := billing.ids(t); len(ids) != 2 || ids[0] != ids[1] {
			t.Errorf("got %v", ids)
		}
	})
}

// A process that dies between the commit and the delivery, or between the
// answer and its record, delivers after all; in the second case twice, under
// one id.
func TestNothingIsLostInACrash(t *testing.T) {
	engines(t, func(t *testing.T, open open) {
		billing := newReceiver(t, "billing")
		w := newWorld(t, open, settings(billing)).on(billing)
		committed := w.emit(merged("usr_1"))

		answered := w.emit(merged("usr_2"))
		e := w.hub.endpoints()["billing"]
		var m *message
		for m == nil || m.eventID != answered { // claims both: the dead node held them
			var err error
			if m, _, err = w.hub.claim(t.Context(), e); err != nil || m == nil {
				t.Fatal(m, err)
			}
		}
		if res := e.send(t.Context(), *m, w.clock.Now()); !res.delivered() {
			t.Fatal(res.err)
		}
		if ids := billing.ids(t); len(ids) != 1 || ids[0] != answered {
			t.Fatal(ids)
		}

		// Here it ended. Another process takes the database over.
		next := openWorld(t, w.db, w.clock, settings(billing))
		if err := next.hub.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w.db.Engine() == sqldb.Postgres { // other nodes may live: the lease must end first
			next.work("billing")
			if ids := billing.ids(t); len(ids) != 0 {
				t.Fatalf("%v are sent by two nodes", ids)
			}
			w.clock.Advance(defaultTimeout + leaseGrace + time.Second)
			next.sweep()
		}
		next.work("billing")
		ids := billing.ids(t)
		if len(ids) != 2 || !(ids[0] == committed && ids[1] == answered || ids[0] == answered && ids[1] == committed) {
			t.Errorf("got %v, want %s and once more %s", ids, committed, answered)
		}
		// The record of the dead node, should it come after all, changes nothing.
		if err := w.hub.record(t.Context(), e, m, result{err: "late", at: w.clock.Now()}, time.Time{}); err != nil {
			t.Fatal(err)
		}
		if d, attempts := next.delivery(answered, "billing"); d.State != Delivered || len(attempts) != 1 {
			t.Errorf("%+v %+v", d, attempts)
		}
	})
}

func TestTheSweepBringsBackLostJobs(t *testing.T) {
	engines(t, func(t *testing.T, open open) {
		billing := newReceiver(t, "billing")
		w := newWorld(t, open, settings(billing)).on(billing)
		w.emit(merged("usr_1"))
		before := w.jobs("webhook.deliver")
		w.sweep()
		if n := w.jobs("webhook.deliver"); n != before+1 {
			t.Errorf("%d jobs after the sweep, before %d", n, before)
		}
		w.work("billing")
		w.sweep()
		if n := w.jobs("webhook.deliver"); n != before+1 {
			t.Error("the sweep brings jobs for nothing")
		}
	})
}

// The whole way, with the queue at work and its own clock.
func TestThroughTheQueue(t *testing.T) {
	engines(t, func(t *testing.T, open open) {
		billing := newReceiver(t, "billing")
		w := newWorld(t, open, settings(billing)).on(billing)
		w.hub.delays = []time.Duration{10 * time.Millisecond}
		w.hub.clock, billing.now = clock.System, clock.System.Now // the queue's time
		arrived := make(chan int, 10)
		billing.answers(func(n int, rw http.ResponseWriter, _ *http.Request) {
			if n == 0 {
				rw.WriteHeader(http.StatusInternalServerError)
			}
			arrived <- n
		})
		if err := w.queue.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventID := w.emit(merged("usr_1"))
		for want := range 2 {
			select {
			case n := <-arrived:
				if n != want {
					t.Errorf("message %d, want %d", n, want)
				}
			case <-time.After(time.Minute):
				t.Fatalf("message %d does not come", want)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := w.queue.Stop(ctx); err != nil {
			t.Fatal(err)
		}
		if d, _ := w.delivery(eventID, "billing"); d.State != Delivered || d.Attempts != 2 {
			t.Errorf("%+v", d)
		}
		if ids := billing.ids(t); len(ids) != 2 || ids[0] != ids[1] {
			t.Errorf("got %v", ids)
		}
	})
}
