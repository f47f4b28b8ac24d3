// Package maintenance keeps which features, or the whole app, are under
// maintenance, and what an app shows to its user meanwhile.
//
// It guarantees: a switch is durable and audited before Set and Clear return,
// and holds on this node from then on; other nodes follow at once through the
// bus and without it within half a second; a node that cannot read the database
// keeps what it knew. Asking costs one atomic load while nothing is switched.
//
// It does not: it decides no request (the gateway's maintenance stage does),
// and it removes no row whose end has come; such a row is only no longer heeded.
package maintenance

import (
	"math/rand/v2"
	"time"

	"landline/internal/problem"
)

// Notice is one maintenance.
type Notice struct {
	Title, Message string
	From, Until    time.Time     // zero = no bound
	RetryAfter     time.Duration // 0 = until the end, or a minute when there is none
	Allow          []string      // features that stay reachable; of the whole app's notice alone
}

// What an app shows when an operator wrote nothing.
const (
	DefaultTitle   = "Maintenance"
	DefaultMessage = "This is under maintenance. Please try again later."
)

const defaultRetry = time.Minute

// Active reports whether n holds at an instant; a nil Notice never does.
func (n *Notice) Active(now time.Time) bool {
	return n != nil && !now.Before(n.From) && (n.Until.IsZero() || now.Before(n.Until))
}

// shown is the member "maintenance" of the problem.
type shown struct {
	Title   string     `json:"title"`
	Message string     `json:"message"`
	Until   *time.Time `json:"until"`
}

// Problem is the answer to a request during n. The wait is spread a little, so
// that not every app comes back in the same second.
func (n *Notice) Problem(now time.Time) *problem.Error {
	s := shown{Title: n.Title, Message: n.Message}
	if s.Title == "" {
		s.Title = DefaultTitle
	}
	if s.Message == "" {
		s.Message = DefaultMessage
	}
	wait := n.RetryAfter
	if !n.Until.IsZero() {
		until := n.Until.UTC().Truncate(time.Second)
		s.Until = &until
		if left := n.Until.Sub(now); wait <= 0 || left < wait {
			wait = left
		}
	}
	if wait <= 0 {
		wait = defaultRetry
	}
	wait = max(wait, time.Second)
	wait += time.Duration(rand.Int64N(int64(min(wait/10, 30*time.Second)) + 1)) // #nosec -- spreading load is no secret
	return problem.New(problem.Maintenance, "").WithDetail(s.Message).After(wait).With("maintenance", s)
}
