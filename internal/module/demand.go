package module

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"landline/internal/problem"
)

// AllScope is the scope of the app's own clients: all of the app's API.
const AllScope = "app"

// Demand is what a route asks of the access token beyond that it verifies. The
// zero Demand asks for a token that is good for all of the app's API.
type Demand struct {
	Scope  string        // one scope; a token with AllScope has every one; "" = AllScope
	ACR    []string      // authentication context classes, of which one must be met; nil = any
	MaxAge time.Duration // how long ago the user may have signed in; 0 = no matter
}

// Authentication context classes of access tokens, from the weakest. ACRPhr is of
// OpenID Connect Extended Authentication Profile ACR Values 1.0: resistant to phishing.
const (
	ACRBasic = "1"   // the user has proven an identity: a provider's sign-in, a code, a password
	ACRPhr   = "phr" // … with a passkey
)

// KnownACR are all classes, the strongest first.
func KnownACR() []string { return []string{ACRPhr, ACRBasic} }

// ACRMeets reports whether have is one of the wanted classes or stronger than
// one. Without a wish everything meets it.
func ACRMeets(have string, wanted []string) bool {
	for _, w := range wanted {
		if w == have || have == ACRPhr && w == ACRBasic {
			return true
		}
	}
	return len(wanted) == 0
}

// ValidScope reports whether s is a scope as they are written here: 1 to 64
// characters of A-Z a-z 0-9 . _ : - /, which need no quoting anywhere.
func ValidScope(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._:-/", c) >= 0) {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// Check refuses a principal that does not meet d: 403 insufficient_scope (RFC
// 6750 §3.1), or 401 insufficient_user_authentication with what is needed, so
// that the client sends the user to sign in again (RFC 9470 §3). now is not used
// without MaxAge.
func (d Demand) Check(p *Principal, now time.Time) error {
	scope := d.Scope
	if scope == "" {
		scope = AllScope
	}
	if p.Scopes != nil && !slices.Contains(p.Scopes, scope) {
		return problem.New(problem.InsufficientScope, "the access token's scope does not include %s", scope).
			WithHeader("WWW-Authenticate", `Bearer realm="landline", error="insufficient_scope", scope="`+scope+`"`)
	}
	weak := !ACRMeets(p.ACR, d.ACR)
	old := d.MaxAge > 0 && now.Sub(p.AuthTime) > d.MaxAge
	if !weak && !old {
		return nil
	}
	why := "sign in again: the last time was too long ago"
	if weak {
		why = "sign in with a stronger method"
	}
	challenge := `Bearer realm="landline", error="insufficient_user_authentication", error_description="` + why + `"`
	e := problem.New(problem.ReauthenticationRequired, why).With("recoverable", "reauthenticate")
	if len(d.ACR) > 0 {
		values := strings.Join(d.ACR, " ")
		challenge += `, acr_values="` + values + `"`
		e = e.With("acr_values", values)
	}
	if d.MaxAge > 0 {
		age := int64(d.MaxAge / time.Second)
		challenge += fmt.Sprintf(`, max_age=%d`, age)
		e = e.With("max_age", age)
	}
	return e.WithHeader("WWW-Authenticate", challenge)
}
