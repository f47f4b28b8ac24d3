package idem

import (
	"net/http"
	"strings"
	"testing"

	"github.com/dunglas/httpsfv"
	"github.com/google/go-cmp/cmp"
)

func TestParseKey(t *testing.T) {
	long := strings.Repeat("k", MaxKey)
	for in, want := range map[string]string{
		"8e03978e-40d5-43dd-bc93-6894a57f9324":   "8e03978e-40d5-43dd-bc93-6894a57f9324",
		`"8e03978e-40d5-43dd-bc93-6894a57f9324"`: "8e03978e-40d5-43dd-bc93-6894a57f9324",
		`  "a" `:                                 "a",
		`"a b"`:                                  "a b",
		`"a\"b\\c"`:                              `a"b\c`,
		`"a";v=1`:                                "a",
		"q83vEjRWeJA+/==":                        "q83vEjRWeJA+/==",
		long:                                     long,
		`"` + long + `"`:                         long,
	} {
		if got, err := ParseKey(in); err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", " ", `""`, `"`, `"a`, `a"`, `"a" "b"`, `"a", "b"`, "a,b", "a, b", "a b", "käse", "\"k\u00e4se\"", "a\x00", "a\x7f", `"a\n"`, `"a";`, long + "k", `"` + long + `k"`} {
		if got, err := ParseKey(in); err == nil {
			t.Errorf("%q was accepted as %q", in, got)
		}
	}
}

// FuzzParseKey: a key that is accepted is bounded and printable, and means the
// same when it is sent as an RFC 9651 String.
func FuzzParseKey(f *testing.F) {
	for _, s := range []string{"a", `"a"`, `"a\"b"`, `"a";p=1`, "a,b", `"`, `"\`, "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		key, err := ParseKey(s)
		if err != nil {
			return
		}
		if len(key) == 0 || len(key) > MaxKey {
			t.Fatalf("%q gave a key of %d bytes", s, len(key))
		}
		quoted, err := httpsfv.Marshal(httpsfv.NewItem(key))
		if err != nil {
			t.Fatalf("%q gave %q, which is no RFC 9651 string: %v", s, key, err)
		}
		if again, err := ParseKey(quoted); err != nil || again != key {
			t.Fatalf("%q gave %q, sent as %s it gives %q, %v", s, key, quoted, again, err)
		}
	})
}

func TestHeaderSurvivesStorage(t *testing.T) {
	h := http.Header{"Content-Type": {"application/json"}, "Link": {"<a>; rel=x", "<b>; rel=y"}, "X-Latin": {"caf\xe9: \x00"}, "X-Empty": {""}}
	if diff := cmp.Diff(h, decodeHeader(encodeHeader(h))); diff != "" {
		t.Error(diff)
	}
	if got := decodeHeader(encodeHeader(http.Header{"X": {"a\r\nSet-Cookie: b"}})); got.Get("X") != "a  Set-Cookie: b" || len(got) != 1 {
		t.Errorf("a line break in a value made %v", got)
	}
}
