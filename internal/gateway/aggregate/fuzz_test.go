package aggregate

import "testing"

// FuzzDocument: a GraphQL document is refused or taken, the same way each time,
// however deep or broken it is.
func FuzzDocument(f *testing.F) {
	for _, s := range []string{"query Q($id: ID!) { a(id: $id) { b ...F } } fragment F on T { c }", "{ a }", `mutation { x(s: """block""", t: "a\"b") }`, "subscription S { a }", "{{{{", "# only a comment", `query { a(x: "`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once, err := parseDocument(s)
		again, err2 := parseDocument(s)
		if (err == nil) != (err2 == nil) || len(once) != len(again) {
			t.Fatalf("%q: %v, then %v", s, err, err2)
		}
		if err == nil && len(once) == 0 {
			t.Fatalf("%q is taken without an operation", s)
		}
	})
}

// FuzzSplitGraphQL: an answer's errors are bounded, and its data is a part of it.
func FuzzSplitGraphQL(f *testing.F) {
	for _, s := range []string{`{"data":{"a":1}}`, `{"data":null,"errors":[{"message":"x","path":["a",0],"extensions":{"code":"C"}}]}`, `[]`, `{"errors":{}}`, `{"data":[1]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if !Valid(b) {
			return
		}
		data, errs, ok := SplitGraphQL(b)
		if ok && data == nil && len(errs) == 0 || len(errs) > maxErrors || data != nil && !Valid(data) {
			t.Fatalf("%q: %q %v %v", b, data, errs, ok)
		}
	})
}
