package identity

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"landline/internal/module"
)

// TestDecideAccountKeepsItsPromises: whatever the request and whoever is signed
// in, prompt=none shows no page, nobody gets in who is not signed in, and what
// was asked of the sign-in was met.
func TestDecideAccountKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		users := []string{"usr_1", "usr_2", "usr_3"}
		f := flowFacts{Started: t0, Now: t0.Add(time.Duration(rapid.IntRange(0, 600).Draw(t, "since")) * time.Second),
			Acted: rapid.Bool().Draw(t, "acted"), User: rapid.SampledFrom(append([]string{""}, users...)).Draw(t, "user")}
		for _, u := range users[:rapid.IntRange(0, 3).Draw(t, "accounts")] {
			f.Accounts = append(f.Accounts, Grant{User: User{ID: u}, Session: Session{
				AuthTime: t0.Add(time.Duration(rapid.IntRange(-600, 600).Draw(t, "auth")) * time.Second),
				Methods:  rapid.SampledFrom([]string{"pwd", "hwk user"}).Draw(t, "methods")}})
		}
		a := &authRequest{client: &client{ThirdParty: rapid.Bool().Draw(t, "third")}, redirect: rapid.SampledFrom([]string{"https://a.example/cb", "com.example:/cb"}).Draw(t, "redirect"),
			maxAge: -1, hint: rapid.SampledFrom([]string{"", "usr_1", "usr_9"}).Draw(t, "hint"), scopes: []string{"openid"}}
		if rapid.Bool().Draw(t, "aged") {
			a.maxAge = time.Duration(rapid.IntRange(0, 900).Draw(t, "max_age")) * time.Second
		}
		if rapid.Bool().Draw(t, "strong") {
			a.acr = []string{module.ACRPhr}
		}
		a.prompts = rapid.SampledFrom([][]string{nil, {"none"}, {"login"}, {"consent"}, {"select_account"}, {"login", "consent"}}).Draw(t, "prompt")
		consented := rapid.SampledFrom([]string{"", "openid", "email"}).Draw(t, "consented")
		v := decideConsent(a, f, decideAccount(a, f), consented)
		if a.prompt("none") && v.Step != flowRefuse && v.Step != flowIssue {
			t.Fatalf("prompt=none shows %s", v.Step)
		}
		if (v.Step == flowRefuse) != (v.Code != "") {
			t.Fatalf("%+v", v)
		}
		if v.Step != flowIssue && v.Step != flowConsent {
			return
		}
		there := false
		for _, g := range f.Accounts {
			there = there || g == v.Grant
		}
		fresh := !v.Grant.Session.AuthTime.Before(f.Started)
		switch {
		case !there:
			t.Fatal("somebody who is not signed in")
		case a.hint != "" && v.Grant.User.ID != a.hint:
			t.Fatal("somebody else than the hint")
		case a.hint == "" && f.User != "" && v.Grant.User.ID != f.User:
			t.Fatal("somebody else than was chosen")
		case a.prompt("login") && !fresh:
			t.Fatal("prompt=login without a sign-in")
		case a.maxAge >= 0 && !fresh && f.Now.Sub(v.Grant.Session.AuthTime) > a.maxAge:
			t.Fatal("signed in too long ago")
		case a.acr != nil && acrOf(v.Grant.Session.Methods) != module.ACRPhr:
			t.Fatal("signed in too weakly")
		case a.redirect == "com.example:/cb" && !f.Acted:
			t.Fatal("a native app without a question")
		case v.Step == flowIssue && a.client.ThirdParty && consented != "openid":
			t.Fatal("a client of others without consent")
		case v.Step == flowIssue && a.prompt("consent"):
			t.Fatal("prompt=consent without a question")
		case a.prompt("select_account") && f.User != v.Grant.User.ID:
			t.Fatal("prompt=select_account without a choice")
		}
	})
}

func TestACROf(t *testing.T) {
	for methods, want := range map[string]string{"": "", "pop": "", "installation": "", "pwd": "1", "fed": "1", "otp": "1", "hwk user": "phr", "pwd swk": "phr"} {
		if got := acrOf(methods); got != want {
			t.Errorf("%q: %q, want %q", methods, got, want)
		}
	}
	if !module.ACRMeets("phr", []string{"1"}) || module.ACRMeets("1", []string{"phr"}) || !module.ACRMeets("", nil) || module.ACRMeets("", []string{"1"}) {
		t.Error("acrMeets")
	}
}
