package attest_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"landline/internal/identity/attest"
	"landline/internal/identity/attest/attesttest"
)

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(*world){
		"fake in production":  func(w *world) { w.options.Development = false },
		"no challenges":       func(w *world) { w.options.Challenges = nil },
		"no bundle ids":       func(w *world) { w.config.Apple.BundleIDs = nil },
		"no team":             func(w *world) { w.config.Apple.TeamID = "" },
		"no android digests":  func(w *world) { w.config.AndroidKey.CertificateDigests = nil },
		"bad android digests": func(w *world) { w.config.AndroidKey.CertificateDigests = []string{"x"} },
	} {
		w := newWorld(t)
		change(w)
		if _, err := attest.New(w.config, w.options); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// A server that configures nothing accepts nothing, and production accepts no fake.
func TestUnconfiguredKindsAreRefused(t *testing.T) {
	w := newWorld(t)
	nothing := must(attest.New(attest.DefaultConfig(), attest.Options{Challenges: w.challenges}))
	if kinds := nothing.Kinds(); len(kinds) != 0 {
		t.Errorf("accepts %v", kinds)
	}
	if kinds := w.verifier.Kinds(); len(kinds) != 4 {
		t.Errorf("accepts %v", kinds)
	}
	data := w.clientData(t, attest.Attest)
	_, id, object := w.apple.Attest(app, data)
	_, chain := w.android.Attest(data)
	for _, e := range []attest.Evidence{
		{Kind: attest.AppAttest, KeyID: id, Object: object}, {Kind: attest.PlayIntegrity, Token: w.play.Token(w.play.Payload(data, now))},
		{Kind: attest.AndroidKey, Chain: chain}, {Kind: attest.Fake, Token: attesttest.FakeToken(attest.LevelHardware, data, "")}, {Kind: attest.KeyProof}, {Kind: ""}, {Kind: "other"},
	} {
		e.ClientData = data
		if _, err := nothing.Verify(e, w.want, now); !errors.Is(err, attest.ErrUnsupported) {
			t.Errorf("%s: %v", e.Kind, err)
		}
		if _, err := nothing.VerifyAssertion(attest.AppleKey{}, e, w.want, now); !errors.Is(err, attest.ErrUnsupported) {
			t.Errorf("%s as an assertion: %v", e.Kind, err)
		}
	}
	nothing.SetRevocations(nil)
}

func TestFake(t *testing.T) {
	w := newWorld(t)
	for _, level := range []attest.Level{attest.LevelNone, attest.LevelKey, attest.LevelApp, attest.LevelHardware} {
		data := w.clientData(t, attest.Attest)
		r, err := w.verifier.Verify(attest.Evidence{Kind: attest.Fake, Token: attesttest.FakeToken(level, data, "key"), ClientData: data}, w.want, now)
		if err != nil || r.Verdict.Level != level || r.Verdict.Environment != attest.Development || r.Verdict.KeyThumbprint != "key" {
			t.Errorf("%s: %+v, %v", level, r, err)
		}
		if d := (attest.Policy{MinLevel: attest.LevelKey}).Decide(&r.Verdict, now); d == attest.Allowed {
			t.Error("a policy that says nothing of environments takes a fake")
		}
	}
	data := w.clientData(t, attest.Attest)
	for token, field := range map[string]string{
		"": "token", "?": "token", "e30": "client_data_hash", strings.Repeat("A", 2000): "token",
		attesttest.FakeToken(attest.LevelApp, []byte("other"), ""):                           "client_data_hash",
		attesttest.FakeToken(attest.LevelApp, data, "") + "\n":                               "token",
		"eyJsZXZlbCI6InJvb3QifQ" /* {"level":"root"} */ :                                     "token",
		"eyJsZXZlbCI6ImFwcCIsImNsaWVudF9kYXRhX2hhc2giOiI_In0" /* client_data_hash is "?" */ : "client_data_hash",
	} {
		_, err := w.verifier.Verify(attest.Evidence{Kind: attest.Fake, Token: token, ClientData: data}, w.want, now)
		refused(t, token, field, err)
	}
}

// What is true of every kind: the challenge and the installation's key.
func TestEveryKindIsBound(t *testing.T) {
	w := newWorld(t)
	evidence := map[attest.Kind]func(data []byte) attest.Evidence{
		attest.AppAttest: func(data []byte) attest.Evidence {
			_, id, object := w.apple.Attest(app, data)
			return attest.Evidence{KeyID: id, Object: object}
		},
		attest.PlayIntegrity: func(data []byte) attest.Evidence {
			return attest.Evidence{Token: w.play.Token(w.play.Payload(data, now))}
		},
		attest.AndroidKey: func(data []byte) attest.Evidence {
			_, chain := w.android.Attest(data)
			return attest.Evidence{Chain: chain}
		},
		attest.Fake: func(data []byte) attest.Evidence {
			return attest.Evidence{Token: attesttest.FakeToken(attest.LevelApp, data, "")}
		},
	}
	for kind, make := range evidence {
		challenge := func(purpose attest.Purpose, to string) string {
			return must(w.challenges.New(purpose, to, now)).Text
		}
		for name, c := range map[string]struct {
			data  []byte
			want  attest.Expected
			at    time.Time
			field string
		}{
			"right":                {attesttest.ClientData(challenge(attest.Attest, subject), jkt), w.want, now, ""},
			"without a key":        {attesttest.ClientData(challenge(attest.Attest, subject), ""), attest.Expected{Subject: subject}, now, ""},
			"more members":         {[]byte(`{"challenge":"` + challenge(attest.Attest, subject) + `","jkt":"` + jkt + `","x":[{"y":null}]}`), w.want, now, ""},
			"another installation": {attesttest.ClientData(challenge(attest.Attest, "ins_2"), jkt), w.want, now, "challenge"},
			"another purpose":      {attesttest.ClientData(challenge(attest.Assert, subject), jkt), w.want, now, "challenge"},
			"another key":          {attesttest.ClientData(challenge(attest.Attest, subject), "other"), w.want, now, "jkt"},
			"no key":               {attesttest.ClientData(challenge(attest.Attest, subject), ""), w.want, now, "jkt"},
			"own challenge":        {attesttest.ClientData(strings.Repeat("A", 59), jkt), w.want, now, "challenge"},
			"no challenge":         {attesttest.ClientData("", jkt), w.want, now, "client_data"},
			"too late":             {attesttest.ClientData(challenge(attest.Attest, subject), jkt), w.want, now.Add(attest.ChallengeLife), "challenge"},
			"no client data":       {nil, w.want, now, "client_data"},
			"huge client data":     {[]byte(strings.Repeat(" ", attest.MaxClientData+1)), w.want, now, "client_data"},
			"client data a list":   {[]byte(`["x"]`), w.want, now, "client_data"},
			"challenge twice":      {[]byte(`{"challenge":"a","challenge":"` + challenge(attest.Attest, subject) + `","jkt":"` + jkt + `"}`), w.want, now, "client_data"},
			"challenge in caps":    {[]byte(`{"Challenge":"` + challenge(attest.Attest, subject) + `","jkt":"` + jkt + `"}`), w.want, now, "client_data"},
			"nested client data":   {[]byte(strings.Repeat("[", 4000)), w.want, now, "client_data"},
		} {
			e := make(c.data)
			e.Kind, e.ClientData = kind, c.data
			_, err := w.verifier.Verify(e, c.want, c.at)
			if c.field == "" {
				if err != nil {
					t.Errorf("%s, %s: %v", kind, name, err)
				}
				continue
			}
			refused(t, string(kind)+", "+name, c.field, err)
		}
	}
}

func TestChallenges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		purpose := rapid.SampledFrom([]attest.Purpose{attest.Attest, attest.Assert}).Draw(t, "purpose")
		to := rapid.String().Draw(t, "subject")
		c := attest.NewChallenges(attesttest.Keys{Current: rapid.IntRange(1, 2).Draw(t, "version")}, "attest")
		given, err := c.New(purpose, to, now)
		if err != nil {
			t.Fatal(err)
		}
		after := time.Duration(rapid.IntRange(0, 400_000).Draw(t, "after")) * time.Millisecond
		got, err := attest.NewChallenges(attesttest.Keys{}, "attest").Open(given.Text, purpose, to, now.Add(after))
		if good := after < attest.ChallengeLife; good != (err == nil) {
			t.Fatalf("after %s: %v", after, err)
		}
		if err == nil && (got.ID != given.ID || !got.Expires.Equal(given.Expires)) {
			t.Fatalf("%+v, given %+v", got, given)
		}
		if _, err := c.Open(given.Text, purpose, to+"x", now); err == nil {
			t.Fatal("opened for another")
		}
		if _, err := attest.NewChallenges(attesttest.Keys{}, "other").Open(given.Text, purpose, to, now); err == nil {
			t.Fatal("opened with other keys")
		}
		i := rapid.IntRange(0, len(given.Text)-1).Draw(t, "i")
		if _, err := c.Open(given.Text[:i]+other(given.Text[i])+given.Text[i+1:], purpose, to, now); err == nil {
			t.Fatalf("character %d may change", i)
		}
	})
	// The boundary between purpose and subject cannot be moved.
	c := attest.NewChallenges(attesttest.Keys{}, "attest")
	given := must(c.New("attest", "ins_1", now))
	if _, err := c.Open(given.Text, "attesti", "ns_1", now); err == nil {
		t.Error("opened for another purpose")
	}
	if _, err := c.Open(given.Text, "attest", "ins_1", now.Add(-2*time.Minute)); err == nil {
		t.Error("a challenge from the future is opened")
	}
	if _, err := attest.NewChallenges(attesttest.Keys{Current: 3}, "attest").New(attest.Attest, "x", now); err == nil {
		t.Error("a challenge was made without a key")
	}
}

func TestChallengesDiffer(t *testing.T) {
	c := attest.NewChallenges(attesttest.Keys{}, "attest")
	seen := map[string]bool{}
	for range 1000 {
		given := must(c.New(attest.Attest, subject, now))
		if len(given.Text) != 59 || len(given.ID) != 22 || seen[given.ID] {
			t.Fatalf("%+v", given)
		}
		seen[given.ID] = true
	}
}

func TestPolicy(t *testing.T) {
	verdict := attest.Verdict{Level: attest.LevelApp, Kind: attest.PlayIntegrity, Environment: attest.Production, At: now.Add(-time.Hour)}
	with := func(change func(*attest.Verdict)) *attest.Verdict {
		v := verdict
		change(&v)
		return &v
	}
	development := []attest.Environment{attest.Production, attest.Development}
	for name, c := range map[string]struct {
		policy  attest.Policy
		verdict *attest.Verdict
		want    attest.Decision
	}{
		"nothing asked":       {attest.Policy{}, nil, attest.Allowed},
		"none asked":          {attest.Policy{MinLevel: attest.LevelNone, MaxAge: time.Second}, &verdict, attest.Allowed},
		"missing":             {attest.Policy{MinLevel: attest.LevelKey}, nil, attest.Missing},
		"enough":              {attest.Policy{MinLevel: attest.LevelApp}, &verdict, attest.Allowed},
		"more than enough":    {attest.Policy{MinLevel: attest.LevelKey}, &verdict, attest.Allowed},
		"too low":             {attest.Policy{MinLevel: attest.LevelHardware}, &verdict, attest.TooLow},
		"young enough":        {attest.Policy{MinLevel: attest.LevelApp, MaxAge: time.Hour}, &verdict, attest.Allowed},
		"too old":             {attest.Policy{MinLevel: attest.LevelApp, MaxAge: time.Hour - time.Second}, &verdict, attest.TooOld},
		"from the future":     {attest.Policy{MinLevel: attest.LevelApp}, with(func(v *attest.Verdict) { v.At = now.Add(2 * time.Minute) }), attest.TooOld},
		"development":         {attest.Policy{MinLevel: attest.LevelApp}, with(func(v *attest.Verdict) { v.Environment = attest.Development }), attest.WrongEnvironment},
		"development allowed": {attest.Policy{MinLevel: attest.LevelApp, Environments: development}, with(func(v *attest.Verdict) { v.Environment = attest.Development }), attest.Allowed},
		"no environment":      {attest.Policy{MinLevel: attest.LevelApp, Environments: []attest.Environment{}}, &verdict, attest.WrongEnvironment},
		"wrong kind":          {attest.Policy{MinLevel: attest.LevelApp, Kinds: []attest.Kind{attest.AppAttest}}, &verdict, attest.WrongKind},
		"right kind":          {attest.Policy{MinLevel: attest.LevelApp, Kinds: []attest.Kind{attest.AppAttest, attest.PlayIntegrity}}, &verdict, attest.Allowed},
		"fake":                {attest.Policy{MinLevel: attest.LevelApp, Environments: development}, with(func(v *attest.Verdict) { v.Kind, v.Environment = attest.Fake, attest.Development }), attest.Allowed},
		"fake for production": {attest.Policy{MinLevel: attest.LevelApp}, with(func(v *attest.Verdict) { v.Kind = attest.Fake }), attest.WrongKind},
		"an unset verdict":    {attest.Policy{MinLevel: attest.LevelKey}, &attest.Verdict{}, attest.TooLow},
	} {
		if got := c.policy.Decide(c.verdict, now); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	key := attest.KeyVerdict(jkt, now)
	if d := (attest.Policy{MinLevel: attest.LevelKey}).Decide(&key, now); d != attest.Allowed || key.KeyThumbprint != jkt {
		t.Errorf("a key alone: %s", d)
	}
	if d := (attest.Policy{MinLevel: attest.LevelApp}).Decide(&key, now); d != attest.TooLow {
		t.Errorf("a key alone, for an app: %s", d)
	}
}

// A stricter policy never allows what a weaker one refuses.
func TestPolicyIsMonotone(t *testing.T) {
	levels := []attest.Level{attest.LevelNone, attest.LevelKey, attest.LevelApp, attest.LevelHardware}
	rapid.Check(t, func(t *rapid.T) {
		v := &attest.Verdict{
			Level: rapid.SampledFrom(levels).Draw(t, "level"), Environment: attest.Production,
			Kind: rapid.SampledFrom([]attest.Kind{attest.AppAttest, attest.Fake}).Draw(t, "kind"), At: now.Add(-time.Duration(rapid.IntRange(0, 100).Draw(t, "age")) * time.Hour),
		}
		weak := attest.Policy{MinLevel: rapid.SampledFrom(levels).Draw(t, "weak"), MaxAge: time.Duration(rapid.IntRange(1, 100).Draw(t, "max")) * time.Hour}
		strict := weak
		strict.MinLevel = max(weak.MinLevel, rapid.SampledFrom(levels).Draw(t, "strict"))
		strict.MaxAge = min(weak.MaxAge, time.Duration(rapid.IntRange(1, 100).Draw(t, "min"))*time.Hour)
		if strict.Decide(v, now) == attest.Allowed && weak.Decide(v, now) != attest.Allowed && weak.MinLevel > attest.LevelNone {
			t.Fatalf("%+v allows what %+v refuses: %+v", strict, weak, v)
		}
	})
}

func TestLevelsAreWrittenByName(t *testing.T) {
	for i, name := range []string{"none", "key", "app", "hardware"} {
		raw, err := json.Marshal(attest.Level(i))
		if err != nil || string(raw) != `"`+name+`"` || attest.Level(i).String() != name {
			t.Errorf("level %d is written %s, %v", i, raw, err)
		}
		var back attest.Level
		if err := json.Unmarshal(raw, &back); err != nil || back != attest.Level(i) {
			t.Errorf("%s is read as %v, %v", raw, back, err)
		}
	}
	var l attest.Level
	if err := json.Unmarshal([]byte(`"root"`), &l); err == nil {
		t.Error("a level that does not exist is read")
	}
	if _, err := json.Marshal(attest.Level(9)); err == nil {
		t.Error("a level that does not exist is written")
	}
}

// Errors name a closed set of fields, and quote nothing.
func TestErrorsQuoteNothing(t *testing.T) {
	w := newWorld(t)
	const canary = "CANARYcanaryCANARY"
	data := attesttest.ClientData(canary, canary)
	var texts []string
	for _, e := range []attest.Evidence{
		{Kind: attest.AppAttest, KeyID: canary, Object: []byte(canary)}, {Kind: attest.PlayIntegrity, Token: canary + "...."},
		{Kind: attest.AndroidKey, Chain: [][]byte{[]byte(canary), []byte(canary)}}, {Kind: attest.Fake, Token: canary}, {Kind: canary},
	} {
		for _, d := range [][]byte{data, w.clientData(t, attest.Attest), []byte(canary)} {
			e.ClientData = d
			_, err := w.verifier.Verify(e, w.want, now)
			if err == nil {
				t.Fatal("accepted")
			}
			texts = append(texts, err.Error())
		}
	}
	if i := slices.IndexFunc(texts, func(s string) bool { return strings.Contains(s, canary) }); i >= 0 {
		t.Errorf("quotes what was sent: %s", texts[i])
	}
}

// Without other roots only Apple's and Google's own are trusted.
func TestBuiltInRoots(t *testing.T) {
	w := newWorld(t, func(w *world) { w.options.AppleRoots, w.options.GoogleRoots = nil, nil })
	data := w.clientData(t, attest.Attest)
	_, id, object := w.apple.Attest(app, data)
	_, err := w.verifier.Verify(attest.Evidence{Kind: attest.AppAttest, KeyID: id, Object: object, ClientData: data}, w.want, now)
	refused(t, "another Apple", "x5c", err)
	_, chain := w.android.Attest(data)
	_, err = w.verifyChain(chain, data)
	refused(t, "another Google", "chain", err)
}
