package attest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"landline/internal/identity/attest"
	"landline/internal/identity/attest/attesttest"
)

func TestAppleAttestation(t *testing.T) {
	w := newWorld(t)
	data := w.clientData(t, attest.Attest)
	key, id, object := w.apple.Attest(app, data)
	r, err := w.verifier.Verify(attest.Evidence{Kind: attest.AppAttest, KeyID: id, Object: object, ClientData: data}, w.want, now)
	if err != nil {
		t.Fatal(err)
	}
	if v := r.Verdict; v.Level != attest.LevelHardware || v.Environment != attest.Production || v.Signals.App != app || v.KeyThumbprint != attesttest.Thumbprint(&key.PublicKey) || !v.At.Equal(now) {
		t.Errorf("verdict %+v", v)
	}
	if k := r.Apple; k.KeyID != id || k.Counter != 0 || string(k.Receipt) != "receipt" || k.App != app || !bytes.Equal(k.PublicKey, attesttest.Point(&key.PublicKey)) {
		t.Errorf("key %+v", k)
	}
	if r.Challenge.ID == "" || !r.Challenge.Expires.After(now) {
		t.Errorf("challenge %+v", r.Challenge)
	}
	stored, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back attest.Result
	if err := json.Unmarshal(stored, &back); err != nil || back.Verdict.Level != attest.LevelHardware || !bytes.Equal(back.Apple.PublicKey, r.Apple.PublicKey) {
		t.Errorf("stored and read back: %+v, %v", back, err)
	}
}

// Every field of an attestation, wrong: each must be refused for its own reason.
func TestAppleAttestationMutations(t *testing.T) {
	w := newWorld(t)
	other := attesttest.NewApple(now)
	cases := map[string]struct {
		field  string
		change func(*attesttest.Attestation)
	}{
		"format":               {"fmt", func(p *attesttest.Attestation) { p.Format = "packed" }},
		"no format":            {"fmt", func(p *attesttest.Attestation) { p.Format = "" }},
		"app":                  {"rp_id_hash", func(p *attesttest.Attestation) { p.App = team + ".com.example.evil" }},
		"team":                 {"rp_id_hash", func(p *attesttest.Attestation) { p.App = "Z1B2C3D4E5." + bundle }},
		"flags":                {"flags", func(p *attesttest.Attestation) { p.Flags = 0 }},
		"counter":              {"counter", func(p *attesttest.Attestation) { p.Counter = 1 }},
		"aaguid":               {"aaguid", func(p *attesttest.Attestation) { p.AAGUID = "appattestunknown" }},
		"development":          {"aaguid", func(p *attesttest.Attestation) { p.AAGUID = attesttest.DevelopmentAAGUID }},
		"credential id":        {"credential_id", func(p *attesttest.Attestation) { p.CredentialID = bytes.Repeat([]byte{1}, 32) }},
		"credential id short":  {"credential_id", func(p *attesttest.Attestation) { p.CredentialID = p.CredentialID[:31] }},
		"credential id long":   {"credential_id", func(p *attesttest.Attestation) { p.CredentialID = append(p.CredentialID, 0) }},
		"COSE type":            {"credential_key", cose(1, 3)},
		"COSE algorithm":       {"credential_key", cose(3, -8)},
		"COSE curve":           {"credential_key", cose(-1, 2)},
		"COSE x":               {"credential_key", cose(-2, bytes.Repeat([]byte{7}, 32))},
		"COSE y":               {"credential_key", cose(-3, bytes.Repeat([]byte{7}, 32))},
		"COSE x and y shifted": {"credential_key", cose(-2, []byte{})},
		"COSE text":            {"credential_key", func(p *attesttest.Attestation) { p.COSE = "key" }},
		"COSE trailing":        {"credential_key", func(p *attesttest.Attestation) { p.Extra = []byte{0} }},
		"nonce":                {"nonce", func(p *attesttest.Attestation) { p.Nonce = bytes.Repeat([]byte{1}, 32) }},
		"nonce short":          {"nonce", func(p *attesttest.Attestation) { p.Nonce = []byte{1} }},
		"no nonce":             {"nonce", func(p *attesttest.Attestation) { p.Extensions = []pkix.Extension{} }},
		"nonce of another oid": {"nonce", func(p *attesttest.Attestation) {
			p.Extensions = []pkix.Extension{{Id: []int{1, 2, 840, 113635, 100, 8, 3}, Value: attesttest.AppleNonce(p.Nonce)}}
		}},
		"nonce no DER":        {"nonce", func(p *attesttest.Attestation) { p.Extensions = nonceValue([]byte{1, 2, 3}) }},
		"nonce untagged":      {"nonce", func(p *attesttest.Attestation) { p.Extensions = nonceValue([]byte{0x30, 2, 4, 0}) }},
		"empty auth data":     {"auth_data", func(p *attesttest.Attestation) { p.AuthData = []byte{} }},
		"short auth data":     {"auth_data", func(p *attesttest.Attestation) { p.AuthData = make([]byte, 86) }},
		"long auth data":      {"auth_data", func(p *attesttest.Attestation) { p.AuthData = make([]byte, 2000) }},
		"another root":        {"x5c", func(p *attesttest.Attestation) { p.Issuer = other.Intermediate }},
		"no certificates":     {"x5c", func(p *attesttest.Attestation) { p.Chain = [][]byte{} }},
		"one certificate":     {"x5c", func(p *attesttest.Attestation) { p.Chain = [][]byte{w.apple.Root.Certificate.Raw} }},
		"five certificates":   {"x5c", func(p *attesttest.Attestation) { p.Chain = slices.Repeat([][]byte{w.apple.Root.Certificate.Raw}, 5) }},
		"garbage certificate": {"x5c", func(p *attesttest.Attestation) { p.Chain = [][]byte{{1}, {2}} }},
		"expired":             {"x5c", func(p *attesttest.Attestation) { p.Certificate.NotAfter = now.Add(-time.Second) }},
		"not yet valid":       {"x5c", func(p *attesttest.Attestation) { p.Certificate.NotBefore = now.Add(time.Second) }},
		"critical extension": {"x5c", func(p *attesttest.Attestation) {
			p.Extensions = []pkix.Extension{{Id: []int{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		}},
		"no receipt":   {"receipt", func(p *attesttest.Attestation) { p.Receipt = []byte{} }},
		"receipt huge": {"receipt", func(p *attesttest.Attestation) { p.Receipt = make([]byte, attest.MaxReceipt+1) }},
		"leaf that is a root": {"nonce", func(p *attesttest.Attestation) {
			p.Chain = [][]byte{w.apple.Intermediate.Certificate.Raw, w.apple.Root.Certificate.Raw}
		}},
		"P-384 key": {"x5c", func(p *attesttest.Attestation) { p.Key = must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) }},
	}
	count := 0
	for name, c := range cases {
		data := w.clientData(t, attest.Attest)
		_, id, object := w.apple.Attest(app, data, c.change)
		_, err := w.verifier.Verify(attest.Evidence{Kind: attest.AppAttest, KeyID: id, Object: object, ClientData: data}, w.want, now)
		if refused(t, name, c.field, err) {
			count++
		}
	}
	data := w.clientData(t, attest.Attest)
	_, id, object := w.apple.Attest(app, data)
	for name, c := range map[string]struct {
		field string
		e     attest.Evidence
	}{
		"key id of another":  {"key_id", attest.Evidence{KeyID: base64.StdEncoding.EncodeToString(make([]byte, 32)), Object: object, ClientData: data}},
		"key id short":       {"key_id", attest.Evidence{KeyID: "AAAA", Object: object, ClientData: data}},
		"key id not base64":  {"key_id", attest.Evidence{KeyID: "???", Object: object, ClientData: data}},
		"no object":          {"object", attest.Evidence{KeyID: id, ClientData: data}},
		"huge object":        {"object", attest.Evidence{KeyID: id, Object: make([]byte, attest.MaxAttestation+1), ClientData: data}},
		"trailing bytes":     {"object", attest.Evidence{KeyID: id, Object: append(slices.Clone(object), 0), ClientData: data}},
		"other client data":  {"nonce", attest.Evidence{KeyID: id, Object: object, ClientData: w.clientData(t, attest.Attest)}},
		"client data spaced": {"nonce", attest.Evidence{KeyID: id, Object: object, ClientData: append(slices.Clone(data), ' ')}},
		"deeply nested":      {"object", attest.Evidence{KeyID: id, Object: bytes.Repeat([]byte{0x81}, 5000), ClientData: data}},
		"indefinite length":  {"object", attest.Evidence{KeyID: id, Object: append([]byte{0xbf}, object[1:]...), ClientData: data}},
		"tagged":             {"object", attest.Evidence{KeyID: id, Object: append([]byte{0xd9, 0xd9, 0xf7}, object...), ClientData: data}},
		"a list":             {"object", attest.Evidence{KeyID: id, Object: must(cbor.Marshal([]int{1})), ClientData: data}},
		"null":               {"fmt", attest.Evidence{KeyID: id, Object: []byte{0xf6}, ClientData: data}},
		"huge array claimed": {"object", attest.Evidence{KeyID: id, Object: []byte{0xa1, 0x67, 'a', 't', 't', 'S', 't', 'm', 't', 0xa1, 0x63, 'x', '5', 'c', 0x9b, 0, 0, 0, 1, 0, 0, 0, 0}, ClientData: data}},
		"key twice":          {"object", attest.Evidence{KeyID: id, Object: append([]byte{0xa4, 0x63, 'f', 'm', 't', 0x60}, object[1:]...), ClientData: data}},
	} {
		c.e.Kind = attest.AppAttest
		_, err := w.verifier.Verify(c.e, w.want, now)
		if refused(t, name, c.field, err) {
			count++
		}
	}
	for i := range object { // every prefix
		if _, err := w.verifier.Verify(attest.Evidence{Kind: attest.AppAttest, KeyID: id, Object: object[:i], ClientData: data}, w.want, now); refused(t, "truncated", "object", err) {
			count++
		}
	}
	t.Logf("%d wrong attestations refused", count)
	if want := len(cases) + 15 + len(object); count != want {
		t.Errorf("%d wrong attestations refused, want %d", count, want)
	}
}

func cose(key int, value any) func(*attesttest.Attestation) {
	return func(p *attesttest.Attestation) { p.COSE.(map[int]any)[key] = value }
}

func nonceValue(der []byte) []pkix.Extension {
	return []pkix.Extension{{Id: []int{1, 2, 840, 113635, 100, 8, 2}, Value: der}}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A byte changed anywhere is noticed, but for the receipt, which only Apple reads.
func TestAppleAttestationBitFlips(t *testing.T) {
	w := newWorld(t)
	data := w.clientData(t, attest.Attest)
	_, id, object := w.apple.Attest(app, data, func(p *attesttest.Attestation) { p.Receipt = []byte("r") })
	receipt := bytes.Index(object, []byte("receipt\x41r")) + len("receipt\x41")
	for i := range object {
		changed := slices.Clone(object)
		changed[i] ^= 1
		if r, err := w.verifier.Verify(attest.Evidence{Kind: attest.AppAttest, KeyID: id, Object: changed, ClientData: data}, w.want, now); (err == nil) != (i == receipt) {
			t.Errorf("byte %d of %d may change: %+v", i, len(object), r.Verdict)
		}
	}
}

func TestAppleEnvironments(t *testing.T) {
	for environment, want := range map[attest.AppleEnvironment][2]bool{
		"": {true, false}, attest.AppleProduction: {true, false}, attest.AppleDevelopment: {false, true}, attest.AppleBoth: {true, true},
	} {
		w := newWorld(t, func(w *world) { w.config.Apple.Environment = environment })
		for i, aaguid := range []string{attesttest.ProductionAAGUID, attesttest.DevelopmentAAGUID} {
			data := w.clientData(t, attest.Attest)
			_, id, object := w.apple.Attest(app, data, func(p *attesttest.Attestation) { p.AAGUID = aaguid })
			r, err := w.verifier.Verify(attest.Evidence{Kind: attest.AppAttest, KeyID: id, Object: object, ClientData: data}, w.want, now)
			if (err == nil) != want[i] {
				t.Errorf("%q, %q: %v", environment, aaguid, err)
			}
			if err == nil && r.Verdict.Environment != []attest.Environment{attest.Production, attest.Development}[i] {
				t.Errorf("%q: %+v", environment, r.Verdict)
			}
		}
	}
}

func TestAppleAssertions(t *testing.T) {
	w := newWorld(t)
	data := w.clientData(t, attest.Attest)
	private, id, object := w.apple.Attest(app, data)
	r, err := w.verifier.Verify(attest.Evidence{Kind: attest.AppAttest, KeyID: id, Object: object, ClientData: data}, w.want, now)
	if err != nil {
		t.Fatal(err)
	}
	key := *r.Apple
	for _, counter := range []uint32{1, 2, 7, 1 << 31, 1<<32 - 1} {
		data := w.clientData(t, attest.Assert)
		r, err := w.verifier.VerifyAssertion(key, attest.Evidence{Kind: attest.AppAttest, Object: attesttest.Assert(private, app, counter, data), ClientData: data}, w.want, now)
		if err != nil {
			t.Fatalf("counter %d: %v", counter, err)
		}
		if r.Apple.Counter != counter || r.Verdict.Level != attest.LevelHardware || r.Challenge.ID == "" {
			t.Errorf("counter %d: %+v", counter, r)
		}
		key = *r.Apple
	}
	key.Counter = 5
	wrong := 0
	try := func(name, field string, key attest.AppleKey, e attest.Evidence, want attest.Expected) {
		e.Kind = attest.AppAttest
		if _, err := w.verifier.VerifyAssertion(key, e, want, now); refused(t, name, field, err) {
			wrong++
		}
	}
	data = w.clientData(t, attest.Assert)
	good := attesttest.Assert(private, app, 6, data)
	make1 := func(change func(*attesttest.Assertion)) []byte {
		return attesttest.Assert(private, app, 6, data, change)
	}
	for name, c := range map[string]struct {
		field  string
		object []byte
	}{
		"same counter":      {"counter", attesttest.Assert(private, app, 5, data)},
		"lower counter":     {"counter", attesttest.Assert(private, app, 0, data)},
		"another key":       {"signature", attesttest.Assert(attesttest.NewKey(), app, 6, data)},
		"other client data": {"signature", attesttest.Assert(private, app, 6, w.clientData(t, attest.Assert))},
		"another app":       {"rp_id_hash", make1(func(p *attesttest.Assertion) { p.App = team + ".com.example.other" })},
		"unknown app":       {"rp_id_hash", make1(func(p *attesttest.Assertion) { p.App = "x" })},
		"no signature":      {"signature", make1(func(p *attesttest.Assertion) { p.Signature = []byte{} })},
		"short auth data":   {"auth_data", make1(func(p *attesttest.Assertion) { p.AuthData = make([]byte, 36) })},
		"long auth data":    {"auth_data", make1(func(p *attesttest.Assertion) { p.AuthData = make([]byte, 1025) })},
		"trailing":          {"object", append(slices.Clone(good), 0)},
		"nested":            {"object", bytes.Repeat([]byte{0x81}, 1000)},
		"huge":              {"object", make([]byte, attest.MaxAssertion+1)},
	} {
		try(name, c.field, key, attest.Evidence{Object: c.object, ClientData: data}, w.want)
	}
	for i := range good {
		try("truncated", "object", key, attest.Evidence{Object: good[:i], ClientData: data}, w.want)
	}
	broken, dev := key, key
	broken.PublicKey, dev.Environment = bytes.Repeat([]byte{4}, 65), attest.Development
	try("a stored key off its curve", "key", broken, attest.Evidence{Object: good, ClientData: data}, w.want)
	try("a key of development", "aaguid", dev, attest.Evidence{Object: good, ClientData: data}, w.want)
	attestData := w.clientData(t, attest.Attest)
	try("a challenge for attesting", "challenge", key, attest.Evidence{Object: attesttest.Assert(private, app, 6, attestData), ClientData: attestData}, w.want)
	try("another installation's challenge", "challenge", key, attest.Evidence{Object: good, ClientData: data}, attest.Expected{Subject: "ins_2", Thumbprint: jkt})
	try("another installation's key", "jkt", key, attest.Evidence{Object: good, ClientData: data}, attest.Expected{Subject: subject, Thumbprint: "other"})
	if _, err := w.verifier.VerifyAssertion(key, attest.Evidence{Kind: attest.Fake, Object: good, ClientData: data}, w.want, now); err != attest.ErrUnsupported {
		t.Errorf("a fake assertion: %v", err)
	}
	t.Logf("%d wrong assertions refused", wrong)
	for i := range good {
		changed := slices.Clone(good)
		changed[i] ^= 1
		if _, err := w.verifier.VerifyAssertion(key, attest.Evidence{Kind: attest.AppAttest, Object: changed, ClientData: data}, w.want, now); err == nil {
			t.Errorf("byte %d may change", i)
		}
	}
}

// What a phone made and Apple signed.
func TestAppleRealDevice(t *testing.T) {
	var file struct {
		TeamID       string `json:"team_id"`
		BundleID     string `json:"bundle_id"`
		Attestations []struct {
			Environment       attest.Environment
			KeyID             string `json:"key_id"`
			Challenge, Object []byte
		}
		Assertion struct {
			Object     []byte
			PublicKey  []byte `json:"public_key"`
			ClientData string `json:"client_data"`
		}
	}
	if err := json.Unmarshal(must(os.ReadFile("testdata/apple.json")), &file); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2024, 2, 7, 22, 0, 0, 0, time.UTC)
	for _, a := range file.Attestations {
		sum := sha256.Sum256(a.Challenge)
		key, err := attest.AppleAttest(file.TeamID, file.BundleID, a.KeyID, a.Object, sum[:], at)
		if err != nil {
			t.Fatalf("%s: %v", a.Environment, err)
		}
		if key.Environment != a.Environment || key.App != file.TeamID+"."+file.BundleID || len(key.Receipt) < 3000 || key.KeyID != a.KeyID {
			t.Errorf("%+v", key)
		}
		if _, err := attest.AppleAttest(file.TeamID, file.BundleID, a.KeyID, a.Object, sum[:], now); err == nil || !strings.Contains(err.Error(), "not valid now") {
			t.Errorf("two years later: %v", err)
		}
	}
	public := must(x509.ParsePKIXPublicKey(file.Assertion.PublicKey)).(*ecdsa.PublicKey)
	key := attest.AppleKey{PublicKey: attesttest.Point(public), Environment: attest.Production}
	sum := sha256.Sum256([]byte(file.Assertion.ClientData))
	if key, err := attest.AppleAssert(file.TeamID, file.BundleID, key, file.Assertion.Object, sum[:]); err != nil || key.Counter != 1 {
		t.Errorf("%+v, %v", key, err)
	}
}
