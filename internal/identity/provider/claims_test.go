package provider

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"landline/internal/identity/provider/providertest"
)

func TestClaimsOfEveryProvider(t *testing.T) {
	f := newFixture(t)
	hashed := sha256.Sum256([]byte(nonce))
	claims, err := f.verify("apple", f.apple.IDToken(bundleID, map[string]any{
		"sub": "001.abc", "email": "x7@privaterelay.appleid.com", "email_verified": "true", "is_private_email": "true",
		"real_user_status": 2, "nonce": hex.EncodeToString(hashed[:]), "nonce_supported": true, "auth_time": t0.Unix(), "name": nil,
	}))
	if err != nil {
		t.Fatal(err)
	}
	if claims.Issuer != f.apple.URL() || claims.Subject != "001.abc" || claims.ClientID != bundleID || !claims.EmailVerified || !claims.PrivateEmail ||
		claims.RealUser != RealUserLikely || !claims.NonceChecked || !claims.AuthTime.Equal(t0) || claims.Name != "" {
		t.Errorf("Apple: %+v", claims)
	}
	if _, err := f.verify("apple", f.apple.IDToken(bundleID, map[string]any{"nonce": nonce})); err != nil {
		t.Errorf("Apple with the raw nonce: %v", err)
	}

	claims, err = f.verify("google", f.google.IDToken(googleWeb, map[string]any{"nonce": nonce, "azp": "1234-android", "hd": "example.com", "locale": "pl"}))
	if err != nil {
		t.Fatal(err)
	}
	if claims.Subject != "user-1" || claims.HostedDomain != "example.com" || claims.Locale != "pl" || claims.Name != "Ada" || !claims.EmailVerified || claims.PrivateEmail {
		t.Errorf("Google: %+v", claims)
	}

	claims, err = f.verify("oidc:acme", f.acme.IDToken("flights", map[string]any{
		"nonce": nonce, "aud": []string{"flights", "flights-app"}, "azp": "flights-app", "amr": []string{"pwd", "otp"}, "acr": "2", "email_verified": false, "jti": "one",
	}))
	if err != nil {
		t.Fatal(err)
	}
	if claims.ClientID != "flights-app" || claims.EmailVerified || claims.Email != "ada@example.com" || claims.ACR != "2" || cmp.Diff(claims.AMR, []string{"pwd", "otp"}) != "" {
		t.Errorf("acme: %+v", claims)
	}
	var raw map[string]any
	if json.Unmarshal(claims.Raw, &raw) != nil || raw["jti"] != "one" {
		t.Errorf("raw: %s", claims.Raw)
	}
}

// Google writes its issuer in two forms; an identity has one.
func TestGooglesTwoIssuersAreOne(t *testing.T) {
	f := newFixture(t)
	p := f.get("google")
	p.rules.issuers = []string{"https://accounts.google.com", "accounts.google.com"}
	var ids []string
	for _, issuer := range p.rules.issuers {
		claims, err := f.verify("google", f.google.IDToken(googleWeb, map[string]any{"iss": issuer, "nonce": nonce, "jti": "same"}))
		if err != nil {
			t.Fatal(err)
		}
		if claims.Issuer != "https://accounts.google.com" {
			t.Errorf("the identity's issuer is %s", claims.Issuer)
		}
		ids = append(ids, claims.ReplayID)
	}
	if ids[0] != ids[1] {
		t.Error("a token could be used once for each form")
	}
	for _, issuer := range []string{"http://accounts.google.com", "https://accounts.google.com/", "https://accounts.google.com.evil.example", "ACCOUNTS.GOOGLE.COM", ""} {
		_, err := f.verify("google", f.google.IDToken(googleWeb, map[string]any{"iss": issuer, "nonce": nonce}))
		wants(t, issuer, err, Refused, ReasonIssuer)
	}
}

// What is not right about claims, one thing at a time.
func TestClaimsThatAreRefused(t *testing.T) {
	f := newFixture(t)
	at := func(d time.Duration) int64 { return t0.Add(d).Unix() }
	for name, c := range map[string]struct {
		claims map[string]any
		reason Reason
	}{
		"wrong iss":                 {map[string]any{"iss": "https://evil.example"}, ReasonIssuer},
		"iss with a slash":          {map[string]any{"iss": f.acme.URL() + "/"}, ReasonIssuer},
		"no iss":                    {map[string]any{"iss": nil}, ReasonIssuer},
		"iss is no text":            {map[string]any{"iss": 1}, ReasonMalformed},
		"wrong aud":                 {map[string]any{"aud": "other"}, ReasonAudience},
		"no aud":                    {map[string]any{"aud": nil}, ReasonAudience},
		"empty aud":                 {map[string]any{"aud": []string{}}, ReasonAudience},
		"a foreign aud beside":      {map[string]any{"aud": []string{"flights", "other"}, "azp": "flights"}, ReasonAudience},
		"many aud":                  {map[string]any{"aud": strings.Split(strings.Repeat("flights,", 20), ",")}, ReasonAudience},
		"two aud, no azp":           {map[string]any{"aud": []string{"flights", "flights-app"}}, ReasonAuthorizedParty},
		"foreign azp":               {map[string]any{"azp": "other"}, ReasonAuthorizedParty},
		"expired":                   {map[string]any{"iat": at(-5 * time.Minute), "exp": at(-60 * time.Second)}, ReasonExpired},
		"no exp":                    {map[string]any{"exp": nil}, ReasonMalformed},
		"exp is text":               {map[string]any{"exp": "9999999999"}, ReasonMalformed},
		"exp is huge":               {map[string]any{"exp": 1e300}, ReasonMalformed},
		"iat a week old":            {map[string]any{"iat": at(-7 * 24 * time.Hour), "exp": at(time.Hour)}, ReasonTooOld},
		"iat 11 minutes old":        {map[string]any{"iat": at(-11 * time.Minute), "exp": at(time.Hour)}, ReasonTooOld},
		"no iat":                    {map[string]any{"iat": nil}, ReasonMalformed},
		"iat in the future":         {map[string]any{"iat": at(61 * time.Second), "exp": at(time.Hour)}, ReasonNotYet},
		"nbf in the future":         {map[string]any{"nbf": at(61 * time.Second)}, ReasonNotYet},
		"negative nbf":              {map[string]any{"nbf": -1}, ReasonNotYet},
		"other nonce":               {map[string]any{"nonce": "other"}, ReasonNonce},
		"hashed nonce, not Apple":   {map[string]any{"nonce": "67c82b1dd11a1f0e6ba4d70bf5d0dc7d5e7bf4ce1ec0b3d2f3d24c4f3d4c7d2c"}, ReasonNonce},
		"no nonce":                  {map[string]any{"nonce": nil}, ReasonNonce},
		"no sub":                    {map[string]any{"sub": nil}, ReasonSubject},
		"empty sub":                 {map[string]any{"sub": ""}, ReasonSubject},
		"long sub":                  {map[string]any{"sub": strings.Repeat("x", 256)}, ReasonSubject},
		"sub with a line break":     {map[string]any{"sub": "a\nb"}, ReasonSubject},
		"sub is a list":             {map[string]any{"sub": []string{"a"}}, ReasonSubject},
		"a security event":          {map[string]any{"events": map[string]any{}}, ReasonType},
		"a security event, Apple's": {map[string]any{"events": "{}"}, ReasonType},
	} {
		claims := map[string]any{"nonce": nonce}
		for k, v := range c.claims {
			claims[k] = v
		}
		got, err := f.verify("oidc:acme", f.acme.IDToken("flights", claims))
		wants(t, name, err, Refused, c.reason)
		if got != nil {
			t.Errorf("%s: claims beside an error", name)
		}
	}
	if n := f.acme.Calls(providertest.Keys); n != 0 {
		t.Errorf("tokens with wrong claims made %d fetches of keys", n)
	}
}

func TestPersonalDataIsTakenAsItComes(t *testing.T) {
	f := newFixture(t)
	for name, c := range map[string]struct {
		claims   map[string]any
		email    string
		verified bool
	}{
		"verified as text":   {map[string]any{"email_verified": "true"}, "ada@example.com", true},
		"verified as 1":      {map[string]any{"email_verified": 1}, "ada@example.com", false},
		"verified as TRUE":   {map[string]any{"email_verified": "TRUE"}, "ada@example.com", false},
		"not said":           {map[string]any{"email_verified": nil}, "ada@example.com", false},
		"a list":             {map[string]any{"email": []string{"a@b"}}, "", false},
		"no address":         {map[string]any{"email": "ada"}, "", false},
		"with a line break":  {map[string]any{"email": "ada@example.com\r\nBcc: x@y"}, "", false},
		"too long":           {map[string]any{"email": strings.Repeat("a", 320) + "@example.com"}, "", false},
		"none, but verified": {map[string]any{"email": nil}, "", false},
	} {
		c.claims["nonce"] = nonce
		claims, err := f.verify("oidc:acme", f.acme.IDToken("flights", c.claims))
		if err != nil || claims.Email != c.email || claims.EmailVerified != c.verified {
			t.Errorf("%s: %+v, %v", name, claims, err)
		}
	}
	claims, err := f.verify("oidc:acme", f.acme.IDToken("flights", map[string]any{"nonce": nonce, "name": "A\u0000da " + strings.Repeat("é", 300), "locale": 7, "amr": "pwd"}))
	if err != nil || strings.Contains(claims.Name, "\x00") || len([]rune(claims.Name)) > maxName || claims.Locale != "" || len(claims.AMR) != 1 {
		t.Errorf("%+v, %v", claims, err)
	}
}

func TestGoogleOfOneOrganisation(t *testing.T) {
	f := newFixture(t, func(c *Config, _ *Options) {
		c.Google.HostedDomains = []string{"example.com"}
		c.Google.AuthorizedParties = []string{"1234-android"}
	})
	if _, err := f.verify("google", f.google.IDToken(googleWeb, map[string]any{"nonce": nonce, "hd": "Example.com", "azp": "1234-android"})); err != nil {
		t.Error(err)
	}
	_, err := f.verify("google", f.google.IDToken(googleWeb, map[string]any{"nonce": nonce}))
	wants(t, "a private account", err, Refused, ReasonHostedDomain)
	_, err = f.verify("google", f.google.IDToken(googleWeb, map[string]any{"nonce": nonce, "hd": "example.com", "azp": "other"}))
	wants(t, "another party", err, Refused, ReasonAuthorizedParty)
}
