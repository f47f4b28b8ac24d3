// Package pages draws the hosted sign-in pages.
//
// What it guarantees:
//
//   - Every page works without JavaScript, and has none: its Content-Security-
//     Policy forbids it, and framing, and forms to anywhere but where the page says.
//   - Whatever is shown passes through html/template. No text of a request is markup.
//   - Every control has a label, every fault is named in a summary at the top that
//     links to its field, the language of the page is declared, and focus is visible
//     (WCAG 2.2 AA).
//   - Every text is in every language: a test compares the files in text/.
//
// It decides nothing: what a form means, and whether it came from this page, is
// its caller's to say.
package pages

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

//go:embed text/*.json page.html style.css
var files embed.FS

// Name names a page.
type Name string

// The pages.
const (
	SignIn    Name = "sign_in"    // all ways to sign in
	Code      Name = "code"       // enter the code that was sent by e-mail
	Choose    Name = "choose"     // go on as one of those who are signed in
	Consent   Name = "consent"    // allow a client its scopes
	SignOut   Name = "sign_out"   // end the session in this browser?
	SignedOut Name = "signed_out" // done
	Failed    Name = "failed"     // nothing can be done here
)

// Page is what is to be drawn. Texts come from the language's file; names and
// addresses are shown as they are.
type Page struct {
	Name   Name
	Lang   string // one of Languages
	App    string // name of the product
	Client string // name of who asks; "" = nobody
	Fault  string // key below "fault.", "" = none
	Detail string // for developers, in English, on Failed
	Field  string // id of the field that the fault is about; "" = none

	Action string      // where forms go
	Hidden [][2]string // of every form
	FormTo []string    // sources that a form may lead to besides this one

	Links    []Link   // SignIn: providers that are elsewhere
	Email    bool     // SignIn: a code by e-mail
	Password bool     // SignIn: address and password
	Address  string   // to begin with
	Accounts []Option // Choose
	Scopes   []string // Consent: what is asked for, in words
	Third    bool     // Consent: Client is somebody else's
	Who      string   // Consent, SignOut: who is signed in
}

// Link leads to a provider.
type Link struct{ Label, URL string }

// Option is one of several to choose.
type Option struct{ Value, Label string }

// languages in the order of preference when the browser has none.
var languages = []string{"en", "pl"}

var texts = load()

func load() map[string]map[string]string {
	all := map[string]map[string]string{}
	for _, lang := range languages {
		raw, err := files.ReadFile("text/" + lang + ".json")
		if err != nil {
			panic(err)
		}
		m := map[string]string{}
		if err := json.Unmarshal(raw, &m); err != nil {
			panic(fmt.Errorf("pages: text/%s.json: %w", lang, err))
		}
		all[lang] = m
	}
	return all
}

// Languages are the tags of the languages there are texts in.
func Languages() []string { return slices.Clone(languages) }

// Language picks from what a client asks for (ui_locales) and then what the
// browser says (Accept-Language): the first that there is, or English.
func Language(locales []string, acceptLanguage string) string {
	for _, tag := range append(slices.Clone(locales), accepted(acceptLanguage)...) {
		base, _, _ := strings.Cut(strings.ToLower(tag), "-")
		if slices.Contains(languages, base) {
			return base
		}
	}
	return languages[0]
}

// accepted are the tags of Accept-Language, the most wanted first (RFC 9110 §12.5.4).
func accepted(header string) []string {
	type wish struct {
		tag string
		q   float64
	}
	var all []wish
	for part := range strings.SplitSeq(header, ",") {
		if len(all) == 20 {
			break
		}
		tag, parameter, _ := strings.Cut(strings.TrimSpace(part), ";")
		q := 1.0
		if text, ok := strings.CutPrefix(strings.TrimSpace(parameter), "q="); ok {
			var err error
			if q, err = strconv.ParseFloat(text, 64); err != nil {
				continue
			}
		}
		if q > 0 {
			all = append(all, wish{strings.TrimSpace(tag), q})
		}
	}
	slices.SortStableFunc(all, func(a, b wish) int {
		switch {
		case a.q > b.q:
			return -1
		case a.q < b.q:
			return 1
		}
		return 0
	})
	out := make([]string, len(all))
	for i, w := range all {
		out[i] = w.tag
	}
	return out
}

// text is the text of key in lang, with {app}, {client} and {who} filled in.
func (p *Page) text(key string) string {
	text, ok := texts[p.Lang][key]
	if !ok {
		panic(fmt.Sprintf("pages: there is no text %q in %q", key, p.Lang)) // a test draws every page in every language
	}
	return strings.NewReplacer("{app}", p.App, "{client}", p.Client, "{who}", p.Who).Replace(text)
}

// Known reports whether fault is one that pages can tell of.
func Known(fault string) bool {
	_, ok := texts[languages[0]]["fault."+fault]
	return ok
}

// ScopeText says what a scope is in lang, "" for one that is not of OpenID Connect.
func ScopeText(lang, scope string) string { return texts[lang]["scope."+scope] }

var style = read("style.css")

// styleSource allows the one style sheet, which is in the page (CSP Level 3 §6.7.2.3).
var styleSource = func() string {
	sum := sha256.Sum256([]byte(style))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}()

func read(name string) string {
	raw, err := files.ReadFile(name)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

var layout = template.Must(template.New("page").Funcs(template.FuncMap{
	"style": func() template.CSS { return template.CSS(style) }, // #nosec G203 -- our own file
}).Parse(read("page.html")))

type view struct {
	*Page
	T func(string) string
}

// Write answers with the page.
func Write(w http.ResponseWriter, status int, p Page) {
	if !slices.Contains(languages, p.Lang) {
		p.Lang = languages[0]
	}
	var body bytes.Buffer
	if err := layout.Execute(&body, view{&p, p.text}); err != nil {
		panic(err) // a test draws every page
	}
	h := w.Header()
	for name, value := range map[string]string{
		"Content-Type":            "text/html; charset=utf-8",
		"Content-Length":          strconv.Itoa(body.Len()),
		"Content-Language":        p.Lang,
		"Content-Security-Policy": "default-src 'none'; style-src " + styleSource + "; form-action " + strings.Join(append([]string{"'self'"}, p.FormTo...), " ") + "; frame-ancestors 'none'; base-uri 'none'",
		"X-Frame-Options":         "DENY",
		"X-Content-Type-Options":  "nosniff",
		"Referrer-Policy":         "same-origin", // with less the browser would send Origin: null with the page's own forms
		"Cache-Control":           "no-store",
		"Permissions-Policy":      "camera=(), microphone=(), geolocation=()",
	} {
		h.Set(name, value)
	}
	w.WriteHeader(status)
	w.Write(body.Bytes())
}
