package attest

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"os"
	"strings"
	"testing"
	"time"
)

func read(f *testing.F, name string) []byte {
	f.Helper()
	raw, err := os.ReadFile("testdata/" + name)
	if err != nil {
		f.Fatal(err)
	}
	return raw
}

type appleFile struct {
	TeamID       string `json:"team_id"`
	BundleID     string `json:"bundle_id"`
	Attestations []struct {
		KeyID  string `json:"key_id"`
		Object []byte
	}
	Assertion struct{ Object []byte }
}

func readApple(f *testing.F) (file appleFile) {
	f.Helper()
	if err := json.Unmarshal(read(f, "apple.json"), &file); err != nil {
		f.Fatal(err)
	}
	return file
}

var hash = bytes.Repeat([]byte{1}, 32)

// FuzzAttestationObject: what Apple did not sign is never accepted, and refused with a field.
func FuzzAttestationObject(f *testing.F) {
	file := readApple(f)
	for _, a := range file.Attestations {
		f.Add(a.KeyID, a.Object)
		f.Add(a.KeyID, a.Object[:len(a.Object)/2])
	}
	f.Add("", bytes.Repeat([]byte{0x81}, 1000))
	f.Add("", []byte{0xa1, 0x67, 'a', 't', 't', 'S', 't', 'm', 't', 0xa1, 0x63, 'x', '5', 'c', 0x9b, 0, 0, 0, 1, 0, 0, 0, 0})
	a := realApple(file.TeamID, file.BundleID)
	now := time.Date(2024, 2, 7, 22, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, keyID string, object []byte) {
		k, err := a.attest(keyID, object, hash, now)
		if e, ok := err.(*Error); !ok || e.Kind != AppAttest || e.Field == "" {
			t.Errorf("%+v, %v", k, err)
		}
	})
}

// FuzzCredential drives the authenticator data alone, which signatures else protect.
func FuzzCredential(f *testing.F) {
	file := readApple(f)
	for _, at := range file.Attestations {
		var o attestationObject
		if err := cborMode.Unmarshal(at.Object, &o); err != nil {
			f.Fatal(err)
		}
		f.Add(o.AuthData)
	}
	a := realApple(file.TeamID, file.BundleID)
	f.Fuzz(func(t *testing.T, authData []byte) {
		if len(authData) < 87 {
			return
		}
		k := &AppleKey{PublicKey: append([]byte{4}, make([]byte, 64)...)}
		if err := a.credential(k, authData, authData[55:87]); err == nil {
			if k.App == "" || k.Environment == "" || !bytes.Contains(authData, make([]byte, 32)) {
				t.Errorf("accepted as %+v", k)
			}
		}
	})
}

// FuzzAssertion: what the key did not sign is never accepted.
func FuzzAssertion(f *testing.F) {
	file := readApple(f)
	f.Add(file.Assertion.Object)
	f.Add(file.Assertion.Object[:40])
	f.Add(bytes.Repeat([]byte{0xa1}, 500))
	a := realApple(file.TeamID, file.BundleID)
	k := AppleKey{PublicKey: pointOf(f), Environment: Production}
	f.Fuzz(func(t *testing.T, object []byte) {
		got, err := a.assert(k, object, hash)
		if e, ok := err.(*Error); !ok || e.Kind != AppAttest || got.Counter != 0 {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// pointOf is some point on P-256: that of a made chain.
func pointOf(f *testing.F) []byte {
	f.Helper()
	block, _ := pem.Decode(read(f, "android_key_chain.pem"))
	i := bytes.Index(block.Bytes, []byte{0x03, 0x42, 0x00, 0x04})
	return block.Bytes[i+3 : i+3+65]
}

// FuzzIntegrityToken: what Google did not encrypt and sign is never accepted.
func FuzzIntegrityToken(f *testing.F) {
	p := &play{pkg: "com.example.flights", decryption: hash, maxAge: time.Minute}
	for _, s := range []string{
		"", "....", "eyJhbGciOiJBMjU2S1ciLCJlbmMiOiJBMjU2R0NNIn0....", "eyJhbGciOiJBMjU2S1ciLCJlbmMiOiJBMjU2R0NNIn0.AAAA.AAAA.AAAA.AAAA",
		"eyJhbGciOiJBMjU2S1ciLCJlbmMiOiJBMjU2R0NNIiwiemlwIjoiREVGIn0." + strings.Repeat("A", 54) + "." + strings.Repeat("A", 16) + ".AAAA." + strings.Repeat("A", 22),
		"eyJhbGciOiJBMjU2S1ciLCJlbmMiOiJBMjU2R0NNIn0." + strings.Repeat("A", 54) + "." + strings.Repeat("A", 16) + ".AAAA." + strings.Repeat("A", 22),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, token string) {
		v, err := p.verify(token, hash, time.Unix(0, 0))
		if e, ok := err.(*Error); !ok || e.Kind != PlayIntegrity || e.Field == "" {
			t.Errorf("%+v, %v", v, err)
		}
	})
}

// FuzzIntegrityPayload judges any verdict: the level is hardware only when all was said.
func FuzzIntegrityPayload(f *testing.F) {
	p := &play{pkg: "com.example.flights", maxAge: time.Minute, certificates: map[[32]byte]bool{[32]byte(hash): true}}
	for _, s := range []string{
		`{}`, `{"appIntegrity":{"appRecognitionVerdict":"PLAY_RECOGNIZED","packageName":"com.example.flights","certificateSha256Digest":["` + b64.EncodeToString(hash) + `"],"versionCode":"1"},"deviceIntegrity":{"deviceRecognitionVerdict":["MEETS_DEVICE_INTEGRITY","MEETS_STRONG_INTEGRITY"]}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		var in integrity
		if json.Unmarshal(payload, &in) != nil {
			return
		}
		v := p.judge(&in, time.Unix(0, 0))
		if (v.Level == LevelHardware) != (len(v.Reasons) == 0) {
			t.Errorf("%s, %v", v.Level, v.Reasons)
		}
		if v.Level > LevelNone && (!bytes.Contains(payload, []byte("PLAY_RECOGNIZED")) || !bytes.Contains(payload, []byte("MEETS_DEVICE_INTEGRITY"))) && !bytes.Contains(payload, []byte(`\`)) {
			t.Errorf("%s for %s", v.Level, payload)
		}
		if raw, err := json.Marshal(v); err != nil || len(raw) > 8<<10 {
			t.Errorf("is stored as %d bytes, %v", len(raw), err)
		}
	})
}

// FuzzKeyDescription: whatever is read has known values, and judging it never fails otherwise than by an *Error.
func FuzzKeyDescription(f *testing.F) {
	block, _ := pem.Decode(read(f, "android_key_chain.pem"))
	chain, err := parseChain([][]byte{block.Bytes, block.Bytes})
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range chain[0].Extensions {
		if e.Id.Equal(oidKeyDescription) {
			f.Add(e.Value)
			f.Add(e.Value[:len(e.Value)/2])
		}
	}
	f.Add([]byte{0x30, 0})
	f.Add(bytes.Repeat([]byte{0x30, 0x80}, 500))
	a := &android{packages: []string{"com.example.flights"}}
	f.Fuzz(func(t *testing.T, der []byte) {
		d, err := parseKeyDescription(der)
		if err != nil {
			return
		}
		if len(d.challenge) > len(der) || d.osVersion < 0 || d.osPatch < 0 || d.origin < -1 {
			t.Errorf("%+v", d)
		}
		v, err := a.judge(d, time.Unix(0, 0))
		if _, ok := err.(*Error); err != nil && !ok {
			t.Errorf("%v", err)
		}
		if err == nil && v.Level != LevelNone { // no certificate is configured
			t.Errorf("%+v", v)
		}
	})
}

// FuzzChain: what does not lead to Google's roots is never accepted.
func FuzzChain(f *testing.F) {
	rest := read(f, "android_key_chain.pem")
	var first, second []byte
	for block, more := pem.Decode(rest); block != nil; block, more = pem.Decode(more) {
		first, second = second, block.Bytes
		f.Add(first, second)
	}
	a := &android{packages: []string{"com.example.flights"}, roots: pinned(googleRootPEM, googleCA1PEM)}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		v, err := a.verify([][]byte{one, two}, hash, time.Unix(1779876890, 0))
		if e, ok := err.(*Error); !ok || e.Kind != AndroidKey {
			t.Errorf("%+v, %v", v, err)
		}
	})
}

// FuzzClientData: what is read has a challenge, and no challenge but ours opens.
func FuzzClientData(f *testing.F) {
	for _, s := range []string{`{"challenge":"x","jkt":"y"}`, `{"challenge":"x","challenge":"y"}`, `{}`, `[`, strings.Repeat("[", 5000), `{"challenge":"\ud800"}`} {
		f.Add([]byte(s))
	}
	c := NewChallenges(noKeys{}, "p")
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := parseClientData(raw)
		if err != nil {
			return
		}
		if d.Challenge == "" || len(raw) > MaxClientData {
			t.Errorf("%+v", d)
		}
		if _, err := c.Open(d.Challenge, Attest, "x", time.Unix(0, 0)); err == nil {
			t.Error("opened")
		}
	})
}

// noKeys authenticates with what nobody else has.
type noKeys struct{}

func (noKeys) MAC(string, []byte) (int, []byte, error) { return 1, bytes.Repeat([]byte{9}, 32), nil }
func (noKeys) MACWith(_ string, _ int, data []byte) ([]byte, error) {
	return bytes.Repeat([]byte{byte(len(data)) | 0x80}, 32), nil
}

// FuzzRevocations: a list that is read matches only serial numbers in hex.
func FuzzRevocations(f *testing.F) {
	for _, s := range []string{`{"entries":{"c0ffee":{"status":"REVOKED"}}}`, `{"entries":{}}`, `{"entries":{"x":{}}}`, `null`, `{"entries":null}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := ParseRevocations(raw)
		if err != nil {
			return
		}
		for serial := range r.serials {
			if strings.Trim(serial, "0123456789abcdef") != "" || strings.HasPrefix(serial, "0") {
				t.Errorf("%q", serial)
			}
		}
	})
}
