package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"landline/internal/problem"
)

// errTryTimeout is the cause of a context that the time of one try ended.
var errTryTimeout = fmt.Errorf("one try: %w", errTimeout)

// tryStage sends the request to a target of the upstream, and again when that
// fails in a way that a retry may cure. Each try is a verdict for its target:
// for its breaker, and for the ejection of outliers.
//
// A request is tried again only
//   - if nothing of an answer was sent to the client,
//   - if it was never sent at all, or may be executed twice: its method is
//     idempotent, or it has an Idempotency-Key that the upstream honours
//     (unknown_outcome: forward). Under unknown_outcome: conflict a keyed
//     request is never sent twice, whatever its method,
//   - if its body can be sent again: there is none, or it was kept,
//   - within attempts, the feature's timeout and the upstream's retry budget,
//   - if a target takes it: one that was not asked yet, else any.
func tryStage(up *upstream, breakers []*breaker, rt *Route, m *tryMetrics) Stage {
	p := &tryPolicy{up: up, breakers: breakers, retry: RetryConfig{Attempts: 1}, metrics: m}
	if c := rt.Policy.Retry; c != nil {
		p.retry = *c
	}
	if c := rt.Policy.Hedge; c != nil {
		p.hedge = newHedge(*c)
	}
	if c := rt.Policy.Idempotency; c != nil {
		p.keyed, p.forward = true, c.UnknownOutcome == OutcomeForward
	}
	single := p.hedge == nil && p.retry.Attempts <= 1 && p.retry.PerTryTimeout == 0
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			if single {
				return p.single(next, x, w, r)
			}
			return p.run(next, x, w, r)
		}
	}
}

// tryPolicy is the stage of one route.
type tryPolicy struct {
	up       *upstream
	breakers []*breaker
	retry    RetryConfig
	hedge    *hedge // nil = never
	keyed    bool   // the feature honours Idempotency-Key
	forward  bool   // and so does the upstream
	metrics  *tryMetrics
}

// single is the only try.
func (p *tryPolicy) single(next Handler, x *Exchange, w http.ResponseWriter, r *http.Request) (err error) {
	x.Upstream = p.up.name
	var asked targetSet
	if x.attempt, err = p.up.choose(x, p.breakers, &asked); err != nil {
		return err
	}
	x.Target = x.target.name
	defer x.settle(unknown) // a panic is no verdict
	err = next(x, w, r)
	x.settle(verdict(x.status, err))
	return err
}

// tries is what one request has used up of its policy.
type tries struct {
	policy *tryPolicy
	asked  targetSet
	left   int       // tries after this one
	body   *keptBody // nil without a body
	next   *attempt  // reserved for the next try
	fresh  bool      // next was not asked before

	sent      bool // this try was, or may have been
	answering bool // an answer is on its way to the client
	clock     countdown
}

func (p *tryPolicy) run(next Handler, x *Exchange, w http.ResponseWriter, r *http.Request) error {
	t := &tries{policy: p, left: p.retry.Attempts - 1}
	x.Upstream = p.up.name
	first, err := p.up.choose(x, p.breakers, &t.asked)
	if err != nil {
		return err
	}
	x.attempt, x.tries = first, t
	if p.hedge != nil || t.left > 0 {
		p.up.budget.First()
	}
	if t.left > 0 {
		r = t.keepBody(r, int64(p.retry.MaxBody))
	}
	for {
		err := t.once(next, x, w, r)
		if err == nil {
			return nil
		}
		if t.next == nil && !t.again(x, r, t.cause(err)) {
			return err
		}
		if !t.pause(r.Context()) {
			t.next.settle(unknown)
			return err
		}
		x.attempt, t.next = *t.next, nil
		if t.body != nil && t.sent {
			again := *r
			again.Body = t.body.again()
			r = &again
		}
		t.left--
		p.metrics.retried()
	}
}

// once is one try: x.attempt.
func (t *tries) once(next Handler, x *Exchange, w http.ResponseWriter, r *http.Request) error {
	x.Target, x.status, t.sent = x.target.name, 0, false
	defer x.settle(unknown) // a panic is no verdict
	if d := t.policy.retry.PerTryTimeout.D(); d > 0 {
		ctx, cancel := context.WithCancelCause(r.Context())
		t.clock.start(d, oneTry(cancel))
		defer func() {
			t.clock.forget()
			cancel(nil)
		}()
		r = r.WithContext(ctx)
	}
	err := next(x, w, r)
	x.settle(verdict(x.status, err))
	return err
}

// oneTry is the time of one try; its context ends with the request's.
type oneTry context.CancelCauseFunc

func (oneTry) watch()         {}
func (cancel oneTry) expire() { cancel(errTryTimeout) }

// answered notes that the header of an answer has come: the time of one try is over.
func (t *tries) answered() {
	if t != nil {
		t.clock.forget()
	}
}

// begins notes that from here on the client gets an answer.
func (t *tries) begins() {
	if t != nil {
		t.answering = true
	}
}

// cause names what went wrong with a try the way RetryConfig.On does, "" if
// another try would not help.
func (t *tries) cause(err error) string {
	var p *problem.Error
	if t.answering || !errors.As(err, &p) {
		return ""
	}
	switch p.Code {
	case problem.UpstreamTimeout:
		return retryTimeout // that of the feature is refused by its context
	case problem.UpstreamUnreachable, problem.UpstreamInvalid:
		if t.sent {
			return retryReset
		}
		return retryUnreachable
	}
	return ""
}

// againAfter reports whether an answer with a status from 500 on is to be
// dropped for another try. If so, the try is reserved.
func (t *tries) againAfter(x *Exchange, r *http.Request, res *http.Response) bool {
	if t.left <= 0 || res.Header.Get("Retry-After") != "" {
		return false
	}
	cause := retry5xx
	if !slices.Contains(t.policy.retry.On, retry5xx) {
		switch res.StatusCode {
		case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			cause = retryGatewayError
		}
	}
	return t.again(x, r, cause)
}

// again reserves one more try if that is allowed.
func (t *tries) again(x *Exchange, r *http.Request, cause string) bool {
	p := t.policy
	switch {
	case t.left <= 0, cause == "", t.answering, !slices.Contains(p.retry.On, cause), causeOf(r.Context()) != nil:
		return false
	case t.sent && !p.repeatable(r), t.sent && t.body != nil && !t.body.whole():
		p.metrics.refused("unsafe")
		return false
	}
	asked := t.asked
	next, err := p.up.choose(x, p.breakers, &asked)
	t.fresh = err == nil
	if err != nil {
		asked = targetSet{}
		if next, err = p.up.choose(x, p.breakers, &asked); err != nil {
			p.metrics.refused("target")
			return false
		}
	}
	if !p.up.budget.Repeat() {
		next.settle(unknown)
		p.metrics.refused("budget")
		return false
	}
	t.asked = asked
	t.next = &next
	return true
}

// repeatable reports whether a request may be executed twice.
func (p *tryPolicy) repeatable(r *http.Request) bool {
	if p.keyed && honoursKey(r.Method) && len(r.Header["Idempotency-Key"]) > 0 {
		return p.forward
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return !hasToken(r.Header["Connection"], "upgrade")
	}
	return false
}

// pause waits before a target that was asked before is asked again; false when
// the request ended meanwhile.
func (t *tries) pause(ctx context.Context) bool {
	n := t.policy.retry.Attempts - 1 - t.left
	most := t.policy.retry.Backoff.D() << min(n, 10)
	if t.fresh || most <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(rand.N(most + 1)) // #nosec -- spreading load is no secret
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// keepBody sees to it that a body of at most so many bytes can be sent again.
func (t *tries) keepBody(r *http.Request, most int64) *http.Request {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return r
	}
	t.body = &keptBody{in: r.Body, get: r.GetBody, length: r.ContentLength, keep: r.GetBody == nil && r.ContentLength <= most && r.ContentLength > 0 && t.policy.repeatable(r)}
	kept := *r
	kept.Body = t.body
	return &kept
}

// keptBody keeps a request's body while its first try reads it. It is read by
// one goroutine at a time.
type keptBody struct {
	in     io.ReadCloser
	get    func() (io.ReadCloser, error) // of a body that is in memory already
	keep   bool
	length int64
	kept   []byte
}

func (b *keptBody) Read(p []byte) (int, error) {
	n, err := b.in.Read(p)
	if b.keep && n > 0 {
		if b.kept == nil {
			b.kept = make([]byte, 0, b.length)
		}
		b.kept = append(b.kept, p[:n]...)
	}
	return n, err
}

// Close closes nothing: the server closes a request's body.
func (b *keptBody) Close() error { return nil }

// whole reports whether the body can be sent again.
func (b *keptBody) whole() bool {
	return b.get != nil || b.keep && int64(len(b.kept)) == b.length
}

// again returns the body from its beginning; it must be whole.
func (b *keptBody) again() io.ReadCloser {
	if b.get != nil {
		if body, err := b.get(); err == nil {
			return body
		}
	}
	return io.NopCloser(bytes.NewReader(b.kept))
}
