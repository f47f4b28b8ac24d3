package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"landline/internal/gateway/idem"
	"landline/internal/gateway/spool"
	"landline/internal/module"
	"landline/internal/problem"
)

const (
	minLease     = time.Minute      // an attempt's lease, unless the feature's timeout needs more
	leaseSpare   = 15 * time.Second // of a lease, for what surrounds the feature's timeout
	leaseMargin  = 5 * time.Second  // an attempt is ended this much before its lease
	finishWithin = 30 * time.Second // for storing an outcome
)

// honoursKey reports whether a method's requests are writes that a key makes safe to repeat.
func honoursKey(method string) bool {
	switch method {
	case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return true
	}
	return false
}

// idempotencyStage makes a write with an Idempotency-Key safe to repeat: it is
// executed at most once, and whoever repeats it gets the answer of the first
// execution with "Idempotent-Replayed: true". It stands behind authentication,
// so that a replay is authorised like a request.
//
// A key belongs to the app, the caller (the user; without a token the API key,
// without that the network address, a /64 for IPv6), the method and the route. A repetition is the same
// when method, path, query, Content-Type and body are.
//
// How an execution ends decides about the key:
//   - An answer below 500 is stored before the client gets it. 401, 408, 425
//     and 429 say that nothing was executed: they free the key.
//   - An answer of 500 and above frees the key, or is stored with
//     store_server_errors.
//   - A failure before the request reached the upstream frees the key. A cut or
//     a timeout after that leaves the outcome unknown: with unknown_outcome
//     conflict every repetition is refused (409), with forward it frees the key.
//   - An answer above max_body and an event stream are passed on unstored;
//     repetitions learn with 409 that the write was executed.
//   - If the store fails before the execution, nothing is executed (503). If it
//     fails after, the answer is withheld (503) and the lease stands: a
//     repetition meets an unknown outcome once it has run out, and never a
//     second execution under conflict.
//
// An execution goes on when its client leaves, for as long as the feature's
// timeout lets it, so that the repetition finds the answer.
func idempotencyStage(o *Options, s *idem.Store, rt *Route) Stage {
	if rt.Policy == nil || rt.Policy.Idempotency == nil {
		return func(next Handler) Handler { return next }
	}
	k := &keeper{o: o, store: s, rt: rt, config: rt.Policy.Idempotency.orDefaults()}
	k.forward = k.config.UnknownOutcome == OutcomeForward
	k.lease = max(k.config.Lease.D(), rt.Policy.Timeout.D()+leaseSpare)
	k.keep = max(k.config.Keep.D(), k.lease)
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			if !honoursKey(r.Method) {
				return next(x, w, r)
			}
			return k.handle(next, x, w, r)
		}
	}
}

// keeper is the stage of one route.
type keeper struct {
	o           *Options
	store       *idem.Store
	rt          *Route
	config      IdempotencyConfig
	forward     bool
	lease, keep time.Duration
}

func (k *keeper) handle(next Handler, x *Exchange, w http.ResponseWriter, r *http.Request) error {
	values := r.Header["Idempotency-Key"]
	switch {
	case len(values) == 0 && k.config.Required && (r.Method == http.MethodPost || r.Method == http.MethodPatch):
		return problem.New(problem.IdempotencyKeyMissing, "send an Idempotency-Key with this %s: one per user action, the same on every try", r.Method)
	case len(values) == 0:
		return next(x, w, r)
	case len(values) > 1:
		return problem.New(problem.IdempotencyKeyInvalid, "the request has more than one Idempotency-Key")
	}
	key, err := idem.ParseKey(values[0])
	if err != nil {
		return problem.New(problem.IdempotencyKeyInvalid, "%s", err.Error())
	}
	body, print, err := k.spoolBody(x, r)
	if err != nil {
		return err
	}
	defer k.done(body)
	res, err := k.store.Begin(r.Context(), idem.Request{
		Scope: k.scope(x, r), Former: k.former(x, r), Key: key, Subject: subject(x.Principal), Fingerprint: print,
		Keep: k.keep, Lease: k.lease, Forward: k.forward,
	})
	if err != nil {
		if r.Context().Err() != nil {
			return errClientGone
		}
		return unavailable("nothing was executed", err)
	}
	switch res.Outcome {
	case idem.Replay:
		return replay(w, r, res.Answer)
	case idem.InFlight:
		return problem.New(problem.IdempotencyInFlight, "the first request with this key is still being worked on").After(time.Second)
	case idem.Reused:
		return problem.New(problem.IdempotencyKeyReused, "this key came with another request before: method, path, query, Content-Type and body must be the same")
	case idem.Unknown:
		return problem.New(problem.IdempotencyOutcomeUnknown, "an earlier try with this key was cut off; it may have taken effect")
	}
	return k.execute(next, x, w, r, body, res.Lease)
}

// unavailable is what a failure of the store is to the client. The store's own
// words are not for it: they say what became of the key, not of the write.
func unavailable(what string, err error) error {
	p := problem.New(problem.StorageUnavailable, "the storage does not answer; %s", what).Wrap(err)
	if own := problem.From(err); own.Code == problem.StorageUnavailable {
		p.RetryAfter = own.RetryAfter
	}
	return p
}

// scope names whose key it is and for what.
func (k *keeper) scope(x *Exchange, r *http.Request) string {
	switch {
	case x.Principal != nil:
		return k.scopeOf("user ", x.Principal.UserID, r)
	case x.apiKey.key != nil:
		return k.scopeOf("api key ", x.apiKey.key.ID, r)
	}
	return k.scopeOf("address ", addressKey(x.ClientIP), r)
}

func (k *keeper) scopeOf(kind, who string, r *http.Request) string {
	return k.o.App.ID + "\n" + kind + who + "\n" + r.Method + "\n" + k.rt.Match
}

// former are the scopes of the users who became part of the caller.
func (k *keeper) former(x *Exchange, r *http.Request) []string {
	if x.Principal == nil || len(x.Principal.Formerly) == 0 {
		return nil
	}
	all := make([]string, len(x.Principal.Formerly))
	for i, user := range x.Principal.Formerly {
		all[i] = k.scopeOf("user ", user, r)
	}
	return all
}

func subject(p *module.Principal) string {
	if p == nil {
		return ""
	}
	return p.UserID
}

// replay answers with what is stored.
func replay(w http.ResponseWriter, r *http.Request, a *idem.Answer) error {
	if !a.Kept {
		return problem.New(problem.IdempotencyOutcomeUnknown,
			"an earlier try with this key was executed and answered with status %d, but the answer was too large to be kept or was a stream: read the result instead", a.Status)
	}
	h := w.Header()
	for name, values := range a.Header {
		h[name] = values
	}
	h["Idempotent-Replayed"] = []string{"true"}
	w.WriteHeader(a.Status)
	if len(a.Body) > 0 && r.Method != http.MethodHead {
		if _, err := w.Write(a.Body); err != nil {
			return errClientGone
		}
	}
	return nil
}

// execute runs the rest of the way under the lease and settles the key.
func (k *keeper) execute(next Handler, x *Exchange, w http.ResponseWriter, r *http.Request, body *spool.Body, lease idem.Lease) (err error) {
	run := &execution{keeper: k, lease: lease, x: x, w: w, client: r.Context(), before: shallow(w.Header())}
	run.scope.parent = context.WithoutCancel(run.client)
	run.limit = time.AfterFunc(lease.Until.Sub(k.o.Clock.Now())-leaseMargin, run.scope.expire)
	defer run.over()
	again := r.WithContext(&run.scope)
	restoreFrom(again, body.Size(), body.Reader)

	panicked := true
	defer func() {
		if panicked && !run.settled {
			run.settle(fate{unknown: x.Sent || k.rt.Upstream == ""}) // a failure is in the log already
		}
	}()
	err = next(x, run, again)
	panicked = false
	return run.end(err)
}

// shallow copies a header map, not its values.
func shallow(h http.Header) http.Header {
	c := make(http.Header, len(h))
	for name, values := range h {
		c[name] = values
	}
	return c
}

// fate is what becomes of a key: at most one field is set; none frees it.
type fate struct {
	answer  *idem.Answer
	unknown bool
}

// judge decides the fate after the rest of the way has ended with err.
func (e *execution) judge(err error) fate {
	switch {
	case err != nil:
		return fate{unknown: e.tookEffect(err)}
	case e.x.Degraded != "" && e.x.status >= 500 && !e.keeper.config.StoreServerErrors:
		return fate{} // a stock answer for a 5xx of the upstream
	case e.x.Degraded != "":
		return fate{unknown: e.x.Sent}
	case e.status >= 500 && !e.keeper.config.StoreServerErrors:
		return fate{}
	case slices.Contains(notExecuted, e.status):
		return fate{}
	}
	return fate{answer: &idem.Answer{Status: e.status, Kept: true, Header: e.stored(), Body: e.body.Bytes()}}
}

// notExecuted are the answers below 500 that say that the request should come
// again as it is: storing them would make that useless.
var notExecuted = []int{http.StatusUnauthorized, http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests}

// tookEffect reports whether an execution that ended with err may have changed something.
func (e *execution) tookEffect(err error) bool {
	if rt := e.keeper.rt; rt.Upstream != "" || rt.aggregated {
		return e.x.Sent
	}
	switch problem.From(err).Code {
	case problem.Internal, problem.UpstreamTimeout, problem.RequestTimeout:
		return true // the module's handler was at work
	}
	return false
}

// settle makes the fate durable. It tries twice: all ways of ending an attempt
// may be repeated, and a lost connection often comes back at once.
func (e *execution) settle(f fate) error {
	e.settled = true
	ctx, cancel := context.WithTimeout(e.scope.parent, finishWithin)
	defer cancel()
	k := e.keeper
	end := func() error {
		switch {
		case f.answer != nil:
			return k.store.Finish(ctx, e.lease, *f.answer)
		case f.unknown && !k.forward:
			return k.store.Lost(ctx, e.lease)
		}
		return k.store.Release(ctx, e.lease)
	}
	err := end()
	if err != nil && !errors.Is(err, idem.ErrLost) {
		err = end()
	}
	if err != nil {
		k.o.Log.ErrorContext(ctx, "the outcome of a write with an Idempotency-Key could not be stored; its lease stands until it runs out",
			"feature", k.rt.Feature, "match", k.rt.Match, "error", err)
		return fmt.Errorf("settle an idempotency key: %w", err)
	}
	return nil
}
