package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"landline/internal/secret"
)

// Access tokens are JWTs of the profile RFC 9068, signed ES256. This file signs
// and verifies compact JWS of that one algorithm by hand: it is the hottest code
// of the package, and a verifier that knows one algorithm cannot be talked into
// another (RFC 8725 §3.1).
const (
	typeAccess   = "at+jwt"
	typeUpstream = "landline-identity+jwt"

	maxJWT    = 8 << 10
	clockSkew = 60 * time.Second
)

var b64 = base64.RawURLEncoding.Strict()

// signJWT signs payload, a JSON object.
func signJWT(keys *secret.Ring, purpose, typ string, payload []byte) (string, error) {
	kid, key, err := keys.Signer(purpose)
	if err != nil {
		return "", err
	}
	var room struct { // enough for what most tokens have; append takes care of the others
		head [128]byte
		out  [1024]byte
	}
	head := append(append(append(room.head[:0], `{"alg":"ES256","typ":"`...), typ...), `","kid":`...)
	head = append(appendJSON(head, kid), '}')
	out := append(b64.AppendEncode(room.out[:0], head), '.')
	out = b64.AppendEncode(out, payload)
	sig, err := signES256(key, out)
	if err != nil {
		return "", fmt.Errorf("identity: sign with key %s: %w", kid, err)
	}
	return string(b64.AppendEncode(append(out, '.'), sig[:])), nil
}

// signES256 is r and s, of 32 bytes each (RFC 7518 §3.4). The signature is
// deterministic (RFC 6979), which costs a fifth less than a random one, and
// leaves nothing to a random source that a copied machine would repeat.
func signES256(key *ecdsa.PrivateKey, message []byte) (sig [64]byte, err error) {
	digest := sha256.Sum256(message)
	der, err := key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return sig, err
	}
	var r, s []byte // unsigned, without leading zeros
	in := cryptobyte.String(der)
	var pair cryptobyte.String
	if !in.ReadASN1(&pair, asn1.SEQUENCE) || !pair.ReadASN1Integer(&r) || !pair.ReadASN1Integer(&s) || !pair.Empty() || len(r) > 32 || len(s) > 32 {
		return sig, errors.New("the signature is not of two numbers below the order of P-256")
	}
	copy(sig[32-len(r):32], r)
	copy(sig[64-len(s):], s)
	return sig, nil
}

// verifyJWT returns the payload of a compact JWS with exactly this type, signed
// ES256 by a key of exactly this purpose, and the id of that key.
func verifyJWT(keys *secret.Ring, purpose, typ, token string) (payload []byte, kid string, err error) {
	if len(token) > maxJWT {
		return nil, "", fmt.Errorf("it has %d bytes, at most %d are accepted", len(token), maxJWT)
	}
	if strings.Count(token, ".") != 2 {
		return nil, "", fmt.Errorf("it is not of three parts")
	}
	signed, sigText := token[:strings.LastIndexByte(token, '.')], token[strings.LastIndexByte(token, '.')+1:]
	headText, payloadText, _ := strings.Cut(signed, ".")
	head, err := decode64(headText)
	if err != nil {
		return nil, "", fmt.Errorf("its header is not base64url")
	}
	var h joseHeader
	if err := json.Unmarshal(head, &h); err != nil {
		return nil, "", fmt.Errorf("its header is not a JSON object")
	}
	if h.Alg != "ES256" || h.Type != typ || h.Critical != nil || h.B64 != nil {
		return nil, "", fmt.Errorf("it is not a token of type %s signed ES256", typ)
	}
	key, owner, ok := keys.Verifier(h.KeyID)
	if !ok || owner != purpose {
		return nil, "", errUnknownKey
	}
	sig, err := decode64(sigText)
	if err != nil || len(sig) != 64 {
		return nil, "", fmt.Errorf("its signature is not 64 bytes of base64url")
	}
	digest := sha256.Sum256([]byte(signed))
	if !ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		return nil, "", fmt.Errorf("its signature does not verify")
	}
	if payload, err = decode64(payloadText); err != nil {
		return nil, "", fmt.Errorf("its payload is not base64url")
	}
	return payload, h.KeyID, nil
}

var errUnknownKey = fmt.Errorf("it is signed with a key that is not ours, or no longer")

// decode64 is strict base64url; Go's decoder alone would skip line breaks.
func decode64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, base64.CorruptInputError(0)
	}
	return b64.DecodeString(s)
}

// accessTokens makes and verifies access tokens.
type accessTokens struct {
	keys     *secret.Ring
	issuer   string
	audience string
	lifetime time.Duration
}

// grantee is whom an access token is for, where that is not the session's own client and this app.
type grantee struct {
	audience string        // "" = this app
	client   string        // "" = the session's
	lifetime time.Duration // 0 = the configured one
	until    time.Time     // it ends no later; zero = no such bound
	jkt      string        // key that it is bound to; "" = none
	actor    string        // who acts for the user (RFC 8693 §4.1); "" = nobody
}

// issue returns an access token of s and how long it is good for.
func (a accessTokens) issue(s Session, u User, scope string, now time.Time, to grantee) (string, time.Duration, error) {
	if to.audience == "" {
		to.audience = a.audience
	}
	if to.client == "" {
		to.client = s.ClientID
	}
	if to.lifetime == 0 {
		to.lifetime = a.lifetime
	}
	expires := now.Add(to.lifetime)
	if s.ExpiresAt.Before(expires) {
		expires = s.ExpiresAt
	}
	if !to.until.IsZero() && to.until.Before(expires) {
		expires = to.until
	}
	p := make([]byte, 0, 512)
	p = appendJSON(append(p, `{"iss":`...), a.issuer)
	p = appendJSON(append(p, `,"aud":`...), to.audience)
	p = appendJSON(append(p, `,"sub":`...), u.ID)
	p = appendJSON(append(p, `,"client_id":`...), to.client)
	p = appendJSON(append(p, `,"sid":`...), s.ID)
	p = appendJSON(append(p, `,"iid":`...), s.InstallationID)
	p = strconv.AppendBool(append(p, `,"anon":`...), u.Kind == Anonymous)
	p = appendJSON(append(p, `,"scope":`...), scope)
	p = strconv.AppendInt(append(p, `,"auth_time":`...), s.AuthTime.Unix(), 10)
	p = append(p, `,"amr":[`...)
	for m := range strings.FieldsSeq(s.Methods) {
		if p[len(p)-1] != '[' {
			p = append(p, ',')
		}
		p = appendJSON(p, m)
	}
	p = append(p, ']')
	if acr := acrOf(s.Methods); acr != "" {
		p = appendJSON(append(p, `,"acr":`...), acr)
	}
	if to.jkt != "" {
		p = append(appendJSON(append(p, `,"cnf":{"jkt":`...), to.jkt), '}')
	}
	if to.actor != "" {
		p = append(appendJSON(append(p, `,"act":{"sub":`...), to.actor), '}')
	}
	p = appendFormerly(p, formerNow(s.Formerly, now))
	if level := s.Device.at(now); level != "" {
		p = appendJSON(append(p, `,"att":`...), string(level))
	}
	p = append(append(p, `,"jti":"`...), rand.Text()...)
	p = strconv.AppendInt(append(p, `","iat":`...), now.Unix(), 10)
	p = strconv.AppendInt(append(p, `,"exp":`...), expires.Unix(), 10)
	token, err := signJWT(a.keys, purposeAccess, typeAccess, append(p, '}'))
	return token, time.Duration(expires.Unix()-now.Unix()) * time.Second, err
}

// appendFormerly adds the claim "was": the users that were merged into the
// subject on this installation, as a space separated list.
func appendFormerly(p []byte, formerly string) []byte {
	if formerly == "" {
		return p
	}
	p = append(p, `,"was":[`...)
	for i, user := range strings.Fields(formerly) {
		if i > 0 {
			p = append(p, ',')
		}
		p = append(p, jsonString(user)...)
	}
	return append(p, ']')
}

// verify returns the claims of a token that was issued here for this app, and
// the id of its key. It does not look at Expires; see expired.
func (a accessTokens) verify(token string, now time.Time) (c claims, kid string, err error) {
	payload, kid, err := verifyJWT(a.keys, purposeAccess, typeAccess, token)
	if err != nil {
		return c, "", err
	}
	if err := json.Unmarshal(payload, &c); err != nil {
		return c, "", fmt.Errorf("its payload is not as an access token's")
	}
	switch {
	case c.Issuer != a.issuer:
		return c, "", fmt.Errorf("it was issued by another server")
	case c.Audience != a.audience:
		return c, "", fmt.Errorf("it is for another app")
	case c.Subject == "" || c.Session == "" || c.Installation == "" || c.Expires == 0:
		return c, "", fmt.Errorf("it lacks a claim")
	case time.Unix(c.IssuedAt, 0).After(now.Add(clockSkew)):
		return c, "", fmt.Errorf("it was issued in the future; the clocks of the nodes differ")
	}
	return c, kid, nil
}

// trusts reports whether the key still is one of ours: keys expire, and one that
// leaked is dropped.
func (a accessTokens) trusts(kid string) bool {
	_, purpose, ok := a.keys.Verifier(kid)
	return ok && purpose == purposeAccess
}

// expired allows for clocks that differ.
func expired(exp int64, now time.Time) bool { return now.Unix() >= exp+int64(clockSkew/time.Second) }

// jsonString is s as a JSON string.
func jsonString(s string) string { return string(appendJSON(nil, s)) }

// appendJSON appends s as a JSON string. Ids and names of the configuration are plain ASCII.
func appendJSON(to []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			b, err := json.Marshal(s)
			if err != nil { // a string always marshals
				panic(err)
			}
			return append(to, b...)
		}
	}
	return append(append(append(to, '"'), s...), '"')
}

// audienceOf reads for whom a JWT says it is. Nothing is proven by reading.
func audienceOf(token string) string {
	_, rest, _ := strings.Cut(token, ".")
	payload, _, ok := strings.Cut(rest, ".")
	if !ok || len(token) > maxJWT {
		return ""
	}
	var c audienceClaim
	if raw, err := decode64(payload); err != nil || json.Unmarshal(raw, &c) != nil {
		return ""
	}
	return c.Audience
}
