package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/clock"
	"landline/internal/gateway/contract"
	"landline/internal/observe"
	"landline/internal/problem"
)

// Directions of what is checked.
const (
	directionRequest  = "request"
	directionResponse = "response"
)

// maxFieldLabels bounds the fields that violations are counted by.
const maxFieldLabels = 500

// contractWatch counts differences from contracts, for all routes.
type contractWatch struct {
	journal    *contract.Journal
	clock      clock.Clock
	log        *slog.Logger
	checks     *prometheus.CounterVec // feature direction outcome
	violations *prometheus.CounterVec // feature api_version direction field
	fields     *observe.LabelCap
	background chan struct{} // one for each check that may run besides requests
}

// maxBackground bounds the checks that run at once behind the requests' backs.
const maxBackground = 8

func newContractWatch(reg prometheus.Registerer, c clock.Clock, log *slog.Logger) *contractWatch {
	return &contractWatch{
		journal: contract.NewJournal(), clock: c, log: log,
		checks: observe.Counter(reg, "landline_gateway_contract_checks_total",
			"Requests and answers of features with a contract: ok, violated, skipped (a stream, too large, encoded, or too many at once). Answers that were not sampled are not counted.", "feature", "direction", "outcome"),
		violations: observe.Counter(reg, "landline_gateway_contract_violations_total",
			"Differences from a feature's contract, by place in the document's words; other beyond 500 places.", "feature", "api_version", "direction", "field"),
		fields:     observe.CapLabel(maxFieldLabels),
		background: make(chan struct{}, maxBackground),
	}
}

// contractStage checks a route's requests and answers against its document.
//
// Requests: a body that the document describes is read into memory, within
// max_body, before anything behind this stage sees the request; with report it
// is copied while it is read. Answers: with report the client gets each byte as
// it comes, and the copy is checked afterwards, on a goroutine of its own; with
// enforce the answer is held back until it is checked. Streams and answers
// above max_body are never held. What was stood in for a failure (a stock
// answer, a stale copy) is not checked.
func contractStage(watch *contractWatch, rt *Route, rc *routeContract) Stage {
	if rc.config.Requests == contractOff && rc.config.Responses == contractOff {
		return func(next Handler) Handler { return next }
	}
	s := &contractor{watch: watch, rt: rt, routeContract: rc}
	s.conventions = rc.config.Conventions || rc.binding.Document.Conventions
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error { return s.handle(next, x, w, r) }
	}
}

// contractor is the stage of one route.
type contractor struct {
	*routeContract
	watch       *contractWatch
	rt          *Route
	conventions bool
}

func (s *contractor) handle(next Handler, x *Exchange, w http.ResponseWriter, r *http.Request) error {
	path := x.path
	if s.upstream != nil {
		path = s.upstream.expand("", x.Params)
	}
	op, below := s.binding.Find(r.Method, path)
	if op == nil {
		return s.undescribed(next, x, w, r)
	}
	finish, err := s.request(op, below, x, r)
	if err != nil {
		return err
	}
	if finish != nil {
		defer finish()
	}
	if s.config.Responses == contractOff || s.config.Sample < 1 && rand.Float64() >= s.config.Sample { // #nosec G404 -- a sample, no secret
		return next(x, w, r)
	}
	answer := &checkedAnswer{ResponseWriter: w, s: s, x: x, r: r, op: op, hold: s.config.Responses == contractEnforce}
	if answer.hold {
		answer.before = shallow(w.Header())
	}
	return answer.end(next(x, answer, r))
}

// undescribed is a request of a route for many paths to one that the document does not have.
func (s *contractor) undescribed(next Handler, x *Exchange, w http.ResponseWriter, r *http.Request) error {
	if s.config.Requests == contractOff {
		return next(x, w, r)
	}
	found := []contract.Violation{{In: contract.InPath, Field: "/", Message: "is not in the contract with this method", Shape: "another path"}}
	s.tell(directionRequest, nil, 0, found)
	if s.config.Requests == contractEnforce {
		return refusal(found)
	}
	return next(x, w, r)
}

// request checks what came from the client. finish, when not nil, completes a
// check that must not delay the request.
func (s *contractor) request(op *contract.Operation, path string, x *Exchange, r *http.Request) (finish func(), err error) {
	if s.config.Requests == contractOff {
		return nil, nil
	}
	q := &contract.Request{Path: path, Query: r.URL.RawQuery, Header: r.Header}
	q.HasBody = r.ContentLength != 0 && r.Body != nil && r.Body != http.NoBody
	most := int64(s.config.MaxBody)
	switch {
	case !q.HasBody:
	case !op.TakesBody(r.Header.Get("Content-Type")) || isEncoded(r.Header) && s.config.Requests == contractReport:
		q.Unread = true
	case s.config.Requests == contractReport && r.ContentLength > most:
		q.Unread = true
		s.watch.count(s.rt, directionRequest, "skipped")
	case s.config.Requests == contractReport:
		copied := &copiedBody{ReadCloser: r.Body, most: most}
		r.Body = copied
		return func() {
			if q.Body = copied.bytes(); q.Body == nil {
				s.watch.count(s.rt, directionRequest, "skipped")
				return
			}
			s.later(directionRequest, func() { s.tell(directionRequest, op, 0, op.CheckRequest(q)) })
		}, nil
	default:
		if q.Body, err = readForCheck(x, r, most); err != nil {
			return nil, err
		}
		restore(r, q.Body)
	}
	found := op.CheckRequest(q)
	s.tell(directionRequest, op, 0, found)
	if len(found) > 0 && s.config.Requests == contractEnforce {
		return nil, refusal(found)
	}
	return nil, nil
}

func isEncoded(h http.Header) bool {
	e := h.Get("Content-Encoding")
	return e != "" && e != "identity"
}

// refusal is the problem of a request that differs from its contract. It holds
// places and rules, no values.
func refusal(found []contract.Violation) error {
	type entry struct {
		In      string `json:"in"`
		Path    string `json:"path"`
		Message string `json:"message"`
	}
	list := make([]entry, len(found))
	for i, v := range found {
		list[i] = entry{v.In, v.Path, v.Message}
	}
	first := found[0]
	return problem.New(problem.ContractViolation, "").WithDetail(first.In+" "+first.Path+": "+first.Message).With("errors", list)
}

// readForCheck takes a request's body into memory.
func readForCheck(x *Exchange, r *http.Request, most int64) ([]byte, error) {
	tooLarge := problem.New(problem.BodyTooLarge, "a request that is checked against its contract may have a body of at most %d bytes", most)
	if r.ContentLength > most {
		return nil, tooLarge
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, most+1))
	switch {
	case err != nil && x.body != nil && x.body.fault() != nil:
		return nil, x.body.fault()
	case err != nil && problem.From(err).Code != problem.Internal:
		return nil, err
	case err != nil:
		return nil, errClientGone
	case int64(len(body)) > most:
		return nil, tooLarge
	case body == nil:
		body = []byte{}
	}
	return body, nil
}

// tell counts a check and what it found.
func (s *contractor) tell(direction string, op *contract.Operation, status int, found []contract.Violation) {
	outcome := "ok"
	if len(found) > 0 {
		outcome = "violated"
	}
	s.watch.count(s.rt, direction, outcome)
	where := contract.Where{Feature: s.rt.Feature, APIVersion: s.rt.APIVersion, Direction: direction, Match: s.rt.Match, Status: status}
	if op != nil {
		where.Operation = op.Method + " " + op.Path
	}
	for _, v := range found {
		s.watch.violations.WithLabelValues(s.rt.Feature, s.rt.APIVersion, direction, s.watch.fields.Value(v.In+v.Field)).Inc()
		s.watch.journal.Add(where, v, s.watch.clock.Now())
	}
}

func (w *contractWatch) count(rt *Route, direction, outcome string) {
	w.checks.WithLabelValues(rt.Feature, direction, outcome).Inc()
}

// later runs a check on a goroutine of its own, unless too many run already.
func (s *contractor) later(direction string, check func()) {
	select {
	case s.watch.background <- struct{}{}:
		go func() {
			defer func() {
				if p := recover(); p != nil { // a fault of ours must not take the node down
					s.watch.count(s.rt, direction, "skipped")
					s.watch.log.Error("a contract's check panicked", "feature", s.rt.Feature, "match", s.rt.Match, "panic", fmt.Sprint(p))
				}
				<-s.watch.background
			}()
			check()
		}()
	default:
		s.watch.count(s.rt, direction, "skipped")
	}
}

// copiedBody keeps a copy of a request's body as it is read.
type copiedBody struct {
	io.ReadCloser
	most     int64
	copied   bytes.Buffer
	complete bool
	over     bool
}

func (b *copiedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if !b.over {
		if int64(b.copied.Len()+n) > b.most {
			b.over, b.copied = true, bytes.Buffer{}
		} else {
			b.copied.Write(p[:n])
		}
	}
	b.complete = b.complete || errors.Is(err, io.EOF)
	return n, err
}

// bytes is the body, nil when it was not read to its end or is too large.
func (b *copiedBody) bytes() []byte {
	if b.over || !b.complete {
		return nil
	}
	return append([]byte{}, b.copied.Bytes()...)
}

// violated is the problem of an answer that differs from its contract.
func (s *contractor) violated(found []contract.Violation) error {
	first := found[0]
	return problem.New(problem.UpstreamInvalid, "the service behind %s gave an invalid answer", s.rt.Feature).
		Wrap(fmt.Errorf("contract %s: %s %s %s; it was: %s (%d differences)", s.binding.Document.Name, first.In, first.Field, first.Message, first.Shape, len(found)))
}

// announced is a body's length as its header says, -1 if it does not.
func announced(h http.Header) int64 {
	n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}
