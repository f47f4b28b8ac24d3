package passkey_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"landline/internal/config"
	"landline/internal/identity/passkey"
)

// The dictionaries of WebAuthn Level 3 §5.1.8 and §5.1.9, which browsers and
// Android's Credential Manager read; decoding is strict, so that nothing else is sent.
type (
	descriptorJSON struct {
		ID         string   `json:"id"`
		Type       string   `json:"type"`
		Transports []string `json:"transports"`
	}
	creationJSON struct {
		RP struct {
			ID   string `json:"id"`
			Name string `json:"name"`
		} `json:"rp"`
		User struct {
			ID          string `json:"id"`
			Name        string `json:"name"`
			DisplayName string `json:"displayName"`
		} `json:"user"`
		Challenge string `json:"challenge"`
		Params    []struct {
			Type string `json:"type"`
			Alg  int    `json:"alg"`
		} `json:"pubKeyCredParams"`
		Timeout   uint32           `json:"timeout"`
		Exclude   []descriptorJSON `json:"excludeCredentials"`
		Selection struct {
			Attachment   string `json:"authenticatorAttachment"`
			ResidentKey  string `json:"residentKey"`
			Require      bool   `json:"requireResidentKey"`
			Verification string `json:"userVerification"`
		} `json:"authenticatorSelection"`
		Hints       []string                   `json:"hints"`
		Attestation string                     `json:"attestation"`
		Formats     []string                   `json:"attestationFormats"`
		Extensions  map[string]json.RawMessage `json:"extensions"`
	}
	requestJSON struct {
		Challenge    string                     `json:"challenge"`
		Timeout      uint32                     `json:"timeout"`
		RPID         string                     `json:"rpId"`
		Allow        []descriptorJSON           `json:"allowCredentials"`
		Verification string                     `json:"userVerification"`
		Hints        []string                   `json:"hints"`
		Extensions   map[string]json.RawMessage `json:"extensions"`
	}
)

func strict(t *testing.T, text []byte, into any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func decoded(t *testing.T, text string, size int) {
	t.Helper()
	if b, err := base64.RawURLEncoding.Strict().DecodeString(text); err != nil || len(b) != size {
		t.Errorf("%q is not base64url of %d bytes", text, size)
	}
}

func TestOptionsAreWhatBrowsersRead(t *testing.T) {
	rp, p := party(t), newPerson("https://example.com")
	if _, err := p.register(t, rp); err != nil {
		t.Fatal(err)
	}
	p.Name = strings.Repeat("ź", 40)
	options, ch, err := rp.BeginRegistration(p.User, p.credentials, now)
	if err != nil {
		t.Fatal(err)
	}
	var c creationJSON
	strict(t, options, &c)
	decoded(t, c.User.ID, passkey.HandleSize)
	decoded(t, c.Challenge, 32)
	if c.RP.ID != "example.com" || c.RP.Name != "Flights" || c.User.Name != strings.Repeat("ź", 32) || c.User.DisplayName == "" || c.Challenge != ch.Challenge {
		t.Errorf("%s", options)
	}
	if c.Timeout != 300_000 || c.Attestation != "none" || !c.Selection.Require || c.Selection.ResidentKey != "required" || c.Selection.Verification != "required" {
		t.Errorf("%s", options)
	}
	algorithms := map[int]bool{}
	for _, p := range c.Params {
		algorithms[p.Alg] = p.Type == "public-key"
	}
	if len(algorithms) != 3 || !algorithms[-7] || !algorithms[-8] || !algorithms[-257] {
		t.Errorf("algorithms: %v", algorithms)
	}
	if len(c.Exclude) != 1 || c.Exclude[0].Type != "public-key" || len(c.Exclude[0].Transports) != 2 {
		t.Errorf("excluded: %+v", c.Exclude)
	}

	options, _, err = rp.BeginSignIn(passkey.SignInOptions{}, now)
	if err != nil {
		t.Fatal(err)
	}
	var r requestJSON
	strict(t, options, &r)
	decoded(t, r.Challenge, 32)
	if r.RPID != "example.com" || r.Timeout != 300_000 || r.Verification != "required" || len(r.Allow) != 0 {
		t.Errorf("%s", options)
	}
	options, _, err = rp.BeginSignIn(passkey.SignInOptions{Handle: p.Handle, Credentials: p.credentials, SecondFactor: true}, now)
	if err != nil {
		t.Fatal(err)
	}
	strict(t, options, &r)
	if len(r.Allow) != 1 || r.Verification != "discouraged" {
		t.Errorf("%s", options)
	}
}

func TestAssociationsTieAppsAndDomains(t *testing.T) {
	docs := map[string]string{}
	for _, a := range party(t).Associations() {
		docs[a.Path] = string(a.Body)
	}
	for path, want := range map[string]string{
		"/.well-known/webauthn":                   `{"origins":["https://example.com","https://app.example.com","https://example.org"]}`,
		"/.well-known/apple-app-site-association": `{"webcredentials":{"apps":["A1B2C3D4E5.com.example.flights"]}}`,
		"/.well-known/assetlinks.json":            `[{"relation":["delegate_permission/common.handle_all_urls","delegate_permission/common.get_login_creds"],"target":{"namespace":"android_app","package_name":"com.example.flights","sha256_cert_fingerprints":["AB:CD:EF:12:34:56:78:90:AB:CD:EF:12:34:56:78:90:AB:CD:EF:12:34:56:78:90:AB:CD:EF:12:34:56:78:90"]}}]`,
	} {
		if docs[path] != want {
			t.Errorf("%s: %s", path, docs[path])
		}
	}
}

func TestConfiguration(t *testing.T) {
	for name, c := range map[string]struct{ yaml, fault string }{
		"none":             {"{}", ""},
		"all":              {`{rp_id: example.com, name: F, origins: ["https://a.example.com", "http://localhost:3000", "` + android + `"], apple_apps: [A1B2C3D4E5.com.x], android_apps: [{package: com.x, certificates: ["` + strings.Repeat("ab", 32) + `"]}]}`, ""},
		"localhost":        {"{rp_id: localhost}", ""},
		"no id":            {"{name: F}", "rp_id"},
		"scheme":           {`{rp_id: "https://example.com"}`, "not a domain"},
		"port":             {`{rp_id: "example.com:8080"}`, "not a domain"},
		"capitals":         {"{rp_id: Example.com}", "lower case"},
		"address":          {"{rp_id: 127.0.0.1}", "not a domain"},
		"one label":        {"{rp_id: com}", "registrable"},
		"http origin":      {`{rp_id: example.com, origins: ["http://example.com"]}`, "not https"},
		"origin with path": {`{rp_id: example.com, origins: ["https://example.com/"]}`, "not an origin"},
		"short android":    {`{rp_id: example.com, origins: ["android:apk-key-hash:AAAA"]}`, "base64url"},
		"bad team":         {"{rp_id: example.com, apple_apps: [com.example.flights]}", "team id"},
		"no fingerprint":   {"{rp_id: example.com, android_apps: [{package: com.x, certificates: [abcd]}]}", "fingerprint"},
		"too many domains": {`{rp_id: example.com, origins: ["https://a1.net","https://a2.net","https://a3.net","https://a4.net","https://a5.net"]}`, "distinct"},
	} {
		t.Run(name, func(t *testing.T) {
			var cfg passkey.Config
			err := config.LoadBytes("landline.yaml", []byte("passkey: "+c.yaml), []config.Section{{Key: "passkey", Ptr: &cfg, Doc: "…"}}, config.SystemEnv())
			if c.fault == "" {
				if err != nil {
					t.Fatal(err)
				}
				if cfg.Enabled() {
					if _, err := passkey.New(cfg); err != nil {
						t.Error(err)
					}
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.fault) {
				t.Errorf("%v, want a fault about %q", err, c.fault)
			}
		})
	}
}

// Pages of another origin than those configured could not use the passkeys.
func TestServes(t *testing.T) {
	rp, err := passkey.New(passkey.Config{RPID: "example.com", Origins: []string{"https://api.example.com", "http://localhost:8080", "android:apk-key-hash:" + strings.Repeat("A", 43)}})
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{
		"https://example.com": true, "https://api.example.com": true, "https://api.example.com/base": true, "http://localhost:8080": true,
		"http://api.example.com": false, "https://api.example.com:8443": false, "https://evil.example.com": false, "https://api.example.com.evil.example": false, "http://localhost": false, "": false, "::": false,
	} {
		if got := rp.Serves(address); got != want {
			t.Errorf("%q: %v", address, got)
		}
	}
}
