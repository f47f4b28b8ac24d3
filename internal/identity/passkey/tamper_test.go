package passkey_test

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"

	"landline/internal/identity/passkey"
	"landline/internal/identity/passkey/passkeytest"
)

// Everything that is wrong with an answer of either ceremony.
func TestTamperedAnswersAreRefused(t *testing.T) {
	set := func(name string, value any) func(map[string]any) {
		return func(m map[string]any) { m[name] = value }
	}
	inner := func(name string, value any) func(map[string]any) {
		return func(m map[string]any) { m["response"].(map[string]any)[name] = value }
	}
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[at] ^= 1; return b }
	}
	other := sha256.Sum256([]byte("example.net"))
	for name, c := range map[string]struct {
		device func(*passkeytest.Authenticator)
		want   passkey.Reason
	}{
		"origin":                {func(a *passkeytest.Authenticator) { a.Origin = "https://evil.example" }, passkey.WrongOrigin},
		"origin of a subdomain": {func(a *passkeytest.Authenticator) { a.Origin = "https://x.example.com" }, passkey.WrongOrigin},
		"origin's scheme":       {func(a *passkeytest.Authenticator) { a.Origin = "http://example.com" }, passkey.WrongOrigin},
		"origin's port":         {func(a *passkeytest.Authenticator) { a.Origin = "https://example.com:8443" }, passkey.WrongOrigin},
		"other Android app":     {func(a *passkeytest.Authenticator) { a.Origin = strings.Replace(android, "q83", "Q83", 1) }, passkey.WrongOrigin},
		"no origin":             {func(a *passkeytest.Authenticator) { a.Origin = "" }, passkey.WrongOrigin},
		"frame":                 {func(a *passkeytest.Authenticator) { a.Tamper.ClientData = set("crossOrigin", true) }, passkey.WrongOrigin},
		"top origin":            {func(a *passkeytest.Authenticator) { a.Tamper.ClientData = set("topOrigin", "https://evil.example") }, passkey.WrongOrigin},
		"challenge":             {func(a *passkeytest.Authenticator) { a.Tamper.ClientData = set("challenge", strings.Repeat("A", 43)) }, passkey.WrongChallenge},
		"empty challenge":       {func(a *passkeytest.Authenticator) { a.Tamper.ClientData = set("challenge", "") }, passkey.WrongChallenge},
		"type":                  {func(a *passkeytest.Authenticator) { a.Tamper.ClientData = set("type", "payment.get") }, passkey.WrongCeremony},
		"rpIdHash": {func(a *passkeytest.Authenticator) {
			a.Tamper.AuthData = func(b []byte) []byte { copy(b, other[:]); return b }
		}, passkey.WrongRelyingParty},
		"nobody present":             {func(a *passkeytest.Authenticator) { a.Flags = passkeytest.UserVerified }, passkey.NotPresent},
		"nobody verified":            {func(a *passkeytest.Authenticator) { a.Flags = passkeytest.UserPresent }, passkey.NotVerified},
		"backed up but not eligible": {func(a *passkeytest.Authenticator) { a.Flags |= passkeytest.BackedUp }, passkey.Refused},
		"truncated authenticator data": {func(a *passkeytest.Authenticator) {
			a.Tamper.AuthData = func(b []byte) []byte { return b[:36] }
		}, passkey.Malformed},
		"kind":           {func(a *passkeytest.Authenticator) { a.Tamper.Response = set("type", "password") }, passkey.Malformed},
		"other rawId":    {func(a *passkeytest.Authenticator) { a.Tamper.Response = set("rawId", "AAAA") }, passkey.Malformed},
		"no id":          {func(a *passkeytest.Authenticator) { a.Tamper.Response = set("id", "") }, passkey.Malformed},
		"no client data": {func(a *passkeytest.Authenticator) { a.Tamper.Response = inner("clientDataJSON", "") }, passkey.Malformed},
		"client data is an array": {func(a *passkeytest.Authenticator) {
			a.Tamper.Response = inner("clientDataJSON", base64.RawURLEncoding.EncodeToString([]byte("[]")))
		}, passkey.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			rp, p := party(t), newPerson("https://example.com")
			c.device(p.device)
			if _, err := p.register(t, rp); passkey.ReasonOf(err) != c.want {
				t.Errorf("registration: %v, want %s", err, c.want)
			}
			p = newPerson("https://example.com")
			if _, err := p.register(t, rp); err != nil {
				t.Fatal(err)
			}
			c.device(p.device)
			if _, err := p.signIn(t, rp, passkey.SignInOptions{}); passkey.ReasonOf(err) != c.want {
				t.Errorf("sign-in: %v, want %s", err, c.want)
			}
		})
	}
	for name, c := range map[string]struct {
		device func(*passkeytest.Authenticator)
		want   passkey.Reason
	}{
		"signature":           {func(a *passkeytest.Authenticator) { a.Tamper.Signature = flip(20) }, passkey.Refused},
		"empty signature":     {func(a *passkeytest.Authenticator) { a.Tamper.Signature = func([]byte) []byte { return nil } }, passkey.Refused},
		"other user's handle": {func(a *passkeytest.Authenticator) { a.Tamper.Handle = flip(3) }, passkey.WrongUser},
		"registration's type": {func(a *passkeytest.Authenticator) { a.Tamper.ClientData = set("type", "webauthn.create") }, passkey.WrongCeremony},
		"data changed after signing": {func(a *passkeytest.Authenticator) {
			a.Tamper.Response = func(m map[string]any) {
				r := m["response"].(map[string]any)
				raw, _ := base64.RawURLEncoding.DecodeString(r["authenticatorData"].(string))
				raw[36]++ // the counter
				r["authenticatorData"] = base64.RawURLEncoding.EncodeToString(raw)
			}
		}, passkey.Refused},
	} {
		t.Run("sign-in/"+name, func(t *testing.T) {
			rp, p := party(t), newPerson("https://example.com")
			if _, err := p.register(t, rp); err != nil {
				t.Fatal(err)
			}
			c.device(p.device)
			if _, err := p.signIn(t, rp, passkey.SignInOptions{}); passkey.ReasonOf(err) != c.want {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

func TestUnfitKeysAreRefusedAtRegistration(t *testing.T) {
	for name, c := range map[string]struct {
		algorithm int
		key       func(map[int]any)
		want      passkey.Reason
	}{
		"not offered":       {passkeytest.ES256, func(k map[int]any) { k[3] = -36 }, passkey.Refused},
		"off the curve":     {passkeytest.ES256, func(k map[int]any) { k[-2].([]byte)[0] ^= 1 }, passkey.BadAlgorithm},
		"no point":          {passkeytest.ES256, func(k map[int]any) { delete(k, -2) }, passkey.BadAlgorithm},
		"short RSA":         {passkeytest.RS256, func(k map[int]any) { k[-1] = k[-1].([]byte)[:128] }, passkey.BadAlgorithm},
		"huge RSA":          {passkeytest.RS256, func(k map[int]any) { k[-1] = make([]byte, 1100) }, passkey.Malformed},
		"RSA as ES256":      {passkeytest.RS256, func(k map[int]any) { k[3] = passkeytest.ES256 }, passkey.BadAlgorithm},
		"Ed25519 cut short": {passkeytest.EdDSA, func(k map[int]any) { k[-2] = k[-2].([]byte)[:31] }, passkey.BadAlgorithm},
	} {
		t.Run(name, func(t *testing.T) {
			rp, p := party(t), newPerson("https://example.com")
			p.device.Algorithm, p.device.Tamper.PublicKey = c.algorithm, c.key
			if got, err := p.register(t, rp); passkey.ReasonOf(err) != c.want {
				t.Errorf("%+v %v, want %s", got, err, c.want)
			}
		})
	}
}

func TestAnswersAreBounded(t *testing.T) {
	big := []byte(`{"id":"` + strings.Repeat("A", passkey.MaxResponse) + `"}`)
	if _, err := passkey.ParseSignIn(big); passkey.ReasonOf(err) != passkey.Malformed {
		t.Error(err)
	}
	if _, err := passkey.ParseRegistration(big); passkey.ReasonOf(err) != passkey.Malformed {
		t.Error(err)
	}
	rp, p := party(t), newPerson("https://example.com")
	if _, err := p.register(t, rp); err != nil {
		t.Fatal(err)
	}
	p.device.Tamper.Choose = func(keys []*passkeytest.Key) *passkeytest.Key {
		k := *keys[0]
		k.ID = make([]byte, 1024)
		return &k
	}
	if _, err := p.signIn(t, rp, passkey.SignInOptions{}); passkey.ReasonOf(err) != passkey.Malformed {
		t.Errorf("an id of 1024 bytes: %v", err)
	}
}

func TestInventedTransportsAreDropped(t *testing.T) {
	rp, p := party(t), newPerson("https://example.com")
	p.device.Tamper.Response = func(m map[string]any) {
		m["response"].(map[string]any)["transports"] = []string{"usb", "usb", "<script>", strings.Repeat("x", 40), "cable", ""}
	}
	c, err := p.register(t, rp)
	if err != nil || strings.Join(c.Transports, " ") != "usb hybrid" && strings.Join(c.Transports, " ") != "usb cable" {
		t.Errorf("%v %v", c.Transports, err)
	}
}

func FuzzFinishSignIn(f *testing.F) {
	rp, p := party(f), newPerson("https://example.com")
	if _, err := p.register(f, rp); err != nil {
		f.Fatal(err)
	}
	options, ch, err := rp.BeginSignIn(passkey.SignInOptions{}, now)
	if err != nil {
		f.Fatal(err)
	}
	good, err := p.device.Get(options)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"id":"AA","rawId":"AA","type":"public-key","response":{"clientDataJSON":"e30","authenticatorData":"","signature":""}}`))
	f.Add([]byte(`[]`))
	want, err := passkey.ParseSignIn(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, response []byte) {
		a, err := passkey.ParseSignIn(response)
		if err != nil {
			if passkey.ReasonOf(err) != passkey.Malformed {
				t.Errorf("%v", err)
			}
			return
		}
		proof, err := rp.FinishSignIn(ch, a, p.credentials[0], p.Handle, now)
		if err == nil && (a.ChallengeID() != want.ChallengeID() || proof.Credential.SignCount != 2) {
			t.Errorf("accepted: %s", response)
		}
		if err != nil && passkey.ReasonOf(err) == "" {
			t.Errorf("an error without a reason: %v", err)
		}
	})
}

func FuzzFinishRegistration(f *testing.F) {
	rp := party(f)
	u := passkey.User{Handle: passkey.NewUserHandle(), Name: "ann"}
	options, ch, err := rp.BeginRegistration(u, nil, now)
	if err != nil {
		f.Fatal(err)
	}
	for _, algorithm := range []int{passkeytest.ES256, passkeytest.EdDSA, passkeytest.RS256} {
		device := passkeytest.New("https://example.com")
		device.Algorithm = algorithm
		good, err := device.Create(options)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(good)
	}
	f.Add([]byte(`{"id":"AA","rawId":"AA","type":"public-key","response":{"clientDataJSON":"e30","attestationObject":"oA"}}`))
	f.Fuzz(func(t *testing.T, response []byte) {
		a, err := passkey.ParseRegistration(response)
		if err != nil {
			if passkey.ReasonOf(err) != passkey.Malformed {
				t.Errorf("%v", err)
			}
			return
		}
		c, err := rp.FinishRegistration(ch, a, now)
		if err == nil && (len(c.ID) == 0 || len(c.ID) > 1023 || len(c.PublicKey) > 1024 || !c.UserVerified) {
			t.Errorf("accepted: %+v", c)
		}
		if err != nil && passkey.ReasonOf(err) == "" {
			t.Errorf("an error without a reason: %v", err)
		}
	})
}

// FuzzAttestationObject goes past JSON and base64 to the CBOR inside.
func FuzzAttestationObject(f *testing.F) {
	rp := party(f)
	options, ch, err := rp.BeginRegistration(passkey.User{Handle: passkey.NewUserHandle(), Name: "ann"}, nil, now)
	if err != nil {
		f.Fatal(err)
	}
	client := `{"type":"webauthn.create","challenge":"` + ch.Challenge + `","origin":"https://example.com"}`
	for _, algorithm := range []int{passkeytest.ES256, passkeytest.EdDSA, passkeytest.RS256} {
		device := passkeytest.New("https://example.com")
		device.Algorithm = algorithm
		device.Tamper.Response = func(m map[string]any) {
			id, err1 := base64.RawURLEncoding.DecodeString(m["id"].(string))
			object, err2 := base64.RawURLEncoding.DecodeString(m["response"].(map[string]any)["attestationObject"].(string))
			if err1 != nil || err2 != nil {
				f.Fatal(err1, err2)
			}
			f.Add(id, object)
		}
		if _, err := device.Create(options); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, id, object []byte) {
		text := base64.RawURLEncoding.EncodeToString
		a, err := passkey.ParseRegistration([]byte(`{"id":"` + text(id) + `","rawId":"` + text(id) + `","type":"public-key","response":{"clientDataJSON":"` +
			text([]byte(client)) + `","attestationObject":"` + text(object) + `"}}`))
		if err != nil {
			if passkey.ReasonOf(err) != passkey.Malformed {
				t.Errorf("%v", err)
			}
			return
		}
		c, err := rp.FinishRegistration(ch, a, now)
		if err != nil {
			if passkey.ReasonOf(err) == "" {
				t.Errorf("an error without a reason: %v", err)
			}
			return
		}
		if string(c.ID) != string(id) || len(c.PublicKey) == 0 || len(c.PublicKey) > 1024 || !c.UserVerified {
			t.Errorf("accepted: %+v", c)
		}
	})
}
