package app

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/audit"
	"landline/internal/module"
)

// canaries are secrets that are sent everywhere and must be found nowhere.
type canaries struct {
	all    map[string]string // by secret: what it is
	issued map[string]string // secrets of the server's own making
}

var canaryForm = regexp.MustCompile(`canary[A-Z2-7]{26}`)

func (c *canaries) make(what string) string {
	secret := "canary" + rand.Text()
	c.all[secret] = what
	return secret
}

// found reports which canaries are in text.
func (c *canaries) found(text string) (what []string) {
	for _, secret := range canaryForm.FindAllString(text, -1) {
		what = append(what, c.all[secret])
	}
	for secret, name := range c.issued {
		if strings.Contains(text, secret) {
			what = append(what, name)
		}
	}
	return what
}

// panicking is a capability whose route panics in the middle of a request.
func panicking() module.Capability {
	return module.Capability{Name: "panicking", Build: func(module.Deps) (*module.Module, error) {
		return &module.Module{Features: []module.Feature{{Name: "panicking", Handlers: []module.Handler{
			{Match: "POST /v1/panics", Auth: module.AuthNone, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("as the test wants") })},
		}}}}, nil
	}}
}

// TestSecretsGoNowhere is figure F16: canary secrets in every place where a
// client may put one, through every route of both listeners, its errors and a
// panic. No log line, error body, answer header, audit row or metric holds one.
func TestSecretsGoNowhere(t *testing.T) {
	h, c := newHouse(t, panicking()), &canaries{map[string]string{}, map[string]string{}}
	user := h.account()
	requests := 0
	look := func(where, text string) {
		t.Helper()
		if what := c.found(text); len(what) > 0 {
			t.Errorf("%s holds the %s", where, strings.Join(what, ", the "))
		}
	}
	send := func(match, body string, header ...string) {
		t.Helper()
		a := h.ask(match, body, header...)
		requests++
		shape, _, _ := strings.Cut(match, "?")
		look("a header of the answer to "+shape, fmt.Sprint(a.header))
		if a.status >= 300 {
			look("the answer to "+shape, a.raw)
		}
	}
	routes := h.publicRoutes()
	for path, item := range h.app.admin.OpenAPI().Paths {
		for _, op := range operationsOf(item) {
			routes = append(routes, publicRoute{match: fill(op.Method+" "+path, "x"), shape: op.Method + " " + path})
		}
	}
	bodies := h.bodies()
	for _, r := range routes {
		query := "?access_token=" + c.make("access token in a query of "+r.shape) + "&refresh_token=" + c.make("refresh token in a query") + "&code=" + c.make("code in a query") + "&email=" + c.make("address in a query") + "%40example.com"
		admin := strings.Contains(r.match, " /admin/")
		for _, authorization := range [][]string{nil, bearer(c.make("bearer token sent to " + r.shape)), bearer(user.access), bearer(h.operators[module.Owner]),
			{"Authorization", "Basic " + c.make("password sent to "+r.shape)}, {"Authorization", "DPoP " + c.make("DPoP token")}} {
			headers := append([]string{"Cookie", "session=" + c.make("cookie"), "Api-Key", c.make("API key"), "DPoP", c.make("proof"), "Idempotency-Key", c.make("idempotency key"),
				"Expect-User", c.make("user that is expected")}, authorization...)
			if strings.HasSuffix(r.match, "/sign-out") && len(authorization) > 0 && authorization[1] == "Bearer "+user.access || strings.HasPrefix(r.match, "DELETE /v1/me") {
				headers = append(headers, "Expect-User", "twice") // nobody is signed out or deleted here
			}
			send(r.match+query, "", headers...)
			send(r.match, `{"not json `+c.make("broken body")+`"`, headers...)
			if !admin { // what operators write down, reasons and names, is kept on purpose
				send(r.match, bodies.filled(r.shape, c), append(authorization, "Idempotency-Key", c.make("key of "+r.shape))...)
			}
		}
	}
	for _, form := range []string{"grant_type=refresh_token&refresh_token=%s", "grant_type=%s", "token=%s", "grant_type=refresh_token&refresh_token=%s&client_id=%[1]s&scope=%[1]s",
		"grant_type=authorization_code&code=%s&code_verifier=%[1]s", "grant_type=password&username=a&password=%s", "broken=%%zz&token=%s"} {
		for _, path := range []string{"POST /oauth/token", "POST /oauth/revoke"} {
			send(path, fmt.Sprintf(form, c.make("form "+form)))
			send(path, fmt.Sprintf(form, "v1."+user.session+".7."+c.make("MAC of a refresh token")))
		}
	}
	send("POST /admin/v1/users/search", `{"email":"`+c.make("address of a person looked for")+`@example.com"}`, bearer(h.operators[module.Support])...)
	send("POST /admin/v1/users/search", `{"issuer":"https://issuer.example","subject":"`+c.make("subject of a person looked for")+`"}`, bearer(h.operators[module.Support])...)
	for _, who := range []someone{h.launch(), h.account()} { // what people prove themselves with, right in form and wrong
		address, password := c.make("address of a person")+"@example.com", c.make("password of a person")
		filled := strings.NewReplacer("ADDRESS", address, "PASSWORD", password)
		for path, body := range map[string]string{
			"POST /v1/auth/email-code": `{"email":"ADDRESS"}`,
			"POST /v1/auth/sign-in":    `{"provider":"email_code","email":"ADDRESS","code":"12345678"}`,
			"POST /v1/auth/link":       `{"provider":"password","email":"ADDRESS","password":"PASSWORD"}`,
			"POST /v1/auth/sign-up":    `{"email":"ADDRESS","code":"12345678","password":"PASSWORD"}`,
			"POST /v1/installations":   `{"installation_id":"` + who.installation + `","installation_secret":"PASSWORD"}`,
		} {
			send(path, filled.Replace(body), append(bearer(who.access), "Idempotency-Key", c.make("key"))...)
		}
		send("POST /v1/auth/sign-in", filled.Replace(`{"provider":"password","email":"ADDRESS","password":"PASSWORD"}`), bearer(who.access)...)
	}
	send("POST /v1/panics?token="+c.make("query of a panic"), `{"password":"`+c.make("body of a panic")+`"}`, "Cookie", c.make("cookie of a panic"), "Idempotency-Key", c.make("key of a panic"))
	c.issued[user.access[strings.LastIndexByte(user.access, '.')+1:]] = "signature of an access token that was used"
	c.issued[user.refresh[strings.LastIndexByte(user.refresh, '.')+1:]] = "MAC of a refresh token that was issued"
	c.issued[user.secret] = "secret of an installation"
	for role, token := range h.operators {
		c.issued[token] = "token of a " + string(role)
	}

	look("the log", h.logs.String())
	look("the metrics", metricsText(t, h.app.kernel.registry))
	rows := 0
	for f := (audit.Filter{Limit: 200}); ; {
		page, next, err := h.app.kernel.audit.List(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(page)
		if err != nil {
			t.Fatal(err)
		}
		look("the audit log", string(text))
		if rows += len(page); next == "" {
			break
		}
		f.Cursor = next
	}
	// The controls: the places that were searched are those where things are written.
	if log := h.logs.String(); !strings.Contains(log, "as the test wants") || !strings.Contains(log, "/v1/me") || rows == 0 || len(c.all) < 300 {
		t.Errorf("the search does not see what is there: %d bytes of log, %d audit rows, %d canaries", len(log), rows, len(c.all))
	}
	t.Logf("%d canaries in %d requests on %d routes; %d bytes of log, %d audit rows", len(c.all), requests, len(routes), len(h.logs.String()), rows)
}

func metricsText(t *testing.T, registry *prometheus.Registry) string {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, f := range families {
		out.WriteString(f.String())
	}
	return out.String()
}

// requestBodies are the schemas of the documented bodies, by route.
type requestBodies struct {
	registry huma.Registry
	schemas  map[string]*huma.Schema
}

func (h *theHouse) bodies() requestBodies {
	doc := h.app.gateway.OpenAPI()
	b := requestBodies{doc.Components.Schemas, map[string]*huma.Schema{}}
	for path, item := range doc.Paths {
		for _, op := range operationsOf(item) {
			if op.RequestBody != nil && op.RequestBody.Content["application/json"] != nil {
				b.schemas[op.Method+" "+path] = op.RequestBody.Content["application/json"].Schema
			}
		}
	}
	return b
}

// filled is a body with a canary in every text that the document knows.
func (b requestBodies) filled(shape string, c *canaries) string {
	s := b.schemas[shape]
	if s == nil {
		return `{"password":"` + c.make("password in a body of "+shape) + `"}`
	}
	raw, err := json.Marshal(b.value(s, shape, c, 0))
	if err != nil {
		return "{}"
	}
	return string(raw)
}

func (b requestBodies) value(s *huma.Schema, where string, c *canaries, depth int) any {
	if s.Ref != "" {
		s = b.registry.SchemaFromRef(s.Ref)
	}
	switch {
	case depth > 5 || s == nil:
		return nil
	case len(s.Enum) > 0:
		return s.Enum[0]
	case s.Type == huma.TypeObject || len(s.Properties) > 0:
		out := map[string]any{}
		for name, p := range s.Properties {
			out[name] = b.value(p, where+" "+name, c, depth+1)
		}
		return out
	case s.Type == huma.TypeArray:
		return []any{b.value(s.Items, where, c, depth+1)}
	case s.Type == huma.TypeBoolean:
		return false
	case s.Type == huma.TypeInteger || s.Type == huma.TypeNumber:
		return 1
	}
	return c.make("text at " + where)
}
