package pages

import (
	"maps"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var full = Page{App: "Flights", Client: "<b>Partner</b>", Who: `"><script>alert(1)</script>`, Detail: "<i>why</i>", Action: "/oauth/sign-in",
	Hidden: [][2]string{{"request", `"><script>`}}, FormTo: []string{"https://partner.example"}, Links: []Link{{"Google", "/oauth/go?provider=google"}},
	Email: true, Password: true, Address: `a@example.com"><script>`, Accounts: []Option{{"usr_1", "<script>Anna"}}, Scopes: []string{"<script>see"}}

var all = []Name{SignIn, Code, Choose, Consent, SignOut, SignedOut, Failed}

// TestEveryPageInEveryLanguage draws all of them, with all faults, and looks for
// what would shut somebody out or let somebody in.
func TestEveryPageInEveryLanguage(t *testing.T) {
	inputs, ids := regexp.MustCompile(`<input id="([a-z]+)"`), regexp.MustCompile(`id="([a-z-]+)"`)
	for _, lang := range Languages() {
		for _, name := range all {
			for key := range texts[lang] {
				fault, ok := strings.CutPrefix(key, "fault.")
				if !ok {
					continue
				}
				p := full
				p.Name, p.Lang, p.Fault, p.Field = name, lang, fault, "email"
				w := httptest.NewRecorder()
				Write(w, 400, p)
				body := w.Body.String()
				if strings.Contains(body, "<script") || strings.Contains(body, "<b>Partner") || strings.Contains(body, "<i>why") {
					t.Errorf("%s: text of others is markup:\n%s", name, body)
				}
				if !strings.Contains(body, `<html lang="`+lang+`">`) || w.Header().Get("Content-Language") != lang {
					t.Errorf("%s does not declare %s", name, lang)
				}
				if !strings.Contains(body, `role="alert"`) || !strings.Contains(body, "<title>"+texts[lang]["fault"]) {
					t.Errorf("%s does not tell of the fault %s", name, fault)
				}
				for _, m := range inputs.FindAllStringSubmatch(body, -1) {
					if !strings.Contains(body, `<label for="`+m[1]+`">`) {
						t.Errorf("%s: the field %s has no label", name, m[1])
					}
				}
				var seen []string
				for _, m := range ids.FindAllStringSubmatch(body, -1) {
					seen = append(seen, m[1])
				}
				slices.Sort(seen)
				if len(slices.Compact(slices.Clone(seen))) != len(seen) {
					t.Errorf("%s: an id is there twice: %v", name, seen)
				}
				if strings.Contains(body, "{app}") || strings.Contains(body, "{client}") || strings.Contains(body, "{who}") {
					t.Errorf("%s in %s: a place was not filled", name, lang)
				}
			}
		}
	}
}

func TestHeadersForbidScriptsFramesAndStrangeForms(t *testing.T) {
	w := httptest.NewRecorder()
	p := full
	p.Name = Consent
	Write(w, 200, p)
	csp := w.Header().Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self' https://partner.example;", "style-src 'sha256-"} {
		if !strings.Contains(csp, want) {
			t.Errorf("no %s in %s", want, csp)
		}
	}
	if strings.Contains(csp, "unsafe") || strings.Contains(csp, "script-src") {
		t.Errorf("the policy allows scripts: %s", csp)
	}
	if !strings.Contains(w.Body.String(), "<style>"+style+"</style>") {
		t.Error("the style sheet in the page is not the one whose hash is allowed")
	}
	for name, want := range map[string]string{"X-Frame-Options": "DENY", "Cache-Control": "no-store", "Referrer-Policy": "same-origin", "X-Content-Type-Options": "nosniff"} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
}

func TestLanguagesHaveTheSameTexts(t *testing.T) {
	places := regexp.MustCompile(`\{[a-z]+\}`)
	want := slices.Sorted(maps.Keys(texts["en"]))
	for _, lang := range Languages() {
		if got := slices.Sorted(maps.Keys(texts[lang])); !slices.Equal(got, want) {
			t.Errorf("%s has %v, want %v", lang, got, want)
		}
		for key, text := range texts[lang] {
			a, b := places.FindAllString(text, -1), places.FindAllString(texts["en"][key], -1)
			slices.Sort(a)
			slices.Sort(b)
			if text == "" || !slices.Equal(a, b) {
				t.Errorf("%s: %s has %v, want %v", lang, key, a, b)
			}
		}
	}
}

func TestLanguage(t *testing.T) {
	for _, c := range []struct {
		locales []string
		accept  string
		want    string
	}{
		{nil, "", "en"},
		{nil, "pl", "pl"},
		{nil, "de, pl-PL;q=0.8, en;q=0.9", "en"},
		{nil, "de, PL;q=0.8, en;q=0.1", "pl"},
		{nil, "pl;q=0, en;q=0.1", "en"},
		{nil, "pl;q=x", "en"},
		{[]string{"fr", "pl-PL"}, "en", "pl"},
		{[]string{"fr"}, "pl", "pl"},
		{nil, strings.Repeat("de,", 100) + "pl", "en"},
	} {
		if got := Language(c.locales, c.accept); got != c.want {
			t.Errorf("%v, %q: %s, want %s", c.locales, c.accept, got, c.want)
		}
	}
}
