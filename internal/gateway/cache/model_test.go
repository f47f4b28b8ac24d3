package cache

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// said is an answer's freshness in the model: not text, but what was meant.
// -1 stands for "not said".
type said struct {
	maxAge, sMaxAge, expiresAfter, age, dateBefore    int
	whileRevalidate, ifError                          int
	noCache, mustRevalidate, proxyRevalidate, private bool
}

// header writes what was meant the way services do, in any order and case.
func (s said) header(t *rapid.T, answered time.Time) http.Header {
	var parts []string
	add := func(name string, n int) {
		if n >= 0 {
			form := rapid.SampledFrom([]string{"%s=%d", `%s="%d"`, "%s= %d", `%s=%d `}).Draw(t, "form")
			parts = append(parts, fmt.Sprintf(form, rapid.SampledFrom([]string{name, strings.ToUpper(name)}).Draw(t, "case"), n))
		}
	}
	add("max-age", s.maxAge)
	add("s-maxage", s.sMaxAge)
	add("stale-while-revalidate", s.whileRevalidate)
	add("stale-if-error", s.ifError)
	for name, on := range map[string]bool{"no-cache": s.noCache, "must-revalidate": s.mustRevalidate, "proxy-revalidate": s.proxyRevalidate, "private": s.private} {
		if on {
			parts = append(parts, name)
		}
	}
	parts = append(parts, rapid.SliceOfN(rapid.SampledFrom([]string{"x-other", `x-quoted="a, max-age=1"`, "immutable", ""}), 0, 2).Draw(t, "noise")...)
	h := http.Header{}
	for _, p := range rapid.Permutation(parts).Draw(t, "order") {
		if len(h["Cache-Control"]) > 0 && rapid.Bool().Draw(t, "same line") {
			h["Cache-Control"][len(h["Cache-Control"])-1] += "," + p
		} else {
			h.Add("Cache-Control", p)
		}
	}
	date := answered.Add(-time.Duration(s.dateBefore) * time.Second)
	h.Set("Date", at(date))
	if s.expiresAfter >= 0 {
		h.Set("Expires", at(date.Add(time.Duration(s.expiresAfter)*time.Second)))
	}
	if s.age >= 0 {
		h.Set("Age", fmt.Sprint(s.age))
	}
	h.Set("Etag", `"1"`)
	return h
}

// model is RFC 9111 §4.2 and RFC 5861 said once more, in whole seconds and
// without looking at the code: what may be done with the answer after so long.
func model(s said, p Policy, delay, after int) (v Verdict, onError bool) {
	age := max(s.dateBefore, max(s.age, 0)+delay) + after
	life := int(p.TTL / time.Second)
	for _, explicit := range []int{s.expiresAfter, s.maxAge, s.sMaxAge} { // the last that is said wins
		if explicit >= 0 {
			life = explicit
		}
	}
	whilst, ifError := int(p.StaleWhileRevalidate/time.Second), int(p.StaleIfError/time.Second)
	if s.whileRevalidate >= 0 {
		whilst = s.whileRevalidate
	}
	if s.ifError >= 0 {
		ifError = s.ifError
	}
	forbidden := s.noCache || s.mustRevalidate || s.proxyRevalidate || s.sMaxAge >= 0
	stale := age - life
	onError = !forbidden && ifError > 0 && stale <= ifError
	switch {
	case s.noCache:
		return Validate, onError
	case stale < 0:
		return Fresh, onError
	case !forbidden && whilst > 0 && stale <= whilst:
		return StaleAsync, onError
	}
	return Validate, onError
}

func TestFreshnessAgreesWithAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		maybe := func(name string) int {
			return rapid.SampledFrom([]int{-1, -1, -1, 0, 1, 20, 45, 60, 90, 120}).Draw(t, name)
		}
		s := said{
			maxAge: maybe("max-age"), sMaxAge: rapid.SampledFrom([]int{-1, -1, -1, 0, 30, 90}).Draw(t, "s-maxage"), expiresAfter: maybe("expires"), age: maybe("age"),
			dateBefore: rapid.IntRange(0, 90).Draw(t, "date"), whileRevalidate: maybe("swr"), ifError: maybe("sie"),
			noCache: rapid.IntRange(0, 9).Draw(t, "no-cache") == 0, mustRevalidate: rapid.IntRange(0, 5).Draw(t, "must") == 0,
			proxyRevalidate: rapid.IntRange(0, 5).Draw(t, "proxy") == 0, private: rapid.Bool().Draw(t, "private"),
		}
		seconds := func(name string) time.Duration {
			return time.Duration(rapid.SampledFrom([]int{0, 1, 30, 60, 90, 120}).Draw(t, name)) * time.Second
		}
		p := Policy{TTL: seconds("ttl"), StaleWhileRevalidate: seconds("policy swr"), StaleIfError: seconds("policy sie"), Partitioned: true}
		delay, after := rapid.IntRange(0, 20).Draw(t, "delay"), rapid.SampledFrom([]int{0, 1, 10, 30, 44, 45, 59, 60, 61, 89, 90, 120, 150, 179, 240, 300}).Draw(t, "after")
		answered := noon.Add(time.Duration(rapid.IntRange(0, 1e6).Draw(t, "moment")) * time.Second)
		e := NewEntry(&p, Answer{Status: 200, Header: s.header(t, answered), Asked: answered.Add(-time.Duration(delay) * time.Second), Answered: answered})
		a := NewAsked(http.Header{}, false)
		now := answered.Add(time.Duration(after) * time.Second)
		want, wantOnError := model(s, p, delay, after)
		if got := Decide(&p, &a, e, now); got != want {
			t.Fatalf("%+v after %d s: %d, the model says %d", s, after, got, want)
		}
		if got := InsteadOfError(&p, &a, e, now); got != wantOnError {
			t.Fatalf("%+v after %d s: on error %v, the model says %v", s, after, got, wantOnError)
		}
	})
}

func FuzzDirectives(f *testing.F) {
	for _, s := range []string{"", "no-store", "max-age=60, private", `private="a,b", max-age="5"`, `x="unended, no-store`, "max-age=-1", "=", ",,,", "max-age=\"1\\\"2\"", "s-maxage=99999999999999999999", "max-stale"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d := ParseDirectives([]string{s})
		for name, v := range map[string]time.Duration{
			"max-age": d.MaxAge, "s-maxage": d.SMaxAge, "stale-while-revalidate": d.StaleWhileRevalidate, "stale-if-error": d.StaleIfError, "min-fresh": d.MinFresh, "max-stale": d.MaxStale,
		} {
			if v != Absent && (v < 0 || v > maxDelta*time.Second || v%time.Second != 0) {
				t.Errorf("%s: %v", name, v)
			}
		}
		// Adding a directive in front never makes the field more permissive.
		stricter := ParseDirectives([]string{"no-store", s})
		if !stricter.NoStore || stricter.Private != d.Private || stricter.MaxAge != d.MaxAge || stricter.NoCache != d.NoCache {
			t.Errorf("a line before changes the rest: %+v %+v", d, stricter)
		}
		if zero := ParseDirectives([]string{s, "max-age=0"}); zero.MaxAge != 0 {
			t.Errorf("of two lifetimes the stricter counts: %v", zero.MaxAge)
		}
	})
}

func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-4", "bytes=-1", "bytes=5-", "bytes=9223372036854775807-", "bytes=0-9223372036854775808", "bytes= 1 - 2", "x"} {
		f.Add(s, 10)
	}
	f.Fuzz(func(t *testing.T, s string, size int) {
		if size < 0 {
			return
		}
		span, part, refused := parseRange(s, int64(size))
		if part && refused || part && (span.From < 0 || span.Length <= 0 || span.From+span.Length > int64(size)) {
			t.Errorf("%q of %d bytes: %v %v %v", s, size, span, part, refused)
		}
	})
}

func FuzzEntry(f *testing.F) {
	e := NewEntry(&Policy{TTL: time.Minute}, Answer{Key: Key{"/a", "b"}, Feature: "f", Policy: "p", Status: 200, Header: header("Vary: Accept"), Body: []byte("body"), Request: header("Accept: x"), Asked: noon, Answered: noon})
	f.Add(encodeEntry(e))
	f.Add([]byte{formVersion, 0xFF, 0xFF, 0xFF, 0xFF})
	f.Add([]byte{formVersion, 0, 0, 0, 2, '{', '}'})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeEntry(b)
		if err != nil {
			return
		}
		e.Selects(http.Header{})
		e.NotModified(header("If-None-Match: *"))
		if e.Size() < int64(len(e.Body)) || e.Status < 200 {
			t.Errorf("%+v", e)
		}
	})
}
