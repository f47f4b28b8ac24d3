package gateway

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"landline/internal/config"
	"landline/internal/limit"
	"landline/internal/module"
	"landline/internal/problem"
)

// account says that the token "Bearer account" is an account's, "Bearer good" an
// anonymous user's, and "Bearer limited" one that an account gave to an OAuth client.
type account struct{ fakeAuth }

func (a account) Authenticate(r *http.Request) (*module.Principal, error) {
	if r.Header.Get("Authorization") == "Bearer account" {
		return &module.Principal{UserID: "usr_2", InstallationID: "ins_2", Formerly: []string{"usr_0"}, AuthTime: time.Now(), Device: module.DeviceApp}, nil
	}
	if acr, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer acr-"); ok {
		return &module.Principal{UserID: "usr_4", InstallationID: "ins_4", ACR: acr, AuthTime: time.Now()}, nil
	}
	if r.Header.Get("Authorization") == "Bearer limited" {
		return &module.Principal{UserID: "usr_3", InstallationID: "ins_3", Scopes: []string{"openid"}}, nil
	}
	p, err := a.fakeAuth.Authenticate(r)
	if p != nil {
		p.Anonymous = true
	}
	return p, err
}

func TestWhoMayCall(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Who", r.Header.Get("Landline-Identity"))
	})
	h := openWith(t, func(o *Options) { o.Auth = account{} }, func(s *Settings) {
		s.Upstreams["up"] = upstreamAt(url)
		for _, a := range []module.Auth{module.AuthNone, module.AuthAnonymous, module.AuthAccount} {
			s.Features[string(a)] = &FeatureConfig{Auth: a, Routes: []RouteConfig{{Match: "/" + string(a), Upstream: "up"}}}
		}
		s.Features["scoped"] = &FeatureConfig{Auth: module.AuthAccount, Scope: "openid", Routes: []RouteConfig{{Match: "/scoped", Upstream: "up"}}}
		s.Features["other"] = &FeatureConfig{Auth: module.AuthAccount, Scope: "flights", Routes: []RouteConfig{{Match: "/other", Upstream: "up"}}}
		s.Features["app"] = &FeatureConfig{Auth: module.AuthAnonymous, DeviceProof: module.DeviceApp, Routes: []RouteConfig{{Match: "/app", Upstream: "up"}}}
		s.Features["hardware"] = &FeatureConfig{Auth: module.AuthAnonymous, DeviceProof: module.DeviceHardware, Routes: []RouteConfig{{Match: "/hardware", Upstream: "up"}}}
		s.Features["fresh"] = &FeatureConfig{Auth: module.AuthAnonymous, MaxAuthAge: config.Duration(5 * time.Minute), Routes: []RouteConfig{{Match: "/fresh", Upstream: "up"}}}
		s.Features["passkey"] = &FeatureConfig{Auth: module.AuthAccount, ACR: []string{module.ACRPhr}, Routes: []RouteConfig{{Match: "/passkey", Upstream: "up"}}}
		s.Features["known"] = &FeatureConfig{Auth: module.AuthAnonymous, ACR: []string{module.ACRBasic}, MaxAuthAge: config.Duration(5 * time.Minute), Routes: []RouteConfig{{Match: "/known", Upstream: "up"}}}
	})
	for _, c := range []struct {
		route, headers string
		status         int
		code           problem.Code
	}{
		{"none", "", 200, ""},
		{"none", "Authorization: Bearer good", 200, ""},
		{"none", "Authorization: Bearer bad", 401, problem.TokenInvalid},
		{"none", "Authorization: ", 401, problem.TokenInvalid},
		{"none", "Authorization: Bearer good\nAuthorization: Bearer good", 401, problem.TokenInvalid},
		{"none", "Expect-User: usr_1", 401, problem.TokenMissing},
		{"none", "Authorization: Bearer good\nExpect-User: usr_1", 200, ""},
		{"none", "Authorization: Bearer good\nExpect-User: usr_2", 412, problem.WrongUser},
		{"none", "Authorization: Bearer good\nExpect-User: usr_1\nExpect-User: usr_1", 400, problem.InvalidRequest},
		{"anonymous", "", 401, problem.TokenMissing},
		{"anonymous", "Authorization: Bearer good", 200, ""},
		{"anonymous", "Authorization: Bearer account", 200, ""},
		{"none", "Authorization: Bearer limited", 403, problem.InsufficientScope},
		{"anonymous", "Authorization: Bearer limited", 403, problem.InsufficientScope},
		{"account", "Authorization: Bearer limited", 403, problem.InsufficientScope},
		{"scoped", "Authorization: Bearer limited", 200, ""},
		{"scoped", "Authorization: Bearer account", 200, ""},
		{"other", "Authorization: Bearer limited", 403, problem.InsufficientScope},
		{"account", "", 401, problem.TokenMissing},
		{"account", "Authorization: Bearer good", 403, problem.AccountRequired},
		{"account", "Authorization: Bearer account", 200, ""},
		{"account", "Authorization: Bearer account\nExpect-User: usr_1", 412, problem.WrongUser},
		{"account", "Authorization: Bearer account\nExpect-User: usr_0", 200, ""}, // became part of usr_2
		{"app", "", 401, problem.TokenMissing},
		{"app", "Authorization: Bearer good", 403, problem.DeviceProofRequired},
		{"app", "Authorization: Bearer account", 200, ""},
		{"hardware", "Authorization: Bearer account", 403, problem.DeviceProofRequired},
		{"fresh", "", 401, problem.TokenMissing},
		{"fresh", "Authorization: Bearer good", 401, problem.ReauthenticationRequired}, // nobody knows when
		{"fresh", "Authorization: Bearer account", 200, ""},
		{"passkey", "", 401, problem.TokenMissing},
		{"passkey", "Authorization: Bearer good", 403, problem.AccountRequired}, // no passkey makes an account of nobody
		{"passkey", "Authorization: Bearer acr-1", 401, problem.ReauthenticationRequired},
		{"passkey", "Authorization: Bearer account", 401, problem.ReauthenticationRequired},
		{"passkey", "Authorization: Bearer acr-phr", 200, ""},
		{"known", "Authorization: Bearer acr-phr", 200, ""}, // more than was asked
		{"known", "Authorization: Bearer acr-1", 200, ""},
		{"known", "Authorization: Bearer good", 401, problem.ReauthenticationRequired},
	} {
		req := h.request(http.MethodGet, "/"+c.route, nil)
		for line := range strings.SplitSeq(c.headers, "\n") {
			if name, value, ok := strings.Cut(line, ": "); ok {
				req.Header.Add(name, value)
			}
		}
		res, text := h.do(req)
		got := asReply(t, res, text)
		if got.StatusCode != c.status || got.code != string(c.code) {
			t.Errorf("%s with %q: %d %q, want %d %q", c.route, c.headers, got.StatusCode, got.code, c.status, c.code)
		}
		if c.status == 401 && res.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s with %q: no WWW-Authenticate", c.route, c.headers)
		}
	}
}

// A client learns from the challenge what to send to /oauth/authorize (RFC 9470 §3).
func TestAWeakSignInIsChallenged(t *testing.T) {
	url := serve(t, func(http.ResponseWriter, *http.Request) {})
	h := openWith(t, func(o *Options) { o.Auth = account{} }, func(s *Settings) {
		s.Upstreams["up"] = upstreamAt(url)
		s.Features["pay"] = &FeatureConfig{Auth: module.AuthAccount, ACR: []string{module.ACRPhr}, MaxAuthAge: config.Duration(5 * time.Minute), Routes: []RouteConfig{{Match: "/pay", Upstream: "up"}}}
	})
	res, text := h.get("/pay", "Authorization", "Bearer acr-1")
	want := `Bearer realm="landline", error="insufficient_user_authentication", error_description="sign in with a stronger method", acr_values="phr", max_age=300`
	if got := res.Header.Get("WWW-Authenticate"); res.StatusCode != 401 || got != want {
		t.Errorf("%d %s", res.StatusCode, got)
	}
	for _, member := range []string{`"acr_values":"phr"`, `"max_age":300`, `"recoverable":"reauthenticate"`} {
		if !strings.Contains(string(text), member) {
			t.Errorf("no %s in %s", member, text)
		}
	}
}

func TestWithoutAuthenticatorEveryTokenIsRefused(t *testing.T) {
	url := serve(t, func(http.ResponseWriter, *http.Request) {})
	h := openWith(t, func(o *Options) { o.Auth = nil }, func(s *Settings) {
		s.Upstreams["up"] = upstreamAt(url)
		s.Features["open"] = &FeatureConfig{Auth: module.AuthNone, Routes: []RouteConfig{{Match: "/", Upstream: "up"}}}
	})
	if res, _ := h.get("/"); res.StatusCode != 200 {
		t.Errorf("without a token: %d", res.StatusCode)
	}
	if res, _ := h.get("/", "Authorization", "Bearer good"); res.StatusCode != 401 {
		t.Errorf("with a token: %d", res.StatusCode)
	}
}

// A module's handler learns who calls and from what app.
func TestModuleHandlersSeeTheCaller(t *testing.T) {
	m := &module.Module{Features: []module.Feature{{Name: "who", Handlers: []module.Handler{
		{Match: "GET /who", Auth: module.AuthNone, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if p := module.PrincipalFrom(r.Context()); p != nil {
				w.Header().Set("X-User", p.UserID)
			}
			w.Header().Set("X-Version", module.ClientFrom(r.Context()).Version)
		})},
	}}}}
	h := open(t, nil, m)
	res, _ := h.get("/who", "Authorization", "Bearer good", "Landline-Client", fullClient)
	if res.Header.Get("X-User") != "usr_1" || res.Header.Get("X-Version") != "4.2.0" {
		t.Errorf("got %v", res.Header)
	}
	if res, _ := h.get("/who"); res.Header.Get("X-User") != "" || res.Header.Get("X-Version") != "" {
		t.Errorf("a stranger is %v", res.Header)
	}
}

// TestAHandlerMayJudgeAuthorizationItself: OAuth clients authenticate with Basic.
func TestAHandlerMayJudgeAuthorizationItself(t *testing.T) {
	seen := make(chan string, 1)
	m := &module.Module{Features: []module.Feature{{Name: "tokens", Owner: "landline",
		Limits: []module.Limit{{Key: "installation", Rate: limit.Rate{Limit: 100, Window: time.Minute}, Alone: true}},
		Handlers: []module.Handler{{Match: "POST /oauth/token", Auth: module.AuthOwn, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if module.PrincipalFrom(r.Context()) != nil {
				t.Error("the gateway took the header for an access token")
			}
			seen <- r.Header.Get("Authorization")
		})}}}}}
	h := open(t, nil, m)
	for _, value := range []string{"Basic abc", "Bearer good", "Bearer bad"} {
		req := h.request(http.MethodPost, "/oauth/token", nil)
		req.Header.Set("Authorization", value)
		if res, text := h.do(req); res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s", value, res.StatusCode, text)
		}
		if got := <-seen; got != value {
			t.Errorf("the handler saw %q, want %q", got, value)
		}
	}
}
