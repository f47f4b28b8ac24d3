package config

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// shown says in a few words what stands in the file. It never shows a text
// that came from outside of the file.
func (n *node) shown() string {
	switch n.kind {
	case kindNull:
		return "no value"
	case kindBool:
		return n.text
	case kindInt, kindFloat:
		return "the number " + clip(n.text, 40)
	case kindList:
		return "a list"
	case kindMap:
		return "a mapping"
	}
	if n.expr != exprNone {
		return "the value of " + clip(n.source, 60)
	}
	return "the text " + strconv.Quote(clip(n.source, 40))
}

func (l *loader) decodeScalar(n *node, v reflect.Value, p *path) bool {
	t := v.Type()
	if n.kind == kindList || n.kind == kindMap {
		return l.wrong(n, p, "", "expected %s, found %s", wanted(t), n.shown())
	}
	switch t.Kind() {
	case reflect.String:
		if n.kind == kindBool {
			return l.wrong(n, p, `write "`+n.text+`" in quotes if the text is meant`, "expected text, found %s", n.text)
		}
		v.SetString(n.text)
		return true
	case reflect.Bool:
		switch {
		case n.kind == kindBool, n.expr != exprNone && resolve(n.text) == kindBool:
		case n.expr != exprNone:
			return l.wrong(n, p, "", "expected true or false, found %s", n.shown())
		default:
			return l.wrong(n, p, "write true or false without quotes", "expected true or false, found %s", n.shown())
		}
		v.SetBool(strings.EqualFold(n.text, "true"))
		return true
	case reflect.Float32, reflect.Float64:
		return l.decodeFloat(n, v, p)
	}
	return l.decodeInt(n, v, p)
}

// number returns the kind of n read as a number, kindBad when it is none.
func (n *node) number() kind {
	k := n.kind
	if n.expr != exprNone {
		k = resolve(n.text)
	}
	if k != kindInt && k != kindFloat {
		return kindBad
	}
	return k
}

func (l *loader) decodeInt(n *node, v reflect.Value, p *path) bool {
	if n.number() != kindInt {
		hint := ""
		if n.kind == kindText && n.expr == exprNone && resolve(n.text) == kindInt {
			hint = "write it without quotes"
		}
		return l.wrong(n, p, hint, "expected a whole number, found %s", n.shown())
	}
	text := strings.ReplaceAll(n.text, "_", "")
	digits := strings.TrimLeft(text, "+-")
	if len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' {
		return l.wrong(n, p, "write it without the zero, or as 0o… for octal", "the number begins with 0")
	}
	text = strings.TrimPrefix(text, "+")
	var err error
	var least, most string
	bits := v.Type().Bits()
	if v.CanInt() {
		var i int64
		if i, err = strconv.ParseInt(text, 0, bits); err == nil {
			v.SetInt(i)
		}
		least, most = strconv.FormatInt(-1<<(bits-1), 10), strconv.FormatInt(1<<(bits-1)-1, 10)
	} else {
		var u uint64
		if u, err = strconv.ParseUint(text, 0, bits); err == nil {
			v.SetUint(u)
		}
		least, most = "0", strconv.FormatUint(math.MaxUint64>>(64-bits), 10)
	}
	if err != nil {
		return l.wrong(n, p, "write a number from "+least+" to "+most, "%s is out of range", n.shown())
	}
	return true
}

func (l *loader) decodeFloat(n *node, v reflect.Value, p *path) bool {
	if n.number() == kindBad {
		return l.wrong(n, p, "", "expected a number, found %s", n.shown())
	}
	x, err := strconv.ParseFloat(strings.ReplaceAll(n.text, "_", ""), v.Type().Bits())
	if err != nil || math.IsInf(x, 0) || math.IsNaN(x) {
		return l.wrong(n, p, "", "%s is out of range", n.shown())
	}
	v.SetFloat(x)
	return true
}

// limits keeps the enum, min and max tags.
func (l *loader) limits(n *node, v reflect.Value, p *path, f *field) bool {
	if f == nil {
		return true
	}
	if v.Kind() == reflect.String && len(f.enum) > 0 && !slices.Contains(f.enum, v.String()) {
		hint := "write one of " + strings.Join(f.enum, ", ")
		if s := suggest(v.String(), f.enum); s != "" && n.expr == exprNone {
			hint = "did you mean " + s + "? " + hint
		}
		return l.wrong(n, p, hint, "%s is not one of the choices", n.shown())
	}
	for _, limit := range []struct {
		text string
		sign int
		name string
	}{{f.min, -1, "less"}, {f.max, 1, "more"}} {
		if limit.text == "" {
			continue
		}
		bound, err := limitOf(v.Type(), limit.text)
		if err != nil {
			return l.wrong(n, p, "", "the limit of this key is broken: %v", err)
		}
		if size, what := measure(v, n); size.Cmp(bound)*limit.sign > 0 {
			return l.wrong(n, p, "", "%s %s than %s", what, limit.name, unit(v.Type(), limit.text))
		}
	}
	return true
}

func unit(t reflect.Type, limit string) string {
	switch {
	case isNumber(t):
		return limit
	case t.Kind() == reflect.String:
		return limit + " characters"
	}
	return limit + " entries"
}

func isNumber(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Slice, reflect.Map, reflect.Struct:
		return false
	}
	return true
}

// measure is the amount that min and max speak of, and how to call it.
func measure(v reflect.Value, n *node) (*big.Float, string) {
	switch {
	case v.CanInt():
		return new(big.Float).SetInt64(v.Int()), n.shown() + " is"
	case v.CanUint():
		return new(big.Float).SetUint64(v.Uint()), n.shown() + " is"
	case v.CanFloat():
		return big.NewFloat(v.Float()), n.shown() + " is"
	case v.Kind() == reflect.String:
		return big.NewFloat(float64(utf8.RuneCountInString(v.String()))), "the text has"
	}
	return big.NewFloat(float64(v.Len())), "it has"
}

// limitOf reads a min or max tag of a field of type t.
func limitOf(t reflect.Type, text string) (*big.Float, error) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(textReader) && t.Kind() == reflect.Int64 {
		v := reflect.New(t)
		if err := v.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil {
			return nil, err
		}
		return new(big.Float).SetInt64(v.Elem().Int()), nil
	}
	switch t.Kind() {
	case reflect.Bool, reflect.Struct:
		return nil, fmt.Errorf("%s has no limits", t)
	}
	x, ok := new(big.Float).SetString(text)
	if !ok {
		return nil, errors.New("it is no number")
	}
	return x, nil
}

// Raw is any YAML value, kept as JSON: numbers exact, keys in the order of the
// file. An expression in it gives text. The zero Raw is no value at all.
type Raw []byte

// MarshalJSON is the value itself, null for the zero Raw.
func (r Raw) MarshalJSON() ([]byte, error) {
	if len(r) == 0 {
		return []byte("null"), nil
	}
	return r, nil
}

// String is the JSON text.
func (r Raw) String() string { return string(r) }

func (l *loader) decodeRaw(n *node, v reflect.Value, p *path) bool {
	var b bytes.Buffer
	if !l.rawJSON(&b, n, p) {
		return false
	}
	v.SetBytes(b.Bytes())
	return true
}

var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)

func (l *loader) rawJSON(b *bytes.Buffer, n *node, p *path) bool {
	switch n.kind {
	case kindNull:
		b.WriteString("null")
	case kindBool:
		b.WriteString(strings.ToLower(n.text))
	case kindInt, kindFloat:
		number, ok := exactNumber(n.text)
		if !ok {
			return l.wrong(n, p, "put it in quotes if text is meant", "%s cannot be written in JSON", n.shown())
		}
		b.WriteString(number)
	case kindText:
		return l.rawText(b, n.text, n, p)
	case kindList:
		b.WriteByte('[')
		for i, item := range n.items {
			if i > 0 {
				b.WriteByte(',')
			}
			if !l.rawJSON(b, item, p.item(i)) {
				return false
			}
		}
		b.WriteByte(']')
	case kindMap:
		b.WriteByte('{')
		for i, e := range n.entries {
			if i > 0 {
				b.WriteByte(',')
			}
			if !l.rawText(b, e.key, n, p) {
				return false
			}
			b.WriteByte(':')
			if !l.rawJSON(b, e.value, p.child(e.key)) {
				return false
			}
		}
		b.WriteByte('}')
	default:
		l.fail(p)
		return false
	}
	if b.Len() > maxFile {
		return l.wrong(n, p, "use fewer aliases", "the value is larger than 4 MiB")
	}
	return true
}

func (l *loader) rawText(b *bytes.Buffer, text string, n *node, p *path) bool {
	if len(text)+b.Len() > maxFile {
		return l.wrong(n, p, "use fewer aliases", "the value is larger than 4 MiB")
	}
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if err := e.Encode(text); err != nil {
		return l.wrong(n, p, "", "the text cannot be written in JSON")
	}
	b.Truncate(b.Len() - 1) // the encoder's line feed
	return true
}

// exactNumber writes a YAML number as the same JSON number.
func exactNumber(text string) (string, bool) {
	text = strings.TrimPrefix(strings.ReplaceAll(text, "_", ""), "+")
	if jsonNumber.MatchString(text) {
		return text, true
	}
	if len(text) > 1 && text[0] == '0' && (text[1] == 'x' || text[1] == 'o') {
		i, ok := new(big.Int).SetString(clip(text, 400), 0)
		if !ok {
			return "", false
		}
		return i.String(), true
	}
	sign := ""
	if rest, negative := strings.CutPrefix(text, "-"); negative {
		sign, text = "-", rest
	}
	text = strings.TrimLeft(text, "0")
	if text == "" || text[0] < '0' || text[0] > '9' {
		text = "0" + text
	}
	whole, exponent := text, ""
	if at := strings.IndexAny(text, "eE"); at >= 0 {
		whole, exponent = text[:at], text[at:]
	}
	text = sign + strings.TrimSuffix(whole, ".") + exponent
	return text, jsonNumber.MatchString(text)
}
