package mail

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	texttemplate "text/template"
	"time"
)

// Name is a kind of message.
type Name string

// The messages, with the Values that they use.
const (
	SignInCode        Name = "sign_in_code"       // Code, Minutes
	NewDevice         Name = "new_device"         // Device, At, Link
	IdentityLinked    Name = "identity_linked"    // Identity, At, Link
	IdentityUnlinked  Name = "identity_unlinked"  // Identity, At, Link
	DeletionScheduled Name = "deletion_scheduled" // At, Link
	DeletionUndone    Name = "deletion_undone"    // At
	DeletionDone      Name = "deletion_done"      // At
	ExportReady       Name = "export_ready"       // Link, At (until when)
)

// Names are all messages.
func Names() []Name {
	return []Name{SignInCode, NewDevice, IdentityLinked, IdentityUnlinked, DeletionScheduled, DeletionUndone, DeletionDone, ExportReady}
}

// Values are what texts may use. All may hold anything: they are escaped.
type Values struct {
	App      string    // name of the app
	Code     string    // to sign in
	Minutes  int       // for which Code is good
	Device   string    // as people call it, for example "iPhone 15, Flights 4.2.0"
	Identity string    // as people call it, for example "Apple" or "a passkey"
	At       time.Time // shown in UTC
	Link     string    // https, or http in development; "" = there is none
}

const (
	maxTemplate = 256 << 10
	layoutName  = "layout.html"
)

//go:embed templates
var builtin embed.FS

// Templates are the texts of all messages in all languages. It is safe for
// concurrent use.
type Templates struct {
	locales  map[string]map[Name]*parts
	fallback string
}

type parts struct {
	subject, text *texttemplate.Template
	html          *htmltemplate.Template
}

// LoadTemplates returns the built-in texts, with what the folder dir holds in
// their place; dir "" = none. fallback is the language of people whose language
// has no texts. Every template is tried, so that a mistake shows here.
//
// A language's folder holds <message>.txt, whose first line is "Subject: …",
// <message>.html, and layout.html around the latter; a language without a
// layout of its own has that of en.
func LoadTemplates(dir, fallback string) (*Templates, error) {
	files := map[string]string{}
	inner, err := fs.Sub(builtin, "templates")
	if err != nil {
		return nil, fmt.Errorf("mail: %w", err)
	}
	if err := readFolder(inner, files); err != nil {
		return nil, err
	}
	if dir != "" {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return nil, fmt.Errorf("mail: %w", err)
		}
		defer root.Close()
		if err := readFolder(root.FS(), files); err != nil {
			return nil, err
		}
	}
	t := &Templates{locales: map[string]map[Name]*parts{}}
	if err := t.parse(files); err != nil {
		return nil, err
	}
	clean, ok := cleanLocale(fallback)
	if !ok {
		return nil, fmt.Errorf("mail: %q is not a language tag", fallback)
	}
	for _, tag := range chain(clean, "en") {
		if len(t.locales[tag]) > 0 {
			t.fallback = clean
			return t, nil
		}
	}
	return nil, fmt.Errorf("mail: there are no texts in %s", fallback)
}

// readFolder reads <language>/<file> into files.
func readFolder(folder fs.FS, files map[string]string) error {
	return fs.WalkDir(folder, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("mail: %w", err)
		}
		if entry.IsDir() || strings.HasPrefix(entry.Name(), ".") {
			return nil
		}
		locale, file := path.Split(name)
		clean, ok := cleanLocale(strings.TrimSuffix(locale, "/"))
		kind := strings.TrimSuffix(strings.TrimSuffix(file, ".txt"), ".html")
		if !ok || kind == file || file != layoutName && !slices.Contains(Names(), Name(kind)) {
			return fmt.Errorf("mail: %s is not <language>/<message>.txt or .html of a message, or <language>/%s", name, layoutName)
		}
		f, err := folder.Open(name)
		if err != nil {
			return fmt.Errorf("mail: %w", err)
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, maxTemplate+1))
		if err != nil {
			return fmt.Errorf("mail: %s: %w", name, err)
		}
		if len(text) > maxTemplate {
			return fmt.Errorf("mail: %s has more than %d bytes", name, maxTemplate)
		}
		files[clean+"/"+file] = string(text)
		return nil
	})
}

func (t *Templates) parse(files map[string]string) error {
	var faults []error
	for name, text := range files {
		locale, file := path.Split(name)
		locale = strings.TrimSuffix(locale, "/")
		kind, isText := strings.CutSuffix(file, ".txt")
		if !isText {
			continue
		}
		layout := files[locale+"/"+layoutName]
		if layout == "" {
			layout = files["en/"+layoutName]
		}
		p, err := parseParts(locale, text, files[locale+"/"+kind+".html"], layout)
		if err == nil {
			_, err = p.render(Values{App: "App", Code: "123456", Minutes: 10, Device: "Phone", Identity: "Apple", At: time.Unix(0, 0), Link: "https://example.com/"})
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", name, err))
			continue
		}
		if t.locales[locale] == nil {
			t.locales[locale] = map[Name]*parts{}
		}
		t.locales[locale][Name(kind)] = p
	}
	for name := range files {
		if kind, ok := strings.CutSuffix(name, ".html"); ok && path.Base(name) != layoutName && files[kind+".txt"] == "" {
			faults = append(faults, fmt.Errorf("%s: there is no %s.txt beside it", name, path.Base(kind)))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	return nil
}

func parseParts(locale, text, html, layout string) (*parts, error) {
	first, body, _ := strings.Cut(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	subject, ok := strings.CutPrefix(first, "Subject: ")
	if !ok {
		return nil, errors.New("the first line is not Subject: …")
	}
	funcs := functions(locale)
	p := &parts{}
	var err error
	if p.subject, err = texttemplate.New("subject").Funcs(funcs).Parse(subject); err != nil {
		return nil, fmt.Errorf("subject: %w", err)
	}
	if p.text, err = texttemplate.New("text").Funcs(funcs).Parse(strings.TrimLeft(body, "\n")); err != nil {
		return nil, fmt.Errorf("text: %w", err)
	}
	if html == "" {
		return p, nil
	}
	if p.html, err = htmltemplate.New("layout").Funcs(htmltemplate.FuncMap(funcs)).Parse(layout); err != nil {
		return nil, fmt.Errorf("%s: %w", layoutName, err)
	}
	if _, err = p.html.New("content").Parse(html); err != nil {
		return nil, fmt.Errorf("html: %w", err)
	}
	return p, nil
}

// Render returns the message in the person's language, without Key and To. A
// language without that text falls back: pl-PL, pl, the configured one, en.
func (t *Templates) Render(name Name, locale string, v Values) (Message, error) {
	if v.Link != "" && !strings.HasPrefix(v.Link, "https://") && !strings.HasPrefix(v.Link, "http://") {
		return Message{}, fmt.Errorf("mail: the link is not an http or https URL")
	}
	clean, _ := cleanLocale(locale) // of a phone; what is no tag has no texts
	for _, tag := range chain(clean, t.fallback, "en") {
		if p := t.locales[tag][name]; p != nil {
			return p.render(v)
		}
	}
	return Message{}, fmt.Errorf("mail: there is no message %q", name)
}

func (p *parts) render(v Values) (Message, error) {
	v.App, v.Device, v.Identity = oneLine(v.App), oneLine(v.Device), oneLine(v.Identity)
	var subject, text, html bytes.Buffer
	if err := p.subject.Execute(&subject, v); err != nil {
		return Message{}, fmt.Errorf("mail: %w", err)
	}
	if err := p.text.Execute(&text, v); err != nil {
		return Message{}, fmt.Errorf("mail: %w", err)
	}
	if p.html != nil {
		if err := p.html.Execute(&html, struct {
			Values
			Subject string
		}{v, oneLine(subject.String())}); err != nil {
			return Message{}, fmt.Errorf("mail: %w", err)
		}
	}
	return Message{Subject: oneLine(subject.String()), Text: text.String(), HTML: html.String()}, nil
}
