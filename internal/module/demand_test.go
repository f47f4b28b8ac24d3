package module

import (
	"testing"
	"time"

	"landline/internal/problem"
)

func TestDemandRefusesWhatATokenIsNotGoodFor(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	at := func(ago time.Duration) time.Time { return now.Add(-ago) }
	for name, c := range map[string]struct {
		demand    Demand
		principal Principal
		code      problem.Code
		challenge string
	}{
		"the app's own token":                {Demand{}, Principal{}, "", ""},
		"the app's own token, a scope asked": {Demand{Scope: "flights.read"}, Principal{}, "", ""},
		"no scope at all":                    {Demand{}, Principal{Scopes: []string{}}, problem.InsufficientScope, `Bearer realm="landline", error="insufficient_scope", scope="app"`},
		"another scope":                      {Demand{}, Principal{Scopes: []string{"openid", "apple"}}, problem.InsufficientScope, `Bearer realm="landline", error="insufficient_scope", scope="app"`},
		"the scope asked for":                {Demand{Scope: "flights.read"}, Principal{Scopes: []string{"flights.read"}}, "", ""},
		"a scope that begins like it":        {Demand{Scope: "flights.read"}, Principal{Scopes: []string{"flights"}}, problem.InsufficientScope, `Bearer realm="landline", error="insufficient_scope", scope="flights.read"`},
		"signed in lately":                   {Demand{MaxAge: 5 * time.Minute}, Principal{AuthTime: at(5 * time.Minute)}, "", ""},
		"signed in long ago": {Demand{MaxAge: 5 * time.Minute}, Principal{AuthTime: at(5*time.Minute + time.Second)}, problem.ReauthenticationRequired,
			`Bearer realm="landline", error="insufficient_user_authentication", error_description="sign in again: the last time was too long ago", max_age=300`},
		"strong enough": {Demand{ACR: []string{"phr"}}, Principal{ACR: "phr"}, "", ""},
		"too weak": {Demand{ACR: []string{"phr", "mfa"}, MaxAge: time.Minute}, Principal{ACR: "1", AuthTime: now}, problem.ReauthenticationRequired,
			`Bearer realm="landline", error="insufficient_user_authentication", error_description="sign in with a stronger method", acr_values="phr mfa", max_age=60`},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.demand.Check(&c.principal, now)
			if c.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !problem.HasCode(err, c.code) {
				t.Fatalf("got %v, want %s", err, c.code)
			}
			if got := problem.From(err).Headers().Get("WWW-Authenticate"); got != c.challenge {
				t.Errorf("challenge\n%s, want\n%s", got, c.challenge)
			}
		})
	}
}
