package pages

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed text/*.json
var builtIn embed.FS

// Bounds of a folder with texts of a team's own.
const (
	maxTextFile  = 256 << 10 // bytes
	maxLanguages = 100
)

// english is the language that knows every key, and the one of last resort.
const english = "en"

// Set is the pages in all languages that there are. It does not change.
type Set struct {
	languages []string                     // tags as they are written, English first
	texts     map[string]map[string]string // by tag
	tags      map[string]string            // lower case → as it is written
}

// Load returns the pages with the built-in languages and those of the folder dir
// ("" = none): a file <language>.json is an object of texts by key, with the keys
// and the {places} of text/en.json. Of a language that is built in it may have
// some keys, which replace the built-in ones; a new language has all of them.
// The error names every fault.
func Load(dir string) (*Set, error) {
	s := &Set{texts: map[string]map[string]string{}, tags: map[string]string{}}
	inner, err := fs.Sub(builtIn, "text")
	if err != nil {
		return nil, fmt.Errorf("pages: %w", err)
	}
	if err := s.read(inner); err != nil {
		return nil, err
	}
	want := maps.Clone(s.texts[english])
	if dir != "" {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return nil, fmt.Errorf("pages: %w", err)
		}
		defer root.Close()
		if err := s.read(root.FS()); err != nil {
			return nil, err
		}
	}
	if err := s.check(want); err != nil {
		return nil, err
	}
	s.languages = slices.Sorted(maps.Keys(s.texts))
	slices.SortStableFunc(s.languages, func(a, b string) int {
		switch {
		case a == english:
			return -1
		case b == english:
			return 1
		}
		return 0
	})
	return s, nil
}

var languageTag = regexp.MustCompile(`^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$`)

func (s *Set) read(folder fs.FS) error {
	names, err := fs.Glob(folder, "*.json")
	if err != nil {
		return fmt.Errorf("pages: %w", err)
	}
	if len(names) > maxLanguages {
		return fmt.Errorf("pages: there are %d languages, at most %d are taken", len(names), maxLanguages)
	}
	for _, name := range names {
		tag := strings.TrimSuffix(name, ".json")
		if !languageTag.MatchString(tag) {
			return fmt.Errorf("pages: %s is not named after a language: write for example de.json or pt-BR.json", name)
		}
		own, err := readTexts(folder, name)
		if err != nil {
			return fmt.Errorf("pages: %s: %w", name, err)
		}
		if known, ok := s.tags[strings.ToLower(tag)]; ok {
			tag = known
		}
		s.tags[strings.ToLower(tag)] = tag
		if s.texts[tag] == nil {
			s.texts[tag] = map[string]string{}
		}
		maps.Copy(s.texts[tag], own)
	}
	return nil
}

func readTexts(folder fs.FS, name string) (map[string]string, error) {
	f, err := folder.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxTextFile+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxTextFile {
		return nil, fmt.Errorf("has more than %d bytes", maxTextFile)
	}
	var texts map[string]string
	if err := json.Unmarshal(raw, &texts); err != nil {
		return nil, fmt.Errorf("is not an object of texts: %w", err)
	}
	return texts, nil
}

var place = regexp.MustCompile(`\{[a-z]*\}`)

func places(text string) []string {
	all := place.FindAllString(text, -1)
	slices.Sort(all)
	return slices.Compact(all)
}

// check compares every language with the built-in English.
func (s *Set) check(want map[string]string) error {
	var faults []error
	for _, tag := range slices.Sorted(maps.Keys(s.texts)) {
		for _, key := range slices.Sorted(maps.Keys(want)) {
			text, ok := s.texts[tag][key]
			switch {
			case !ok:
				faults = append(faults, fmt.Errorf("pages: %s.json: %q is missing; in English it is %q", tag, key, want[key]))
			case strings.TrimSpace(text) == "":
				faults = append(faults, fmt.Errorf("pages: %s.json: %q is empty", tag, key))
			case !slices.Equal(places(text), places(want[key])):
				faults = append(faults, fmt.Errorf("pages: %s.json: %q has the places %v, want %v", tag, key, places(text), places(want[key])))
			}
		}
		for _, key := range slices.Sorted(maps.Keys(s.texts[tag])) {
			if _, ok := want[key]; !ok {
				faults = append(faults, fmt.Errorf("pages: %s.json: %q is no key of the pages", tag, key))
			}
		}
	}
	return errors.Join(faults...)
}

// Languages are the tags of the languages there are texts in, English first.
func (s *Set) Languages() []string { return slices.Clone(s.languages) }

// Language picks from what somebody asks for (ui_locales) and then what the
// browser says (Accept-Language): the first that there is, or English. Of pt-BR,
// pt is as good (RFC 4647 §3.4).
func (s *Set) Language(locales []string, acceptLanguage string) string {
	for _, tag := range append(slices.Clone(locales), accepted(acceptLanguage)...) {
		for tag = strings.ToLower(tag); tag != ""; {
			if known, ok := s.tags[tag]; ok {
				return known
			}
			cut := strings.LastIndexByte(tag, '-')
			tag = tag[:max(cut, 0)]
		}
	}
	return english
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

// rightToLeft are the languages that are written that way in their usual script.
var rightToLeft = []string{"ar", "arc", "ckb", "dv", "fa", "he", "iw", "ks", "ps", "sd", "ug", "ur", "yi"}

// direction is the value of dir for a language.
func direction(tag string) string {
	base, rest, _ := strings.Cut(strings.ToLower(tag), "-")
	script, _, _ := strings.Cut(rest, "-")
	switch {
	case script == "arab", script == "hebr", script == "thaa", script == "syrc":
		return "rtl"
	case len(script) == 4: // another script
		return "ltr"
	case slices.Contains(rightToLeft, base):
		return "rtl"
	}
	return "ltr"
}

// ScopeText says what a scope is in lang, "" for one that is not of OpenID Connect.
func (s *Set) ScopeText(lang, scope string) string { return s.texts[lang]["scope."+scope] }

// date writes an instant in UTC as the language does, to the minute.
func (s *Set) date(lang string, at time.Time) string {
	at = at.UTC()
	texts := s.texts[lang]
	return strings.NewReplacer("{day}", strconv.Itoa(at.Day()), "{month}", texts["month."+strconv.Itoa(int(at.Month()))],
		"{year}", strconv.Itoa(at.Year()), "{time}", at.Format("15:04")).Replace(texts["date"])
}
