package cache

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// header reads "Name: value" lines.
func header(lines ...string) http.Header {
	h := http.Header{}
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ":")
		h.Add(name, strings.TrimSpace(value))
	}
	return h
}

func at(t time.Time) string { return t.UTC().Format(http.TimeFormat) }

// TestStorable has a row for every rule of RFC 9111 §3, §3.5 and §5.2 about storing.
func TestStorable(t *testing.T) {
	ttl := Policy{TTL: time.Minute}
	shared, perUser, anonymous := Policy{}, Policy{Partitioned: true}, Policy{Anonymous: true}
	for _, row := range []struct {
		rule    string
		policy  Policy
		request []string
		status  int
		answer  []string
		want    string // "" = stored
	}{
		{"§3 explicit max-age", shared, nil, 200, []string{"Cache-Control: max-age=60"}, ""},
		{"§3 explicit s-maxage", shared, nil, 200, []string{"Cache-Control: s-maxage=60"}, ""},
		{"§3 explicit Expires", shared, nil, 200, []string{"Expires: " + at(noon.Add(time.Hour)), "Date: " + at(noon)}, ""},
		{"§3 public alone has no lifetime here", shared, nil, 200, []string{"Cache-Control: public"}, "no-lifetime"},
		{"§4.2.2 no heuristic without ttl", shared, nil, 200, nil, "no-lifetime"},
		{"§4.2.2 ttl is the heuristic", ttl, nil, 200, nil, ""},
		{"§4.2.2 ttl not for 404", ttl, nil, 404, nil, "no-lifetime"},
		{"§3 404 with a lifetime", shared, nil, 404, []string{"Cache-Control: max-age=5"}, ""},
		{"statuses may name 404", Policy{TTL: time.Minute, Statuses: []int{200, 404}}, nil, 404, nil, ""},
		{"statuses leaves others out", Policy{TTL: time.Minute, Statuses: []int{200}}, nil, 301, []string{"Cache-Control: max-age=5"}, "status"},
		{"§3 final status that is understood", shared, nil, 418, []string{"Cache-Control: max-age=5"}, "status"},
		{"§3 500 is never", ttl, nil, 500, []string{"Cache-Control: max-age=5"}, "status"},
		{"§3.3 206 is never: no partial content", ttl, nil, 206, []string{"Cache-Control: max-age=5", "Content-Range: bytes 0-1/2"}, "status"},
		{"§3.3 200 with Content-Range neither", ttl, nil, 200, []string{"Content-Range: bytes 0-1/2"}, "partial"},
		{"401 is about one request", ttl, nil, 401, []string{"Cache-Control: max-age=5"}, "status"},
		{"429 is about one moment", ttl, nil, 429, []string{"Cache-Control: max-age=5"}, "status"},
		{"302 with a lifetime", shared, nil, 302, []string{"Cache-Control: max-age=5"}, ""},
		{"302 without", ttl, nil, 302, nil, "no-lifetime"},
		{"§5.2.2.5 no-store", ttl, nil, 200, []string{"Cache-Control: no-store"}, "no-store"},
		{"§5.2.2.5 no-store beside max-age", ttl, nil, 200, []string{"Cache-Control: max-age=60, no-store"}, "no-store"},
		{"§5.2.2.5 no-store in capitals and a second line", ttl, nil, 200, []string{"Cache-Control: max-age=60", "Cache-Control: NO-STORE"}, "no-store"},
		{"§5.2.1.5 no-store of the request", ttl, []string{"Cache-Control: no-store"}, 200, []string{"Cache-Control: max-age=60"}, "request-no-store"},
		{"§5.2.2.3 must-understand lifts no-store", shared, nil, 200, []string{"Cache-Control: must-understand, no-store, max-age=60"}, ""},
		{"§5.2.2.3 but not for an unknown status", shared, nil, 418, []string{"Cache-Control: must-understand, no-store, max-age=60"}, "status"},
		{"§5.2.2.7 private", ttl, nil, 200, []string{"Cache-Control: private, max-age=60"}, "private"},
		{"§5.2.2.7 private=field counts as private", ttl, nil, 200, []string{`Cache-Control: private="x-user", max-age=60`}, "private"},
		{"§5.2.2.7 private in a cache of one user", perUser, nil, 200, []string{"Cache-Control: private, max-age=60"}, ""},
		{"§3.5 Authorization", ttl, []string{"Authorization: Bearer x"}, 200, []string{"Cache-Control: max-age=60"}, "authorization"},
		{"§3.5 and public", ttl, []string{"Authorization: Bearer x"}, 200, []string{"Cache-Control: public, max-age=60"}, ""},
		{"§3.5 and s-maxage", ttl, []string{"Authorization: Bearer x"}, 200, []string{"Cache-Control: s-maxage=60"}, ""},
		{"§3.5 and must-revalidate", ttl, []string{"Authorization: Bearer x"}, 200, []string{"Cache-Control: must-revalidate, max-age=60"}, ""},
		{"§3.5 in a cache of one user", Policy{TTL: time.Minute, Partitioned: true}, []string{"Authorization: Bearer x"}, 200, nil, ""},
		{"§3.5 where the service is not told who asks", Policy{TTL: time.Minute, Anonymous: true}, []string{"Authorization: Bearer x"}, 200, nil, ""},
		{"Cookie counts as Authorization", ttl, []string{"Cookie: a=b"}, 200, []string{"Cache-Control: max-age=60"}, "cookie"},
		{"Cookie and public", ttl, []string{"Cookie: a=b"}, 200, []string{"Cache-Control: public, max-age=60"}, ""},
		{"Cookie and Vary: Cookie", ttl, []string{"Cookie: a=b"}, 200, []string{"Vary: Cookie"}, ""},
		{"Cookie and a key with it", Policy{TTL: time.Minute, CookieKeyed: true}, []string{"Cookie: a=b"}, 200, nil, ""},
		{"Set-Cookie is for one", ttl, nil, 200, []string{"Cache-Control: public, max-age=60", "Set-Cookie: a=b"}, "set-cookie"},
		{"§4.1 Vary: *", ttl, nil, 200, []string{"Vary: *"}, "vary"},
		{"§4.1 * among others", ttl, nil, 200, []string{"Vary: Accept, *"}, "vary"},
		{"Vary by what only the service sees", ttl, nil, 200, []string{"Vary: Landline-Identity"}, "vary"},
		{"the same in a cache of one user", Policy{TTL: time.Minute, Partitioned: true}, nil, 200, []string{"Vary: Landline-Identity"}, ""},
		{"Vary by the client's address", perUser, nil, 200, []string{"Cache-Control: max-age=60", "Vary: X-Forwarded-For"}, "vary"},
		{"Vary by a field that a rule sets", Policy{TTL: time.Minute, Unseen: []string{"X-Version"}}, nil, 200, []string{"Vary: x-version"}, "vary"},
		{"trailers", ttl, nil, 200, []string{"Trailer: Checksum"}, "partial"},
		{"§4.3 max-age=0 with a validator is stored to ask about", shared, nil, 200, []string{"Cache-Control: max-age=0", `ETag: "1"`}, ""},
		{"§4.3 and without one it is not", shared, nil, 200, []string{"Cache-Control: max-age=0"}, "no-lifetime"},
		{"§5.2.2.4 no-cache with a validator", ttl, nil, 200, []string{"Cache-Control: no-cache", "Last-Modified: " + at(noon)}, ""},
		{"§5.2.2.4 no-cache without one", ttl, nil, 200, []string{"Cache-Control: no-cache"}, "no-lifetime"},
		{"RFC 5861: a copy for failures alone", Policy{StaleIfError: time.Hour}, nil, 200, []string{"Cache-Control: max-age=0"}, ""},
		{"but not against must-revalidate", Policy{StaleIfError: time.Hour}, nil, 200, []string{"Cache-Control: max-age=0, must-revalidate"}, "no-lifetime"},
		{"anonymous still honours private", anonymous, nil, 200, []string{"Cache-Control: private, max-age=60"}, "private"},
	} {
		a := NewAsked(header(row.request...), false)
		got, ok := Storable(&row.policy, &a, row.status, header(row.answer...))
		if got != row.want || ok != (row.want == "") {
			t.Errorf("%s: %q %v, want %q", row.rule, got, ok, row.want)
		}
	}
}

// TestDecide has a row for every rule about giving what is stored: §4.2, §5.2, RFC 5861.
func TestDecide(t *testing.T) {
	honour := Policy{HonourClient: true}
	config := Policy{TTL: time.Minute, StaleWhileRevalidate: time.Minute, StaleIfError: time.Hour}
	for _, row := range []struct {
		rule    string
		policy  Policy
		request string // Cache-Control
		answer  []string
		after   time.Duration
		want    Verdict
		onError bool
	}{
		{"§4.2 fresh", Policy{}, "", []string{"Cache-Control: max-age=60"}, 59 * time.Second, Fresh, false},
		{"§4.2 lifetime must be greater than age", Policy{}, "", []string{"Cache-Control: max-age=60"}, 60 * time.Second, Validate, false},
		{"§4.2.1 s-maxage before max-age", Policy{}, "", []string{"Cache-Control: max-age=600, s-maxage=10"}, 11 * time.Second, Validate, false},
		{"§4.2.1 max-age before Expires", Policy{}, "", []string{"Cache-Control: max-age=60", "Expires: " + at(noon.Add(-time.Hour)), "Date: " + at(noon)}, 30 * time.Second, Fresh, false},
		{"§4.2.1 Expires minus Date", Policy{}, "", []string{"Expires: " + at(noon.Add(time.Hour)), "Date: " + at(noon)}, 59 * time.Minute, Fresh, false},
		{"§4.2.1 Expires minus Date, over", Policy{}, "", []string{"Expires: " + at(noon.Add(time.Hour)), "Date: " + at(noon)}, 61 * time.Minute, Validate, false},
		{"§5.3 Expires: 0 is in the past", config, "", []string{"Expires: 0", `ETag: "1"`, "Date: " + at(noon)}, 0, StaleAsync, true},
		{"§4.2.1 two max-age: the smaller", Policy{}, "", []string{"Cache-Control: max-age=60, max-age=10"}, 11 * time.Second, Validate, false},
		{"§4.2.1 a lifetime that is no number is stale", Policy{}, "", []string{"Cache-Control: max-age=soon", `ETag: "1"`}, 0, Validate, false},
		{"§5.2.2.1 quoted number", Policy{}, "", []string{`Cache-Control: max-age="60"`}, 59 * time.Second, Fresh, false},
		{"§1.2.2 a number beyond 2^31", Policy{}, "", []string{"Cache-Control: max-age=99999999999999999999"}, 1000 * time.Hour, Fresh, false},
		{"§4.2.3 Age counts", Policy{}, "", []string{"Cache-Control: max-age=60", "Age: 55"}, 6 * time.Second, Validate, false},
		{"§4.2.3 Date counts", Policy{}, "", []string{"Cache-Control: max-age=60", "Date: " + at(noon.Add(-50*time.Second))}, 11 * time.Second, Validate, false},
		{"§4.2.3 a Date ahead makes nothing younger", Policy{}, "", []string{"Cache-Control: max-age=60", "Date: " + at(noon.Add(time.Hour))}, 61 * time.Second, Validate, false},
		{"ttl where the service says nothing", config, "", nil, 59 * time.Second, Fresh, true},
		{"the service's max-age before ttl", config, "", []string{"Cache-Control: max-age=10"}, 20 * time.Second, StaleAsync, true},
		{"ttl overrides", Policy{TTL: time.Minute, Override: true}, "", []string{"Cache-Control: max-age=1"}, 59 * time.Second, Fresh, false},
		{"ttl overrides no-cache", Policy{TTL: time.Minute, Override: true}, "", []string{"Cache-Control: no-cache"}, 59 * time.Second, Fresh, false},
		{"but never gives it stale", Policy{TTL: time.Minute, Override: true, StaleIfError: time.Hour}, "", []string{"Cache-Control: no-cache"}, 61 * time.Second, Validate, false},
		{"§5.2.2.4 no-cache asks each time", config, "", []string{"Cache-Control: no-cache, max-age=60", `ETag: "1"`}, 0, Validate, false},
		{"§5.2.2.4 no-cache=field too", config, "", []string{`Cache-Control: no-cache="set-cookie", max-age=60`, `ETag: "1"`}, 0, Validate, false},
		{"§5.2.2.2 must-revalidate: fresh is given", config, "", []string{"Cache-Control: must-revalidate, max-age=60"}, 59 * time.Second, Fresh, false},
		{"§5.2.2.2 must-revalidate: never stale", config, "", []string{"Cache-Control: must-revalidate, max-age=60"}, 61 * time.Second, Validate, false},
		{"§5.2.2.8 proxy-revalidate: never stale", config, "", []string{"Cache-Control: proxy-revalidate, max-age=60"}, 61 * time.Second, Validate, false},
		{"§5.2.2.10 s-maxage: never stale", config, "", []string{"Cache-Control: s-maxage=60"}, 61 * time.Second, Validate, false},
		{"RFC 5861 §3 of the service", Policy{}, "", []string{"Cache-Control: max-age=60, stale-while-revalidate=30"}, 89 * time.Second, StaleAsync, false},
		{"RFC 5861 §3 over", Policy{}, "", []string{"Cache-Control: max-age=60, stale-while-revalidate=30"}, 91 * time.Second, Validate, false},
		{"the service's 0 before the policy's", config, "", []string{"Cache-Control: max-age=60, stale-while-revalidate=0, stale-if-error=0"}, 61 * time.Second, Validate, false},
		{"RFC 5861 §4 of the service", Policy{}, "", []string{"Cache-Control: max-age=60, stale-if-error=30"}, 89 * time.Second, Validate, true},
		{"RFC 5861 §4 over", Policy{}, "", []string{"Cache-Control: max-age=60, stale-if-error=30"}, 91 * time.Second, Validate, false},
		{"the policy's while-revalidate", config, "", nil, 119 * time.Second, StaleAsync, true},
		{"the policy's if-error alone", config, "", nil, 121 * time.Second, Validate, true},
		{"§5.2.1.4 no-cache of the request", honour, "no-cache", []string{"Cache-Control: max-age=60"}, 0, Validate, false},
		{"§5.2.1.4 unless the policy is deaf to it", Policy{}, "no-cache", []string{"Cache-Control: max-age=60"}, 0, Fresh, false},
		{"§5.2.1.1 max-age of the request", honour, "max-age=10", []string{"Cache-Control: max-age=60"}, 11 * time.Second, Validate, false},
		{"§5.2.1.1 and within it", honour, "max-age=10", []string{"Cache-Control: max-age=60"}, 10 * time.Second, Fresh, false},
		{"§5.2.1.1 nothing stale without max-stale", honour, "max-age=100", []string{"Cache-Control: max-age=60, stale-while-revalidate=60"}, 70 * time.Second, Validate, false},
		{"§5.2.1.3 min-fresh", honour, "min-fresh=10", []string{"Cache-Control: max-age=60"}, 51 * time.Second, Validate, false},
		{"§5.2.1.3 and enough left", honour, "min-fresh=10", []string{"Cache-Control: max-age=60"}, 50 * time.Second, Fresh, false},
		{"§5.2.1.2 max-stale", honour, "max-stale=10", []string{"Cache-Control: max-age=60"}, 70 * time.Second, Stale, false},
		{"§5.2.1.2 beyond it", honour, "max-stale=10", []string{"Cache-Control: max-age=60"}, 71 * time.Second, Validate, false},
		{"§5.2.1.2 any staleness", honour, "max-stale", []string{"Cache-Control: max-age=60"}, 1000 * time.Hour, Stale, false},
		{"§4.2.4 not against must-revalidate", honour, "max-stale", []string{"Cache-Control: max-age=60, must-revalidate"}, 61 * time.Second, Validate, false},
		{"no-cache of the request wants no stale copy", Policy{HonourClient: true, StaleIfError: time.Hour}, "no-cache", []string{"Cache-Control: max-age=60"}, 61 * time.Second, Validate, false},
		{"a clock set back makes nothing younger", Policy{}, "", []string{"Cache-Control: max-age=60", "Age: 60", `ETag: "1"`}, -time.Hour, Validate, false},
	} {
		e := NewEntry(&row.policy, Answer{Status: 200, Header: header(row.answer...), Request: http.Header{}, Asked: noon, Answered: noon, TagField: "Surrogate-Key"})
		request := http.Header{}
		if row.request != "" {
			request.Set("Cache-Control", row.request)
		}
		a := NewAsked(request, false)
		if got := Decide(&row.policy, &a, e, noon.Add(row.after)); got != row.want {
			t.Errorf("%s: %d, want %d", row.rule, got, row.want)
		}
		if got := InsteadOfError(&row.policy, &a, e, noon.Add(row.after)); got != row.onError {
			t.Errorf("%s: instead of an error %v, want %v", row.rule, got, row.onError)
		}
	}
}

func TestPragmaCountsOnlyWithoutCacheControl(t *testing.T) {
	if a := NewAsked(header("Pragma: no-cache"), false); !a.Control.NoCache {
		t.Error("RFC 9111 §5.4: Pragma alone")
	}
	if a := NewAsked(header("Pragma: no-cache", "Cache-Control: max-age=5"), false); a.Control.NoCache {
		t.Error("Cache-Control wins")
	}
}

func TestResponseDelayCountsAsAge(t *testing.T) {
	p := &Policy{}
	e := NewEntry(p, Answer{Status: 200, Header: header("Cache-Control: max-age=60", "Age: 5"), Asked: noon.Add(-3 * time.Second), Answered: noon})
	if age := e.Age(noon.Add(time.Second)); age != 9*time.Second {
		t.Errorf("age %v, want 5 + 3 + 1 s", age)
	}
}

func TestInvalidates(t *testing.T) {
	for _, row := range []struct {
		method string
		status int
		want   bool
	}{
		{"POST", 201, true}, {"PUT", 204, true}, {"DELETE", 200, true}, {"PATCH", 303, true}, {"PURGE", 200, true}, {"", 200, true},
		{"POST", 400, false}, {"POST", 500, false}, {"GET", 200, false}, {"HEAD", 200, false}, {"OPTIONS", 200, false}, {"TRACE", 200, false},
	} {
		if got := Invalidates(row.method, row.status); got != row.want {
			t.Errorf("%s %d: %v", row.method, row.status, got)
		}
	}
}

func TestFreshen(t *testing.T) {
	e := NewEntry(&Policy{}, Answer{
		Status: 200, Body: []byte("body"), Asked: noon, Answered: noon, TagField: "Surrogate-Key",
		Header: header("Cache-Control: max-age=1", `ETag: "1"`, "Content-Type: text/plain", "X-Old: kept", "X-New: old", "Surrogate-Key: a b"),
	})
	h := e.Freshen(header("Cache-Control: max-age=60", "Content-Type: text/html", "Content-Length: 0", "X-New: new"), "Surrogate-Key")
	for name, want := range map[string]string{
		"Cache-Control": "max-age=60", "X-New": "new", "X-Old": "kept", "Content-Type": "text/plain", "Content-Length": "4", "Etag": `"1"`, "Surrogate-Key": "a b",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if e.Header.Get("X-New") != "old" {
		t.Error("the old entry changed")
	}
}

func TestConfirms(t *testing.T) {
	for _, row := range []struct {
		own, said string
		want      bool
	}{{`"1"`, `"1"`, true}, {`"1"`, `"2"`, false}, {`"1"`, ``, true}, {`W/"1"`, `"1"`, true}, {`"1"`, `W/"1"`, true}, {`W/"1"`, `W/"2"`, false}} {
		e := &Entry{Header: header("Etag: " + row.own)}
		h := http.Header{}
		if row.said != "" {
			h.Set("Etag", row.said)
		}
		if got := e.Confirms(h); got != row.want {
			t.Errorf("%s about %s: %v", row.said, row.own, got)
		}
	}
}

func TestNotModified(t *testing.T) {
	e := &Entry{Status: 200, Header: header(`Etag: "a,b"`, "Last-Modified: "+at(noon))}
	for _, row := range []struct {
		name  string
		lines []string
		want  bool
	}{
		{"nothing asked", nil, false},
		{"the same tag", []string{`If-None-Match: "a,b"`}, true},
		{"weakly the same", []string{`If-None-Match: W/"a,b"`}, true},
		{"in a list", []string{`If-None-Match: "x", "a,b"`}, true},
		{"on a second line", []string{`If-None-Match: "x"`, `If-None-Match: "a,b"`}, true},
		{"a star", []string{`If-None-Match: *`}, true},
		{"another", []string{`If-None-Match: "x"`}, false},
		{"malformed", []string{`If-None-Match: a,b`}, false},
		{"RFC 9110 §13.1.3: the date counts only without a tag", []string{`If-None-Match: "x"`, "If-Modified-Since: " + at(noon)}, false},
		{"not modified since", []string{"If-Modified-Since: " + at(noon)}, true},
		{"modified since", []string{"If-Modified-Since: " + at(noon.Add(-time.Second))}, false},
		{"no date", []string{"If-Modified-Since: yesterday"}, false},
	} {
		if got := e.NotModified(header(row.lines...)); got != row.want {
			t.Errorf("%s: %v", row.name, got)
		}
	}
	e.Status = 404
	if e.NotModified(header("If-None-Match: *")) {
		t.Error("RFC 9110 §13.2.1: conditions mean nothing on other statuses")
	}
}

func TestPart(t *testing.T) {
	e := &Entry{Status: 200, Body: []byte("0123456789"), Header: header(`Etag: "1"`, "Last-Modified: "+at(noon.Add(-time.Hour)), "Date: "+at(noon))}
	for _, row := range []struct {
		name    string
		lines   []string
		want    Span
		part    bool
		refused bool
	}{
		{"none", nil, Span{}, false, false},
		{"first five", []string{"Range: bytes=0-4"}, Span{0, 5}, true, false},
		{"from the middle", []string{"Range: bytes=4-"}, Span{4, 6}, true, false},
		{"the last three", []string{"Range: bytes=-3"}, Span{7, 3}, true, false},
		{"more than there is at the end", []string{"Range: bytes=-30"}, Span{0, 10}, true, false},
		{"to beyond the end", []string{"Range: bytes=8-99"}, Span{8, 2}, true, false},
		{"behind the end", []string{"Range: bytes=10-"}, Span{}, false, true},
		{"the last none", []string{"Range: bytes=-0"}, Span{}, false, true},
		{"backwards", []string{"Range: bytes=5-4"}, Span{}, false, false},
		{"several get the whole", []string{"Range: bytes=0-1,4-5"}, Span{}, false, false},
		{"another unit", []string{"Range: lines=0-1"}, Span{}, false, false},
		{"nonsense", []string{"Range: bytes=a-b"}, Span{}, false, false},
		{"a sign", []string{"Range: bytes=+1-2"}, Span{}, false, false},
		{"If-Range with the tag", []string{"Range: bytes=0-4", `If-Range: "1"`}, Span{0, 5}, true, false},
		{"If-Range with another", []string{"Range: bytes=0-4", `If-Range: "2"`}, Span{}, false, false},
		{"If-Range with a weak tag", []string{"Range: bytes=0-4", `If-Range: W/"1"`}, Span{}, false, false},
		{"If-Range with the date", []string{"Range: bytes=0-4", "If-Range: " + at(noon.Add(-time.Hour))}, Span{0, 5}, true, false},
		{"If-Range with another date", []string{"Range: bytes=0-4", "If-Range: " + at(noon)}, Span{}, false, false},
	} {
		got, part, refused := e.Part(header(row.lines...))
		if got != row.want || part != row.part || refused != row.refused {
			t.Errorf("%s: %v %v %v", row.name, got, part, refused)
		}
	}
}

func TestVaryValues(t *testing.T) {
	for _, row := range []struct {
		field string
		a, b  []string
		same  bool
	}{
		{"Accept-Encoding", []string{"gzip, br"}, []string{"br;q=0.5,gzip"}, true},
		{"Accept-Encoding", []string{"gzip"}, []string{"gzip;q=0"}, false},
		{"Accept-Encoding", []string{"gzip;q=0.000"}, []string{""}, true},
		{"Accept-Encoding", []string{"gzip;q=0.001"}, []string{"gzip"}, true},
		{"Accept-Language", []string{"de, en"}, []string{"de,en"}, true},
		{"Accept-Language", []string{"de", "en"}, []string{"de, en"}, true},
		{"Accept-Language", []string{"de, en"}, []string{"en, de"}, false},
		{"Accept-Language", nil, []string{""}, false},
		{"X-Name", []string{"a  b"}, []string{"a b"}, true},
		{"X-Name", []string{"ab"}, []string{"a b"}, false},
	} {
		if got := VaryValue(http.Header{row.field: row.a}, row.field) == VaryValue(http.Header{row.field: row.b}, row.field); got != row.same {
			t.Errorf("%s %q and %q: same=%v", row.field, row.a, row.b, got)
		}
	}
}
