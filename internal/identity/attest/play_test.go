package attest_test

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"landline/internal/config"
	"landline/internal/identity/attest"
	"landline/internal/identity/attest/attesttest"
)

func (w *world) verifyPlay(token string, data []byte) (attest.Verdict, error) {
	r, err := w.verifier.Verify(attest.Evidence{Kind: attest.PlayIntegrity, Token: token, ClientData: data}, w.want, now)
	return r.Verdict, err
}

func TestPlayVerdict(t *testing.T) {
	w := newWorld(t)
	data := w.clientData(t, attest.Attest)
	v, err := w.verifyPlay(w.play.Token(w.play.Payload(data, now)), data)
	if err != nil {
		t.Fatal(err)
	}
	want := attest.Signals{
		App: pkg, VersionCode: 42, Device: []string{"MEETS_BASIC_INTEGRITY", "MEETS_DEVICE_INTEGRITY", "MEETS_STRONG_INTEGRITY"}, Recognition: "PLAY_RECOGNIZED",
		Licensing: "LICENSED", Activity: "LEVEL_1", PlayProtect: "NO_ISSUES", AccessRisk: []string{"KNOWN_INSTALLED"}, OSVersion: 35,
	}
	if got, expected := string(must(json.Marshal(v.Signals))), string(must(json.Marshal(want))); got != expected || v.Level != attest.LevelHardware || len(v.Reasons) != 0 {
		t.Errorf("got  %s %s %v\nwant %s", got, v.Level, v.Reasons, expected)
	}
}

func set(path string, value any) func(map[string]any) {
	return func(p map[string]any) {
		section, member, _ := strings.Cut(path, ".")
		if value == nil {
			delete(p[section].(map[string]any), member)
			return
		}
		p[section].(map[string]any)[member] = value
	}
}

func drop(section string) func(map[string]any) {
	return func(p map[string]any) { delete(p, section) }
}

// What a genuine token says lowers the level.
func TestPlayLevels(t *testing.T) {
	w := newWorld(t, func(w *world) { w.config.Play.MinVersionCode = 40 })
	for name, c := range map[string]struct {
		change  func(map[string]any)
		level   attest.Level
		reasons []attest.Reason
	}{
		"certified":             {set("deviceIntegrity.deviceRecognitionVerdict", []string{"MEETS_DEVICE_INTEGRITY"}), attest.LevelApp, []attest.Reason{attest.HardwareUnproven}},
		"basic":                 {set("deviceIntegrity.deviceRecognitionVerdict", []string{"MEETS_BASIC_INTEGRITY"}), attest.LevelNone, []attest.Reason{attest.DeviceUntrusted}},
		"virtual":               {set("deviceIntegrity.deviceRecognitionVerdict", []string{"MEETS_VIRTUAL_INTEGRITY"}), attest.LevelNone, []attest.Reason{attest.DeviceUntrusted}},
		"strong without device": {set("deviceIntegrity.deviceRecognitionVerdict", []string{"MEETS_STRONG_INTEGRITY"}), attest.LevelNone, []attest.Reason{attest.DeviceUntrusted}},
		"a longer label":        {set("deviceIntegrity.deviceRecognitionVerdict", []string{"X_MEETS_DEVICE_INTEGRITY", "MEETS_STRONG_INTEGRITY"}), attest.LevelNone, []attest.Reason{attest.DeviceUntrusted}},
		"no labels":             {set("deviceIntegrity.deviceRecognitionVerdict", []string{}), attest.LevelNone, []attest.Reason{attest.DeviceUntrusted}},
		"no device":             {drop("deviceIntegrity"), attest.LevelNone, []attest.Reason{attest.DeviceUntrusted}},
		"unrecognised":          {set("appIntegrity.appRecognitionVerdict", "UNRECOGNIZED_VERSION"), attest.LevelNone, []attest.Reason{attest.AppUnrecognized}},
		"unevaluated":           {func(p map[string]any) { p["appIntegrity"] = map[string]any{"appRecognitionVerdict": "UNEVALUATED"} }, attest.LevelNone, []attest.Reason{attest.AppUnrecognized, attest.AppUnknown, attest.CertificateUnknown, attest.VersionTooOld}},
		"no app":                {drop("appIntegrity"), attest.LevelNone, []attest.Reason{attest.AppUnrecognized, attest.AppUnknown, attest.CertificateUnknown, attest.VersionTooOld}},
		"another app":           {set("appIntegrity.packageName", "com.example.evil"), attest.LevelNone, []attest.Reason{attest.AppUnknown}},
		"another certificate":   {set("appIntegrity.certificateSha256Digest", []string{base64.RawURLEncoding.EncodeToString(make([]byte, 32))}), attest.LevelNone, []attest.Reason{attest.CertificateUnknown}},
		"one more certificate":  {set("appIntegrity.certificateSha256Digest", []string{base64.RawURLEncoding.EncodeToString(w.play.Certificate[:]), "AA"}), attest.LevelNone, []attest.Reason{attest.CertificateUnknown}},
		"no certificate":        {set("appIntegrity.certificateSha256Digest", nil), attest.LevelNone, []attest.Reason{attest.CertificateUnknown}},
		"an old version":        {set("appIntegrity.versionCode", "39"), attest.LevelNone, []attest.Reason{attest.VersionTooOld}},
		"a number as version":   {set("appIntegrity.versionCode", 40), attest.LevelHardware, nil},
		"no account":            {drop("accountDetails"), attest.LevelHardware, nil},
		"unlicensed":            {set("accountDetails.appLicensingVerdict", "UNLICENSED"), attest.LevelHardware, nil},
		"no environment":        {drop("environmentDetails"), attest.LevelHardware, nil},
	} {
		data := w.clientData(t, attest.Attest)
		payload := w.play.Payload(data, now)
		c.change(payload)
		v, err := w.verifyPlay(w.play.Token(payload), data)
		if err != nil || v.Level != c.level || !slices.Equal(v.Reasons, c.reasons) {
			t.Errorf("%s: %s %v, %v; want %s %v", name, v.Level, v.Reasons, err, c.level, c.reasons)
		}
	}
}

// Signals are bounded and clean whatever the token says.
func TestPlaySignalsAreBounded(t *testing.T) {
	w := newWorld(t)
	data := w.clientData(t, attest.Attest)
	payload := w.play.Payload(data, now)
	long := strings.Repeat("<script>\n", 10)
	set("deviceIntegrity.deviceRecognitionVerdict", slices.Repeat([]string{long, ""}, 20))(payload)
	set("accountDetails.appLicensingVerdict", long)(payload)
	v, err := w.verifyPlay(w.play.Token(payload), data)
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Signals.Device) > 16 || len(v.Signals.Licensing) > 64 || strings.ContainsAny(v.Signals.Licensing+strings.Join(v.Signals.Device, ""), "<>\n") {
		t.Errorf("%+v", v.Signals)
	}
}

// Each token is wrong in one thing, and no token: all must be refused.
func TestPlayMutations(t *testing.T) {
	w := newWorld(t)
	data := w.clientData(t, attest.Attest)
	good := w.play.Token(w.play.Payload(data, now))
	count := 0
	for name, c := range map[string]struct {
		field  string
		change func(map[string]any)
	}{
		"no request":          {"request_package", drop("requestDetails")},
		"another app":         {"request_package", set("requestDetails.requestPackageName", "com.example.evil")},
		"no app":              {"request_package", set("requestDetails.requestPackageName", nil)},
		"another nonce":       {"nonce", set("requestDetails.nonce", base64.RawURLEncoding.EncodeToString(make([]byte, 32)))},
		"no nonce":            {"nonce", set("requestDetails.nonce", nil)},
		"both":                {"nonce", set("requestDetails.requestHash", "x")},
		"no time":             {"timestamp", set("requestDetails.timestampMillis", nil)},
		"stale":               {"timestamp", set("requestDetails.timestampMillis", now.Add(-5*time.Minute-time.Millisecond).UnixMilli())},
		"from the future":     {"timestamp", set("requestDetails.timestampMillis", now.Add(61*time.Second).UnixMilli())},
		"time a word":         {"payload", set("requestDetails.timestampMillis", "today")},
		"labels a text":       {"payload", set("deviceIntegrity.deviceRecognitionVerdict", "MEETS_DEVICE_INTEGRITY")},
		"version overflowing": {"payload", set("appIntegrity.versionCode", "99999999999999999999")},
	} {
		payload := w.play.Payload(data, now)
		c.change(payload)
		if _, err := w.verifyPlay(w.play.Token(payload), data); refused(t, name, c.field, err) {
			count++
		}
	}
	otherKey := make([]byte, 32)
	plain := must(json.Marshal(w.play.Payload(data, now)))
	jws := attesttest.SignJWS(jose.ES256, w.play.Signing, plain)
	encrypt := func(inner string) string {
		return attesttest.Encrypt(w.play.Decryption, jose.A256KW, jose.A256GCM, "", []byte(inner))
	}
	head := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	for name, c := range map[string]struct{ field, token string }{
		"empty":                  {"token", ""},
		"dots":                   {"header", "...."},
		"many dots":              {"token", strings.Repeat(".", 1000)},
		"huge":                   {"token", strings.Repeat("a", attest.MaxPlayToken) + "...."},
		"not encrypted":          {"token", jws},
		"another key":            {"token", attesttest.Encrypt(otherKey, jose.A256KW, jose.A256GCM, "", []byte(jws))},
		"direct encryption":      {"header", attesttest.Encrypt(w.play.Decryption, jose.DIRECT, jose.A256GCM, "", []byte(jws))},
		"GCM key wrap":           {"header", attesttest.Encrypt(w.play.Decryption, jose.A256GCMKW, jose.A256GCM, "", []byte(jws))},
		"CBC":                    {"header", attesttest.Encrypt(w.play.Decryption, jose.A256KW, jose.A256CBC_HS512, "", []byte(jws))},
		"compressed":             {"header", attesttest.Encrypt(w.play.Decryption, jose.A256KW, jose.A256GCM, jose.DEFLATE, []byte(jws))},
		"empty encrypted key":    {"token", attesttest.Part(good, 1, "")},
		"short encrypted key":    {"token", attesttest.Part(good, 1, "AAAA")},
		"empty iv":               {"token", attesttest.Part(good, 2, "")},
		"empty ciphertext":       {"token", attesttest.Part(good, 3, "")},
		"empty tag":              {"token", attesttest.Part(good, 4, "")},
		"header no JSON":         {"header", attesttest.Part(good, 0, "AAAA")},
		"header with crit":       {"header", attesttest.Part(good, 0, head(`{"alg":"A256KW","enc":"A256GCM","crit":["x"],"x":1}`))},
		"header spaced":          {"token", attesttest.Part(good, 0, head(`{"alg":"A256KW", "enc":"A256GCM"}`))},
		"header twice":           {"header", attesttest.Part(good, 0, head(`{"alg":"A256KW","enc":"A256GCM","enc":"A256GCM"}`))},
		"nothing within":         {"token", encrypt("")},
		"plain JSON within":      {"token", encrypt(string(plain))},
		"JWE within":             {"token", encrypt(good)},
		"another signer":         {"signature", encrypt(attesttest.SignJWS(jose.ES256, attesttest.NewKey(), plain))},
		"HMAC with a public key": {"header", encrypt(attesttest.SignJWS(jose.HS256, must(base64.StdEncoding.DecodeString(w.config.Play.VerificationKey)), plain))},
		"alg none":               {"header", encrypt(head(`{"alg":"none"}`) + "." + head(string(plain)) + ".")},
		"no signature":           {"signature", encrypt(attesttest.Part(jws, 2, ""))},
		"other payload":          {"signature", encrypt(attesttest.Part(jws, 1, head(`{}`)))},
		"payload a list":         {"payload", w.play.Token(json.RawMessage(`[]`))},
		"payload empty":          {"payload", w.play.Token(json.RawMessage(``))},
		"payload twice":          {"payload", w.play.Token(json.RawMessage(`{"requestDetails":{},"requestDetails":{}}`))},
		"payload nested":         {"payload", w.play.Token(json.RawMessage(strings.Repeat(`[`, 4000)))},
		"payload null":           {"request_package", w.play.Token(json.RawMessage(`null`))},
	} {
		if _, err := w.verifyPlay(c.token, data); refused(t, name, c.field, err) {
			count++
		}
	}
	if _, err := w.verifyPlay(good, w.clientData(t, attest.Attest)); refused(t, "other client data", "nonce", err) {
		count++
	}
	for i := range good { // truncations, and every character changed
		for _, token := range []string{good[:i], good[:i] + other(good[i]) + good[i+1:]} {
			if _, err := w.verifyPlay(token, data); err == nil {
				t.Errorf("accepted with character %d changed or cut", i)
			} else {
				count++
			}
		}
	}
	t.Logf("%d wrong tokens refused", count)
	if want := 12 + 32 + 1 + 2*len(good); count != want {
		t.Errorf("%d refused, want %d", count, want)
	}
}

func other(c byte) string {
	if c == 'A' {
		return "B"
	}
	return "A"
}

// A nonce may come back padded, and a standard request has requestHash.
func TestPlayNonceForms(t *testing.T) {
	w := newWorld(t)
	data := w.clientData(t, attest.Attest)
	hash := base64.RawURLEncoding.EncodeToString(attest.ClientDataHash(data))
	for name, changes := range map[string][]func(map[string]any){
		"padded":       {set("requestDetails.nonce", hash+"=")},
		"request hash": {set("requestDetails.nonce", nil), set("requestDetails.requestHash", hash)},
	} {
		payload := w.play.Payload(data, now)
		for _, change := range changes {
			change(payload)
		}
		if _, err := w.verifyPlay(w.play.Token(payload), data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPlayKeysAreChecked(t *testing.T) {
	for name, change := range map[string]func(*attest.PlayConfig){
		"short key":   func(c *attest.PlayConfig) { c.DecryptionKey = "AAAA" },
		"no key":      func(c *attest.PlayConfig) { c.DecryptionKey = "" },
		"key no b64":  func(c *attest.PlayConfig) { c.DecryptionKey = config.Secret(strings.Repeat("?", 44)) },
		"no verifier": func(c *attest.PlayConfig) { c.VerificationKey = "" },
		"verifier":    func(c *attest.PlayConfig) { c.VerificationKey = "AAAA" },
		"digest":      func(c *attest.PlayConfig) { c.CertificateDigests = []string{"zz"} },
		"no digests":  func(c *attest.PlayConfig) { c.CertificateDigests = nil },
		"no max age":  func(c *attest.PlayConfig) { c.MaxAge = 0 },
	} {
		w := newWorld(t)
		change(&w.config.Play)
		if _, err := attest.New(w.config, w.options); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
