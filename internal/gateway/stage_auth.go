package gateway

import (
	"net/http"
	"strings"
	"time"

	"landline/internal/module"
	"landline/internal/problem"
)

// authenticate verifies the request's access token. It returns nil, nil when
// the request has no Authorization header at all.
func authenticate(o *Options, r *http.Request) (*module.Principal, error) {
	values, sent := r.Header["Authorization"]
	switch {
	case !sent || len(values) == 0:
		return nil, nil
	case len(values) > 1:
		return nil, problem.New(problem.TokenInvalid, "the request has more than one Authorization header")
	case strings.TrimSpace(values[0]) == "":
		return nil, problem.New(problem.TokenInvalid, "the Authorization header is empty; leave it out to call without a token")
	case o.Auth == nil:
		return nil, problem.New(problem.TokenInvalid, "no access tokens are issued here; call without an Authorization header")
	}
	p, err := o.Auth.Authenticate(r)
	if err == nil && p == nil {
		err = problem.New(problem.TokenInvalid, "the Authorization header holds no access token")
	}
	return p, err
}

// authenticateStage finds out who calls. A bad Authorization header is refused
// on every route: whoever sends one wants to be known, and an answer as to a
// stranger would look like lost data.
func authenticateStage(o *Options, rt *Route) Stage {
	needed := rt.Auth != module.AuthNone
	inProcess := rt.Upstream == ""
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			if rt.Auth == module.AuthOwn {
				return next(x, w, r)
			}
			if x.Principal == nil { // the limit stage may have asked already
				p, err := authenticate(o, r)
				if err != nil {
					return err
				}
				x.Principal = p
			}
			if x.Principal == nil {
				if needed {
					return problem.New(problem.TokenMissing, "send an access token in the Authorization header")
				}
				return next(x, w, r)
			}
			if inProcess {
				r = r.WithContext(module.WithPrincipal(r.Context(), x.Principal))
			}
			return next(x, w, r)
		}
	}
}

// authoriseStage decides whether who calls may: an account where the route asks
// for one, and the very user that the request was made for where Expect-User
// says so (a write that waited in an offline queue while another person signed
// in). A write that was made as a user who has since become part of the one who
// is signed in, on the same installation, is that one's.
func authoriseStage(o *Options, rt *Route) Stage {
	var device module.DeviceLevel
	var scope, proof module.Demand // an anonymous user is asked for an account before a better sign-in
	if rt.Policy != nil {
		scope.Scope, proof = rt.Policy.Scope, module.Demand{Scope: rt.Policy.Scope, ACR: rt.Policy.ACR, MaxAge: rt.Policy.MaxAuthAge.D()}
		device = rt.Policy.DeviceProof
	}
	asks := device != "" || proof.MaxAge > 0 || len(proof.ACR) > 0
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			if rt.Auth == module.AuthOwn {
				return next(x, w, r)
			}
			if x.Principal != nil { // on public routes too: an upstream would be told who the user is
				if err := scope.Check(x.Principal, time.Time{}); err != nil {
					return err
				}
			}
			if rt.Auth == module.AuthAccount && (x.Principal == nil || x.Principal.Anonymous) {
				return problem.New(problem.AccountRequired, "this needs a signed-in account; the user is anonymous")
			}
			if asks {
				if err := provenEnough(x.Principal, device, proof, o.Clock.Now()); err != nil {
					return err
				}
			}
			if expected, sent := r.Header["Expect-User"]; sent {
				if err := expectUser(expected, x.Principal); err != nil {
					return err
				}
			}
			return next(x, w, r)
		}
	}
}

// provenEnough refuses a caller whose device, or whose last sign-in, does not
// prove what the feature asks for.
func provenEnough(p *module.Principal, device module.DeviceLevel, d module.Demand, now time.Time) error {
	if p == nil {
		return problem.New(problem.TokenMissing, "send an access token in the Authorization header")
	}
	if !p.Device.Allows(device) {
		return problem.New(problem.DeviceProofRequired, "this needs a device proof of level %s", device).With("level", string(device))
	}
	return d.Check(p, now)
}

func expectUser(values []string, p *module.Principal) error {
	switch {
	case len(values) != 1 || strings.TrimSpace(values[0]) == "":
		return problem.New(problem.InvalidRequest, "Expect-User must name one user id")
	case p == nil:
		return problem.New(problem.TokenMissing, "the request has Expect-User but no access token: nobody is signed in")
	case !p.Is(strings.TrimSpace(values[0])):
		return problem.New(problem.WrongUser, "the request was made for another user than the one who is signed in; nothing was executed")
	}
	return nil
}
