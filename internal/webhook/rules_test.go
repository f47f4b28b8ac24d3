package webhook

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"landline/internal/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheScheduleSpansThreeDays(t *testing.T) {
	for _, random := range []float64{0, 0.5, 0.999999} {
		var total time.Duration
		last := time.Duration(0)
		for n := 1; ; n++ {
			d, ok := delay(delays, n, 0, random)
			if !ok {
				break
			}
			if d <= last {
				t.Errorf("pause %d is %v, after %v", n, d, last)
			}
			last, total = d, total+d
		}
		if total < 56*time.Hour || total > 88*time.Hour || total+time.Duration(len(delays)+1)*maxTimeout >= giveUp {
			t.Errorf("with jitter %v the attempts span %v; waiting ends after %v", random, total, giveUp)
		}
	}
	if d, _ := delay(delays, 1, 0, 0.5); d != 5*time.Second {
		t.Errorf("the first pause is %v", d)
	}
}

func TestRetryAfterIsHonouredWithinBounds(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, " 7 ": 7 * time.Second, "0": 0, "-5": 0, "soon": 0, "999999999": maxRetryAfter, "99999999999999999999": 0,
		now.Add(time.Hour).Format(http.TimeFormat): time.Hour, now.Add(-time.Hour).Format(http.TimeFormat): 0, now.Add(1000 * time.Hour).Format(http.TimeFormat): maxRetryAfter,
	} {
		if got := retryAfter(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
	if d, _ := delay(delays, 1, time.Hour, 0.5); d != time.Hour {
		t.Errorf("asked for an hour, the pause is %v", d)
	}
	if d, _ := delay(delays, 10, time.Second, 0.5); d != 12*time.Hour {
		t.Errorf("asked for a second, the pause is %v: asking must not use the attempts up", d)
	}
}

func TestTheGate(t *testing.T) {
	now := time.Unix(0, 0)
	var g gate
	try := func(o outcome, pause time.Duration) time.Time {
		t.Helper()
		if !g.enter(now) {
			t.Fatal("nothing passes")
		}
		return g.leave(o, pause, now)
	}
	for range closeAfter - 1 {
		try(down, 0)
	}
	try(up, 0) // begins anew
	for range closeAfter - 1 {
		if until := try(down, 0); !until.IsZero() {
			t.Fatalf("closed until %v after too few failures", until)
		}
	}
	if until := try(down, 0); !until.Equal(now.Add(minClosed)) || g.enter(now) || !g.isClosed(now) {
		t.Fatalf("closed until %v", until)
	}
	now = now.Add(minClosed)
	if !g.enter(now) || g.enter(now) {
		t.Fatal("after the time one attempt passes, and one alone")
	}
	if until := g.leave(down, 0, now); !until.Equal(now.Add(2 * minClosed)) {
		t.Fatalf("closed until %v, want twice as long", until)
	}
	for range 10 {
		now = now.Add(maxClosed)
		try(down, 0)
	}
	if until := g.until; until.Sub(now) != maxClosed {
		t.Errorf("closed for %v, at most %v", until.Sub(now), maxClosed)
	}
	now = now.Add(maxClosed)
	try(nothing, 0) // there was nothing to send: the next one decides
	try(up, 0)
	if first, second := g.enter(now), g.enter(now); !first || !second || g.isClosed(now) {
		t.Error("after a success everything passes")
	}
	g.leave(up, 0, now)
	if until := g.leave(down, 10*time.Second, now); !until.Equal(now.Add(10*time.Second)) || g.enter(now.Add(9*time.Second)) || !g.enter(now.Add(10*time.Second)) {
		t.Errorf("a pause that was asked for: %v", until)
	}
	if until := g.leave(down, 100*time.Hour, now.Add(10*time.Second)); until.Sub(now) > maxPause+10*time.Second {
		t.Errorf("a pause of %v", until.Sub(now))
	}
}

func TestPatterns(t *testing.T) {
	for pattern, types := range map[string]map[string]bool{
		"*":           {"user.merged": true, "webhook.ping": true},
		"user.*":      {"user.merged": true, "user.email.changed": true, "users.merged": false, "user": false},
		"user.merged": {"user.merged": true, "user.merged.twice": false, "user.mergedx": false},
	} {
		if !patternForm.MatchString(pattern) {
			t.Errorf("%s is no pattern", pattern)
		}
		for name, want := range types {
			if matches(pattern, name) != want {
				t.Errorf("%s matches %s: %v", pattern, name, !want)
			}
		}
	}
	for _, bad := range []string{"", "user", "User.merged", "user.", "user.*.x", "**", "us*", ".*", "user merged"} {
		if patternForm.MatchString(bad) {
			t.Errorf("%q passes for a pattern", bad)
		}
	}
}

const goodSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func load(t *testing.T, yaml string) (*Settings, error) {
	t.Helper()
	s := DefaultSettings()
	env := config.Env{Lookup: func(name string) (string, bool) {
		v, ok := map[string]string{"A": goodSecret, "B": "whsec_" + strings.Repeat("QUJD", 12), "BAD": "hunter2hunter2"}[name]
		return v, ok
	}}
	return s, config.LoadBytes("landline.yaml", []byte(yaml), []config.Section{Section(s)}, env)
}

func TestConfiguration(t *testing.T) {
	s, err := load(t, `webhooks:
  endpoints:
    billing: {url: "https://billing.example.com/landline", secrets: ["${A}"], events: [user.*, trip.booked]}
    inside: {url: "http://10.1.2.3:9000/x", secrets: ["${B}"], allow_private: [10.0.0.0/8, "fd00::/8"], timeout: 5s, concurrency: 2, order: none}
`)
	if err != nil {
		t.Fatal(err)
	}
	b, i := s.Endpoints["billing"], s.Endpoints["inside"]
	if b.Timeout.D() != defaultTimeout || b.Concurrency != defaultConcurrency || b.Order != OrderSubject || len(b.AllowPrivate) != 0 || b.egress().AllowedOnly {
		t.Errorf("billing is %+v", b)
	}
	if i.Timeout.D() != 5*time.Second || i.Order != OrderNone || !i.egress().AllowedOnly || len(i.egress().Allow) != 2 {
		t.Errorf("inside is %+v", i)
	}
	for _, on := range []string{"true", "[private]"} {
		s, err := load(t, `webhooks: {endpoints: {any: {url: "http://events.internal/x", secrets: ["${A}"], allow_private: `+on+`}}}`)
		if e := s.Endpoints["any"]; err != nil || len(e.egress().Allow) != len(private) {
			t.Errorf("allow_private: %s: %v", on, err)
		}
	}
}

func TestConfigurationFaults(t *testing.T) {
	for yaml, want := range map[string]string{
		`{keep: 1d}`: "between 7d and 365d",
		`{endpoints: {Billing: {url: "https://x.example/", secrets: ["${A}"]}}}`:                                              "the name of an endpoint",
		`{endpoints: {a: {secrets: ["${A}"]}}}`:                                                                               "url",
		`{endpoints: {a: {url: "https://x.example/"}}}`:                                                                       "needs a signing secret",
		`{endpoints: {a: {url: "https://x.example/", secrets: ["${BAD}"]}}}`:                                                  "begins with whsec_",
		`{endpoints: {a: {url: "https://x.example/", secrets: ["${A}", "${A}"]}}}`:                                            "there twice",
		`{endpoints: {a: {url: "https://x.example/", secrets: ["${A}"]}, b: {url: "https://x.example/", secrets: ["${A}"]}}}`: "has the same secret",
		`{endpoints: {a: {url: "http://x.example/", secrets: ["${A}"]}}}`:                                                     "plain http",
		`{endpoints: {a: {url: "ftp://x.example/", secrets: ["${A}"]}}}`:                                                      "not an absolute https",
		`{endpoints: {a: {url: "https://u:hunter2@x.example/", secrets: ["${A}"]}}}`:                                          "user or password",
		`{endpoints: {a: {url: "https://127.0.0.1/", secrets: ["${A}"]}}}`:                                                    "loopback",
		`{endpoints: {a: {url: "https://[::ffff:10.0.0.1]/", secrets: ["${A}"]}}}`:                                            "private",
		`{endpoints: {a: {url: "https://169.254.169.254/", secrets: ["${A}"], allow_private: true}}}`:                         "link-local",
		`{endpoints: {a: {url: "https://[fd00:ec2::254]/", secrets: ["${A}"], allow_private: true}}}`:                         "never called",
		`{endpoints: {a: {url: "https://2130706433/", secrets: ["${A}"]}}}`:                                                   "unusual form",
		`{endpoints: {a: {url: "http://1.1.1.1/", secrets: ["${A}"], allow_private: true}}}`:                                  "none of the allowed",
		`{endpoints: {a: {url: "https://x.example/", secrets: ["${A}"], allow_private: [0.0.0.0/0]}}}`:                        "not within a private",
		`{endpoints: {a: {url: "https://x.example/", secrets: ["${A}"], allow_private: [169.254.0.0/16]}}}`:                   "not within a private",
		`{endpoints: {a: {url: "https://x.example/", secrets: ["${A}"], allow_private: ["::ffff:10.0.0.0/104"]}}}`:            "not a network",
		`{endpoints: {a: {url: "https://x.example/", secrets: ["${A}"], allow_private: [10.0.0.1]}}}`:                         "not a network",
		`{endpoints: {a: {url: "https://x.example/", secrets: ["${A}"], events: [user]}}}`:                                    "neither a type",
		`{endpoints: {a: {url: "https://x.example/", secrets: ["${A}"], timeout: 5m}}}`:                                       "between 1s and 30s",
		`{endpoints: {a: {url: "https://x.example/", secrets: ["${A}"], concurrency: 0}}}`:                                    "concurrency",
		`{endpoints: {a: {url: "https://x.example/", secrets: ["${A}"], order: random}}}`:                                     "order",
	} {
		_, err := load(t, "webhooks: "+yaml)
		var faults config.Faults
		if !errors.As(err, &faults) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n gives %v, want %q", yaml, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the fault shows a secret: %v", err)
		}
	}
}
