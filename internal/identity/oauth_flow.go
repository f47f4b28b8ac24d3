package identity

import (
	"slices"
	"strings"
	"time"

	"landline/internal/module"
)

// flowStep is what an authorization request needs next.
type flowStep string

// The steps.
const (
	flowSignIn  flowStep = "sign_in"
	flowChoose  flowStep = "choose"
	flowConsent flowStep = "consent"
	flowIssue   flowStep = "issue"
	flowRefuse  flowStep = "refuse"
)

// flowFacts is what decides about an authorization request.
type flowFacts struct {
	Accounts []Grant   // who is signed in in this browser
	User     string    // whom the user has chosen or signed in as in this step; "" = nobody yet
	Started  time.Time // when the user first saw a page of this request
	Acted    bool      // the user has answered a page of ours in this step
	Allowed  bool      // … and that was the consent page
	Now      time.Time
}

// flowVerdict is what to do, and for whom.
type flowVerdict struct {
	Step  flowStep
	Grant Grant
	Code  string // of flowRefuse: the error that the client gets
}

// decideAccount finds who an authorization request is for, and whether they must
// sign in (again). Consent is decideConsent's. It does no I/O.
func decideAccount(a *authRequest, f flowFacts) flowVerdict {
	silent := a.prompt("none")
	ask := func(step flowStep, code string) flowVerdict {
		if silent {
			return flowVerdict{Step: flowRefuse, Code: code}
		}
		return flowVerdict{Step: step}
	}
	accounts := f.Accounts
	if a.hint != "" {
		accounts = slices.DeleteFunc(slices.Clone(accounts), func(g Grant) bool { return g.User.ID != a.hint })
	}
	i := slices.IndexFunc(accounts, func(g Grant) bool { return g.User.ID == f.User })
	switch {
	case len(accounts) == 0:
		return ask(flowSignIn, "login_required")
	case f.User != "" && i >= 0:
	case f.User != "" && a.hint == "": // who was chosen has been signed out meanwhile, and nobody stands in
		return ask(flowChoose, "account_selection_required")
	case a.prompt("select_account"):
		return ask(flowChoose, "account_selection_required")
	case a.prompt("login"):
		return ask(flowSignIn, "login_required")
	case len(accounts) > 1:
		return ask(flowChoose, "account_selection_required")
	default:
		i = 0
	}
	g := accounts[i]
	// A sign-in since the first page of this request satisfies whatever was asked,
	// or a max_age of 0 would never end.
	fresh := !g.Session.AuthTime.Before(f.Started)
	switch {
	case a.prompt("login") && !fresh, a.maxAge >= 0 && !fresh && f.Now.Sub(g.Session.AuthTime) > a.maxAge:
		return ask(flowSignIn, "login_required")
	case !module.ACRMeets(acrOf(g.Session.Methods), a.acr):
		if fresh || silent { // the user did what they could (RFC 9470 §5)
			return flowVerdict{Step: flowRefuse, Code: "unmet_authentication_requirements"}
		}
		return flowVerdict{Step: flowSignIn}
	case !f.Acted && !a.client.Confidential() && !claimed(a.redirect):
		// Another app may have claimed the redirect URI of this one: nothing is sent
		// there unless the user has just done something here (RFC 8252 §8.6).
		v := ask(flowChoose, "interaction_required")
		v.Grant = g
		return v
	}
	return flowVerdict{Step: flowIssue, Grant: g}
}

// decideConsent is the last question: whether the user has allowed the client
// what it asks for. consented is what was allowed before.
func decideConsent(a *authRequest, f flowFacts, v flowVerdict, consented string) flowVerdict {
	if v.Step != flowIssue || f.Allowed {
		return v
	}
	if !a.prompt("consent") {
		if !a.client.ThirdParty || covers(consented, a.scopes) {
			return v
		}
	}
	if a.prompt("none") {
		return flowVerdict{Step: flowRefuse, Code: "consent_required"}
	}
	v.Step = flowConsent
	return v
}

// covers reports whether a list of scopes has all of the others.
func covers(have string, wanted []string) bool {
	all := strings.Fields(have)
	for _, w := range wanted {
		if !slices.Contains(all, w) {
			return false
		}
	}
	return true
}

// union is both lists, each scope once.
func union(have string, more []string) string {
	all := strings.Fields(have)
	for _, m := range more {
		if !slices.Contains(all, m) {
			all = append(all, m)
		}
	}
	return strings.Join(all, " ")
}
