package problem

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestCatalogueRowsAreComplete(t *testing.T) {
	actions := map[Action]bool{Retry: true, Reauthenticate: true, UpdateApp: true, FixRequest: true, ContactSupport: true}
	form := regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	for _, k := range Catalogue {
		t.Run(string(k.Code), func(t *testing.T) {
			if !form.MatchString(string(k.Code)) {
				t.Error("the code is not lower-case words joined by underscores")
			}
			if k.Status < 400 || k.Status > 599 {
				t.Errorf("status %d is no error", k.Status)
			}
			if !actions[k.Action] {
				t.Errorf("there is no action %q", k.Action)
			}
			for name, s := range map[string]string{"Title": k.Title, "Cause": k.Cause, "WayOut": k.WayOut} {
				if !strings.HasSuffix(s, ".") || strings.ContainsAny(s, "\r\n\"") && name == "Title" {
					t.Errorf("%s must be a sentence: %q", name, s)
				}
			}
			if k.Action != Retry && k.RetryAfter != 0 {
				t.Errorf("asks to wait %v though a retry does not help", k.RetryAfter)
			}
			if k.Action == Retry && (k.Status == 429 || k.Status == 503) && k.RetryAfter < time.Second {
				t.Errorf("status %d needs a Retry-After", k.Status)
			}
			if Lookup(k.Code).Code != k.Code {
				t.Error("Lookup does not find it")
			}
		})
	}
}

// The table of the public API binds: clients are built against it.
func TestBindingCodes(t *testing.T) {
	for code, want := range map[Code]struct {
		status int
		action Action
	}{
		TokenExpired: {401, Retry}, TokenInvalid: {401, Reauthenticate}, SessionRevoked: {401, Reauthenticate},
		AppVersionUnsupported: {403, UpdateApp}, RouteNotFound: {404, FixRequest}, MethodNotAllowed: {405, FixRequest},
		APIVersionEnded: {410, UpdateApp}, IdempotencyInFlight: {409, Retry}, IdempotencyOutcomeUnknown: {409, ContactSupport},
		IdempotencyKeyReused: {422, FixRequest}, WrongUser: {412, Lookup(WrongUser).Action}, WrongRegion: {421, Lookup(WrongRegion).Action},
		RateLimited: {429, Retry}, UpstreamInvalid: {502, Retry}, UpstreamTimeout: {504, Retry}, FeatureUnavailable: {503, Retry},
		StorageUnavailable: {503, Retry}, Draining: {503, Retry},
	} {
		if k := Lookup(code); k.Code != code || k.Status != want.status || k.Action != want.action {
			t.Errorf("%s is %d %s, want %d %s", code, k.Status, k.Action, want.status, want.action)
		}
	}
	if Lookup("no_such_code").Code != Internal {
		t.Error("an unknown code is not internal")
	}
}

func write(t *testing.T, r *http.Request, err error, prepare ...func(http.Header)) (*http.Response, map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	for _, p := range prepare {
		p(w.Header())
	}
	Write(w, r, err)
	res := w.Result()
	raw, readErr := io.ReadAll(res.Body)
	if readErr != nil {
		t.Fatal(readErr)
	}
	var m map[string]any
	if r.Method != http.MethodHead {
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatalf("body %q: %v", raw, err)
		}
		if got := res.Header.Get("Content-Length"); got != strconv.Itoa(len(raw)) {
			t.Errorf("Content-Length %s, body has %d bytes", got, len(raw))
		}
	} else if len(raw) != 0 {
		t.Errorf("HEAD got a body: %q", raw)
	}
	return res, m
}

func get(path string) *http.Request { return httptest.NewRequest(http.MethodGet, path, nil) }

func TestEveryCodeIsWritten(t *testing.T) {
	for _, k := range Catalogue {
		res, m := write(t, get("/v1/things/7"), New(k.Code, "because of %s", "this"), func(h http.Header) { h.Set("Landline-Trace-Id", "abc") })
		if res.StatusCode != k.Status || res.Header.Get("Content-Type") != MediaType || res.Header.Get("Cache-Control") != "no-store" ||
			res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", k.Code, res.StatusCode, res.Header)
		}
		for name, want := range map[string]any{
			"type": TypeBase + string(k.Code), "title": k.Title, "status": float64(k.Status), "code": string(k.Code), "action": string(k.Action),
			"detail": "because of this", "instance": "/v1/things/7", "trace_id": "abc",
		} {
			if m[name] != want {
				t.Errorf("%s: %s is %v, want %v", k.Code, name, m[name], want)
			}
		}
		if _, has := m["debug"]; has {
			t.Errorf("%s: debug outside development", k.Code)
		}
		challenge := res.Header.Get("WWW-Authenticate")
		if (k.Status == 401) != (challenge != "") {
			t.Errorf("%s: WWW-Authenticate is %q", k.Code, challenge)
		}
		if k.Code == TokenMissing && strings.Contains(challenge, "error=") {
			t.Errorf("a request without credentials learns an error code: %s (RFC 6750 §3)", challenge)
		}
	}
}

func TestRetryAfterIsWholeSecondsAndAtLeastOne(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Nanosecond: "1", time.Millisecond: "1", time.Second: "1", 1001 * time.Millisecond: "2", time.Hour: "3600",
	} {
		res, m := write(t, get("/"), New(RateLimited, "").After(d))
		if got := res.Header.Get("Retry-After"); got != want || fmt.Sprint(m["retry_after"]) != want {
			t.Errorf("%v: header %q, member %v, want %s", d, got, m["retry_after"], want)
		}
	}
	if res, m := write(t, get("/"), New(NotFound, "")); res.Header.Get("Retry-After") != "" || m["retry_after"] != nil {
		t.Error("a code that waiting does not help says Retry-After")
	}
	if res, _ := write(t, get("/"), New(Overloaded, "").After(-time.Second)); res.Header.Get("Retry-After") != "1" {
		t.Errorf("a time that is past gives %q, want 1: clients must not retry at once", res.Header.Get("Retry-After"))
	}
}

func TestHeadHasTheHeadersWithoutTheBody(t *testing.T) {
	head, _ := write(t, httptest.NewRequest(http.MethodHead, "/x", nil), New(NotFound, "gone"))
	full, _ := write(t, get("/x"), New(NotFound, "gone"))
	if head.StatusCode != full.StatusCode || head.Header.Get("Content-Length") != full.Header.Get("Content-Length") {
		t.Errorf("HEAD %d %v, GET %d %v", head.StatusCode, head.Header, full.StatusCode, full.Header)
	}
}

// The handler may have set headers for the answer it meant to give.
func TestWriteDropsTheHeadersOfAnotherBody(t *testing.T) {
	res, _ := write(t, get("/"), New(Conflict, ""), func(h http.Header) {
		for _, n := range []string{"Content-Encoding", "Etag", "Last-Modified", "Content-Range", "Accept-Ranges", "Trailer"} {
			h.Set(n, "x")
		}
		h.Set("Content-Type", "image/png")
		h.Set("Vary", "Accept")
	})
	for _, n := range []string{"Content-Encoding", "Etag", "Last-Modified", "Content-Range", "Accept-Ranges", "Trailer"} {
		if res.Header.Get(n) != "" {
			t.Errorf("%s stayed", n)
		}
	}
	if res.Header.Get("Vary") != "Accept" {
		t.Error("Vary was dropped")
	}
}

func TestHeadersOfTheErrorAndOfTheStageInFront(t *testing.T) {
	dpop := func(h http.Header) { h.Set("WWW-Authenticate", `DPoP algs="ES256"`) }
	if res, _ := write(t, get("/"), New(TokenInvalid, ""), dpop); res.Header.Get("WWW-Authenticate") != `DPoP algs="ES256"` {
		t.Errorf("the challenge of the stage in front was replaced: %s", res.Header.Get("WWW-Authenticate"))
	}
	own := New(TokenInvalid, "").WithHeader("WWW-Authenticate", "Own")
	if res, _ := write(t, get("/"), own, dpop); res.Header.Get("WWW-Authenticate") != "Own" {
		t.Errorf("the error's own challenge lost: %s", res.Header.Get("WWW-Authenticate"))
	}
	allow := New(MethodNotAllowed, "").WithHeader("Allow", "GET, POST")
	if res, _ := write(t, get("/"), allow); res.Header.Get("Allow") != "GET, POST" {
		t.Error("Allow is missing")
	}
}

const hidden = "postgres://admin:hunter2@db/main"

func TestCausesAreShownInDevelopmentOnly(t *testing.T) {
	err := New(StorageUnavailable, "nothing was written").Wrap(errors.New(hidden))
	res, m := write(t, get("/"), err)
	for name, vs := range res.Header {
		if strings.Contains(strings.Join(vs, ""), "hunter2") {
			t.Errorf("the cause is in the header %s", name)
		}
	}
	if strings.Contains(fmt.Sprint(m), "hunter2") {
		t.Errorf("the cause is in the body: %v", m)
	}
	r := get("/")
	if _, m = write(t, r.WithContext(WithDebug(r.Context())), err); m["debug"] != hidden {
		t.Errorf("development shows %v", m["debug"])
	}
	if !strings.Contains(err.Error(), hidden) {
		t.Error("the log does not get the cause")
	}
}

// A path may hold anything, a query may hold a token: only the escaped path is repeated.
func TestInstanceIsTheEscapedPathWithoutQuery(t *testing.T) {
	_, m := write(t, get("/a%0d%0aX:%20y/%3Cscript%3E?access_token=hunter2"), New(RouteNotFound, ""))
	if got := m["instance"]; got != "/a%0d%0aX:%20y/%3Cscript%3E" {
		t.Errorf("instance is %q", got)
	}
}

type coded struct{}

func (coded) Error() string   { return "queue is full" }
func (coded) Problem() *Error { return New(StorageUnavailable, "busy").After(3 * time.Second) }

func TestFrom(t *testing.T) {
	tooLarge := &http.MaxBytesError{Limit: 10}
	for name, c := range map[string]struct {
		err  error
		want Code
	}{
		"a problem":             {New(Conflict, ""), Conflict},
		"a wrapped problem":     {fmt.Errorf("sign in: %w", New(WrongUser, "")), WrongUser},
		"an error with a code":  {fmt.Errorf("write: %w", coded{}), StorageUnavailable},
		"a body that is large":  {fmt.Errorf("read: %w", tooLarge), BodyTooLarge},
		"any other error":       {errors.New(hidden), Internal},
		"a cancelled context":   {context.Canceled, Internal},
		"a problem inside join": {errors.Join(errors.New("x"), New(Forbidden, "")), Forbidden},
	} {
		t.Run(name, func(t *testing.T) {
			p := From(c.err)
			if p.Code != c.want {
				t.Errorf("got %s, want %s", p.Code, c.want)
			}
			if strings.Contains(string(p.Body("", "", "")), "hunter2") {
				t.Error("the body holds the error's text")
			}
			if !errors.Is(p, c.err) && !errors.Is(c.err, p) {
				t.Error("the cause is lost to the log")
			}
		})
	}
	if From(coded{}).RetryAfter != 3*time.Second {
		t.Error("the code's own Retry-After is lost")
	}
}

func TestCopiesDoNotShareState(t *testing.T) {
	base := New(ConfigInvalid, "").With("errors", 1).WithHeader("X", "1")
	other := base.With("more", 2).WithHeader("X", "2").After(time.Minute).Wrap(io.EOF).WithDetail("100% sure")
	if len(base.Extra) != 1 || len(base.Header["X"]) != 1 || base.RetryAfter != 0 || base.Cause != nil || base.Detail != "" {
		t.Errorf("the original changed: %+v", base)
	}
	if other.Detail != "100% sure" || len(other.Header["X"]) != 2 || len(other.Extra) != 2 {
		t.Errorf("the copy is not complete: %+v", other)
	}
	if !errors.Is(other, New(ConfigInvalid, "")) || errors.Is(other, New(Conflict, "")) || !errors.Is(other, io.EOF) {
		t.Error("errors.Is does not compare by code and cause")
	}
	if !HasCode(fmt.Errorf("x: %w", other), ConfigInvalid) || HasCode(io.EOF, Internal) {
		t.Error("HasCode is wrong")
	}
}

func TestNewWithoutArgumentsTakesTheDetailAsItIs(t *testing.T) {
	if got := New(InvalidRequest, "at 100%").Detail; got != "at 100%" {
		t.Errorf("got %q", got)
	}
}

func TestExtraCannotChangeTheStandardMembersNorBreakTheBody(t *testing.T) {
	p := New(Forbidden, "no").With("status", 200).With("code", "ok").With("type", "about:blank").With("bad", math.Inf(1))
	_, m := write(t, get("/"), p)
	if m["status"] != 403.0 || m["code"] != "forbidden" || m["type"] != TypeBase+"forbidden" || m["detail"] != "no" {
		t.Errorf("body is %v", m)
	}
}

func TestReferenceHasASectionForEveryCode(t *testing.T) {
	var b bytes.Buffer
	if err := Reference(&b); err != nil {
		t.Fatal(err)
	}
	doc := b.String()
	for _, k := range Catalogue {
		for _, want := range []string{"\n## " + string(k.Code) + "\n", k.Title, k.Cause, k.WayOut, "(#" + string(k.Code) + ")", `"code": "` + string(k.Code) + `"`} {
			if !strings.Contains(doc, want) {
				t.Errorf("%s: the reference lacks %q", k.Code, want)
			}
		}
	}
	var again bytes.Buffer
	if err := Reference(&again); err != nil || !bytes.Equal(b.Bytes(), again.Bytes()) {
		t.Errorf("two runs differ (%v): a generated file must be reproducible", err)
	}
	if err := Reference(failingWriter{}); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("a failed write gives %v", err)
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

// Whatever a detail, a path or a trace id holds, the body is one JSON object
// with the code, and no header can be injected.
func FuzzBody(f *testing.F) {
	f.Add("rate_limited", "too many", "/v1/x", "abc", "cause", int64(1))
	f.Add("nope", "\x00\xff\u2028</script>", "/%", "\r\nX: y", "", int64(-5))
	f.Fuzz(func(t *testing.T, code, detail, instance, trace, debug string, wait int64) {
		e := New(Code(code), "").WithDetail(detail).After(time.Duration(wait)).With(instance, detail)
		var m map[string]any
		if err := json.Unmarshal(e.Body(instance, trace, debug), &m); err != nil {
			t.Fatal(err)
		}
		if m["code"] != string(Lookup(Code(code)).Code) || m["status"] != float64(e.Status()) {
			t.Errorf("body is %v", m)
		}
		if s := e.Headers().Get("Retry-After"); s != "" {
			if n, err := strconv.Atoi(s); err != nil || n < 1 {
				t.Errorf("Retry-After is %q", s)
			}
		}
	})
}
