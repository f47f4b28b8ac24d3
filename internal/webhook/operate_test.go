package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"landline/internal/problem"
	"landline/internal/sqldb"
	"landline/internal/testkit"
)

// replayJobs works the jobs of ReplayAll.
func (w *world) replayJobs(a replayArgs) {
	w.t.Helper()
	if err := w.hub.replayBatch(w.t.Context(), a); err != nil {
		w.t.Fatal(err)
	}
}

func TestReplayOfOneEvent(t *testing.T) {
	engines(t, func(t *testing.T, open open) {
		billing, crm := newReceiver(t, "billing"), newReceiver(t, "crm")
		w := newWorld(t, open, settings(billing, crm)).on(billing, crm)
		eventID := w.emit(merged("usr_1"))
		w.work("billing")
		w.work("crm")
		body := billing.take(t)[0].body
		crm.take(t)
		if n, err := w.hub.Replay(t.Context(), eventID, "billing", "it lost its database"); err != nil || n != 1 {
			t.Fatal(n, err)
		}
		w.clock.Advance(time.Hour) // signed anew, or it would be too old
		w.work("billing")
		w.work("crm")
		msgs := billing.take(t)
		if len(msgs) != 1 || msgs[0].id != eventID || msgs[0].body != body || len(crm.take(t)) != 0 {
			t.Errorf("%+v", msgs)
		}
		d, attempts := w.delivery(eventID, "billing")
		if d.State != Delivered || d.Replays != 1 || d.Attempts != 2 || len(attempts) != 2 || attempts[0].Number != 2 {
			t.Errorf("%+v %+v", d, attempts)
		}
		if n, err := w.hub.Replay(t.Context(), eventID, "", ""); err != nil || n != 2 {
			t.Errorf("to all: %d, %v", n, err)
		}
		if w.audited("webhook.replay") != 2 {
			t.Error("a replay is not audited")
		}
		for _, wrong := range [][2]string{{eventID, "nobody"}, {"evt_unknown", "billing"}} {
			if _, err := w.hub.Replay(t.Context(), wrong[0], wrong[1], ""); !problem.HasCode(err, problem.NotFound) {
				t.Errorf("%v: %v", wrong, err)
			}
		}
	})
}

func TestReplayOfAllThatWereGivenUp(t *testing.T) {
	engines(t, func(t *testing.T, open open) {
		const events = 30 // more than one batch
		billing := newReceiver(t, "billing")
		w := newWorld(t, open, settings(billing)).on(billing)
		w.hub.batch = 20
		var want []string
		err := w.write(func(ctx context.Context, tx *sqldb.Tx) error {
			want = nil
			for n := range events {
				eventID, err := w.hub.Emit(ctx, tx, merged(fmt.Sprintf("usr_%d", n%3)))
				if err != nil {
					return err
				}
				want = append(want, eventID)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.hub.Disable(t.Context(), "billing", ""); err != nil {
			t.Fatal(err)
		}
		w.clock.Advance(giveUp + time.Minute)
		w.sweep()
		if s, err := w.hub.Endpoints(t.Context()); err != nil || s[0].Dead != events {
			t.Fatalf("%+v %v", s, err)
		}
		if err := w.hub.Enable(t.Context(), "billing", ""); err != nil {
			t.Fatal(err)
		}
		if _, err := w.hub.ReplayAll(t.Context(), "billing", Selection{Failed: true}, "back"); err != nil {
			t.Fatal(err)
		}
		a := replayArgs{Endpoint: "billing", Failed: true, Until: sqldb.Millis(w.clock.Now())}
		w.replayJobs(a)
		if n := w.jobs("webhook.replay"); n != 2 {
			t.Errorf("%d jobs, want the first and the one that follows", n)
		}
		w.replayJobs(a) // what follows selects what is still dead
		w.work("billing")
		ids := billing.ids(t)
		if len(ids) != events {
			t.Fatalf("%d messages, want %d", len(ids), events)
		}
		for user := range 3 { // each user's in the order of its events
			last := -1
			for _, eventID := range ids {
				if at := slices.Index(want, eventID); at%3 == user {
					if at < last {
						t.Fatalf("event %d came after %d", at, last)
					}
					last = at
				}
			}
		}
	})
}

// An endpoint that is configured later can have what happened before.
func TestReplaySinceATime(t *testing.T) {
	engines(t, func(t *testing.T, open open) {
		billing, crm := newReceiver(t, "billing"), newReceiver(t, "crm")
		w := newWorld(t, open, settings(billing)).on(billing, crm)
		w.emit(merged("usr_1")) // too early
		w.clock.Advance(time.Hour)
		since := w.clock.Now()
		second := w.emit(merged("usr_1"))
		w.emit(Event{Type: "trip.booked"}) // not subscribed
		third := w.emit(merged("usr_1"))
		if err := w.hub.Apply(settings(billing, crm).with("crm", func(e *Endpoint) { e.Events = []string{"user.*"} })); err != nil {
			t.Fatal(err)
		}
		job, err := w.hub.ReplayAll(t.Context(), "crm", Selection{Since: since}, "new")
		if err != nil {
			t.Fatal(err)
		}
		row, err := w.queue.Get(t.Context(), job)
		var a replayArgs
		if err := errors.Join(err, json.Unmarshal(row.Args, &a)); err != nil {
			t.Fatal(err)
		}
		w.replayJobs(a)
		w.work("crm")
		if ids := crm.ids(t); !slices.Equal(ids, []string{second, third}) {
			t.Errorf("got %v, want %v", ids, []string{second, third})
		}
		for _, wrong := range []Selection{{}, {Since: w.clock.Now().Add(time.Hour)}} {
			if _, err := w.hub.ReplayAll(t.Context(), "crm", wrong, ""); !problem.HasCode(err, problem.InvalidRequest) {
				t.Errorf("%+v: %v", wrong, err)
			}
		}
		if _, err := w.hub.ReplayAll(t.Context(), "nobody", Selection{Failed: true}, ""); !problem.HasCode(err, problem.NotFound) {
			t.Error(err)
		}
	})
}

func TestPing(t *testing.T) {
	engines(t, func(t *testing.T, open open) {
		billing := newReceiver(t, "billing")
		w := newWorld(t, open, settings(billing)).on(billing)
		if err := w.hub.Disable(t.Context(), "billing", ""); err != nil {
			t.Fatal(err)
		}
		eventID, a, err := w.hub.Ping(t.Context(), "billing", "trying")
		if err != nil || a.Status != 204 || a.Error != "" {
			t.Fatalf("%+v %v", a, err)
		}
		if msgs := billing.take(t); len(msgs) != 1 || msgs[0].id != eventID || msgs[0].Type != PingType || string(msgs[0].Data) != "{}" {
			t.Errorf("%+v", msgs)
		}
		billing.answers(func(_ int, rw http.ResponseWriter, _ *http.Request) {
			rw.WriteHeader(http.StatusUnauthorized)
			rw.Write([]byte("wrong secret"))
		})
		if _, a, err = w.hub.Ping(t.Context(), "billing", ""); err != nil || a.Status != 401 || a.Error == "" || a.Excerpt != "wrong secret" {
			t.Errorf("%+v %v", a, err)
		}
		if _, _, err := w.hub.Ping(t.Context(), "nobody", ""); !problem.HasCode(err, problem.NotFound) {
			t.Error(err)
		}
		if w.audited("webhook.ping") != 2 || len(w.deliveries(DeliveryFilter{})) != 0 {
			t.Error("a ping is not audited, or it is stored")
		}
	})
}

func TestLists(t *testing.T) {
	engines(t, func(t *testing.T, open open) {
		billing, crm := newReceiver(t, "billing"), newReceiver(t, "crm")
		w := newWorld(t, open, settings(billing, crm)).on(billing, crm)
		var ids []string
		for n := range 7 {
			ids = append(ids, w.emit(merged(fmt.Sprintf("usr_%d", n%2))))
		}
		w.emit(Event{Type: "trip.booked"})
		w.work("billing")

		var seen []string
		pages := 0
		for cursor := ""; ; pages++ {
			page, next, err := w.hub.Events(t.Context(), EventFilter{Type: "user.merged", Limit: 3, Cursor: cursor})
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page {
				seen = append(seen, e.ID)
			}
			if cursor = next; next == "" {
				break
			}
		}
		slices.Reverse(seen)
		if !slices.Equal(seen, ids) || pages != 2 {
			t.Errorf("%d pages with %v, want %v", pages+1, seen, ids)
		}
		if of, _, err := w.hub.Events(t.Context(), EventFilter{Subject: "usr_1"}); err != nil || len(of) != 3 || of[0].Subject != "usr_1" {
			t.Errorf("%+v %v", of, err)
		}
		if late, _, err := w.hub.Events(t.Context(), EventFilter{From: start.Add(7 * time.Millisecond)}); err != nil || len(late) != 1 || late[0].Type != "trip.booked" {
			t.Errorf("%+v %v", late, err)
		}
		for want, f := range map[int]DeliveryFilter{
			16: {}, 8: {State: Delivered}, 7: {Endpoint: "crm", Type: "user.merged", State: Pending}, 6: {Subject: "usr_1"}, 2: {Until: start.Add(time.Millisecond)}, 0: {State: Dead},
		} {
			if got := w.deliveries(f); len(got) != want {
				t.Errorf("%+v: %d, want %d", f, len(got), want)
			}
		}
		for name, f := range map[string]func() error{
			"an unknown state": func() error { _, _, err := w.hub.Deliveries(t.Context(), DeliveryFilter{State: "lost"}); return err },
			"a forged cursor":  func() error { _, _, err := w.hub.Deliveries(t.Context(), DeliveryFilter{Cursor: "' OR 1"}); return err },
			"a cursor of another one": func() error {
				_, _, err := w.hub.Events(t.Context(), EventFilter{Cursor: w.deliveries(DeliveryFilter{})[0].ID})
				return err
			},
		} {
			if err := f(); !problem.HasCode(err, problem.InvalidRequest) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, err := range []error{
			func() error { _, _, err := w.hub.Event(t.Context(), "evt_unknown"); return err }(),
			func() error { _, _, err := w.hub.Delivery(t.Context(), "whd_unknown"); return err }(),
		} {
			if !problem.HasCode(err, problem.NotFound) {
				t.Error(err)
			}
		}
	})
}

// What is kept is everything younger than Keep, and what is still on its way.
func TestOldEventsAreDeleted(t *testing.T) {
	engines(t, func(t *testing.T, open open) {
		billing := newReceiver(t, "billing")
		w := newWorld(t, open, settings(billing)).on(billing)
		old := w.emit(merged("usr_1"))
		w.work("billing")
		w.clock.Advance(defaultKeep / 2)
		young := w.emit(merged("usr_2"))
		w.work("billing")
		waiting := w.emit(merged("usr_3"))
		w.clock.Advance(defaultKeep/2 + time.Minute)
		if err := w.hub.clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.hub.Event(t.Context(), old); !problem.HasCode(err, problem.NotFound) {
			t.Errorf("the old one is kept: %v", err)
		}
		for _, eventID := range []string{young, waiting} {
			w.delivery(eventID, "billing")
		}
		w.clock.Advance(defaultKeep)
		if err := w.hub.clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.delivery(waiting, "billing") // still not delivered
		for table, want := range map[string]int{"webhook_event": 1, "webhook_delivery": 1, "webhook_attempt": 0, "webhook_subject": 0} {
			if n := w.rows(table); n != want {
				t.Errorf("%d rows in %s, want %d", n, table, want)
			}
		}
	})
}

func (w *world) rows(table string) (n int) {
	w.t.Helper()
	err := w.db.Read(w.t.Context(), func(ctx context.Context, q sqldb.Querier) error {
		return q.QueryRowContext(ctx, `SELECT COUNT(*) FROM `+table).Scan(&n)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// Numbers of a subject grow even when its row has gone and the clock jumped back.
func TestSequencesGrow(t *testing.T) {
	engines(t, func(t *testing.T, open open) {
		billing := newReceiver(t, "billing")
		w := newWorld(t, open, settings(billing)).on(billing)
		w.emit(merged("usr_1"))
		w.clock.Advance(-time.Hour)
		w.emit(merged("usr_1"))
		w.emit(merged("usr_1"))
		w.clock.Advance(2 * time.Hour)
		w.emit(merged("usr_1"))
		w.work("billing")
		last := int64(0)
		for _, m := range billing.take(t) {
			if m.Sequence <= last || m.Sequence > 1<<53 {
				t.Errorf("sequence %d after %d", m.Sequence, last)
			}
			last = m.Sequence
		}
	})
}

func TestEraseAndExport(t *testing.T) {
	engines(t, func(t *testing.T, open open) {
		billing, crm := newReceiver(t, "billing"), newReceiver(t, "crm")
		w := newWorld(t, open, settings(billing, crm)).on(billing, crm)
		crm.answers(status(http.StatusBadRequest))
		delivered := w.emit(merged("usr_1"))
		w.work("billing")
		w.work("crm")
		waiting, others := w.emit(merged("usr_1")), w.emit(merged("usr_2"))
		w.emit(Event{Type: "trip.booked"})

		var got []Exported
		err := w.hub.ExportSubject(t.Context(), "usr_1", func(e Exported) error { got = append(got, e); return nil })
		if err != nil || len(got) != 2 || got[0].ID != waiting || got[1].ID != delivered || !slices.Equal(got[1].SentTo, []string{"billing"}) || len(got[0].SentTo) != 0 ||
			!strings.Contains(string(got[1].Payload), "usr_old") {
			t.Errorf("%+v %v", got, err)
		}
		stop := errors.New("stop")
		if err := w.hub.ExportSubject(t.Context(), "usr_1", func(Exported) error { return stop }); !errors.Is(err, stop) {
			t.Error(err)
		}

		var final string
		erase := func(ctx context.Context, tx *sqldb.Tx) (err error) {
			final, err = w.hub.Emit(ctx, tx, Event{Type: "user.deleted", Subject: "usr_1", Final: true})
			return errors.Join(err, w.hub.EraseSubject(ctx, tx, "usr_1"))
		}
		if err := w.write(erase); err != nil {
			t.Fatal(err)
		}
		if err := w.write(func(ctx context.Context, tx *sqldb.Tx) error { return w.hub.EraseSubject(ctx, tx, "usr_1") }); err != nil {
			t.Error(err)
		}
		for _, eventID := range []string{delivered, waiting} {
			if _, _, err := w.hub.Event(t.Context(), eventID); !problem.HasCode(err, problem.NotFound) {
				t.Errorf("an event of the user is there: %v", err)
			}
		}
		if n := w.rows("webhook_attempt"); n != 0 {
			t.Errorf("%d attempts are left", n)
		}
		billing.take(t)
		w.work("billing")
		if ids := billing.ids(t); !slices.Contains(ids, final) || !slices.Contains(ids, others) || slices.Contains(ids, waiting) {
			t.Errorf("got %v: others' events and the news of the end must come, nothing else of the user", ids)
		}
		if err := w.write(func(ctx context.Context, tx *sqldb.Tx) error { return w.hub.EraseSubject(ctx, tx, "") }); err != nil {
			t.Error(err)
		}
		if n := w.rows("webhook_event"); n != 3 {
			t.Errorf("%d events are left, want 3: no subject is nobody", n)
		}
	})
}

// An attempt that is under way while its user is erased leaves nothing behind.
func TestEraseDuringAnAttempt(t *testing.T) {
	engines(t, func(t *testing.T, open open) {
		billing := newReceiver(t, "billing")
		w := newWorld(t, open, settings(billing)).on(billing)
		billing.answers(func(_ int, rw http.ResponseWriter, _ *http.Request) {
			if err := w.db.Write(context.Background(), func(ctx context.Context, tx *sqldb.Tx) error { return w.hub.EraseSubject(ctx, tx, "usr_1") }); err != nil {
				t.Error(err)
			}
			rw.WriteHeader(http.StatusBadRequest)
		})
		w.emit(merged("usr_1"))
		w.work("billing")
		for _, table := range []string{"webhook_event", "webhook_delivery", "webhook_attempt"} {
			if n := w.rows(table); n != 0 {
				t.Errorf("%d rows in %s", n, table)
			}
		}
	})
}

func TestDeclaredTypes(t *testing.T) {
	billing := newReceiver(t, "billing")
	w := newWorld(t, testkit.SQLite, settings(billing).with("billing", func(e *Endpoint) { e.Events = []string{"user.*", "trap.*"} }))
	w.hub.Declare(EventType{"user.merged", "Two users became one."}, EventType{"user.deleted", "A user is gone."})
	types := w.hub.Types()
	if len(types) != 3 || types[0].Name != "user.deleted" || types[2].Name != PingType {
		t.Errorf("%+v", types)
	}
	var logs bytes.Buffer
	w.hub.log = slog.New(slog.NewTextHandler(&logs, nil))
	if err := w.hub.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := logs.String(); !strings.Contains(s, "trap.*") || strings.Contains(s, "user.*") {
		t.Errorf("the log says %s", s)
	}
}
