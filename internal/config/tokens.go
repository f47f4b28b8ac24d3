package config

import (
	"strings"

	"github.com/goccy/go-yaml/token"
)

// maxSiblings bounds the sum over all mappings of their squared number of keys:
// the parser's work on one mapping grows that way. 10,000 keys in one mapping
// are the most.
const maxSiblings = 100_000_000

// tokenVet looks at the tokens before the parser does: it refuses what this
// file format does not use and what would cost the parser too much.
type tokenVet struct {
	l      *loader
	flow   []*token.Token // open [ and {
	blocks []block        // open block collections, by column
	work   int
	ended  bool // the document's end mark was met
	colon  int  // line of the last key of a block mapping that has its value in the line
}

// block is a mapping or list that is told by its column.
type block struct{ column, keys int }

func (l *loader) vetTokens(tokens token.Tokens, text string) bool {
	v := &tokenVet{l: l}
	for i, t := range tokens {
		if !v.vet(t, i) {
			return false
		}
	}
	if len(tokens) == 0 && strings.TrimSpace(text) != "" {
		return v.refuse(nil, "look for a stray character", "the file is not valid YAML")
	}
	if len(v.flow) > 0 && tokens[len(tokens)-1].Type != token.InvalidType {
		open := v.flow[len(v.flow)-1]
		return v.refuse(open, "close it", "the %s has no end", open.Value)
	}
	return true
}

func (v *tokenVet) refuse(t *token.Token, hint, format string, args ...any) bool {
	line, col := position(t)
	v.l.fault(line, col, nil, hint, format, args...)
	return false
}

func (v *tokenVet) vet(t *token.Token, i int) bool {
	if v.ended && t.Type != token.CommentType {
		return v.refuse(t, "keep one document per file", "a second YAML document begins here")
	}
	switch t.Type {
	case token.InvalidType:
		return true // the parser says what it is
	case token.DocumentEndType:
		v.ended = true
		return true
	case token.CommentType, token.SingleQuoteType, token.DoubleQuoteType:
		return true
	case token.DirectiveType:
		return v.refuse(t, "remove the line", "directives such as %%YAML are not used in this file")
	case token.TagType:
		return v.refuse(t, "remove the tag; types come from the key", "tags such as !!str are not used in this file")
	case token.DocumentHeaderType:
		if i > 0 && !onlyComments(t) {
			return v.refuse(t, "keep one document per file", "a second YAML document begins here")
		}
		return true
	case token.MappingKeyType:
		return v.refuse(t, "write key: value; quote a key that begins with ?", "keys marked with ? are not used in this file")
	case token.AnchorType, token.AliasType:
		return true
	case token.SequenceStartType, token.MappingStartType:
		v.flow = append(v.flow, t)
		if len(v.flow) > maxDepth {
			return v.refuse(t, "", "it is nested more than %d levels deep", maxDepth)
		}
		return true
	case token.SequenceEndType, token.MappingEndType:
		return v.close(t)
	case token.SequenceEntryType:
		return len(v.flow) > 0 || v.open(t, 0)
	case token.MappingValueType:
		return len(v.flow) > 0 || v.key(t)
	}
	return v.tabs(t)
}

func onlyComments(t *token.Token) bool {
	for t = t.Prev; t != nil; t = t.Prev {
		if t.Type != token.CommentType {
			return false
		}
	}
	return true
}

func (v *tokenVet) close(t *token.Token) bool {
	want := token.SequenceStartType
	if t.Type == token.MappingEndType {
		want = token.MappingStartType
	}
	if len(v.flow) == 0 || v.flow[len(v.flow)-1].Type != want {
		return v.refuse(t, "remove it, or put the value in quotes", "the %s closes nothing", t.Value)
	}
	v.flow = v.flow[:len(v.flow)-1]
	return true
}

// open notes an entry of a block collection at t's column: keys is 1 for a key
// and 0 for a list's dash.
func (v *tokenVet) open(t *token.Token, keys int) bool {
	column := t.Position.Column
	for len(v.blocks) > 0 && v.blocks[len(v.blocks)-1].column > column {
		v.blocks = v.blocks[:len(v.blocks)-1]
	}
	if len(v.blocks) == 0 || v.blocks[len(v.blocks)-1].column < column {
		v.blocks = append(v.blocks, block{column: column})
	}
	if len(v.blocks) > maxDepth {
		return v.refuse(t, "", "it is nested more than %d levels deep", maxDepth)
	}
	b := &v.blocks[len(v.blocks)-1]
	b.keys += keys
	if v.work += keys * (2*b.keys - 1); v.work > maxSiblings {
		return v.refuse(t, "split it", "the mapping has too many keys")
	}
	return true
}

// key notes the key that stands before the colon t.
func (v *tokenVet) key(t *token.Token) bool {
	k := t.Prev
	switch {
	case k == nil || k.Type == token.CommentType:
		return v.refuse(t, "write key: value", "there is no key before this colon")
	case k.Position.Line != t.Position.Line:
		return v.refuse(t, "check the indentation", "the key before this colon begins in an earlier line")
	}
	if v.colon == t.Position.Line {
		return v.refuse(k, `put the value in quotes when it holds ": "`, "a second key: value stands in this line")
	}
	v.colon = t.Position.Line
	return v.open(k, 1)
}

// tabs refuses tabs outside of quotes, comments and block text: YAML forbids
// them in indentation, and elsewhere they are lost without a word.
func (v *tokenVet) tabs(t *token.Token) bool {
	if t.Prev != nil && (t.Prev.Type == token.LiteralType || t.Prev.Type == token.FoldedType) {
		return true
	}
	at := strings.IndexByte(t.Origin, '\t')
	if at < 0 {
		return true
	}
	return v.refuse(t, "use spaces, or put the value in double quotes", "a tab stands before or in this value")
}
