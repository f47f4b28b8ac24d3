package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"landline/internal/gateway/idem"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/sqldb"
)

// transactional is the end of the way for a module's Write handler: one
// transaction of the database holds the handler's writes, the Idempotency-Key
// and the answer. It takes the place of the idempotency stage, whose rules about
// keys, scopes and repetitions it keeps, and needs neither lease nor unknown
// outcome:
//
//   - Committed: the writes are there, and every repetition gets this answer.
//   - Rolled back (an error, a panic, the feature's timeout, an answer that asks
//     for a repetition, a lost database, a killed process): nothing was written,
//     and the key is free for the next try at once.
//   - A commit whose outcome the database did not tell is answered 503; the
//     repetition finds out which of the two it was.
//
// A request without a key is executed in the same way, without the key.
func (g *Gateway) transactional(rt *Route, h module.Handler) (Handler, error) {
	if g.idem == nil {
		return nil, fmt.Errorf("feature %s: handler %s: writes need a database", rt.Feature, h.Match)
	}
	policy := *rt.Policy // of this route alone: other handlers of the feature need not honour keys
	if policy.Idempotency == nil {
		policy.Idempotency = &IdempotencyConfig{}
	}
	rt.Policy = &policy
	t := &transaction{db: g.options.DB, write: h.Write}
	t.keeper = keeper{o: &g.options, store: g.idem, rt: rt, config: policy.Idempotency.orDefaults()}
	t.forward = t.config.UnknownOutcome == OutcomeForward
	t.lease = max(minLease, rt.Policy.Timeout.D()+leaseSpare) // only fills the column: the transaction is the lease
	t.keep = max(t.config.Keep.D(), t.lease)
	return t.handle, nil
}

// transaction is a Write handler of one route.
type transaction struct {
	keeper
	db    *sqldb.DB
	write func(context.Context, *sqldb.Tx, http.ResponseWriter, *http.Request) error
}

// errRollBack undoes a transaction whose answer goes out all the same.
var errRollBack = errors.New("gateway: the answer asks for a repetition")

func (t *transaction) handle(x *Exchange, w http.ResponseWriter, r *http.Request) error {
	setPathValues(t.rt, x, r)
	key, keyed, err := t.key(r)
	if err != nil {
		return err
	}
	body, err := t.readBody(x, r)
	if err != nil {
		return err
	}
	q := idem.Request{Keep: t.keep, Lease: t.lease, Forward: t.forward, Key: key}
	if keyed {
		q.Scope, q.Former, q.Subject, q.Fingerprint = t.scope(x, r), t.former(x, r), subject(x.Principal), fingerprint(r, body)
	}
	var out memory
	var found idem.Result
	err = t.db.Write(r.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		out, found = memory{}, idem.Result{Outcome: idem.Execute}
		if keyed {
			res, err := t.store.BeginTx(ctx, tx, q)
			if found = res; err != nil || res.Outcome != idem.Execute {
				return err
			}
		}
		if err := t.run(ctx, tx, &out, r, body); err != nil || !keyed {
			return err
		}
		return t.store.FinishTx(ctx, tx, found.Lease, t.answer(&out))
	})
	switch {
	case found.Outcome != idem.Execute && err == nil:
		return t.repeat(w, r, found)
	case errors.Is(err, errRollBack), err == nil:
		return out.send(w, r)
	case errors.Is(err, idem.ErrLost):
		return problem.New(problem.IdempotencyInFlight, "another try with this key was quicker").After(time.Second)
	case keyed && errors.Is(err, sqldb.ErrUncertain):
		return unavailable(mayBeExecuted, err)
	case errors.Is(r.Context().Err(), context.Canceled):
		return errClientGone
	}
	return err
}

// key is the request's Idempotency-Key; keyed is false without one, and for
// methods that write nothing.
func (t *transaction) key(r *http.Request) (key string, keyed bool, err error) {
	values := r.Header["Idempotency-Key"]
	switch {
	case !honoursKey(r.Method):
		return "", false, nil
	case len(values) == 0 && t.config.Required && (r.Method == http.MethodPost || r.Method == http.MethodPatch):
		return "", false, problem.New(problem.IdempotencyKeyMissing, "send an Idempotency-Key with this %s: one per user action, the same on every try", r.Method)
	case len(values) == 0:
		return "", false, nil
	case len(values) > 1:
		return "", false, problem.New(problem.IdempotencyKeyInvalid, "the request has more than one Idempotency-Key")
	}
	if key, err = idem.ParseKey(values[0]); err != nil {
		return "", false, problem.New(problem.IdempotencyKeyInvalid, "%s", err.Error())
	}
	return key, true, nil
}

// run calls the handler once. The transaction outlives a client that leaves: it
// comes back for the answer. The feature's timeout holds.
func (t *transaction) run(ctx context.Context, tx *sqldb.Tx, out *memory, r *http.Request, body []byte) error {
	if until, ok := r.Context().Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, until, errTimeout)
		defer cancel()
	}
	again := r.WithContext(ctx)
	restore(again, body)
	err := t.write(ctx, tx, out, again)
	if context.Cause(ctx) == errTimeout { //nolint:errorlint // set by us alone
		return errTimeout
	}
	if err == nil && t.repeatable(out.code()) {
		err = errRollBack
	}
	return err
}

// repeatable reports whether an answer of this status asks for the same request
// again: then nothing may have been written.
func (t *transaction) repeatable(status int) bool {
	return status >= 500 && !t.config.StoreServerErrors || slices.Contains(notExecuted, status)
}

// answer is what is stored of an execution.
func (t *transaction) answer(out *memory) idem.Answer {
	a := idem.Answer{Status: out.code()}
	if int64(out.body.Len()) > int64(t.config.MaxBody) || isStream(out.header) {
		return a
	}
	a.Kept, a.Body, a.Header = true, out.body.Bytes(), make(http.Header, len(out.header))
	for name, values := range out.header {
		if !notStored[name] && !hopByHop[name] {
			a.Header[name] = values
		}
	}
	return a
}

// repeat answers a request whose key is known already.
func (t *transaction) repeat(w http.ResponseWriter, r *http.Request, found idem.Result) error {
	switch found.Outcome {
	case idem.Replay:
		return replay(w, r, found.Answer)
	case idem.InFlight:
		return problem.New(problem.IdempotencyInFlight, "the first request with this key is still being worked on").After(time.Second)
	case idem.Reused:
		return problem.New(problem.IdempotencyKeyReused, "this key came with another request before: method, path, query, Content-Type and body must be the same")
	}
	return problem.New(problem.IdempotencyOutcomeUnknown, "an earlier try with this key was cut off; it may have taken effect")
}

// memory is an answer that is held back.
type memory struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (m *memory) Header() http.Header {
	if m.header == nil {
		m.header = http.Header{}
	}
	return m.header
}

func (m *memory) WriteHeader(status int) {
	if m.status == 0 && status >= 200 {
		m.status = status
	}
}

func (m *memory) Write(b []byte) (int, error) {
	m.WriteHeader(http.StatusOK)
	return m.body.Write(b)
}

func (m *memory) code() int {
	if m.status == 0 {
		return http.StatusOK
	}
	return m.status
}

func (m *memory) send(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	for name, values := range m.header {
		h[name] = values
	}
	w.WriteHeader(m.code())
	if m.body.Len() > 0 && r.Method != http.MethodHead {
		if _, err := w.Write(m.body.Bytes()); err != nil {
			return errClientGone // it will come back for the stored answer
		}
	}
	return nil
}
