package pages

import (
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var full = Page{App: "Flights", Client: "<b>Partner</b>", Who: `"><script>alert(1)</script>`, Detail: "<i>why</i>", Action: "/oauth/sign-in",
	Hidden: [][2]string{{"request", `"><script>`}}, FormTo: []string{"https://partner.example"}, Links: []Link{{"<b>Google", "/oauth/go?provider=google"}},
	Email: true, Password: true, Address: `a@example.com"><script>`, Accounts: []Option{{"usr_1", "<script>Anna"}}, Scopes: []string{"<script>see"},
	Until: time.Date(2026, 12, 11, 14, 3, 0, 0, time.UTC), Erased: []string{"<script>trips"}, Remains: []string{"<script>invoices"}, Next: "/account/delete", Back: "/account",
	Devices: []Device{{Session: "ses_1", Label: "<script>Pixel 9", Since: time.Unix(0, 0)}, {Session: "ses_2", Browser: true, Current: true}, {Session: "ses_3"}}}

func builtin(t *testing.T) *Set {
	t.Helper()
	s, err := Load("")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// variants are the shapes that a page has.
func variants(name Name) []Page {
	p := full
	p.Name = name
	all := []Page{p}
	bare := Page{Name: name, App: "Flights", Action: "/x"}
	all = append(all, bare)
	for _, change := range []func(*Page){
		func(p *Page) {
			p.Passkey = &Passkey{"https://api.example.com/oauth/passkey.js", "https://api.example.com/oauth/passkey-options"}
		},
		func(p *Page) { p.Client, p.Why = "", "delete" },
		func(p *Page) { p.Client, p.Why = "", "account" },
		func(p *Page) { p.Client, p.Why = "", "export" },
		func(p *Page) { p.Undo = true },
		func(p *Page) { p.Undo, p.Asked = true, true },
		func(p *Page) { p.Ready, p.Third = true, true },
		func(p *Page) { p.PasskeyOnly = true },
	} {
		p := p
		change(&p)
		all = append(all, p)
	}
	return all
}

var (
	inputs = regexp.MustCompile(`<input id="([a-z]+)"`)
	ids    = regexp.MustCompile(` id="([a-z-]+)"`)
	script = regexp.MustCompile(`<script src="https://api\.example\.com/oauth/passkey\.js" defer></script>`)
)

// TestEveryPageInEveryLanguage draws all of them, with all faults, and looks for
// what would shut somebody out or let somebody in.
func TestEveryPageInEveryLanguage(t *testing.T) {
	s := builtin(t)
	used := map[string]bool{}
	for _, lang := range s.Languages() {
		for _, name := range All {
			for _, p := range variants(name) {
				for key := range s.texts[lang] {
					fault, ok := strings.CutPrefix(key, "fault.")
					if !ok {
						continue
					}
					p.Lang, p.Fault, p.Field = lang, fault, "email"
					w := httptest.NewRecorder()
					s.Write(w, 400, p)
					body := w.Body.String()
					check(t, fmt.Sprintf("%s in %s", name, lang), lang, body)
					if !strings.Contains(body, `role="alert"`) || !strings.Contains(body, "<title>"+s.texts[lang]["fault"]) {
						t.Errorf("%s does not tell of the fault %s", name, fault)
					}
				}
				p.Fault = ""
				w := httptest.NewRecorder()
				s.Write(w, 200, p)
				for key, text := range s.texts[lang] {
					if lang == english && strings.Contains(w.Body.String(), strings.Split(text, "{")[0]) {
						used[key] = true
					}
				}
				if strings.Contains(w.Body.String(), `role="alert"`) || w.Header().Get("Content-Language") != lang {
					t.Errorf("%s in %s: a fault without a fault, or another language", name, lang)
				}
			}
		}
	}
	for key := range s.texts[english] {
		if kind, _, _ := strings.Cut(key, "."); !used[key] && kind != "fault" && kind != "scope" && kind != "month" && key != "date" {
			t.Errorf("no page says %s", key)
		}
	}
}

func check(t *testing.T, where, lang, body string) {
	t.Helper()
	if clean := script.ReplaceAllString(body, ""); strings.Contains(clean, "<script") || strings.Contains(body, "<b>") || strings.Contains(body, "<i>why") {
		t.Errorf("%s: text of others is markup:\n%s", where, body)
	}
	if !strings.Contains(body, `<html lang="`+lang+`" dir="ltr">`) {
		t.Errorf("%s does not declare %s", where, lang)
	}
	if strings.Count(body, "<h1>") != 1 {
		t.Errorf("%s has no one heading", where)
	}
	for _, m := range inputs.FindAllStringSubmatch(body, -1) {
		if !strings.Contains(body, `<label for="`+m[1]+`">`) {
			t.Errorf("%s: the field %s has no label", where, m[1])
		}
	}
	var seen []string
	for _, m := range ids.FindAllStringSubmatch(body, -1) {
		seen = append(seen, m[1])
	}
	slices.Sort(seen)
	if len(slices.Compact(slices.Clone(seen))) != len(seen) {
		t.Errorf("%s: an id is there twice: %v", where, seen)
	}
	if left := place.FindString(strings.ReplaceAll(body, style, "")); left != "" {
		t.Errorf("%s: the place %s was not filled", where, left)
	}
}

func TestHeadersForbidScriptsFramesAndStrangeForms(t *testing.T) {
	s := builtin(t)
	for _, name := range All {
		p := full
		p.Name, p.Passkey = name, &Passkey{"https://api.example.com/oauth/passkey.js?v=1", "https://api.example.com/oauth/passkey-options"}
		w := httptest.NewRecorder()
		s.Write(w, 200, p)
		csp := w.Header().Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self' https://partner.example;", "style-src 'sha256-"} {
			if !strings.Contains(csp, want) {
				t.Errorf("no %s in %s", want, csp)
			}
		}
		if strings.Contains(csp, "unsafe") || strings.Contains(csp, "script-src") != (name == SignIn) {
			t.Errorf("%s: the policy is wrong about scripts: %s", name, csp)
		}
		if name == SignIn && !strings.Contains(csp, "script-src https://api.example.com/oauth/passkey.js; connect-src https://api.example.com/oauth/passkey-options; require-trusted-types-for 'script';") {
			t.Errorf("the policy allows more than the one script: %s", csp)
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
}

func TestTheScriptIsServedAsOne(t *testing.T) {
	w := httptest.NewRecorder()
	ServeScript(w, httptest.NewRequest("GET", "/oauth/passkey.js", nil))
	if w.Header().Get("Content-Type") != "text/javascript; charset=utf-8" || w.Header().Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(w.Body.String(), "navigator.credentials.get") {
		t.Errorf("%v %s", w.Header(), w.Body)
	}
}

// TestLanguagesHaveTheSameTexts: no built-in language has a gap, or says in English what it could say.
func TestLanguagesHaveTheSameTexts(t *testing.T) {
	s := builtin(t)
	if got := s.Languages(); !slices.Equal(got, []string{"en", "pl"}) {
		t.Errorf("languages are %v", got)
	}
	want := slices.Sorted(maps.Keys(s.texts["en"]))
	for _, lang := range s.Languages() {
		if got := slices.Sorted(maps.Keys(s.texts[lang])); !slices.Equal(got, want) {
			t.Errorf("%s has %v, want %v", lang, got, want)
		}
		for key, text := range s.texts[lang] {
			if lang != "en" && text == s.texts["en"][key] && key != "date" {
				t.Errorf("%s: %s is in English", lang, key)
			}
		}
	}
}

func TestLanguage(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "pt-BR.json", everyText(t))
	write(t, dir, "ar.json", everyText(t))
	s, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Languages(); !slices.Equal(got, []string{"en", "ar", "pl", "pt-BR"}) {
		t.Errorf("languages are %v", got)
	}
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
		{nil, "PT-br", "pt-BR"},
		{nil, "pt", "en"}, // of Portugal: another language in writing
		{nil, "pt-BR-x", "pt-BR"},
		{nil, "-, ar-EG", "ar"},
	} {
		if got := s.Language(c.locales, c.accept); got != c.want {
			t.Errorf("%v, %q: %s, want %s", c.locales, c.accept, got, c.want)
		}
	}
	for tag, want := range map[string]string{"en": "ltr", "ar": "rtl", "he-IL": "rtl", "az-Arab": "rtl", "az": "ltr", "ar-Latn": "ltr", "fa": "rtl"} {
		if got := direction(tag); got != want {
			t.Errorf("%s is written %s, want %s", tag, got, want)
		}
	}
	w := httptest.NewRecorder()
	s.Write(w, 200, Page{Name: SignIn, Lang: "ar"})
	if !strings.Contains(w.Body.String(), `<html lang="ar" dir="rtl">`) {
		t.Error("a page in Arabic is not written from the right")
	}
	w = httptest.NewRecorder()
	s.Write(w, 200, Page{Name: SignOut, Lang: "ar", App: "Flights", Who: "ada@example.com"})
	if !strings.Contains(w.Body.String(), "\u2068ada@example.com\u2069") {
		t.Error("an address turns the text around it")
	}
}

func everyText(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("text/en.json")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A team's texts are read when Landline starts, and each gap is named then and
// not on a page.
func TestTextsOfATeam(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "pl.json", `{"back": "Cofnij"}`)
	s, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if s.texts["pl"]["back"] != "Cofnij" || s.texts["pl"]["email"] != "Adres e-mail" || s.texts["en"]["back"] != "Back" {
		t.Errorf("%v", s.texts["pl"])
	}
	for name, c := range map[string][2]string{
		"de.json":      {`{"back": "Zurück"}`, `de.json: "email" is missing; in English it is "E-mail address"`},
		"en.json":      {`{"bakc": "Back"}`, `en.json: "bakc" is no key of the pages`},
		"pl.json":      {`{"code.sent": "Kod wysłano."}`, `pl.json: "code.sent" has the places [], want [{who}]`},
		"PL.json":      {`{"email": " "}`, `pl.json: "email" is empty`},
		"german.json":  {`{}`, "german.json is not named after a language"},
		"fr.json":      {`["back"]`, "fr.json: is not an object of texts"},
		"pl-PL-1.json": {`{}`, "is not named after a language"},
	} {
		dir := t.TempDir()
		write(t, dir, name, c[0])
		if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), c[1]) {
			t.Errorf("%s: %v, want %s", name, err, c[1])
		}
	}
	if _, err := Load(filepath.Join(dir, "none")); err == nil {
		t.Error("a folder that is not there was read")
	}
	write(t, dir, "pl.json", `{"back": "`+strings.Repeat("x", maxTextFile)+`"}`)
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "more than 262144 bytes") {
		t.Errorf("%v", err)
	}
}

func TestDates(t *testing.T) {
	s := builtin(t)
	at := time.Date(2026, 12, 1, 9, 5, 0, 0, time.FixedZone("", 3600))
	if got := s.date("en", at); got != "1 December 2026, 08:05 UTC" {
		t.Error(got)
	}
	if got := s.date("pl", at); got != "1 grudnia 2026, 08:05 UTC" {
		t.Error(got)
	}
}
