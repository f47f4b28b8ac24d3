package config

import (
	"errors"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"
)

// expr says what part of a scalar came from ${…} expressions.
type expr uint8

const (
	exprNone    expr = iota
	exprPart         // text and expressions
	exprWhole        // one expression and nothing else
	exprDefault      // the same, with a default text in the file
)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func hasExpr(s string) bool { return strings.Contains(s, "${") }

// escapeExpr writes s so that expand gives s back.
func escapeExpr(s string) string { return strings.ReplaceAll(s, "${", "$${") }

// expand replaces the expressions in n's text. It reports false when one of
// them has a fault.
func (l *loader) expand(n *node, p *path) bool {
	if !hasExpr(n.text) {
		return true
	}
	var out strings.Builder
	ok := true
	rest := n.text
	for rest != "" {
		at := strings.Index(rest, "${")
		if at < 0 {
			out.WriteString(rest)
			break
		}
		if at > 0 && rest[at-1] == '$' {
			out.WriteString(rest[:at-1])
			out.WriteString("${")
			rest = rest[at+2:]
			continue
		}
		out.WriteString(rest[:at])
		inner, after, closed := strings.Cut(rest[at+2:], "}")
		if !closed {
			l.fault(n.line, n.col, p, "close it with }, or write $${ for the characters ${", "the expression has no end")
			return false
		}
		value, defaulted, valid := l.evaluate(inner, n, p)
		ok = ok && valid
		out.WriteString(value)
		switch {
		case at > 0 || after != "" || n.expr != exprNone:
			n.expr = exprPart
		case defaulted:
			n.expr = exprDefault
		default:
			n.expr = exprWhole
		}
		if rest = after; out.Len() > maxFile {
			l.fault(n.line, n.col, p, "", "the expressions give more than 4 MiB of text")
			return false
		}
	}
	n.text = out.String()
	return ok
}

// evaluate gives the text of one expression. defaulted tells that the file
// itself holds a text for it.
func (l *loader) evaluate(inner string, n *node, p *path) (value string, defaulted, ok bool) {
	if file, is := strings.CutPrefix(inner, "file:"); is {
		value, ok = l.readFile(file, n, p)
		return value, false, ok
	}
	name, fallback, hasFallback := strings.Cut(inner, ":-")
	if !variableName.MatchString(name) {
		l.fault(n.line, n.col, p, "write ${NAME}, ${NAME:-default} or ${file:path}; $${ gives the characters ${",
			"${%s} is not an expression", clip(inner, 40))
		return "", false, false
	}
	set := false
	if l.env.Lookup != nil {
		value, set = l.env.Lookup(name)
	}
	if hasFallback && value == "" {
		return fallback, fallback != "", true
	}
	if !set {
		l.fault(n.line, n.col, p, "set it, or write ${"+name+":-default}", "the environment variable %s is not set", name)
		return "", false, false
	}
	return value, hasFallback && fallback != "", l.vetOutside(value, "the environment variable "+name, n, p)
}

func (l *loader) readFile(name string, n *node, p *path) (string, bool) {
	if name == "" || l.env.ReadFile == nil {
		l.fault(n.line, n.col, p, "write ${file:path}", "there is no file to read")
		return "", false
	}
	full := name
	if !filepath.IsAbs(full) {
		full = filepath.Join(l.dir(), full)
	}
	data, err := l.env.ReadFile(full)
	if err != nil {
		reason, hint := "cannot be read", "check that it is a file, and the disk"
		switch {
		case errors.Is(err, fs.ErrNotExist):
			reason, hint = "does not exist", "a relative path begins at the folder of the configuration file"
		case errors.Is(err, fs.ErrPermission):
			reason, hint = "may not be read by this user", "change its owner or mode"
		}
		l.fault(n.line, n.col, p, hint, "the file %s %s", clip(full, 200), reason)
		return "", false
	}
	text := string(data)
	if !l.vetOutside(text, "the file "+clip(full, 200), n, p) {
		return "", false
	}
	text = strings.TrimSuffix(text, "\n")
	return strings.TrimSuffix(text, "\r"), true
}

func (l *loader) vetOutside(text, what string, n *node, p *path) bool {
	switch {
	case len(text) > maxOutside:
		l.fault(n.line, n.col, p, "", "%s holds more than 64 KiB", what)
	case !utf8.ValidString(text):
		l.fault(n.line, n.col, p, "encode binary values, for example as base64", "%s is not UTF-8 text", what)
	default:
		return true
	}
	return false
}
