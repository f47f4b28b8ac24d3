package queue

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"landline/internal/sqldb"
)

// MaxMany bounds the jobs of one EnqueueMany.
const MaxMany = 1000

// rawArgs carries arguments that are encoded already.
type rawArgs struct {
	kind string
	json.RawMessage
}

func (a rawArgs) Kind() string { return a.kind }

// Enqueue adds a job within the caller's transaction: it exists when that
// commits. The kind must be registered and the lane known to this node. With
// Unique, the id is the one of the job that is there already.
func (q *Queue) Enqueue(ctx context.Context, tx *sqldb.Tx, args Args, opts ...InsertOption) (id int64, err error) {
	p, err := q.params(args, opts)
	if err != nil {
		return 0, err
	}
	res, err := q.insert.InsertTx(ctx, tx.SQL(), p.Args, p.InsertOpts)
	if err != nil {
		return 0, fmt.Errorf("queue: enqueue %s: %w", args.Kind(), err)
	}
	q.committed(tx, []*rivertype.JobInsertResult{res})
	return res.Job.ID, nil
}

// EnqueueMany is Enqueue of up to MaxMany jobs, in one statement on PostgreSQL.
// The ids are in the order of args.
func (q *Queue) EnqueueMany(ctx context.Context, tx *sqldb.Tx, args []Args, opts ...InsertOption) (ids []int64, err error) {
	if len(args) == 0 {
		return nil, nil
	}
	if len(args) > MaxMany {
		return nil, fmt.Errorf("queue: %d jobs in one EnqueueMany, at most %d", len(args), MaxMany)
	}
	params := make([]river.InsertManyParams, len(args))
	for i, a := range args {
		if params[i], err = q.params(a, opts); err != nil {
			return nil, err
		}
	}
	res, err := q.insert.InsertManyTx(ctx, tx.SQL(), params)
	if err != nil {
		return nil, fmt.Errorf("queue: enqueue %d jobs: %w", len(args), err)
	}
	for _, r := range res {
		ids = append(ids, r.Job.ID)
	}
	q.committed(tx, res)
	return ids, nil
}

func (q *Queue) params(args Args, opts []InsertOption) (p river.InsertManyParams, err error) {
	k := q.kinds[args.Kind()]
	if k == nil {
		return p, fmt.Errorf("queue: no worker is registered for kind %q: call Register when the module is built", args.Kind())
	}
	o := insertOptions{lane: k.lane, attempts: k.attempts}
	for _, opt := range opts {
		opt(&o)
	}
	if p.InsertOpts, err = o.river(k.name, q.o.Lanes); err != nil {
		return p, err
	}
	text, err := json.Marshal(args)
	if err != nil {
		return p, fmt.Errorf("queue: arguments of %s: %w", k.name, err)
	}
	if len(text) > MaxArgs {
		return p, fmt.Errorf("queue: arguments of %s have %d bytes, at most %d: store the data and enqueue its id", k.name, len(text), MaxArgs)
	}
	p.Args = rawArgs{k.name, text}
	return p, nil
}

// committed counts and wakes once the jobs are there.
func (q *Queue) committed(tx *sqldb.Tx, res []*rivertype.JobInsertResult) {
	tx.OnCommit(func() {
		for _, r := range res {
			if r.UniqueSkippedAsDuplicate {
				continue
			}
			q.metrics.enqueued.WithLabelValues(r.Job.Kind, r.Job.Queue).Inc()
			if r.Job.State == rivertype.JobStateAvailable {
				q.wake.lane(r.Job.Queue)
			}
		}
	})
}
