package config

import (
	"bytes"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/scanner"
	"github.com/goccy/go-yaml/token"
)

// maxStructure bounds what the lexer makes of a file: each such byte costs a
// token or two.
const maxStructure = 600_000

// parse reads data as one YAML document. It reports false when the file is no
// YAML that could be decoded.
func (l *loader) parse(data []byte) (root *node, ok bool) {
	text, ok := l.vetText(data)
	if !ok {
		return nil, false
	}
	tokens := tokenize(text)
	if !l.vetTokens(tokens, text) {
		return nil, false
	}
	file, ok := l.parseTokens(tokens)
	if !ok {
		return nil, false
	}
	empty := &node{kind: kindMap, file: l.file, line: 1, col: 1}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return empty, true
	}
	if len(file.Docs) > 1 && file.Docs[1].Body != nil {
		line, col := position(file.Docs[1].Body.GetToken())
		l.fault(line, col, nil, "keep one document per file", "a second YAML document begins here")
		return nil, false
	}
	b := &builder{l: l, anchors: map[string]*node{}}
	root = b.value(file.Docs[0].Body, nil)
	switch root.kind {
	case kindMap:
		return root, true
	case kindNull:
		return empty, true
	case kindBad:
		return nil, false
	}
	l.fault(root.line, root.col, nil, "write for example: profile: development", "the file must be a mapping of section keys, found %s", root.shown())
	return nil, false
}

// vetText checks the bytes and gives them line feeds for line ends.
func (l *loader) vetText(data []byte) (string, bool) {
	if len(data) > maxFile {
		l.fault(1, 1, nil, "", "the file is larger than 4 MiB")
		return "", false
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(data))
	line, col, structure := 1, 1, 0
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			l.fault(line, col, nil, "save the file as UTF-8", "the text is not valid UTF-8 here")
			return "", false
		case r < 0x20 && r != '\n' && r != '\t', r == 0x7f, r == 0xfeff:
			l.fault(line, col, nil, `remove it, or write it as \x.. in double quotes`, "the control character U+%04X is not allowed in the file", r)
			return "", false
		case strings.ContainsRune("\n,:[]{}-?&*!", r):
			structure++
		}
		i += n
		col++
		if r == '\n' {
			line, col = line+1, 1
		}
	}
	if structure > maxStructure {
		l.fault(1, 1, nil, "split it, or use fewer entries", "the file has too many parts to be a configuration")
		return "", false
	}
	return text, true
}

// tokenize ends at the first token that is invalid, which the parser then
// reports. (The library's own loop goes on behind it, and need not end.)
func tokenize(text string) token.Tokens {
	var s scanner.Scanner
	s.Init(text)
	var tokens token.Tokens
	for range len(text) + 1 {
		more, err := s.Scan()
		tokens.Add(more...)
		if err != nil {
			break // io.EOF, or the last token says what is wrong
		}
	}
	return tokens
}

// parseTokens runs the parser. What it says becomes our own words.
func (l *loader) parseTokens(tokens token.Tokens) (file *ast.File, ok bool) {
	defer func() {
		// The parser is known to give up on some broken documents this way. The
		// operator gets a fault like any other; no state of ours is involved.
		if recover() != nil {
			l.fault(1, 1, nil, "look for a missing quote, colon or bracket", "the file is not valid YAML")
			file, ok = nil, false
		}
	}()
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err == nil {
		return file, true
	}
	line, col, message := 1, 1, ""
	var at interface{ GetToken() *token.Token }
	if errors.As(err, &at) {
		line, col = position(at.GetToken())
	}
	var said interface{ GetMessage() string }
	if errors.As(err, &said) {
		message = said.GetMessage()
	}
	text, hint := syntax(message)
	l.fault(line, col, nil, hint, "%s", text)
	return nil, false
}

// syntax says in plain words what the parser means.
func syntax(message string) (text, hint string) {
	for _, s := range []struct{ part, text, hint string }{
		{"cannot start any token", "a tab stands where the line is indented", "indent with spaces"},
		{"single-quoted", "the text in single quotes has no end", "close it with '"},
		{"double-quoted", "the text in double quotes has no end", `close it with "`},
		{"reserved character", "a value cannot begin with this character", "put the value in quotes"},
		{"',' or '}'", "the mapping in { } goes on without a comma or has no end", "write {a: 1, b: 2}; put values with { or } in quotes"},
		{"',' or ']'", "the list in [ ] goes on without a comma or has no end", "write [a, b]"},
		{"sequence end token", "the list in [ ] has no end", "close it with ]"},
		{"flow mapping end", "the mapping in { } has no end", "close it with }"},
		{"flow map content", "a key: value is expected in { }", "write {a: 1, b: 2}"},
		{"expected sequence element", "a value is expected before the comma", "write [a, b]"},
		{"pre-defined", "the key above has a value already, so nothing can be nested under it", "check the indentation"},
		{"mapping value is not allowed", "a second key: value stands in this line", "put the value in quotes when it holds \": \""},
		{"block sequence entries", "a list cannot begin in the key's own line", "begin it in the next line"},
		{"non-map value", "a key: value is expected here", "check the indentation, and the space after the colon"},
		{"value is not allowed", "a value does not fit here", "check the indentation"},
		{"anchor", "the anchor (&name) is not followed by a value it could name", ""},
		{"alias", "an alias is written *name", ""},
		{"key", "this is not a key: value pair", "check the indentation, and the space after the colon"},
	} {
		if strings.Contains(message, s.part) {
			return s.text, s.hint
		}
	}
	return "the file is not valid YAML here", "look for a missing quote, colon or bracket"
}
