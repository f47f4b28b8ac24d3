package webhook

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func key(t *testing.T, secret string) Key {
	t.Helper()
	k, err := ParseSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func signed(id string, at time.Time, signature string) http.Header {
	h := http.Header{}
	h.Set(HeaderID, id)
	h.Set(HeaderTimestamp, strconv.FormatInt(at.Unix(), 10))
	h.Set(HeaderSignature, signature)
	return h
}

// The vector that the libraries of the specification test themselves with.
func TestKnownVector(t *testing.T) {
	k := key(t, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	const id, body = "msg_p5jXN8AQM9LWM0D4loKWxJek", `{"test": 2432232314}`
	at := time.Unix(1614265330, 0)
	if got, want := Sign([]Key{k}, id, at, []byte(body)), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("signature %s, want %s", got, want)
	}
}

func TestSecrets(t *testing.T) {
	of := func(n int) string { return secretPrefix + base64.StdEncoding.EncodeToString(make([]byte, n)) }
	for _, good := range []string{of(24), of(32), of(64)} {
		if _, err := ParseSecret(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "whsec_", "secret", of(23), of(65), strings.TrimPrefix(of(32), secretPrefix), "whsk_" + of(32)[6:], of(32) + "!", "WHSEC_" + of(32)[6:]} {
		_, err := ParseSecret(bad)
		if err == nil {
			t.Errorf("%q is taken", bad)
		} else if rest := strings.TrimPrefix(bad, secretPrefix); len(rest) > 8 && strings.Contains(err.Error(), rest) {
			t.Errorf("the error quotes the secret: %v", err)
		}
	}
	k := key(t, of(32))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		if s := fmt.Sprintf(verb, k); s != "webhook.Key" {
			t.Errorf("%s shows %s", verb, s)
		}
	}
}

func TestVerify(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		keys := make([]Key, rapid.IntRange(1, 4).Draw(r, "keys"))
		for i := range keys {
			keys[i] = Key(rapid.SliceOfN(rapid.Byte(), 24, 64).Draw(r, "key"))
		}
		id := "evt_" + rapid.StringMatching(`[0-9a-z]{26}`).Draw(r, "id")
		body := rapid.SliceOf(rapid.Byte()).Draw(r, "body")
		at := time.Unix(rapid.Int64Range(1_600_000_000, 4_000_000_000).Draw(r, "at"), 0)
		h := signed(id, at, Sign(keys, id, at, body))
		known := keys[rapid.IntRange(0, len(keys)-1).Draw(r, "known")]
		if got, err := Verify([]Key{known}, h, body, at.Add(time.Minute)); err != nil || got != id {
			r.Fatalf("%q, %v", got, err)
		}
		for name, wrong := range map[string]func() (http.Header, []byte, Key, time.Time){
			"another body": func() (http.Header, []byte, Key, time.Time) { return h, append([]byte(" "), body...), known, at },
			"another id": func() (http.Header, []byte, Key, time.Time) {
				return signed(id+"0", at, h.Get(HeaderSignature)), body, known, at
			},
			"another time": func() (http.Header, []byte, Key, time.Time) {
				return signed(id, at.Add(time.Second), h.Get(HeaderSignature)), body, known, at
			},
			"another key": func() (http.Header, []byte, Key, time.Time) { return h, body, append(Key{1}, known...), at },
			"too late":    func() (http.Header, []byte, Key, time.Time) { return h, body, known, at.Add(Tolerance + time.Second) },
			"too early":   func() (http.Header, []byte, Key, time.Time) { return h, body, known, at.Add(-Tolerance - time.Second) },
			"no signatures": func() (http.Header, []byte, Key, time.Time) {
				return signed(id, at, "v1a,"+h.Get(HeaderSignature)[3:]), body, known, at
			},
		} {
			if name == "no signatures" && len(keys) > 1 {
				continue // the others stay good
			}
			h, body, k, now := wrong()
			if _, err := Verify([]Key{k}, h, body, now); !errors.Is(err, ErrSignature) {
				r.Fatalf("%s: %v", name, err)
			}
		}
	})
}

func TestVerifyRefusesHeadersThatAreMissingOrThereTwice(t *testing.T) {
	k, at, body := Key(make([]byte, 32)), time.Unix(1_700_000_000, 0), []byte("{}")
	good := signed("evt_1", at, Sign([]Key{k}, "evt_1", at, body))
	for _, name := range []string{HeaderID, HeaderTimestamp, HeaderSignature} {
		h := good.Clone()
		h.Del(name)
		if _, err := Verify([]Key{k}, h, body, at); err == nil {
			t.Errorf("without %s it verifies", name)
		}
		h = good.Clone()
		h.Add(name, good.Get(name))
		if _, err := Verify([]Key{k}, h, body, at); err == nil {
			t.Errorf("with two %s it verifies", name)
		}
	}
	for _, timestamp := range []string{"+1700000000", "01700000000", "1700000000.0", "1.7e9", " 1700000000", "-1", "99999999999999999999"} {
		h := good.Clone()
		h.Set(HeaderTimestamp, timestamp)
		h.Set(HeaderSignature, "v1,"+base64.StdEncoding.EncodeToString(mac(k, "evt_1", timestamp, body)))
		if _, err := Verify([]Key{k}, h, body, at); err == nil {
			t.Errorf("the timestamp %q verifies", timestamp)
		}
	}
	// A dot in the id would let the border between id and timestamp move.
	h := signed("evt.1", at, Sign([]Key{k}, "evt.1", at, body))
	if _, err := Verify([]Key{k}, h, body, at); err == nil {
		t.Error("an id with a dot verifies")
	}
}

func FuzzVerify(f *testing.F) {
	k, at := Key(make([]byte, 32)), time.Unix(1_700_000_000, 0)
	f.Add("evt_1", "1700000000", "v1,"+base64.StdEncoding.EncodeToString(make([]byte, 32)), []byte("{}"))
	f.Add("evt_1", "1700000000", Sign([]Key{k}, "evt_1", at, []byte("{}")), []byte("{}"))
	f.Add("", "-1", "v1, v1,, v1a,x", []byte{0})
	f.Fuzz(func(t *testing.T, id, timestamp, signature string, body []byte) {
		h := http.Header{}
		h.Set(HeaderID, id)
		h.Set(HeaderTimestamp, timestamp)
		h.Set(HeaderSignature, signature)
		got, err := Verify([]Key{k}, h, body, at)
		if err != nil {
			if !errors.Is(err, ErrSignature) || got != "" {
				t.Errorf("%q, %v", got, err)
			}
			return
		}
		// What verifies holds the one signature there is.
		if got != id || !strings.Contains(signature, "v1,"+base64.StdEncoding.EncodeToString(mac(k, id, timestamp, body))) {
			t.Errorf("%q %q %q verifies", id, timestamp, signature)
		}
	})
}

func FuzzParseSecret(f *testing.F) {
	f.Add("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	f.Add("whsec_====")
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := ParseSecret(s); err == nil && (len(k) < minSecret || len(k) > maxSecret || !strings.HasPrefix(s, secretPrefix)) {
			t.Errorf("%q is a key of %d bytes", s, len(k))
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("120")
	f.Add("Fri, 31 Dec 1999 23:59:59 GMT")
	f.Add("-1")
	f.Fuzz(func(t *testing.T, s string) {
		if d := retryAfter(http.Header{"Retry-After": {s}}, time.Unix(0, 0)); d < 0 || d > maxRetryAfter {
			t.Errorf("%q is %v", s, d)
		}
	})
}
