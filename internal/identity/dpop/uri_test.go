package dpop

import (
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestNormalizeURL(t *testing.T) {
	for raw, want := range map[string]string{
		"https://api.example.com/v1/trips":                   "https://api.example.com/v1/trips",
		"HTTPS://API.Example.COM/v1/Trips":                   "https://api.example.com/v1/Trips",
		"https://api.example.com:443/a":                      "https://api.example.com/a",
		"http://api.example.com:80/a":                        "http://api.example.com/a",
		"https://api.example.com:/a":                         "https://api.example.com/a",
		"https://api.example.com:80/a":                       "https://api.example.com:80/a",
		"https://api.example.com":                            "https://api.example.com/",
		"https://api.example.com?x=1":                        "https://api.example.com/",
		"https://api.example.com/a?x=/../b#f?":               "https://api.example.com/a",
		"https://api.example.com/a#f":                        "https://api.example.com/a",
		"https://api.example.com/a/../b/./c":                 "https://api.example.com/b/c",
		"https://api.example.com/a/..":                       "https://api.example.com/",
		"https://api.example.com/a/b/.":                      "https://api.example.com/a/b/",
		"https://api.example.com/../../a":                    "https://api.example.com/a",
		"https://api.example.com/%7euser/%2e%2e/%41":         "https://api.example.com/A",
		"https://api.example.com/a%2fb":                      "https://api.example.com/a%2Fb",
		"https://api.example.com/%c3%a9":                     "https://api.example.com/%C3%A9",
		"https://api.example.com/a//b/":                      "https://api.example.com/a//b/",
		"https://api.example.com/a.json":                     "https://api.example.com/a.json",
		"https://api.example.com/.well-known/x":              "https://api.example.com/.well-known/x",
		"https://api.example.com/a;v=1/(b)":                  "https://api.example.com/a;v=1/(b)",
		"https://[2001:DB8::1]:443/a":                        "https://[2001:db8::1]/a",
		"https://[2001:db8::1]:8443/a":                       "https://[2001:db8::1]:8443/a",
		"http://127.0.0.1:8080/a":                            "http://127.0.0.1:8080/a",
		"https://api.example.com/" + strings.Repeat("a", 99): "https://api.example.com/" + strings.Repeat("a", 99),
	} {
		if got, ok := NormalizeURL(raw); !ok || got != want {
			t.Errorf("%s is normalised to %q, %v; want %q", raw, got, ok, want)
		}
	}
	for _, raw := range []string{
		"", "/a", "api.example.com/a", "https:///a", "https://", "ftp://api.example.com/a", "https:api.example.com", "https://user@api.example.com/a",
		"https://user:pw@api.example.com/a", "https://api.example.com/%zz", "https://api.example.com/%2", "https://api.example.com/a b", "https://api.example.com/é",
		"https://api.example.com\\@evil.example/a", "https://api.example.com:x/a", "https://api.example.com/\x00", "https://[::1%25eth0]/a", "https://.example.com/a", "https://:443/a",
		" https://api.example.com/a", "https://api.example.com/a\n", "https://api.example.com/" + strings.Repeat("a", maxURL),
	} {
		if got, ok := NormalizeURL(raw); ok {
			t.Errorf("%q is normalised to %q", raw, got)
		}
	}
}

// What is normal stays as it is, and names the same resource for Go's own parser.
func TestNormalIsAFixedPoint(t *testing.T) {
	part := rapid.SampledFrom([]string{"a", "B", "..", ".", "", "%7e", "%2F", "%2f", "x;y", "é", "%41", "~", "v1", "%", "@", ":"})
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SampledFrom([]string{"https://", "HTTP://", "http://"}).Draw(t, "scheme") +
			rapid.SampledFrom([]string{"api.example.com", "API.example.com:443", "h:80", "h:8080", "[::1]", "1.2.3.4"}).Draw(t, "host") +
			"/" + strings.Join(rapid.SliceOfN(part, 0, 6).Draw(t, "path"), "/") + rapid.SampledFrom([]string{"", "?q", "#f"}).Draw(t, "rest")
		normal, ok := NormalizeURL(raw)
		if !ok {
			return
		}
		if again, ok := NormalizeURL(normal); !ok || again != normal {
			t.Fatalf("%q → %q → %q, %v", raw, normal, again, ok)
		}
		u, err := url.Parse(normal)
		if err != nil || u.RawQuery != "" || u.Fragment != "" || u.Path == "" || strings.Contains(u.Path+"/", "/../") {
			t.Fatalf("%q → %q: %v", raw, normal, err)
		}
	})
}
