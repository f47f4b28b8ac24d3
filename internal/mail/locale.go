package mail

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxLocale = 35  // RFC 5646 §4.4.1
	maxValue  = 200 // characters of a name in a text
)

// cleanLocale writes a language tag (RFC 5646) in lower case; pl_PL is pl-pl.
func cleanLocale(tag string) (string, bool) {
	tag = strings.ToLower(strings.ReplaceAll(tag, "_", "-"))
	if len(tag) < 2 || len(tag) > maxLocale {
		return "", false
	}
	for part := range strings.SplitSeq(tag, "-") {
		if part == "" || len(part) > 8 || strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			return "", false
		}
	}
	return tag, true
}

// chain is each tag with its shorter forms (RFC 4647 §3.4), in order.
func chain(tags ...string) []string {
	var list []string
	for _, tag := range tags {
		for tag != "" {
			if !slices.Contains(list, tag) {
				list = append(list, tag)
			}
			tag = tag[:max(strings.LastIndexByte(tag, '-'), 0)]
		}
	}
	return list
}

// functions are what templates may call.
func functions(locale string) map[string]any {
	language, _, _ := strings.Cut(locale, "-")
	return map[string]any{
		// time writes an instant.
		"time": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") },
		// plural picks a word for a number: {{plural .Minutes "minute" "minutes"}};
		// in Polish and its like there are three: 1, 2 to 4, others.
		"plural": func(n int, words ...string) (string, error) { return plural(language, n, words) },
		// lang is the language of the text, for the lang attribute.
		"lang": func() string { return locale },
	}
}

// plural follows the cardinal rules of CLDR for whole numbers.
func plural(language string, n int, words []string) (string, error) {
	form := 1
	switch language {
	case "pl":
		switch {
		case n == 1:
			form = 0
		case n%10 >= 2 && n%10 <= 4 && (n%100 < 12 || n%100 > 14):
		default:
			form = 2
		}
	case "fr", "pt":
		if n == 0 || n == 1 {
			form = 0
		}
	case "ja", "zh", "ko", "vi", "th", "id":
		form = 0
	default:
		if n == 1 {
			form = 0
		}
	}
	if len(words) == 0 {
		return "", fmt.Errorf("plural wants words")
	}
	return words[min(form, len(words)-1)], nil
}

// oneLine makes of a value what can stand in a line: values come from devices.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "\uFFFD"), func(r rune) bool {
		return unicode.IsControl(r) || unicode.IsSpace(r) || unicode.Is(unicode.Bidi_Control, r)
	}), " ")
	if utf8.RuneCountInString(s) > maxValue {
		s = string([]rune(s)[:maxValue]) + "…"
	}
	return s
}
