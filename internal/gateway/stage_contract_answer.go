package gateway

import (
	"bytes"
	"errors"
	"net/http"
	"strings"

	"landline/internal/gateway/contract"
)

// checkedAnswer is the ResponseWriter of an answer that is checked. It copies
// the body on its way or, with hold, keeps it back.
type checkedAnswer struct {
	http.ResponseWriter
	s  *contractor
	x  *Exchange
	r  *http.Request
	op *contract.Operation

	hold    bool
	before  http.Header // what earlier stages had set, with hold
	status  int
	copying bool
	held    bool        // nothing has gone out yet
	header  http.Header // of the answer, without hold
	body    bytes.Buffer
	refused []contract.Violation // the answer must not go out
}

// WriteHeader decides what is done with the answer.
func (a *checkedAnswer) WriteHeader(status int) {
	if a.status != 0 || status < 200 && status != http.StatusSwitchingProtocols {
		if a.status == 0 {
			a.ResponseWriter.WriteHeader(status)
		}
		return
	}
	a.status = status
	h := a.Header()
	length := announced(h)
	a.hold = a.hold && status < 500 // a failure is passed on as it is: it says more than ours would
	if a.x.Degraded != "" || status == http.StatusSwitchingProtocols {
		a.ResponseWriter.WriteHeader(status)
		return
	}
	empty := a.r.Method == http.MethodHead || !bodyAllowed(status) || length == 0
	checkable := !empty && !isEncoded(h) && !isStream(h) && h.Get("X-Accel-Buffering") != "no" &&
		(a.op.DescribesBody(status, h.Get("Content-Type")) || a.s.conventions && strings.Contains(h.Get("Content-Type"), "json"))
	switch {
	case checkable && length > int64(a.s.config.MaxBody):
		a.s.watch.count(a.s.rt, directionResponse, "skipped")
		checkable = false
	case checkable && a.hold && len(h["Trailer"]) > 0: // it could not be held back without being changed
		a.s.watch.count(a.s.rt, directionResponse, "skipped")
		checkable = false
	}
	if checkable {
		a.copying, a.held = true, a.hold
		if length > 0 {
			a.body.Grow(int(length))
		}
		if !a.held {
			a.header = h.Clone() // the check comes when the answer is gone
			a.ResponseWriter.WriteHeader(status)
		}
		return
	}
	found := a.op.CheckResponse(&contract.Response{Status: status, Header: h, Unread: !empty})
	if len(found) > 0 || empty {
		a.s.tell(directionResponse, a.op, status, found)
	}
	if len(found) > 0 && a.hold {
		a.refused = found
		return
	}
	a.ResponseWriter.WriteHeader(status)
}

// errRefusedAnswer ends the way of an answer that does not go out.
var errRefusedAnswer = errors.New("the answer differs from its contract")

func (a *checkedAnswer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if a.refused != nil {
		return 0, errRefusedAnswer
	}
	if a.copying {
		if int64(a.body.Len()+len(b)) > int64(a.s.config.MaxBody) {
			a.copying = false
			a.s.watch.count(a.s.rt, directionResponse, "skipped")
			if err := a.release(); err != nil {
				return 0, err
			}
			a.body = bytes.Buffer{}
		} else {
			a.body.Write(b)
		}
	}
	if a.held {
		return len(b), nil
	}
	return a.ResponseWriter.Write(b)
}

// release lets go what was held back.
func (a *checkedAnswer) release() error {
	if !a.held {
		return nil
	}
	a.held = false
	a.ResponseWriter.WriteHeader(a.status)
	if a.body.Len() > 0 {
		if _, err := a.ResponseWriter.Write(a.body.Bytes()); err != nil {
			return errClientGone
		}
	}
	return nil
}

// Flush is FlushError for callers of http.Flusher, who learn of a lost client at the next write.
func (a *checkedAnswer) Flush() {
	if err := a.FlushError(); err != nil {
		return
	}
}

// FlushError does nothing while the answer is held back.
func (a *checkedAnswer) FlushError() error {
	if a.held || a.refused != nil {
		return nil
	}
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController reach the connection.
func (a *checkedAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// end completes the check after the rest of the way has ended with err.
func (a *checkedAnswer) end(err error) error {
	switch {
	case a.refused != nil:
		a.forget()
		return a.s.violated(a.refused)
	case err != nil && a.held:
		a.forget()
		return err
	case err != nil || !a.copying:
		return err
	case !a.held:
		a.s.later(directionResponse, func() { a.check(a.header) })
		return nil
	}
	if found := a.check(a.Header()); len(found) > 0 {
		a.forget()
		return a.s.violated(found)
	}
	return a.release()
}

func (a *checkedAnswer) check(h http.Header) []contract.Violation {
	answer := &contract.Response{Status: a.status, Header: h, Body: a.body.Bytes()}
	found := a.op.CheckResponse(answer)
	if a.s.conventions {
		found = append(found, a.op.CheckConventions(answer)...)
	}
	a.s.tell(directionResponse, a.op, a.status, found)
	return found
}

// forget takes back what the answer has put into the header.
func (a *checkedAnswer) forget() {
	h := a.Header()
	clear(h)
	for name, values := range a.before {
		h[name] = values
	}
}
