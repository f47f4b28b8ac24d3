package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"landline/test/load/internal/bench"
)

// people sign in with ID tokens of an OpenID Connect issuer that this program
// plays: the role issuer publishes the key, the generator signs with it.
type people struct {
	issuer string
	key    *ecdsa.PrivateKey
	tokens atomic.Int64 // so that no token comes twice: each is good for one use
}

var b64 = base64.RawURLEncoding

func newPeople() (*people, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return &people{key: key}, err
}

// keySet is the JWK Set of the public key.
func (p *people) keySet() string {
	point, err := p.key.PublicKey.Bytes() // 4, x, y
	if err != nil {                       // of a key that was just made
		panic(err)
	}
	return fmt.Sprintf(`{"keys":[{"kty":"EC","crv":"P-256","kid":"load","alg":"ES256","use":"sig","x":"%s","y":"%s"}]}`,
		b64.EncodeToString(point[1:33]), b64.EncodeToString(point[33:]))
}

// issuer serves the discovery document and the keys.
func issuer(keys string) http.Handler {
	mux := http.NewServeMux()
	document := func(text func(*http.Request) string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "max-age=3600")
			io.WriteString(w, text(r)) //nolint:errcheck // the caller went away
		}
	}
	mux.Handle("GET /keys", document(func(*http.Request) string { return keys }))
	mux.Handle("GET /.well-known/openid-configuration", document(func(r *http.Request) string {
		own := "http://" + r.Host
		return fmt.Sprintf(`{"issuer":"%[1]s","jwks_uri":"%[1]s/keys","authorization_endpoint":"%[1]s/authorize","token_endpoint":"%[1]s/token",`+
			`"response_types_supported":["code"],"subject_types_supported":["public"],"id_token_signing_alg_values_supported":["ES256"]}`, own)
	}))
	return mux
}

var jwtHead = b64.EncodeToString([]byte(`{"alg":"ES256","typ":"JWT","kid":"load"}`))

// appendToken appends an ID token of subject.
func (p *people) appendToken(b []byte, subject, nonce string) []byte {
	now, start := time.Now().Unix(), len(b)
	claims := fmt.Appendf(nil, `{"iss":"%s","aud":"load","sub":"%s","email":"%s@example.test","email_verified":true,"nonce":"%s","jti":"t%d","iat":%d,"exp":%d}`,
		p.issuer, subject, subject, nonce, p.tokens.Add(1), now, now+600)
	b = append(append(b, jwtHead...), '.')
	b = b64.AppendEncode(b, claims)
	digest := sha256.Sum256(b[start:])
	r, s, err := ecdsa.Sign(rand.Reader, p.key, digest[:])
	if err != nil { // of a key that was just made
		panic(err)
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return b64.AppendEncode(append(b, '.'), signature[:])
}

// signingIn signs a person in on the device that is theirs: the first time the
// device's anonymous user becomes the person's account, from then on they come back.
func (p *people) signingIn(to *bench.Process, d *devices) bench.Client {
	return bench.Client{Address: to.Address,
		Request: func(b []byte, connection, _ int) []byte {
			device := d.turn(connection)
			subject := "p" + strconv.Itoa(connection) + "-" + strconv.Itoa(d.next[connection]%len(d.all[connection]))
			body := append(make([]byte, 0, 1024), `{"provider":"oidc:load","nonce":"n-0S6_WzA2Mj","id_token":"`...)
			body = append(p.appendToken(body, subject, "n-0S6_WzA2Mj"), `"}`...)
			b = append(b, "POST /v1/auth/sign-in HTTP/1.1\r\nHost: load.example.test\r\nContent-Type: application/json\r\nAuthorization: Bearer "...)
			b = append(append(b, device.access...), "\r\nContent-Length: "...)
			b = append(strconv.AppendInt(b, int64(len(body)), 10), "\r\n\r\n"...)
			return append(b, body...)
		},
		Answer: func(connection int, body []byte) error {
			access, refresh := member(body, "access_token"), member(body, "refresh_token")
			if access == nil || refresh == nil {
				return fmt.Errorf("a sign-in without tokens: %s", body)
			}
			*d.now(connection) = device{string(access), string(refresh)}
			return nil
		}}
}

// What a refresh says and is told, in size.
var (
	bareQuestion = `{"grant_type":"refresh_token","client_id":"com.example.load","refresh_token":"` + strings.Repeat("x", 64) + `"}`
	bareToken    = strings.Repeat("x", 640)
)

func bareAnswer(_ int, body []byte) error {
	if len(member(body, "access_token")) != len(bareToken) || member(body, "refresh_token") == nil {
		return fmt.Errorf("a bare answer without its tokens: %s", body)
	}
	return nil
}

// bare answers JSON with JSON.
func bare(w http.ResponseWriter, r *http.Request) {
	var in struct {
		GrantType string `json:"grant_type"`
		ClientID  string `json:"client_id"`
		Refresh   string `json:"refresh_token"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 16<<10)).Decode(&in); err != nil || in.GrantType != "refresh_token" {
		http.Error(w, "invalid request", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	json.NewEncoder(w).Encode(struct { //nolint:errcheck // the caller went away
		Access  string `json:"access_token"`
		Type    string `json:"token_type"`
		Expires int    `json:"expires_in"`
		Refresh string `json:"refresh_token"`
	}{bareToken, "Bearer", 900, in.Refresh})
}
