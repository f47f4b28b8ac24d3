package provider

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"landline/internal/config"
	"landline/internal/identity/provider/providertest"
)

const verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk" // of RFC 7636 appendix B

func TestChallengeOfTheRFC(t *testing.T) {
	if got := challenge(verifier); got != "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM" {
		t.Errorf("challenge %s", got)
	}
}

func TestCodesAreExchanged(t *testing.T) {
	f := newFixture(t)
	withNonce := map[string]any{"nonce": nonce}
	for name, c := range map[string]struct {
		p    string
		code Code
	}{
		"Apple's SDK":              {"apple", Code{Code: f.apple.Code(bundleID, "", "", withNonce)}},
		"Apple's page":             {"apple", Code{Code: f.apple.Code(servicesID, callback, challenge(verifier), withNonce), RedirectURI: callback, Verifier: verifier, ClientID: servicesID}},
		"Google's SDKs":            {"google", Code{Code: f.google.Code(googleWeb, "", "", withNonce)}},
		"Google's pop-up":          {"google", Code{Code: f.google.Code(googleWeb, "postmessage", "", withNonce), RedirectURI: "postmessage"}},
		"Google's page":            {"google", Code{Code: f.google.Code(googleWeb, callback, challenge(verifier), withNonce), RedirectURI: callback, Verifier: verifier}},
		"an issuer, with a secret": {"oidc:acme", Code{Code: f.acme.Code("flights", callback, "", withNonce), RedirectURI: callback}},
		"an issuer, from an app":   {"oidc:acme", Code{Code: f.acme.Code("flights-app", callback, challenge(verifier), withNonce), RedirectURI: callback, Verifier: verifier, ClientID: "flights-app"}},
	} {
		c.code.Nonce = nonce
		p := f.get(c.p)
		claims, err := p.Exchange(context.Background(), c.code)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if claims.Subject != "user-1" || !claims.NonceChecked || !strings.HasPrefix(claims.RefreshToken.Reveal(), "refresh-") || claims.ReplayID == "" {
			t.Errorf("%s: %+v", name, claims)
		}
		_, err = p.Exchange(context.Background(), c.code)
		wants(t, name+", again", err, Refused, ReasonCode)
		_, err = p.Verify(context.Background(), Token{IDToken: "x.y.z", Nonce: nonce})
		wants(t, name+", a token", err, Refused, ReasonMalformed)
	}
}

// Google wants to be told that there is no redirect_uri; others want nothing.
func TestAnEmptyRedirectURI(t *testing.T) {
	f := newFixture(t)
	for name, issuer := range map[string]*providertest.Issuer{"google": f.google, "apple": f.apple} {
		client := map[string]string{"google": googleWeb, "apple": bundleID}[name]
		if _, err := f.get(name).Exchange(context.Background(), Code{Code: issuer.Code(client, "", "", map[string]any{"nonce": nonce}), Nonce: nonce}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if has := issuer.Form(providertest.Token).Has("redirect_uri"); has != (name == "google") {
			t.Errorf("%s: redirect_uri sent: %t", name, has)
		}
	}
}

func TestClientAuthentication(t *testing.T) {
	for name, c := range map[string]struct {
		auth    string
		methods any
	}{
		"basic": {"basic", nil}, "post": {"post", nil}, "auto": {"auto", nil},
		"auto, post offered alone": {"auto", []string{"client_secret_post"}},
		"auto, both offered":       {"auto", []string{"client_secret_post", "client_secret_basic"}},
	} {
		f := newFixture(t, func(k *Config, _ *Options) {
			acme := k.OIDC["acme"]
			acme.ClientAuth = c.auth
			k.OIDC["acme"] = acme
		})
		f.acme.SetMetadata("token_endpoint_auth_methods_supported", c.methods)
		if _, err := f.get("oidc:acme").Exchange(context.Background(), Code{Code: f.acme.Code("flights", callback, "", map[string]any{"nonce": nonce}), RedirectURI: callback, Nonce: nonce}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCodesThatAreNotSent(t *testing.T) {
	f := newFixture(t)
	for name, c := range map[string]struct {
		p      string
		code   Code
		reason Reason
	}{
		"none":                      {"oidc:acme", Code{}, ReasonMissing},
		"long":                      {"oidc:acme", Code{Code: strings.Repeat("c", maxCode+1)}, ReasonMalformed},
		"with a line break":         {"oidc:acme", Code{Code: "a\nb"}, ReasonMalformed},
		"other redirect_uri":        {"oidc:acme", Code{Code: "c", RedirectURI: "https://evil.example/"}, ReasonRedirectURI},
		"redirect_uri, longer":      {"oidc:acme", Code{Code: "c", RedirectURI: callback + "/../x"}, ReasonRedirectURI},
		"postmessage, not Google":   {"oidc:acme", Code{Code: "c", RedirectURI: "postmessage"}, ReasonRedirectURI},
		"other client":              {"oidc:acme", Code{Code: "c", ClientID: "other"}, ReasonClientID},
		"short verifier":            {"oidc:acme", Code{Code: "c", Verifier: "short"}, ReasonVerifier},
		"verifier with a space":     {"oidc:acme", Code{Code: "c", Verifier: strings.Repeat("a ", 30)}, ReasonVerifier},
		"public, no verifier":       {"oidc:acme", Code{Code: "c", ClientID: "flights-app"}, ReasonVerifier},
		"Google's iOS, no verifier": {"google", Code{Code: "c", ClientID: googleIOS}, ReasonVerifier},
	} {
		_, err := f.get(c.p).Exchange(context.Background(), c.code)
		wants(t, name, err, Refused, c.reason)
	}
	if n := f.acme.Calls(providertest.Token) + f.google.Calls(providertest.Token); n != 0 {
		t.Errorf("%d codes were sent all the same", n)
	}
}

func TestAnswersOfTheTokenEndpoint(t *testing.T) {
	for name, c := range map[string]struct {
		fail   providertest.Failure
		kind   Kind
		reason Reason
	}{
		"invalid_grant":          {providertest.Failure{Status: 400, Body: []byte(`{"error":"invalid_grant","error_description":"code-canary"}`)}, Refused, ReasonCode},
		"invalid_client":         {providertest.Failure{Status: 401, Body: []byte(`{"error":"invalid_client"}`)}, Misconfigured, ReasonCredentials},
		"unauthorized_client":    {providertest.Failure{Status: 400, Body: []byte(`{"error":"unauthorized_client"}`)}, Misconfigured, ReasonCredentials},
		"redirect_uri_mismatch":  {providertest.Failure{Status: 400, Body: []byte(`{"error":"redirect_uri_mismatch"}`)}, Misconfigured, ReasonRequestFaulty},
		"an unknown error":       {providertest.Failure{Status: 400, Body: []byte(`{"error":"code-canary"}`)}, Misconfigured, ReasonRequestFaulty},
		"a page":                 {providertest.Failure{Status: 400, Body: []byte(`<html>code-canary`)}, Unavailable, ReasonAnswer},
		"no ID token":            {providertest.Failure{Body: []byte(`{"access_token":"x"}`)}, Misconfigured, ReasonAnswer},
		"an error with 200":      {providertest.Failure{Body: []byte(`{"error":"bad_verification_code"}`)}, Misconfigured, ReasonAnswer},
		"a redirect":             {providertest.Failure{Status: 307, Location: "/elsewhere"}, Misconfigured, ReasonAnswer},
		"500":                    {providertest.Failure{Status: 500, Body: []byte(`{"error":"invalid_grant"}`)}, Unavailable, ReasonUnreachable},
		"429":                    {providertest.Failure{Status: 429}, Unavailable, ReasonUnreachable},
		"too much":               {providertest.Failure{Body: []byte(`{"id_token":"` + strings.Repeat("x", 65<<10) + `"}`)}, Unavailable, ReasonAnswer},
		"an ID token of another": {providertest.Failure{Body: []byte(`{"id_token":"eyJhbGciOiJub25lIn0.e30."}`)}, Refused, ReasonAlgorithm},
	} {
		f := newFixture(t)
		f.acme.Fail(c.fail, providertest.Token)
		claims, err := f.get("oidc:acme").Exchange(context.Background(), Code{Code: "code-canary", RedirectURI: callback, Nonce: nonce})
		wants(t, name, err, c.kind, c.reason)
		if claims != nil || err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: claims beside an error, or the error quotes what was sent: %v", name, err)
		}
	}
}

func TestRevocation(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	for name, issuer := range map[string]*providertest.Issuer{"apple": f.apple, "google": f.google, "oidc:acme": f.acme} {
		p := f.get(name)
		if can, err := p.CanRevoke(ctx); !can || err != nil {
			t.Errorf("%s: %t, %v", name, can, err)
		}
		r, err := p.Revoke(ctx, "refresh-1", "")
		if err != nil || r.Outcome != Accepted || r.Status != http.StatusOK || !r.At.Equal(t0) || r.Provider != name {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		if got := issuer.Revoked(); len(got) != 1 || got[0] != "refresh-1" {
			t.Errorf("%s: revoked %v", name, got)
		}
		for what, c := range map[string]struct {
			fail   providertest.Failure
			kind   Kind
			reason Reason
		}{
			"down":        {providertest.Failure{Status: 503}, Unavailable, ReasonUnreachable},
			"bad client":  {providertest.Failure{Status: 400, Body: []byte(`{"error":"invalid_client"}`)}, Misconfigured, ReasonCredentials},
			"unsupported": {providertest.Failure{Status: 400, Body: []byte(`{"error":"unsupported_token_type"}`)}, Misconfigured, ReasonRequestFaulty},
		} {
			issuer.Fail(c.fail, providertest.Revoke)
			r, err := p.Revoke(ctx, "refresh-1", "")
			wants(t, name+" "+what, err, c.kind, c.reason)
			if r != (Revocation{}) {
				t.Errorf("%s: a fact beside an error: %+v", name, r)
			}
		}
		issuer.Fail(providertest.Failure{Status: 400, Body: []byte(`{"error":"invalid_token"}`)}, providertest.Revoke)
		if r, err := p.Revoke(ctx, "refresh-1", ""); err != nil || r.Outcome != NotValid {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		_, err = p.Revoke(ctx, "refresh-1", "gone")
		wants(t, name, err, Misconfigured, ReasonClientID)
		_, err = p.Revoke(ctx, "", "")
		wants(t, name, err, Refused, ReasonMissing)
	}
	without := newFixture(t)
	without.acme.SetMetadata("revocation_endpoint", nil)
	if can, err := without.get("oidc:acme").CanRevoke(ctx); can || err != nil {
		t.Errorf("%t, %v", can, err)
	}
	_, err := without.get("oidc:acme").Revoke(ctx, "refresh-1", "")
	wants(t, "no endpoint", err, Misconfigured, ReasonUnsupported)
}

// Nothing secret is in what is logged, or in any error or its causes.
func TestNothingSecretIsTold(t *testing.T) {
	f := newFixture(t)
	token := f.acme.IDToken("flights", map[string]any{"nonce": "canary-nonce", "email": "canary@example.com"})
	var told strings.Builder
	claims, err := f.get("oidc:acme").Verify(context.Background(), Token{IDToken: token, Nonce: "canary-nonce"})
	if err != nil {
		t.Fatal(err)
	}
	claims.RefreshToken = config.Secret("canary-refresh")
	code := Code{Code: "canary-code", Verifier: "canary", Nonce: "canary", ClientID: "flights"}
	for _, v := range []any{
		claims, claims.RefreshToken, Token{IDToken: token, Nonce: "canary"}, code, Callback{Code: code, Name: "canary"},
		Pending{State: "canary", Nonce: "canary", Verifier: "canary"}, Notice{Subject: "canary", Token: "canary", Email: "canary"},
	} {
		f.Set.log.Info("signed in", "value", v)
		fmt.Fprintf(&told, "%v %+v %s\n", v, v, v)
	}
	for _, fail := range []providertest.Failure{{Status: 500}, {Status: 400, Body: []byte(token)}, {Body: []byte(`{"id_token":"` + token + `"}`)}, {Status: 302, Location: "https://canary.example/?code=canary-code"}, {ContentType: "text/html"}} {
		f.acme.Fail(fail)
		f.clock.Advance(f.maxStale)
		p := f.get("oidc:acme")
		_, err1 := p.Verify(context.Background(), Token{IDToken: f.acme.IDToken("flights", map[string]any{"nonce": "canary-nonce"}), Nonce: "canary-nonce"})
		f.acme.Heal()
		f.acme.Fail(fail, providertest.Token, providertest.Revoke)
		f.clock.Advance(lastBackoff)
		_, err2 := p.Exchange(context.Background(), Code{Code: "canary-code", RedirectURI: callback, Verifier: strings.Repeat("canary", 10), Nonce: "canary-nonce"})
		_, err3 := p.Revoke(context.Background(), "canary-refresh", "")
		_, err4 := p.Verify(context.Background(), Token{IDToken: token + "canary", Nonce: "canary-other"})
		for _, err := range []error{err1, err2, err3, err4} {
			if err != nil {
				told.WriteString(err.Error() + "\n")
			}
		}
	}
	all := told.String() + f.log.String()
	if told.Len() < 500 || !strings.Contains(all, "signed in") {
		t.Fatalf("too little was told to look into: %s", all)
	}
	parts := strings.Split(token, ".")
	for _, secret := range []string{"canary", parts[0], parts[1], parts[2], "acme secret", "acme+secret"} {
		if strings.Contains(all, secret) {
			t.Errorf("%q is told in:\n%s", secret, all)
		}
	}
}
