package gateway

import (
	"net/http"

	"landline/internal/problem"
)

// bodyStage refuses request bodies above limit: at once when the length is
// said, else when it is exceeded.
func bodyStage(limit int64) Stage {
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			if r.ContentLength > limit {
				return problem.New(problem.BodyTooLarge, "the request body is larger than %d bytes", limit)
			}
			if r.ContentLength < 0 && x.body != nil {
				x.body.atMost(limit)
			}
			return next(x, w, r)
		}
	}
}
