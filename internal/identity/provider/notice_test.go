package provider

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"landline/internal/identity/provider/providertest"
)

const riscType = "https://schemas.openid.net/secevent/risc/event-type/"

func TestAppleNotices(t *testing.T) {
	f := newFixture(t)
	at := t0.Add(-time.Hour)
	for typ, kind := range map[string]NoticeKind{
		"consent-revoked": NoticeConsentRevoked, "account-delete": NoticeAccountDeleted, "account-deleted": NoticeAccountDeleted,
		"email-disabled": NoticeEmailDisabled, "email-enabled": NoticeEmailEnabled, "something-new": NoticeUnknown,
	} {
		body := f.apple.AppleNotice(bundleID, "jti-"+typ, map[string]any{
			"type": typ, "sub": "001.abc", "event_time": at.UnixMilli(), "email": "x7@privaterelay.appleid.com", "is_private_email": "true",
		})
		notices, err := f.get("apple").Notices(context.Background(), body)
		if err != nil || len(notices) != 1 {
			t.Errorf("%s: %+v, %v", typ, notices, err)
			continue
		}
		n := notices[0]
		if n.Kind != kind || n.Type != typ || n.Subject != "001.abc" || n.Issuer != f.apple.URL() || n.ClientID != bundleID || !n.At.Equal(at) ||
			n.JTI != "jti-"+typ || n.ReplayID == "" || !n.KeepUntil.After(t0.Add(29*24*time.Hour)) || !n.PrivateEmail || n.Email == "" {
			t.Errorf("%s: %+v", typ, n)
		}
	}
}

// Apple's documents show the events claim as an object, its servers send a string.
func TestAppleNoticesInEveryShape(t *testing.T) {
	f := newFixture(t)
	event := map[string]any{"type": "consent-revoked", "sub": "001.abc", "event_time": t0.Unix()}
	text, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(events any) []byte {
		return []byte(f.apple.Sign(map[string]any{"iss": f.apple.URL(), "aud": bundleID, "iat": t0.Unix(), "jti": "j", "events": events}, nil))
	}
	ids := map[string]bool{}
	for name, events := range map[string]any{"a string": string(text), "an object": event, "a list": []any{event}, "a string of a list": "[" + string(text) + "]"} {
		notices, err := f.get("apple").Notices(context.Background(), sign(events))
		if err != nil || len(notices) != 1 || notices[0].Kind != NoticeConsentRevoked || !notices[0].At.Equal(t0) {
			t.Errorf("%s: %+v, %v", name, notices, err)
			continue
		}
		ids[notices[0].ReplayID] = true
	}
	if len(ids) != 1 {
		t.Errorf("one jti has %d replay ids", len(ids))
	}
	for name, events := range map[string]any{"nothing in it": []any{}, "no type": map[string]any{"sub": "x"}, "no sub": map[string]any{"type": "consent-revoked"}, "a number": 7, "rubbish": "{", "many": make([]any, 20)} {
		notices, err := f.get("apple").Notices(context.Background(), sign(events))
		if e, ok := err.(*Error); !ok || e.Kind != Refused || notices != nil {
			t.Errorf("%s: %+v, %v", name, notices, err)
		}
	}
}

func TestGoogleNotices(t *testing.T) {
	f := newFixture(t)
	subject := map[string]any{"subject": map[string]any{"subject_type": "iss-sub", "iss": f.google.URL() + "/", "sub": "user-1"}, "reason": "hijacking"}
	for typ, kind := range map[string]NoticeKind{
		riscType + "sessions-revoked": NoticeSessionsRevoked, riscType + "account-disabled": NoticeAccountDisabled,
		riscType + "account-enabled": NoticeAccountEnabled, riscType + "account-purged": NoticeAccountDeleted,
		riscType + "account-credential-change-required":                       NoticeCredentialChange,
		"https://schemas.openid.net/secevent/oauth/event-type/tokens-revoked": NoticeTokensRevoked,
		"https://evil.example/sessions-revoked":                               NoticeUnknown,
	} {
		body := f.google.SecurityEvent([]string{googleWeb, googleIOS}, "jti", map[string]any{typ: subject})
		notices, err := f.get("google").Notices(context.Background(), body)
		if err != nil || len(notices) != 1 || notices[0].Kind != kind || notices[0].Subject != "user-1" || notices[0].Issuer != f.google.URL() || notices[0].Detail != "hijacking" {
			t.Errorf("%s: %+v, %v", typ, notices, err)
		}
	}
	one := func(events map[string]any) (Notice, error) {
		notices, err := f.get("google").Notices(context.Background(), f.google.SecurityEvent(googleWeb, "jti", events))
		if err != nil || len(notices) != 1 {
			return Notice{}, err
		}
		return notices[0], nil
	}
	if n, err := one(map[string]any{riscType + "verification": map[string]any{"state": "hello"}}); err != nil || n.Kind != NoticeVerification || n.Detail != "hello" {
		t.Errorf("%+v, %v", n, err)
	}
	token := map[string]any{"subject": map[string]any{"subject_type": "oauth_token", "token_type": "refresh_token", "token_identifier_alg": "prefix", "token": "1//0abcdefghijklm"}}
	if n, err := one(map[string]any{"https://schemas.openid.net/secevent/oauth/event-type/token-revoked": token}); err != nil || n.Kind != NoticeTokenRevoked || n.TokenAlg != "prefix" || n.Token != "1//0abcdefghijklm" {
		t.Errorf("%+v, %v", n, err)
	}
	// A subject of another issuer is nobody here.
	foreign := map[string]any{"subject": map[string]any{"subject_type": "iss-sub", "iss": "https://evil.example", "sub": "user-1"}}
	_, err := one(map[string]any{riscType + "sessions-revoked": foreign})
	wants(t, "another issuer's subject", err, Refused, ReasonSubject)

	// Several events in one token have ids of their own.
	notices, err := f.get("google").Notices(context.Background(), f.google.SecurityEvent(googleWeb, "two", map[string]any{riscType + "sessions-revoked": subject, riscType + "account-disabled": subject}))
	if err != nil || len(notices) != 2 || notices[0].ReplayID == notices[1].ReplayID {
		t.Errorf("%+v, %v", notices, err)
	}
}

func TestNoticesThatAreRefused(t *testing.T) {
	f := newFixture(t)
	events := map[string]any{riscType + "sessions-revoked": map[string]any{"subject": map[string]any{"subject_type": "iss-sub", "iss": f.google.URL(), "sub": "user-1"}}}
	sign := func(change map[string]any) []byte {
		claims := map[string]any{"iss": f.google.URL(), "aud": googleWeb, "iat": t0.Unix(), "jti": "j", "events": events}
		for k, v := range change {
			if claims[k] = v; v == nil {
				delete(claims, k)
			}
		}
		return []byte(f.google.Sign(claims, nil))
	}
	if _, err := f.get("google").Notices(context.Background(), sign(map[string]any{"exp": nil, "jti": nil})); err != nil {
		t.Errorf("without exp and jti: %v", err)
	}
	for name, c := range map[string]struct {
		body   []byte
		reason Reason
		set    string
	}{
		"nothing":          {nil, ReasonMissing, "invalid_request"},
		"too much":         {make([]byte, maxNotice+1), ReasonTooLarge, "invalid_request"},
		"rubbish":          {[]byte("hello"), ReasonMalformed, "invalid_request"},
		"an empty object":  {[]byte("{}"), ReasonMalformed, "invalid_request"},
		"an ID token":      {[]byte(f.google.IDToken(googleWeb, nil)), ReasonMalformed, "invalid_request"},
		"other issuer":     {sign(map[string]any{"iss": "https://evil.example"}), ReasonIssuer, "invalid_issuer"},
		"other app":        {sign(map[string]any{"aud": "other"}), ReasonAudience, "invalid_audience"},
		"no app":           {sign(map[string]any{"aud": nil}), ReasonAudience, "invalid_audience"},
		"of the future":    {sign(map[string]any{"iat": t0.Add(2 * time.Minute).Unix()}), ReasonNotYet, "invalid_request"},
		"31 days old":      {sign(map[string]any{"iat": t0.Add(-31 * 24 * time.Hour).Unix()}), ReasonTooOld, "invalid_request"},
		"no iat":           {sign(map[string]any{"iat": nil}), ReasonMalformed, "invalid_request"},
		"expired":          {sign(map[string]any{"exp": t0.Add(-time.Minute).Unix()}), ReasonExpired, "invalid_request"},
		"long jti":         {sign(map[string]any{"jti": strings.Repeat("j", 256)}), ReasonMalformed, "invalid_request"},
		"no events":        {sign(map[string]any{"events": map[string]any{}}), ReasonMalformed, "invalid_request"},
		"an event of text": {sign(map[string]any{"events": map[string]any{riscType + "sessions-revoked": "x"}}), ReasonMalformed, "invalid_request"},
		"a token of nobody": {sign(map[string]any{"events": map[string]any{"https://schemas.openid.net/secevent/oauth/event-type/token-revoked": map[string]any{
			"subject": map[string]any{"subject_type": "oauth_token", "token_type": "refresh_token", "token_identifier_alg": "prefix", "token": "1//0abcdefghijklm", "iss": f.google.URL(), "sub": strings.Repeat("x", 1000)}}}}), ReasonSubject, "invalid_request"},
		"signed by another":  {[]byte(f.apple.Sign(map[string]any{"iss": f.google.URL(), "aud": googleWeb, "iat": t0.Unix(), "jti": "j", "events": events}, nil)), ReasonUnknownKey, "invalid_key"},
		"signature is wrong": {append(sign(nil)[:len(sign(nil))-8], "AAAAAAAA"...), ReasonSignature, "invalid_key"},
	} {
		notices, err := f.get("google").Notices(context.Background(), c.body)
		if e := wants(t, name, err, Refused, c.reason); e.SETCode() != c.set || notices != nil {
			t.Errorf("%s: %s, %+v", name, e.SETCode(), notices)
		}
	}
	down := newFixture(t)
	down.google.Fail(providertest.Failure{Status: 503}, providertest.RISC)
	_, err := down.get("google").Notices(context.Background(), down.google.SecurityEvent(googleWeb, "j", map[string]any{riscType + "verification": map[string]any{}}))
	wants(t, "keys cannot be fetched", err, Unavailable, ReasonUnreachable)
	_, err = down.get("oidc:acme").Notices(context.Background(), []byte("x"))
	wants(t, "a provider without notices", err, Misconfigured, ReasonUnsupported)
}

// A notice opens no account: it is signed with the same keys, for the same app.
func TestANoticeIsNoIDToken(t *testing.T) {
	f := newFixture(t)
	var body appleNotice
	if err := json.Unmarshal(f.apple.AppleNotice(bundleID, "j", map[string]any{"type": "consent-revoked", "sub": "001.abc"}), &body); err != nil {
		t.Fatal(err)
	}
	_, err := f.verify("apple", body.Payload)
	wants(t, "Apple's", err, Refused, ReasonType)
	_, err = f.verify("google", string(f.google.SecurityEvent(googleWeb, "j", map[string]any{riscType + "verification": map[string]any{}})))
	wants(t, "Google's", err, Refused, ReasonType)
}
