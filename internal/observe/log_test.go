package observe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// The secrets below must never be seen in a line. They are put together so
// that no scanner takes this file for a leak.
var (
	aRefreshToken  = "v1." + strings.Repeat("Zm9vYmFy", 5)
	aSplitToken    = "v1.ses_01h455vb4pex5vsknk084sn02q.7." + strings.Repeat("q8-_", 8)
	anOperator     = "llo_" + strings.Repeat("Ab3-", 10)
	aJWT           = "eyJ" + "hbGciOiJFUzI1NiJ9.eyJ" + "zdWIiOiJ1c3IifQ.c2lnbmF0dXJlc2lnbmF0dXJl"
	aWebhookSecret = "whsec_" + strings.Repeat("Ab3+/9xy", 5)
	aPassword      = "correct-horse-battery"
	someTokens     = []string{aRefreshToken, aSplitToken, anOperator, aWebhookSecret, aJWT}
	harmlessValues = []string{"v1.2.3", "v1.28.0-20240606120523-5a60cdf6a761", "/v1/flights/42", "v1.", "the eye", "bearer token is missing", "postgres://host:5432/db", "12:34@x", "usr_01h455vb4pex5vsknk084sn02q"}
)

type account struct {
	Name     string            `json:"name"`
	Password string            `json:"password"`
	Nested   map[string]string `json:"nested"`
}

type lazy struct{}

func (lazy) LogValue() slog.Value {
	return slog.GroupValue(slog.String("refreshToken", aPassword), slog.String("kept", "lazy-kept"))
}

// both runs fn with a logger of each format.
func both(t *testing.T, fn func(t *testing.T, log *slog.Logger, out *bytes.Buffer)) {
	for name, pretty := range map[string]bool{"json": false, "pretty": true} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			fn(t, NewLogger(&out, slog.LevelDebug, pretty), &out)
		})
	}
}

func TestLogRedactsSecretKeys(t *testing.T) {
	both(t, func(t *testing.T, log *slog.Logger, out *bytes.Buffer) {
		for _, key := range []string{"password", "Password", "user_password", "access_token", "refreshToken", "Authorization", "authorization", "Cookie", "set-cookie", "client_secret", "api_key", "apiKey", "X-Api-Key", "private_key", "master.key", "credentials", "jwt", "id_token"} {
			log.Info("by key", key, aPassword)
			log.With(key, aPassword).Info("by With")
			log.WithGroup("g").Info("in a group", slog.Group("h", slog.String(key, aPassword), slog.String("kept", "x")))
			log.Info("as a group's name", slog.Group(key, slog.String("value", aPassword)))
			log.WithGroup(key).Info("as an open group's name", "value", aPassword)
			log.Info("in a map", "v", map[string]any{"deep": []any{map[string]string{key: aPassword}}})
			log.Info("as bytes", key, []byte(aPassword))
		}
		log.Info("struct", "account", account{"name-kept", aPassword, map[string]string{"token": aPassword}}, "pointer", &account{Password: aPassword}, "lazy", lazy{})
		if s := out.String(); strings.Contains(s, aPassword) || strings.Contains(s, "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5") {
			t.Errorf("a secret is shown:\n%s", s)
		}
		for _, want := range []string{"name-kept", "lazy-kept"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q was redacted too", want)
			}
		}
	})
}

func TestLogRedactsTokensInValues(t *testing.T) {
	both(t, func(t *testing.T, log *slog.Logger, out *bytes.Buffer) {
		for _, token := range someTokens {
			log.Info("message with "+token, "text", "before "+token+" after", "err", fmt.Errorf("wrapped: %w", errors.New("bad "+token)),
				"struct", account{Name: token}, "list", []string{token}, "json", json.RawMessage(`{"x":"`+token+`"}`), "stringer", stringer(token))
			log.With("a", token).WithGroup("g").Info("x", "b", "header=Bearer "+token)
		}
		log.Info("url", "dsn_shown", "postgres://landline:"+aPassword+"@db:5432/x", "header", "Basic "+strings.Repeat("dXNlcg", 4))
		for _, secret := range append([]string{aPassword, strings.Repeat("dXNlcg", 4), strings.Repeat("q8-_", 8)}, someTokens...) {
			if strings.Contains(out.String(), secret) {
				t.Errorf("%q is shown:\n%s", secret, out)
			}
		}
		if !strings.Contains(out.String(), "postgres://landline:[redacted]@db:5432/x") || !strings.Contains(out.String(), "before [redacted] after") {
			t.Errorf("what is around a secret should stay:\n%s", out)
		}
	})
}

type stringer string

func (s stringer) String() string { return string(s) }

func TestRedactURLPasswords(t *testing.T) {
	for in, want := range map[string]string{
		"redis://:pw@h:6379/0":                         "redis://:[redacted]@h:6379/0",
		"redis://h:6379,postgres://u:pw@h/d":           "redis://h:6379,postgres://u:[redacted]@h/d",
		"a://u:p@ss@h and b://v:q@i":                   "a://u:[redacted]@h and b://v:[redacted]@i",
		"parse \"https://u:pw@h:port/\": invalid port": "parse \"https://u:[redacted]@h:port/\": invalid port",
		"http://u:@h":                                  "http://u:@h",
		"http://user@h:80/x:y@z":                       "http://user@h:80/x:y@z",
	} {
		if got := Redact(in); got != want {
			t.Errorf("Redact(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestRedactLeavesTheHarmless(t *testing.T) {
	for _, s := range harmlessValues {
		if got := Redact(s); got != s {
			t.Errorf("Redact(%q) = %q", s, got)
		}
	}
	for _, key := range []string{"token_type", "key_id", "kid", "idempotency_key", "secret_name", "monkey", "tokenizer", "path", "session_id", "token_expires", "author", "password_set", "key"} {
		if secretKey(key) {
			t.Errorf("%q is taken for a secret", key)
		}
	}
}

func FuzzRedact(f *testing.F) {
	for _, s := range append(harmlessValues, someTokens...) {
		f.Add("a", s, "b")
	}
	f.Fuzz(func(t *testing.T, before, _, after string) {
		for _, token := range someTokens {
			if got := Redact(before + " " + token + " " + after); strings.Contains(got, token) {
				t.Errorf("%q shows a token", got)
			}
		}
	})
}

func TestLogIsJSONWithTraceIDAtTheTop(t *testing.T) {
	var out bytes.Buffer
	log := NewLogger(&out, slog.LevelInfo, false)
	ctx := WithTrace(context.Background(), tid, sid)
	log.Debug("below the level")
	log.InfoContext(ctx, "plain", "took", 1500*time.Millisecond)
	log.With("a", 1).WithGroup("g").With("b", 2).InfoContext(ctx, "grouped", "c", 3)
	log.Info("no trace")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines, want 3:\n%s", len(lines), out.String())
	}
	var records []map[string]any
	for _, l := range lines {
		m := map[string]any{}
		if err := json.Unmarshal([]byte(l), &m); err != nil {
			t.Fatal(err)
		}
		records = append(records, m)
	}
	if records[0]["trace_id"] != tid || records[0]["msg"] != "plain" || records[0]["level"] != "INFO" {
		t.Errorf("plain: %v", records[0])
	}
	group, _ := records[1]["g"].(map[string]any)
	if records[1]["trace_id"] != tid || records[1]["a"] != 1.0 || group["b"] != 2.0 || group["c"] != 3.0 || group["trace_id"] != nil {
		t.Errorf("grouped: %v", records[1])
	}
	if _, has := records[2]["trace_id"]; has {
		t.Errorf("without a trace: %v", records[2])
	}
}

func TestPrettyLinesStayOneLine(t *testing.T) {
	var out bytes.Buffer
	log := NewLogger(&out, slog.LevelInfo, true)
	log.Warn("two\nlines \x1b[31mred", "k", "v\n15:00:00 ERROR forged=1", "empty", "", "plain", "x", "bad", "\xff", "n", 3)
	line := strings.TrimSuffix(out.String(), "\n")
	if strings.ContainsAny(line, "\n\x1b") || strings.IndexByte(line, 0xff) >= 0 {
		t.Errorf("control characters get through: %q", line)
	}
	for _, want := range []string{"WARN", `k="v\n15:00:00 ERROR forged=1"`, `empty=""`, " plain=x", "n=3"} {
		if !strings.Contains(line, want) {
			t.Errorf("%q is missing in %s", want, line)
		}
	}
	out.Reset()
	log.With("a", 1).WithGroup("g").With("b", 2).Info("ready", "c", 3, slog.Group("h", "d", 4), slog.Attr{})
	if _, rest, _ := strings.Cut(out.String(), "INFO  "); rest != "ready  a=1 g.b=2 g.c=3 g.h.d=4\n" {
		t.Errorf("got %q", out.String())
	}
}

func TestLogConcurrently(t *testing.T) {
	both(t, func(t *testing.T, log *slog.Logger, out *bytes.Buffer) {
		var wg sync.WaitGroup
		for range 8 {
			l := log.With("w", 1).WithGroup("g")
			wg.Go(func() {
				for range 50 {
					l.InfoContext(WithTrace(t.Context(), tid, sid), "m", "k", "v")
				}
			})
		}
		wg.Wait()
		if n := strings.Count(out.String(), "\n"); n != 400 {
			t.Errorf("%d lines, want 400", n)
		}
	})
}

func TestLogValuesThatCannotBeShown(t *testing.T) {
	both(t, func(t *testing.T, log *slog.Logger, out *bytes.Buffer) {
		log.Info("odd", "func", func() {}, "chan", make(chan int), "nil", nil, "err", os.ErrNotExist, "nilerr", error(nil))
		if s := out.String(); !strings.Contains(s, "not loggable") || !strings.Contains(s, "file does not exist") {
			t.Errorf("got %s", s)
		}
	})
}

func TestLogValuesAreBounded(t *testing.T) {
	both(t, func(t *testing.T, log *slog.Logger, out *bytes.Buffer) {
		huge := strings.Repeat("x", 1<<20)
		log.Info(huge, "text", huge, "err", errors.New(huge), "list", []string{huge})
		if n := out.Len(); n > 5*maxText || !strings.Contains(out.String(), "bytes more") {
			t.Errorf("the line has %d bytes", n)
		}
	})
}

func BenchmarkRedactLongText(b *testing.B) {
	s := strings.Repeat("GET http://a.example/v1.2 eyJ bearer llo_ ", 200)
	b.SetBytes(int64(len(s)))
	for b.Loop() {
		Redact(s)
	}
}

func BenchmarkLogJSON(b *testing.B) {
	log := NewLogger(discard{}, slog.LevelInfo, false)
	ctx := WithTrace(b.Context(), tid, sid)
	b.ReportAllocs()
	for b.Loop() {
		log.InfoContext(ctx, "request", "method", "GET", "path", "/v1/flights/42/status", "feature", "flight-status", "status", 200, "took_ms", 12.5, "installation", "ins_01h455vb4pex5vsknk084sn02q", "app_version", "4.2.0", "platform", "ios")
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
