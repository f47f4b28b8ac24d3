// Package pages draws the hosted pages: signing in, consent, one's own account
// and its deletion.
//
// What it guarantees:
//
//   - Every page works without JavaScript. One script, a file of its own, adds
//     passkeys to the page with the ways to sign in; the Content-Security-Policy of
//     that page allows this file, and the one address it calls, and that of every
//     other page allows no script at all. All forbid framing, and forms to anywhere
//     but where the page says.
//   - Whatever is shown passes through html/template. No text of a request is markup.
//   - Every control has a label, every fault is named in a summary at the top that
//     links to its field, the language and direction of the page are declared, focus
//     is visible, and nothing is told by colour alone (WCAG 2.2 AA).
//   - Every text is in every language: Load refuses a language with a gap.
//
// It decides nothing: what a form means, and whether it came from this page, is
// its caller's to say.
package pages

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"
)

//go:embed page.html account.html style.css passkey.js
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

	Account  Name = "account"  // where the user is signed in, and what can be done with the account
	Delete   Name = "delete"   // what a deletion does, for whoever comes
	Confirm  Name = "confirm"  // delete this account?
	Deleting Name = "deleting" // the account waits to be erased
	Kept     Name = "kept"     // the deletion was undone
	Export   Name = "export"   // a copy of the user's data
)

// All are all pages.
var All = []Name{SignIn, Code, Choose, Consent, SignOut, SignedOut, Failed, Account, Delete, Confirm, Deleting, Kept, Export}

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

	Why         string   // SignIn: key below "why.": what the sign-in is for, when no client asks; "" = none
	Links       []Link   // SignIn: providers that are elsewhere
	Email       bool     // SignIn: a code by e-mail
	Password    bool     // SignIn: address and password
	Passkey     *Passkey // SignIn: passkeys; nil = none
	PasskeyOnly bool     // SignIn: nothing else will do
	Address     string   // to begin with
	Accounts    []Option // Choose
	Scopes      []string // Consent: what is asked for, in words
	Third       bool     // Consent: Client is somebody else's
	Who         string   // Consent, SignOut, Account, Confirm: who is signed in

	Until   time.Time // Delete, Confirm, Deleting, Export: when the time to undo, or the copy, is over; zero = there is none
	Undo    bool      // Deleting: with a button
	Asked   bool      // Deleting: the deletion was asked for a moment ago
	Erased  []string  // Delete: what is deleted, beside what always is
	Remains []string  // Delete: what is kept, beside what always is
	Next    string    // Delete, Kept, Export, Account: where the page leads
	Back    string    // Confirm, Export, Failed: where else
	Ready   bool      // Export: Next is the archive
	Devices []Device  // Account
}

// Link leads to a provider.
type Link struct{ Label, URL string }

// Option is one of several to choose.
type Option struct{ Value, Label string }

// Device is one session of the user.
type Device struct {
	Session string
	Label   string // what people call the device; "" = a browser or a device that has not said
	Browser bool
	Current bool
	Since   time.Time
}

// Passkey is how the script of the sign-in page works.
type Passkey struct {
	Script  string // absolute URL of Script
	Options string // absolute URL that gives the options of a ceremony
}

// text is the text of key in the page's language, with {app}, {client}, {who} and
// {until} filled in.
func (v *view) text(key string) string {
	text, ok := v.set.texts[v.Lang][key]
	if !ok {
		panic(fmt.Sprintf("pages: there is no text %q in %q", key, v.Lang)) // a test draws every page in every language
	}
	return strings.NewReplacer("{app}", v.apart(v.App), "{client}", v.apart(v.Client), "{who}", v.apart(v.Who), "{until}", v.set.date(v.Lang, v.Until)).Replace(text)
}

// apart keeps a name's direction from that of the text around it (Unicode Standard
// Annex 9 §2.4.2). Where both are written from the left nothing is added.
func (v *view) apart(name string) string {
	if v.Dir == "ltr" {
		return name
	}
	return "\u2068" + name + "\u2069"
}

var style = read("style.css")

// styleSource allows the one style sheet, which is in the page (CSP Level 3 §6.7.2.3).
var styleSource = func() string {
	sum := sha256.Sum256([]byte(style))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}()

var scriptText = read("passkey.js")

// ScriptVersion changes with the script, for the address that it is fetched from.
var ScriptVersion = func() string {
	sum := sha256.Sum256([]byte(scriptText))
	return hex.EncodeToString(sum[:6])
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
}).Parse(read("page.html") + read("account.html")))

type view struct {
	*Page
	set *Set
	T   func(string) string
	Dir string
}

// With is what leads to a provider.
func (v *view) With(provider string) string {
	return strings.ReplaceAll(v.text("sign_in.with"), "{provider}", v.apart(provider))
}

// Date is an instant as the page's language writes it.
func (v *view) Date(at time.Time) string { return v.set.date(v.Lang, at) }

// Write answers with the page.
func (s *Set) Write(w http.ResponseWriter, status int, p Page) {
	if s.texts[p.Lang] == nil {
		p.Lang = english
	}
	v := &view{Page: &p, set: s, Dir: direction(p.Lang)}
	v.T = v.text
	var body bytes.Buffer
	if err := layout.Execute(&body, v); err != nil {
		panic(err) // a test draws every page
	}
	h := w.Header()
	for name, value := range map[string]string{
		"Content-Type":            "text/html; charset=utf-8",
		"Content-Length":          strconv.Itoa(body.Len()),
		"Content-Language":        p.Lang,
		"Content-Security-Policy": p.policy(),
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

// policy is the page's Content-Security-Policy. The script is allowed by its path:
// with 'self' whatever else this host serves could be one (CSP Level 3 §6.7.2.12).
func (p *Page) policy() string {
	scripts := ""
	if p.Name == SignIn && p.Passkey != nil {
		file, _, _ := strings.Cut(p.Passkey.Script, "?")
		scripts = "script-src " + file + "; connect-src " + p.Passkey.Options + "; require-trusted-types-for 'script'; "
	}
	return "default-src 'none'; " + scripts + "style-src " + styleSource + "; form-action " + strings.Join(append([]string{"'self'"}, p.FormTo...), " ") +
		"; frame-ancestors 'none'; base-uri 'none'"
}

// ServeScript answers with the script of the sign-in page.
func ServeScript(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(scriptText)))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "public, max-age=3600")
	if r.Method != http.MethodHead {
		w.Write([]byte(scriptText))
	}
}
