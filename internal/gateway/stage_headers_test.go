package gateway

import (
	"net/http"
	"strings"
	"testing"

	"landline/internal/config"
	"landline/internal/module"
)

func TestHeaderRules(t *testing.T) {
	var got http.Header
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		w.Header().Set("Server", "secret/1.0")
		w.Header().Set("Cache-Control", "max-age=5")
		w.Header().Set("X-Frame-Options", "SAMEORIGIN")
		w.Header().Add("Link", "</a>")
	})
	h := proxy(t, url, func(s *Settings) {
		s.Features["all"].Auth = module.AuthAnonymous
		s.Features["all"].Headers = &HeadersConfig{
			Request: RequestHeaderRules{
				Remove:    []string{"x-debug"},
				Set:       map[string]string{"X-App": "v{client.version}/{client.build}", "X-User-Id": "{user_id}", "X-Locale": "{client.locale}", "X-Braces": "{{a}"},
				SetSecret: map[string]config.Secret{"X-Api-Key": "s3cret", "Authorization": "Basic abc"},
				Add:       map[string]string{"X-Seen-By": "landline"},
			},
			Response: ResponseHeaderRules{
				Remove: []string{"Server"}, Set: map[string]string{"Cache-Control": "no-store", "X-Feature": "{feature}"}, Add: map[string]string{"Link": "</b>", "Vary": "Accept-Language"}, Security: true,
			},
		}
	})
	res, _ := h.get("/x", "Authorization", "Bearer good", "X-Debug", "1", "X-User-Id", "forged", "X-Locale", "forged", "X-Seen-By", "edge",
		"Landline-Client", `version="4.2.0", build=1042`)
	for name, want := range map[string]string{
		"X-Debug": "", "X-App": "v4.2.0/1042", "X-User-Id": "usr_1", "X-Locale": "", "X-Braces": "{a}", "X-Api-Key": "s3cret", "Authorization": "Basic abc", "X-Seen-By": "edge, landline",
	} {
		if have := strings.Join(got[name], ", "); have != want {
			t.Errorf("the service got %s %q, want %q", name, have, want)
		}
	}
	want := map[string]string{
		"Server": "", "Cache-Control": "no-store", "X-Feature": "all", "Link": "</a>, </b>", "Vary": "Accept-Language",
		"X-Frame-Options": "SAMEORIGIN", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Strict-Transport-Security": "",
	}
	for name, want := range want {
		if have := strings.Join(res.Header[name], ", "); have != want {
			t.Errorf("the client got %s %q, want %q", name, have, want)
		}
	}
	res, _ = h.get("/x")
	if res.StatusCode != 401 || res.Header.Get("X-Feature") != "all" || res.Header.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("a problem has %d %v: the rules are for every answer", res.StatusCode, res.Header)
	}
}

func TestHeaderRulesThatAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"only the gateway may say this":    "headers: {request: {set: {Landline-Identity: me}}}",
		"one connection":                   "headers: {request: {remove: [Connection]}}",
		"pass_authorization":               "headers: {request: {set: {Authorization: x}}}",
		"X-Forwarded-For":                  "headers: {request: {add: {X-Forwarded-For: 1.2.3.4}}}",
		"would make it false":              "headers: {response: {set: {Content-Encoding: gzip}}}",
		"use add":                          "headers: {response: {remove: [Vary]}}",
		"use cors":                         "headers: {response: {set: {Access-Control-Allow-Origin: \"*\"}}}",
		"response.remove[0]: only the":     "headers: {response: {remove: [Landline-Trace-Id]}}",
		"is not the name of a header":      "headers: {response: {remove: [\"a b\"]}}",
		"there is no variable {client.os}": "headers: {response: {set: {X-A: \"{client.os}\"}}}",
		"a { has no }":                     "headers: {response: {set: {X-A: \"{client\"}}}",
		"control character":                "headers: {response: {set: {X-A: \"a\\nb\"}}}",
	} {
		t.Run(name, func(t *testing.T) { refusedFeature(t, text, name) })
	}
}

// refusedFeature loads a feature with one more line of policy and wants a fault that says so.
func refusedFeature(t *testing.T, policy, want string) {
	t.Helper()
	err := loadText("upstreams: {up: {targets: [{url: \"http://127.0.0.1:1\"}]}}\nfeatures:\n  f:\n    routes: [{match: \"GET /v1/f/{id}\", upstream: up}]\n    " + policy + "\n")
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: got %v, want a fault with %q", policy, err, want)
	}
}

func loadText(text string) error {
	return config.LoadBytes("landline.yaml", []byte(text), Sections(DefaultSettings()), config.Env{Lookup: func(string) (string, bool) { return "", false }})
}
