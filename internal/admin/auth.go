package admin

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/audit"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/rest"
	"landline/internal/sqldb"
)

type operatorKey struct{}

// OperatorFrom returns the operator who makes the request; ok is false outside of one.
func OperatorFrom(ctx context.Context) (op Operator, ok bool) {
	op, ok = ctx.Value(operatorKey{}).(Operator)
	return op, ok
}

// authenticate lets in operators alone, and local callers where a token is not
// needed. A token that is presented must be good everywhere.
func (s *Server) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := r.Header.Values("Authorization")
		if len(header) == 0 {
			if !s.tokenNeedless(r) {
				fail(w, r, problem.New(problem.TokenMissing, "send Authorization: Bearer "+TokenPrefix+"… (make a token with `landline operator add`)"))
				return
			}
			next.ServeHTTP(w, r)
			return
		}
		op, err := s.identify(r, header)
		if err != nil {
			fail(w, r, err)
			return
		}
		ctx := context.WithValue(r.Context(), operatorKey{}, op)
		ctx = audit.WithActor(ctx, audit.Actor{Type: audit.TypeOperator, ID: op.ID, IP: remote(r).String()})
		if rec, ok := ctx.Value(recordKey{}).(*record); ok {
			rec.operator = op.ID
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// tokenNeedless reports whether r may pass without a token.
func (s *Server) tokenNeedless(r *http.Request) bool {
	if !local(r) || (r.Method != http.MethodGet && r.Method != http.MethodHead) {
		return false
	}
	switch r.URL.Path {
	case "/metrics", "/healthz", "/readyz":
		return true
	}
	return s.o.Development && isProfile(r.URL.Path)
}

func isProfile(path string) bool {
	return path == "/debug/pprof" || strings.HasPrefix(path, "/debug/pprof/")
}

func (s *Server) identify(r *http.Request, header []string) (Operator, error) {
	scheme, token, _ := strings.Cut(header[0], " ")
	formed := len(header) == 1 && strings.EqualFold(scheme, "Bearer") && wellFormed(token)
	// Behind one address may be all operators: a bad token of one must not shut
	// out the others, so that a blocked address is good for tokens that are known.
	if wait := s.limit.blocked(remote(r)); wait > 0 && (!formed || !s.live.has(r.Context(), token)) {
		s.metrics.authFailures.WithLabelValues("limited").Inc()
		return Operator{}, problem.New(problem.RateLimited, "too many bad tokens came from this address").After(wait)
	}
	if !formed {
		return Operator{}, s.refuse(r)
	}
	op, err := s.operators.Verify(r.Context(), token)
	switch {
	case errors.Is(err, errBadToken):
		return Operator{}, s.refuse(r)
	case unavailable(err) && !strings.HasPrefix(r.URL.Path, "/admin/"):
		// Metrics, health and profiles are read exactly when the database is gone.
		if op, ok := s.known.get(token); ok {
			return op, nil
		}
		return Operator{}, err
	case err != nil:
		return Operator{}, err
	}
	s.known.put(token, op)
	ctx, cancel := context.WithTimeout(r.Context(), time.Second)
	defer cancel()
	if err := s.operators.Used(ctx, op, token); err != nil {
		s.o.Log.WarnContext(r.Context(), "cannot note that an operator's token was used", "operator", op.ID, "error", err)
	}
	return op, nil
}

// refuse counts a bad token against its address. What was wrong with it is not said.
func (s *Server) refuse(r *http.Request) error {
	s.limit.failed(remote(r))
	s.metrics.authFailures.WithLabelValues("bad_token").Inc()
	return problem.New(problem.TokenInvalid, "the token is no operator's; it may have been rotated or removed")
}

func unavailable(err error) bool {
	return errors.Is(err, sqldb.ErrUnavailable) || errors.Is(err, sqldb.ErrBusy)
}

// authorise compares the operator's role with the least the operation asks for.
func (s *Server) authorise(c huma.Context, next func(huma.Context)) {
	if rec, ok := c.Context().Value(recordKey{}).(*record); ok {
		rec.opID = c.Operation().OperationID
	}
	op, ok := OperatorFrom(c.Context())
	if !ok {
		rest.Fail(c, problem.New(problem.TokenMissing, ""))
		return
	}
	if least := module.RoleOf(c.Operation()); !op.Role.Allows(least) {
		s.metrics.authFailures.WithLabelValues("role").Inc()
		rest.Fail(c, lacking(op, least))
		return
	}
	next(c)
}

func lacking(op Operator, least module.Role) error {
	return problem.New(problem.Forbidden, "this needs the role %s; %s has the role %s", least, op.Name, op.Role)
}

// plain guards a handler outside the API with the least role; callers without a
// token were let through by tokenNeedless.
func (s *Server) plain(opID string, least module.Role, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rec, ok := r.Context().Value(recordKey{}).(*record); ok {
			rec.opID = opID
		}
		if op, ok := OperatorFrom(r.Context()); ok && !op.Role.Allows(least) {
			s.metrics.authFailures.WithLabelValues("role").Inc()
			fail(w, r, lacking(op, least))
			return
		}
		next.ServeHTTP(w, r)
	})
}
