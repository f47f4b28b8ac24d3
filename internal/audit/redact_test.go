package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestSecretsAreRedacted(t *testing.T) {
	for _, name := range []string{
		"password", "Password", "new_password", "passwd", "passphrase", "secret", "client_secret", "clientSecret", "token", "access_token",
		"refreshToken", "Authorization", "set-cookie", "credential", "credentials", "private_key", "privateKey", "api_key", "apiKey", "x-api-key",
		"master_key", "signing_key", "client_assertion", "otp", "email_otp", "code_verifier", "token_mac", "installation_secret", "one_time_code",
	} {
		for _, value := range []any{"hunter2", 123456, []string{"hunter2"}, map[string]string{"x": "hunter2"}} {
			doc, err := document(map[string]any{"outer": []any{map[string]any{name: value}}})
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(doc), "hunter2") || strings.Contains(string(doc), "123456") || !strings.Contains(string(doc), redacted) {
				t.Errorf("%s: %s", name, doc)
			}
		}
	}
}

func TestWhatIsNoSecretStays(t *testing.T) {
	for _, name := range []string{
		"name", "role", "token_id", "tokenType", "token_count", "token_ttl", "key", "key_id", "state", "machine", "platform", "password_changed_at",
		"refresh_token_lifetime", "tokens_version", "credential_id", "robot", "stop",
	} {
		doc, err := document(map[string]any{name: "plain"})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(doc), "plain") {
			t.Errorf("%s was redacted: %s", name, doc)
		}
	}
	doc, err := document(map[string]any{"password": nil, "secret": "", "token": true})
	if err != nil || string(doc) != `{"password":null,"secret":"","token":true}` {
		t.Errorf("absence is not told apart from presence: %s, %v", doc, err)
	}
}

func TestDocument(t *testing.T) {
	var none *struct{}
	for _, v := range []any{nil, none, json.RawMessage("null")} {
		if doc, err := document(v); doc != nil || err != nil {
			t.Errorf("%#v gives %q, %v", v, doc, err)
		}
	}
	if doc, err := document("x"); string(doc) != `"x"` || err != nil {
		t.Errorf("a plain string gives %q, %v", doc, err)
	}
	for in, want := range map[string]string{
		`{"b":1,"a":{"token":"t"}}`: `{"a":{"token":"[redacted]"},"b":1}`, "": "null", "{": "null", "null": "null", "[1]": "[1]",
	} {
		if got := string(Redact([]byte(in))); got != want {
			t.Errorf("Redact(%s) = %s, want %s", in, got, want)
		}
	}
}

// The layout is fixed for good; this vector was computed apart from the code,
// by the description of Canonical.
func TestCanonicalBytesAndLeafHashAreFixed(t *testing.T) {
	r := Row{
		Seq: 258, At: time.UnixMilli(1_772_366_400_123).UTC(), Actor: Actor{"operator", "opr_1", "::1"}, Action: "a.b", Target: "t",
		Reason: "ż", RequestID: "", Salt: bytes.Repeat([]byte{7}, 16), After: []byte("{}"),
	}
	documents := append(bytes.Repeat([]byte{7}, 16), 0 /* no before */, 1, 0, 0, 0, 2, '{', '}')
	digest := sha256.Sum256(documents)
	want := "01" + "0000000000000102" + "0000019ca9450a7b" +
		"00000008" + hex.EncodeToString([]byte("operator")) + "00000005" + hex.EncodeToString([]byte("opr_1")) + "00000003" + hex.EncodeToString([]byte("::1")) +
		"00000003" + hex.EncodeToString([]byte("a.b")) + "0000000174" + "00000002c5bc" + "00000000" + hex.EncodeToString(digest[:])
	if got := hex.EncodeToString(r.Canonical()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	raw, err := hex.DecodeString("00" + want)
	if err != nil {
		t.Fatal(err)
	}
	leaf := sha256.Sum256(raw)
	if !bytes.Equal(leafHash(r.Canonical()), leaf[:]) {
		t.Error("the leaf hash is not SHA-256 of 0x00 and the canonical bytes")
	}
}

// No two different rows have the same canonical bytes: texts cannot flow into one another.
func TestCanonicalBytesAreUnambiguous(t *testing.T) {
	base := func() Row { return Row{Seq: 1, Action: "a.b", Target: "xy", Reason: "z", Salt: make([]byte, 16)} }
	seen := map[string]string{}
	for name, change := range map[string]func(*Row){
		"base":            func(*Row) {},
		"shifted text":    func(r *Row) { r.Target, r.Reason = "x", "yz" },
		"empty before":    func(r *Row) { r.Before = []byte{} },
		"before":          func(r *Row) { r.Before = []byte("1") },
		"after":           func(r *Row) { r.After = []byte("1") },
		"both":            func(r *Row) { r.Before, r.After = []byte("1"), []byte("2") },
		"both swapped":    func(r *Row) { r.Before, r.After = []byte("2"), []byte("1") },
		"joined":          func(r *Row) { r.Before = []byte("12") },
		"another salt":    func(r *Row) { r.Salt[0] = 1 },
		"another seq":     func(r *Row) { r.Seq = 2 },
		"another actor":   func(r *Row) { r.Actor.ID = "u" },
		"another address": func(r *Row) { r.Actor.IP = "u" },
	} {
		r := base()
		change(&r)
		c := string(r.Canonical())
		if other, twice := seen[c]; twice {
			t.Errorf("%s and %s have the same canonical bytes", name, other)
		}
		seen[c] = name
	}
}
