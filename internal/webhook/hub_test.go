package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"landline/internal/config"
	"landline/internal/id"
	"landline/internal/observe"
	"landline/internal/sqldb"
	"landline/internal/testkit"
)

type open = func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB

func merged(user string) Event {
	return Event{Type: "user.merged", Subject: user, Data: map[string]string{"from": "usr_old", "into": user}}
}

func TestStatementsAreReadByBothEngines(t *testing.T) {
	engines(t, func(t *testing.T, open open) {
		if err := sqldb.PrepareAll(t.Context(), open(t, Migrations), Queries); err != nil {
			t.Error(err)
		}
	})
}

func TestAnEventIsDeliveredWhenItsTransactionCommits(t *testing.T) {
	engines(t, func(t *testing.T, open open) {
		billing, crm := newReceiver(t, "billing"), newReceiver(t, "crm")
		w := newWorld(t, open, settings(billing, crm).with("crm", func(e *Endpoint) { e.Events = []string{"trip.*"} })).on(billing, crm)
		undone := errors.New("undone")
		err := w.write(func(ctx context.Context, tx *sqldb.Tx) error {
			if _, err := w.hub.Emit(ctx, tx, merged("usr_1")); err != nil {
				return err
			}
			return undone
		})
		if !errors.Is(err, undone) {
			t.Fatal(err)
		}
		w.work("billing")
		if n := len(billing.take(t)); n != 0 || w.jobs("webhook.deliver") != 0 {
			t.Fatalf("%d messages of a transaction that was undone", n)
		}
		trace := observe.NewTraceID()
		var eventID string
		err = w.db.Write(observe.WithTrace(t.Context(), trace, observe.NewSpanID()), func(ctx context.Context, tx *sqldb.Tx) (err error) {
			eventID, err = w.hub.Emit(ctx, tx, merged("usr_1"))
			return err
		})
		if err != nil || id.Check(id.Event, eventID) != nil {
			t.Fatal(eventID, err)
		}
		if n := w.jobs("webhook.deliver"); n != 1 {
			t.Errorf("%d jobs, want one for the one endpoint that subscribes", n)
		}
		w.work("billing")
		w.work("crm")
		msgs := billing.take(t)
		if len(msgs) != 1 || len(crm.take(t)) != 0 {
			t.Fatalf("%d messages", len(msgs))
		}
		m := msgs[0]
		if m.id != eventID || m.Type != "user.merged" || !m.Time.Equal(start) || m.Subject != "usr_1" || m.Sequence < start.UnixMilli() ||
			string(m.Data) != `{"from":"usr_old","into":"usr_1"}` || !strings.HasPrefix(m.body, `{"type":"user.merged","timestamp":"2026-03-01T12:00:00.000Z","data":{`) {
			t.Errorf("the message is %s", m.body)
		}
		if got, _, _, ok := observe.ParseTraceparent(m.header.Get("Traceparent")); !ok || got != trace {
			t.Errorf("the trace is lost: %v", m.header)
		}
		if d, attempts := w.delivery(eventID, "billing"); d.State != Delivered || d.Attempts != 1 || d.Status != 204 || d.FinishedAt.IsZero() ||
			len(attempts) != 1 || attempts[0].Status != 204 || attempts[0].Error != "" || !attempts[0].At.Equal(start.Add(0)) {
			t.Errorf("%+v %+v", d, attempts)
		}
		w.work("billing")
		w.sweep()
		if n := len(billing.take(t)); n != 0 {
			t.Errorf("%d more messages", n)
		}
	})
}

func TestWithoutEndpointsNothingIsStored(t *testing.T) {
	w := newWorld(t, testkit.SQLite, DefaultSettings())
	if got := w.emit(merged("usr_1")); got != "" {
		t.Errorf("an event %s is kept for nobody", got)
	}
	if err := w.hub.Health(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestEmitRefusesFaultsOfTheProgram(t *testing.T) {
	w := newWorld(t, testkit.SQLite, DefaultSettings()) // told even where nobody listens
	for name, e := range map[string]Event{
		"no type":               {},
		"one word":              {Type: "user"},
		"upper case":            {Type: "User.Merged"},
		"one of its own":        {Type: PingType},
		"data that is a list":   {Type: "user.merged", Data: []int{1}},
		"data that is a text":   {Type: "user.merged", Data: "x"},
		"null":                  {Type: "user.merged", Data: (*struct{})(nil)},
		"data that is no JSON":  {Type: "user.merged", Data: make(chan int)},
		"too much data":         {Type: "user.merged", Data: map[string]string{"x": strings.Repeat("x", MaxData)}},
		"a long subject":        {Type: "user.merged", Subject: strings.Repeat("x", maxSubject+1)},
		"final without subject": {Type: "user.deleted", Final: true},
	} {
		err := w.write(func(ctx context.Context, tx *sqldb.Tx) error { _, err := w.hub.Emit(ctx, tx, e); return err })
		if err == nil {
			t.Errorf("%s passes", name)
		}
	}
}

func TestEverySecretSigns(t *testing.T) {
	billing := newReceiver(t, "billing")
	old, next := goodSecret, "whsec_"+strings.Repeat("bmV4", 10)
	s := settings(billing).with("billing", func(e *Endpoint) { e.Secrets = []config.Secret{config.Secret(next), config.Secret(old)} })
	w := newWorld(t, testkit.SQLite, s).on(billing)
	for _, secret := range []string{old, next} {
		billing.secret = secret
		w.emit(merged("usr_1"))
		w.work("billing")
		if n := len(billing.take(t)); n != 1 {
			t.Errorf("%d messages", n)
		}
	}
	// The old one is taken out while Landline runs.
	if err := w.hub.Apply(settings(billing).with("billing", func(e *Endpoint) { e.Secrets = []config.Secret{config.Secret(next)} })); err != nil {
		t.Fatal(err)
	}
	w.emit(merged("usr_1"))
	w.work("billing")
	if msgs := billing.take(t); len(msgs) != 1 || len(strings.Fields(msgs[0].header.Get(HeaderSignature))) != 1 {
		t.Errorf("%+v", msgs)
	}
}

// Many users' events at once, an endpoint that fails every now and then: of
// each user they arrive in order.
func TestEventsOfOneSubjectKeepTheirOrder(t *testing.T) {
	engines(t, func(t *testing.T, open open) {
		const users, each = 7, 6
		billing := newReceiver(t, "billing")
		w := newWorld(t, open, settings(billing)).on(billing)
		w.hub.delays = []time.Duration{time.Millisecond, time.Millisecond, time.Millisecond, time.Millisecond, time.Millisecond, time.Millisecond, time.Millisecond, time.Millisecond}
		var mu sync.Mutex
		accepted := map[string][]string{}
		billing.answers(func(n int, rw http.ResponseWriter, r *http.Request) {
			if n%3 == 1 {
				rw.WriteHeader(http.StatusConflict) // a refusal that says nothing of the endpoint
				return
			}
			mu.Lock()
			defer mu.Unlock()
			m := billing.at(n)
			accepted[m.Subject] = append(accepted[m.Subject], m.id)
		})
		want := map[string][]string{}
		var wg sync.WaitGroup
		for u := range users {
			user := fmt.Sprintf("usr_%d", u)
			wg.Go(func() { // emitted on several connections at once
				for range each {
					var eventID string
					err := w.db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) (err error) {
						eventID, err = w.hub.Emit(ctx, tx, merged(user))
						return err
					})
					if err != nil {
						t.Error(err)
					}
					mu.Lock()
					want[user] = append(want[user], eventID)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for range users * each * 3 {
			w.work("billing")
			w.clock.Advance(time.Second)
		}
		mu.Lock()
		defer mu.Unlock()
		for user, ids := range want {
			if !slices.Equal(accepted[user], ids) {
				t.Errorf("%s: got %v, want %v", user, accepted[user], ids)
			}
		}
		last := map[string]int64{}
		for _, m := range billing.take(t) {
			if m.Sequence < last[m.Subject] {
				t.Errorf("%s: sequence %d after %d", m.Subject, m.Sequence, last[m.Subject])
			}
			last[m.Subject] = m.Sequence
		}
	})
}

// at is the n-th message.
func (r *receiver) at(n int) got {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.msgs[n]
}

func TestAnEventWaitsForTheOneBeforeItUntilThatIsGivenUp(t *testing.T) {
	engines(t, func(t *testing.T, open open) {
		billing := newReceiver(t, "billing")
		w := newWorld(t, open, settings(billing)).on(billing)
		first, second, other := w.emit(merged("usr_1")), w.emit(merged("usr_1")), w.emit(merged("usr_2"))
		billing.answers(func(n int, rw http.ResponseWriter, _ *http.Request) {
			if billing.at(n).id == first {
				rw.WriteHeader(http.StatusUnprocessableEntity)
			}
		})
		w.work("billing")
		if ids := billing.ids(t); !slices.Contains(ids, first) || !slices.Contains(ids, other) || len(ids) != 2 {
			t.Fatalf("got %v: others must not wait, its own must", ids)
		}
		for range delays {
			w.clock.Advance(30 * time.Hour)
			billing.take(t)
			w.work("billing")
		}
		ids := billing.ids(t)
		if d, _ := w.delivery(first, "billing"); d.State != Dead || d.Attempts != int64(len(delays)+1) {
			t.Errorf("the first is %+v", d)
		}
		if !slices.Equal(ids, []string{first, second}) {
			t.Errorf("got %v, want the last try of %s and then %s", ids, first, second)
		}
	})
}

func TestOrderNoneDoesNotWait(t *testing.T) {
	billing := newReceiver(t, "billing")
	w := newWorld(t, testkit.SQLite, settings(billing).with("billing", func(e *Endpoint) { e.Order = OrderNone })).on(billing)
	first, second := w.emit(merged("usr_1")), w.emit(merged("usr_1"))
	billing.answers(func(n int, rw http.ResponseWriter, _ *http.Request) {
		if billing.at(n).id == first {
			rw.WriteHeader(http.StatusUnprocessableEntity)
		}
	})
	w.work("billing")
	if ids := billing.ids(t); len(ids) != 2 || !slices.Contains(ids, second) {
		t.Errorf("got %v", ids)
	}
}

func TestTheNumberOfMessagesUnderWayIsBounded(t *testing.T) {
	billing := newReceiver(t, "billing")
	w := newWorld(t, testkit.SQLite, settings(billing).with("billing", func(e *Endpoint) { e.Concurrency = 3 })).on(billing)
	arrived, leave := make(chan struct{}, 100), make(chan struct{})
	var mu sync.Mutex
	under, most := 0, 0
	billing.answers(func(int, http.ResponseWriter, *http.Request) {
		mu.Lock()
		under++
		most = max(most, under)
		mu.Unlock()
		arrived <- struct{}{}
		<-leave
		mu.Lock()
		under--
		mu.Unlock()
	})
	for u := range 12 {
		w.emit(merged(fmt.Sprintf("usr_%d", u)))
	}
	done := make(chan error, 1)
	go func() { done <- w.hub.work(t.Context(), "billing") }()
	for range 3 {
		<-arrived
	}
	// A job that comes meanwhile leaves at once.
	w.work("billing")
	w.emit(merged("usr_late"))
	w.work("billing")
	close(leave)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := len(billing.take(t)); most != 3 || n != 13 {
		t.Errorf("%d at once, want 3; %d messages, want 13", most, n)
	}
}

func TestMetrics(t *testing.T) {
	billing, crm := newReceiver(t, "billing"), newReceiver(t, "crm")
	w := newWorld(t, testkit.SQLite, settings(billing, crm)).on(billing, crm)
	crm.answers(status(http.StatusTooManyRequests, "Retry-After", "60"))
	w.emit(merged("usr_1"))
	w.work("billing")
	w.work("crm")
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range map[string]float64{
		"landline_webhook_events_total user.merged": 1, "landline_webhook_attempts_total billing 2xx": 1, "landline_webhook_attempts_total crm 4xx": 1,
		"landline_webhook_attempt_duration_seconds crm": 1, "landline_webhook_delivery_seconds billing": 1, "landline_webhook_deliveries crm pending": 1,
		"landline_webhook_gate_state billing": 0, "landline_webhook_gate_state crm": 1, "landline_egress_requests_total webhook 2xx": 1,
	} {
		if value, ok := got[name]; !ok || value != want {
			t.Errorf("%s is %v (%v), want %v", name, value, ok, want)
		}
	}
}
