package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"landline/internal/audit"
	"landline/internal/config"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/rest"
)

// collector is a huma.Adapter that takes operations down as routes of the
// feature that is being captured.
type collector struct {
	add func(op *huma.Operation, handler func(huma.Context)) error
	err error
}

// Handle is called by huma.Register.
func (c *collector) Handle(op *huma.Operation, handler func(huma.Context)) {
	if err := c.add(op, handler); err != nil {
		c.err = errors.Join(c.err, err)
	}
}

// ServeHTTP is not a way in: the router is.
func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	problem.Write(w, r, problem.New(problem.RouteNotFound, ""))
}

// capture adds the modules' features to t and makes the one OpenAPI document.
// It returns the names of the built-in features.
func (g *Gateway) capture(t *table, modules []*module.Module) (map[string]bool, error) {
	names := map[string]bool{}
	c := &collector{}
	title := g.options.App.Name
	api := huma.NewAPI(rest.Config(cmp.Or(title, "Landline"), "1"), c)
	t.openAPI = api.OpenAPI()
	addSecuritySchemes(t.openAPI)
	for _, m := range modules {
		for _, mf := range m.Features {
			if names[mf.Name] {
				c.err = errors.Join(c.err, fmt.Errorf("two built-in features are called %s", mf.Name))
				continue
			}
			names[mf.Name] = true
			policy, err := builtInPolicy(mf, t.settings.Features[mf.Name])
			if err != nil {
				c.err = errors.Join(c.err, err)
				continue
			}
			f := &feature{name: mf.Name, builtIn: true, policy: policy}
			t.features = append(t.features, f)
			c.add = func(op *huma.Operation, handler func(huma.Context)) error {
				return g.addOperation(t, f, mf.Priority, op, handler)
			}
			if mf.Routes != nil {
				mf.Routes(api)
			}
			for _, h := range mf.Handlers {
				if err := g.addHandler(t, f, mf.Priority, h); err != nil {
					c.err = errors.Join(c.err, err)
				}
			}
		}
	}
	return names, c.err
}

func addSecuritySchemes(doc *huma.OpenAPI) {
	if doc.Components.SecuritySchemes == nil {
		doc.Components.SecuritySchemes = map[string]*huma.SecurityScheme{}
	}
	doc.Components.SecuritySchemes["anonymous"] = &huma.SecurityScheme{Type: "http", Scheme: "bearer", BearerFormat: "JWT", Description: "Access token of any signed-in installation."}
	doc.Components.SecuritySchemes["account"] = &huma.SecurityScheme{Type: "http", Scheme: "bearer", BearerFormat: "JWT", Description: "Access token of a user with an identity."}
}

// builtInPolicy is the module's policy with what the configuration overrides.
func builtInPolicy(mf module.Feature, over *FeatureConfig) (*FeatureConfig, error) {
	p := FeatureConfig{}
	if over != nil && len(over.Routes) == 0 {
		switch {
		case over.Auth != "":
			return nil, fmt.Errorf("feature %s: built-in features decide auth themselves; remove auth", mf.Name)
		case over.Breaker != nil:
			return nil, fmt.Errorf("feature %s: a built-in feature has no upstream to break from; remove breaker", mf.Name)
		case over.Cache != nil:
			return nil, fmt.Errorf("feature %s: a built-in feature has no upstream whose answers could be stored; remove cache", mf.Name)
		case over.Retry != nil || over.Hedge != nil:
			return nil, fmt.Errorf("feature %s: a built-in feature has no upstream to ask again; remove retry and hedge", mf.Name)
		case over.Fallback != nil:
			return nil, fmt.Errorf("feature %s: a built-in feature takes no stock answer; remove fallback", mf.Name)
		}
		p = *over
	}
	if p.RateLimit == nil {
		p.RateLimit = defaultLimits(mf.Limits)
	}
	if p.MaxBody == 0 {
		p.MaxBody = config.Bytes(mf.MaxBody)
	}
	if p.Idempotency == nil && mf.Keys != nil {
		p.Idempotency = &IdempotencyConfig{Required: mf.Keys.Required, Keep: config.Duration(mf.Keys.Keep)}
	}
	p.fill()
	if p.Owner == "" {
		p.Owner = mf.Owner
	}
	if p.Timeout == 0 {
		p.Timeout = config.Duration(mf.Timeout)
		if mf.Timeout == 0 {
			p.Timeout = config.Duration(DefaultTimeout)
		}
	}
	return &p, nil
}

// defaultLimits are a module's rate limits as the configuration would write them.
func defaultLimits(list []module.Limit) []RateLimitConfig {
	var out []RateLimitConfig
	for _, l := range list {
		shared := !l.Alone
		out = append(out, RateLimitConfig{
			Key: l.Key, Limit: l.Rate.Limit, Window: config.Duration(l.Rate.Window), Burst: l.Rate.Burst, Shared: &shared,
		})
	}
	return out
}

func (g *Gateway) addOperation(t *table, f *feature, priority module.Priority, op *huma.Operation, handler func(huma.Context)) error {
	match := strings.ToUpper(op.Method) + " " + op.Path
	p, err := parsePattern(match)
	if err != nil {
		return fmt.Errorf("feature %s: operation %s: %w", f.name, match, err)
	}
	rt := newRoute(f, match, p)
	rt.Auth = module.AuthOf(op)
	if f.policy.Priority == "" {
		rt.Priority = priority
	}
	return g.finish(t, f, rt, destination{handler: operationHandler(rt, op, handler)})
}

// operationHandler runs a huma operation. huma writes its problems itself
// (package rest); what they were is noted for the log and the metrics.
func operationHandler(rt *Route, op *huma.Operation, handler func(huma.Context)) Handler {
	return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
		setPathValues(rt, x, r)
		r = r.WithContext(rest.With(withActor(x, r), rest.Request{TraceID: x.TraceID, OnError: func(p *problem.Error) {
			x.ErrorCode, x.Cause = string(p.Code), p
		}}))
		handler(humago.NewContext(op, r, w))
		return nil
	}
}

func (g *Gateway) addHandler(t *table, f *feature, priority module.Priority, h module.Handler) error {
	p, err := parsePattern(h.Match)
	if err != nil {
		return fmt.Errorf("feature %s: handler %s: %w", f.name, h.Match, err)
	}
	if h.Doc != nil {
		t.openAPI.AddOperation(h.Doc)
	}
	rt := newRoute(f, h.Match, p)
	rt.Auth = h.Auth
	if rt.Auth == "" {
		rt.Auth = module.AuthAccount // forgetting must not let anyone in
	}
	if f.policy.Priority == "" {
		rt.Priority = priority
	}
	if h.Write != nil {
		handler, err := g.transactional(rt, h)
		if err != nil {
			return err
		}
		return g.finish(t, f, rt, destination{handler: handler, transactional: true})
	}
	return g.finish(t, f, rt, destination{handler: func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
		setPathValues(rt, x, r)
		r = r.WithContext(withActor(x, r))
		if h.Serve != nil {
			return h.Serve(w, r)
		}
		h.Handler.ServeHTTP(w, r)
		return nil
	}})
}

// withActor lets audit entries of a module say where a request came from.
func withActor(x *Exchange, r *http.Request) context.Context {
	return audit.WithActor(r.Context(), audit.Actor{Type: audit.TypeSystem, IP: x.ClientIP})
}

func setPathValues(rt *Route, x *Exchange, r *http.Request) {
	for i, name := range rt.ParamNames {
		r.SetPathValue(name, unescape(x.Params[i]))
	}
}
