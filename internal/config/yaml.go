package config

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var plainText = regexp.MustCompile(`^(\.{0,2}/)?[A-Za-z0-9_][A-Za-z0-9_./@+-]*([ :][A-Za-z0-9_./@+-]+)*$`)

// otherBool are texts that YAML 1.1 programs take for truth values.
var otherBool = []string{"y", "n", "yes", "no", "on", "off"}

// rawSafe escapes what JSON allows in texts and this file format does not.
var rawSafe = strings.NewReplacer("\x7f", `\u007f`, "\ufeff", `\ufeff`)

// yamlText writes s as a YAML scalar that Load reads back as s, in block and
// flow context, without quotes where it is plain to see.
func yamlText(s string) string { return yamlKey(escapeExpr(s)) }

// yamlKey is yamlText where expressions are not expanded.
func yamlKey(s string) string {
	if plainText.MatchString(s) && resolve(s) == kindText && !slices.Contains(otherBool, strings.ToLower(s)) {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x20 || r >= 0x7f && r < 0xa0:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r == 0x2028 || r == 0x2029 || r == 0xfeff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// leafText writes a leaf as one YAML scalar (a Raw as flow YAML). A Secret that
// is not empty is written as reveal wishes.
func leafText(v reflect.Value, reveal func(Secret) string) (string, error) {
	if v.Type() == rawType {
		if v.Len() == 0 {
			return "null", nil
		}
		return escapeExpr(rawSafe.Replace(string(v.Bytes()))), nil
	}
	if s, ok := v.Interface().(Secret); ok {
		return yamlText(reveal(s)), nil
	}
	if m, ok := addressable(v).Interface().(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		if err != nil {
			return "", fmt.Errorf("config: %s: %w", v.Type(), err)
		}
		if v.CanInt() && resolve(string(text)) == kindInt {
			return string(text), nil // a size in bytes
		}
		return yamlText(string(text)), nil
	}
	switch {
	case v.Kind() == reflect.Bool:
		return strconv.FormatBool(v.Bool()), nil
	case v.Kind() == reflect.String:
		return yamlText(v.String()), nil
	case v.CanInt():
		return strconv.FormatInt(v.Int(), 10), nil
	case v.CanUint():
		return strconv.FormatUint(v.Uint(), 10), nil
	case v.CanFloat():
		return floatYAML(v.Float(), v.Type().Bits()), nil
	}
	return "", fmt.Errorf("config: %s cannot be written", v.Type())
}

// floatYAML writes the shortest text that reads back as x.
func floatYAML(x float64, bits int) string {
	s := strconv.FormatFloat(x, 'g', -1, bits)
	if strings.ContainsAny(s, "IN") { // no key takes an infinity; a default may hold one
		return strings.NewReplacer("+Inf", ".inf", "-Inf", "-.inf", "NaN", ".nan").Replace(s)
	}
	return s
}

func addressable(v reflect.Value) reflect.Value {
	if v.CanAddr() {
		return v.Addr()
	}
	p := reflect.New(v.Type())
	p.Elem().Set(v)
	return p
}

func hide(s Secret) string { return s.String() }

// sortedKeys are a map's keys as texts, in byte order.
func sortedKeys(v reflect.Value) []reflect.Value {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	return keys
}

// flowText writes v on one line. It reports false when v is no list of leaves.
func (ts *types) flowText(v reflect.Value) (string, bool, error) {
	if v.Kind() != reflect.Slice || !ts.isLeaf(v.Type().Elem()) {
		return "", false, nil
	}
	items := make([]string, v.Len())
	for i := range items {
		text, err := leafText(v.Index(i), hide)
		if err != nil {
			return "", false, err
		}
		items[i] = text
	}
	return "[" + strings.Join(items, ", ") + "]", true, nil
}
