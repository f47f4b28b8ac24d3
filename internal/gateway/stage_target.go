package gateway

import (
	"context"
	"errors"

	"landline/internal/problem"
)

// errClientGone says that the caller left before its answer was complete.
// Nobody reads what is made of it; it is no fault of the feature.
var errClientGone = problem.New(problem.RequestTimeout, "the client went away").Wrap(context.Canceled)

// verdict says what an answer or an error tells about the target.
func verdict(status int, err error) outcome {
	if err == nil {
		if status >= 500 {
			return bad
		}
		return good
	}
	var p *problem.Error
	if errors.As(err, &p) {
		switch p.Code {
		case problem.UpstreamTimeout, problem.UpstreamUnreachable, problem.UpstreamInvalid:
			return bad
		}
	}
	if errors.Is(err, errUpstream5xx) {
		return bad
	}
	return unknown
}
