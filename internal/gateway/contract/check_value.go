package contract

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func (r *run) array(a *arrayRules, t uint32) bool {
	ok := true
	count := int(r.tape[t].count)
	if count < a.min {
		ok = r.fail(t, "must have at least %d items", a.min)
	}
	if a.max >= 0 && count > a.max {
		ok = r.fail(t, "must have at most %d items", a.max)
	}
	if (a.items != nil || a.prefix != nil) && (ok || r.quiet == 0) {
		i := t + 1
		for n := range count {
			s := a.items
			if n < len(a.prefix) {
				s = a.prefix[n]
			}
			r.push(step{kind: stepItem, n: uint32(n)})
			fits := r.check(s, i)
			r.pop()
			if !fits {
				if ok = false; r.quiet > 0 || r.tooMuch || len(r.found) >= maxViolations {
					return false
				}
			}
			i = r.tape[i].next
		}
	}
	if a.unique && ok && r.repeated(t) {
		ok = r.fail(t, "must not have the same item twice")
	}
	return ok
}

func (r *run) repeated(t uint32) bool {
	count := r.tape[t].count
	if count < 2 {
		return false
	}
	seen := make(map[string]struct{}, min(count, 1024))
	var buf []byte
	i := t + 1
	for range count {
		buf = r.canonical(buf[:0], i)
		if _, there := seen[string(buf)]; there {
			return true
		}
		seen[string(buf)] = struct{}{}
		i = r.tape[i].next
	}
	return false
}

func (r *run) text(x *textRules, t uint32) bool {
	tok := &r.tape[t]
	b := r.string(t)
	ok := true
	if x.min > 0 || x.max >= 0 {
		n := len(b)
		if tok.flags != 0 {
			n = utf8.RuneCount(b)
		}
		if n < x.min {
			ok = r.fail(t, "must have at least %d characters", x.min)
		}
		if x.max >= 0 && n > x.max {
			ok = r.fail(t, "must have at most %d characters", x.max)
		}
	}
	if x.pattern != nil && !x.pattern.Match(b) {
		ok = r.fail(t, "must match the pattern %s", x.source)
	}
	if x.check != nil && !x.check(b) {
		ok = r.fail(t, "must be of format %s", x.format)
	}
	return ok
}

func (r *run) number(x *numberRules, t uint32) bool {
	tok := &r.tape[t]
	b := r.data[tok.start:tok.end]
	ok := true
	if x.min != nil {
		if c := r.compare(b, x.min); c < 0 || c == 0 && x.minOpen {
			ok = r.fail(t, "must be %s %s", map[bool]string{false: "at least", true: "above"}[x.minOpen], x.min.text)
		}
	}
	if x.max != nil {
		if c := r.compare(b, x.max); c > 0 || c == 0 && x.maxOpen {
			ok = r.fail(t, "must be %s %s", map[bool]string{false: "at most", true: "below"}[x.maxOpen], x.max.text)
		}
	}
	if x.formatMin != nil && (r.compare(b, x.formatMin) < 0 || r.compare(b, x.formatM) > 0) {
		ok = r.fail(t, "must be of format %s", x.format)
	}
	if x.multiple != nil {
		d, buf := parseDecimal(b, r.digits[:0])
		if r.digits = buf; !d.multipleOf(*x.multiple) {
			ok = r.fail(t, "must be a multiple of %s", x.multipleText)
		}
	}
	return ok
}

// compare compares the number b with a limit.
func (r *run) compare(b []byte, limit *bound) int {
	if limit.short && len(b) <= 15 {
		if x, ok := short(b); ok {
			return cmp.Compare(x, limit.float)
		}
		if x, err := strconv.ParseFloat(unsafe.String(unsafe.SliceData(b), len(b)), 64); err == nil { // #nosec G103 -- ParseFloat keeps nothing of it
			return cmp.Compare(x, limit.float)
		}
	}
	d, buf := parseDecimal(b, r.digits[:0])
	r.digits = buf
	return d.compare(limit.exact)
}

// short reads a whole number of at most 15 digits, which a float64 holds exactly.
func short(b []byte) (float64, bool) {
	digits := b
	if b[0] == '-' {
		digits = b[1:]
	}
	n := int64(0)
	for _, c := range digits {
		if c-'0' > 9 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	if b[0] == '-' {
		n = -n
	}
	return float64(n), true
}

// among reports whether the value is one of enum's.
func (r *run) among(v *values, t uint32) bool {
	if r.tape[t].kind == kindString {
		_, there := v.texts[string(r.string(t))]
		return there
	}
	if len(v.other) == 0 {
		return false
	}
	var small [64]byte
	_, there := v.other[string(r.canonical(small[:0], t))]
	return there
}

// canonical appends a value in a form that is the same for equal values.
func (r *run) canonical(buf []byte, t uint32) []byte {
	tok := &r.tape[t]
	switch tok.kind {
	case kindNumber:
		d, digits := parseDecimal(r.data[tok.start:tok.end], r.digits[:0])
		r.digits = digits
		return d.appendTo(buf)
	case kindString:
		return strconv.AppendQuote(buf, string(r.string(t)))
	case kindArray:
		buf = append(buf, '[')
		i := t + 1
		for range tok.count {
			buf = append(r.canonical(buf, i), ',')
			i = r.tape[i].next
		}
		return append(buf, ']')
	case kindObject:
		members := make([]string, 0, tok.count)
		i := t + 1
		for range tok.count {
			members = append(members, string(r.canonical(append(r.canonical(nil, i), ':'), i+1)))
			i = r.tape[i+1].next
		}
		slices.Sort(members)
		buf = append(buf, '{')
		buf = append(buf, strings.Join(members, ",")...)
		return append(buf, '}')
	}
	return append(buf, r.data[tok.start:tok.end]...)
}

// rare hands a value over to the general validator.
func (r *run) rare(s *schema, t uint32) bool {
	tok := &r.tape[t]
	start, end := tok.start, tok.end
	if tok.kind == kindString {
		start, end = start-1, end+1
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(r.data[start:end]))
	if err == nil {
		err = s.rare.Validate(value)
	}
	if err == nil {
		return true
	}
	return r.fail(t, "%s", rareMessage(err))
}
