package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"landline/internal/gateway/cache"
)

// How long requests need not wait for one another after their answer turned
// out to be unfit for sharing.
const markFor = 10 * time.Second

// fill is a question to the upstream whose answer is to be stored. It is the
// ResponseWriter of the rest of the way.
type fill struct {
	*cacher
	store  *cache.Store
	flight *cache.Flight // nil when nobody waits
	next   Handler
	x      *Exchange
	w      http.ResponseWriter // nil in the background
	r      *http.Request       // as the client sent it
	q      question
	old    *cache.Entry // stale, or nil
	mark   cache.Mark
	place  cache.Place // in the second level
	shared *cache.Shared

	asked    time.Time
	answered time.Time
	cancel   context.CancelCauseFunc
	header   http.Header
	status   int
	body     bytes.Buffer
	mode     fillMode
}

type fillMode uint8

const (
	waiting  fillMode = iota // for the header
	holding                  // the answer may be stored
	stock                    // a stock answer
	dropping                 // a failure that a stale copy stands in for
	passing                  // the client gets what comes
)

// errUnstorable ends a refresh in the background whose answer cannot be stored.
var errUnstorable = errors.New("the answer cannot be stored")

// second looks into the shared store. It returns an entry that may be given.
func (f *fill) second() *cache.Entry {
	f.shared = f.caching.shared.Load()
	if f.shared == nil {
		return nil
	}
	e, place, err := f.shared.Get(context.WithoutCancel(f.r.Context()), f.rt.Feature, f.id, f.q.key, f.r.Header)
	f.place = place
	switch {
	case err != nil:
		return nil // counted by sharedFailed; a pause is none to count
	case e == nil:
		f.metrics.shared.WithLabelValues("miss").Inc()
		return nil
	}
	f.metrics.shared.WithLabelValues("hit").Inc()
	if cache.Decide(&f.policy, &f.q.asked, e, f.o.Clock.Now()) != cache.Fresh {
		if f.old == nil {
			f.old = e
		}
		return nil
	}
	if !f.store.Put(e, f.mark) && f.store.Purged(e, f.mark) {
		return nil
	}
	f.end(cache.Result{Entry: e})
	return e
}

// end lets those go who wait; the first call counts.
func (f *fill) end(r cache.Result) {
	if f.flight == nil {
		return
	}
	if n := f.flight.End(r); n > 0 && r == (cache.Result{}) {
		f.store.Put(cache.NewMark(f.q.key, f.rt.Feature, f.id, f.o.Clock.Now().Add(markFor)), f.mark)
	}
}

// run asks the upstream. It does not end when the client leaves: others may
// wait, and others will come.
func (f *fill) run() error {
	restore := f.anonymous(f.x)
	defer restore()
	for range 2 {
		err := f.attempt(f.old)
		if again := f.mode == holding && err == nil && f.status == http.StatusNotModified && !f.old.Confirms(f.header); !again {
			return f.finish(err)
		}
		f.store.Remove(f.old) // the 304 is about another answer
		f.old = nil
	}
	return f.finish(errUnstorable)
}

// attempt runs the rest of the way once.
func (f *fill) attempt(old *cache.Entry) error {
	f.mode, f.status, f.header = waiting, 0, http.Header{}
	f.body.Reset()
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(f.r.Context()))
	defer cancel(nil)
	if f.w == nil { // in the background it ends with the gateway
		stop := context.AfterFunc(f.r.Context(), func() { cancel(context.Cause(f.r.Context())) })
		defer stop()
	}
	f.cancel = cancel
	r := f.r.WithContext(ctx)
	r.Method, r.Header = http.MethodGet, shallow(f.r.Header)
	cache.Unconditional(r.Header)
	if old != nil {
		old.Validators(r.Header)
	}
	if f.policy.Anonymous {
		f.strip(r.Header)
	}
	f.asked = f.o.Clock.Now()
	return f.next(f.x, f, r)
}

// Header is the fill's own until the answer is passed on.
func (f *fill) Header() http.Header {
	if f.mode == passing && f.w != nil {
		return f.w.Header()
	}
	return f.header
}

// WriteHeader decides what becomes of the answer. Informational answers are
// dropped: they are for one client, and the answer is for many.
func (f *fill) WriteHeader(status int) {
	if f.status != 0 || status < 200 {
		return
	}
	f.status, f.answered = status, f.o.Clock.Now()
	switch {
	case f.x.stock:
		f.mode = stock
	case f.x.Degraded == "fallback" && f.standIn() && !isStream(f.header):
		f.mode = dropping
	case f.x.Degraded != "":
		f.pass() // less than the whole answer, or an older one
	case status == http.StatusNotModified && f.old != nil:
		f.mode = holding
	case cache.Failure(status) && f.standIn():
		f.mode = dropping
	case f.fits():
		f.mode = holding
	default:
		f.pass()
	}
}

// standIn reports whether there is a stale copy for a failure.
func (f *fill) standIn() bool {
	return f.old != nil && cache.InsteadOfError(&f.policy, &f.q.asked, f.old, f.o.Clock.Now())
}

// fits reports whether the answer may be stored as far as its header says.
func (f *fill) fits() bool {
	if isStream(f.header) {
		return false
	}
	if length := f.header.Get("Content-Length"); length != "" {
		if n, err := strconv.ParseInt(length, 10, 64); err != nil || n > int64(f.config.MaxBody) {
			return false
		}
	} else if f.header.Get("X-Accel-Buffering") == "no" {
		return false
	}
	_, ok := cache.Storable(&f.policy, &f.q.asked, f.status, f.header)
	return ok
}

// pass begins to send the answer to the client as it comes, to no one else.
func (f *fill) pass() {
	f.end(cache.Result{})
	if f.old != nil && f.status < 500 {
		f.store.Remove(f.old) // the upstream has something else now
	}
	f.mode = passing
	if f.w == nil {
		f.cancel(errUnstorable)
		return
	}
	f.count[cacheUnstorable].Inc()
	context.AfterFunc(f.r.Context(), func() { f.cancel(context.Canceled) }) // from now on it is the client's alone
	h := f.w.Header()
	for name, values := range f.header {
		if name != f.tags {
			h[name] = values
		}
	}
	h["Cache-Status"] = append(f.header["Cache-Status"], cacheName+"; fwd="+f.why()+"; fwd-status="+strconv.Itoa(f.status))
	f.w.WriteHeader(f.status)
	if f.body.Len() > 0 {
		f.w.Write(f.body.Bytes()) //nolint:errcheck // the next write tells
		f.body = bytes.Buffer{}
	}
}

// why is RFC 9211's fwd.
func (f *fill) why() string {
	switch {
	case f.old == nil:
		return "miss"
	case f.old.Left(f.asked) > 0:
		return "request"
	}
	return "stale"
}

func (f *fill) Write(b []byte) (int, error) {
	if f.status == 0 {
		f.WriteHeader(http.StatusOK)
	}
	if f.mode == holding && int64(f.body.Len()+len(b)) > int64(f.config.MaxBody) {
		f.pass()
	}
	switch {
	case f.mode == dropping:
		return len(b), nil
	case f.mode == passing && f.w == nil:
		return 0, errUnstorable
	case f.mode == passing:
		return f.w.Write(b)
	}
	return f.body.Write(b)
}

// FlushError does nothing while the answer is held back.
func (f *fill) FlushError() error {
	if f.mode == passing && f.w != nil {
		return http.NewResponseController(f.w).Flush()
	}
	return nil
}

// SetWriteDeadline concerns the client's connection, to which nothing is
// written while the answer is held back.
func (f *fill) SetWriteDeadline(at time.Time) error {
	if f.mode == passing && f.w != nil {
		return http.NewResponseController(f.w).SetWriteDeadline(at)
	}
	return nil
}

// EnableFullDuplex has no meaning for a request without a body.
func (f *fill) EnableFullDuplex() error { return nil }

// finish does what is to be done when the rest of the way has ended.
func (f *fill) finish(err error) error {
	switch {
	case f.mode == passing:
		return err
	case err != nil:
		return f.failed(err)
	}
	if f.status == 0 {
		f.WriteHeader(http.StatusOK)
	}
	switch f.mode {
	case dropping:
		return f.stale(f.status, f.x.Cause)
	case stock:
		return f.stockAnswer()
	case passing:
		return nil
	}
	for name := range f.header {
		if strings.HasPrefix(name, http.TrailerPrefix) { // came unannounced: nothing to store
			f.pass()
			if f.w != nil {
				f.w.Header()[name] = f.header[name]
			}
			return nil
		}
	}
	if f.status == http.StatusNotModified && f.old != nil {
		return f.revalidated()
	}
	return f.stored(f.status, f.header, bytes.Clone(f.body.Bytes()), cacheMiss, "; fwd="+f.why()+"; fwd-status="+strconv.Itoa(f.status))
}

// failed is for an upstream that gave no answer.
func (f *fill) failed(err error) error {
	if failure(err) {
		if f.standIn() {
			return f.stale(0, err)
		}
		f.end(cache.Result{Err: err})
	}
	return err
}

// stale gives the old answer, to those who wait as well.
func (f *fill) stale(status int, cause error) error {
	if cause == nil {
		cause = fmt.Errorf("the upstream answered with status %d", status)
	}
	f.end(cache.Result{Cause: cause}) // each has the same copy, and gives it
	f.x.Cause = cause
	if f.w == nil {
		return cause
	}
	return f.instead(f.x, f.w, f.r, f.old, status)
}

// stockAnswer is what the fallback stage made of a failure.
func (f *fill) stockAnswer() error {
	cause := f.x.Cause
	if cause == nil {
		cause = errUnstorable
	}
	if f.standIn() {
		f.header = http.Header{}
		return f.stale(f.x.status, cause)
	}
	e := cache.NewEntry(&f.policy, f.answer(f.status, f.header, bytes.Clone(f.body.Bytes())))
	if e == nil || f.w == nil {
		return cause
	}
	delete(e.Header, "Landline-Degraded")
	f.end(cache.Result{Entry: e, Stock: true, Cause: cause})
	f.w.Header()["Landline-Degraded"] = []string{"fallback"}
	return f.give(f.x, f.w, f.r, e, "; fwd="+f.why())
}

// revalidated is for a 304 about the old answer.
func (f *fill) revalidated() error {
	merged := f.old.Freshen(f.header, f.tags)
	if _, ok := cache.Storable(&f.policy, &f.q.asked, f.old.Status, merged); !ok {
		f.store.Remove(f.old)
		if f.w == nil {
			return errUnstorable
		}
		f.end(cache.Result{})
		e := cache.NewEntry(&f.policy, f.answer(f.old.Status, merged, f.old.Body))
		if e == nil {
			e = f.old
		}
		return f.give(f.x, f.w, f.r, e, "; fwd="+f.why()+"; fwd-status=304")
	}
	took := f.old.Took // what a full answer costs
	return f.storedTook(f.old.Status, merged, f.old.Body, took, cacheRevalidated, "; fwd="+f.why()+"; fwd-status=304")
}

func (f *fill) stored(status int, h http.Header, body []byte, outcome, how string) error {
	return f.storedTook(status, h, body, f.x.UpstreamTook, outcome, how)
}

// storedTook stores an answer and gives it.
func (f *fill) storedTook(status int, h http.Header, body []byte, took time.Duration, outcome, how string) error {
	a := f.answer(status, h, body)
	a.Took = took
	e := cache.NewEntry(&f.policy, a)
	switch {
	case e == nil:
		f.end(cache.Result{})
		f.mode, f.header, f.status = waiting, h, status
		f.body = *bytes.NewBuffer(body)
		f.pass()
		return nil
	case f.store.Put(e, f.mark):
		f.end(cache.Result{Entry: e})
		f.remember(e)
		how += "; stored"
	default:
		f.end(cache.Result{})
	}
	if f.w == nil {
		return nil
	}
	f.count[outcome].Inc()
	return f.give(f.x, f.w, f.r, e, how)
}

// answer is what an entry is made from.
func (f *fill) answer(status int, h http.Header, body []byte) cache.Answer {
	for name := range h {
		if notStored[name] && name != "Age" || hopByHop[name] {
			delete(h, name)
		}
	}
	return cache.Answer{
		Key: f.q.key, Feature: f.rt.Feature, Policy: f.id, Status: status, Header: h, Body: body, Request: f.r.Header,
		Asked: f.asked, Answered: f.answered, Took: f.x.UpstreamTook, TagField: f.tags,
	}
}

// remember puts an entry into the second level, beside the request.
func (f *fill) remember(e *cache.Entry) {
	if f.shared == nil {
		return
	}
	second, place, header := f.shared, f.place, f.r.Header
	f.background(func(ctx context.Context) {
		ok, err := second.Put(ctx, place, e, header)
		if ok && err == nil {
			f.metrics.shared.WithLabelValues("stored").Inc()
		}
	})
}

// quietly is run in the background: a panic is an error.
func (f *fill) quietly() (err error) {
	defer func() {
		if v := recover(); v != nil {
			f.o.Log.Error("a refresh of a stored answer panicked", "feature", f.rt.Feature, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	if f.second() != nil {
		return nil // another node was quicker
	}
	return f.run()
}

// untagged hides the surrogate keys from the client.
type untagged struct {
	http.ResponseWriter
	name string
}

func (w *untagged) WriteHeader(status int) {
	w.ResponseWriter.Header().Del(w.name)
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *untagged) Unwrap() http.ResponseWriter { return w.ResponseWriter }
