package providertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// signingKey is one key pair of an issuer.
type signingKey struct {
	id  string
	alg jose.SignatureAlgorithm
	key any // *rsa.PrivateKey or *ecdsa.PrivateKey
}

func (k *signingKey) public() jose.JSONWebKey {
	jwk := jose.JSONWebKey{Key: k.key, KeyID: k.id, Algorithm: string(k.alg), Use: "sig"}
	return jwk.Public()
}

// rsaKeys are made once for a process, because that takes long; issuers give them
// ids of their own.
var rsaKeys struct {
	sync.Mutex
	made []*rsa.PrivateKey
}

func rsaKey(n int) *rsa.PrivateKey {
	rsaKeys.Lock()
	defer rsaKeys.Unlock()
	for len(rsaKeys.made) <= n {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil { // crypto/rand does not fail
			panic(err)
		}
		rsaKeys.made = append(rsaKeys.made, key)
	}
	return rsaKeys.made[n]
}

// Rotate makes a new RS256 key that signs from now on, and returns its id. The
// others stay in the key set until Withdraw.
func (i *Issuer) Rotate() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	k := &signingKey{id: fmt.Sprintf("rsa-%d-%s", i.made, rand.Text()[:6]), alg: jose.RS256, key: rsaKey(i.made)}
	i.made++
	i.keys = append(i.keys, k)
	return k.id
}

// Replace makes a new RS256 key that signs from now on, under the id of the one
// that signed until now, as some issuers do.
func (i *Issuer) Replace() {
	i.mu.Lock()
	defer i.mu.Unlock()
	last := len(i.keys) - 1
	i.keys[last] = &signingKey{id: i.keys[last].id, alg: jose.RS256, key: rsaKey(i.made)}
	i.made++
}

// RotateES256 is Rotate with a P-256 key.
func (i *Issuer) RotateES256() string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil { // crypto/rand does not fail
		panic(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	k := &signingKey{id: "ec-" + rand.Text()[:6], alg: jose.ES256, key: key}
	i.keys = append(i.keys, k)
	return k.id
}

// Withdraw takes a key out of the key set, unless it is the one that signs.
func (i *Issuer) Withdraw(kid string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	last := i.keys[len(i.keys)-1]
	i.keys = slices.DeleteFunc(i.keys, func(k *signingKey) bool { return k.id == kid && k != last })
}

// KeySet is the key set as it is served.
func (i *Issuer) KeySet() jose.JSONWebKeySet {
	i.mu.Lock()
	defer i.mu.Unlock()
	var set jose.JSONWebKeySet
	for _, k := range i.keys {
		set.Keys = append(set.Keys, k.public())
	}
	return set
}

// IDToken returns a signed token for audience: of the user set by SetUser, issued
// now, good for five minutes. Claims replace or add members; nil removes one.
func (i *Issuer) IDToken(audience string, claims map[string]any) string {
	return i.Sign(i.fill(audience, claims), nil)
}

func (i *Issuer) fill(audience string, claims map[string]any) map[string]any {
	now := i.clock.Now()
	i.mu.Lock()
	all := maps.Clone(i.user)
	i.mu.Unlock()
	maps.Copy(all, map[string]any{"iss": i.url, "aud": audience, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()})
	for name, value := range claims {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	return all
}

// Sign signs claims with the current key. Header replaces or adds members of the
// header; the signature is of the current key whatever it says.
func (i *Issuer) Sign(claims map[string]any, header map[string]any) string {
	i.mu.Lock()
	k := i.keys[len(i.keys)-1]
	i.mu.Unlock()
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(fmt.Sprintf("providertest: claims: %v", err))
	}
	return SignBytes(k.alg, k.key, k.id, payload, header)
}

// SignBytes signs any payload with any key, as an attacker might. It panics on a
// key that does not fit.
func SignBytes(alg jose.SignatureAlgorithm, key any, kid string, payload []byte, header map[string]any) string {
	options := (&jose.SignerOptions{}).WithType("JWT")
	for name, value := range header {
		options = options.WithHeader(jose.HeaderKey(name), value)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, options)
	if err != nil {
		panic(fmt.Sprintf("providertest: %v", err))
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		panic(fmt.Sprintf("providertest: %v", err))
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		panic(fmt.Sprintf("providertest: %v", err))
	}
	return text
}

// AppleNotice returns the body of a server-to-server notification of Apple's about
// one event, which has a type, a sub and an event_time in milliseconds.
func (i *Issuer) AppleNotice(audience, jti string, event map[string]any) []byte {
	now := i.clock.Now()
	events, err := json.Marshal(event)
	if err != nil {
		panic(fmt.Sprintf("providertest: event: %v", err))
	}
	body, err := json.Marshal(map[string]string{"payload": i.Sign(map[string]any{
		"iss": i.url, "aud": audience, "iat": now.Unix(), "exp": now.Add(24 * time.Hour).Unix(), "jti": jti, "events": string(events),
	}, nil)})
	if err != nil {
		panic(fmt.Sprintf("providertest: %v", err))
	}
	return body
}

// SecurityEvent returns a security event token (RFC 8417) as Google pushes it:
// without exp, its issuer with a slash at its end in discovery or not.
func (i *Issuer) SecurityEvent(audience any, jti string, events map[string]any) []byte {
	return []byte(i.Sign(map[string]any{
		"iss": i.url, "aud": audience, "iat": i.clock.Now().Unix(), "jti": jti, "events": events,
	}, map[string]any{"typ": "secevent+jwt"}))
}
