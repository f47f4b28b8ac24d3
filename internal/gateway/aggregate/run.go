package aggregate

import (
	"context"
	"errors"
	"math/bits"
	"sync"
	"sync/atomic"
)

// Request is one call, ready to be sent.
type Request struct {
	Path  string // escaped
	Query string
	Body  []byte // nil for none
}

// Answer is what became of a call: JSON that Valid has seen, or a Failure.
type Answer struct {
	JSON    []byte
	Partial []GraphQLError // a GraphQL answer that is not whole
	Failure *Failure
}

// Do sends call i of the plan. It must return soon after ctx has ended.
type Do func(ctx context.Context, i int, r *Request) Answer

// ErrRequiredFailed is the cause of the context of reads that are cancelled
// because a required call has failed.
var ErrRequiredFailed = errors.New("a required call has failed")

// Result is the answer of a plan, or why there is none.
type Result struct {
	Body    []byte
	Partial string // value of the header Landline-Partial, "" for a whole answer
	Failed  *Failed
	Causes  error // what failed without ending the whole, for the log
}

// Failed is the required call that ended the whole.
type Failed struct {
	Call    string
	Failure *Failure
}

// outcome is what one call came to.
type outcome struct {
	skipped bool
	failure *Failure
	stock   bool // the fallback stands in
	shaped  []byte
	partial []GraphQLError
}

// run is one request's way through a plan.
type run struct {
	plan    *Plan
	in      *Input
	do      Do
	ctx     context.Context //nolint:containedctx // lives as long as Run
	reads   context.Context //nolint:containedctx // ends when a required call fails
	cancel  context.CancelCauseFunc
	wanted  uint32
	waiting [MaxCalls]atomic.Int32
	results [MaxCalls]outcome
	answers [MaxCalls][]byte // as the services sent them, for templates
	failed  atomic.Int32     // the first required call that failed, +1
	group   sync.WaitGroup
	panics  atomic.Pointer[any]
	missing []missing
}

// Run makes the calls that f needs and puts their answers together. It returns
// when every call has ended; a panic of do comes out of it. The error is for
// the client: a field that the answer never has.
func (p *Plan) Run(ctx context.Context, in *Input, f Fields, do Do) (Result, error) {
	wanted, err := p.wanted(f)
	if err != nil {
		return Result{}, err
	}
	r := &run{plan: p, in: in, do: do, ctx: ctx, wanted: wanted}
	r.reads, r.cancel = context.WithCancelCause(ctx)
	defer r.cancel(nil)
	var ready uint32
	for i, call := range p.Calls {
		if wanted&(1<<i) == 0 {
			r.results[i].skipped = true
			continue
		}
		r.waiting[i].Store(int32(len(call.after))) // #nosec G115 -- a plan has at most 16 calls
		if len(call.after) == 0 {
			ready |= 1 << i
		}
	}
	r.start(ready)
	r.group.Wait()
	if cause := r.panics.Load(); cause != nil {
		panic(*cause)
	}
	if n := r.failed.Load(); n > 0 {
		return Result{Failed: &Failed{p.Calls[n-1].Name, r.results[n-1].failure}}, nil
	}
	return r.finish(f), nil
}

// start runs the calls of a set: one here, the others beside it.
func (r *run) start(ready uint32) {
	if ready == 0 {
		return
	}
	here := bits.TrailingZeros32(ready)
	for rest := ready &^ (1 << here); rest != 0; rest &= rest - 1 {
		i := bits.TrailingZeros32(rest)
		r.group.Add(1)
		go func() {
			defer r.group.Done()
			r.perform(i)
		}()
	}
	r.perform(here)
}

// perform makes call i, and then those that waited for it alone.
func (r *run) perform(i int) {
	defer func() {
		if cause := recover(); cause != nil {
			r.panics.CompareAndSwap(nil, &cause)
			r.cancel(ErrRequiredFailed)
		}
	}()
	call := r.plan.Calls[i]
	out := &r.results[i]
	raw, partial, failure := r.call(call)
	if failure == nil {
		if out.shaped = call.shaped(raw); out.shaped == nil {
			failure = &Failure{Reason: reasonInvalid, Cause: errors.New("the answer has nothing at the path of flatten")}
		}
	}
	out.failure, out.partial = failure, partial
	switch {
	case failure == nil:
		r.answers[i] = raw
	case call.fallback != nil:
		out.stock, out.shaped, r.answers[i] = true, call.fallback, call.unshaped
	case call.Required:
		if r.failed.CompareAndSwap(0, int32(i+1)) { // #nosec G115 -- a plan has at most 16 calls
			r.cancel(ErrRequiredFailed)
		}
		return // what waits for it is not made
	}
	var ready uint32
	for _, j := range call.dependents {
		if r.wanted&(1<<j) != 0 && r.waiting[j].Add(-1) == 0 {
			ready |= 1 << j
		}
	}
	r.start(ready)
}

func (r *run) call(call *Call) ([]byte, []GraphQLError, *Failure) {
	for _, j := range call.after {
		if before := &r.results[j]; before.shaped == nil {
			return nil, nil, &Failure{Reason: before.failure.Reason, Status: before.failure.Status, After: r.plan.Calls[j].Name, Cause: before.failure.Cause,
				RetryAfter: before.failure.RetryAfter}
		}
	}
	if r.failed.Load() != 0 {
		return nil, nil, &Failure{Reason: reasonCancelled, Cause: ErrRequiredFailed}
	}
	req, err := r.request(call)
	if err != nil {
		return nil, nil, valueFailure(err)
	}
	ctx := r.reads
	if call.Write {
		ctx = r.ctx // a write is not cut off because another call failed
	}
	a := r.do(ctx, call.index, req)
	if a.Failure == nil {
		a.JSON = trim(a.JSON)
	}
	return a.JSON, a.Partial, a.Failure
}

func (r *run) request(call *Call) (*Request, error) {
	req := &Request{}
	var err error
	if req.Path, req.Query, err = call.Target.fill(r.in, r.answers[:]); err != nil {
		return nil, err
	}
	if len(call.pass) > 0 {
		b := []byte(req.Query)
		for _, name := range call.pass {
			if value, there := r.in.Query(name); there {
				if len(b) > 0 {
					b = append(b, '&')
				}
				b = appendEscapedText(append(appendEscapedText(b, name), '='), value)
			}
		}
		req.Query = string(b)
	}
	var variables []byte
	if call.body != nil {
		var there bool
		if variables, there, err = call.body.append(make([]byte, 0, 256), r.in, r.answers[:]); err != nil {
			return nil, err
		}
		if !there {
			variables = nil
		}
	}
	if req.Body = variables; call.GraphQL != nil {
		req.Body = call.GraphQL.Request(variables)
	}
	return req, nil
}

// value is what a path of the shape leads to; nil when it is not there.
func (r *run) value(s *shape) []byte {
	b := r.results[s.call].shaped
	if b == nil {
		return nil
	}
	found, _ := find(b, s.path)
	return found
}

// lookup is value, and notes what is not there although its call succeeded.
func (r *run) lookup(s *shape) []byte {
	v := r.value(s)
	if out := &r.results[s.call]; v == nil && !s.optional && out.shaped != nil {
		r.note(missing{call: s.call, reason: reasonAbsent, path: s.text})
	}
	return v
}

func (r *run) note(m missing) {
	if len(r.missing) < maxMissing {
		r.missing = append(r.missing, m)
	}
}

// finish puts the answers together.
func (r *run) finish(f Fields) Result {
	var res Result
	size := 64
	var causes []error
	for i := range r.plan.Calls {
		out := &r.results[i]
		size += len(out.shaped) + 32
		if out.failure != nil {
			r.note(missing{call: i, failure: out.failure, stock: out.stock})
			causes = append(causes, &callError{r.plan.Calls[i].Name, out.failure})
		}
		for _, e := range out.partial {
			r.note(missing{call: i, reason: reasonErrors, path: e.Path, code: e.Code})
		}
	}
	res.Causes = errors.Join(causes...)
	w := writer{run: r, out: make([]byte, 0, size)}
	if r.plan.root {
		w.whole(r.plan.shape, f)
	} else {
		w.object(r.plan.shape, f, true)
	}
	res.Body, res.Partial = w.out, partialHeader(r.plan, r.missing)
	return res
}

// whole writes the answer of a plan whose answer is that of one call. What is
// missing becomes a member where it is an object.
func (w *writer) whole(s *shape, f *tree) {
	if !w.write(s, f) {
		w.out = append(w.out, "null"...)
	}
	if len(w.run.missing) == 0 || w.out[0] != '{' {
		return
	}
	w.out = w.out[:len(w.out)-1]
	if len(trim(w.out)) > 1 {
		w.out = append(w.out, ',')
	}
	w.out = append(appendMissing(append(w.out, `"missing":`...), w.run.plan, w.run.missing), '}')
}
