package webhook

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"landline/internal/audit"
	"landline/internal/queue"
	"landline/internal/sqldb"
)

// State is where a delivery stands.
type State string

// The states of a delivery.
const (
	Pending   State = "pending" // waits for its time, or for the one before it
	Sending   State = "sending"
	Delivered State = "delivered"
	Dead      State = "dead" // given up; can be replayed
)

const (
	workTime   = 5 * time.Second  // of one job before it makes room for others
	leaseGrace = 30 * time.Second // beyond the endpoint's timeout, for recording
	recordTime = 4 * time.Second  // to record what came of an attempt whose job is to stop
)

// deliverArgs says that an endpoint may have something due.
type deliverArgs struct {
	Endpoint string `json:"endpoint"`
}

func (deliverArgs) Kind() string { return "webhook.deliver" }

// work delivers what is due at one endpoint. Of several jobs at once on a node,
// one works and the others leave: it looks again before it ends.
func (h *Hub) work(ctx context.Context, name string) error {
	e := h.endpoints()[name]
	if e == nil {
		return nil // not configured on this node; if it is on others, the sweep tells them
	}
	e.wanted.Store(true)
	for e.wanted.Load() && e.busy.CompareAndSwap(false, true) {
		e.wanted.Store(false)
		more, err := h.drainEndpoint(ctx, e)
		e.busy.Store(false)
		switch {
		case err != nil:
			return err
		case more:
			return queue.Snooze(0)
		}
	}
	return nil
}

// round is one turn of work at an endpoint, by up to Concurrency workers.
type round struct {
	h      *Hub
	e      *endpoint
	until  time.Time
	wg     sync.WaitGroup
	active atomic.Int64
	more   atomic.Bool // the time was up

	mu   sync.Mutex
	errs []error
}

func (h *Hub) drainEndpoint(ctx context.Context, e *endpoint) (more bool, err error) {
	r := &round{h: h, e: e, until: time.Now().Add(workTime)}
	r.spawn(ctx)
	r.wg.Wait()
	return r.more.Load(), errors.Join(r.errs...)
}

func (r *round) spawn(ctx context.Context) {
	if r.active.Add(1) > int64(r.e.Concurrency) {
		r.active.Add(-1)
		return
	}
	r.wg.Go(func() {
		defer r.active.Add(-1)
		defer func() {
			if v := recover(); v != nil { // the queue sees only its own goroutine
				r.h.log.ErrorContext(ctx, "a delivery panicked", "endpoint", r.e.name, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
				r.fail(fmt.Errorf("webhook: a delivery to %s panicked", r.e.name))
			}
		}()
		for ctx.Err() == nil {
			if !time.Now().Before(r.until) {
				r.more.Store(true)
				return
			}
			again, err := r.h.deliverNext(ctx, r)
			if err != nil {
				r.fail(err)
			}
			if !again {
				return
			}
		}
		r.fail(ctx.Err())
	})
}

func (r *round) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, err)
}

// deliverNext claims one delivery and makes an attempt at it; again is false
// when there was none.
func (h *Hub) deliverNext(ctx context.Context, r *round) (again bool, err error) {
	e := r.e
	if !e.gate.enter(h.clock.Now()) {
		return false, nil
	}
	verdict, pause := nothing, time.Duration(0)
	var closed time.Time
	defer func() {
		if verdict == nothing {
			e.gate.leave(nothing, 0, h.clock.Now())
		}
	}()
	m, others, err := h.claim(ctx, e)
	if err != nil || m == nil {
		return false, err
	}
	if others {
		r.spawn(ctx)
	}
	res := e.send(ctx, *m, h.clock.Now())
	if ctx.Err() != nil && res.status == 0 { // the job is to stop: not the endpoint's fault
		return false, errors.Join(ctx.Err(), h.release(ctx, m))
	}
	verdict, pause = res.outcome(), res.pause()
	closed = e.gate.leave(verdict, pause, h.clock.Now())
	h.metrics.attempts.WithLabelValues(e.name, res.kind).Inc()
	h.metrics.duration.WithLabelValues(e.name).Observe(res.took.Seconds())
	if !closed.IsZero() {
		h.log.WarnContext(ctx, "an endpoint of webhooks is left alone for a while", "endpoint", e.name, "until", closed, "status", res.status, "error", res.err)
	}
	return true, h.record(ctx, e, m, res, closed)
}

// claim takes the delivery that is due the longest, and reports whether others are.
func (h *Hub) claim(ctx context.Context, e *endpoint) (m *message, others bool, err error) {
	e.claims.Lock()
	defer e.claims.Unlock()
	now := h.clock.Now()
	due, err := h.due(ctx, e, now)
	if err != nil {
		return nil, false, err
	}
	for i, deliveryID := range due {
		lease := now.Add(e.Timeout.D() + leaseGrace)
		err := h.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			m = nil
			res, err := tx.ExecContext(ctx, Queries.Get("DeliveryClaim"), sqldb.Millis(lease), deliveryID)
			if err != nil {
				return err
			}
			if n, err := res.RowsAffected(); err != nil || n == 0 {
				return err // another node's
			}
			var at int64
			var got message
			err = tx.QueryRowContext(ctx, Queries.Get("DeliveryMessage"), deliveryID).
				Scan(&got.deliveryID, &got.eventID, &got.attempts, &got.round, &got.body, &got.traceID, &at)
			if err == nil {
				got.at = sqldb.Time(at)
				m = &got
			}
			return err
		})
		if err != nil {
			return nil, false, fmt.Errorf("webhook: claim a delivery to %s: %w", e.name, err)
		}
		if m != nil {
			return m, i+1 < len(due), nil
		}
	}
	return nil, false, nil
}

// due lists deliveries that may be sent now, one more than workers want. It
// reads outside of a write: what it sees of a subject is in order, because the
// subject's row makes those that emit commit one after the other, and whether a
// delivery is still to be had the claim decides.
func (h *Hub) due(ctx context.Context, e *endpoint, now time.Time) (ids []string, err error) {
	name := "Due"
	if e.Order == OrderNone {
		name = "DueInAnyOrder"
	}
	err = h.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) error {
		ids = nil
		rows, err := q.QueryContext(ctx, Queries.Get(name), e.name, sqldb.Millis(now), e.Concurrency+1)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var one string
			if err := rows.Scan(&one); err != nil {
				return err
			}
			ids = append(ids, one)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("webhook: what is due at %s: %w", e.name, err)
	}
	return ids, nil
}

// next is what a delivery becomes after an attempt.
func (h *Hub) next(res result, m *message) (state State, wait time.Duration) {
	switch {
	case res.delivered():
		return Delivered, 0
	case res.status == http.StatusGone:
		return Pending, 0 // for when an operator enables the endpoint again
	}
	wait, ok := delay(h.delays, int(m.round)+1, res.asked, rand.Float64()) // #nosec G404 -- jitter, not a secret
	if !ok {
		return Dead, 0
	}
	return Pending, wait
}

// record stores what came of an attempt, with the job of the next one. closed
// is until when the gate has just been closed, zero if it was not.
func (h *Hub) record(ctx context.Context, e *endpoint, m *message, res result, closed time.Time) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.Timeout.D()+recordTime)
	defer cancel()
	state, wait := h.next(res, m)
	err := h.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		kept, err := h.recordAttempt(ctx, tx, m, res, state, wait)
		if err != nil || !kept {
			return err
		}
		switch {
		case res.status == http.StatusGone:
			err = h.disableTx(ctx, tx, e.name, "it answered 410 Gone", audit.Actor{Type: audit.TypeSystem}, "")
		case state == Pending:
			_, err = h.queue.Enqueue(ctx, tx, deliverArgs{e.name}, queue.At(time.Now().Add(wait)))
		}
		if err == nil && !closed.IsZero() {
			_, err = h.queue.Enqueue(ctx, tx, deliverArgs{e.name}, queue.At(time.Now().Add(closed.Sub(h.clock.Now()))))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("webhook: record a delivery to %s: it may be repeated: %w", e.name, err)
	}
	h.tell(ctx, e, m, res, state)
	return nil
}

// recordAttempt is false when the delivery is no longer this node's: it was
// erased, or the lease ended and another node took it.
func (h *Hub) recordAttempt(ctx context.Context, tx *sqldb.Tx, m *message, res result, state State, wait time.Duration) (kept bool, err error) {
	now := h.clock.Now()
	var finished time.Time
	if state != Pending {
		finished = now
	}
	changed, err := tx.ExecContext(ctx, Queries.Get("DeliveryRecord"), string(state), sqldb.Millis(now.Add(wait)), res.status, res.err,
		sqldb.NullMillis(finished), m.deliveryID, m.attempts)
	if err != nil {
		return false, err
	}
	if n, err := changed.RowsAffected(); err != nil || n == 0 {
		return false, err
	}
	_, err = tx.ExecContext(ctx, Queries.Get("AttemptInsert"), m.deliveryID, m.attempts+1, sqldb.Millis(res.at), res.took.Milliseconds(), res.status, res.err, res.excerpt)
	return true, err
}

func (h *Hub) tell(ctx context.Context, e *endpoint, m *message, res result, state State) {
	attrs := []any{"endpoint", e.name, "event", m.eventID, "delivery", m.deliveryID, "attempt", m.round + 1, "status", res.status, "duration_ms", res.took.Milliseconds()}
	switch {
	case res.delivered():
		h.metrics.delivered.WithLabelValues(e.name).Observe(max(0, h.clock.Now().Sub(m.at).Seconds()))
		h.log.DebugContext(ctx, "a webhook was delivered", attrs...)
	case res.status == http.StatusGone:
		h.log.ErrorContext(ctx, "an endpoint of webhooks answered 410 and is disabled until an operator enables it; events for it wait", attrs...)
	case state == Dead:
		h.metrics.dead.WithLabelValues(e.name).Inc()
		h.log.ErrorContext(ctx, "a webhook is given up; replay it when the endpoint is well", append(attrs, "error", res.err)...)
	default:
		h.log.WarnContext(ctx, "a webhook was not delivered; it is tried again", append(attrs, "error", res.err)...)
	}
}

// release gives a claimed delivery back as it was.
func (h *Hub) release(ctx context.Context, m *message) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	return h.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, Queries.Get("DeliveryRelease"), m.deliveryID, m.attempts)
		return err
	})
}
