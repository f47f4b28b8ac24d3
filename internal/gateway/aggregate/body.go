package aggregate

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"unicode/utf8"
)

// body is a template of a JSON value. A text that is one reference alone, like
// "{body.seats}", becomes the value itself; a text with more around it stays a
// text. A member or item whose value is marked with ? and is missing is left out.
type body struct {
	kind    byte // '{', '[', '"' a text with references, 'v' one reference, 'l' a literal
	names   [][]byte
	items   []*body
	pieces  []piece
	literal []byte
}

// template compiles the template raw, which is JSON.
func (sc *scope) template(raw []byte, depth int) (*body, error) {
	if depth > maxDepth/4 {
		return nil, errors.New("the body nests too deep")
	}
	raw = trim(raw)
	switch raw[0] {
	case '{':
		b := &body{kind: '{'}
		for r := open(raw); ; {
			name, value, more := r.member()
			if !more {
				return b, nil
			}
			item, err := sc.template(value, depth+1)
			if err != nil {
				return nil, err
			}
			b.names, b.items = append(b.names, name), append(b.items, item)
		}
	case '[':
		b := &body{kind: '['}
		for r := open(raw); ; {
			value, more := r.item()
			if !more {
				return b, nil
			}
			item, err := sc.template(value, depth+1)
			if err != nil {
				return nil, err
			}
			b.items = append(b.items, item)
		}
	case '"':
		return sc.textBody(raw)
	}
	return &body{kind: 'l', literal: raw}, nil
}

func (sc *scope) textBody(raw []byte) (*body, error) {
	pieces, err := sc.split(unquote(raw))
	if err != nil {
		return nil, err
	}
	if len(pieces) == 1 && pieces[0].ref != nil {
		return &body{kind: 'v', pieces: pieces}, nil
	}
	fixed := true
	for _, p := range pieces {
		if p.ref != nil {
			fixed = false
			if p.ref.as != asText {
				return nil, fmt.Errorf("%s: a kind needs the reference to be the whole text", p.ref.text)
			}
		}
	}
	if fixed {
		text := ""
		for _, p := range pieces {
			text += p.text
		}
		return &body{kind: 'l', literal: appendText(nil, text)}, nil
	}
	return &body{kind: '"', pieces: pieces}, nil
}

func (b *body) references(yield func(*reference)) {
	references(b.pieces, yield)
	for _, item := range b.items {
		item.references(yield)
	}
}

// append writes the value; ok is false when it is to be left out.
func (b *body) append(dst []byte, in *Input, answers [][]byte) (out []byte, ok bool, err error) {
	switch b.kind {
	case '{', '[':
		return b.appendItems(dst, in, answers)
	case '"':
		dst = append(dst, '"')
		for _, p := range b.pieces {
			if p.ref == nil {
				dst = appendInner(dst, p.text)
				continue
			}
			text, err := p.ref.decoded(in, answers)
			if errors.Is(err, errMissing) && p.ref.optional {
				return dst, false, nil
			}
			if err != nil {
				return dst, false, p.ref.missing(err)
			}
			dst = appendInner(dst, text)
		}
		return append(dst, '"'), true, nil
	case 'v':
		ref := b.pieces[0].ref
		mark := len(dst)
		dst, err = ref.appendJSON(dst, in, answers)
		if errors.Is(err, errMissing) && ref.optional {
			return dst[:mark], false, nil
		}
		return dst, true, ref.missing(err)
	}
	return append(dst, b.literal...), true, nil
}

func (b *body) appendItems(dst []byte, in *Input, answers [][]byte) (out []byte, ok bool, err error) {
	dst = append(dst, b.kind)
	first := true
	for i, item := range b.items {
		mark := len(dst)
		if !first {
			dst = append(dst, ',')
		}
		if b.kind == '{' {
			dst = append(append(dst, b.names[i]...), ':')
		}
		if dst, ok, err = item.append(dst, in, answers); err != nil {
			return dst, false, err
		}
		if ok {
			first = false
		} else {
			dst = dst[:mark]
		}
	}
	return append(dst, b.kind+2), true, nil // } and ] come two after { and [
}

// decoded is scalar without the escapes of a path.
func (r *reference) decoded(in *Input, answers [][]byte) (string, error) {
	text, escaped, err := r.scalar(in, answers)
	if err == nil && escaped {
		if text, err = url.PathUnescape(text); err != nil || !utf8.ValidString(text) {
			return "", r.fault("is not well-formed")
		}
	}
	if err == nil && !utf8.ValidString(text) {
		return "", r.fault("is not UTF-8")
	}
	return text, err
}

// appendJSON writes the value itself: JSON as it is, a text of the path or
// query as the kind that the reference names.
func (r *reference) appendJSON(dst []byte, in *Input, answers [][]byte) ([]byte, error) {
	if r.source == fromBody || r.source == fromCall {
		raw, there := r.raw(in, answers)
		if !there {
			return dst, errMissing
		}
		return append(dst, raw...), nil
	}
	text, err := r.decoded(in, answers)
	if err != nil {
		return dst, err
	}
	switch r.as {
	case asInt:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return dst, r.fault("is not a whole number")
		}
		return strconv.AppendInt(dst, n, 10), nil
	case asNumber:
		if end := -1; text[0] == '-' || text[0] >= '0' && text[0] <= '9' {
			if end = number([]byte(text), 0); end == len(text) {
				return append(dst, text...), nil
			}
		}
		return dst, r.fault("is not a number")
	case asBool:
		if text != "true" && text != "false" {
			return dst, r.fault("is neither true nor false")
		}
		return append(dst, text...), nil
	}
	return appendText(dst, text), nil
}
