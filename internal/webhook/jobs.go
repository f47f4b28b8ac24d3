package webhook

import (
	"context"
	"fmt"
	"time"

	"landline/internal/queue"
	"landline/internal/sqldb"
)

const (
	sweepEvery = time.Minute
	cleanEvery = time.Hour
	batchRows  = 200  // rows of one transaction
	rounds     = 2000 // transactions of one run, so that it ends; the next goes on

	jobTime = workTime + maxTimeout + leaseGrace // longest that one job of deliveries takes
)

type sweepArgs struct{}

func (sweepArgs) Kind() string { return "webhook.sweep" }

type cleanArgs struct{}

func (cleanArgs) Kind() string { return "webhook.clean" }

func (h *Hub) registerJobs() {
	in := queue.InLane(Lane)
	queue.Register(h.queue, func(ctx context.Context, j *queue.Job[deliverArgs]) error { return h.work(ctx, j.Args.Endpoint) }, in, queue.Timeout(jobTime))
	queue.Register(h.queue, func(ctx context.Context, j *queue.Job[replayArgs]) error { return h.replayBatch(ctx, j.Args) })
	queue.Register(h.queue, func(ctx context.Context, _ *queue.Job[sweepArgs]) error { return h.sweep(ctx) })
	queue.Register(h.queue, func(ctx context.Context, _ *queue.Job[cleanArgs]) error { return h.clean(ctx) })
	h.queue.Periodic("webhook.sweep", sweepEvery, func() queue.Args { return sweepArgs{} })
	h.queue.Periodic("webhook.clean", cleanEvery, func() queue.Args { return cleanArgs{} })
}

// sweep finds what nobody is at work on: leases that ended with their node,
// deliveries whose time is over, and endpoints with something due for which no
// job came, because it was lost with a node or turned back by a gate.
func (h *Hub) sweep(ctx context.Context) error {
	now := h.clock.Now()
	if n, err := h.releaseLeases(ctx, now); err != nil {
		return err
	} else if n > 0 {
		h.log.Warn("took up webhooks that a node left behind", "deliveries", n)
	}
	if err := h.expire(ctx, now); err != nil {
		return err
	}
	var names []string
	if err := h.strings(ctx, &names, "DueEndpoints", sqldb.Millis(now)); err != nil {
		return err
	}
	var jobs []queue.Args
	for _, name := range names {
		if h.endpoints()[name] != nil {
			jobs = append(jobs, deliverArgs{name})
		}
	}
	return h.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := h.queue.EnqueueMany(ctx, tx, jobs)
		return err
	})
}

// releaseLeases makes deliveries whose lease ended before now pending again.
func (h *Hub) releaseLeases(ctx context.Context, now time.Time) (released int64, err error) {
	type row struct {
		id       string
		attempts int64
	}
	for range rounds {
		var rows []row
		err := h.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) error {
			rows = nil
			res, err := q.QueryContext(ctx, Queries.Get("LeasesEnded"), sqldb.Millis(now), h.batch)
			if err != nil {
				return err
			}
			defer res.Close()
			for res.Next() {
				var r row
				if err := res.Scan(&r.id, &r.attempts); err != nil {
					return err
				}
				rows = append(rows, r)
			}
			return res.Err()
		})
		if err != nil || len(rows) == 0 {
			return released, err
		}
		err = h.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			for _, r := range rows {
				if _, err := tx.ExecContext(ctx, Queries.Get("DeliveryRelease"), r.id, r.attempts); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return released, err
		}
		if released += int64(len(rows)); len(rows) < h.batch {
			return released, nil
		}
	}
	return released, nil
}

// expire gives up what waited too long without the attempts being used up: its
// endpoint was down, disabled or not configured.
func (h *Hub) expire(ctx context.Context, now time.Time) error {
	for range rounds {
		var ids []string
		if err := h.strings(ctx, &ids, "Expired", sqldb.Millis(now), h.batch); err != nil || len(ids) == 0 {
			return err
		}
		err := h.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			for _, one := range ids {
				if _, err := tx.ExecContext(ctx, Queries.Get("DeliveryExpire"), sqldb.Millis(now), "the endpoint was not reachable, disabled or not configured", one); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		h.log.Error("webhooks that waited for days are given up; replay them when their endpoint is well", "deliveries", len(ids))
		if len(ids) < h.batch {
			return nil
		}
	}
	return nil
}

// clean deletes events that are older than Keep, with all that belongs to them.
func (h *Hub) clean(ctx context.Context) error {
	before := sqldb.Millis(h.clock.Now().Add(-h.current.Load().keep))
	for range rounds {
		var ids []string
		if err := h.strings(ctx, &ids, "EventsOld", before, h.batch); err != nil {
			return err
		}
		err := h.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return h.deleteEvents(ctx, tx, ids) })
		if err != nil {
			return err
		}
		if len(ids) < h.batch {
			break
		}
	}
	return h.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, Queries.Get("SubjectsOld"), before)
		return err
	})
}

func (h *Hub) deleteEvents(ctx context.Context, tx *sqldb.Tx, ids []string) error {
	list := sqldb.InArg(ids)
	for _, statement := range []string{
		`DELETE FROM webhook_attempt WHERE delivery_id IN (SELECT id FROM webhook_delivery WHERE ` + h.db.In("event_id", 1) + `)`,
		`DELETE FROM webhook_delivery WHERE ` + h.db.In("event_id", 1),
		`DELETE FROM webhook_event WHERE ` + h.db.In("id", 1),
	} {
		if _, err := tx.ExecContext(ctx, statement, list); err != nil {
			return fmt.Errorf("webhook: delete old events: %w", err)
		}
	}
	return nil
}

// strings reads a column of texts.
func (h *Hub) strings(ctx context.Context, into *[]string, query string, args ...any) error {
	err := h.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) error {
		*into = nil
		rows, err := q.QueryContext(ctx, Queries.Get(query), args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var one string
			if err := rows.Scan(&one); err != nil {
				return err
			}
			*into = append(*into, one)
		}
		return rows.Err()
	})
	if err != nil {
		return fmt.Errorf("webhook: %s: %w", query, err)
	}
	return nil
}
