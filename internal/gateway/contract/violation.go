package contract

import (
	"errors"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Where a violation is.
const (
	InPath   = "path"
	InQuery  = "query"
	InHeader = "header"
	InCookie = "cookie"
	InBody   = "body"
	InStatus = "status"
)

// Violation is one difference between a message and its contract. Nothing in it
// is a value of the message; Path may hold names of members that the document
// does not know, Field and Shape do not.
type Violation struct {
	In      string // one of the In constants
	Path    string // JSON pointer (RFC 6901) into the body; of a parameter its name, as a pointer
	Field   string // the place in the document's words: items and unknown members are *
	Message string // what the contract asks for
	Shape   string // what was there: types and sizes
}

// pointer gives the path as a JSON pointer, and in the document's words.
func (r *run) pointer() (path, field string) {
	var p, f strings.Builder
	p.WriteString(r.prefix)
	f.WriteString(r.prefix)
	for _, s := range r.path {
		p.WriteByte('/')
		f.WriteByte('/')
		switch s.kind {
		case stepMember:
			p.WriteString(pointerEscape(s.name))
			f.WriteString(pointerEscape(s.name))
		case stepOther:
			p.WriteString(clip(pointerEscape(string(r.string(s.n))), 100))
			f.WriteByte('*')
		default:
			p.WriteString(strconv.Itoa(int(s.n)))
			f.WriteByte('*')
		}
	}
	return p.String(), f.String()
}

func pointerEscape(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "~", "~0"), "/", "~1")
}

// clip shortens s to about n bytes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// maxShapeMembers bounds how many members a shape lists.
const maxShapeMembers = 12

// shape describes a value without its content: types, sizes, and the names of
// members that the document itself has.
func (r *run) shape(t uint32, depth int) string {
	tok := &r.tape[t]
	switch tok.kind {
	case kindNull:
		return "null"
	case kindTrue, kindFalse:
		return "boolean"
	case kindNumber:
		if r.whole(tok) {
			return "integer"
		}
		return "number"
	case kindString:
		return "string of " + strconv.Itoa(len(r.string(t))) + " bytes"
	case kindArray:
		s := "array of " + strconv.Itoa(int(tok.count)) + " items"
		if tok.count > 0 && depth == 0 {
			s += ", the first " + r.shape(t+1, depth+1)
		}
		return s
	}
	if depth > 0 {
		return "object of " + strconv.Itoa(int(tok.count)) + " members"
	}
	var list []string
	others := 0
	i := t + 1
	for range tok.count {
		name := string(r.string(i))
		if r.names[name] && len(list) < maxShapeMembers {
			list = append(list, name+": "+r.shape(i+1, depth+1))
		} else {
			others++
		}
		i = r.tape[i+1].next
	}
	if others > 0 {
		list = append(list, "and "+strconv.Itoa(others)+" more")
	}
	return "object {" + strings.Join(list, ", ") + "}"
}

// rareMessage tells which keyword of the general validator was violated; its
// own messages hold values.
func rareMessage(err error) string {
	var e *jsonschema.ValidationError
	if !errors.As(err, &e) {
		return "does not fit the contract"
	}
	for len(e.Causes) > 0 {
		e = e.Causes[0]
	}
	message := "does not fit the contract"
	if keywords := e.ErrorKind.KeywordPath(); len(keywords) > 0 {
		message += ": " + strings.Join(keywords, "/")
	}
	return message
}
