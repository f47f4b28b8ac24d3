package mail_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"landline/internal/mail"
)

func load(t *testing.T, dir, fallback string) *mail.Templates {
	t.Helper()
	tpl, err := mail.LoadTemplates(dir, fallback)
	if err != nil {
		t.Fatal(err)
	}
	return tpl
}

var values = mail.Values{App: "Flights", Code: "012345", Minutes: 10, Device: "iPhone 15", Identity: "Apple", At: now, Link: "https://example.com/account?a=1&b=2"}

func TestEveryMessageIsThereInBothLanguages(t *testing.T) {
	tpl := load(t, "", "en")
	for _, name := range mail.Names() {
		en, err := tpl.Render(name, "en-GB", values)
		if err != nil {
			t.Fatal(err)
		}
		pl, err := tpl.Render(name, "pl_PL", values)
		if err != nil {
			t.Fatal(err)
		}
		if en.Subject == pl.Subject || en.Text == pl.Text || en.HTML == pl.HTML || en.HTML == "" {
			t.Errorf("%s is the same in both languages, or lacks HTML", name)
		}
		for _, m := range []mail.Message{en, pl} {
			if !strings.Contains(m.Text, "Flights") || strings.Contains(m.Text+m.HTML+m.Subject, "<no value>") || strings.Contains(m.Text+m.HTML, "ZgotmplZ") {
				t.Errorf("%s: %+v", name, m)
			}
		}
		if !strings.Contains(en.HTML, `lang="en"`) || !strings.Contains(pl.HTML, `lang="pl"`) {
			t.Errorf("%s does not say its language", name)
		}
	}
}

func TestLanguagesFallBack(t *testing.T) {
	tpl := load(t, "", "pl")
	for locale, want := range map[string]string{
		"pl-PL": "kod", "PL": "kod", "en": "is your code", "en-Latn-US": "is your code", "de": "kod", "": "kod", "../en": "kod", strings.Repeat("x", 100): "kod",
	} {
		if m, err := tpl.Render(mail.SignInCode, locale, values); err != nil || !strings.Contains(m.Subject, want) {
			t.Errorf("%q: %q %v", locale, m.Subject, err)
		}
	}
	if _, err := tpl.Render("nonsense", "en", values); err == nil {
		t.Error("a message that is none was rendered")
	}
}

func TestPolishNumbers(t *testing.T) {
	tpl := load(t, "", "pl")
	for n, want := range map[int]string{1: "1 minutę", 2: "2 minuty", 5: "5 minut,", 10: "10 minut,", 12: "12 minut,", 22: "22 minuty", 112: "112 minut,", 104: "104 minuty"} {
		v := values
		v.Minutes = n
		if m, err := tpl.Render(mail.SignInCode, "pl", v); err != nil || !strings.Contains(m.Text, want) {
			t.Errorf("%d: %v %s", n, err, m.Text)
		}
	}
}

func TestValuesAreEscapedAndStayInTheirLine(t *testing.T) {
	tpl := load(t, "", "en")
	rapid.Check(t, func(t *rapid.T) {
		v := values
		evil := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{`<script>alert(1)</script>`, "\" onload=x", "a\r\nBcc: eve@example.net", "a\u202eb", "{{.Code}}"}))
		v.App, v.Device, v.Identity = evil.Draw(t, "app"), evil.Draw(t, "device"), evil.Draw(t, "identity")
		m, err := tpl.Render(rapid.SampledFrom(mail.Names()).Draw(t, "name"), "en", v)
		if err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(m.Subject, "\r\n\u2028\u202e\x00") {
			t.Errorf("subject %q", m.Subject)
		}
		if strings.Contains(m.Text, "\nBcc") || strings.Contains(m.Text, "\u202e") {
			t.Errorf("text %q", m.Text)
		}
		if strings.Contains(m.HTML, "<script") || strings.Count(m.HTML, "<a ") > 1 || strings.Contains(m.HTML, `" onload`) {
			t.Errorf("html %s", m.HTML)
		}
	})
	for _, link := range []string{"javascript:alert(1)", "data:text/html,x", "//example.com", "example.com"} {
		v := values
		v.Link = link
		if _, err := tpl.Render(mail.NewDevice, "en", v); err == nil {
			t.Errorf("the link %s was accepted", link)
		}
	}
}

func TestFolderReplacesTextsOneByOne(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("en/sign_in_code.txt", "Subject: Ours {{.Code}}\r\n\r\nours {{.Minutes}} {{plural .Minutes \"minute\" \"minutes\"}}\r\n")
	write("de-AT/sign_in_code.txt", "Subject: Code {{.Code}}\n\nServus")
	write("de-AT/sign_in_code.html", "<p>{{.App}}</p>")
	write("de-AT/layout.html", "<html lang={{lang}}>{{template \"content\" .}}</html>")
	tpl := load(t, dir, "en")
	if m, err := tpl.Render(mail.SignInCode, "en", values); err != nil || m.Subject != "Ours 012345" || m.Text != "ours 10 minutes\n" || !strings.Contains(m.HTML, "Enter this code") {
		t.Errorf("%+v %v", m, err)
	}
	if m, err := tpl.Render(mail.SignInCode, "de-at", values); err != nil || m.Text != "Servus" || m.HTML != "<html lang=de-at><p>Flights</p></html>" {
		t.Errorf("%+v %v", m, err)
	}
	if m, err := tpl.Render(mail.NewDevice, "de-at", values); err != nil || m.Subject != "New sign-in to Flights" {
		t.Errorf("%+v %v", m, err)
	}
	for name, text := range map[string]string{
		"en/signin.txt":           "Subject: x\n\nx",
		"en/sign_in_code.md":      "x",
		"e/sign_in_code.txt":      "Subject: x\n\nx",
		"en/new_device.txt":       "no subject",
		"en/export_ready.txt":     "Subject: x\n\n{{.Nonsense}}",
		"en/deletion_done.txt":    "Subject: x\n\n{{",
		"fr/deletion_done.html":   "<p>",
		"en/deletion_undone.txt":  "Subject: x\n\n" + strings.Repeat("x", 256<<10),
		"en/identity_linked.html": "{{template \"none\"}}",
	} {
		write(name, text)
		if _, err := mail.LoadTemplates(dir, "en"); err == nil {
			t.Errorf("%s was accepted", name)
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	load(t, dir, "en")
}
