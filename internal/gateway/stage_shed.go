package gateway

import (
	"net/http"

	"landline/internal/gateway/overload"
)

// noRoom is what requests that are turned away are told.
const noRoom = "this node has as much to do as it can"

// shedStage turns requests away, the least important first, when the node has
// as much under way as it can do.
func shedStage(g *overload.Guard, m *overloadMetrics, rt *Route) Stage {
	level := levelOf(rt.Priority)
	answer := newNoRoomAnswer(rt)
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			pass, refused := g.Enter(level)
			if refused != "" {
				m.shed.WithLabelValues(rt.Feature, level.String(), refused).Inc()
				if answer != nil && answer.write(x, w, r) {
					return nil
				}
				return rt.overloaded(noRoom)
			}
			x.pass = pass
			if rt.Policy.LongPoll {
				x.pass.Waits()
			}
			x.uploads = x.body != nil && (r.ContentLength < 0 || r.ContentLength > longBody)
			defer x.pass.Leave()
			return next(x, w, r)
		}
	}
}

// answerBegins tells the guard that the answer's header is written: its time
// counts, unless the request was one whose time says nothing. A stream leaves
// the guard's count, since it may stay for hours.
func (x *Exchange) answerBegins(status int, h http.Header) {
	switch {
	case status == http.StatusSwitchingProtocols, isStream(h):
		x.pass.Leave()
	default:
		x.pass.Answered(status < 500 && !x.untimed())
	}
}

// longBody is a request body whose upload may take longer than the work on it.
const longBody = 64 << 10

// untimed reports whether the time of the request's answer says nothing about
// load: an upload, or an answer that is held back on purpose.
func (x *Exchange) untimed() bool {
	return x.Route.Policy.LongPoll || x.uploads
}
