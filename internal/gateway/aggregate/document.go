package aggregate

import (
	"errors"
	"fmt"
	"strings"
)

// lexer splits a GraphQL document into tokens (GraphQL October 2021, §2.1): as
// much as is needed to find the operations.
type lexer struct {
	text string
	at   int
}

var errUnfinished = errors.New("the GraphQL document ends in the middle of a text")

// next returns a name, a punctuator or a quoted text (as `"`); "" at the end.
func (l *lexer) next() (string, error) {
	for l.at < len(l.text) {
		switch c := l.text[l.at]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ',':
			l.at++
		case strings.HasPrefix(l.text[l.at:], "\ufeff"):
			l.at += len("\ufeff")
		case c == '#':
			end := strings.IndexAny(l.text[l.at:], "\r\n")
			if end < 0 {
				l.at = len(l.text)
			} else {
				l.at += end
			}
		case strings.HasPrefix(l.text[l.at:], `"""`):
			return `"`, l.block()
		case c == '"':
			return `"`, l.quoted()
		case nameByte(c):
			from := l.at
			for l.at < len(l.text) && nameByte(l.text[l.at]) {
				l.at++
			}
			return l.text[from:l.at], nil
		case c < ' ' || c >= 0x7F:
			return "", fmt.Errorf("the GraphQL document has the byte %#x outside of texts", c)
		default:
			l.at++
			return string(c), nil
		}
	}
	return "", nil
}

func nameByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func (l *lexer) quoted() error {
	for l.at++; l.at < len(l.text); l.at++ {
		switch l.text[l.at] {
		case '"':
			l.at++
			return nil
		case '\\':
			l.at++
		case '\n', '\r':
			return errUnfinished
		}
	}
	return errUnfinished
}

func (l *lexer) block() error {
	l.at += 3
	for l.at < len(l.text) {
		switch {
		case strings.HasPrefix(l.text[l.at:], `\"""`):
			l.at += 4
		case strings.HasPrefix(l.text[l.at:], `"""`):
			l.at += 3
			return nil
		default:
			l.at++
		}
	}
	return errUnfinished
}

// parseDocument finds the operations of an executable GraphQL document.
func parseDocument(text string) ([]Operation, error) {
	l := &lexer{text: text}
	var list []Operation
	names := map[string]bool{}
	for {
		token, err := l.next()
		if err != nil {
			return nil, err
		}
		switch token {
		case "":
			if len(list) == 0 {
				return nil, errors.New("the GraphQL document has no operation")
			}
			if len(list) > 1 && names[""] {
				return nil, errors.New("an operation without a name must be the only one of its GraphQL document")
			}
			return list, nil
		case "query", "mutation", "subscription":
			o, err := l.operation(token)
			if err != nil {
				return nil, err
			}
			if names[o.Name] {
				return nil, fmt.Errorf("two operations of the GraphQL document are called %q", o.Name)
			}
			names[o.Name] = true
			list = append(list, o)
		case "{":
			if names[""] {
				return nil, errors.New("two operations of the GraphQL document have no name")
			}
			names[""] = true
			list = append(list, Operation{Type: "query"})
			if err := l.close(1); err != nil {
				return nil, err
			}
		case "fragment":
			if err := l.selection(); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("the GraphQL document has %.40q where query, mutation, fragment or { must stand", token)
		}
	}
}

// operation reads on after its type.
func (l *lexer) operation(kind string) (Operation, error) {
	o := Operation{Type: kind}
	before := l.at
	token, err := l.next()
	if err != nil {
		return o, err
	}
	if token != "" && nameByte(token[0]) && (token[0] < '0' || token[0] > '9') {
		o.Name = token
	} else {
		l.at = before
	}
	return o, l.selection()
}

// selection goes over what stands before the selection set, and over it.
// Default values of variables and arguments of directives may have braces:
// they stand in parentheses.
func (l *lexer) selection() error {
	parentheses := 0
	for {
		token, err := l.next()
		if err != nil {
			return err
		}
		switch token {
		case "":
			return errors.New("the GraphQL document ends before a selection set")
		case "(":
			parentheses++
		case ")":
			if parentheses--; parentheses < 0 {
				return errors.New("the GraphQL document has a ) without a (")
			}
		case "{":
			if parentheses == 0 {
				return l.close(1)
			}
		}
	}
}

// close goes on to the brace that closes depth others.
func (l *lexer) close(depth int) error {
	for depth > 0 {
		token, err := l.next()
		if err != nil {
			return err
		}
		switch token {
		case "":
			return errors.New("the GraphQL document has a { without a }")
		case "{":
			depth++
		case "}":
			depth--
		}
	}
	return nil
}
