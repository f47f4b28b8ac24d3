package identity

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// sentThrough sends a registration so that it is read plainly, or so that huma reads it.
func sentThrough(f *fixture, byHuma bool, body, key string) answer {
	r := httptest.NewRequest(http.MethodPost, registerPath, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	if byHuma {
		r.Header.Set("Accept", "application/json;q=0.9")
	}
	return f.do(r)
}

// Both ways give the same answers, good and bad, but for what is random or names the request.
func TestPlainRegistrationsAreAnsweredAsHumaDoes(t *testing.T) {
	f := sqliteFixture(t)
	p := f.phone("owner-of-an-installation")
	known := `"installation_id":"` + p.installation + `","installation_secret":"` + p.secret + `"`
	bodies := []string{
		`{}`, ` { } `, `{"app":{}}`, `{` + known + `}`, `{` + known + `,"reinstalled":true}`, `{` + known + `,"reinstalled":false}`,
		`{"app":{"version":"4.2.0","build":1042,"platform":"ios","os":"18.1","device":"iPhone15,3","locale":"pl-PL"}}`,
		`{"app":{"build":0}}`, `{"app":{"build":-1}}`, `{"app":{"build":01}}`, `{"app":{"build":1.5}}`, `{"app":{"build":99999999999999999999}}`, `{"app":{"build":9007199254740993}}`,
		`{"app":{"version":"` + strings.Repeat("v", 64) + `"}}`, `{"app":{"version":"` + strings.Repeat("v", 65) + `"}}`, `{"app":{"platform":"` + strings.Repeat("v", 33) + `"}}`,
		`{"app":{"version":"\u0007"}}`, `{"app":{"version":"ż"}}`, `{"app":{"version":"a","version":"b"}}`, `{"app":{"version":null}}`, `{"app":null}`, `{"app":[]}`,
		`{"app":{"colour":"red"}}`, `{"colour":"red"}`, `{"App":{}}`, `{"installation_id":"ins_x"}`, `{"installation_id":""}`, `{"installation_secret":"abc"}`,
		`{` + strings.Replace(known, `"installation_secret":"`, `"installation_secret":"x`, 1) + `}`, `{"installation_id":"` + p.installation + `"}`,
		`{"public_key":"x"}`, `{"proof":"x"}`, `{"work":"w"}`, `{"reinstalled":1}`, `{"reinstalled":"true"}`, `{"reinstalled":tru}`,
		``, `[]`, `null`, `{`, `}`, `{"app":{}`, `{"app"}`, `{"app":}`, `{,}`, `{"app":{},}`, `{} {}`, `{}x`, `"x"`, strings.Repeat(" ", 5000) + `{}`,
		`{"work":"` + strings.Repeat("w", 5000) + `"}`,
	}
	for i, body := range bodies {
		for _, key := range []string{fmt.Sprintf("a-key-of-a-launch-%d", i), "short", ""} {
			first, second := sentThrough(f, true, body, key), sentThrough(f, false, body, key)
			third := sentThrough(f, true, body, key)
			for _, a := range []answer{first, second, third} {
				for _, name := range []string{"session", "trace_id"} {
					if s, ok := a.Body[name].(map[string]any); ok {
						delete(s, "access_token") // has a jti of its own
					}
				}
			}
			if second.Status != third.Status || !reflect.DeepEqual(second.Body, third.Body) || !reflect.DeepEqual(second.Header, third.Header) {
				t.Errorf("%s with key %q:\nplain %d %v %s\nhuma  %d %v %s", body, key, second.Status, second.Header, second.Raw, third.Status, third.Header, third.Raw)
			}
			if first.Status >= 400 != (second.Status >= 400) {
				t.Errorf("%s with key %q: first %d, then %d", body, key, first.Status, second.Status)
			}
		}
	}
}

// A body that does not arrive whole is huma's affair.
func TestPlainRegistrationThatIsCutOff(t *testing.T) {
	f := sqliteFixture(t)
	r := httptest.NewRequest(http.MethodPost, registerPath, brokenBody{})
	r.ContentLength = 20
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Idempotency-Key", launchKey)
	if a := f.do(r); a.Status != http.StatusBadRequest || a.str("code") == "" {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
}

func TestRegisteredBodyIsWrittenAsJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := func(name string) string { return rapid.String().Draw(t, name) }
		at := func(name string) time.Time {
			return time.UnixMilli(rapid.Int64Range(0, 4e12).Draw(t, name)).UTC()
		}
		b := registeredBody{
			Installation: installationWire{ID: text("id"), Secret: text("secret"), CreatedAt: at("made")},
			User:         userWire{ID: text("user"), Kind: UserKind(text("kind")), CreatedAt: at("born")},
			Session: tokensWire{ID: text("session"), AccessToken: text("access"), TokenType: text("type"), ExpiresIn: rapid.Int64().Draw(t, "in"),
				RefreshToken: text("refresh"), RefreshExpiresIn: rapid.Int64().Draw(t, "until")},
		}
		var want bytes.Buffer
		e := json.NewEncoder(&want)
		e.SetEscapeHTML(false)
		if err := e.Encode(b); err != nil {
			t.Fatal(err)
		}
		var got, same registeredBody
		written := b.append(nil)
		if err := json.Unmarshal(written, &got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(want.Bytes(), &same); err != nil || !reflect.DeepEqual(got, same) {
			t.Errorf("%s reads %+v, %v", written, got, err)
		}
		plain := !strings.ContainsFunc(want.String(), func(r rune) bool { return r >= 0x7f || r == '\\' })
		if plain && want.String() != string(written) {
			t.Errorf("got  %s\nwant %s", written, want.String())
		}
	})
}

// The answer of a refresh is what encoding/json makes of it.
func TestTokenAnswerIsWrittenAsJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := func(name string) string { return rapid.StringMatching(`[ -~]{0,20}`).Draw(t, name) }
		a := tokenAnswer{AccessToken: text("access"), IssuedTokenType: text("issued"), TokenType: text("type"), ExpiresIn: rapid.Int64().Draw(t, "for"),
			RefreshToken: text("refresh"), RefreshExpiresIn: rapid.Int64Range(0, 2).Draw(t, "refresh for"), Scope: text("scope"), IDToken: text("id")}
		written := a.append(nil)
		want, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		var got tokenAnswer
		if err := json.Unmarshal(written, &got); err != nil || got != a {
			t.Errorf("%s reads %+v, %v", written, got, err)
		}
		if !bytes.Contains(want, []byte{'\\'}) && !bytes.Equal(want, written) {
			t.Errorf("got  %s\nwant %s", written, want)
		}
	})
}

// Whatever is read plainly is read as encoding/json reads it, and within the bounds.
func FuzzPlainRegistration(f *testing.F) {
	for _, seed := range []string{`{}`, `{"app":{"version":"4.2.0","build":1042},"reinstalled":true}`, `{"installation_id":"ins_01","installation_secret":"x","work":"1"}`,
		`{"app":{"build":00}}`, "{\"work\":\"\x7f\"}", `{"reinstalled": false ,"app" : { "os":"" } }`, `{"app":{"build":1e3}}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var got, want registerBody
		if !got.readPlain(text) {
			return
		}
		d := json.NewDecoder(strings.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&want); err != nil || d.More() {
			t.Fatalf("%q is read, and is not: %v", text, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q is %+v, want %+v", text, got, want)
		}
		if a := got.App; len(got.InstallationID) > 64 || len(got.InstallationSecret) > 128 || len(got.Work) > 64 || a != nil &&
			(len(a.Version) > 64 || len(a.Platform) > 32 || len(a.OS) > 64 || len(a.Device) > 128 || len(a.Locale) > 64 || a.Build < 0) {
			t.Fatalf("%q is out of bounds", text)
		}
	})
}
